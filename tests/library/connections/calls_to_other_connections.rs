//! Calls from one callback to other connections.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use halloo::{CloseReason, Connection, ConnectionId, EventLoop, stream};

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd, send_all};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

#[test]
fn a_broadcast_reaches_every_connection_of_its_handler_and_no_other() {
    let mut events = EventLoop::new().expect("a loop");
    let broadcast = events.attach(stream(|connection, input| {
        let handler = connection.handler();
        connection.context().for_each_connection(handler, |other| other.send(input).expect("the outbox is empty"));
        input.len()
    }));
    let listeners = [loopback(), loopback()].map(|at| events.listen_for(at, broadcast).expect("a listener"));
    let addresses = listeners.map(|listener| events.local_addr(listener).expect("the listener is open"));
    let other_listener = events.listen(loopback(), stream(|_, input| input.len())).expect("a listener");
    let mut other_client = Client::connect(events.local_addr(other_listener).expect("the listener is open"));
    let mut clients: Vec<Client> = addresses.iter().cycle().take(20).map(|address| Client::connect(*address)).collect();
    turn_until(&mut events, "all are accepted", |events| events.stats().accepted == 21);
    clients[7].send(b"hello all");
    for client in &mut clients {
        turn_until(&mut events, "the broadcast", |_| client.has_received(9));
        assert_eq!(client.received, b"hello all");
    }
    turn_until_idle(&mut events);
    other_client.transfer();
    assert_eq!(other_client.received, b"");
}

#[test]
fn output_for_another_connection_is_sent_in_the_same_turn() {
    let silent: Cell<Option<ConnectionId>> = Cell::new(None);
    let sent = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    let listener = events
        .listen(
            loopback(),
            stream(|connection, input| {
                if input == b"me" {
                    silent.set(Some(connection.id()));
                } else {
                    let id = silent.get().expect("the silent client sent first");
                    let mut other = connection.context().connection(id).expect("the connection is open");
                    assert_eq!((other.send(b"for "), other.send(b"you")), (Ok(()), Ok(())));
                    assert_eq!(other.outbox_len(), 7, "output is sent after the callback");
                    sent.set(connection.context().stats().turns);
                }
                input.len()
            }),
        )
        .expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut one, mut other) = (Client::connect(address), Client::connect(address));
    one.send(b"me");
    turn_until(&mut events, "the silent client is accepted", |_| silent.get().is_some());
    turn_until_idle(&mut events);
    other.send(b"go");
    turn_until(&mut events, "the output is sent", |_| sent.get() > 0);
    assert_eq!(events.stats().turns, sent.get(), "it was sent in the turn of the callback");
    let id = silent.get().expect("known");
    assert_eq!(events.context().connection(id).expect("the connection is open").outbox_len(), 0);
    turn_until(&mut events, "the output arrives", |_| one.has_received(7));
    assert_eq!(one.received, b"for you");
}

#[test]
fn the_id_of_a_closed_connection_finds_nothing_and_is_never_reused() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_data(greet)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    for round in 1..=50 {
        let mut client = Client::connect(address);
        client.send(b"?");
        assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
        turn_until(&mut events, "the connection is closed", |events| events.stats().closed_total() == round);
    }
    let _last = Client::connect(address);
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 51);
    let ids = log.ids();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 51);
    let known = |id: &&ConnectionId| events.context().connection(**id).is_some();
    assert_eq!(ids.iter().filter(known).collect::<Vec<_>>(), [&ids[50]]);
}

/// Two clients send at once. The first to reach `on_data` ends the other, whose event is in the same batch. Two more
/// clients connect afterwards. Returns the id that stayed open and the id that was ended.
fn close_other(log: &CallLog, end: impl Fn(&mut Connection<'_>)) -> (ConnectionId, ConnectionId) {
    let ids: RefCell<Vec<ConnectionId>> = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(log)
        .on_open(|connection| {
            ids.borrow_mut().push(connection.id());
            true
        })
        .on_data(|connection, input| {
            if input == b"duel" {
                let own_id = connection.id();
                let other = *ids.borrow().iter().find(|id| **id != own_id).expect("there are two");
                end(&mut connection.context().connection(other).expect("the connection is open"));
                assert!(connection.context().connection(other).is_none(), "it is closing");
            }
            input.len()
        });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients = [Client::connect(address), Client::connect(address)];
    turn_until(&mut events, "both are accepted", |_| log.ids().len() == 2);
    turn_until_idle(&mut events);
    send_all(&mut clients, b"duel");
    let mut third = Client::connect(address);
    third.send(b"third");
    turn_until(&mut events, "one is over", |_| log.close_reasons().len() == 1);
    let mut fourth = Client::connect(address);
    fourth.send(b"fourth");
    turn_until(&mut events, "the others reach on_data", |_| log.inputs().len() >= 3);
    turn_until_idle(&mut events);
    let ids = log.ids();
    let expected = |bytes: &[u8]| [Call::Open, Call::Data(bytes.to_vec())];
    assert_eq!(log.of(ids[2]), expected(b"third"), "the new clients get no event of the old ones");
    assert_eq!(log.of(ids[3]), expected(b"fourth"));
    let is_closed = |id: &&ConnectionId| log.of(**id).iter().any(|called| matches!(called, Call::Closed(_)));
    let closed = *ids.iter().find(is_closed).expect("one is over");
    (*ids[..2].iter().find(|id| **id != closed).expect("the other"), closed)
}

#[test]
fn a_connection_aborted_by_another_in_the_same_batch_gets_only_on_close() {
    let log = CallLog::default();
    let (open, closed) = close_other(&log, |other| other.abort());
    assert_eq!(log.of(closed), [Call::Open, Call::Closed(CloseReason::Aborted)]);
    assert_eq!(log.of(open), [Call::Open, Call::Data(b"duel".to_vec())]);
}

#[test]
fn a_connection_closed_by_another_in_the_same_batch_gets_only_on_close() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events
        .listen(
            loopback(),
            RecordingHandler::new(&log).on_data(|connection, input| {
                let (own_id, handler) = (connection.id(), connection.handler());
                connection.context().for_each_connection(handler, |other| {
                    if other.id() != own_id {
                        other.close();
                    }
                });
                input.len()
            }),
        )
        .expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(address)).collect();
    turn_until(&mut events, "all are accepted", |_| log.ids().len() == 10);
    turn_until_idle(&mut events);
    send_all(&mut clients, b"I am the only one");
    turn_until(&mut events, "one is left", |_| {
        clients.iter_mut().map(Client::has_reached_end).filter(|has_ended| !has_ended).count() == 1
    });
    assert_eq!(log.inputs().len(), 1, "the first on_data closes all other connections");
    clients.retain(|client| client.end.is_none());
    turn_until(&mut events, "nine are over", |_| log.close_reasons().len() == 9);
    assert_eq!(log.close_reasons(), [CloseReason::Local; 9]);
}

#[test]
fn a_connection_can_be_reached_between_two_turns() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let listener = events.listen_for(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| !log.ids().is_empty());
    turn_until_idle(&mut events);
    assert_eq!(events.context().connection(log.ids()[0]).expect("the connection is open").send(b"data"), Ok(()));
    assert_eq!(events.next_timeout(), Some(Duration::ZERO), "the loop has work");
    turn_until(&mut events, "the output arrives", |_| client.has_received(4));
    events.context().for_each_connection(handler, |connection| connection.close());
    assert_eq!(client.read_to_end(&mut events), (&b"data"[..], StreamEnd::Eof));
}

#[test]
fn callbacks_that_pause_and_resume_each_other_forever_do_not_starve_other_connections() {
    let rounds = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        let handler = connection.handler();
        rounds.set(rounds.get() + 1);
        connection.context().for_each_connection(handler, |other| {
            other.pause();
            other.resume();
        });
        // Never the whole input, so that each resume delivers the rest again.
        input.len() - 1
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let greeter = events.listen(loopback(), stream(greet)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut pair = [Client::connect(address), Client::connect(address)];
    send_all(&mut pair, b"ping");
    turn_until(&mut events, "both call each other", |_| rounds.get() > 10);
    let mut client = Client::connect(events.local_addr(greeter).expect("the listener is open"));
    assert_eq!(client.request(&mut events, b"Hello, TCP Server!", GREETING.len()), GREETING);
}
