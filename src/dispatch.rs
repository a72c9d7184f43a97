//! One turn of the loop: where an event goes, and what comes after what.
//!
//! The order is always the same: poll; events; what earlier turns left; notes and jobs; timers and deadlines; connections
//! to open; connections touched by callbacks of others; staged datagrams; what is to be removed and freed. The batch of
//! events and the cursor in it belong to the loop, so that a handler that unwinds costs nobody else an event.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::callbacks::guarded;
use crate::connection::Connections;
use crate::datagrams::Datagrams;
use crate::entries::{Drain, DrainReport, Lifecycle};
use crate::handle::{Errand, Mailbox};
use crate::limits;
use crate::listener::Listeners;
use crate::moment::Moment;
use crate::network::{Event, Network};
use crate::reason::CloseReason;
use crate::tables::Context;
use crate::ticks::Ticks;
use crate::token::{Target, Watched};

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

impl<N: Network> Drop for Core<'_, N> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}
