// Tests of the rows of the tables.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Replay } from '../../recording/replay.js';
import * as tables from '../../tables/table_rows.js';
import { buildRecording } from '../recording_builder.js';

/** The view of a table after the last of the entries. */
function after(view, entries, options) {
  const recording = buildRecording(entries, options);
  const index = recording.entryCount - 1;
  return view(recording, new Replay(recording).after(index), index);
}

const opened = (slot, generation, options) => (
  ['opened', `connection ${slot}#${generation}`, [9, 0], { address: `10.0.0.${generation}:4000`, ...options }]
);

test('numbers are ordinals in words', () => {
  const words = [1, 2, 3, 4, 11, 12, 13, 21, 102, 111, 1001].map(tables.ordinal);
  const expected = ['1st', '2nd', '3rd', '4th', '11th', '12th', '13th', '21st', '102nd', '111th', '1,001st'];
  assert.deepEqual(words, expected);
});

test('bytes have a unit that fits', () => {
  const words = [0, 1, 10_239, 65_536, 100_000, 1_572_864, null].map(tables.bytesText);
  assert.deepEqual(words, ['0 bytes', '1 byte', '10,239 bytes', '64 KiB', '97.7 KiB', '1.5 MiB', 'unknown']);
});

test('the level of an outbox is that of the last write', () => {
  assert.deepEqual([23_616, 0, null].map(tables.outboxText), ['23.1 KiB at the last write', '0 bytes', 'unknown']);
});

test('the slab shows free and open slots, uses, the turn and the slot of the entry', () => {
  const view = after(tables.slabView, [opened(0, 1), opened(1, 2), opened(3, 3), ['freed', 'connection 1#2'],
    ['poll-end', 'loop', [1]], opened(1, 4)]);
  assert.deepEqual(view.cells.map(({ state }) => state), ['open', 'open', 'not seen', 'open']);
  assert.deepEqual(view.cells.map(({ uses }) => uses), [1, 2, 0, 1]);
  assert.deepEqual(view.cells.map(({ isTouched }) => isTouched), [false, true, false, false]);
  assert.deepEqual(view.cells.map(({ isCurrent }) => isCurrent), [false, true, false, false]);
  assert.equal(tables.slabCounts(view), '3 open');
  assert.equal(view.objectOf(2), null);
});

test('a slot is described in words', () => {
  const text = (entries) => after((recording, state, index) => {
    const { cells } = tables.slabView(recording, state, index);
    return tables.slotText(recording, cells[0]);
  }, entries);
  assert.equal(text([opened(0, 1)]), 'Slot 0: connection 10.0.0.1:4000 #1, open, 1st use.');
  assert.equal(text([['poll-end', 'loop', [1]], opened(0, 1)]),
    'Slot 0: connection 10.0.0.1:4000 #1, open, 1st use, touched in this turn.');
  assert.equal(text([opened(0, 1), ['freed', 'connection 0#1']]), 'Slot 0: free, used once.');
  assert.equal(text([opened(1, 1)]), 'Slot 0: not used in this recording.');
});

test('the slab is empty before the first connection', () => {
  const view = after(tables.slabView, [['poll-begin']]);
  assert.deepEqual([view.size, view.cells, view.current], [0, [], null]);
});

test('of many slots the slab shows those near the entry, and stays there', () => {
  const entries = Array.from({ length: 100 }, (_, slot) => opened(slot, slot + 1));
  const view = after(tables.slabView, [...entries, ['read', 'connection 50#51', [1, 2]]]);
  assert.deepEqual([view.cells.length, view.first, view.cells.find(({ isCurrent }) => isCurrent).slot], [24, 48, 50]);
  const stays = (recording, state, index) => tables.slabView(recording, state, index, 48);
  assert.equal(after(stays, [...entries, ['poll-begin']]).first, 48);
  assert.equal(after((...of) => tables.slabView(...of, 480), [opened(0, 1), ['poll-begin']]).first, 0);
});

test('a stale event shows the slot that it came for', () => {
  const view = after(tables.slabView, [opened(0, 1), ['stale-event', 'connection 0#1', [1, 9]]]);
  assert.equal(view.cells[0].isCurrent, true);
});

test('buffers: the connection of the entry, then those with the most bytes', () => {
  const entries = Array.from({ length: 12 }, (_, slot) => opened(slot, slot + 1));
  const writes = entries.slice(1).map((_, at) => ['write', `connection ${at + 1}#${at + 2}`, [0, 100 + at]]);
  const read = ['read', 'connection 0#1', [0, 9]];
  const { rows, more, connections } = after(tables.bufferRows, [...entries, ...writes, read]);
  assert.deepEqual(rows.map(({ outbox }) => outbox), [0, 110, 109, 108, 107, 106, 105, 104]);
  assert.deepEqual([rows[0].isCurrent, rows[0].words, rows[1].isCurrent], [true, ['EOF'], false]);
  assert.deepEqual([more, connections], [4, 12]);
});

test('buffers: a closed connection, and those of another loop, have no row', () => {
  const entries = [opened(0, 1, { loop: 1 }), ['write', 'connection 0#1', [0, 9], { loop: 1 }], opened(0, 2),
    ['closed', 'connection 0#2', ['eof']]];
  assert.deepEqual(after(tables.bufferRows, entries, { loops: ['one', 'two'] }), { rows: [], more: 0, connections: 0 });
});

test('words say what keeps a connection from reading or writing', () => {
  const known = { phase: 'open', paused: false, awaitsMemory: false, eof: false, writable: true, outbox: 0 };
  const words = (fields) => tables.bufferWords({ ...known, ...fields });
  assert.deepEqual(words({}), []);
  assert.deepEqual(words({ paused: true, awaitsMemory: true, eof: true }), ['paused', 'awaits memory', 'EOF']);
  assert.deepEqual(words({ writable: false, outbox: 9, phase: 'closing' }), ['closing', 'kernel is full']);
  assert.deepEqual(words({ writable: null, outbox: 9 }), []);
  assert.deepEqual(words({ paused: null, awaitsMemory: null, eof: null, writable: null }), []);
});

test('the ready queue shows what was served, is served and waits, in order', () => {
  const entries = [['listening', 'listener 0#9', [6]], opened(0, 1), opened(1, 2), ['poll-end', 'loop', [4]],
    ['readiness', 'connection 0#1', [1, 1]], ['deferred', 'connection 0#1'], ['readiness', 'listener 0#9', [1, 9]],
    ['readiness', 'connection 1#2', [1, 2]], ['readiness', 'loop', [1]]];
  const { rows, total, served } = after(
    (recording, state) => tables.queueRows(recording, new Replay(recording).after(7), 7), entries);
  assert.deepEqual(rows.map(({ name, status }) => [name, status]), [
    ['10.0.0.1:4000 #1', 'deferred to the next turn'], ['10.0.0.2:4000 #2', 'served now'],
    ['listener #9', 'waits'], ['wake-up of the loop', 'waits'],
  ]);
  assert.deepEqual([total, served, rows[1].isCurrent, rows[1].place], [4, 0, true, 2]);
});

test('the ready queue has what the turn before has deferred', () => {
  const deferred = ['deferred', 'connection 0#1'];
  const entries = [opened(0, 1), opened(1, 2), ['poll-end', 'loop', [0]], deferred, ['turn-end'], ['poll-begin'],
    ['poll-end', 'loop', [1]], ['readiness', 'connection 1#2', [1, 2]], ['read', 'connection 0#1', [9, 9]], deferred,
    ['turn-end']];
  const statusesAt = (index) => after((recording) => {
    const { rows } = tables.queueRows(recording, new Replay(recording).after(index), index);
    return rows.map(({ name, status }) => `${name} ${status}`);
  }, entries);
  const [first, second] = ['10.0.0.1:4000 #1', '10.0.0.2:4000 #2'];
  assert.deepEqual(statusesAt(5), [`${first} deferred to the next turn`]);
  assert.deepEqual(statusesAt(6), [`${second} waits`, `${first} waits`]);
  assert.deepEqual(statusesAt(8), [`${second} served`, `${first} served now`]);
  assert.deepEqual(statusesAt(9), [`${second} served`, `${first} served now`]);
  assert.deepEqual(statusesAt(10), [`${second} served`, `${first} deferred to the next turn`]);
});

/** The rows of the ready queue after each of some entries, in words. */
function queueAt(entries, indexes) {
  const recording = buildRecording(entries);
  return indexes.map((index) => {
    const { rows } = tables.queueRows(recording, new Replay(recording).after(index), index);
    return rows.map(({ name, status }) => `${name}: ${status}`);
  });
}

test('an event of a connection that is gone is not one of the connection in its slot', () => {
  const entries = [opened(3, 4), opened(0, 1), ['poll-end', 'loop', [2]], ['readiness', 'connection 0#1', [1, 1]],
    ['closed', 'connection 3#4', ['local']], ['freed', 'connection 3#4'], opened(3, 6),
    ['readiness', 'connection 3#6', [1, 4]], ['read', 'connection 3#6', [16, 99]]];
  const [other, gone] = ['10.0.0.1:4000 #1: served', 'event of 10.0.0.4:4000 #4, which is gone'];
  assert.deepEqual(queueAt(entries, [2, 5, 7, 8]), [
    ['10.0.0.4:4000 #4: waits', '10.0.0.1:4000 #1: waits'].reverse(), [other, `${gone}: waits`],
    [other, `${gone}: served now`], [other, `${gone}: served`],
  ]);
});

const fullRead = ['read', 'connection 0#1', [64, 64]];
const idleTurn = [['turn-end'], ['poll-begin'], ['poll-end', 'loop', [0]], ['turn-end']];

test('the ready queue shows input that is known and not read, and since when', () => {
  const turn = [opened(0, 1), ['poll-end', 'loop', [1]], ['readiness', 'connection 0#1', [1, 1]]];
  const reads = [...turn, fullRead, ...idleTurn];
  const unread = '10.0.0.1:4000 #1: readable, not read since entry 3';
  assert.deepEqual(queueAt(reads, [5, 6, 7]), [[unread], [unread], [unread]]);
  assert.deepEqual(queueAt(reads, [3]), [['10.0.0.1:4000 #1: served now']]);
  const never = [...turn, ...idleTurn];
  assert.deepEqual(queueAt(never, [6]), [['10.0.0.1:4000 #1: readable, not read']]);
  const short = [...turn, ['read', 'connection 0#1', [63, 64]], ...idleTurn];
  assert.deepEqual(queueAt(short, [6]), [[]]);
  const listener = [['listening', 'listener 0#9', [6]], ['poll-end', 'loop', [1]], ['accept', 'listener 0#9', [7]],
    ...idleTurn];
  assert.deepEqual(queueAt(listener, [5]), [['listener #9: readable, not accepted from since entry 2']]);
});

test('the ready queue says why input is not read, if the loop has a reason', () => {
  const turn = [opened(0, 1), ['poll-end', 'loop', [1]], fullRead];
  const after = (...entries) => queueAt([...turn, ...entries, ...idleTurn], [turn.length + entries.length + 2])[0];
  const [connection, name] = ['connection 0#1', '10.0.0.1:4000 #1: readable, and'];
  assert.deepEqual(after(['paused', connection]), [`${name} reading is paused`]);
  assert.deepEqual(after(['awaits-memory', connection]), [`${name} awaits memory`]);
  assert.deepEqual(after(['write', connection, [1, 9]]), [`${name} its outbox has output`]);
  assert.deepEqual(after(['closed', connection, ['eof']]), []);
});

test('rows of unread input are few, those that wait the longest', () => {
  const opens = Array.from({ length: 9 }, (_, slot) => opened(slot, slot + 1));
  const reads = opens.map((_, slot) => ['read', `connection ${slot}#${slot + 1}`, [64, 64]]);
  const view = after(tables.queueRows, [['poll-end', 'loop', [1]], ...opens, ...reads, ['turn-end'], ['poll-begin']]);
  assert.deepEqual(view.rows.map(({ name }) => name), [1, 2, 3].map((id) => `10.0.0.${id}:4000 #${id}`));
  assert.deepEqual([view.unread, view.total], [9, 0]);
});

test('a wake-up is served by its messages, until the turn ends', () => {
  const entries = [['poll-end', 'loop', [1]], ['readiness', 'loop', [1]], ['message', 'loop', [0]], ['turn-end']];
  const statusAt = (index) => after((recording) => {
    const { rows } = tables.queueRows(recording, new Replay(recording).after(index), index);
    return rows[0].status;
  }, entries);
  assert.deepEqual([0, 1, 2, 3].map(statusAt), ['waits', 'waits', 'served now', 'served']);
});

test('a listener is served while its new client is', () => {
  const listener = 'listener 0#9';
  const entries = [['listening', listener, [6]], ['poll-end', 'loop', [1]], ['readiness', listener, [1, 9]],
    ['accept', listener, [9]], opened(0, 1), ['read', 'connection 0#1', [1, 9]],
    ['accept', listener, [0], { errno: 'EAGAIN' }], ['deadline-fired', 'connection 0#1', [5]]];
  const statusAt = (index) => after((recording) => {
    const { rows } = tables.queueRows(recording, new Replay(recording).after(index), index);
    return rows[0].status;
  }, entries);
  assert.deepEqual([1, 7].map(statusAt), ['waits', 'served']);
  for (const index of [2, 3, 5, 6]) assert.equal(statusAt(index), 'served now', `after entry ${index}`);
});

test('the ready queue says why a listener is not served', () => {
  const entries = [['listening', 'listener 0#9', [6]], ['listening', 'listener 1#8', [7]],
    ['full', 'listener 0#9', [5]], ['backoff', 'listener 1#8', [50]], ['poll-end', 'loop', [2]],
    ['readiness', 'listener 0#9', [1, 9]], ['readiness', 'listener 1#8', [1, 8]], ['turn-end']];
  const { rows } = after(tables.queueRows, entries);
  assert.deepEqual(rows.map(({ status }) => status), ['waits for room', 'pauses after an error']);
});

test('a long ready queue shows the rows around the one that is served', () => {
  const opens = Array.from({ length: 30 }, (_, slot) => opened(slot, slot + 1));
  const events = opens.map((_, slot) => ['readiness', `connection ${slot}#${slot + 1}`, [1, slot + 1]]);
  const entries = [...opens, ['poll-end', 'loop', [30]], ...events];
  const view = after((recording) => tables.queueRows(recording, new Replay(recording).after(50), 50), entries);
  assert.deepEqual([view.rows[0].place, view.rows.length, view.before, view.after, view.served], [18, 8, 17, 5, 19]);
  assert.equal(view.rows[2].status, 'served now');
});

test('the ready queue is empty while the loop polls', () => {
  const turn = [['poll-end', 'loop', [1]], ['readiness', 'connection 0#1', [1, 1]], ['turn-end']];
  assert.equal(after(tables.queueRows, [opened(0, 1), ...turn]).total, 1);
  assert.equal(after(tables.queueRows, [opened(0, 1), ...turn, ['poll-begin']]).total, 0);
});

test('deadlines are sorted, from the time of the entry', () => {
  const set = (slot) => ['deadline-set', `timer ${slot}#${slot + 1}`, [(20 - slot) * 1e9]];
  const entries = Array.from({ length: 10 }, (_, slot) => set(slot));
  const { rows, more } = after(tables.deadlineRows, [...entries, ['turn-end', 'loop', [], { at: 12e9 }]]);
  const texts = ['overdue 1.0 s', 'now', ...[1, 2, 3, 4, 5, 6].map((seconds) => `in ${seconds}.0 s`)];
  assert.deepEqual(rows.map(({ text }) => text), texts);
  assert.deepEqual([rows[0].name, rows[0].isOverdue, rows[1].isOverdue, more], ['timer #10', true, false, 2]);
});

test('a line says what the loop does', () => {
  const text = (...entries) => after(tables.loopText, entries);
  assert.equal(text(['listening', 'listener 0#9', [6]]), 'Loop main, before its first turn: it works.');
  const waits = (timeout) => text(['poll-begin', 'loop', [timeout]]).replace('Loop main, turn 1: it ', '');
  assert.equal(waits(3e9), 'waits in the kernel for events, at most 3.0 s.');
  assert.equal(waits(Infinity), 'waits in the kernel for events, without a limit.');
  assert.equal(waits(0), 'asks the kernel for events, and does not wait.');
  const inTurn = [opened(0, 1), ['poll-end', 'loop', [1]]];
  assert.equal(text(...inTurn, ['callback-begin', 'connection 0#1', ['on_data', 5]]),
    'Loop main, turn 1: it runs on_data of connection 10.0.0.1:4000 #1.');
  const job = ['callback-begin', 'loop', ['job']];
  assert.equal(text(...inTurn, job, ['drain']), 'Loop main, turn 1: it runs job; it drains.');
  assert.equal(text(...inTurn, ['turn-end']), 'Loop main, turn 1: its recording ends here.');
});
