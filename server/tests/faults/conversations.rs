//! Connections that have been served for a while, one of which meets an error: the others go on talking.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use crate::clients::{GREETING, connect, try_to_say};
use crate::injection::{Injection, injected, is_possible};
use crate::replies::SEND_ERRORS;
use crate::rows::Before;
use crate::streams::READ_ERRORS;
use crate::support::Server;

const CLIENTS: usize = 3;

/// Asks once more: the greeting, or nothing if the connection has ended.
fn converse(client: &TcpStream) -> String {
    try_to_say(client, b"and again?\n");
    let mut line = String::new();
    // An end by reset is an end.
    let _ = BufReader::new(client).read_line(&mut line);
    line
}

#[track_caller]
fn assert_others_go_on(server: &mut Server, call: &str, errno: &str) {
    let before = Before::of(server);
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(server.tcp())).collect();
    let greeting = format!("{GREETING}\n");
    assert!(clients.iter().all(|client| converse(client) == greeting), "{call} {errno}: before");
    for unlucky in 0..CLIENTS {
        let fault = Injection::into(server, call, errno, "1");
        assert_eq!(converse(&clients[unlucky]), "", "{call} {errno}");
        for other in &clients[unlucky + 1..] {
            assert_eq!(converse(other), greeting, "{call} {errno}: another client");
        }
        assert_eq!(injected(&fault.end()).count(), 1, "{call} {errno}");
    }
    drop(clients);
    assert_eq!(converse(&connect(server.tcp())), greeting, "{call} {errno}: a new client");
    before.assert_nothing_lost(server, &format!("{call} {errno} in conversation"), 0);
}

#[test]
fn an_error_in_one_conversation_ends_that_one_and_no_other() {
    if !is_possible() {
        return;
    }
    let mut server = Server::start(&["--tcp", "127.0.0.1:0", "--mode", "line"]);
    for errno in READ_ERRORS {
        assert_others_go_on(&mut server, "recvfrom", errno);
    }
    for errno in SEND_ERRORS {
        assert_others_go_on(&mut server, "sendto", errno);
    }
    server.assert_stops();
}
