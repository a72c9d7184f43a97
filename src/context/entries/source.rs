//! When a listener, UDP socket or watch is served next.

use crate::context::Context;
use crate::context::loop_state::LoopState;
use crate::ids::{Key, SlotKey, to_slot};
use crate::limits;
use crate::net::backoff::Backoff;

/// What the entries of listeners, UDP sockets and watches share.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) generation: u64,
    pub(crate) state: SourceState,
    pub(crate) backoff: Backoff,
    pub(crate) drain: SourceDrain,
}

/// How far a drain of the loop has come with a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum SourceDrain {
    /// It has not begun.
    #[default]
    No,
    /// It still takes so many clients or datagrams: those that were queued when it began.
    Left(u32),
    /// They have been taken; or it was opened since.
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

/// What a source waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum SourceState {
    /// The poll.
    #[default]
    WouldBlock,
    /// Its turn: it is in the ready queue. The budget of the last one is spent, or an event has come.
    Ready,
    /// Room with its handler.
    HandlerFull,
    /// Its deadline, or a free descriptor.
    BackingOff,
}

impl Context {
    /// The source that is to stand in a slot.
    pub(crate) fn new_source(&self, key: Key) -> Source {
        let is_draining = matches!(self.loop_state, LoopState::Draining(_));
        let drain = if is_draining { SourceDrain::Done } else { SourceDrain::No };
        Source { generation: key.generation, drain, ..Source::default() }
    }

    /// A listener, UDP socket or watch that is open.
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

    /// The listeners and UDP sockets that are open.
    pub(crate) fn source_keys(&self) -> Vec<SlotKey> {
        let listeners = self.listeners.iter().filter(|(_, entry)| entry.socket.is_some());
        let listeners = listeners.map(|(slot, _)| SlotKey::Listener(to_slot(slot)));
        let udp_sockets = self.udp_sockets.iter().filter(|(_, entry)| entry.is_open);
        let udp_sockets = udp_sockets.map(|(slot, _)| SlotKey::UdpSocket(to_slot(slot)));
        listeners.chain(udp_sockets).collect()
    }

    /// Has a source served, whatever it waits for.
    pub(crate) fn make_ready(&mut self, key: SlotKey) {
        if let Some(source) = self.source(key)
            && source.state != SourceState::Ready
        {
            source.state = SourceState::Ready;
            self.deadlines.disarm(key);
            self.ready_sources.push_back(key);
        }
    }

    /// Notes that a closed connection may let a source go on, if it is a listener.
    pub(crate) fn hold_up(&mut self, key: SlotKey) {
        if let SlotKey::Listener(slot) = key
            && !self.held_up_listeners.contains(&slot)
        {
            self.held_up_listeners.push(slot);
        }
    }

    /// Forgets when a source is served, because it closes.
    pub(crate) fn forget_source(&mut self, key: SlotKey) {
        self.deadlines.disarm(key);
        self.ready_sources.retain(|other| *other != key);
    }

    /// Has the listeners served that wait for room or a descriptor, after a connection was closed.
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

    /// Has every source take what the kernel holds for it, and no more.
    pub(crate) fn begin_source_drain(&mut self) {
        for key in self.source_keys() {
            if let Some(source) = self.source(key) {
                source.drain = SourceDrain::Left(limits::DRAIN_BACKLOG_MAX);
            }
            self.make_ready(key);
        }
    }
}
