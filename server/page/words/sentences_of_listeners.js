// Sentences about listeners and watches: accept, limits, pauses after errors.

import { countWords, durationWords, joinSentences, laterWords } from './step_facts.js';
import { capitalized, watchWords } from './sentences_of_loop.js';

/** The errors of accept4(2) that an immediate retry would get again. */
const EXHAUSTED = { EMFILE: 'the process has no free descriptor', ENFILE: 'the system has no free descriptor',
  ENOBUFS: 'the kernel has no memory for the socket', ENOMEM: 'there is no memory for the client' };

function describeListening(step) {
  return {
    title: `Listen at ${step.address ?? 'an address'}, descriptor ${step.firstWords}`,
    kernel: 'The kernel connects clients by itself from now on. They wait in the backlog until they are accepted.',
    decision: 'The socket is non-blocking: accept returns EAGAIN when no client waits, and never stops the loop.',
  };
}

function describeWatching(step) {
  const interests = [[1, 'reading'], [2, 'writing']].filter(([bit]) => step.second & bit).map(([, word]) => word);
  return {
    title: `Watch descriptor ${step.firstWords} for ${interests.join(' and ') || 'events'}`,
    decision: joinSentences(watchWords(step), 'The loop calls a closure when the descriptor becomes ready.'),
  };
}

function describeAccept(step) {
  if (step.error === 'EAGAIN') {
    return {
      title: `No further client waits for ${step.name}`,
      kernel: 'EAGAIN: the backlog is empty.',
      decision: 'Only EAGAIN proves that. The poll reports the next client.',
    };
  }
  if (step.error) return acceptError(step);
  const next = step.nextIndexOfLoop;
  const isOpened = next !== null && step.recording.kindName(next) === 'opened';
  const client = isOpened ? step.recording.addressOf(next) : null;
  return {
    title: `Accept ${client || 'a client'} as descriptor ${step.firstWords}`,
    kernel: `A client waited in the backlog of ${step.name}. Its socket is descriptor ${step.firstWords}.`,
    decision: step.nextKind === 'refused'
      ? 'The client is over a limit, so its socket is closed at once.'
      : step.isFirst() ? 'The poll does not report the rest of the backlog again. So accept must be called until '
        + 'EAGAIN.' : 'Accept must be called until EAGAIN.',
  };
}

function acceptError(step) {
  const isExhausted = Object.hasOwn(EXHAUSTED, step.error);
  if (isExhausted && step.second === 1) {
    return {
      title: `Cannot accept: ${step.error}`,
      kernel: `${step.error}: ${EXHAUSTED[step.error]}. The call fails also without a client, and none waits.`,
      decision: 'The poll reports the next client.',
    };
  }
  const pauses = step.nextKind === 'backoff';
  const again = step.error === 'EINTR' ? 'A signal interrupted the call, so it is repeated.' : isExhausted
    ? 'An immediate retry would fail again, and use the processor for nothing.'
    : 'The error is about one client, so accept can be called again.';
  return {
    title: `Cannot accept: ${step.error}`,
    kernel: isExhausted ? `${step.error}: ${EXHAUSTED[step.error]}. The client stays in the backlog.`
      : `${step.errorWords}.`,
    decision: joinSentences(pauses && !isExhausted ? 'It has failed too often in a row.' : again,
      pauses && 'The listener pauses; connections are served meanwhile.'),
  };
}

function describeRefused(step) {
  const isPerSource = step.first === 1;
  return {
    title: isPerSource ? 'Refuse the client: its address has too many connections' : 'Refuse the client: too many '
      + 'connections',
    decision: isPerSource
      ? 'One address may not take the place of all others. The socket is closed at once.'
      : `${capitalized(step.name)} has as many connections as it may. The socket is closed at once, so the client `
        + 'does not wait.',
  };
}

function describeFull(step) {
  return {
    title: `${capitalized(step.name)} is full, with ${countWords(step.first, 'connection')}`,
    decision: joinSentences(
      'That is the maximum. New clients wait in the backlog until a connection closes; then accept is called without '
        + 'an event.',
      laterWords('The next client is accepted', step.timeToNext('accept')),
    ),
  };
}

function describeBackoff(step) {
  return {
    title: `${capitalized(step.name)} pauses for ${durationWords(step.first)}`,
    kernel: step.error ? `${step.errorWords}.` : null,
    decision: 'A retry at once would fail again. The pause is a deadline, not a sleep: everything else is served '
      + 'meanwhile.',
  };
}

function describeRecovered(step) {
  const tries = countWords(step.first, 'failed try', 'failed tries');
  return {
    title: `${capitalized(step.name)} works again, after ${tries} in ${durationWords(step.second)}`,
    decision: 'The errors are over, and nothing waits any more.',
  };
}

/** Sentences by the kind of the entry. */
export const LISTENER_SENTENCES = {
  'listening': describeListening,
  'watching': describeWatching,
  'accept': describeAccept,
  'refused': describeRefused,
  'full': describeFull,
  'backoff': describeBackoff,
  'recovered': describeRecovered,
};
