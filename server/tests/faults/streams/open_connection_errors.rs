//! Read and send errors of connections that have been served before.
//!
//! An error ends its own connection and no other.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use support::network::streams::GREETING;
use support::network::tcp::connect;
use support::process::server::Server;
use support::process::strace::{FaultInjection, injected};

use crate::HALLOO;
use crate::run_fault_cases::Baseline;
use crate::streams::fallible_clients::try_send;
use crate::streams::read_errors::READ_ERRORS;
use crate::streams::send_errors::SEND_ERRORS;

const CLIENTS: usize = 3;

/// Sends another line, and returns the greeting, or nothing if the connection has ended.
fn exchange_line(client: &TcpStream) -> String {
    try_send(client, b"and again?\n");
    let mut line = String::new();
    // A reset is an end too.
    let _ = BufReader::new(client).read_line(&mut line);
    line
}

#[track_caller]
fn assert_others_go_on(server: &mut Server, call: &str, errno: &str) {
    let before = Baseline::of(server);
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(server.tcp())).collect();
    let greeting = format!("{GREETING}\n");
    assert!(clients.iter().all(|client| exchange_line(client) == greeting), "{call} {errno}: before");
    for faulted in 0..CLIENTS {
        let fault = FaultInjection::start(server, call, errno, "1");
        assert_eq!(exchange_line(&clients[faulted]), "", "{call} {errno}");
        for other in &clients[faulted + 1..] {
            assert_eq!(exchange_line(other), greeting, "{call} {errno}: another client");
        }
        assert_eq!(injected(&fault.end()).count(), 1, "{call} {errno}");
    }
    drop(clients);
    assert_eq!(exchange_line(&connect(server.tcp())), greeting, "{call} {errno}: a new client");
    before.assert_nothing_lost(server, &format!("{call} {errno} on an open connection"), 0);
}

#[test]
#[ignore = "needs strace"]
fn an_error_of_one_connection_ends_only_that_connection() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "line"]);
    for errno in READ_ERRORS {
        assert_others_go_on(&mut server, "recvfrom", errno);
    }
    for errno in SEND_ERRORS {
        assert_others_go_on(&mut server, "sendto", errno);
    }
    server.assert_exits_on_sigterm();
}
