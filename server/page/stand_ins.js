// Stand-ins for the parts of the page that are not written yet.

export class Timeline {
  constructor(parent, recording, { onSelect }) { Object.assign(this, { parent, recording, onSelect }); }
  select(index) { this.index = index; this.parent.textContent = `Timeline: entry ${index}`; }
  zoomBy() {}
  panBy() {}
  fit() {}
  setAxis() {}
  moveLane() {}
  revealLane() {}
  redraw() {}
}

export class Tables {
  constructor(parent) { this.parent = parent; }
  show(state, index) { this.parent.textContent = `Tables: entry ${index}`; }
}
