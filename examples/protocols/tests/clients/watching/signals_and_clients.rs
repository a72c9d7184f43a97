//! `stop_on_signal` with signals and clients of std.

use std::net::{SocketAddr, TcpStream};

use support::process::child::Process;
use support::wait::wait_until;

use super::Client;
use crate::programs::start_example;

/// Starts the example, and a client that has received one echo.
fn start() -> (Process, SocketAddr, Client) {
    let (server, at) = start_example(env!("CARGO_BIN_EXE_stop_on_signal"), &["127.0.0.1:0"]);
    let mut client = Client::connect(at);
    client.send("hello\n");
    assert_eq!(client.read_line(), "hello\n");
    (server, at, client)
}

#[test]
fn after_a_signal_clients_may_finish_and_no_new_one_is_accepted() {
    for signal in ["TERM", "INT"] {
        let (mut server, at, mut client) = start();
        server.signal(signal);
        assert_eq!(client.read_line(), "* this server ends in 10s\n");
        wait_until("the port is closed", || TcpStream::connect(at).is_err());
        client.send("still there\n");
        assert_eq!(client.read_line(), "still there\n");
        client.finish();
        assert_eq!(client.read_line(), "", "EOF");
        assert_eq!(server.wait(), 0);
        // A client that connected before the port was closed counts too.
        server.stdout.wait_for_end(" clients have left, 0 were reset\n");
    }
}

#[test]
fn a_second_signal_resets_the_clients_that_are_left() {
    let (mut server, _, mut client) = start();
    server.signal("TERM");
    assert_eq!(client.read_line(), "* this server ends in 10s\n");
    server.signal("INT");
    assert!(client.is_reset());
    assert_eq!(server.wait(), 0);
    server.stdout.wait_for_end("Ended: 0 clients have left, 1 were reset\n");
}
