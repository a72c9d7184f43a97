//! Port checks: clients that connect and close without sending a byte.
//!
//! A check has no event and is no greeting, except in banner mode.

use std::net::TcpStream;

use support::network::streams::{read_to_end, send};
use support::network::tcp::{connect, half_close, request, request_with, reset};
use support::network::udp::{recv, send_udp_request, udp_client};
use support::process::server::Server;
use support::wait::{wait_for, wait_until};

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

/// Checks the port like `nc -z`, like a load balancer that resets, with halloo's own probe, and over a unix socket.
/// Returns when the server has closed all four connections.
fn check_in_every_way(server: &Server, socket_path: &SocketPath) {
    let accepted_before = server.counters()["accepted"];
    drop(connect(server.tcp()));
    reset(connect(server.tcp()));
    let probe = HALLOO.run(&["probe", "--connect-only", &server.tcp().to_string()]);
    assert_eq!(probe.status, 0, "{probe:?}");
    drop(socket_path.connect());
    wait_until_served(server, accepted_before + 4);
}

/// Waits until `accepted` clients were accepted and all connections are closed.
fn wait_until_served(server: &Server, accepted: u64) {
    wait_until("all connections to be closed", || {
        let counters = server.counters();
        (counters["accepted"], counters["connections"]) == (accepted, 0)
    });
}

#[test]
fn a_connection_check_has_no_event_and_uses_no_greeting() {
    for mode in ["greet", "line", "echo", "discard"] {
        let socket_path = SocketPath::new();
        let mut server = socket_path.start_server(&["--listen", "127.0.0.1:0", "--mode", mode, "--max-greetings", "2"]);
        check_in_every_way(&server, &socket_path);
        send_line_and_close(&connect(server.tcp()));
        server.stdout.wait_for_line("tcp 127.0.0.1:");
        check_in_every_way(&server, &socket_path);
        assert_eq!(server.event_lines().len(), 1, "{mode}: {:?}", server.event_lines());
        assert!(server.is_running(), "{mode}: one greeting is left");
        send_line_and_close(&connect(server.tcp()));
        assert_eq!(server.wait(), 0, "{mode}: {}", server.stderr.text());
        server.wait_for_eof();
        assert_eq!(server.event_lines().len(), 2, "{mode}: {:?}", server.event_lines());
    }
}

/// Sends a line, which is a question in every mode, and returns the answer.
fn send_line_and_close(client: &TcpStream) -> String {
    send(client, b"hello\n");
    half_close(client);
    read_to_end(client)
}

#[test]
fn eof_without_a_byte_is_greeted_with_the_next_number_and_does_not_use_it() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--greeting", "{number}", "--max-greetings", "2"]);
    for number in ["1", "2"] {
        assert_eq!((request_with(server.tcp(), b""), request_with(server.tcp(), b"")), (number.into(), number.into()));
        assert_eq!(request(server.tcp()), number);
    }
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    server.wait_for_eof();
    assert_eq!(server.event_lines().len(), 2, "{:?}", server.event_lines());
}

#[test]
fn after_the_last_greeting_eof_without_a_byte_gets_no_greeting() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--max-greetings", "1", "--greeting", "{number}"]);
    let check = connect(server.tcp());
    wait_until("it to be accepted", || server.counters()["connections"] == 1);
    assert_eq!(request(server.tcp()), "1");
    half_close(&check);
    assert_eq!(read_to_end(&check), "");
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
}

#[test]
fn in_banner_mode_each_connection_is_greeted_and_counted() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "banner", "--max-greetings", "2"]);
    drop(connect(server.tcp()));
    server.stdout.wait_for_line("tcp 127.0.0.1:");
    assert!(server.is_running(), "one greeting is left");
    assert!(!read_to_end(&connect(server.tcp())).is_empty());
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
}

#[test]
fn an_empty_datagram_counts_as_a_greeting() {
    let mut server = HALLOO.start(&["--udp", "127.0.0.1:0", "--max-greetings", "2", "--greeting", "{number}"]);
    let client = udp_client(server.udp());
    client.send(b"").expect("loopback takes it");
    assert_eq!(recv(&client), b"1");
    assert_eq!(recv(&send_udp_request(server.udp())), b"2");
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    let events = wait_for("both events", || Some(server.event_lines()).filter(|events| events.len() == 2));
    assert!(events[0].contains(" bytes=0"), "{events:?}");
}
