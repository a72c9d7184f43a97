//! Listeners and handlers that are opened and removed, in callbacks too.
//!
//! No callback comes after a removal, and a handler is dropped with its last use.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::HOST;
use super::handlers::PanicInjector;
use super::outbound_handlers::OutboundLog;
use super::sim_servers::Target;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::entries::handler_entry::HandlerKind;
use crate::context::handler::StreamHandler;
use crate::context::loop_state::LoopState;
use crate::event_loop::EventLoop;
use crate::ids::{ConnectionId, HandlerId, ListenerId, TimerId};
use crate::options::listen::Listen;
use crate::testing::{Client, Simulation};

/// The ports of these listeners.
const FIRST_PORT: u16 = 40;
const PORTS: u64 = 3;

/// What is open, and what was removed. Jobs on other threads use it too.
#[derive(Default)]
struct Registry {
    listeners: BTreeSet<ListenerId>,
    /// The attached handlers.
    handlers: BTreeSet<HandlerId>,
    timers: BTreeMap<u64, TimerId>,
    next_value: u64,
    removed: BTreeSet<ListenerId>,
}

/// An id of something that can be removed.
#[derive(Clone, Copy)]
enum Removable {
    Listener(ListenerId),
    Handler(HandlerId),
    Timer(TimerId),
}

/// Chooses a random item.
fn choose<T: Copy>(simulation: &Simulation, items: impl ExactSizeIterator<Item = T>) -> Option<T> {
    let index = simulation.random_below(items.len() as u64);
    items.into_iter().nth(usize::try_from(index).expect("a few"))
}

impl Registry {
    /// Chooses something to remove, and records its removal.
    fn take(&mut self, simulation: &Simulation) -> Option<Removable> {
        match simulation.random_below(3) {
            0 => {
                let listener = choose(simulation, self.listeners.iter().copied())?;
                self.listeners.remove(&listener);
                self.removed.insert(listener);
                Some(Removable::Listener(listener))
            }
            1 => {
                let handler = choose(simulation, self.handlers.iter().copied())?;
                self.handlers.remove(&handler);
                Some(Removable::Handler(handler))
            }
            _ => {
                let value = choose(simulation, self.timers.keys().copied())?;
                self.timers.remove(&value).map(Removable::Timer)
            }
        }
    }
}

impl Removable {
    fn remove(self, context: &mut Context) {
        let mut remove = || match self {
            Self::Listener(id) => context.remove(id),
            Self::Handler(id) => context.remove(id),
            Self::Timer(id) => context.remove(id),
        };
        let (was_there, is_there) = (remove(), remove());
        // At the end of a drain listeners close by themselves.
        let is_running = matches!(context.loop_state, LoopState::Running);
        assert!((was_there || !is_running) && !is_there, "each is removed once");
    }
}

/// The state that the handlers of a workload share.
#[derive(Clone)]
struct Shared {
    simulation: Simulation,
    registry: Arc<Mutex<Registry>>,
    outbound_log: Rc<RefCell<OutboundLog>>,
    /// Set in worlds where destructors panic, and used only while the loop runs them.
    panic_injector: Option<PanicInjector>,
    drops_in_loop: Rc<Cell<bool>>,
    /// Whether callbacks also open listeners.
    opens: Rc<Cell<bool>>,
    /// The handler that was started last.
    started: Rc<Cell<Option<HandlerId>>>,
    /// Each handler holds a strong reference.
    handlers: Weak<()>,
}

impl Shared {
    /// Sometimes removes or opens something in a callback.
    fn maybe_change(&self, context: &mut Context) {
        match self.simulation.random_below(8) {
            0 | 1 => {
                let taken = self.registry.lock().expect("no panic under it").take(&self.simulation);
                if let Some(removable) = taken {
                    removable.remove(context);
                }
            }
            2 if self.opens.get() => self.open(context),
            _ => {}
        }
    }

    /// Opens a listener at a random address, for a new or an attached handler. It fails if the address or the
    /// descriptors are in use.
    fn open(&self, context: &mut Context) {
        let mut at = Listen::from(self.address()).idle_timeout(None).write_timeout(None);
        if self.simulation.random_below(2) == 0 {
            at = at.connections_max(1);
        }
        let attached =
            choose(&self.simulation, self.registry.lock().expect("no panic under it").handlers.iter().copied());
        // A refused handler is dropped here.
        let drops_in_loop = self.drops_in_loop.replace(false);
        let listener = match (self.simulation.random_below(3), attached) {
            (0, Some(attached)) => context.listen_for(at, attached),
            (1, _) => {
                let handler = context.attach(TransientHandler::new(self));
                assert_eq!(self.started.get(), Some(handler), "a handler starts when it is attached");
                self.registry.lock().expect("no panic under it").handlers.insert(handler);
                context.listen_for(at, handler)
            }
            _ => context.listen(at, TransientHandler::new(self)),
        };
        self.drops_in_loop.set(drops_in_loop);
        if let Ok(listener) = listener {
            self.registry.lock().expect("no panic under it").listeners.insert(listener);
        }
    }

    fn address(&self) -> SocketAddr {
        let port = u16::try_from(self.simulation.random_below(PORTS)).expect("a few");
        SocketAddr::new(HOST, FIRST_PORT + port)
    }

    fn maybe_panic(&self) {
        if let Some(panic_injector) = self.panic_injector.as_ref().filter(|_| self.drops_in_loop.get()) {
            panic_injector.maybe_panic(3);
        }
    }
}

/// A session that sometimes panics in its destructor.
struct FragileSession(Shared);

impl Drop for FragileSession {
    fn drop(&mut self) {
        self.0.maybe_panic();
    }
}

/// An echo that sets timers, connects, and opens and removes things.
struct TransientHandler {
    shared: Shared,
    _count: Rc<()>,
}

impl TransientHandler {
    fn new(shared: &Shared) -> Self {
        Self { shared: shared.clone(), _count: shared.handlers.upgrade().expect("the workload is there") }
    }
}

impl Drop for TransientHandler {
    fn drop(&mut self) {
        self.shared.maybe_panic();
    }
}

impl StreamHandler for TransientHandler {
    type Session = FragileSession;

    fn on_start(&mut self, _: &mut Context, id: HandlerId) {
        self.shared.started.set(Some(id));
    }

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<FragileSession> {
        match connection.listener() {
            Some(listener) => {
                let is_removed = self.shared.registry.lock().expect("no panic under it").removed.contains(&listener);
                assert!(!is_removed, "{listener:?} accepted a client after its removal");
            }
            None => connection.shutdown_write(),
        }
        self.shared.maybe_change(connection.context());
        (self.shared.simulation.random_below(8) > 0).then(|| FragileSession(self.shared.clone()))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, _: &mut FragileSession, input: &[u8]) -> usize {
        let handler = connection.handler();
        match self.shared.simulation.random_below(4) {
            0 => {
                let after = Duration::from_millis(self.shared.simulation.random_below(20));
                let mut registry = self.shared.registry.lock().expect("no panic under it");
                let value = registry.next_value;
                let timer = connection.context().schedule(handler, after, value);
                // A removed handler gets no timer.
                if connection.context().timers.contains(timer.0) {
                    registry.next_value += 1;
                    registry.timers.insert(value, timer);
                }
            }
            1 if connection.listener().is_some() => {
                let id = connection.context().connect(Target::Answers.address(), handler);
                let is_begun = connection.context().connection(id).is_some();
                self.shared.outbound_log.borrow_mut().requested += u64::from(is_begun);
            }
            _ => {}
        }
        self.shared.maybe_change(connection.context());
        // An outbound connection is already shut down for writing.
        let _ = connection.send(input);
        input.len()
    }

    fn on_timer(&mut self, context: &mut Context, timer: TimerId, value: u64) {
        let expected = self.shared.registry.lock().expect("no panic under it").timers.remove(&value);
        assert_eq!(Some(timer), expected, "value {value} comes once, and not after it was removed");
        self.shared.maybe_change(context);
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, _: FragileSession, _: CloseReason) {
        self.shared.maybe_change(connection.context());
    }

    fn on_connect_failed(&mut self, context: &mut Context, _: ConnectionId, _: io::Error) {
        self.shared.outbound_log.borrow_mut().failed += 1;
        self.shared.maybe_change(context);
    }
}

/// Opens listeners, connects to them and removes them.
pub(super) struct Removals {
    shared: Shared,
    handlers: Rc<()>,
    /// The number of other handlers.
    pub(super) others: usize,
    clients: Vec<Client>,
}

impl Removals {
    pub(super) fn new(
        simulation: &Simulation,
        outbound_log: &Rc<RefCell<OutboundLog>>,
        panic_injector: Option<PanicInjector>,
    ) -> Self {
        let handlers = Rc::new(());
        let shared = Shared {
            simulation: simulation.clone(),
            registry: Arc::default(),
            outbound_log: Rc::clone(outbound_log),
            panic_injector,
            drops_in_loop: Rc::new(Cell::new(true)),
            opens: Rc::new(Cell::new(true)),
            started: Rc::default(),
            handlers: Rc::downgrade(&handlers),
        };
        Self { shared, handlers, others: 0, clients: Vec::new() }
    }

    pub(super) fn step(&mut self, events: &mut EventLoop<'static>) {
        match self.shared.simulation.random_below(6) {
            0 | 1 => self.shared.open(events.context()),
            2 | 3 => self.connect(),
            4 => self.remove_one(events),
            _ => {
                // A job that removes something when it runs.
                let (registry, seed) = (Arc::clone(&self.shared.registry), self.shared.simulation.random_below(1_000));
                let remove = move |context: &mut Context| {
                    let taken = registry.lock().expect("no panic under it").take(&Simulation::new(seed));
                    if let Some(removable) = taken {
                        removable.remove(context);
                    }
                };
                events.handle().post(remove).expect("the loop runs");
            }
        }
    }

    fn connect(&mut self) {
        for _ in 0..=self.shared.simulation.random_below(4) {
            if let Some(client) = self.shared.simulation.connect(self.shared.address()) {
                client.send(b"hello");
                match self.shared.simulation.random_below(4) {
                    0 => client.reset(),
                    _ => client.shutdown_write(),
                }
                self.clients.push(client);
            }
        }
    }

    /// Removes something between two turns. The address of a removed listener is free at once.
    fn remove_one(&mut self, events: &mut EventLoop<'static>) {
        let simulation = self.shared.simulation.clone();
        let taken = self.shared.registry.lock().expect("no panic under it").take(&simulation);
        let Some(removable) = taken else { return };
        let address = match removable {
            Removable::Listener(id) => Some(events.local_addr(id).expect("the listener is open")),
            Removable::Handler(_) | Removable::Timer(_) => None,
        };
        if simulation.random_below(2) == 0 {
            removable.remove(events.context());
        } else {
            let removed = match removable {
                Removable::Listener(id) => events.remove(id),
                Removable::Handler(id) => events.remove(id),
                Removable::Timer(id) => events.remove(id),
            };
            self.shared.drops_in_loop.set(false);
            drop(removed.expect("it was not removed"));
            self.shared.drops_in_loop.set(true);
        }
        if let Some(address) = address.filter(|_| simulation.random_below(2) == 0) {
            let listener = events
                .listen(address, TransientHandler::new(&self.shared))
                .expect("the address of the removed listener is free");
            self.shared.registry.lock().expect("no panic under it").listeners.insert(listener);
        }
    }

    /// Removes everything. Handlers are dropped when their connections and timers have ended.
    pub(super) fn remove_all(&mut self, events: &mut EventLoop<'static>) {
        self.shared.opens.set(false);
        let mut registry = self.shared.registry.lock().expect("no panic under it");
        let (listeners, handlers) = (std::mem::take(&mut registry.listeners), std::mem::take(&mut registry.handlers));
        registry.removed.extend(&listeners);
        drop(registry);
        let listeners = listeners.into_iter().map(Removable::Listener);
        for removable in listeners.chain(handlers.into_iter().map(Removable::Handler)) {
            removable.remove(events.context());
        }
    }

    /// Whether no handler is left.
    pub(super) fn are_finished(&self) -> bool {
        Rc::strong_count(&self.handlers) == 1
    }

    /// After a turn there is exactly one handler for each entry.
    pub(super) fn assert_handlers_are_counted(&self, context: &Context) {
        if matches!(context.loop_state, LoopState::Running) {
            assert_eq!(Rc::strong_count(&self.handlers) - 1, stream_handlers(context) - self.others);
        }
    }
}

/// The number of stream handlers.
pub(super) fn stream_handlers(context: &Context) -> usize {
    context.handlers.iter().filter(|(_, entry)| entry.kind == HandlerKind::Stream).count()
}
