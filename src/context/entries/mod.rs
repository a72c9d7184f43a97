//! The entries of the context: connections, listeners, UDP sockets, watches, handlers.

pub(crate) mod connection_entry;
pub(crate) mod handler_entry;
pub(crate) mod journal_notes;
pub(crate) mod listener_entry;
pub(crate) mod source;
pub(crate) mod udp_socket_entry;
#[cfg(unix)]
pub(crate) mod watch_entry;
