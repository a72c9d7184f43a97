//! The tables of a loop: everything it knows, and nothing it does.
//!
//! [`Context`] is lent to every callback. Reading it answers questions; marking it (a connection's outbox, an intent to
//! close, a source to remove, a drain) is carried out by the stations after the callback. Sessions live with their
//! handlers and sockets with the stations, so a callback reaches every other connection with a plain `&mut`.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::bounds::Bounds;
use crate::buffers::Pool;
use crate::column::Column;
use crate::connect::Connect;
use crate::entries::{Calling, Lifecycle, Origin, Socket};
use crate::limits;
use crate::moment::Moment;
use crate::options::{Listen, WhenFull};
use crate::peer::Peer;
use crate::phase::{Ending, Phase, Queued};
use crate::reason::CloseReason;
use crate::sources::{PeerSource, SourceCounts};
use crate::staged::Staged;
use crate::state::{State, UNOPENED};
use crate::stats::Stats;
use crate::timers::Timers;
use crate::token::{ConnectionId, HandlerId, Place, Watched, slot_of};

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

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("now", &self.now())
            .field("lifecycle", &self.lifecycle)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
