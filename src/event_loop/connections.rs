//! All connections: accept, connect, events, deadlines, close.
//!
//! A connection that can make progress is deferred, dirty or registered with the poll; an error of one connection ends
//! only that connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use crate::address::PackedAddress;
use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::erased_handler::{ErasedHandler, HandlerEvent};
use crate::context::loop_state::LoopState;
use crate::event_loop::backoff::LogThrottle;
use crate::event_loop::callbacks::Callbacks;
use crate::event_loop::stream_io::StreamSlot;
use crate::ids::{ConnectionId, Token, TokenKey};
use crate::limits;
use crate::net::{Event, Network};
use crate::options::connect::Connect;
use crate::state::connection_state::{CONNECTING_SESSION, ConnectionState, NO_SESSION};
use crate::state::deadlines::Deadlines;
use crate::state::phase::{Action, CloseMode, Expiry, FlushNotice, Phase, ReadState, WriteHalf, WriteState};
use crate::state::timestamp::Timestamp;

/// All connections: their sockets and handlers, their deadlines.
pub(crate) struct Connections<'h, N: Network> {
    pub(crate) callbacks: Callbacks<'h>,
    /// By slot, beside the context.
    pub(crate) streams: Vec<StreamSlot<N::Stream>>,
    /// What every read is made into.
    pub(crate) read_buffer: Box<[u8]>,
    deadlines: Deadlines,
    /// Slots whose connection is gone, free at the end of the turn.
    closed_slots: Vec<u32>,
    /// Outbound connections for which a unix listener had no room, and when to try again: in that order.
    connect_retries: VecDeque<(Timestamp, ConnectionId, Connect)>,
    register_error_log: LogThrottle,
}

impl<'h, N: Network> Connections<'h, N> {
    pub(crate) fn new() -> Self {
        Self {
            callbacks: Callbacks::default(),
            streams: Vec::with_capacity(limits::TABLE_BYTES_RESERVED / size_of::<StreamSlot<N::Stream>>()),
            read_buffer: vec![0; limits::INPUT_BYTES_MAX].into_boxed_slice(),
            deadlines: Deadlines::with_capacity(limits::TABLE_BYTES_RESERVED / size_of::<u32>()),
            closed_slots: Vec::new(),
            connect_retries: VecDeque::new(),
            register_error_log: LogThrottle::default(),
        }
    }

    pub(crate) fn attach(&mut self, handler: Box<dyn ErasedHandler + 'h>) -> u32 {
        self.callbacks.attach(handler)
    }

    pub(crate) fn handler(&self, key: u32) -> Option<&(dyn ErasedHandler + 'h)> {
        self.callbacks.handler(key)
    }

    /// Welcomes a client, and serves it at once: most have sent already what they want to say.
    pub(crate) fn add_accepted(
        &mut self,
        network: &mut N,
        context: &mut Context,
        stream: N::Stream,
        peer: Option<SocketAddr>,
        listener: u32,
    ) {
        let is_wildcard = context.listeners[listener as usize].local.is_some_and(|local| local.ip().is_unspecified());
        let local = is_wildcard.then(|| network.local_addr(&stream).ok().flatten()).flatten();
        let slot = context.add_accepted(listener, peer, local);
        self.insert_stream(slot, stream);
        // A connection from before the drain is notified of it with the others.
        context.state(slot).drain_notice_due = matches!(context.loop_state, LoopState::Draining(_));
        self.callbacks.on_open(context, slot);
        self.drive(network, context, slot);
    }

    /// Acts on an event, unless the connection it was for is gone.
    pub(crate) fn on_event(&mut self, network: &mut N, context: &mut Context, key: TokenKey, event: &Event) {
        let Some(state) = context.connections.get_mut(key.slot as usize).filter(|state| key.matches(state.generation))
        else {
            return;
        };
        let is_connecting = matches!(state.phase, Phase::Connecting(_));
        if is_connecting && !self.finish_connect(network, context, key.slot) {
            return;
        }
        let state = context.state(key.slot);
        // After our own end of stream the peer's makes it over, and there may be much to read still. A unix socket is
        // over with its peer, however much that has left to read.
        let may_read_on = || state.write_half == WriteHalf::Shutdown || state.peer.socket_addr().is_none();
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
        if is_connecting {
            self.open_outbound(network, context, key.slot);
        }
        self.drive(network, context, key.slot);
    }

    /// Delivers a note to a connection, unless it is closing or gone.
    pub(crate) fn notify(&mut self, network: &mut N, context: &mut Context, id: ConnectionId, value: u64) {
        if context.connection(id).is_none() {
            return;
        }
        if context.state(id.slot).session == CONNECTING_SESSION {
            // planted: note-before-open-lost
            context.notes_before_open.push((id, value));
            return;
        }
        context.stats.notes += 1;
        let turn = context.turn;
        context.state(id.slot).begin_turn(turn);
        self.callbacks.on_event(context, id.slot, HandlerEvent::Notify(value));
        self.drive(network, context, id.slot);
    }

    /// Begins with the outbound connections that callbacks have asked for; true if there were any.
    pub(crate) fn start_connects(&mut self, network: &mut N, context: &mut Context) -> bool {
        while self.connect_retries.front().is_some_and(|(at, ..)| *at <= context.now)
            && let Some((_, id, to)) = self.connect_retries.pop_front()
        {
            context.pending_connects.push_back((id, to));
        }
        let count = context.pending_connects.len();
        for _ in 0..count.min(limits::CONNECTS_PER_TURN_MAX) {
            let Some((id, to)) = context.pending_connects.pop_front() else {
                break;
            };
            let slot = id.slot;
            let is_wanted = |state: &ConnectionState| {
                state.generation == id.generation && matches!(state.phase, Phase::Connecting(_))
            };
            if !context.connections.get(slot as usize).is_some_and(is_wanted) {
                continue;
            }
            let valid = to.validate(self.callbacks.input_bytes_min(context, slot));
            let refused = |message| io::Error::new(io::ErrorKind::InvalidInput, message);
            match valid.map_err(refused).and_then(|()| network.connect(&to)) {
                Ok(stream) => {
                    self.insert_stream(slot, stream);
                    self.drive(network, context, slot);
                }
                // A full backlog: TCP would try again by itself.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.connect_retries.push_back((context.now.after(limits::BACKOFF_MIN), id, to));
                    self.arm_deadline(context, slot);
                }
                Err(error) => self.fail_connect(network, context, slot, error),
            }
        }
        count > 0
    }

    /// Looks whether an outbound connection is open by now, or never will be; true if it is.
    fn finish_connect(&mut self, network: &mut N, context: &mut Context, slot: u32) -> bool {
        let Some(stream) = self.streams[slot as usize].stream() else {
            return false;
        };
        match network.is_connected(stream) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                self.fail_connect(network, context, slot, error);
                return false;
            }
        }
        let local = network.local_addr(stream).ok().flatten().map(|local| PackedAddress::from(Some(local)));
        if local == Some(context.state(slot).peer) {
            // Two ends of one socket: the port we were given is the one we asked for, and no listener is there.
            self.fail_connect(network, context, slot, io::ErrorKind::ConnectionRefused.into());
            return false;
        }
        context.local_addrs.set(slot, local);
        let now = context.now;
        let is_draining = matches!(context.loop_state, LoopState::Draining(_));
        let state = context.state(slot);
        if let Phase::Connecting(close_reason) = state.phase {
            state.phase = close_reason.map_or(Phase::Open, Phase::Flushing);
        }
        (state.session, state.last_progress, state.drain_notice_due) = (NO_SESSION, now, is_draining);
        // What there is to read, the event tells.
        state.read_state = ReadState::WouldBlock;
        true
    }

    /// Tells the handler that its outbound connection is open, and what it was to be told meanwhile.
    fn open_outbound(&mut self, network: &mut N, context: &mut Context, slot: u32) {
        let (id, notes) = (context.id(slot), context.take_notes_before_open(slot));
        self.callbacks.on_open(context, slot);
        for value in notes {
            self.notify(network, context, id, value);
        }
    }

    /// Ends an outbound connection that never was open.
    fn fail_connect(&mut self, network: &mut N, context: &mut Context, slot: u32, error: io::Error) {
        self.close_stream(network, slot, CloseMode::Close);
        let _ = context.take_notes_before_open(slot);
        context.record_close(slot, None);
        self.closed_slots.push(slot);
        log::debug!("{}: cannot connect: {error}", context.state(slot).peer);
        self.callbacks.on_connect_failed(context, slot, error);
    }

    /// Takes every step that a connection's state calls for, until it has to wait.
    pub(crate) fn drive(&mut self, network: &mut N, context: &mut Context, slot: u32) {
        let turn = context.turn;
        let limits = context.connection_limits(slot);
        context.state(slot).begin_turn(turn);
        loop {
            match context.state(slot).next_action(&limits) {
                Action::Wait => {
                    if self.park(network, context, slot) {
                        return;
                    }
                }
                Action::Yield => {
                    context.defer(slot);
                    self.arm_deadline(context, slot);
                    return;
                }
                Action::Close(reason, mode) => return self.close(network, context, slot, reason, mode),
                Action::Flush => self.flush(network, context, slot),
                Action::ShutdownWrite => self.shutdown_write(network, context, slot),
                Action::Linger => self.shutdown_and_linger(network, context, slot),
                Action::Read => self.read(network, context, slot, limits.input_bytes_max),
                Action::Discard => self.discard(network, context, slot),
                Action::Deliver => self.deliver_inbox(context, slot),
                Action::CloseOverflow => context.state(slot).phase = Phase::Flushing(CloseReason::InputOverflow),
                Action::NotifyDrain => {
                    context.state(slot).drain_notice_due = false;
                    self.callbacks.on_event(context, slot, HandlerEvent::Drain);
                }
                Action::NotifyFlushed => {
                    context.state(slot).flush_notice = FlushNotice::Delivered;
                    // planted: rest-not-delivered-after-flush
                    context.state(slot).inbox_changed = true;
                    self.callbacks.on_event(context, slot, HandlerEvent::Flushed);
                }
                Action::NotifyEof => {
                    context.state(slot).read_state = ReadState::EofDelivered;
                    self.callbacks.on_event(context, slot, HandlerEvent::Eof);
                }
            }
        }
    }

    /// Before waiting: gives back what an idle connection does not need, and sees to it that it is woken. False if it
    /// has to go instead.
    fn park(&mut self, network: &mut N, context: &mut Context, slot: u32) -> bool {
        let (id, now) = (context.id(slot), context.now);
        let Some(entry) = self.streams.get_mut(slot as usize).filter(|entry| entry.stream().is_some()) else {
            // Its connect has not begun, and its time does not run yet.
            return true;
        };
        let state = &mut context.connections[slot as usize];
        if let Some(buffers) = state.buffers.take_if(|buffers| buffers.is_empty()) {
            context.buffer_pool.put(buffers);
        }
        if let StreamSlot::Unregistered(stream) = entry {
            if let Err(error) = network.register(stream, Token::connection(id)) {
                if self.register_error_log.allow(now) {
                    log::warn!("{}: cannot watch the connection: {error}", state.peer);
                }
                state.phase = Phase::Closing(CloseReason::Io(error.kind()), CloseMode::Close);
                return false;
            }
            if let Some(stream) = entry.take() {
                *entry = StreamSlot::Registered(stream);
            }
        }
        // planted: deadline-not-rearmed
        self.arm_deadline(context, slot);
        true
    }

    fn arm_deadline(&mut self, context: &Context, slot: u32) {
        self.deadlines.arm(slot, context.deadline(slot));
    }

    /// Closes the descriptor, then tells the handler.
    fn close(&mut self, network: &mut N, context: &mut Context, slot: u32, reason: CloseReason, mode: CloseMode) {
        self.close_stream(network, slot, mode);
        // planted: failed-connect-untold-at-drain-end
        if context.state(slot).session == CONNECTING_SESSION {
            return self.fail_connect(network, context, slot, reason.to_connect_error());
        }
        context.record_close(slot, Some(reason));
        self.closed_slots.push(slot);
        log::debug!("{}: closed, {reason}", context.state(slot).peer);
        self.callbacks.on_close(context, slot, reason);
    }

    fn close_stream(&mut self, network: &mut N, slot: u32, mode: CloseMode) {
        self.deadlines.disarm(slot);
        match (self.streams.get_mut(slot as usize).and_then(StreamSlot::take), mode) {
            (Some(stream), CloseMode::Close) => network.close(stream),
            (Some(stream), CloseMode::Reset) => network.reset(stream),
            (None, _) => {}
        }
    }

    /// Looks at every connection whose deadline has come; true if there was one.
    pub(crate) fn expire(&mut self, network: &mut N, context: &mut Context) -> bool {
        let mut any = false;
        while let Some(slot) = self.deadlines.pop_expired(context.now) {
            let (limits, timer, turn, now) =
                (context.connection_limits(slot), context.timeouts.get(slot), context.turn, context.now);
            let state = context.state(slot);
            state.begin_turn(turn);
            match state.expiry(&limits, timer, now) {
                Expiry::None => {}
                Expiry::ConnectionLimit(reason) => state.phase = Phase::Closing(reason, CloseMode::of(reason)),
                Expiry::HandlerTimeout => {
                    context.timeouts.set(slot, Timestamp::NEVER);
                    self.callbacks.on_event(context, slot, HandlerEvent::Timeout);
                }
            }
            self.drive(network, context, slot);
            any = true;
        }
        any
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let retry = self.connect_retries.front().map(|(at, ..)| *at);
        self.deadlines.earliest().into_iter().chain(retry).min()
    }

    /// Aborts a connection whose callback unwound, and drops its session.
    pub(crate) fn abort_panicked(&mut self, network: &mut N, context: &mut Context, slot: u32) {
        context.abort_panicked(slot);
        if context.state(slot).phase != Phase::Closed {
            // On a list before its session is dropped: that is foreign code, too.
            context.defer(slot);
            self.callbacks.drop_session(context, slot);
            self.drive(network, context, slot);
        }
    }

    /// Ends what is still there at the end of a drain. Who only lingers has been served, and keeps its own reason.
    pub(crate) fn close_all(&mut self, network: &mut N, context: &mut Context) {
        for slot in 0..context.slots_end() {
            match context.connections.get(slot as usize).map(|state| state.phase) {
                None | Some(Phase::Closed) => {}
                Some(Phase::Lingering(reason, _)) => self.close(network, context, slot, reason, CloseMode::Close),
                Some(_) => self.close(network, context, slot, CloseReason::Drained, CloseMode::Reset),
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Whether it is to be tried again.
    #[cfg(test)]
    pub(crate) fn is_connect_retry(&self, id: ConnectionId) -> bool {
        self.connect_retries.iter().any(|(_, other, _)| *other == id)
    }

    #[cfg(test)]
    pub(crate) fn stream(&self, slot: u32) -> Option<&N::Stream> {
        self.streams.get(slot as usize)?.stream()
    }

    /// Gives the slots of what is gone to the next; true if there were any.
    pub(crate) fn free_closed(&mut self, context: &mut Context) -> bool {
        let any = !self.closed_slots.is_empty();
        for slot in self.closed_slots.drain(..) {
            context.free_slot(slot);
        }
        any
    }
}
