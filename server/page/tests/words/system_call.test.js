// Tests of the system calls: as strace(1) prints them.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { quotedBytes, sockaddrWords, systemCallOf } from '../../words/system_call.js';
import { buildRecording } from '../recording_builder.js';

const CLIENT = 'connection 3#17';
const LISTENER = 'listener 0#1';
const SOCKET = 'udp-socket 0#2';
const PEER = '10.0.0.9:4000';
const SOCKADDR = '{sa_family=AF_INET, sin_port=htons(4000), sin_addr=inet_addr("10.0.0.9")}';

/** The call of the first entry; the others follow it. Its object has descriptor 9, and the poll has no limit. */
function callOf(...entries) {
  const opened = [
    ['listening', LISTENER, [9], { address: '127.0.0.1:8888' }], ['bound', SOCKET, [9], { address: '127.0.0.1:8888' }],
    ['opened', CLIENT, [9, 0], { address: PEER }],
  ];
  const recording = buildRecording([...opened, ...entries]);
  const index = opened.length;
  const state = { loops: [{ pollTimeout: Infinity }], objects: new Map([[recording.object[index], { fd: 9 }]]) };
  return systemCallOf(recording, state, index);
}

test('a read has its bytes, or its error', () => {
  assert.equal(callOf(['read', CLIENT, [6, 65536], { payload: 'Hello\n' }]),
    'recvfrom(9, "Hello\\n", 65536, 0, NULL, NULL) = 6');
  assert.equal(callOf(['read', CLIENT, [6, 65536]]), 'recvfrom(9, "...", 65536, 0, NULL, NULL) = 6');
  assert.equal(callOf(['read', CLIENT, [0, 65536]]), 'recvfrom(9, "", 65536, 0, NULL, NULL) = 0');
  assert.equal(callOf(['read', CLIENT, [0, 65536], { errno: 'EAGAIN' }]),
    'recvfrom(9, ..., 65536, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)');
});

test('a write has what was offered, and what was accepted', () => {
  assert.equal(callOf(['write', CLIENT, [2, 4], { payload: 'ab' }]),
    'sendto(9, "ab"..., 4, MSG_NOSIGNAL|..., NULL, 0) = 2');
  assert.equal(callOf(['write', CLIENT, [0, 4], { errno: 'EPIPE' }]),
    'sendto(9, "...", 4, MSG_NOSIGNAL|..., NULL, 0) = -1 EPIPE (Broken pipe)');
});

test('a poll has the events that follow it', () => {
  assert.equal(callOf(['poll-end', 'loop', [3, 0]], ['readiness', LISTENER, [1, 1]], ['accept', LISTENER, [9]],
    ['readiness', CLIENT, [31, 17]]),
  'epoll_wait(?, [{events=EPOLLIN, ...}, {events=EPOLLIN|EPOLLOUT|EPOLLERR|EPOLLHUP|EPOLLRDHUP, ...}, ...], 1024, '
    + '-1) = 3');
  assert.equal(callOf(['poll-end', 'loop', [0, 0], { errno: 'EINTR' }]),
    'epoll_wait(?, ..., 1024, -1) = -1 EINTR (Interrupted system call)');
});

test('events of a second poll come after those of the first', () => {
  const recording = buildRecording([
    ['poll-end', 'loop', [1, 1]], ['poll-begin', 'loop', [0]], ['poll-end', 'loop', [1, 0]],
    ['readiness', LISTENER, [1, 1]], ['readiness', CLIENT, [2, 17]], ['turn-end', 'loop', [1]],
  ]);
  assert.equal(systemCallOf(recording, null, 0), 'epoll_wait(?, [{events=EPOLLIN, ...}], 1024, ...) = 1');
  assert.equal(systemCallOf(recording, null, 2), 'epoll_wait(?, [{events=EPOLLOUT, ...}], 1024, ...) = 1');
});

test('an accept has the address of the connection that it opens', () => {
  const flags = 'SOCK_CLOEXEC|SOCK_NONBLOCK';
  assert.equal(callOf(['accept', LISTENER, [12]], ['opened', 'connection 4#18', [12, 0], { address: PEER }]),
    `accept4(9, ${SOCKADDR}, [128 => 16], ${flags}) = 12`);
  assert.equal(callOf(['accept', LISTENER, [0], { errno: 'EAGAIN' }]),
    `accept4(9, ..., [128], ${flags}) = -1 EAGAIN (Resource temporarily unavailable)`);
  assert.equal(callOf(['accept', LISTENER, [12]], ['refused', LISTENER, [0]]),
    `accept4(9, ..., [128 => ...], ${flags}) = 12`);
});

test('a close has the descriptor, and no result', () => {
  assert.equal(callOf(['closed', CLIENT, ['eof', 0]]), 'close(9) = ?');
  const recording = buildRecording([['accept', LISTENER, [12]], ['refused', LISTENER, [0]]]);
  assert.equal(systemCallOf(recording, null, 1), 'close(12) = ?');
  assert.equal(systemCallOf(buildRecording([['closed', 'watch 0#5']]), null, 0), null);
});

test('the other calls of a connection', () => {
  assert.equal(callOf(['registered', CLIENT]),
    'epoll_ctl(?, EPOLL_CTL_ADD, 9, {events=EPOLLIN|EPOLLPRI|EPOLLOUT|EPOLLRDHUP|EPOLLET, ...}) = 0');
  assert.equal(callOf(['deregistered', CLIENT]), 'epoll_ctl(?, EPOLL_CTL_DEL, 9, NULL) = 0');
  assert.equal(callOf(['shutdown-write', CLIENT]), 'shutdown(9, SHUT_WR) = 0');
  assert.equal(callOf(['shutdown-write', CLIENT, [0, 1]]), 'shutdown(9, SHUT_RDWR) = 0');
  assert.equal(callOf(['option-set', CLIENT, [1, 13]], ['closed', CLIENT, ['aborted', 1]]),
    'setsockopt(9, SOL_SOCKET, SO_LINGER, {l_onoff=1, l_linger=0}, 8) = 0');
  assert.equal(callOf(['option-set', CLIENT, [6, 1]]), 'setsockopt(9, SOL_TCP, TCP_NODELAY, ..., ...) = 0');
  assert.equal(callOf(['option-set', CLIENT, [1, 27]]), 'setsockopt(9, SOL_SOCKET, SO_DETACH_FILTER, [0], 4) = 0');
  assert.equal(callOf(['option-set', CLIENT, [6, 25]]), 'setsockopt(9, SOL_TCP, TCP_NOTSENT_LOWAT, [1], 4) = 0');
  assert.equal(callOf(['input-stopped', CLIENT, [0]]),
    'setsockopt(9, SOL_SOCKET, SO_ATTACH_FILTER, {len=8, filter=...}, 16) = 0');
  assert.equal(callOf(['input-stopped', CLIENT, [1]]), 'shutdown(9, SHUT_RD) = 0');
  assert.equal(callOf(['connect', CLIENT, [9, 0]]),
    `connect(9, ${SOCKADDR}, 16) = -1 EINPROGRESS (Operation now in progress)`);
  assert.equal(callOf(['connect', CLIENT, [9, 1]]), null);
  assert.equal(callOf(['callback-begin', CLIENT, ['on_data', 1]]), null);
});

test('datagrams of one call have their addresses and bytes', () => {
  const datagram = (kind, payload) => [kind, SOCKET, [payload.length, 0], { address: PEER, payload }];
  const message = (text, room) => (
    `{msg_hdr={msg_name=${SOCKADDR}, msg_namelen=16, msg_iov=[{iov_base="${text}", iov_len=${room}}], msg_iovlen=1, `
    + `...}, msg_len=${text.length}}`
  );
  assert.equal(callOf(['receive-batch', SOCKET, [2, 8]], ['callback-begin', SOCKET, ['on_datagram', 2]],
    datagram('datagram-in', 'one'), datagram('datagram-in', 'three')),
  `recvmmsg(9, [${message('one', '...')}, ${message('three', '...')}], 8, 0, NULL) = 2`);
  assert.equal(callOf(['send-batch', SOCKET, [1, 1]], datagram('datagram-out', 'one')),
    `sendto(9, "one", 3, MSG_NOSIGNAL, ${SOCKADDR}, 16) = 3`);
  const sent = ['one', 'three', 'two'].map((payload) => datagram('datagram-out', payload));
  assert.equal(callOf(['send-batch', SOCKET, [2, 2]], sent[0], sent[1]),
    `sendmmsg(9, [${message('one', 3)}, ${message('three', 5)}], 2, 0) = 2`);
  assert.equal(callOf(['send-batch', SOCKET, [1, 1]], sent[0], sent[2]),
    `sendmmsg(9, [{msg_hdr={msg_name=${SOCKADDR}, msg_namelen=16, msg_iov=[...], msg_iovlen=..., ...}, `
    + 'msg_len=6}], 1, 0) = 1');
});

test('bytes are quoted as strace quotes them', () => {
  const bytes = (...list) => Uint8Array.from(list);
  assert.equal(quotedBytes(bytes(0, 0x31, 0, 0x38, 7, 9, 10, 11, 12, 13, 34, 92, 127, 255), 14),
    '"\\0001\\08\\7\\t\\n\\v\\f\\r\\"\\\\\\177\\377"');
  assert.equal(quotedBytes(new Uint8Array(40).fill(120), 40), `"${'x'.repeat(32)}"...`);
  assert.equal(quotedBytes(bytes(120), 2), '"x"...');
});

test('addresses are those of both families', () => {
  assert.deepEqual(sockaddrWords('[fe80::1%2]:53'), ['{sa_family=AF_INET6, sin6_port=htons(53), '
    + 'sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "fe80::1", &sin6_addr), sin6_scope_id=2}', 28]);
  assert.deepEqual(sockaddrWords(''), ['{sa_family=AF_UNIX}', 2]);
  assert.equal(sockaddrWords(null), null);
});
