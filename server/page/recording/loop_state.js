// What one loop does at a moment of the recording.

import { PagedMap } from './paged_map.js';
import { laneOfEvent } from '../words/step_facts.js';

/** The state of a loop before an entry. Read-only outside of the replay. */
export class LoopState {
  constructor(recording, loop) {
    this.recording = recording;
    this.loop = loop;
    this.phase = 'work';
    /** The number of the turn, from 1; 0 before the first poll. */
    this.turn = 0;
    this.pollTimeout = Infinity;
    this.pollBegan = 0;
    this.turnBegan = 0;
    /** The index of the entry that ended the poll of this turn; -1 while the loop polls. */
    this.pollEnd = -1;
    /** Whether the turn continues with another poll. */
    this.pollsAgain = false;
    /** The callbacks that run, the innermost last. */
    this.callbacks = [];
    this.draining = false;
    /** The index of the last entry of a message. */
    this.messageAt = -1;
    /** For each deferred object, the index of the entry. */
    this.deferredAt = new PagedMap();
    /** The objects that were deferred when this turn began, in their order. */
    this.carried = [];
    /** The deadlines of timers, and a time that none is before. */
    this.timers = new PagedMap();
    this.earliestTimer = Infinity;
    /** The last reports, shared by all states of the loop: a turn may have tens of thousands of entries. */
    this.lastReports = { pollEnd: -1, reports: new Map() };
  }

  copy() {
    const copy = Object.assign(Object.create(LoopState.prototype), this);
    copy.deferredAt = this.deferredAt.fork();
    copy.timers = this.timers.fork();
    return copy;
  }

  /** The objects that the last poll reported, in their order. The loop itself stands for a wake-up. */
  get reported() {
    return [...this.reports().keys()];
  }

  /** The objects that wait for the next turn, in their order. */
  get deferred() {
    return new Set([...this.deferredAt].sort(([, one], [, other]) => one - other).map(([object]) => object));
  }

  /** The objects that were reported or deferred, and were not served yet. */
  get waiting() {
    const waiting = [...this.reports()].filter(([object, index]) => this.isWaiting(object, index));
    return new Set([...waiting.map(([object]) => object), ...this.deferred]);
  }

  /** By object: the index of its first event in this turn. An event belongs to the object of its generation. */
  reports() {
    if (this.lastReports.pollEnd !== this.pollEnd) {
      Object.assign(this.lastReports, { pollEnd: this.pollEnd, reports: this.findReports() });
    }
    return this.lastReports.reports;
  }

  findReports() {
    const { recording, loop } = this;
    const reports = new Map();
    if (this.pollEnd < 0) return reports;
    let pollsAgain = false;
    for (let number = recording.numberOf(this.pollEnd); ; number += 1) {
      const index = recording.indexOf(loop, number);
      const kind = index === undefined ? 'turn-end' : recording.kindName(index);
      if (kind === 'turn-end' || kind === 'lost' || (kind === 'poll-begin' && !pollsAgain)) return reports;
      if (kind === 'poll-end') pollsAgain = isPolledAgain(recording, index);
      // The event of an object that the recording does not have has no row.
      const object = kind === 'readiness' ? laneOfEvent(recording, index) : null;
      if (object !== null && !reports.has(object)) reports.set(object, index);
    }
  }

  /** Whether an object that was reported waits: a connection until its event is handled, a source for its call. */
  isWaiting(object, reportedAt) {
    if (this.index <= reportedAt) return true;
    const { kind } = this.recording.objects[object];
    if (kind === 'connection') return false;
    if (kind === 'loop') return this.phase === 'work' && this.messageAt < reportedAt;
    const record = this.objects.get(object);
    const isHeldUp = record?.full || (record && record.backoffUntil !== null);
    return record !== undefined && !isHeldUp && record.served < reportedAt;
  }
}

export const INTERRUPTED = 4;

/** Whether a poll that ended so is followed by another in the same turn. */
export function isPolledAgain(recording, index) {
  return recording.second[index] === 1 || recording.errno[index] === INTERRUPTED;
}
