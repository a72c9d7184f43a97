//! The built binary under faults: failing system calls, full pipes, forged datagrams.
//!
//! strace makes system calls fail; forged datagrams need a network namespace.

#![cfg(target_os = "linux")]

mod accept_errors;
mod client_memory;
mod fault_cases;
mod full_pipes;
mod open_connection_errors;
mod persistent_errors;
mod read_errors;
mod send_errors;
mod shutdown_errors;
mod spoofed_datagrams;
mod startup_errors;
mod startup_fd_limits;
mod stop_and_continue;
mod test_network;
mod tolerant_clients;
mod udp_errors;
mod udp_floods;
mod worker_poll_errors;

use std::time::Duration;

use support::server::ServerBinary;

const HALLOO: ServerBinary = ServerBinary::new(env!("CARGO_BIN_EXE_halloo"));

/// What every client is promised that is not itself in trouble, with room for a machine that does other things too.
const SERVED_WITHIN: Duration = Duration::from_millis(500);
