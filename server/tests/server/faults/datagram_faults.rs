//! The faults of datagrams.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use support::network::udp::{recv, try_recv, udp_client};
use support::process::server::Server;
use support::wait::{assert_holds_for, wait_until};

use crate::faults::{fault_events, start_udp};

fn client_of(server: &Server) -> UdpSocket {
    udp_client(server.udp())
}

fn ask(client: &UdpSocket, text: &str) {
    client.send(text.as_bytes()).unwrap();
}

#[test]
fn a_dropped_reply_never_arrives_and_its_event_names_the_client() {
    let server = start_udp(&["--fault", "drop"]);
    let client = client_of(&server);
    ask(&client, "hi");
    let line = server.stdout.wait_for_line("\"fault\":\"drop\"");
    assert!(line.contains(&format!("\"protocol\":\"udp\",\"peer\":\"{}\"", client.local_addr().unwrap())), "{line}");
    assert_holds_for(Duration::from_millis(100), "no reply", || try_recv(&client).is_none());
}

#[test]
fn a_duplicated_reply_arrives_twice() {
    let server = start_udp(&["--mode", "echo", "--fault", "duplicate"]);
    let client = client_of(&server);
    for text in ["one", "two"] {
        ask(&client, text);
        assert_eq!([recv(&client), recv(&client)], [text.as_bytes(), text.as_bytes()]);
    }
    wait_until("the events", || fault_events(&server, "duplicate") == 2);
}

#[test]
fn a_truncated_reply_has_only_its_first_bytes() {
    let server = start_udp(&["--mode", "echo", "--fault", "truncate=3"]);
    let client = client_of(&server);
    for (text, reply) in [("abcdef", "abc"), ("abc", "abc"), ("", ""), ("wxyz", "wxy")] {
        ask(&client, text);
        assert_eq!(recv(&client), reply.as_bytes());
    }
    // A short reply is not cut.
    wait_until("the events", || server.event_lines().len() == 4 + 2);
    assert_eq!(fault_events(&server, "truncate"), 2);
}

/// Otherwise two servers with the same fault would answer each other for ever.
#[test]
fn a_datagram_that_is_a_cut_greeting_gets_no_answer() {
    let server = start_udp(&["--udp-greeting", "#{number} {peer} {json}", "--fault", "truncate=5,share=50%"]);
    let client = client_of(&server);
    for cut in ["#12 1", "#1 [:", "Hello"] {
        ask(&client, cut);
    }
    wait_until("the datagrams", || server.counters()["datagrams_received"] == 3);
    assert_holds_for(Duration::from_millis(100), "no reply", || try_recv(&client).is_none());
    for other in ["hello", "#a 12", "#12", "#12 [:"] {
        ask(&client, other);
        assert!(recv(&client).starts_with(b"#"), "{other}");
    }
}

#[test]
fn a_delayed_reply_arrives_after_its_time() {
    let server = start_udp(&["--mode", "echo", "--fault", "delay=100ms..120ms"]);
    let (client, start) = (client_of(&server), Instant::now());
    ask(&client, "hi");
    assert_eq!(recv(&client), b"hi");
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    let line = server.stdout.wait_for_line("\"fault\":\"delay\"");
    let (_, delay) = line.split_once("\"delay_ms\":").unwrap();
    let delay: f64 = delay.trim_end_matches('}').parse().unwrap();
    assert!((100.0..=120.0).contains(&delay), "{line}");
}

#[test]
fn a_reordered_reply_follows_the_next_one_and_does_not_wait_for_ever() {
    // With this share, some replies are held back and some are not.
    let server = start_udp(&["--mode", "echo", "--fault", "reorder,share=30%", "--fault-seed", "1"]);
    let client = client_of(&server);
    let texts: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
    for text in &texts {
        ask(&client, text);
    }
    let replies: Vec<String> = texts.iter().map(|_| String::from_utf8(recv(&client)).unwrap()).collect();
    let mut sorted = replies.clone();
    sorted.sort();
    assert_eq!(sorted, texts, "each once");
    assert_ne!(replies, texts);
    let server = start_udp(&["--mode", "echo", "--fault", "reorder"]);
    let client = client_of(&server);
    ask(&client, "alone");
    assert_eq!(recv(&client), b"alone");
}

#[test]
fn replies_that_wait_are_sent_during_a_drain() {
    let mut server = start_udp(&["--mode", "echo", "--fault", "delay=300ms"]);
    let client = client_of(&server);
    ask(&client, "hi");
    wait_until("the event", || server.stdout.count_lines_with("\"event\":\"fault\"") == 1);
    server.signal("TERM");
    assert_eq!(recv(&client), b"hi");
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_server_is_not_idle_while_a_reply_waits() {
    let arguments =
        ["--mode", "echo", "--exit-when-idle", "300ms", "--drain-timeout", "100ms", "--fault", "delay=900ms"];
    let mut server = start_udp(&arguments);
    let client = client_of(&server);
    ask(&client, "hi");
    assert_eq!(recv(&client), b"hi");
    assert_eq!(server.wait(), 0);
}

#[test]
fn without_a_fault_for_datagrams_every_reply_is_sent() {
    let server = start_udp(&["--tcp", "127.0.0.1:0", "--mode", "echo", "--fault", "half"]);
    let client = client_of(&server);
    for number in 0..100 {
        ask(&client, &format!("{number}"));
        assert_eq!(recv(&client), format!("{number}").as_bytes());
    }
}
