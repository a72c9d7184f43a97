//! Clients that reset, flood, never read or send byte by byte.
//!
//! Other clients are served meanwhile, and no descriptor is lost.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use support::network::streams::{GREETING, REQUEST, read_exactly, read_to_end, read_until_closed, send};
use support::network::tcp::{connect, connect_many, half_close, request, request_with, reset, send_request};
use support::process::server::Server;
use support::wait::{TIMEOUT, assert_holds_for, repeat_every, wait_until};

use crate::HALLOO;

/// The longest response time of another client.
const OTHER_CLIENT_WAIT_MAX: Duration = Duration::from_secs(1);

/// For a client without activity.
const CPU_TIME_MAX: Duration = Duration::from_millis(200);

fn start() -> Server {
    HALLOO.start(&["--tcp", "127.0.0.1:0", "--events", "off"])
}

/// Checks the best of three response times: other tests use the processor too.
#[track_caller]
fn assert_others_are_served(to: SocketAddr) {
    let tries = (0..3).map(|_| {
        let start = Instant::now();
        assert_eq!(request(to), GREETING);
        start.elapsed()
    });
    let best = tries.min().expect("it was asked");
    assert!(best < OTHER_CLIENT_WAIT_MAX, "other clients waited {best:?}");
}

/// Fails unless the descriptors are closed, other clients are served, and the log has no warning.
#[track_caller]
fn assert_resources_released(mut server: Server, descriptors: usize) {
    wait_until("the descriptors to be closed", || server.fd_count() == descriptors);
    assert_others_are_served(server.tcp());
    server.assert_exits_on_sigterm();
    let log = server.stderr.text();
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
}

#[test]
fn a_client_that_resets_at_any_moment_ends_only_its_own_connection() {
    let server = start();
    let descriptors = server.fd_count();
    for _ in 0..20 {
        reset(connect(server.tcp()));
        reset(send_request(server.tcp()));
        let silent = connect(server.tcp());
        assert_eq!(request(server.tcp()), GREETING);
        reset(silent);
    }
    assert_resources_released(server, descriptors);
}

#[test]
fn clients_that_reset_before_accept_are_skipped() {
    let server = start();
    let descriptors = server.fd_count();
    server.pause();
    let between: Vec<TcpStream> = (0..20)
        .map(|_| {
            reset(connect(server.tcp()));
            reset(send_request(server.tcp()));
            send_request(server.tcp())
        })
        .collect();
    server.resume();
    for client in &between {
        assert_eq!(read_to_end(client), GREETING);
    }
    assert_resources_released(server, descriptors);
}

#[test]
fn a_client_that_half_closes_gets_its_reply_with_or_without_a_request() {
    let server = start();
    let descriptors = server.fd_count();
    for _ in 0..20 {
        assert_eq!(request_with(server.tcp(), REQUEST), GREETING);
        assert_eq!(request_with(server.tcp(), b""), GREETING);
    }
    assert_resources_released(server, descriptors);
}

#[test]
fn a_client_that_sends_one_byte_at_a_time_gets_its_greeting_and_eof() {
    let server = start();
    let descriptors = server.fd_count();
    for _ in 0..20 {
        let mut client = connect(server.tcp());
        SockRef::from(&client).set_tcp_nodelay(true).expect("an option of every stream");
        // A send after the greeting may fail, because the connection is closed by then.
        let sent = REQUEST.iter().take_while(|byte| client.write_all(&[**byte]).is_ok()).count();
        assert!(sent > 0);
        assert_eq!(read_exactly(&client, GREETING.len()), GREETING.as_bytes());
        let end = client.read(&mut [0; 1]);
        assert!(end.is_err() || end.is_ok_and(|count| count == 0), "something follows the greeting");
    }
    assert_resources_released(server, descriptors);
}

#[test]
fn a_client_that_sends_much_before_it_reads_gets_the_whole_greeting_and_then_eof() {
    let server = start();
    let descriptors = server.fd_count();
    let question = vec![b'?'; 60_000];
    for _ in 0..100 {
        for length in [1_025, 20_000, 60_000] {
            // In one write, and in segments as on a network. Most segments arrive after the reply was sent.
            for segment in [length, 1_460] {
                let client = connect(server.tcp());
                SockRef::from(&client).set_tcp_nodelay(true).expect("an option of every stream");
                question[..length].chunks(segment).for_each(|part| send(&client, part));
                assert_eq!(read_to_end(&client), GREETING, "after {length} bytes in parts of {segment}");
            }
        }
    }
    assert_resources_released(server, descriptors);
}

#[test]
fn a_client_that_never_stops_sending_is_closed_and_does_not_delay_other_clients() {
    let server = start();
    let descriptors = server.fd_count();
    let address = server.tcp();
    let flood = move || {
        let mut client = connect(address);
        let end = Instant::now() + TIMEOUT;
        while Instant::now() < end {
            if client.write_all(&[b'x'; 16 * 1024]).is_err() {
                return true;
            }
        }
        false
    };
    let floods: Vec<_> = (0..3).map(|_| thread::spawn(flood)).collect();
    while !floods.iter().all(thread::JoinHandle::is_finished) {
        assert_others_are_served(address);
    }
    for flood in floods {
        assert!(flood.join().expect("it only sends"), "a flood was never cut");
    }
    assert_resources_released(server, descriptors);
}

#[test]
fn an_endless_flood_uses_no_memory_and_delays_no_client() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "discard", "--events", "off"]);
    let address = server.tcp();
    let mut flood = connect(address);
    let total: usize = 64 * 1024 * 1024;
    let sender = thread::spawn(move || {
        let chunk = vec![b'x'; 256 * 1024];
        (0..total / chunk.len()).for_each(|_| flood.write_all(&chunk).expect("it is read"));
        half_close(&flood);
        read_until_closed(&flood)
    });
    let before = server.resident_kib();
    let mut best = TIMEOUT;
    while !sender.is_finished() {
        let start = Instant::now();
        assert_eq!(request_with(address, b"hello"), "");
        best = best.min(start.elapsed());
        let growth = server.resident_kib().saturating_sub(before);
        assert!(growth < 4 * 1024, "memory grew by {growth} KiB");
    }
    assert_eq!(sender.join().expect("it only sends"), b"");
    assert!(best < OTHER_CLIENT_WAIT_MAX, "other clients waited {best:?}");
}

#[test]
fn an_unread_echo_stops_and_continues_when_the_client_reads() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "echo", "--events", "off"]);
    // Small buffers in the client keep few bytes in flight.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("an option of every socket");
    socket.set_send_buffer_size(64 * 1024).expect("an option of every socket");
    socket.connect(&server.tcp().into()).expect("the server listens");
    let mut client = TcpStream::from(socket);
    let sent: Vec<u8> = (0..10 * 1024 * 1024_u32).map(|number| (number / 1021).to_le_bytes()[0]).collect();
    let before = server.resident_kib();

    client.set_nonblocking(true).expect("an option of every stream");
    let (mut offset, mut last_progress) = (0, Instant::now());
    wait_until("the echo to stop", || {
        match client.write(&sent[offset..]) {
            Ok(count) => (offset, last_progress) = (offset + count, Instant::now()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        last_progress.elapsed() > Duration::from_millis(300)
    });
    assert!(offset < sent.len(), "the server took everything though the client read nothing");
    let growth = server.resident_kib().saturating_sub(before);
    assert!(growth < 2 * 1024, "the memory grew by {growth} KiB");
    let before = server.cpu_time();
    assert_holds_for(Duration::from_millis(500), "other clients are served", || {
        request_with(server.tcp(), b"hello") == "hello"
    });
    let used = server.cpu_time_since(before);
    assert!(used < CPU_TIME_MAX, "{used:?} of processor time went to a client that does nothing");

    client.set_nonblocking(false).expect("an option of every stream");
    client.set_read_timeout(Some(TIMEOUT)).expect("an option of every stream");
    let mut writer = client.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent[offset..]).expect("the echo goes on");
            half_close(&writer);
        });
        assert!(read_until_closed(&client) == sent, "the echo differs from what was sent");
    });
}

#[test]
fn an_urgent_byte_causes_neither_a_stall_nor_a_busy_loop() {
    let server = start();
    let descriptors = server.fd_count();
    let before = server.cpu_time();
    let clients = connect_many(5, server.tcp());
    for client in &clients {
        assert_eq!(SockRef::from(client).send_out_of_band(b"!").expect("it is connected"), 1);
    }
    assert_holds_for(Duration::from_millis(500), "other clients are served", || request(server.tcp()) == GREETING);
    let used = server.cpu_time_since(before);
    assert!(used < CPU_TIME_MAX, "{used:?} of processor time went to clients that do nothing");
    for client in &clients {
        send(client, REQUEST);
        assert_eq!(read_to_end(client), GREETING);
    }
    drop(clients);
    assert_resources_released(server, descriptors);
}

#[test]
fn a_trickle_without_a_line_end_is_closed_by_the_idle_timeout() {
    let arguments = ["--tcp", "127.0.0.1:0", "--mode", "line", "--idle-timeout", "400ms", "--events", "off"];
    let server = HALLOO.start(&arguments);
    let mut client = connect(server.tcp());
    let start = Instant::now();
    // A byte that finishes no line is no progress.
    repeat_every(Duration::from_millis(50), || client.write_all(b"x").is_ok());
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(400), "it was cut after {elapsed:?}");
    assert!(elapsed < TIMEOUT, "a byte every 50 ms kept the connection open");
}
