//! Clients and handlers that several tests use.

pub(crate) mod loopback;
pub(crate) mod nonblocking_client;
pub(crate) mod nonblocking_listener;
pub(crate) mod recording_handler;
pub(crate) mod simple_handlers;
pub(crate) mod turn_until;
