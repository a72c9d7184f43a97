// Builds the recording of a page from readable entries, for tests.

const KINDS = `
poll-begin timeout_ns | poll-end events more | turn-end progress | lost entries same_turn
readiness flags event_generation
stale-event flags event_generation | existing descriptor listener_slot | listening descriptor | bound descriptor
watching descriptor interests | accept descriptor no_client | refused per_source | full connections
opened descriptor listener_slot | connect descriptor inherited | connected | registered | deregistered
read bytes of | write bytes of | shutdown-write - both | option-set level option | input-stopped shutdown
receive-batch datagrams of
datagram-in bytes cut | send-batch messages of | datagram-out bytes | callback-begin callback input
callback-end callback consumed | paused | resumed | deferred | awaits-memory | deadline-set deadline_ns
deadline-fired deadline_ns | message is_note value | backoff pause_ns | recovered failures elapsed_ns
closed reason reset | freed | drain timeout_ns | peer-connect | peer-send bytes | peer-receive bytes | peer-urgent
peer-fin | peer-reset | peer-eof | peer-was-reset | peer-datagram-out bytes | peer-datagram-in bytes
peer-datagram-lost bytes`.trim().split(/[|\n]/).map((row) => row.trim().split(' '));

/** The kinds of entries, in order, with the names of their numbers. */
export const ENTRY_KINDS = KINDS.map(([name, ...numbers]) => (
  { name, numbers: [0, 1].map((at) => (numbers[at] && numbers[at] !== '-' ? numbers[at] : null)) }
));
const OBJECT_KINDS = ['loop', 'connection', 'listener', 'udp-socket', 'timer', 'watch', 'handler', 'peer'];
const CALLBACKS = ['on_start', 'on_open', 'on_data', 'on_eof', 'on_flushed', 'on_timeout', 'on_drain', 'on_notify',
  'on_close', 'on_connect_failed', 'on_timer', 'on_watch', 'job', 'on_datagram'];
const REASONS = ['eof', 'local', 'aborted', 'reset', 'timed-out', 'write-stalled', 'input-overflow', 'invalid-input',
  'out-of-memory', 'drained', 'panicked', 'rejected', 'io'];
const ERROR_NAMES = { 4: 'EINTR', 11: 'EAGAIN', 24: 'EMFILE', 32: 'EPIPE', 104: 'ECONNRESET', 111: 'ECONNREFUSED' };
const ERROR_TEXTS = { 4: 'Interrupted system call', 11: 'Resource temporarily unavailable', 24: 'Too many open files',
  32: 'Broken pipe', 104: 'Connection reset by peer', 111: 'Connection refused' };
const OF_LOOP = ['poll-begin', 'poll-end', 'turn-end', 'stale-event'];
const NAMES_ITS_OBJECT = ['existing', 'opened', 'listening', 'bound', 'peer-connect', 'peer-datagram-out'];

/**
 * Builds a recording from entries such as
 * `['read', 'connection 3#17', [18, 65536], { at: 5000, errno: 'EAGAIN', loop: 1, address: '10.0.0.9:4000' }]`:
 * a kind, an object with its slot and generation (`'loop'` if missing), two numbers, options. A number may be the name
 * of a callback or a close reason. `at` is in nanoseconds; without it an entry has the time of the entry before.
 * The entries are in the order of the page. `options` has `loops`, the names of the loops, and `findings`.
 */
export function buildRecording(entries, { loops = ['main'], findings = [], title = 'test' } = {}) {
  const columns = {
    kind: new Uint8Array(entries.length), object: new Uint32Array(entries.length),
    time: new Float64Array(entries.length), first: new Float64Array(entries.length),
    second: new Float64Array(entries.length), errno: new Uint16Array(entries.length),
    objectKind: new Uint8Array(entries.length), slot: new Uint32Array(entries.length),
  };
  const lanes = new Lanes(loops);
  const details = { addresses: new Map(), payloads: new Map(), large: new Map() };
  let time = 0;
  entries.forEach(([kind, object = 'loop', numbers = [], options = {}], index) => {
    time = options.at ?? time;
    const { kindIndex, slot, generation } = parseObject(object);
    const lane = lanes.of(kind, options.loop ?? 0, kindIndex, slot, generation, options.address);
    const values = [0, 1].map((at) => numberOf(numbers[at] ?? 0, kind));
    values.forEach((value, at) => { if (typeof value === 'bigint') details.large.set(2 * index + at, value); });
    if (options.address !== undefined) details.addresses.set(index, options.address);
    if (options.payload !== undefined) details.payloads.set(index, new TextEncoder().encode(options.payload));
    columns.kind[index] = kindNumber(kind);
    columns.object[index] = lane;
    columns.time[index] = time;
    [columns.first[index], columns.second[index]] = values.map(Number);
    columns.errno[index] = errnoOf(options.errno);
    columns.objectKind[index] = kindIndex;
    columns.slot[index] = slot;
  });
  return { title, entryCount: entries.length, ...constants(), ...columns, ...lookups(columns, lanes, details), findings,
    loops: loops.map((name, index) => (
      { index, name, entryCount: entries.filter(([, , , options]) => (options?.loop ?? 0) === index).length }
    )),
    objects: lanes.list };
}

function constants() {
  return {
    kinds: ENTRY_KINDS, objectKinds: OBJECT_KINDS, callbacks: CALLBACKS, reasons: REASONS, errorNames: ERROR_NAMES,
    errorTexts: ERROR_TEXTS, kindIndex: Object.fromEntries(ENTRY_KINDS.map(({ name }, index) => [name, index])),
  };
}

/** The lanes of the objects, in the order of their first entries; the lanes of the loops come first. */
class Lanes {
  constructor(loops) {
    this.list = loops.map((name, index) => (
      { index, loop: index, kind: 'loop', slot: 0, generation: 0, address: null, name }
    ));
    this.byKey = new Map();
  }

  of(kind, loop, kindIndex, slot, generation, address) {
    const objectKind = OBJECT_KINDS[kindIndex];
    const isOfLoop = OF_LOOP.includes(kind) || ['loop', 'handler'].includes(objectKind)
      || (objectKind !== 'peer' && generation === 0);
    if (isOfLoop) return loop;
    const key = `${loop} ${objectKind} ${slot} ${generation}`;
    if (!this.byKey.has(key)) {
      this.byKey.set(key, this.list.length);
      this.list.push({ index: this.list.length, loop, kind: objectKind, slot, generation, address: null, name: '' });
    }
    const lane = this.list[this.byKey.get(key)];
    if (NAMES_ITS_OBJECT.includes(kind) && address !== undefined) lane.address = address;
    lane.name = [objectKind, lane.address, `#${objectKind === 'peer' ? slot : generation}`]
      .filter((part) => part !== null).join(' ');
    return lane.index;
  }
}

/** The methods of a recording. */
function lookups(columns, lanes, { addresses, payloads, large }) {
  const loopOf = (index) => lanes.list[columns.object[index]].loop;
  const all = [...columns.kind.keys()];
  const byLoop = new Map();
  const numbers = all.map((index) => {
    const loop = loopOf(index);
    if (!byLoop.has(loop)) byLoop.set(loop, []);
    return byLoop.get(loop).push(index) - 1;
  });
  return {
    loopOf,
    numberOf: (index) => numbers[index],
    indexOf: (loop, number) => byLoop.get(loop)?.[number],
    kindName: (index) => ENTRY_KINDS[columns.kind[index]].name,
    exact: (index, which) => large.get(2 * index + which) ?? (which === 0 ? columns.first : columns.second)[index],
    addressOf: (index) => addresses.get(index),
    payloadOf: (index) => payloads.get(index),
    entriesOf: (object) => Uint32Array.from(all.filter((index) => columns.object[index] === object)),
  };
}

function parseObject(text) {
  const [kind, slot, generation] = text.split(/[ #]/);
  const kindIndex = OBJECT_KINDS.indexOf(kind);
  if (kindIndex < 0) throw new Error(`unknown object: ${text}`);
  return { kindIndex, slot: Number(slot ?? 0), generation: Number(generation ?? 0) };
}

function kindNumber(kind) {
  const index = ENTRY_KINDS.findIndex(({ name }) => name === kind);
  if (index < 0) throw new Error(`unknown kind: ${kind}`);
  return index;
}

function numberOf(number, kind) {
  if (typeof number !== 'string') return number;
  const index = (kind === 'closed' ? REASONS : CALLBACKS).indexOf(number);
  if (index < 0) throw new Error(`unknown callback or reason: ${number}`);
  return index;
}

function errnoOf(error) {
  if (error === undefined || typeof error === 'number') return error ?? 0;
  const found = Object.entries(ERROR_NAMES).find(([, name]) => name === error);
  if (!found) throw new Error(`unknown error: ${error}`);
  return Number(found[0]);
}
