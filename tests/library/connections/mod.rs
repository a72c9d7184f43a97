//! Open connections: replies, closes, timeouts and addresses.

mod addresses_from_the_handler;
mod backpressure;
mod calls_to_other_connections;
mod close_and_abort;
mod connection_resets;
mod connection_timeouts;
mod half_close;
mod local_and_peer_addresses;
mod reply_and_close;
mod sending;
