//! `halloo probe`: its lines and exit statuses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::process::child::ProcessOutput;
use support::wait::{TIMEOUT, repeat_every, wait_for, wait_until};

use crate::HALLOO;

#[track_caller]
fn probe(address: &str, arguments: &[&str]) -> ProcessOutput {
    let output = HALLOO.run(&[&["probe", address], arguments].concat());
    assert_eq!(output.stderr, "");
    output
}

/// The protocol, address and result of each line. The time and the text follow them.
fn words(output: &ProcessOutput) -> Vec<[String; 3]> {
    output
        .stdout
        .lines()
        .map(|line| {
            let mut words = line.splitn(5, ' ').map(str::to_owned);
            let found = [(); 3].map(|()| words.next().expect("a word"));
            let time = words.next().expect("a time");
            assert!(time.ends_with("ms") && time.starts_with(|c: char| c.is_ascii_digit()), "{line}");
            assert!(words.next().is_some_and(|text| !text.is_empty()), "{line} has no text");
            found
        })
        .collect()
}

#[track_caller]
fn assert_reports(output: &ProcessOutput, status: i32, expected: &[(&str, &str, &str)]) {
    assert_eq!(output.status, status, "{output:?}");
    let words = words(output);
    let words: Vec<(&str, &str, &str)> =
        words.iter().map(|[protocol, address, word]| (protocol.as_str(), address.as_str(), word.as_str())).collect();
    assert_eq!(words, expected, "{output:?}");
}

/// A TCP listener and a UDP socket on one port.
fn bind_tcp_and_udp() -> (TcpListener, UdpSocket, SocketAddr) {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        if let Ok(socket) = UdpSocket::bind(address) {
            return (listener, socket, address);
        }
    }
    panic!("no port is free for both");
}

#[test]
fn an_answer_is_ok_with_its_text() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    let output = probe(&address, &[]);
    assert_reports(&output, 0, &[("tcp", &address, "ok"), ("udp", &address, "ok")]);
    let texts: Vec<&str> = output.stdout.lines().filter_map(|line| line.splitn(5, ' ').nth(4)).collect();
    assert_eq!(texts, ["Hello, TCP Client!", "Hello, UDP Client!"]);
    assert_reports(&probe(&address, &["--tcp"]), 0, &[("tcp", &address, "ok")]);
    assert_reports(&probe(&address, &["--udp"]), 0, &[("udp", &address, "ok")]);
    assert_reports(&probe(&address, &["--tcp", "--expect", "TCP Cl"]), 0, &[("tcp", &address, "ok")]);
}

#[test]
fn a_port_without_a_server_is_refused() {
    // Bound and not listening, so that no other program takes the port meanwhile.
    let stream = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    stream.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = stream.local_addr().expect("it is bound").as_socket().expect("an address").to_string();
    assert_reports(&probe(&address, &["--tcp"]), 3, &[("tcp", &address, "refused")]);
    assert_reports(&probe(&address, &["--connect-only"]), 3, &[("tcp", &address, "refused")]);
    // The kernel refuses datagrams for a UDP socket that is connected to another peer.
    let other_socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(other_socket.local_addr().expect("it is bound")).expect("loopback is there");
    let address = socket.local_addr().expect("it is bound").to_string();
    assert_reports(&probe(&address, &["--udp"]), 3, &[("udp", &address, "refused")]);
}

#[test]
fn a_server_that_never_answers_times_out() {
    let (_listener, _socket, address) = bind_tcp_and_udp();
    let address = address.to_string();
    let start = Instant::now();
    let output = probe(&address, &["--timeout", "300ms"]);
    assert_reports(&output, 4, &[("tcp", &address, "timeout"), ("udp", &address, "timeout")]);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[0].ends_with(" connected, but no reply within 300ms"), "{output:?}");
    assert!(lines[1].ends_with("ms no reply within 300ms"), "{output:?}");
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(300) && elapsed < TIMEOUT / 2, "{elapsed:?} for timeouts of 300 ms");
    assert_reports(&probe(&address, &["--connect-only"]), 0, &[("tcp", &address, "ok")]);
}

#[test]
fn a_wrong_answer_and_a_connection_closed_without_one_are_mismatches() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    let expected = [("tcp", address.as_str(), "mismatch"), ("udp", &address, "mismatch")];
    let output = probe(&address, &["--expect", "Good evening"]);
    assert_reports(&output, 5, &expected);
    assert!(output.stdout.contains("Hello, TCP Client!"), "{output:?}");
    let (listener, _socket, address) = bind_tcp_and_udp();
    let closer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut question = [0; 64];
        let count = stream.read(&mut question).expect("a question");
        question[..count].to_vec()
    });
    let address = address.to_string();
    assert_reports(&probe(&address, &["--tcp"]), 5, &[("tcp", &address, "mismatch")]);
    assert_eq!(closer.join().expect("it only reads"), b"Hello, TCP Server!\n");
}

#[test]
fn an_unknown_name_is_not_reported_as_a_refused_connection() {
    let output = probe("no-such-name.invalid:9", &["--tcp", "--timeout", "20s"]);
    // Without a name server the resolver itself fails.
    let word = if output.stdout.contains(" the name is unknown: ") { "dns" } else { "resolver" };
    assert_reports(&output, 3, &[("tcp", "no-such-name.invalid:9", word)]);
    assert!(!output.stdout.contains("failed to lookup"), "the cause is printed twice: {output:?}");
    // A zone is the name of an interface of this machine.
    let zone = "[fe80::1%nowhere]:9";
    let output = probe(zone, &[]);
    assert_reports(&output, 3, &[("tcp", zone, "unreachable"), ("udp", zone, "unreachable")]);
    assert!(output.stdout.contains(" no such device: this machine has no interface nowhere; "), "{output:?}");
}

#[test]
fn an_unreachable_network_is_reported_as_unreachable() {
    // The limited broadcast address is unreachable over TCP, and needs `SO_BROADCAST` over UDP.
    let output = probe("255.255.255.255:9", &["--timeout", "2s"]);
    let address = "255.255.255.255:9";
    assert_reports(&output, 3, &[("tcp", address, "unreachable"), ("udp", address, "unreachable")]);
}

#[test]
fn count_and_send_set_the_number_of_questions_and_their_bytes() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    let output = probe(&address, &["--count", "3", "--send", "are you?"]);
    assert_eq!(output.status, 0, "{output:?}");
    for protocol in ["tcp", "udp"] {
        let start = format!("{protocol} {address} ok ");
        assert_eq!(output.stdout.lines().filter(|line| line.starts_with(&start)).count(), 3, "{output:?}");
    }
    wait_until("a line for each question", || server.event_lines().len() == 6);
    assert!(server.event_lines().iter().all(|line| line.ends_with(" bytes=8 are you?")), "{:?}", server.event_lines());
}

#[test]
fn connect_only_sends_nothing() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--mode", "discard"]);
    let address = server.tcp().to_string();
    assert_reports(&probe(&address, &["--connect-only"]), 0, &[("tcp", &address, "ok")]);
    let counters = wait_for("the connection to be over", || {
        Some(server.counters()).filter(|counters| (counters["accepted"], counters["connections"]) == (1, 0))
    });
    assert_eq!(counters["bytes_received"], 0);
}

#[test]
fn a_server_that_sends_byte_by_byte_does_not_extend_the_timeout() {
    let (listener, _socket, address) = bind_tcp_and_udp();
    let server_thread = thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.expect("a connection");
            repeat_every(Duration::from_millis(30), || stream.write_all(b".").is_ok());
        }
    });
    let address = address.to_string();
    let start = Instant::now();
    let output = probe(&address, &["--tcp", "--timeout", "500ms", "--expect", "Hello"]);
    assert_reports(&output, 5, &[("tcp", &address, "mismatch")]);
    // Without `--expect` the bytes received by then are the answer.
    assert_reports(&probe(&address, &["--tcp", "--timeout", "500ms"]), 0, &[("tcp", &address, "ok")]);
    assert!(start.elapsed() < TIMEOUT / 2, "it took {:?}", start.elapsed());
    server_thread.join().expect("it only sends");
}

#[test]
fn the_exit_status_is_that_of_the_worst_answer() {
    // An answer over TCP; over UDP first silence, then a refusal.
    let (server, silent) = wait_for("a port that is free for both", || {
        let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
        UdpSocket::bind(server.tcp()).ok().map(|silent| (server, silent))
    });
    let address = server.tcp().to_string();
    let output = probe(&address, &["--timeout", "1s"]);
    assert_reports(&output, 4, &[("tcp", &address, "ok"), ("udp", &address, "timeout")]);
    // A wrong answer is worse than none.
    let output = probe(&address, &["--timeout", "1s", "--expect", "Good evening"]);
    assert_reports(&output, 5, &[("tcp", &address, "mismatch"), ("udp", &address, "timeout")]);
    // A refused connection is worse than silence, in any order.
    let other_socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    silent.connect(other_socket.local_addr().expect("it is bound")).expect("loopback is there");
    let output = probe(&address, &["--timeout", "1s"]);
    assert_reports(&output, 3, &[("tcp", &address, "ok"), ("udp", &address, "refused")]);
}

#[test]
fn hostile_replies_are_printed_on_one_printable_line() {
    let greeting = "\u{1b}[31mred\r\n\u{202e}";
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--greeting", greeting]);
    let output = probe(&server.tcp().to_string(), &[]);
    assert_eq!((output.status, output.stdout.lines().count()), (0, 2), "{output:?}");
    let is_harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!output.stdout.chars().any(is_harmful), "{output:?}");
}

#[test]
fn a_connect_timeout_and_an_answer_timeout_have_different_texts() {
    // On Linux a listener with a full backlog does not answer a SYN.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    listener.listen(1).expect("it is bound");
    let address = listener.local_addr().expect("it is bound").as_socket().expect("of the internet");
    let _waiting: Vec<Socket> = (0..8)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            client.set_nonblocking(true).expect("an option of every socket");
            let _ = client.connect(&address.into());
            client
        })
        .collect();
    let output = probe(&address.to_string(), &["--tcp", "--timeout", "300ms"]);
    assert_reports(&output, 4, &[("tcp", &address.to_string(), "timeout")]);
    assert!(output.stdout.contains(" no connection within 300ms"), "{output:?}");
}

#[test]
fn a_question_may_have_line_ends_and_any_byte() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "line", "--events", "json"]);
    let address = server.tcp().to_string();
    let output = probe(&address, &["--tcp", "--send", r"one\ttwo\\\x07\r\n"]);
    assert_reports(&output, 0, &[("tcp", &address, "ok")]);
    let event: serde_json::Value = serde_json::from_str(&server.stdout.wait_for_line("two")).expect("JSON");
    assert_eq!((event["bytes"].as_u64(), event["text"].as_str()), (Some(9), Some("one\ttwo\\\u{7}")));
    let output = HALLOO.run(&["probe", &address, "--send", r"a\q"]);
    assert_eq!((output.status, output.stderr.lines().count()), (2, 1), "{output:?}");
    assert!(output.stderr.contains(r"\q is not an escape"), "{output:?}");
}
