//! Connections that are reset for their headers, and what the log says.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use support::network::streams::{GREETING, read_to_end, send};
use support::network::tcp::{connect, half_close, request, request_with};
use support::process::server::Server;
use support::wait::wait_until;

use super::{TCP4, V1, v2};
use crate::HALLOO;

fn start(trusted: &str, arguments: &[&str]) -> Server {
    HALLOO.start(&[&["--tcp", "127.0.0.1:0", "--proxy-protocol", trusted], arguments].concat())
}

#[track_caller]
fn assert_reset(mut client: &TcpStream) {
    let error = client.read(&mut [0; 64]).expect_err("the connection is reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_bad_header_resets_its_connection_with_a_word_in_the_log_and_without_an_event() {
    let too_long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat();
    for (input, word) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "missing"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n", "malformed"),
        (&too_long, "too_long"),
        (&v2(0x12), "unsupported"),
    ] {
        let server = start("127.0.0.1", &["-v"]);
        let client = connect(server.tcp());
        send(&client, input);
        assert_reset(&client);
        let warning = server.stderr.wait_for_line("refused for their PROXY headers: clients=1, last 127.0.0.1:");
        assert!(warning.contains(&format!(": {word}: ")) && warning.contains("WARN"), "{warning}");
        server.stderr.wait_for_line(&format!("refused for its PROXY header: {word}: "));
        assert_eq!(server.counters()["closed.rejected"], 1);
        assert_eq!(server.event_lines(), [""; 0]);
        assert_eq!(request_with(server.tcp(), &[V1, b"hello"].concat()), GREETING, "others are served");
    }
}

#[test]
fn a_header_that_ends_too_early_is_refused_and_a_check_without_a_byte_is_not() {
    let server = start("127.0.0.1", &[]);
    let check = connect(server.tcp());
    half_close(&check);
    assert_eq!(read_to_end(&check), "");
    let cut = connect(server.tcp());
    send(&cut, &V1[..12]);
    half_close(&cut);
    assert_reset(&cut);
    server.stderr.wait_for_line("clients=1, last 127.0.0.1:");
    assert_eq!(server.log_lines().len(), 1, "{:?}", server.log_lines());
}

#[test]
fn the_header_of_a_client_that_is_not_trusted_resets_its_connection() {
    for header in [V1, &v2(TCP4)] {
        let server = start("10.0.0.0/8", &[]);
        let client = connect(server.tcp());
        send(&client, header);
        assert_reset(&client);
        server.stderr.wait_for_line("untrusted: the client has sent a header and is not in --proxy-protocol");
        assert_eq!(request(server.tcp()), GREETING);
    }
}

#[test]
fn many_refused_headers_have_one_warning_a_second_with_their_number() {
    const CLIENTS: usize = 200;
    let server = start("127.0.0.1", &[]);
    for _ in 0..CLIENTS {
        let client = connect(server.tcp());
        send(&client, b"hello");
        assert_reset(&client);
    }
    let counted = || {
        let lines = server.log_lines();
        let counts =
            lines.iter().filter_map(|line| line.split_once("clients=")?.1.split(',').next()?.parse::<usize>().ok());
        (lines.len(), counts.sum::<usize>())
    };
    wait_until("the number of all", || counted().1 == CLIENTS);
    let (lines, _) = counted();
    assert!((2..=20).contains(&lines), "{lines} lines");
}
