//! Clients that reset their connection.
//!
//! A reset ends its own connection and no other.

use std::cell::Cell;

use halloo::{CloseReason, EventLoop, Listen, stream};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::{any_port, loopback};
use crate::helpers::nonblocking_client::Client;
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

#[test]
fn a_client_that_resets_before_accept_ends_no_other_connection() {
    for host in ["127.0.0.1", "0.0.0.0"] {
        let log = CallLog::default();
        let mut events = EventLoop::new().expect("a loop");
        let listener = events.listen(any_port(host), RecordingHandler::new(&log).on_data(greet)).expect("a listener");
        let mut address = events.local_addr(listener).expect("the listener is open");
        address.set_ip(loopback().ip());

        Client::connect(address).reset();
        let mut with_question = Client::connect(address);
        with_question.send(b"Hello, TCP Server!");
        with_question.reset();
        let mut other = Client::connect(address);
        other.send(b"Hello, TCP Server!");
        assert_eq!(other.read_to_end(&mut events).0, GREETING);
        drop(other);
        turn_until(&mut events, "all are closed", |events| events.stats().connections == 0);
        assert_eq!(log.ids().len(), log.close_reasons().len());
        assert!(log.close_reasons().contains(&CloseReason::Reset), "{:?}", log.close_reasons());
    }
}

#[test]
fn a_reset_in_the_middle_of_a_stream_is_reported_as_a_reset() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(echo);
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut resetting, mut open) = (Client::connect(address), Client::connect(address));
    assert_eq!(resetting.request(&mut events, b"one", 3), b"one");
    assert_eq!(open.request(&mut events, b"two", 3), b"two");
    resetting.reset();
    turn_until(&mut events, "the reset is reported", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::Reset]);
    assert_eq!(open.request(&mut events, b"three", 5), b"three");
    assert_eq!(events.stats().connections, 1);
}

#[test]
fn a_reset_closes_its_paused_connection_and_no_other_paused_one() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(|connection| {
        connection.pause();
        true
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut resetting, mut open) = (Client::connect(address), Client::connect(address));
    turn_until(&mut events, "both are accepted", |_| log.ids().len() == 2);
    resetting.send(b"some");
    open.send(b"more");
    turn_until_idle(&mut events);
    resetting.reset();
    turn_until(&mut events, "the reset is reported", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::Reset]);
    turn_until_idle(&mut events);
    assert_eq!(events.stats().connections, 1);

    let handler = events.context().connection(log.ids()[1]).expect("the connection is open").handler();
    events.context().for_each_connection(handler, |connection| connection.resume());
    turn_until(&mut events, "the other connection is read again", |_| log.inputs() == [b"more"]);
}

#[test]
fn a_reset_after_eof_is_noticed_while_the_handler_waits() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_eof(|_| {})).expect("a listener");
    let client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.half_close();
    turn_until(&mut events, "EOF is reported", |_| log.count(&Call::Eof) == 1);
    turn_until_idle(&mut events);
    client.reset();
    turn_until(&mut events, "the reset is reported", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::Reset]);
}

#[test]
fn a_reset_after_eof_is_noticed_while_the_connection_is_paused() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, _| {
        connection.pause();
        0
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"wait");
    client.half_close();
    turn_until(&mut events, "the input reaches on_data", |_| !log.inputs().is_empty());
    turn_until_idle(&mut events);
    client.reset();
    turn_until(&mut events, "the reset is reported", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::Reset]);
}

#[test]
fn a_reset_is_noticed_while_output_waits() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let fill = |connection: &mut halloo::Connection<'_>| {
        let _ = connection.try_write(&vec![7; 131_073]);
    };
    let handler = RecordingHandler::new(&log)
        .on_open(move |connection| {
            fill(connection);
            true
        })
        .on_flushed(fill);
    let listener = events.listen(loopback(), handler).expect("a listener");
    let client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
    turn_until_idle(&mut events);
    let id = log.ids()[0];
    assert!(events.context().connection(id).expect("the connection is open").outbox_len() > 0, "output waits");
    client.reset();
    turn_until(&mut events, "the reset is reported", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::Reset]);
}

#[test]
fn a_hundred_resets_at_once_are_each_counted_and_the_loop_is_idle_afterwards() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        assert_eq!(client.request(&mut events, b"hello", 5), b"hello");
    }
    for mut client in clients.drain(..) {
        client.send(&byte_pattern(1000));
        client.reset();
    }
    turn_until(&mut events, "all are closed", |events| events.stats().connections == 0);
    assert_eq!(events.stats().closed(CloseReason::Reset), 100);
    turn_until_idle(&mut events);
    assert_eq!(Client::connect(address).request(&mut events, b"still there?", 12), b"still there?");
}

#[test]
fn a_reset_before_all_output_is_delivered_replaces_the_close_reason() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(32 * 1024 * 1024);
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        connection.send(&vec![1; 32 * 1024 * 1024]).expect("the outbox is empty");
        connection.close();
        input.len()
    });
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    client.send(b"ask");
    turn_until(&mut events, "the request reaches on_data", |_| !log.inputs().is_empty());
    turn_until_idle(&mut events);
    assert_eq!(log.close_reasons(), [], "most of the output waits");
    client.reset();
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::Reset]);
    assert_eq!(events.stats().connections, 0);
}

#[test]
fn a_reset_after_more_input_than_one_turn_reads_is_noticed_although_the_handler_pauses() {
    let (log, pauses) = (CallLog::default(), Cell::new(false));
    let warm_up = byte_pattern(8 * 1024 * 1024);
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        if pauses.get() && connection.context().stats().bytes_received > warm_up.len() as u64 + 131_072 {
            connection.pause();
        }
        input.len()
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    // The stream of the warm-up makes the kernel widen its receive buffer past what one turn reads.
    client.send(&warm_up);
    turn_until(&mut events, "the warm-up", |events| {
        client.flush();
        events.stats().bytes_received == warm_up.len() as u64
    });
    turn_until_idle(&mut events);
    pauses.set(true);
    client.send(&warm_up[..500_000]);
    client.reset();
    turn_until(&mut events, "the reset is reported", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::Reset]);
}
