//! The limits a person can set, each as it shows from outside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::clients::{
    GREETING, UDP_GREETING, ask, begin_asking, connect, connect_from, heard, many_asking, many_silent, rest, say,
    udp_client, whatever_comes,
};
use crate::support::{PATIENCE, Server, assert_stays, wait_until};

/// The counter of that name, as the server itself tells it now.
#[track_caller]
fn counter(server: &Server, name: &str) -> u64 {
    let lines = || server.errors.lines().into_iter().filter(|line| line.contains(" turns="));
    let before = lines().count();
    server.signal("USR1");
    wait_until("the counters", || lines().count() > before);
    let last = lines().next_back().expect("there is one");
    let words = last.split_whitespace().filter_map(|word| word.split_once('='));
    let value = words.into_iter().find(|(word, _)| *word == name).and_then(|(_, value)| value.parse().ok());
    value.unwrap_or_else(|| panic!("there is no {name} in {last}"))
}

#[test]
fn past_max_connections_clients_wait_their_turn_and_all_are_served() {
    let server = Server::start(&["--tcp", "127.0.0.1:0", "--max-connections", "5"]);
    let silent = many_silent(5, server.tcp());
    wait_until("five connections", || counter(&server, "connections") == 5);
    let waiting = many_asking(30, server.tcp());
    assert_stays(Duration::from_millis(200), "no more than five", || counter(&server, "accepted") == 5);
    drop(silent);
    for client in &waiting {
        assert_eq!(rest(client), GREETING);
    }
    assert_eq!(counter(&server, "accepted"), 35);
}

#[test]
fn past_max_connections_per_source_a_client_is_closed_and_other_sources_are_served() {
    let server = Server::start(&["--tcp", "127.0.0.1:0", "--max-connections-per-source", "3"]);
    let mut silent = many_silent(3, server.tcp());
    wait_until("three connections", || counter(&server, "connections") == 3);
    for _ in 0..5 {
        assert_eq!(whatever_comes(&connect(server.tcp())), b"");
    }
    let other = connect_from([127, 0, 0, 2], server.tcp());
    say(&other, b"hello");
    assert_eq!(rest(&other), GREETING);
    // Those who are in still have their say, and whoever leaves makes room.
    let first = silent.remove(0);
    say(&first, b"hello");
    assert_eq!(rest(&first), GREETING);
    wait_until("two connections", || counter(&server, "connections") == 2);
    assert_eq!(ask(server.tcp()), GREETING);
    assert_eq!(counter(&server, "refused_source"), 5);
}

#[test]
fn the_idle_timeout_closes_a_silent_client_and_never_early() {
    let server = Server::start(&["--tcp", "127.0.0.1:0", "--idle-timeout", "300ms"]);
    let begun = Instant::now();
    let clients = many_silent(10, server.tcp());
    for client in &clients {
        assert_eq!(whatever_comes(client), b"");
        let lasted = begun.elapsed();
        assert!(lasted >= Duration::from_millis(300), "it was closed after {lasted:?}");
    }
    assert!(begun.elapsed() < PATIENCE / 2, "it took {:?}", begun.elapsed());
    assert_eq!(ask(server.tcp()), GREETING);
}

/// The log lines with that in them.
fn said(server: &Server, part: &str) -> usize {
    server.errors.lines().iter().filter(|line| line.contains(part)).count()
}

#[test]
fn clients_that_wait_or_are_refused_are_told_of_once_a_second_at_most() {
    let begun = Instant::now();
    let flags = ["--tcp", "127.0.0.1:0", "--max-connections", "5", "--max-connections-per-source", "4"];
    let server = Server::start(&flags);
    let _silent = many_silent(4, server.tcp());
    wait_until("four connections", || counter(&server, "connections") == 4);
    for _ in 0..50 {
        assert_eq!(whatever_comes(&connect(server.tcp())), b"");
    }
    server.errors.wait_for_line("refused, the most connections of its source are open; so far 1 were refused so");
    // The fifth fills the last place, again and again.
    for _ in 0..50 {
        let other = connect_from([127, 0, 0, 2], server.tcp());
        wait_until("the fifth connection", || counter(&server, "connections") == 5);
        say(&other, b"hello");
        assert_eq!(rest(&other), GREETING);
    }
    server.errors.wait_for_line("5 connections are open, the most allowed: further clients wait");
    let most = 1 + usize::try_from(begun.elapsed().as_secs()).expect("it is short");
    for part in ["refused, the most", "further clients wait"] {
        assert!(said(&server, part) <= most, "{}", server.errors.text());
    }
}

/// Sends so many datagrams from one socket, a few at a time, and counts the answers until no more come.
fn answers(server: SocketAddr, questions: usize) -> usize {
    let client = udp_client(server);
    let mut count = 0;
    for chunk in 0..questions.div_ceil(50) {
        for _ in 0..50.min(questions - chunk * 50) {
            client.send(b"hello").expect("loopback takes it");
        }
        let (mut last, before) = (Instant::now(), count);
        wait_until("the answers", || {
            while let Some(answer) = heard(&client) {
                assert_eq!(answer, UDP_GREETING.as_bytes());
                (last, count) = (Instant::now(), count + 1);
            }
            count - before == 50 || last.elapsed() > Duration::from_millis(250)
        });
    }
    count
}

#[test]
fn the_udp_rate_holds_for_this_machine_too_where_it_is_given() {
    let server = Server::start(&["--udp", "127.0.0.1:0", "--udp-rate", "20", "--events", "off"]);
    let begun = Instant::now();
    let count = answers(server.udp(), 200);
    // One second's worth at once, and what time brings.
    let most = 20 + 20 * usize::try_from(begun.elapsed().as_secs() + 1).expect("it is few");
    assert!((20..=most).contains(&count), "{count} answers in {:?}", begun.elapsed());
    assert!(counter(&server, "replies_refused") >= 100, "{}", server.errors.text());
}

#[test]
fn without_a_udp_rate_or_with_0_this_machine_is_answered_as_often_as_it_asks() {
    for rate in [&[][..], &["--udp-rate", "0"]] {
        let server = Server::start(&[&["--udp", "127.0.0.1:0", "--events", "off"], rate].concat());
        assert_eq!(answers(server.udp(), 500), 500, "with {rate:?}");
    }
}

#[test]
fn clients_that_wait_are_served_in_time_when_the_one_before_them_leaves() {
    let server = Server::start(&["--tcp", "127.0.0.1:0", "--max-connections", "1"]);
    for _ in 0..10 {
        let silent = connect(server.tcp());
        let next = begin_asking(server.tcp());
        drop(silent);
        assert_eq!(rest(&next), GREETING);
    }
}
