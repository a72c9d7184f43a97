//! `notify` and `on_notify`.
//!
//! A value is delivered once, in order, to its own connection.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use halloo::{CloseReason, ConnectionId, EventLoop, LoopStopped, stream};
use support::wait::TIMEOUT;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::nonblocking_listener::{FullBacklog, Listener, unused_address};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

/// Returns a loop with the handler, and `count` connected clients.
fn with_clients<'a>(handler: RecordingHandler<'a>, log: &CallLog, count: usize) -> (EventLoop<'a>, Vec<Client>) {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let clients = (0..count).map(|_| Client::connect(address)).collect();
    turn_until(&mut events, "all are open", |_| log.ids().len() == count);
    turn_until_idle(&mut events);
    (events, clients)
}

fn notified_values(log: &CallLog, id: ConnectionId) -> Vec<u64> {
    let value = |called| if let Call::Notify(value) = called { Some(value) } else { None };
    log.of(id).into_iter().filter_map(value).collect()
}

#[test]
fn a_note_is_delivered_once_in_order_and_after_the_call() {
    let log = CallLog::default();
    let (mut events, _clients) = with_clients(RecordingHandler::new(&log), &log, 3);
    let ids = log.ids();
    for value in 0..10 {
        for id in &ids {
            events.context().notify(*id, value);
        }
    }
    assert_eq!(notified_values(&log, ids[0]), [], "on_notify came inside the call");
    assert_eq!(events.next_timeout(), Some(Duration::ZERO), "the loop has work");
    turn_until_idle(&mut events);
    for id in ids {
        assert_eq!(notified_values(&log, id), (0..10).collect::<Vec<_>>());
    }
    assert_eq!(events.stats().notes, 30);
}

#[test]
fn notes_from_other_threads_wake_the_loop_and_arrive_in_order_for_each_thread() {
    let log = CallLog::default();
    let (mut events, _clients) = with_clients(RecordingHandler::new(&log), &log, 1);
    let id = log.ids()[0];
    let threads: Vec<_> = (0..4)
        .map(|thread: u64| {
            let handle = events.handle();
            thread::spawn(move || {
                (0..1_000).try_for_each(|value| handle.notify(id, thread * 10_000 + value)).expect("the loop runs");
            })
        })
        .collect();
    turn_until(&mut events, "all are delivered", |events| events.stats().notes == 4_000);
    for thread in threads {
        thread.join().expect("no panic");
    }
    turn_until_idle(&mut events);
    let values = notified_values(&log, id);
    for thread in 0..4 {
        let thread_values: Vec<u64> =
            values.iter().filter(|value| **value / 10_000 == thread).map(|value| value % 10_000).collect();
        assert_eq!(thread_values, (0..1_000).collect::<Vec<_>>());
    }
}

#[test]
fn a_note_wakes_a_loop_that_waits_for_nothing_else() {
    let (log, count) = (CallLog::default(), AtomicU64::new(0));
    let (mut events, _clients) = with_clients(
        RecordingHandler::new(&log).on_notify(|connection, _| {
            if count.fetch_add(1, Ordering::Relaxed) == 49 {
                connection.context().stop();
            }
        }),
        &log,
        1,
    );
    let (id, handle) = (log.ids()[0], events.handle());
    let other = thread::spawn(move || (0..50).try_for_each(|value| handle.notify(id, value)));
    events.run().expect("the poll works");
    other.join().expect("no panic").expect("it ran");
    assert_eq!(count.load(Ordering::Relaxed), 50);
}

#[test]
fn a_note_to_a_closing_or_closed_connection_is_dropped() {
    let log = CallLog::default();
    let (mut events, mut clients) = with_clients(RecordingHandler::new(&log), &log, 3);
    let ids = log.ids();
    events.context().notify(ids[0], 1);
    events.context().connection(ids[0]).expect("the connection is open").close();
    events.context().notify(ids[1], 2);
    events.context().connection(ids[1]).expect("the connection is open").abort();
    turn_until(&mut events, "they are closed", |_| clients[..2].iter_mut().all(Client::has_reached_end));
    drop(clients.drain(..2));
    turn_until(&mut events, "their slots are free", |events| events.stats().connections == 1);
    // Two new connections reuse their slots.
    let address = clients[0].peer_addr();
    clients.extend([Client::connect(address), Client::connect(address)]);
    turn_until(&mut events, "the connections are open", |_| log.ids().len() == 5);
    for id in ids.iter().take(2) {
        events.context().notify(*id, 3);
        events.handle().notify(*id, 4).expect("the loop runs");
    }
    turn_until_idle(&mut events);
    assert_eq!(events.stats().notes, 0);
    assert!(log.ids().iter().all(|id| notified_values(&log, *id).is_empty()));
}

#[test]
fn a_note_to_a_connecting_connection_waits_until_it_is_open() {
    let (log, server, full_backlog) = (CallLog::default(), Listener::new(), FullBacklog::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let ids =
        [server.address(), unused_address(), full_backlog.address()].map(|to| events.context().connect(to, handler));
    for value in 1..=3 {
        for id in ids {
            events.context().notify(id, value);
        }
    }
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    let _peer = server.accept(&mut events);
    turn_until(&mut events, "two are settled", |_| log.ids().len() + log.connect_errors().len() == 2);
    events.context().notify(ids[0], 4);
    turn_until(&mut events, "all four", |_| notified_values(&log, ids[0]).len() == 4);
    events.context().connection(ids[2]).expect("the connection is opening").abort();
    turn_until_idle(&mut events);
    let expected: Vec<Call> = std::iter::once(Call::Open).chain((1..=4).map(Call::Notify)).collect();
    assert_eq!(log.of(ids[0]), expected);
    assert!(
        ids[1..].iter().all(|id| notified_values(&log, *id).is_empty()),
        "on_notify came for a connection that never opened"
    );
    assert_eq!(events.stats().notes, 4);
}

#[test]
fn a_waiting_note_is_dropped_if_on_open_refuses_closes_or_panics() {
    for case in ["refused", "closed", "aborted", "closed before", "panicked", "closed by the first"] {
        let (log, server) = (CallLog::default(), Listener::new());
        let mut events = EventLoop::new().expect("a loop");
        events.catch_panics(true);
        let handler = RecordingHandler::new(&log)
            .on_open(|connection| {
                match case {
                    "closed" => connection.close(),
                    "aborted" => connection.abort(),
                    "panicked" => panic!("this is the panic of the test"),
                    _ => {}
                }
                case != "refused"
            })
            .on_notify(|connection, _| connection.close());
        let handler = events.attach(handler);
        let id = events.context().connect(server.address(), handler);
        for value in 0..2 {
            events.context().notify(id, value);
        }
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        if case == "closed before" {
            events.context().connection(id).expect("the connection is opening").close();
        }
        drop(server.accept(&mut events));
        turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
        turn_until_idle(&mut events);
        let expected: &[u64] = if case == "closed by the first" { &[0] } else { &[] };
        assert_eq!(notified_values(&log, id), expected, "{case}");
        assert_eq!(events.stats().panics, u64::from(case == "panicked"), "{case}");
        assert_eq!(events.stats().notes, expected.len() as u64, "{case}");
    }
}

#[test]
fn on_notify_can_write_close_and_abort() {
    let log = CallLog::default();
    let handler = RecordingHandler::new(&log).on_notify(|connection, value| match value {
        0 => connection.send(b"by the way").expect("there is room"),
        1 => connection.close(),
        _ => connection.abort(),
    });
    let (mut events, mut clients) = with_clients(handler, &log, 3);
    let ids = log.ids();
    for (id, value) in ids.iter().zip([0, 1, 2]) {
        events.context().notify(*id, value);
    }
    turn_until(&mut events, "all three", |_| {
        clients[0].has_received(10) && clients[1].has_reached_end() && clients[2].has_reached_end()
    });
    assert_eq!(clients[0].received, b"by the way");
    assert_eq!((clients[1].end, clients[2].end), (Some(StreamEnd::Eof), Some(StreamEnd::Reset)));
    drop(clients.drain(1..));
    turn_until(&mut events, "two are closed", |_| log.close_reasons().len() == 2);
    assert_eq!(log.of(ids[1]).last(), Some(&Call::Closed(CloseReason::Local)));
    assert_eq!(log.of(ids[2]).last(), Some(&Call::Closed(CloseReason::Aborted)));
}

#[test]
fn connections_that_notify_each_other_forever_do_not_starve_other_connections() {
    let (log, ids) = (CallLog::default(), Cell::new(None::<[ConnectionId; 2]>));
    let handler = RecordingHandler::new(&log).on_notify(|connection, value| {
        let [one, other] = ids.get().expect("both are open");
        let to = if connection.id() == one { other } else { one };
        connection.context().notify(to, value + 1);
    });
    let (mut events, _clients) = with_clients(handler, &log, 2);
    ids.set(Some([log.ids()[0], log.ids()[1]]));
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    events.context().notify(log.ids()[0], 0);
    let (turns, before) = (events.stats().turns, events.stats().notes);
    for _ in 0..50 {
        let _ = events.turn(Some(TIMEOUT)).expect("the poll works");
    }
    assert_eq!(events.stats().notes - before, events.stats().turns - turns, "one note is delivered in each turn");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.request(&mut events, b"Hello, TCP Server!", GREETING.len()), GREETING);
}

#[test]
fn notes_are_delivered_in_portions_and_none_is_lost() {
    let log = CallLog::default();
    let (mut events, _clients) = with_clients(RecordingHandler::new(&log), &log, 1);
    let (id, handle) = (log.ids()[0], events.handle());
    for value in 0..3_000 {
        events.context().notify(id, value);
        handle.notify(id, 10_000 + value).expect("the loop runs");
    }
    let mut last = 0;
    turn_until(&mut events, "all are delivered", |events| {
        let delivered = events.stats().notes - last;
        assert!(delivered <= 2_048, "{delivered} in a turn");
        last += delivered;
        last == 6_000
    });
    turn_until_idle(&mut events);
    assert_eq!(notified_values(&log, id).len(), 6_000);
}

#[test]
fn calls_of_a_handle_fail_once_the_loop_has_ended_also_from_several_threads() {
    let log = CallLog::default();
    let (mut events, _clients) = with_clients(RecordingHandler::new(&log), &log, 1);
    let (id, ran) = (log.ids()[0], Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (handle, ran) = (events.handle(), Arc::clone(&ran));
            // Posts until the loop reports that it has stopped.
            thread::spawn(move || {
                let mut accepted = 0;
                loop {
                    let ran = Arc::clone(&ran);
                    let posted = handle.post(move |_| {
                        ran.fetch_add(1, Ordering::Relaxed);
                    });
                    match posted.and_then(|()| handle.notify(id, accepted)) {
                        Ok(()) => accepted += 1,
                        Err(LoopStopped) => return (accepted, handle),
                    }
                }
            })
        })
        .collect();
    turn_until(&mut events, "all threads post", |_| ran.load(Ordering::Relaxed) > 1_000);
    events.context().drain(Duration::from_millis(20));
    turn_until_stopped(&mut events);
    let mut accepted = 0;
    for thread in threads {
        let (count, handle) = thread.join().expect("no panic");
        accepted += count;
        assert_eq!((handle.notify(id, 0), handle.stop()), (Err(LoopStopped), Err(LoopStopped)));
    }
    let stats = events.stats();
    assert!(stats.jobs <= accepted + 8 && stats.jobs == ran.load(Ordering::Relaxed), "{stats}");
    assert!(stats.notes <= accepted && stats.notes == notified_values(&log, id).len() as u64, "{stats}");
}
