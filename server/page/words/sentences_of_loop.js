// Sentences about the loop: polls, events, callbacks, deadlines, messages.

import { byteWords, countWords, durationWords, isEventOfGone, joinSentences } from './step_facts.js';
import { laterWords, listWords, ordinalWords } from './step_facts.js';

/** The most names in a sentence. */
const NAMES_MAX = 3;

/** The flags of an error and of a hang-up. */
const ERROR_FLAGS = 8 | 16;

/** A timeout this much nearer or farther than a deadline still belongs to it. */
const DEADLINE_ACCURACY_NS = 2_000_000;

/** From here on, a callback delays others noticeably. */
const LONG_CALLBACK_NS = 50_000_000;

/** From here on, a poll that returns after its time is worth a sentence. */
const LATE_NS = 20_000_000;

/** The flags of an event: their names in epoll_ctl(2), words, and what the rare ones mean. */
const EVENT_FLAGS = [
  [1, 'EPOLLIN', 'readable'], [2, 'EPOLLOUT', 'writable'],
  [8, 'EPOLLERR', 'error', 'An error waits in the socket.'],
  [16, 'EPOLLHUP', 'hang-up', 'Both directions have ended.'],
  [4, 'EPOLLRDHUP', 'read-to-end', 'read-to-end: the peer has sent a FIN (EOF follows the input), or an urgent byte.'],
];

/** The names of the flags of an event, as strace(1) prints them: `EPOLLIN|EPOLLOUT`. */
export function eventFlagNames(flags) {
  return EVENT_FLAGS.filter(([bit]) => flags & bit).map(([, name]) => name).join('|') || '0';
}

function eventFlagWords(flags) {
  return EVENT_FLAGS.filter(([bit]) => flags & bit).map(([, , words]) => words).join(', ') || 'ready';
}

function describePollBegin(step) {
  if (step.first === Infinity) {
    return {
      title: 'Wait for events without a limit',
      decision: step.isFirst((index) => step.recording.first[index] === Infinity)
        ? 'No deadline limits it. The loop sleeps in the kernel until an event arrives, and uses no processor time.'
        : 'No deadline limits it.',
    };
  }
  if (step.first === 0) return { title: 'Poll without waiting', decision: whyNoWait(step) };
  const wait = durationWords(step.first);
  const deadline = nearestDeadline(step);
  const isFirst = step.isFirst((index) => step.recording.first[index] > 0 && step.recording.first[index] !== Infinity);
  return {
    title: `Wait for events, at most ${wait}`,
    decision: joinSentences(
      deadline ? `${deadline}, so the poll may not wait longer.` : `The poll may wait at most ${wait}.`,
      isFirst && deadline && 'A loop needs no thread and no timer signal for a deadline: the timeout of its poll is '
        + 'enough.',
    ),
  };
}

function whyNoWait(step) {
  const { reported } = step.eventsOfTurn ?? {};
  const deferred = step.loop.deferred?.size ?? 0;
  if (deferred > 0) {
    return `${countWords(deferred, 'object')} ${deferred === 1 ? 'has' : 'have'} work left from the last turn. The `
      + 'loop only collects new events, so that other clients are not forgotten.';
  }
  if (reported > 0) return 'The last poll was full, so more events may wait. The loop collects them before it works.';
  if (step.isAfterError) return 'The last poll was interrupted, so it is repeated without waiting.';
  return 'Work is left, a deadline has passed, or the program does not want to wait. The loop only collects new '
    + 'events.';
}

/** The object with the nearest deadline, or the drain, if the timeout of the poll is that deadline. */
function nearestDeadline(step) {
  const drain = step.timeToEndOfDrain;
  if (drain !== null && Math.abs(drain - step.first) < DEADLINE_ACCURACY_NS) {
    return `The time of the drain ends in ${durationWords(drain)}`;
  }
  let [nearest, of] = [Infinity, null];
  for (const [lane, deadline] of step.deadlines) if (deadline < nearest) [nearest, of] = [deadline, lane];
  const left = nearest - step.time;
  const isIt = of !== null && Math.abs(left - step.first) < DEADLINE_ACCURACY_NS;
  return isIt ? `The nearest deadline is that of ${step.nameOf(of)}, in ${durationWords(left)}` : null;
}

function describePollEnd(step) {
  const began = step.loop.pollBegan;
  const waited = Number.isFinite(began) ? step.time - began : null;
  const after = waited === null ? '' : ` after ${durationWords(waited)}`;
  if (step.error === 'EINTR') {
    return {
      title: `A signal interrupted the poll${after}`,
      kernel: 'EINTR: a signal arrived before an event.',
      decision: 'The poll is repeated without waiting, because events may have arrived as well.',
    };
  }
  if (step.error) {
    return {
      title: `The poll failed: ${step.error}`,
      kernel: `${step.errorWords}.`,
      decision: 'Without its poll a loop learns of no event. It cannot continue.',
    };
  }
  const timeout = step.loop.pollTimeout;
  const late = waited !== null && timeout > 0 && waited - timeout > LATE_NS
    && `The poll should have ended after ${durationWords(timeout)}: the thread had no processor, or was stopped.`;
  if (step.first === 0) {
    return {
      title: `The poll returned no event${after}`,
      kernel: joinSentences('No object became ready.', late),
      decision: whatFollowsNoEvent(step, timeout),
    };
  }
  return {
    title: `The poll returned ${countWords(step.first, 'event')}${after}`,
    kernel: joinSentences(readyObjects(step), late),
    decision: step.second === 1
      ? 'The list was full, so the loop polls again without waiting, before it works.'
      : joinSentences('A turn begins.', step.isFirst((index) => step.recording.first[index] > 0)
        && `The loop serves ${step.first > 1 ? 'these objects one after the other' : 'this object'}, and polls again `
        + 'at the end of the turn. What arrives meanwhile waits.'),
  };
}

function whatFollowsNoEvent(step, timeout) {
  if (timeout === 0) return 'The loop did not wait, and goes on.';
  if (!(timeout > 0) || timeout === Infinity) return 'The loop goes on.';
  const isDue = [...step.deadlines].some(([, deadline]) => deadline <= step.time);
  const drain = step.timeToEndOfDrain;
  return joinSentences('Its time is up.', isDue && 'A deadline has passed, and takes effect now.',
    drain !== null && drain <= 0 && 'The time of the drain is over.');
}

function readyObjects(step) {
  const names = [];
  for (const index of step.eventsOfPoll) {
    const name = step.ownerOfEvent(index);
    const isGone = name.endsWith('which is gone');
    if (step.recording.kindName(index) === 'readiness') names.push(isGone ? `an event of ${name}` : name);
    if (names.length === NAMES_MAX) break;
  }
  if (names.length === 0) return `${countWords(step.first, 'object')} became ready.`;
  return `Ready: ${listWords(names, step.first)}.`;
}

function describeTurnEnd(step) {
  const { turn, turnBegan, deferred } = step.loop;
  const took = Number.isFinite(turnBegan) ? `, after ${durationWords(step.time - turnBegan)}` : '';
  const left = deferred?.size ?? 0;
  return {
    title: `Turn${Number.isFinite(turn) && turn > 0 ? ` ${turn}` : ''} ends${took}`,
    decision: joinSentences(
      step.first === 0 && step.previousOfTurn().next().done && 'This turn had nothing to do.',
      left > 0 && `${countWords(left, 'object')} ${left === 1 ? 'is' : 'are'} deferred. So the next poll does not `
        + 'wait.',
      step.nextIndexOfLoop === null ? 'It is the last entry of the loop.' : left === 0 && 'The loop goes back to its '
        + 'poll.',
    ),
  };
}

function describeReadiness(step) {
  if (step.objectKind === 'loop') {
    return {
      title: 'The loop is woken',
      kernel: 'The descriptor with which other threads wake the loop is readable.',
      decision: 'Another thread has posted something. The loop takes it later in this turn.',
    };
  }
  const { dispatched, reported } = step.eventsOfTurn ?? {};
  const isGone = isEventOfGone(step.recording, step.index);
  const owner = step.ownerOfEvent(step.index);
  return {
    title: isGone ? `Event of ${owner}` : `Event for ${owner}: ${eventFlagWords(step.first)}`,
    kernel: joinSentences(
      `epoll reports ${eventFlagNames(step.first)} for ${owner}.`,
      isGone && `Its slot ${step.slot} is now that of ${step.name} ${step.id}.`,
      ...EVENT_FLAGS.filter(([bit]) => step.first & bit).map(([, , , meaning]) => meaning),
      reported > 1 && `This is the ${ordinalWords(dispatched)} of ${countWords(reported, 'event')} of this turn.`,
    ),
    decision: isGone ? whatGoneEventDoes(step) : whatToDo(step),
  };
}

/** What the loop does with the event of an object that is gone: nothing, or something with the wrong object. */
function whatGoneEventDoes(step) {
  const next = step.nextIndexOfLoop;
  const kind = next === null ? null : step.recording.kindName(next);
  const isUsed = kind !== null && step.recording.object[next] === step.lane && kind !== 'readiness';
  return isUsed
    ? `The loop takes it for an event of ${step.name}, which has the slot now. A comparison of the generations would `
      + 'show the difference.'
    : 'The generation in the event is not that of the object now in the slot.';
}

/** What an event causes, by its flags and by what the object waits for. */
function whatToDo(step) {
  const { own, first: flags } = step;
  const rule = (object, what) => step.isFirst((index) => step.recording.first[index] & 1)
    && `The poll is edge-triggered: it reports a change once. So ${object} must be ${what}.`;
  if (step.objectKind === 'listener') {
    return joinSentences('A client waits in the backlog.', rule('accept', 'called until EAGAIN'));
  }
  if (step.objectKind === 'udp-socket') {
    return joinSentences('Datagrams wait.', rule('the socket', 'received from until EAGAIN'));
  }
  if (step.objectKind === 'watch') return joinSentences(watchWords(step), 'The loop calls its closure.');
  if (own.phase === 'connecting') {
    return 'A connect ends with this event. The loop asks the socket whether it has succeeded.';
  }
  if (flags & ERROR_FLAGS) return 'The socket has an error or a hang-up: the next call returns it.';
  if (own.paused && flags & 1) {
    return 'The handler has paused reading. The bytes stay in the kernel, and the loop remembers that they are there.';
  }
  if (flags & 2 && own.outbox > 0) {
    return `At least ${byteWords(own.outbox)} of output wait. They can be written now.`;
  }
  if (flags & ~2) {
    return joinSentences(rule('it', 'read until the kernel has no more') || 'Its input waits in the kernel.',
      laterWords('It is served', step.timeToNextStep));
  }
  return step.isFirst((index) => step.recording.first[index] === 2)
    ? 'There is room for output, which an edge-triggered poll reports once. No output is known to wait.'
    : 'There is room for output. No output is known to wait.';
}

/** What a watch is, where the first one occurs. */
export function watchWords(step) {
  return step.isFirstOfObjectKind
    && 'A watch is a descriptor of the program that the loop polls, for example for signals.';
}

function describeStaleEvent(step) {
  const earlier = Number.isFinite(step.second) && step.second > 0 ? ` #${step.second}` : '';
  return {
    title: `Stale event for slot ${step.slot}: ignored`,
    kernel: `The event is about an earlier ${step.objectKind}${earlier} in slot ${step.slot}, which is gone.`,
    decision: 'Each event has the generation of its object. It is not that of the object now in the slot. Without '
      + 'this check another client would be served for it.',
  };
}

/** Why each callback is called, and what it may do. */
const CALLBACK_REASONS = {
  on_start: () => 'A handler was added to the loop.',
  on_open: () => 'The connection is open. The handler makes its session, and may refuse it or send at once.',
  on_data: ({ first }) => `The handler gets ${byteWords(first)}, and returns how many of them it has consumed.`,
  on_eof: ({ first }) => (first > 0
    ? `The peer sends no more. ${byteWords(first)} of an incomplete message are left.` : 'The peer sends no more.'),
  on_flushed: () => 'Output had to wait, and the outbox is empty now. So the handler may write more.',
  on_timeout: () => 'The time that the handler has set has passed.',
  on_drain: () => 'The loop is to end. The handler may finish its work.',
  on_notify: () => 'Another callback or thread has sent the connection a number.',
  on_close: () => 'The connection is closed. It is the last callback for it.',
  on_connect_failed: () => 'The connection never opened.',
  on_timer: () => 'The time of a timer has passed.',
  on_watch: () => 'A descriptor of the program is ready.',
  job: () => 'Another thread has posted a closure, which runs on the thread of the loop.',
  on_datagram: ({ first }) => (first > 1
    ? `The handler gets ${countWords(first, 'datagram')}, one after the other.` : 'The handler gets the datagram.'),
};

function describeCallbackBegin(step) {
  const { callback } = step;
  const reason = CALLBACK_REASONS[callback]?.({ first: step.second }) ?? 'The loop calls the program.';
  const took = step.callbackTime;
  return {
    title: callbackTitle(step, took >= LONG_CALLBACK_NS ? `begins, and takes ${durationWords(took)}` : 'begins'),
    decision: joinSentences(reason, step.wordsOfOtherEvent,
      step.isFirst() && 'Until it returns the loop does nothing else, and every other client waits.'),
  };
}

function callbackTitle(step, what) {
  // A timer is gone before its callback is called.
  const isOfLoop = step.recording.objects[step.lane].kind === 'loop';
  return `${step.callback}${isOfLoop ? '' : ` of ${step.name}`} ${what}`;
}

function describeCallbackEnd(step) {
  const { callback, second: consumed } = step;
  const open = step.loop.callbacks?.at(-1);
  const took = open?.callback === callback || step.recording.callbacks[open?.callback] === callback
    ? step.time - open.began : null;
  if (consumed === Infinity) {
    return {
      title: callbackTitle(step, 'panicked'),
      decision: joinSentences('The panic is caught, and the loop goes on.',
        step.objectKind === 'connection' && 'Only this connection ends: it is reset.'),
    };
  }
  return {
    title: callbackTitle(step, Number.isFinite(took) ? `returned after ${durationWords(took)}` : 'returned'),
    decision: joinSentences(whatWasConsumed(step), whatWaited(step, took)) ?? 'The loop goes on.',
  };
}

function whatWasConsumed(step) {
  if (step.callback === 'on_watch') {
    return step.second === 1 ? 'More may wait in the descriptor: the closure is called again in the next turn.'
      : 'The descriptor is empty: the closure is called at its next event.';
  }
  if (step.callback !== 'on_data') return null;
  if (step.second === 0) {
    return 'The handler has consumed nothing: its message may be incomplete. The bytes stay in the inbox, and are '
      + 'delivered again later.';
  }
  const rest = step.own.inbox - step.second;
  return joinSentences(`The handler has consumed ${byteWords(step.second)}.`,
    rest > 0 && `${byteWords(rest)} stay in the inbox, and are delivered again later.`);
}

function whatWaited(step, took) {
  const { dispatched, reported } = step.eventsOfTurn ?? {};
  const others = reported - dispatched;
  if (took >= 1e6 && others > 0) return `Meanwhile nothing else ran: ${countWords(others, 'other event')} waited.`;
  return took >= LONG_CALLBACK_NS && 'Meanwhile nothing else ran: every event, client and timer waited.';
}

function describeDeadlineSet(step) {
  const left = step.timeToDeadline;
  const when = left === null ? '' : `: in ${durationWords(left)}`;
  if (step.objectKind === 'timer') {
    return {
      title: `Set ${step.name}${when}`,
      decision: step.isFirst() ? 'A timer is a deadline in a table. It fires in the first turn after its time, never '
        + 'early.' : 'It fires in the first turn after its time.',
    };
  }
  return {
    title: `Deadline for ${step.name}${when}`,
    decision: joinSentences(step.isFirst() && 'A peer may never send or read again, so its wait has a limit.',
      'Then the handler is called, or the connection is closed.'),
  };
}

function describeDeadlineFired(step) {
  const left = step.timeToDeadline;
  const late = left === null ? null : -left;
  const what = step.objectKind === 'timer' ? `${capitalized(step.name)} fires` : `The deadline of ${step.name} has `
    + 'passed';
  return {
    title: late >= 1e6 ? `${what}, ${durationWords(late)} after its time` : what,
    decision: step.objectKind === 'timer' ? 'A timer never fires early. Its callback is called now.' : step.nextCallback
      ? `The handler has set it, and ${step.nextCallback} is called.`
      : step.nextKind === 'option-set' || step.nextKind === 'closed'
        ? 'It limits how long a connection may stay without progress. So the connection is closed.'
        : 'Input from before the deadline was delivered first. Now it takes effect.',
  };
}

function describeMessage(step) {
  if (step.first === 1) {
    const value = step.recording.exact(step.index, 1);
    return {
      title: `Take a note with the value ${value === Infinity ? 2n ** 64n - 1n : value}`,
      decision: 'A callback or another thread has sent it to a connection. Notes are delivered between callbacks, '
        + 'never inside one.',
    };
  }
  return {
    title: 'Take a job of another thread',
    decision: step.isFirst((index) => step.recording.first[index] !== 1)
      ? 'A job is a closure from another thread. It runs on the thread of the loop, because only that may touch its '
        + 'connections.'
      : 'It runs on the thread of the loop, between callbacks.',
  };
}

function describeDrain(step) {
  if (step.first === 0) {
    return {
      title: 'The loop is to stop',
      decision: 'No client is accepted any more. Open connections are served to the end of this turn, then reset.',
    };
  }
  const most = step.first === Infinity ? 'no limit' : `at most ${durationWords(step.first)}`;
  return {
    title: `A drain begins, ${most}`,
    decision: 'The loop serves what has arrived and what its connections still need. Then it ends. What is open at '
      + 'the end of that time is reset.',
  };
}

function describeLost(step) {
  return {
    title: `${capitalized(countWords(step.first, 'entry', 'entries'))} missing here`,
    decision: joinSentences('The memory of the recording was full. What happened here is not known, so states that '
      + 'depend on it are not known either.', step.second === 1 && 'All of it is of one turn, which goes on.'),
  };
}

function describeExisting(step) {
  return {
    title: `${capitalized(step.name)} was open before the recording begins`,
    decision: joinSentences('What it did until then is not known.', watchWords(step),
      step.objectKind === 'listener' && step.isFirst()
        && 'The recording of a server begins with its first turn, after its listeners were opened.'),
  };
}

/** A text with its first letter as a capital. An address has none. */
export function capitalized(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Sentences by the kind of the entry. */
export const LOOP_SENTENCES = {
  'poll-begin': describePollBegin,
  'poll-end': describePollEnd,
  'turn-end': describeTurnEnd,
  'lost': describeLost,
  'readiness': describeReadiness,
  'stale-event': describeStaleEvent,
  'existing': describeExisting,
  'callback-begin': describeCallbackBegin,
  'callback-end': describeCallbackEnd,
  'deadline-set': describeDeadlineSet,
  'deadline-fired': describeDeadlineFired,
  'message': describeMessage,
  'drain': describeDrain,
};
