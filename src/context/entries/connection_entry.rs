//! The slab entry of one connection: add, defer, close.
//!
//! The entry contains all data of a connection but its session, which its handler keeps.

use std::net::SocketAddr;

use crate::address::PackedAddress;
use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::entries::listener_entry::ListenerEntry;
use crate::context::loop_state::LoopState;
use crate::ids::{ConnectionId, SlotKey, to_slot};
use crate::limits;
use crate::net::Stream;
use crate::observe::entry::EntryKind;
use crate::observe::journal::{Journal, SO_DETACH_FILTER, SO_LINGER, SOL_SOCKET};
use crate::options::connect::Connect;
use crate::options::connection_limits::ConnectionLimits;
use crate::state::connection_state::ConnectionState;
use crate::state::memory::{OutOfMemory, is_allocatable, shrink_map, shrink_queue, shrink_slab};
use crate::state::phase::{CloseMode, DrainStep, InputStop, Phase, Queued, ReadState};
use crate::state::timestamp::Timestamp;

/// One connection.
pub(crate) struct ConnectionEntry {
    pub(crate) generation: u64,
    /// `None` before the connect has started, and after the close.
    pub(crate) stream: Option<Stream>,
    pub(crate) state: ConnectionState,
    /// The slot of its listener entry, with its handler, its limits and the listener's address.
    pub(crate) listener: u32,
    /// The key of its session in the handler, or [`NO_SESSION`].
    pub(crate) session: u32,
}

impl ConnectionEntry {
    /// Makes the kernel accept input again, if a drain has stopped it: after our FIN, so that the peer's data is
    /// acknowledged or reset, and before a close, because another process may have a duplicate of the descriptor.
    #[inline]
    pub(crate) fn resume_input(&mut self, slot: u32, journal: &mut Journal) {
        if self.state.drain_step == DrainStep::Stopped(InputStop::Filter) {
            self.detach_filter(slot, journal);
        }
    }

    #[cold]
    #[inline(never)]
    fn detach_filter(&mut self, slot: u32, journal: &mut Journal) {
        self.state.drain_step = DrainStep::Stopped(InputStop::None);
        if let Some(stream) = &self.stream {
            let (key, result) = (SlotKey::Connection(slot), stream.resume_input());
            let numbers = [SOL_SOCKET, SO_DETACH_FILTER];
            journal.note_result(EntryKind::OptionSet, key, self.generation, numbers, &result);
        }
    }
}

/// The session key of a connection without a session: refused, or not yet accepted.
pub(crate) const NO_SESSION: u32 = u32::MAX;

/// The session key of an outbound connection that has not opened.
pub(crate) const CONNECTING_SESSION: u32 = u32::MAX - 1;

impl Context {
    /// Initial room of each queue of slots. The block is mapped separately, so that it does not grow between buffers.
    pub(crate) const QUEUES_RESERVED: usize = limits::TABLE_BYTES_RESERVED / size_of::<u32>();

    /// Initial room for connections.
    pub(crate) const CONNECTIONS_RESERVED: usize = limits::TABLE_BYTES_RESERVED / size_of::<ConnectionEntry>();

    pub(crate) fn state(&mut self, slot: u32) -> &mut ConnectionState {
        &mut self.connections[slot as usize].state
    }

    pub(crate) fn connection_limits(&self, slot: u32) -> &ConnectionLimits {
        &self.listeners[self.connections[slot as usize].listener as usize].limits
    }

    pub(crate) fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId { generation: self.connections[slot as usize].generation, slot }
    }

    pub(crate) fn connection_local_addr(&self, slot: u32) -> Option<SocketAddr> {
        match self.local_addrs.get(slot) {
            Some(local) => local.socket_addr(),
            None => self.listeners[self.connections[slot as usize].listener as usize].address.socket_addr(),
        }
    }

    /// Reserves room in every table of connections, so that a new connection allocates only its session and its
    /// buffers. It is room for two: a client, and a connection that its handler may open for it.
    pub(crate) fn reserve_connections(&mut self) -> Result<(), OutOfMemory> {
        let needed = self.connections.len() + 2;
        if needed <= self.connections.capacity() {
            return Ok(());
        }
        let more = (needed / 4).max(Self::CONNECTIONS_RESERVED);
        self.grow_connection_tables(needed + more).or_else(|_| self.grow_connection_tables(needed))
    }

    #[cold]
    fn grow_connection_tables(&mut self, count: usize) -> Result<(), OutOfMemory> {
        self.deadlines.try_reserve_connections(count)?;
        self.deferred.try_reserve_exact(count - self.deferred.len())?;
        self.dirty.try_reserve_exact(count - self.dirty.len())?;
        self.closed_slots.try_reserve_exact(count - self.closed_slots.len())?;
        // A slab has no fallible allocation.
        if !is_allocatable(count * size_of::<ConnectionEntry>()) {
            return Err(OutOfMemory);
        }
        self.connections.reserve_exact(count - self.connections.len());
        self.may_shrink = true;
        Ok(())
    }

    /// Frees the room that a burst has left in tables; returns true if no table is large any more.
    pub(crate) fn shrink_tables(&mut self) -> bool {
        let now = self.now;
        shrink_slab(&mut self.connections, Self::CONNECTIONS_RESERVED, || ConnectionEntry {
            generation: 0,
            stream: None,
            state: ConnectionState::new(None.into(), now),
            listener: 0,
            session: NO_SESSION,
        });
        self.timers.shrink();
        self.deadlines.shrink(self.connections.capacity());
        shrink_queue(&mut self.notes, limits::BURST_MIN);
        shrink_queue(&mut self.pending_connects, limits::BURST_MIN);
        shrink_queue(&mut self.connect_retries, limits::BURST_MIN);
        shrink_queue(&mut self.removed_sources, limits::BURST_MIN);
        let slots = self.connections.capacity();
        self.connection_counts.shrink(slots);
        self.local_addrs.shrink(slots);
        self.late_turns.shrink(slots);
        let queues = [self.notes.capacity(), self.pending_connects.capacity(), self.removed_sources.capacity()];
        let are_small = queues.iter().all(|capacity| *capacity <= 2 * limits::BURST_MIN);
        are_small && !self.timers.is_large() && self.connections.capacity() <= 2 * Self::CONNECTIONS_RESERVED
    }

    /// Adds a client. `local` is its local address where the listener's address is a wildcard.
    pub(crate) fn insert_accepted(
        &mut self,
        listener: u32,
        stream: Stream,
        peer: PackedAddress,
        local: Option<SocketAddr>,
    ) -> u32 {
        let slot = self.insert_connection(listener, Some(stream), peer);
        self.local_addrs.set(slot, local.map(|local| Some(local).into()));
        self.stats.accepted += 1;
        if self.journal.has_all() {
            self.note_accepted(listener, slot);
        }
        slot
    }

    /// Marks an outbound connection with a stream as open.
    pub(crate) fn set_open(&mut self, slot: u32, local: Option<SocketAddr>) {
        self.local_addrs.set(slot, local.map(|local| Some(local).into()));
        let entry = &mut self.connections[slot as usize];
        entry.session = NO_SESSION;
        if let Phase::Connecting(close_reason) = entry.state.phase {
            entry.state.phase = close_reason.map_or(Phase::Open, Phase::Flushing);
        }
        entry.state.last_progress = self.now;
        if matches!(self.loop_state, LoopState::Draining(_)) {
            entry.state.drain_step = DrainStep::NoticeDue;
        }
    }

    /// Adds an outbound connection that is not open yet.
    pub(crate) fn insert_outbound(&mut self, handler: u32, to: Connect) -> ConnectionId {
        // Without memory here, there is none for the handler's data about it either.
        let _ = self.reserve_connections();
        let listener = self.outbound_entry(handler, to.limits, to.inherited.is_some());
        let slot = self.insert_connection(listener, None, to.address.socket_addr().into());
        self.local_addrs.set(slot, None);
        let entry = &mut self.connections[slot as usize];
        (entry.state.phase, entry.session) = (Phase::Connecting(None), CONNECTING_SESSION);
        if self.journal.has_all() {
            self.note_opened(EntryKind::Opened, slot);
        }
        self.stats.connects += 1;
        let id = self.id(slot);
        self.pending_connects.push_back((id, to));
        self.may_shrink |= self.pending_connects.len() > limits::BURST_MIN;
        id
    }

    fn insert_connection(&mut self, listener: u32, stream: Option<Stream>, peer: PackedAddress) -> u32 {
        let generation = self.next_generation();
        let entry = &mut self.listeners[listener as usize];
        entry.connections += 1;
        if !entry.is_outbound {
            self.handlers[entry.handler as usize].clients += 1;
        }
        self.stats.connections += 1;
        to_slot(self.connections.insert(ConnectionEntry {
            generation,
            stream,
            state: ConnectionState::new(peer, self.now),
            listener,
            session: NO_SESSION,
        }))
    }

    /// Closes the descriptor, and counts the end of the connection. `None` is an outbound connection that failed before
    /// it opened. The slot stays until [`free_closed`](Self::free_closed).
    pub(crate) fn close_connection(&mut self, slot: u32, mode: CloseMode, reason: Option<CloseReason>) {
        self.deadlines.disarm(SlotKey::Connection(slot));
        self.late_turns.set(slot, None);
        let entry = &mut self.connections[slot as usize];
        let key = SlotKey::Connection(slot);
        entry.resume_input(slot, &mut self.journal);
        if let (Some(stream), CloseMode::Reset) = (&entry.stream, mode) {
            let result = stream.reset_on_close();
            self.journal.note_result(EntryKind::OptionSet, key, entry.generation, [SOL_SOCKET, SO_LINGER], &result);
        }
        let listener = &mut self.listeners[entry.listener as usize];
        match entry.stream.take() {
            Some(stream) if listener.is_inherited => {
                let (deregistered, shut_down) = self.network.close_inherited_stream(stream, mode);
                self.journal.note_result(EntryKind::Deregistered, key, entry.generation, [0; 2], &deregistered);
                if let Some(shut_down) = shut_down {
                    self.journal.note_result(EntryKind::ShutdownWrite, key, entry.generation, [0, 1], &shut_down);
                }
            }
            Some(stream) => listener.reserve.close_client(listener.socket.as_ref(), stream),
            None => {}
        }
        entry.state.phase = Phase::Closed;
        if let Some(buffers) = entry.state.buffers.take() {
            self.buffer_pool.put(buffers);
        }
        if !listener.is_outbound {
            self.handlers[listener.handler as usize].clients -= 1;
        }
        // planted: source-counted-after-its-close
        if listener.connections_per_source_max.is_some() {
            self.connection_counts.remove(slot, listener.handler);
        }
        if self.journal.has_all() {
            let index = reason.map_or(u64::MAX, |reason| reason.index() as u64);
            self.note(EntryKind::Closed, key, [index, u64::from(mode == CloseMode::Reset)]);
        }
        self.closed_slots.push(slot);
        self.stats.connections -= 1;
        match reason {
            Some(reason) => self.stats.count_close(reason),
            None => self.stats.connect_errors += 1,
        }
    }

    /// Sets the address of a connection's peer, and counts the connection for the new source instead of the old.
    /// Returns false if the new source has its maximum; it then counts for none.
    pub(crate) fn set_peer(&mut self, slot: u32, peer: SocketAddr) -> bool {
        let ConnectionEntry { state, listener, .. } = &mut self.connections[slot as usize];
        state.peer = Some(peer).into();
        let (listener, peer) = (*listener, state.peer);
        // The close has removed the count.
        if state.phase == Phase::Closed || self.try_count_source(slot, listener, peer) {
            return true;
        }
        self.stats.refused_source += 1;
        self.repeated_logs.occurrences_mut().refused_source.add(peer);
        false
    }

    /// Frees the slots of closed connections; returns true if there were any.
    pub(crate) fn free_closed(&mut self) -> bool {
        let any = !self.closed_slots.is_empty();
        while let Some(slot) = self.closed_slots.pop() {
            let ConnectionEntry { listener, generation, .. } = self.connections.remove(slot as usize);
            self.journal.note(EntryKind::Freed, SlotKey::Connection(slot), generation, [0; 2]);
            self.listeners[listener as usize].connections -= 1;
            self.remove_listener_if_unused(listener);
        }
        any
    }

    /// Moves the time of the last progress to `later`, for each connection with progress in this turn. A long turn is
    /// no time in which the peer was silent.
    pub(crate) fn count_progress_from(&mut self, later: Timestamp) {
        for (_, entry) in &mut self.connections {
            // The timeout of a connect is exact.
            if entry.state.last_progress >= self.now && !matches!(entry.state.phase, Phase::Connecting(_)) {
                entry.state.last_progress = later;
            }
        }
    }

    /// Aborts a connection whose callback panicked.
    pub(crate) fn abort_panicked(&mut self, slot: u32) {
        let state = self.state(slot);
        log::error!("{}: the handler panicked; the connection is aborted", state.peer);
        if state.phase != Phase::Closed {
            state.phase = Phase::Closing(CloseReason::Panicked, CloseMode::Reset);
        }
    }

    /// One more than the last used slot.
    pub(crate) fn slots_end(&self) -> u32 {
        self.connections.iter().next_back().map_or(0, |(last, _)| to_slot(last) + 1)
    }

    /// Takes the notes for an outbound connection from before it opened.
    pub(crate) fn take_notes_before_open(&mut self, slot: u32) -> Vec<u64> {
        let values = self.notes_before_open.remove(&self.id(slot)).unwrap_or_default();
        shrink_map(&mut self.notes_before_open);
        values
    }

    /// Defers a connection to the next turn.
    pub(crate) fn defer(&mut self, slot: u32) {
        let state = &mut self.connections[slot as usize].state;
        if state.queued == Queued::No {
            state.queued = Queued::Deferred;
            // planted: deferred-list-forgotten
            self.deferred.push_back(slot);
            self.note(EntryKind::Deferred, SlotKey::Connection(slot), [0; 2]);
        }
    }

    /// Resumes reading on connections that stopped because memory was short. The order changes each time.
    pub(crate) fn resume_awaiting_memory(&mut self) {
        self.buffer_pool.end_strain();
        let end = self.slots_end();
        let first = self.turn.checked_rem(end).unwrap_or(0);
        for slot in (first..end).chain(0..first) {
            if let Some(entry) = self.connections.get_mut(slot as usize)
                && entry.state.awaits_memory()
            {
                entry.state.set_awaits_memory(false);
                // planted: waiter-for-memory-forgotten
                self.defer(slot);
            }
        }
    }

    /// Takes a slot off its queue; returns false if its connection is gone.
    pub(crate) fn dequeue(&mut self, slot: u32) -> bool {
        match self.connections.get_mut(slot as usize) {
            Some(entry) if entry.state.phase != Phase::Closed => {
                entry.state.queued = Queued::No;
                true
            }
            _ => false,
        }
    }

    /// Records that a callback changed a connection, unless it is the callback's own.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, slot: u32) {
        if self.running_callback.is_none_or(|callback| callback.slot != slot) {
            self.queue_dirty(slot);
        }
    }

    fn queue_dirty(&mut self, slot: u32) {
        let state = &mut self.connections[slot as usize].state;
        if state.queued == Queued::No {
            state.queued = Queued::Dirty;
            self.dirty.push_back(slot);
        }
    }

    /// Notifies every open connection of a drain.
    pub(crate) fn notify_drain(&mut self) {
        for slot in 0..self.slots_end() {
            if let Some(entry) = self.connections.get_mut(slot as usize)
                && entry.state.phase == Phase::Open
            {
                if entry.state.drain_step == DrainStep::None {
                    entry.state.drain_step = DrainStep::NoticeDue;
                }
                // Input that arrived since the last poll is answered, too.
                if entry.state.read_state == ReadState::WouldBlock {
                    entry.state.read_state = ReadState::Readable;
                }
                self.defer(slot);
            }
        }
    }

    /// The entry that outbound connections of one handler with the same limits share.
    fn outbound_entry(&mut self, handler: u32, limits: ConnectionLimits, is_inherited: bool) -> u32 {
        let key = (handler, limits, is_inherited);
        if let Some(found) = self.outbound_entries.get(&key) {
            return *found;
        }
        let slot = self.insert_listener(ListenerEntry { is_inherited, ..ListenerEntry::outbound(handler, limits) });
        self.outbound_entries.insert(key, slot);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventLoop;
    use crate::state::source_address_limits::SourcePrefix;

    #[test]
    fn the_tables_by_slot_shrink_after_a_burst_of_connections() {
        const LAST: u32 = 50_000;
        let mut events = EventLoop::new().unwrap();
        let context = events.context();
        context.local_addrs.set(LAST, Some(None.into()));
        context.late_turns.set(LAST, Some(1));
        assert!(context.connection_counts.try_add(LAST, 0, SourcePrefix::V4(7), 1));
        context.connection_counts.remove(LAST, 0);
        let _ = context.shrink_tables();
        let Context { local_addrs, late_turns, connection_counts, .. } = context;
        let capacities = [local_addrs.capacity(), late_turns.capacity(), connection_counts.slots_capacity()];
        assert!(capacities.iter().all(|capacity| *capacity <= 2 * Context::CONNECTIONS_RESERVED), "{capacities:?}");
    }

    /// The memory of an idle connection: its entry, its deadline with the position, and a session of 12 bytes, a
    /// decoder of frames. The sizes of the last three are tested where they are declared. A stream counts as 8 bytes, as in
    /// a release build, because the simulated stream of test builds is larger.
    #[test]
    fn an_idle_connection_takes_at_most_128_bytes() {
        let entry = size_of::<ConnectionEntry>() - size_of::<Option<Stream>>() + 8;
        let (deadline, position, session) = (16, 4, 12);
        let bytes = entry + deadline + position + session;
        assert!(bytes <= 128, "{bytes} bytes");
    }
}
