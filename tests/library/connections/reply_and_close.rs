//! Replies followed by `close`.
//!
//! The client reads the whole reply, then EOF.

use std::cell::Cell;
use std::time::Duration;

use halloo::{CloseReason, EventLoop, stream};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd, send_all};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

#[test]
fn a_client_that_sends_much_before_reading_gets_the_whole_reply_and_then_eof() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    for length in [1, 18, 1_025, 20_000, 60_000] {
        let mut client = Client::connect(address);
        client.send(&byte_pattern(length));
        assert!(client.has_sent_all(), "{length} bytes fit into the kernel's buffers");
        assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof), "{length} bytes");
    }
}

#[test]
fn unused_input_does_not_destroy_the_reply() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        greet(connection, input);
        input.len().min(18)
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    for length in [18, 19, 1_025, 20_000, 60_000] {
        let mut client = Client::connect(address);
        client.send(&byte_pattern(length));
        assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof), "{length} bytes");
    }
}

#[test]
fn a_long_reply_survives_a_long_unread_request() {
    let answer = byte_pattern(60_000);
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, _| {
        connection.send(&answer).expect("the outbox is empty");
        connection.close();
        1
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&byte_pattern(60_000));
    let (received, end) = client.read_to_end(&mut events);
    assert!(received == answer, "{} bytes received", received.len());
    assert_eq!(end, StreamEnd::Eof);
}

#[test]
fn a_second_request_before_a_long_reply_is_read_does_not_destroy_it() {
    let answer = byte_pattern(40_000);
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        connection.send(&answer).expect("the outbox is empty");
        connection.close();
        input.len()
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    client.send(b"1");
    turn_until(&mut events, "the reply is sent", |events| events.stats().bytes_sent == 40_000);
    client.send(b"2");
    turn_until_idle(&mut events);
    let (received, end) = client.read_to_end(&mut events);
    assert!(received == answer, "{} bytes received", received.len());
    assert_eq!(end, StreamEnd::Eof);
}

#[test]
fn input_after_the_close_does_not_destroy_the_reply() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_data(greet)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&byte_pattern(20_000));
    turn_until(&mut events, "the question is read", |_| !log.inputs().is_empty());
    client.send(&byte_pattern(100_000));
    turn_until(&mut events, "the late input is taken", |_| {
        client.flush();
        client.has_sent_all()
    });
    turn_until(&mut events, "the late input is read", |events| events.stats().bytes_received == 120_000);
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    drop(client);
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::Local]);
    assert_eq!(log.inputs().len(), 1, "on_data was called after a close");
}

#[test]
fn a_client_that_never_closes_its_side_is_closed_after_the_linger() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_data(greet)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&byte_pattern(20_000));
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    turn_until(&mut events, "the linger ends", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::Local]);
    assert_eq!(events.stats().connections, 0);
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_answered_when_complete() {
    const QUESTION: &[u8] = b"Hello, TCP Server!";
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log)
        .on_data(|connection, input| if input == QUESTION { greet(connection, input) } else { 0 });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    for (index, byte) in QUESTION.iter().enumerate() {
        client.send(&[*byte]);
        turn_until(&mut events, "a byte is delivered", |_| {
            log.inputs().last().is_some_and(|input| input == &QUESTION[..=index])
        });
    }
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    assert_eq!(log.inputs().len(), QUESTION.len(), "on_data is called once for each byte");
}

#[test]
fn a_client_that_keeps_sending_bytes_after_its_greeting_gets_the_greeting_and_eof() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"H");
    turn_until(&mut events, "the greeting", |_| client.has_received(GREETING.len()));
    for byte in b"ello, TCP Server!" {
        client.send(&[*byte]);
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    }
    assert_eq!(client.received, GREETING);
    turn_until(&mut events, "the end", |_| client.has_reached_end());
    assert_eq!(client.received, GREETING);
}

#[test]
fn a_client_that_half_closes_before_the_reply_gets_it() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_data(greet)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"Hello, TCP Server!");
    client.half_close();
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::Local], "the handler closed it");
    assert_eq!(log.count(&Call::Eof), 0);
}

#[test]
fn a_client_that_half_closes_without_a_byte_can_be_answered() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_eof(|connection| {
        greet(connection, &[]);
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.half_close();
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.all(), [Call::Open, Call::Eof, Call::Closed(CloseReason::Eof)]);
}

#[test]
fn a_half_closed_client_can_get_its_reply_much_later() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log)
        .on_eof(|connection| connection.set_timeout(Some(Duration::from_millis(50))))
        .on_timeout(|connection| {
            greet(connection, &[]);
        });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.half_close();
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.all(), [Call::Open, Call::Eof, Call::Timeout, Call::Closed(CloseReason::TimedOut)]);
}

#[test]
fn pipelined_requests_are_each_answered_in_order() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        let chunks = input.chunks_exact(4);
        let used = 4 * chunks.len();
        for question in chunks {
            connection.send(question).expect("the outbox has room");
            connection.send(b"!").expect("the outbox has room");
        }
        used
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.request(&mut events, b"one.two.thr", 10), b"one.!two.!");
    assert_eq!(client.request(&mut events, b"e", 5), b"thre!");
}

#[test]
fn bytes_after_an_urgent_byte_are_neither_lost_nor_delayed() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");

    let mut client = Client::connect(address);
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
    client.send(b"abc");
    client.send_urgent(b'!');
    client.send(b"def");
    turn_until(&mut events, "all input reaches on_data", |_| log.inputs().concat() == b"abcdef");
    turn_until_idle(&mut events);
    client.send(b"ghi");
    turn_until(&mut events, "later input reaches on_data", |_| log.inputs().concat() == b"abcdefghi");
    client.send_urgent(b'!');
    turn_until_idle(&mut events);
    client.half_close();
    assert_eq!(client.read_to_end(&mut events), (&b""[..], StreamEnd::Eof));
    assert_eq!(log.inputs().concat(), b"abcdefghi");
}

#[test]
fn a_client_that_begins_with_an_urgent_byte_is_greeted() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut client = Client::connect(address);
    client.send_urgent(b'!');
    client.send(b"Hello, TCP Server!");
    turn_until(&mut events, "the greeting", |_| client.has_received(GREETING.len()));
    assert_eq!(client.received, GREETING);
}

#[test]
fn many_clients_at_once_are_each_greeted_once() {
    let greeted = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        greeted.set(greeted.get() + 1);
        greet(connection, input)
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..300).map(|_| Client::connect(address)).collect();
    send_all(&mut clients, b"Hello, TCP Server!");
    for client in &mut clients {
        assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    }
    turn_until(&mut events, "all are closed", |events| events.stats().connections == 0);
    assert_eq!((greeted.get(), events.stats().closed(CloseReason::Local)), (300, 300));
}
