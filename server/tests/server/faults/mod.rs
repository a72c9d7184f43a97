//! Faults on purpose, as clients meet them.

mod changed_faults;
mod datagram_faults;
mod fault_settings;
mod fault_shares;
mod stream_faults;

use support::process::server::Server;

use crate::HALLOO;

/// Starts a server at a free TCP port, with JSON events.
#[track_caller]
fn start_tcp(arguments: &[&str]) -> Server {
    HALLOO.start(&[&["--tcp", "127.0.0.1:0", "--events", "json"], arguments].concat())
}

/// Starts a server at a free UDP port, with JSON events.
#[track_caller]
fn start_udp(arguments: &[&str]) -> Server {
    HALLOO.start(&[&["--udp", "127.0.0.1:0", "--events", "json"], arguments].concat())
}

/// The number of events of a fault.
fn fault_events(server: &Server, fault: &str) -> usize {
    server.stdout.count_lines_with(&format!("\"fault\":\"{fault}\""))
}
