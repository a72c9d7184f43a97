//! The blocking programs and the polling server in Python.
//!
//! A silent client stops the blocking server, and delays no client of the polling one.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use support::network::streams::{GREETING, REQUEST, read_exactly, read_to_end, send};
use support::network::tcp::{connect, connect_many, half_close, request, request_with, reset};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, request_udp};
use support::process::server::Server;
use support::wait::{assert_holds_for, wait_for_stable, wait_until};

use super::original_clients_and_examples::{listening_server, original_client, python_program};

fn blocking_server(protocol: &str) -> (Server, SocketAddr) {
    listening_server(python_program(&format!("blocking/{protocol}_server.py"), 0))
}

fn polling_server() -> (Server, SocketAddr) {
    listening_server(python_program("polling/echo_poll.py", 0))
}

#[test]
#[ignore = "needs python3"]
fn the_original_servers_reply_to_the_original_clients_and_print_what_they_received() {
    for protocol in ["tcp", "udp"] {
        let (server, address) = blocking_server(protocol);
        let name = protocol.to_uppercase();
        assert_eq!(original_client(protocol, address.port()), format!("Received: Hello, {name} Client!\n"));
        let received = server.stdout.wait_for_line("Received from 127.0.0.1:");
        assert!(received.ends_with(&format!(": Hello, {name} Server!")), "{received}");
    }
}

#[test]
#[ignore = "needs python3"]
fn the_original_servers_send_the_bytes_that_halloo_sends() {
    let (_server, tcp) = blocking_server("tcp");
    assert_eq!(request(tcp), GREETING);
    let (_server, udp) = blocking_server("udp");
    assert_eq!(request_udp(udp, UDP_REQUEST), UDP_GREETING);
}

#[test]
#[ignore = "needs python3"]
fn one_silent_client_stops_the_blocking_server_until_it_closes() {
    let (_server, address) = blocking_server("tcp");
    // accept(2) returns connections in the order of their handshakes.
    let silent = connect(address);
    let waiting = connect(address);
    send(&waiting, REQUEST);
    waiting.set_nonblocking(true).expect("an option of every stream");
    assert_holds_for(Duration::from_millis(300), "no reply", || waiting.peek(&mut [0]).is_err());
    drop(silent);
    waiting.set_nonblocking(false).expect("an option of every stream");
    assert_eq!(read_to_end(&waiting), GREETING);
}

#[test]
#[ignore = "needs python3"]
fn one_silent_client_delays_no_client_of_the_polling_server() {
    let (_server, address) = polling_server();
    let _silent = connect(address);
    assert_eq!(original_client("tcp", address.port()), "Received: Hello, TCP Server!\n");
    assert_eq!(request_with(address, b"one\ntwo"), "one\ntwo");
}

#[test]
#[ignore = "needs python3"]
fn the_polling_server_sends_a_long_echo_to_a_client_that_reads_late() {
    const INPUT_BYTES: usize = 64 << 20;
    const CHUNK: [u8; 16_384] = [b'x'; 16_384];
    let (_server, address) = polling_server();
    let slow = connect(address);
    let sent = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..INPUT_BYTES / CHUNK.len() {
                send(&slow, &CHUNK);
                sent.fetch_add(CHUNK.len(), Ordering::Relaxed);
            }
            half_close(&slow);
        });
        // The server stops reading, and then the kernel's buffers are full.
        let buffered =
            wait_for_stable("the writer to wait", Duration::from_millis(200), || sent.load(Ordering::Relaxed));
        assert!(0 < buffered && buffered < INPUT_BYTES, "{buffered} bytes were buffered");
        assert_eq!(request_with(address, b"meanwhile"), "meanwhile");
        assert_eq!(read_to_end(&slow).len(), INPUT_BYTES);
    });
}

#[test]
#[ignore = "needs python3"]
fn a_reset_ends_the_blocking_server_and_not_the_polling_one() {
    let (mut blocking, address) = blocking_server("tcp");
    reset(connect(address));
    assert_eq!(blocking.wait(), 1);
    blocking.stderr.wait_for_text("ConnectionResetError");
    let (_server, address) = polling_server();
    reset(connect(address));
    assert_eq!(request_with(address, b"after the reset"), "after the reset");
}

#[test]
#[ignore = "needs python3"]
fn the_polling_server_waits_without_descriptors_and_serves_when_one_is_free() {
    const DESCRIPTORS: usize = 16;
    let program = python_program("polling/echo_poll.py", 0);
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\"")]);
    limited.arg(program.get_program()).args(program.get_args());
    limited.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (server, address) = listening_server(limited);
    let held = connect_many(DESCRIPTORS, address);
    wait_until("all descriptors to be used", || server.fd_count() >= DESCRIPTORS);
    let waiting = connect(address);
    send(&waiting, b"waited");
    let before = server.cpu_time();
    assert_holds_for(Duration::from_millis(300), "idle", || server.is_asleep());
    assert!(server.cpu_time_since(before) < Duration::from_millis(100), "it spins");
    drop(held);
    assert_eq!(read_exactly(&waiting, 6), b"waited");
}
