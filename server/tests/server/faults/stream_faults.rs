//! The faults of connections, in every mode.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use support::network::streams::{read_exactly, read_to_end, send};
use support::network::tcp::{connect, half_close, reset};
use support::wait::wait_until;

use crate::faults::{fault_events, start_tcp};

const GREETING: &str = "Hello, TCP Client!";

/// What a client reads after its request, and whether an RST or a FIN ends it.
fn read_to_the_end(to: SocketAddr, request: &[u8]) -> (String, Option<ErrorKind>) {
    let mut client = connect(to);
    // The server may have reset the connection already.
    let _ = client.write_all(request);
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        match client.read(&mut buffer) {
            Ok(0) => break None,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) => break Some(error.kind()),
        }
    };
    (String::from_utf8(received).unwrap(), end)
}

#[test]
fn a_delayed_reply_arrives_whole_after_the_delay_in_every_mode() {
    const DELAY: Duration = Duration::from_millis(120);
    for (mode, input, expected) in [
        ("greet", "hi", GREETING),
        ("banner", "", GREETING),
        ("line", "one\ntwo\n", "Hello, TCP Client!\nHello, TCP Client!\n"),
        ("echo", "hello", "hello"),
    ] {
        let server = start_tcp(&["--mode", mode, "--fault", "delay=120ms"]);
        let (mut client, start) = (connect(server.tcp()), Instant::now());
        send(&client, input.as_bytes());
        let mut reply = vec![0; expected.len()];
        client.read_exact(&mut reply).unwrap();
        assert!(start.elapsed() >= DELAY, "{mode}: {:?}", start.elapsed());
        half_close(&client);
        assert_eq!((String::from_utf8(reply).unwrap().as_str(), read_to_end(&client).as_str()), (expected, ""));
        server.stdout.wait_for_line("\"fault\":\"delay\",\"rule\":\"delay=120ms\",\"delay_ms\":120.000}");
    }
}

#[test]
fn the_same_seed_gives_the_same_delays_however_requests_are_split() {
    let delays_of = |parts: &[&str]| -> Vec<String> {
        let server = start_tcp(&["--mode", "line", "--fault", "delay=1ms..60ms", "--fault-seed", "5"]);
        let mut sent = 0;
        for _ in 0..4 {
            let client = connect(server.tcp());
            for part in parts {
                send(&client, part.as_bytes());
                sent += part.len() as u64;
                wait_until("the part", || server.counters()["bytes_received"] == sent);
            }
            read_exactly(&client, GREETING.len());
        }
        wait_until("the events", || fault_events(&server, "delay") == 4);
        let delay = |line: &String| line.split_once("\"delay_ms\":").map(|(_, delay)| delay.to_owned());
        server.event_lines().iter().filter_map(delay).collect()
    };
    assert_eq!(delays_of(&["h", "e", "llo\n"]), delays_of(&["hello\n"]));
}

#[test]
fn a_half_closed_client_gets_its_delayed_reply() {
    let server = start_tcp(&["--fault", "delay=50ms..80ms"]);
    for input in ["", "hi"] {
        let (client, start) = (connect(server.tcp()), Instant::now());
        send(&client, input.as_bytes());
        half_close(&client);
        assert_eq!(read_to_end(&client), GREETING);
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
}

#[test]
fn each_line_of_a_delayed_connection_waits() {
    let server = start_tcp(&["--mode", "line", "--greeting", "{number}", "--fault", "delay=60ms"]);
    let client = connect(server.tcp());
    for number in ["1\n", "2\n", "3\n"] {
        let start = Instant::now();
        send(&client, b"x\n");
        assert_eq!(read_exactly(&client, 2), number.as_bytes());
        assert!(start.elapsed() >= Duration::from_millis(60));
    }
    assert_eq!(fault_events(&server, "delay"), 1, "one for the connection");
}

#[test]
fn a_reset_follows_exactly_the_given_bytes_of_the_reply() {
    for (bytes, expected) in
        [("0", ""), ("5", "Hello"), ("17", "Hello, TCP Client"), ("18", GREETING), ("99", GREETING)]
    {
        let fault = format!("reset={bytes}");
        let server = start_tcp(&["--fault", &fault]);
        let (reply, end) = read_to_the_end(server.tcp(), b"hi");
        assert_eq!((reply.as_str(), end), (expected, Some(ErrorKind::ConnectionReset)), "{fault}");
        wait_until("the event", || fault_events(&server, "reset") == 1);
    }
}

#[test]
fn a_reset_counts_the_bytes_of_all_replies_of_a_connection() {
    let server = start_tcp(&["--mode", "line", "--greeting", "abc", "--fault", "reset=10"]);
    let (reply, end) = read_to_the_end(server.tcp(), b"1\n2\n3\n4\n");
    assert_eq!((reply.as_str(), end), ("abc\nabc\nab", Some(ErrorKind::ConnectionReset)));
    let server = start_tcp(&["--mode", "echo", "--fault", "reset=100000"]);
    let mut client = connect(server.tcp());
    let mut writer = client.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        // It ends with the reset.
        while writer.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let (mut received, mut buffer) = (0, [0; 4096]);
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        received += count;
    }
    assert_eq!(received, 100_000);
    writer.join().unwrap();
}

#[test]
fn half_of_the_first_reply_is_followed_by_a_fin() {
    for (mode, input, expected) in [
        ("greet", "hi", "Hello, TC"),
        ("banner", "", "Hello, TC"),
        ("line", "one\ntwo\n", "Hello, TC"),
        ("echo", "0123456789", "01234"),
    ] {
        let server = start_tcp(&["--mode", mode, "--fault", "half"]);
        assert_eq!(read_to_the_end(server.tcp(), input.as_bytes()), (expected.to_owned(), None), "{mode}");
        wait_until("the event", || fault_events(&server, "half") == 1);
    }
}

#[test]
fn a_dribbled_reply_arrives_a_few_bytes_at_a_time() {
    let server = start_tcp(&["--fault", "dribble=10ms"]);
    let (client, start) = (connect(server.tcp()), Instant::now());
    send(&client, b"hi");
    assert_eq!(read_exactly(&client, 1), b"H");
    assert_eq!(read_to_end(&client), GREETING[1..]);
    assert!(start.elapsed() >= Duration::from_millis(170), "{:?}", start.elapsed());
    let server = start_tcp(&["--mode", "echo", "--fault", "dribble=20ms,bytes=1000"]);
    let (client, start) = (connect(server.tcp()), Instant::now());
    send(&client, &[b'x'; 5000]);
    assert_eq!(read_exactly(&client, 5000), [b'x'; 5000]);
    assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
}

#[test]
fn a_silent_connection_is_read_and_never_answered_and_ends_at_the_idle_timeout() {
    for (mode, input) in [("greet", "hi"), ("banner", "hi"), ("line", "hi\n"), ("echo", "hi"), ("discard", "hi")] {
        let server = start_tcp(&["--mode", mode, "--fault", "silence", "--idle-timeout", "400ms"]);
        let client = connect(server.tcp());
        let start = Instant::now();
        for _ in 0..20 {
            send(&client, input.as_bytes());
        }
        half_close(&client);
        assert_eq!(read_to_end(&client), "", "{mode}");
        assert!(start.elapsed() >= Duration::from_millis(400), "{mode}: {:?}", start.elapsed());
        assert_eq!(fault_events(&server, "silence"), 1, "{mode}");
    }
}

#[test]
fn a_silent_connection_does_not_delay_the_exit() {
    let mut server = start_tcp(&["--fault", "silence"]);
    let client = connect(server.tcp());
    send(&client, b"hi");
    wait_until("the event", || fault_events(&server, "silence") == 1);
    let start = Instant::now();
    half_close(&client);
    server.assert_exits_on_sigterm();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_refused_client_is_reset_before_its_request() {
    let server = start_tcp(&["--fault", "refuse"]);
    // The RST may arrive before the connect returns.
    let read = TcpStream::connect(server.tcp()).and_then(|mut client| client.read(&mut [0; 10]));
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
    wait_until("the event", || fault_events(&server, "refuse") == 1);
    assert_eq!(server.stdout.count_lines_with("\"event\":\"received\""), 0);
}

#[test]
fn delayed_replies_are_sent_during_a_drain_and_counted_in_max_greetings() {
    let mut server = start_tcp(&["--fault", "delay=300ms", "--max-greetings", "2"]);
    let clients = [connect(server.tcp()), connect(server.tcp())];
    for client in &clients {
        send(client, b"hi");
    }
    for client in &clients {
        assert_eq!(read_to_end(client), GREETING);
    }
    assert_eq!(server.wait(), 0);
    for mode in ["greet", "line", "echo"] {
        let mut server = start_tcp(&["--fault", "delay=300ms", "--mode", mode]);
        let client = connect(server.tcp());
        send(&client, b"hi\n");
        wait_until("the event", || fault_events(&server, "delay") == 1);
        server.signal("TERM");
        let reply = read_to_end(&client);
        assert_eq!(reply.trim(), if mode == "echo" { "hi" } else { GREETING }, "{mode}");
        assert_eq!(server.wait(), 0);
    }
}

/// A client that does not read costs the server no more than without a fault.
#[test]
fn an_echo_of_megabytes_is_delayed_and_dribbled_within_bounds() {
    for fault in ["delay=1ms", "dribble=1ms,bytes=65536"] {
        let server = start_tcp(&["--mode", "echo", "--fault", fault]);
        let client = connect(server.tcp());
        let mut writer = client.try_clone().unwrap();
        let sent: Vec<u8> = (0..2_000_000_u32).map(|index| (index % 251) as u8).collect();
        let copy = sent.clone();
        let writer = std::thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            half_close(&writer);
        });
        let mut received = Vec::new();
        (&client).read_to_end(&mut received).unwrap();
        assert!(received == sent, "{fault}: {} bytes", received.len());
        writer.join().unwrap();
        assert!(server.resident_kib() < 40_000, "{} KiB", server.resident_kib());
    }
}

#[test]
fn pipelined_lines_are_all_answered_whatever_the_fault_holds_back() {
    const LINES: usize = 20_000;
    for fault in ["delay=1ms", "dribble=1ms,bytes=65536", "reset=1000000"] {
        let server = start_tcp(&["--mode", "line", "--greeting", "{number}", "--fault", fault]);
        let client: TcpStream = connect(server.tcp());
        let mut writer = client.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            writer.write_all("x\n".repeat(LINES).as_bytes()).unwrap();
            half_close(&writer);
        });
        let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
        // The reset fault ends by an RST.
        while let Ok(count @ 1..) = (&client).read(&mut buffer) {
            received.extend_from_slice(&buffer[..count]);
        }
        let numbers: Vec<String> = (1..=LINES).map(|number| number.to_string()).collect();
        let expected = numbers.join("\n") + "\n";
        assert!(received == expected.as_bytes(), "{fault}: {} of {} bytes", received.len(), expected.len());
        writer.join().unwrap();
    }
}

#[test]
fn a_fault_is_for_the_named_listener_only() {
    let second = ["--tcp", "127.0.0.2:0", "--fault", "half,listener=tcp:127.0.0.2:0"];
    let server = start_tcp(&second);
    let addresses = server.ready_addresses();
    for (address, expected) in addresses.iter().zip([GREETING, "Hello, TC"]) {
        let address = address.strip_prefix("tcp=").unwrap().parse().unwrap();
        assert_eq!(read_to_the_end(address, b"hi"), (expected.to_owned(), None));
    }
}

#[test]
fn behind_a_proxy_the_event_names_the_real_client() {
    let server =
        start_tcp(&["--proxy-protocol", "127.0.0.1", "--fault", "half,share=50%", "--fault", "reset=0,share=50%"]);
    let header = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n";
    for _ in 0..8 {
        let (reply, end) = read_to_the_end(server.tcp(), format!("{header}hi").as_bytes());
        assert!(matches!((reply.as_str(), end), ("Hello, TC", None) | ("", Some(ErrorKind::ConnectionReset))));
    }
    wait_until("the events", || server.stdout.count_lines_with("\"event\":\"fault\"") == 8);
    assert_eq!(server.stdout.count_lines_with("\"peer\":\"192.0.2.7:4711\""), 16, "with those of the greetings");
}

#[test]
fn held_output_of_a_client_that_is_gone_is_dropped() {
    let server = start_tcp(&["--mode", "echo", "--fault", "dribble=1s"]);
    let client = connect(server.tcp());
    send(&client, &[b'x'; 1000]);
    assert_eq!(read_exactly(&client, 1), b"x");
    reset(client);
    wait_until("the end", || server.counters()["connections"] == 0);
}
