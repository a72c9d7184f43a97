//! Reads from connections, and delivers input to handlers.
//!
//! Each function calls the socket or the handler at most once, and records the outcome in the connection's state.

use std::io;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::entries::connection_entry::ConnectionEntry;
use crate::event_loop::EventLoop;
use crate::event_loop::callbacks::Callbacks;
use crate::event_loop::send::end_loan;
use crate::ids::SlotKey;
use crate::limits::LENT_BYTES_MIN;
use crate::net::Stream;
use crate::observe::entry::{EntryKind, raw_errno};
use crate::observe::journal::Journal;
use crate::state::connection_state::ConnectionState;
use crate::state::memory::OutOfMemory;
use crate::state::phase::{CloseMode, DrainStep, InputStop, Phase, ReadState};

impl EventLoop<'_> {
    /// Reads once, and delivers the bytes if the inbox is empty.
    pub(super) fn read(&mut self, slot: u32) {
        let Context { connections, listeners, stats, buffer_pool, journal, .. } = &mut self.context;
        let entry = &mut connections[slot as usize];
        let inbox_len = entry.state.inbox_len();
        let bytes_max = listeners[entry.listener as usize].limits.input_bytes_max;
        let room = buffer_pool.read_room(entry.state.buffers.as_deref(), bytes_max);
        if room == 0 {
            journal.note(EntryKind::AwaitsMemory, SlotKey::Connection(slot), entry.generation, [0; 2]);
            return entry.state.set_awaits_memory(true);
        }
        let room = room.min(entry.state.budget as usize).min(self.read_buffer.len());
        let received = entry.recv(&mut self.read_buffer[..room]);
        journal.note_io(EntryKind::Read, SlotKey::Connection(slot), entry.generation, received, room);
        let Ok(count @ 1..) = received.map(<[u8]>::len) else {
            return;
        };
        stats.bytes_received += count as u64;
        if inbox_len > 0 {
            match entry.state.reserve_inbox(count, bytes_max, buffer_pool) {
                Ok(buffers) => {
                    buffers.inbox_changed = true;
                    buffers.inbox.push(&self.read_buffer[..count]);
                }
                Err(OutOfMemory) => entry.state.close_out_of_memory(),
            }
            return;
        }
        let consumed = deliver(&mut self.callbacks, &mut self.context, slot, &self.read_buffer[..count]);
        let Context { connections, buffer_pool, now, .. } = &mut self.context;
        let state = &mut connections[slot as usize].state;
        if consumed < count {
            match state.reserve_inbox(count - consumed, bytes_max, buffer_pool) {
                Ok(buffers) => buffers.inbox.push(&self.read_buffer[consumed..count]),
                Err(OutOfMemory) => state.close_out_of_memory(),
            }
        }
        state.record_consumed(consumed, *now);
    }

    /// Delivers the inbox.
    pub(super) fn deliver_inbox(&mut self, slot: u32) {
        let mut inbox = self.context.state(slot).take_inbox();
        let consumed = deliver(&mut self.callbacks, &mut self.context, slot, inbox.as_slice());
        inbox.consume(consumed);
        let now = self.context.now;
        let state = self.context.state(slot);
        state.return_inbox(inbox);
        state.record_consumed(consumed, now);
    }

    /// Delivers EOF, with the rest of the inbox. The rest is dropped, unless the handler has paused; then it is
    /// delivered again after a resume.
    pub(super) fn deliver_eof(&mut self, slot: u32) {
        let state = self.context.state(slot);
        state.read_state = ReadState::EofDelivered;
        if state.inbox_len() == 0 {
            return self.callbacks.on_eof(&mut self.context, slot, &[]);
        }
        let mut inbox = state.take_inbox();
        self.callbacks.on_eof(&mut self.context, slot, inbox.as_slice());
        let state = self.context.state(slot);
        if !state.paused {
            inbox.clear();
        }
        state.return_inbox(inbox);
    }
}

/// Delivers input; what the handler writes of it is sent without a copy, as far as the kernel accepts it.
#[inline]
fn deliver(callbacks: &mut Callbacks<'_>, context: &mut Context, slot: u32, input: &[u8]) -> usize {
    let is_long = input.len() >= LENT_BYTES_MIN;
    if is_long {
        context.lent_input.offer(input);
    }
    let consumed = callbacks.on_data(context, slot, input);
    if is_long {
        end_loan(context, input);
    }
    consumed
}

impl ConnectionEntry {
    /// Reads and discards late input of a closed connection; returns the number of bytes.
    #[cold]
    #[inline(never)]
    pub(super) fn discard(&mut self, read_buffer: &mut [u8], slot: u32, journal: &mut Journal) -> usize {
        let Phase::Lingering(reason, left) = self.state.phase else {
            return 0;
        };
        let room = read_buffer.len().min(self.state.budget as usize);
        let received = self.recv(&mut read_buffer[..room]);
        journal.note_io(EntryKind::Read, SlotKey::Connection(slot), self.generation, received, room);
        let count = received.map_or(0, <[u8]>::len);
        self.state.phase = match self.state.phase {
            // An error of late input is not reported.
            Phase::Closing(..) => Phase::Closing(reason, CloseMode::Close),
            _ => Phase::Lingering(reason, left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX))),
        };
        count
    }

    /// Makes the kernel accept no further input. All that it has accepted is then read, to the error that ends it.
    #[cold]
    #[inline(never)]
    pub(super) fn stop_input(&mut self, slot: u32, journal: &mut Journal) {
        let (mut stop, state) = (InputStop::None, &mut self.state);
        // planted: input-not-stopped
        if let Some((made, result)) = self.stream.as_ref().and_then(Stream::stop_input) {
            let numbers = [u64::from(made == InputStop::Shutdown), 0];
            journal.note_result(EntryKind::InputStopped, SlotKey::Connection(slot), self.generation, numbers, &result);
            if result.is_ok() {
                stop = made;
            }
        }
        state.drain_step = DrainStep::Stopped(stop);
        state.read_state = ReadState::ReadToEnd;
    }

    /// Reads once. Returns the bytes, none for EOF, or an error number; the outcome changes the state.
    fn recv<'b>(&mut self, buffer: &'b mut [u8]) -> Result<&'b [u8], i32> {
        let (state, room) = (&mut self.state, buffer.len());
        let Some(stream) = &self.stream else {
            return Ok(&[]);
        };
        match stream.recv(buffer) {
            Ok(count @ 1..) => {
                state.record_read(count, room);
                Ok(&buffer[..count])
            }
            Ok(0) => {
                state.record_eof();
                Ok(&[])
            }
            Err(error) => Err(state.record_read_error(&error)),
        }
    }
}

impl ConnectionState {
    #[cold]
    fn record_eof(&mut self) {
        if self.phase == Phase::Open && self.drain_step == DrainStep::Stopped(InputStop::Shutdown) {
            // Our own shutdown made this EOF, and nothing more can follow.
            self.read_state = ReadState::WouldBlock;
        } else {
            self.read_state = ReadState::Eof;
            self.set_inbox_changed(true);
        }
    }

    /// Returns the error number.
    #[cold]
    fn record_read_error(&mut self, error: &io::Error) -> i32 {
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => self.read_state = ReadState::WouldBlock,
            _ => self.phase = Phase::Closing(CloseReason::from_io_error(error), CloseMode::Close),
        }
        raw_errno(error)
    }
}
