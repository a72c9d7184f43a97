// The function of the library that takes each step, and its file.

/**
 * By the kind of the entry. More words name a callback, the kind of the object, or another variant of the step. A test
 * (`tests/source_places.rs`) holds that each function exists and notes its kind.
 * @type {Object<string, {function: string, file: string}>}
 */
export const SOURCE_PLACES = {
  'poll-begin': { function: 'poll', file: 'src/event_loop/turn.rs' },
  'poll-end': { function: 'poll', file: 'src/event_loop/turn.rs' },
  'turn-end': { function: 'run_turn', file: 'src/event_loop/turn.rs' },
  'lost': { function: 'take_turn', file: 'src/observe/journal.rs' },
  'readiness': { function: 'dispatch_events', file: 'src/event_loop/turn.rs' },
  'stale-event': { function: 'dispatch_events', file: 'src/event_loop/turn.rs' },
  'existing': { function: 'poll_and_note', file: 'src/event_loop/observer.rs' },
  'listening': { function: 'open_listener', file: 'src/context/entries/listener_entry.rs' },
  'bound': { function: 'open_udp_socket', file: 'src/context/entries/udp_socket_entry.rs' },
  'watching': { function: 'insert_watch', file: 'src/context/entries/watch_entry.rs' },
  'accept': { function: 'accept_clients', file: 'src/event_loop/listeners.rs' },
  'refused': { function: 'accept_clients', file: 'src/event_loop/listeners.rs' },
  'full': { function: 'accept_clients', file: 'src/event_loop/listeners.rs' },
  'opened': { function: 'open_accepted', file: 'src/event_loop/connections.rs' },
  'opened outbound': { function: 'insert_outbound', file: 'src/context/entries/connection_entry.rs' },
  'connect': { function: 'start_connect', file: 'src/event_loop/connections.rs' },
  'connected': { function: 'finish_connect', file: 'src/event_loop/connections.rs' },
  'registered': { function: 'park', file: 'src/event_loop/connections.rs' },
  'registered listener': { function: 'open_listener', file: 'src/context/entries/listener_entry.rs' },
  'registered udp-socket': { function: 'open_udp_socket', file: 'src/context/entries/udp_socket_entry.rs' },
  'registered watch': { function: 'insert_watch', file: 'src/context/entries/watch_entry.rs' },
  'deregistered': { function: 'close_connection', file: 'src/context/entries/connection_entry.rs' },
  'deregistered listener': { function: 'close_listener', file: 'src/context/entries/listener_entry.rs' },
  'deregistered udp-socket': { function: 'close_udp_socket', file: 'src/context/entries/udp_socket_entry.rs' },
  'deregistered watch': { function: 'close_watch', file: 'src/event_loop/callbacks/watch_callbacks.rs' },
  'read': { function: 'read', file: 'src/event_loop/receive.rs' },
  'read closing': { function: 'discard', file: 'src/event_loop/receive.rs' },
  'write': { function: 'flush', file: 'src/event_loop/send.rs' },
  'shutdown-write': { function: 'shutdown_write', file: 'src/event_loop/send.rs' },
  'shutdown-write both': { function: 'close_connection', file: 'src/context/entries/connection_entry.rs' },
  'option-set': { function: 'close_connection', file: 'src/context/entries/connection_entry.rs' },
  'option-set detach-filter': { function: 'resume_input', file: 'src/context/entries/connection_entry.rs' },
  'option-set sent-all': { function: 'end_drain', file: 'src/event_loop/send.rs' },
  'input-stopped': { function: 'stop_input', file: 'src/event_loop/receive.rs' },
  'receive-batch': { function: 'receive_datagrams', file: 'src/event_loop/udp_sockets.rs' },
  'datagram-in': { function: 'deliver_datagrams', file: 'src/event_loop/udp_sockets.rs' },
  'send-batch': { function: 'send_queued', file: 'src/event_loop/udp_sockets.rs' },
  'datagram-out': { function: 'send_queued', file: 'src/event_loop/udp_sockets.rs' },
  'callback-begin': { function: 'call_back', file: 'src/context/foreign_code.rs' },
  'callback-begin on_start': { function: 'start_handler', file: 'src/context/open.rs' },
  'callback-begin on_open': { function: 'on_open', file: 'src/event_loop/callbacks/stream_handlers.rs' },
  'callback-begin on_data': { function: 'on_data', file: 'src/event_loop/callbacks/stream_handlers.rs' },
  'callback-begin on_eof': { function: 'on_eof', file: 'src/event_loop/callbacks/stream_handlers.rs' },
  'callback-begin on_flushed': { function: 'on_event', file: 'src/event_loop/callbacks/stream_handlers.rs' },
  'callback-begin on_timeout': { function: 'on_event', file: 'src/event_loop/callbacks/stream_handlers.rs' },
  'callback-begin on_drain': { function: 'on_event', file: 'src/event_loop/callbacks/stream_handlers.rs' },
  'callback-begin on_drain udp-socket': { function: 'call_udp_drain', file: 'src/event_loop/udp_sockets.rs' },
  'callback-begin on_notify': { function: 'on_event', file: 'src/event_loop/callbacks/stream_handlers.rs' },
  'callback-begin on_close': { function: 'on_close', file: 'src/event_loop/callbacks/stream_handlers.rs' },
  'callback-begin on_connect_failed': {
    function: 'on_connect_failed', file: 'src/event_loop/callbacks/stream_handlers.rs',
  },
  'callback-begin on_timer': { function: 'expire_timer', file: 'src/event_loop/callbacks/timer_callbacks.rs' },
  'callback-begin on_watch': { function: 'call_watch', file: 'src/event_loop/callbacks/watch_callbacks.rs' },
  'callback-begin job': { function: 'run_job', file: 'src/event_loop/turn.rs' },
  'callback-begin on_datagram': { function: 'deliver_datagrams', file: 'src/event_loop/udp_sockets.rs' },
  'callback-end': { function: 'call_back', file: 'src/context/foreign_code.rs' },
  'paused': { function: 'pause', file: 'src/context/connection.rs' },
  'resumed': { function: 'resume', file: 'src/context/connection.rs' },
  'deferred': { function: 'finish_serving', file: 'src/event_loop/sources.rs' },
  'deferred connection': { function: 'drive', file: 'src/event_loop/connections.rs' },
  'awaits-memory': { function: 'read', file: 'src/event_loop/receive.rs' },
  'deadline-set': { function: 'arm_deadline', file: 'src/event_loop/connections.rs' },
  'deadline-set timer': { function: 'add_timer', file: 'src/context/mod.rs' },
  'deadline-fired': { function: 'expire_connection', file: 'src/event_loop/connections.rs' },
  'deadline-fired timer': { function: 'expire_timer', file: 'src/event_loop/callbacks/timer_callbacks.rs' },
  'message': { function: 'run_job', file: 'src/event_loop/turn.rs' },
  'message note': { function: 'notify', file: 'src/event_loop/connections.rs' },
  'backoff': { function: 'on_source_error', file: 'src/event_loop/sources.rs' },
  'recovered': { function: 'finish_serving', file: 'src/event_loop/sources.rs' },
  'closed': { function: 'close', file: 'src/event_loop/connections.rs' },
  'closed listener': { function: 'close_listener', file: 'src/context/entries/listener_entry.rs' },
  'closed udp-socket': { function: 'close_udp_socket', file: 'src/context/entries/udp_socket_entry.rs' },
  'closed watch': { function: 'close_watch', file: 'src/event_loop/callbacks/watch_callbacks.rs' },
  'freed': { function: 'free_closed', file: 'src/context/entries/connection_entry.rs' },
  'drain': { function: 'drain', file: 'src/context/mod.rs' },
  'peer-connect': { function: 'connect', file: 'src/net/simulated/world.rs' },
  'peer-send': { function: 'send', file: 'src/net/simulated/world.rs' },
  'peer-receive': { function: 'carry_to_client', file: 'src/net/simulated/world.rs' },
  'peer-urgent': { function: 'send', file: 'src/net/simulated/world.rs' },
  'peer-fin': { function: 'send', file: 'src/net/simulated/world.rs' },
  'peer-reset': { function: 'send', file: 'src/net/simulated/world.rs' },
  'peer-eof': { function: 'carry_to_client', file: 'src/net/simulated/world.rs' },
  'peer-was-reset': { function: 'reset_client', file: 'src/net/simulated/world.rs' },
  'peer-datagram-out': { function: 'deliver_datagram', file: 'src/net/simulated/datagrams.rs' },
  'peer-datagram-in': { function: 'transmit_datagram', file: 'src/net/simulated/datagrams.rs' },
  'peer-datagram-lost': { function: 'transmit_datagram', file: 'src/net/simulated/datagrams.rs' },
};

/** The servers of `halloo tour` that are not on the library's loop, by the names of their loops. */
const FOREIGN_LOOPS = ['twin', 'mio'];

/** Whether a loop is not the library's, so that its functions took none of the steps. */
export function isForeignLoop(name) {
  return FOREIGN_LOOPS.includes(name);
}

/**
 * The place of an entry: that of its kind with one of these words, the first that has one, or that of its kind alone.
 */
export function sourcePlaceOf(kind, words) {
  const key = words.map((word) => `${kind} ${word}`).find((name) => Object.hasOwn(SOURCE_PLACES, name));
  return SOURCE_PLACES[key ?? kind];
}
