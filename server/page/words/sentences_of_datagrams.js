// Sentences about datagrams, and about the peers of a simulation.

import { byteWords, countWords, joinSentences, ordinalWords } from './step_facts.js';

function describeBound(step) {
  return {
    title: `Bind a UDP socket to ${step.address ?? 'an address'}, descriptor ${step.firstWords}`,
    kernel: 'Datagrams for this address wait in the receive buffer of the socket.',
    decision: 'UDP has no connections: one socket serves all clients.',
  };
}

function describeReceiveBatch(step) {
  if (step.error === 'EAGAIN') {
    return {
      title: `No further datagram waits for ${step.name}`,
      kernel: 'EAGAIN: the receive buffer is empty.',
      decision: 'The poll reports the next datagram.',
    };
  }
  if (step.error) {
    return {
      title: `Cannot receive: ${step.error}`,
      kernel: `${step.errorWords}.`,
      decision: 'The error is about one datagram, or about one that was sent before. The socket stays open.',
    };
  }
  const isFull = step.first >= step.second;
  return {
    title: `Receive ${countWords(step.first, 'datagram')}`,
    kernel: isFull ? `All ${countWords(step.second, 'datagram')} that were asked for were there. More may wait.`
      : `${step.firstWords} of at most ${countWords(step.second, 'datagram')} were there. Now the receive buffer is `
        + 'empty.',
    decision: joinSentences(
      step.isFirst() && 'One call receives several datagrams: a call for each would cost more than its work.',
      isFull && 'The poll does not report the rest again, so the socket is received from until it is empty.'),
  };
}

/** How many datagrams of the last call came before this one. */
function placeInBatch(step, batch) {
  const { recording } = step;
  let place = 1;
  for (let number = recording.numberOf(step.index) - 1; number >= 0; number -= 1) {
    const index = recording.indexOf(step.loopIndex, number);
    const kind = recording.kindName(index);
    if (recording.object[index] === step.lane && kind === step.kind) place += 1;
    if (recording.object[index] === step.lane && kind === batch) return { place, count: recording.first[index] };
    if (kind === 'poll-end' || kind === 'lost') return null;
  }
  return null;
}

function describeDatagramIn(step) {
  const { place, count } = placeInBatch(step, 'receive-batch') ?? {};
  return {
    title: `A datagram of ${byteWords(step.first)} from ${step.address ?? 'a client'}`,
    kernel: joinSentences(count > 1 && Number.isFinite(count) && place <= count
      && `It is the ${ordinalWords(place)} of ${count} that one call received.`,
      step.second === 1 && 'It was longer than the maximum, and the rest of it is lost.'),
    decision: joinSentences('The handler gets it in on_datagram.',
      step.isFirst() && 'A reply is queued, and sent with others at the end of the turn.'),
  };
}

function describeSendBatch(step) {
  if (step.error) {
    return {
      title: `Cannot send: ${step.error}`,
      kernel: `${step.errorWords}.`,
      decision: 'UDP promises no delivery. At most the first datagram of the call is lost, and the next ones are sent.',
    };
  }
  const datagrams = step.sentDatagrams.length;
  const isMerged = datagrams > step.first;
  return {
    title: `Send ${datagrams > 0 ? countWords(datagrams, 'datagram') : countWords(step.first, 'message')}`,
    kernel: joinSentences(
      `The kernel has taken `
        + `${step.first < step.second ? `${step.firstWords} of ` : ''}${countWords(step.second, 'message')}.`,
      isMerged && 'One message had several datagrams to one peer, and the kernel divides it again.',
    ),
    decision: datagrams > 1 ? 'The replies of the turn are sent together: one call for several costs less.'
      : 'The replies of the turn are sent at its end.',
  };
}

function describeDatagramOut(step) {
  const what = `a datagram of ${byteWords(step.first)} to ${step.address ?? 'a client'}`;
  if (step.error) {
    return {
      title: `Lose ${what}: ${step.error}`,
      kernel: `${step.errorWords}.`,
      decision: 'UDP promises no delivery, so it is counted and not kept. A client that needs the reply asks again.',
    };
  }
  return { title: `Send ${what}`, kernel: 'The kernel has taken it.', decision: 'Whether it arrives, UDP does not '
    + 'report.' };
}

/** What each step of a simulated peer is. */
const PEER_TITLES = {
  'peer-connect': ({ name }) => `${name} connects`,
  'peer-send': ({ name, bytes }) => `${name} sends ${bytes}`,
  'peer-receive': ({ name, bytes }) => `${name} receives ${bytes}`,
  'peer-urgent': ({ name }) => `${name} sends an urgent byte`,
  'peer-fin': ({ name }) => `${name} sends a FIN`,
  'peer-reset': ({ name }) => `${name} sends an RST`,
  'peer-eof': ({ name }) => `${name} reads EOF`,
  'peer-was-reset': ({ name }) => `${name} gets an RST`,
  'peer-datagram-out': ({ name, bytes }) => `${name} sends a datagram of ${bytes}`,
  'peer-datagram-in': ({ name, bytes }) => `${name} receives a datagram of ${bytes}`,
  'peer-datagram-lost': ({ name, bytes }) => `A datagram of ${bytes} to ${name} is lost on the way`,
};

const PEER_DECISIONS = {
  'peer-connect': 'The connection waits in the backlog until the loop accepts it.',
  'peer-send': 'The loop sees the bytes only when its poll reports them, or when it reads.',
  'peer-fin': 'It sends no more, but may still read.',
  'peer-reset': 'Both directions end at once.',
};

function describePeer(step) {
  // A datagram names the peer in its entry.
  const name = step.address ?? step.name;
  return {
    title: PEER_TITLES[step.kind]({ name: name.charAt(0).toUpperCase() + name.slice(1), bytes: byteWords(step.first) })
      .replace(/to Peer/, 'to peer'),
    decision: joinSentences('The loop did not do this: a simulated peer did.', PEER_DECISIONS[step.kind]),
  };
}

/** Sentences by the kind of the entry. */
export const DATAGRAM_SENTENCES = {
  'bound': describeBound,
  'receive-batch': describeReceiveBatch,
  'datagram-in': describeDatagramIn,
  'send-batch': describeSendBatch,
  'datagram-out': describeDatagramOut,
  ...Object.fromEntries(Object.keys(PEER_TITLES).map((kind) => [kind, describePeer])),
};
