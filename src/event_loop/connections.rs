//! The station of connections: what is done when, from a client's arrival to the last of it.
//!
//! Events, deadlines, accepts and callbacks all lead to [`Connections::serve`], which takes the steps that a
//! connection's state calls for until it can only wait. It promises that a connection that can go on is either served
//! to its end, on the deferred list, or watched by the poll; and that nothing one connection does, its errors
//! included, touches another.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use crate::address::Peer;
use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::erased_handler::{News, Served};
use crate::context::lifecycle::Lifecycle;
use crate::event_loop::backoff::Seldom;
use crate::event_loop::callbacks::Callbacks;
use crate::event_loop::stream_io::{Exchange, Socket};
use crate::ids::{ConnectionId, Stub, Token};
use crate::limits;
use crate::net::{Event, Network};
use crate::options::connect::Connect;
use crate::state::connection_state::{NO_SESSION, State, UNOPENED};
use crate::state::deadlines::Deadlines;
use crate::state::phase::{Due, Ending, Input, Notice, Output, Phase, Rest, Sending, Step};
use crate::state::timestamp::Moment;

/// All connections: their sockets and handlers, their deadlines.
pub(crate) struct Connections<'h, N: Network> {
    exchange: Exchange<'h, N>,
    deadlines: Deadlines,
    /// Slots whose connection is gone, free at the end of the turn.
    freed: Vec<u32>,
    /// Outbound connections for which a unix listener had no room, and when to try again: in that order.
    crowded: VecDeque<(Moment, ConnectionId, Connect)>,
    unwatched_said: Seldom,
}

impl<'h, N: Network> Connections<'h, N> {
    pub(crate) fn new() -> Self {
        Self {
            exchange: Exchange::new(),
            deadlines: Deadlines::with_room(limits::TABLE_BYTES_RESERVED / size_of::<u32>()),
            freed: Vec::new(),
            crowded: VecDeque::new(),
            unwatched_said: Seldom::default(),
        }
    }

    pub(crate) fn attach(&mut self, handler: Box<dyn Served + 'h>) -> u32 {
        self.exchange.callbacks.attach(handler)
    }

    pub(crate) fn handler(&self, key: u32) -> Option<&(dyn Served + 'h)> {
        self.exchange.callbacks.handler(key)
    }

    /// Welcomes a client, and serves it at once: most have sent already what they want to say.
    pub(crate) fn open(
        &mut self,
        network: &mut N,
        tables: &mut Context,
        stream: N::Stream,
        peer: Option<SocketAddr>,
        origin: u32,
    ) {
        let is_everywhere = tables.origins[origin as usize].local.is_some_and(|local| local.ip().is_unspecified());
        let local = is_everywhere.then(|| network.local_addr(&stream).ok().flatten()).flatten();
        let slot = tables.add_client(origin, peer, local);
        self.exchange.place(slot, stream);
        // Whoever comes before the drain has begun hears of it with the others.
        tables.state(slot).owes_drain = matches!(tables.lifecycle, Lifecycle::Draining(_));
        self.exchange.callbacks.welcome(tables, slot);
        self.serve(network, tables, slot);
    }

    /// Acts on an event, unless the connection it was for is gone.
    pub(crate) fn on_event(&mut self, network: &mut N, tables: &mut Context, stub: Stub, event: &Event) {
        let Some(state) = tables.states.get_mut(stub.slot as usize).filter(|state| stub.is_of(state.serial)) else {
            return;
        };
        let is_opening = matches!(state.phase, Phase::Opening(_));
        if is_opening && !self.on_answer(network, tables, stub.slot) {
            return;
        }
        let state = tables.state(stub.slot);
        // After our own end of stream the peer's makes it over, and there may be much to read still. A unix socket is
        // over with its peer, however much that has left to read.
        let may_read_on = || state.sending == Sending::Finished || state.peer.address().is_none();
        let broken = event.broken || event.over;
        // planted: both-sides-ended-is-broken
        let is_dead = event.broken || event.over && !may_read_on();
        state.is_broken |= is_dead;
        if event.writable || broken {
            state.output = Output::Ready;
        }
        if !matches!(state.input, Input::Ended | Input::Told) {
            // planted: eof-behind-short-read-missed
            if event.deep || broken {
                state.input = Input::Deep;
            } else if event.readable && state.input == Input::Waiting {
                state.input = Input::Ready;
            }
        }
        if is_opening {
            self.welcome(network, tables, stub.slot);
        }
        self.serve(network, tables, stub.slot);
    }

    /// Hands a note to a connection, unless it is closing or gone.
    pub(crate) fn notify(&mut self, network: &mut N, tables: &mut Context, id: ConnectionId, value: u64) {
        if tables.connection(id).is_none() {
            return;
        }
        if tables.state(id.slot).session == UNOPENED {
            // planted: note-before-open-lost
            tables.early_notes.push((id, value));
            return;
        }
        tables.stats.notes += 1;
        let turn = tables.turn;
        tables.state(id.slot).begin_turn(turn);
        self.exchange.callbacks.tell(tables, id.slot, News::Note(value));
        self.serve(network, tables, id.slot);
    }

    pub(crate) fn callbacks(&mut self) -> &mut Callbacks<'h> {
        &mut self.exchange.callbacks
    }

    /// Begins with the outbound connections that callbacks have asked for; true if there were any.
    pub(crate) fn connect(&mut self, network: &mut N, tables: &mut Context) -> bool {
        while self.crowded.front().is_some_and(|(at, ..)| *at <= tables.now)
            && let Some((_, id, to)) = self.crowded.pop_front()
        {
            tables.connects.push_back((id, to));
        }
        let count = tables.connects.len();
        for _ in 0..count.min(limits::CONNECTS_PER_TURN_MAX) {
            let Some((id, to)) = tables.connects.pop_front() else {
                break;
            };
            let slot = id.slot;
            let is_wanted = |state: &State| state.serial == id.serial && matches!(state.phase, Phase::Opening(_));
            if !tables.states.get(slot as usize).is_some_and(is_wanted) {
                continue;
            }
            let objection = to.objection(self.exchange.callbacks.input_bytes_min(tables, slot));
            let refused = |sentence| Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
            match objection.map_or_else(|| network.connect(&to), refused) {
                Ok(stream) => {
                    self.exchange.place(slot, stream);
                    self.serve(network, tables, slot);
                }
                // A full backlog: TCP would try again by itself.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.crowded.push_back((tables.now.after(limits::PAUSE_MIN), id, to));
                    self.arm(tables, slot);
                }
                Err(error) => self.fail(network, tables, slot, error),
            }
        }
        count > 0
    }

    /// Looks whether an outbound connection is open by now, or never will be; true if it is.
    fn on_answer(&mut self, network: &mut N, tables: &mut Context, slot: u32) -> bool {
        let Some(stream) = self.exchange.sockets[slot as usize].stream() else {
            return false;
        };
        match network.connected(stream) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                self.fail(network, tables, slot, error);
                return false;
            }
        }
        let local = network.local_addr(stream).ok().flatten().map(|local| Peer::from(Some(local)));
        if local == Some(tables.state(slot).peer) {
            // Two ends of one socket: the port we were given is the one we asked for, and nobody listens there.
            self.fail(network, tables, slot, io::ErrorKind::ConnectionRefused.into());
            return false;
        }
        tables.locals.set(slot, local);
        let now = tables.now;
        let is_draining = matches!(tables.lifecycle, Lifecycle::Draining(_));
        let state = tables.state(slot);
        if let Phase::Opening(closing) = state.phase {
            state.phase = closing.map_or(Phase::Open, Phase::Closing);
        }
        (state.session, state.progress, state.owes_drain) = (NO_SESSION, now, is_draining);
        // What there is to read, the event tells.
        state.input = Input::Waiting;
        true
    }

    /// Tells the handler that its outbound connection is open, and what it was to be told meanwhile.
    fn welcome(&mut self, network: &mut N, tables: &mut Context, slot: u32) {
        let (id, notes) = (tables.id(slot), tables.take_early_notes(slot));
        self.exchange.callbacks.welcome(tables, slot);
        for value in notes {
            self.notify(network, tables, id, value);
        }
    }

    /// Ends an outbound connection that never was open.
    fn fail(&mut self, network: &mut N, tables: &mut Context, slot: u32, error: io::Error) {
        self.release(network, slot, Ending::Close);
        let _ = tables.take_early_notes(slot);
        tables.count_out(slot, None);
        self.freed.push(slot);
        log::debug!("{}: cannot connect: {error}", tables.state(slot).peer);
        self.exchange.callbacks.connect_failed(tables, slot, error);
    }

    /// Takes every step that a connection's state calls for, until it has to wait.
    pub(crate) fn serve(&mut self, network: &mut N, tables: &mut Context, slot: u32) {
        let turn = tables.turn;
        let bounds = tables.bounds(slot);
        tables.state(slot).begin_turn(turn);
        loop {
            match tables.state(slot).next(&bounds) {
                Step::Wait => {
                    if self.settle(network, tables, slot) {
                        return;
                    }
                }
                Step::Later => {
                    tables.defer(slot);
                    self.arm(tables, slot);
                    return;
                }
                Step::Drop(reason, ending) => return self.drop(network, tables, slot, reason, ending),
                Step::Flush => self.exchange.flush(network, tables, slot),
                Step::Finish => self.exchange.finish(network, tables, slot),
                Step::Shut => self.exchange.shut(network, tables, slot),
                Step::Read => self.exchange.read(network, tables, slot, bounds.input_bytes_max),
                Step::Discard => self.exchange.discard(network, tables, slot),
                Step::Show => self.exchange.show_again(tables, slot),
                Step::Overflow => tables.state(slot).phase = Phase::Closing(CloseReason::InputOverflow),
                Step::Drain => {
                    tables.state(slot).owes_drain = false;
                    self.exchange.callbacks.tell(tables, slot, News::Drain);
                }
                Step::Flushed => {
                    tables.state(slot).notice = Notice::Told;
                    // planted: rest-not-delivered-after-flush
                    tables.state(slot).rest = Rest::Fresh;
                    self.exchange.callbacks.tell(tables, slot, News::Flushed);
                }
                Step::End => {
                    tables.state(slot).input = Input::Told;
                    self.exchange.callbacks.tell(tables, slot, News::Eof);
                }
            }
        }
    }

    /// Before waiting: gives back what an idle connection does not need, and sees to it that it is woken. False if it
    /// has to go instead.
    fn settle(&mut self, network: &mut N, tables: &mut Context, slot: u32) -> bool {
        let (id, now) = (tables.id(slot), tables.now);
        let Some(socket) = self.exchange.sockets.get_mut(slot as usize).filter(|socket| socket.stream().is_some())
        else {
            // Its connect has not begun, and its time does not run yet.
            return true;
        };
        let state = &mut tables.states[slot as usize];
        if let Some(buffers) = state.buffers.take_if(|buffers| buffers.is_empty()) {
            tables.pool.give_back(buffers);
        }
        if let Socket::Unwatched(stream) = socket {
            if let Err(error) = network.register(stream, Token::connection(id)) {
                if self.unwatched_said.may_say(now) {
                    log::warn!("{}: cannot watch the connection: {error}", state.peer);
                }
                state.phase = Phase::Condemned(CloseReason::Io(error.kind()), Ending::Close);
                return false;
            }
            if let Some(stream) = socket.take() {
                *socket = Socket::Watched(stream);
            }
        }
        // planted: deadline-not-rearmed
        self.arm(tables, slot);
        true
    }

    fn arm(&mut self, tables: &Context, slot: u32) {
        self.deadlines.arm(slot, tables.deadline(slot));
    }

    /// Closes the descriptor, then tells the handler.
    fn drop(&mut self, network: &mut N, tables: &mut Context, slot: u32, reason: CloseReason, ending: Ending) {
        self.release(network, slot, ending);
        // planted: failed-connect-untold-at-drain-end
        if tables.state(slot).session == UNOPENED {
            return self.fail(network, tables, slot, reason.of_connect());
        }
        tables.count_out(slot, Some(reason));
        self.freed.push(slot);
        log::debug!("{}: closed, {reason}", tables.state(slot).peer);
        self.exchange.callbacks.farewell(tables, slot, reason);
    }

    fn release(&mut self, network: &mut N, slot: u32, ending: Ending) {
        self.deadlines.disarm(slot);
        match (self.exchange.sockets.get_mut(slot as usize).and_then(Socket::take), ending) {
            (Some(stream), Ending::Close) => network.close(stream),
            (Some(stream), Ending::Reset) => network.reset(stream),
            (None, _) => {}
        }
    }

    /// Looks at every connection whose deadline has come; true if there was one.
    pub(crate) fn expire(&mut self, network: &mut N, tables: &mut Context) -> bool {
        let mut any = false;
        while let Some(slot) = self.deadlines.pop_due(tables.now) {
            let (bounds, timer, turn, now) = (tables.bounds(slot), tables.timeouts.get(slot), tables.turn, tables.now);
            let state = tables.state(slot);
            state.begin_turn(turn);
            match state.due(&bounds, timer, now) {
                Due::Nothing => {}
                Due::End(reason) => state.phase = Phase::Condemned(reason, Ending::of(reason)),
                Due::Timer => {
                    tables.timeouts.set(slot, Moment::NEVER);
                    self.exchange.callbacks.tell(tables, slot, News::Timeout);
                }
            }
            self.serve(network, tables, slot);
            any = true;
        }
        any
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let crowded = self.crowded.front().map(|(at, ..)| *at);
        self.deadlines.next().into_iter().chain(crowded).min()
    }

    /// Aborts a connection whose callback unwound, and drops its session.
    pub(crate) fn condemn(&mut self, network: &mut N, tables: &mut Context, slot: u32) {
        tables.condemn(slot);
        if tables.state(slot).phase != Phase::Gone {
            // On a list before its session is dropped: that is foreign code, too.
            tables.defer(slot);
            self.exchange.callbacks.forget(tables, slot);
            self.serve(network, tables, slot);
        }
    }

    /// Ends what is still there at the end of a drain. Who only lingers has been served, and keeps its own reason.
    pub(crate) fn cut_all(&mut self, network: &mut N, tables: &mut Context) {
        for slot in 0..tables.slots_end() {
            match tables.states.get(slot as usize).map(|state| state.phase) {
                None | Some(Phase::Gone) => {}
                Some(Phase::Lingering(reason, _)) => self.drop(network, tables, slot, reason, Ending::Close),
                Some(_) => self.drop(network, tables, slot, CloseReason::Drained, Ending::Reset),
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Whether it is to be tried again.
    #[cfg(test)]
    pub(crate) fn is_crowded(&self, id: ConnectionId) -> bool {
        self.crowded.iter().any(|(_, other, _)| *other == id)
    }

    #[cfg(test)]
    pub(crate) fn stream(&self, slot: u32) -> Option<&N::Stream> {
        self.exchange.sockets.get(slot as usize)?.stream()
    }

    /// Gives the slots of what is gone to the next; true if there were any.
    pub(crate) fn free(&mut self, tables: &mut Context) -> bool {
        let any = !self.freed.is_empty();
        for slot in self.freed.drain(..) {
            tables.free(slot);
        }
        any
    }
}
