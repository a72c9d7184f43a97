//! Resident memory after a burst: it returns to the level before.
//!
//! Each test runs in a process of its own.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use halloo::{EventLoop, Listen, StreamHandler, TimerId, framing, stream};

use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{turn_until, turn_until_idle};
use crate::memory::own_process::{in_own_process, resident_kib};

/// The KiB that may stay after a burst: pooled buffers, and memory that the allocator keeps.
const KIB_LEFT_MAX: u64 = 8 * 1024;

const MILLION: u64 = 1_000_000;

const HOUR: Duration = Duration::from_secs(3_600);

/// Fails if the process is larger after a burst than before.
#[track_caller]
fn assert_returns(events: &mut EventLoop<'_>, what: &str, burst: impl FnOnce(&mut EventLoop<'_>)) {
    turn_until_idle(events);
    let before = resident_kib();
    burst(events);
    let peak = resident_kib();
    turn_until_idle(events);
    let left = resident_kib().saturating_sub(before);
    println!("{what}: {} KiB more at the end of the burst, {left} KiB left", peak.saturating_sub(before));
    assert!(left <= KIB_LEFT_MAX, "{what} leave {left} KiB");
}

/// Room for a million ids. It is so large that the allocator maps it separately, and keeps mapping smaller blocks
/// separately.
fn million_ids() -> Vec<TimerId> {
    Vec::with_capacity(3_000_000)
}

/// Returns a loop with a listener at a unix socket.
fn listening<'a>(at: &Path, handler: impl StreamHandler + 'a) -> EventLoop<'a> {
    let mut events = EventLoop::new().expect("a loop");
    events.listen(Listen::unix(at).idle_timeout(None), handler).expect("a free path");
    events
}

/// Connects, and turns the loop once to accept.
fn connect(events: &mut EventLoop<'_>, to: &Path) -> UnixStream {
    let client = UnixStream::connect(to).expect("it listens");
    client.set_nonblocking(true).expect("an option of every socket");
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    client
}

/// Sends all bytes while the loop turns.
fn send(events: &mut EventLoop<'_>, client: &mut UnixStream, mut bytes: &[u8]) {
    turn_until(events, "all input is sent", |_| {
        match client.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        bytes.is_empty()
    });
}

#[test]
fn after_4000_half_lines_memory_is_returned() {
    in_own_process(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines.sock");
        let mut events = listening(&path, framing::lines(60_000, |_, _| {}));
        let half_line = vec![b'x'; 30_000];
        assert_returns(&mut events, "4,000 half lines", |events| {
            let mut clients = Vec::with_capacity(100_000);
            for _ in 0..4_000 {
                let mut client = connect(events, &path);
                send(events, &mut client, &half_line);
                clients.push(client);
            }
            turn_until(events, "all of the input", |events| events.stats().bytes_received == 4_000 * 30_000);
            drop(clients);
            turn_until(events, "all are closed", |events| events.stats().connections == 0);
        });
    });
}

#[test]
fn after_10000_connections_memory_is_returned() {
    in_own_process(|| {
        const COUNT: usize = 9_500;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("echo.sock");
        let mut events = listening(&path, stream(echo));
        assert_returns(&mut events, "10,000 connections", |events| {
            let mut clients: Vec<UnixStream> = (0..COUNT).map(|_| connect(events, &path)).collect();
            for client in &mut clients {
                client.write_all(b"hello").expect("there is room");
            }
            for client in &mut clients {
                turn_until(events, "the echo", |_| client.read(&mut [0; 8]).is_ok());
            }
            drop(clients);
            turn_until(events, "all are closed", |events| events.stats().connections == 0);
        });
    });
}

#[test]
fn after_a_million_posted_jobs_memory_is_returned() {
    in_own_process(|| {
        let mut events = EventLoop::new().expect("a loop");
        let handle = events.handle();
        assert_returns(&mut events, "a million jobs, one at a time", |events| {
            for number in 0..MILLION {
                let text = [number; 4];
                handle.post(move |_| assert!(text[0] < MILLION)).expect("the loop runs");
                let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
            }
        });
        assert_returns(&mut events, "a million jobs at once", |events| {
            for number in 0..MILLION {
                let text = [number; 4];
                handle.post(move |_| assert!(text[0] < MILLION)).expect("the loop runs");
            }
            turn_until(events, "all have come", |events| events.stats().jobs == 2 * MILLION);
        });
        let poster = events.handle();
        assert_returns(&mut events, "a million jobs of another thread", |events| {
            let thread = std::thread::spawn(move || {
                for number in 0..MILLION {
                    let text = [number; 4];
                    poster.post(move |_| assert!(text[0] < MILLION)).expect("the loop runs");
                }
            });
            thread.join().expect("no panic");
            turn_until(events, "all have come", |events| events.stats().jobs == 3 * MILLION);
        });
    });
}

#[test]
fn after_a_million_timers_set_and_removed_memory_is_returned() {
    in_own_process(|| {
        let mut events = EventLoop::new().expect("a loop");
        let handler = events.attach(stream(echo));
        assert_returns(&mut events, "a million timers, one at a time", |events| {
            for value in 0..MILLION {
                let timer = events.context().schedule(handler, HOUR, value);
                assert!(events.context().remove(timer));
            }
        });
        assert_returns(&mut events, "a million timers at once", |events| {
            let mut timers = million_ids();
            timers.extend((0..MILLION).map(|value| events.context().schedule(handler, HOUR, value)));
            assert!(timers.iter().all(|timer| events.context().remove(*timer)));
        });
        assert_returns(&mut events, "a million closures, one at a time", |events| {
            for value in 0..MILLION {
                let timer = events.every(HOUR, move |_| (value == MILLION).then_some(HOUR));
                assert!(events.context().remove(timer));
            }
        });
        assert_returns(&mut events, "a million closures at once", |events| {
            let mut timers = million_ids();
            timers.extend((0..MILLION).map(|value| events.every(HOUR, move |_| (value == MILLION).then_some(HOUR))));
            assert!(timers.iter().all(|timer| events.context().remove(*timer)));
        });
    });
}
