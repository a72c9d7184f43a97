// The rows of the tables: slab, buffers, ready queue, deadlines.

import { countedNoun, grouped, spanText } from '../words/formatting.js';
import { lowerBoundOf } from '../recording/decode.js';
import { isEventOfGone, laneOfEvent } from '../words/step_facts.js';

/** Rows of a table, and slots with a cell, at most. */
export const TABLE_ROWS_MAX = 8;
export const SLOT_CELLS_MAX = 24;
/** Rows of objects with input that is known and not read, at most. */
const UNREAD_ROWS_MAX = 3;
/** How many entries of a lane a look for its last read goes back, at most. */
const LOOK_BACK_MAX = 4096;

/** The states of a slot, in the order of their numbers in `SlabView.states`. */
export const SLOT_STATES = ['not seen', 'free', 'connecting', 'open', 'closing', 'closed'];
const STATE_NUMBERS = Object.fromEntries(SLOT_STATES.map((name, number) => [name, number]));

/** `1st`, `2nd`, `3rd`, `11th`, `21st`. */
export function ordinal(number) {
  const isTeen = Math.floor(number / 10) % 10 === 1;
  const ending = isTeen ? 'th' : ['th', 'st', 'nd', 'rd'][number % 10] ?? 'th';
  return `${grouped(number)}${ending}`;
}

/** `18 bytes`, `64 KiB`, `1.5 MiB`; unknown for null. */
export function bytesText(bytes) {
  if (bytes === null) return 'unknown';
  if (bytes < 10 * 1024) return countedNoun(bytes, 'byte');
  const [amount, unit] = bytes < 1024 * 1024 ? [bytes / 1024, 'KiB'] : [bytes / 1024 / 1024, 'MiB'];
  return `${grouped(Math.round(amount * 10) / 10)} ${unit}`;
}

/** The level of an outbox. What was added after the last write is not known. */
export function outboxText(bytes) {
  return bytes > 0 ? `${bytesText(bytes)} at the last write` : bytesText(bytes);
}

/** The slot of the connection that an entry is about, also of a stale event; null if there is none. */
export function slotOfEntry(recording, index) {
  const isOfConnection = recording.objectKinds[recording.objectKind[index]] === 'connection';
  return isOfConnection ? recording.slot[index] : null;
}

/**
 * The slab of a loop: the state of each slot, and the cells of at most 24 of them. The cells begin at a multiple of
 * 24, with the slot of the entry, or else where they began before.
 */
export function slabView(recording, state, index, firstBefore = 0) {
  const loop = recording.loopOf(index);
  const slots = state.slots[loop];
  const size = slots.lastKey() + 1;
  const states = new Uint8Array(size);
  const touched = new Uint8Array(size);
  const counts = new Array(SLOT_STATES.length).fill(0);
  const turnBegan = state.loops[loop].pollEnd;
  slots.forEach((entry, slot) => {
    const record = entry.object === null ? undefined : state.objects.get(entry.object);
    states[slot] = STATE_NUMBERS[record === undefined ? 'free' : record.phase];
    counts[states[slot]] += 1;
    const isTouched = entry.changed > turnBegan || (record !== undefined && record.changed > turnBegan);
    if (turnBegan >= 0 && isTouched) touched[slot] = 1;
  });
  const current = slotOfEntry(recording, index);
  const isKnown = current !== null && current < size;
  const first = Math.floor((isKnown ? current : Math.min(firstBefore, Math.max(size - 1, 0))) / SLOT_CELLS_MAX);
  const cells = [];
  for (let slot = first * SLOT_CELLS_MAX; slot < Math.min(size, (first + 1) * SLOT_CELLS_MAX); slot += 1) {
    const { object = null, uses = 0 } = slots.get(slot) ?? {};
    const ofSlot = { slot, object, uses, state: SLOT_STATES[states[slot]] };
    cells.push({ ...ofSlot, isTouched: touched[slot] === 1, isCurrent: slot === current });
  }
  const objectOf = (slot) => slots.get(slot)?.object ?? null;
  const isShown = { first: first * SLOT_CELLS_MAX, current: isKnown ? current : null };
  return { size, states, touched, counts, cells, objectOf, ...isShown };
}

/** A slot in words: `Slot 3: connection 10.0.0.9:4000 #17, open, 3rd use.` */
export function slotText(recording, { slot, object, uses, state, isTouched }) {
  if (state === 'not seen') return `Slot ${slot}: not used in this recording.`;
  const holder = object === null ? 'free' : `${recording.objects[object].name}, ${state}`;
  const use = object === null ? `used ${uses === 1 ? 'once' : `${grouped(uses)} times`}` : `${ordinal(uses)} use`;
  return `Slot ${slot}: ${holder}, ${use}${isTouched ? ', touched in this turn' : ''}.`;
}

/** `9 open, 1 closing, 2 free`. */
export function slabCounts({ counts }) {
  const parts = SLOT_STATES.map((name, at) => [counts[at], name]).filter(([count]) => count > 0);
  return parts.map(([count, name]) => `${grouped(count)} ${name}`).join(', ');
}

/**
 * The buffers of the connection of the entry, and of those with bytes in them, the most first. `waiting` is how many
 * connections have bytes, or do not read for a reason.
 */
export function bufferRows(recording, state, index) {
  const loop = recording.loopOf(index);
  const lane = recording.object[index];
  const { objects } = recording;
  const found = [];
  let [waiting, connections] = [0, 0];
  state.objects.forEach((record, object) => {
    const { kind, loop: ofLoop } = objects[object];
    if (kind !== 'connection' || ofLoop !== loop || record.phase === 'closed') return;
    connections += 1;
    const isWaiting = record.inbox > 0 || record.outbox > 0 || record.paused || record.awaitsMemory;
    if (isWaiting) waiting += 1;
    const order = object === lane ? -Infinity : -(record.inbox + record.outbox);
    if (isWaiting || object === lane) addSorted(found, order, object, isWaiting);
  });
  const rows = found.map(({ object }) => {
    const record = state.objects.get(object);
    const { inbox, outbox } = record;
    const words = bufferWords(record);
    return { object, name: shortName(objects[object]), inbox, outbox, words, isCurrent: object === lane };
  });
  return { rows, more: waiting - found.filter(({ isWaiting }) => isWaiting).length, connections };
}

/** Adds an object by its order to a list of at most so many. */
function addSorted(items, order, object, isWaiting = true, most = TABLE_ROWS_MAX) {
  if (items.length === most && items[most - 1].order <= order) return;
  let at = items.length;
  while (at > 0 && items[at - 1].order > order) at -= 1;
  items.splice(at, 0, { object, order, isWaiting });
  if (items.length > most) items.pop();
}

/** What keeps a connection from reading or writing. */
export function bufferWords({ phase, paused, awaitsMemory, eof, writable, outbox }) {
  const words = [];
  if (phase === 'connecting' || phase === 'closing') words.push(phase);
  if (paused) words.push('paused');
  if (awaitsMemory) words.push('awaits memory');
  if (eof) words.push('EOF');
  if (outbox > 0 && writable === false) words.push('kernel is full');
  return words;
}

/** The name of an object; without its kind if that is clear. */
function shortName({ kind, address, name }) {
  return kind === 'connection' && address !== null ? name.replace(/^connection /, '') : name;
}

/**
 * What the poll of this turn reported, and what the turn before has deferred, in the order in which they are served.
 * `before` and `after` are how many rows are left out on each side of those around the one that is served. Objects with
 * input that is known and not read come last; `unread` is how many there are.
 */
export function queueRows(recording, state, index) {
  const loop = state.loops[recording.loopOf(index)];
  const { waiting } = loop;
  const served = recording.kindName(index) === 'turn-end' ? null : servedObject(recording, state, index);
  const statusOf = (object) => {
    const { full, backoffUntil = null } = state.objects.get(object) ?? {};
    // The close of an object does not handle its event.
    if (object === served && !(waiting.has(object) && isReportOfGone(recording, loop, object))) return 'served now';
    if (loop.deferredAt.get(object) > loop.pollEnd) return 'deferred to the next turn';
    if (full) return 'waits for room';
    if (backoffUntil !== null) return 'pauses after an error';
    return waiting.has(object) ? 'waits' : 'served';
  };
  const all = queueOrder(recording, loop).map((object) => (
    { object, name: queueName(recording, state, loop, object), status: statusOf(object) }
  ));
  const { rows: unreadRows, count: unread } = unreadInput(recording, state, index, new Set(loop.reported));
  const most = TABLE_ROWS_MAX - unreadRows.length;
  const now = all.findIndex(({ status }) => status === 'served now');
  const center = now >= 0 ? now : all.findIndex(({ status }) => status === 'waits');
  const start = Math.max(0, Math.min(center - 2, all.length - most));
  const rows = all.slice(start, start + most).map((row, at) => (
    { ...row, place: start + at + 1, isCurrent: row.status === 'served now' }
  ));
  const servedCount = all.filter(({ status }) => status === 'served').length;
  const places = { before: start, after: all.length - start - rows.length, total: all.length, served: servedCount };
  return { rows: [...rows, ...unreadRows], ...places, unread };
}

/** The calls that take the input of an object, and the word for it. */
const INPUT_CALLS = {
  'connection': ['read', 'not read'], 'listener': ['accept', 'not accepted from'],
  'udp-socket': ['receive-batch', 'not received from'],
};

/** Objects with input that is known, and that the loop does not serve: those that wait the longest, and how many. */
function unreadInput(recording, state, index, reported) {
  const loop = state.loops[recording.loopOf(index)];
  const found = [];
  let count = 0;
  state.objects.forEach((record, object) => {
    const { kind, loop: ofLoop } = recording.objects[object];
    if (record.readable !== true || ofLoop !== loop.loop || !(kind in INPUT_CALLS)) return;
    if (record.phase !== 'open' && record.phase !== 'listening') return;
    // The loop knows of these, or serves them now. While it drains, it accepts no client.
    if (record.full || record.backoffUntil !== null || loop.deferredAt.has(object) || reported.has(object)) return;
    const isServed = loop.phase === 'work' && record.served > loop.pollEnd;
    if (isServed || (loop.draining && kind !== 'connection')) return;
    count += 1;
    addSorted(found, record.served, object, true, UNREAD_ROWS_MAX);
  });
  const rows = found.map(({ object }) => ({
    object, name: shortName(recording.objects[object]), status: unreadWords(recording, state, index, object),
    isCurrent: false, isUnread: true,
  }));
  return { rows, count };
}

/** Why input is not read, or since when. */
function unreadWords(recording, state, index, object) {
  const { paused, awaitsMemory, outbox } = state.objects.get(object);
  if (paused) return 'readable, and reading is paused';
  if (awaitsMemory) return 'readable, and awaits memory';
  if (outbox > 0) return 'readable, and its outbox has output';
  const [call, words] = INPUT_CALLS[recording.objects[object].kind];
  const at = lastEntryOf(recording, object, call, index);
  return `readable, ${at === null ? words : `${words} since entry ${grouped(recording.numberOf(at))}`}`;
}

/** The last entry of a kind in a lane, up to an index; null if it is not near. */
function lastEntryOf(recording, object, kind, index) {
  const entries = recording.entriesOf(object);
  const low = lowerBoundOf(entries, index + 1);
  for (let at = low - 1; at >= Math.max(0, low - LOOK_BACK_MAX); at -= 1) {
    if (recording.kindName(entries[at]) === kind) return entries[at];
  }
  return null;
}

/** Events of connections, deferred connections, then sources, then messages: the stages of a turn. */
function queueOrder(recording, loop) {
  const carried = loop.phase === 'poll' ? [...loop.deferred] : loop.carried;
  const reported = new Set(loop.reported);
  const stages = [[], [], [], []];
  for (const object of new Set([...reported, ...carried, ...loop.deferred])) {
    const { kind } = recording.objects[object];
    const ofOther = kind === 'loop' ? 3 : 2;
    stages[kind === 'connection' ? Number(!reported.has(object)) : ofOther].push(object);
  }
  return stages.flat();
}

/** The object that an entry serves. A listener is served while its new clients are; the loop by its messages. */
function servedObject(recording, state, index) {
  const lane = recording.object[index];
  const { loop, kind, slot } = recording.objects[lane];
  if (isEventOfGone(recording, index)) return laneOfEvent(recording, index);
  if (kind === 'loop') return state.loops[loop].messageAt > state.loops[loop].pollEnd ? lane : null;
  const listenerSlot = kind === 'connection' ? state.objects.get(lane)?.listener ?? null : null;
  if (listenerSlot === null || state.loops[loop].reported.includes(lane)) return lane;
  const openedAt = state.slots[loop].get(slot)?.changed ?? -1;
  const listener = state.loops[loop].reported.find((object) => {
    const { kind: ofKind, slot: ofSlot } = recording.objects[object];
    return ofKind === 'listener' && ofSlot === listenerSlot;
  });
  return listener !== undefined && openedAt > state.objects.get(listener)?.served ? listener : lane;
}

function queueName(recording, state, loop, object) {
  const name = shortName(recording.objects[object]);
  if (recording.objects[object].kind === 'loop') return 'wake-up of the loop';
  const isClosed = (state.objects.get(object)?.phase ?? 'closed') === 'closed';
  return isClosed && isReportOfGone(recording, loop, object) ? `event of ${name}, which is gone` : name;
}

/** Whether the event of an object in this turn is handled after its slot has another object. */
function isReportOfGone(recording, loop, object) {
  const reportedAt = loop.reports().get(object);
  return reportedAt !== undefined && isEventOfGone(recording, reportedAt);
}

/** The first deadlines of a loop. */
export function deadlineRows(recording, state, index) {
  const deadlines = state.deadlines[recording.loopOf(index)];
  const [now, lane] = [recording.time[index], recording.object[index]];
  const found = [];
  deadlines.forEach((at, object) => addSorted(found, at, object));
  const rows = found.map(({ object, order: at }) => ({
    object, name: shortName(recording.objects[object]), text: deadlineText(at - now), isOverdue: at < now,
    isCurrent: object === lane,
  }));
  return { rows, more: deadlines.size - rows.length };
}

/** `in 30.0 s`, `overdue 12 ms`, `now`. */
export function deadlineText(nanoseconds) {
  if (Math.abs(nanoseconds) < 1000) return 'now';
  return nanoseconds < 0 ? `overdue ${spanText(-nanoseconds)}` : `in ${spanText(nanoseconds)}`;
}

/** What a loop does, in one line. */
export function loopText(recording, state, index) {
  const loop = state.loops[recording.loopOf(index)];
  const { name } = recording.loops[loop.loop];
  const turn = loop.turn === 0 ? 'before its first turn' : `turn ${grouped(loop.turn)}`;
  const drain = loop.draining ? '; it drains' : '';
  return `Loop ${name}, ${turn}: ${activityText(recording, loop, index)}${drain}.`;
}

function activityText(recording, loop, index) {
  if (loop.phase === 'ended') return 'its recording ends here';
  if (loop.phase === 'poll') {
    if (loop.pollTimeout === 0) return 'it asks the kernel for events, and does not wait';
    const most = loop.pollTimeout === Infinity ? 'without a limit' : `at most ${spanText(loop.pollTimeout)}`;
    return `it waits in the kernel for events, ${most}`;
  }
  const running = loop.callbacks.at(-1);
  if (running === undefined) return 'it works';
  const { kind, name } = recording.objects[running.object];
  return `it runs ${running.callback}${kind === 'loop' ? '' : ` of ${name}`}`;
}
