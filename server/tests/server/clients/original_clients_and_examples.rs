//! The original Python clients and the examples, with the server.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use support::network::streams::GREETING;
use support::network::tcp::{request, request_with};
use support::network::udp::{UDP_GREETING, request_udp};
use support::process::child::run;
use support::process::examples::example;
use support::process::server::Server;
use support::wait::wait_for;

use crate::HALLOO;

/// A Python program of the folder `examples`, with a port as its argument.
pub(super) fn python_program(path: &str, port: u16) -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples")).join(path)).arg(port.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The output of one of the original clients, `tcp` or `udp`.
#[track_caller]
pub(super) fn original_client(protocol: &str, port: u16) -> String {
    let output = run(python_program(&format!("blocking/{protocol}_client.py"), port));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    output.stdout
}

/// Starts a server that prints the address that it listens on.
#[track_caller]
pub(super) fn listening_server(command: Command) -> (Server, SocketAddr) {
    let server = Server::spawn(command);
    let first = server.stdout.wait_for_line("Listening on ");
    let address = first.strip_prefix("Listening on ").expect("it begins so").parse().expect("an address");
    (server, address)
}

/// Starts an example server on a free port.
fn example_server(name: &str) -> (Server, SocketAddr) {
    let mut command = Command::new(example(HALLOO, name));
    command.arg("127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    listening_server(command)
}

fn example_client(name: &str, server: SocketAddr) -> String {
    let mut command = Command::new(example(HALLOO, name));
    command.arg(server.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(command);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    output.stdout
}

fn start_on_localhost() -> Server {
    let mut command = HALLOO.command(&[]);
    command.env("HALLOO_LISTEN", "localhost:0");
    Server::start(command)
}

/// Fails unless each address of the READY line is served.
#[track_caller]
fn assert_replies_everywhere(server: &Server) {
    for word in server.ready_addresses() {
        let (protocol, address) = word.split_once('=').expect("an address of a protocol");
        let address = address.parse().expect("an address");
        match protocol {
            "tcp" => assert_eq!(request(address), GREETING),
            _ => assert_eq!(request_udp(address, b"hi"), UDP_GREETING),
        }
    }
}

#[test]
fn localhost_is_served_over_tcp_and_udp_on_one_port() {
    let server = start_on_localhost();
    let port = server.tcp().port();
    assert_ne!(port, 0);
    assert_eq!(server.ready_addresses()[..2], [format!("tcp=127.0.0.1:{port}"), format!("udp=127.0.0.1:{port}")]);
    assert_replies_everywhere(&server);
}

#[test]
#[ignore = "needs IPv6"]
fn localhost_is_served_over_tcp_and_udp_ipv4_before_ipv6_on_one_port() {
    let server = start_on_localhost();
    let (port, pid) = (server.tcp().port(), server.pid());
    let (v4, v6) = (format!("127.0.0.1:{port}"), format!("[::1]:{port}"));
    assert_eq!(server.ready_line(), format!("READY tcp={v4} udp={v4} tcp={v6} udp={v6} pid={pid}"));
    assert_replies_everywhere(&server);
}

#[test]
#[ignore = "needs python3"]
fn the_original_clients_are_answered_and_the_server_prints_what_it_received() {
    let server = HALLOO.start(&["--listen", "localhost:0"]);
    let port = server.tcp().port();
    assert_eq!(original_client("tcp", port), "Received: Hello, TCP Client!\n");
    assert_eq!(original_client("udp", port), "Received: Hello, UDP Client!\n");
    let lines = wait_for("a line for each", || Some(server.event_lines()).filter(|lines| lines.len() == 2));
    assert!(lines[0].starts_with("tcp 127.0.0.1:"), "{lines:?}");
    assert!(lines[0].ends_with(" bytes=18 Hello, TCP Server!"), "{lines:?}");
    assert!(lines[1].starts_with("udp 127.0.0.1:"), "{lines:?}");
    assert!(lines[1].ends_with(" bytes=18 Hello, UDP Server!"), "{lines:?}");
}

#[test]
fn the_example_clients_are_answered_by_the_server() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    assert_eq!(example_client("tcp_client", server.tcp()), "Received: Hello, TCP Client!\n");
    assert_eq!(example_client("udp_client", server.udp()), "Received: Hello, UDP Client!\n");
}

#[test]
fn the_example_servers_answer_the_example_clients() {
    for protocol in ["tcp", "udp"] {
        let (server, address) = example_server(&format!("{protocol}_server"));
        let name = protocol.to_uppercase();
        let (answer, question) = (format!("Received: Hello, {name} Client!\n"), format!(": Hello, {name} Server!"));
        assert_eq!(example_client(&format!("{protocol}_client"), address), answer);
        let received = server.stdout.wait_for_line("Received from 127.0.0.1:");
        assert!(received.ends_with(&question), "{received}");
    }
}

#[test]
#[ignore = "needs python3"]
fn the_example_servers_answer_the_original_clients() {
    for protocol in ["tcp", "udp"] {
        let (_server, address) = example_server(&format!("{protocol}_server"));
        let answer = format!("Received: Hello, {} Client!\n", protocol.to_uppercase());
        assert_eq!(original_client(protocol, address.port()), answer);
    }
}

#[test]
fn the_echo_example_sends_its_input_back() {
    let (_server, address) = example_server("echo");
    assert_eq!(request_with(address, b"one\ntwo"), "one\ntwo");
}

#[test]
fn the_workers_example_spreads_its_clients_and_prints_their_number_at_the_end() {
    let mut command = Command::new(example(HALLOO, "workers"));
    command.args(["127.0.0.1:0", "4"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut server, address) = listening_server(command);
    for _ in 0..60 {
        assert_eq!(request_with(address, b"one\ntwo"), "one\ntwo");
    }
    server.write_stdin("\n");
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    server.stdout.wait_for_line("together: 60 clients, 420 bytes sent back");
    let lines = server.stdout.lines();
    let counts = lines.iter().filter_map(|line| line.strip_prefix("worker ")?.split(' ').nth(1)?.parse::<u64>().ok());
    let counts: Vec<u64> = counts.collect();
    assert_eq!((counts.len(), counts.iter().sum()), (4, 60), "{lines:?}");
    assert!(counts.iter().filter(|count| **count > 0).count() >= 2, "one worker served them all: {lines:?}");
}
