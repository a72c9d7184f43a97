// The facts that the sentences about an entry use.

/** How many entries a look around reads at most: a turn of a large loop has more events, but not often. */
const LOOK_AROUND_MAX = 4096;

/** Entries of a connection between two of its reads that do not end the reading. */
const BETWEEN_READS = [
  'callback-begin', 'callback-end', 'write', 'shutdown-write', 'deadline-set', 'paused', 'resumed', 'message',
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
    this.loop = state?.loops?.[this.loopIndex] ?? {};
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

  /** The next entries of the same object, as indexes. */
  * nextOfObject() {
    const entries = this.recording.entriesOf(this.lane);
    let [low, high] = [0, entries.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (entries[middle] <= this.index) low = middle + 1;
      else high = middle;
    }
    yield* entries.subarray(low, low + LOOK_AROUND_MAX);
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

  /** The entries of the loop after this one, as indexes. */
  * nextOfLoop() {
    const number = this.recording.numberOf(this.index);
    for (let step = 1; step <= LOOK_AROUND_MAX; step += 1) {
      const index = this.recording.indexOf(this.loopIndex, number + step);
      if (index === undefined) return;
      yield index;
    }
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
