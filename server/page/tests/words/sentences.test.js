// Tests of the sentences: exact for typical entries, sane for all.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FINDING_HELP } from '../../words/finding_help.js';
import { describeEntry } from '../../words/sentences.js';
import { byteWords, countWords, durationWords, listWords, ordinalWords } from '../../words/step_facts.js';
import { buildRecording, ENTRY_KINDS } from '../recording_builder.js';

const CLIENT = 'connection 3#17';
const LISTENER = 'listener 0#1';
const SOCKET = 'udp-socket 0#2';
const OPEN = [
  ['listening', LISTENER, [6], { address: '127.0.0.1:8888' }],
  ['bound', SOCKET, [8], { address: '127.0.0.1:8888' }],
  ['opened', CLIENT, [9, 0], { address: '10.0.0.9:4000' }],
];

/** Describes an entry, with the objects opened before it, in this state of its object. */
function describe(entry, { own = {}, loop = {}, after = [], before = [], slots = [], deadlines = [] } = {}) {
  const entries = [...OPEN, ...before, entry, ...after];
  const recording = buildRecording(entries);
  const index = OPEN.length + before.length;
  const state = {
    loops: [{ callbacks: [], deferred: new Set(), ...loop }], objects: new Map([[recording.object[index], own]]),
    slots: [new Map(slots)], deadlines: [new Map(deadlines)],
  };
  return describeEntry(recording, state, index);
}

/** Asserts the title, and the kernel's part and the decision where they are given. */
function assertWords(described, [title, kernel, decision]) {
  assert.equal(described.title, title);
  if (kernel !== undefined) assert.equal(described.kernel, kernel);
  if (decision !== undefined) assert.equal(described.decision, decision);
}

const begin = (callback, input = 0, object = CLIENT) => ['callback-begin', object, [callback, input]];
const end = (callback, consumed = 0, options = {}) => ['callback-end', CLIENT, [callback, consumed], options];

test('a poll says how long it may wait, and why', () => {
  assertWords(describe(['poll-begin', 'loop', [Infinity]]), ['Wait for events without a limit', null,
    'No deadline limits it. The loop sleeps in the kernel until an event arrives, and uses no processor time.']);
  assertWords(describe(['poll-begin', 'loop', [83e6]], { deadlines: [[3, 83.5e6]] }), ['Wait for events, at most 83 ms',
    null, 'The nearest deadline is that of 10.0.0.9:4000, in 83 ms, so the poll may not wait longer. A loop needs no '
    + 'thread and no timer signal for a deadline: the timeout of its poll is enough.']);
  assertWords(describe(['poll-begin', 'loop', [83e6]], { deadlines: [[3, 500e6]] }), ['Wait for events, at most 83 ms',
    null, 'The poll may wait at most 83 ms.']);
  const loop = { deferred: new Set([1]) };
  assertWords(describe(['poll-begin', 'loop', [0]], { loop }), ['Poll without waiting', null,
    '1 object has work left from the last turn. The loop only collects new events, so that other clients are '
    + 'not forgotten.']);
  const interrupted = [['poll-end', 'loop', [0], { errno: 'EINTR' }]];
  assert.equal(describe(['poll-begin', 'loop', [0]], { before: interrupted }).decision,
    'The last poll was interrupted, so it is repeated without waiting.');
});

test('the end of a poll names what is ready, and how long it took', () => {
  const events = [['readiness', CLIENT, [1, 17]], ['read', CLIENT, [1, 9]], ['readiness', LISTENER, [1, 1]]];
  const at = { at: 1.2e9 };
  const endless = { pollBegan: 0, pollTimeout: Infinity };
  assertWords(describe(['poll-end', 'loop', [2, 0], at], { loop: endless, after: events }),
    ['The poll returned 2 events after 1.2 s', 'Ready: 10.0.0.9:4000 and the listener 127.0.0.1:8888.',
      'A turn begins. The loop serves these objects one after the other, and polls again at the end of the turn. What '
      + 'arrives meanwhile waits.']);
  const loop = { pollBegan: 0, pollTimeout: 30e6 };
  assertWords(describe(['poll-end', 'loop', [0, 0], { at: 30e6 }], { loop }),
    ['The poll returned no event after 30 ms', 'No object became ready.',
      'Its time is up.']);
  const deadlines = [[3, 30e6]];
  assert.equal(describe(['poll-end', 'loop', [0, 0], { at: 30e6 }], { loop, deadlines }).decision,
    'Its time is up. A deadline has passed, and takes effect now.');
  assert.equal(describe(['poll-end', 'loop', [0, 0], { at: 330e6 }], { loop }).kernel,
    'No object became ready. The poll should have ended after 30 ms: the thread had no processor, or was stopped.');
  assertWords(describe(['poll-end', 'loop', [0, 0], { errno: 'EINTR' }]), ['A signal interrupted the poll',
    'EINTR: a signal arrived before an event.',
    'The poll is repeated without waiting, because events may have arrived as well.']);
  assert.match(describe(['poll-end', 'loop', [1024, 1]]).decision, /^The list was full, so the loop polls again/);
});

test('each poll of a turn names its own events', () => {
  const before = [['poll-end', 'loop', [1, 1]], ['poll-begin', 'loop', [0]]];
  const after = [['readiness', LISTENER, [1, 1]], ['accept', LISTENER, [0], { errno: 'EAGAIN' }],
    ['readiness', CLIENT, [1, 17]]];
  assert.equal(describe(['poll-end', 'loop', [1, 0]], { before, after }).kernel, 'Ready: 10.0.0.9:4000.');
  const first = describe(before[0], { after: [before[1], ['poll-end', 'loop', [1, 0]], ...after] });
  assert.equal(first.kernel, 'Ready: the listener 127.0.0.1:8888.');
});

test('a turn has its number and its time, and says what is left', () => {
  const loop = { turn: 12, turnBegan: 1e6 };
  const after = [['poll-begin', 'loop', [0]]];
  assertWords(describe(['turn-end', 'loop', [1], { at: 84e6 }], { loop, after }),
    ['Turn 12 ends, after 83 ms', null, 'The loop goes back to its poll.']);
  const withWork = { ...loop, deferred: new Set([1, 2]) };
  assertWords(describe(['turn-end', 'loop', [1], { at: 84e6 }], { loop: withWork, after }),
    ['Turn 12 ends, after 83 ms', null, '2 objects are deferred. So the next poll does not wait.']);
});

test('an event has its flags, its place in the turn, and what it causes', () => {
  const before = [['poll-end', 'loop', [5, 0]], ['readiness', LISTENER, [1, 1]], ['readiness', SOCKET, [1, 2]]];
  assertWords(describe(['readiness', CLIENT, [3, 17]], { before, own: { phase: 'open', outbox: 0 } }),
    ['Event for 10.0.0.9:4000: readable, writable',
      'epoll reports EPOLLIN|EPOLLOUT for 10.0.0.9:4000. This is the 3rd of 5 events of this turn.',
      'The poll is edge-triggered: it reports a change once. So it must be read until the kernel has no more.']);
  assert.equal(describe(['readiness', CLIENT, [2, 17]], { own: { outbox: 5000 } }).decision,
    'At least 5,000 bytes of output wait. They can be written now.');
  assert.equal(describe(['readiness', CLIENT, [2, 17]], { own: { outbox: 0 } }).decision,
    'There is room for output, which an edge-triggered poll reports once. No output is known to wait.');
  assert.equal(describe(['readiness', CLIENT, [1, 17]], { own: { paused: true } }).decision,
    'The handler has paused reading. The bytes stay in the kernel, and the loop remembers that they are there.');
  assert.equal(describe(['readiness', CLIENT, [31, 17]]).kernel,
    'epoll reports EPOLLIN|EPOLLOUT|EPOLLERR|EPOLLHUP|EPOLLRDHUP for 10.0.0.9:4000. An error waits in the socket. Both '
    + 'directions have ended. read-to-end: the peer has sent a FIN (EOF follows the input), or an urgent byte.');
  assert.equal(describe(['readiness', CLIENT, [31, 17]], { own: { outbox: 5000 } }).decision,
    'The socket has an error or a hang-up: the next call returns it.');
  assert.equal(describe(['readiness', 'loop', [1, 0]]).title, 'The loop is woken');
  assertWords(describe(['stale-event', CLIENT, [1, 16]]), ['Stale event for slot 3: ignored',
    'The event is about an earlier connection #16 in slot 3, which is gone.',
    'Each event has the generation of its object. It is not that of the object now in the slot. Without this check '
    + 'another client would be served for it.']);
});

test('an accept has its client, and each error its consequence', () => {
  const after = [['opened', 'connection 4#18', [12, 0], { address: '10.0.0.7:1234' }]];
  assertWords(describe(['accept', LISTENER, [12]], { after }), ['Accept 10.0.0.7:1234 as descriptor 12',
    'A client waited in the backlog of the listener 127.0.0.1:8888. Its socket is descriptor 12.',
    'The poll does not report the rest of the backlog again. So accept must be called until EAGAIN.']);
  assert.equal(describe(['accept', LISTENER, [12]], { after: [['refused', LISTENER, [1]]] }).decision,
    'The client is over a limit, so its socket is closed at once.');
  assertWords(describe(['accept', LISTENER, [0], { errno: 'EAGAIN' }]),
    ['No further client waits for the listener 127.0.0.1:8888', 'EAGAIN: the backlog is empty.',
      'Only EAGAIN proves that. The poll reports the next client.']);
  const backoff = ['backoff', LISTENER, [10e6], { errno: 'EMFILE' }];
  assertWords(describe(['accept', LISTENER, [0], { errno: 'EMFILE' }], { after: [backoff] }),
    ['Cannot accept: EMFILE', 'EMFILE: the process has no free descriptor. The client stays in the backlog.',
      'An immediate retry would fail again, and use the processor for nothing. The listener pauses; connections are '
      + 'served meanwhile.']);
  assertWords(describe(['accept', LISTENER, [0, 1], { errno: 'EMFILE' }]), ['Cannot accept: EMFILE',
    'EMFILE: the process has no free descriptor. The call fails also without a client, and none waits.',
    'The poll reports the next client.']);
  assertWords(describe(backoff), ['The listener 127.0.0.1:8888 pauses for 10 ms', 'EMFILE (too many open files).',
    'A retry at once would fail again. The pause is a deadline, not a sleep: everything else is served meanwhile.']);
  assert.equal(describe(['recovered', LISTENER, [1, 70e6]]).title,
    'The listener 127.0.0.1:8888 works again, after 1 failed try in 70 ms');
  assert.equal(describe(['refused', LISTENER, [0]]).title, 'Refuse the client: too many connections');
  assert.equal(describe(['full', LISTENER, [100]]).title, 'The listener 127.0.0.1:8888 is full, with 100 connections');
});

test('a slot has its number of uses, and a generation that is not used again', () => {
  assertWords(describe(OPEN[2], { slots: [[3, { object: null, uses: 1 }]] }), ['10.0.0.9:4000 gets slot 3', null,
    'It is the 2nd connection in this slot. Its generation is #17.']);
  assert.match(describeEntry(buildRecording([OPEN[2]]), null, 0).decision,
    /Slots are reused, but a generation \(#17\) is not: it tells late events of earlier connections apart\.$/);
  assert.match(describe(['opened', 'connection 5#9', [0, 0], { address: '10.0.0.1:80' }]).decision,
    /^A callback has asked for this connection, and its connect follows\./);
  assert.equal(describe(['freed', CLIENT]).title, 'Slot 3 is free');
});

test('a short read is the last, and a full read is not', () => {
  const after = [begin('on_data', 18), end('on_data', 18)];
  assertWords(describe(['read', CLIENT, [18, 65536]], { after, own: { inbox: 0 } }),
    ['Read 18 bytes from 10.0.0.9:4000',
      '18 bytes were there, and there was room for 64 KiB. Now the kernel has no more.',
      'The handler gets them in on_data. A second read would only return EAGAIN. The poll reports the next bytes.']);
  assert.match(describe(['read', CLIENT, [18, 65536]], { own: { inbox: 7 } }).decision,
    /^The inbox has 7 bytes already\. The new bytes follow them\./);
  const full = ['read', CLIENT, [65536, 65536]];
  assertWords(describe(full, { after: [...after, ['deferred', CLIENT]] }), ['Read 64 KiB from 10.0.0.9:4000',
    'All 64 KiB that fit were there. More may wait.',
    'The handler gets them in on_data. The connection has used its share of this turn. The rest follows in the next '
    + 'turn, so that others are served.']);
  assert.match(describe(full, { after: [...after, ['read', CLIENT, [1, 9]]] }).decision, /So it is read again\.$/);
  assert.match(describe(full, { after, own: { outbox: 70_000 } }).decision, /that is backpressure\.$/);
  assert.match(describe(full, { after }).decision, /Until it is read again, the rest waits: the poll does not/);
});

test('a read of nothing is EOF, EAGAIN or an error', () => {
  assertWords(describe(['read', CLIENT, [0, 65536]], { own: { inbox: 5 } }), ['EOF of 10.0.0.9:4000',
    'A read of 0 bytes: the peer has sent a FIN, and all its bytes are read.',
    'The handler gets the 5 bytes in the inbox first. Only this direction has ended: output can still be sent.']);
  assertWords(describe(['read', CLIENT, [0, 65536], { errno: 'EAGAIN' }], { after: [['registered', CLIENT]] }),
    ['Nothing to read from 10.0.0.9:4000', 'EAGAIN: no byte waits in the kernel.',
      'The connection has to wait, so it is registered with the poll. A blocking read would stop every client here. '
      + 'The poll reports the connection when bytes arrive.']);
  assertWords(describe(['read', CLIENT, [0, 65536], { errno: 'ECONNRESET' }]), ['10.0.0.9:4000 was reset by its peer',
    'ECONNRESET: the peer has sent an RST, which ends both directions.',
    'An error of one connection ends only that connection. It is closed.']);
  assert.match(describe(['read', CLIENT, [0, 9], { errno: 'EINTR' }]).decision, /^No byte is lost\./);
  const closing = { own: { phase: 'closing' } };
  assert.match(describe(['read', CLIENT, [9, 65536]], closing).decision, /late input is discarded/);
  assert.equal(describe(['read', CLIENT, [9, 65536]], closing).place.function, 'discard');
});

test('a write is whole, in part, or blocked', () => {
  assertWords(describe(['write', CLIENT, [18, 18]]), ['Write 18 bytes to 10.0.0.9:4000',
    'The send buffer of the kernel has taken all bytes. It sends them without the loop.',
    'The loop writes without a poll before it: the send buffer usually has room.']);
  assert.equal(describe(['write', CLIENT, [18, 18]], { own: { outbox: 18 } }).decision,
    'The output that waited is on its way, and the outbox is empty.');
  assertWords(describe(['write', CLIENT, [1000, 1500]]), ['Write 1,000 bytes of 1,500 bytes to 10.0.0.9:4000',
    'The send buffer had room for 1,000 bytes.',
    '500 bytes stay in the outbox until there is room again. The loop does not wait for it.']);
  assertWords(describe(['write', CLIENT, [0, 65536], { errno: 'EAGAIN' }]), ['No room for output to 10.0.0.9:4000',
    'EAGAIN: the send buffer is full. The peer reads more slowly than the loop sends, or not at all.',
    '64 KiB stay in the outbox. The poll reports when there is room, and others are served meanwhile.']);
  assert.equal(describe(['write', CLIENT, [0, 18], { errno: 'EPIPE' }]).kernel,
    'EPIPE (broken pipe): the peer is gone.');
});

test('a close has its reason, and a FIN comes before it', () => {
  assert.equal(describe(['shutdown-write', CLIENT], { after: [['closed', CLIENT, ['local']]] }).decision,
    'The peer has sent nothing more, so the close can follow at once.');
  assert.match(describe(['shutdown-write', CLIENT], { after: [['read', CLIENT, [1, 2]]] }).decision,
    /A close with unread input would send an RST instead/);
  assertWords(describe(['closed', CLIENT, ['write-stalled', 1]]), ['Close 10.0.0.9:4000, reason: write-stalled',
    'The kernel sends an RST at once.', 'The peer has taken none of the waiting output for the write timeout.']);
  assert.equal(describe(['closed', CLIENT, [Infinity, 0]]).title, 'Close 10.0.0.9:4000, which never opened');
  assert.equal(describe(['option-set', CLIENT, [1, 13]]).title, 'Prepare a reset of 10.0.0.9:4000: SO_LINGER');
});

test('the end of input in a drain has its reason', () => {
  const decision = 'The connection drains: all input that was accepted is delivered, then a FIN follows the replies.';
  assertWords(describe(['input-stopped', CLIENT, [0]]), ['Accept no further input of 10.0.0.9:4000',
    'The kernel drops segments with data before it acknowledges them, so the peer keeps the data.', decision]);
  assertWords(describe(['input-stopped', CLIENT, [1]]), ['Accept no further input of 10.0.0.9:4000',
    'The writes of the peer fail. What it has written can be read.', decision]);
  const detached = describe(['option-set', CLIENT, [1, 27]]);
  assert.equal(detached.title, 'Accept input of 10.0.0.9:4000 again: SO_DETACH_FILTER');
  assert.equal(detached.place.function, 'resume_input');
  const asked = describe(['option-set', CLIENT, [6, 25]]);
  assert.equal(asked.title, 'Is all output of 10.0.0.9:4000 sent? TCP_NOTSENT_LOWAT');
  assert.equal(asked.place.function, 'end_drain');
});

test('a callback has its reason, its time, and what waited meanwhile', () => {
  assertWords(describe(begin('on_data', 18)), ['on_data of 10.0.0.9:4000 begins', null,
    'The handler gets 18 bytes, and returns how many of them it has consumed. Until it returns the loop does nothing '
    + 'else, and every other client waits.']);
  const before = [['poll-end', 'loop', [13, 0]], ['readiness', CLIENT, [1, 17]]];
  const loop = { callbacks: [{ callback: 'on_data', object: 3, began: 0 }] };
  assertWords(describe(end('on_data', 15, { at: 83e6 }), { before, loop, own: { inbox: 18 } }),
    ['on_data of 10.0.0.9:4000 returned after 83 ms', null, 'The handler has consumed 15 bytes. 3 bytes stay in the '
    + 'inbox, and are delivered again later. Meanwhile nothing else ran: 12 other events waited.']);
  assert.match(describe(end('on_data', 0)).decision, /consumed nothing: its message may be incomplete/);
  assert.equal(describe(end('on_data', Infinity)).title, 'on_data of 10.0.0.9:4000 panicked');
  assert.equal(describe(['callback-begin', 'loop', ['job', 0]]).title, 'job begins');
});

test('what waits for long has its time, where the wait begins', () => {
  const later = { at: 1.5e9 };
  const decision = (entry, ...after) => describe(entry, { after }).decision;
  assert.match(decision(['write', CLIENT, [1, 9]], ['write', CLIENT, [0, 8], { errno: 'EAGAIN' }],
    ['write', CLIENT, [8, 8], later]), /The next bytes are taken 1\.5 s later\.$/);
  assert.match(decision(['write', CLIENT, [0, 9], { errno: 'EAGAIN' }], ['write', CLIENT, [9, 9], later]),
    /The next bytes are taken 1\.5 s later\.$/);
  assert.match(decision(['read', CLIENT, [9, 9]], ['readiness', CLIENT, [1, 17]], ['read', CLIENT, [9, 9], later]),
    /It is read again 1\.5 s later\.$/);
  assert.match(decision(['readiness', CLIENT, [1, 17]], ['read', CLIENT, [9, 9], later]), /is served 1\.5 s later\.$/);
  assert.match(decision(['deferred', CLIENT], ['read', CLIENT, [9, 9], later]), /It is served 1\.5 s later\.$/);
  assert.doesNotMatch(decision(['deferred', CLIENT], ['lost', 'loop', [9]], ['read', CLIENT, [9, 9], later]), /later/);
  assert.match(decision(['full', LISTENER, [1]], ['accept', LISTENER, [9], later]), /accepted 1\.5 s later\.$/);
  assert.doesNotMatch(decision(['deferred', CLIENT], ['read', CLIENT, [9, 9], { at: 9e8 }]), /later/);
  const slow = describe(begin('on_data', 18), { after: [end('on_data', 18, { at: 120e6 })] });
  assert.equal(slow.title, 'on_data of 10.0.0.9:4000 begins, and takes 120 ms');
  const loop = { callbacks: [{ callback: 'on_data', object: 3, began: 0 }] };
  assert.match(describe(end('on_data', 18, { at: 120e6 }), { loop }).decision, /client and timer waited\.$/);
});

test('a deadline has its distance, and its lateness when it fires', () => {
  assert.equal(describe(['deadline-set', CLIENT, [61e9], { at: 1e9 }]).title, 'Deadline for 10.0.0.9:4000: in 60 s');
  assert.equal(describe(['deadline-set', 'timer 0#5', [1.01e9], { at: 1e9 }]).title, 'Set the timer #5: in 10 ms');
  const after = [begin('on_timer', 0, 'timer 0#5')];
  assertWords(describe(['deadline-fired', 'timer 0#5', [1e9], { at: 1.25e9 }], { after }),
    ['The timer #5 fires, 250 ms after its time', null, 'A timer never fires early. Its callback is called now.']);
  assert.equal(describe(['deadline-fired', CLIENT, [1e9], { at: 1e9 }], { after: [begin('on_timeout')] }).decision,
    'The handler has set it, and on_timeout is called.');
  assert.equal(describe(['deadline-fired', CLIENT, [1e9], { at: 1e9 }], { after: [['closed', CLIENT]] }).decision,
    'It limits how long a connection may stay without progress. So the connection is closed.');
});

test('datagrams say how many came or went in one call', () => {
  assertWords(describe(['receive-batch', SOCKET, [3, 8]]), ['Receive 3 datagrams',
    '3 of at most 8 datagrams were there. Now the receive buffer is empty.']);
  const before = [['receive-batch', SOCKET, [3, 8]], ['datagram-in', SOCKET, [7, 0], { address: '10.0.0.2:53' }]];
  assertWords(describe(['datagram-in', SOCKET, [9, 1], { address: '10.0.0.2:53' }], { before }),
    ['A datagram of 9 bytes from 10.0.0.2:53',
      'It is the 2nd of 3 that one call received. It was longer than the maximum, and the rest of it is lost.']);
  const sent = ['datagram-out', SOCKET, [18, 0], { address: '10.0.0.2:53' }];
  assertWords(describe(['send-batch', SOCKET, [1, 1]], { after: [sent, sent] }), ['Send 2 datagrams',
    'The kernel has taken 1 message. One message had several datagrams to one peer, and the kernel divides it again.']);
  assert.equal(describe(['datagram-out', SOCKET, [18, 0], { address: '10.0.0.2:53', errno: 'EPIPE' }]).title,
    'Lose a datagram of 18 bytes to 10.0.0.2:53: EPIPE');
});

test('a loop of the tour that is not the library\'s has no function of it', () => {
  const placeIn = (name) => describeEntry(buildRecording([['poll-end', 'loop', [1]]], { loops: [name] }), null, 0).place;
  assert.deepEqual([placeIn('twin'), placeIn('mio')], [null, null]);
  assert.equal(placeIn('halloo').function, 'poll');
});

test('the rest of the kinds have a title of their own', () => {
  const title = (...entry) => describe(entry).title;
  assert.equal(title('lost', 'loop', [1]), '1 entry missing here');
  assert.equal(title('lost', 'loop', [1200]), '1,200 entries missing here');
  assert.match(describe(['lost', 'loop', [5, 1]]).decision, /not known either\. All of it is of one turn, which goes on\.$/);
  assert.equal(title('existing', CLIENT, [9, 0], { address: '10.0.0.9:4000' }),
    '10.0.0.9:4000 was open before the recording begins');
  assert.equal(title('watching', 'watch 0#5', [4, 3]), 'Watch descriptor 4 for reading and writing');
  assert.equal(title('connect', CLIENT, [9, 1]), 'Take over a connected stream: 10.0.0.9:4000');
  assert.equal(title('connected', CLIENT, [0], { errno: 'ECONNREFUSED' }),
    'The connect to 10.0.0.9:4000 failed: ECONNREFUSED');
  assert.equal(title('deferred', LISTENER), 'Defer the listener 127.0.0.1:8888 to the next turn');
  assert.equal(title('awaits-memory', CLIENT), '10.0.0.9:4000 waits for memory');
  assert.equal(title('message', 'loop', [1, 2n ** 63n]), 'Take a note with the value 9223372036854775808');
  assert.equal(title('message', 'loop', [1, Infinity]), 'Take a note with the value 18446744073709551615');
  assert.equal(title('drain', 'loop', [0]), 'The loop is to stop');
  assert.equal(title('drain', 'loop', [5e9]), 'A drain begins, at most 5 s');
  assert.equal(title('peer-send', 'peer 2#0', [5]), 'Peer #2 sends 5 bytes');
  assert.equal(title('peer-datagram-lost', 'peer 0#0', [5], { address: '10.0.0.3:9' }),
    'A datagram of 5 bytes to 10.0.0.3:9 is lost on the way');
});

test('no text of any entry shows a value that is missing', () => {
  const numbers = [0, 1, 2, 3, 5, 11, 13, 65536, 1e15, Infinity, 2n ** 64n - 2n];
  const errors = [0, 4, 11, 24, 32, 99, 104, 111, 65535];
  let seed = 1;
  const pick = (list) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return list[seed % list.length];
  };
  const objects = ['loop', CLIENT, LISTENER, SOCKET, 'timer 0#5', 'watch 0#6', 'handler 0#0', 'peer 1#0',
    'connection 3#0'];
  const addresses = [{}, { address: '' }, { address: 'x' }];
  const options = () => ({ errno: pick(errors), at: pick([0, 5, 2e9]), ...pick(addresses) });
  const entries = [];
  for (let round = 0; round < 40; round += 1) {
    for (const { name } of ENTRY_KINDS) entries.push([name, pick(objects), [pick(numbers), pick(numbers)], options()]);
  }
  const recording = buildRecording(entries.sort((one, other) => one[3].at - other[3].at));
  const unknown = { inbox: null, outbox: null, fd: null, phase: 'closing', paused: null, registered: null };
  for (let index = 0; index < recording.entryCount; index += 1) {
    const state = pick([null, { loops: [], objects: new Map([[recording.object[index], unknown]]) }]);
    const { title, kernel, decision, call, place } = describeEntry(recording, state, index);
    const all = [title, kernel, decision, call].filter((text) => text !== null);
    assert.ok(title.length > 0 && place.function && place.file, `${index}`);
    for (const text of all) {
      const what = `${recording.kindName(index)}: ${text}`;
      assert.doesNotMatch(text, /undefined|NaN|null|Infinity|\[object|  (?!<)/, what);
      assert.ok(text.length < 900, text);
    }
    assert.ok(kernel !== null || decision !== null || recording.kindName(index) === 'option-set', title);
  }
});

test('numbers have units and the digits that matter', () => {
  assert.deepEqual([0, 999, 340e3, 83.9e6, 1.25e9, 60e9, Infinity].map(durationWords),
    ['0 us', '999 ns', '340 us', '83 ms', '1.3 s', '60 s', 'an unknown time']);
  assert.deepEqual([0, 1, 9999, 65536, 70000, 4 << 20].map(byteWords),
    ['0 bytes', '1 byte', '9,999 bytes', '64 KiB', '68.4 KiB', '4 MiB']);
  assert.deepEqual([0, 1, 2000].map((count) => countWords(count, 'event')), ['no event', '1 event', '2,000 events']);
  assert.deepEqual([1, 2, 3, 4, 11, 12, 21, 112].map(ordinalWords),
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '21st', '112th']);
  assert.deepEqual([listWords(['A']), listWords(['A', 'B']), listWords(['A', 'B'], 4)],
    ['A', 'A and B', 'A, B and 2 more']);
});

test('each kind of finding is explained', () => {
  const kinds = ['loop-lag', 'starvation', 'source-left-ready', 'stale-event-used', 'backoff', 'slow-reader',
    'slow-callback', 'spin'];
  assert.deepEqual(Object.keys(FINDING_HELP).sort(), kinds.sort());
  for (const help of Object.values(FINDING_HELP)) assert.deepEqual(Object.keys(help), ['what', 'look', 'remedy']);
  assert.match(FINDING_HELP['slow-callback'].look, /axis "time" \(key t\)/);
  const flags = { 'starvation': /--max-connections.*--idle-timeout/, 'backoff': /ulimit -n, or LimitNOFILE/,
    'slow-reader': /fixed: 30 s/ };
  for (const [kind, flag] of Object.entries(flags)) assert.match(FINDING_HELP[kind].remedy, flag);
});
