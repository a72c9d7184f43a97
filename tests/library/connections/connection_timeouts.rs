//! Idle timeout, write timeout and `set_timeout`.
//!
//! A timeout is never early.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use halloo::{CloseReason, Connection, EventLoop, Listen, Turn};
use support::byte_pattern::byte_pattern;
use support::wait::TIMEOUT;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

const fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Writes until the outbox is full.
fn fill(connection: &mut Connection<'_>) {
    while connection.try_write(&vec![1; 65_536]) == 65_536 {}
}

#[test]
fn an_idle_connection_is_closed_after_the_idle_timeout_but_not_early() {
    let (log, opened, closed) = (CallLog::default(), Cell::new(None), Cell::new(None));
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).idle_timeout(milliseconds(150));
    let handler = RecordingHandler::new(&log)
        .on_open(|connection| {
            opened.set(Some(connection.context().now()));
            true
        })
        .on_close(|_| closed.set(Some(Instant::now())));
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.read_to_end(&mut events), (&b""[..], StreamEnd::Eof));
    assert_eq!(log.all(), [Call::Open, Call::Closed(CloseReason::TimedOut)]);
    let elapsed = closed.get().expect("closed").duration_since(opened.get().expect("opened"));
    assert!(elapsed >= milliseconds(150), "closed after {elapsed:?}");
}

#[test]
fn unused_bytes_do_not_extend_the_idle_timeout() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).idle_timeout(milliseconds(300));
    let listener = events.listen(at, RecordingHandler::new(&log).on_data(|_, _| 0)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the idle timeout closes it", |_| {
        client.send(b"x");
        !log.close_reasons().is_empty()
    });
    assert_eq!(log.close_reasons(), [CloseReason::TimedOut]);
    assert!(log.inputs().len() > 1, "input reached on_data");
}

#[test]
fn bytes_that_are_used_extend_the_idle_timeout() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).idle_timeout(milliseconds(400));
    let listener = events.listen(at, RecordingHandler::new(&log)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    let start = Instant::now();
    turn_until(&mut events, "1 s has passed", |_| {
        client.send(b"x");
        start.elapsed() > milliseconds(1000)
    });
    assert_eq!(log.close_reasons(), []);
    turn_until(&mut events, "the silent connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::TimedOut]);
}

#[test]
fn a_paused_connection_times_out_too() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).idle_timeout(milliseconds(50));
    let handler = RecordingHandler::new(&log).on_open(|connection| {
        connection.pause();
        true
    });
    let listener = events.listen(at, handler).expect("a listener");
    let _client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::TimedOut]);
}

#[test]
fn without_timeouts_next_timeout_is_none() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).idle_timeout(None).write_timeout(None);
    let listener = events.listen(at, RecordingHandler::new(&log)).expect("a listener");
    let _client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| !log.ids().is_empty());
    turn_until_idle(&mut events);
    assert_eq!(events.next_timeout(), None);
}

#[test]
fn a_client_that_reads_nothing_is_closed_after_the_write_timeout_but_not_early() {
    let (log, closed) = (CallLog::default(), Cell::new(None));
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).idle_timeout(milliseconds(20)).write_timeout(milliseconds(400));
    let handler = RecordingHandler::new(&log)
        .on_open(|connection| {
            fill(connection);
            true
        })
        .on_flushed(fill)
        .on_close(|_| closed.set(Some(Instant::now())));
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    let (mut sent, mut last_sent) = (0, Instant::now());
    turn_until(&mut events, "the connection is reset", |events| {
        if events.stats().bytes_sent > sent {
            sent = events.stats().bytes_sent;
            last_sent = events.context().now();
        }
        !log.close_reasons().is_empty()
    });
    assert_eq!(log.close_reasons(), [CloseReason::WriteStalled], "the idle timeout does not run while output waits");
    // `last_sent` is read after the turn, so it may be later than the turn's own time. The bound leaves 100 ms for
    // that.
    let elapsed = closed.get().expect("closed").duration_since(last_sent);
    assert!(elapsed >= milliseconds(300), "cut after {elapsed:?}");
    turn_until(&mut events, "the client sees the end", |_| client.has_reached_end());
    assert_eq!(client.end, Some(StreamEnd::Reset), "the client did not get the whole output");
}

#[test]
fn a_client_that_reads_a_little_now_and_then_is_not_closed() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).idle_timeout(milliseconds(20)).write_timeout(milliseconds(500));
    let handler = RecordingHandler::new(&log)
        .on_open(|connection| {
            fill(connection);
            true
        })
        .on_flushed(fill);
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    let start = Instant::now();
    turn_until(&mut events, "1.2 s have passed", |_| {
        client.read_up_to(256 * 1024);
        start.elapsed() > milliseconds(1200)
    });
    assert_eq!(log.close_reasons(), []);
}

#[test]
fn a_closing_connection_whose_client_reads_nothing_is_closed_after_the_write_timeout() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(32 * 1024 * 1024).write_timeout(milliseconds(200));
    let handler = RecordingHandler::new(&log).on_open(|connection| {
        connection.send(&vec![1; 32 * 1024 * 1024]).expect("the outbox is empty");
        connection.close();
        true
    });
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the connection is reset", |_| !log.close_reasons().is_empty());
    assert_eq!(log.close_reasons(), [CloseReason::WriteStalled], "the output was not delivered");
    turn_until(&mut events, "the client sees the end", |_| client.has_reached_end());
    assert_eq!(client.end, Some(StreamEnd::Reset));
}

#[test]
fn set_timeout_fires_once_and_never_early() {
    let (log, fired) = (CallLog::default(), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log)
        .on_open(|connection| {
            fired.borrow_mut().push(connection.context().now());
            connection.set_timeout(Some(milliseconds(100)));
            true
        })
        .on_timeout(|_| fired.borrow_mut().push(Instant::now()));
    let listener = events.listen(loopback(), handler).expect("a listener");
    let _client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the timeout fires", |_| fired.borrow().len() == 2);
    let after = fired.borrow()[1].duration_since(fired.borrow()[0]);
    assert!(after >= milliseconds(100), "fired after {after:?}");
    turn_until(&mut events, "150 ms have passed", |_| fired.borrow()[1].elapsed() > milliseconds(150));
    assert_eq!(log.all(), [Call::Open, Call::Timeout]);
}

#[test]
fn a_new_timeout_replaces_the_old_one_and_none_cancels_it() {
    let log = CallLog::default();
    let (start, fired) = (Cell::new(Instant::now()), Cell::new(None));
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log)
        .on_open(|connection| {
            connection.set_timeout(Some(milliseconds(20)));
            true
        })
        .on_data(|connection, input| {
            start.set(connection.context().now());
            connection.set_timeout((input == b"later").then_some(milliseconds(300)));
            input.len()
        })
        .on_timeout(|_| fired.set(Some(Instant::now())));
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut later, mut never) = (Client::connect(address), Client::connect(address));
    later.send(b"later");
    never.send(b"never");
    turn_until(&mut events, "one fires", |_| fired.get().is_some());
    let after = fired.get().expect("fired").duration_since(start.get());
    assert!(after >= milliseconds(290), "fired after {after:?}");
    turn_until_idle(&mut events);
    assert_eq!(log.count(&Call::Timeout), 1, "{:?}", log.all());
}

#[test]
fn on_timeout_closes_by_default() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(|connection| {
        assert_eq!(connection.try_write(b"too late"), 8);
        connection.set_timeout(Some(milliseconds(10)));
        true
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.read_to_end(&mut events), (&b"too late"[..], StreamEnd::Eof));
    drop(client);
    turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
    assert_eq!(log.all(), [Call::Open, Call::Timeout, Call::Closed(CloseReason::TimedOut)]);
}

#[test]
fn a_timeout_of_zero_that_is_set_again_and_again_fires_once_a_turn() {
    let (log, turns) = (CallLog::default(), RefCell::new(Vec::new()));
    let rearm = |connection: &mut Connection<'_>| connection.set_timeout(Some(Duration::ZERO));
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log)
        .on_open(|connection| {
            rearm(connection);
            true
        })
        .on_timeout(|connection| {
            let turn = connection.context().stats().turns;
            turns.borrow_mut().push(turn);
            if turns.borrow().len() < 50 {
                rearm(connection);
            }
        });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let _client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the timeout has fired", |_| turns.borrow().len() == 50);
    assert!(turns.borrow().is_sorted_by(|one, next| one < next), "twice in a turn: {turns:?}");
}

#[test]
fn a_turn_does_not_wait_for_a_deadline_that_passed_between_two_turns() {
    const IDLE: Duration = milliseconds(1500);
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener =
        events.listen(Listen::from(loopback()).idle_timeout(IDLE), RecordingHandler::new(&log)).expect("a listener");
    let _client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| !log.ids().is_empty());
    turn_until_idle(&mut events);
    let deadline = Instant::now() + TIMEOUT;
    while events.next_timeout() != Some(Duration::ZERO) {
        assert!(Instant::now() < deadline, "next_timeout never returns zero");
        std::thread::yield_now();
    }
    let start = Instant::now();
    while log.close_reasons().is_empty() {
        assert_eq!(events.turn(Some(TIMEOUT)).expect("the poll works"), Turn::Progress);
    }
    let late = start.elapsed();
    assert!(late < IDLE / 2, "the turn waited for {late:?} after the deadline");
    assert_eq!(log.close_reasons(), [CloseReason::TimedOut]);
}

#[test]
fn a_timeout_set_outside_a_callback_fires() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).idle_timeout(None);
    let listener = events.listen(at, RecordingHandler::new(&log)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&byte_pattern(10));
    turn_until(&mut events, "the client is accepted", |_| !log.inputs().is_empty());
    turn_until_idle(&mut events);
    assert_eq!(events.next_timeout(), None);
    events.context().connection(log.ids()[0]).expect("the connection is open").set_timeout(Some(milliseconds(30)));
    turn_until(&mut events, "the timeout fires", |_| log.count(&Call::Timeout) == 1);
}
