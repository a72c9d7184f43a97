//! `drain` and `stop`.
//!
//! Clients with a request are answered, and a stopped loop stays stopped.

use std::cell::{Cell, RefCell};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use halloo::{
    CloseReason, Context, Datagram, DatagramHandler, EventLoop, Listen, LoopStopped, Turn, UdpSocketId, datagrams,
    stream,
};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::nonblocking_client::{Client, StreamEnd, send_all};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle, turn_until_stopped};

const LONG: Duration = Duration::from_secs(600);

#[test]
fn clients_in_the_backlog_and_clients_with_requests_are_answered_in_a_drain() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_data(greet)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(address)).collect();
    turn_until(&mut events, "the clients are accepted", |_| log.ids().len() == 40);
    clients.extend((0..200).map(|_| Client::connect(address)));
    send_all(&mut clients, b"Hello, TCP Server!");
    events.context().drain(LONG);
    for client in &mut clients {
        assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    }
    let report = turn_until_stopped(&mut events);
    assert_eq!((report.finished, report.forced), (240, 0));
    assert!(report.elapsed < LONG);
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
    assert_eq!(log.count(&Call::Closed(CloseReason::Local)), 240);
}

#[test]
fn a_closure_answers_pending_requests_before_it_closes() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut accepted = Client::connect(address);
    turn_until(&mut events, "the client is accepted", |events| events.stats().accepted == 1);
    turn_until_idle(&mut events);
    let mut in_backlog = Client::connect(address);
    accepted.send(b"Hello, TCP Server!");
    in_backlog.send(b"Hello, TCP Server!");
    events.context().drain(LONG);
    assert_eq!(accepted.read_to_end(&mut events), (GREETING, StreamEnd::Eof), "an accepted client is answered");
    assert_eq!(in_backlog.read_to_end(&mut events), (GREETING, StreamEnd::Eof), "a client in the backlog is answered");
    assert_eq!(turn_until_stopped(&mut events).finished, 2);
}

#[test]
fn a_closure_closes_its_silent_connections_when_the_loop_drains() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        assert_eq!(client.request(&mut events, b"once", 4), b"once");
    }
    events.context().drain(LONG);
    for client in &mut clients {
        assert_eq!(client.read_to_end(&mut events), (&b"once"[..], StreamEnd::Eof));
    }
    drop(clients);
    let report = turn_until_stopped(&mut events);
    assert_eq!((report.finished, report.forced), (10, 0));
}

#[test]
fn on_drain_comes_once_for_every_connection() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut before = Client::connect(address);
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
    let mut during = Client::connect(address);
    events.context().drain(LONG);
    turn_until(&mut events, "on_drain has come for both", |_| log.count(&Call::Drain) >= 2);
    before.send(b"one more question");
    turn_until(&mut events, "the input reaches on_data", |_| log.inputs().len() == 1);
    turn_until_idle(&mut events);
    events.context().drain(LONG);
    turn_until_idle(&mut events);
    for id in log.ids() {
        assert_eq!(log.of(id).iter().filter(|called| **called == Call::Drain).count(), 1);
    }
    before.half_close();
    during.half_close();
    assert_eq!(
        (before.read_to_end(&mut events).1, during.read_to_end(&mut events).1),
        (StreamEnd::Eof, StreamEnd::Eof)
    );
    assert_eq!(turn_until_stopped(&mut events).finished, 2);
}

#[test]
fn listeners_close_although_a_silent_client_delays_the_drain() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let client = Client::connect(address);
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
    events.context().drain(LONG);
    turn_until(&mut events, "on_drain has come", |_| log.count(&Call::Drain) == 1);
    turn_until_idle(&mut events);
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
    assert!(events.local_addr(listener).is_err());
    assert_eq!(log.close_reasons(), []);
    drop(client);
    assert_eq!(turn_until_stopped(&mut events).finished, 1);
}

#[test]
fn at_the_end_of_a_drain_a_silent_client_is_reset_and_counted_as_forced() {
    const GRACE: Duration = Duration::from_millis(200);
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut silent, mut half_closing) = (Client::connect(address), Client::connect(address));
    turn_until(&mut events, "both are accepted", |_| log.ids().len() == 2);
    events.context().drain(GRACE);
    half_closing.half_close();
    assert_eq!(half_closing.read_to_end(&mut events).1, StreamEnd::Eof);
    let report = turn_until_stopped(&mut events);
    assert_eq!((report.finished, report.forced), (1, 1));
    assert!(report.elapsed >= GRACE, "it took {:?}", report.elapsed);
    assert_eq!(log.close_reasons(), [CloseReason::Eof, CloseReason::Drained]);
    assert_eq!((events.stats().closed(CloseReason::Drained), events.stats().connections), (1, 0));
    let mut other = EventLoop::new().expect("a loop");
    assert_eq!(silent.read_to_end(&mut other).1, StreamEnd::Reset);
}

#[test]
fn a_second_drain_only_shortens_the_first() {
    for (first, second) in [(LONG, Duration::from_millis(50)), (Duration::from_millis(50), LONG)] {
        let log = CallLog::default();
        let mut events = EventLoop::new().expect("a loop");
        let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
        let _silent = Client::connect(events.local_addr(listener).expect("the listener is open"));
        turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
        events.context().drain(first);
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        events.context().drain(second);
        let report = turn_until_stopped(&mut events);
        assert_eq!((report.finished, report.forced), (0, 1));
        assert!(report.elapsed < LONG, "it took {:?}", report.elapsed);
    }
}

#[test]
fn a_stop_ends_a_drain_at_once() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let _silent = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
    events.context().drain(LONG);
    turn_until(&mut events, "on_drain has come", |_| log.count(&Call::Drain) == 1);
    events.context().stop();
    assert!(matches!(events.turn(None).expect("the poll works"), Turn::Stopped(report) if report.forced == 1));
}

#[test]
fn a_stop_resets_every_connection_and_is_final() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let handle = events.handle();
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(address)).collect();
    turn_until(&mut events, "the clients are accepted", |_| log.ids().len() == 5);
    handle.stop().expect("the loop runs");
    let report = turn_until_stopped(&mut events);
    assert_eq!((report.finished, report.forced), (0, 5));
    assert_eq!(log.close_reasons(), [CloseReason::Drained; 5]);

    for _ in 0..3 {
        assert_eq!(events.turn(None).expect("no poll is needed"), Turn::Stopped(report));
    }
    assert_eq!(events.run().expect("no poll is needed"), report);
    events.context().drain(LONG);
    assert_eq!(events.turn(None).expect("no poll is needed"), Turn::Stopped(report));
    assert_eq!(
        (handle.stop(), handle.drain(LONG), handle.post(|_| {})),
        (Err(LoopStopped), Err(LoopStopped), Err(LoopStopped))
    );
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
    let mut other = EventLoop::new().expect("a loop");
    for client in &mut clients {
        assert_eq!(client.read_to_end(&mut other).1, StreamEnd::Reset);
    }
}

#[test]
fn a_stop_in_a_callback_lets_the_callback_end() {
    let after = Cell::new(false);
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        connection.context().stop();
        after.set(connection.send(b"never").is_ok());
        input.len()
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"quit");
    let report = turn_until_stopped(&mut events);
    assert!(after.get());
    assert_eq!((report.finished, report.forced), (0, 1));
}

#[test]
fn without_connections_a_drain_ends_at_once() {
    let mut events = EventLoop::new().expect("a loop");
    events.listen(loopback(), stream(greet)).expect("a listener");
    events.bind(loopback(), datagrams(|_, _| {})).expect("a socket");
    events.context().drain(LONG);
    let report = turn_until_stopped(&mut events);
    assert_eq!((report.finished, report.forced), (0, 0));
}

#[test]
fn a_lingering_connection_counts_as_finished_and_not_as_forced() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_data(greet)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&byte_pattern(20_000));
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    assert_eq!(events.stats().connections, 1, "the connection lingers");
    events.context().stop();
    let report = turn_until_stopped(&mut events);
    assert_eq!((report.finished, report.forced), (1, 0));
    assert_eq!(log.close_reasons(), [CloseReason::Local]);
}

#[test]
fn a_drain_serves_clients_that_wait_in_the_backlog_for_connections_max() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).connections_max(1);
    let listener = events.listen(at, RecordingHandler::new(&log).on_data(greet)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(address)).collect();
    turn_until(&mut events, "one is accepted", |_| log.ids().len() == 1);
    turn_until_idle(&mut events);
    events.context().drain(LONG);
    for client in &mut clients {
        client.send(b"Hello, TCP Server!");
        assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    }
    assert_eq!(turn_until_stopped(&mut events).finished, 6);
}

#[test]
fn queued_datagrams_are_answered_in_a_drain() {
    let mut events = EventLoop::new().expect("a loop");
    let echo = datagrams(|datagram, payload| assert!(datagram.reply(payload)));
    let socket = events.bind(loopback(), echo).expect("a socket");
    let address = events.local_addr(socket).expect("the socket is open");
    let peer = udp_socket("127.0.0.1");
    for number in 0..150u8 {
        peer.send_to(&[number], address).expect("the datagram is sent");
    }
    events.context().drain(LONG);
    turn_until_stopped(&mut events);
    assert_eq!((events.stats().datagrams_received, events.stats().datagrams_sent), (150, 150));
    assert!(events.local_addr(socket).is_err(), "the socket is closed");
}

#[test]
fn a_stop_delivers_no_further_datagram_and_sends_queued_replies() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = datagrams(|datagram, payload| {
        assert!(datagram.reply(payload));
        datagram.context().stop();
    });
    let socket = events.bind(loopback(), handler).expect("a socket");
    let (peer, address) = (udp_socket("127.0.0.1"), events.local_addr(socket).expect("the socket is open"));
    for _ in 0..5 {
        peer.send_to(b"stop", address).expect("the datagram is sent");
    }
    turn_until_stopped(&mut events);
    assert_eq!((events.stats().datagrams_received, events.stats().datagrams_sent), (1, 1));
}

/// A UDP echo that keeps or removes its socket in `on_drain`.
struct DrainingEcho<'a> {
    keeps_socket: bool,
    drained: &'a RefCell<Vec<UdpSocketId>>,
}

impl DatagramHandler for DrainingEcho<'_> {
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        assert!(datagram.reply(payload));
    }

    fn on_drain(&mut self, context: &mut Context, socket: UdpSocketId) {
        self.drained.borrow_mut().push(socket);
        if !self.keeps_socket {
            assert!(context.remove(socket));
        }
    }
}

#[test]
fn a_udp_socket_kept_in_a_drain_is_served_and_delays_the_end_until_it_is_removed() {
    let (log, drained) = (CallLog::default(), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let handler = DrainingEcho { keeps_socket: true, drained: &drained };
    let socket = events.bind(loopback(), handler).expect("a socket");
    let address = events.local_addr(socket).expect("the socket is open");
    let client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
    events.context().drain(LONG);
    turn_until(&mut events, "on_drain has come", |_| log.count(&Call::Drain) == 1);
    turn_until_idle(&mut events);
    let peer = udp_socket("127.0.0.1");
    for _ in 0..3 {
        peer.send_to(b"still?", address).expect("the datagram is sent");
        assert_eq!(recv(&mut events, &peer).0, b"still?");
    }
    assert_eq!(*drained.borrow(), [socket], "on_drain comes once");
    drop(client);
    turn_until(&mut events, "the client's connection is closed", |events| events.stats().connections == 0);
    turn_until_idle(&mut events);
    assert!(events.context().remove(socket), "the socket is open");
    assert_eq!(turn_until_stopped(&mut events).finished, 1);
}

#[test]
fn in_a_drain_a_udp_port_is_free_after_its_queued_datagrams_although_a_client_stays() {
    let (log, drained) = (CallLog::default(), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let closure = datagrams(|datagram, payload| assert!(datagram.reply(payload)));
    let handler = DrainingEcho { keeps_socket: false, drained: &drained };
    let sockets =
        [events.bind(loopback(), closure).expect("a socket"), events.bind(loopback(), handler).expect("a socket")];
    let addresses = sockets.map(|socket| events.local_addr(socket).expect("the socket is open"));
    let client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
    let peer = udp_socket("127.0.0.1");
    for number in 0..150u8 {
        peer.send_to(&[number], addresses[usize::from(number % 2)]).expect("the datagram is sent");
    }
    events.context().drain(LONG);
    turn_until(&mut events, "the sockets are gone", |events| sockets.iter().all(|id| events.local_addr(*id).is_err()));
    assert_eq!((events.stats().datagrams_received, events.stats().datagrams_sent), (150, 150));
    for address in addresses {
        UdpSocket::bind(address).expect("the port is free");
    }
    assert_eq!((events.stats().connections, &*drained.borrow()), (1, &vec![sockets[1]]));
    drop(client);
    assert_eq!(turn_until_stopped(&mut events).finished, 1);
}

#[test]
fn what_on_drain_writes_before_a_close_arrives() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_drain(|connection| {
        greet(connection, &[]);
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
    events.context().drain(LONG);
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    drop(client);
    turn_until_stopped(&mut events);
    assert_eq!(log.all(), [Call::Open, Call::Drain, Call::Closed(CloseReason::Local)]);
}

#[test]
fn a_stop_accepts_no_further_client() {
    for stops_in_callback in [true, false] {
        let log = CallLog::default();
        let mut events = EventLoop::new().expect("a loop");
        let handler = RecordingHandler::new(&log).on_open(|connection| {
            connection.context().stop();
            true
        });
        let listener = events.listen(loopback(), handler).expect("a listener");
        let address = events.local_addr(listener).expect("the listener is open");
        let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(address)).collect();
        if !stops_in_callback {
            events.context().stop();
        }
        let report = turn_until_stopped(&mut events);
        let accepted = usize::from(stops_in_callback);
        assert_eq!((log.ids().len(), report.forced), (accepted, accepted as u64), "in a callback: {stops_in_callback}");
        assert_eq!(events.stats().accepted, accepted as u64);
        let mut other = EventLoop::new().expect("a loop");
        for client in &mut clients {
            assert_eq!(client.read_to_end(&mut other).1, StreamEnd::Reset);
        }
    }
}

#[test]
fn a_stop_during_a_drain_accepts_no_further_client_and_opens_nothing() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(|connection| {
        let handler = connection.handler();
        let context = connection.context();
        context.stop();
        let id = context.connect(loopback(), handler);
        assert!(context.connection(id).is_none(), "a connect after a stop opens nothing");
        true
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let clients: Vec<Client> = (0..10).map(|_| Client::connect(address)).collect();
    events.context().drain(LONG);
    turn_until_stopped(&mut events);
    assert_eq!((log.ids().len(), clients.len()), (1, 10));
}
