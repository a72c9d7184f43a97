// Tests of the replay: each way to a state gives the same.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PagedMap } from '../../recording/paged_map.js';
import { Replay } from '../../recording/replay.js';
import { ENTRY_KINDS, buildRecording } from '../recording_builder.js';

const CLIENT = 'connection 3#17';
const OPENED = ['opened', CLIENT, [9, 0]];

/** The replay of entries, with the state after the last. */
function replayOf(entries, options) {
  const recording = buildRecording(entries, options);
  const replay = new Replay(recording);
  return { recording, replay, last: replay.after(recording.entryCount - 1) };
}

/** The record of the only object after the entries, without what was not asked for. */
function recordAfter(entries, ...fields) {
  const { last } = replayOf(entries);
  const [record] = last.objects.values();
  return fields.map((field) => record[field]);
}

/** A state as plain data. */
function dump(state) {
  const loops = state.loops.map((loop) => ({
    phase: loop.phase, turn: loop.turn, timeout: loop.pollTimeout, pollBegan: loop.pollBegan, began: loop.turnBegan,
    callbacks: loop.callbacks, draining: loop.draining, reported: loop.reported, waiting: [...loop.waiting],
    deferred: [...loop.deferred], carried: loop.carried, timers: [...loop.timers],
  }));
  const maps = [...state.slots, ...state.deadlines].map((map) => [map.size, ...map]);
  return JSON.stringify([state.index, loops, state.objects.size, [...state.objects], maps]);
}

test('an accepted connection is open, may have input, and has a slot', () => {
  const { last, recording } = replayOf([['listening', 'listener 1#5', [6]], OPENED]);
  const lane = recording.object[1];
  const record = last.objects.get(lane);
  assert.equal(last.objects.size, 2);
  assert.deepEqual([record.fd, record.phase, record.registered, record.readable, record.writable, record.listener],
    [9, 'open', false, null, true, 0]);
  assert.deepEqual(last.slots[0].get(3), { object: lane, uses: 1, changed: 1 });
  assert.deepEqual([...last.objects.values()].map(({ phase }) => phase), ['listening', 'open']);
});

test('the state before an entry does not have its change', () => {
  const { replay, recording } = replayOf([OPENED, ['read', CLIENT, [18, 100]]]);
  const lane = recording.object[0];
  assert.equal(replay.before(1).objects.get(lane).bytesRead, 0);
  assert.equal(replay.after(1).objects.get(lane).bytesRead, 18);
  assert.equal(replay.before(1).objects.get(lane).bytesRead, 0);
});

test('a short read empties the socket, a full read does not, EAGAIN does', () => {
  assert.deepEqual(recordAfter([OPENED, ['read', CLIENT, [18, 100]]], 'readable', 'inbox'), [false, 18]);
  assert.deepEqual(recordAfter([OPENED, ['read', CLIENT, [100, 100]]], 'readable', 'inbox'), [true, 100]);
  const eagain = ['read', CLIENT, [0, 100], { errno: 'EAGAIN' }];
  assert.deepEqual(recordAfter([OPENED, ['read', CLIENT, [100, 100]], eagain], 'readable', 'eof'), [false, false]);
  const interrupted = ['read', CLIENT, [0, 100], { errno: 'EINTR' }];
  assert.deepEqual(recordAfter([OPENED, ['read', CLIENT, [100, 100]], interrupted], 'readable', 'eof'), [true, false]);
});

test('after read-to-end a short read is not the last; a read of 0 bytes is EOF', () => {
  const entries = [OPENED, ['readiness', CLIENT, [5, 17]], ['read', CLIENT, [18, 100]]];
  assert.deepEqual(recordAfter(entries, 'readable', 'eof'), [true, false]);
  assert.deepEqual(recordAfter([...entries, ['read', CLIENT, [0, 82]]], 'readable', 'eof'), [false, true]);
});

test('a failed read or write closes the connection', () => {
  assert.deepEqual(recordAfter([OPENED, ['read', CLIENT, [0, 9], { errno: 'ECONNRESET' }]], 'phase'), ['closing']);
  assert.deepEqual(recordAfter([OPENED, ['write', CLIENT, [0, 9], { errno: 'EPIPE' }]], 'phase', 'outbox'),
    ['closing', 9]);
});

test('the inbox has what was read and not consumed', () => {
  const read = [OPENED, ['read', CLIENT, [18, 100]]];
  const callback = [['callback-begin', CLIENT, ['on_data', 18]], ['callback-end', CLIENT, ['on_data', 12]]];
  const delivered = [...read, ...callback];
  assert.deepEqual(recordAfter(delivered, 'inbox'), [6]);
  const eof = [...delivered, ['read', CLIENT, [0, 100]], ['callback-begin', CLIENT, ['on_eof', 6]]];
  assert.deepEqual(recordAfter(eof, 'inbox'), [6]);
  assert.deepEqual(recordAfter([...eof, ['callback-end', CLIENT, ['on_eof', 0]]], 'inbox'), [0]);
  const paused = [...eof, ['paused', CLIENT], ['callback-end', CLIENT, ['on_eof', 0]]];
  assert.deepEqual(recordAfter(paused, 'inbox', 'paused'), [6, true]);
  assert.deepEqual(recordAfter([...paused, ['resumed', CLIENT]], 'paused'), [false]);
});

test('a callback that panicked leaves the inbox as it was', () => {
  const entries = [OPENED, ['read', CLIENT, [18, 100]], ['callback-begin', CLIENT, ['on_data', 18]]];
  assert.deepEqual(recordAfter([...entries, ['callback-end', CLIENT, ['on_data', Infinity]]], 'inbox'), [18]);
});

test('the outbox has what the kernel did not accept', () => {
  const short = [OPENED, ['write', CLIENT, [60, 100]]];
  assert.deepEqual(recordAfter(short, 'outbox', 'writable', 'bytesWritten'), [40, true, 60]);
  const blocked = [...short, ['write', CLIENT, [0, 40], { errno: 'EAGAIN' }]];
  assert.deepEqual(recordAfter(blocked, 'outbox', 'writable'), [40, false]);
  assert.deepEqual(recordAfter([...blocked, ['readiness', CLIENT, [2, 17]]], 'writable', 'readable'), [true, null]);
  assert.deepEqual(recordAfter([...blocked, ['write', CLIENT, [40, 40]]], 'outbox', 'bytesWritten'), [0, 100]);
});

test('a FIN closes a connection if no callback but that of the close follows', () => {
  const fin = [OPENED, ['shutdown-write', CLIENT]];
  const closed = [['closed', CLIENT, ['local']], ['callback-begin', CLIENT, ['on_close']]];
  const phaseAfter = (rest) => {
    const { replay, recording } = replayOf([...fin, ...rest]);
    return replay.after(1).objects.get(recording.object[0]).phase;
  };
  assert.equal(phaseAfter([['read', CLIENT, [0, 100]], ...closed]), 'closing');
  const input = [['read', CLIENT, [9, 100]], ['callback-begin', CLIENT, ['on_data', 9]]];
  assert.equal(phaseAfter([...input, ...closed]), 'open');
  assert.equal(phaseAfter([]), 'open');
});

test('late input of a closing connection is discarded', () => {
  const entries = [OPENED, ['shutdown-write', CLIENT], ['read', CLIENT, [50, 100]], ['closed', CLIENT, ['local']]];
  const { replay, recording } = replayOf(entries);
  const { inbox, bytesRead } = replay.after(2).objects.get(recording.object[0]);
  assert.deepEqual([inbox, bytesRead], [0, 50]);
});

test('a closed connection keeps its slot until it is freed, and the next use of the slot is counted', () => {
  const entries = [OPENED, ['closed', CLIENT, ['eof']], ['freed', CLIENT], ['opened', 'connection 3#18', [9, 0]]];
  const { replay, recording } = replayOf(entries);
  const [first, second] = [recording.object[0], recording.object[3]];
  const { phase, lastReason } = replay.after(1).objects.get(first);
  assert.deepEqual([phase, lastReason], ['closed', 'eof']);
  assert.deepEqual(replay.after(1).slots[0].get(3), { object: first, uses: 1, changed: 0 });
  assert.equal(replay.after(2).objects.has(first), false);
  assert.deepEqual(replay.after(2).slots[0].get(3), { object: null, uses: 1, changed: 2 });
  assert.deepEqual(replay.after(3).slots[0].get(3), { object: second, uses: 2, changed: 3 });
});

test('a slot that is used again without the end of its connection has only the new one', () => {
  const next = ['opened', 'connection 3#18', [9, 0]];
  const entries = [OPENED, ['deadline-set', CLIENT, [50]], ['lost', 'loop', [7]], next];
  const { last, recording } = replayOf(entries);
  assert.deepEqual([...last.objects.keys()], [recording.object[3]]);
  assert.equal(last.slots[0].get(3).uses, 2);
  assert.equal(last.deadlines[0].size, 0);
});

test('a stale event changes nothing', () => {
  const { replay } = replayOf([OPENED, ['stale-event', 'connection 3#18', [1, 17]]]);
  const withoutIndex = (state) => dump(state).replace(/^\[\d+/, '');
  assert.equal(withoutIndex(replay.after(1)), withoutIndex(replay.before(1)));
  const other = replayOf([OPENED, ['readiness', CLIENT, [1, 16]]]);
  assert.equal(withoutIndex(other.replay.after(1)), withoutIndex(other.replay.before(1)));
});

test('an entry after the close does not open the object again', () => {
  const watch = 'watch 1#4';
  const entries = [['watching', watch, [7, 1]], ['closed', watch], ['read', watch, [1, 2]]];
  assert.equal(replayOf(entries).last.objects.size, 0);
});

test('an outbound connection connects, and opens', () => {
  const begun = [['opened', CLIENT, [0, 2]], ['connect', CLIENT, [9, 0]]];
  assert.deepEqual(recordAfter(begun.slice(0, 1), 'phase', 'fd'), ['connecting', null]);
  assert.deepEqual(recordAfter(begun, 'phase', 'fd'), ['connecting', 9]);
  assert.deepEqual(recordAfter([...begun, ['connected', CLIENT]], 'phase', 'writable'), ['open', true]);
  assert.deepEqual(recordAfter([...begun, ['connected', CLIENT, [], { errno: 'ECONNREFUSED' }]], 'phase'), ['closing']);
  const inherited = [begun[0], ['connect', CLIENT, [9, 1]], ['callback-begin', CLIENT, ['on_open']]];
  assert.deepEqual(recordAfter(inherited, 'phase'), ['open']);
});

test('registered and deregistered, and a failure to register', () => {
  assert.deepEqual(recordAfter([OPENED, ['registered', CLIENT]], 'registered'), [true]);
  assert.deepEqual(recordAfter([OPENED, ['registered', CLIENT, [], { errno: 24 }]], 'registered'), [false]);
  const deregistered = [OPENED, ['registered', CLIENT], ['deregistered', CLIENT]];
  assert.deepEqual(recordAfter(deregistered, 'registered'), [false]);
});

test('a listener waits for room, and for the end of a pause', () => {
  const listener = 'listener 0#1';
  const listening = [['listening', listener, [6]]];
  const full = [...listening, ['full', listener, [100]]];
  assert.deepEqual(recordAfter(full, 'full', 'phase'), [true, 'listening']);
  assert.deepEqual(recordAfter([...full, ['accept', listener, [9]]], 'full', 'readable'), [false, true]);
  const failed = [...listening, ['accept', listener, [0], { errno: 'EMFILE', at: 100 }]];
  const paused = [...failed, ['backoff', listener, [50], { errno: 'EMFILE' }]];
  assert.deepEqual(recordAfter(paused, 'backoffUntil', 'deadline'), [150, 150]);
  assert.deepEqual([...replayOf(paused).last.deadlines[0]], [[1, 150]]);
  const tried = [...paused, ['accept', listener, [0], { errno: 'EAGAIN' }], ['recovered', listener, [1, 50]]];
  assert.deepEqual(recordAfter(tried, 'backoffUntil', 'deadline', 'readable'), [null, null, false]);
});

test('a UDP socket counts the bytes of its datagrams', () => {
  const socket = 'udp-socket 0#2';
  const entries = [['bound', socket, [7]], ['receive-batch', socket, [1, 32]], ['datagram-in', socket, [30]],
    ['datagram-out', socket, [20]], ['datagram-out', socket, [9], { errno: 'ECONNREFUSED' }]];
  assert.deepEqual(recordAfter(entries, 'bytesRead', 'bytesWritten', 'readable'), [30, 20, false]);
});

test('a connection waits for memory until it is read or deferred', () => {
  const waits = [OPENED, ['awaits-memory', CLIENT]];
  assert.deepEqual(recordAfter(waits, 'awaitsMemory'), [true]);
  assert.deepEqual(recordAfter([...waits, ['deferred', CLIENT]], 'awaitsMemory'), [false]);
  assert.deepEqual(recordAfter([...waits, ['read', CLIENT, [1, 9]]], 'awaitsMemory'), [false]);
});

test('deadlines are set, pass, and end with their object', () => {
  const set = [OPENED, ['deadline-set', CLIENT, [700]]];
  assert.deepEqual([...replayOf(set).last.deadlines[0]], [[1, 700]]);
  assert.equal(replayOf([...set, ['deadline-fired', CLIENT, [700]]]).last.deadlines[0].size, 0);
  assert.equal(replayOf([...set, ['closed', CLIENT, ['eof']]]).last.deadlines[0].size, 0);
});

test('the deadline of a later loop counts from the creation of that loop', () => {
  const recording = buildRecording([['deadline-set', 'timer 0#3', [700]]]);
  recording.loops[0].startedAfter = 1000;
  assert.deepEqual([...new Replay(recording).after(0).deadlines[0]], [[1, 1700]]);
});

test('a timer ends when it has fired, unless it is set again', () => {
  const fired = [['deadline-set', 'timer 0#3', [700]], ['deadline-fired', 'timer 0#3', [700]],
    ['callback-begin', 'timer 0#3', ['on_timer', 0]], ['callback-end', 'timer 0#3', ['on_timer', 0]]];
  assert.equal(replayOf(fired.slice(0, 3)).last.objects.size, 1);
  assert.equal(replayOf(fired).last.objects.size, 0);
  const again = ['deadline-set', 'timer 0#3', [900]];
  assert.deepEqual(recordAfter([...fired, again], 'deadline'), [900]);
  assert.deepEqual(recordAfter([...fired.slice(0, 3), again, fired[3]], 'deadline'), [900]);
});

test('a timer that was removed has no deadline after a poll that may wait longer', () => {
  const entries = [['deadline-set', 'timer 0#3', [700]], ['deadline-set', 'timer 1#4', [9e9]]];
  const deadlines = (timeout) => {
    const { last } = replayOf([...entries, ['poll-begin', 'loop', [timeout]]]);
    return [...last.deadlines[0].keys()];
  };
  assert.deepEqual(deadlines(0), [1, 2]);
  assert.deepEqual(deadlines(700), [1, 2]);
  assert.deepEqual(deadlines(9e9), [2]);
  assert.deepEqual(deadlines(Infinity), []);
});

test('the loop polls, works and ends; turns are counted from 1', () => {
  const poll = [['poll-begin', 'loop', [Infinity], { at: 10 }], ['poll-end', 'loop', [0], { at: 20 }]];
  const turn = [...poll, ['turn-end', 'loop', [1]]];
  const { replay } = replayOf([...turn, ...turn]);
  const loop = (index) => replay.after(index).loops[0];
  assert.equal(replay.before(0).loops[0].turn, 0);
  assert.deepEqual([0, 1, 2, 3, 5].map((index) => [loop(index).phase, loop(index).turn]),
    [['poll', 1], ['work', 1], ['work', 1], ['poll', 2], ['ended', 2]]);
  assert.deepEqual([loop(1).pollTimeout, loop(1).pollBegan, loop(1).turnBegan], [Infinity, 10, 20]);
});

test('a turn may poll several times: after an interrupted poll, and while more events follow', () => {
  const poll = (numbers, options) => [['poll-begin', 'loop', [0]], ['poll-end', 'loop', numbers, options]];
  const entries = [...poll([0], { errno: 'EINTR' }), ...poll([1, 1]), ...poll([1]), OPENED,
    ['readiness', CLIENT, [1, 17]], ['turn-end'], ...poll([0])];
  const { replay, recording } = replayOf(entries);
  assert.deepEqual([5, 9].map((index) => replay.after(index).loops[0].turn), [1, 2]);
  assert.deepEqual(replay.after(3).loops[0].reported, [recording.object[6]]);
  assert.deepEqual(replay.after(9).loops[0].reported, []);
});

test('what the poll reported waits until it is served', () => {
  const listener = 'listener 0#1';
  const entries = [['listening', listener, [6]], OPENED, ['poll-end', 'loop', [3]], ['readiness', listener, [1, 1]],
    ['readiness', CLIENT, [1, 17]], ['readiness', 'loop', [1, 0]], ['accept', listener, [0], { errno: 'EAGAIN' }],
    ['message', 'loop', [0]], ['turn-end']];
  const { replay, recording } = replayOf(entries);
  const [ofListener, ofConnection] = [recording.object[0], recording.object[1]];
  const waiting = (index) => [...replay.before(index).loops[0].waiting];
  assert.deepEqual(replay.before(3).loops[0].reported, [ofListener, ofConnection, 0]);
  assert.deepEqual(waiting(3), [ofListener, ofConnection, 0]);
  assert.deepEqual(waiting(5), [ofListener, 0]);
  assert.deepEqual(waiting(7), [0]);
  assert.deepEqual(waiting(8), []);
});

test('a deferred object waits until the next turn has served it', () => {
  const other = 'connection 4#18';
  const turn = [['poll-begin', 'loop', [0]], ['poll-end', 'loop', [0]]];
  const entries = [OPENED, ['opened', other, [10, 0]],
    ...turn, ['deferred', other], ['deferred', CLIENT], ['turn-end'],
    ...turn, ['read', other, [100, 100]], ['deferred', other], ['turn-end']];
  const { replay, recording } = replayOf(entries);
  const [lane, otherLane] = [recording.object[0], recording.object[1]];
  const deferred = (index) => [...replay.after(index).loops[0].deferred];
  assert.deepEqual(deferred(8), [otherLane, lane]);
  assert.deepEqual([...replay.after(8).loops[0].waiting], [otherLane, lane]);
  assert.deepEqual(deferred(9), [lane]);
  assert.deepEqual(deferred(11), [otherLane]);
});

test('callbacks are a stack; the end of the turn empties it', () => {
  const entries = [OPENED, ['callback-begin', CLIENT, ['on_data', 5], { at: 7 }],
    ['callback-begin', 'loop', ['on_start']], ['callback-end', 'loop', ['on_start']],
    ['callback-end', CLIENT, ['on_data', 5]]];
  const { replay, recording } = replayOf(entries);
  const stack = (index) => replay.after(index).loops[0].callbacks.map(({ callback }) => callback);
  assert.deepEqual([1, 2, 3, 4].map(stack), [['on_data'], ['on_data', 'on_start'], ['on_data'], []]);
  const running = { callback: 'on_data', object: recording.object[0], began: 7 };
  assert.deepEqual(replay.after(1).loops[0].callbacks, [running]);
  assert.deepEqual(replayOf([...entries.slice(0, 2), ['turn-end']]).last.loops[0].callbacks, []);
});

test('a drain begins', () => {
  assert.equal(replayOf([['drain', 'loop', [1e9]]]).last.loops[0].draining, true);
});

test('after lost entries the levels of the objects of that loop are unknown', () => {
  const entries = [OPENED, ['opened', 'connection 0#2', [9, 0], { loop: 1 }], ['read', CLIENT, [18, 100]],
    ['deferred', CLIENT], ['poll-end'], ['deadline-set', CLIENT, [50]], ['deferred', CLIENT],
    ['callback-begin', CLIENT, ['on_data', 18]], ['lost', 'loop', [10]]];
  const { last, recording } = replayOf(entries, { loops: ['one', 'two'] });
  const record = last.objects.get(recording.object[0]);
  const levels = ['registered', 'readable', 'writable', 'eof', 'inbox', 'outbox', 'paused', 'awaitsMemory', 'full',
    'deadline'];
  for (const field of levels) {
    assert.equal(record[field], null, field);
  }
  assert.deepEqual([record.fd, record.phase, record.bytesRead], [9, 'open', 18]);
  assert.deepEqual([last.deadlines[0].size, last.loops[0].callbacks, [...last.loops[0].waiting]], [0, [], []]);
  assert.deepEqual([last.loops[0].carried, [...last.loops[0].deferred]], [[], []]);
  assert.equal(last.objects.get(recording.object[1]).inbox, 0);
});

test('levels become known again', () => {
  const entries = [['lost', 'loop', [9]], ['existing', CLIENT, [9, 0]]];
  assert.deepEqual(recordAfter(entries, 'fd', 'phase', 'inbox', 'outbox', 'listener'), [9, 'open', null, null, 0]);
  const read = [...entries, ['read', CLIENT, [5, 9]]];
  assert.deepEqual(recordAfter(read, 'inbox', 'readable', 'eof'), [null, false, false]);
  assert.deepEqual(recordAfter([...entries, ['callback-begin', CLIENT, ['on_data', 7]]], 'inbox'), [7]);
  assert.deepEqual(recordAfter([...entries, ['write', CLIENT, [5, 9]]], 'outbox'), [4]);
});

test('an object without the entry that opened it is unknown', () => {
  assert.deepEqual(recordAfter([['write', CLIENT, [5, 9]]], 'phase', 'fd', 'inbox', 'outbox'), ['open', null, null, 4]);
  assert.equal(replayOf([['write', CLIENT, [5, 9]]]).last.slots[0].get(3).uses, 1);
});

test('each loop has its own turns, slots and deadlines', () => {
  const entries = [OPENED, ['opened', CLIENT, [10, 0], { loop: 1 }], ['poll-begin', 'loop', [5], { loop: 1 }],
    ['deadline-set', CLIENT, [70], { loop: 1 }]];
  const { last, recording } = replayOf(entries, { loops: ['one', 'two'] });
  assert.deepEqual(last.loops.map(({ turn, phase }) => [turn, phase]), [[0, 'work'], [1, 'poll']]);
  assert.deepEqual(last.slots.map((slots) => slots.get(3).object), [recording.object[0], recording.object[1]]);
  assert.deepEqual(last.deadlines.map(({ size }) => size), [0, 1]);
});

/** Numbers below a limit, always the same. */
function randomNumbers(seed) {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** Entries of all kinds about few objects, in no sensible order. */
function randomEntries(count, seed) {
  const random = randomNumbers(seed);
  const objects = ['connection', 'listener', 'udp-socket', 'timer', 'watch'];
  return Array.from({ length: count }, (_, index) => {
    const { name } = ENTRY_KINDS[random(ENTRY_KINDS.length)];
    const slot = random(5);
    const ofLoop = ['poll-begin', 'poll-end', 'turn-end', 'lost', 'message', 'drain'].includes(name);
    const ofPeer = name.startsWith('peer-');
    const object = ofPeer ? `peer ${slot}#0` : `${objects[random(objects.length)]} ${slot}#${1 + random(4)}`;
    const numbers = [random(3), random(3)].map((number) => (number === 2 ? Infinity : number * random(14)));
    if (name.startsWith('callback')) numbers[0] = random(14);
    const errno = random(4) === 0 ? [4, 11, 104][random(3)] : 0;
    return [name, ofLoop ? 'loop' : object, numbers, { at: index, errno, loop: random(2) }];
  });
}

test('every way to a state gives the same state', () => {
  const recording = buildRecording(randomEntries(3000, 7), { loops: ['one', 'two'] });
  const forward = new Replay(recording);
  const expected = [];
  for (let index = 0; index <= recording.entryCount; index += 1) expected.push(dump(forward.before(index)));
  const naive = new Replay(recording);
  for (let index = 0; index <= recording.entryCount; index += 37) {
    assert.equal(dump(naive.advance(naive.snapshots[0], index)), expected[index], `from the start to ${index}`);
  }
  const jumping = new Replay(recording);
  jumping.interval = 100;
  for (let index = recording.entryCount; index >= 0; index -= 1) {
    assert.equal(dump(jumping.before(index)), expected[index], `back to ${index}`);
  }
  const random = randomNumbers(9);
  for (let jump = 0; jump < 500; jump += 1) {
    const index = random(recording.entryCount);
    const [before, after] = [jumping.before(index), jumping.after(index)];
    assert.deepEqual([dump(before), dump(after)], [expected[index], expected[index + 1]], `jump to ${index}`);
  }
});

test('snapshots are built in slices, and are few', () => {
  const recording = buildRecording(randomEntries(20_000, 3), { loops: ['one', 'two'] });
  const replay = new Replay(recording);
  assert.equal(replay.build(0), false);
  assert.equal(replay.snapshots.length, 1);
  for (let slices = 0; !replay.build(1); slices += 1) assert.ok(slices < 1000);
  assert.deepEqual(replay.snapshots.map(({ index }) => index / 2048), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.equal(new Replay({ ...recording, entryCount: 10_000_000, kind: new Uint8Array(0) }).interval, 39063);
});

test('an empty recording has a state', () => {
  const replay = new Replay(buildRecording([]));
  assert.equal(replay.build(1), true);
  assert.equal(replay.before(0).objects.size, 0);
  assert.equal(replay.after(0).index, 0);
});

test('a copy of a paged map does not change with its original', () => {
  const original = new PagedMap().set(3, 'three').set(200, 'many');
  const copy = original.fork();
  original.set(3, 'changed').delete(200);
  copy.set(4, 'four');
  assert.deepEqual([...original], [[3, 'changed']]);
  assert.deepEqual([...copy], [[3, 'three'], [4, 'four'], [200, 'many']]);
  assert.deepEqual([copy.size, copy.has(200), original.has(200), copy.get(5)], [3, true, false, undefined]);
});
