//! The real client in greetings, events and limits of streams.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use support::network::streams::{read_exactly, read_to_end, read_until_closed, send};
use support::network::tcp::{connect, connect_many, half_close, request, request_with};
use support::wait::wait_until;

use super::{CLIENT, LOCAL, TCP4, V1, v2, v2_of};
use crate::HALLOO;

const TRUSTED: [&str; 6] = ["--tcp", "127.0.0.1:0", "--greeting", "{peer}", "--proxy-protocol", "127.0.0.1"];

#[test]
fn the_client_of_a_header_is_in_the_greeting_and_the_event_and_its_request_is_whole() {
    let server = HALLOO.start(&TRUSTED);
    let with_tlvs = v2_of(7, TCP4, b"\x01\0\x02h2\x02\0\x0bexample.com");
    for header in [V1, &v2(TCP4), &with_tlvs] {
        assert_eq!(request_with(server.tcp(), &[header, b"hello"].concat()), CLIENT);
    }
    wait_until("the events", || server.event_lines().len() == 3);
    assert_eq!(server.event_lines(), vec![format!("tcp {CLIENT} bytes=5 hello"); 3]);
    assert_eq!(server.log_lines(), [""; 0]);
}

#[test]
fn a_header_that_arrives_byte_by_byte_is_read_like_a_whole_one() {
    let server = HALLOO.start(&TRUSTED);
    for header in [V1, &v2(TCP4)] {
        let client = connect(server.tcp());
        client.set_nodelay(true).expect("a TCP socket");
        for byte in header {
            send(&client, &[*byte]);
        }
        send(&client, b"hello");
        assert_eq!(read_to_end(&client), CLIENT);
    }
}

#[test]
fn the_proxy_itself_is_the_client_of_a_header_without_addresses() {
    let server = HALLOO.start(&TRUSTED);
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let client = connect(server.tcp());
        send(&client, &[header, b"hello"].concat());
        assert_eq!(read_to_end(&client), client.local_addr().expect("it is connected").to_string());
    }
}

#[test]
fn banner_line_echo_and_discard_serve_the_client_of_a_header() {
    for (mode, sent, reply) in
        [("banner", "", "hi"), ("line", "a\nb", "hi\nhi\n"), ("echo", "a\r\n\r\n", "a\r\n\r\n"), ("discard", "a", "")]
    {
        let mut arguments = vec!["--tcp", "127.0.0.1:0", "--mode", mode, "--proxy-protocol", "127.0.0.0/8"];
        if reply.starts_with("hi") {
            arguments.extend(["--greeting", "hi"]);
        }
        let server = HALLOO.start(&arguments);
        let client = connect(server.tcp());
        send(&client, &[&v2(TCP4), sent.as_bytes()].concat());
        half_close(&client);
        assert_eq!(read_to_end(&client), reply, "{mode}");
        server.stdout.wait_for_line(&format!("tcp {CLIENT} bytes="));
    }
}

#[test]
fn a_client_outside_the_trusted_networks_is_served_directly() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--greeting", "{peer}", "--proxy-protocol", "10.0.0.0/8,unix"]);
    assert!(request(server.tcp()).starts_with("127.0.0.1:"));
    server.stdout.wait_for_line("tcp 127.0.0.1:");
}

#[test]
fn clients_behind_one_proxy_have_limits_of_their_own() {
    let limit = ["--mode", "echo", "--max-connections-per-source", "2"];
    let server = HALLOO.start(&[&limit[..], &["--tcp", "127.0.0.1:0", "--proxy-protocol", "127.0.0.1"]].concat());
    let send_header =
        |client: &TcpStream, last_octet| send(client, &[&v2_of(last_octet, TCP4, &[]), b"hello".as_slice()].concat());
    let open = |last_octet| {
        let client = connect(server.tcp());
        send_header(&client, last_octet);
        client
    };
    // Before the header, no client counts for the address of the proxy.
    let clients = connect_many(5, server.tcp());
    wait_until("all connections", || server.counters()["accepted"] == 5);
    for (client, last_octet) in clients.iter().zip([1, 1, 2, 2, 3]) {
        send_header(client, last_octet);
        assert_eq!(read_exactly(client, 5), b"hello");
    }
    assert_eq!(read_until_closed(open(1)), b"");
    assert_eq!(server.counters()["refused_source"], 1);
    half_close(&clients[0]);
    assert_eq!(read_to_end(&clients[0]), "");
    assert_eq!(read_exactly(open(1), 5), b"hello", "a place is free again");
}

#[test]
fn direct_clients_are_limited_beside_proxies() {
    let limit = ["--mode", "echo", "--max-connections-per-source", "1"];
    let server = HALLOO.start(&[&limit[..], &["--tcp", "127.0.0.1:0", "--proxy-protocol", "10.0.0.0/8"]].concat());
    let first = connect(server.tcp());
    send(&first, b"hello");
    assert_eq!(read_exactly(&first, 5), b"hello");
    // Without a timeout: the connection may be reset before `connect` has polled it.
    let second = TcpStream::connect(server.tcp()).expect("the server listens");
    assert_eq!(read_until_closed(second), b"");
}

#[test]
fn a_client_behind_a_unix_socket_has_an_address_if_unix_is_trusted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("halloo.sock");
    let path_text = path.to_str().expect("UTF-8");
    let ask = |bytes: &[u8]| {
        let client = UnixStream::connect(&path).expect("it listens");
        send(&client, bytes);
        read_until_closed(&client)
    };
    let arguments = ["--unix", path_text, "--greeting", "{protocol} {peer} {local}", "--proxy-protocol", "unix"];
    let server = HALLOO.start(&arguments);
    assert_eq!(ask(&[V1, b"hello"].concat()), format!("unix {CLIENT} {path_text}").as_bytes());
    server.stdout.wait_for_line(&format!("unix {CLIENT} bytes=5 hello"));
    assert_eq!(ask(b"hello"), b"", "a header is required");
    drop(server);
    // A network contains no client of a unix socket.
    let server = HALLOO.start(&["--unix", path_text, "--greeting", "{peer}", "--proxy-protocol", "0.0.0.0/0,::/0"]);
    assert_eq!(ask(b"hello"), b"unix");
    assert_eq!(ask(V1), b"");
    server.stderr.wait_for_line("last unix: untrusted");
}

#[test]
fn a_client_whose_header_arrives_during_the_drain_is_served() {
    for mode in ["greet", "line"] {
        let mut server = HALLOO.start(&[&TRUSTED[..], &["--mode", mode, "--drain-timeout", "20s"]].concat());
        let client = connect(server.tcp());
        send(&client, &V1[..9]);
        wait_until("the beginning of the header", || server.counters()["bytes_received"] == 9);
        server.signal("TERM");
        server.stderr.wait_for_line("stopping");
        send(&client, &[&V1[9..], b"hello\n"].concat());
        half_close(&client);
        assert_eq!(read_to_end(&client).trim_end(), CLIENT, "{mode}");
        assert_eq!(server.wait(), 0);
    }
}
