//! Half-close: sending is shut down, and reading continues.

use std::cell::Cell;
use std::time::Duration;

use halloo::{CloseReason, Connection, EventLoop, Listen, SendError};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

/// Listens with the handler and connects a client.
fn client_of<'a>(events: &mut EventLoop<'a>, handler: RecordingHandler<'a>) -> Client {
    let listener = events.listen(Listen::from(loopback()).idle_timeout(None), handler).expect("a listener");
    Client::connect_narrow(events.local_addr(listener).expect("the listener is open"))
}

fn finish(connection: &mut Connection<'_>) -> bool {
    connection.send(b"that is all").expect("there is room");
    connection.shutdown_write();
    true
}

#[test]
fn after_a_shutdown_the_peer_reads_eof_and_can_still_send() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let mut client = client_of(&mut events, RecordingHandler::new(&log).on_open(finish));
    assert_eq!(client.read_to_end(&mut events), (&b"that is all"[..], StreamEnd::Eof));
    for chunk in [&b"and"[..], b"yet", b"more"] {
        let before = log.inputs().len();
        client.send(chunk);
        turn_until(&mut events, "the input reaches on_data", |_| log.inputs().len() > before);
    }
    assert_eq!(log.inputs(), [&b"and"[..], b"yet", b"more"]);
    client.half_close();
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!((log.count(&Call::Eof), log.close_reasons()), (1, vec![CloseReason::Eof]));
}

#[test]
fn output_before_a_shutdown_arrives_before_eof_also_at_a_slow_reader() {
    let (log, text) = (CallLog::default(), byte_pattern(2 * 1024 * 1024));
    let sent = Cell::new(0);
    let write = |connection: &mut Connection<'_>| {
        sent.set(sent.get() + connection.try_write(&text[sent.get()..]));
        if sent.get() == text.len() {
            connection.shutdown_write();
            connection.shutdown_write();
        }
        true
    };
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(write).on_flushed(|connection| {
        write(connection);
    });
    let mut client = client_of(&mut events, handler);
    turn_until(&mut events, "the end", |_| {
        client.read_up_to(16 * 1024);
        client.end.is_some()
    });
    assert!(client.received == text && client.end == Some(StreamEnd::Eof), "{} bytes", client.received.len());
    turn_until_idle(&mut events);
    assert_eq!(log.close_reasons(), [], "the connection is half open");
}

#[test]
fn after_a_shutdown_nothing_can_be_written() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(finish).on_data(|connection, input| {
        assert_eq!(
            (connection.try_write(input), connection.send(input), connection.outbox_len()),
            (0, Err(SendError::Closed), 0)
        );
        connection.shutdown_write();
        input.len()
    });
    let mut client = client_of(&mut events, handler);
    client.send(b"say it again");
    turn_until(&mut events, "the request reaches on_data", |_| !log.inputs().is_empty());
    assert_eq!(client.read_to_end(&mut events), (&b"that is all"[..], StreamEnd::Eof));
    turn_until_idle(&mut events);
    assert_eq!(log.count(&Call::Flushed), 0, "on_flushed is not called after a shutdown");
}

#[test]
fn a_close_after_a_shutdown_is_a_close() {
    for closes_first in [false, true] {
        let log = CallLog::default();
        let mut events = EventLoop::new().expect("a loop");
        let handler = RecordingHandler::new(&log).on_open(finish).on_data(|connection, input| {
            connection.close();
            input.len()
        });
        let mut client = client_of(&mut events, handler);
        assert_eq!(client.read_to_end(&mut events), (&b"that is all"[..], StreamEnd::Eof));
        client.send(b"thanks");
        if closes_first {
            client.half_close();
        } else {
            drop(client);
        }
        turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
        assert_eq!(log.close_reasons(), [CloseReason::Local]);
    }
}

#[test]
fn an_abort_after_a_shutdown_is_an_abort() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(finish).on_data(|connection, input| {
        connection.abort();
        input.len()
    });
    let mut client = client_of(&mut events, handler);
    client.send(b"no");
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!((log.close_reasons(), events.stats().connections), (vec![CloseReason::Aborted], 0));
}

#[test]
fn after_eof_in_both_directions_the_connection_closes_whatever_the_handler_waits_for() {
    // Whether the server or the client sends FIN first.
    for we_are_first in [true, false] {
        let log = CallLog::default();
        let mut events = EventLoop::new().expect("a loop");
        let handler = RecordingHandler::new(&log).on_open(|connection| !we_are_first || finish(connection)).on_eof(
            |connection| {
                if !we_are_first {
                    finish(connection);
                }
            },
        );
        let mut client = client_of(&mut events, handler);
        turn_until(&mut events, "the connection is open", |_| !log.ids().is_empty());
        client.half_close();
        assert_eq!(client.read_to_end(&mut events), (&b"that is all"[..], StreamEnd::Eof));
        turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
        assert_eq!(log.all(), [Call::Open, Call::Eof, Call::Closed(CloseReason::Eof)]);
    }
}

/// The client sends, then closes, while the handler has shut down its side and is paused.
fn read_after_the_peer_has_gone(bytes: usize) {
    let (log, text) = (CallLog::default(), byte_pattern(bytes));
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(|connection| {
        connection.pause();
        finish(connection)
    });
    let mut client = client_of(&mut events, handler);
    assert_eq!(client.read_to_end(&mut events), (&b"that is all"[..], StreamEnd::Eof));
    client.send(&text);
    turn_until(&mut events, "the kernel has all of it", |_| {
        client.flush();
        client.has_sent_all()
    });
    drop(client);
    turn_until_idle(&mut events);
    assert_eq!(log.all(), [Call::Open], "a paused handler gets no input, and the connection stays open");
    let id = log.ids()[0];
    events.context().connection(id).expect("the connection is open").resume();
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert!(log.inputs().concat() == text, "{} of {bytes} bytes", log.inputs().concat().len());
    assert_eq!((log.count(&Call::Eof), log.close_reasons()), (1, vec![CloseReason::Eof]));
}

#[test]
fn after_a_shutdown_unread_input_is_delivered_although_the_peer_has_closed() {
    read_after_the_peer_has_gone(5);
    read_after_the_peer_has_gone(100_000);
}

#[test]
fn a_reset_after_a_shutdown_is_reported_also_to_a_paused_handler() {
    for paused in [false, true] {
        let log = CallLog::default();
        let mut events = EventLoop::new().expect("a loop");
        let handler = RecordingHandler::new(&log).on_open(|connection| {
            if paused {
                connection.pause();
            }
            finish(connection)
        });
        let mut client = client_of(&mut events, handler);
        assert_eq!(client.read_to_end(&mut events), (&b"that is all"[..], StreamEnd::Eof));
        client.reset();
        turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
        assert_eq!(log.close_reasons(), [CloseReason::Reset]);
    }
}

#[test]
fn input_that_a_paused_handler_left_is_delivered_after_both_sides_have_ended() {
    let (log, resumes) = (CallLog::default(), Cell::new(false));
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|_, input| if resumes.get() { input.len() } else { 0 }).on_eof(
        |connection| {
            connection.pause();
            connection.shutdown_write();
        },
    );
    let mut client = client_of(&mut events, handler);
    client.send(b"abc");
    client.half_close();
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    turn_until_idle(&mut events);
    assert_eq!((log.count(&Call::Eof), log.rests(), log.close_reasons()), (1, vec![b"abc".to_vec()], vec![]));
    resumes.set(true);
    events.context().connection(log.ids()[0]).expect("the connection is paused").resume();
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(
        (log.inputs().last().map(Vec::as_slice), log.close_reasons()),
        (Some(&b"abc"[..]), vec![CloseReason::Eof])
    );
}

#[test]
fn a_shutdown_from_outside_a_turn_takes_effect_in_the_next_turn() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let mut client = client_of(&mut events, RecordingHandler::new(&log));
    turn_until(&mut events, "the connection is open", |_| !log.ids().is_empty());
    turn_until_idle(&mut events);
    let id = log.ids()[0];
    events.context().connection(id).expect("the connection is open").shutdown_write();
    assert_eq!(events.next_timeout(), Some(Duration::ZERO), "the loop has work");
    let _ = events.turn(None).expect("the poll works");
    assert_eq!(client.read_to_end(&mut events), (&b""[..], StreamEnd::Eof));
    assert!(events.context().connection(id).is_some(), "the connection is half open");
    events.context().drain(Duration::from_millis(10));
    assert_eq!(turn_until_stopped(&mut events).forced, 1);
}
