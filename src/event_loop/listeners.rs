//! Listeners: accepting clients, within limits, whatever accept(2) returns.
//!
//! A listener that stopped accepting before `WouldBlock` is retried without another event.

use std::io;
use std::net::SocketAddr;

use crate::address::PackedAddress;
use crate::context::Context;
use crate::context::listener_entry::ListenerEntry;
use crate::context::source::{SourceDrain, SourceState};
use crate::event_loop::EventLoop;
use crate::ids::SlotKey;
use crate::limits;
use crate::options::listen::WhenFull;
use crate::state::timestamp::Timestamp;
use crate::stats::Stats;

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
            let now = self.context.now;
            let Some(entry) = self.context.listeners.get_mut(slot as usize) else {
                return SourceState::WouldBlock;
            };
            let Some(socket) = &entry.socket else {
                return SourceState::WouldBlock;
            };
            if is_full && entry.when_full == WhenFull::Pause {
                if entry.full_log.allow(now) {
                    let (address, connections_max) = (&entry.address, entry.connections_max);
                    log::info!(
                        "{address}: {connections_max} connections are open, the most allowed: further clients wait"
                    );
                }
                return SourceState::HandlerFull;
            }
            if entry.source.drain == SourceDrain::Left(0) {
                return SourceState::WouldBlock;
            }
            match socket.accept() {
                Ok((stream, peer)) => {
                    entry.source.backoff.on_success();
                    entry.source.drain.take(1);
                    if !is_full && self.context.try_count_source(slot, peer) {
                        self.open_accepted(slot, stream, peer);
                        continue;
                    }
                    drop(stream);
                    let Context { listeners, stats, .. } = &mut self.context;
                    listeners[slot as usize].count_refused(stats, now, peer, is_full);
                }
                Err(error) => {
                    if let Some(result) = self.on_source_error(SlotKey::Listener(slot), &error) {
                        return result;
                    }
                }
            }
        }
        SourceState::Ready
    }
}

impl ListenerEntry {
    /// Counts a client that was refused for want of room, in all or for its source, and logs it now and then.
    fn count_refused(&mut self, stats: &mut Stats, now: Timestamp, peer: Option<SocketAddr>, is_full: bool) {
        let (count, whose) =
            if is_full { (&mut stats.refused_full, "in all") } else { (&mut stats.refused_source, "of its source") };
        *count += 1;
        if self.refused_log.allow(now) {
            log::info!(
                "{}: refused, the most connections {whose} are open; so far {count} were refused so",
                PackedAddress::from(peer)
            );
        }
    }
}
