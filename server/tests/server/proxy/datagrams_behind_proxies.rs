//! PROXY headers before datagrams: the real client, the rate limit, refused datagrams.

use std::net::UdpSocket;

use support::network::udp::{UDP_GREETING, recv, request_udp, request_udp_on, try_recv, udp_client};
use support::process::server::Server;

use super::{CLIENT, LOCAL, TCP4, UDP4, V1, v2, v2_of};
use crate::HALLOO;

fn start(arguments: &[&str]) -> Server {
    HALLOO.start(&[&["--udp", "127.0.0.1:0", "--proxy-protocol", "127.0.0.1"], arguments].concat())
}

/// Fails unless the server drops these datagrams; it answers another one, which has arrived later.
#[track_caller]
fn assert_dropped(client: &UdpSocket, datagrams: &[&[u8]], answered: &[u8], reply: &str) {
    for datagram in datagrams {
        client.send(datagram).expect("loopback takes it");
    }
    assert_eq!(request_udp_on(client, answered), reply);
    assert_eq!(try_recv(client), None, "a dropped datagram was answered");
}

#[test]
fn the_client_of_a_header_is_in_the_reply_to_the_proxy_and_in_the_event() {
    let server = start(&["--greeting", "{peer}"]);
    assert_eq!(request_udp(server.udp(), &[&v2(UDP4), b"hello".as_slice()].concat()), CLIENT);
    server.stdout.wait_for_line(&format!("udp {CLIENT} bytes=5 hello"));
    let proxy = udp_client(server.udp());
    let own_address = proxy.local_addr().expect("it is bound").to_string();
    assert_eq!(request_udp_on(&proxy, LOCAL), own_address);
    server.stdout.wait_for_line(&format!("udp {own_address} bytes=0"));
}

#[test]
fn echo_returns_the_payload_without_the_header() {
    let server = start(&["--mode", "echo"]);
    for payload in [&b"hello"[..], b"", b"\r\n\r\n\0\r\nQUIT\n"] {
        let proxy = udp_client(server.udp());
        let header = v2_of(7, UDP4, b"\x05\0\x03abc");
        proxy.send(&[&header, payload].concat()).expect("loopback takes it");
        assert_eq!(recv(&proxy), payload);
    }
}

#[test]
fn the_rate_limit_counts_the_clients_behind_a_proxy() {
    let server = start(&["--udp-rate", "2", "--greeting", "{peer}"]);
    let proxy = udp_client(server.udp());
    for last_octet in [1, 2] {
        for _ in 0..5 {
            proxy.send(&v2_of(last_octet, UDP4, &[])).expect("loopback takes it");
        }
    }
    // Requests are answered in their order: the last client has its replies after all others.
    let last = v2_of(3, UDP4, &[]);
    let mut replies = vec![request_udp_on(&proxy, &last)];
    while replies.last().is_some_and(|reply| reply != "192.0.2.3:4711") {
        replies.push(String::from_utf8(recv(&proxy)).expect("text"));
    }
    let expected = ["192.0.2.1:4711", "192.0.2.1:4711", "192.0.2.2:4711", "192.0.2.2:4711", "192.0.2.3:4711"];
    assert_eq!(replies, expected);
}

#[test]
fn a_greeting_behind_a_header_gets_no_answer() {
    let server = start(&[]);
    let proxy = udp_client(server.udp());
    let greeting = [&v2(UDP4), UDP_GREETING.as_bytes()].concat();
    assert_dropped(&proxy, &[&greeting], &v2(UDP4), UDP_GREETING);
}

#[test]
fn a_datagram_of_a_proxy_without_a_whole_header_of_version_2_is_dropped_by_name() {
    let header = v2(UDP4);
    for (datagram, word) in [
        (&b"hello"[..], "missing"),
        (b"", "missing"),
        (&header[..20], "incomplete"),
        (&v2(TCP4), "unsupported"),
        (&v2(0x52), "malformed"),
    ] {
        let server = start(&[]);
        assert_dropped(&udp_client(server.udp()), &[datagram], &header, UDP_GREETING);
        let line = server.stderr.wait_for_line("refused for their PROXY headers");
        assert!(line.contains(&format!(": {word}: ")) && line.contains("WARN"), "{line}");
        server.stdout.wait_for_line("bytes=0");
        assert_eq!(server.event_lines().len(), 1);
    }
}

#[test]
fn version_1_before_a_datagram_is_refused_with_the_name_of_nginx() {
    let server = start(&[]);
    // nginx sends the header as a datagram of its own.
    assert_dropped(&udp_client(server.udp()), &[V1], &v2(UDP4), UDP_GREETING);
    let line = server.stderr.wait_for_line("version_1_datagram");
    assert!(line.contains("nginx sends it for UDP with proxy_protocol on"), "{line}");
}

#[test]
fn a_header_of_an_untrusted_sender_is_dropped_and_other_datagrams_are_answered() {
    let server = HALLOO.start(&["--udp", "127.0.0.1:0", "--greeting", "{peer}", "--proxy-protocol", "10.0.0.0/8"]);
    let client = udp_client(server.udp());
    let own_address = client.local_addr().expect("it is bound").to_string();
    assert_dropped(&client, &[&v2(UDP4), LOCAL], b"hello", &own_address);
    server.stderr.wait_for_line("untrusted: the client has sent a header and is not in --proxy-protocol");
}
