// What each kind of entry changes in a state.

import { lowerBoundOf } from './decode.js';
import { INTERRUPTED, isPolledAgain } from './loop_state.js';
import { isEventOfGone } from '../words/step_facts.js';

/** The readiness flags: readable, read-to-end, error, hang-up; and those after which a short read is not the last. */
const READABLE_FLAGS = 0b11101;
const WRITABLE_FLAGS = 0b11010;
const READ_TO_END_FLAGS = 0b11100;
/** EAGAIN of Linux, of BSD and macOS, of Windows. */
const WOULD_BLOCK_ERRORS = [11, 35, 10035];
/** A poll may begin later than its timeout was computed, by at most this many nanoseconds. */
const POLL_DELAY_MAX = 50e6;
/** How many entries after a FIN are looked at for the close. */
const LOOK_AHEAD_MAX = 256;

/** What is known of an object that was just opened. */
const NEW_OBJECT = {
  registered: false, readable: false, writable: null, eof: false, inbox: 0, outbox: 0, paused: false,
  awaitsMemory: false, full: false,
};

/** Whether a lane is that of a connection. */
export function isConnectionLane(recording, lane) {
  return recording.objects[lane].kind === 'connection';
}

/**
 * By kind: applies an entry to a draft. Kinds without a step change nothing.
 * @type {Object<string, function(Draft, number, number): void>} of the draft, the index of the entry, its lane
 */
export const STEPS = {
  'poll-begin': onPollBegin,
  'poll-end': onPollEnd,
  'turn-end': onTurnEnd,
  'lost': (draft, index, lane) => draft.loseLoop(lane, index),
  'readiness': onReadiness,
  'existing': openExisting,
  'listening': (draft, index, lane) => openSource(draft, index, lane, 'listening'),
  'bound': (draft, index, lane) => openSource(draft, index, lane, 'open'),
  'watching': (draft, index, lane) => openSource(draft, index, lane, 'open'),
  'accept': onAccept,
  'full': onFull,
  'opened': openConnection,
  'connect': onConnect,
  'connected': onConnected,
  'registered': onRegistered,
  'deregistered': (draft, index, lane) => setObject(draft, index, lane, { registered: false }),
  'read': onRead,
  'write': onWrite,
  'shutdown-write': onShutdownWrite,
  'input-stopped': (draft, index, lane) => setObject(draft, index, lane, { readable: true }),
  'receive-batch': onReceiveBatch,
  'datagram-in': (draft, index, lane) => addBytes(draft, index, lane, 'bytesRead'),
  'datagram-out': (draft, index, lane) => callSucceeded(draft, index) && addBytes(draft, index, lane, 'bytesWritten'),
  'callback-begin': onCallbackBegin,
  'callback-end': onCallbackEnd,
  'paused': (draft, index, lane) => setObject(draft, index, lane, { paused: true }),
  'resumed': (draft, index, lane) => setObject(draft, index, lane, { paused: false }),
  'deferred': onDeferred,
  'awaits-memory': (draft, index, lane) => setObject(draft, index, lane, { awaitsMemory: true }),
  'deadline-set': onDeadlineSet,
  'deadline-fired': onDeadlineFired,
  'message': (draft, index, lane) => { draft.loopOf(lane).messageAt = index; },
  'backoff': onBackoff,
  'recovered': (draft, index, lane) => setObject(draft, index, lane, { backoffUntil: null }),
  'closed': onClosed,
  'freed': (draft, index, lane) => draft.free(lane, index),
  'drain': (draft, index, lane) => { draft.loopOf(lane).draining = true; },
};

/** Sets fields of an object, unless it is gone. */
function setObject(draft, index, lane, fields) {
  const record = draft.record(lane, index);
  if (record) Object.assign(record, fields);
}

function callSucceeded({ recording }, index) {
  return recording.errno[index] === 0;
}

function callWouldBlock({ recording }, index) {
  return WOULD_BLOCK_ERRORS.includes(recording.errno[index]);
}

function onPollBegin(draft, index, lane) {
  const { recording } = draft;
  const loop = draft.loopOf(lane);
  if (!loop.pollsAgain) loop.turn += 1;
  const [timeout, began] = [recording.first[index], recording.time[index]];
  Object.assign(loop, { phase: 'poll', pollTimeout: timeout, pollBegan: began, pollEnd: -1, pollsAgain: false });
  // The removal of a timer has no entry. But a poll waits at most until the first deadline.
  const before = timeout > 0 ? began + timeout - POLL_DELAY_MAX : -Infinity;
  if (loop.earliestTimer < before) removeTimers(draft, index, loop, before);
}

function removeTimers(draft, index, loop, before) {
  loop.earliestTimer = Infinity;
  for (const [timer, at] of [...loop.timers]) {
    if (at >= before) {
      loop.earliestTimer = Math.min(loop.earliestTimer, at);
      continue;
    }
    loop.timers.delete(timer);
    draft.forget(timer);
  }
}

function onPollEnd(draft, index, lane) {
  const { recording } = draft;
  const loop = draft.loopOf(lane);
  Object.assign(loop, {
    // A recording may begin while the loop polls.
    phase: 'work', turn: Math.max(loop.turn, 1), turnBegan: recording.time[index], carried: [...loop.deferred],
    pollEnd: index, pollsAgain: isPolledAgain(recording, index),
  });
}

function onTurnEnd(draft, index, lane) {
  const { recording } = draft;
  const loop = draft.loopOf(lane);
  // What was deferred before this turn was served in it.
  if (loop.deferredAt.size > 0) {
    for (const [object, at] of [...loop.deferredAt]) if (at < loop.pollEnd) loop.deferredAt.delete(object);
  }
  const isLast = recording.numberOf(index) === recording.loops[loop.loop].entryCount - 1;
  Object.assign(loop, { phase: isLast ? 'ended' : 'work', callbacks: [], pollsAgain: false });
}

function onReadiness(draft, index, lane) {
  const { recording } = draft;
  const flags = recording.first[index];
  if (isEventOfGone(recording, index)) return;
  const record = draft.record(lane, index);
  if (!record) return;
  if (flags & READABLE_FLAGS && !record.eof) record.readable = true;
  if (flags & WRITABLE_FLAGS) record.writable = true;
  if (flags & READ_TO_END_FLAGS) record.readsToEnd = true;
}

function onRegistered(draft, index, lane) {
  if (callSucceeded(draft, index)) setObject(draft, index, lane, { registered: true });
}

function openExisting(draft, index, lane) {
  const { recording } = draft;
  const known = draft.objects.get(lane) ?? { bytesRead: 0, bytesWritten: 0 };
  const { kind } = recording.objects[lane];
  draft.open(lane, index, {
    fd: recording.first[index], phase: kind === 'listener' ? 'listening' : 'open',
    listener: kind === 'connection' ? recording.second[index] : null,
    bytesRead: known.bytesRead, bytesWritten: known.bytesWritten, deadline: known.deadline ?? null,
  });
}

function openSource(draft, index, lane, phase) {
  draft.open(lane, index, { ...NEW_OBJECT, phase, fd: draft.recording.first[index] });
}

function openConnection(draft, index, lane) {
  const { recording } = draft;
  const fd = recording.first[index];
  // A client that was just accepted may have sent its request.
  const fields = fd > 0 ? { fd, readable: null, writable: true } : { phase: 'connecting' };
  draft.open(lane, index, { ...NEW_OBJECT, ...fields, listener: recording.second[index] });
}

function onConnect(draft, index, lane) {
  const fd = draft.recording.first[index];
  setObject(draft, index, lane, callSucceeded(draft, index) ? { fd, phase: 'connecting' } : { phase: 'closing' });
}

function onConnected(draft, index, lane) {
  const open = { phase: 'open', readable: false, writable: true };
  setObject(draft, index, lane, callSucceeded(draft, index) ? open : { phase: 'closing' });
}

function onAccept(draft, index, lane) {
  const record = draft.record(lane, index);
  draft.serve(lane, record, index);
  if (!record || draft.recording.errno[index] === INTERRUPTED) return;
  endHoldUp(draft, lane, record);
  if (callWouldBlock(draft, index)) record.readable = false;
  // The backlog may have more.
  else if (callSucceeded(draft, index)) record.readable = true;
}

/** Ends a pause after an error, and the wait for room. */
function endHoldUp(draft, lane, record) {
  Object.assign(record, { full: false, backoffUntil: null });
  if (record.deadline !== null) draft.setDeadline(lane, record, null);
}

function onFull(draft, index, lane) {
  const record = draft.record(lane, index);
  draft.serve(lane, record, index);
  if (!record) return;
  endHoldUp(draft, lane, record);
  record.full = true;
}

function onBackoff(draft, index, lane) {
  const record = draft.record(lane, index);
  if (!record) return;
  record.backoffUntil = draft.recording.time[index] + draft.recording.first[index];
  draft.setDeadline(lane, record, record.backoffUntil);
}

/** The outcome of a call that reads: nothing left, or perhaps more. */
function takeInput(draft, index, record) {
  const { recording } = draft;
  const isShort = recording.first[index] < recording.second[index] && !record.readsToEnd;
  if (callWouldBlock(draft, index)) record.readable = false;
  else if (callSucceeded(draft, index)) record.readable = !isShort;
}

function onRead(draft, index, lane) {
  const { recording } = draft;
  const record = draft.record(lane, index);
  draft.serve(lane, record, index);
  if (!record || recording.errno[index] === INTERRUPTED) return;
  record.awaitsMemory = false;
  takeInput(draft, index, record);
  const bytes = recording.first[index];
  if (!callSucceeded(draft, index)) {
    if (!callWouldBlock(draft, index)) record.phase = 'closing';
  } else if (bytes === 0) {
    Object.assign(record, { eof: true, readable: false });
  } else {
    record.eof = false;
    record.bytesRead += bytes;
    // Late input of a closing connection is discarded.
    if (record.phase !== 'closing' && record.inbox !== null) record.inbox += bytes;
  }
}

function onReceiveBatch(draft, index, lane) {
  const record = draft.record(lane, index);
  draft.serve(lane, record, index);
  if (!record || draft.recording.errno[index] === INTERRUPTED) return;
  endHoldUp(draft, lane, record);
  takeInput(draft, index, record);
}

function onWrite(draft, index, lane) {
  const { recording } = draft;
  const record = draft.record(lane, index);
  draft.serve(lane, record, index);
  if (!record || recording.errno[index] === INTERRUPTED) return;
  const [bytes, of] = [recording.first[index], recording.second[index]];
  record.outbox = of;
  if (callWouldBlock(draft, index)) record.writable = false;
  else if (!callSucceeded(draft, index)) record.phase = 'closing';
  else {
    record.outbox = Math.max(of - bytes, 0);
    record.writable = true;
    record.bytesWritten += bytes;
    if (record.outbox === 0) record.awaitsMemory = false;
  }
}

function addBytes(draft, index, lane, field) {
  const record = draft.record(lane, index);
  if (record) record[field] += draft.recording.first[index];
}

function onShutdownWrite(draft, index, lane) {
  const record = draft.record(lane, index);
  if (record && isClosedNext(draft.recording, index, lane)) Object.assign(record, { phase: 'closing', inbox: 0 });
}

/** Whether no callback follows but that of the close: then the FIN ends the connection, not only our side of it. */
function isClosedNext(recording, index, lane) {
  const entries = recording.entriesOf(lane);
  let at = lowerBoundOf(entries, index) + 1;
  for (const end = Math.min(entries.length, at + LOOK_AHEAD_MAX); at < end; at += 1) {
    const kind = recording.kindName(entries[at]);
    if (kind === 'closed') return true;
    if (kind === 'callback-begin') return isAfterClose(recording.callbacks[recording.first[entries[at]]]);
  }
  return false;
}

function isAfterClose(callback) {
  return callback === 'on_close' || callback === 'on_connect_failed';
}

function onCallbackBegin(draft, index, lane) {
  const { recording } = draft;
  const [callback, input] = [recording.callbacks[recording.first[index]], recording.second[index]];
  const loop = draft.loopOf(lane);
  loop.callbacks = [...loop.callbacks, { callback, object: lane, began: recording.time[index] }];
  if (isAfterClose(callback)) return;
  const record = draft.record(lane, index);
  draft.serve(lane, record, index);
  if (!record) return;
  // It gets all bytes of the inbox.
  if (callback === 'on_data' || callback === 'on_eof') record.inbox = input;
  if (callback === 'on_open' && record.phase === 'connecting') {
    Object.assign(record, { phase: 'open', readable: null, writable: true });
  }
}

function onCallbackEnd(draft, index, lane) {
  const { recording } = draft;
  const [callback, consumed] = [recording.callbacks[recording.first[index]], recording.second[index]];
  const loop = draft.loopOf(lane);
  const begin = loop.callbacks.findLastIndex((open) => open.callback === callback && open.object === lane);
  if (begin >= 0) loop.callbacks = loop.callbacks.slice(0, begin);
  // The removal of an object ends it before its callback ends.
  const record = draft.objects.has(lane) ? draft.record(lane, index) : undefined;
  if (!record) return;
  if (callback === 'on_data' && consumed !== Infinity) {
    if (record.inbox !== null) record.inbox = Math.max(record.inbox - consumed, 0);
    if (consumed > 0) record.awaitsMemory = false;
  } else if (callback === 'on_eof') {
    // The rest is dropped, unless the handler has paused.
    if (record.paused === null) record.inbox = null;
    else if (!record.paused) record.inbox = 0;
  } else if (callback === 'on_watch') {
    record.readable = false;
  } else if (callback === 'on_timer' && recording.objects[lane].kind === 'timer' && record.deadline === null) {
    draft.forget(lane);
  }
}

function onDeferred(draft, index, lane) {
  const record = draft.record(lane, index);
  if (!record) return;
  record.awaitsMemory = false;
  if (draft.recording.objects[lane].kind === 'watch') record.readable = true;
  draft.loopOf(lane).deferredAt.set(lane, index);
}

function onDeadlineSet(draft, index, lane) {
  const { recording } = draft;
  const { loop, kind } = recording.objects[lane];
  const isNew = kind === 'timer' && !draft.objects.has(lane);
  const record = isNew ? draft.open(lane, index, { ...NEW_OBJECT }) : draft.record(lane, index);
  // The number counts from the creation of its loop.
  if (record) draft.setDeadline(lane, record, recording.first[index] + (recording.loops[loop].startedAfter ?? 0));
}

function onDeadlineFired(draft, index, lane) {
  const record = draft.record(lane, index);
  if (record) draft.setDeadline(lane, record, null);
}

function onClosed(draft, index, lane) {
  const { recording } = draft;
  if (!isConnectionLane(recording, lane)) return draft.forget(lane);
  const record = draft.record(lane, index);
  if (!record) return undefined;
  draft.setDeadline(lane, record, null);
  draft.loopOf(lane).deferredAt.delete(lane);
  return Object.assign(record, {
    phase: 'closed', fd: null, registered: false, readable: false, writable: false, inbox: 0, outbox: 0,
    awaitsMemory: false, lastReason: recording.reasons[recording.first[index]] ?? null,
  });
}
