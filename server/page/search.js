// Search: lanes by address, id or slot; entries by kind, callback, error.

import { countedNoun } from './formatting.js';
import { KIND_STYLES } from './kinds.js';

/** Lanes that a search lists, at most. */
const LANES_SHOWN_MAX = 50;

/**
 * Finds lanes and entries. Each result has a label, a detail, and `target(from)`: `{ lane }`, or the `{ index }` of the
 * next such entry after the entry `from`.
 */
export class Search {
  constructor(recording) {
    this.recording = recording;
  }

  /**
   * Returns `{ results, laneCount }`: first an entry by its number, then groups of entries, then lanes.
   * `loop` is the loop whose entry a number means.
   */
  find(text, loop = 0) {
    const query = text.trim().toLowerCase();
    if (query === '') return { results: [], laneCount: 0 };
    const lanes = this.lanesOf(query);
    const shown = lanes.slice(0, LANES_SHOWN_MAX).map((lane) => this.laneResult(lane));
    return { results: [...this.entryByNumber(query, loop), ...this.groupsOf(query), ...shown], laneCount: lanes.length };
  }

  /** The lanes that a query means: `#17`, `slot 3`, or a part of the name. */
  lanesOf(query) {
    const { objects } = this.recording;
    const [, id] = /^#(\d+)$/.exec(query) ?? [];
    const exact = objects.filter(({ generation, kind }) => kind !== 'loop' && String(generation) === id);
    if (exact.length > 0) return exact;
    const [, slot] = /^slot (\d+)$/.exec(query) ?? [];
    if (slot !== undefined) return objects.filter((lane) => lane.kind !== 'loop' && String(lane.slot) === slot);
    this.names ??= objects.map(({ name }) => name.toLowerCase());
    return objects.filter((_, at) => this.names[at].includes(query));
  }

  laneResult(lane) {
    const { loops } = this.recording;
    const details = lane.kind === 'loop' ? ['loop'] : [`slot ${lane.slot}`];
    if (loops.length > 1 && lane.kind !== 'loop') details.push(loops[lane.loop].name);
    return { type: 'lane', label: lane.name, detail: details.join(', '), target: () => ({ lane: lane.index }) };
  }

  entryByNumber(query, loop) {
    if (!/^\d+$/.test(query)) return [];
    const index = this.recording.indexOf(loop, Number(query));
    if (index === undefined || index < 0) return [];
    const detail = KIND_STYLES[this.recording.kindName(index)].label;
    return [{ type: 'entry', label: `entry ${query}`, detail, target: () => ({ index }) }];
  }

  /** Kinds, callbacks and errors that occur and whose name contains the query. The same name comes first. */
  groupsOf(query) {
    const counts = this.counts ??= countGroups(this.recording);
    const { kinds, callbacks, errorNames, kindIndex, kind, errno, first } = this.recording;
    const groups = [];
    const add = (label, names, count, isMember) => {
      if (count > 0 && names.some((name) => name.toLowerCase().includes(query))) {
        groups.push({ type: 'entries', label, detail: countedNoun(count, 'entry', 'entries'),
          target: (from) => ({ index: this.next(from, isMember) }) });
      }
    };
    kinds.forEach(({ name }, at) => {
      const { label } = KIND_STYLES[name];
      add(label === name ? name : `${name}: ${label}`, [name, label], counts.kinds[at], (index) => kind[index] === at);
    });
    const begin = kindIndex['callback-begin'];
    callbacks.forEach((name, at) => {
      add(`callback ${name}`, [name], counts.callbacks[at], (index) => kind[index] === begin && first[index] === at);
    });
    for (const [number, count] of counts.errors) {
      const name = errorNames[number] ?? `error ${number}`;
      add(`failed with ${name}`, [name], count, (index) => errno[index] === number);
    }
    return groups.sort((one, other) => Number(other.label === query) - Number(one.label === query));
  }

  /** The next entry after `from` that is a member; from the end the search continues at the start. */
  next(from, isMember) {
    const { entryCount } = this.recording;
    for (let step = 1; step <= entryCount; step += 1) {
      const index = (from + step) % entryCount;
      if (isMember(index)) return index;
    }
    return from;
  }
}

/** Counts the entries of each kind, callback and error, in one pass. */
function countGroups({ entryCount, kinds, callbacks, kindIndex, kind, errno, first }) {
  const counts = { kinds: new Uint32Array(kinds.length), callbacks: new Uint32Array(callbacks.length),
    errors: new Map() };
  const begin = kindIndex['callback-begin'];
  for (let index = 0; index < entryCount; index += 1) {
    counts.kinds[kind[index]] += 1;
    if (kind[index] === begin && first[index] < callbacks.length) counts.callbacks[first[index]] += 1;
    if (errno[index] !== 0) counts.errors.set(errno[index], (counts.errors.get(errno[index]) ?? 0) + 1);
  }
  return counts;
}
