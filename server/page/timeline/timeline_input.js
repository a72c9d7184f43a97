// Mouse, wheel and touch on the timeline.

/** A pointer that moves less than this selects, in pixels; a finger is less steady. */
const CLICK_DISTANCE_MAX = 5;
const TAP_DISTANCE_MAX = 10;

/** The factor of a zoom for a wheel that moves by a pixel. */
const WHEEL_ZOOM = 1.0022;

const DOUBLE_CLICK_ZOOM = 3;

/** Pixels of a line of a wheel that counts lines. */
const WHEEL_LINE = 16;

/**
 * A drag pans, a click selects, a double click zooms, and so do two fingers. A wheel scrolls the lanes; with Ctrl it
 * zooms, with Shift it pans.
 * The target has `zoomAt(pixel, factor)`, `panBy(pixels)`, `scrollBy(pixels)`, `pick(x, y, isTouch)`, `point(x, y)`,
 * where `point(null)` is called when no pointer is over the timeline.
 */
export class TimelineInput {
  constructor(surface, target) {
    Object.assign(this, { surface, target });
    this.pointers = new Map();
    this.isDrag = false;
    const listen = (type, listener, options) => surface.addEventListener(type, listener, options);
    listen('pointerdown', (event) => this.onDown(event));
    listen('pointermove', (event) => this.onMove(event));
    listen('pointerup', (event) => this.onUp(event));
    listen('pointercancel', (event) => this.pointers.delete(event.pointerId));
    listen('pointerleave', () => target.point(null));
    listen('dblclick', (event) => target.zoomAt(this.placeOf(event).x, DOUBLE_CLICK_ZOOM));
    listen('wheel', (event) => this.onWheel(event), { passive: false });
  }

  placeOf(event) {
    const box = this.surface.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  onDown(event) {
    if (event.button !== 0) return;
    if (this.pointers.size === 0) this.isDrag = false;
    this.pointers.set(event.pointerId, this.placeOf(event));
    this.target.point(null);
  }

  onMove(event) {
    const place = this.placeOf(event);
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) {
      if (event.pointerType !== 'touch') this.target.point(place.x, place.y);
      return;
    }
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
    const distanceMax = event.pointerType === 'touch' ? TAP_DISTANCE_MAX : CLICK_DISTANCE_MAX;
    this.isDrag ||= others.length > 0 || Math.hypot(place.x - before.x, place.y - before.y) >= distanceMax;
    if (!this.isDrag) return;
    // Without the capture a drag ends at the border. A click needs none.
    if (!this.surface.hasPointerCapture(event.pointerId)) this.surface.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, place);
    if (others.length === 0) {
      this.target.panBy(before.x - place.x);
      if (event.pointerType === 'mouse') this.target.scrollBy(before.y - place.y);
    } else {
      this.pinch(others[0], before, place);
    }
  }

  /** Two fingers: the places below both stay below them. */
  pinch(other, before, place) {
    const [was, is] = [Math.abs(before.x - other.x), Math.abs(place.x - other.x)];
    this.target.panBy((before.x - place.x) / 2);
    if (was > 10 && is > 10) this.target.zoomAt((place.x + other.x) / 2, is / was);
  }

  onUp(event) {
    const place = this.pointers.get(event.pointerId);
    if (place === undefined) return;
    this.pointers.delete(event.pointerId);
    if (!this.isDrag) this.target.pick(place.x, place.y, event.pointerType === 'touch');
  }

  onWheel(event) {
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? WHEEL_LINE : 1;
    const across = event.shiftKey && event.deltaX === 0 ? event.deltaY : event.deltaX;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.target.zoomAt(this.placeOf(event).x, WHEEL_ZOOM ** (-event.deltaY * unit));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      this.target.panBy(across * unit);
    }
  }
}
