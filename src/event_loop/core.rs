//! One turn of the loop: where an event goes, and what comes after what.
//!
//! The order is always the same: poll; events; what earlier turns left; notes and jobs; timers and deadlines; connections
//! to open; connections touched by callbacks of others; staged datagrams; what is to be removed and freed. The batch of
//! events and the cursor in it belong to the loop, so that a handler that unwinds costs nobody else an event.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Endpoint;
use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::erased_handler::Served;
use crate::context::handler::DatagramHandler;
use crate::context::lifecycle::{Drain, DrainReport, Lifecycle};
use crate::context::mailbox::{Errand, Mailbox};
use crate::context::source_entries::Socket;
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::callbacks::guarded;
use crate::event_loop::connections::Connections;
use crate::event_loop::listeners::Listeners;
use crate::event_loop::timer_callbacks::{Tick, Ticks};
use crate::event_loop::udp_sockets::Datagrams;
use crate::ids::{HandlerId, ListenerId, Place, SocketId, SourceId, Target, TimerId, Token, Watched, slot_of};
use crate::limits;
use crate::net::{Event, Network};
use crate::options::bind::Bind;
use crate::options::listen::Listen;
use crate::state::source_limits::Rates;
use crate::state::timers::Task;
use crate::state::timestamp::Moment;

/// A loop on some network.
pub(crate) struct Core<'h, N: Network> {
    pub(crate) network: N,
    pub(crate) tables: Context,
    pub(crate) connections: Connections<'h, N>,
    pub(crate) listeners: Listeners<N>,
    pub(crate) datagrams: Datagrams<'h, N>,
    pub(crate) ticks: Ticks<'h>,
    pub(crate) mailbox: Arc<Mailbox>,
    batch: Vec<Event>,
    cursor: usize,
    /// The last poll of the turn came back full.
    poll_has_more: bool,
    /// A turn is under way, or was when a handler unwound.
    working: bool,
}

/// What a turn was.
pub(crate) enum Round {
    Idle,
    Progress,
    Stopped(DrainReport),
}

impl<N: Network> Core<'_, N> {
    pub(crate) fn new(network: N) -> Self {
        let mut tables = Context::new(network.now());
        tables.read_clock(network.now());
        Self {
            mailbox: Mailbox::new(network.waker()),
            tables,
            network,
            connections: Connections::new(),
            listeners: Listeners::new(),
            datagrams: Datagrams::new(),
            ticks: Ticks::default(),
            batch: Vec::new(),
            cursor: 0,
            poll_has_more: false,
            working: false,
        }
    }

    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Round> {
        if let Lifecycle::Stopped(report) = self.tables.lifecycle {
            return Ok(Round::Stopped(report));
        }
        self.poll(timeout)?;
        if std::mem::replace(&mut self.working, true) {
            // The last turn unwound, out of a handler.
            self.tables.stats.panics += 1;
            if let Some(calling) = self.tables.calling.take() {
                self.connections.condemn(&mut self.network, &mut self.tables, calling.slot);
            }
            if let Some(place) = self.tables.ticking.take() {
                self.tables.timers.remove(place);
            }
        }
        self.tables.turn = self.tables.turn.wrapping_add(1);
        self.tables.stats.turns += 1;
        let mut progress = false;
        for stage in Self::STAGES {
            progress |= stage(self);
        }
        self.working = false;
        Ok(match self.tables.lifecycle {
            Lifecycle::Stopped(report) => Round::Stopped(report),
            _ if progress => Round::Progress,
            _ => Round::Idle,
        })
    }

    /// What a turn does after the poll, in order; each says whether there was anything to do.
    const STAGES: [fn(&mut Self) -> bool; 9] = [
        Self::dispatch,
        Self::serve_unfinished,
        Self::run_errands,
        Self::expire,
        Self::connect,
        Self::serve_marked,
        Self::transmit,
        Self::remove,
        Self::conclude,
    ];

    /// How long the poll may wait: zero while work is left over.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        if self.has_work_left() {
            return Some(Duration::ZERO);
        }
        let deadline = self.next_deadline()?;
        // Callbacks and the embedder may have taken long: what came due meanwhile is not to be waited for.
        Some(deadline.since(self.tables.moment(self.network.now())))
    }

    fn has_work_left(&self) -> bool {
        let tables = &self.tables;
        self.poll_has_more
            || self.listeners.roster.ready() + self.datagrams.roster.ready() + self.mailbox.waiting() > 0
            || !(tables.deferred.is_empty() && tables.marked.is_empty() && tables.removed.is_empty())
            || !(tables.notes.is_empty() && tables.connects.is_empty())
            || matches!(tables.lifecycle, Lifecycle::Asked(_) | Lifecycle::Stopped(_))
            || self.working
            || !tables.staged.letters.is_empty()
    }

    fn next_deadline(&self) -> Option<Moment> {
        let deadlines = [
            self.connections.next_deadline(),
            self.listeners.roster.next_deadline(),
            self.datagrams.roster.next_deadline(),
            self.tables.timers.next(),
            self.tables.drain_until(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Gathers events: once with a wait, then at once for as long as the poll comes back full.
    fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut wait = match (timeout, self.next_timeout()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        if self.cursor == self.batch.len() {
            self.batch.clear();
            self.cursor = 0;
        }
        self.poll_has_more = true;
        for _ in 0..limits::POLLS_PER_TURN_MAX {
            match self.network.poll(&mut self.batch, wait) {
                Ok(has_more) => self.poll_has_more = has_more,
                // A signal or a debugger: what there is shows in the next poll.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.poll_has_more = false,
                Err(error) => return Err(error),
            }
            if !self.poll_has_more {
                break;
            }
            wait = Some(Duration::ZERO);
        }
        self.tables.read_clock(self.network.now());
        Ok(())
    }

    fn dispatch(&mut self) -> bool {
        let any = self.cursor < self.batch.len();
        while let Some(event) = self.batch.get(self.cursor) {
            self.cursor += 1;
            self.tables.stats.events += 1;
            match event.token.target() {
                Target::Wake => {}
                Target::Connection(stub) => {
                    self.connections.on_event(&mut self.network, &mut self.tables, stub, event);
                }
                Target::Listener(stub) => self.listeners.on_event(stub),
                Target::Socket(stub) => self.datagrams.on_event(stub),
            }
        }
        any
    }

    fn serve_unfinished(&mut self) -> bool {
        let Self { network, tables, connections, listeners, datagrams, .. } = self;
        let any = tables.deferred.len() + listeners.roster.ready() + datagrams.roster.ready() > 0;
        for _ in 0..tables.deferred.len() {
            if let Some(slot) = tables.deferred.pop_front()
                && tables.unqueue(slot)
            {
                connections.serve(network, tables, slot);
            }
        }
        listeners.serve(network, tables, connections);
        datagrams.serve(network, tables);
        any
    }

    /// Hands over the notes that were there at the start, and does the errands that were.
    fn run_errands(&mut self) -> bool {
        let (notes, errands) = (self.tables.notes.len(), self.mailbox.waiting());
        for _ in 0..notes.min(limits::ERRANDS_PER_TURN_MAX) {
            if let Some((id, value)) = self.tables.notes.pop_front() {
                self.connections.notify(&mut self.network, &mut self.tables, id, value);
            }
        }
        for _ in 0..errands.min(limits::ERRANDS_PER_TURN_MAX) {
            match self.mailbox.take() {
                Some(Errand::Note(id, value)) => {
                    self.connections.notify(&mut self.network, &mut self.tables, id, value);
                }
                Some(Errand::Job(job)) => {
                    self.tables.stats.jobs += 1;
                    if guarded(&mut self.tables, job).is_none() {
                        log::error!("a job has panicked");
                    }
                }
                None => {}
            }
        }
        notes + errands > 0
    }

    fn expire(&mut self) -> bool {
        let now = self.tables.now;
        let pauses = self.listeners.roster.expire(now) | self.datagrams.roster.expire(now);
        let timers = self.ticks.expire(&mut self.tables, self.connections.callbacks());
        self.connections.expire(&mut self.network, &mut self.tables) | timers | pauses
    }

    fn connect(&mut self) -> bool {
        self.connections.connect(&mut self.network, &mut self.tables)
    }

    /// Serves the connections that callbacks of others have touched. What their own callbacks touch waits a turn.
    fn serve_marked(&mut self) -> bool {
        let count = self.tables.marked.len();
        for _ in 0..count {
            if let Some(slot) = self.tables.marked.pop_front()
                && self.tables.unqueue(slot)
            {
                self.connections.serve(&mut self.network, &mut self.tables, slot);
            }
        }
        count > 0
    }

    fn transmit(&mut self) -> bool {
        self.datagrams.transmit(&mut self.network, &mut self.tables);
        false
    }

    fn remove(&mut self) -> bool {
        let any = !self.tables.removed.is_empty();
        while let Some(watched) = self.tables.removed.pop() {
            match watched {
                Watched::Listener(place) => self.listeners.remove(&mut self.network, &mut self.tables, place.slot),
                Watched::Socket(place) => self.datagrams.remove(&mut self.network, &mut self.tables, place.slot),
                Watched::Timer(place) => self.ticks.remove(place),
            }
        }
        any
    }

    /// Frees what is gone, once the drain has had its look.
    fn conclude(&mut self) -> bool {
        self.advance_drain();
        if self.connections.free(&mut self.tables) {
            self.listeners.roster.room_has_come();
        }
        false
    }

    /// Brings a drain forward, to its report once it is over.
    fn advance_drain(&mut self) {
        if let Lifecycle::Asked(drain) = self.tables.lifecycle {
            self.tables.lifecycle = Lifecycle::Draining(drain);
            self.listeners.begin_drain();
            self.datagrams.begin_drain();
            self.tables.begin_drain();
        }
        let Lifecycle::Draining(Drain { since, until, closed_before }) = self.tables.lifecycle else {
            return;
        };
        let is_done = self.listeners.is_empty() && self.tables.stats.connections == 0 && self.datagrams.is_drained();
        if !is_done && self.tables.now < until {
            return;
        }
        self.listeners.close_all(&mut self.network, &mut self.tables);
        self.connections.cut_all(&mut self.network, &mut self.tables);
        self.datagrams.transmit(&mut self.network, &mut self.tables);
        self.datagrams.close_all(&mut self.network, &mut self.tables);
        self.mailbox.close();
        // A loop is cut once, though a handler's panic may spread that over several turns.
        let forced = self.tables.stats.closed(CloseReason::Drained);
        let finished = self.tables.stats.closed_in_all() - closed_before - forced;
        let report = DrainReport { finished, forced, took: self.tables.now.since(since) };
        self.tables.lifecycle = Lifecycle::Stopped(report);
    }
}

impl<'h, N: Network> Core<'h, N> {
    /// Takes a handler in.
    pub(crate) fn attach(&mut self, handler: Box<dyn Served + 'h>) -> HandlerId {
        self.tables.served.push(0);
        let key = self.connections.attach(handler);
        self.tables.handler_id(key)
    }

    /// Listens for a handler of its own, which is taken in only if that succeeds.
    pub(crate) fn listen(&mut self, at: &Listen, handler: Box<dyn Served + 'h>) -> Result<ListenerId> {
        let opened = self.open(at, handler.input_bytes_min())?;
        let handler = self.attach(handler);
        Ok(self.enter(opened, at, handler))
    }

    /// Listens for a handler that is here already.
    pub(crate) fn listen_for(&mut self, at: &Listen, served_by: HandlerId) -> Result<ListenerId> {
        let is_ours = served_by == self.tables.handler_id(served_by.key);
        let Some(handler) = self.connections.handler(served_by.key).filter(|_| is_ours) else {
            return Err(Error::said(ErrorKind::Unknown, Some(at.at.clone()), "this loop has no such handler"));
        };
        let opened = self.open(at, handler.input_bytes_min())?;
        Ok(self.enter(opened, at, served_by))
    }

    fn open(&mut self, at: &Listen, input_bytes_min: usize) -> Result<(Place, N::Listener, Option<SocketAddr>)> {
        at.check(input_bytes_min)?;
        self.check_goes_on(&at.at)?;
        let Self { network, tables, .. } = self;
        let place = Place { serial: tables.next_serial(), slot: slot_of(tables.origins.vacant_key()) };
        let (listener, local) = network
            .listen(at, Token::listener(place))
            .map_err(|error| Error::system(ErrorKind::Listen, Some(at.at.clone()), error))?;
        Ok((place, listener, local))
    }

    fn enter(
        &mut self,
        opened: (Place, N::Listener, Option<SocketAddr>),
        at: &Listen,
        handler: HandlerId,
    ) -> ListenerId {
        let (place, listener, local) = opened;
        let most = self.network.connections_max();
        self.tables.add_origin(place, handler.key, at, local, most);
        self.listeners.add(place, listener, local.map_or_else(|| at.at.clone(), Endpoint::from));
        ListenerId(place)
    }

    pub(crate) fn bind(&mut self, at: &Bind, handler: Box<dyn DatagramHandler + 'h>) -> Result<SocketId> {
        at.check()?;
        self.check_goes_on(&at.address.into())?;
        let Self { network, tables, datagrams, .. } = self;
        let place = Place { serial: tables.next_serial(), slot: slot_of(tables.sockets.vacant_key()) };
        let (socket, local) = network
            .bind(at, Token::socket(place))
            .map_err(|error| Error::system(ErrorKind::Bind, Some(at.address.into()), error))?;
        let limit = at.replies_per_source_per_second_max;
        let rates = limit.map(|limit| Rates::new(limit.get(), [network.entropy(), network.entropy()]));
        let Bind { limit_loopback, .. } = *at;
        tables.sockets.insert(Socket { serial: place.serial, local, rates, limit_loopback, open: true });
        datagrams.add(place, socket, local, handler);
        Ok(SocketId(place))
    }

    /// A loop that has ended serves nobody: what it opened would let clients wait for ever.
    fn check_goes_on(&self, at: &Endpoint) -> Result<()> {
        match self.tables.lifecycle {
            Lifecycle::Stopped(_) => Err(Error::said(ErrorKind::Setup, Some(at.clone()), "this loop has ended")),
            _ => Ok(()),
        }
    }

    pub(crate) fn every(&mut self, first: Duration, tick: Tick<'h>) -> TimerId {
        self.tables.read_clock(self.network.now());
        let (serial, at) = (self.tables.next_serial(), self.tables.later(first));
        let place = self.tables.timers.add(serial, at, Task::Tick);
        self.ticks.add(place, tick);
        TimerId(place)
    }

    pub(crate) fn local_addr(&self, id: SourceId) -> Result<SocketAddr> {
        let found = match id.0 {
            Watched::Listener(Place { serial, slot }) => {
                let origin = self.tables.origins.get(slot as usize);
                origin.filter(|origin| origin.serial == serial && origin.listening).and_then(|origin| origin.local)
            }
            Watched::Socket(Place { serial, slot }) => {
                let socket = self.tables.sockets.get(slot as usize);
                socket.filter(|socket| socket.serial == serial && socket.open).map(|socket| socket.local)
            }
            Watched::Timer(_) => None,
        };
        found.ok_or_else(|| Error::said(ErrorKind::Unknown, None, "no listener or socket with an address has this id"))
    }
}

impl<N: Network> Drop for Core<'_, N> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}
