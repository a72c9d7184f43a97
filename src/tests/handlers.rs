//! Handlers of the workload, which check their callbacks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::thread::panicking;
use std::time::Duration;

use super::outbound_handlers::OutboundLog;
use super::planned_client::GREETING;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::handler::StreamHandler;
use crate::ids::{ConnectionId, HandlerId, TimerId};
use crate::shared_bytes::SharedBytes;
use crate::testing::{Fault, Simulation};

/// The connections that were opened and closed.
#[derive(Default)]
pub(super) struct CallbackLog {
    pub(super) open: BTreeSet<ConnectionId>,
    closed: BTreeSet<ConnectionId>,
    answered: BTreeSet<ConnectionId>,
    /// The connections that got `on_drain`, and those that were reset at the end of the drain.
    drain_notified: BTreeSet<ConnectionId>,
    drained: BTreeSet<ConnectionId>,
}

impl CallbackLog {
    pub(super) fn open(&mut self, id: ConnectionId) -> ConnectionId {
        assert!(self.open.insert(id) && !self.closed.contains(&id), "{id:?} is reused");
        id
    }

    pub(super) fn close(&mut self, id: ConnectionId, reason: CloseReason) {
        assert!(self.open.remove(&id), "{id:?} closes and was not open");
        self.closed.insert(id);
        if reason == CloseReason::Drained {
            self.drained.insert(id);
        }
    }

    pub(super) fn record_drain(&mut self, id: ConnectionId) {
        assert!(self.drain_notified.insert(id), "{id:?} got on_drain twice");
    }

    /// A connection that was open when the drain began, and stayed to its end, got `on_drain`.
    pub(super) fn assert_notified(&self, before: &[ConnectionId]) {
        for id in before.iter().filter(|id| self.drained.contains(id)) {
            assert!(self.drain_notified.contains(id), "{id:?} was reset and did not get on_drain");
        }
    }

    /// No connection times out although input arrived before its deadline.
    fn assert_not_over_input(simulation: &Simulation, connection: &mut Connection<'_>, reason: CloseReason) {
        let (Some(client), slot) = (connection.peer_addr(), connection.id().slot) else { return };
        let (world, context) = (simulation.world.borrow(), connection.context());
        let (state, limits) = (&context.connections[slot as usize].state, context.connection_limits(slot));
        // Readiness that is reported late hides input. A paused connection reads none.
        if reason != CloseReason::TimedOut || state.paused || world.faults.has(Fault::LateReadiness) {
            return;
        }
        let deadline = state.last_progress.after(limits.idle_timeout.expect("there is an idle timeout")).as_duration();
        let unread_since = world.unread_since(client);
        let is_in_time = unread_since.is_some_and(|arrived| arrived < deadline);
        assert!(!is_in_time, "timed out at {deadline:?} with input of {unread_since:?}: {state:?}");
    }

    fn assert_open(&self, connection: &Connection<'_>, session: ConnectionId) {
        assert_eq!(connection.id(), session, "the session is that of the connection");
        assert!(self.open.contains(&session), "a callback came for {session:?}, which is not open");
    }
}

/// Lets a callback take time. It exceeds a linger only in worlds whose clients do not depend on one.
pub(super) fn take_time(simulation: &Simulation) {
    if simulation.random_below(16) == 0 {
        let is_lenient = simulation.world.borrow().faults.has(Fault::Pause);
        let most = if is_lenient { 3_000 } else { 30 };
        simulation.advance(Duration::from_millis(simulation.random_below(most)));
    }
}

/// Answers once, at the first bytes or at EOF. It sometimes pauses the echo connections.
pub(super) struct GreetHandler {
    pub(super) callback_log: Rc<RefCell<CallbackLog>>,
    pub(super) simulation: Simulation,
    pub(super) echo: HandlerId,
    pub(super) greets_on_open: bool,
}

impl GreetHandler {
    fn greet(&self, connection: &mut Connection<'_>) {
        assert!(self.callback_log.borrow_mut().answered.insert(connection.id()), "answered twice");
        connection.send(GREETING).expect("the outbox of a new connection is empty");
        connection.close();
        if self.simulation.random_below(4) == 0 {
            connection.context().for_each_connection(self.echo, |other| {
                other.pause();
                other.set_timeout(Some(Duration::from_millis(1)));
            });
        }
    }
}

impl StreamHandler for GreetHandler {
    type Session = ConnectionId;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<ConnectionId> {
        take_time(&self.simulation);
        let id = self.callback_log.borrow_mut().open(connection.id());
        if self.greets_on_open {
            self.greet(connection);
        }
        Some(id)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut ConnectionId, input: &[u8]) -> usize {
        self.callback_log.borrow().assert_open(connection, *session);
        self.greet(connection);
        input.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, session: &mut ConnectionId, rest: &[u8]) {
        assert!(rest.is_empty(), "all input was consumed");
        self.callback_log.borrow().assert_open(connection, *session);
        self.greet(connection);
    }

    fn on_drain(&mut self, _: &mut Connection<'_>, session: &mut ConnectionId) {
        self.callback_log.borrow_mut().record_drain(*session);
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, session: ConnectionId, reason: CloseReason) {
        self.callback_log.borrow().assert_open(connection, session);
        CallbackLog::assert_not_over_input(&self.simulation, connection, reason);
        self.callback_log.borrow_mut().close(session, reason);
    }
}

/// Echoes input. It sometimes takes only a part, and pauses until a timeout.
pub(super) struct EchoHandler {
    pub(super) callback_log: Rc<RefCell<CallbackLog>>,
    pub(super) simulation: Simulation,
}

impl StreamHandler for EchoHandler {
    type Session = ConnectionId;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<ConnectionId> {
        Some(self.callback_log.borrow_mut().open(connection.id()))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut ConnectionId, input: &[u8]) -> usize {
        take_time(&self.simulation);
        self.callback_log.borrow().assert_open(connection, *session);
        assert!(connection.is_reading(), "on_data came for a paused or closed connection");
        let mut part = input.len();
        if self.simulation.random_below(4) == 0 {
            part = usize::try_from(self.simulation.random_below(input.len() as u64)).expect("a length");
            connection.pause();
            connection.set_timeout(Some(Duration::from_millis(1)));
        }
        if self.simulation.random_below(4) == 0 {
            connection.try_write_shared(&SharedBytes::from(&input[..part]))
        } else {
            connection.try_write(&input[..part])
        }
    }

    fn on_timeout(&mut self, connection: &mut Connection<'_>, session: &mut ConnectionId) {
        take_time(&self.simulation);
        self.callback_log.borrow().assert_open(connection, *session);
        connection.resume();
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, session: &mut ConnectionId) {
        self.callback_log.borrow_mut().record_drain(*session);
        if self.simulation.random_below(4) > 0 {
            connection.drain();
        }
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, session: ConnectionId, reason: CloseReason) {
        CallbackLog::assert_not_over_input(&self.simulation, connection, reason);
        self.callback_log.borrow_mut().close(session, reason);
    }
}

/// The payload of the panics that this file injects.
pub(super) struct InjectedPanic;

/// Injects such panics and counts them, so that any other panic is found.
#[derive(Clone)]
pub(super) struct PanicInjector {
    pub(super) simulation: Simulation,
    pub(super) injected: Rc<Cell<u64>>,
}

impl PanicInjector {
    /// Panics once in `one_in` calls on average. It bypasses the panic hook, which would print each one.
    pub(super) fn maybe_panic(&self, one_in: u64) {
        // After a failed check, a destructor that panics would end the process before the check is reported.
        if !panicking() && self.simulation.random_below(one_in) == 0 {
            self.injected.set(self.injected.get() + 1);
            resume_unwind(Box::new(InjectedPanic));
        }
    }
}

/// Panics in its callbacks now and then, sets addresses of peers, and rejects some. Its session counts references, which shows when it is dropped.
pub(super) struct PanickingHandler {
    pub(super) panic_injector: PanicInjector,
    pub(super) outbound_log: Rc<RefCell<OutboundLog>>,
    pub(super) session: Rc<()>,
}

impl PanickingHandler {
    fn maybe_panic(&self) {
        self.panic_injector.maybe_panic(3);
    }

    /// Sets one of a few addresses, or rejects the peer, or does neither.
    fn judge_peer(&self, connection: &mut Connection<'_>) {
        let simulation = &self.panic_injector.simulation;
        match simulation.random_below(16) {
            0 => connection.reject(),
            1..8 => {
                let host = u8::try_from(simulation.random_below(3)).expect("a few");
                let _ = connection.set_peer_addr(SocketAddr::from(([192, 0, 2, host], 9)));
            }
            _ => {}
        }
    }
}

impl StreamHandler for PanickingHandler {
    type Session = Rc<()>;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Rc<()>> {
        self.judge_peer(connection);
        self.maybe_panic();
        Some(Rc::clone(&self.session))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, _: &mut Rc<()>, input: &[u8]) -> usize {
        connection.set_timeout(Some(Duration::from_millis(1)));
        self.judge_peer(connection);
        self.maybe_panic();
        connection.try_write(input)
    }

    fn on_timeout(&mut self, connection: &mut Connection<'_>, _: &mut Rc<()>) {
        self.judge_peer(connection);
        self.maybe_panic();
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, _: &mut Rc<()>) {
        self.judge_peer(connection);
        self.maybe_panic();
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut Rc<()>) {
        self.judge_peer(connection);
        self.maybe_panic();
    }

    fn on_notify(&mut self, connection: &mut Connection<'_>, _: &mut Rc<()>, _: u64) {
        self.judge_peer(connection);
        self.maybe_panic();
    }

    fn on_timer(&mut self, _: &mut Context, _: TimerId, _: u64) {
        self.maybe_panic();
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, _: Rc<()>, _: CloseReason) {
        self.judge_peer(connection);
        self.maybe_panic();
    }

    fn on_connect_failed(&mut self, _: &mut Context, _: ConnectionId, _: io::Error) {
        self.outbound_log.borrow_mut().failed += 1;
        self.maybe_panic();
    }
}
