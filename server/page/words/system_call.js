// The system call of an entry, as strace(1) prints it.

import { eventFlagNames } from './sentences_of_loop.js';
import { numberWords, StepFacts } from './step_facts.js';

/** The most bytes of a string, and elements of an array, that strace(1) prints. */
const STRACE_LENGTH_MAX = 32;

/** What the recording does not know. */
const NOT_RECORDED = '...';

/** The most events of one poll of a loop. */
const POLL_EVENTS_MAX = 1024;

/** Levels and options of setsockopt(2), by their numbers on Linux. */
const OPTION_LEVELS = {
  0: ['SOL_IP', {}],
  1: ['SOL_SOCKET', { 2: 'SO_REUSEADDR', 6: 'SO_BROADCAST', 7: 'SO_SNDBUF', 8: 'SO_RCVBUF', 9: 'SO_KEEPALIVE',
    13: 'SO_LINGER', 15: 'SO_REUSEPORT', 26: 'SO_ATTACH_FILTER', 27: 'SO_DETACH_FILTER' }],
  6: ['SOL_TCP', { 1: 'TCP_NODELAY', 4: 'TCP_KEEPIDLE', 5: 'TCP_KEEPINTVL', 6: 'TCP_KEEPCNT', 18: 'TCP_USER_TIMEOUT',
    25: 'TCP_NOTSENT_LOWAT' }],
  17: ['SOL_UDP', {}],
  41: ['SOL_IPV6', {}],
};

const STRACE_ESCAPES = { 9: '\\t', 10: '\\n', 11: '\\v', 12: '\\f', 13: '\\r', 34: '\\"', 92: '\\\\' };

/**
 * A string as strace(1) quotes it: other bytes in octal, at most 32 bytes, then `...`.
 * @param {Uint8Array|undefined} bytes the recorded bytes
 * @param {number} length how many bytes the call had
 */
export function quotedBytes(bytes, length) {
  if (length === 0) return '""';
  if (!bytes || bytes.length === 0) return '"..."';
  const shown = bytes.subarray(0, Math.min(STRACE_LENGTH_MAX, length));
  let text = '';
  shown.forEach((byte, at) => { text += escapedByte(byte, shown[at + 1]); });
  return `"${text}"${shown.length < length ? '...' : ''}`;
}

function escapedByte(byte, next) {
  if (STRACE_ESCAPES[byte]) return STRACE_ESCAPES[byte];
  if (byte >= 32 && byte < 127) return String.fromCharCode(byte);
  // Three digits if a digit follows, which would else belong to the number.
  const isDigit = next >= 48 && next <= 55;
  return `\\${byte.toString(8).padStart(isDigit ? 3 : 1, '0')}`;
}

/**
 * An address as strace(1) prints it, and its length; null if it is not known. An empty text is a unix socket without a
 * name.
 */
export function sockaddrWords(address) {
  const inet = /^(\d+\.\d+\.\d+\.\d+):(\d+)$/.exec(address ?? '');
  if (inet) return [`{sa_family=AF_INET, sin_port=htons(${inet[2]}), sin_addr=inet_addr("${inet[1]}")}`, 16];
  const inet6 = /^\[([^\]%]+)(?:%(\d+))?\]:(\d+)$/.exec(address ?? '');
  if (inet6) {
    const [, ip, scope, port] = inet6;
    return [`{sa_family=AF_INET6, sin6_port=htons(${port}), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "${ip}", `
      + `&sin6_addr), sin6_scope_id=${scope ?? 0}}`, 28];
  }
  return address === '' ? ['{sa_family=AF_UNIX}', 2] : null;
}

function descriptorWords(step) {
  const { fd } = step.own;
  return Number.isFinite(fd) && fd > 0 ? String(fd) : '?';
}

/** The result: a number, or -1 with the error. */
function resultWords(step, number) {
  if (!step.error) return `= ${number}`;
  const text = step.recording.errorTexts?.[step.recording.errno[step.index]];
  return `= -1 ${step.error}${text ? ` (${text})` : ''}`;
}

function pollCall(step) {
  const wait = step.loop.pollTimeout;
  const milliseconds = wait === Infinity ? -1 : Number.isFinite(wait) ? Math.ceil(wait / 1e6) : NOT_RECORDED;
  const events = step.error ? NOT_RECORDED : `[${eventsOfPoll(step).join(', ')}]`;
  return `epoll_wait(?, ${events}, ${POLL_EVENTS_MAX}, ${milliseconds}) ${resultWords(step, step.firstWords)}`;
}

/** The events of a poll, and what is not shown of them. */
function eventsOfPoll(step) {
  const shown = step.eventsOfPoll.slice(0, STRACE_LENGTH_MAX);
  const events = shown.map((index) => `{events=${eventFlagNames(step.recording.first[index])}, ...}`);
  return events.length < step.first ? [...events, NOT_RECORDED] : events;
}

function acceptCall(step) {
  const start = `accept4(${descriptorWords(step)}, `;
  const flags = 'SOCK_CLOEXEC|SOCK_NONBLOCK';
  const family = step.recording.objects[step.lane].address;
  // A unix path has no port.
  const room = sockaddrWords(family) ? 128 : family === null ? NOT_RECORDED : 110;
  if (step.error) return `${start}${NOT_RECORDED}, [${room}], ${flags}) ${resultWords(step)}`;
  const next = step.nextIndexOfLoop;
  const isOpened = next !== null && step.recording.kindName(next) === 'opened';
  const [address, length] = (isOpened && sockaddrWords(step.recording.addressOf(next))) || [NOT_RECORDED, NOT_RECORDED];
  return `${start}${address}, [${room} => ${length}], ${flags}) = ${step.firstWords}`;
}

function registeredCall(step) {
  return `epoll_ctl(?, EPOLL_CTL_ADD, ${descriptorWords(step)}, {events=${registeredInterests(step)}, ...}) `
    + resultWords(step, 0);
}

/** What the poll is asked to report. The watch of a descriptor has that in the entry before. */
function registeredInterests(step) {
  if (step.objectKind === 'connection') return 'EPOLLIN|EPOLLPRI|EPOLLOUT|EPOLLRDHUP|EPOLLET';
  if (step.objectKind !== 'watch') return 'EPOLLIN|EPOLLRDHUP|EPOLLET';
  const before = step.recording.entriesOf(step.lane)[0];
  if (step.recording.kindName(before) !== 'watching') return `${NOT_RECORDED}|EPOLLET`;
  const interests = step.recording.second[before];
  const names = [interests & 1 && 'EPOLLIN', interests & 2 && 'EPOLLOUT', interests & 1 && 'EPOLLRDHUP', 'EPOLLET'];
  return names.filter(Boolean).join('|');
}

function readCall(step) {
  const bytes = step.error ? NOT_RECORDED : quotedBytes(step.recording.payloadOf(step.index), step.first);
  return `recvfrom(${descriptorWords(step)}, ${bytes}, ${step.secondWords}, 0, NULL, NULL) `
    + resultWords(step, step.firstWords);
}

function writeCall(step) {
  const bytes = quotedBytes(step.recording.payloadOf(step.index), step.second);
  return `sendto(${descriptorWords(step)}, ${bytes}, ${step.secondWords}, MSG_NOSIGNAL|..., NULL, 0) `
    + resultWords(step, step.firstWords);
}


function shutdownCall(step) {
  return `shutdown(${descriptorWords(step)}, ${step.second === 1 ? 'SHUT_RDWR' : 'SHUT_WR'}) ${resultWords(step, 0)}`;
}

function optionCall(step) {
  const [level, options] = OPTION_LEVELS[step.first] ?? [step.firstWords, {}];
  const option = options[step.second] ?? step.secondWords;
  // A reset follows only a linger time of zero.
  const next = step.nextOfObject().next().value;
  const isReset = option === 'SO_LINGER' && next !== undefined && step.recording.kindName(next) === 'closed'
    && step.recording.second[next] === 1;
  const value = isReset ? '{l_onoff=1, l_linger=0}, 8'
    : option === 'SO_DETACH_FILTER' ? '[0], 4'
    : option === 'TCP_NOTSENT_LOWAT' ? '[1], 4' : `${NOT_RECORDED}, ${NOT_RECORDED}`;
  return `setsockopt(${descriptorWords(step)}, ${level}, ${option}, ${value}) ${resultWords(step, 0)}`;
}

function stopInputCall(step) {
  return step.first === 1 ? `shutdown(${descriptorWords(step)}, SHUT_RD) ${resultWords(step, 0)}`
    : `setsockopt(${descriptorWords(step)}, SOL_SOCKET, SO_ATTACH_FILTER, {len=8, filter=${NOT_RECORDED}}, 16) `
      + resultWords(step, 0);
}

function connectCall(step) {
  if (step.second === 1) return null;
  const fd = step.first > 0 && step.first !== Infinity ? step.first : '?';
  const [address, length] = sockaddrWords(step.address) ?? [NOT_RECORDED, NOT_RECORDED];
  // Of a connect in progress, the recording has no error number. A unix socket connects at once.
  const result = step.error || length === NOT_RECORDED ? resultWords(step, 0)
    : '= -1 EINPROGRESS (Operation now in progress)';
  return `connect(${fd}, ${address}, ${length}) ${result}`;
}

/** The result of close(2) is not recorded. */
function closeCall(step) {
  if (step.objectKind === 'watch' || step.own.phase === 'connecting') return null;
  return `close(${descriptorWords(step)}) = ?`;
}

/** The descriptor is that of the last accept of the listener. */
function refusedCall(step) {
  const entries = step.recording.entriesOf(step.lane);
  const before = entries[entries.indexOf(step.index) - 1];
  const isAccept = before !== undefined && step.recording.kindName(before) === 'accept';
  return `close(${isAccept ? numberWords(step.recording.first[before]) : '?'}) = ?`;
}

/** The datagrams of a batch: the next entries of this kind of the socket. */
function datagramsOf(step, kind, count) {
  const { recording } = step;
  const found = [];
  for (const index of step.nextOfObject()) {
    const next = recording.kindName(index);
    if (found.length === Math.min(count, STRACE_LENGTH_MAX) || next === 'receive-batch' || next === 'send-batch') break;
    if (next === kind) found.push(index);
  }
  return found;
}

/** One message with these datagrams. Its room, its control messages and the buffers of several are not recorded. */
function messageWords(recording, datagrams) {
  const [address, length] = addressWords(recording, datagrams[0]);
  const sum = datagrams.reduce((bytes, index) => bytes + recording.first[index], 0);
  const room = recording.kindName(datagrams[0]) === 'datagram-out' ? numberWords(sum) : NOT_RECORDED;
  const [buffers, count] = datagrams.length > 1 ? [NOT_RECORDED, NOT_RECORDED]
    : [`{iov_base=${quotedBytes(recording.payloadOf(datagrams[0]), sum)}, iov_len=${room}}`, 1];
  return `{msg_hdr={msg_name=${address}, msg_namelen=${length}, msg_iov=[${buffers}], msg_iovlen=${count}, ...}, `
    + `msg_len=${numberWords(sum)}}`;
}

function addressWords(recording, index) {
  const words = index === undefined ? null : sockaddrWords(recording.addressOf(index));
  return words ?? [NOT_RECORDED, NOT_RECORDED];
}

function receiveBatchCall(step) {
  const { recording } = step;
  const start = `recvmmsg(${descriptorWords(step)}, `;
  const end = `${step.secondWords}, 0, NULL) ${resultWords(step, step.firstWords)}`;
  if (step.error) return `${start}${NOT_RECORDED}, ${end}`;
  const messages = datagramsOf(step, 'datagram-in', step.first).map((index) => messageWords(recording, [index]));
  if (messages.length < step.first) messages.push('...');
  return `${start}[${messages.join(', ')}], ${end}`;
}

function sendBatchCall(step) {
  const { recording, sentDatagrams: datagrams } = step;
  if (step.second === 1 && datagrams.length < 2) {
    // Of a failed call, the recording has the datagram after the last try.
    const [datagram] = datagrams.length > 0 ? datagrams : datagramsOf(step, 'datagram-out', 1);
    const length = datagram === undefined ? Infinity : recording.first[datagram];
    const text = quotedBytes(datagram === undefined ? undefined : recording.payloadOf(datagram), length);
    const [address, size] = addressWords(recording, datagram);
    return `sendto(${descriptorWords(step)}, ${text}, ${numberWords(length)}, MSG_NOSIGNAL, ${address}, ${size}) `
      + resultWords(step, numberWords(length));
  }
  const messages = messagesOf(step, datagrams);
  return `sendmmsg(${descriptorWords(step)}, [${messages.join(', ')}], ${step.secondWords}, 0) `
    + resultWords(step, step.firstWords);
}

/** The messages of a batch. A message has one datagram, or several to one peer; only the sum is recorded. */
function messagesOf(step, datagrams) {
  const { recording } = step;
  if (step.first === datagrams.length) {
    const messages = datagrams.slice(0, STRACE_LENGTH_MAX).map((index) => messageWords(recording, [index]));
    return messages.length < step.second ? [...messages, NOT_RECORDED] : messages;
  }
  return step.first === 1 && step.second === 1 ? [messageWords(recording, datagrams)] : [NOT_RECORDED];
}

const SYSTEM_CALLS = {
  'poll-begin': () => 'epoll_wait(?,  <unfinished ...>',
  'poll-end': pollCall,
  'accept': acceptCall,
  'refused': refusedCall,
  'connect': connectCall,
  'registered': registeredCall,
  'deregistered': (step) => `epoll_ctl(?, EPOLL_CTL_DEL, ${descriptorWords(step)}, NULL) ${resultWords(step, 0)}`,
  'read': readCall,
  'write': writeCall,
  'shutdown-write': shutdownCall,
  'option-set': optionCall,
  'input-stopped': stopInputCall,
  'receive-batch': receiveBatchCall,
  'send-batch': sendBatchCall,
  'closed': closeCall,
};

/**
 * The system call of an entry; null if it made none. `...` and `?` stand for what the recording does not have.
 * @param recording the decoded recording
 * @param before the state before the entry; null if it is not known
 * @param {number} index
 */
export function systemCallOf(recording, before, index) {
  return SYSTEM_CALLS[recording.kindName(index)]?.(new StepFacts(recording, before, index)) ?? null;
}
