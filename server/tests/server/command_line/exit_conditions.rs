//! `--max-greetings` and `--exit-when-idle`.
//!
//! An idle exit before the last greeting has exit status 4.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::network::streams::{GREETING, read_exactly, read_to_end, read_until_closed, send};
use support::network::tcp::{connect, request, send_requests};
use support::network::udp::{UDP_GREETING, request_udp, send_udp_request, try_recv, udp_client};
use support::wait::{TIMEOUT, assert_holds_for, wait_until};

use crate::HALLOO;

#[test]
fn max_greetings_is_exact_over_both_protocols_and_further_clients_are_closed_unanswered() {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--max-greetings", "50", "--greeting", "{number}"]);
    server.pause();
    let streams = send_requests(40, server.tcp());
    let sockets: Vec<_> = (0..40).map(|_| udp_client(server.udp())).collect();
    for socket in &sockets {
        socket.send(b"hello").expect("loopback takes it");
    }
    server.resume();
    let mut numbers: Vec<usize> = Vec::new();
    for stream in &streams {
        let answer = String::from_utf8(read_until_closed(stream)).expect("digits");
        numbers.extend(answer.parse::<usize>().ok());
    }
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    let over_udp = sockets.iter().filter_map(try_recv).map(|answer| String::from_utf8(answer).expect("digits"));
    numbers.extend(over_udp.map(|answer| answer.parse::<usize>().expect("digits")));
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(1..=50), "{numbers:?}");
    server.stderr.wait_for_line("stopping: all greetings are sent: greetings=50");
}

#[test]
fn the_last_greeting_of_each_mode_ends_the_server() {
    for mode in ["greet", "banner", "line"] {
        let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--max-greetings", "3", "--mode", mode]);
        let client = connect(server.tcp());
        send(&client, b"hello\n");
        assert!(read_remaining(mode, &client).starts_with(GREETING));
        assert_eq!(request_udp(server.udp(), b"hello"), UDP_GREETING);
        assert!(server.is_running(), "one greeting is left");
        assert_eq!(request_udp(server.udp(), b"hello"), UDP_GREETING);
        drop(client);
        assert_eq!(server.wait(), 0, "{mode}: {}", server.stderr.text());
    }
}

#[test]
fn echo_and_discard_count_closed_connections_and_datagrams() {
    for mode in ["echo", "discard"] {
        let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--max-greetings", "2", "--mode", mode]);
        let client = connect(server.tcp());
        send(&client, b"hello");
        drop(client);
        server.stdout.wait_for_line("tcp ");
        assert!(server.is_running(), "{mode}: one greeting is left");
        udp_client(server.udp()).send(b"hello").expect("loopback takes it");
        assert_eq!(server.wait(), 0, "{mode}: {}", server.stderr.text());
        server.stderr.wait_for_line("all greetings are sent: greetings=2");
    }
}

#[test]
fn the_last_greeting_closes_silent_clients() {
    for mode in ["greet", "line", "echo", "discard"] {
        let arguments = ["--listen", "127.0.0.1:0", "--max-greetings", "1", "--drain-timeout", "10m", "--mode", mode];
        let mut server = HALLOO.start(&arguments);
        let silent = connect(server.tcp());
        wait_until("it to be accepted", || server.counters()["connections"] == 1);
        let _last = send_udp_request(server.udp());
        assert_eq!(read_to_end(&silent), "", "{mode}");
        assert_eq!(server.wait(), 0, "{mode}: {}", server.stderr.text());
    }
}

#[test]
fn echo_and_discard_serve_exactly_max_greetings_connections_however_long_they_stay_open() {
    for mode in ["echo", "discard"] {
        let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--max-greetings", "5", "--mode", mode]);
        let mut streams: Vec<TcpStream> = (0..15).map(|_| connect(server.tcp())).collect();
        for stream in &streams {
            send(stream, b"hello");
            stream.set_nonblocking(true).expect("a socket");
        }
        // By EOF, or by a reset if the server did not read the bytes.
        let is_closed = |stream: &TcpStream| match stream.peek(&mut [0; 16]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        wait_until("the end of the ten connections past the limit", || {
            streams.iter().filter(|stream| is_closed(stream)).count() == 10
        });
        streams.retain(|stream| !is_closed(stream));
        for stream in &streams {
            stream.set_nonblocking(false).expect("a socket");
            if mode == "echo" {
                assert_eq!(read_exactly(stream, 5), b"hello");
                send(stream, b"again");
                assert_eq!(read_exactly(stream, 5), b"again");
            }
        }
        assert!(server.is_running(), "{mode}: five are open");
        drop(streams);
        assert_eq!(server.wait(), 0, "{mode}: {}", server.stderr.text());
        server.wait_for_eof();
        let events = server.event_lines().iter().filter(|line| line.starts_with("tcp ")).count();
        assert_eq!(events, 5, "{mode}: {}", server.stdout.text());
    }
}

/// Reads the rest of an answer. Only `line` leaves the connection open.
fn read_remaining(mode: &str, client: &TcpStream) -> String {
    match mode {
        "line" => String::from_utf8(read_exactly(client, GREETING.len() + 1)).expect("UTF-8"),
        _ => read_to_end(client),
    }
}

#[test]
fn a_server_without_clients_exits_after_the_idle_time() {
    let start = Instant::now();
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--exit-when-idle", "300ms"]);
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(300), "it ended after {elapsed:?}");
    assert!(elapsed < TIMEOUT / 2, "it ended after {elapsed:?}");
}

#[test]
fn an_open_connection_or_a_greeting_delays_the_idle_exit() {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--exit-when-idle", "400ms"]);
    let silent = connect(server.tcp());
    assert_holds_for(Duration::from_millis(900), "the server runs while a connection is open", || server.is_running());
    send(&silent, b"hello");
    assert_eq!(read_to_end(&silent), GREETING);
    assert_holds_for(Duration::from_millis(900), "the server runs while requests arrive", || {
        request_udp(server.udp(), b"hello") == UDP_GREETING && server.is_running()
    });
    assert_eq!(request(server.tcp()), GREETING);
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
}

#[test]
fn an_idle_exit_before_the_last_greeting_is_exit_status_4_and_logs_the_count() {
    for (workers, given) in [("1", 0), ("1", 1), ("2", 0)] {
        let arguments = ["--listen", "127.0.0.1:0", "--workers", workers, "--max-greetings", "2"];
        let mut server = HALLOO.start(&[&arguments[..], &["--exit-when-idle", "1s"]].concat());
        for _ in 0..given {
            assert_eq!(request(server.tcp()), GREETING);
        }
        // A port check is no greeting.
        drop(connect(server.tcp()));
        assert_eq!(server.wait(), 4, "{}", server.stderr.text());
        let line = server.stderr.wait_for_line("greetings sent");
        assert!(line.contains(" WARN ") && line.contains(&format!("{given} of 2 greetings sent")), "{line}");
    }
}

#[test]
fn the_last_greeting_or_a_signal_is_exit_status_0_also_with_exit_when_idle() {
    let arguments = ["--listen", "127.0.0.1:0", "--max-greetings", "2", "--exit-when-idle", "20s"];
    let mut server = HALLOO.start(&arguments);
    assert_eq!((request(server.tcp()), request(server.tcp())), (GREETING.to_owned(), GREETING.to_owned()));
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    server.wait_for_eof();
    assert!(!server.stderr.text().contains(" WARN "), "{}", server.stderr.text());

    let mut server = HALLOO.start(&arguments);
    assert_eq!(request(server.tcp()), GREETING);
    server.assert_exits_on_sigterm();
    let line = server.stderr.wait_for_line("greetings sent");
    assert!(line.contains(" INFO ") && line.contains("1 of 2 greetings sent"), "{line}");
}
