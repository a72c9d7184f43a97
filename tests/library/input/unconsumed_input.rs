//! Input that a handler does not consume.
//!
//! It is delivered again only after a change.

use std::cell::Cell;

use halloo::{CloseReason, Connection, EventLoop, Listen};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{turn_until, turn_until_idle};

/// Resumes every connection between two turns.
fn resume_all(events: &mut EventLoop<'_>, log: &CallLog) {
    for id in log.ids() {
        if let Some(mut connection) = events.context().connection(id) {
            connection.resume();
        }
    }
}

#[test]
fn the_rest_is_delivered_again_with_new_bytes() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|_, input| input.len() / 2);
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"abcd");
    turn_until(&mut events, "the input reaches on_data", |_| log.inputs().len() == 1);
    turn_until_idle(&mut events);
    client.send(b"ef");
    turn_until(&mut events, "the input reaches on_data", |_| log.inputs().len() == 2);
    turn_until_idle(&mut events);
    assert_eq!(log.inputs(), [&b"abcd"[..], b"cdef"]);
}

#[test]
fn the_rest_is_not_delivered_again_without_a_change() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_data(|_, _| 0)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut client = Client::connect(address);
    client.send(b"whatever");
    turn_until(&mut events, "the input reaches on_data", |_| !log.inputs().is_empty());
    let mut other = Client::connect(address);
    for _ in 0..5 {
        other.send(b"x");
        turn_until_idle(&mut events);
    }
    assert_eq!(log.of(log.ids()[0]), [Call::Open, Call::Data(b"whatever".to_vec())]);
}

#[test]
fn the_rest_is_delivered_again_after_resume() {
    let log = CallLog::default();
    let pauses = Cell::new(true);
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        if pauses.replace(false) {
            connection.pause();
            1
        } else {
            input.len()
        }
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"abc");
    turn_until(&mut events, "the input reaches on_data", |_| !log.inputs().is_empty());
    client.send(b"d");
    turn_until_idle(&mut events);
    assert_eq!(log.inputs(), [b"abc"], "on_data was called during the pause");
    resume_all(&mut events, &log);
    turn_until(&mut events, "all input reaches on_data", |_| log.inputs().len() == 3);
    assert_eq!(log.inputs(), [&b"abc"[..], b"bc", b"d"]);
}

#[test]
fn unused_input_is_delivered_again_after_on_flushed() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(4);
    let handler = RecordingHandler::new(&log).on_data(echo);
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.request(&mut events, b"0123456789", 10), b"0123456789");
    turn_until_idle(&mut events);
    assert_eq!(log.inputs(), [&b"0123456789"[..], b"456789", b"89"]);
    assert_eq!(log.count(&Call::Flushed), 2);
}

#[test]
fn at_eof_the_rest_is_delivered_while_it_is_consumed_and_then_on_eof_is_called_once() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_data(|_, _| 1)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"abc");
    client.half_close();
    assert_eq!(client.read_to_end(&mut events), (&b""[..], StreamEnd::Eof));
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    let data = |bytes: &[u8]| Call::Data(bytes.to_vec());
    assert_eq!(
        log.all(),
        [Call::Open, data(b"abc"), data(b"bc"), data(b"c"), Call::Eof, Call::Closed(CloseReason::Eof)]
    );
}

#[test]
fn at_eof_an_unconsumed_rest_leads_to_one_on_eof() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|_, _| 0).on_eof(|_| {});
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"half a questi");
    client.half_close();
    turn_until(&mut events, "EOF is reported", |_| log.count(&Call::Eof) == 1);
    turn_until_idle(&mut events);
    assert_eq!((log.count(&Call::Eof), log.rests()), (1, vec![b"half a questi".to_vec()]));
    let delivered = log.inputs().len();
    events.context().connection(log.ids()[0]).expect("the connection is open").pause();
    resume_all(&mut events, &log);
    turn_until_idle(&mut events);
    assert_eq!(log.inputs().len(), delivered, "the rest is dropped after on_eof");
    assert!(log.inputs().len() <= 2 && log.inputs().iter().all(|input| input == b"half a questi"));
    assert_eq!(log.close_reasons(), [], "the handler did not close");
}

#[test]
fn at_eof_a_paused_connection_gets_on_eof_after_resume() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        if input.starts_with(b"a") {
            connection.pause();
        }
        1
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"ab");
    client.half_close();
    turn_until(&mut events, "the input reaches on_data", |_| !log.inputs().is_empty());
    turn_until_idle(&mut events);
    assert_eq!(log.count(&Call::Eof), 0);
    resume_all(&mut events, &log);
    turn_until(&mut events, "EOF is reported", |_| log.count(&Call::Eof) == 1);
    assert_eq!(log.inputs(), [&b"ab"[..], b"b"]);
}

#[test]
fn at_eof_the_rest_is_delivered_again_after_on_flushed() {
    let question = byte_pattern(200_000);
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(1_000);
    let handler = RecordingHandler::new(&log).on_data(echo).on_eof(|connection| {
        assert_eq!(connection.outbox_len(), 0);
        connection.close();
    });
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    client.send(&question);
    turn_until(&mut events, "all is sent", |_| {
        client.transfer();
        client.has_sent_all()
    });
    client.half_close();
    let (received, end) = client.read_to_end(&mut events);
    assert!(received == question, "{} bytes were echoed", received.len());
    assert_eq!(end, StreamEnd::Eof);
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.count(&Call::Eof), 1);
}

#[test]
fn a_full_unused_inbox_is_an_overflow_and_one_byte_less_is_not() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).input_bytes_max(100);
    let listener = events.listen(at, RecordingHandler::new(&log).on_data(|_, _| 0)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&[1; 99]);
    turn_until(&mut events, "the input reaches on_data", |_| log.inputs().concat().len() >= 99);
    turn_until_idle(&mut events);
    assert_eq!(log.close_reasons(), []);
    client.send(&[2; 1]);
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    drop(client);
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::InputOverflow]);
    assert_eq!(events.stats().closed(CloseReason::InputOverflow), 1);
}

#[test]
fn a_full_inbox_is_no_overflow_while_its_handler_has_paused() {
    let log = CallLog::default();
    let paused = Cell::new(false);
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).input_bytes_max(100);
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        if paused.get() {
            return input.len();
        }
        if input.len() == 100 {
            connection.pause();
            paused.set(true);
        }
        0
    });
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    let question = byte_pattern(1_000);
    client.send(&question);
    turn_until(&mut events, "the inbox is full", |_| paused.get());
    turn_until_idle(&mut events);
    assert_eq!(log.close_reasons(), []);
    let before = log.inputs().len();
    resume_all(&mut events, &log);
    turn_until(&mut events, "all input reaches on_data", |_| log.inputs()[before..].concat().len() >= 1_000);
    assert!(log.inputs()[before..].concat() == question, "each byte is delivered once, in order");
}

#[test]
fn a_full_inbox_is_not_an_overflow_while_output_waits() {
    let (log, is_blocked) = (CallLog::default(), Cell::new(true));
    let fill = |connection: &mut Connection<'_>| while connection.try_write(&vec![1; 65_536]) == 65_536 {};
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).input_bytes_max(100);
    let handler = RecordingHandler::new(&log)
        .on_open(|connection| {
            fill(connection);
            true
        })
        .on_flushed(|connection| {
            if is_blocked.get() {
                fill(connection);
            }
        })
        .on_data(|_, input| if is_blocked.get() { 0 } else { input.len() });
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| !log.ids().is_empty());
    turn_until_idle(&mut events);
    let question = byte_pattern(1_000);
    client.send(&question);
    turn_until_idle(&mut events);
    assert!(
        events.context().connection(log.ids()[0]).expect("the connection is open").outbox_len() > 0,
        "output waits"
    );
    is_blocked.set(false);
    turn_until(&mut events, "all input reaches on_data", |_| {
        client.transfer();
        log.inputs().concat().ends_with(&question)
    });
    assert_eq!(log.close_reasons(), []);
}

#[test]
fn resume_continues_reading_although_no_new_byte_arrives() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(|connection| {
        connection.pause();
        true
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| !log.ids().is_empty());
    turn_until_idle(&mut events);
    client.send(b"long ago");
    client.half_close();
    turn_until_idle(&mut events);
    assert_eq!((events.stats().bytes_received, log.inputs().len()), (0, 0));
    resume_all(&mut events, &log);
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    assert_eq!((log.inputs().concat(), log.count(&Call::Eof)), (b"long ago".to_vec(), 1));
}

#[test]
fn another_connections_callback_can_resume() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        if input == b"wait" {
            connection.pause();
            return 0;
        }
        let handler = connection.handler();
        connection.context().for_each_connection(handler, |other| {
            if other.send(b"go").is_ok() {
                other.resume();
            }
        });
        input.len()
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut first, mut second) = (Client::connect(address), Client::connect(address));
    first.send(b"wait");
    turn_until(&mut events, "the first is paused", |_| log.inputs() == [b"wait"]);
    assert_eq!(second.request(&mut events, b"now", 2), b"go");
    turn_until(&mut events, "the rest of the first is delivered again", |_| {
        log.inputs() == [&b"wait"[..], b"now", b"wait"]
    });
    assert_eq!(first.request(&mut events, b"", 2), b"go");
}

#[test]
fn on_data_that_returns_more_than_it_was_given_is_capped_or_panics_with_debug_assertions() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    events.catch_panics(true);
    // The second call of a client gets the rest from the inbox, and the bytes that arrived after it.
    let handler = RecordingHandler::new(&log).on_data(|_, input| if input == b"a" { 0 } else { input.len() + 1 });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients = [Client::connect(address), Client::connect(address)];
    clients[0].send(b"bc");
    clients[1].send(b"a");
    turn_until(&mut events, "both inputs reach on_data", |_| log.inputs().len() == 2);
    turn_until_idle(&mut events);
    clients[1].send(b"b");
    turn_until(&mut events, "the rest is delivered", |_| log.inputs().len() == 3);
    turn_until_idle(&mut events);
    let stats = events.stats();
    if cfg!(debug_assertions) {
        assert_eq!((stats.panics, stats.closed(CloseReason::Panicked), stats.connections), (2, 2, 0));
    } else {
        assert_eq!((stats.panics, stats.connections), (0, 2), "the result counts as the length of the input");
        for client in &mut clients {
            client.send(b"next");
        }
        turn_until(&mut events, "the next input reaches on_data", |_| log.inputs().len() == 5);
        assert_eq!(log.inputs()[3..], [b"next", b"next"]);
    }
}
