// The horizontal axes, and the part in view.
import { lowerBoundOf } from '../recording/decode.js';

/** The axis of steps adds room for times from here, in nanoseconds. */
const WAIT_NANOSECONDS = 10_000;

/** Room for each doubling of the time to the next entry, in entries. */
const WAIT_ROOM = 0.6;

/** A client notices times from here, in nanoseconds. Each doubling gets more room, so that they are seen in a long run. */
const LONG_WAIT_NANOSECONDS = 10_000_000;
const LONG_WAIT_ROOM = 2;

/** Free pixels beside the first and the last entry. */
const AXIS_MARGIN = 16;

/** Pixels of an entry, at most when all is in view, and at most at all. */
const STEP_PIXELS_FIT_MAX = 160;
const STEP_PIXELS_MAX = 80;

/** Pixels of an entry in the first view: each has its mark, or fewer if a whole wait fits then. */
const STEP_PIXELS_NEAR = 10;
const STEP_PIXELS_NEAR_MIN = 4;

/** Pixels of a nanosecond, at most. */
const NANOSECOND_PIXELS_MAX = 0.2;

/** A selected entry keeps this part of the width free at both sides. */
const REVEAL_MARGIN = 0.15;

/**
 * Where entries are. On the axis of steps an entry has a width of 1, and room for the time to the next entry follows.
 * On the axis of time it is a point.
 */
export class Axis {
  /**
   * @param {Float64Array} time of the entries, in nanoseconds
   * @param {'steps'|'time'} kind
   */
  constructor(time, kind) {
    this.kind = kind;
    this.time = time;
    this.count = time.length;
    /** The width of an entry. */
    this.unit = kind === 'steps' ? 1 : 0;
    this.starts = new Float64Array(this.count + 1);
    for (let index = 1; index <= this.count; index += 1) {
      const wait = index < this.count ? Math.max(time[index] - time[index - 1], 0) : 0;
      this.starts[index] = this.starts[index - 1] + (kind === 'steps' ? 1 + roomOf(wait) : wait);
    }
    /** The width of all entries. */
    this.length = Math.max(this.starts[this.count], 1);
  }

  /** Where an entry has its mark. */
  centreOf(index) {
    return this.starts[index] + this.unit / 2;
  }

  endOf(index) {
    return this.starts[index] + this.unit;
  }

  /** The last entry that begins at or before a place; the first entry before all of them. */
  indexAt(place) {
    if (!(place >= 0)) return 0;
    const [low, high] = [0, this.count];
    let after = lowerBoundOf(this.starts, place, low, high);
    while (after < this.count && this.starts[after] === place) after += 1;
    return Math.max(after - 1, 0);
  }

  /** The time at a place, in nanoseconds: between two entries in proportion. */
  timeAt(place) {
    if (this.count === 0) return 0;
    if (this.kind === 'time') return this.time[0] + Math.max(0, Math.min(place, this.length));
    const index = this.indexAt(place);
    const next = Math.min(index + 1, this.count - 1);
    const room = this.starts[index + 1] - this.endOf(index);
    const part = room > 0 ? Math.max(0, Math.min((place - this.endOf(index)) / room, 1)) : 0;
    return this.time[index] + part * (this.time[next] - this.time[index]);
  }
}

function roomOf(wait) {
  const doublings = (least) => Math.max(Math.log2(wait / least), 0);
  return WAIT_ROOM * doublings(WAIT_NANOSECONDS) + LONG_WAIT_ROOM * doublings(LONG_WAIT_NANOSECONDS);
}

/** The part of an axis that is in view: `left` is the place at the left border, `scale` is pixels for a width of 1. */
export class Viewport {
  constructor(axis, width) {
    this.axis = axis;
    this.width = Math.max(width, 1);
    this.fit();
  }

  /** The smallest scale: all entries are in view. */
  get scaleMin() {
    const scale = Math.max(this.width - 2 * AXIS_MARGIN, 1) / this.axis.length;
    return this.axis.kind === 'steps' ? Math.min(scale, STEP_PIXELS_FIT_MAX) : scale;
  }

  get scaleMax() {
    return Math.max(this.axis.kind === 'steps' ? STEP_PIXELS_MAX : NANOSECOND_PIXELS_MAX, this.scaleMin);
  }

  /** The place at the right border. */
  get right() {
    return this.left + this.width / this.scale;
  }

  /** Whether all entries are in view. */
  get isWhole() {
    return this.scale <= this.scaleMin * 1.0001;
  }

  toPixel(place) {
    return (place - this.left) * this.scale;
  }

  toPlace(pixel) {
    return this.left + pixel / this.scale;
  }

  fit() {
    this.scale = this.scaleMin;
    this.moveTo(0);
  }

  /** Zooms; the place at a pixel stays there. */
  zoomAt(pixel, factor) {
    const place = this.toPlace(pixel);
    this.scale = Math.max(this.scaleMin, Math.min(this.scale * factor, this.scaleMax));
    this.moveTo(place - pixel / this.scale);
  }

  panBy(pixels) {
    this.moveTo(this.left + pixels / this.scale);
  }

  /** Moves a place to the middle. */
  centreAt(place) {
    this.moveTo(place - this.width / this.scale / 2);
  }

  /** Moves as little as is needed to show a place with what is around it. */
  reveal(place) {
    const margin = Math.min(this.width * REVEAL_MARGIN, 160);
    const pixel = this.toPixel(place);
    if (pixel < margin) this.panBy(pixel - margin);
    else if (pixel > this.width - margin) this.panBy(pixel - this.width + margin);
  }

  /** Changes the width. The left border stays, and a whole run stays whole. */
  resize(width) {
    const { isWhole } = this;
    this.width = Math.max(width, 1);
    if (isWhole) this.fit();
    else this.zoomAt(0, 1);
  }

  /** Changes the axis. The entries in view stay in view. */
  setAxis(axis) {
    const { isWhole } = this;
    const [from, to] = [this.left, this.right].map((place) => this.axis.indexAt(place));
    this.axis = axis;
    if (isWhole || axis.count === 0) {
      this.fit();
      return;
    }
    const span = Math.max(axis.endOf(to) - axis.starts[from], Number.MIN_VALUE);
    this.scale = Math.max(this.scaleMin, Math.min(this.width / span, this.scaleMax));
    this.centreAt((axis.starts[from] + axis.endOf(to)) / 2);
  }

  /** Shows an entry with its neighbours, each with its mark. They are nearer if all up to `end` fit then. */
  showAround(index, end) {
    const [begin, span] = [this.axis.starts[index], this.axis.endOf(end) - this.axis.starts[index]];
    const whole = this.width * (1 - 2 * REVEAL_MARGIN) / span;
    const scale = whole < STEP_PIXELS_NEAR_MIN ? STEP_PIXELS_NEAR : Math.min(whole, STEP_PIXELS_NEAR);
    this.scale = Math.max(this.scaleMin, Math.min(scale, this.scaleMax));
    const room = this.width / this.scale;
    this.moveTo(begin - Math.max((room - span) / 2, room * REVEAL_MARGIN));
  }

  moveTo(left) {
    const margin = AXIS_MARGIN / this.scale;
    const last = this.axis.length + margin - this.width / this.scale;
    this.left = Math.max(-margin, Math.min(left, last));
  }
}

/** Steps of a ruler: the smallest of 1, 2 and 5 times a power of ten that is at least `least`. */
export function rulerStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.9999);
}
