//! Memory used by clients that never read or never stop sending.
//!
//! One client uses at most an inbox and an outbox, all of them `--memory-max` plus 9 KiB each.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::measurement::print_measurement;
use support::network::streams::GREETING;
use support::network::tcp::connect;
use support::process::server::Server;
use support::wait::{repeat_for, wait_until};

use crate::streams::fallible_clients::{read_until_closed, request, try_send};
use crate::{HALLOO, RESPONSE_TIME_MAX};

const MEASURED_TIME: Duration = Duration::from_secs(1);

const NON_READING_CLIENTS: u64 = 4;

/// For one client: an inbox, an outbox and their growth.
const KIB_PER_CLIENT_MAX: u64 = 512;

#[test]
fn clients_that_never_read_their_echo_use_one_outbox_each_and_are_not_read() {
    let mut server =
        HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "echo", "--events", "off", "--drain-timeout", "100ms"]);
    let before = server.resident_kib();
    let mut clients: Vec<_> = (0..NON_READING_CLIENTS).map(|_| connect(server.tcp())).collect();
    let mut sent = 0;
    let chunk = vec![b'x'; 64 * 1024];
    for client in &mut clients {
        client.set_nonblocking(true).expect("an option of every stream");
        let mut last_progress = Instant::now();
        wait_until("the echo to stop", || {
            match client.write(&chunk) {
                Ok(count) => (sent, last_progress) = (sent + count, Instant::now()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            last_progress.elapsed() > Duration::from_millis(100)
        });
    }
    let growth = server.resident_kib().saturating_sub(before);
    let used = server.cpu_time();
    repeat_for(MEASURED_TIME, || assert_still_echoes(&server));
    let used = server.cpu_time().saturating_sub(used);
    let mib = sent / 1024 / 1024;
    print_measurement(&format!(
        "never read: {NON_READING_CLIENTS} clients sent {mib} MiB, {growth} KiB more memory, then {used:?} in 1 s"
    ));
    assert!(growth < NON_READING_CLIENTS * KIB_PER_CLIENT_MAX, "memory grew by {growth} KiB");
    assert!(used < MEASURED_TIME / 2, "the server used {used:?} of processor time while no client sent or read");
    server.assert_exits_on_sigterm();
}

/// In kernel buffers of the server, for one client that never reads: unsent output and unread input. The kernel
/// enlarges the receive buffer while data arrives.
const KERNEL_BYTES_PER_CLIENT_MAX: usize = 3 * 1024 * 1024;

#[test]
fn the_kernel_keeps_little_for_a_client_that_never_reads_its_echo() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "echo", "--events", "off"]);
    let mut client = connect_narrow(server.tcp());
    let (chunk, mut sent, mut last_progress) = (vec![b'x'; 64 * 1024], 0, Instant::now());
    wait_until("the echo to stop", || {
        match client.write(&chunk) {
            Ok(count) => (sent, last_progress) = (sent + count, Instant::now()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        last_progress.elapsed() > Duration::from_millis(500)
    });
    print_measurement(&format!("never reads: a client sent {} KiB", sent / 1024));
    assert!(sent < KERNEL_BYTES_PER_CLIENT_MAX, "it sent {sent} bytes");
    assert_still_echoes(&server);
}

/// A non-blocking client with small kernel buffers.
fn connect_narrow(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("an option of every socket");
    socket.set_send_buffer_size(16 * 1024).expect("an option of every socket");
    socket.connect(&to.into()).expect("the server listens");
    socket.set_nonblocking(true).expect("an option of every socket");
    socket.into()
}

const MEMORY_MAX_CLIENTS: u64 = 150;

/// 4 MiB by the flag, 9 KiB for each client, and 2 MiB for tables and the allocator. Without the flag the outboxes
/// alone take 18.8 MiB.
const MEMORY_MAX_KIB: u64 = 4 * 1024 + 9 * MEMORY_MAX_CLIENTS + 2 * 1024;

#[test]
fn clients_that_never_read_stay_within_memory_max_and_other_clients_are_served() {
    for workers in ["1", "4"] {
        let arguments = ["--mode", "echo", "--events", "off", "--memory-max", "4MiB", "--drain-timeout", "100ms"];
        let mut server = HALLOO.start(&[&["--tcp", "127.0.0.1:0", "--workers", workers], &arguments[..]].concat());
        assert_still_echoes(&server);
        let before = server.resident_kib();
        let mut clients: Vec<TcpStream> = (0..MEMORY_MAX_CLIENTS).map(|_| connect_narrow(server.tcp())).collect();
        let (chunk, mut last_progress, mut growth_max) = (vec![b'x'; 64 * 1024], Instant::now(), 0);
        // After memory was short for a second, the client with the most memory is reset.
        wait_until("the echo to stop", || {
            clients.retain_mut(|client| match client.write(&chunk) {
                Ok(_) => {
                    last_progress = Instant::now();
                    true
                }
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
            growth_max = growth_max.max(server.resident_kib().saturating_sub(before));
            assert_still_echoes(&server);
            last_progress.elapsed() > Duration::from_millis(500)
        });
        print_measurement(&format!(
            "--memory-max 4MiB, {workers} workers: {growth_max} KiB more memory, {} of {MEMORY_MAX_CLIENTS} clients are left",
            clients.len()
        ));
        assert!(growth_max < MEMORY_MAX_KIB, "memory grew by {growth_max} KiB");
        assert!(server.counters()["memory_strains"] > 0, "the maximum was never reached");
        server.assert_exits_on_sigterm();
    }
}

fn assert_still_echoes(server: &Server) {
    let start = Instant::now();
    let client = connect(server.tcp());
    try_send(&client, b"hello");
    client.shutdown(std::net::Shutdown::Write).expect("it is connected");
    assert_eq!(read_until_closed(&client), "hello");
    assert!(start.elapsed() < 4 * RESPONSE_TIME_MAX, "it took {:?}", start.elapsed());
}

#[test]
fn a_client_that_never_stops_sending_uses_no_memory() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "discard", "--events", "off"]);
    let mut client = connect(server.tcp());
    let chunk = vec![b'x'; 256 * 1024];
    client.write_all(&chunk).expect("it is read");
    let (before, start, mut sent) = (server.resident_kib(), Instant::now(), chunk.len());
    let mut slowest = Duration::ZERO;
    while start.elapsed() < MEASURED_TIME {
        client.write_all(&chunk).expect("it is read");
        sent += chunk.len();
        let request_start = Instant::now();
        let other = connect(server.tcp());
        other.shutdown(std::net::Shutdown::Write).expect("it is connected");
        assert_eq!(read_until_closed(&other), "");
        slowest = slowest.max(request_start.elapsed());
    }
    let growth = server.resident_kib().saturating_sub(before);
    print_measurement(&format!(
        "never stops: {} MiB sent, {growth} KiB more memory, other clients took {slowest:?} at most",
        sent >> 20
    ));
    assert!(growth < KIB_PER_CLIENT_MAX, "memory grew by {growth} KiB");
    assert!(slowest < 4 * RESPONSE_TIME_MAX, "other clients waited {slowest:?}");
    server.assert_exits_on_sigterm();
}

#[test]
fn a_greeted_client_that_keeps_sending_is_closed_within_its_limits() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let descriptors = server.fd_count();
    let before = server.resident_kib();
    let mut client = connect(server.tcp());
    let chunk = vec![b'x'; 64 * 1024];
    let (start, mut sent) = (Instant::now(), 0);
    while let Ok(count) = client.write(&chunk) {
        sent += count;
        assert!(start.elapsed() < Duration::from_secs(10), "the server still reads after {sent} bytes");
    }
    let growth = server.resident_kib().saturating_sub(before);
    let (elapsed, kib) = (start.elapsed(), sent / 1024);
    print_measurement(&format!(
        "sends on after its greeting: closed after {kib} KiB in {elapsed:?}, {growth} KiB more memory"
    ));
    assert!(growth < KIB_PER_CLIENT_MAX, "memory grew by {growth} KiB");
    wait_until("the descriptor to be closed", || server.fd_count() == descriptors);
    assert_eq!(request(server.tcp()), GREETING);
    server.assert_exits_on_sigterm();
}
