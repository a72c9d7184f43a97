//! When a server ends by itself, and with what.

use std::time::{Duration, Instant};

use crate::clients::{
    GREETING, UDP_GREETING, ask, ask_udp, connect, heard, many_asking, rest, say, udp_client, whatever_comes,
};
use crate::support::{PATIENCE, Server, assert_stays};

#[test]
fn exactly_as_many_are_greeted_as_asked_for_over_both_protocols_and_the_rest_closed_unanswered() {
    let mut server = Server::start(&["--listen", "127.0.0.1:0", "--max-greetings", "50", "--greeting", "{number}"]);
    server.freeze();
    let streams = many_asking(40, server.tcp());
    let sockets: Vec<_> = (0..40).map(|_| udp_client(server.udp())).collect();
    for socket in &sockets {
        socket.send(b"hello").expect("loopback takes it");
    }
    server.thaw();
    let mut numbers: Vec<usize> = Vec::new();
    for stream in &streams {
        let answer = String::from_utf8(whatever_comes(stream)).expect("digits");
        numbers.extend(answer.parse::<usize>().ok());
    }
    assert_eq!(server.wait(), 0, "{}", server.errors.text());
    let over_udp = sockets.iter().filter_map(heard).map(|answer| String::from_utf8(answer).expect("digits"));
    numbers.extend(over_udp.map(|answer| answer.parse::<usize>().expect("digits")));
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(1..=50), "{numbers:?}");
    server.errors.wait_for_line("50 greetings given");
}

#[test]
fn the_last_greeting_of_each_mode_ends_the_server() {
    for mode in ["greet", "banner", "line"] {
        let mut server = Server::start(&["--listen", "127.0.0.1:0", "--max-greetings", "3", "--mode", mode]);
        let client = connect(server.tcp());
        say(&client, b"hello\n");
        assert!(rest_of(mode, &client).starts_with(GREETING));
        assert_eq!(ask_udp(server.udp(), b"hello"), UDP_GREETING);
        assert!(server.is_running(), "there is one left");
        assert_eq!(ask_udp(server.udp(), b"hello"), UDP_GREETING);
        drop(client);
        assert_eq!(server.wait(), 0, "{mode}: {}", server.errors.text());
    }
}

/// A line leaves the connection open, the others close it.
fn rest_of(mode: &str, client: &std::net::TcpStream) -> String {
    match mode {
        "line" => String::from_utf8(crate::clients::read_exactly(client, GREETING.len() + 1)).expect("UTF-8"),
        _ => rest(client),
    }
}

#[test]
fn a_server_that_nobody_visits_ends_when_it_was_idle_for_long_enough() {
    let begun = Instant::now();
    let mut server = Server::start(&["--listen", "127.0.0.1:0", "--exit-when-idle", "300ms"]);
    assert_eq!(server.wait(), 0, "{}", server.errors.text());
    let lasted = begun.elapsed();
    assert!(lasted >= Duration::from_millis(300), "it ended after {lasted:?}");
    assert!(lasted < PATIENCE / 2, "it ended after {lasted:?}");
}

#[test]
fn an_open_connection_or_another_greeting_is_not_idle() {
    let mut server = Server::start(&["--listen", "127.0.0.1:0", "--exit-when-idle", "400ms"]);
    let silent = connect(server.tcp());
    assert_stays(Duration::from_millis(900), "it serves on beside a connection", || server.is_running());
    say(&silent, b"hello");
    assert_eq!(rest(&silent), GREETING);
    assert_stays(Duration::from_millis(900), "it serves on while it is asked", || {
        ask_udp(server.udp(), b"hello") == UDP_GREETING && server.is_running()
    });
    assert_eq!(ask(server.tcp()), GREETING);
    assert_eq!(server.wait(), 0, "{}", server.errors.text());
}
