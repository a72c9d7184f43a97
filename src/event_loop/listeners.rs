//! Accepts clients within limits, and handles every error of accept(2).
//!
//! A listener that stopped accepting before `WouldBlock` is retried without another event.

use std::io;

use crate::address::PackedAddress;
use crate::context::Context;
use crate::context::entries::listener_entry::ListenerEntry;
use crate::context::entries::source::{SourceDrain, SourceState};
use crate::event_loop::EventLoop;
use crate::ids::SlotKey;
use crate::limits;
use crate::net::io_error_class::is_out_of_descriptors;
use crate::net::{Listener, Stream};
use crate::observe::entry::EntryKind;
use crate::options::listen::WhenFull;

impl EventLoop<'_> {
    /// Accepts clients of a listener, at most a turn's budget of them.
    pub(super) fn accept_clients(&mut self, slot: u32) -> SourceState {
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            // A callback may have stopped the loop, or closed the listener.
            if self.context.loop_state.is_stopping() {
                return SourceState::WouldBlock;
            }
            if self.context.reserve_connections().is_err() {
                let error = io::ErrorKind::OutOfMemory.into();
                return self.on_source_error(SlotKey::Listener(slot), &error).unwrap_or(SourceState::WouldBlock);
            }
            let is_full = self.context.is_full(slot);
            let Some(entry) = self.context.listeners.get_mut(slot as usize) else {
                return SourceState::WouldBlock;
            };
            let Some(socket) = &entry.socket else {
                return SourceState::WouldBlock;
            };
            if entry.source.drain == SourceDrain::Left(0) {
                return SourceState::WouldBlock;
            }
            if is_full && entry.when_full == WhenFull::Pause {
                return self.context.pause_full(slot);
            }
            match socket.accept() {
                Ok((stream, peer)) => {
                    let peer = PackedAddress::from(peer);
                    entry.source.backoff.on_success();
                    entry.source.drain.take(1);
                    let counts_sources = entry.connections_per_source_max.is_some();
                    if is_full || counts_sources && !self.context.try_count_accepted(slot, peer) {
                        self.context.refuse(slot, stream, peer, is_full);
                    } else {
                        self.open_accepted(slot, stream, peer);
                    }
                }
                Err(error) => {
                    if let Some(result) = self.on_accept_error(slot, &error) {
                        return result;
                    }
                }
            }
        }
        SourceState::Ready
    }

    /// Handles a failed accept. Returns the new state of the listener, or `None` to retry at once.
    #[inline(never)]
    fn on_accept_error(&mut self, slot: u32, error: &io::Error) -> Option<SourceState> {
        if self.context.listeners[slot as usize].reserve.has_size() {
            return self.on_accept_error_with_reserve(slot, error);
        }
        self.context.note_error(EntryKind::Accept, SlotKey::Listener(slot), [0; 2], error);
        self.on_source_error(SlotKey::Listener(slot), error)
    }

    /// The same for a listener with a reserve. It uses the reserve for a client, and refills it without one.
    #[cold]
    fn on_accept_error_with_reserve(&mut self, slot: u32, error: &io::Error) -> Option<SourceState> {
        let ListenerEntry { socket: Some(socket), reserve, .. } = &mut self.context.listeners[slot as usize] else {
            return Some(SourceState::WouldBlock);
        };
        // With no descriptor left, accept(2) fails also without a client.
        let is_without_client = is_out_of_descriptors(error) && !socket.has_client();
        let is_released = is_out_of_descriptors(error) && !is_without_client && reserve.release();
        let numbers = [0, u64::from(is_without_client)];
        self.context.note_error(EntryKind::Accept, SlotKey::Listener(slot), numbers, error);
        let state = if is_without_client {
            Some(SourceState::WouldBlock)
        } else if is_released {
            self.context.stats.accept_errors += 1;
            None
        } else {
            self.on_source_error(SlotKey::Listener(slot), error)
        };
        if state == Some(SourceState::WouldBlock) {
            self.context.refill_reserve(slot);
        }
        state
    }
}

impl Context {
    /// Returns the state of a listener whose handler has its maximum of connections.
    #[cold]
    fn pause_full(&mut self, listener: u32) -> SourceState {
        let now = self.now;
        let entry = &mut self.listeners[listener as usize];
        // During a drain the listener stays open for clients that wait for room. Without such a client it closes: a new
        // process needs its port.
        let is_draining = matches!(entry.source.drain, SourceDrain::Left(_));
        if is_draining && !entry.socket.as_ref().is_some_and(Listener::has_client) {
            return SourceState::WouldBlock;
        }
        if entry.full_log.allow(now) {
            let (address, connections_max) = (&entry.address, entry.connections_max);
            log::info!(
                "{address}: the limit of {connections_max} connections is reached; new clients wait in the backlog"
            );
        }
        let connections = entry.connections.into();
        self.note(EntryKind::Full, SlotKey::Listener(listener), [connections, 0]);
        SourceState::HandlerFull
    }

    /// Closes a client that the total limit or the limit per source refuses, and counts it.
    #[cold]
    fn refuse(&mut self, listener: u32, stream: Stream, peer: PackedAddress, is_full: bool) {
        self.note(EntryKind::Accept, SlotKey::Listener(listener), [stream.descriptor() as u64, 0]);
        let entry = &mut self.listeners[listener as usize];
        entry.reserve.close_client(entry.socket.as_ref(), stream);
        self.note(EntryKind::Refused, SlotKey::Listener(listener), [u64::from(!is_full), 0]);
        let (stats, occurrences) = (&mut self.stats, self.repeated_logs.occurrences_mut());
        let (count, log) = if is_full {
            (&mut stats.refused_full, &mut occurrences.refused_full)
        } else {
            (&mut stats.refused_source, &mut occurrences.refused_source)
        };
        *count += 1;
        log.add(peer);
    }
}
