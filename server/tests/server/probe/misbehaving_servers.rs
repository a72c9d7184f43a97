//! Servers that flood, fall silent, reset, or close without a reply.
//!
//! A result is printed as soon as it is known, and within the timeout.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::network::tcp::reset;
use support::process::child::ProcessOutput;
use support::wait::TIMEOUT;

use crate::HALLOO;

/// Serves clients one after another, as long as the test runs.
fn serve(serve_client: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || listener.incoming().flatten().for_each(serve_client));
    address
}

fn wait_for_end(mut stream: &TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

fn read_question(mut stream: &TcpStream) {
    stream.read_exact(&mut [0; 19]).expect("a question");
}

/// Runs a probe over TCP, and fails unless it exits long before its timeout.
#[track_caller]
fn probe(address: SocketAddr, arguments: &[&str]) -> ProcessOutput {
    let start = Instant::now();
    let output = HALLOO.run(&[&["probe", "--tcp", &address.to_string(), "--timeout", "40s"], arguments].concat());
    assert!(start.elapsed() < TIMEOUT / 5, "{:?}: {output:?}", start.elapsed());
    output
}

#[track_caller]
fn assert_result(output: &ProcessOutput, status: i32, word: &str, text: &str) {
    assert_eq!(output.status, status, "{output:?}");
    let fields: Vec<&str> = output.stdout.trim_end().splitn(5, ' ').collect();
    assert_eq!((fields[2], fields[4]), (word, text), "{output:?}");
}

#[test]
fn a_reply_ends_when_an_open_connection_is_silent() {
    let address = serve(|mut stream| {
        stream.write_all(b"an answer").expect("the client reads");
        wait_for_end(&stream);
    });
    assert_result(&probe(address, &[]), 0, "ok", "an answer");
    assert_result(&probe(address, &["--expect", "answer"]), 0, "ok", "an answer");
}

#[test]
fn a_probe_reads_at_most_64_kib_of_a_flood() {
    let address = serve(|mut stream| while stream.write_all(&[b'x'; 1000]).is_ok() {});
    for (arguments, status, word) in [(&[][..], 0, " ok "), (&["--expect", "y"], 5, " mismatch ")] {
        let output = probe(address, arguments);
        assert_eq!(output.status, status);
        assert!(output.stdout.contains(word), "{}", &output.stdout[..60]);
        let count = output.stdout.matches('x').count();
        assert!((64 * 1024..80 * 1024).contains(&count), "{count} bytes");
    }
}

#[test]
fn a_half_close_without_an_answer_ends_the_probe_at_once() {
    let address = serve(|stream| {
        read_question(&stream);
        stream.shutdown(Shutdown::Write).expect("it is connected");
        wait_for_end(&stream);
    });
    assert_result(&probe(address, &[]), 5, "mismatch", "closed without a reply");
}

#[test]
fn a_server_that_resets_before_it_reads_is_reported_as_a_reset() {
    let address = serve(reset);
    let output = probe(address, &["--count", "30"]);
    let is_reset = |line: &&str| {
        line.split(' ').nth(2) == Some("reset") && line.ends_with(" connection reset by peer before a reply")
    };
    assert_eq!((output.status, output.stdout.lines().filter(is_reset).count()), (5, 30), "{output:?}");
}

#[test]
fn a_connection_that_is_reset_counts_as_made() {
    let output = probe(serve(reset), &["--connect-only", "--count", "30"]);
    let is_connected = |line: &&str| line.split(' ').nth(2) == Some("ok") && line.ends_with(" connected");
    assert_eq!((output.status, output.stdout.lines().filter(is_connected).count()), (0, 30), "{output:?}");
}

#[test]
fn a_reset_after_an_answer_is_reported_on_standard_error() {
    let address = serve(|mut stream| {
        read_question(&stream);
        stream.write_all(b"an answer").expect("the client reads");
        reset(stream);
    });
    let output = probe(address, &[]);
    assert_result(&output, 0, "ok", "an answer");
    assert_eq!(output.stderr, format!("halloo: tcp {address}: connection reset by peer after the reply\n"));
    assert_result(&probe(address, &["--expect", "another"]), 5, "reset", "an answer");
}

#[test]
fn a_server_that_replies_only_after_eof_is_a_timeout() {
    let address = serve(|mut stream| {
        wait_for_end(&stream);
        let _ = stream.write_all(b"an answer");
    });
    let start = Instant::now();
    let output = HALLOO.run(&["probe", "--tcp", &address.to_string(), "--timeout", "300ms"]);
    assert_result(&output, 4, "timeout", "connected, but no reply within 300ms");
    assert!(start.elapsed() < Duration::from_millis(300) + TIMEOUT / 5, "{:?}", start.elapsed());
}
