//! UDP: which datagrams are answered, and from which address.

use std::net::{SocketAddr, UdpSocket};

use support::network::tcp::request;
use support::network::udp::{UDP_GREETING, UDP_REQUEST, recv, request_udp, try_recv, udp_client};

use crate::HALLOO;

#[test]
fn a_datagram_that_is_itself_a_greeting_gets_no_answer() {
    for (greeting, same) in [(None, UDP_GREETING), (Some("{number}. hello {peer}"), "17. hello 10.1.2.3:9")] {
        let mut arguments = vec!["--udp", "127.0.0.1:0"];
        arguments.extend(greeting.iter().flat_map(|greeting| ["--udp-greeting", greeting]));
        let server = HALLOO.start(&arguments);
        let client = udp_client(server.udp());
        for datagram in [same, "ask"] {
            client.send(datagram.as_bytes()).expect("loopback takes it");
        }
        // The second is answered. An answer to the first would have arrived before.
        server.stdout.wait_for_line(" ask");
        assert!(!recv(&client).is_empty());
        assert_eq!(try_recv(&client), None, "{same} was answered");
        assert_eq!(server.event_lines().len(), 1, "{:?}", server.event_lines());
    }
}

#[test]
fn an_empty_datagram_is_greeted_like_any_other() {
    let server = HALLOO.start(&["--udp", "127.0.0.1:0"]);
    assert_eq!(request_udp(server.udp(), b""), UDP_GREETING);
    assert!(server.stdout.wait_for_line("udp 127.0.0.1:").ends_with(" bytes=0"));
}

#[test]
fn the_longest_datagram_is_greeted_and_echoed_whole() {
    let longest = vec![b'x'; 65_507];
    let server = HALLOO.start(&["--udp", "127.0.0.1:0"]);
    assert_eq!(request_udp(server.udp(), &longest), UDP_GREETING);
    let line = server.stdout.wait_for_line("udp 127.0.0.1:");
    assert!(line.contains(" bytes=65507 ") && line.len() < 350, "{line}");
    let server = HALLOO.start(&["--udp", "127.0.0.1:0", "--mode", "echo"]);
    assert!(request_udp(server.udp(), &longest).into_bytes() == longest);
}

#[test]
fn a_hundred_queued_datagrams_are_all_answered() {
    let server = HALLOO.start(&["--udp", "127.0.0.1:0"]);
    server.pause();
    let clients: Vec<UdpSocket> = (0..100).map(|_| udp_client(server.udp())).collect();
    for client in &clients {
        client.send(UDP_REQUEST).expect("loopback takes it");
    }
    server.resume();
    for client in &clients {
        assert_eq!(recv(client), UDP_GREETING.as_bytes());
    }
}

#[test]
fn on_a_wildcard_the_reply_leaves_from_the_destination_address() {
    let server = HALLOO.start(&["--listen", "0.0.0.0:0", "--greeting", "{local}"]);
    let port = server.udp().port();
    for host in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 3, 2, 1]] {
        let address = SocketAddr::from((host, port));
        // A connected socket receives only from this address.
        assert_eq!(request_udp(address, UDP_REQUEST), address.to_string());
        assert_eq!(request(address), address.to_string());
    }
}

#[test]
#[ignore = "needs IPv6"]
fn the_ipv6_wildcard_serves_ipv4_and_prints_ipv4_addresses_without_mapping() {
    let server = HALLOO.start(&["--listen", "[::]:0", "--greeting", "{local}"]);
    let port = server.udp().port();
    for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
        let address: SocketAddr = format!("{host}:{port}").parse().expect("an address");
        assert_eq!(request_udp(address, UDP_REQUEST), address.to_string());
        assert_eq!(request(address), address.to_string());
    }
}

#[test]
fn a_client_that_closes_before_its_reply_affects_no_other_client() {
    let server = HALLOO.start(&["--udp", "127.0.0.1:0", "--events", "off"]);
    for _ in 0..50 {
        let closed_client = udp_client(server.udp());
        closed_client.send(UDP_REQUEST).expect("loopback takes it");
        drop(closed_client);
        assert_eq!(request_udp(server.udp(), UDP_REQUEST), UDP_GREETING);
    }
}
