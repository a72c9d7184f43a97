//! The drain delay between a request to stop and the drain.
//!
//! Until it is over, new and kept clients are served. A second signal and the limits end it at once.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::network::streams::{GREETING, REQUEST, read_exactly, read_to_end, read_until_closed, send};
use support::network::tcp::{connect, connect_many, request};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, request_udp};
use support::process::server::Server;
use support::wait::{TIMEOUT, assert_holds_for, wait_until};

use crate::HALLOO;
use crate::process::worker_threads::sockets;
use crate::unix::temporary_socket_path::SocketPath;

/// Longer than any test waits.
const NEVER: &str = "300s";

fn start(arguments: &[&str]) -> Server {
    HALLOO.start(&[&["--listen", "127.0.0.1:0"], arguments].concat())
}

/// Sends the first stop signal, and waits for its log line.
#[track_caller]
fn request_stop(server: &Server) {
    server.signal("TERM");
    server.stderr.wait_for_line("to finish; a second signal ends at once");
}

/// Clients that the server has accepted.
fn connect_accepted(count: usize, server: &Server) -> Vec<TcpStream> {
    let before = server.fd_count();
    let clients = connect_many(count, server.tcp());
    wait_until("the connections", || server.fd_count() == before + count);
    clients
}

/// A whole exchange; false if the server does not answer.
fn is_served(address: SocketAddr) -> bool {
    let Ok(mut client) = TcpStream::connect(address) else { return false };
    client.set_read_timeout(Some(TIMEOUT)).expect("an option of every stream");
    let mut reply = String::new();
    client.write_all(REQUEST).is_ok() && client.read_to_string(&mut reply).is_ok() && reply == GREETING
}

#[test]
fn during_the_drain_delay_every_client_is_served_and_then_new_ones_are_refused() {
    const DELAY: Duration = Duration::from_millis(1500);
    for workers in ["1", "4"] {
        let socket_path = SocketPath::new();
        let limits = ["--drain-delay", "1500ms", "--drain-timeout", NEVER, "--workers", workers];
        let mut server = start(&[&limits[..], &["--unix", socket_path.as_str()]].concat());
        let (address, silent) = (server.tcp(), connect_accepted(1, &server));
        let signaled = Instant::now();
        request_stop(&server);
        assert_eq!(request(address), GREETING, "{workers} workers");
        assert_eq!(request_udp(server.udp(), UDP_REQUEST), UDP_GREETING, "{workers} workers");
        assert_eq!(socket_path.request(), GREETING, "{workers} workers");
        wait_until("a refused client", || !is_served(address));
        assert!(signaled.elapsed() >= DELAY, "a client was refused after {:?}", signaled.elapsed());
        wait_until("the ports to be free", || sockets("tcp", address) + sockets("udp", server.udp()) == 0);
        assert!(!socket_path.path.exists());
        assert!(server.is_running(), "a client is connected");
        send(&silent[0], REQUEST);
        assert_eq!(read_to_end(&silent[0]), GREETING);
        assert_eq!(server.wait(), 0);
        assert_eq!(server.stderr.count_lines_with(" stopping"), 1, "{:?}", server.stderr.lines());
    }
}

#[test]
fn a_second_signal_ends_the_server_at_once_in_the_delay_and_in_the_drain() {
    for (delay, mode) in [(NEVER, "greet"), (NEVER, "line"), ("200ms", "greet")] {
        for workers in ["1", "4"] {
            let mut server =
                start(&["--drain-delay", delay, "--drain-timeout", NEVER, "--mode", mode, "--workers", workers]);
            let silent = connect_accepted(5, &server);
            request_stop(&server);
            if delay == NEVER {
                assert_holds_for(Duration::from_millis(100), "it serves", || sockets("tcp", server.tcp()) > 0);
            } else {
                wait_until("the drain", || sockets("tcp", server.tcp()) == 0);
            }
            server.signal("INT");
            assert_eq!(server.wait(), 0);
            for client in &silent {
                assert_eq!(read_until_closed(client), b"");
            }
        }
    }
}

#[test]
fn the_last_greeting_ends_the_drain_delay() {
    for is_signaled in [false, true] {
        let mut server = start(&["--drain-delay", NEVER, "--max-greetings", "2", "--workers", "2"]);
        assert_eq!(request(server.tcp()), GREETING);
        if is_signaled {
            request_stop(&server);
        }
        assert_eq!(request(server.tcp()), GREETING);
        assert_eq!(server.wait(), 0);
    }
}

#[test]
fn the_idle_exit_ends_the_drain_delay() {
    let start_with_idle_time =
        |time| start(&["--exit-when-idle", time, "--max-greetings", "5", "--workers", "2", "--drain-delay", NEVER]);
    let mut server = start_with_idle_time("100ms");
    assert_eq!(server.wait(), 4);
    // After a signal the status is that of a stop on request.
    let mut server = start_with_idle_time("3s");
    let silent = connect_accepted(1, &server);
    request_stop(&server);
    drop(silent);
    assert_eq!(server.wait(), 0);
}

/// How long after the signal each of 20 kept connections ends, in order. Each sends lines until then.
fn times_of_closing(workers: &str) -> Vec<Duration> {
    let mut server = start(&["--mode", "line", "--events", "off", "--drain-delay", "2s", "--workers", workers]);
    let clients = connect_accepted(20, &server);
    let signaled = Instant::now();
    request_stop(&server);
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let waits: Vec<_> = clients
            .iter()
            .map(|client| {
                scope.spawn(move || {
                    assert_eq!(read_until_closed(client), b"");
                    signaled.elapsed()
                })
            })
            .collect();
        waits.into_iter().map(|wait| wait.join().expect("it ends")).collect()
    });
    drop(clients);
    assert_eq!(server.wait(), 0);
    times.sort_unstable();
    times
}

#[test]
fn kept_connections_close_one_after_the_other_during_the_drain_delay() {
    for workers in ["1", "4"] {
        // A busy machine delays some: one of the tries is even.
        let is_even = |times: &[Duration]| {
            let quarter = |time: &Duration| time.as_millis() / 250;
            times.iter().all(|time| times.iter().filter(|other| quarter(other) == quarter(time)).count() <= 8)
        };
        let tries: Vec<_> = (0..3).map(|_| times_of_closing(workers)).take_while(|times| !is_even(times)).collect();
        assert!(tries.len() < 3, "{workers} workers: {tries:?}");
    }
}

#[test]
fn a_connection_of_the_drain_delay_stays_open_until_the_drain() {
    let mut server = start(&["--mode", "line", "--events", "off", "--drain-delay", "2s"]);
    let kept = connect_accepted(20, &server);
    for client in &kept {
        client.set_nonblocking(true).expect("an option of every stream");
    }
    let signaled = Instant::now();
    request_stop(&server);
    // The log line comes before the delay: only a closed connection proves that the loop has begun it.
    wait_until("the first to close", || kept.iter().any(|client| matches!(client.peek(&mut [0]), Ok(0))));
    let newcomer = connect(server.tcp());
    send(&newcomer, b"one\n");
    assert_eq!(read_exactly(&newcomer, GREETING.len()), GREETING.as_bytes());
    assert_eq!(read_to_end(&newcomer), "\n");
    assert!(signaled.elapsed() >= Duration::from_secs(2));
    drop((kept, newcomer));
    assert_eq!(server.wait(), 0);
}

/// The bytes that the server's kernel has not acknowledged.
fn unacknowledged_bytes(client: &TcpStream) -> u64 {
    let port = client.local_addr().expect("it is connected").port();
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel lists them");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.into_iter().find(|words| words[1].ends_with(&format!(":{port:04X}"))).expect("it is connected");
    let (sent, _) = row[4].split_once(':').expect("tx_queue:rx_queue");
    u64::from_str_radix(sent, 16).expect("a number")
}

#[test]
fn a_kept_connection_that_closes_during_the_drain_delay_gets_all_its_replies() {
    const LINES: usize = 1500;
    let greeting = "x".repeat(600);
    let arguments = ["--mode", "line", "--events", "off", "--greeting", &greeting, "--drain-timeout", NEVER];
    let mut server = start(&[&arguments[..], &["--drain-delay", "400ms"]].concat());
    // The first to close does so after half of the delay.
    let clients = connect_accepted(2, &server);
    let lines = format!("{:099}\n", 0).repeat(LINES);
    for client in &clients {
        // It does not read: the outbox gets full, and most of the lines wait.
        send(client, lines.as_bytes());
        wait_until("the lines to arrive", || unacknowledged_bytes(client) == 0);
    }
    request_stop(&server);
    wait_until("the end of the delay", || sockets("tcp", server.tcp()) == 0);
    for client in &clients {
        assert!(read_to_end(client) == format!("{greeting}\n").repeat(LINES), "a reply is missing");
    }
    drop(clients);
    assert_eq!(server.wait(), 0);
}

#[test]
fn what_waits_for_a_proxy_header_is_served_when_the_drain_delay_closes_its_connection() {
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n";
    let two_greetings = format!("{GREETING}\n").repeat(2);
    for (mode, trusted, before, after, reply) in [
        // The beginning of a signature, from a client that is not trusted.
        ("echo", "10.0.0.0/8", &b"PROX"[..], &b""[..], "PROX"),
        ("line", "10.0.0.0/8", b"\r\n\r\n", b"", &two_greetings),
        ("discard", "10.0.0.0/8", b"PROX", b"", ""),
        // A header that ends after the connection's moment to close.
        ("echo", "127.0.0.1", &HEADER[..20], &[&HEADER[20..], b"one"].concat(), "one"),
        ("line", "127.0.0.1", &HEADER[..20], &[&HEADER[20..], b"one\ntwo\n"].concat(), &two_greetings),
        ("discard", "127.0.0.1", &HEADER[..20], &[&HEADER[20..], b"one"].concat(), ""),
    ] {
        let arguments = ["--mode", mode, "--proxy-protocol", trusted, "--drain-delay", "500ms"];
        let mut server = start(&arguments);
        // The first to close does so after half of the delay.
        let clients = connect_accepted(2, &server);
        for client in &clients {
            send(client, before);
            wait_until("the bytes to arrive", || unacknowledged_bytes(client) == 0);
        }
        request_stop(&server);
        wait_until("the end of the delay", || sockets("tcp", server.tcp()) == 0);
        for client in &clients {
            send(client, after);
            assert_eq!(read_to_end(client), reply, "{mode}, {}", before.escape_ascii());
        }
        drop(clients);
        assert_eq!(server.wait(), 0);
    }
}
