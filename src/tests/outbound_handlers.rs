//! Handlers that open outbound connections, and the outcome of each.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::Workload;
use super::handlers::{CallbackLog, PanicInjector};
use super::planned_client::pattern;
use super::sim_servers::{SERVER_RESPONSE, Target};
use super::timer_checks::TimerChecks;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::handler::StreamHandler;
use crate::ids::{ConnectionId, HandlerId, TimerId};
use crate::options::connect::Connect;
use crate::state::phase::Phase;
use crate::testing::Simulation;

/// The state of an outbound connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OutboundState {
    Requested,
    Open,
    Closed,
    Failed,
}

/// One requested connection.
pub(super) struct OutboundRecord {
    pub(super) target: Target,
    pub(super) state: OutboundState,
    /// The bytes that the outbox has taken.
    pub(super) written: Vec<u8>,
    /// The local address, once it is open.
    pub(super) local: Option<SocketAddr>,
    /// It was aborted: none of its bytes must arrive.
    pub(super) is_aborted: bool,
    /// It was closed with the reason `Reset`.
    pub(super) is_lost: bool,
}

/// All requested connections and their outcomes.
#[derive(Default)]
pub(super) struct OutboundLog {
    pub(super) by_id: BTreeMap<ConnectionId, OutboundRecord>,
    /// By value: the connection to notify, and the turn of the call.
    notify_values: BTreeMap<u64, (ConnectionId, u64)>,
    last_notify_value: u64,
    /// Clients of the proxy, each with the local address of its outbound connection.
    pub(super) proxied: BTreeMap<SocketAddr, SocketAddr>,
    /// Clients of the proxy whose outbound connection failed.
    pub(super) failed_proxied: BTreeSet<SocketAddr>,
    /// Whether this world injects errors that make a connection fail.
    pub(super) may_fail: bool,
    pub(super) requested: u64,
    pub(super) failed: u64,
}

impl OutboundLog {
    /// Returns a new value for a connection, and records its recipient.
    pub(super) fn next_notify_value(&mut self, id: ConnectionId, turn: u64) -> u64 {
        self.last_notify_value += 1;
        self.notify_values.insert(self.last_notify_value, (id, turn));
        self.last_notify_value
    }

    fn record_notify(&mut self, id: ConnectionId, value: u64) {
        let (recipient, _) = self.notify_values.remove(&value).expect("a note comes once, and only if it was sent");
        assert_eq!(recipient, id, "a note comes to its own connection");
    }

    /// A note to an open connection is delivered by the end of the turn after the call.
    pub(super) fn assert_notes_are_delivered(&self, context: &Context) {
        let turn = context.stats.turns;
        for (value, (id, given)) in &self.notify_values {
            let entry = context.connections.get(id.slot as usize).filter(|entry| entry.generation == id.generation);
            let is_open = entry.is_some_and(|entry| entry.state.phase == Phase::Open);
            assert!(!is_open || given + 2 > turn, "note {value} of turn {given} has not reached {id:?}");
        }
    }

    fn record_request(&mut self, id: ConnectionId, target: Target) {
        self.requested += 1;
        let call = OutboundRecord {
            target,
            state: OutboundState::Requested,
            written: Vec::new(),
            local: None,
            is_aborted: false,
            is_lost: false,
        };
        assert!(self.by_id.insert(id, call).is_none(), "{id:?} is reused");
    }

    pub(super) fn record(&mut self, id: ConnectionId) -> &mut OutboundRecord {
        self.by_id.get_mut(&id).expect("the connect is recorded")
    }

    /// Moves a connection from one state to the next.
    fn advance(&mut self, id: ConnectionId, from: OutboundState, to: OutboundState) {
        let call = self.record(id);
        assert_eq!(call.state, from, "{id:?} is {to:?} now");
        call.state = to;
    }

    fn record_failure(&mut self, id: ConnectionId, error: &io::Error) {
        self.failed += 1;
        self.advance(id, OutboundState::Requested, OutboundState::Failed);
        let may_fail = self.may_fail;
        let OutboundRecord { target, is_aborted: is_given_up, .. } = self.record(id);
        let is_expected = match error.kind() {
            io::ErrorKind::ConnectionAborted | io::ErrorKind::OutOfMemory => true,
            io::ErrorKind::InvalidInput => *target == Target::InvalidOptions,
            io::ErrorKind::TimedOut => *target == Target::Blackhole || may_fail,
            io::ErrorKind::ConnectionRefused => *target == Target::Refuses || may_fail,
            io::ErrorKind::ConnectionReset => *target == Target::Resets || may_fail,
            _ => may_fail,
        };
        assert!(is_expected, "{id:?} to {target:?} has failed: {error}, given up: {is_given_up}");
    }

    /// Whether every connection is closed or failed.
    pub(super) fn are_finished(&self) -> bool {
        self.by_id.values().all(|call| matches!(call.state, OutboundState::Closed | OutboundState::Failed))
    }
}

/// Writes `count` bytes of the pattern, and records how many were taken.
fn write(outbound_log: &mut OutboundLog, connection: &mut Connection<'_>, count: u64) {
    let call = outbound_log.record(connection.id());
    let first = call.written.len();
    let bytes = pattern(0, first, usize::try_from(count).expect("a length"));
    let written = connection.try_write(&bytes);
    call.written.extend(&bytes[..written]);
}

/// Connects to a random target, and makes random calls before the connection is open.
pub(super) fn open_outbound(
    outbound_log: &Rc<RefCell<OutboundLog>>,
    simulation: &Simulation,
    context: &mut Context,
    handler: HandlerId,
) {
    let target = Target::ALL[usize::try_from(simulation.random_below(Target::ALL.len() as u64)).expect("an index")];
    let mut to = Connect::from(target.address()).idle_timeout(None).write_timeout(None);
    let has_few_descriptors = simulation.world.borrow().descriptors_max < 100;
    match target {
        Target::Blackhole => to = to.timeout(Duration::from_millis(1 + simulation.random_below(3_000))),
        Target::InvalidOptions => to = to.timeout(Duration::ZERO),
        // A connected stream: the server gets the other end. The descriptor does not count towards the limit.
        Target::Answers if simulation.random_below(4) == 0 && !has_few_descriptors => {
            let (adopted, peer) = simulation.stream_pair();
            to = adopted.idle_timeout(None).write_timeout(None);
            let mut world = simulation.world.borrow_mut();
            world.remote_listeners.get_mut(&target.address()).expect("the target listens").push_back(peer.socket());
        }
        _ if simulation.random_below(3) == 0 => {
            let limit = usize::try_from(1 + simulation.random_below(100)).expect("a length");
            to = to.outbox_bytes_max(limit).input_bytes_max(limit);
        }
        _ => {}
    }
    let id = context.connect(to, handler);
    let turn = context.stats.turns;
    if context.connection(id).is_none() {
        return;
    }
    let mut outbound_log = outbound_log.borrow_mut();
    outbound_log.record_request(id, target);
    for _ in 0..simulation.random_below(4) {
        let value = outbound_log.next_notify_value(id, turn);
        context.notify(id, value);
    }
    let mut connection = context.connection(id).expect("the connection is opening");
    for _ in 0..simulation.random_below(3) {
        write(&mut outbound_log, &mut connection, simulation.random_below(3_000));
    }
    match simulation.random_below(12) {
        0 | 1 => connection.shutdown_write(),
        2 => connection.close(),
        3 => {
            connection.abort();
            outbound_log.record(id).is_aborted = true;
        }
        4 => connection.pause(),
        _ => {}
    }
}

/// Connects to servers of every kind, writes all or half of a message, and checks what arrives.
pub(super) struct OutboundHandler {
    pub(super) callback_log: Rc<RefCell<CallbackLog>>,
    pub(super) outbound_log: Rc<RefCell<OutboundLog>>,
    pub(super) timer_checks: Rc<RefCell<TimerChecks>>,
    pub(super) simulation: Simulation,
    pub(super) own_id: Rc<Cell<Option<HandlerId>>>,
    /// Panics in callbacks that concern no connection.
    pub(super) panic_injector: Option<PanicInjector>,
}

impl OutboundHandler {
    fn maybe_panic(&self) {
        if let Some(panic_injector) = &self.panic_injector {
            panic_injector.maybe_panic(8);
        }
    }
}

impl StreamHandler for OutboundHandler {
    /// The bytes received.
    type Session = Vec<u8>;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Vec<u8>> {
        let (id, simulation) = (connection.id(), &self.simulation);
        let mut outbound_log = self.outbound_log.borrow_mut();
        outbound_log.advance(id, OutboundState::Requested, OutboundState::Open);
        outbound_log.record(id).local = Some(connection.local_addr().expect("an open connection"));
        write(&mut outbound_log, connection, simulation.random_below(2_000));
        if simulation.random_below(8) == 0 {
            outbound_log.advance(id, OutboundState::Open, OutboundState::Closed);
            return None;
        }
        self.callback_log.borrow_mut().open(id);
        match simulation.random_below(4) {
            0 => connection.pause(),
            1 => connection.shutdown_write(),
            _ => {}
        }
        connection.set_timeout(Some(Duration::from_micros(simulation.random_below(20_000))));
        Some(Vec::new())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, received: &mut Vec<u8>, input: &[u8]) -> usize {
        assert!(connection.is_reading(), "on_data came for a paused or closed connection");
        let part = 1 + usize::try_from(self.simulation.random_below(input.len() as u64)).expect("a length");
        received.extend(&input[..part]);
        assert!(SERVER_RESPONSE.starts_with(received), "{received:?} was never sent");
        part
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, received: &mut Vec<u8>, rest: &[u8]) {
        assert!(rest.is_empty(), "all input was consumed");
        if self.outbound_log.borrow_mut().record(connection.id()).target == Target::Answers {
            assert_eq!(received, SERVER_RESPONSE, "EOF comes after all bytes");
        }
        // Otherwise the connection closes by itself, because both sides have ended.
        if self.simulation.random_below(2) == 0 {
            connection.close();
        }
    }

    fn on_timeout(&mut self, connection: &mut Connection<'_>, _: &mut Vec<u8>) {
        connection.resume();
        write(&mut self.outbound_log.borrow_mut(), connection, self.simulation.random_below(100));
        connection.shutdown_write();
    }

    fn on_notify(&mut self, connection: &mut Connection<'_>, _: &mut Vec<u8>, value: u64) {
        let (id, turn) = (connection.id(), connection.context().stats.turns);
        let mut outbound_log = self.outbound_log.borrow_mut();
        outbound_log.record_notify(id, value);
        match self.simulation.random_below(16) {
            0 => connection.close(),
            1 => {
                connection.abort();
                outbound_log.record(id).is_aborted = true;
            }
            2 => connection.shutdown_write(),
            3..8 => write(&mut outbound_log, connection, 10),
            8 => {
                let value = outbound_log.next_notify_value(id, turn);
                connection.context().notify(id, value);
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, context: &mut Context, timer: TimerId, value: u64) {
        self.timer_checks.borrow_mut().record_fired(context, timer, value);
        self.maybe_panic();
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut Vec<u8>) {
        self.callback_log.borrow_mut().record_drain(connection.id());
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, _: Vec<u8>, reason: CloseReason) {
        let id = connection.id();
        self.callback_log.borrow_mut().close(id, reason);
        let mut outbound_log = self.outbound_log.borrow_mut();
        outbound_log.advance(id, OutboundState::Open, OutboundState::Closed);
        outbound_log.record(id).is_lost = reason == CloseReason::Reset;
        outbound_log.record(id).is_aborted |= reason == CloseReason::OutOfMemory;
    }

    fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
        self.outbound_log.borrow_mut().record_failure(id, &error);
        if self.simulation.random_below(4) == 0 {
            open_outbound(
                &self.outbound_log,
                &self.simulation,
                context,
                self.own_id.get().expect("the handler is attached"),
            );
        }
        self.maybe_panic();
    }
}

/// Forwards bytes in both directions, between its clients and a server that echoes.
pub(super) struct ProxyHandler {
    pub(super) callback_log: Rc<RefCell<CallbackLog>>,
    pub(super) outbound_log: Rc<RefCell<OutboundLog>>,
    pub(super) to: Connect,
}

/// The client of the proxy for which a connection is opened.
type Proxied = (ConnectionId, SocketAddr);

impl StreamHandler for ProxyHandler {
    /// The connection on the other side.
    type Session = ConnectionId;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<ConnectionId> {
        let (id, handler) = (connection.id(), connection.handler());
        self.callback_log.borrow_mut().open(id);
        let mut outbound_log = self.outbound_log.borrow_mut();
        if connection.listener().is_none() {
            let (client, address): Proxied = connection.take_value().expect("the connect had a value");
            outbound_log.proxied.insert(address, connection.local_addr().expect("an open connection"));
            return Some(client);
        }
        let client = connection.peer_addr().expect("a client has an address");
        let outbound = connection.context().connect_with(self.to.clone(), handler, (id, client));
        outbound_log.requested += u64::from(connection.context().connection(outbound).is_some());
        Some(outbound)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, other: &mut ConnectionId, input: &[u8]) -> usize {
        let written = connection.context().connection(*other).map_or(input.len(), |mut other| other.try_write(input));
        if written < input.len() {
            connection.pause();
        }
        written
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, other: &mut ConnectionId) {
        if let Some(mut other) = connection.context().connection(*other) {
            other.resume();
        }
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, other: &mut ConnectionId, _: &[u8]) {
        match connection.context().connection(*other) {
            Some(mut other) => other.shutdown_write(),
            None => connection.close(),
        }
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut ConnectionId) {
        self.callback_log.borrow_mut().record_drain(connection.id());
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, other: ConnectionId, reason: CloseReason) {
        self.callback_log.borrow_mut().close(connection.id(), reason);
        if reason != CloseReason::Eof
            && let Some(mut other) = connection.context().connection(other)
        {
            other.abort();
        }
    }

    fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
        let (client, address): Proxied = context.take_value(id).expect("the connect had a value");
        let mut outbound_log = self.outbound_log.borrow_mut();
        outbound_log.failed += 1;
        assert!(
            outbound_log.may_fail
                || matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::OutOfMemory),
            "{id:?} has failed: {error}"
        );
        outbound_log.failed_proxied.insert(address);
        if let Some(mut client) = context.connection(client) {
            client.abort();
        }
    }
}

impl Workload {
    /// Notifies one of the connections requested so far, through the context or a handle.
    pub(super) fn notify(&mut self) {
        let mut outbound_log = self.outbound_log.borrow_mut();
        let index = usize::try_from(self.simulation.random_below(outbound_log.by_id.len() as u64)).expect("an index");
        let Some(id) = outbound_log.by_id.keys().nth(index).copied() else { return };
        let value = outbound_log.next_notify_value(id, self.events.stats().turns);
        if self.simulation.random_below(2) == 0 {
            self.events.context().notify(id, value);
        } else {
            self.events.handle().notify(id, value).expect("the loop runs");
        }
    }
}
