//! Outbound connections before they are open.
//!
//! Output waits, `close` is delayed, and `abort` ends the attempt.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use halloo::{CloseReason, Connect, EventLoop, HandlerId, SendError};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::StreamEnd;
use crate::helpers::nonblocking_listener::{FullBacklog, Listener, unused_address};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

#[test]
fn output_written_before_on_open_is_queued_and_delivered() {
    let (log, server, bytes) = (CallLog::default(), Listener::new(), byte_pattern(60_000));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| {
        assert_eq!(connection.outbox_len(), 60_000, "the outbox keeps what was sent before");
        connection.send(b" and the rest").is_ok()
    }));
    let id = events.context().connect(server.address(), handler);
    for part in bytes.chunks(7_000) {
        assert_eq!(events.context().connection(id).expect("the connection is opening").send(part), Ok(()));
    }
    let mut peer = server.accept(&mut events);
    turn_until(&mut events, "everything", |_| peer.has_received(60_013));
    assert!(peer.received == [&bytes[..], b" and the rest"].concat(), "the peer receives the output in order");
    assert_eq!(events.context().connection(id).expect("the connection is open").outbox_len(), 0);
}

#[test]
fn before_on_open_the_outbox_has_its_limit_and_on_flushed_reports_room() {
    let (log, server) = (CallLog::default(), Listener::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_flushed(|connection| {
        assert_eq!(connection.send(b"67890"), Ok(()));
    }));
    let id = events.context().connect(Connect::from(server.address()).outbox_bytes_max(5), handler);
    let mut connection = events.context().connection(id).expect("the connection is opening");
    assert_eq!(
        (connection.try_write(b"1234567"), connection.outbox_len(), connection.send(b"6")),
        (5, 5, Err(SendError::Full))
    );
    let mut peer = server.accept(&mut events);
    turn_until(&mut events, "both halves", |_| peer.has_received(10));
    assert_eq!((&peer.received[..], log.all()), (&b"1234567890"[..], vec![Call::Open, Call::Flushed]));
}

#[test]
fn a_close_before_on_open_delivers_the_output_and_is_reported_after_on_open() {
    let (log, server) = (CallLog::default(), Listener::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| {
        assert_eq!(
            (connection.try_write(b"more"), connection.send(b"more")),
            (0, Err(SendError::Closed)),
            "the connection is closing"
        );
        true
    }));
    let id = events.context().connect(server.address(), handler);
    let mut connection = events.context().connection(id).expect("the connection is opening");
    assert_eq!(connection.send(b"goodbye"), Ok(()));
    connection.close();
    assert!(events.context().connection(id).is_none(), "a closing connection is not reachable");
    let mut peer = server.accept(&mut events);
    assert_eq!(peer.read_to_end(&mut events), (&b"goodbye"[..], StreamEnd::Eof));
    drop(peer);
    turn_until(&mut events, "the connection is closed", |_| log.close_reasons().len() == 1);
    assert_eq!(log.of(id), [Call::Open, Call::Closed(CloseReason::Local)]);
}

#[test]
fn a_close_of_a_connect_that_never_opens_is_reported_as_a_failure() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let id = events.context().connect(unused_address(), handler);
    events.context().connection(id).expect("the connection is opening").close();
    turn_until(&mut events, "the failure", |_| log.connect_errors().len() == 1);
    assert_eq!(log.of(id), [Call::Failed(io::ErrorKind::ConnectionRefused)]);
}

#[test]
fn an_abort_before_on_open_cancels_the_connect() {
    let (log, server, full_backlog) = (CallLog::default(), Listener::new(), FullBacklog::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_connect_failed(|_, _, error| {
        assert_eq!(error.to_string(), "connection aborted; it was closed before it opened");
    }));
    // The first connect has not begun, and the second waits for an answer.
    let ids = [server.address(), full_backlog.address()].map(|to| events.context().connect(to, handler));
    events.context().connection(ids[0]).expect("the connection is opening").abort();
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    assert_eq!(log.connect_errors(), [io::ErrorKind::ConnectionAborted]);
    let mut connection = events.context().connection(ids[1]).expect("the connection is opening");
    assert_eq!(connection.send(b"lost"), Ok(()));
    connection.abort();
    turn_until(&mut events, "the other failure", |_| log.connect_errors().len() == 2);
    turn_until_idle(&mut events);
    for id in ids {
        assert_eq!(log.of(id), [Call::Failed(io::ErrorKind::ConnectionAborted)]);
        assert!(events.context().connection(id).is_none());
    }
    assert!(server.try_accept().is_none(), "no connect reached the server");
}

#[test]
fn a_pause_and_a_timeout_set_before_on_open_hold_afterwards() {
    let (log, server) = (CallLog::default(), Listener::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_timeout(|connection| connection.resume()));
    let id = events.context().connect(server.address(), handler);
    let mut connection = events.context().connection(id).expect("the connection is opening");
    connection.pause();
    connection.set_timeout(Some(Duration::from_millis(50)));
    let mut peer = server.accept(&mut events);
    peer.send(b"hello");
    turn_until(&mut events, "the input", |_| !log.inputs().is_empty());
    assert_eq!(log.all(), [Call::Open, Call::Timeout, Call::Data(b"hello".to_vec())]);
}

#[test]
fn a_shutdown_write_before_on_open_takes_effect_when_it_opens() {
    let (log, server) = (CallLog::default(), Listener::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let id = events.context().connect(server.address(), handler);
    let mut connection = events.context().connection(id).expect("the connection is opening");
    assert_eq!(connection.send(b"the whole question"), Ok(()));
    connection.shutdown_write();
    assert_eq!(
        (connection.try_write(b"?"), connection.send(b"?")),
        (0, Err(SendError::Closed)),
        "the connection is shut down for writing"
    );
    let mut peer = server.accept(&mut events);
    assert_eq!(peer.read_to_end(&mut events), (&b"the whole question"[..], StreamEnd::Eof));
    peer.send(b"the answer");
    turn_until(&mut events, "the answer", |_| !log.inputs().is_empty());
    assert_eq!(log.of(id), [Call::Open, Call::Data(b"the answer".to_vec())]);
}

#[test]
fn a_drain_waits_for_connects_and_calls_on_drain_when_they_open() {
    let (log, server) = (CallLog::default(), Listener::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_drain(|connection| connection.close()));
    let id = events.context().connect(server.address(), handler);
    events.context().connection(id).expect("the connection is opening").send(b"a last word").expect("there is room");
    events.context().drain(Duration::from_secs(20));
    let mut peer = server.accept(&mut events);
    assert_eq!(peer.read_to_end(&mut events), (&b"a last word"[..], StreamEnd::Eof));
    drop(peer);
    let report = turn_until_stopped(&mut events);
    assert_eq!((report.finished, report.forced), (1, 0));
    assert_eq!(log.of(id), [Call::Open, Call::Drain, Call::Closed(CloseReason::Local)]);
}

#[test]
fn at_the_end_of_a_drain_pending_connects_have_failed() {
    for grace in [Duration::ZERO, Duration::from_millis(50)] {
        let (log, full_backlog) = (CallLog::default(), FullBacklog::new());
        let mut events = EventLoop::new().expect("a loop");
        let handler = events.attach(RecordingHandler::new(&log));
        let id = events.context().connect(full_backlog.address(), handler);
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        let pending = events.context().connect(full_backlog.address(), handler);
        events.context().drain(grace);
        let report = turn_until_stopped(&mut events);
        assert_eq!((report.finished, report.forced), (0, 0), "a connect that did not open does not count");
        assert!(report.elapsed >= grace);
        for id in [id, pending] {
            assert_eq!(log.of(id), [Call::Failed(io::ErrorKind::ConnectionAborted)]);
        }
        assert_eq!((events.stats().connections, events.stats().connect_errors), (0, 2));
    }
}

#[test]
fn a_handler_that_always_reconnects_does_not_delay_the_end_of_a_drain() {
    let (log, server, handler) = (CallLog::default(), Listener::new(), Cell::new(None::<HandlerId>));
    let to = server.address();
    let reconnect = |context: &mut halloo::Context| {
        let _ = context.connect(to, handler.get().expect("the handler is attached"));
    };
    let mut events = EventLoop::new().expect("a loop");
    handler.set(Some(
        events.attach(
            RecordingHandler::new(&log)
                .on_close(|connection| reconnect(connection.context()))
                .on_connect_failed(|context, _, _| reconnect(context)),
        ),
    ));
    events.listen_for(loopback(), handler.get().expect("the handler is attached")).expect("a listener");
    for _ in 0..3 {
        reconnect(events.context());
    }
    turn_until(&mut events, "the connections are open", |_| log.ids().len() == 3);
    events.context().stop();
    assert_eq!(turn_until_stopped(&mut events).forced, 3);
    let stats = events.stats();
    assert_eq!(
        (stats.connections, stats.connects),
        (0, stats.connect_errors + 3),
        "every connect has opened or failed"
    );
    let id = events.context().connect(to, handler.get().expect("the handler is attached"));
    assert!(events.context().connection(id).is_none(), "a stopped loop opens nothing");
    assert_eq!(events.stats().connections, 0);
}
