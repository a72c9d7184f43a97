//! A printed answer, pasted into `--expect`, `--send` and `--greeting`.
//!
//! All three read the escapes that the probe prints.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use support::network::streams::{read_until_closed, send};
use support::network::tcp::connect;
use support::network::udp::{recv, udp_client};
use support::process::child::run;
use support::process::server::{Server, assert_fails};

use crate::HALLOO;

/// A server for one client: answers the first bytes, and returns everything received.
fn answer_once(answer: Vec<u8>) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut received = vec![0; 1024];
        let count = stream.read(&mut received).expect("a question");
        received.truncate(count);
        stream.write_all(&answer).expect("the client reads");
        stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
        stream.read_to_end(&mut received).expect("the client closes");
        received
    });
    (address, server)
}

/// The exit status, and the answer as it is printed.
#[track_caller]
fn probe_text(address: SocketAddr, arguments: &[&str]) -> (i32, String) {
    let output = HALLOO.run(&[&["probe", "--tcp", &address.to_string()], arguments].concat());
    assert_eq!(output.stderr, "");
    let line = output.stdout.strip_suffix('\n').unwrap_or_else(|| panic!("{output:?}"));
    assert!(!line.contains('\n'), "{line}");
    (output.status, line.splitn(5, ' ').nth(4).unwrap_or_else(|| panic!("{line}")).to_owned())
}

/// Every byte, characters that hide or reorder text, and text that looks like an escape.
fn answers() -> Vec<Vec<u8>> {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let text =
        "a\u{202e}b\u{feff}c\u{85}\u{1b}[31m \\n \\x41 \\u{41} {peer} }} {{ 'it' \"is\" -- e\u{301}\u{1f642} \r\n\t\0";
    let long = "0123456789\u{200b}".repeat(500);
    vec![every_byte, text.as_bytes().to_vec(), long.into_bytes(), b"\x0001".to_vec()]
}

#[test]
fn a_printed_reply_is_accepted_unchanged_by_expect_send_and_greeting() {
    for answer in answers() {
        let (address, server) = answer_once(answer.clone());
        let (status, printed) = probe_text(address, &[]);
        assert_eq!(status, 0, "{printed}");
        server.join().expect("it answers");

        let (address, server) = answer_once(answer.clone());
        assert_eq!(probe_text(address, &["--expect", &printed]), (0, printed.clone()));
        server.join().expect("it answers");

        let (address, server) = answer_once(b"!".to_vec());
        assert_eq!(probe_text(address, &["--send", &printed]), (0, "!".to_owned()));
        assert_eq!(server.join().expect("it answers"), answer, "sent as {printed}");

        let greeting = double_braces(&printed);
        let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--greeting", &greeting]);
        assert_serves(&server, &answer);
        let mut command = HALLOO.command(&["--listen", "127.0.0.1:0"]);
        command.env("HALLOO_TCP_GREETING", &greeting).env("HALLOO_UDP_GREETING", &greeting);
        assert_serves(&Server::start(command), &answer);
    }
}

/// Doubles the braces, as a greeting needs it. Those of `\u{N}` stay as they are.
fn double_braces(printed: &str) -> String {
    let mut greeting = String::new();
    let mut rest = printed;
    while let Some(character) = rest.chars().next() {
        let length = match character {
            '\\' if rest[1..].starts_with('u') => rest.find('}').expect("an escape ends") + 1,
            '\\' => 2,
            other => other.len_utf8(),
        };
        greeting.push_str(&rest[..length]);
        if matches!(character, '{' | '}') {
            greeting.push(character);
        }
        rest = &rest[length..];
    }
    greeting
}

/// Fails unless the server greets with exactly these bytes over both protocols.
#[track_caller]
fn assert_serves(server: &Server, greeting: &[u8]) {
    let stream = connect(server.tcp());
    send(&stream, b"hello");
    assert_eq!(read_until_closed(&stream), greeting);
    let socket = udp_client(server.udp());
    socket.send(b"hello").expect("loopback takes it");
    assert_eq!(recv(&socket), greeting);
}

#[test]
fn an_escaped_brace_is_no_placeholder() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--greeting", r"\x7bpeer\x7d\u{7b}\\{protocol}"]);
    let stream = connect(server.tcp());
    send(&stream, b"hello");
    assert_eq!(read_until_closed(&stream), br"{peer}{\tcp");
}

#[test]
fn an_invalid_escape_is_named_with_its_flag_or_variable() {
    for (flag, value, part) in [
        ("--greeting", r"a\q", r"\q is not an escape"),
        ("--tcp-greeting", "a\\", "write it double"),
        ("--udp-greeting", r"\u{110000}", "not a character"),
    ] {
        assert_fails(&HALLOO.run(&["--listen", "127.0.0.1:0", flag, value]), 2, &[flag, part, "escapes are"]);
    }
    assert_fails(&HALLOO.run(&["probe", "1", "--expect", r"\x4"]), 2, &["--expect", "two hexadecimal digits"]);
    assert_fails(&HALLOO.run(&["probe", "1", "--expect", ""]), 2, &["--expect", "leave the flag out"]);
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0"]);
    command.env("HALLOO_GREETING", r"\d");
    assert_fails(&run(command), 2, &["HALLOO_GREETING", r"\d is not an escape"]);
}
