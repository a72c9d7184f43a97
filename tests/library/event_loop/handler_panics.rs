//! Panics in callbacks.
//!
//! With `catch_panics` a panic closes one connection. Without it, a panic ends the loop.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use halloo::{
    CloseReason, Connection, Context, Datagram, DatagramHandler, ErrorKind, EventLoop, LoopStopped, StreamHandler,
    UdpSocketId, datagrams, stream,
};
use support::wait::TIMEOUT;

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::nonblocking_client::{Client, StreamEnd, send_all};
use crate::helpers::recording_handler::{CallLog, RecordingHandler};
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle, turn_until_stopped};

/// Returns a loop that catches panics.
fn catching_loop<'h>() -> EventLoop<'h> {
    let mut events = EventLoop::new().expect("a loop");
    events.catch_panics(true);
    events
}

/// Turns the loop until a callback has panicked.
#[track_caller]
fn turn_until_panic(events: &mut EventLoop<'_>) {
    turn_until(events, "a panic", |events| events.stats().panics > 0);
}

/// The callback that panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Callback {
    Open,
    Data,
    Eof,
    Flushed,
    Timeout,
    Drain,
    Close,
}

/// A handler that panics in one callback, and counts the sessions that are dropped and closed.
struct PanickingHandler<'a> {
    panics_in: Callback,
    dropped: &'a Cell<u32>,
    closed: &'a Cell<u32>,
}

struct Session<'a> {
    dropped: &'a Cell<u32>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.dropped.set(self.dropped.get() + 1);
    }
}

impl PanickingHandler<'_> {
    fn panic_if_chosen(&self, callback: Callback) {
        assert_ne!(self.panics_in, callback, "this is the panic of the test");
    }
}

impl<'a> StreamHandler for PanickingHandler<'a> {
    type Session = Session<'a>;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Session<'a>> {
        self.panic_if_chosen(Callback::Open);
        if self.panics_in == Callback::Timeout {
            connection.set_timeout(Some(Duration::from_millis(1)));
        }
        Some(Session { dropped: self.dropped })
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, _: &mut Session<'a>, input: &[u8]) -> usize {
        self.panic_if_chosen(Callback::Data);
        let _ = connection.try_write(&vec![0; 131_073]);
        input.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, _: &mut Session<'a>, _: &[u8]) {
        self.panic_if_chosen(Callback::Eof);
        connection.close();
    }

    fn on_flushed(&mut self, _: &mut Connection<'_>, _: &mut Session<'a>) {
        self.panic_if_chosen(Callback::Flushed);
    }

    fn on_timeout(&mut self, _: &mut Connection<'_>, _: &mut Session<'a>) {
        self.panic_if_chosen(Callback::Timeout);
    }

    fn on_drain(&mut self, _: &mut Connection<'_>, _: &mut Session<'a>) {
        self.panic_if_chosen(Callback::Drain);
    }

    fn on_close(&mut self, _: &mut Connection<'_>, _session: Session<'a>, _: CloseReason) {
        self.closed.set(self.closed.get() + 1);
        self.panic_if_chosen(Callback::Close);
    }
}

/// One connection panics in a callback while another echoes. The first is reset, and the other is served.
fn assert_panic_contained(panics_in: Callback) {
    let (dropped, closed) = (Cell::new(0), Cell::new(0));
    let mut events = catching_loop();
    let handler = PanickingHandler { panics_in, dropped: &dropped, closed: &closed };
    let listener = events.listen(loopback(), handler).expect("a listener");
    let echo = events.listen(loopback(), stream(echo)).expect("a listener");
    let (address, echo) = (
        events.local_addr(listener).expect("the listener is open"),
        events.local_addr(echo).expect("the listener is open"),
    );
    let mut other = Client::connect(echo);
    assert_eq!(other.request(&mut events, b"before", 6), b"before");

    let mut panicking = Client::connect(address);
    match panics_in {
        Callback::Open | Callback::Timeout => {}
        Callback::Data | Callback::Flushed => panicking.send(b"?"),
        Callback::Eof | Callback::Close => panicking.half_close(),
        Callback::Drain => {
            turn_until(&mut events, "the client is accepted", |events| events.stats().accepted == 2);
            events.context().drain(TIMEOUT);
        }
    }
    turn_until_panic(&mut events);
    turn_until(&mut events, "the panicking connection is closed", |events| {
        panicking.has_reached_end() && events.stats().panics > 0
    });
    let sessions = u32::from(panics_in != Callback::Open);
    assert_eq!(dropped.get(), sessions, "its session is dropped once");
    assert_eq!(events.stats().panics, 1);
    if panics_in == Callback::Close {
        assert_eq!((closed.get(), panicking.end), (1, Some(StreamEnd::Eof)), "it was closed before the panic");
        assert_eq!(events.stats().closed(CloseReason::Eof), 1);
    } else {
        assert_eq!((closed.get(), panicking.end), (0, Some(StreamEnd::Reset)), "it is reset, without on_close");
        assert_eq!(events.stats().closed(CloseReason::Panicked), 1);
    }
    if panics_in != Callback::Drain {
        assert_eq!(other.request(&mut events, b"after", 5), b"after");
        turn_until_idle(&mut events);
        assert_eq!(events.stats().connections, 1);
        events.context().drain(TIMEOUT);
    }
    assert_eq!(other.read_to_end(&mut events).1, StreamEnd::Eof);
    drop(other);
    assert_eq!(turn_until_stopped(&mut events).forced, 0);
    assert_eq!((events.stats().connections, events.stats().closed_total()), (0, 2));
}

#[test]
fn a_panic_in_on_open_closes_only_its_connection() {
    assert_panic_contained(Callback::Open);
}

#[test]
fn a_panic_in_on_data_closes_only_its_connection() {
    assert_panic_contained(Callback::Data);
}

#[test]
fn a_panic_in_on_eof_closes_only_its_connection() {
    assert_panic_contained(Callback::Eof);
}

#[test]
fn a_panic_in_on_flushed_closes_only_its_connection() {
    assert_panic_contained(Callback::Flushed);
}

#[test]
fn a_panic_in_on_timeout_closes_only_its_connection() {
    assert_panic_contained(Callback::Timeout);
}

#[test]
fn a_panic_in_on_drain_closes_only_its_connection() {
    assert_panic_contained(Callback::Drain);
}

#[test]
fn a_panic_in_on_close_affects_no_other_connection() {
    assert_panic_contained(Callback::Close);
}

#[test]
fn the_rest_of_the_batch_is_served_after_a_panic() {
    let log = CallLog::default();
    let panics = Cell::new(true);
    let mut events = catching_loop();
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        assert!(!panics.replace(false), "this is the panic of the test");
        connection.try_write(input)
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(address)).collect();
    turn_until(&mut events, "the clients are accepted", |_| log.ids().len() == 20);
    turn_until_idle(&mut events);
    send_all(&mut clients, b"all at once");
    turn_until_panic(&mut events);
    for client in &mut clients {
        turn_until(&mut events, "an answer, or the reset", |_| client.has_received(11));
    }
    let panicking = clients.iter().filter(|client| client.end == Some(StreamEnd::Reset)).count();
    let served = clients.iter().filter(|client| client.received == b"all at once").count();
    assert_eq!((panicking, served), (1, 19));
    assert_eq!(log.close_reasons(), []);
}

#[test]
fn the_rest_of_the_backlog_is_accepted_after_a_panic() {
    let (log, opened) = (CallLog::default(), Cell::new(0));
    let mut events = catching_loop();
    let handler = RecordingHandler::new(&log)
        .on_open(|_| {
            opened.set(opened.get() + 1);
            assert_ne!(opened.get(), 3, "this is the panic of the test");
            true
        })
        .on_data(echo);
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(address)).collect();
    send_all(&mut clients, b"hello");
    turn_until_panic(&mut events);
    for client in &mut clients {
        turn_until(&mut events, "an answer, or the reset", |_| client.has_received(5));
    }
    assert_eq!(clients.iter().filter(|client| client.received == b"hello").count(), 9);
    assert_eq!((events.stats().connections, events.stats().closed(CloseReason::Panicked)), (9, 1));
}

#[test]
fn a_panic_does_not_lose_output_written_to_other_connections() {
    let log = CallLog::default();
    let mut events = catching_loop();
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        let (own_id, handler) = (connection.id(), connection.handler());
        connection.context().for_each_connection(handler, |other| {
            if other.id() != own_id {
                other.send(input).expect("the outbox is empty");
            }
        });
        panic!("this is the panic of the test");
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut panicking, mut other) = (Client::connect(address), Client::connect(address));
    turn_until(&mut events, "the clients are accepted", |_| log.ids().len() == 2);
    turn_until_idle(&mut events);
    panicking.send(b"last words");
    turn_until_panic(&mut events);
    turn_until(&mut events, "the last words", |_| other.has_received(10));
    assert_eq!(other.received, b"last words");
    assert_eq!(panicking.read_to_end(&mut events).1, StreamEnd::Reset);
}

#[test]
fn a_panic_in_on_datagram_loses_one_datagram() {
    let mut events = catching_loop();
    let handler = datagrams(|datagram, payload| {
        assert_ne!(payload, b"boom", "this is the panic of the test");
        assert!(datagram.reply(payload));
    });
    let socket = events.bind(loopback(), handler).expect("a socket");
    let address = events.local_addr(socket).expect("the socket is open");
    let peer = udp_socket("127.0.0.1");
    for payload in [&b"one"[..], b"boom", b"two", b"three"] {
        peer.send_to(payload, address).expect("the datagram is sent");
    }
    turn_until_panic(&mut events);
    for answer in [&b"one"[..], b"two", b"three"] {
        assert_eq!(recv(&mut events, &peer).0, answer);
    }
    assert_eq!((events.stats().datagrams_received, events.stats().datagrams_sent), (4, 3));
    assert_eq!(events.stats().panics, 1, "a callback has panicked");
}

/// A UDP handler that panics in `on_drain` before it removes its socket.
struct PanicsInDrain;

impl DatagramHandler for PanicsInDrain {
    fn on_datagram(&mut self, _: &mut Datagram<'_>, _: &[u8]) {}

    fn on_drain(&mut self, _: &mut Context, _: UdpSocketId) {
        panic!("this is the panic of the test");
    }
}

#[test]
fn a_panic_in_on_drain_of_a_udp_socket_releases_its_port_at_once() {
    let log = CallLog::default();
    let mut events = catching_loop();
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    let socket = events.bind(loopback(), PanicsInDrain).expect("a socket");
    let address = events.local_addr(socket).expect("the socket is open");
    turn_until(&mut events, "the client is accepted", |events| events.stats().accepted == 1);
    events.context().drain(TIMEOUT);
    turn_until_panic(&mut events);
    turn_until(&mut events, "the socket is closed", |events| events.local_addr(socket).is_err());
    std::net::UdpSocket::bind(address).expect("the port is free");
    assert_eq!(events.stats().connections, 1, "the drain continues");
    client.half_close();
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    turn_until_stopped(&mut events);
}

#[test]
fn a_panic_in_a_job_ends_only_that_job() {
    let mut events = catching_loop();
    let handle = events.handle();
    handle.post(|_| panic!("this is the panic of the test")).expect("the loop runs");
    handle.post(halloo::Context::stop).expect("the loop runs");
    turn_until_panic(&mut events);
    turn_until_stopped(&mut events);
    assert_eq!(events.stats().jobs, 2);
}

#[test]
fn a_panic_at_the_end_of_a_drain_leaves_its_report_correct() {
    let (closed, log) = (Cell::new(0), CallLog::default());
    let mut events = catching_loop();
    let handler = RecordingHandler::new(&log).on_close(|_| {
        closed.set(closed.get() + 1);
        assert_ne!(closed.get(), 2, "this is the panic of the test");
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let clients: Vec<Client> = (0..4).map(|_| Client::connect(address)).collect();
    turn_until(&mut events, "the clients are accepted", |_| log.ids().len() == 4);
    events.context().stop();
    turn_until_panic(&mut events);
    let report = turn_until_stopped(&mut events);
    assert_eq!((closed.get(), report.forced, report.finished), (clients.len(), 4, 0));
}

/// Turns the loop until a panic unwinds out of it.
#[track_caller]
fn turn_until_unwound(events: &mut EventLoop<'_>) {
    let deadline = Instant::now() + TIMEOUT;
    while catch_unwind(AssertUnwindSafe(|| events.turn(Some(Duration::from_millis(2))))).is_ok() {
        assert!(Instant::now() < deadline, "no panic came; {}", events.stats());
    }
}

#[test]
fn a_panic_that_unwinds_out_of_a_turn_ends_the_loop() {
    let mut events = EventLoop::new().expect("a loop");
    let handle = events.handle();
    handle.post(|_| panic!("this is the panic of the test")).expect("the loop runs");
    turn_until_unwound(&mut events);
    assert_eq!(events.stats().panics, 1);
    let error = events.turn(Some(Duration::ZERO)).expect_err("the loop has ended");
    assert_eq!(error.kind(), ErrorKind::Setup);
    assert!(error.to_string().contains("catch_panics(true)"), "{error}");
    assert_eq!(events.run().expect_err("the loop stays ended").kind(), ErrorKind::Setup);
    assert_eq!(events.next_timeout(), Some(Duration::ZERO), "an outer loop must turn it at once to get the error");
    assert_eq!(handle.stop(), Err(LoopStopped));
    assert_eq!(
        events.listen(loopback(), stream(echo)).expect_err("an ended loop does not listen").kind(),
        ErrorKind::Setup
    );
    let handler = events.attach(stream(echo));
    let id = events.context().connect(loopback(), handler);
    assert!(events.context().connection(id).is_none(), "an ended loop does not connect");
    events.context().drain(TIMEOUT);
    assert!(events.turn(Some(Duration::ZERO)).is_err(), "a drain does not restart it");
}

#[test]
fn a_loop_that_a_panic_has_ended_closes_everything_when_it_is_dropped() {
    let (dropped, closed) = (Cell::new(0), Cell::new(0));
    let mut events = EventLoop::new().expect("a loop");
    let handler = PanickingHandler { panics_in: Callback::Data, dropped: &dropped, closed: &closed };
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients = [Client::connect(address), Client::connect(address)];
    turn_until(&mut events, "the clients are accepted", |events| events.stats().accepted == 2);
    clients[0].send(b"?");
    turn_until_unwound(&mut events);
    drop(events);
    assert_eq!((dropped.get(), closed.get()), (2, 0), "the sessions are dropped with their handler");
    assert!(std::net::TcpStream::connect(address).is_err(), "the listener is closed");
    let mut idle = EventLoop::new().expect("a loop");
    for client in &mut clients {
        turn_until(&mut idle, "the end of the client's connection", |_| client.has_reached_end());
    }
}

#[test]
fn caught_panics_are_counted_and_close_only_their_connections() {
    let mut events = catching_loop();
    let handler = stream(|connection, input| {
        assert_ne!(input, b"boom", "this is the panic of the test");
        connection.try_write(input)
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let socket = events
        .bind(
            loopback(),
            datagrams(|datagram, payload| {
                assert_ne!(payload, b"boom", "this is the panic of the test");
                assert!(datagram.reply(payload));
            }),
        )
        .expect("a socket");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut panicking, mut other) = (Client::connect(address), Client::connect(address));
    panicking.send(b"boom");
    assert_eq!(other.request(&mut events, b"still there?", 12), b"still there?");
    assert_eq!(panicking.read_to_end(&mut events).1, StreamEnd::Reset);
    let peer = udp_socket("127.0.0.1");
    for payload in [&b"boom"[..], b"next"] {
        peer.send_to(payload, events.local_addr(socket).expect("the socket is open")).expect("the datagram is sent");
    }
    assert_eq!(recv(&mut events, &peer).0, b"next");
    events.handle().post(|_| panic!("this is the panic of the test")).expect("the loop runs");
    turn_until(&mut events, "the job's panic is counted", |events| events.stats().panics == 3);
    assert_eq!(events.stats().closed(CloseReason::Panicked), 1);
    assert_eq!(other.request(&mut events, b"and now?", 8), b"and now?");
}

#[test]
fn a_panic_that_ends_the_loop_drops_the_remaining_jobs_and_closes_its_listeners() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    events.handle().post(|_| panic!("this is the panic of the test")).expect("the loop runs");
    events.handle().post(move |_| drop(sender)).expect("the loop runs");
    turn_until_unwound(&mut events);
    assert_eq!(receiver.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected), "the job is dropped");
    assert!(std::net::TcpStream::connect(address).is_err(), "the listener is closed");
}
