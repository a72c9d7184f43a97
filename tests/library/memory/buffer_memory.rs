//! Memory of clients that send and never read, each and in total.
//!
//! Each test runs in a process of its own, over unix sockets.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use halloo::{Connection, EventLoop, Listen, stream};

use crate::helpers::turn_until::turn_until_idle;
use crate::memory::own_process::{in_own_process, resident_kib};

const CLIENTS: u64 = 400;

/// An inbox and an outbox of 128 KiB, plus one eighth.
const KIB_PER_CLIENT_MAX: u64 = 2 * (128 + 16);

/// Per connection beyond the total maximum: an inbox and an outbox of 4 KiB, plus one eighth.
const SHARE_KIB: u64 = 9;

/// For tables, and memory that the allocator keeps.
const SLACK_KIB: u64 = 2 * 1024;

/// Answers each byte until the outbox is full.
fn answer_at_length(connection: &mut Connection<'_>, _: &[u8]) -> usize {
    while connection.try_write(&[b'x'; 10_000]) > 0 {}
    1
}

/// Clients send until neither side accepts more. Returns how many KiB the process has grown.
fn growth_by_stuck_clients(buffer_bytes_max: Option<usize>) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("long.sock");
    let mut events = EventLoop::new().expect("a loop");
    if let Some(bytes) = buffer_bytes_max {
        events.buffer_bytes_max(bytes);
    }
    let at = Listen::unix(&path).idle_timeout(None).write_timeout(None);
    events.listen(at, stream(answer_at_length)).expect("a free path");
    let chunk = vec![b'x'; 150_000];
    let before = resident_kib();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = UnixStream::connect(&path).expect("it listens");
        client.set_nonblocking(true).expect("an option of every socket");
        clients.push(client);
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    }
    let mut most = 0;
    for client in &mut clients {
        for _ in 0..100 {
            match client.write(&chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The connection was reset. Other clients may still send.
                Err(_) => break,
            }
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        }
        // Reads a little, so that the outbox has sent bytes before its unsent ones.
        for _ in 0..8 {
            let _ = client.read(&mut [0; 8_000]);
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        }
        most = most.max(resident_kib());
    }
    if buffer_bytes_max.is_none() {
        turn_until_idle(&mut events);
        assert_eq!(events.stats().connections, CLIENTS, "{}", events.stats());
    }
    most.saturating_sub(before)
}

#[test]
fn a_client_that_never_reads_uses_at_most_one_inbox_and_one_outbox() {
    in_own_process(|| {
        let growth = growth_by_stuck_clients(None);
        println!("{CLIENTS} clients that never read: {growth} KiB, {} KiB each", growth / CLIENTS);
        assert!(growth >= CLIENTS * 256, "the clients are not stuck: {growth} KiB");
        assert!(growth <= CLIENTS * KIB_PER_CLIENT_MAX + SLACK_KIB, "{growth} KiB");
    });
}

#[test]
fn clients_that_never_read_together_use_at_most_buffer_bytes_max_and_a_share_each() {
    in_own_process(|| {
        const KIB_MAX: u64 = 16 * 1024;
        let growth = growth_by_stuck_clients(Some(16 * 1024 * 1024));
        println!("{CLIENTS} clients that never read, {KIB_MAX} KiB for all: {growth} KiB");
        assert!(growth >= KIB_MAX / 2, "the clients do not come near the maximum: {growth} KiB");
        assert!(growth <= KIB_MAX + CLIENTS * SHARE_KIB + SLACK_KIB, "{growth} KiB");
    });
}
