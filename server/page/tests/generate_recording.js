// Writes recordings: of given entries, or of any number of likely ones.

import { closeSync, openSync, writeSync } from 'node:fs';

const FLUSH_CHARS = 1 << 20;
const MICROSECOND = 1_000;
const MILLISECOND = 1_000_000;

/** Entries of the loop itself. */
export const LOOP = { object: 'loop' };

/** The file of a recording: its entries come one by one. */
export class RecordingFile {
  constructor(path, loops = ['worker 1']) {
    this.descriptor = openSync(path, 'w');
    this.entryCount = 0;
    this.time = 0;
    const parts = loops.map((name, index) => ({ pid: 2 * index + 1, peers: 2 * index + 2, name, started_after_ns: 0 }));
    const otherData = { format: 'halloo recording', version: 1, loops: parts };
    this.text = `${JSON.stringify({ otherData, displayTimeUnit: 'ns', traceEvents: [] }).slice(0, -2)}`;
  }

  /** Adds an entry about `object` ({ object, slot, generation }), with the numbers and details in `fields`. */
  add(kind, object = LOOP, fields = {}, loop = 0) {
    const args = { kind, ...object, ...fields, time_ns: Math.round(this.time) };
    this.text += `${this.entryCount === 0 ? '' : ','}\n${JSON.stringify({ ph: 'i', pid: 2 * loop + 1, args })}`;
    this.entryCount += 1;
    if (this.text.length > FLUSH_CHARS) this.flush();
  }

  flush() {
    writeSync(this.descriptor, this.text);
    this.text = '';
  }

  close() {
    this.text += '\n]}\n';
    this.flush();
    closeSync(this.descriptor);
  }
}

/**
 * Writes what a greeting server of `clients` clients might do, cut after `entries` entries. The same options give the same
 * file. Each 20,000th entry or so is in a slow callback.
 */
export function generateRecording(path, { entries, clients = 300 }) {
  const file = new RecordingFile(path);
  const loop = new LikelyLoop(file, entries, clients);
  loop.begin();
  while (file.entryCount < entries) loop.turn();
  file.close();
}

/** Random numbers below 1 that are the same in each run (mulberry32). */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A loop with a listener, a UDP socket and connections. */
class LikelyLoop {
  constructor(file, entries, clients) {
    Object.assign(this, { file, entries, clients, random: randomNumbers(16), generation: 2, slow: 0 });
    this.listener = { object: 'listener', slot: 0, generation: 1 };
    this.socket = { object: 'udp-socket', slot: 0, generation: 2 };
    this.connections = [];
    this.freeSlots = [];
    this.slotCount = 0;
  }

  below(limit) {
    return Math.floor(this.random() * limit);
  }

  add(kind, object, fields) {
    if (this.file.entryCount < this.entries) this.file.add(kind, object, fields);
  }

  begin() {
    this.add('existing', this.listener, { descriptor: 7, listener_slot: 0, address: '10.0.0.1:1234' });
    this.add('existing', this.socket, { descriptor: 8, listener_slot: 0, address: '10.0.0.1:1234' });
  }

  turn() {
    this.add('poll-begin', LOOP, { timeout_ns: 60_000 * MILLISECOND });
    this.file.time += this.random() < 0.1 ? this.below(4 * MILLISECOND) : 2 * MICROSECOND + this.below(20 * MICROSECOND);
    const missing = this.clients - this.connections.length;
    const ready = this.connections.filter(({ talks }) => talks).slice(0, 400).filter(() => this.random() < 0.08);
    const events = [() => this.accept(missing)].filter(() => missing > 0)
      .concat([() => this.datagrams()].filter(() => this.random() < 0.1), ready.map((each) => () => this.serve(each)));
    this.add('poll-end', LOOP, { events: events.length, more: 0 });
    events.forEach((handle) => handle());
    this.file.time += 3 * MICROSECOND;
    this.add('turn-end', LOOP, { progress: 1 });
  }

  readiness(object, flags) {
    this.add('readiness', object, { flags, event_generation: object.generation });
  }

  callback(callback, object, input, consumed = 0) {
    this.add('callback-begin', object, { callback, input });
    const isSlow = this.file.entryCount > 20_000 * (this.slow + 1);
    if (isSlow) this.slow += 1;
    this.file.time += isSlow ? 83 * MILLISECOND : 4 * MICROSECOND + this.below(40 * MICROSECOND);
    this.add('callback-end', object, { callback, consumed });
  }

  accept(missing) {
    this.readiness(this.listener, 1);
    for (let count = Math.min(missing, 1 + this.below(8)); count > 0; count -= 1) this.open();
    this.add('accept', this.listener, { descriptor: 0, errno: 11, error: 'EAGAIN' });
  }

  open() {
    const slot = this.freeSlots.pop() ?? this.slotCount;
    this.slotCount = Math.max(this.slotCount, slot + 1);
    this.generation += 1;
    const id = { object: 'connection', slot, generation: this.generation };
    const descriptor = 9 + slot;
    const address = `10.0.${this.below(8)}.${this.below(250) + 1}:${20_000 + this.below(40_000)}`;
    this.add('accept', this.listener, { descriptor });
    this.add('opened', id, { descriptor, listener_slot: 0, address });
    this.callback('on_open', id, 0);
    this.add('read', id, { bytes: 0, of: 65_536, errno: 11, error: 'EAGAIN' });
    this.add('registered', id);
    this.add('deadline-set', id, { deadline_ns: Math.round(this.file.time) + 60_000 * MILLISECOND });
    this.connections.push({ id, talks: this.random() < 0.5, exchanges: 1 + this.below(60) });
  }

  serve(connection) {
    const { id } = connection;
    connection.exchanges -= 1;
    if (connection.exchanges < 0) {
      this.end(connection);
      return;
    }
    const bytes = 2 + this.below(200);
    this.readiness(id, 3);
    this.add('read', id, { bytes, of: 65_536 });
    this.callback('on_data', id, bytes, bytes);
    this.add('write', id, { bytes: 19, of: 19 });
  }

  /** The client sends a FIN, or an RST. */
  end(connection) {
    const { id } = connection;
    const isReset = this.random() < 0.2;
    this.readiness(id, isReset ? 25 : 5);
    this.add('read', id, { bytes: 0, of: 65_536, ...(isReset ? { errno: 104, error: 'ECONNRESET' } : {}) });
    if (!isReset) {
      this.callback('on_eof', id, 0);
      this.add('shutdown-write', id, { both: 0 });
    }
    this.add('closed', id, { reason: isReset ? 'reset' : 'eof', reset: 0 });
    this.callback('on_close', id, 0);
    this.add('freed', id);
    this.connections.splice(this.connections.indexOf(connection), 1);
    this.freeSlots.push(id.slot);
  }

  datagrams() {
    const datagrams = 1 + this.below(4);
    const address = `10.0.9.${this.below(250) + 1}:5353`;
    const each = Array.from({ length: datagrams });
    this.readiness(this.socket, 1);
    this.add('receive-batch', this.socket, { datagrams, of: 8 });
    this.add('callback-begin', this.socket, { callback: 'on_datagram', input: datagrams });
    each.forEach(() => this.add('datagram-in', this.socket, { bytes: 7, cut: 0, address }));
    this.file.time += 20 * MICROSECOND;
    this.add('callback-end', this.socket, { callback: 'on_datagram', consumed: datagrams });
    this.add('send-batch', this.socket, { messages: datagrams, of: datagrams });
    each.forEach(() => this.add('datagram-out', this.socket, { bytes: 19, address }));
  }
}
