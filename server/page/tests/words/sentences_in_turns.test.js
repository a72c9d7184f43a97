// Tests of sentences that depend on the rest of the turn.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Replay } from '../../recording/replay.js';
import { describeEntry } from '../../words/sentences.js';
import { buildRecording } from '../recording_builder.js';

const [OLD, NEW, OTHER] = ['connection 3#104', 'connection 3#106', 'connection 0#101'];
const open = (object, address) => ['opened', object, [9, 0], { address }];
const callback = (object, name) => [['callback-begin', object, [name, 0]], ['callback-end', object, [name, 0]]];
const opened = [open(OLD, '10.0.0.4:1'), open(OTHER, '10.0.0.1:1')];

/** The words of the entry that a test finds, or of the last one; with the state that the entries before lead to. */
function words(entries, kind, nth = 0) {
  const recording = buildRecording(entries);
  const indexes = entries.flatMap(([name], index) => (name === kind ? [index] : []));
  const index = indexes.at(nth);
  return describeEntry(recording, new Replay(recording).before(index), index);
}

/** A turn that closes and frees the old connection for an event of another, and gives its slot away. */
const handOver = [...opened, ['poll-end', 'loop', [2]], ['readiness', OTHER, [1, 101]], ...callback(OTHER, 'on_data'),
  ['closed', OLD, ['local']], ['freed', OLD], open(NEW, '10.0.0.6:1')];

test('an event of a connection that is gone names it, and who has its slot', () => {
  const entries = [...handOver, ['readiness', NEW, [1, 104]], ['read', NEW, [16, 4096]], ...callback(NEW, 'on_data'),
    ['turn-end']];
  assert.equal(words(entries, 'poll-end').kernel, 'Ready: 10.0.0.1:1 and 10.0.0.4:1.');
  const event = words(entries, 'readiness', 1);
  assert.equal(event.title, 'Event of 10.0.0.4:1 #104, which is gone');
  assert.equal(event.kernel, 'epoll reports EPOLLIN for 10.0.0.4:1 #104, which is gone. Its slot 3 is now that of '
    + '10.0.0.6:1 #106. This is the 2nd of 2 events of this turn.');
  assert.match(event.decision, /^The loop takes it for an event of 10\.0\.0\.6:1, which has the slot now\./);
  const because = /No event of this connection was reported: the event was that of 10\.0\.0\.4:1 #104, which is gone\./;
  assert.match(words(entries, 'read').decision, because);
  assert.match(words(entries, 'callback-begin', 1).decision, because);
  const unused = words([...handOver, ['readiness', NEW, [1, 104]], ['turn-end']], 'readiness', 1);
  assert.equal(unused.decision, 'The generation in the event is not that of the object now in the slot.');
  const unknown = words([open(NEW, '10.0.0.6:1'), ['poll-end', 'loop', [1]], ['readiness', NEW, [1, 7]]], 'poll-end');
  assert.equal(unknown.kernel, 'Ready: an event of #7, which is gone.');
});

test('an event of its own, or no event, is no event of another connection', () => {
  const ofBoth = [...handOver, ['readiness', NEW, [1, 106]], ['readiness', NEW, [1, 104]], ['read', NEW, [16, 4096]]];
  assert.doesNotMatch(words(ofBoth, 'read').decision, /No event/);
  const early = [...handOver, ['read', NEW, [16, 4096]]];
  assert.match(words(early, 'read').decision, /^A new connection is read at once, without an event\./);
  assert.doesNotMatch(words([...early, ['read', NEW, [16, 4096]]], 'read', -1).decision, /at once/);
});

test('a slot is free at the end of the turn only if nothing follows in the turn', () => {
  const turn = [...opened, ['poll-end', 'loop', [1]], ['closed', OLD, ['eof']], ...callback(OLD, 'on_close')];
  const atEnd = [...turn, ['freed', OLD], ['freed', OTHER], ['turn-end']];
  assert.match(words(atEnd, 'closed').decision, /Its slot is freed at the end of the turn, so that no event of this/);
  assert.match(words(atEnd, 'freed').decision, /^The turn is over, so no event of it can reach the slot\./);
  const inside = [...turn, ['freed', OLD], ['read', OTHER, [0, 9], { errno: 'EAGAIN' }], ['turn-end']];
  assert.match(words(inside, 'closed').decision, /Its slot is freed in the middle of the turn\.$/);
  assert.match(words(inside, 'freed').decision,
    /^The slot is free in the middle of the turn: an event of this turn may still name it\./);
  const cut = [...turn, ['freed', OLD]];
  assert.doesNotMatch(words(cut, 'closed').decision + words(cut, 'freed').decision, /end of the turn|is over|middle/);
});

test('a close by the program names the callback of another object', () => {
  const close = ['closed', OLD, ['local']];
  const turn = [...opened, ['poll-end', 'loop', [1]]];
  const [begin, end] = callback(OTHER, 'on_data');
  assert.equal(words([...turn, begin, close, end], 'closed').decision,
    'The program has closed it in on_data of 10.0.0.1:1.');
  assert.equal(words([...turn, begin, end, close], 'closed').decision,
    'The last callback before was on_data of 10.0.0.1:1.');
  assert.equal(words([...turn, ...callback(OLD, 'on_data'), close], 'closed').decision, 'The handler has closed.');
  const [job] = callback('loop', 'job');
  assert.equal(words([...turn, job, close], 'closed').decision, 'The program has closed it in job.');
});

test('a drain limits the poll, and a close after its time says so', () => {
  const entries = (end) => [...opened, ['drain', 'loop', [400e6], { at: 1e6 }], ['poll-begin', 'loop', [400e6]],
    ['poll-end', 'loop', [0], { at: end }], ['closed', OLD, ['local']]];
  assert.match(words(entries(402e6), 'poll-begin').decision, /^The time of the drain ends in 400 ms, so the poll/);
  assert.equal(words(entries(402e6), 'poll-end').decision, 'Its time is up. The time of the drain is over.');
  assert.equal(words(entries(402e6), 'closed').decision, 'The time of the drain is over.');
  assert.equal(words(entries(300e6), 'closed').decision, 'The handler has closed.');
  const endless = [...opened, ['drain', 'loop', [Infinity]], ['poll-end', 'loop', [0], { at: 9e9 }],
    ['closed', OLD, ['local']]];
  assert.equal(words(endless, 'closed').decision, 'The handler has closed.');
});

test('a turn had nothing to do only if it has no entry', () => {
  const idle = [['poll-begin'], ['poll-end', 'loop', [0]], ['turn-end', 'loop', [0]], ['poll-begin']];
  assert.equal(words(idle, 'turn-end').decision, 'This turn had nothing to do. The loop goes back to its poll.');
  const closes = [...opened, ['poll-end', 'loop', [0]], ['closed', OLD, ['local']], ['turn-end', 'loop', [0]],
    ['poll-begin']];
  assert.equal(words(closes, 'turn-end').decision, 'The loop goes back to its poll.');
});

test('a rule is told where its case occurs first, and not again', () => {
  const turn = (object, generation) => [['poll-begin', 'loop', [Infinity]], ['poll-end', 'loop', [1]],
    ['readiness', object, [1, generation]], ['read', object, [5, 9]], ...callback(object, 'on_data'),
    ['write', object, [5, 5]], ['read', object, [0, 9], { errno: 'EAGAIN' }], ['turn-end']];
  const entries = [...opened, ...turn(OLD, 104), ...turn(OTHER, 101)];
  const rules = {
    'poll-begin': /sleeps in the kernel/, 'poll-end': /What arrives meanwhile waits/, 'readiness': /edge-triggered/,
    'callback-begin': /does nothing else/, 'write': /without a poll before it/, 'opened': /tells late events/,
  };
  for (const [kind, rule] of Object.entries(rules)) {
    assert.match(words(entries, kind).decision, rule);
    assert.doesNotMatch(words(entries, kind, -1).decision ?? '', rule);
  }
  assert.match(words(entries, 'read', 1).decision, /A blocking read would stop every client/);
  assert.equal(words(entries, 'read', -1).decision, 'The poll reports the connection when bytes arrive.');
});

test('a watch, a job and the begin of a recording are explained where they occur first', () => {
  const existing = [['existing', 'listener 0#1', [6]], ['existing', 'watch 0#2', [3]], ['existing', 'watch 1#3', [4]]];
  const watch = /A watch is a descriptor of the program that the loop polls, for example for signals\./;
  assert.match(words(existing, 'existing').decision, /begins with its first turn, after its listeners were opened\.$/);
  assert.match(words(existing, 'existing', 1).decision, watch);
  assert.doesNotMatch(words(existing, 'existing', 2).decision, watch);
  const jobs = [['message', 'loop', [1, 7]], ['message', 'loop', [0]], ['message', 'loop', [0]]];
  assert.match(words(jobs, 'message', 1).decision, /^A job is a closure from another thread\./);
  assert.equal(words(jobs, 'message', 2).decision, 'It runs on the thread of the loop, between callbacks.');
});

test('a read again has the reason that the events show', () => {
  const reads = (flags) => [...opened, ['poll-end', 'loop', [1]], ['readiness', OLD, [flags, 104]],
    ['read', OLD, [5, 9]], ['read', OLD, [0, 9], { errno: 'EAGAIN' }]];
  assert.equal(words(reads(1), 'read').decision, 'It is read again, to be sure: EAGAIN proves that nothing is left.');
  assert.equal(words(reads(5), 'read').decision, 'The poll has also reported read-to-end. So it is read again.');
});
