// Search: lanes by address, id, slot; entries by kind, error, finding.

import { countedNoun } from '../words/formatting.js';
import { KIND_STYLES } from '../words/kinds.js';
import { isErrorEntry } from '../timeline/spans.js';

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

  /** The lanes that a query means: `#17`, `slot 3`, a number that is an id, a port or a slot, or a part of the name. */
  lanesOf(query) {
    const { objects } = this.recording;
    const [, sign, number] = /^(#|slot |)(\d+)$/.exec(query) ?? [];
    const isId = ({ kind, generation }) => kind !== 'loop' && String(generation) === number;
    const isSlot = ({ kind, slot }) => kind === 'connection' && String(slot) === number;
    const isPort = ({ address }) => address?.endsWith(`:${number}`) ?? false;
    if (sign === '') return objects.filter((lane) => isId(lane) || isPort(lane) || isSlot(lane));
    if (sign === 'slot ') return objects.filter(isSlot);
    const exact = objects.filter(isId);
    if (sign === '#' && exact.length > 0) return exact;
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

  /** Kinds, callbacks, errors and findings that occur and whose name contains the query. The same name comes first. */
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
      const label = counts.failures.has(number) ? `failed with ${name}` : name;
      add(label, [label], count, (index) => errno[index] === number);
    }
    const failed = [...counts.failures].reduce((sum, number) => sum + counts.errors.get(number), 0);
    add('failed', ['failed', 'error'], failed, (index) => isErrorEntry(this.recording, index));
    for (const [name, entries] of this.entriesOfFindings()) {
      add(`finding ${name}`, [`finding ${name}`], entries.size, (index) => entries.has(index));
    }
    return groups.sort((one, other) => Number(other.label === query) - Number(one.label === query));
  }

  /** By the kind of a finding: the entries where one began. */
  entriesOfFindings() {
    const entries = new Map();
    for (const { kind, index } of this.recording.findings) {
      if (!entries.has(kind)) entries.set(kind, new Set());
      entries.get(kind).add(index);
    }
    return entries;
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

/** Counts the entries of each kind, callback and error, in one pass. `failures` has the errors that are failures. */
function countGroups(recording) {
  const { entryCount, kinds, callbacks, kindIndex, kind, errno, first } = recording;
  const counts = { kinds: new Uint32Array(kinds.length), callbacks: new Uint32Array(callbacks.length),
    errors: new Map(), failures: new Set() };
  const begin = kindIndex['callback-begin'];
  for (let index = 0; index < entryCount; index += 1) {
    counts.kinds[kind[index]] += 1;
    if (kind[index] === begin && first[index] < callbacks.length) counts.callbacks[first[index]] += 1;
    if (errno[index] !== 0) counts.errors.set(errno[index], (counts.errors.get(errno[index]) ?? 0) + 1);
    if (isErrorEntry(recording, index)) counts.failures.add(errno[index]);
  }
  return counts;
}
