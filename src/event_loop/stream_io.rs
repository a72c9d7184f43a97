//! The bytes of one connection between its socket and its handler, a step at a time.
//!
//! Each method is one step that a connection's state may call for: read and show, send, tell, end. It calls the socket
//! or the handler at most once, and notes in the state what became of it. Which step comes when is decided in
//! [`connection`](crate::event_loop::connections).

use std::io;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::event_loop::callbacks::Callbacks;
use crate::limits;
use crate::net::Network;
use crate::state::phase::{Ending, Input, Output, Phase, Rest, Sending, Tail};

/// The two ends that bytes go between, and the one buffer they are read into.
pub(crate) struct Exchange<'h, N: Network> {
    pub(crate) callbacks: Callbacks<'h>,
    /// By slot, beside the tables.
    pub(crate) sockets: Vec<Socket<N::Stream>>,
    input: Box<[u8]>,
}

/// What stands in a slot.
pub(crate) enum Socket<S> {
    None,
    /// Not known to the poll: it may be over before it has to be waited for.
    Unwatched(S),
    Watched(S),
}

impl<S> Socket<S> {
    pub(crate) fn stream(&self) -> Option<&S> {
        match self {
            Self::None => None,
            Self::Unwatched(stream) | Self::Watched(stream) => Some(stream),
        }
    }

    pub(crate) fn take(&mut self) -> Option<S> {
        match std::mem::replace(self, Self::None) {
            Self::None => None,
            Self::Unwatched(stream) | Self::Watched(stream) => Some(stream),
        }
    }
}

impl<N: Network> Exchange<'_, N> {
    pub(crate) fn new() -> Self {
        Self {
            callbacks: Callbacks::default(),
            sockets: Vec::with_capacity(limits::TABLE_BYTES_RESERVED / size_of::<Socket<N::Stream>>()),
            input: vec![0; limits::INPUT_BYTES_MAX].into_boxed_slice(),
        }
    }

    /// Puts a socket into its slot.
    pub(crate) fn place(&mut self, slot: u32, stream: N::Stream) {
        if self.sockets.len() <= slot as usize {
            self.sockets.resize_with(slot as usize + 1, || Socket::None);
        }
        self.sockets[slot as usize] = Socket::Unwatched(stream);
    }

    pub(crate) fn flush(&mut self, network: &mut N, tables: &mut Context, slot: u32) {
        let Context { states, stats, now, .. } = tables;
        let state = &mut states[slot as usize];
        let closes_here = matches!(state.phase, Phase::Closing(_)) && !state.may_be_sending();
        let ends_here = closes_here || state.sending == Sending::Finishing;
        let (Some(buffers), Some(stream)) = (&mut state.buffers, self.sockets[slot as usize].stream()) else {
            return;
        };
        match network.send(stream, buffers.outbox.as_slice(), ends_here) {
            Ok(count) => {
                // planted: rest-of-short-write-dropped
                buffers.outbox.consume(count);
                buffers.answers &= !buffers.outbox.is_empty();
                state.progress = *now;
                state.spend(count);
                stats.bytes_sent += count as u64;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    // planted: write-would-block-is-an-end
                    state.output = Output::Blocked;
                    // The peer has more to take than fits: by the time it has, it may have sent something.
                    state.tail = Tail::Unknown;
                    state.owe_flushed();
                }
                _ => state.phase = Phase::Condemned(CloseReason::of(&error), Ending::Close),
            },
        }
    }

    pub(crate) fn read(&mut self, network: &mut N, tables: &mut Context, slot: u32, input_bytes_max: usize) {
        let kept = tables.state(slot).kept();
        let room = (input_bytes_max - kept).min(tables.state(slot).budget as usize);
        let Some(count) = self.recv(network, tables, slot, room) else {
            return;
        };
        if kept == 0 {
            self.show(tables, slot, count);
        } else {
            let state = tables.state(slot);
            state.rest = Rest::Fresh;
            if let Some(buffers) = &mut state.buffers {
                buffers.inbox.push(&self.input[..count]);
            }
        }
    }

    /// Reads late input of a closed connection and throws it away.
    pub(crate) fn discard(&mut self, network: &mut N, tables: &mut Context, slot: u32) {
        let Phase::Lingering(reason, left) = tables.state(slot).phase else {
            return;
        };
        let room = tables.state(slot).budget as usize;
        let count = self.recv(network, tables, slot, room).unwrap_or(0);
        let state = tables.state(slot);
        state.phase = match state.phase {
            // An error of late input is no news to anybody.
            Phase::Condemned(..) => Phase::Condemned(reason, Ending::Close),
            _ => Phase::Lingering(reason, left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX))),
        };
    }

    /// Reads into the read buffer; what is not bytes becomes a change of state.
    fn recv(&mut self, network: &mut N, tables: &mut Context, slot: u32, room: usize) -> Option<usize> {
        let room = room.min(self.input.len());
        let stream = self.sockets[slot as usize].stream()?;
        let state = &mut tables.states[slot as usize];
        match network.recv(stream, &mut self.input[..room]) {
            Ok(0) => {
                state.input = Input::Ended;
                state.rest = Rest::Fresh;
            }
            Ok(count) => {
                state.received(count, room);
                tables.stats.bytes_received += count as u64;
                return Some(count);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => state.input = Input::Waiting,
                _ => state.phase = Phase::Condemned(CloseReason::of(&error), Ending::Close),
            },
        }
        None
    }

    /// Shows the handler what was just read, where it lies.
    fn show(&mut self, tables: &mut Context, slot: u32, count: usize) {
        let consumed = self.callbacks.data(tables, slot, &self.input[..count]);
        if consumed < count {
            let Context { states, pool, .. } = &mut *tables;
            let buffers = states[slot as usize].buffers.get_or_insert_with(|| pool.take());
            buffers.inbox.push(&self.input[consumed..count]);
        }
        note_consumed(tables, slot, consumed);
    }

    /// Shows the handler what it has left in the inbox, with what has come since.
    pub(crate) fn show_again(&mut self, tables: &mut Context, slot: u32) {
        let mut inbox = tables.state(slot).take_inbox();
        let consumed = self.callbacks.data(tables, slot, inbox.as_slice());
        inbox.consume(consumed);
        if let Some(buffers) = &mut tables.state(slot).buffers {
            buffers.inbox = inbox;
        }
        note_consumed(tables, slot, consumed);
    }

    /// Ends our side, now that everything is sent.
    pub(crate) fn finish(&mut self, network: &mut N, tables: &mut Context, slot: u32) {
        let state = tables.state(slot);
        let Some(stream) = self.sockets[slot as usize].stream() else {
            return;
        };
        if std::mem::replace(&mut state.sending, Sending::Finished) != Sending::Finished
            && network.shutdown(stream).is_err()
            && state.phase == Phase::Open
        {
            // The peer is gone already. What it has left is read, and then there is nothing to wait for; one that is
            // closing does not wait.
            state.is_broken = true;
            if !matches!(state.input, Input::Ended | Input::Told) {
                state.input = Input::Deep;
            }
        }
    }

    /// Closes, now that everything is sent. If the peer may be sending still, its input is read to the end
    /// within bounds before the descriptor is closed: unread input would make the kernel send a reset, and a reset can
    /// destroy what the peer has not read yet (RFC 1122 section 4.2.2.13).
    pub(crate) fn shut(&mut self, network: &mut N, tables: &mut Context, slot: u32) {
        let now = tables.now;
        let state = tables.state(slot);
        let Phase::Closing(reason) = state.phase else {
            return;
        };
        self.finish(network, tables, slot);
        let state = tables.state(slot);
        // planted: no-linger
        state.phase = if state.may_be_sending() {
            state.progress = now;
            if let Some(buffers) = &mut state.buffers {
                buffers.inbox.clear();
            }
            Phase::Lingering(reason, limits::LINGER_BYTES_MAX)
        } else {
            Phase::Condemned(reason, Ending::Close)
        };
    }
}

/// After the handler has seen all there is: the rest is shown again when something changes. At the end of the stream
/// nothing will, so there the rest is fresh for as long as some of it is used.
fn note_consumed(tables: &mut Context, slot: u32, consumed: usize) {
    let now = tables.now;
    let state = tables.state(slot);
    let goes_on = state.input == Input::Ended && consumed > 0;
    state.rest = if goes_on { Rest::Fresh } else { Rest::Seen };
    if consumed > 0 {
        state.progress = now;
    }
}
