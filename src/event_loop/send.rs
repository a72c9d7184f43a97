//! Sends the outbox, and ends our side of a connection.
//!
//! Each function calls the socket at most once, and records the outcome in the connection's state.

use std::io::{self, IoSlice};

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::entries::connection_entry::ConnectionEntry;
use crate::ids::SlotKey;
use crate::limits::{self, SEND_SLICES_MAX};
use crate::net::Stream;
use crate::observe::entry::EntryKind;
use crate::observe::journal::{IPPROTO_TCP, Journal, TCP_NOTSENT_LOWAT};
use crate::state::buffers::BufferPool;
use crate::state::buffers::outbox::Outbox;
use crate::state::connection_state::ConnectionState;
use crate::state::phase::{CloseMode, DrainStep, InputStop, PeerActivity, Phase, ReadState, WriteHalf, WriteState};
use crate::state::timestamp::Timestamp;

/// Sends what an outbox has borrowed of a callback's input, and copies into the outbox what the kernel does not accept.
#[inline(never)]
pub(super) fn end_loan(context: &mut Context, input: &[u8]) {
    let Context { connections, listeners, stats, now, turn, buffer_pool, journal, lent_input, .. } = context;
    let Some((slot, range)) = lent_input.take() else {
        return;
    };
    let entry = &mut connections[slot as usize];
    entry.state.begin_turn(*turn);
    let mut unsent = &input[range];
    let is_all = entry.state.outbox_len() == unsent.len();
    // A FIN shares a segment with the end of the outbox.
    if is_all && entry.state.accepts_output() {
        let sent = entry.flush(unsent, buffer_pool, *now, slot, journal);
        stats.bytes_sent += sent as u64;
        unsent = &unsent[sent..];
    }
    let (state, bytes_max) = (&mut entry.state, listeners[entry.listener as usize].limits.outbox_bytes_max);
    if let Some(buffers) = &mut state.buffers {
        let is_kept = buffer_pool.end_loan(&mut buffers.outbox, unsent, bytes_max).is_ok();
        buffers.record_sent();
        if !is_kept {
            state.close_out_of_memory();
        }
    }
}

impl ConnectionEntry {
    /// Sends the outbox once, or all that it has borrowed; returns the number of bytes that the kernel accepted.
    #[expect(clippy::inline_always, reason = "a call costs 25 instructions, of which the usual course needs none")]
    #[inline(always)]
    pub(super) fn flush(
        &mut self,
        lent: &[u8],
        pool: &mut BufferPool,
        now: Timestamp,
        slot: u32,
        journal: &mut Journal,
    ) -> usize {
        let state = &mut self.state;
        if state.outbox_len() > limits::WHOLE_MESSAGE_BYTES_MAX {
            // The peer may send its next request before it has read all of this.
            state.peer_activity = PeerActivity::Unknown;
        }
        let closes = matches!(state.phase, Phase::Flushing(_)) && !state.peer_may_be_sending();
        let fin_follows = closes || state.write_half == WriteHalf::ShutdownPending;
        let (Some(buffers), Some(stream)) = (&mut state.buffers, &self.stream) else {
            return 0;
        };
        let whole = if lent.is_empty() { buffers.outbox.as_slice() } else { Some(lent) };
        let sent = match whole {
            Some(bytes) => stream.send(bytes, fin_follows),
            None => send_mixed(stream, &buffers.outbox, fin_follows),
        };
        let key = SlotKey::Connection(slot);
        match sent {
            Ok(count) => {
                if journal.has_all() {
                    note_write(journal, key, self.generation, whole, buffers.outbox.len(), count);
                }
                if lent.is_empty() {
                    // planted: rest-of-short-write-dropped
                    pool.consume_output(&mut buffers.outbox, count);
                    buffers.record_sent();
                }
                state.last_progress = now;
                state.spend_budget(count);
                count
            }
            Err(error) => {
                let numbers = [0, buffers.outbox.len() as u64];
                journal.note_error(EntryKind::Write, key, self.generation, numbers, &error);
                state.record_write_error(&error);
                0
            }
        }
    }

    /// Sends a FIN, after all output was sent.
    #[expect(clippy::inline_always, reason = "a call would cost more than the function saves in size")]
    #[inline(always)]
    pub(super) fn shutdown_write(&mut self, slot: u32, journal: &mut Journal) {
        let state = &mut self.state;
        let Some(stream) = &self.stream else {
            return;
        };
        if std::mem::replace(&mut state.write_half, WriteHalf::Shutdown) == WriteHalf::Shutdown {
            return;
        }
        let key = SlotKey::Connection(slot);
        let Err(error) = stream.shutdown_write() else {
            return journal.note(EntryKind::ShutdownWrite, key, self.generation, [0; 2]);
        };
        journal.note_error(EntryKind::ShutdownWrite, key, self.generation, [0; 2], &error);
        if state.phase == Phase::Open {
            // The peer has already gone. Its unread bytes are read, and then the connection ends. A closing connection
            // does not wait for them.
            state.is_disconnected = true;
            if !matches!(state.read_state, ReadState::Eof | ReadState::EofDelivered) {
                state.read_state = ReadState::ReadToEnd;
            }
        }
    }

    /// Closes a connection whose input was delivered, and whose output the kernel has accepted. Behind unsent output the
    /// FIN would leave later than the filter, and the kernel would acknowledge input before it: the connection then waits
    /// until everything is sent.
    #[cold]
    #[inline(never)]
    pub(super) fn end_drain(&mut self, slot: u32, journal: &mut Journal) {
        if self.state.drain_step == DrainStep::Stopped(InputStop::Filter)
            && let Some(stream) = &self.stream
        {
            let (is_sent, result) = stream.has_sent_all();
            let numbers = [IPPROTO_TCP, TCP_NOTSENT_LOWAT];
            journal.note_result(EntryKind::OptionSet, SlotKey::Connection(slot), self.generation, numbers, &result);
            // planted: fin-behind-unsent-output
            if !is_sent {
                self.state.write_state = WriteState::WouldBlock;
                return;
            }
        }
        self.state.phase = Phase::Flushing(CloseReason::Local);
        if self.state.drain_step == DrainStep::Stopped(InputStop::Shutdown) {
            // The peer cannot send any more.
            self.state.read_state = ReadState::EofDelivered;
        }
    }

    /// Closes after all output was sent. If the peer may still be sending, its input is read to EOF, within bounds,
    /// before the descriptor is closed. Unread input would make the kernel send an RST, and an RST can destroy output
    /// that the peer has not read (RFC 1122 section 4.2.2.13).
    pub(super) fn shutdown_and_linger(&mut self, now: Timestamp, slot: u32, journal: &mut Journal) {
        let Phase::Flushing(reason) = self.state.phase else {
            return;
        };
        self.shutdown_write(slot, journal);
        self.resume_input(slot, journal);
        let state = &mut self.state;
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

impl ConnectionState {
    #[cold]
    fn record_write_error(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => {
                // planted: write-would-block-is-an-end
                self.write_state = WriteState::WouldBlock;
                // The peer has much to read: when it has read it, it may have sent something.
                self.peer_activity = PeerActivity::Unknown;
                self.request_flush_notice();
            }
            _ => self.phase = Phase::Closing(CloseReason::from_io_error(error), CloseMode::Close),
        }
    }
}

/// Notes the bytes that the kernel accepted; of shared buffers only their number.
#[cold]
fn note_write(journal: &mut Journal, key: SlotKey, generation: u64, whole: Option<&[u8]>, of: usize, count: usize) {
    match whole {
        Some(bytes) => journal.note_io(EntryKind::Write, key, generation, Ok(&bytes[..count]), of),
        None => journal.note(EntryKind::Write, key, generation, [count as u64, of as u64]),
    }
}

/// Sends from an outbox that contains shared buffers.
#[cold]
fn send_mixed(stream: &Stream, outbox: &Outbox, fin_follows: bool) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SEND_SLICES_MAX];
    let (filled, is_all) = outbox.fill_slices(&mut slices);
    stream.send_vectored(&slices[..filled], fin_follows && is_all)
}
