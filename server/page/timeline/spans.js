// What lasts from one entry to another: polls, turns, callbacks, lives.
import { isPolledAgain } from '../recording/loop_state.js';

/** Instead of an index: there is no such entry. */
export const NO_ENTRY = 0xffffffff;

/** Errors that mean: not now, or a signal came. They are no errors of a timeline. */
const TRY_AGAIN_ERRORS = ['EAGAIN', 'EWOULDBLOCK', 'EINTR'];

/** The kinds after which an object is gone. */
const LAST_KINDS = ['closed', 'freed', 'deregistered', 'refused'];

/** The last entries of a lane that are searched for its close. */
const CLOSE_SEARCH_MAX = 16;

/** Runs that follow each other without a new begin, at most. */
const RUNS_OF_BLOCK = 64;

/** The spans of a recording, made once. */
export class Spans {
  constructor(recording) {
    this.recording = recording;
    /** Polls and turns of each loop: arrays of the indexes where they begin and end, and the numbers of the turns. */
    this.loops = recording.loops.map(() => (
      { pollBegin: [], pollEnd: [], turnBegin: [], turnEnd: [], turnNumber: [] }
    ));
    /** By the index of the begin of a callback: its end. By the index of an end: its begin. */
    this.partner = new Uint32Array(recording.entryCount).fill(NO_ENTRY);
    /** By index: the begin of the callback of the same lane in which the entry is. */
    this.enclosing = new Uint32Array(recording.entryCount).fill(NO_ENTRY);
    this.collect();
    this.collectErrors();
  }

  collect() {
    const { kind, kindIndex, object, entryCount } = this.recording;
    const steps = new Array(this.recording.kinds.length).fill(null);
    const states = this.loops.map((loop) => (
      { ...loop, number: 0, isRetry: false, poll: NO_ENTRY, turn: NO_ENTRY, stacks: new Map() }
    ));
    steps[kindIndex['poll-begin']] = (state, index) => beginPoll(state, index);
    steps[kindIndex['poll-end']] = (state, index) => this.endPoll(state, index);
    steps[kindIndex['turn-end']] = (state, index) => endTurn(state, index);
    steps[kindIndex['callback-begin']] = (state, index) => this.beginCallback(state, index);
    steps[kindIndex['callback-end']] = (state, index) => this.endCallback(state, index);
    steps[kindIndex.lost] = (state, index) => this.endAllCallbacks(state, index);
    for (let index = 0; index < entryCount; index += 1) {
      const lane = object[index];
      const state = states[this.recording.objects[lane].loop];
      const stack = state.stacks.get(lane);
      if (stack !== undefined && stack.length > 0) this.enclosing[index] = stack[stack.length - 1];
      const step = steps[kind[index]];
      if (step !== null) step(state, index);
    }
    for (const state of states) {
      if (state.turn !== NO_ENTRY) endTurn(state, entryCount - 1);
      if (state.poll !== NO_ENTRY) closePoll(state, entryCount);
      this.endAllCallbacks(state, entryCount - 1);
    }
  }

  endPoll(state, index) {
    closePoll(state, index);
    state.isRetry = isPolledAgain(this.recording, index);
    if (state.turn === NO_ENTRY) state.turn = index;
    state.number = Math.max(state.number, 1);
  }

  beginCallback({ stacks }, index) {
    const lane = this.recording.object[index];
    if (!stacks.has(lane)) stacks.set(lane, []);
    stacks.get(lane).push(index);
  }

  endCallback({ stacks }, index) {
    const begin = stacks.get(this.recording.object[index])?.pop();
    if (begin === undefined) return;
    this.partner[begin] = index;
    this.partner[index] = begin;
    this.enclosing[index] = this.enclosing[begin];
  }

  /** Callbacks without an end last until here: the end is lost, or the loop ended in them. */
  endAllCallbacks({ stacks }, index) {
    for (const stack of stacks.values()) for (const begin of stack) this.partner[begin] = index;
    stacks.clear();
  }

  /** Collects what has a mark at each zoom. */
  collectErrors() {
    const { recording } = this;
    const { entryCount, kind, kindIndex, object } = recording;
    /** The indexes of errors and of missing entries, and of the errors by lane. */
    this.errorIndexes = [];
    this.errors = new Map();
    this.losses = new Map();
    this.findings = new Map();
    for (let index = 0; index < entryCount; index += 1) {
      const isLoss = kind[index] === kindIndex.lost;
      if (!isLoss && !isErrorEntry(recording, index)) continue;
      this.errorIndexes.push(index);
      addToLane(isLoss ? this.losses : this.errors, object[index], index);
    }
    for (const { object: lane, index } of recording.findings) addToLane(this.findings, lane, index);
    for (const indexes of this.findings.values()) indexes.sort((one, other) => one - other);
  }

  /**
   * The first and the last entry of the life of an object. An object that is not closed lives until the end of the
   * recording: then `end` is `NO_ENTRY`.
   */
  lifeOf(lane) {
    const entries = this.recording.entriesOf(lane);
    if (entries.length === 0 || this.recording.objects[lane].kind === 'loop') return null;
    const last = entries[entries.length - 1];
    for (let at = entries.length - 1; at >= Math.max(entries.length - CLOSE_SEARCH_MAX, 0); at -= 1) {
      if (LAST_KINDS.includes(this.recording.kindName(entries[at]))) return { begin: entries[0], end: last };
    }
    return { begin: entries[0], end: this.isOver(lane, last) ? last : NO_ENTRY };
  }

  /** Timers and peers have no close. */
  isOver(lane, last) {
    const { kind } = this.recording.objects[lane];
    const name = this.recording.kindName(last);
    if (kind === 'timer') return name !== 'deadline-set' && name !== 'existing';
    return kind === 'peer' && ['peer-eof', 'peer-reset', 'peer-was-reset', 'peer-datagram-lost'].includes(name);
  }

  /** The begins of the callbacks of a lane in which an entry is, and its own if it is one; the innermost first. */
  callbacksAt(index) {
    const begins = [];
    const isBegin = this.recording.kind[index] === this.recording.kindIndex['callback-begin'];
    for (let at = isBegin ? index : this.enclosing[index]; at !== NO_ENTRY; at = this.enclosing[at]) begins.push(at);
    return begins;
  }
}

function addToLane(lanes, lane, index) {
  if (!lanes.has(lane)) lanes.set(lane, []);
  lanes.get(lane).push(index);
}

function beginPoll(state, index) {
  if (state.turn !== NO_ENTRY && !state.isRetry) endTurn(state, index);
  if (state.poll !== NO_ENTRY) closePoll(state, index);
  if (!state.isRetry) state.number += 1;
  state.poll = index;
}

function closePoll(state, index) {
  if (state.poll === NO_ENTRY) return;
  state.pollBegin.push(state.poll);
  state.pollEnd.push(index);
  state.poll = NO_ENTRY;
}

function endTurn(state, index) {
  if (state.turn === NO_ENTRY) return;
  state.turnBegin.push(state.turn);
  state.turnEnd.push(index);
  state.turnNumber.push(state.number);
  state.turn = NO_ENTRY;
  state.isRetry = false;
}

/** Whether an entry has an error mark: an error number other than EAGAIN. */
export function isErrorEntry({ errno, errorNames }, index) {
  return errno[index] !== 0 && !TRY_AGAIN_ERRORS.includes(errorNames[errno[index]]);
}

/**
 * Calls `visit(first, last)` with the positions of each run: entries that are nearer than `room` to the first of them.
 * The work is bounded by the number of runs, not by that of the entries.
 * @param {ArrayLike<number>} entries ascending indexes
 * @param {Float64Array} starts the places of the entries, by index
 */
export function visitRuns(entries, starts, from, to, room, visit) {
  let first = from;
  while (first < to) {
    const end = starts[entries[first]] + room;
    let low = first + 1;
    let step = 1;
    while (low + step < to && starts[entries[low + step - 1]] < end) {
      low += step;
      step *= 2;
    }
    let high = Math.min(low + step, to);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (starts[entries[middle]] < end) low = middle + 1;
      else high = middle;
    }
    visit(first, low - 1);
    first = low;
  }
}

/**
 * Calls `visit(first, last)` with the runs between two places, and some before them. Runs do not change when the view
 * moves: they begin anew at places that are the same for each view.
 */
export function visitStableRuns(entries, starts, left, right, room, visit) {
  const block = RUNS_OF_BLOCK * room;
  let number = Math.floor(left / block);
  let from = lowerBoundByPlace(entries, starts, number * block);
  while (from < entries.length && number * block <= right) {
    number += 1;
    const to = lowerBoundByPlace(entries, starts, number * block, from);
    visitRuns(entries, starts, from, to, room, visit);
    from = to;
  }
}

/** The position of the first entry that is at a place or after it, from `low` on. */
export function lowerBoundByPlace(entries, starts, place, low = 0) {
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (starts[entries[middle]] < place) low = middle + 1;
    else high = middle;
  }
  return low;
}
