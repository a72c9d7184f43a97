// The whole run in a strip: density, findings, what is in view.
import { element } from '../words/formatting.js';
import { lowerBoundOf } from '../recording/decode.js';
import { readColours } from './glyphs.js';

/** The height of the strip, and that of the marks in it. */
export const OVERVIEW_HEIGHT = 30;
const MARK_HEIGHT = 5;

/** The window is at least this wide, so that a pointer can take it. */
const WINDOW_WIDTH_MIN = 8;

/** Parts of the strip: pixels of each. */
const PART = 2;

export class Overview {
  /** `onMove` is called with the place that comes to the middle of the view. */
  constructor(parent, recording, spans, onMove) {
    Object.assign(this, { recording, spans, onMove });
    this.canvas = element('canvas', 'timeline-overview-canvas');
    this.canvas.setAttribute('role', 'img');
    this.canvas.setAttribute('aria-label', 'The whole run: density of entries, errors and findings');
    this.window = element('div', 'timeline-window');
    this.root = element('div', 'timeline-overview', this.canvas, this.window);
    parent.append(this.root);
    this.root.addEventListener('pointerdown', (event) => this.onDown(event));
    this.root.addEventListener('pointermove', (event) => this.onDrag(event));
    this.root.addEventListener('pointerup', () => { this.grip = null; });
    this.root.addEventListener('pointercancel', () => { this.grip = null; });
    this.grip = null;
  }

  /** Draws the strip for an axis. */
  draw(axis, width) {
    this.axis = axis;
    this.width = Math.max(width, 1);
    const ratio = window.devicePixelRatio || 1;
    const colours = readColours(this.root);
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(OVERVIEW_HEIGHT * ratio);
    const context = this.canvas.getContext('2d');
    context.scale(ratio, ratio);
    if (axis.count === 0) return;
    this.drawDensity(context, colours['text-quiet']);
    this.drawMarks(context, this.spans.errorIndexes, colours.error, OVERVIEW_HEIGHT - MARK_HEIGHT, 2);
    this.drawMarks(context, this.recording.findings.map(({ index }) => index), colours.error, 0, 4);
  }

  /** The height of a part grows with the logarithm of its entries. */
  drawDensity(context, colour) {
    const counts = entryCounts(this.axis, Math.ceil(this.width / PART));
    const most = Math.log2(1 + counts.reduce((one, other) => Math.max(one, other), 1));
    const height = OVERVIEW_HEIGHT - 2 * MARK_HEIGHT - 2;
    context.fillStyle = colour;
    context.globalAlpha = 0.55;
    counts.forEach((count, part) => {
      const bar = count === 0 ? 0 : Math.max(height * Math.log2(1 + count) / most, 1);
      context.fillRect(part * PART, OVERVIEW_HEIGHT - MARK_HEIGHT - 1 - bar, PART, bar);
    });
    context.globalAlpha = 1;
  }

  drawMarks(context, indexes, colour, y, width) {
    context.fillStyle = colour;
    let last = -Infinity;
    for (const index of indexes) {
      const x = this.axis.centreOf(index) / this.axis.length * this.width;
      if (Math.abs(x - last) < 1) continue;
      last = x;
      context.fillRect(x - width / 2, y, width, MARK_HEIGHT);
    }
  }

  /** Moves the window to what is in view. */
  show(viewport) {
    const scale = this.width / this.axis.length;
    const left = Math.max(viewport.left * scale, 0);
    const right = Math.min(viewport.right * scale, this.width);
    const width = Math.min(Math.max(right - left, WINDOW_WIDTH_MIN), this.width);
    this.windowLeft = Math.max(0, Math.min((left + right - width) / 2, this.width - width));
    this.windowWidth = width;
    this.window.style.transform = `translateX(${this.windowLeft}px)`;
    this.window.style.width = `${width}px`;
  }

  onDown(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.root.setPointerCapture(event.pointerId);
    const x = event.clientX - this.root.getBoundingClientRect().left;
    const middle = this.windowLeft + this.windowWidth / 2;
    this.grip = Math.abs(x - middle) <= this.windowWidth / 2 ? x - middle : 0;
    this.onDrag(event);
  }

  onDrag(event) {
    if (this.grip === null) return;
    const x = event.clientX - this.root.getBoundingClientRect().left - this.grip;
    this.onMove(x / this.width * this.axis.length);
  }
}

/** The number of entries in each of equal parts of an axis. */
export function entryCounts(axis, parts) {
  const counts = new Array(parts).fill(0);
  let before = 0;
  for (let part = 0; part < parts; part += 1) {
    const place = part === parts - 1 ? Infinity : (part + 1) / parts * axis.length;
    const end = lowerBoundOf(axis.starts, place, before, axis.count);
    counts[part] = end - before;
    before = end;
  }
  return counts;
}
