//! Failing system calls of TCP connections and listeners.

mod accept_errors;
pub(crate) mod fallible_clients;
mod kept_connections;
mod memory_per_client;
mod open_connection_errors;
mod persistent_errors;
mod read_errors;
mod send_errors;
