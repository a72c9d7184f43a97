//! Values given to `connect_with`: taken in a callback, or dropped.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use halloo::{ConnectionId, EventLoop, HandlerId};

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::Client;
use crate::helpers::nonblocking_listener::{FullBacklog, Listener, unused_address};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

/// A value that counts its drops.
struct CountsDrops(Rc<Cell<u32>>);

impl Drop for CountsDrops {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn take_value_returns_the_value_in_on_open_and_in_on_connect_failed() {
    let (log, server) = (CallLog::default(), Listener::new());
    let (opened, failed) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(
        RecordingHandler::new(&log)
            .on_open(|connection| {
                opened.borrow_mut().push((connection.id(), connection.take_value::<String>()));
                assert_eq!(connection.take_value::<String>(), None, "a value is taken once");
                true
            })
            .on_connect_failed(|context, id, _| failed.borrow_mut().push((id, context.take_value::<String>(id)))),
    );
    let mut ask = |to, value: &str| events.context().connect_with(to, handler, value.to_owned());
    let expected: Vec<(ConnectionId, Option<String>)> =
        ["one", "two", "three"].map(|value| (ask(server.address(), value), Some(value.to_owned()))).into();
    let expected_failed = vec![(ask(unused_address(), "four"), Some("four".to_owned()))];
    turn_until(&mut events, "all have come", |_| opened.borrow().len() == 3 && failed.borrow().len() == 1);
    opened.borrow_mut().sort();
    assert_eq!((opened.take(), failed.take()), (expected, expected_failed));
}

#[test]
fn take_value_with_another_type_returns_none_and_keeps_the_value() {
    let (log, server, taken) = (CallLog::default(), Listener::new(), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| {
        if connection.listener().is_some() {
            assert_eq!(connection.take_value::<u32>(), None, "an accepted connection has no value");
            return true;
        }
        assert_eq!((connection.take_value::<u64>(), connection.take_value::<&str>()), (None, None));
        taken.borrow_mut().push(connection.take_value::<u32>());
        true
    }));
    let listener = events.listen_for(loopback(), handler).expect("a listener");
    let _client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    events.context().connect_with(server.address(), handler, 7_u32);
    events.context().connect(server.address(), handler);
    turn_until(&mut events, "all are open", |_| log.ids().len() == 3);
    taken.borrow_mut().sort_unstable();
    assert_eq!(taken.take(), [None, Some(7)]);
}

#[test]
fn a_value_can_be_taken_before_the_connection_is_open() {
    let (log, server, taken) = (CallLog::default(), Listener::new(), Cell::new(Some(0)));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| {
        taken.set(connection.take_value::<i32>());
        true
    }));
    let id = events.context().connect_with(server.address(), handler, 7);
    assert_eq!(events.context().take_value::<i32>(id), Some(7));
    turn_until(&mut events, "the connection is open", |_| log.ids().len() == 1);
    assert_eq!(taken.get(), None);
}

#[test]
fn a_value_that_is_not_taken_is_dropped_when_its_callback_returns() {
    let (log, server, drops) = (CallLog::default(), Listener::new(), Rc::new(Cell::new(0)));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(
        RecordingHandler::new(&log)
            .on_open(|_| {
                assert_eq!(drops.get(), 0, "the value stays until on_open returns");
                true
            })
            .on_notify(|connection, value| {
                assert_eq!(u64::from(drops.get()), value, "the value is dropped before the next callback");
                assert!(connection.take_value::<CountsDrops>().is_none());
            })
            .on_connect_failed(|_, _, _| assert_eq!(drops.get(), 1, "the value stays until on_connect_failed returns")),
    );
    let value = || CountsDrops(Rc::clone(&drops));
    let id = events.context().connect_with(server.address(), handler, value());
    events.context().notify(id, 1);
    turn_until(&mut events, "the connection is open", |_| log.count(&Call::Notify(1)) == 1);
    events.context().connect_with(unused_address(), handler, value());
    turn_until(&mut events, "the failure", |_| log.connect_errors().len() == 1);
    assert_eq!(drops.get(), 2);
}

/// Ends a connection before it is open.
type GiveUp = fn(&mut EventLoop<'_>, ConnectionId);

#[test]
fn the_value_of_an_aborted_connect_reaches_on_connect_failed() {
    let abort: GiveUp = |events, id| events.context().connection(id).expect("the connection is opening").abort();
    let stop: GiveUp = |events, _| events.context().stop();
    let drain: GiveUp = |events, _| events.context().drain(Duration::from_millis(20));
    for give_up in [abort, stop, drain] {
        let (log, full_backlog, taken) = (CallLog::default(), FullBacklog::new(), RefCell::new(Vec::new()));
        let mut events = EventLoop::new().expect("a loop");
        let handler = events.attach(RecordingHandler::new(&log).on_connect_failed(|context, id, error| {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            taken.borrow_mut().extend(context.take_value::<u32>(id));
        }));
        let waiting = events.context().connect_with(full_backlog.address(), handler, 1_u32);
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        let pending = events.context().connect_with(full_backlog.address(), handler, 2_u32);
        for id in [waiting, pending] {
            give_up(&mut events, id);
        }
        turn_until(&mut events, "both have failed", |_| log.connect_errors().len() == 2);
        taken.borrow_mut().sort_unstable();
        assert_eq!(taken.take(), [1, 2]);
    }
}

#[test]
fn for_an_unknown_handler_the_value_is_dropped_at_once() {
    let (log, server, drops) = (CallLog::default(), Listener::new(), Rc::new(Cell::new(0)));
    let connect = |events: &mut EventLoop<'_>, handler: HandlerId| {
        let id = events.context().connect_with(server.address(), handler, CountsDrops(Rc::clone(&drops)));
        assert!(events.context().connection(id).is_none() && events.context().take_value::<CountsDrops>(id).is_none());
    };
    let mut events = EventLoop::new().expect("a loop");
    let [handler, removed] = [(); 2].map(|()| events.attach(RecordingHandler::new(&log)));
    events.context().connect(server.address(), removed);
    assert!(events.context().remove(removed));
    connect(&mut events, removed);
    assert_eq!(drops.get(), 1, "the handler was removed");
    turn_until(&mut events, "the pending connect opens", |_| log.ids().len() == 1);
    events.context().stop();
    turn_until_stopped(&mut events);
    connect(&mut events, handler);
    assert_eq!(drops.get(), 2, "the loop has ended");
}

#[test]
fn a_loop_that_is_dropped_drops_the_values_it_holds() {
    let (log, full_backlog, drops) = (CallLog::default(), FullBacklog::new(), Rc::new(Cell::new(0)));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    events.context().connect_with(full_backlog.address(), handler, CountsDrops(Rc::clone(&drops)));
    turn_until_idle(&mut events);
    assert_eq!(drops.get(), 0);
    drop(events);
    assert_eq!((drops.get(), log.all()), (1, Vec::new()));
}
