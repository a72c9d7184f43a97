//! Failing system calls of TCP connections and listeners.

mod accept_errors;
mod client_memory;
mod open_connection_errors;
mod persistent_errors;
mod read_errors;
mod send_errors;
pub(crate) mod tolerant_clients;
