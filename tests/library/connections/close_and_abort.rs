//! `close`, `abort` and `on_close`.
//!
//! Each session ends once, with the first close reason.

use std::cell::Cell;

use halloo::{CloseReason, Connection, EventLoop, SendError};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

/// Sends the question of one client and reads to the end. Returns what was received, and how and why the connection
/// ended.
fn close_with(log: &CallLog, handler: RecordingHandler<'_>, question: &[u8]) -> (Vec<u8>, StreamEnd, CloseReason) {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    if question.is_empty() {
        client.half_close();
    } else {
        client.send(question);
    }
    let end = client.read_to_end(&mut events).1;
    let received = client.received.clone();
    drop(client);
    turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
    let reason = log.close_reasons()[0];
    assert_eq!(log.close_reasons(), [reason], "on_close is called once for a session");
    assert_eq!((events.stats().closed(reason), events.stats().closed_total()), (1, 1));
    assert_eq!(log.all().last(), Some(&Call::Closed(reason)), "on_close is the last call");
    (received, end, reason)
}

#[test]
fn close_in_on_data_is_local() {
    let log = CallLog::default();
    let handler = RecordingHandler::new(&log).on_data(greet);
    assert_eq!(close_with(&log, handler, b"?"), (GREETING.to_vec(), StreamEnd::Eof, CloseReason::Local));
}

#[test]
fn close_in_on_open_is_local_and_what_was_written_arrives() {
    let log = CallLog::default();
    let handler = RecordingHandler::new(&log).on_open(|connection| {
        greet(connection, &[]);
        true
    });
    assert_eq!(close_with(&log, handler, b"?"), (GREETING.to_vec(), StreamEnd::Eof, CloseReason::Local));
    assert_eq!(log.inputs().len(), 0, "on_data was called after a close");
}

#[test]
fn close_in_on_eof_has_the_reason_eof() {
    let log = CallLog::default();
    let handler = RecordingHandler::new(&log);
    assert_eq!(close_with(&log, handler, b""), (Vec::new(), StreamEnd::Eof, CloseReason::Eof));
}

#[test]
fn an_abort_resets_and_discards_what_was_written() {
    let log = CallLog::default();
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        assert_eq!(connection.send(GREETING), Ok(()));
        connection.abort();
        input.len()
    });
    assert_eq!(close_with(&log, handler, b"?"), (Vec::new(), StreamEnd::Reset, CloseReason::Aborted));
}

#[test]
fn an_abort_after_a_close_resets_and_keeps_the_first_close_reason() {
    let log = CallLog::default();
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        assert_eq!(connection.send(GREETING), Ok(()));
        connection.close();
        connection.abort();
        input.len()
    });
    assert_eq!(close_with(&log, handler, b"?"), (Vec::new(), StreamEnd::Reset, CloseReason::Local));
}

#[test]
fn a_close_after_an_abort_changes_nothing() {
    let log = CallLog::default();
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        connection.abort();
        greet_if_possible(connection);
        input.len()
    });
    assert_eq!(close_with(&log, handler, b"?"), (Vec::new(), StreamEnd::Reset, CloseReason::Aborted));
}

fn greet_if_possible(connection: &mut Connection<'_>) {
    assert_eq!(connection.send(GREETING), Err(SendError::Closed));
    connection.close();
}

#[test]
fn a_refusal_sends_what_was_written_and_calls_nothing_else() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(|connection| {
        assert_eq!(connection.send(b"closed on sundays"), Ok(()));
        connection.set_timeout(Some(std::time::Duration::ZERO));
        false
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&byte_pattern(5_000));
    assert_eq!(client.read_to_end(&mut events), (&b"closed on sundays"[..], StreamEnd::Eof));
    drop(client);
    turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
    assert_eq!(log.all(), [Call::Open]);
    assert_eq!((events.stats().accepted, events.stats().closed(CloseReason::Local)), (1, 1));
}

#[test]
fn after_a_close_nothing_can_be_written_and_no_input_is_delivered() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        greet(connection, input);
        assert_eq!(connection.try_write(b"more"), 0);
        assert_eq!(connection.send(b"more"), Err(SendError::Closed));
        assert_eq!(connection.send(b""), Err(SendError::Closed));
        let id = connection.id();
        assert!(connection.context().connection(id).is_none(), "it is closing");
        let handler = connection.handler();
        connection.context().for_each_connection(handler, |_| panic!("a connection is open"));
        0
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"Hello,");
    turn_until(&mut events, "the greeting", |_| client.has_received(GREETING.len()));
    client.send(b" TCP Server!");
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    drop(client);
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.all(), [Call::Open, Call::Data(b"Hello,".to_vec()), Call::Closed(CloseReason::Local)]);
}

#[test]
fn in_on_close_the_connection_is_closed_and_its_addresses_are_known() {
    let (log, recorded) = (CallLog::default(), Cell::new(None));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_data(greet).on_close(|connection| {
        assert_eq!(
            (connection.try_write(b"x"), connection.send(b"x"), connection.outbox_len()),
            (0, Err(SendError::Closed), 0)
        );
        connection.pause();
        connection.resume();
        connection.set_timeout(Some(std::time::Duration::ZERO));
        connection.close();
        connection.abort();
        let id = connection.id();
        recorded.set(Some((
            connection.peer_addr(),
            connection.local_addr(),
            connection.listener(),
            connection.handler(),
        )));
        assert!(connection.context().connection(id).is_none(), "the connection is closed");
    }));
    let listener = events.listen_for(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut client = Client::connect(address);
    let peer = client.local_addr();
    client.send(b"?");
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    turn_until(&mut events, "the connection is closed", |_| recorded.get().is_some());
    assert_eq!(recorded.get(), Some((Some(peer), Some(address), Some(listener), handler)));
    turn_until_idle(&mut events);
    assert_eq!(log.close_reasons(), [CloseReason::Local]);
}

#[test]
fn every_opened_session_gets_on_close_once_and_last() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        match input[0] {
            b'c' => connection.close(),
            b'a' => connection.abort(),
            _ => assert_eq!(connection.try_write(input), input.len()),
        }
        input.len()
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..60).map(|_| Client::connect(address)).collect();
    for (client, question) in clients.iter_mut().zip([b"close", b"abort", b"echo!", b"reset"].into_iter().cycle()) {
        client.send(question);
    }
    turn_until(&mut events, "all have asked", |_| log.inputs().len() == 60);
    for (index, client) in clients.into_iter().enumerate() {
        if index % 4 == 3 {
            client.reset();
        }
    }
    turn_until(&mut events, "all are closed", |events| events.stats().connections == 0);
    let ids = log.ids();
    assert_eq!((ids.len(), log.close_reasons().len()), (60, 60));
    for id in ids {
        let calls = log.of(id);
        assert!(matches!(calls.last(), Some(Call::Closed(_))), "{calls:?}");
        assert_eq!(calls.iter().filter(|called| matches!(called, Call::Closed(_))).count(), 1);
    }
    let stats = events.stats();
    assert_eq!((stats.closed(CloseReason::Local), stats.closed(CloseReason::Aborted)), (15, 15));
    assert_eq!(stats.closed(CloseReason::Eof) + stats.closed(CloseReason::Reset), 30);
}

#[test]
fn sessions_of_a_dropped_loop_are_dropped_without_on_close() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"still here");
    turn_until(&mut events, "the input is read", |_| !log.inputs().is_empty());
    drop(events);
    assert_eq!(log.all(), [Call::Open, Call::Data(b"still here".to_vec())]);
    let mut other = EventLoop::new().expect("a loop");
    turn_until(&mut other, "the client sees the end", |_| client.has_reached_end());
}
