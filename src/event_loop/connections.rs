//! Connections: accept, connect, events, deadlines, memory shortage, close.
//!
//! A connection that can make progress is deferred, dirty or registered with the poll. An error of one connection ends
//! only that connection.

use std::io;
use std::time::Duration;

use crate::address::PackedAddress;
use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::entries::connection_entry::{CONNECTING_SESSION, ConnectionEntry};
use crate::context::erased_handler::HandlerEvent;
use crate::context::foreign_code::drop_foreign;
use crate::context::loop_state::LoopState;
use crate::event_loop::EventLoop;
use crate::ids::{ConnectionId, SlotKey, Token, to_slot};
use crate::limits::{self, LATE_TURNS_MAX};
use crate::net::{Event, Stream};
use crate::observe::entry::EntryKind;
use crate::options::connect::Connect;
use crate::state::buffers::Strain;
use crate::state::memory::{is_mostly_free, shrink_map};
use crate::state::phase::{
    Action, CloseMode, DrainStep, Expiry, FlushNotice, Phase, Queued, ReadState, WriteHalf, WriteState,
};
use crate::state::timestamp::Timestamp;

impl EventLoop<'_> {
    /// Adds a client, and serves it at once: most clients have already sent their request.
    pub(super) fn open_accepted(&mut self, listener: u32, stream: Stream, peer: PackedAddress) {
        let context = &mut self.context;
        let bound = context.listeners[listener as usize].address.socket_addr();
        let is_wildcard = bound.is_some_and(|bound| bound.ip().is_unspecified());
        let local = is_wildcard.then(|| stream.local_addr().ok().flatten()).flatten();
        let slot = context.insert_accepted(listener, stream, peer, local);
        // Before the drain begins, this is false: the drain then notifies all connections.
        if matches!(context.loop_state, LoopState::Draining(_)) {
            context.state(slot).drain_step = DrainStep::NoticeDue;
        }
        self.callbacks.on_open(context, slot);
        self.drive(slot);
    }

    /// Handles an event, unless its connection is gone.
    pub(super) fn on_connection_event(&mut self, slot: u32, event: &Event) {
        let is_for = |entry: &&mut ConnectionEntry| event.token.matches(entry.generation);
        let Some(entry) = self.context.connections.get_mut(slot as usize).filter(is_for) else {
            return;
        };
        if matches!(entry.state.phase, Phase::Connecting(_)) {
            if !self.finish_connect(slot) {
                return;
            }
            self.context.connections[slot as usize].record_event(event);
            self.open_outbound(slot);
        } else {
            entry.record_event(event);
        }
        self.drive(slot);
    }

    /// Delivers a value to a connection, unless it is closing or gone.
    pub(super) fn notify(&mut self, id: ConnectionId, value: u64) {
        let context = &mut self.context;
        if context.connection(id).is_none() {
            return;
        }
        if context.connections[id.slot as usize].session == CONNECTING_SESSION {
            // planted: note-before-open-lost
            context.notes_before_open.entry(id).or_default().push(value);
            return;
        }
        context.stats.notes += 1;
        context.note_message(1, value);
        let turn = context.turn;
        context.state(id.slot).begin_turn(turn);
        self.callbacks.on_event(context, id.slot, HandlerEvent::Notify(value));
        self.drive(id.slot);
    }

    /// Starts the connects that callbacks have requested; returns true if there were any.
    pub(super) fn start_connects(&mut self) -> bool {
        let context = &mut self.context;
        while context.connect_retries.front().is_some_and(|(at, ..)| *at <= context.now)
            && let Some((_, id, to)) = context.connect_retries.pop_front()
        {
            context.pending_connects.push_back((id, to));
        }
        let count = self.context.pending_connects.len();
        for _ in 0..count.min(limits::CONNECTS_PER_TURN_MAX) {
            if let Some((id, to)) = self.context.pending_connects.pop_front() {
                self.start_connect(id, to);
            }
        }
        let pending = &mut self.context.pending_connects;
        if is_mostly_free(pending.len(), pending.capacity()) {
            pending.shrink_to(2 * pending.len());
        }
        count > 0
    }

    fn start_connect(&mut self, id: ConnectionId, to: Connect) {
        let (context, slot) = (&mut self.context, id.slot);
        let is_wanted = |entry: &ConnectionEntry| {
            entry.generation == id.generation && matches!(entry.state.phase, Phase::Connecting(_))
        };
        if !context.connections.get(slot as usize).is_some_and(is_wanted) {
            return self.drop_connect(&to);
        }
        let handler = context.listeners[context.connections[slot as usize].listener as usize].handler;
        let valid = to.validate(context.handlers[handler as usize].input_bytes_min);
        let refused = |message| io::Error::new(io::ErrorKind::InvalidInput, message);
        // The timeout starts with the first attempt.
        if context.deadlines.deadline(SlotKey::Connection(slot)) == Timestamp::NEVER {
            context.connections[slot as usize].state.last_progress = context.clock();
        }
        let connected = valid.map_err(refused).and_then(|()| context.network.connect(&to));
        let descriptor = connected.as_ref().map_or(0, Stream::descriptor) as u64;
        let (key, numbers) = (SlotKey::Connection(slot), [descriptor, to.inherited.is_some().into()]);
        context.journal.note_result(EntryKind::Connect, key, id.generation, numbers, &connected);
        match connected {
            Ok(stream) => {
                context.connections[slot as usize].stream = Some(stream);
                if to.inherited.is_some() {
                    self.open_inherited(slot);
                }
                self.drive(slot);
            }
            // The backlog is full. TCP retries by itself; a unix socket does not.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                context.connect_retries.push_back((context.deadline_after(limits::BACKOFF_MIN), id, to));
                self.arm_deadline(slot);
            }
            Err(error) => self.fail_connect(slot, CloseMode::Close, error),
        }
    }

    /// Checks whether a connect has finished; returns true if the connection is open.
    fn finish_connect(&mut self, slot: u32) -> bool {
        let context = &mut self.context;
        let entry = &mut context.connections[slot as usize];
        let Some(stream) = &entry.stream else {
            return false;
        };
        let connected = stream.is_connected();
        if !matches!(connected, Ok(false)) {
            let (key, generation) = (SlotKey::Connection(slot), entry.generation);
            context.journal.note_result(EntryKind::Connected, key, generation, [0; 2], &connected);
        }
        let (local, peer) = match connected {
            Ok(true) => (stream.local_addr().ok().flatten(), stream.peer_addr().ok().flatten()),
            Ok(false) => return false,
            Err(error) => {
                self.fail_connect(slot, CloseMode::Close, error);
                return false;
            }
        };
        if local.is_some() && local == peer {
            // A self-connect: the kernel chose the destination port as the local port, and no listener exists. The
            // requested address may differ, because an unspecified address means this machine.
            self.fail_connect(slot, CloseMode::Close, io::ErrorKind::ConnectionRefused.into());
            return false;
        }
        context.set_open(slot, local);
        // The event reports whether input waits.
        context.state(slot).read_state = ReadState::WouldBlock;
        true
    }

    /// Opens a connection with an inherited stream; no event reports that it is connected.
    fn open_inherited(&mut self, slot: u32) {
        let stream = &self.context.connections[slot as usize].stream;
        let local = stream.as_ref().and_then(|stream| stream.local_addr().ok().flatten());
        self.context.set_open(slot, local);
        self.open_outbound(slot);
    }

    /// Drops a connect whose connection was closed before it began, or at the end of a drain. An inherited stream is
    /// reset.
    fn drop_connect(&self, to: &Connect) {
        if to.inherited.is_some()
            && let Ok(stream) = self.context.network.connect(to)
        {
            // Nothing waits for the outcome: the connect never reached a handler.
            let _ = stream.reset_on_close();
        }
    }

    /// Calls `on_open` for an outbound connection, and delivers its notes from before.
    fn open_outbound(&mut self, slot: u32) {
        let (id, values) = (self.context.id(slot), self.context.take_notes_before_open(slot));
        self.callbacks.on_open(&mut self.context, slot);
        self.drop_connect_value(id);
        for value in values {
            self.notify(id, value);
        }
    }

    /// Ends an outbound connection that never opened.
    fn fail_connect(&mut self, slot: u32, mode: CloseMode, error: io::Error) {
        let id = self.context.id(slot);
        let _ = self.context.take_notes_before_open(slot);
        self.context.close_connection(slot, mode, None);
        log::debug!("{}: cannot connect: {error}", self.context.state(slot).peer);
        self.callbacks.on_connect_failed(&mut self.context, slot, error);
        self.drop_connect_value(id);
    }

    /// Drops the value of a connect that its callback did not take.
    fn drop_connect_value(&mut self, id: ConnectionId) {
        if !self.context.connect_values.is_empty()
            && let Some(value) = self.context.connect_values.remove(&id)
        {
            shrink_map(&mut self.context.connect_values);
            drop_foreign(&mut self.context, value);
        }
    }

    /// Takes all actions that a connection's state requires, until it has to wait.
    pub(super) fn drive(&mut self, slot: u32) {
        let turn = self.context.turn;
        self.context.state(slot).begin_turn(turn);
        loop {
            // Looked up each time, because callbacks change the tables.
            let Context { connections, listeners, stats, now, buffer_pool, journal, .. } = &mut self.context;
            let entry = &mut connections[slot as usize];
            match entry.state.next_action(|| listeners[entry.listener as usize].limits) {
                Action::Read => self.read(slot),
                Action::Flush => stats.bytes_sent += entry.flush(&[], buffer_pool, *now, slot, journal) as u64,
                Action::Linger => entry.shutdown_and_linger(*now, slot, journal),
                Action::Close(reason, mode) => return self.close(slot, reason, mode),
                Action::Wait => {
                    if self.park(slot) {
                        return;
                    }
                }
                Action::Yield => {
                    self.context.defer(slot);
                    self.arm_deadline(slot);
                    return;
                }
                Action::Deliver => self.deliver_inbox(slot),
                Action::ShutdownWrite => entry.shutdown_write(slot, journal),
                Action::Discard => stats.bytes_received += entry.discard(&mut self.read_buffer, slot, journal) as u64,
                Action::CloseOverflow => entry.state.phase = Phase::Flushing(CloseReason::InputOverflow),
                Action::NotifyDrain => {
                    entry.state.drain_step = DrainStep::None;
                    self.callbacks.on_event(&mut self.context, slot, HandlerEvent::Drain);
                }
                Action::NotifyFlushed => {
                    entry.state.flush_notice = FlushNotice::Delivered;
                    // planted: rest-not-delivered-after-flush
                    entry.state.set_inbox_changed(true);
                    self.callbacks.on_event(&mut self.context, slot, HandlerEvent::Flushed);
                }
                Action::NotifyEof => self.deliver_eof(slot),
                Action::StopInput => entry.stop_input(slot, journal),
                Action::EndDrain => entry.end_drain(slot, journal),
            }
        }
    }

    /// Prepares a connection for waiting: returns empty buffers, registers it with the poll, arms its deadline. Returns
    /// false if it must close instead.
    fn park(&mut self, slot: u32) -> bool {
        let Context { connections, network, buffer_pool, repeated_logs, journal, .. } = &mut self.context;
        let ConnectionEntry { stream, state, generation, .. } = &mut connections[slot as usize];
        let Some(stream) = stream else {
            // Its connect has not started, and so its timeout has not either.
            return true;
        };
        if let Some(buffers) = state.buffers.take_if(|buffers| buffers.is_empty()) {
            buffer_pool.put(buffers);
        }
        if !state.is_registered {
            let token = Token::new(SlotKey::Connection(slot), *generation);
            let registered = network.register(stream, token);
            journal.note_result(EntryKind::Registered, SlotKey::Connection(slot), *generation, [0; 2], &registered);
            if let Err(error) = registered {
                state.phase = Phase::Closing(CloseReason::Io(error.kind()), CloseMode::Close);
                repeated_logs.occurrences_mut().unwatched.add((state.peer, error));
                return false;
            }
            state.is_registered = true;
        }
        // planted: deadline-not-rearmed
        self.arm_deadline(slot);
        true
    }

    fn arm_deadline(&mut self, slot: u32) {
        let Context { connections, listeners, journal, .. } = &self.context;
        let entry = &connections[slot as usize];
        let at = entry.state.deadline(&listeners[entry.listener as usize].limits);
        if journal.has_all() {
            self.context.note_deadline(slot, at);
        }
        self.context.deadlines.arm_no_later(SlotKey::Connection(slot), at);
    }

    /// Closes the descriptor, then calls the handler.
    fn close(&mut self, slot: u32, reason: CloseReason, mode: CloseMode) {
        // planted: failed-connect-untold-at-drain-end
        if self.context.connections[slot as usize].session == CONNECTING_SESSION {
            return self.fail_connect(slot, mode, reason.to_connect_error());
        }
        self.context.close_connection(slot, mode, Some(reason));
        log::debug!("{}: closed: {reason}", self.context.state(slot).peer);
        self.callbacks.on_close(&mut self.context, slot, reason);
    }

    /// Handles the deadline of a connection, after input from before the deadline has been delivered.
    pub(super) fn expire_connection(&mut self, slot: u32) {
        let Context { connections, listeners, deadlines, late_turns, turn, now, polled_until, journal, .. } =
            &mut self.context;
        let entry = &mut connections[slot as usize];
        let (state, limits) = (&mut entry.state, &listeners[entry.listener as usize].limits);
        let deadline = state.deadline(limits);
        if *polled_until < deadline && deadline <= *now {
            // The next poll may report input that arrived before the deadline.
            return deadlines.arm(SlotKey::Connection(slot), now.after(Duration::from_nanos(1)));
        }
        let turns = late_turns.get(slot).unwrap_or(0);
        let may_have_input = state.queued != Queued::No && entry.stream.is_some();
        if deadline <= *now && may_have_input && turns < LATE_TURNS_MAX {
            // It is driven later in this turn or in the next, which arms its deadline again.
            return late_turns.set(slot, Some(turns + 1));
        }
        late_turns.set(slot, None);
        state.begin_turn(*turn);
        let expiry = state.expiry(limits, *polled_until);
        if expiry != Expiry::None {
            journal.note(
                EntryKind::DeadlineFired,
                SlotKey::Connection(slot),
                entry.generation,
                [deadline.as_nanos(), 0],
            );
        }
        match expiry {
            Expiry::None => {}
            Expiry::ConnectionLimit(reason) => entry.state.phase = Phase::Closing(reason, CloseMode::of(reason)),
            Expiry::HandlerTimeout => {
                entry.state.timeout = Timestamp::NEVER;
                self.callbacks.on_event(&mut self.context, slot, HandlerEvent::Timeout);
            }
        }
        self.drive(slot);
    }

    /// Closes the remaining connections at the end of a drain. A lingering connection was served, and keeps its own
    /// reason.
    pub(super) fn close_connections(&mut self) {
        for slot in 0..self.context.slots_end() {
            match self.context.connections.get(slot as usize).map(|entry| entry.state.phase) {
                None | Some(Phase::Closed) => {}
                Some(Phase::Lingering(reason, _)) => self.close(slot, reason, CloseMode::Close),
                Some(_) => self.close(slot, CloseReason::Drained, CloseMode::Reset),
            }
        }
        for (_, to) in std::mem::take(&mut self.context.pending_connects) {
            self.drop_connect(&to);
        }
    }

    /// Resumes the connections that wait for memory once memory is free. If memory stays short, it resets the
    /// connection with the largest buffers: incomplete lines that fill the memory may never complete, and proxied
    /// connections may wait for each other. Returns true if it did either.
    pub(super) fn relieve_memory(&mut self) -> bool {
        if !self.context.buffer_pool.is_strained {
            return false;
        }
        let now = self.context.clock();
        let Some(strain) = self.strain else {
            self.context.buffer_pool.clear();
            self.context.stats.memory_strains += 1;
            self.strain = Some(Strain { since: now, next_look: now.after(limits::STRAIN_INTERVAL) });
            return false;
        };
        if now < strain.next_look {
            return false;
        }
        if !self.context.buffer_pool.is_above_resume() {
            self.strain = None;
            self.context.resume_awaiting_memory();
            return true;
        }
        self.strain = Some(Strain { next_look: now.after(limits::STRAIN_INTERVAL), ..strain });
        let is_long = self.context.buffer_pool.was_refused() || now.since(strain.since) >= limits::STRAIN_MAX;
        is_long && self.reset_largest()
    }

    /// Resets the connection with the largest buffers, unless shrinking all buffers is enough. Returns true if it did.
    fn reset_largest(&mut self) -> bool {
        let Context { connections, buffer_pool, .. } = &mut self.context;
        for (_, entry) in connections.iter_mut() {
            if let Some(buffers) = &mut entry.state.buffers {
                buffer_pool.shrink(buffers);
            }
        }
        if !buffer_pool.is_above_resume() {
            return false;
        }
        let held = connections.iter().filter(|(_, entry)| entry.state.phase != Phase::Closed);
        let held =
            held.filter_map(|(slot, entry)| Some((buffer_pool.held_by(entry.state.buffers.as_ref()?), to_slot(slot))));
        let Some((bytes, slot)) = held.max() else {
            return false;
        };
        let peer = self.context.state(slot).peer;
        self.context.repeated_logs.occurrences_mut().out_of_memory.add((peer, bytes));
        self.context.state(slot).close_out_of_memory();
        self.drive(slot);
        true
    }
}

impl ConnectionEntry {
    /// Records the readiness in an event.
    fn record_event(&mut self, event: &Event) {
        let Self { state, stream, .. } = self;
        // After our FIN, the peer's FIN makes a hang-up, although much input may be unread. A unix socket hangs up with
        // its peer, even with unread input.
        let may_read_on = || state.write_half == WriteHalf::Shutdown || stream.as_ref().is_some_and(Stream::is_unix);
        let is_error_or_hang_up = event.error || event.hang_up;
        // planted: both-sides-ended-is-broken
        let is_disconnected = event.error || event.hang_up && !may_read_on();
        state.is_disconnected |= is_disconnected;
        if event.writable || is_error_or_hang_up {
            state.write_state = WriteState::Writable;
        }
        if !matches!(state.read_state, ReadState::Eof | ReadState::EofDelivered) {
            // planted: eof-behind-short-read-missed
            if event.read_to_end || is_error_or_hang_up {
                state.read_state = ReadState::ReadToEnd;
            } else if event.readable && state.read_state == ReadState::WouldBlock {
                state.read_state = ReadState::Readable;
            }
        }
    }
}
