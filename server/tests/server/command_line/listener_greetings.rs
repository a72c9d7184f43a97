//! The greetings of single sockets: `--greeting-for`.

use std::net::SocketAddr;

use support::network::streams::GREETING;
use support::network::tcp::request;
use support::network::udp::{UDP_GREETING, UDP_REQUEST, recv, request_udp, try_recv, udp_client};
use support::process::server::{Server, assert_fails};

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

/// Two addresses with a free port each, and these flags.
fn start(flags: &[&str]) -> Server {
    HALLOO.start(&[&["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"], flags].concat())
}

/// The greetings over TCP and UDP at both addresses.
fn greetings(server: &Server) -> Vec<String> {
    let addresses = server.ready_addresses();
    let of = |prefix: &str| -> Vec<SocketAddr> {
        addresses
            .iter()
            .filter_map(|one| one.strip_prefix(prefix))
            .map(|text| text.parse().expect("an address"))
            .collect()
    };
    let udp = of("udp=").into_iter().map(|address| request_udp(address, UDP_REQUEST));
    of("tcp=").into_iter().map(request).chain(udp).collect()
}

#[test]
fn each_socket_has_the_greeting_of_its_most_precise_name() {
    let flags = ["--greeting", "all", "--greeting-for", "udp:127.0.0.2:0=udp two", "--greeting-for", "127.0.0.2:0=two"];
    for workers in ["1", "3"] {
        let server = start(&[&flags[..], &["--workers", workers]].concat());
        assert_eq!(greetings(&server), ["all", "two", "all", "udp two"]);
    }
}

#[test]
fn the_variable_has_a_greeting_on_each_line() {
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"]);
    command.env("HALLOO_GREETING_FOR", "127.0.0.1:0=one, or 1\ntcp:127.0.0.2:0=a=b\n");
    let server = Server::start(command);
    assert_eq!(greetings(&server), ["one, or 1", "a=b", "one, or 1", UDP_GREETING]);
}

#[test]
fn a_unix_socket_has_a_greeting_of_its_own() {
    let socket_path = SocketPath::new();
    let flag = format!("unix:{}=Hello, file!", socket_path.as_str());
    let server = socket_path.start_server(&["--tcp", "127.0.0.1:0", "--greeting-for", &flag]);
    assert_eq!((socket_path.request().as_str(), request(server.tcp()).as_str()), ("Hello, file!", GREETING));
}

#[test]
fn a_greeting_for_a_socket_that_is_not_served_is_an_error_with_the_sockets() {
    let output = HALLOO.run(&["--tcp", "127.0.0.1:0", "--udp", "127.0.0.2:0", "--greeting-for", "9001=x"]);
    let name = "--greeting-for: no socket of this server has the name 9001";
    assert_fails(&output, 2, &[name, "write one of tcp:127.0.0.1:0 udp:127.0.0.2:0"]);
}

#[test]
fn a_datagram_that_is_the_greeting_of_another_socket_has_no_reply() {
    let server = start(&["--greeting-for", "udp:127.0.0.2:0=ping", "--greeting-for", "tcp:127.0.0.2:0=pong"]);
    let client = udp_client(server.udp());
    for datagram in ["ping", "pong"] {
        client.send(datagram.as_bytes()).expect("loopback takes it");
    }
    server.stdout.wait_for_line(" pong");
    assert_eq!(recv(&client), UDP_GREETING.as_bytes());
    assert_eq!(try_recv(&client), None, "the greeting of another socket was answered");
}
