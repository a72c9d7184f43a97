// Draws the lanes of the timeline.
import { GLYPH_RADIUS, GlyphAtlas, readColours } from './glyphs.js';
import { HEADING_HEIGHT, LOOP_HEIGHT } from './lanes.js';
import { KIND_STYLES } from '../words/kinds.js';
import { NO_ENTRY, lowerBoundByPlace, visitStableRuns } from './spans.js';
import { instantText, spanText } from '../words/formatting.js';
import { rulerStep } from './axis.js';

/** The ruler of times above the lanes. */
export const RULER_HEIGHT = 20;

/** Entries nearer than this are drawn as a run, in pixels. */
const GLYPH_ROOM = 9;

const RUN_HEIGHT = 10;
const RUN_WIDTH_MIN = 5;

/** Bands nearer than this are drawn as one. */
const BAND_ROOM = 3;

const RULER_ROOM = 120;
const TEXT_SIZE = 11;
const TEXT_PADDING = 4;

/** Entries of a run whose categories are shown, at most. */
const RUN_SAMPLES = 8;

/** Times below this are not written at a wait. */
const SHOWN_WAIT_NANOSECONDS = 10_000;

/** The centre of the bar of turns in the lane of a loop, and that of its glyphs. */
const TURN_BAR = { top: 4, height: 16 };
export const LOOP_GLYPHS_Y = 34;

export class TimelinePainter {
  constructor(canvas, recording, spans, lanes) {
    Object.assign(this, { canvas, recording, spans, lanes });
    this.context = canvas.getContext('2d', { alpha: false });
    this.styles = recording.kinds.map(({ name }) => KIND_STYLES[name]?.category ?? 'event');
    this.shapes = recording.kinds.map(({ name }, at) => (name === 'callback-end' ? name : this.styles[at]));
    this.textWidths = new Map();
    this.rects = new RectBatch();
    this.glyphs = [];
    this.texts = [];
  }

  /** Reads the colours and the font of the theme, and the resolution. */
  readTheme(parent) {
    this.colours = readColours(parent);
    this.ratio = window.devicePixelRatio || 1;
    this.atlas = new GlyphAtlas(this.colours, this.ratio);
    this.font = `${TEXT_SIZE}px ${getComputedStyle(parent).fontFamily}`;
    this.textWidths.clear();
  }

  resize(width, height) {
    this.width = width;
    this.height = height;
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
  }

  /** Draws what is in view. `tag` is the part of the ruler that is covered: its left and right end, or null. */
  paint(viewport, scrollTop, tag) {
    const { context } = this;
    const { axis } = viewport;
    this.viewport = viewport;
    this.axis = axis;
    this.from = viewport.toPlace(-GLYPH_ROOM);
    this.to = viewport.toPlace(this.width + GLYPH_ROOM);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.fillStyle = this.colours.surface;
    context.fillRect(0, 0, this.width, this.height);
    context.font = this.font;
    context.textBaseline = 'middle';
    if (axis.count === 0) return;
    const offset = RULER_HEIGHT - scrollTop;
    this.paintBands(offset);
    this.lanes.visit(scrollTop, scrollTop + this.height - RULER_HEIGHT, (lane, top, height) => {
      this.addLane(lane, top + offset, height);
    });
    this.flush();
    this.paintPinned(this.lanes.pinnedAt(scrollTop));
    this.paintRuler(tag);
  }

  paintPinned(pinned) {
    if (pinned === null) return;
    const { context } = this;
    const top = RULER_HEIGHT + pinned.offset;
    context.fillStyle = this.colours.surface;
    context.fillRect(0, top, this.width, LOOP_HEIGHT);
    this.paintTurns(pinned.group.loop, top, LOOP_HEIGHT);
    this.addLane(pinned.lane, top, LOOP_HEIGHT);
    this.flush();
    context.fillStyle = this.colours.border;
    context.fillRect(0, top + LOOP_HEIGHT - 1, this.width, 2);
  }

  /** Turns are columns behind all lanes of their loop. */
  paintBands(offset) {
    const { groups } = this.lanes;
    groups.forEach((group, at) => {
      const top = Math.max(group.top + HEADING_HEIGHT + offset, RULER_HEIGHT);
      const bottom = Math.min((groups[at + 1]?.top ?? this.lanes.height) + offset, this.height);
      if (bottom > top) this.paintTurns(group.loop, top, bottom - top);
      this.context.fillStyle = this.colours.background;
      this.context.fillRect(0, group.top + offset, this.width, HEADING_HEIGHT);
    });
  }

  paintTurns(loop, top, height) {
    const { context, spans } = this;
    context.fillStyle = this.colours.text;
    this.visitSpans(spans.loops[loop].turnBegin, (first, last) => {
      const [left, right] = this.turnPixels(loop, first, last);
      context.globalAlpha = first < last ? 0.05 : 0.035 + 0.04 * (first % 2);
      context.fillRect(left, top, Math.max(right - left, 1), height);
    });
    context.globalAlpha = 1;
  }

  /** Visits the polls or turns in view, from one that began before it. */
  visitSpans(begins, visit) {
    const { starts } = this.axis;
    const before = lowerBoundByPlace(begins, starts, this.from) - 1;
    if (before >= 0) visit(before, before);
    visitStableRuns(begins, starts, this.from, this.to, BAND_ROOM / this.viewport.scale, (first, last) => {
      if (last > before) visit(Math.max(first, before + 1), last);
    });
  }

  /** The left and the right end of turns, cut to the view. */
  turnPixels(loop, first, last) {
    const { turnBegin, turnEnd } = this.spans.loops[loop];
    return [this.cut(this.axis.starts[turnBegin[first]]), this.cut(this.axis.endOf(turnEnd[last]))];
  }

  /** The pixel of a place, or one outside of the view. */
  cut(place) {
    return Math.max(-20, Math.min(this.viewport.toPixel(place), this.width + 20));
  }

  addLane(lane, top, height) {
    const { recording, spans } = this;
    const isLoop = recording.objects[lane].kind === 'loop';
    if (isLoop) this.addPollsAndTurns(recording.objects[lane].loop, top);
    else this.addLife(lane, top, height);
    this.rects.add('border', 0.6, 0, top + height - 1, this.width, 1);
    const y = top + (isLoop ? LOOP_GLYPHS_Y : height / 2);
    this.addEntries(recording.entriesOf(lane), y);
    this.addMarks(spans.losses.get(lane), 'lost', 0, y);
    this.addMarks(spans.errors.get(lane), 'error', GLYPH_RADIUS + 1, y - GLYPH_RADIUS - 1);
    this.addMarks(spans.findings.get(lane), 'finding', -GLYPH_RADIUS - 3, y - GLYPH_RADIUS - 3);
  }

  addLife(lane, top, height) {
    const life = this.spans.lifeOf(lane);
    if (life === null) return;
    const left = this.cut(this.axis.centreOf(life.begin));
    const right = this.cut(life.end === NO_ENTRY ? this.axis.length : this.axis.centreOf(life.end));
    this.rects.add('text-quiet', 0.35, left, top + height / 2 - 1.5, Math.max(right - left, 1), 3);
  }

  addPollsAndTurns(loop, top) {
    const { starts } = this.axis;
    const { pollBegin, pollEnd, turnBegin, turnNumber } = this.spans.loops[loop];
    const { time, entryCount } = this.recording;
    const middle = top + TURN_BAR.top + TURN_BAR.height / 2;
    this.visitSpans(turnBegin, (first, last) => {
      const [left, right] = this.turnPixels(loop, first, last);
      this.rects.add('text-quiet', 0.3, left, top + TURN_BAR.top, Math.max(right - left - 1, 1), TURN_BAR.height);
      const number = String(turnNumber[first]);
      if (first === last) this.addText('text', left, right, middle, `turn ${number}`, number);
    });
    // The last of near polls may be long.
    this.visitSpans(pollBegin, (_, last) => {
      const left = this.cut(starts[pollBegin[last]]);
      const right = this.cut(starts[pollEnd[last]]);
      this.rects.add('wait', 1, left, middle - 0.5, Math.max(right - left, 1), 1);
      if (pollEnd[last] >= entryCount) return;
      const wait = time[pollEnd[last]] - time[pollBegin[last]];
      if (wait < SHOWN_WAIT_NANOSECONDS) return;
      this.addText('text-quiet', left, right, middle, `waited ${spanText(wait)}`, spanText(wait), true);
    });
  }

  /** Adds the glyphs, the runs and the callbacks of a lane. */
  addEntries(entries, y) {
    const { axis, viewport } = this;
    const before = lowerBoundByPlace(entries, axis.starts, this.from) - 1;
    if (before >= 0) {
      const callbacks = this.spans.callbacksAt(entries[before]);
      for (const begin of callbacks) this.addCallback(begin, entries[before], y);
      if (callbacks.length > 0) this.addCallbackName(callbacks[0], entries[before], entries[before + 1], y);
    }
    visitStableRuns(entries, axis.starts, this.from, this.to, GLYPH_ROOM / viewport.scale, (first, last) => {
      if (last <= before) return;
      const index = entries[first];
      const end = entries[last];
      const callbacks = this.spans.callbacksAt(end);
      for (const begin of callbacks) if (begin >= index) this.addCallback(begin, end, y);
      if (callbacks.length > 0) this.addCallbackName(callbacks[0], end, entries[last + 1], y);
      if (first === last) {
        this.glyphs.push(this.shapes[this.recording.kind[index]], viewport.toPixel(axis.centreOf(index)), y);
      } else {
        this.addRun(entries, first, last, y);
      }
    });
  }

  /** Adds a callback that has not returned at an entry. */
  addCallback(begin, index, y) {
    const { axis } = this;
    const end = this.spans.partner[begin];
    if (end === NO_ENTRY || end <= index) return;
    const inset = 2 * Math.min(this.spans.callbacksAt(begin).length - 1, 3);
    const left = this.cut(axis.centreOf(begin));
    const right = this.cut(axis.centreOf(end));
    const [top, height] = [y - 9 + inset, 18 - 2 * inset];
    this.rects.add('callback', 0.28, left, top, Math.max(right - left, 1), height);
  }

  /** Adds the name of a callback that has not returned at an entry, if it fits before the next entry of the lane. */
  addCallbackName(begin, index, next, y) {
    const { axis, recording } = this;
    const end = this.spans.partner[begin];
    if (end === NO_ENTRY || end <= index) return;
    const name = recording.callbacks[recording.first[begin]] ?? 'callback';
    const span = recording.time[end] - recording.time[begin];
    const left = this.cut(axis.centreOf(index)) + GLYPH_RADIUS;
    const right = this.cut(axis.centreOf(next ?? end)) - GLYPH_RADIUS;
    this.addText('text', left, right, y, `${name} ${spanText(span)}`, name);
  }

  /** Adds a run: a stripe for each category that is found in it. */
  addRun(entries, first, last, y) {
    const left = this.cut(this.axis.starts[entries[first]]);
    const width = Math.max(this.cut(this.axis.endOf(entries[last])) - left, RUN_WIDTH_MIN);
    const found = [];
    const step = Math.max((last - first) / (RUN_SAMPLES - 1), 1);
    for (let at = first; at <= last + 0.5; at += step) {
      const category = this.styles[this.recording.kind[entries[Math.round(at)]]];
      if (!found.includes(category)) found.push(category);
    }
    const height = RUN_HEIGHT / found.length;
    found.sort().forEach((category, at) => {
      this.rects.add(category, 1, left, y - RUN_HEIGHT / 2 + at * height, width, height);
    });
  }

  addMarks(indexes, shape, right, y) {
    if (indexes === undefined) return;
    const { axis, viewport } = this;
    visitStableRuns(indexes, axis.starts, this.from, this.to, GLYPH_ROOM / viewport.scale, (first) => {
      this.glyphs.push(shape, viewport.toPixel(axis.centreOf(indexes[first])) + right, y);
    });
  }

  /** Adds the first of two texts that fits between two pixels, in the middle of what is in view. */
  addText(colour, left, right, y, long, short, isOnLine = false) {
    const from = Math.max(left, 0);
    const room = Math.min(right, this.width) - from - 2 * TEXT_PADDING;
    if (room < TEXT_SIZE / 2) return;
    const text = [long, short].find((one) => this.textWidth(one) <= room);
    if (text === undefined) return;
    const width = this.textWidth(text);
    this.texts.push([colour, text, from + TEXT_PADDING + (room - width) / 2, y, isOnLine ? width : 0]);
  }

  textWidth(text) {
    // Digits have one width: texts of the same shape are measured once.
    const shape = text.replace(/\d/g, '0');
    let width = this.textWidths.get(shape);
    if (width === undefined) {
      width = this.context.measureText(shape).width;
      this.textWidths.set(shape, width);
    }
    return width;
  }

  /** Draws what was added: bars, then glyphs, then texts. */
  flush() {
    const { context, colours, glyphs, texts } = this;
    this.rects.draw(context, colours);
    context.setTransform(1, 0, 0, 1, 0, 0);
    for (let at = 0; at < glyphs.length; at += 3) {
      this.atlas.draw(context, glyphs[at], glyphs[at + 1] * this.ratio, glyphs[at + 2] * this.ratio);
    }
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    for (const [colour, text, x, y, width] of texts) {
      if (width > 0) {
        context.fillStyle = colours.surface;
        context.fillRect(x - 2, y - TEXT_SIZE / 2, width + 4, TEXT_SIZE);
      }
      context.fillStyle = colours[colour];
      context.fillText(text, x, y);
    }
    glyphs.length = 0;
    texts.length = 0;
  }

  /** Draws the selected entry over what is near. */
  paintSelected(index, x, y) {
    const { context, ratio } = this;
    context.fillStyle = this.colours.surface;
    context.beginPath();
    context.arc(x, y, GLYPH_RADIUS + 2, 0, 2 * Math.PI);
    context.fill();
    context.setTransform(1, 0, 0, 1, 0, 0);
    this.atlas.draw(context, this.shapes[this.recording.kind[index]], x * ratio, y * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /** Times above the lanes: on the axis of steps those of the entries below them. */
  paintRuler(tag) {
    const { context, axis, viewport, width } = this;
    context.fillStyle = this.colours.surface;
    context.fillRect(0, 0, width, RULER_HEIGHT);
    context.fillStyle = this.colours.border;
    context.fillRect(0, RULER_HEIGHT - 1, width, 1);
    const isTime = axis.kind === 'time';
    const step = Math.max(rulerStep(RULER_ROOM / viewport.scale), axis.unit);
    const origin = isTime ? axis.time[0] : 0;
    for (let at = Math.ceil((viewport.left + origin) / step); ; at += 1) {
      const place = at * step - origin;
      if (place > viewport.right || place > axis.length) break;
      if (place < 0) continue;
      const x = viewport.toPixel(place + (isTime ? 0 : axis.unit / 2));
      const text = isTime ? rulerText(at * step, step) : instantText(axis.timeAt(place));
      context.fillStyle = this.colours.border;
      context.fillRect(Math.round(x), RULER_HEIGHT - 6, 1, 5);
      const end = x + 4 + this.textWidth(text);
      if (end > width || (tag !== null && x < tag.right && end > tag.left)) continue;
      context.fillStyle = this.colours['text-quiet'];
      context.fillText(text, x + 4, RULER_HEIGHT / 2);
    }
  }
}

/** A time in seconds, with the digits that a step of the ruler needs. */
function rulerText(nanoseconds, step) {
  const digits = Math.max(0, Math.min(9, Math.ceil(-Math.log10(step / 1e9) - 1e-9)));
  return `${(nanoseconds / 1e9).toFixed(digits)} s`;
}

/** Rectangles, sorted by colour and opacity: one change of the context for each of them. */
class RectBatch {
  constructor() {
    this.batches = new Map();
  }

  add(colour, alpha, x, y, width, height) {
    const key = `${colour} ${alpha}`;
    let batch = this.batches.get(key);
    if (batch === undefined) {
      batch = { colour, alpha, numbers: [] };
      this.batches.set(key, batch);
    }
    batch.numbers.push(x, y, width, height);
  }

  draw(context, colours) {
    for (const { colour, alpha, numbers } of [...this.batches.values()].sort((one, other) => one.alpha - other.alpha)) {
      context.fillStyle = colours[colour];
      context.globalAlpha = alpha;
      for (let at = 0; at < numbers.length; at += 4) {
        context.fillRect(numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]);
      }
      numbers.length = 0;
    }
    context.globalAlpha = 1;
  }
}
