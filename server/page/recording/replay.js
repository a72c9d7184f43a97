// The state of loops and their objects, before and after an entry.

import { LoopState } from './loop_state.js';
import { PagedMap } from './paged_map.js';
import { STEPS, isConnectionLane } from './replay_steps.js';

/** Bounds of the snapshots. */
const INTERVAL_MIN = 2048;
const SNAPSHOTS_MAX = 256;
/** Entries between the states that are kept near the last one asked for. */
const STRIDE_OF_STATES = 64;
const RECENT_MAX = 4;
const NEVER_CLOSED = 0xffffffff;

/**
 * The states of a recording. It keeps a snapshot after each 2,048 entries, and at most 256 of them. Snapshots share the
 * records that did not change. So a step in any direction applies few entries.
 */
export class Replay {
  constructor(recording) {
    this.recording = recording;
    this.steps = recording.kinds.map(({ name }) => STEPS[name]);
    this.closedAt = firstCloses(recording);
    this.interval = Math.max(INTERVAL_MIN, Math.ceil(recording.entryCount / SNAPSHOTS_MAX));
    this.snapshots = [initialState(recording)];
    this.near = new Map();
    this.nearSnapshot = -1;
    this.recent = [];
  }

  /** Whether all snapshots are built. */
  get isComplete() {
    return this.snapshots.length > Math.floor(this.recording.entryCount / this.interval);
  }

  /** Builds snapshots for about so many milliseconds; returns true when all are built. */
  build(milliseconds) {
    const end = performance.now() + milliseconds;
    while (!this.isComplete && performance.now() < end) this.extend();
    return this.isComplete;
  }

  /** The state before an entry. */
  before(index) {
    const { entryCount } = this.recording;
    const at = Math.min(Math.max(index, 0), entryCount);
    const found = this.recent.find((state) => state.index === at);
    if (found) return found;
    const state = this.advanceFromNear(at);
    this.recent = [state, ...this.recent].slice(0, RECENT_MAX);
    return state;
  }

  /** The state after an entry. */
  after(index) {
    return this.before(index + 1);
  }

  advanceFromNear(at) {
    const snapshot = Math.floor(at / this.interval);
    while (this.snapshots.length <= snapshot) this.extend();
    if (this.nearSnapshot !== snapshot) {
      this.nearSnapshot = snapshot;
      this.near = new Map([[this.snapshots[snapshot].index, this.snapshots[snapshot]]]);
    }
    let start = this.snapshots[snapshot];
    for (const state of [...this.near.values(), ...this.recent]) {
      if (state.index <= at && state.index > start.index) start = state;
    }
    while (start.index < at) {
      const next = (Math.floor(start.index / STRIDE_OF_STATES) + 1) * STRIDE_OF_STATES;
      start = this.advance(start, Math.min(next, at));
      if (start.index === next) this.near.set(next, start);
    }
    return start;
  }

  /** Builds one more snapshot. */
  extend() {
    const last = this.snapshots.at(-1);
    this.snapshots.push(this.advance(last, Math.min(last.index + this.interval, this.recording.entryCount)));
  }

  /** A new state: the entries from a state up to an index applied to it. */
  advance(state, to) {
    const draft = new Draft(this.recording, this.closedAt, state);
    const { kind, object } = this.recording;
    for (let index = state.index; index < to; index += 1) {
      this.steps[kind[index]]?.(draft, index, object[index]);
    }
    return draft.finish(to);
  }
}

/** A state that is being changed. It copies a record before the first change. */
class Draft {
  constructor(recording, closedAt, state) {
    this.recording = recording;
    this.closedAt = closedAt;
    this.base = state.index;
    this.loops = state.loops.map((loop) => loop.copy());
    this.objects = state.objects.fork();
    this.slots = state.slots.map((slots) => slots.fork());
    this.deadlines = state.deadlines.map((deadlines) => deadlines.fork());
  }

  finish(index) {
    for (const loop of this.loops) {
      loop.index = index;
      loop.objects = this.objects;
    }
    const { loops, objects, slots, deadlines } = this;
    return { index, loops, objects, slots, deadlines };
  }

  loopOf(lane) {
    return this.loops[this.recording.objects[lane].loop];
  }

  /** The record of an object, to be changed; undefined for a loop, a simulated peer, and an object that was closed. */
  record(lane, index) {
    let record = this.objects.get(lane);
    if (record === undefined) {
      const { kind } = this.recording.objects[lane];
      if (kind === 'loop' || kind === 'peer' || index > this.closedAt[lane]) return undefined;
      return this.open(lane, index, { phase: kind === 'listener' ? 'listening' : 'open' });
    }
    if (record.changed < this.base) {
      record = { ...record };
      this.objects.set(lane, record);
    }
    record.changed = index;
    return record;
  }

  /** Adds an object; a connection takes its slot. */
  open(lane, index, fields) {
    const record = { ...UNKNOWN_OBJECT, ...fields, changed: index };
    const { loop, slot } = this.recording.objects[lane];
    if (isConnectionLane(this.recording, lane) && slot < SLOTS_MAX) {
      const before = this.slots[loop].get(slot);
      if (before && before.object !== null && before.object !== lane) this.forget(before.object);
      const uses = (before?.uses ?? 0) + (before?.object === lane ? 0 : 1);
      this.slots[loop].set(slot, { object: lane, uses, changed: index });
    }
    this.objects.set(lane, record);
    return record;
  }

  free(lane, index) {
    const { loop, slot } = this.recording.objects[lane];
    this.forget(lane);
    const before = this.slots[loop].get(slot);
    if (before && before.object === lane) {
      this.slots[loop].set(slot, { object: null, uses: before.uses, changed: index });
    }
  }

  /** Removes an object and what waits for it. */
  forget(lane) {
    this.objects.delete(lane);
    this.deadlines[this.recording.objects[lane].loop].delete(lane);
    this.loopOf(lane).deferredAt.delete(lane);
  }

  /** Notes that the loop called something for an object. */
  serve(lane, record, index) {
    if (record) record.served = index;
    this.loopOf(lane).deferredAt.delete(lane);
  }

  /** Sets the deadline of an object, or removes it. */
  setDeadline(lane, record, at) {
    record.deadline = at;
    const { loop, kind } = this.recording.objects[lane];
    const maps = kind === 'timer' ? [this.deadlines[loop], this.loops[loop].timers] : [this.deadlines[loop]];
    for (const map of maps) {
      if (at === null) map.delete(lane);
      else map.set(lane, at);
    }
    if (at !== null && kind === 'timer') {
      this.loops[loop].earliestTimer = Math.min(this.loops[loop].earliestTimer, at);
    }
  }

  /** Forgets what lost entries may have changed. */
  loseLoop(lane, index) {
    const { loop } = this.recording.objects[lane];
    for (const [object, { fd, phase, bytesRead, bytesWritten, listener, lastReason }] of [...this.objects]) {
      if (this.recording.objects[object].loop !== loop) continue;
      const known = { fd, phase, bytesRead, bytesWritten, listener, lastReason };
      this.objects.set(object, { ...UNKNOWN_OBJECT, ...known, changed: index });
    }
    this.deadlines[loop] = new PagedMap();
    const state = this.loops[loop];
    Object.assign(state, { callbacks: [], carried: [], pollsAgain: false, pollEnd: -1, earliestTimer: Infinity });
    state.deferredAt = new PagedMap();
    state.timers = new PagedMap();
  }
}

/** Slots above are not shown: no loop has so many connections. */
const SLOTS_MAX = 1 << 20;

/** What the recording does not know is null. */
const UNKNOWN_OBJECT = Object.freeze({
  fd: null, phase: 'open', registered: null, readable: null, writable: null, eof: null, inbox: null, outbox: null,
  paused: null, awaitsMemory: null, backoffUntil: null, full: null, deadline: null, bytesRead: 0, bytesWritten: 0,
  listener: null, lastReason: null, readsToEnd: false, served: -1, changed: -1,
});

function initialState(recording) {
  const { loops } = recording;
  const objects = new PagedMap();
  const state = {
    index: 0, objects, loops: loops.map((_, loop) => new LoopState(recording, loop)),
    slots: loops.map(() => new PagedMap()), deadlines: loops.map(() => new PagedMap()),
  };
  for (const loop of state.loops) Object.assign(loop, { index: 0, objects });
  return state;
}

/** By lane: the index of the entry that closed the object. */
function firstCloses(recording) {
  const closedAt = new Uint32Array(recording.objects.length).fill(NEVER_CLOSED);
  const closed = recording.kindIndex['closed'];
  for (let index = recording.entryCount - 1; index >= 0; index -= 1) {
    if (recording.kind[index] === closed) closedAt[recording.object[index]] = index;
  }
  return closedAt;
}
