//! The built binary under a supervisor: socket activation, notifications, the watchdog.

#![cfg(target_os = "linux")]

mod activated_server;
mod activated_workers;
mod deployed_units;
mod invalid_inherited_sockets;
mod notify_messages;
mod notify_socket;
mod restarts;
mod socket_activation;
mod watchdog;

use support::process::server::ServerBinary;

const HALLOO: ServerBinary = ServerBinary::new(env!("CARGO_BIN_EXE_halloo"));
