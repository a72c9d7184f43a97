// What each kind of finding means, and what to do.

/**
 * By the kind of the finding.
 * @type {Object<string, {what: string, look: string, remedy: string}>}
 */
export const FINDING_HELP = {
  'loop-lag': {
    what: 'A turn took 100 ms or more without one slow callback, or the loop woke up late. All clients and timers '
      + 'waited for it.',
    look: 'The turn is a wide column between two polls. Many entries make it wide, or one long gap without an entry.',
    remedy: 'Do less in callbacks, or divide the clients among several loops. If the gap has no entry, give the '
      + 'process more processor time.',
  },
  'starvation': {
    what: 'An object had work for a second or more and was not served, while others were. Or clients waited for a '
      + 'full listener.',
    look: 'In its lane an event or a deferral comes first, and then nothing. Meanwhile the lanes of others have calls.',
    remedy: 'Serve each ready object in the turn of its event, and each with a limit. For a full listener, allow '
      + 'more connections (connections_max; halloo: --max-connections) or close idle ones earlier (halloo: '
      + '--idle-timeout).',
  },
  'source-left-ready': {
    what: 'Bytes, datagrams or clients were left in the kernel for a second or more, and were forgotten. An '
      + 'edge-triggered poll does not report them again.',
    look: 'The last read of the lane filled its buffer, or the last accept had a client or failed. No EAGAIN and no '
      + 'further call follows.',
    remedy: 'Call until EAGAIN, or defer the rest to the next turn. After an error call again after a pause.',
  },
  'stale-event-used': {
    what: 'An event or a call reached an object that was closed before. Its slot may have another client now.',
    look: 'Before the entry, the object was closed, or the slot was given to a connection with another generation.',
    remedy: 'Compare the generation in the event with that of the object in the slot. Forget the slot when the '
      + 'object closes.',
  },
  'backoff': {
    what: 'Accept or receive failed again and again for 100 ms or more. Clients or datagrams waited.',
    look: 'The lane of the listener has errors and pauses, which become longer.',
    remedy: 'Free what the error names, or raise its limit. EMFILE, for example, needs a higher limit of open '
      + 'files: ulimit -n, or LimitNOFILE of systemd. With fewer connections (halloo: --max-connections) it does not '
      + 'occur.',
  },
  'slow-reader': {
    what: 'A peer accepted no output for a second or more, while output waited for it.',
    look: 'A write gets EAGAIN, and the outbox stays full. Then nothing is written until a deadline.',
    remedy: 'Send it less, or close it earlier with write_timeout (in the halloo server it is fixed: 30 s). Stop '
      + 'reading from its source while its outbox is full.',
  },
  'slow-callback': {
    what: 'A callback took 50 ms or more. Nothing else ran meanwhile: every other client waited.',
    look: 'Go to its entry and zoom in, or use the axis "time" (key t): there the callback is as wide as it took. The '
      + 'other lanes have no entry meanwhile.',
    remedy: 'Move the work to another thread, or split it over several turns.',
  },
  'spin': {
    what: 'A thousand polls or more returned at once, and nothing was done. The loop used a processor for nothing.',
    look: 'Many short turns follow one another, and the polls between them have no width.',
    remedy: 'Let the poll wait. A watch returns Again only after progress, and is removed at EOF or after an error.',
  },
};
