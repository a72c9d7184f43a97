//! The lines on standard output about what was received.
//!
//! A line contains printable characters only.

use std::time::Instant;

use serde_json::Value;
use support::network::tcp::request_with;
use support::network::udp::{UDP_GREETING, recv, request_udp, udp_client};
use support::process::server::Server;
use support::wait::{wait_for, wait_until};

use crate::HALLOO;

/// What a terminal, a log file or a reader could be fooled with.
const HOSTILE_INPUTS: [&[u8]; 9] = [
    b"\x1b[31mred\x1b[0m",
    b"\x1b]0;title\x07",
    b"over\rwritten",
    b"two\nlines",
    b"nul\0nul\x08\x7f",
    b"\xff\xfe\xc3\x28 not UTF-8",
    "\u{202e}right to left\u{2066}".as_bytes(),
    "\u{9b}31m\u{85}\u{2028}\u{feff}".as_bytes(),
    b"\"quoted\\\" tcp 10.0.0.1:1 5 bytes: forged",
];

/// Nothing but what can be seen, on one line.
#[track_caller]
fn assert_is_harmless(line: &str) {
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{feff}' | '\u{fffd}')
    };
    assert!(!line.chars().any(is_harmful), "{line:?}");
    assert!(line.len() < 512, "{line:?}");
}

#[test]
fn hostile_bytes_give_one_printable_line_each() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    for bytes in HOSTILE_INPUTS {
        request_with(server.tcp(), bytes);
        let before = server.event_lines().len();
        wait_until("the line", || server.event_lines().len() >= before.max(1));
    }
    request_udp(server.udp(), &[0x1b; 3000]);
    let events =
        wait_for("every line", || Some(server.event_lines()).filter(|events| events.len() > HOSTILE_INPUTS.len()));
    assert_eq!(events.len(), HOSTILE_INPUTS.len() + 1);
    for (event, bytes) in events.iter().zip(HOSTILE_INPUTS) {
        assert!(event.starts_with("tcp 127.0.0.1:"), "{event}");
        assert!(event.contains(&format!(" {} bytes: ", bytes.len())), "{event}");
        assert_is_harmless(event);
    }
    assert!(events[0].ends_with(r": \x1b[31mred\x1b[0m"), "{}", events[0]);
    let (_, text) = events[HOSTILE_INPUTS.len()].split_once(" 3000 bytes: ").expect("the whole length");
    assert!(text.len() <= 256 && text.ends_with("..."), "{text}");
    assert_is_harmless(text);
}

#[test]
fn json_events_are_complete_and_survive_hostile_bytes() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--events", "json"]);
    for bytes in HOSTILE_INPUTS {
        request_with(server.tcp(), bytes);
    }
    request_udp(server.udp(), b"Hello, UDP Server!");
    let events =
        wait_for("every line", || Some(server.event_lines()).filter(|events| events.len() > HOSTILE_INPUTS.len()));
    assert_eq!(events.len(), HOSTILE_INPUTS.len() + 1);
    for (event, bytes) in events.iter().zip(HOSTILE_INPUTS) {
        assert_is_harmless(event);
        let event: Value = serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {event}"));
        let peer = event["peer"].as_str().expect("a text");
        assert!(peer.starts_with("127.0.0.1:"), "{event}");
        assert_eq!(event["protocol"], "tcp");
        assert_eq!(event["local"], server.tcp().to_string());
        assert_eq!(event["bytes"], bytes.len());
        assert_is_harmless(event["text"].as_str().expect("a text"));
        let time = event["time"].as_str().expect("a text");
        assert!(time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    }
    let last: Value = serde_json::from_str(&events[HOSTILE_INPUTS.len()]).expect("JSON");
    assert_eq!((&last["protocol"], &last["text"]), (&"udp".into(), &"Hello, UDP Server!".into()));
}

#[test]
fn text_events_come_at_most_20_a_second_and_the_rest_as_a_sum() {
    let server = HALLOO.start(&["--udp", "127.0.0.1:0"]);
    let (start, client) = (Instant::now(), udp_client(server.udp()));
    for _ in 0..300 {
        client.send(b"hello").expect("loopback takes it");
        assert_eq!(recv(&client), UDP_GREETING.as_bytes());
    }
    let sum_of = |line: &str| -> Option<usize> {
        line.strip_prefix("... and ")?.strip_suffix(" more in the last second")?.parse().ok()
    };
    let reported = wait_for("one by one or in a sum, all 300", || {
        let lines = server.event_lines();
        let single_lines = lines.iter().filter(|line| sum_of(line).is_none()).count();
        let summed: usize = lines.iter().filter_map(|line| sum_of(line)).sum();
        (single_lines + summed == 300).then_some(single_lines)
    });
    let seconds = usize::try_from(start.elapsed().as_secs() + 1).expect("it is short");
    assert!(reported >= 20, "{reported} lines");
    assert!(reported <= 20 * seconds, "{reported} lines in {seconds} seconds");
    assert!(server.event_lines().iter().filter_map(|line| sum_of(line)).count() >= 1, "{:?}", server.event_lines());
}

#[test]
fn json_events_are_told_each_even_when_they_come_fast() {
    let server = HALLOO.start(&["--udp", "127.0.0.1:0", "--events", "json"]);
    let client = udp_client(server.udp());
    for _ in 0..300 {
        client.send(b"hello").expect("loopback takes it");
        recv(&client);
    }
    wait_until("a line for each", || server.event_lines().len() == 300);
}

#[test]
fn with_events_off_only_the_first_line_is_printed() {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--events", "off"]);
    for _ in 0..30 {
        request_udp(server.udp(), b"hello");
    }
    server.assert_exits_on_sigterm();
    assert_eq!(server.event_lines(), Vec::<String>::new());
}

#[test]
fn quiet_and_verbose_choose_what_is_logged() {
    let logged = |arguments: &[&str]| {
        let mut server = Server::start(HALLOO.command(&[&["--listen", "127.0.0.1:0"], arguments].concat()));
        request_udp(server.udp(), UDP_GREETING.as_bytes().split_last().expect("it has bytes").1);
        udp_client(server.udp()).send(UDP_GREETING.as_bytes()).expect("loopback takes it");
        request_udp(server.udp(), b"hello");
        server.assert_exits_on_sigterm();
        wait_until("standard error to end", || server.stderr.is_closed());
        server.stderr.text()
    };
    assert!(logged(&[]).contains("INFO") && !logged(&[]).contains("DEBUG"));
    assert_eq!(logged(&["-q"]), "");
    assert!(logged(&["-v"]).contains("DEBUG"));
}
