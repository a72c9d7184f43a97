//! Resident memory while 100 MiB pass through an echo or a proxy.
//!
//! Each test runs in a process of its own, over unix sockets.

use std::path::Path;

use halloo::{Connect, EventLoop, Listen, StreamHandler, stream};
use support::byte_pattern::byte_pattern;

use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::turn_until;
use crate::memory::own_process::{in_own_process, resident_kib};
use crate::outbound::proxy_handler::Proxy;

const BLOCK: usize = 1024 * 1024;
const BLOCKS: usize = 100;

/// For the client's buffers and the allocator. A leak of one twentieth of the traffic exceeds it.
const GROWTH_KIB_MAX: u64 = 4 * 1024;

/// Sends 100 MiB and reads them back slowly. Returns the largest growth of the process, in KiB.
fn send_and_read_back(events: &mut EventLoop<'_>, client: &mut Client) -> u64 {
    let block = byte_pattern(BLOCK);
    let (mut blocks_sent, mut read, mut most, mut has_ended) = (0, 0, 0, false);
    let before = resident_kib();
    turn_until(events, "the end of 100 MiB", |_| {
        client.flush();
        if client.has_sent_all() && blocks_sent < BLOCKS {
            blocks_sent += 1;
            client.send(&block);
        } else if client.has_sent_all() && !has_ended {
            client.half_close();
            has_ended = true;
        }
        // The client reads less in a turn than the loop can send, so that unsent output accumulates.
        client.read_up_to(48 * 1024);
        let expected = &block[read % BLOCK..];
        let count = expected.len().min(client.received.len());
        assert!(client.received[..count] == expected[..count], "the echo differs at byte {read}");
        client.received.drain(..count);
        read += count;
        most = most.max(resident_kib());
        client.end.is_some() && client.received.is_empty()
    });
    assert_eq!((client.end, read), (Some(StreamEnd::Eof), BLOCK * BLOCKS));
    most.saturating_sub(before)
}

fn listen<'a>(events: &mut EventLoop<'a>, at: &Path, handler: impl StreamHandler + 'a) {
    events.listen(Listen::unix(at), handler).expect("a free path");
}

#[test]
fn an_echo_of_100_mib_to_a_slow_reader_does_not_grow_memory() {
    in_own_process(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("echo.sock");
        let mut events = EventLoop::new().expect("a loop");
        listen(&mut events, &path, stream(echo));
        let grown = send_and_read_back(&mut events, &mut Client::connect_unix(&path));
        println!("100 MiB echoed: {grown} KiB more");
        assert!(grown < GROWTH_KIB_MAX, "memory grew by {grown} KiB");
    });
}

#[test]
fn a_proxy_of_100_mib_to_a_slow_reader_does_not_grow_memory() {
    in_own_process(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, behind) = (folder.path().join("proxy.sock"), folder.path().join("echo.sock"));
        let mut events = EventLoop::new().expect("a loop");
        listen(&mut events, &behind, stream(echo));
        listen(&mut events, &path, Proxy { to: Connect::unix(&behind) });
        let grown = send_and_read_back(&mut events, &mut Client::connect_unix(&path));
        println!("100 MiB proxied: {grown} KiB more");
        assert!(grown < GROWTH_KIB_MAX, "memory grew by {grown} KiB");
    });
}
