//! Output without a copy, in parts, and through `io::Write`.
//!
//! Every byte arrives in order, and the outbox keeps its bound.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Write};
use std::sync::Mutex;

use halloo::{Connection, EventLoop, Listen, SendError, SharedBytes, stream};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd, send_all};
use crate::helpers::recording_handler::{CallLog, RecordingHandler};
use crate::helpers::turn_until::{turn_until, turn_until_idle};
use crate::memory::own_process::in_own_process;

/// Runs a callback at the first input of a client, with an outbox of the given size. Returns what the client reads.
fn received_from(outbox_bytes_max: usize, mut callback: impl FnMut(&mut Connection<'_>)) -> Vec<u8> {
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        callback(connection);
        connection.close();
        input.len()
    });
    let at = Listen::from(loopback()).outbox_bytes_max(outbox_bytes_max);
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"?");
    let (received, end) = client.read_to_end(&mut events);
    assert_eq!(end, StreamEnd::Eof);
    received.to_vec()
}

#[test]
fn shared_and_copied_bytes_arrive_in_the_order_they_were_sent() {
    let shared = SharedBytes::from(byte_pattern(30_000));
    let expected = [b"head ", &shared[..], b" middle ", &shared[5_000..20_000], &shared[..100], b" tail"].concat();
    let received = received_from(100_000, |connection| {
        connection.send(b"head ").expect("there is room");
        connection.send_shared(&shared).expect("there is room");
        connection.send(b" middle ").expect("there is room");
        connection.send_shared(&shared.slice(5_000..20_000)).expect("there is room");
        connection.send_shared(&shared.slice(..100)).expect("there is room");
        connection.send(b" tail").expect("there is room");
        assert_eq!(connection.outbox_len(), expected.len());
    });
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
}

#[test]
fn more_shared_buffers_than_one_call_sends_arrive_in_order() {
    let parts: Vec<Vec<u8>> = (0..50).map(|part| byte_pattern(4_096 + part)).collect();
    let received = received_from(1_000_000, |connection| {
        for part in &parts {
            connection.send(b"|").expect("there is room");
            connection.send_shared(&SharedBytes::from(part.clone())).expect("there is room");
        }
    });
    let expected: Vec<u8> = parts.iter().flat_map(|part| [b"|", &part[..]].concat()).collect();
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
}

#[test]
fn a_slow_reader_gets_every_byte_of_shared_output_and_the_outbox_keeps_its_bound() {
    const OUTBOX_BYTES_MAX: usize = 64 * 1024;
    let whole = SharedBytes::from(byte_pattern(8 * 1024 * 1024));
    let (rest, most) = (RefCell::new(whole.clone()), Cell::new(0));
    let write = |connection: &mut Connection<'_>| {
        let taken = connection.try_write_shared(&rest.borrow());
        rest.replace_with(|rest| rest.slice(taken..));
        most.set(most.get().max(connection.outbox_len()));
        if rest.borrow().is_empty() {
            connection.close();
        }
    };
    let log = CallLog::default();
    let handler = RecordingHandler::new(&log)
        .on_data(|connection, input| {
            write(connection);
            input.len()
        })
        .on_flushed(write);
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(OUTBOX_BYTES_MAX);
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    client.send(b"?");
    turn_until(&mut events, "the end", |_| {
        client.read_up_to(10_000);
        client.end.is_some()
    });
    assert!(client.received == whole[..], "{} of {} bytes", client.received.len(), whole.len());
    assert_eq!(most.get(), OUTBOX_BYTES_MAX, "the outbox was full at times, and never held more");
}

#[test]
fn a_shared_message_is_taken_whole_or_not_at_all() {
    let shared = SharedBytes::from(vec![b's'; 10_000]);
    let received = received_from(15_000, |connection| {
        assert_eq!(connection.send_shared(&SharedBytes::from(vec![0; 15_001])), Err(SendError::TooLong));
        connection.send_shared(&shared).expect("there is room");
        assert_eq!(connection.send_shared(&shared), Err(SendError::Full));
        assert_eq!(connection.send(&[0; 5_001]), Err(SendError::Full));
        assert_eq!(connection.try_write_shared(&shared), 5_000);
        assert_eq!(connection.try_write_shared(&shared), 0);
        connection.close();
        assert_eq!(connection.send_shared(&shared), Err(SendError::Closed));
    });
    assert_eq!(received.len(), 15_000);
}

#[test]
fn a_buffer_that_many_connections_send_counts_once_and_is_freed_when_the_last_has_sent_it() {
    const CLIENTS: usize = 40;
    let shared = RefCell::new(SharedBytes::from(byte_pattern(1_000_000)));
    let mut events = EventLoop::new().expect("a loop");
    // Memory for one buffer, and not for two.
    events.buffer_bytes_max(2 * 1024 * 1024);
    let handler = stream(|connection, input| {
        let _ = connection.send_shared(&shared.borrow());
        connection.close();
        input.len()
    });
    let at = Listen::from(loopback()).outbox_bytes_max(1_200_000).send_buffer_bytes(4_096);
    let listener = events.listen(at, handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect_narrow(address)).collect();
    send_all(&mut clients, b"?");
    turn_until(&mut events, "all requests are read", |events| events.stats().bytes_received == CLIENTS as u64);
    turn_until_idle(&mut events);
    assert_eq!(events.stats().connections, CLIENTS as u64, "no connection has closed: {}", events.stats());
    // Another buffer has no room until the first is sent: its connection is reset.
    let expected = shared.replace(SharedBytes::from(vec![b'x'; 1_200_000]));
    let mut late = Client::connect(address);
    late.send(b"?");
    assert_eq!(late.read_to_end(&mut events).1, StreamEnd::Reset);
    for client in &mut clients {
        let (received, end) = client.read_to_end(&mut events);
        assert!(received == &expected[..] && end == StreamEnd::Eof, "{} bytes, {end:?}", received.len());
    }
    let mut last = Client::connect(address);
    last.send(b"?");
    let (received, end) = last.read_to_end(&mut events);
    assert_eq!((received.len(), end), (1_200_000, StreamEnd::Eof), "there is room again");
}

#[test]
fn a_message_in_parts_is_taken_whole_or_not_at_all() {
    let received = received_from(10, |connection| {
        assert_eq!(connection.send_parts(&[b"12345", b"67890", b"1"]), Err(SendError::TooLong));
        assert_eq!(connection.send_parts(&[b"123", b"", b"45"]), Ok(()));
        assert_eq!(connection.send_parts(&[b"678", b"901"]), Err(SendError::Full));
        assert_eq!(connection.send_parts(&[]), Ok(()));
        assert_eq!(connection.send_parts(&[b"67", b"890"]), Ok(()));
    });
    assert_eq!(received, b"1234567890");
}

#[test]
fn a_connection_is_written_to_through_io_write() {
    let kind = |outcome: io::Result<usize>| outcome.map_err(|error| error.kind());
    let received = received_from(20, |connection| {
        write!(connection, "Hello {}", 40 + 2).expect("there is room");
        connection.flush().expect("it does nothing");
        let slices = [&b", "[..], b"", b"TCP"].map(IoSlice::new);
        assert_eq!(kind(connection.write_vectored(&slices)), Ok(5));
        assert_eq!(connection.write_all(b"12345678").map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        assert_eq!(kind(connection.write(b"x")), Err(io::ErrorKind::WouldBlock));
        assert_eq!(kind(connection.write_vectored(&slices)), Err(io::ErrorKind::WouldBlock));
        assert_eq!((kind(connection.write(b"")), connection.outbox_len()), (Ok(0), 20));
        connection.close();
        assert_eq!(kind(connection.write(b"x")), Err(io::ErrorKind::BrokenPipe));
    });
    assert_eq!(received, b"Hello 42, TCP1234567", "write_all leaves the part that fitted");
}

/// Records log lines, of a process with one test.
struct Recorder(Mutex<Vec<String>>);

static RECORDER: Recorder = Recorder(Mutex::new(Vec::new()));

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().expect("no line panics").push(format!("{} {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

#[test]
fn a_message_that_never_fits_is_logged_at_debug_and_one_that_fits_later_is_not() {
    in_own_process(|| {
        log::set_logger(&RECORDER).expect("the process has no other");
        log::set_max_level(log::LevelFilter::Debug);
        received_from(10, |connection| {
            assert_eq!(connection.send(b"12345678901"), Err(SendError::TooLong));
            assert_eq!(connection.send(b"1234567890"), Ok(()));
            assert_eq!(connection.send(b"1"), Err(SendError::Full));
        });
        let lines = RECORDER.0.lock().expect("no line panics");
        let lines: Vec<&String> = lines.iter().filter(|line| line.contains("cannot send")).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("DEBUG 127.0.0.1:"), "{lines:?}");
        assert!(lines[0].contains("11 bytes") && lines[0].contains("outbox_bytes_max (10)"), "{lines:?}");
    });
}
