//! Event lines on standard output, as text and as JSON.
//!
//! A line contains printable characters only.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::network::streams::GREETING;
use support::network::tcp::request_with;
use support::network::udp::{UDP_GREETING, recv, request_udp, udp_client};
use support::process::server::Server;
use support::wait::{wait_for, wait_until};

use crate::HALLOO;

/// Input that could mislead a terminal, a log file or a program that reads the lines.
const HOSTILE_INPUTS: [&[u8]; 9] = [
    b"\x1b[31mred\x1b[0m",
    b"\x1b]0;title\x07",
    b"over\rwritten",
    b"two\nlines",
    b"nul\0nul\x08\x7f",
    b"\xff\xfe\xc3\x28 not UTF-8",
    "\u{202e}right to left\u{2066}".as_bytes(),
    "\u{9b}31m\u{85}\u{2028}\u{feff}".as_bytes(),
    b"\"quoted\\\" tcp 10.0.0.1:1 bytes=5 forged",
];

/// Fails unless the line is short and has only printable characters.
#[track_caller]
fn assert_is_harmless(line: &str) {
    let is_harmful = |c: char| {
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{feff}')
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
        assert!(event.contains(&format!(" bytes={} ", bytes.len())), "{event}");
        assert_is_harmless(event);
    }
    assert!(events[0].ends_with(r" bytes=12 \x1b[31mred\x1b[0m"), "{}", events[0]);
    let (_, text) = events[HOSTILE_INPUTS.len()].split_once(" bytes=3000 ").expect("the whole length");
    assert!(text.len() <= 256 && text.ends_with("..."), "{text}");
    assert_is_harmless(text);
}

/// The JSON objects of all lines, READY first.
#[track_caller]
fn json_lines(server: &Server) -> Vec<Value> {
    let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    server.stdout.lines().iter().map(parse).collect()
}

/// Whether a line has a time such as `2026-01-01T00:00:00.000Z`.
fn has_time(line: &Value) -> bool {
    line["time"].as_str().is_some_and(|time| time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'))
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
        assert!(event.starts_with("{\"event\":\"received\",\"time\":\""), "{event}");
        let event: Value = serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {event}"));
        let peer = event["peer"].as_str().expect("a text");
        assert!(peer.starts_with("127.0.0.1:") && has_time(&event), "{event}");
        assert_eq!(event["protocol"], "tcp");
        assert_eq!(event["local"], server.tcp().to_string());
        assert_eq!((&event["bytes"], &event["truncated"]), (&bytes.len().into(), &false.into()));
        // The text is escaped once. Input that is not UTF-8 is also shown in hexadecimal.
        assert_eq!(event["text"], String::from_utf8_lossy(bytes).as_ref());
        let hex: String = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(hex_digit).collect();
        let expected = str::from_utf8(bytes).is_err().then_some(hex);
        assert_eq!(event.get("hex").and_then(Value::as_str), expected.as_deref());
    }
    let last: Value = serde_json::from_str(&events[HOSTILE_INPUTS.len()]).expect("JSON");
    assert_eq!((&last["protocol"], &last["text"]), (&"udp".into(), &"Hello, UDP Server!".into()));
}

fn hex_digit(digit: u8) -> char {
    char::from_digit(digit.into(), 16).expect("four bits")
}

#[test]
fn with_json_events_every_line_is_json_including_ready() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--events", "json"]);
    let ready = &json_lines(&server)[0];
    assert!(server.ready_line().starts_with("{\"event\":\"ready\",\"time\":\"") && has_time(ready), "{ready}");
    assert_eq!(ready["pid"], server.pid());
    let listening = ready["listening"].as_array().expect("a list");
    let protocols: Vec<&str> = listening.iter().filter_map(|entry| entry["protocol"].as_str()).collect();
    assert_eq!(protocols, ["tcp", "udp", "tcp"]);
    for entry in listening.iter().filter(|entry| entry["protocol"] == "tcp") {
        let address = entry["address"].as_str().and_then(|text| text.parse().ok()).expect("an address");
        assert_eq!(request_with(address, b"hello"), GREETING);
    }
}

#[test]
fn json_events_mark_truncated_text() {
    let server = HALLOO.start(&["--udp", "127.0.0.1:0", "--events", "json"]);
    for text in ["x".repeat(256), "x".repeat(257), "\u{fc}".repeat(200), format!("x{}", "\u{fc}".repeat(128))] {
        request_udp(server.udp(), text.as_bytes());
    }
    wait_until("every line", || server.event_lines().len() == 4);
    let cut: Vec<(usize, bool)> = json_lines(&server)[1..]
        .iter()
        .map(|event| (event["text"].as_str().expect("a text").len(), event["truncated"].as_bool().expect("a boolean")))
        .collect();
    // No character is cut in the middle.
    assert_eq!(cut, [(256, false), (256, true), (256, true), (255, true)]);
    assert!(!server.stdout.text().contains("hex"), "{}", server.stdout.text());
}

#[test]
fn echo_and_discard_events_show_the_first_bytes_received() {
    for mode in ["echo", "discard"] {
        let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", mode, "--events", "json"]);
        let mut client = TcpStream::connect(server.tcp()).expect("it listens");
        for part in ["Hello, ", "TCP Server!\n", &"x".repeat(1000)] {
            client.write_all(part.as_bytes()).expect("the server reads");
            if mode == "echo" {
                // So the server reads each part by itself.
                client.read_exact(&mut vec![0; part.len()]).expect("the echo");
            }
        }
        client.shutdown(Shutdown::Write).expect("it is connected");
        client.read_to_end(&mut Vec::new()).expect("it ends");
        wait_until("the line", || server.event_lines().len() == 1);
        let event = &json_lines(&server)[1];
        assert_eq!((&event["bytes"], &event["truncated"]), (&1019.into(), &true.into()));
        assert_eq!(event["text"], format!("Hello, TCP Server!\n{}", "x".repeat(256 - 19)));
        let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", mode]);
        let client = TcpStream::connect(server.tcp()).expect("it listens");
        (&client).write_all(b"Hello!").expect("the server reads");
        drop(client);
        assert!(server.stdout.wait_for_line("tcp ").ends_with(" bytes=6 Hello!"));
    }
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
    let reported = wait_for("all 300 events, printed or counted", || {
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
fn json_events_come_at_most_1000_a_second_and_the_rest_as_a_sum() {
    let server = HALLOO.start(&["--udp", "127.0.0.1:0", "--events", "json"]);
    let (start, client) = (Instant::now(), udp_client(server.udp()));
    let mut count = 0;
    // A burst of 1000 lines is printed in full.
    while count < 1000 || start.elapsed() < Duration::from_millis(1200) {
        client.send(b"hello").expect("loopback takes it");
        recv(&client);
        count += 1;
    }
    let seconds = usize::try_from(start.elapsed().as_secs() + 1).expect("it is short");
    let printed = wait_for("all events, printed or counted", || {
        let lines = json_lines(&server);
        let count_of = |line: &Value| usize::try_from(line["count"].as_u64().expect("a number")).expect("a few");
        let sum_of = |event: &str| -> usize { lines.iter().filter(|line| line["event"] == event).map(count_of).sum() };
        let received = lines.iter().filter(|line| line["event"] == "received").count();
        let sums = lines.iter().filter(|line| line["event"] == "suppressed" || line["event"] == "lost");
        assert!(sums.clone().all(has_time) && sums.count() + received + 1 == lines.len(), "{lines:?}");
        // On a busy machine some lines may be lost, because standard output is written too slowly.
        let printed = received + sum_of("lost");
        (printed + sum_of("suppressed") == count).then_some(printed)
    });
    assert!((1000..=1000 * seconds).contains(&printed), "{printed} of {count} lines in {seconds} seconds");
}

#[test]
fn with_events_off_only_the_ready_line_is_printed() {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--events", "off"]);
    for _ in 0..30 {
        request_udp(server.udp(), b"hello");
    }
    server.assert_exits_on_sigterm();
    assert_eq!(server.event_lines(), Vec::<String>::new());
}

#[test]
fn quiet_and_verbose_set_the_log_level() {
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
