//! The tables of a loop: everything it knows, and nothing it does.
//!
//! [`Context`] is lent to every callback. Reading it answers questions; marking it (a connection's outbox, an intent to
//! close, a source to remove, a drain) is carried out by the stations after the callback. Sessions live with their
//! handlers and sockets with the stations, so a callback reaches every other connection with a plain `&mut`.

pub(crate) mod connection;
pub(crate) mod datagram;
pub(crate) mod erased_handler;
pub(crate) mod handle;
pub(crate) mod handler;
pub(crate) mod lifecycle;
pub(crate) mod mailbox;
pub(crate) mod source_entries;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::address::Peer;
use crate::close_reason::CloseReason;
use crate::context::connection::Connection;
use crate::context::lifecycle::{Calling, Drain, Lifecycle};
use crate::context::source_entries::{Origin, Socket};
use crate::ids::{ConnectionId, HandlerId, Place, SocketId, SourceId, TimerId, Watched, slot_of};
use crate::limits;
use crate::options::connect::Connect;
use crate::options::connection_limits::Bounds;
use crate::options::listen::{Listen, WhenFull};
use crate::state::buffers::Pool;
use crate::state::connection_state::{State, UNOPENED};
use crate::state::phase::{Ending, Input, Phase, Queued};
use crate::state::send_queue::Staged;
use crate::state::source_limits::{PeerSource, SourceCounts};
use crate::state::sparse_vec::Column;
use crate::state::timers::{Task, Timers};
use crate::state::timestamp::Moment;
use crate::stats::Stats;

/// What a callback may see and ask of the whole loop.
///
/// It is lent, never owned: [`Connection::context`](crate::Connection::context), [`Datagram::context`](crate::Datagram::context),
/// [`EventLoop::context`](crate::EventLoop::context) and the jobs of [`Handle::post`](crate::Handle::post) give it.
///
/// ```
/// use halloo::{EventLoop, stream};
///
/// let mut events = EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// events.listen(address, stream(|connection, input| {
///     if input.starts_with(b"quit") {
///         connection.context().stop();
///     }
///     input.len()
/// }))?;
/// events.context().stop();
/// events.run()?;
/// # Ok::<(), halloo::Error>(())
/// ```
pub struct Context {
    pub(crate) began: Instant,
    pub(crate) now: Moment,
    pub(crate) turn: u32,
    pub(crate) states: Slab<State>,
    pub(crate) origins: Slab<Origin>,
    /// Those of outbound connections.
    outbound: Vec<u32>,
    pub(crate) sockets: Slab<Socket>,
    /// Clients of each handler.
    pub(crate) served: Vec<usize>,
    pub(crate) sources: SourceCounts,
    pub(crate) pool: Pool,
    /// Connections touched by callbacks of others.
    pub(crate) marked: VecDeque<u32>,
    /// Connections with work left over.
    pub(crate) deferred: VecDeque<u32>,
    pub(crate) staged: Staged,
    pub(crate) timers: Timers,
    /// The same for outbound connections that are not open yet.
    pub(crate) early_notes: Vec<(ConnectionId, u64)>,
    /// Outbound connections to begin with.
    pub(crate) connects: VecDeque<(ConnectionId, Connect)>,
    /// What connections are to be told, and which.
    pub(crate) notes: VecDeque<(ConnectionId, u64)>,
    pub(crate) removed: Vec<Watched>,
    pub(crate) lifecycle: Lifecycle,
    /// The connection whose callback is running; left over when it unwound.
    pub(crate) calling: Option<Calling>,
    /// The timer whose closure is running; left over when it unwound.
    pub(crate) ticking: Option<Place>,
    pub(crate) catches_panics: bool,
    pub(crate) stats: Stats,
    /// The local address of each connection that its listener's does not tell.
    pub(crate) locals: Column<Option<Peer>>,
    /// When each connection's handler has asked for `on_timeout`.
    pub(crate) timeouts: Column<Moment>,
    /// Of everything that has an id: the high bits are the loop's own, so that no other loop's id fits here.
    last_serial: u64,
}

/// How many loops this process has had.
static LOOPS: AtomicU64 = AtomicU64::new(0);

/// Serial numbers a loop has to itself: at a million a second, enough for a year.
const SERIALS_PER_LOOP_BITS: u32 = 45;

impl Context {
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            now: Moment::START,
            turn: 0,
            states: Slab::with_capacity(limits::TABLE_BYTES_RESERVED / size_of::<State>()),
            origins: Slab::new(),
            sockets: Slab::new(),
            served: Vec::new(),
            sources: SourceCounts::default(),
            pool: Pool::default(),
            marked: VecDeque::new(),
            deferred: VecDeque::new(),
            staged: Staged::default(),
            removed: Vec::new(),
            lifecycle: Lifecycle::Running,
            calling: None,
            catches_panics: false,
            stats: Stats::default(),
            locals: Column::new(None),
            timeouts: Column::new(Moment::NEVER),
            timers: Timers::default(),
            notes: VecDeque::new(),
            early_notes: Vec::new(),
            connects: VecDeque::new(),
            outbound: Vec::new(),
            ticking: None,
            last_serial: LOOPS.fetch_add(1, Ordering::Relaxed) << SERIALS_PER_LOOP_BITS,
        }
    }

    pub(crate) fn read_clock(&mut self, now: Instant) {
        self.now = self.moment(now);
    }

    pub(crate) fn moment(&self, now: Instant) -> Moment {
        Moment::since_start(now.saturating_duration_since(self.began))
    }

    /// This long after now, and later than now always: what is set again when it fires is the next turn's.
    pub(crate) fn later(&self, after: Duration) -> Moment {
        self.now.after(after.max(Duration::from_nanos(1)))
    }

    /// When a drain that is under way ends.
    pub(crate) fn drain_until(&self) -> Option<Moment> {
        match self.lifecycle {
            Lifecycle::Asked(drain) | Lifecycle::Draining(drain) => Some(drain.until),
            Lifecycle::Running | Lifecycle::Stopped(_) => None,
        }
    }

    pub(crate) fn next_serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }

    pub(crate) fn handler_id(&self, key: u32) -> HandlerId {
        HandlerId { owner: self.last_serial >> SERIALS_PER_LOOP_BITS, key }
    }

    /// The key of a handler of this loop.
    #[track_caller]
    pub(crate) fn own_handler(&self, id: HandlerId) -> u32 {
        assert!(id == self.handler_id(id.key), "{id:?} is a handler of another loop");
        id.key
    }

    pub(crate) fn state(&mut self, slot: u32) -> &mut State {
        &mut self.states[slot as usize]
    }

    pub(crate) fn bounds(&self, slot: u32) -> Bounds {
        self.origins[self.states[slot as usize].origin as usize].bounds
    }

    /// When a connection must be looked at, if nothing happens before.
    pub(crate) fn deadline(&self, slot: u32) -> Moment {
        self.states[slot as usize].deadline(&self.bounds(slot), self.timeouts.get(slot))
    }

    pub(crate) fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId { serial: self.states[slot as usize].serial, slot }
    }

    pub(crate) fn origin(&mut self, place: Place) -> Option<&mut Origin> {
        self.origins.get_mut(place.slot as usize).filter(|origin| origin.serial == place.serial)
    }

    pub(crate) fn socket(&mut self, place: Place) -> Option<&mut Socket> {
        self.sockets.get_mut(place.slot as usize).filter(|socket| socket.serial == place.serial)
    }

    /// Enters a listener.
    pub(crate) fn add_origin(
        &mut self,
        place: Place,
        handler: u32,
        options: &Listen,
        local: Option<SocketAddr>,
        most: usize,
    ) {
        let key = self.origins.insert(Origin {
            serial: place.serial,
            handler,
            local,
            is_outbound: false,
            bounds: options.bounds,
            connections_max: options.connections_max.unwrap_or(most),
            connections_per_source_max: options.connections_per_source_max,
            when_full: options.when_full,
            connections: 0,
            listening: true,
        });
        debug_assert_eq!(key, place.slot as usize, "the place was reserved");
    }

    /// Whether a listener's handler has all the connections it may have.
    pub(crate) fn is_full(&self, origin: u32) -> bool {
        let origin = &self.origins[origin as usize];
        self.served[origin.handler as usize] >= origin.connections_max
    }

    /// Counts a client of a source, unless the source has its share already.
    pub(crate) fn admit(&mut self, origin: u32, peer: Option<IpAddr>) -> bool {
        let Origin { handler, connections_per_source_max, .. } = self.origins[origin as usize];
        let (Some(most), Some(peer)) = (connections_per_source_max, peer) else {
            return true;
        };
        self.sources.admit(handler, PeerSource::of(peer), most)
    }

    /// Enters a client; its local address is given where the listener's is not enough.
    pub(crate) fn add_client(&mut self, origin: u32, peer: Option<SocketAddr>, local: Option<SocketAddr>) -> u32 {
        let slot = self.add_connection(origin, peer);
        self.locals.set(slot, local.map(|local| Some(local).into()));
        self.served[self.origins[origin as usize].handler as usize] += 1;
        self.stats.accepted += 1;
        slot
    }

    /// Enters a connection that is to be opened.
    pub(crate) fn add_outbound(&mut self, handler: u32, to: Connect) -> ConnectionId {
        let origin = self.outbound_origin(handler, to.bounds);
        let slot = self.add_connection(origin, to.to.address());
        self.locals.set(slot, None);
        let state = self.state(slot);
        (state.phase, state.session) = (Phase::Opening(None), UNOPENED);
        self.stats.connects += 1;
        let id = self.id(slot);
        self.connects.push_back((id, to));
        id
    }

    fn add_connection(&mut self, origin: u32, peer: Option<SocketAddr>) -> u32 {
        let serial = self.next_serial();
        let slot = slot_of(self.states.insert(State::new(serial, peer.into(), origin, self.now)));
        self.timeouts.set(slot, Moment::NEVER);
        self.origins[origin as usize].connections += 1;
        self.stats.connections += 1;
        slot
    }

    /// The entry that a handler's outbound connections with the same bounds share.
    fn outbound_origin(&mut self, handler: u32, bounds: Bounds) -> u32 {
        let alike = |origin: &Origin| origin.handler == handler && origin.bounds == bounds;
        if let Some(&found) = self.outbound.iter().find(|&&origin| alike(&self.origins[origin as usize])) {
            return found;
        }
        let serial = self.next_serial();
        let origin = slot_of(self.origins.insert(Origin {
            serial,
            handler,
            local: None,
            is_outbound: true,
            bounds,
            connections_max: usize::MAX,
            connections_per_source_max: None,
            when_full: WhenFull::Pause,
            connections: 0,
            listening: false,
        }));
        self.outbound.push(origin);
        origin
    }

    pub(crate) fn local_addr(&self, slot: u32) -> Option<SocketAddr> {
        match self.locals.get(slot) {
            Some(local) => local.address(),
            None => self.origins[self.states[slot as usize].origin as usize].local,
        }
    }

    /// Counts a connection out, or an outbound one that has failed before it was open; its slot stays until
    /// [`free`](Self::free).
    pub(crate) fn count_out(&mut self, slot: u32, reason: Option<CloseReason>) {
        let state = &mut self.states[slot as usize];
        state.phase = Phase::Gone;
        if let Some(buffers) = state.buffers.take() {
            self.pool.give_back(buffers);
        }
        let origin = &mut self.origins[state.origin as usize];
        if !origin.is_outbound {
            self.served[origin.handler as usize] -= 1;
        }
        if origin.connections_per_source_max.is_some()
            && let Some(peer) = state.peer.address()
        {
            self.sources.leave(origin.handler, PeerSource::of(peer.ip()));
        }
        self.stats.connections -= 1;
        match reason {
            Some(reason) => self.stats.count_close(reason),
            None => self.stats.connect_errors += 1,
        }
    }

    /// One more than the last slot that is taken.
    pub(crate) fn slots_end(&self) -> u32 {
        self.states.iter().next_back().map_or(0, |(last, _)| slot_of(last) + 1)
    }

    /// Notes that a connection's callback has panicked.
    pub(crate) fn condemn(&mut self, slot: u32) {
        let state = self.state(slot);
        log::error!("{}: a handler has panicked, the connection is aborted", state.peer);
        if state.phase != Phase::Gone {
            state.phase = Phase::Condemned(CloseReason::Panicked, Ending::Reset);
        }
    }

    /// Gives the slot of a connection that is gone to the next.
    pub(crate) fn free(&mut self, slot: u32) {
        let origin = self.states.remove(slot as usize).origin;
        self.origins[origin as usize].connections -= 1;
        self.forget_origin(origin);
    }

    /// Drops an entry once nobody needs it: it listens no more and its last connection is gone.
    pub(crate) fn forget_origin(&mut self, origin: u32) {
        let entry = &self.origins[origin as usize];
        if !entry.listening && entry.connections == 0 {
            self.origins.remove(origin as usize);
            self.outbound.retain(|&other| other != origin);
        }
    }

    /// What an outbound connection was to be told before it was open.
    pub(crate) fn take_early_notes(&mut self, slot: u32) -> Vec<u64> {
        let id = self.id(slot);
        let mine = self.early_notes.iter().filter(|(of, _)| *of == id).map(|(_, value)| *value).collect();
        self.early_notes.retain(|(of, _)| *of != id);
        mine
    }

    /// Puts a connection down for the next turn.
    pub(crate) fn defer(&mut self, slot: u32) {
        if self.states[slot as usize].queued == Queued::No {
            self.states[slot as usize].queued = Queued::Deferred;
            // planted: deferred-list-forgotten
            self.deferred.push_back(slot);
        }
    }

    /// Takes a slot off the list it stands on; false if its connection is gone.
    pub(crate) fn unqueue(&mut self, slot: u32) -> bool {
        match self.states.get_mut(slot as usize) {
            Some(state) if state.phase != Phase::Gone => {
                state.queued = Queued::No;
                true
            }
            _ => false,
        }
    }

    /// Notes that a callback touched a connection, unless it is the one the callback is for.
    pub(crate) fn touch(&mut self, slot: u32) {
        if self.calling.is_none_or(|calling| calling.slot != slot) && self.state(slot).queued == Queued::No {
            self.state(slot).queued = Queued::Marked;
            self.marked.push_back(slot);
        }
    }
}

impl Context {
    /// The time of this turn: read once, the same for all its callbacks.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.began + self.now.as_duration()
    }

    /// The loop's counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Removes a listener, a UDP socket or a timer; connections live on. Returns whether it was there.
    pub fn remove(&mut self, id: impl Into<SourceId>) -> bool {
        let SourceId(watched) = id.into();
        let was_there = match watched {
            Watched::Listener(place) => self.origin(place).is_some_and(|origin| std::mem::take(&mut origin.listening)),
            Watched::Socket(place) => self.socket(place).is_some_and(|socket| std::mem::take(&mut socket.open)),
            Watched::Timer(place) => self.timers.remove(place),
        };
        if was_there {
            self.removed.push(watched);
        }
        was_there
    }

    /// Another connection, or this one: `None` once it is closing or gone. Ids are never reused.
    ///
    /// What is written to it leaves at the end of this turn.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Connection<'_>> {
        let state = self.states.get(id.slot as usize)?;
        // planted: note-reaches-the-next-in-the-slot
        let is_there = state.serial == id.serial && state.is_open();
        is_there.then(|| Connection::lend(self, id.slot))
    }

    /// Visits every open connection of a handler, in no particular order.
    ///
    /// ```
    /// use halloo::{EventLoop, stream};
    ///
    /// let mut events = EventLoop::new()?;
    /// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    /// events.listen(address, stream(|connection, input| {
    ///     let everybody = connection.handler();
    ///     connection.context().for_each(everybody, |other| { let _ = other.send(input); });
    ///     input.len()
    /// }))?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn for_each(&mut self, served_by: HandlerId, mut visit: impl FnMut(&mut Connection<'_>)) {
        for slot in 0..self.slots_end() {
            if let Some(state) = self.states.get(slot as usize)
                && state.phase == Phase::Open
                && self.origins[state.origin as usize].handler == served_by.key
            {
                visit(&mut Connection::lend(self, slot));
            }
        }
    }

    /// Opens an outbound connection, served by a handler as its clients are: [`on_open`](crate::StreamHandler::on_open)
    /// tells when it is there, [`on_connect_failed`](crate::StreamHandler::on_connect_failed) that it never will be; one
    /// of the two comes, and not before this call has returned. Until then what is [written](Connection::write) to it
    /// waits, [`close`](Connection::close) is for when it is open, and [`abort`](Connection::abort) gives it up.
    ///
    /// ```
    /// use halloo::{Connection, EventLoop, StreamHandler};
    /// use std::io::{Read, Write};
    ///
    /// /// Asks one question and keeps the answer.
    /// struct Ask { answer: String }
    ///
    /// impl StreamHandler for Ask {
    ///     type Session = ();
    ///     fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
    ///         connection.send(b"Hello, TCP Server!").ok()
    ///     }
    ///     fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
    ///         self.answer = String::from_utf8_lossy(input).into_owned();
    ///         connection.context().stop();
    ///         input.len()
    ///     }
    ///     fn on_connect_failed(&mut self, _: &mut halloo::Context, _: halloo::ConnectionId, error: std::io::Error) {
    ///         panic!("{error}");
    ///     }
    /// }
    ///
    /// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let address = server.local_addr()?;
    /// std::thread::spawn(move || server.accept().unwrap().0.write_all(b"Hello, TCP Client!"));
    ///
    /// let mut events = EventLoop::new()?;
    /// let handler = events.attach(Ask { answer: String::new() });
    /// events.context().connect(address, handler);
    /// events.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Past the end of a drain, when what is left is being cut, and on a loop that has ended, nothing is opened any more:
    /// the id names nobody, and no callback comes.
    ///
    /// # Panics
    /// If the handler is another loop's.
    #[track_caller]
    pub fn connect(&mut self, to: impl Into<Connect>, served_by: HandlerId) -> ConnectionId {
        let handler = self.own_handler(served_by);
        if self.lifecycle.is_ending(self.now) {
            return ConnectionId { serial: self.next_serial(), slot: u32::MAX };
        }
        self.add_outbound(handler, to.into())
    }

    /// Sends a datagram of the embedder's own initiative: true if it is staged to leave in this turn, or the next if no
    /// turn is under way. No rate holds for it. Refused are port 0, a socket that is gone, and more than 1,024 datagrams
    /// or 1 MiB of them at once.
    ///
    /// ```
    /// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let mut events = halloo::EventLoop::new()?;
    /// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    /// let socket = events.bind(address, halloo::datagrams(|_, _| {}))?;
    /// assert!(events.context().send_to(socket, b"Hello!", peer.local_addr()?));
    /// let _ = events.turn(Some(std::time::Duration::ZERO))?;
    /// assert_eq!(peer.recv(&mut [0; 16])?, 6);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn send_to(&mut self, socket: SocketId, payload: &[u8], to: SocketAddr) -> bool {
        let SocketId(place) = socket;
        let is_open = self.socket(place).is_some_and(|socket| socket.open);
        is_open && to.port() != 0 && self.staged.push(place.slot, to, None, payload)
    }

    /// Calls [`on_notify`](crate::StreamHandler::on_notify) of a connection with a value: how one connection tells
    /// another's session something. The call comes after the running callback has returned, in this turn or the next,
    /// and notes arrive in the order they were given. A connection that is closing or gone by then hears nothing; one
    /// that is not open yet hears it when it is.
    ///
    /// ```
    /// use halloo::{CloseReason, Connection, ConnectionId, EventLoop, StreamHandler};
    ///
    /// /// Whoever sends a byte has the client before it told.
    /// #[derive(Default)]
    /// struct Relay { last: Option<ConnectionId> }
    ///
    /// impl StreamHandler for Relay {
    ///     type Session = u64;
    ///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<u64> { Some(0) }
    ///     fn on_data(&mut self, connection: &mut Connection<'_>, _: &mut u64, input: &[u8]) -> usize {
    ///         if let Some(other) = self.last.replace(connection.id()) {
    ///             connection.context().notify(other, input.len() as u64);
    ///         }
    ///         input.len()
    ///     }
    ///     fn on_notify(&mut self, _: &mut Connection<'_>, told: &mut u64, value: u64) { *told += value; }
    /// }
    ///
    /// let mut events = EventLoop::new()?;
    /// events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), Relay::default())?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn notify(&mut self, id: ConnectionId, value: u64) {
        self.notes.push_back((id, value));
    }

    /// Calls [`on_timer`](crate::StreamHandler::on_timer) of a handler with a value, once, after this time: never
    /// early, and never in this turn. What the value means is the handler's to say.
    ///
    /// ```
    /// use std::time::Duration;
    /// use halloo::{Connection, Context, EventLoop, StreamHandler};
    ///
    /// struct Stopping;
    ///
    /// impl StreamHandler for Stopping {
    ///     type Session = ();
    ///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> { Some(()) }
    ///     fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize { input.len() }
    ///     fn on_timer(&mut self, context: &mut Context, value: u64) {
    ///         assert_eq!(value, 7);
    ///         context.stop();
    ///     }
    /// }
    ///
    /// let mut events = EventLoop::new()?;
    /// let handler = events.attach(Stopping);
    /// events.context().schedule(handler, Duration::from_millis(1), 7);
    /// events.run()?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the handler is another loop's.
    #[track_caller]
    pub fn schedule(&mut self, served_by: HandlerId, after: Duration, value: u64) -> TimerId {
        let handler = self.own_handler(served_by);
        let (serial, at) = (self.next_serial(), self.later(after));
        TimerId(self.timers.add(serial, at, Task::Tell { handler, value }))
    }

    /// Ends the loop at once: a [`drain`](Self::drain) without grace, and final.
    pub fn stop(&mut self) {
        self.drain(Duration::ZERO);
    }

    /// Ends the loop in order: listeners accept what is in their backlog and close, every connection hears
    /// [`on_drain`](crate::StreamHandler::on_drain), and what is still open after `grace` is reset. Clients past
    /// `connections_max` are reset with the backlog.
    ///
    /// A second call can only shorten the first.
    pub fn drain(&mut self, grace: Duration) {
        let wanted = self.now.after(grace);
        match &mut self.lifecycle {
            Lifecycle::Running => {
                let closed_before = self.stats.closed_in_all();
                self.lifecycle = Lifecycle::Asked(Drain { since: self.now, until: wanted, closed_before });
            }
            Lifecycle::Asked(drain) | Lifecycle::Draining(drain) => drain.until = wanted.min(drain.until),
            Lifecycle::Stopped(_) => {}
        }
    }

    /// Has every open connection hear that the loop drains.
    pub(crate) fn begin_drain(&mut self) {
        for slot in 0..self.slots_end() {
            if let Some(state) = self.states.get_mut(slot as usize).filter(|state| state.phase == Phase::Open) {
                state.owes_drain = true;
                // What has come since the last poll is to be answered, too.
                if state.input == Input::Waiting {
                    state.input = Input::Ready;
                }
                self.defer(slot);
            }
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("now", &self.now())
            .field("lifecycle", &self.lifecycle)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
