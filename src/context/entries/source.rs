//! The readiness, backoff and drain of a listener, UDP socket or watch.

use crate::context::Context;
use crate::context::loop_state::LoopState;
use crate::ids::{Key, SlotKey, to_slot};
use crate::limits;
use crate::net::backoff::Backoff;

/// The common part of the entries of listeners, UDP sockets and watches.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) generation: u64,
    pub(crate) state: SourceState,
    pub(crate) backoff: Backoff,
    pub(crate) drain: SourceDrain,
}

/// The progress of a drain on a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum SourceDrain {
    /// No drain has begun.
    #[default]
    No,
    /// The number of clients or datagrams that it still takes. It bounds those that were queued when the drain began.
    Left(u32),
    /// Those are taken, or the source was opened during the drain.
    Done,
}

impl SourceDrain {
    /// Counts clients or datagrams that were taken.
    pub(crate) fn take(&mut self, count: u32) {
        if let Self::Left(left) = self {
            *left = left.saturating_sub(count);
        }
    }
}

/// The state of a source: what it waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum SourceState {
    /// An event of the poll.
    #[default]
    WouldBlock,
    /// Its place in the ready queue: its last budget was spent, or an event arrived.
    Ready,
    /// Fewer connections of its handler.
    HandlerFull,
    /// Its deadline, or a free descriptor.
    BackingOff,
}

impl Context {
    /// Creates the source for a slot.
    pub(crate) fn new_source(&self, key: Key) -> Source {
        let is_draining = matches!(self.loop_state, LoopState::Draining(_));
        let drain = if is_draining { SourceDrain::Done } else { SourceDrain::No };
        Source { generation: key.generation, drain, ..Source::default() }
    }

    /// Returns an open listener, UDP socket or watch.
    pub(crate) fn source(&mut self, key: SlotKey) -> Option<&mut Source> {
        match key {
            SlotKey::Listener(slot) => {
                let entry = self.listeners.get_mut(slot as usize)?;
                entry.socket.is_some().then_some(&mut entry.source)
            }
            SlotKey::UdpSocket(slot) => {
                let entry = self.udp_sockets.get_mut(slot as usize)?;
                entry.is_open.then_some(&mut entry.source)
            }
            #[cfg(unix)]
            SlotKey::Watch(slot) => {
                let entry = self.watches.get_mut(slot as usize)?;
                entry.is_open.then_some(&mut entry.source)
            }
            SlotKey::Connection(_) | SlotKey::Timer(_) => None,
        }
    }

    /// Returns the open listeners and UDP sockets.
    pub(crate) fn source_keys(&self) -> Vec<SlotKey> {
        let listeners = self.listeners.iter().filter(|(_, entry)| entry.socket.is_some());
        let listeners = listeners.map(|(slot, _)| SlotKey::Listener(to_slot(slot)));
        let udp_sockets = self.udp_sockets.iter().filter(|(_, entry)| entry.is_open);
        let udp_sockets = udp_sockets.map(|(slot, _)| SlotKey::UdpSocket(to_slot(slot)));
        listeners.chain(udp_sockets).collect()
    }

    /// Makes a source ready, whatever it waits for.
    pub(crate) fn make_ready(&mut self, key: SlotKey) {
        if let Some(source) = self.source(key)
            && source.state != SourceState::Ready
        {
            source.state = SourceState::Ready;
            self.deadlines.disarm(key);
            self.ready_sources.push_back(key);
        }
    }

    /// Records that a closed connection may let a listener continue.
    pub(crate) fn hold_up(&mut self, key: SlotKey) {
        if let SlotKey::Listener(slot) = key
            && !self.held_up_listeners.contains(&slot)
        {
            self.held_up_listeners.push(slot);
        }
    }

    /// Removes a closing source from the deadlines and the ready queue.
    pub(crate) fn forget_source(&mut self, key: SlotKey) {
        self.deadlines.disarm(key);
        self.ready_sources.retain(|other| *other != key);
    }

    /// Makes listeners ready that wait for room or a descriptor, after a connection was closed.
    pub(crate) fn retry_held_up_listeners(&mut self) {
        while let Some(slot) = self.held_up_listeners.pop() {
            let key = SlotKey::Listener(slot);
            let is_held_up =
                |source: &mut Source| matches!(source.state, SourceState::HandlerFull | SourceState::BackingOff);
            // planted: no-retry-when-there-is-room
            if self.source(key).is_some_and(is_held_up) {
                self.make_ready(key);
            }
        }
    }

    /// Starts the drain of every source: it takes what is queued in the kernel, and no more.
    pub(crate) fn begin_source_drain(&mut self) {
        for key in self.source_keys() {
            if let Some(source) = self.source(key) {
                source.drain = SourceDrain::Left(limits::DRAIN_BACKLOG_MAX);
            }
            self.make_ready(key);
        }
    }
}
