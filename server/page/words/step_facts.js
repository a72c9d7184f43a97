// The facts that the sentences about an entry use.
import { lowerBoundOf } from '../recording/decode.js';

/** How many entries a look around reads at most: a turn of a large loop has more events, but not often. */
const LOOK_AROUND_MAX = 4096;

/** What a turn does after its last event: it frees what was closed. */
const AT_THE_END_OF_A_TURN = ['freed', 'closed', 'deregistered', 'drain'];

/** How many of the first entries of an object show whether it was read before. */
const FIRST_STEPS_MAX = 16;

/** Entries of a connection between two of its reads that do not end the reading. */
const BETWEEN_READS = [
  'callback-begin', 'callback-end', 'write', 'shutdown-write', 'input-stopped', 'deadline-set', 'paused', 'resumed',
  'message',
];

/** A time with the digits that matter: `1.2 s`, `83 ms`, `340 us`. */
export function durationWords(nanoseconds) {
  if (!Number.isFinite(nanoseconds)) return 'an unknown time';
  const time = Math.max(0, nanoseconds);
  if (time >= 1e9) return `${digitsWithCommas((time / 1e9).toFixed(1).replace(/\.0$/, ''))} s`;
  if (time >= 1e6) return `${Math.floor(time / 1e6)} ms`;
  return time >= 1e3 || time === 0 ? `${Math.floor(time / 1e3)} us` : `${Math.floor(time)} ns`;
}

/** A wait from here on is worth a sentence: `The next bytes are taken 1.5 s later.` */
const LONG_WAIT_NS = 1e9;

/** How long an object waited for what comes next, if it was long; else null. */
export function laterWords(what, nanoseconds) {
  return nanoseconds >= LONG_WAIT_NS ? `${what} ${durationWords(nanoseconds)} later.` : null;
}

/** A number of things: `no event`, `1 event`, `2,000 events`. */
export function countWords(count, noun, plural = `${noun}s`) {
  if (!Number.isFinite(count)) return `an unknown number of ${plural}`;
  if (count === 0) return `no ${noun}`;
  return `${digitsWithCommas(count)} ${count === 1 ? noun : plural}`;
}

/** A number of bytes: `18 bytes`, `64 KiB`. */
export function byteWords(count) {
  if (!Number.isFinite(count)) return 'an unknown number of bytes';
  if (count < 10_000) return `${digitsWithCommas(count)} ${count === 1 ? 'byte' : 'bytes'}`;
  const [factor, unit] = count < 1 << 20 ? [1 << 10, 'KiB'] : [1 << 20, 'MiB'];
  return `${digitsWithCommas((count / factor).toFixed(1).replace(/\.0$/, ''))} ${unit}`;
}

/** `1st`, `2nd`, `3rd`, `4th`. */
export function ordinalWords(number) {
  const isTeen = Math.floor(number / 10) % 10 === 1;
  return `${digitsWithCommas(number)}${(!isTeen && ['', 'st', 'nd', 'rd'][number % 10]) || 'th'}`;
}

/** Some names, and how many more: `A, B, C and 2 more`. */
export function listWords(names, count = names.length) {
  const more = count - names.length;
  if (more > 0) return `${names.join(', ')} and ${digitsWithCommas(more)} more`;
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

/** The digits of a number; `...` for none. */
export function numberWords(number) {
  return number === Infinity ? '...' : String(number);
}

function digitsWithCommas(number) {
  const [whole, fraction] = String(number).split('.');
  if (!/^-?\d+$/.test(whole)) return String(number);
  return whole.replace(/\B(?=(\d{3})+$)/g, ',') + (fraction ? `.${fraction}` : '');
}

/** Sentences as one text; those that do not apply are false or null. */
export function joinSentences(...sentences) {
  return sentences.filter(Boolean).join(' ') || null;
}

/** Whether the event of an entry is that of an earlier object in the slot: its generation is another one. */
export function isEventOfGone(recording, index) {
  if (recording.kindName(index) !== 'readiness') return false;
  const { kind, generation } = recording.objects[recording.object[index]];
  return kind !== 'loop' && recording.second[index] !== generation % 2 ** 32;
}

/** The lane of the object whose event an entry is; null if the recording does not have it. */
export function laneOfEvent(recording, index) {
  const lane = recording.object[index];
  if (!isEventOfGone(recording, index)) return lane;
  const { loop, kind } = recording.objects[lane];
  const found = recording.objects.find((object) => (
    object.slot === recording.slot[index] && object.generation % 2 ** 32 === recording.second[index]
      && object.kind === kind && object.loop === loop
  ));
  return found?.index ?? null;
}

/** One entry, the state before it, and the entries around it. */
export class StepFacts {
  /** @param state the state before the entry; null if it is not known */
  constructor(recording, state, index) {
    this.recording = recording;
    this.index = index;
    this.kind = recording.kindName(index);
    this.first = recording.first[index];
    this.second = recording.second[index];
    this.time = recording.time[index];
    this.lane = recording.object[index];
    this.objectKind = recording.objectKinds[recording.objectKind[index]];
    this.slot = recording.slot[index];
    this.loopIndex = recording.loopOf(index);
    this.loopName = recording.loops[this.loopIndex].name;
    this.loop = state?.loops?.[this.loopIndex] ?? {};
    this.objects = state?.objects;
    /** The state of the object; empty if it is not known. */
    this.own = state?.objects?.get(this.lane) ?? {};
    /** How many connections had the slot before, as far as the recording shows. */
    this.slotUses = state?.slots?.[this.loopIndex]?.get(this.slot)?.uses ?? 0;
    /** The deadlines of the loop by object, in the time of the page. */
    this.deadlines = state?.deadlines?.[this.loopIndex] ?? [];
  }

  /** The first number exactly; `...` for none. */
  get firstWords() {
    return numberWords(this.recording.exact(this.index, 0));
  }

  get secondWords() {
    return numberWords(this.recording.exact(this.index, 1));
  }

  /** The name of the error number, or null: `EAGAIN`. */
  get error() {
    const errno = this.recording.errno[this.index];
    return errno === 0 ? null : this.recording.errorNames[errno] ?? `error ${errno}`;
  }

  /** The error with its meaning: `EMFILE (too many open files)`. */
  get errorWords() {
    const text = this.recording.errorTexts?.[this.recording.errno[this.index]];
    return text ? `${this.error} (${text.charAt(0).toLowerCase()}${text.slice(1)})` : this.error;
  }

  /** The object of the entry, in a sentence. */
  get name() {
    return this.nameOf(this.lane);
  }

  /** An object in a sentence: a connection by its address, the others with their kind. */
  nameOf(lane) {
    const { kind, address, slot, generation } = this.recording.objects[lane];
    const id = address || `#${kind === 'peer' ? slot : generation}`;
    if (kind === 'loop') return 'the loop';
    if (kind === 'connection') return address || `connection ${id}`;
    if (kind === 'peer') return address || `peer ${id}`;
    return `the ${kind === 'udp-socket' ? 'UDP socket' : kind} ${id}`;
  }

  /** The object of an event in a sentence, with its generation if it is gone: `10.0.0.9:4000 #17, which is gone`. */
  ownerOfEvent(index) {
    const lane = laneOfEvent(this.recording, index);
    if (!isEventOfGone(this.recording, index)) return this.nameOf(lane);
    if (lane !== null && this.isOpen(lane)) return this.nameOf(lane);
    const generation = this.recording.second[index];
    const id = Number.isFinite(generation) ? `#${generation}` : 'an earlier object';
    const address = lane === null ? null : this.recording.objects[lane].address;
    return `${address ? `${address} ` : ''}${id}, which is gone`;
  }

  /** Whether an object is known and not closed. */
  isOpen(lane) {
    const record = this.objects?.get(lane);
    return record !== undefined && record.phase !== 'closed';
  }

  /**
   * Whether this is the first entry of its kind with such an object and error number, among those that a test accepts.
   * Rules that hold for all of them are told there.
   */
  isFirst(accepts = () => true) {
    const { kind, objectKind, errno } = this.recording;
    const own = kind[this.index];
    for (let index = kind.indexOf(own); index < this.index; index = kind.indexOf(own, index + 1)) {
      const isSame = objectKind[index] === objectKind[this.index] && errno[index] === errno[this.index];
      if (isSame && accepts(index)) return false;
    }
    return true;
  }

  /** Whether no entry before is about an object of this kind. */
  get isFirstOfObjectKind() {
    return this.recording.objectKind.indexOf(this.recording.objectKind[this.index]) === this.index;
  }

  /** The generation of the object, as the lanes show it: `#17`. */
  get id() {
    return `#${this.recording.objects[this.lane].generation}`;
  }

  /** The address in the entry, or that of its object; null if neither is known. */
  get address() {
    return this.recording.addressOf(this.index) || this.recording.objects[this.lane].address || null;
  }

  /** The name of the callback of the entry. */
  get callback() {
    return this.recording.callbacks[this.first] ?? 'a callback';
  }

  /** The next entries of the same object, as indexes. Where entries are missing, the next is not known. */
  * nextOfObject() {
    const entries = this.recording.entriesOf(this.lane);
    const low = lowerBoundOf(entries, this.index + 1);
    const high = Math.min(low + LOOK_AROUND_MAX, lowerBoundOf(entries, this.nextLoss));
    yield* entries.subarray(low, high);
  }

  /** The index of the next entry about missing entries of the loop; infinite without one. */
  get nextLoss() {
    if (this.loss === undefined) {
      const { kind, kindIndex } = this.recording;
      const find = (from) => kind.indexOf(kindIndex['lost'], from);
      this.loss = find(this.index + 1);
      while (this.loss >= 0 && this.recording.loopOf(this.loss) !== this.loopIndex) this.loss = find(this.loss + 1);
      if (this.loss < 0) this.loss = Infinity;
    }
    return this.loss;
  }

  /** The kind of the next entry of the same object; null if there is none. */
  get nextKind() {
    const { value, done } = this.nextOfObject().next();
    return done ? null : this.recording.kindName(value);
  }

  /** The next callback of the object, if the next entry is its begin; else null. */
  get nextCallback() {
    const { value, done } = this.nextOfObject().next();
    const isBegin = !done && this.recording.kindName(value) === 'callback-begin';
    return isBegin ? this.recording.callbacks[this.recording.first[value]] ?? null : null;
  }

  /** The kind of the next entry of the object that shows how its reading goes on: a read, for example; or null. */
  get afterRead() {
    for (const index of this.nextOfObject()) {
      const kind = this.recording.kindName(index);
      if (!BETWEEN_READS.includes(kind)) return kind;
    }
    return null;
  }

  /** How long after this entry the next entry of the object of a kind has something; null if none does. */
  timeToNext(kind) {
    const { recording } = this;
    for (const index of this.nextOfObject()) {
      const isIt = recording.kindName(index) === kind && recording.errno[index] === 0 && recording.first[index] > 0;
      if (isIt) return recording.time[index] - this.time;
    }
    return null;
  }

  /** How long after this entry the next one of the object comes; null if it is the last. */
  get timeToNextStep() {
    const { value, done } = this.nextOfObject().next();
    return done ? null : this.recording.time[value] - this.time;
  }

  /** How long the callback that begins here takes; null if its end is not recorded. */
  get callbackTime() {
    const { recording } = this;
    for (const index of this.nextOfObject()) {
      const isEnd = recording.kindName(index) === 'callback-end' && recording.first[index] === this.first;
      if (isEnd) return recording.time[index] - this.time;
    }
    return null;
  }

  /** The datagrams that one call has sent, as indexes: they follow it without a gap. */
  get sentDatagrams() {
    const found = [];
    for (const index of this.nextOfLoop()) {
      const isSent = this.recording.kindName(index) === 'datagram-out' && this.recording.errno[index] === 0;
      if (!isSent || this.recording.object[index] !== this.lane) break;
      found.push(index);
    }
    return found;
  }

  /** What comes after the slot of the object is freed, as `restOfTurn`; null if it is not freed in this turn. */
  get restOfTurnAfterFreed() {
    for (const index of this.nextOfLoop()) {
      const kind = this.recording.kindName(index);
      if (kind === 'turn-end' || kind === 'lost') return null;
      if (kind === 'freed' && this.recording.object[index] === this.lane) return this.restOfTurn(index);
    }
    return null;
  }

  /** The entries of the loop after one, as indexes. */
  * nextOfLoop(from = this.index) {
    const number = this.recording.numberOf(from);
    for (let step = 1; step <= LOOK_AROUND_MAX; step += 1) {
      const index = this.recording.indexOf(this.loopIndex, number + step);
      if (index === undefined) return;
      yield index;
    }
  }

  /** The entries of this turn before this one, the last first, as indexes. The polls of the turn end them. */
  * previousOfTurn() {
    const number = this.recording.numberOf(this.index);
    for (let step = 1; step <= LOOK_AROUND_MAX; step += 1) {
      const index = this.recording.indexOf(this.loopIndex, number - step);
      if (index === undefined || ['poll-end', 'turn-end', 'lost'].includes(this.recording.kindName(index))) return;
      yield index;
    }
  }

  /** The event in this turn of an object that had the slot before; null if none came, or one of the object itself. */
  get eventOfGone() {
    let found = null;
    for (const index of this.previousOfTurn()) {
      if (this.recording.kindName(index) !== 'readiness' || this.recording.object[index] !== this.lane) continue;
      if (!isEventOfGone(this.recording, index)) return null;
      found ??= index;
    }
    return found;
  }

  /** A sentence about the event that led to this step, if that was one of an object that is gone; else null. */
  get wordsOfOtherEvent() {
    const event = this.eventOfGone;
    return event === null ? null : `No event of this ${this.objectKind} was reported: the event was that of `
      + `${this.ownerOfEvent(event)}.`;
  }

  /** The last callback that ended in this turn, as an index; null if none did. */
  get lastCallbackInTurn() {
    for (const index of this.previousOfTurn()) if (this.recording.kindName(index) === 'callback-end') return index;
    return null;
  }

  /** The kinds of the first entries of the object, of those before this one. */
  get firstKinds() {
    const entries = this.recording.entriesOf(this.lane);
    const kinds = [];
    for (const index of entries) {
      if (index >= this.index || kinds.length === FIRST_STEPS_MAX) break;
      kinds.push(this.recording.kindName(index));
    }
    return kinds;
  }

  /**
   * What comes between an entry and the end of its turn: 'end' if that is only the end of closed objects, else 'work';
   * null if it is not known.
   */
  restOfTurn(from = this.index) {
    for (const index of this.nextOfLoop(from)) {
      const kind = this.recording.kindName(index);
      if (kind === 'turn-end') return 'end';
      if (kind === 'lost') return null;
      if (!AT_THE_END_OF_A_TURN.includes(kind)) return 'work';
    }
    return null;
  }

  /** How long a drain may take from this entry on, negative if its time is over; null without a drain or a limit. */
  get timeToEndOfDrain() {
    const { recording } = this;
    let index = recording.kind.lastIndexOf(recording.kindIndex['drain'], this.index);
    while (index > 0 && recording.loopOf(index) !== this.loopIndex) {
      index = recording.kind.lastIndexOf(recording.kindIndex['drain'], index - 1);
    }
    if (index < 0 || recording.loopOf(index) !== this.loopIndex) return null;
    const limit = recording.first[index];
    return Number.isFinite(limit) && limit > 0 ? recording.time[index] + limit - this.time : null;
  }

  /** Whether the entry of the loop before this one is a failed call. */
  get isAfterError() {
    const before = this.recording.indexOf(this.loopIndex, this.recording.numberOf(this.index) - 1);
    return before !== undefined && this.recording.errno[before] !== 0;
  }

  /** The next entry of the loop; null at the end. */
  get nextIndexOfLoop() {
    return this.nextOfLoop().next().value ?? null;
  }

  /**
   * The place of this entry among the events of the turn: the events up to it, and the events that its polls reported.
   * Null if the entries before do not show it.
   */
  get eventsOfTurn() {
    const { recording } = this;
    let [dispatched, reported, isBeforePolls] = [0, 0, false];
    const number = recording.numberOf(this.index);
    for (let at = number; at >= 0 && number - at < LOOK_AROUND_MAX; at -= 1) {
      const index = recording.indexOf(this.loopIndex, at);
      const kind = recording.kindName(index);
      if (kind === 'poll-end') {
        isBeforePolls = true;
        reported += recording.errno[index] === 0 ? recording.first[index] : 0;
      } else if (isBeforePolls && kind !== 'poll-begin') {
        break;
      } else if (kind === 'readiness' || kind === 'stale-event') {
        dispatched += 1;
      } else if (kind === 'turn-end' || kind === 'lost') {
        return null;
      }
    }
    return isBeforePolls ? { dispatched, reported: Math.max(reported, dispatched) } : null;
  }

  /** The events that the poll of this entry has returned, as indexes, as far as they are near. */
  get eventsOfPoll() {
    const { recording } = this;
    const { dispatched, reported } = this.eventsOfTurn;
    // Events of earlier polls of the turn are handled first. Each is handled before the next is noted.
    let before = reported - dispatched - this.first;
    const found = [];
    for (const index of this.nextOfLoop()) {
      const kind = recording.kindName(index);
      if (kind === 'turn-end' || found.length >= this.first) break;
      if (kind !== 'readiness' && kind !== 'stale-event') continue;
      if (before > 0) before -= 1;
      else found.push(index);
    }
    return found;
  }

  /** How long after the entry its deadline is, in nanoseconds; null if it is not known. */
  get timeToDeadline() {
    // The number counts from the creation of the loop, as the time of the page does from that of the earliest loop.
    const deadline = this.first + (this.recording.loops[this.loopIndex].startedAfter ?? 0);
    return Number.isFinite(deadline) ? deadline - this.time : null;
  }
}
