//! The built binary under faults: failing system calls, full pipes, forged datagrams.
//!
//! strace makes system calls fail; forged datagrams need a network namespace.

#![cfg(target_os = "linux")]

mod process;
mod recordings;
mod run_fault_cases;
mod streams;
mod udp;

use std::time::Duration;

use support::process::server::ServerBinary;

const HALLOO: ServerBinary = ServerBinary::new(env!("CARGO_BIN_EXE_halloo"));

/// The longest response time of a client without a fault, with a margin for a busy machine.
const RESPONSE_TIME_MAX: Duration = Duration::from_millis(500);
