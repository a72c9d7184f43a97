//! Accepts clients within limits, and handles every error of accept(2).
//!
//! A listener that stopped accepting before `WouldBlock` is retried without another event.

use std::io;
use std::net::SocketAddr;

use crate::address::PackedAddress;
use crate::context::Context;
use crate::context::entries::listener_entry::ListenerEntry;
use crate::context::entries::source::{SourceDrain, SourceState};
use crate::event_loop::EventLoop;
use crate::ids::SlotKey;
use crate::limits;
use crate::net::io_error_class::is_out_of_descriptors;
use crate::observe::entry::EntryKind;
use crate::options::listen::WhenFull;

impl EventLoop<'_> {
    /// Accepts clients of a listener, at most a turn's budget of them.
    pub(super) fn accept_clients(&mut self, slot: u32) -> SourceState {
        if let Some(ListenerEntry { socket: Some(socket), reserve, .. }) = self.context.listeners.get_mut(slot as usize)
            && reserve.is_short()
        {
            // Without a free descriptor, the listener is served with what is left of it.
            let _ = reserve.refill(socket);
        }
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
            let now = self.context.now;
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
                // During a drain the listener stays open for clients that wait for room. Without such a client it
                // closes: a new process needs its port.
                if matches!(entry.source.drain, SourceDrain::Left(_)) && !socket.has_client() {
                    return SourceState::WouldBlock;
                }
                if entry.full_log.allow(now) {
                    let (address, connections_max) = (&entry.address, entry.connections_max);
                    log::info!(
                        "{address}: the limit of {connections_max} connections is reached; new clients wait in the backlog"
                    );
                }
                let connections = entry.connections.into();
                self.context.note(EntryKind::Full, SlotKey::Listener(slot), [connections, 0]);
                return SourceState::HandlerFull;
            }
            match socket.accept() {
                Ok((stream, peer)) => {
                    entry.source.backoff.on_success();
                    entry.source.drain.take(1);
                    if !is_full && self.context.try_count_accepted(slot, peer) {
                        self.open_accepted(slot, stream, peer);
                        continue;
                    }
                    self.context.note(EntryKind::Accept, SlotKey::Listener(slot), [stream.descriptor() as u64, 0]);
                    let entry = &mut self.context.listeners[slot as usize];
                    entry.reserve.close_client(entry.socket.as_ref(), stream);
                    self.context.count_refused(slot, peer, is_full);
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
    fn on_accept_error(&mut self, slot: u32, error: &io::Error) -> Option<SourceState> {
        self.context.note_error(EntryKind::Accept, SlotKey::Listener(slot), [0; 2], error);
        let ListenerEntry { socket, reserve, .. } = &mut self.context.listeners[slot as usize];
        if reserve.has_size()
            && is_out_of_descriptors(error)
            && let Some(socket) = socket
        {
            // With no descriptor left, accept(2) fails also without a client.
            let has_client = socket.has_client();
            if !has_client || reserve.release() {
                self.context.stats.accept_errors += 1;
                return (!has_client).then_some(SourceState::WouldBlock);
            }
        }
        self.on_source_error(SlotKey::Listener(slot), error)
    }
}

impl Context {
    /// Counts a client that was refused by the total limit, or by the limit per source.
    fn count_refused(&mut self, listener: u32, peer: Option<SocketAddr>, is_full: bool) {
        self.note(EntryKind::Refused, SlotKey::Listener(listener), [u64::from(!is_full), 0]);
        let (stats, occurrences) = (&mut self.stats, self.repeated_logs.occurrences_mut());
        let (count, log) = if is_full {
            (&mut stats.refused_full, &mut occurrences.refused_full)
        } else {
            (&mut stats.refused_source, &mut occurrences.refused_source)
        };
        *count += 1;
        log.add(PackedAddress::from(peer));
    }
}
