//! A limited address space: the loop continues when memory is refused.
//!
//! Each test runs in a process of its own, over unix sockets.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use halloo::{CloseReason, EventLoop, Listen, framing};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::helpers::turn_until::turn_until;
use crate::memory::own_process::in_own_process;

/// Listens at a unix socket and echoes lines.
fn answer_lines(events: &mut EventLoop<'_>, at: &Path) {
    let answer = framing::lines(60_000, |connection, line| {
        let _ = connection.send(line);
        let _ = connection.send(b"\n");
    });
    events.listen(Listen::unix(at).idle_timeout(None), answer).expect("a free path");
}

/// Limits the address space to its present size plus `more` bytes.
fn limit_address_space(more: u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("there is a /proc");
    let pages: u64 = statm.split(' ').next().and_then(|field| field.parse().ok()).expect("size is the first field");
    setrlimit(Resource::RLIMIT_AS, pages * 4096 + more, RLIM_INFINITY).expect("a limit may be lowered");
}

fn lift_limit() {
    setrlimit(Resource::RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY).expect("a soft limit may be raised");
}

fn connect(to: &Path) -> UnixStream {
    let client = UnixStream::connect(to).expect("it listens");
    client.set_nonblocking(true).expect("an option of every socket");
    client
}

/// Sends a line and reads the echo.
fn assert_is_served(events: &mut EventLoop<'_>, client: &mut UnixStream) {
    client.write_all(b"hello\n").expect("there is room");
    let mut answer = [0; 16];
    turn_until(events, "the answer", |_| match client.read(&mut answer) {
        Ok(count) => count == 6,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("no answer: {error}"),
    });
}

#[test]
fn without_memory_for_an_inbox_its_connection_is_reset_and_the_loop_continues() {
    in_own_process(|| {
        const COUNT: usize = 4_576;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines.sock");
        let mut events = EventLoop::new().expect("a loop");
        answer_lines(&mut events, &path);
        let half_line = vec![b'x'; 50_000];
        let mut clients = Vec::with_capacity(COUNT);
        limit_address_space(64 * 1024 * 1024);
        for _ in 0..COUNT {
            let mut client = connect(&path);
            client.write_all(&half_line).expect("there is room");
            clients.push(client);
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        }
        // There is memory for a short line, though the other clients use all the rest.
        let mut client = connect(&path);
        assert_is_served(&mut events, &mut client);
        let resets = events.stats().closed(CloseReason::OutOfMemory);
        assert!(resets > 0, "the limit had no effect: {}", events.stats());
        assert_eq!(events.stats().connections, COUNT as u64 + 1 - resets, "{}", events.stats());
        lift_limit();
    });
}

#[test]
fn without_memory_for_the_tables_new_clients_wait_in_the_backlog() {
    in_own_process(|| {
        const COUNT: usize = 6_000;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lines.sock");
        let mut events = EventLoop::new().expect("a loop");
        answer_lines(&mut events, &path);
        let (mut clients, mut ballast) = (Vec::with_capacity(COUNT), Vec::<Vec<u8>>::with_capacity(10_000));
        limit_address_space(1024 * 1024);
        // Fill the free blocks that the allocator has for large tables.
        let mut block = Vec::new();
        while block.try_reserve_exact(100 * 1024).is_ok() {
            ballast.push(std::mem::take(&mut block));
        }
        // The test program's own small allocations need some memory.
        ballast.truncate(ballast.len() - 2);
        while events.stats().accept_errors == 0 {
            clients.push(connect(&path));
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
            assert!(clients.len() < COUNT, "no table was refused: {}", events.stats());
        }
        assert!(events.stats().accepted > 2_000, "{}", events.stats());
        assert_is_served(&mut events, &mut clients[0]);
        drop(ballast);
        lift_limit();
        let mut last = clients.pop().expect("many clients");
        assert_is_served(&mut events, &mut last);
    });
}
