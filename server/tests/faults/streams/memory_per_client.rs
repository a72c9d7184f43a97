//! The memory that clients cost which never read or never stop sending.
//!
//! One client costs at most an inbox and an outbox.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use support::measurement::print_measurement;
use support::network::streams::GREETING;
use support::network::tcp::connect;
use support::process::server::Server;
use support::wait::{repeat_for, wait_until};

use crate::streams::fallible_clients::{read_until_closed, request, try_send};
use crate::{HALLOO, RESPONSE_TIME_MAX};

const MEASURED_TIME: Duration = Duration::from_secs(1);

const NON_READING_CLIENTS: u64 = 4;

/// What one client may make the server keep: an inbox, an outbox and what they grow by.
const KIB_PER_CLIENT_MAX: u64 = 512;

#[test]
fn clients_that_never_read_their_echo_cost_an_outbox_each_and_then_stand_still() {
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
        "never read: {NON_READING_CLIENTS} clients got rid of {mib} MiB, {growth} KiB more memory, then {used:?} in 1 s"
    ));
    assert!(growth < NON_READING_CLIENTS * KIB_PER_CLIENT_MAX, "memory grew by {growth} KiB");
    assert!(used < MEASURED_TIME / 2, "it used {used:?} of processor time while no client sent or read");
    server.assert_exits_on_sigterm();
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
fn a_client_that_never_stops_sending_costs_no_memory() {
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
        "never stops: {} MiB sent, {growth} KiB more memory, others at most {slowest:?}",
        sent >> 20
    ));
    assert!(growth < KIB_PER_CLIENT_MAX, "memory grew by {growth} KiB");
    assert!(slowest < 4 * RESPONSE_TIME_MAX, "others waited {slowest:?}");
    server.assert_exits_on_sigterm();
}

#[test]
fn a_greeted_client_that_goes_on_sending_is_cut_within_its_bounds() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let descriptors = server.fd_count();
    let before = server.resident_kib();
    let mut client = connect(server.tcp());
    let chunk = vec![b'x'; 64 * 1024];
    let (start, mut sent) = (Instant::now(), 0);
    while let Ok(count) = client.write(&chunk) {
        sent += count;
        assert!(start.elapsed() < Duration::from_secs(10), "it is still read after {sent} bytes");
    }
    let growth = server.resident_kib().saturating_sub(before);
    let (elapsed, kib) = (start.elapsed(), sent / 1024);
    print_measurement(&format!(
        "goes on after its greeting: cut after {kib} KiB in {elapsed:?}, {growth} KiB more memory"
    ));
    assert!(growth < KIB_PER_CLIENT_MAX, "memory grew by {growth} KiB");
    wait_until("the descriptor to come back", || server.fd_count() == descriptors);
    assert_eq!(request(server.tcp()), GREETING);
    server.assert_exits_on_sigterm();
}
