//! `--count`, `--interval` and `--retries`, and the summary at the end.

use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::process::child::Process;
use support::process::nonblocking_pipe::nonblocking_pipe;
use support::wait::{TIMEOUT, holds_for, wait_until};

use crate::HALLOO;

fn silent_udp() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
    let address = socket.local_addr().expect("it is bound").to_string();
    (socket, address)
}

/// The fields of a summary line, after its protocol and target.
fn summary_fields(line: &str) -> Vec<(String, String)> {
    let fields = line.split(' ').skip(3).map(|field| field.split_once('=').expect("a name and a value"));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_summary_counts_the_requests_of_each_target_and_protocol() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    let output = HALLOO.run(&["probe", "--tcp", "--count", "20", &address, "unix:/nope/a.sock"]);
    assert_eq!((output.status, output.stdout.lines().count()), (3, 42), "{output:?}");
    let summary: Vec<&str> = output.stdout.lines().skip(40).collect();
    assert_eq!(summary[1], "summary unix /nope/a.sock sent=20 ok=0 failed=20");
    assert!(summary[0].starts_with(&format!("summary tcp {address} sent=20 ok=20 failed=0 min=")), "{summary:?}");
    let fields = summary_fields(summary[0]);
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["sent", "ok", "failed", "min", "median", "p95", "max"]);
    let times: Vec<f64> =
        fields[3..].iter().map(|(_, value)| value.trim_end_matches("ms").parse().expect("a number of ms")).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn one_request_has_no_summary() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let output = HALLOO.run(&["probe", &server.tcp().to_string()]);
    assert_eq!((output.status, output.stdout.contains("summary")), (0, false), "{output:?}");
}

#[test]
fn an_interval_is_the_time_between_two_starts() {
    let (socket, address) = silent_udp();
    // Each request is lost, and takes half of the interval.
    let arguments = ["probe", "--udp", "--count", "4", "--interval", "200ms", "--timeout", "100ms", &address];
    let start = Instant::now();
    let mut probe = Process::spawn(HALLOO.command(&arguments));
    let mut arrivals = Vec::new();
    for _ in 0..4 {
        socket.recv_from(&mut [0; 100]).expect("a question");
        arrivals.push(start.elapsed());
    }
    assert_eq!(probe.wait(), 4);
    let last = arrivals[3];
    // The starts are three intervals apart; a busy machine delays single ones.
    assert!(last >= Duration::from_millis(600), "{arrivals:?}");
    assert!(last < TIMEOUT / 2, "{arrivals:?}");
}

#[test]
fn a_reply_that_takes_longer_than_the_interval_is_followed_by_the_next_request_at_once() {
    let (socket, address) = silent_udp();
    let arguments = ["probe", "--udp", "--count", "2", "--interval", "1ms", "--timeout", "300s", &address];
    let mut probe = Process::spawn(HALLOO.command(&arguments));
    for _ in 0..2 {
        let (_, peer) = socket.recv_from(&mut [0; 100]).expect("a question");
        socket.set_nonblocking(true).expect("an option of every socket");
        // Far longer than the interval.
        let is_silent = holds_for(Duration::from_millis(20), || socket.peek_from(&mut [0; 100]).is_err());
        assert!(is_silent, "the next request is sent before the reply");
        socket.set_nonblocking(false).expect("an option of every socket");
        socket.send_to(b"late", peer).expect("loopback takes it");
    }
    assert_eq!(probe.wait(), 0);
    socket.set_nonblocking(true).expect("an option of every socket");
    assert!(socket.recv_from(&mut [0; 100]).is_err(), "two requests, and no burst to catch up");
}

#[test]
fn without_an_end_a_signal_ends_the_probe_with_a_summary_and_the_status_of_the_results() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    for (signal, expect, status) in [("INT", "Hello", 0), ("TERM", "Hello", 0), ("INT", "Bye", 5)] {
        for is_json in [false, true] {
            let mut arguments =
                vec!["probe", "--tcp", "--count", "0", "--interval", "5ms", "--expect", expect, &address];
            arguments.extend(is_json.then_some("--json"));
            let mut probe = Process::spawn(HALLOO.command(&arguments));
            wait_until("some replies", || probe.stdout.lines().len() > 3);
            probe.signal(signal);
            assert_eq!(probe.wait(), status, "{signal} {expect}");
            probe.wait_for_eof();
            let lines = probe.stdout.lines();
            let (last, others) = lines.split_last().expect("some lines");
            let start =
                if is_json { "{\"event\":\"summary\"".to_owned() } else { format!("summary tcp {address} sent=") };
            assert!(last.starts_with(&start), "{last}");
            assert!(others.iter().all(|line| !line.contains("summary")), "{others:?}");
        }
    }
}

#[test]
fn the_requests_of_a_probe_without_an_end_are_a_second_apart() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    let start = Instant::now();
    let probe = Process::spawn(HALLOO.command(&["probe", "--tcp", "--count", "0", &address]));
    wait_until("the second line", || probe.stdout.lines().len() == 2);
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_signal_before_the_first_result_ends_the_probe_by_that_signal() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    for (name, signal) in [("INT", Signal::SIGINT), ("TERM", Signal::SIGTERM)] {
        let mut probe =
            Process::spawn(HALLOO.command(&["probe", "--tcp", "--count", "9", "--timeout", "300s", &address]));
        let (_connection, _) = listener.accept().expect("the probe connects");
        probe.signal(name);
        assert_eq!(probe.wait_for_signal(), Some(signal));
        assert_eq!(probe.stdout.text(), "");
    }
}

#[test]
fn a_second_signal_ends_a_probe_whose_output_is_not_read() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let (_reader, mut writer) = nonblocking_pipe();
    while writer.write(b"x").is_ok() {}
    let mut command = HALLOO.command(&["probe", "--tcp", "--count", "0", &server.tcp().to_string()]);
    command.stdout(writer);
    let mut probe = Process::spawn(command);
    wait_until("a request", || !server.event_lines().is_empty());
    // The first signal ends no write.
    wait_until("a signal to end the probe", || {
        let is_running = probe.is_running();
        if is_running {
            probe.signal("TERM");
        }
        !is_running
    });
}

#[test]
fn a_lost_request_is_sent_again_over_udp_within_the_timeout() {
    let (socket, address) = silent_udp();
    let arguments = ["probe", "--udp", "--retries", "999", "--timeout", "20s", &address];
    assert_eq!(HALLOO.run(&arguments).status, 2, "at most 100");
    let arguments = ["probe", "--udp", "--retries", "99", "--timeout", "20s", "--json", &address];
    let mut probe = Process::spawn(HALLOO.command(&arguments));
    let first = socket.recv_from(&mut [0; 100]).expect("a question").1;
    let second = socket.recv_from(&mut [0; 100]).expect("the same question").1;
    assert_eq!(first, second, "a reply to either try arrives at the same socket");
    socket.send_to(b"at last", first).expect("loopback takes it");
    assert_eq!(probe.wait(), 0);
    let answer: serde_json::Value = serde_json::from_str(&probe.stdout.wait_for_line("at last")).expect("JSON");
    let tries = answer["tries"].as_u64().expect("a number");
    assert!((2..100).contains(&tries), "{answer}");
    assert_eq!(answer["notes"][0], format!("the reply came after {tries} requests"));
}

#[test]
fn settings_without_effect_are_reported() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let output = HALLOO.run(&["probe", "--tcp", "--retries", "2", "--interval", "1s", &server.tcp().to_string()]);
    let warnings = "halloo: --retries has no effect: only a request over UDP is sent again\n\
                    halloo: --interval has no effect: one request is sent; add --count N\n";
    assert_eq!((output.status, output.stderr.as_str()), (0, warnings));
}
