//! The context: all state of a loop that callbacks can reach.
//!
//! Callbacks read it and mark changes in it; the loop carries them out afterwards. It contains no handler and no
//! socket, so that a callback can change every connection through `&mut Context`.

pub(crate) mod connection;
pub(crate) mod datagram;
pub(crate) mod erased_handler;
pub(crate) mod handle;
pub(crate) mod handler;
pub(crate) mod listener_entry;
pub(crate) mod loop_state;
pub(crate) mod mailbox;
pub(crate) mod udp_socket_entry;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::address::PackedAddress;
use crate::close_reason::CloseReason;
use crate::context::connection::Connection;
use crate::context::listener_entry::ListenerEntry;
use crate::context::loop_state::{Drain, LoopState, RunningCallback};
use crate::context::udp_socket_entry::UdpSocketEntry;
use crate::ids::{ConnectionId, HandlerId, Key, SourceId, SourceKey, TimerId, UdpSocketId, to_slot};
use crate::limits;
use crate::options::connect::Connect;
use crate::options::connection_limits::ConnectionLimits;
use crate::options::listen::{Listen, WhenFull};
use crate::state::buffers::BufferPool;
use crate::state::connection_state::{CONNECTING_SESSION, ConnectionState};
use crate::state::phase::{CloseMode, Phase, Queued, ReadState};
use crate::state::source_address_limits::{ConnectionCounts, SourcePrefix};
use crate::state::sparse_vec::SparseVec;
use crate::state::timers::{TimerTask, Timers};
use crate::state::timestamp::Timestamp;
use crate::state::udp_send_queue::UdpSendQueue;
use crate::stats::Stats;

/// What a callback may see and ask of the whole loop.
///
/// Callbacks get it by reference: [`Connection::context`](crate::Connection::context),
/// [`Datagram::context`](crate::Datagram::context), [`EventLoop::context`](crate::EventLoop::context) and the jobs of
/// [`Handle::post`](crate::Handle::post) give it.
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
    pub(crate) started: Instant,
    pub(crate) now: Timestamp,
    pub(crate) turn: u32,
    pub(crate) connections: Slab<ConnectionState>,
    pub(crate) listeners: Slab<ListenerEntry>,
    /// Those of outbound connections.
    outbound_entries: Vec<u32>,
    pub(crate) udp_sockets: Slab<UdpSocketEntry>,
    /// Clients of each handler.
    pub(crate) clients_by_handler: Vec<usize>,
    pub(crate) connection_counts: ConnectionCounts,
    pub(crate) buffer_pool: BufferPool,
    /// Connections that a callback of another one has changed.
    pub(crate) dirty: VecDeque<u32>,
    /// Connections with work left over.
    pub(crate) deferred: VecDeque<u32>,
    pub(crate) send_queue: UdpSendQueue,
    pub(crate) timers: Timers,
    /// The same for outbound connections that are not open yet.
    pub(crate) notes_before_open: Vec<(ConnectionId, u64)>,
    /// Outbound connections to begin with.
    pub(crate) pending_connects: VecDeque<(ConnectionId, Connect)>,
    /// What connections are to be told, and which.
    pub(crate) notes: VecDeque<(ConnectionId, u64)>,
    pub(crate) removed_sources: Vec<SourceKey>,
    pub(crate) loop_state: LoopState,
    /// The connection whose callback is running; left over when it unwound.
    pub(crate) running_callback: Option<RunningCallback>,
    /// The timer whose closure is running; left over when it unwound.
    pub(crate) running_timer: Option<Key>,
    pub(crate) catches_panics: bool,
    pub(crate) stats: Stats,
    /// The local address of each connection that its listener's does not tell.
    pub(crate) local_addrs: SparseVec<Option<PackedAddress>>,
    /// When each connection's handler has asked for `on_timeout`.
    pub(crate) timeouts: SparseVec<Timestamp>,
    /// Of everything that has an id: the high bits are the loop's own, so that no other loop's id fits here.
    last_generation: u64,
}

/// How many loops this process has had.
static LOOPS: AtomicU64 = AtomicU64::new(0);

/// Serial numbers a loop has to itself: at a million a second, enough for a year.
const GENERATION_BITS_PER_LOOP: u32 = 45;

impl Context {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            now: Timestamp::START,
            turn: 0,
            connections: Slab::with_capacity(limits::TABLE_BYTES_RESERVED / size_of::<ConnectionState>()),
            listeners: Slab::new(),
            udp_sockets: Slab::new(),
            clients_by_handler: Vec::new(),
            connection_counts: ConnectionCounts::default(),
            buffer_pool: BufferPool::default(),
            dirty: VecDeque::new(),
            deferred: VecDeque::new(),
            send_queue: UdpSendQueue::default(),
            removed_sources: Vec::new(),
            loop_state: LoopState::Running,
            running_callback: None,
            catches_panics: false,
            stats: Stats::default(),
            local_addrs: SparseVec::new(None),
            timeouts: SparseVec::new(Timestamp::NEVER),
            timers: Timers::default(),
            notes: VecDeque::new(),
            notes_before_open: Vec::new(),
            pending_connects: VecDeque::new(),
            outbound_entries: Vec::new(),
            running_timer: None,
            last_generation: LOOPS.fetch_add(1, Ordering::Relaxed) << GENERATION_BITS_PER_LOOP,
        }
    }

    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = self.timestamp(now);
    }

    pub(crate) fn timestamp(&self, now: Instant) -> Timestamp {
        Timestamp::since_start(now.saturating_duration_since(self.started))
    }

    /// This long after now, and later than now always: what is set again when it fires is the next turn's.
    pub(crate) fn deadline_after(&self, after: Duration) -> Timestamp {
        self.now.after(after.max(Duration::from_nanos(1)))
    }

    /// When a drain that is under way ends.
    pub(crate) fn drain_until(&self) -> Option<Timestamp> {
        match self.loop_state {
            LoopState::DrainRequested(drain) | LoopState::Draining(drain) => Some(drain.until),
            LoopState::Running | LoopState::Stopped(_) => None,
        }
    }

    pub(crate) fn next_generation(&mut self) -> u64 {
        self.last_generation += 1;
        self.last_generation
    }

    pub(crate) fn handler_id(&self, index: u32) -> HandlerId {
        HandlerId { loop_id: self.last_generation >> GENERATION_BITS_PER_LOOP, index }
    }

    /// The key of a handler of this loop.
    #[track_caller]
    pub(crate) fn own_handler_index(&self, id: HandlerId) -> u32 {
        assert!(id == self.handler_id(id.index), "{id:?} is a handler of another loop");
        id.index
    }

    pub(crate) fn state(&mut self, slot: u32) -> &mut ConnectionState {
        &mut self.connections[slot as usize]
    }

    pub(crate) fn connection_limits(&self, slot: u32) -> ConnectionLimits {
        self.listeners[self.connections[slot as usize].listener as usize].limits
    }

    /// When a connection must be looked at, if nothing happens before.
    pub(crate) fn deadline(&self, slot: u32) -> Timestamp {
        self.connections[slot as usize].deadline(&self.connection_limits(slot), self.timeouts.get(slot))
    }

    pub(crate) fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId { generation: self.connections[slot as usize].generation, slot }
    }

    pub(crate) fn listener(&mut self, key: Key) -> Option<&mut ListenerEntry> {
        self.listeners.get_mut(key.slot as usize).filter(|listener| listener.generation == key.generation)
    }

    pub(crate) fn udp_socket(&mut self, key: Key) -> Option<&mut UdpSocketEntry> {
        self.udp_sockets.get_mut(key.slot as usize).filter(|socket| socket.generation == key.generation)
    }

    /// Enters a listener.
    pub(crate) fn add_listener(
        &mut self,
        key: Key,
        handler: u32,
        options: &Listen,
        local: Option<SocketAddr>,
        default_connections_max: usize,
    ) {
        let slot = self.listeners.insert(ListenerEntry {
            generation: key.generation,
            handler,
            local,
            is_outbound: false,
            limits: options.limits,
            connections_max: options.connections_max.unwrap_or(default_connections_max),
            connections_per_source_max: options.connections_per_source_max,
            when_full: options.when_full,
            connections: 0,
            is_listening: true,
        });
        debug_assert_eq!(slot, key.slot as usize, "the slot was reserved");
    }

    /// Whether a listener's handler has all the connections it may have.
    pub(crate) fn is_full(&self, listener: u32) -> bool {
        let listener = &self.listeners[listener as usize];
        self.clients_by_handler[listener.handler as usize] >= listener.connections_max
    }

    /// Counts a client of a source, unless the source has its share already.
    pub(crate) fn try_count_source(&mut self, listener: u32, peer: Option<IpAddr>) -> bool {
        let ListenerEntry { handler, connections_per_source_max, .. } = self.listeners[listener as usize];
        let (Some(connections_max), Some(peer)) = (connections_per_source_max, peer) else {
            return true;
        };
        self.connection_counts.try_add(handler, SourcePrefix::of(peer), connections_max)
    }

    /// Enters a client; its local address is given where the listener's is not enough.
    pub(crate) fn add_accepted(&mut self, listener: u32, peer: Option<SocketAddr>, local: Option<SocketAddr>) -> u32 {
        let slot = self.add_connection(listener, peer);
        self.local_addrs.set(slot, local.map(|local| Some(local).into()));
        self.clients_by_handler[self.listeners[listener as usize].handler as usize] += 1;
        self.stats.accepted += 1;
        slot
    }

    /// Enters a connection that is to be opened.
    pub(crate) fn add_outbound(&mut self, handler: u32, to: Connect) -> ConnectionId {
        let listener = self.outbound_entry(handler, to.limits);
        let slot = self.add_connection(listener, to.address.socket_addr());
        self.local_addrs.set(slot, None);
        let state = self.state(slot);
        (state.phase, state.session) = (Phase::Connecting(None), CONNECTING_SESSION);
        self.stats.connects += 1;
        let id = self.id(slot);
        self.pending_connects.push_back((id, to));
        id
    }

    fn add_connection(&mut self, listener: u32, peer: Option<SocketAddr>) -> u32 {
        let generation = self.next_generation();
        let slot = to_slot(self.connections.insert(ConnectionState::new(generation, peer.into(), listener, self.now)));
        self.timeouts.set(slot, Timestamp::NEVER);
        self.listeners[listener as usize].connections += 1;
        self.stats.connections += 1;
        slot
    }

    /// The entry that a handler's outbound connections with the same bounds share.
    fn outbound_entry(&mut self, handler: u32, limits: ConnectionLimits) -> u32 {
        let is_shared = |listener: &ListenerEntry| listener.handler == handler && listener.limits == limits;
        if let Some(&found) =
            self.outbound_entries.iter().find(|&&listener| is_shared(&self.listeners[listener as usize]))
        {
            return found;
        }
        let generation = self.next_generation();
        let listener = to_slot(self.listeners.insert(ListenerEntry {
            generation,
            handler,
            local: None,
            is_outbound: true,
            limits,
            connections_max: usize::MAX,
            connections_per_source_max: None,
            when_full: WhenFull::Pause,
            connections: 0,
            is_listening: false,
        }));
        self.outbound_entries.push(listener);
        listener
    }

    pub(crate) fn local_addr(&self, slot: u32) -> Option<SocketAddr> {
        match self.local_addrs.get(slot) {
            Some(local) => local.socket_addr(),
            None => self.listeners[self.connections[slot as usize].listener as usize].local,
        }
    }

    /// Counts a connection out, or an outbound one that has failed before it was open; its slot stays until
    /// [`free_slot`](Self::free_slot).
    pub(crate) fn record_close(&mut self, slot: u32, reason: Option<CloseReason>) {
        let state = &mut self.connections[slot as usize];
        state.phase = Phase::Closed;
        if let Some(buffers) = state.buffers.take() {
            self.buffer_pool.put(buffers);
        }
        let listener = &mut self.listeners[state.listener as usize];
        if !listener.is_outbound {
            self.clients_by_handler[listener.handler as usize] -= 1;
        }
        if listener.connections_per_source_max.is_some()
            && let Some(peer) = state.peer.socket_addr()
        {
            self.connection_counts.remove(listener.handler, SourcePrefix::of(peer.ip()));
        }
        self.stats.connections -= 1;
        match reason {
            Some(reason) => self.stats.count_close(reason),
            None => self.stats.connect_errors += 1,
        }
    }

    /// One more than the last slot that is taken.
    pub(crate) fn slots_end(&self) -> u32 {
        self.connections.iter().next_back().map_or(0, |(last, _)| to_slot(last) + 1)
    }

    /// Notes that a connection's callback has panicked.
    pub(crate) fn abort_panicked(&mut self, slot: u32) {
        let state = self.state(slot);
        log::error!("{}: a handler has panicked, the connection is aborted", state.peer);
        if state.phase != Phase::Closed {
            state.phase = Phase::Closing(CloseReason::Panicked, CloseMode::Reset);
        }
    }

    /// Gives the slot of a connection that is gone to the next.
    pub(crate) fn free_slot(&mut self, slot: u32) {
        let listener = self.connections.remove(slot as usize).listener;
        self.listeners[listener as usize].connections -= 1;
        self.remove_listener_if_unused(listener);
    }

    /// Drops an entry once it is not needed: it listens no more and its last connection is gone.
    pub(crate) fn remove_listener_if_unused(&mut self, listener: u32) {
        let entry = &self.listeners[listener as usize];
        if !entry.is_listening && entry.connections == 0 {
            self.listeners.remove(listener as usize);
            self.outbound_entries.retain(|&other| other != listener);
        }
    }

    /// What an outbound connection was to be told before it was open.
    pub(crate) fn take_notes_before_open(&mut self, slot: u32) -> Vec<u64> {
        let id = self.id(slot);
        let mine = self.notes_before_open.iter().filter(|(of, _)| *of == id).map(|(_, value)| *value).collect();
        self.notes_before_open.retain(|(of, _)| *of != id);
        mine
    }

    /// Puts a connection down for the next turn.
    pub(crate) fn defer(&mut self, slot: u32) {
        if self.connections[slot as usize].queued == Queued::No {
            self.connections[slot as usize].queued = Queued::Deferred;
            // planted: deferred-list-forgotten
            self.deferred.push_back(slot);
        }
    }

    /// Takes a slot off the list it stands on; false if its connection is gone.
    pub(crate) fn dequeue(&mut self, slot: u32) -> bool {
        match self.connections.get_mut(slot as usize) {
            Some(state) if state.phase != Phase::Closed => {
                state.queued = Queued::No;
                true
            }
            _ => false,
        }
    }

    /// Notes that a callback changed a connection, unless it is the one the callback is for.
    pub(crate) fn mark_dirty(&mut self, slot: u32) {
        if self.running_callback.is_none_or(|callback| callback.slot != slot) && self.state(slot).queued == Queued::No {
            self.state(slot).queued = Queued::Dirty;
            self.dirty.push_back(slot);
        }
    }
}

impl Context {
    /// The time of this turn: read once, the same for all its callbacks.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.started + self.now.as_duration()
    }

    /// The loop's counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Removes a listener, a UDP socket or a timer; connections live on. Returns whether it was there.
    pub fn remove(&mut self, id: impl Into<SourceId>) -> bool {
        let SourceId(source) = id.into();
        let was_there = match source {
            SourceKey::Listener(key) => {
                self.listener(key).is_some_and(|listener| std::mem::take(&mut listener.is_listening))
            }
            SourceKey::UdpSocket(key) => self.udp_socket(key).is_some_and(|socket| std::mem::take(&mut socket.is_open)),
            SourceKey::Timer(key) => self.timers.remove(key),
        };
        if was_there {
            self.removed_sources.push(source);
        }
        was_there
    }

    /// Another connection, or this one: `None` once it is closing or gone. Ids are never reused.
    ///
    /// What is written to it leaves at the end of this turn.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Connection<'_>> {
        let state = self.connections.get(id.slot as usize)?;
        // planted: note-reaches-the-next-in-the-slot
        let is_there = state.generation == id.generation && state.is_open();
        is_there.then(|| Connection::new(self, id.slot))
    }

    /// Visits every open connection of a handler, the calling one included, in no particular order.
    ///
    /// A job of [`Handle::post`](crate::Handle::post) needs the id that
    /// [`EventLoop::attach`](crate::EventLoop::attach) returns.
    ///
    /// ```
    /// use halloo::{EventLoop, stream};
    ///
    /// let mut events = EventLoop::new()?;
    /// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    /// events.listen(address, stream(|connection, input| {
    ///     let handler = connection.handler();
    ///     connection.context().for_each_connection(handler, |other| { let _ = other.send(input); });
    ///     input.len()
    /// }))?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn for_each_connection(&mut self, served_by: HandlerId, mut visit: impl FnMut(&mut Connection<'_>)) {
        for slot in 0..self.slots_end() {
            if let Some(state) = self.connections.get(slot as usize)
                && state.phase == Phase::Open
                && self.listeners[state.listener as usize].handler == served_by.index
            {
                visit(&mut Connection::new(self, slot));
            }
        }
    }

    /// Opens an outbound connection, served by a handler as its clients are: [`on_open`](crate::StreamHandler::on_open)
    /// tells when it is there, [`on_connect_failed`](crate::StreamHandler::on_connect_failed) that it never will be;
    /// one of the two comes, and not before this call has returned. Until then what is [written](Connection::write) to
    /// it waits, [`close`](Connection::close) is for when it is open, and [`abort`](Connection::abort) gives it up.
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
    /// Past the end of a drain, when what is left is being cut, and on a loop that has ended, nothing is opened any
    /// more: the id names no connection, and no callback comes.
    ///
    /// # Panics
    /// If the handler is another loop's.
    #[track_caller]
    pub fn connect(&mut self, to: impl Into<Connect>, served_by: HandlerId) -> ConnectionId {
        let handler = self.own_handler_index(served_by);
        if self.loop_state.is_ending(self.now) {
            return ConnectionId { generation: self.next_generation(), slot: u32::MAX };
        }
        self.add_outbound(handler, to.into())
    }

    /// Sends a datagram of the embedder's own initiative: true if it is queued to leave in this turn, or the next if no
    /// turn is under way. No rate holds for it. Refused are port 0, a socket that is gone, and more than 1,024
    /// datagrams or 1 MiB of them at once.
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
    pub fn send_to(&mut self, socket: UdpSocketId, payload: &[u8], to: SocketAddr) -> bool {
        let UdpSocketId(key) = socket;
        let is_open = self.udp_socket(key).is_some_and(|socket| socket.is_open);
        is_open && to.port() != 0 && self.send_queue.push(key.slot, to, None, payload)
    }

    /// Calls [`on_notify`](crate::StreamHandler::on_notify) of a connection with a value: how one connection tells
    /// another's session something. The call comes after the running callback has returned, in this turn or the next,
    /// and notes arrive in the order they were given. A connection that is closing or gone by then hears nothing; one
    /// that is not open yet hears it when it is.
    ///
    /// ```
    /// use halloo::{CloseReason, Connection, ConnectionId, EventLoop, StreamHandler};
    ///
    /// /// A client that sends a byte has the client before it notified.
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
        let handler = self.own_handler_index(served_by);
        let (generation, at) = (self.next_generation(), self.deadline_after(after));
        TimerId(self.timers.add(generation, at, TimerTask::Handler { handler, value }))
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
        match &mut self.loop_state {
            LoopState::Running => {
                let closed_before = self.stats.closed_total();
                self.loop_state = LoopState::DrainRequested(Drain { since: self.now, until: wanted, closed_before });
            }
            LoopState::DrainRequested(drain) | LoopState::Draining(drain) => drain.until = wanted.min(drain.until),
            LoopState::Stopped(_) => {}
        }
    }

    /// Has every open connection hear that the loop drains.
    pub(crate) fn begin_drain(&mut self) {
        for slot in 0..self.slots_end() {
            if let Some(state) = self.connections.get_mut(slot as usize).filter(|state| state.phase == Phase::Open) {
                state.drain_notice_due = true;
                // What has come since the last poll is to be answered, too.
                if state.read_state == ReadState::WouldBlock {
                    state.read_state = ReadState::Readable;
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
            .field("loop_state", &self.loop_state)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
