//! Clients that read slowly, or not at all.
//!
//! The outbox never exceeds its bound, and every byte arrives.

use std::cell::{Cell, RefCell};

use halloo::{Connection, EventLoop, Listen, SendError, stream};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{turn_until, turn_until_idle};

/// Echoes a pattern to a client that reads at most `read_bytes` a turn. Returns the largest outbox length seen.
fn echo_slowly(length: usize, outbox_bytes_max: usize, input_bytes_max: usize, read_bytes: usize) -> usize {
    let at = Listen::from(loopback()).input_bytes_max(input_bytes_max);
    echo_slowly_at(at, length, outbox_bytes_max, read_bytes)
}

fn echo_slowly_at(at: Listen, length: usize, outbox_bytes_max: usize, read_bytes: usize) -> usize {
    let question = byte_pattern(length);
    let pending_max = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        let used = connection.try_write(input);
        pending_max.set(pending_max.get().max(connection.outbox_len()));
        used
    });
    let listener = events.listen(at.outbox_bytes_max(outbox_bytes_max), handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    client.send(&question);
    let mut half_closed = false;
    turn_until(&mut events, "the whole echo", |events| {
        client.flush();
        if client.has_sent_all() && !half_closed {
            client.half_close();
            half_closed = true;
        }
        client.read_up_to(read_bytes);
        let handler = pending_max.get();
        assert!(handler <= outbox_bytes_max, "{handler} bytes in the outbox; {}", events.stats());
        client.end.is_some()
    });
    assert!(client.received == question, "{} of {length} bytes were echoed", client.received.len());
    assert_eq!(client.end, Some(StreamEnd::Eof));
    pending_max.get()
}

#[test]
fn a_slow_reader_of_a_long_echo_gets_every_byte_within_the_outbox_limit() {
    let pending_max = echo_slowly(4 * 1024 * 1024, 64 * 1024, 64 * 1024, 32 * 1024);
    assert_eq!(pending_max, 64 * 1024, "the outbox was full at times");
}

#[test]
fn an_outbox_smaller_than_the_input_still_echoes_every_byte() {
    assert_eq!(echo_slowly(300_000, 1_000, 65_536, 65_536), 1_000);
    assert_eq!(echo_slowly(2_000, 7, 100, 65_536), 7);
    assert_eq!(echo_slowly(300, 1, 1, 65_536), 1);
}

#[test]
fn an_outbox_larger_than_the_input_echoes_every_byte() {
    echo_slowly(1024 * 1024, 300_000, 1_000, 16 * 1024);
}

#[test]
fn while_its_outbox_is_full_a_connection_is_not_read() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(10_000).input_bytes_max(5_000);
    let handler = RecordingHandler::new(&log).on_data(echo);
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    let question = byte_pattern(32 * 1024 * 1024);
    client.send(&question);
    turn_until(&mut events, "the outbox is full", |events| {
        client.flush();
        log.ids().first().is_some_and(|id| events.context().connection(*id).expect("open").outbox_len() == 10_000)
    });
    turn_until_idle(&mut events);
    let stats = events.stats();
    let buffered = stats.bytes_received - stats.bytes_sent;
    assert!((10_000..=15_000).contains(&buffered), "{buffered} bytes in inbox and outbox");
    assert!(!client.has_sent_all(), "the rest has not left the client");
    assert!(log.inputs().iter().all(|input| input.len() <= 5_000), "on_data received more than input_bytes_max");
}

#[test]
fn on_flushed_is_called_once_for_a_write_that_did_not_fit() {
    let log = CallLog::default();
    let consumed = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        consumed.set(
            consumed.get()
                + connection.try_write(&vec![1; 131_072])
                + connection.try_write(&[2; 10])
                + connection.try_write(b"3"),
        );
        input.len()
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.request(&mut events, b"?", 131_072).len(), 131_072);
    turn_until_idle(&mut events);
    assert_eq!((log.count(&Call::Flushed), consumed.get()), (1, 131_072));
}

#[test]
fn on_flushed_is_not_called_for_output_that_the_kernel_accepts_at_once() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(echo);
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    for _ in 0..10 {
        assert_eq!(client.request(&mut events, b"0123456789", 10), b"0123456789");
    }
    turn_until_idle(&mut events);
    assert_eq!(log.count(&Call::Flushed), 0);
}

#[test]
fn on_flushed_follows_a_partial_send() {
    const LENGTH: usize = 16 * 1024 * 1024;
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(LENGTH);
    let handler = RecordingHandler::new(&log).on_open(|connection| connection.send(&vec![5; LENGTH]).is_ok());
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| !log.ids().is_empty());
    turn_until_idle(&mut events);
    assert_eq!(log.count(&Call::Flushed), 0, "on_flushed was called while output was waiting");
    turn_until(&mut events, "the whole message", |_| client.has_received(LENGTH));
    turn_until_idle(&mut events);
    assert_eq!(log.count(&Call::Flushed), 1);
}

/// Writes the rest of the product, and closes after its last byte.
fn produce(connection: &mut Connection<'_>, product: &[u8], produced: &Cell<usize>) {
    produced.set(produced.get() + connection.try_write(&product[produced.get()..]));
    if produced.get() == product.len() {
        connection.close();
    }
}

#[test]
fn on_flushed_is_called_at_most_once_a_turn_and_a_producer_that_waits_for_it_sends_everything() {
    for (length, outbox_bytes_max) in [(3 * 1024 * 1024, 65_536), (20_000, 100)] {
        let (log, turns) = (CallLog::default(), RefCell::new(Vec::new()));
        let (product, produced) = (byte_pattern(length), Cell::new(0));
        let mut events = EventLoop::new().expect("a loop");
        let handler = RecordingHandler::new(&log)
            .on_open(|connection| {
                produce(connection, &product, &produced);
                true
            })
            .on_flushed(|connection| {
                turns.borrow_mut().push(connection.context().stats().turns);
                assert_eq!(connection.outbox_len(), 0);
                produce(connection, &product, &produced);
            });
        let at = Listen::from(loopback()).outbox_bytes_max(outbox_bytes_max);
        let listener = events.listen(at, handler).expect("a listener");
        let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
        let (received, end) = client.read_to_end(&mut events);
        assert!(received == product, "{} bytes received", received.len());
        assert_eq!(end, StreamEnd::Eof);
        assert_eq!(
            turns.borrow().len(),
            length.div_ceil(outbox_bytes_max) - 1,
            "on_flushed is called once for each full outbox"
        );
        assert!(turns.borrow().is_sorted_by(|one, next| one < next), "twice in a turn: {turns:?}");
    }
}

#[test]
fn send_takes_a_message_whole_or_not_at_all() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(100);
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        assert_eq!(connection.send(&[b'a'; 101]), Err(SendError::TooLong));
        assert_eq!(connection.outbox_len(), 0);
        assert_eq!(connection.send(&[b'b'; 60]), Ok(()));
        assert_eq!(connection.send(&[b'c'; 41]), Err(SendError::Full));
        assert_eq!(connection.outbox_len(), 60);
        assert_eq!(connection.send(&[b'd'; 40]), Ok(()));
        assert_eq!(connection.send(b"e"), Err(SendError::Full));
        assert_eq!(connection.send(b""), Ok(()));
        assert_eq!((connection.outbox_len(), connection.outbox_bytes_max()), (100, 100));
        input.len()
    });
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    let expected = [[b'b'; 60].as_slice(), &[b'd'; 40]].concat();
    assert_eq!(client.request(&mut events, b"?", 100), expected);
    turn_until_idle(&mut events);
    assert_eq!(client.received.len(), 100);
    assert_eq!(log.count(&Call::Flushed), 1);
}

#[test]
fn a_message_that_can_never_fit_is_refused_without_a_busy_loop() {
    let tries = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(100);
    let handler = stream(|connection, input| {
        tries.set(tries.get() + 1);
        connection.send(input).map_or(0, |()| input.len())
    });
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&byte_pattern(101));
    turn_until(&mut events, "on_data is called", |_| tries.get() > 0);
    turn_until_idle(&mut events);
    assert!(tries.get() <= 3, "{} calls for a message that can never fit", tries.get());
}

/// Returns the bytes that the kernel accepts for a client that reads nothing, the client's receive buffer included.
fn bytes_taken(at: Listen) -> u64 {
    let log = CallLog::default();
    // One byte more than the outbox holds, so that `on_flushed` is called when there is room again.
    let write = |connection: &mut Connection<'_>| connection.try_write(&vec![b'x'; 65_537]) > 0;
    let handler = RecordingHandler::new(&log).on_open(write).on_flushed(move |connection| {
        write(connection);
    });
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(at, handler).expect("a listener");
    let _client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the connection is open", |events| events.stats().accepted == 1);
    turn_until_idle(&mut events);
    events.stats().bytes_sent
}

#[test]
fn send_buffer_bytes_bounds_the_kernel_memory_of_a_client_that_does_not_read() {
    let bytes = bytes_taken(Listen::from(loopback()).send_buffer_bytes(16 * 1024));
    let systems = bytes_taken(Listen::from(loopback()));
    assert!(bytes < 64 * 1024 && bytes < systems, "{bytes} bytes, and {systems} with the system's buffer");
}

#[test]
#[cfg(target_os = "linux")]
fn tcp_notsent_lowat_bounds_the_kernel_memory_of_a_client_that_does_not_read() {
    let bytes = bytes_taken(Listen::from(loopback()).tcp_notsent_lowat(16 * 1024));
    let systems = bytes_taken(Listen::from(loopback()));
    assert!(bytes < 128 * 1024 && bytes < systems, "{bytes} bytes, and {systems} with the system's buffer");
}

#[test]
#[cfg(target_os = "linux")]
fn with_tcp_notsent_lowat_a_slow_reader_gets_every_byte() {
    for lowat in [1, 16 * 1024] {
        let at = Listen::from(loopback()).tcp_notsent_lowat(lowat);
        assert_eq!(
            echo_slowly_at(at, 2 * 1024 * 1024, 64 * 1024, 32 * 1024),
            64 * 1024,
            "the outbox was full at times"
        );
    }
}
