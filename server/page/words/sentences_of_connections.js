// Sentences about connections: connect, read, write, close.

import { byteWords, joinSentences, laterWords, ordinalWords } from './step_facts.js';
import { capitalized } from './sentences_of_loop.js';

function describeOpened(step) {
  const uses = step.slotUses;
  return {
    title: `${capitalized(step.name)} gets slot ${step.slot}`,
    decision: joinSentences(
      step.first === 0 && 'A callback has asked for this connection, and its connect follows.',
      uses === 0 ? 'The slot has all data of the connection.'
        : `It is the ${ordinalWords(uses + 1)} connection in this slot.`,
      step.isFirst() ? `Slots are reused, but a generation (${step.id}) is not: it tells late events of earlier `
        + 'connections apart.' : `Its generation is ${step.id}.`,
    ),
  };
}

function describeConnect(step) {
  if (step.second === 1 && !step.error) {
    return {
      title: `Take over a connected stream: ${step.name}`,
      decision: 'The program has connected it, so no connect is needed.',
    };
  }
  if (step.error === 'EAGAIN') {
    return {
      title: `Connect to ${step.address ?? 'the peer'}: its backlog is full`,
      kernel: 'EAGAIN: a unix socket does not wait for room in the backlog, as TCP does.',
      decision: 'The connect is tried again after a pause. The pause is a deadline; the loop does not sleep.',
    };
  }
  if (step.error) {
    return {
      title: `Cannot connect to ${step.address ?? 'the peer'}: ${step.error}`,
      kernel: `${step.errorWords}.`,
      decision: 'The handler is told in on_connect_failed.',
    };
  }
  return {
    title: `Connect to ${step.address ?? 'a peer'}`,
    kernel: 'The connect is in progress: an answer takes as long as the network.',
    decision: 'The loop does not wait for it. The poll reports the socket as writable when the connect has ended.',
  };
}

function describeConnected(step) {
  if (step.error) {
    return {
      title: `The connect to ${step.address ?? 'the peer'} failed: ${step.error}`,
      kernel: `${step.errorWords}.`,
      decision: 'The handler is told in on_connect_failed. The loop goes on.',
    };
  }
  return {
    title: `Connected to ${step.address ?? 'the peer'}`,
    kernel: 'The connect has succeeded.',
    decision: 'The connection is open, and its handler is called.',
  };
}

function describeRegistered(step) {
  if (step.error) {
    return {
      title: `Cannot register ${step.name}: ${step.error}`,
      kernel: `${step.errorWords}.`,
      decision: 'Without the poll no event would ever wake it, so it is closed.',
    };
  }
  const isServed = step.objectKind === 'connection' && Number.isFinite(step.own.bytesRead);
  return {
    title: `Register ${step.name} with the poll`,
    kernel: 'The poll reports each change of its readiness once (edge-triggered).',
    decision: isServed
      ? 'It has to wait now. One registration is enough for its whole life.'
      : 'One registration is enough for its whole life.',
  };
}

function describeDeregistered(step) {
  return {
    title: `Remove ${step.name} from the poll`,
    kernel: step.error && `${step.errorWords}.`,
    decision: 'A close alone ends its events only if no other process has the same socket. So it is removed first.',
  };
}

function describeRead(step) {
  const isClosing = step.own.phase === 'closing';
  if (step.error) return readError(step);
  if (step.first === 0) {
    return {
      title: `EOF of ${step.name}`,
      kernel: 'A read of 0 bytes: the peer has sent a FIN, and all its bytes are read.',
      decision: isClosing ? 'Nothing is unread now. So the close sends no RST, which could destroy the reply.'
        : joinSentences(step.own.inbox > 0 && `The handler gets the ${byteWords(step.own.inbox)} in the inbox first.`,
          'Only this direction has ended: output can still be sent.'),
    };
  }
  const isFull = step.first >= step.second;
  return {
    title: `Read ${byteWords(step.first)} from ${step.name}`,
    kernel: isFull ? `All ${byteWords(step.second)} that fit were there. More may wait.`
      : `${byteWords(step.first)} were there, and there was room for ${byteWords(step.second)}. Now the kernel has `
        + 'no more.',
    decision: isClosing
      ? 'The connection is closing, so late input is discarded. Unread input would turn its FIN into an RST, which '
        + 'could destroy the reply.'
      : joinSentences(whyWithoutEvent(step), whereBytesGo(step), isFull ? whyMore(step) : whyNoMore(step)),
  };
}

function whereBytesGo(step) {
  if (step.own.inbox > 0) return `The inbox has ${byteWords(step.own.inbox)} already. The new bytes follow them.`;
  return step.nextCallback === 'on_data' ? 'The handler gets them in on_data.' : null;
}

/** Why a connection is read although no event of it was reported in this turn; null if one was. */
function whyWithoutEvent(step) {
  if (step.wordsOfOtherEvent) return step.wordsOfOtherEvent;
  const { firstKinds } = step;
  const isNew = step.own.listener !== null && step.own.listener !== undefined && firstKinds[0] === 'opened'
    && !['read', 'readiness', 'connect'].some((kind) => firstKinds.includes(kind));
  return isNew && 'A new connection is read at once, without an event.';
}

function whyMore(step) {
  const after = step.afterRead;
  if (after === 'deferred') {
    return 'The connection has used its share of this turn. The rest follows in the next turn, so that others are '
      + 'served.';
  }
  if (step.own.outbox > 0 && after !== 'read') {
    return `Its outbox has at least ${byteWords(step.own.outbox)} that the peer does not take. So more of its input `
      + 'may have to wait: that is backpressure.';
  }
  if (after === 'read') return 'Only a short read or EAGAIN proves that nothing is left. So it is read again.';
  return joinSentences(
    'Only a short read or EAGAIN proves that nothing is left. Until it is read again, the rest waits: the poll does '
      + 'not report it twice.',
    laterWords('It is read again', step.timeToNext('read')),
  );
}

function whyNoMore(step) {
  if (step.afterRead !== 'read') {
    return step.isFirst() ? 'A second read would only return EAGAIN. The poll reports the next bytes.'
      : 'The poll reports the next bytes.';
  }
  return step.own.readsToEnd ? 'The poll has also reported read-to-end. So it is read again.'
    : 'It is read again, to be sure: EAGAIN proves that nothing is left.';
}

function readError(step) {
  if (step.error === 'EAGAIN') {
    return {
      title: `Nothing to read from ${step.name}`,
      kernel: 'EAGAIN: no byte waits in the kernel.',
      decision: joinSentences(
        step.nextKind === 'registered' && 'The connection has to wait, so it is registered with the poll.',
        step.isFirst() && 'A blocking read would stop every client here.',
        'The poll reports the connection when bytes arrive.',
      ),
    };
  }
  if (step.error === 'EINTR') {
    return {
      title: `A signal interrupted a read from ${step.name}`,
      kernel: 'EINTR: a signal arrived before a byte was read.',
      decision: 'No byte is lost. It is read again.',
    };
  }
  return {
    title: step.error === 'ECONNRESET' ? `${capitalized(step.name)} was reset by its peer`
      : `Cannot read from ${step.name}: ${step.error}`,
    kernel: step.error === 'ECONNRESET' ? 'ECONNRESET: the peer has sent an RST, which ends both directions.'
      : `${step.errorWords}.`,
    decision: 'An error of one connection ends only that connection. It is closed.',
  };
}

function describeWrite(step) {
  const left = step.second - step.first;
  if (step.error) return writeError(step);
  if (left > 0) {
    return {
      title: `Write ${byteWords(step.first)} of ${byteWords(step.second)} to ${step.name}`,
      kernel: `The send buffer had room for ${byteWords(step.first)}.`,
      decision: joinSentences(
        `${byteWords(left)} stay in the outbox until there is room again. The loop does not wait for it.`,
        laterWords('The next bytes are taken', step.timeToNext('write')),
      ),
    };
  }
  return {
    title: `Write ${byteWords(step.first)} to ${step.name}`,
    kernel: joinSentences('The send buffer of the kernel has taken all bytes.',
      step.isFirst() && 'It sends them without the loop.'),
    decision: step.own.outbox > 0 ? 'The output that waited is on its way, and the outbox is empty.'
      : step.isFirst() && 'The loop writes without a poll before it: the send buffer usually has room.',
  };
}

function writeError(step) {
  if (step.error === 'EAGAIN') {
    return {
      title: `No room for output to ${step.name}`,
      kernel: 'EAGAIN: the send buffer is full. The peer reads more slowly than the loop sends, or not at all.',
      decision: joinSentences(
        `${byteWords(step.second)} stay in the outbox. The poll reports when there is room, and others are served `
          + 'meanwhile.',
        laterWords('The next bytes are taken', step.timeToNext('write')),
      ),
    };
  }
  if (step.error === 'EINTR') {
    return {
      title: `A signal interrupted a write to ${step.name}`,
      kernel: 'EINTR: a signal arrived before a byte was taken.',
      decision: 'The output is still in the outbox. It is written again.',
    };
  }
  const isGone = step.error === 'EPIPE' || step.error === 'ECONNRESET';
  return {
    title: `Cannot write to ${step.name}: ${step.error}`,
    kernel: isGone ? `${step.errorWords}: the peer is gone.` : `${step.errorWords}.`,
    decision: 'The output cannot arrive any more. An error of one connection ends only that connection.',
  };
}

function describeShutdownWrite(step) {
  if (step.error) {
    return {
      title: `Cannot shut ${step.name} down: ${step.error}`,
      kernel: `${step.errorWords}.`,
      decision: 'The peer is gone, so no FIN is needed.',
    };
  }
  if (step.second === 1) {
    return {
      title: `Shut both directions of ${step.name} down`,
      kernel: 'The kernel sends a FIN, and accepts no more input.',
      decision: 'Another process may have the same socket open, and then a close alone sends no FIN.',
    };
  }
  return {
    title: `FIN to ${step.name}: no more output follows`,
    kernel: 'The kernel sends a FIN after all output. The peer then reads EOF.',
    decision: step.nextKind === 'closed'
      ? 'The peer has sent nothing more, so the close can follow at once.'
      : 'The other direction stays open. A close with unread input would send an RST instead, which could destroy '
        + 'the reply.',
  };
}

function describeOptionSet(step) {
  if (step.first === 1 && step.second === 13) {
    return {
      title: `Prepare a reset of ${step.name}: SO_LINGER`,
      kernel: step.error && `${step.errorWords}.`,
      decision: 'With a linger time of zero, the close drops output that is not sent yet, and sends an RST.',
    };
  }
  if (step.first === 1 && step.second === 27) {
    return {
      title: `Accept input of ${step.name} again: SO_DETACH_FILTER`,
      kernel: step.error && `${step.errorWords}.`,
      decision: 'The peer sends again what the filter has dropped, and its late input is discarded.',
    };
  }
  if (step.first === 6 && step.second === 25) {
    return {
      title: `Is all output of ${step.name} sent? TCP_NOTSENT_LOWAT`,
      kernel: step.error && `${step.errorWords}.`,
      decision: 'From now on the poll reports room only when nothing waits in the kernel. Then the FIN leaves at once, and no '
        + 'input is acknowledged before it.',
    };
  }
  return { title: `Set an option of ${step.name}`, kernel: step.error && `${step.errorWords}.`, decision: null };
}

function describeInputStopped(step) {
  return {
    title: `Accept no further input of ${step.name}`,
    kernel: step.error ? `${step.errorWords}.`
      : step.first === 1 ? 'The writes of the peer fail. What it has written can be read.'
        : 'The kernel drops segments with data before it acknowledges them, so the peer keeps the data.',
    decision: 'The connection drains: all input that was accepted is delivered, then a FIN follows the replies.',
  };
}

/** Why a connection was closed, by the word of the reason. */
const CLOSE_SENTENCES = {
  'eof': 'The peer had sent EOF, and the handler has closed.',
  'aborted': 'The handler has aborted: output that waits is dropped.',
  'rejected': 'The handler does not accept the peer, or the peer has its maximum of connections.',
  'reset': 'The peer has reset the connection, or is gone.',
  'timed-out': 'Nothing was read or sent for the idle timeout, or the handler closed in on_timeout.',
  'write-stalled': 'The peer has taken none of the waiting output for the write timeout.',
  'input-overflow': 'The inbox is full, and the handler can use none of it. So its message can never be complete.',
  'invalid-input': 'The peer has sent what the protocol does not allow.',
  'out-of-memory': 'Memory is short, and this connection had the largest buffers or could not get more.',
  'drained': 'The loop ends, and the connection was still open.',
  'panicked': 'The handler has panicked in a callback of this connection.',
  'io': 'A system call for this socket has failed.',
};

/** The reasons after which the peer can still get what was sent. */
const SENDING_REASONS = ['eof', 'local', 'timed-out', 'input-overflow', 'invalid-input'];

function describeClosed(step) {
  if (step.objectKind !== 'connection') return closedSource(step);
  const reason = step.recording.reasons[step.first];
  return {
    title: reason ? `Close ${step.name}, reason: ${reason}` : `Close ${step.name}, which never opened`,
    kernel: step.second === 1 ? 'The kernel sends an RST at once.' : joinSentences('The descriptor is free.',
      SENDING_REASONS.includes(reason) && 'The kernel still sends the output that it has taken.'),
    decision: joinSentences(whyClosed(step, reason), whenFreed(step)),
  };
}

function whyClosed(step, reason) {
  if (!reason) return 'Its connect has failed.';
  return reason === 'local' ? whyLocal(step) : CLOSE_SENTENCES[reason] ?? `The reason is ${reason}.`;
}

/** How the program has closed a connection: in which callback, or when the time of a drain was over. */
function whyLocal(step) {
  const running = step.loop.callbacks?.at(-1);
  const drain = step.timeToEndOfDrain;
  const isOver = drain !== null && drain <= 0 && 'The time of the drain is over.';
  if (running) {
    const { kind } = step.recording.objects[running.object];
    const of = kind === 'loop' ? '' : ` of ${step.nameOf(running.object)}`;
    return running.object === step.lane ? 'The handler has closed.'
      : `The program has closed it in ${running.callback}${of}.`;
  }
  if (step.own.phase === 'closing') return joinSentences('The handler had closed it before.', isOver);
  const last = step.lastCallbackInTurn;
  const of = last === null ? step.lane : step.recording.object[last];
  if (of === step.lane) return isOver || 'The handler has closed.';
  const callback = step.recording.callbacks[step.recording.first[last]] ?? 'one';
  const name = step.recording.objects[of].kind === 'loop' ? '' : ` of ${step.nameOf(of)}`;
  return joinSentences(isOver, `The last callback before was ${callback}${name}.`);
}

/** When the slot of a closed connection is freed, and why then. */
function whenFreed(step) {
  const rest = step.restOfTurnAfterFreed;
  if (rest === 'work') return 'Its slot is freed in the middle of the turn.';
  return rest === 'end' && (step.isFirst()
    ? 'Its slot is freed at the end of the turn, so that no event of this turn finds another connection there.'
    : 'Its slot is freed at the end of the turn.');
}

function closedSource(step) {
  return {
    title: `Close ${step.name}`,
    kernel: step.objectKind === 'listener' ? 'The kernel resets the clients that are still in the backlog.' : null,
    decision: step.objectKind === 'watch' ? 'The loop watches the descriptor no longer. The program closes it.'
      : 'Nothing arrives here any more.',
  };
}

function describeFreed(step) {
  const rest = step.restOfTurn();
  return {
    title: `Slot ${step.slot} is free`,
    decision: joinSentences(
      rest === 'end' && 'The turn is over, so no event of it can reach the slot.',
      rest === 'work' && 'The slot is free in the middle of the turn: an event of this turn may still name it.',
      step.isFirst() && 'The next connection may get it, with a generation of its own.',
    ) ?? 'The next connection may get it.',
  };
}

function describePaused(step) {
  return {
    title: `The handler pauses reading from ${step.name}`,
    decision: 'The bytes stay in the kernel. When its receive buffer is full, TCP makes the peer wait: that is '
      + 'backpressure.',
  };
}

function describeResumed(step) {
  return {
    title: `The handler resumes reading from ${step.name}`,
    decision: 'What is in the inbox is delivered again, and reading goes on.',
  };
}

function describeDeferred(step) {
  return {
    title: `Defer ${step.name} to the next turn`,
    decision: joinSentences(
      step.isFirst() ? 'It has work left, but has had its share of this turn. So others are served first, and the next '
        + 'poll does not wait.' : 'It has work left. Others are served first.',
      laterWords('It is served', step.timeToNextStep),
    ),
  };
}

function describeAwaitsMemory(step) {
  return {
    title: `${capitalized(step.name)} waits for memory`,
    decision: 'The buffers of the loop are near their maximum. The bytes stay in the kernel until there is room.',
  };
}

/** Sentences by the kind of the entry. */
export const CONNECTION_SENTENCES = {
  'opened': describeOpened,
  'connect': describeConnect,
  'connected': describeConnected,
  'registered': describeRegistered,
  'deregistered': describeDeregistered,
  'read': describeRead,
  'write': describeWrite,
  'shutdown-write': describeShutdownWrite,
  'option-set': describeOptionSet,
  'input-stopped': describeInputStopped,
  'closed': describeClosed,
  'freed': describeFreed,
  'paused': describePaused,
  'resumed': describeResumed,
  'deferred': describeDeferred,
  'awaits-memory': describeAwaitsMemory,
};
