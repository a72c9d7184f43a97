//! The context: all state of a loop that callbacks can reach.
//!
//! It owns the sockets: callbacks open and close some, and only the loop reads and writes. It owns no handler, so that
//! a callback can change every connection through `&mut Context`.

pub(crate) mod connection;
pub(crate) mod datagram;
pub(crate) mod entries;
pub(crate) mod erased_handler;
pub(crate) mod foreign_code;
pub(crate) mod handle;
pub(crate) mod handler;
pub(crate) mod handler_impls;
pub(crate) mod loop_state;
pub(crate) mod mailbox;
pub(crate) mod open;

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::address::{Address, PackedAddress};
use crate::context::connection::Connection;
use crate::context::entries::connection_entry::ConnectionEntry;
use crate::context::entries::handler_entry::{HandlerEntry, HandlerKind};
use crate::context::entries::listener_entry::ListenerEntry;
use crate::context::entries::udp_socket_entry::{BoundAddresses, UdpSocketEntry};
#[cfg(unix)]
use crate::context::entries::watch_entry::WatchEntry;
use crate::context::loop_state::{Drain, LoopState, RunningCallback};
use crate::context::open::Added;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ConnectionId, HandlerId, Key, SlotKey, SourceId, SourceKey, TimerId};
use crate::limits;
use crate::net::Network;
use crate::net::repeated_log::RepeatedLogs;
use crate::observe::entry::EntryKind;
use crate::observe::journal::Journal;
use crate::options::connect::Connect;
use crate::options::connection_limits::ConnectionLimits;
use crate::state::buffers::BufferPool;
use crate::state::buffers::outbox::LentInput;
use crate::state::deadlines::Deadlines;
use crate::state::memory::shrink_map;
use crate::state::phase::Phase;
use crate::state::source_address_limits::ConnectionCounts;
use crate::state::sparse_vec::SparseVec;
use crate::state::timers::{TimerTask, Timers};
use crate::state::timestamp::Timestamp;
use crate::state::udp_send_queue::UdpSendQueue;
use crate::stats::Stats;

/// The part of a loop that callbacks can use: its sockets, handlers, timers and counters.
///
/// Callbacks receive it by reference, from [`Connection::context`](crate::Connection::context),
/// [`Datagram::context`](crate::Datagram::context), [`EventLoop::context`](crate::EventLoop::context) and in jobs of
/// [`Handle::post`](crate::Handle::post).
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
    pub(crate) network: Network,
    /// The default of a listener's `connections_max`.
    pub(crate) default_connections_max: Box<dyn Fn() -> usize>,
    /// A secret for hashes.
    pub(crate) hash_key: [u64; 2],
    pub(crate) started: Instant,
    pub(crate) now: Timestamp,
    /// All input that arrived before this has been reported. It is the time at the start of the last poll that was
    /// neither interrupted nor full. Deadlines of connections are compared with it.
    pub(crate) polled_until: Timestamp,
    pub(crate) turn: u32,
    pub(crate) handlers: Slab<HandlerEntry>,
    /// Handlers and closures that callbacks have added, and the loop has not taken yet.
    pub(crate) added: Vec<Added<'static>>,
    pub(crate) connections: Slab<ConnectionEntry>,
    pub(crate) listeners: Slab<ListenerEntry>,
    pub(crate) udp_sockets: Slab<UdpSocketEntry>,
    #[cfg(unix)]
    pub(crate) watches: Slab<WatchEntry>,
    pub(crate) bound_addresses: BoundAddresses,
    pub(crate) timers: Timers,
    pub(crate) deadlines: Deadlines,
    pub(crate) connection_counts: ConnectionCounts,
    pub(crate) buffer_pool: BufferPool,
    /// The local address of each connection whose listener is bound to a wildcard address, and of outbound connections.
    pub(crate) local_addrs: SparseVec<PackedAddress>,
    /// Of each connection with input from before its deadline: the turns since the deadline.
    pub(crate) late_turns: SparseVec<u8>,
    /// The entries that outbound connections share, by handler, limits, and whether their streams are inherited.
    pub(crate) outbound_entries: HashMap<(u32, ConnectionLimits, bool), u32>,
    /// Listeners that wait for room or a descriptor, each once. Some may have been served since.
    pub(crate) held_up_listeners: Vec<u32>,
    /// Listeners, UDP sockets and watches that are ready to be served.
    pub(crate) ready_sources: VecDeque<SlotKey>,
    /// Connections changed by a callback of another connection, a timer or a job.
    pub(crate) dirty: VecDeque<u32>,
    /// Connections with work left.
    pub(crate) deferred: VecDeque<u32>,
    /// Closed connections; their slots are freed at the end of the turn.
    pub(crate) closed_slots: Vec<u32>,
    /// Outbound connections whose connect has not started.
    pub(crate) pending_connects: VecDeque<(ConnectionId, Connect)>,
    /// Outbound connections whose listener had a full backlog, ordered by the time of the next attempt.
    pub(crate) connect_retries: VecDeque<(Timestamp, ConnectionId, Connect)>,
    /// Values to deliver to connections.
    pub(crate) notes: VecDeque<(ConnectionId, u64)>,
    /// Values for outbound connections that have not opened.
    pub(crate) notes_before_open: HashMap<ConnectionId, Vec<u64>>,
    /// Values of connects that have not been taken.
    pub(crate) connect_values: HashMap<ConnectionId, Box<dyn Any>>,
    pub(crate) send_queue: UdpSendQueue,
    /// Removed UDP sockets, watches and timers with closures, which the loop has not dropped yet.
    pub(crate) removed_sources: VecDeque<SourceKey>,
    /// Slots of handlers that were not attached, and that nothing used at some time. The loop drops them unless
    /// something uses them again.
    pub(crate) unused_handlers: Vec<u32>,
    pub(crate) loop_state: LoopState,
    pub(crate) running_callback: Option<RunningCallback>,
    pub(crate) lent_input: LentInput,
    pub(crate) catches_panics: bool,
    /// Callbacks are neither noted nor protected against panics.
    pub(crate) calls_directly: bool,
    /// A table has become large: at the end of a turn, the loop checks whether it can release memory.
    pub(crate) may_shrink: bool,
    pub(crate) stats: Stats,
    pub(crate) journal: Journal,
    pub(crate) repeated_logs: RepeatedLogs,
    /// Of all objects with an id.
    last_generation: u64,
    /// The last generation of the loop's present block.
    block_end: u64,
}

/// The start of the next block of generations. Each loop uses its own blocks, so that generations are unique in a
/// process, and an id of another loop refers to nothing. The first block belongs to simulations: the first loop of each
/// begins with it, so that the same seed has the same generations.
static NEXT_BLOCK: AtomicU64 = AtomicU64::new(GENERATIONS_PER_BLOCK);

/// With a million ids a second and a new block for each, the blocks of a process last for half a million years.
const GENERATIONS_PER_BLOCK: u64 = 1 << 20;

impl Context {
    pub(crate) fn new(network: Network, default_connections_max: Box<dyn Fn() -> usize>, hash_key: [u64; 2]) -> Self {
        let mut deadlines = Deadlines::default();
        // The reserved room is already there.
        let _ = deadlines.try_reserve_connections(Self::CONNECTIONS_RESERVED);
        #[cfg_attr(not(any(test, feature = "testing")), expect(unused_mut, reason = "only a simulation changes them"))]
        let (mut journal, mut block_end) = (Journal::new(), 0);
        #[cfg(any(test, feature = "testing"))]
        if let Network::Simulated(network) = &network {
            journal.record(network.recording());
            block_end = if network.is_first_loop() { GENERATIONS_PER_BLOCK } else { 0 };
        }
        Self {
            started: network.now(),
            network,
            default_connections_max,
            hash_key,
            now: Timestamp::START,
            polled_until: Timestamp::START,
            turn: 0,
            handlers: Slab::new(),
            added: Vec::new(),
            connections: Slab::with_capacity(Self::CONNECTIONS_RESERVED),
            listeners: Slab::new(),
            udp_sockets: Slab::new(),
            #[cfg(unix)]
            watches: Slab::new(),
            bound_addresses: BoundAddresses::default(),
            timers: Timers::default(),
            deadlines,
            connection_counts: ConnectionCounts::new(),
            buffer_pool: BufferPool::default(),
            local_addrs: SparseVec::new(),
            late_turns: SparseVec::new(),
            outbound_entries: HashMap::new(),
            held_up_listeners: Vec::new(),
            ready_sources: VecDeque::new(),
            dirty: VecDeque::with_capacity(Self::QUEUES_RESERVED),
            deferred: VecDeque::with_capacity(Self::QUEUES_RESERVED),
            closed_slots: Vec::with_capacity(Self::QUEUES_RESERVED),
            pending_connects: VecDeque::new(),
            connect_retries: VecDeque::new(),
            notes: VecDeque::new(),
            notes_before_open: HashMap::new(),
            connect_values: HashMap::new(),
            send_queue: UdpSendQueue::default(),
            removed_sources: VecDeque::new(),
            unused_handlers: Vec::new(),
            loop_state: LoopState::Running,
            running_callback: None,
            lent_input: LentInput::default(),
            catches_panics: false,
            calls_directly: !journal.has_all(),
            may_shrink: false,
            stats: Stats::default(),
            journal,
            repeated_logs: RepeatedLogs::default(),
            last_generation: 0,
            block_end,
        }
    }

    /// Sets the time of the turn to the clock.
    pub(crate) fn update_now(&mut self) {
        self.now = self.clock();
    }

    /// Returns the clock, which may be ahead of the time of the turn.
    pub(crate) fn clock(&self) -> Timestamp {
        Timestamp::since_start(self.network.now().saturating_duration_since(self.started))
    }

    /// The time `after` from now. It is always later than the time of the turn, so a timer that is set again fires in a
    /// later turn.
    pub(crate) fn deadline_after(&self, after: Duration) -> Timestamp {
        // planted: durations-run-from-the-start-of-the-turn
        self.clock().after(after.max(Duration::from_nanos(1)))
    }

    /// The end of a drain in progress.
    pub(crate) fn drain_until(&self) -> Option<Timestamp> {
        match self.loop_state {
            LoopState::DrainRequested(drain) | LoopState::Draining(drain) => Some(drain.until),
            LoopState::Running | LoopState::Stopped(_) | LoopState::Panicked => None,
        }
    }

    /// Returns a number that is unique in the process, and never zero.
    pub(crate) fn next_generation(&mut self) -> u64 {
        if self.last_generation == self.block_end {
            self.last_generation = NEXT_BLOCK.fetch_add(GENERATIONS_PER_BLOCK, Ordering::Relaxed);
            self.block_end = self.last_generation + GENERATIONS_PER_BLOCK;
        }
        self.last_generation += 1;
        self.last_generation
    }

    /// Refuses to open sockets after the loop has ended: their clients would wait for ever.
    pub(crate) fn check_not_stopped(&self, at: Option<&Address>) -> Result<()> {
        if matches!(self.loop_state, LoopState::Stopped(_) | LoopState::Panicked) {
            return Err(Error::with_message(ErrorKind::Setup, at.cloned(), "the loop has ended"));
        }
        Ok(())
    }

    /// Adds a timer that expires after this time.
    pub(crate) fn add_timer(&mut self, after: Duration, task: TimerTask) -> TimerId {
        let (generation, at) = (self.next_generation(), self.deadline_after(after));
        let id = TimerId(self.timers.add(generation, task));
        self.deadlines.arm(SlotKey::Timer(id.0.slot), at);
        self.journal.note(EntryKind::DeadlineSet, SlotKey::Timer(id.0.slot), generation, [at.as_nanos(), 0]);
        self.may_shrink |= self.timers.is_large();
        id
    }
}

impl Context {
    /// Returns the time of this turn. It is read once, so it is the same for all callbacks of the turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.started + self.now.as_duration()
    }

    /// Returns the loop's counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Removes a listener, UDP socket, timer, watch or handler; connections stay open. Returns whether it was there.
    /// After the removal of a listener, socket, timer or watch, none of its callbacks is called.
    ///
    /// - A listener closes at once, and its address is free.
    /// - A UDP socket delivers no further datagram, and sends no later reply. It closes at once, or, if datagrams are
    ///   queued for it, after they are sent at the end of the turn.
    /// - A handler gets no new listener, connection or timer. It serves its existing ones until they end.
    ///
    /// [Closures](crate::EventLoop::every), watched sources and handlers that nothing uses any more are dropped at the
    /// end of the turn; [`EventLoop::remove`](crate::EventLoop::remove) returns them.
    pub fn remove(&mut self, id: impl Into<SourceId>) -> bool {
        let SourceId(source) = id.into();
        match source {
            SourceKey::Listener(key) => self.listener(key).is_some() && self.close_listener(key.slot),
            SourceKey::UdpSocket(key) => self.remove_udp_socket(key),
            SourceKey::Timer(key) => {
                let task = self.timers.remove(key);
                match task {
                    Some(TimerTask::Callback) => {
                        self.removed_sources.push_back(source);
                        self.may_shrink |= self.removed_sources.len() > limits::BURST_MIN;
                    }
                    Some(TimerTask::Handler { handler, .. }) => self.release_handler(handler),
                    Some(TimerTask::Removed) | None => return false,
                }
                self.deadlines.disarm(SlotKey::Timer(key.slot));
                true
            }
            SourceKey::Handler(key) => self.remove_handler(key),
            #[cfg(unix)]
            SourceKey::Watch(key) => {
                let was_open = self.remove_watch(key);
                if was_open {
                    self.removed_sources.push_back(source);
                }
                was_open
            }
        }
    }

    /// Returns another connection, or this one; `None` if it is closing or gone. Ids are never reused.
    ///
    /// Output to another connection is sent at the end of this turn, or earlier.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Connection<'_>> {
        let entry = self.connections.get(id.slot as usize)?;
        // planted: note-reaches-the-next-in-the-slot
        let is_there = entry.generation == id.generation && entry.state.is_open();
        is_there.then(|| Connection::new(self, id.slot))
    }

    /// Visits every open connection of a handler, including the calling one, in no particular order. It visits none if
    /// the handler is gone or belongs to another loop.
    ///
    /// A job of [`Handle::post`](crate::Handle::post) needs the id that [`EventLoop::attach`](crate::EventLoop::attach)
    /// returned.
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
        if self.handler(served_by).is_none() {
            return;
        }
        for slot in 0..self.slots_end() {
            if let Some(entry) = self.connections.get(slot as usize)
                && entry.state.phase == Phase::Open
                && self.listeners[entry.listener as usize].handler == served_by.0.slot
            {
                visit(&mut Connection::new(self, slot));
            }
        }
    }

    /// Opens an outbound connection, or uses a [connected stream](Connect#streams-that-are-connected-already). The
    /// handler serves it like an accepted client.
    ///
    /// After this call has returned, one of two callbacks is called: [`on_open`](crate::StreamHandler::on_open) when
    /// the connection opens, [`on_connect_failed`](crate::StreamHandler::on_connect_failed) if it cannot. Until then
    /// [output](Connection::try_write) waits, [`close`](Connection::close) takes effect when the connection opens, and
    /// [`abort`](Connection::abort) cancels the connect.
    ///
    /// ```
    /// use halloo::{Connection, EventLoop, StreamHandler};
    /// use std::io::{Read, Write};
    ///
    /// /// Sends one request and keeps the reply.
    /// struct Ask { reply: String }
    ///
    /// impl StreamHandler for Ask {
    ///     type Session = ();
    ///     fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
    ///         connection.send(b"Hello, TCP Server!").ok()
    ///     }
    ///     fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
    ///         self.reply = String::from_utf8_lossy(input).into_owned();
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
    /// let handler = events.attach(Ask { reply: String::new() });
    /// events.context().connect(address, handler);
    /// events.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Nothing is opened if the loop has ended, if the time of a drain is over, or if the handler was
    /// [removed](Self::remove). The id then refers to no connection, and no callback is called.
    ///
    /// # Panics
    /// If this loop has no such handler, because it was dropped or belongs to another loop; or if it serves datagrams.
    #[track_caller]
    pub fn connect(&mut self, to: impl Into<Connect>, served_by: HandlerId) -> ConnectionId {
        let is_removed = self.is_removed_handler(served_by);
        let kind = self.handlers[served_by.0.slot as usize].kind;
        assert!(
            kind == HandlerKind::Stream,
            "{served_by:?} serves datagrams; connect for a handler that `attach` has returned"
        );
        if is_removed || self.loop_state.is_ending(self.now) {
            return ConnectionId { generation: self.next_generation(), slot: u32::MAX };
        }
        self.insert_outbound(served_by.0.slot, to.into())
    }

    /// Opens an outbound connection like [`connect`](Self::connect), and keeps a value for its first callback.
    /// [`Connection::take_value`](crate::Connection::take_value) returns the value in
    /// [`on_open`](crate::StreamHandler::on_open), [`Context::take_value`](Self::take_value) in
    /// [`on_connect_failed`](crate::StreamHandler::on_connect_failed). So a handler needs no table of the purpose of
    /// each connection.
    ///
    /// A value that is not taken is dropped after that callback. If the id refers to no connection, the value is
    /// dropped before this call returns.
    ///
    /// ```
    /// use halloo::{Connection, ConnectionId, Context, EventLoop, StreamHandler};
    ///
    /// /// Sends each server its own request.
    /// struct Ask;
    ///
    /// impl StreamHandler for Ask {
    ///     type Session = ();
    ///     fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
    ///         let request: String = connection.take_value()?;
    ///         connection.send(request.as_bytes()).ok()
    ///     }
    ///     fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
    ///         assert_eq!(input, b"noon");
    ///         connection.context().stop();
    ///         input.len()
    ///     }
    ///     fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: std::io::Error) {
    ///         let request: Option<String> = context.take_value(id);
    ///         eprintln!("cannot ask {request:?}: {error}");
    ///     }
    /// }
    ///
    /// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let address = server.local_addr()?;
    /// std::thread::spawn(move || {
    ///     use std::io::{Read, Write};
    ///     let mut asked = server.accept().unwrap().0;
    ///     let mut request = [0; 16];
    ///     let count = asked.read(&mut request).unwrap();
    ///     assert_eq!(&request[..count], b"what time?");
    ///     asked.write_all(b"noon").unwrap();
    /// });
    ///
    /// let mut events = EventLoop::new()?;
    /// let handler = events.attach(Ask);
    /// events.context().connect_with(address, handler, String::from("what time?"));
    /// events.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// As [`connect`](Self::connect).
    #[track_caller]
    pub fn connect_with<T: 'static>(&mut self, to: impl Into<Connect>, served_by: HandlerId, value: T) -> ConnectionId {
        let id = self.connect(to, served_by);
        if self.connection(id).is_some() {
            self.connect_values.insert(id, Box::new(value));
        }
        id
    }

    /// Takes the value that was passed to [`connect_with`](Self::connect_with) for this connection, until its `on_open`
    /// or `on_connect_failed` has returned. `None` if there is no value, or if it has another type; it then stays.
    pub fn take_value<T: 'static>(&mut self, id: ConnectionId) -> Option<T> {
        match self.connect_values.remove(&id)?.downcast() {
            Ok(value) => {
                shrink_map(&mut self.connect_values);
                Some(*value)
            }
            Err(other) => {
                self.connect_values.insert(id, other);
                None
            }
        }
    }

    /// Calls [`on_notify`](crate::StreamHandler::on_notify) of a connection with a value, for messages between
    /// connections. The call follows the running callback, in this turn or the next, and values arrive in order. A
    /// connection that is closing or gone is not called. A connection that has not opened is called when it opens.
    ///
    /// ```
    /// use halloo::{CloseReason, Connection, ConnectionId, EventLoop, StreamHandler};
    ///
    /// /// A client that sends a byte causes a note to the client before it.
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
    ///     fn on_notify(&mut self, _: &mut Connection<'_>, sum: &mut u64, value: u64) { *sum += value; }
    /// }
    ///
    /// let mut events = EventLoop::new()?;
    /// events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), Relay::default())?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn notify(&mut self, id: ConnectionId, value: u64) {
        self.notes.push_back((id, value));
        self.may_shrink |= self.notes.len() > limits::BURST_MIN;
    }

    /// Calls [`on_timer`](crate::StreamHandler::on_timer) of a handler with a value, once, after this time: never
    /// early, and never in this turn. The handler defines the meaning of the value.
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
    ///     fn on_timer(&mut self, context: &mut Context, _: halloo::TimerId, value: u64) {
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
    /// For a handler that was [removed](Self::remove), no timer is set, and the id refers to none. After the loop has
    /// ended, the timer is set but never fires.
    ///
    /// # Panics
    /// If this loop has no such handler, because it was dropped or belongs to another loop.
    #[track_caller]
    pub fn schedule(&mut self, served_by: HandlerId, after: Duration, value: u64) -> TimerId {
        if self.is_removed_handler(served_by) {
            return TimerId(Key { generation: self.next_generation(), slot: u32::MAX });
        }
        let handler = served_by.0.slot;
        self.use_handler(handler);
        self.add_timer(after, TimerTask::Handler { handler, value })
    }

    /// Ends the loop after this turn, or after the next if no turn is running. No more clients are accepted, not even
    /// from the backlog, and no more datagrams are delivered. Connections are served until the end of that turn, and
    /// their output is sent as far as the kernel accepts it. Then the open ones are reset.
    pub fn stop(&mut self) {
        self.end_by(Timestamp::START);
    }

    /// Ends the loop gracefully. Listeners accept the clients in their backlog and close.
    /// [`on_drain`](crate::StreamHandler::on_drain) is called for every connection. Connections still open after
    /// `grace` are reset. Clients above `connections_max` are reset with the backlog. A UDP socket delivers its queued
    /// datagrams and calls [`on_drain`](crate::DatagramHandler::on_drain), which removes it unless its handler keeps
    /// it. The loop ends when all connections are closed and all UDP sockets are removed.
    ///
    /// Work that needs another client, such as an expected data connection, opens a listener for it in `on_drain` with
    /// [`listen_for`](Self::listen_for). The listener uses a port of its own, or the port of a listener that
    /// [`remove`](Self::remove) has closed. Listeners from before the drain may still be open then.
    ///
    /// A second call can only shorten the time.
    pub fn drain(&mut self, grace: Duration) {
        self.end_by(self.clock().after(grace));
    }

    fn end_by(&mut self, until: Timestamp) {
        let since = self.clock();
        let grace = u64::try_from(until.since(since).as_nanos()).unwrap_or(u64::MAX);
        self.journal.note_loop(EntryKind::Drain, [grace, 0]);
        match &mut self.loop_state {
            LoopState::Running => {
                let closed_before = self.stats.closed_total();
                self.loop_state = LoopState::DrainRequested(Drain { since, until, closed_before, late_turns: 0 });
            }
            LoopState::DrainRequested(drain) | LoopState::Draining(drain) => drain.until = until.min(drain.until),
            LoopState::Stopped(_) | LoopState::Panicked => {}
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
