//! Single cases of handlers: borrowed, boxed, or not attached.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::HOST;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::datagram::Datagram;
use crate::context::handler::{DatagramHandler, StreamHandler};
use crate::context::handler_impls::stream;
use crate::ids::{ConnectionId, HandlerId, TimerId, UdpSocketId};
use crate::options::listen::Listen;
use crate::testing::{Fault, Simulation, check};

const SERVER: SocketAddr = SocketAddr::new(HOST, 9);
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 9);
const MS: Duration = Duration::from_millis(1);

/// Overrides the default of every callback, and records each callback's name.
#[derive(Default)]
struct Journal {
    calls: RefCell<Vec<&'static str>>,
}

impl Journal {
    fn record(&self, call: &'static str) {
        self.calls.borrow_mut().push(call);
    }

    fn start(&self, context: &mut Context, id: HandlerId) {
        self.record("on_start");
        context.schedule(id, MS, 1);
    }

    fn open(&self, connection: &mut Connection<'_>) -> u32 {
        self.record("on_open");
        connection.set_timeout(Some(100 * MS));
        7
    }

    /// Answers with more than the outbox can take.
    fn answer(&self, call: &'static str, connection: &mut Connection<'_>, session: u32) {
        assert_eq!(session, 7, "the session of on_open");
        self.record(call);
        let _ = connection.try_write(&vec![0; 100_000]);
    }

    fn calls(&self) -> Vec<&'static str> {
        self.calls.borrow().clone()
    }
}

impl StreamHandler for Journal {
    type Session = u32;

    fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        self.start(context, id);
    }

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<u32> {
        Some(self.open(connection))
    }

    fn on_eof(&mut self, _: &mut Connection<'_>, _: &mut u32, _: &[u8]) {
        self.record("on_eof");
    }

    fn on_flushed(&mut self, _: &mut Connection<'_>, _: &mut u32) {
        self.record("on_flushed");
    }

    fn on_timeout(&mut self, _: &mut Connection<'_>, _: &mut u32) {
        self.record("on_timeout");
    }

    fn on_timer(&mut self, _: &mut Context, _: TimerId, value: u64) {
        assert_eq!(value, 1);
        self.record("on_timer");
    }

    fn on_notify(&mut self, _: &mut Connection<'_>, _: &mut u32, value: u64) {
        assert_eq!(value, 2);
        self.record("on_notify");
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut u32) {
        self.record("on_drain");
        connection.close();
    }

    fn on_connect_failed(&mut self, _: &mut Context, _: ConnectionId, _: io::Error) {
        self.record("on_connect_failed");
    }

    fn on_close(&mut self, _: &mut Connection<'_>, session: u32, _: CloseReason) {
        assert_eq!(session, 7);
        self.record("on_close");
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut u32, input: &[u8]) -> usize {
        self.answer("on_data", connection, *session);
        input.len()
    }

    fn input_bytes_min(&self) -> usize {
        self.record("input_bytes_min");
        1
    }
}

/// A datagram handler that keeps its socket in a drain, unlike the default.
impl DatagramHandler for Journal {
    fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        self.start(context, id);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        self.record("on_datagram");
        datagram.reply(payload);
    }

    fn on_timer(&mut self, _: &mut Context, _: TimerId, value: u64) {
        assert_eq!(value, 1);
        self.record("on_timer");
    }

    fn on_drain(&mut self, _: &mut Context, _: UdpSocketId) {
        self.record("on_drain");
    }
}

/// Makes every callback of the handler come.
fn exchange_over_a_stream(handler: impl StreamHandler) {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let handler = events.attach(handler);
    events.listen_for(Listen::from(SERVER), handler).expect("the address is free");
    events.context().connect(PEER, handler);
    let client = simulation.connect(SERVER).expect("a listener");
    client.send(b"a line\nhalf");
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert!(!client.received().is_empty(), "an answer");
    let mut connection = None;
    events.context().for_each_connection(handler, |each| connection = Some(each.id()));
    events.context().notify(connection.expect("a connection"), 2);
    simulation.run_until_idle(&mut events).expect("the poll works");
    client.shutdown_write();
    simulation.advance(100 * MS);
    simulation.run_until_idle(&mut events).expect("the poll works");
    events.context().drain(Duration::from_secs(1));
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert_eq!(events.stats().connections, 0, "the drain has closed the connections");
}

const CONNECTION_CALLBACKS: [&str; 12] = [
    "input_bytes_min",
    "on_close",
    "on_connect_failed",
    "on_data",
    "on_drain",
    "on_eof",
    "on_flushed",
    "on_notify",
    "on_open",
    "on_start",
    "on_timeout",
    "on_timer",
];

/// Returns the recorded names, each once.
fn distinct(calls: &[&'static str]) -> Vec<&'static str> {
    let mut distinct = calls.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

#[test]
fn a_borrowed_and_a_boxed_stream_handler_get_every_callback() {
    let mut journal = Journal::default();
    exchange_over_a_stream(&mut journal);
    let calls = journal.calls();
    assert_eq!(distinct(&calls), CONNECTION_CALLBACKS);

    let mut journal = Journal::default();
    exchange_over_a_stream(&mut journal as &mut dyn StreamHandler<Session = u32>);
    assert_eq!(journal.calls(), calls, "through a trait object");

    let mut journal = Journal::default();
    let boxed: Box<dyn StreamHandler<Session = u32>> = Box::new(&mut journal);
    exchange_over_a_stream(boxed);
    assert_eq!(journal.calls(), calls, "in a box");
}

/// Consumes pairs of bytes, and records the rest of each connection at EOF.
#[derive(Default)]
struct PairReader {
    rests: Vec<Vec<u8>>,
}

impl StreamHandler for PairReader {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        input.len() / 2 * 2
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, (): &mut (), rest: &[u8]) {
        self.rests.push(rest.to_vec());
        connection.close();
    }
}

#[test]
fn on_eof_gets_the_input_that_was_not_consumed_however_the_stream_was_cut() {
    check(0..200, |simulation| {
        let mut reader = PairReader::default();
        let mut events = simulation.event_loop();
        events.listen(SERVER, &mut reader).expect("the address is free");
        for fault in [Fault::LateReadiness, Fault::SpuriousReadiness] {
            simulation.inject(fault, 2 + simulation.random_below(10));
        }
        let client = simulation.connect(SERVER).expect("a listener");
        let length = u8::try_from(simulation.random_below(10)).expect("less than ten");
        for byte in 1..=length {
            client.send(&[byte]);
            if simulation.random_below(2) == 0 {
                let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
            }
        }
        client.shutdown_write();
        simulation.clear_faults();
        simulation.run_until_idle(&mut events).expect("the poll works");
        drop(events);
        let rest = if length % 2 == 0 { vec![] } else { vec![length] };
        assert_eq!(reader.rests, [rest], "after {length} bytes");
    });
}

#[test]
fn a_borrowed_and_a_boxed_datagram_handler_get_every_callback() {
    let exchange = |handler: &mut dyn DatagramHandler| {
        let simulation = Simulation::new(1);
        let mut events = simulation.event_loop();
        events.bind(SERVER, handler).expect("the address is free");
        simulation.send_datagram(PEER, SERVER, b"hello");
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!(simulation.receive_datagram(PEER), Some((SERVER, b"hello".to_vec())));
        events.context().drain(Duration::from_secs(1));
        simulation.run_until_idle(&mut events).expect("the poll works");
    };
    let mut journal = Journal::default();
    exchange(&mut journal);
    let calls = journal.calls();
    assert_eq!(calls, ["on_start", "on_datagram", "on_timer", "on_drain"]);

    let mut journal = Journal::default();
    let mut boxed: Box<dyn DatagramHandler> = Box::new(&mut journal);
    exchange(&mut boxed);
    drop(boxed);
    assert_eq!(journal.calls(), calls, "in a box");
}

#[test]
fn a_handler_whose_listener_cannot_be_opened_is_dropped() {
    let mut events = Simulation::new(1).event_loop();
    let at = Listen::from(SERVER).input_bytes_max(0);
    assert!(events.listen(at.clone(), stream(|_, input| input.len())).is_err());
    assert!(events.context().listen(at, stream(|_, input| input.len())).is_err());
    assert!(events.context.handlers.is_empty() && events.context.added.is_empty());
}
