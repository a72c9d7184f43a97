//! The library through its public API alone, over real sockets.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of `Connection<'_>` named by its path is of one lifetime, and a callback has to be of all"
)]

mod backpressure;
mod calls_to_other_connections;
mod close_and_abort;
mod connection_resets;
mod connection_timeouts;
mod drain_and_stop;
mod fairness;
mod frame_formats;
mod half_close;
mod handler_panics;
mod line_framing;
mod listener_and_socket_removal;
mod local_and_peer_addresses;
mod loopback;
mod max_connections;
#[cfg(target_os = "linux")]
mod memory_growth;
mod nested_loops;
mod nonblocking_client;
mod nonblocking_listener;
mod notify;
mod options_and_bind_errors;
mod outbound_connects;
mod pending_connects;
mod posted_jobs;
mod proxy_handler;
mod recording_handler;
mod refused_replies;
mod reply_and_close;
mod scheduled_timers;
mod simple_handlers;
mod turn_and_next_timeout;
mod turns;
mod udp_datagrams;
mod unconsumed_input;
#[cfg(unix)]
mod unix_sockets;
