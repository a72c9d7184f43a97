//! The examples and their clients as child processes.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use support::process::child::Process;
use support::wait::wait_for;

/// Starts a program with piped standard input and output.
#[track_caller]
pub(crate) fn start_program(program: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    Process::spawn(command)
}

/// Starts an example and waits for its address.
#[track_caller]
pub(crate) fn start_example(program: &str, arguments: &[&str]) -> (Process, SocketAddr) {
    let server = start_program(program, arguments);
    let address = wait_for("the first line", || {
        let text = server.stdout.text();
        text.strip_prefix("Listening on ")?.split_once('\n')?.0.parse().ok()
    });
    (server, address)
}

/// Starts netcat, connected to an address.
#[track_caller]
pub(crate) fn start_netcat(to: SocketAddr) -> Process {
    start_program("nc", &[&to.ip().to_string(), &to.port().to_string()])
}
