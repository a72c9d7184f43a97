// Stand-ins for the parts of the page that are not written yet.

export class Tables {
  constructor(parent) { this.parent = parent; }
  show(state, index) { this.parent.textContent = `Tables: entry ${index}`; }
}
