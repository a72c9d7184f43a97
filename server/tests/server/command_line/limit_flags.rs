//! The limits that flags set: connections, idle time, UDP replies.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use support::network::streams::{GREETING, read_to_end, read_until_closed, send};
use support::network::tcp::{connect, connect_from, connect_many, request, send_request, send_requests};
use support::network::udp::{UDP_GREETING, try_recv, udp_client};
use support::process::server::Server;
use support::wait::{TIMEOUT, assert_holds_for, wait_until};

use crate::HALLOO;

/// The current value of a counter.
#[track_caller]
fn counter(server: &Server, name: &str) -> u64 {
    server.counters()[name]
}

#[test]
fn beyond_max_connections_clients_wait_and_all_are_served() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--max-connections", "5"]);
    let silent = connect_many(5, server.tcp());
    wait_until("five connections", || counter(&server, "connections") == 5);
    let waiting = send_requests(30, server.tcp());
    assert_holds_for(Duration::from_millis(200), "no more than five", || counter(&server, "accepted") == 5);
    drop(silent);
    for client in &waiting {
        assert_eq!(read_to_end(client), GREETING);
    }
    assert_eq!(counter(&server, "accepted"), 35);
}

#[test]
fn beyond_max_connections_per_source_a_client_is_closed_and_other_sources_are_served() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--max-connections-per-source", "3"]);
    let mut silent = connect_many(3, server.tcp());
    wait_until("three connections", || counter(&server, "connections") == 3);
    for _ in 0..5 {
        assert_eq!(read_until_closed(&connect(server.tcp())), b"");
    }
    let other = connect_from([127, 0, 0, 2], server.tcp());
    send(&other, b"hello");
    assert_eq!(read_to_end(&other), GREETING);
    // Open connections are still served, and one that closes makes room.
    let first = silent.remove(0);
    send(&first, b"hello");
    assert_eq!(read_to_end(&first), GREETING);
    wait_until("two connections", || counter(&server, "connections") == 2);
    assert_eq!(request(server.tcp()), GREETING);
    assert_eq!(counter(&server, "refused_source"), 5);
}

#[test]
fn the_idle_timeout_closes_a_silent_client_but_not_early() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--idle-timeout", "300ms"]);
    let start = Instant::now();
    let clients = connect_many(10, server.tcp());
    for client in &clients {
        assert_eq!(read_until_closed(client), b"");
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(300), "it was closed after {elapsed:?}");
    }
    assert!(start.elapsed() < TIMEOUT / 2, "it took {:?}", start.elapsed());
    assert_eq!(request(server.tcp()), GREETING);
}

#[test]
fn a_limit_of_0_turns_it_off_and_overrides_the_variable() {
    let mut command =
        HALLOO.command(&["--tcp", "127.0.0.1:0", "--idle-timeout", "0", "--max-connections-per-source=0"]);
    command.env("HALLOO_IDLE_TIMEOUT", "100ms").env("HALLOO_MAX_CONNECTIONS_PER_SOURCE", "1");
    let server = Server::start(command);
    let silent = connect_many(3, server.tcp());
    wait_until("three connections", || counter(&server, "connections") == 3);
    assert_holds_for(Duration::from_millis(500), "they stay open", || counter(&server, "connections") == 3);
    send(&silent[2], b"hello");
    assert_eq!(read_to_end(&silent[2]), GREETING);
}

#[test]
fn waiting_and_refused_clients_are_logged_at_most_once_a_second() {
    let start = Instant::now();
    let flags = ["--tcp", "127.0.0.1:0", "--max-connections", "5", "--max-connections-per-source", "4"];
    let server = HALLOO.start(&flags);
    let _silent = connect_many(4, server.tcp());
    wait_until("four connections", || counter(&server, "connections") == 4);
    for _ in 0..50 {
        assert_eq!(read_until_closed(&connect(server.tcp())), b"");
    }
    let refused = "clients over the connection limit per source: refused=";
    wait_until("the number of all that were refused", || sum_of_counts(&server, refused) == 50);
    // In each round the fifth connection reaches the limit.
    for _ in 0..50 {
        let other = connect_from([127, 0, 0, 2], server.tcp());
        wait_until("the fifth connection", || counter(&server, "connections") == 5);
        send(&other, b"hello");
        assert_eq!(read_to_end(&other), GREETING);
    }
    server.stderr.wait_for_line("the limit of 5 connections is reached; new clients wait in the backlog");
    let max = 1 + usize::try_from(start.elapsed().as_secs()).expect("it is short");
    for part in [refused, "new clients wait"] {
        assert!(server.stderr.count_lines_with(part) <= max, "{}", server.stderr.text());
    }
}

/// Sends `questions` datagrams from one socket, 50 at a time, and counts the answers until no more arrive.
fn count_replies(server: SocketAddr, questions: usize) -> usize {
    let client = udp_client(server);
    let mut count = 0;
    for chunk in 0..questions.div_ceil(50) {
        for _ in 0..50.min(questions - chunk * 50) {
            client.send(b"hello").expect("loopback takes it");
        }
        let (mut last, before) = (Instant::now(), count);
        wait_until("the answers", || {
            while let Some(answer) = try_recv(&client) {
                assert_eq!(answer, UDP_GREETING.as_bytes());
                (last, count) = (Instant::now(), count + 1);
            }
            count - before == 50 || last.elapsed() > Duration::from_millis(250)
        });
    }
    count
}

#[test]
fn a_given_udp_rate_also_limits_loopback() {
    let server = HALLOO.start(&["--udp", "127.0.0.1:0", "--udp-rate", "20", "--events", "off"]);
    let start = Instant::now();
    let count = count_replies(server.udp(), 200);
    // A burst of one second, and 20 for each second since.
    let max = 20 + 20 * usize::try_from(start.elapsed().as_secs() + 1).expect("it is few");
    assert!((20..=max).contains(&count), "{count} answers in {:?}", start.elapsed());
    assert!(counter(&server, "replies_refused_rate") >= 100, "{}", server.stderr.text());
}

/// The text before the number in a log line about replies past the rate.
const PAST_RATE: &str = "replies over the rate limit of a source: refused=";

/// The sum of the numbers that follow `before_number`, over all log lines.
fn sum_of_counts(server: &Server, before_number: &str) -> u64 {
    let counts = server.log_lines().into_iter().filter_map(|line| {
        let (_, rest) = line.split_once(before_number)?;
        rest.split([' ', ',']).next()?.parse::<u64>().ok()
    });
    counts.sum()
}

#[test]
fn replies_beyond_the_udp_rate_are_logged_once_a_second_with_their_number_over_all_sockets() {
    let start = Instant::now();
    let server = HALLOO.start(&["--udp", "127.0.0.1:0", "--udp", "127.0.0.2:0", "--udp-rate", "1", "--events", "off"]);
    let sockets: Vec<SocketAddr> =
        server.ready_addresses().iter().map(|entry| entry["udp=".len()..].parse().expect("an address")).collect();
    let clients: Vec<UdpSocket> =
        (1..=8).map(|host| UdpSocket::bind(SocketAddr::from(([127, 0, 1, host], 0))).expect("a free port")).collect();
    for round in 0..10 {
        if round == 2 {
            // After the first line, refusals are counted and logged a second later.
            server.stderr.wait_for_line(PAST_RATE);
        }
        for (client, to) in clients.iter().flat_map(|client| sockets.iter().map(move |to| (client, to))) {
            client.send_to(b"hello", to).expect("loopback takes it");
        }
    }
    wait_until("all datagrams", || counter(&server, "datagrams_received") == 160);
    let refused = counter(&server, "replies_refused_rate");
    assert!(refused > 100, "{refused}");
    // The last of them are logged without another datagram.
    wait_until("the number of all that were refused", || sum_of_counts(&server, PAST_RATE) == refused);
    let (lines, seconds) = (server.stderr.count_lines_with(PAST_RATE), start.elapsed().as_secs());
    assert!(lines as u64 <= 1 + seconds, "{}", server.stderr.text());
    let line = server.stderr.wait_for_line(PAST_RATE);
    assert!(line.contains("last from 127.0.0.") && line.contains(" to 127.0.1."), "{line}");
}

#[test]
fn replies_refused_just_before_the_end_are_logged_at_the_end() {
    let mut server = HALLOO.start(&["--udp", "127.0.0.1:0", "--udp-rate", "1", "--events", "off"]);
    let client = udp_client(server.udp());
    for _ in 0..2 {
        client.send(b"hello").expect("loopback takes it");
    }
    server.stderr.wait_for_line(PAST_RATE);
    for _ in 2..20 {
        client.send(b"hello").expect("loopback takes it");
    }
    wait_until("all datagrams", || counter(&server, "datagrams_received") == 20);
    let refused = counter(&server, "replies_refused_rate");
    server.assert_exits_on_sigterm();
    wait_until("standard error to end", || server.stderr.is_closed());
    assert_eq!(sum_of_counts(&server, PAST_RATE), refused);
}

#[test]
fn without_a_udp_rate_or_with_0_loopback_is_not_limited() {
    for rate in [&[][..], &["--udp-rate", "0"]] {
        let server = HALLOO.start(&[&["--udp", "127.0.0.1:0", "--events", "off"], rate].concat());
        assert_eq!(count_replies(server.udp(), 500), 500, "with {rate:?}");
    }
}

#[test]
fn a_waiting_client_is_served_when_the_one_before_it_closes() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--max-connections", "1"]);
    for _ in 0..10 {
        let silent = connect(server.tcp());
        let next = send_request(server.tcp());
        drop(silent);
        assert_eq!(read_to_end(&next), GREETING);
    }
}
