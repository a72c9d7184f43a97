// The rows of the timeline: a group for each loop.

/** Heights in pixels. */
export const HEADING_HEIGHT = 22;
export const LOOP_HEIGHT = 46;
export const LANE_HEIGHT = 26;

/** Objects that live as long as the loop come first; then each lane comes when its object does. */
const LASTING_KINDS = ['listener', 'udp-socket', 'watch'];

/**
 * The groups of lanes, from top to bottom: of each loop its own lane, its lasting objects, then its other objects in
 * the order of their first entries; and a group of its simulated peers. A heading comes before each group.
 */
export class LaneList {
  constructor(recording) {
    this.groups = recording.loops.flatMap((loop) => groupsOf(recording, loop));
    /** By lane: its group, and its position in it. */
    this.groupOf = new Map(this.groups.flatMap((group) => group.lanes.map((lane) => [lane, group])));
    this.positions = new Uint32Array(recording.objects.length);
    for (const { lanes } of this.groups) lanes.forEach((lane, position) => { this.positions[lane] = position; });
    this.layOut();
  }

  /** Computes where the groups are. */
  layOut() {
    let top = 0;
    for (const group of this.groups) {
      group.top = top;
      top += HEADING_HEIGHT + heightOf(group, shownOf(group));
    }
    this.height = top;
  }

  /** Shows only the heading of a group, and the lane of its loop; or everything. */
  toggle(group) {
    group.isCollapsed = !group.isCollapsed;
    this.layOut();
  }

  /** The top and the height of a lane, also of one that is not shown. */
  placeOf(lane) {
    const group = this.groupOf.get(lane);
    const position = this.positions[lane];
    return { top: group.top + HEADING_HEIGHT + heightOf(group, position), height: rowHeight(group, position) };
  }

  /** Opens the group of a lane. Returns whether this changed the layout. */
  open(lane) {
    const group = this.groupOf.get(lane);
    const isHidden = this.positions[lane] >= shownOf(group);
    if (isHidden) this.toggle(group);
    return isHidden;
  }

  /** The lane at a height, or null in a heading and below the last lane. */
  laneAt(y) {
    const group = this.groups.find(({ top }, at) => y >= top && y < (this.groups[at + 1]?.top ?? this.height));
    if (group === undefined) return null;
    return group.lanes[positionAt(group, y - group.top - HEADING_HEIGHT)] ?? null;
  }

  /** Calls `visit(lane, top, height, group)` for each lane between two heights. */
  visit(from, to, visit) {
    for (const group of this.groups) {
      const first = group.top + HEADING_HEIGHT;
      const shown = shownOf(group);
      const start = Math.max(positionAt(group, from - first), 0);
      for (let position = start; position < shown; position += 1) {
        const top = first + heightOf(group, position);
        if (top >= to) break;
        visit(group.lanes[position], top, rowHeight(group, position), group);
      }
    }
  }

  /**
   * The lane of a loop that stays in view above its group, and how far it is pushed up by the next group.
   * @returns {{lane: number, group: object, offset: number}|null}
   */
  pinnedAt(scrollTop) {
    const group = this.groups.findLast(({ top }) => top + HEADING_HEIGHT <= scrollTop);
    if (group === undefined || group.isPeers) return null;
    const end = group.top + HEADING_HEIGHT + heightOf(group, shownOf(group)) - scrollTop;
    return end <= 0 ? null : { lane: group.lanes[0], group, offset: Math.min(0, end - LOOP_HEIGHT) };
  }

  /** The next lane in a direction that is shown, or null. */
  beside(lane, direction) {
    const group = this.groupOf.get(lane);
    const next = this.positions[lane] + direction;
    if (next >= 0 && next < shownOf(group)) return group.lanes[next];
    const at = this.groups.indexOf(group) + direction;
    for (let other = at; this.groups[other] !== undefined; other += direction) {
      const shown = shownOf(this.groups[other]);
      if (shown > 0) return this.groups[other].lanes[direction > 0 ? 0 : shown - 1];
    }
    return null;
  }
}

function groupsOf(recording, loop) {
  const own = recording.objects.filter((object) => object.loop === loop.index);
  const first = ({ index }) => recording.entriesOf(index)[0] ?? Infinity;
  const rank = ({ kind }) => (kind === 'loop' ? 0 : LASTING_KINDS.includes(kind) ? 1 : 2);
  const keys = new Map(own.map((object) => [object, first(object)]));
  const compare = (one, other) => rank(one) - rank(other) || compareNumbers(keys.get(one), keys.get(other));
  const sorted = own.sort(compare);
  const lanesOf = (isPeer) => sorted.filter(({ kind }) => (kind === 'peer') === isPeer).map(({ index }) => index);
  const { index, name } = loop;
  const groups = [{ loop: index, name, isPeers: false, isCollapsed: false, top: 0, lanes: lanesOf(false) }];
  const peers = lanesOf(true);
  if (peers.length > 0) {
    groups.push({ ...groups[0], name: `simulated peers of ${name}`, isPeers: true, lanes: peers });
  }
  return groups;
}

function compareNumbers(one, other) {
  if (one === other) return 0;
  return one < other ? -1 : 1;
}

/** The number of lanes that a group shows. */
function shownOf({ isCollapsed, isPeers, lanes }) {
  if (!isCollapsed) return lanes.length;
  return isPeers ? 0 : 1;
}

/** The height of the first lanes of a group. */
function heightOf({ isPeers }, count) {
  return count * LANE_HEIGHT + (isPeers || count === 0 ? 0 : LOOP_HEIGHT - LANE_HEIGHT);
}

function rowHeight({ isPeers }, position) {
  return position === 0 && !isPeers ? LOOP_HEIGHT : LANE_HEIGHT;
}

/** The position of the lane at a height below the heading: negative in it. */
function positionAt(group, y) {
  if (y < 0) return -1;
  const position = group.isPeers
    ? Math.floor(y / LANE_HEIGHT)
    : Math.max(0, Math.floor((y - LOOP_HEIGHT) / LANE_HEIGHT) + 1);
  return position < shownOf(group) ? position : Number.MAX_SAFE_INTEGER;
}
