// Decodes the recording inside the page.

/** The number of 7-bit bytes up to which a number is exact as a double. */
const EXACT_BYTES = 7;

/** Reads numbers of 7 bits a byte, the lowest first. */
class ColumnReader {
  constructor(base64) {
    const text = atob(base64);
    this.bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at += 1) this.bytes[at] = text.charCodeAt(at);
    this.at = 0;
  }

  /** The next number: a BigInt if it may be too large for a double. */
  next() {
    const start = this.at;
    let number = 0;
    let factor = 1;
    for (;;) {
      const byte = this.bytes[this.at];
      this.at += 1;
      number += (byte & 0x7f) * factor;
      if (byte < 0x80) break;
      factor *= 128;
    }
    return this.at - start <= EXACT_BYTES ? number : this.large(start);
  }

  large(start) {
    let number = 0n;
    for (let at = this.at - 1; at >= start; at -= 1) number = (number << 7n) | BigInt(this.bytes[at] & 0x7f);
    return number;
  }

  /** The next difference: its lowest bit is its sign. */
  difference() {
    const number = Number(this.next());
    return number % 2 === 0 ? number / 2 : -(number + 1) / 2;
  }
}

/** The recording of a page: columns by the index of the entry, lanes, loops and findings. */
class DecodedRecording {
  constructor(data) {
    this.title = data.title;
    this.entryCount = data.entryCount;
    this.kinds = data.kinds.map(([name, numbers]) => ({ name, numbers }));
    this.kindIndex = Object.fromEntries(data.kinds.map(([name], index) => [name, index]));
    this.objectKinds = data.objectKinds;
    this.callbacks = data.callbacks;
    this.reasons = data.reasons;
    this.errorNames = mapValues(data.errors, ([name]) => name);
    this.errorTexts = mapValues(data.errors, ([, text]) => text);
    this.loops = data.loops.map(([name, startedAfter], index) => (
      { index, name, startedAfter: Number(startedAfter), entryCount: 0 }
    ));
    this.objects = data.lanes.map((lane, index) => this.lane(lane, index, data.addresses));
    this.decodeColumns(data);
    this.indexLanes();
    this.findings = data.findings.map(({ lane, ...finding }) => (
      { ...finding, object: lane, number: Number(finding.number), time: Number(finding.time) }
    ));
  }

  lane([loop, kindIndex, slot, generation, address], index, addresses) {
    const kind = this.objectKinds[kindIndex];
    const text = address === null ? null : addresses[address] || null;
    const id = kind === 'peer' ? slot : generation;
    const name = kind === 'loop' ? this.loops[loop].name : [kind, text, `#${id}`].filter((part) => part !== null).join(' ');
    return { index, loop, kind, slot, generation, address: text, name };
  }

  decodeColumns(data) {
    const count = data.entryCount;
    Object.assign(this, {
      kind: new Uint8Array(count), object: new Uint32Array(count), time: new Float64Array(count),
      first: new Float64Array(count), second: new Float64Array(count), errno: new Uint16Array(count),
      objectKind: new Uint8Array(count), slot: new Uint32Array(count), number: new Uint32Array(count),
      large: new Map(), addresses: new Map(), payloads: new Map(),
    });
    const readers = mapValues(data.columns, (base64) => new ColumnReader(base64));
    let lane = 0;
    let time = 0;
    for (let index = 0; index < count; index += 1) {
      const [kind, objectKind, errno, flags] = data.shapes[readers.shape.next()];
      lane += readers.lane.difference();
      time += readers.time.difference();
      this.kind[index] = kind;
      this.objectKind[index] = objectKind;
      this.errno[index] = errno;
      this.object[index] = lane;
      this.time[index] = time;
      this.first[index] = this.toNumber(readers.first.next(), index * 2);
      this.second[index] = this.toNumber(readers.second.next(), index * 2 + 1);
      this.slot[index] = flags & 4 ? readers.slot.next() : this.objects[lane].slot;
      if (flags & 1) this.addresses.set(index, data.addresses[readers.address.next()]);
      if (flags & 2) this.payloads.set(index, takeBytes(readers.payload, readers.payloadLength.next()));
      const loop = this.loops[this.objects[lane].loop];
      this.number[index] = loop.entryCount;
      loop.entryCount += 1;
    }
  }

  /** A number of an entry, which the column has plus 1; 0 is none. */
  toNumber(number, key) {
    if (number === 0) return Infinity;
    if (typeof number === 'number') return number - 1;
    this.large.set(key, number - 1n);
    return Number(number - 1n);
  }

  /** Sorts the indexes of the entries by lane, and by loop. */
  indexLanes() {
    this.laneEnds = new Uint32Array(this.objects.length);
    for (const lane of this.object) this.laneEnds[lane] += 1;
    const starts = new Uint32Array(this.objects.length);
    let sum = 0;
    this.laneEnds.forEach((length, lane) => {
      starts[lane] = sum;
      sum += length;
      this.laneEnds[lane] = sum;
    });
    this.laneEntries = new Uint32Array(this.entryCount);
    this.loopEntries = this.loops.map((loop) => new Uint32Array(loop.entryCount));
    for (let index = 0; index < this.entryCount; index += 1) {
      const lane = this.object[index];
      this.laneEntries[starts[lane]] = index;
      starts[lane] += 1;
      this.loopEntries[this.objects[lane].loop][this.number[index]] = index;
    }
  }

  /** The word of the kind of an entry. */
  kindName(index) {
    return this.kinds[this.kind[index]].name;
  }

  /** The index of the loop of an entry. */
  loopOf(index) {
    return this.objects[this.object[index]].loop;
  }

  /** The index of an entry within its loop. */
  numberOf(index) {
    return this.number[index];
  }

  /** The index of an entry, by its loop and its index within it; undefined if there is none. */
  indexOf(loop, number) {
    return this.loopEntries[loop]?.[number];
  }

  /** One of the two numbers of an entry: a BigInt if a double is not exact. */
  exact(index, which) {
    return this.large.get(index * 2 + which) ?? (which === 0 ? this.first : this.second)[index];
  }

  /** The address in the detail of an entry. */
  addressOf(index) {
    return this.addresses.get(index);
  }

  /** The recorded bytes of an entry. */
  payloadOf(index) {
    return this.payloads.get(index);
  }

  /** The indexes of the entries of a lane, ascending. */
  entriesOf(lane) {
    return this.laneEntries.subarray(lane === 0 ? 0 : this.laneEnds[lane - 1], this.laneEnds[lane]);
  }
}

function mapValues(object, change) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}

function takeBytes(reader, length) {
  reader.at += length;
  return reader.bytes.subarray(reader.at - length, reader.at);
}

/** The position in a sorted array of the first number that is at least `least`, from `low` on. */
export function lowerBoundOf(sorted, least, low = 0, high = sorted.length) {
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle] < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Decodes the JSON of the page. */
export function decodeRecording(data) {
  return new DecodedRecording(data);
}
