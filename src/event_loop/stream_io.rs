//! Reads, writes and shutdowns of connections, one action each.
//!
//! Each method calls the socket or the handler at most once, and records the outcome in the connection's state.

use std::io;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::event_loop::connections::Connections;
use crate::limits;
use crate::net::Network;
use crate::state::phase::{CloseMode, PeerActivity, Phase, ReadState, WriteHalf, WriteState};

/// What stands in a slot.
pub(crate) enum StreamSlot<S> {
    Empty,
    /// Not known to the poll: it may be over before it has to be waited for.
    Unregistered(S),
    Registered(S),
}

impl<S> StreamSlot<S> {
    pub(crate) fn stream(&self) -> Option<&S> {
        match self {
            Self::Empty => None,
            Self::Unregistered(stream) | Self::Registered(stream) => Some(stream),
        }
    }

    pub(crate) fn take(&mut self) -> Option<S> {
        match std::mem::replace(self, Self::Empty) {
            Self::Empty => None,
            Self::Unregistered(stream) | Self::Registered(stream) => Some(stream),
        }
    }
}

impl<N: Network> Connections<'_, N> {
    /// Puts a socket into its slot.
    pub(crate) fn insert_stream(&mut self, slot: u32, stream: N::Stream) {
        if self.streams.len() <= slot as usize {
            self.streams.resize_with(slot as usize + 1, || StreamSlot::Empty);
        }
        self.streams[slot as usize] = StreamSlot::Unregistered(stream);
    }

    pub(crate) fn flush(&mut self, network: &mut N, context: &mut Context, slot: u32) {
        let Context { connections, stats, now, .. } = context;
        let state = &mut connections[slot as usize];
        let closes = matches!(state.phase, Phase::Flushing(_)) && !state.peer_may_be_sending();
        let fin_follows = closes || state.write_half == WriteHalf::ShutdownPending;
        let (Some(buffers), Some(stream)) = (&mut state.buffers, self.streams[slot as usize].stream()) else {
            return;
        };
        match network.send(stream, buffers.outbox.as_slice(), fin_follows) {
            Ok(count) => {
                // planted: rest-of-short-write-dropped
                buffers.outbox.consume(count);
                buffers.own_output &= !buffers.outbox.is_empty();
                state.last_progress = *now;
                state.spend_budget(count);
                stats.bytes_sent += count as u64;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    // planted: write-would-block-is-an-end
                    state.write_state = WriteState::WouldBlock;
                    // The peer has more to take than fits: by the time it has, it may have sent something.
                    state.peer_activity = PeerActivity::Unknown;
                    state.request_flush_notice();
                }
                _ => state.phase = Phase::Closing(CloseReason::from_io_error(&error), CloseMode::Close),
            },
        }
    }

    pub(crate) fn read(&mut self, network: &mut N, context: &mut Context, slot: u32, input_bytes_max: usize) {
        let inbox_len = context.state(slot).inbox_len();
        let room = (input_bytes_max - inbox_len).min(context.state(slot).budget as usize);
        let Some(count) = self.recv(network, context, slot, room) else {
            return;
        };
        if inbox_len == 0 {
            self.deliver_read(context, slot, count);
        } else {
            let state = context.state(slot);
            state.inbox_changed = true;
            if let Some(buffers) = &mut state.buffers {
                buffers.inbox.push(&self.read_buffer[..count]);
            }
        }
    }

    /// Reads late input of a closed connection and throws it away.
    pub(crate) fn discard(&mut self, network: &mut N, context: &mut Context, slot: u32) {
        let Phase::Lingering(reason, left) = context.state(slot).phase else {
            return;
        };
        let room = context.state(slot).budget as usize;
        let count = self.recv(network, context, slot, room).unwrap_or(0);
        let state = context.state(slot);
        state.phase = match state.phase {
            // An error of late input is not reported.
            Phase::Closing(..) => Phase::Closing(reason, CloseMode::Close),
            _ => Phase::Lingering(reason, left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX))),
        };
    }

    /// Reads into the read buffer; what is not bytes becomes a change of state.
    fn recv(&mut self, network: &mut N, context: &mut Context, slot: u32, room: usize) -> Option<usize> {
        let room = room.min(self.read_buffer.len());
        let stream = self.streams[slot as usize].stream()?;
        let state = &mut context.connections[slot as usize];
        match network.recv(stream, &mut self.read_buffer[..room]) {
            Ok(0) => {
                state.read_state = ReadState::Eof;
                state.inbox_changed = true;
            }
            Ok(count) => {
                state.record_read(count, room);
                context.stats.bytes_received += count as u64;
                return Some(count);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => state.read_state = ReadState::WouldBlock,
                _ => state.phase = Phase::Closing(CloseReason::from_io_error(&error), CloseMode::Close),
            },
        }
        None
    }

    /// Shows the handler what was just read, where it lies.
    fn deliver_read(&mut self, context: &mut Context, slot: u32, count: usize) {
        let consumed = self.callbacks.on_data(context, slot, &self.read_buffer[..count]);
        if consumed < count {
            let Context { connections, buffer_pool, .. } = &mut *context;
            let buffers = connections[slot as usize].buffers.get_or_insert_with(|| buffer_pool.take());
            buffers.inbox.push(&self.read_buffer[consumed..count]);
        }
        record_consumed(context, slot, consumed);
    }

    /// Shows the handler what it has left in the inbox, with what has come since.
    pub(crate) fn deliver_inbox(&mut self, context: &mut Context, slot: u32) {
        let mut inbox = context.state(slot).take_inbox();
        let consumed = self.callbacks.on_data(context, slot, inbox.as_slice());
        inbox.consume(consumed);
        if let Some(buffers) = &mut context.state(slot).buffers {
            buffers.inbox = inbox;
        }
        record_consumed(context, slot, consumed);
    }

    /// Ends our side, now that everything is sent.
    pub(crate) fn shutdown_write(&mut self, network: &mut N, context: &mut Context, slot: u32) {
        let state = context.state(slot);
        let Some(stream) = self.streams[slot as usize].stream() else {
            return;
        };
        if std::mem::replace(&mut state.write_half, WriteHalf::Shutdown) != WriteHalf::Shutdown
            && network.shutdown_write(stream).is_err()
            && state.phase == Phase::Open
        {
            // The peer is gone already. What it has left is read, and then there is nothing to wait for; one that is
            // closing does not wait.
            state.is_disconnected = true;
            if !matches!(state.read_state, ReadState::Eof | ReadState::EofDelivered) {
                state.read_state = ReadState::ReadToEnd;
            }
        }
    }

    /// Closes, now that everything is sent. If the peer may be sending still, its input is read to the end
    /// within bounds before the descriptor is closed: unread input would make the kernel send a reset, and a reset can
    /// destroy what the peer has not read yet (RFC 1122 section 4.2.2.13).
    pub(crate) fn shutdown_and_linger(&mut self, network: &mut N, context: &mut Context, slot: u32) {
        let now = context.now;
        let state = context.state(slot);
        let Phase::Flushing(reason) = state.phase else {
            return;
        };
        self.shutdown_write(network, context, slot);
        let state = context.state(slot);
        // planted: no-linger
        state.phase = if state.peer_may_be_sending() {
            state.last_progress = now;
            if let Some(buffers) = &mut state.buffers {
                buffers.inbox.clear();
            }
            Phase::Lingering(reason, limits::LINGER_BYTES_MAX)
        } else {
            Phase::Closing(reason, CloseMode::Close)
        };
    }
}

/// After the handler has seen all there is: the rest is shown again when something changes. At the end of the stream
/// nothing will, so there the rest is fresh for as long as some of it is used.
fn record_consumed(context: &mut Context, slot: u32, consumed: usize) {
    let now = context.now;
    let state = context.state(slot);
    let has_more = state.read_state == ReadState::Eof && consumed > 0;
    state.inbox_changed = has_more;
    if consumed > 0 {
        state.last_progress = now;
    }
}
