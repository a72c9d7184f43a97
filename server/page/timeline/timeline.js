// The timeline: lanes of objects, columns of turns, gaps of waiting.
import { Axis, Viewport } from './axis.js';
import { lowerBoundOf } from '../recording/decode.js';
import { KIND_STYLES } from '../words/kinds.js';
import { GLYPH_RADIUS } from './glyphs.js';
import { LaneList, LOOP_HEIGHT } from './lanes.js';
import { NO_ENTRY, Spans, lowerBoundByPlace } from './spans.js';
import { Overview } from './overview.js';
import { LOOP_GLYPHS_Y, RULER_HEIGHT, TimelinePainter } from './timeline_painter.js';
import { TimelineInput } from './timeline_input.js';
import { TimelineLabels } from './timeline_labels.js';
import { nearestInLane } from '../controls/navigation.js';
import { countedNoun, element, instantText } from '../words/formatting.js';

/** How far from an entry a click selects it, in pixels; a finger needs more. */
const HIT_RADIUS = 12;
const TOUCH_RADIUS = 24;

/** The lanes above and below a selected one that stay in view, in pixels. */
const LANE_MARGIN = 30;

/** The description for screen readers follows the view after this time, in milliseconds. */
const DESCRIPTION_DELAY = 300;

export class Timeline {
  /**
   * Fills an element. `onSelect` is called with the index of an entry that the user has chosen.
   * @param {HTMLElement} parent
   * @param {object} recording
   * @param {{onSelect: function(number): void}} callbacks
   */
  constructor(parent, recording, { onSelect }) {
    Object.assign(this, { parent, recording, onSelect, selected: 0, pointed: null, frame: null });
    this.spans = new Spans(recording);
    this.lanes = new LaneList(recording);
    this.axis = new Axis(recording.time, 'steps');
    this.makeElements();
    this.painter = new TimelinePainter(this.canvas, recording, this.spans, this.lanes);
    this.viewport = new Viewport(this.axis, 1);
    this.labels = new TimelineLabels(this.labelColumn, recording, this.lanes, {
      onLane: (lane) => this.selectInLane(lane),
      onToggle: (group) => {
        this.lanes.toggle(group);
        this.resize();
      },
    });
    new TimelineInput(this.canvas, this);
    this.scroller.addEventListener('scroll', () => this.invalidate());
    this.painter.readTheme(parent);
    this.resize();
    new ResizeObserver(() => this.followSize()).observe(this.scroller);
  }

  makeElements() {
    this.parent.classList.add('timeline-view');
    this.overview = new Overview(this.parent, this.recording, this.spans, (place) => {
      this.viewport.centreAt(place);
      this.invalidate();
    });
    this.canvas = element('canvas', 'timeline-canvas');
    this.canvas.setAttribute('role', 'img');
    this.labelColumn = element('div', 'timeline-labels');
    this.line = element('div', 'timeline-line');
    this.ring = element('div', 'timeline-ring');
    this.laneMark = element('div', 'timeline-lane-mark');
    this.tag = element('div', 'timeline-tag');
    this.tip = element('div', 'timeline-tip');
    this.tip.hidden = true;
    this.overlay = element('div', 'timeline-overlay', this.laneMark, this.line, this.ring);
    this.stage = element('div', 'timeline-stage', this.canvas, this.overlay, this.tag, this.labelColumn, this.tip);
    this.spacer = element('div', 'timeline-spacer');
    this.scroller = element('div', 'timeline-scroller', this.stage, this.spacer);
    this.scroller.tabIndex = 0;
    this.scroller.setAttribute('role', 'group');
    this.scroller.setAttribute('aria-label', 'Lanes');
    for (const hidden of [this.overlay, this.tag, this.tip]) hidden.setAttribute('aria-hidden', 'true');
    this.parent.replaceChildren(this.overview.root, this.scroller);
  }

  /** Reads the colours again, and draws: after a change of the theme or of the resolution. */
  redraw() {
    this.painter.readTheme(this.parent);
    this.resize();
  }

  resize() {
    const { scroller, painter } = this;
    const labelWidth = this.labelColumn.offsetWidth;
    this.width = Math.max(scroller.clientWidth - labelWidth, 1);
    this.height = scroller.clientHeight;
    this.stage.style.height = `${this.height}px`;
    this.spacer.style.height = `${Math.max(this.lanes.height + RULER_HEIGHT - this.height, 0)}px`;
    if (painter.ratio !== (window.devicePixelRatio || 1)) painter.readTheme(this.parent);
    painter.resize(this.width, this.height);
    this.viewport.resize(this.width);
    this.overview.draw(this.axis, this.overview.root.clientWidth);
    this.draw();
  }

  /** The size has changed: the selected lane stays in view if it was. */
  followSize() {
    const lane = this.recording.object[this.selected];
    const before = lane === undefined ? null : this.viewOf(lane, this.scroller.scrollTop);
    const wasInView = before?.isShown && before.top < this.height;
    this.resize();
    if (wasInView) this.scrollTo(lane);
  }

  invalidate() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    if (this.frame !== null) cancelAnimationFrame(this.frame);
    this.frame = null;
    const { scrollTop } = this.scroller;
    const selection = this.showSelection(scrollTop);
    this.painter.paint(this.viewport, scrollTop, selection?.tag ?? null);
    if (selection !== null && selection.isShown) this.painter.paintSelected(this.selected, selection.x, selection.y);
    this.labels.show(scrollTop, this.height - RULER_HEIGHT, this.recording.object[this.selected]);
    this.overview.show(this.viewport);
    this.descriptionTimer ??= setTimeout(() => this.describe(), DESCRIPTION_DELAY);
  }

  /** Marks the selected entry and its lane. Returns where it is, and the part of the ruler that its name covers. */
  showSelection(scrollTop) {
    const { recording, selected } = this;
    const hasEntry = recording.entryCount > 0;
    for (const mark of [this.line, this.ring, this.laneMark, this.tag]) mark.hidden = !hasEntry;
    if (!hasEntry) return null;
    const x = this.viewport.toPixel(this.axis.centreOf(selected));
    const lane = recording.object[selected];
    const { top, height, isShown } = this.viewOf(lane, scrollTop);
    const y = top + (recording.objects[lane].kind === 'loop' ? LOOP_GLYPHS_Y : height / 2);
    this.line.style.transform = `translateX(${x}px)`;
    this.ring.style.transform = `translate(${x}px, ${y}px)`;
    this.ring.hidden = !isShown;
    this.laneMark.style.transform = `translateY(${top}px)`;
    this.laneMark.style.height = `${height}px`;
    this.laneMark.hidden = !isShown;
    this.tag.hidden = x < 0 || x > this.width;
    const text = `${this.nameOf(selected)} · ${instantText(recording.time[selected])}`;
    if (this.tag.textContent !== text) {
      this.tag.textContent = text;
      this.tagWidth = this.tag.offsetWidth;
    }
    const left = Math.max(0, Math.min(x - this.tagWidth / 2, this.width - this.tagWidth));
    this.tag.style.transform = `translateX(${left}px)`;
    return { x, y, isShown, tag: this.tag.hidden ? null : { left, right: left + this.tagWidth } };
  }

  /** Where a lane is in the view, from the top of the stage. */
  viewOf(lane, scrollTop) {
    const { top, height } = this.lanes.placeOf(lane);
    const pinned = this.lanes.pinnedAt(scrollTop);
    if (pinned?.lane === lane) return { top: RULER_HEIGHT + pinned.offset, height, isShown: true };
    const group = this.lanes.groupOf.get(lane);
    const isShown = !group.isCollapsed || (!group.isPeers && group.lanes[0] === lane);
    const hidden = pinned === null ? 0 : LOOP_HEIGHT + pinned.offset;
    return { top: RULER_HEIGHT + top - scrollTop, height, isShown: isShown && top - scrollTop + height / 2 > hidden };
  }

  /** The short name of an entry: a callback has its own. */
  nameOf(index) {
    const { recording } = this;
    const kind = recording.kindName(index);
    const { label } = KIND_STYLES[kind] ?? { label: kind };
    if (kind !== 'callback-begin' && kind !== 'callback-end') return label;
    return label.replace('callback', recording.callbacks[recording.first[index]] ?? 'callback');
  }

  describe() {
    this.descriptionTimer = undefined;
    const { viewport, recording, axis } = this;
    const { entryCount } = recording;
    if (entryCount === 0) {
      this.canvas.setAttribute('aria-label', 'Timeline without entries');
      return;
    }
    const [from, to] = [viewport.left, viewport.right].map((place) => axis.indexAt(place));
    const span = `${instantText(recording.time[from])} to ${instantText(recording.time[to])}`;
    const lane = recording.objects[recording.object[this.selected]].name;
    const text = `Timeline from ${span}: ${countedNoun(to - from + 1, 'entry', 'entries')} of ${entryCount}; ` +
      `selected: ${this.nameOf(this.selected)}, ${lane}`;
    this.canvas.setAttribute('aria-label', text);
  }

  /** Selects an entry. With `reveal` it comes into view; what is in view moves as little as possible. */
  select(index, { reveal = false } = {}) {
    this.selected = index;
    this.tip.hidden = true;
    if (reveal && this.recording.entryCount > 0) {
      this.viewport.reveal(this.axis.centreOf(index));
      this.scrollTo(this.recording.object[index]);
    }
    this.invalidate();
  }

  /** Scrolls a lane into view. */
  scrollTo(lane) {
    if (this.lanes.open(lane)) this.resize();
    const { scroller } = this;
    const { top, height } = this.lanes.placeOf(lane);
    if (this.recording.objects[lane].kind === 'loop' && this.lanes.pinnedAt(scroller.scrollTop)?.lane === lane) return;
    const room = this.height - RULER_HEIGHT;
    const margin = Math.min(LANE_MARGIN, Math.max((room - height - LOOP_HEIGHT) / 2, 0));
    const least = top + height + margin - room;
    const most = Math.max(top - LOOP_HEIGHT - margin, 0);
    const { scrollTop } = scroller;
    if (scrollTop > most) scroller.scrollTop = most;
    else if (scrollTop < least) scroller.scrollTop = least;
  }

  /** Scrolls a lane into view, and the entry of it that is nearest to what is in view. */
  revealLane(lane) {
    this.scrollTo(lane);
    if (this.recording.entriesOf(lane).length > 0) {
      const middle = this.axis.indexAt((this.viewport.left + this.viewport.right) / 2);
      const nearest = nearestInLane(this.recording, lane, middle);
      const pixel = this.viewport.toPixel(this.axis.centreOf(nearest));
      if (pixel < 0 || pixel > this.width) this.viewport.reveal(this.axis.centreOf(nearest));
    }
    this.invalidate();
  }

  /** Zooms; the selected entry keeps its place if it is in view, else the middle does. */
  zoomBy(factor) {
    const x = this.recording.entryCount > 0 ? this.viewport.toPixel(this.axis.centreOf(this.selected)) : -1;
    this.zoomAt(x >= 0 && x <= this.width ? x : this.width / 2, factor);
  }

  zoomAt(pixel, factor) {
    this.viewport.zoomAt(pixel, factor);
    this.invalidate();
  }

  panBy(pixels) {
    this.viewport.panBy(pixels);
    this.invalidate();
  }

  scrollBy(pixels) {
    this.scroller.scrollTop += pixels;
  }

  /** Shows what is around the selected entry, and what follows within a time in nanoseconds if it fits. */
  showSurroundings(span) {
    const { recording: { time, entryCount }, selected } = this;
    const end = Math.min(lowerBoundOf(time, time[selected] + span, selected), entryCount - 1);
    this.viewport.showAround(selected, end);
    this.invalidate();
    this.describe();
  }

  /** Shows the whole run. */
  fit() {
    this.viewport.fit();
    this.invalidate();
  }

  /** @param {'steps'|'time'} kind */
  setAxis(kind) {
    if (kind === this.axis.kind) return;
    this.axis = new Axis(this.recording.time, kind);
    this.viewport.setAxis(this.axis);
    if (this.axis.count > 0 && !this.viewport.isWhole) this.viewport.reveal(this.axis.centreOf(this.selected));
    this.overview.draw(this.axis, this.overview.root.clientWidth);
    this.invalidate();
  }

  /** Selects the entry of the next lane below (+1) or above (-1) that is nearest to the selected one. */
  moveLane(direction) {
    if (this.recording.entryCount === 0) return;
    let lane = this.recording.object[this.selected];
    do lane = this.lanes.beside(lane, direction);
    while (lane !== null && this.recording.entriesOf(lane).length === 0);
    if (lane !== null) this.selectInLane(lane);
  }

  selectInLane(lane) {
    this.onSelect(nearestInLane(this.recording, lane, this.selected));
  }

  /** A click. */
  pick(x, y, isTouch) {
    const index = this.hit(x, y, isTouch ? TOUCH_RADIUS : HIT_RADIUS);
    if (index !== null) this.onSelect(index);
  }

  /** A pointer without a button: shows what is below it. */
  point(x, y) {
    const index = x === null ? null : this.hit(x, y, HIT_RADIUS);
    this.canvas.classList.toggle('is-over-entry', index !== null);
    this.tip.hidden = index === null;
    if (index === null) return;
    const { recording } = this;
    const lane = recording.objects[recording.object[index]];
    const others = this.entriesNear(lane.index, x) - 1;
    this.tip.replaceChildren(
      element('b', '', this.nameOf(index)), element('span', '', instantText(recording.time[index])),
      element('span', '', lane.name),
    );
    const more = `${countedNoun(others, 'more entry', 'more entries')} here: zoom in`;
    if (others > 0) this.tip.append(element('span', '', more));
    const left = this.labelColumn.offsetWidth + Math.max(0, Math.min(x + 12, this.width - this.tip.offsetWidth - 4));
    const isBelow = y + 20 + this.tip.offsetHeight < this.height;
    this.tip.style.transform = `translate(${left}px, ${isBelow ? y + 16 : y - this.tip.offsetHeight - 12}px)`;
  }

  /** The entry at a place of the canvas: the nearest of its lane; or a callback, turn or poll around it; or null. */
  hit(x, y, radius) {
    if (this.recording.entryCount === 0 || y < RULER_HEIGHT) return null;
    const { scrollTop } = this.scroller;
    const pinned = this.lanes.pinnedAt(scrollTop);
    const isPinned = pinned !== null && y < RULER_HEIGHT + LOOP_HEIGHT + pinned.offset;
    const lane = isPinned ? pinned.lane : this.lanes.laneAt(y - RULER_HEIGHT + scrollTop);
    if (lane === null) return null;
    const entries = this.recording.entriesOf(lane);
    const place = this.viewport.toPlace(x) - this.axis.unit / 2;
    const found = nearestByPlace(entries, this.axis.starts, place);
    if (found !== null && Math.abs(this.axis.starts[found] - place) * this.viewport.scale <= radius) return found;
    return this.spanAt(lane, entries, this.axis.indexAt(this.viewport.toPlace(x)));
  }

  /** The number of entries of a lane that are drawn at a pixel. */
  entriesNear(lane, x) {
    const { axis, viewport } = this;
    const entries = this.recording.entriesOf(lane);
    const [from, to] = [x - GLYPH_RADIUS, x + GLYPH_RADIUS].map((pixel) => (
      lowerBoundByPlace(entries, axis.starts, viewport.toPlace(pixel) - axis.unit / 2)
    ));
    return to - from;
  }

  /** The callback of a lane around an index; in the lane of a loop the begin of the turn or poll around it. */
  spanAt(lane, entries, index) {
    const at = lowerBoundOf(entries, index + 1) - 1;
    const around = at < 0 ? [] : this.spans.callbacksAt(entries[at]);
    const { partner } = this.spans;
    const callback = around.find((begin) => partner[begin] !== NO_ENTRY && partner[begin] > index);
    if (callback !== undefined) return callback;
    return this.recording.objects[lane].kind === 'loop' && at >= 0 ? entries[at] : null;
  }
}

/** The entry whose place is nearest to a place, or null. */
function nearestByPlace(entries, starts, place) {
  if (entries.length === 0) return null;
  const at = lowerBoundByPlace(entries, starts, place);
  const after = entries[Math.min(at, entries.length - 1)];
  const before = entries[Math.max(at - 1, 0)];
  return Math.abs(starts[before] - place) < Math.abs(starts[after] - place) ? before : after;
}
