//! Thousands of clients at once: replies, latency, memory.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::network::streams::{GREETING, REQUEST, read_to_end, send};
use support::network::tcp::{connect, connect_many, request};
use support::process::rlimit::raise_fd_limit;
use support::wait::wait_until;

use crate::HALLOO;

/// This process and the server need 10,000 descriptors each, and some more.
#[test]
#[ignore = "needs 12,000 file descriptors"]
fn ten_thousand_clients_at_once_use_200_bytes_each_and_all_are_greeted() {
    raise_fd_limit();
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--events", "off"]);
    let (before, address) = (server.fd_count(), server.tcp());
    let mut clients: Vec<TcpStream> = Vec::new();

    clients.resize_with(1_000, || connect(address));
    wait_until("1,000 connections", || server.fd_count() == before + 1_000);
    let few = server.resident_kib() * 1024;
    clients.resize_with(10_000, || connect(address));
    wait_until("10,000 connections", || server.fd_count() == before + 10_000);
    let many = server.resident_kib() * 1024;
    let bytes_per_client = many.saturating_sub(few) / 9_000;
    assert!(
        bytes_per_client <= 200,
        "an idle connection costs {bytes_per_client} bytes ({few} at 1,000, {many} at 10,000)"
    );

    for client in &clients {
        send(client, REQUEST);
    }
    for client in &clients {
        assert_eq!(read_to_end(client), GREETING);
    }
    wait_until("the descriptors to be closed", || server.fd_count() == before);
}

#[test]
fn beside_500_silent_clients_another_is_answered_within_100_ms() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let silent = connect_many(500, server.tcp());
    wait_until("the connections", || server.fd_count() > silent.len());
    let best = (0..20).map(|_| {
        let start = Instant::now();
        assert_eq!(request(server.tcp()), GREETING);
        start.elapsed()
    });
    let best = best.min().expect("it was asked");
    assert!(best < Duration::from_millis(100), "the fastest of 20 answers took {best:?}");
    // The silent clients are still served.
    for client in silent {
        send(&client, b"at last");
        assert_eq!(read_to_end(&client), GREETING);
    }
}
