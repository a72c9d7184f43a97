// The names of the lanes, and the headings of the groups.
import { HEADING_HEIGHT } from './lanes.js';
import { countedNoun, element } from '../words/formatting.js';

/** Only what is in view has elements; they are used again for other lanes. */
export class TimelineLabels {
  /** `onLane` is called with a lane, `onToggle` with a group. */
  constructor(parent, recording, lanes, { onLane, onToggle }) {
    Object.assign(this, { parent, recording, lanes, onLane });
    this.pool = [];
    this.headings = lanes.groups.map((group) => this.makeHeading(group, onToggle));
    this.pinned = this.makeLabel();
    this.pinned.root.classList.add('is-pinned');
    parent.append(...this.headings.map(({ root }) => root), this.pinned.root);
  }

  makeHeading(group, onToggle) {
    const count = group.lanes.length - (group.isPeers ? 0 : 1);
    const name = element('span', 'timeline-heading-name', group.name);
    const number = element('span', 'timeline-heading-count', countedNoun(count, group.isPeers ? 'peer' : 'object'));
    const root = element('button', 'timeline-heading', name, ' ', number);
    root.type = 'button';
    root.addEventListener('click', () => onToggle(group));
    return { root, group };
  }

  makeLabel() {
    const kind = element('span', 'timeline-label-kind');
    const name = element('span', 'timeline-label-name');
    const id = element('span', 'timeline-label-id');
    const root = element('div', 'timeline-label', kind, name, id);
    const label = { root, kind, name, id, lane: -1 };
    root.addEventListener('click', () => this.onLane(label.lane));
    return label;
  }

  /** Shows the lanes from a height on. `selected` is the present lane. */
  show(scrollTop, height, selected) {
    let used = 0;
    this.lanes.visit(scrollTop, scrollTop + height, (lane, top, rowHeight) => {
      if (used === this.pool.length) {
        this.pool.push(this.makeLabel());
        this.parent.append(this.pool[used].root);
      }
      this.place(this.pool[used], lane, top - scrollTop, rowHeight, selected);
      used += 1;
    });
    for (let at = used; at < this.pool.length; at += 1) this.pool[at].root.hidden = true;
    const pinned = this.lanes.pinnedAt(scrollTop);
    if (pinned === null) this.pinned.root.hidden = true;
    else this.place(this.pinned, pinned.lane, pinned.offset, this.lanes.placeOf(pinned.lane).height, selected);
    for (const { root, group } of this.headings) {
      const top = group.top - scrollTop;
      root.hidden = top + HEADING_HEIGHT < 0 || top > height;
      root.style.transform = `translateY(${top}px)`;
      root.setAttribute('aria-expanded', String(!group.isCollapsed));
    }
  }

  place(label, lane, y, height, selected) {
    const { root } = label;
    root.hidden = false;
    root.style.transform = `translateY(${y}px)`;
    root.style.height = `${height}px`;
    root.classList.toggle('is-selected', lane === selected);
    if (label.lane === lane) return;
    label.lane = lane;
    const { kind, name, address } = this.recording.objects[lane];
    const isLoop = kind === 'loop';
    const id = name.slice(name.lastIndexOf('#'));
    // A connection is what a lane usually is, and the heading names the peers.
    const isNamed = !isLoop && address !== null && !['connection', 'peer'].includes(kind);
    label.kind.textContent = isNamed ? kind : '';
    // The pinned lane is without its heading.
    const nameOfLoop = label === this.pinned ? name : 'polls and turns';
    label.name.textContent = isLoop ? nameOfLoop : address ?? `${kind} ${id}`;
    label.id.textContent = isLoop || address === null ? '' : id;
    root.title = name;
  }
}
