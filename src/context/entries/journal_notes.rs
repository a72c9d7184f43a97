//! The notes of the journal that need more than their place knows.
//!
//! Each function returns at once while nothing is noted.

use std::io;

use crate::address::Address;
use crate::context::Context;
use crate::ids::{SlotKey, Token, to_slot};
use crate::net::recv_batch::RecvMeta;
use crate::net::{Event, Stream};
use crate::observe::entry::{Callback, Entry, EntryKind, Level, Object};
use crate::state::timestamp::Timestamp;

impl Context {
    /// Notes what happened to an object.
    #[inline]
    pub(crate) fn note(&mut self, kind: EntryKind, key: SlotKey, numbers: [u64; 2]) {
        if self.journal.has_all() {
            self.note_now(kind, key, numbers, None);
        }
    }

    /// Notes a message: 0 for a job, 1 for a note with its value.
    pub(crate) fn note_message(&mut self, kind: u64, value: u64) {
        if self.journal.has_all() {
            self.journal.note_loop(EntryKind::Message, [kind, value]);
        }
    }

    /// Notes the begin of a callback, with the time of the last clock reading. The calls since then take microseconds, and
    /// a reading would cost a tenth of that. Without a key the callback belongs to no object. Returns the entry.
    #[inline]
    pub(crate) fn note_callback_begin(&mut self, callback: Callback, key: Option<SlotKey>, input: u64) -> Entry {
        let kind = EntryKind::CallbackBegin;
        let entry = match key {
            Some(key) => Entry::new(kind, key.into(), key.kind_and_slot().1, self.generation(key)),
            None if callback == Callback::Start => Entry::new(kind, Object::Handler, 0, 0),
            None => Entry::new(kind, Object::Loop, 0, 0),
        };
        self.journal.push(entry.numbers([callback as u64, input]));
        entry
    }

    /// Notes the end of a callback, and reads the clock for it. `begin` is its first entry.
    #[inline]
    pub(crate) fn note_callback_end(&mut self, begin: Entry, callback: Callback, number: u64) {
        self.update_journal_time();
        let end = Entry { kind: EntryKind::CallbackEnd, ..begin };
        self.journal.push(end.numbers([callback as u64, number]));
    }

    /// Notes an event of the poll: for the object in its slot, or for an object that is gone.
    #[cold]
    pub(crate) fn note_event(&mut self, event: &Event) {
        if event.token == Token::WAKE {
            return self.journal.note_loop(EntryKind::Readiness, [1, 0]);
        }
        let flags = [event.readable, event.writable, event.read_to_end, event.error, event.hang_up];
        let flags = flags.into_iter().enumerate().map(|(bit, is_set)| u64::from(is_set) << bit).sum();
        let key = event.token.key();
        let generation = self.generation(key);
        // A callback of this turn may have removed a source. A connection is closed only when it is served.
        let is_removed = !matches!(key, SlotKey::Connection(_)) && self.source(key).is_none();
        let is_stale = is_removed || !event.token.matches(generation);
        let kind = if is_stale { EntryKind::StaleEvent } else { EntryKind::Readiness };
        self.journal.note(kind, key, generation, [flags, event.token.0 & u64::from(u32::MAX)]);
    }

    /// The generation of the object in a slot; 0 if there is none.
    fn generation(&self, key: SlotKey) -> u64 {
        let generation = match key {
            SlotKey::Connection(slot) => self.connections.get(slot as usize).map(|entry| entry.generation),
            SlotKey::Listener(slot) => self.listeners.get(slot as usize).map(|entry| entry.source.generation),
            SlotKey::UdpSocket(slot) => self.udp_sockets.get(slot as usize).map(|entry| entry.source.generation),
            SlotKey::Timer(slot) => self.timers.generation(slot),
            #[cfg(unix)]
            SlotKey::Watch(slot) => self.watches.get(slot as usize).map(|entry| entry.source.generation),
        };
        generation.unwrap_or(0)
    }

    /// Notes every object that exists, at the start of a recording.
    #[cold]
    pub(crate) fn note_existing(&mut self) {
        let Self { journal, listeners, udp_sockets, .. } = self;
        for (slot, entry) in &*listeners {
            if let Some(socket) = &entry.socket {
                let (key, numbers) = (SlotKey::Listener(to_slot(slot)), [socket.descriptor() as u64, 0]);
                journal
                    .note_address(EntryKind::Existing, key, entry.source.generation, numbers, || entry.address.clone());
            }
        }
        for (slot, entry) in &*udp_sockets {
            if let Some(socket) = &entry.socket {
                let (key, numbers) = (SlotKey::UdpSocket(to_slot(slot)), [socket.descriptor() as u64, 0]);
                journal.note_address(EntryKind::Existing, key, entry.source.generation, numbers, || entry.local.into());
            }
        }
        #[cfg(unix)]
        for (slot, entry) in &self.watches {
            let (key, numbers) = (SlotKey::Watch(to_slot(slot)), [entry.descriptor, 0]);
            journal.note(EntryKind::Existing, key, entry.source.generation, numbers);
        }
        for slot in 0..self.slots_end() {
            if self.connections.contains(slot as usize) {
                self.note_opened(EntryKind::Existing, slot);
            }
        }
    }

    /// Notes a datagram that was received.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_datagram_in(&mut self, key: SlotKey, payload: &[u8], meta: &RecvMeta) {
        let (kind, generation) = (EntryKind::DatagramIn, self.generation(key));
        self.journal.note_datagram(kind, key, generation, payload, meta.truncated.into(), meta.peer);
    }

    /// Notes a deadline of a connection that is earlier than the one that is set.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_deadline(&mut self, slot: u32, at: Timestamp) {
        let key = SlotKey::Connection(slot);
        if at < self.deadlines.deadline(key) {
            self.note(EntryKind::DeadlineSet, key, [at.as_nanos(), 0]);
        }
    }

    /// Notes an accept, and the slot of the new connection.
    #[cold]
    pub(crate) fn note_accepted(&mut self, listener: u32, slot: u32) {
        let descriptor = self.connections[slot as usize].stream.as_ref().map_or(0, Stream::descriptor) as u64;
        self.note(EntryKind::Accept, SlotKey::Listener(listener), [descriptor, 0]);
        self.note_opened(EntryKind::Opened, slot);
    }

    /// Notes that a connection has its slot.
    #[cold]
    pub(crate) fn note_opened(&mut self, kind: EntryKind, slot: u32) {
        let entry = &self.connections[slot as usize];
        let descriptor = entry.stream.as_ref().map_or(0, Stream::descriptor) as u64;
        let (key, numbers) = (SlotKey::Connection(slot), [descriptor, entry.listener.into()]);
        let peer = || Address::of_peer(entry.state.peer.socket_addr());
        self.journal.note_address(kind, key, entry.generation, numbers, peer);
    }

    /// Notes a failed call, or a consequence of it.
    #[inline]
    pub(crate) fn note_error(&mut self, kind: EntryKind, key: SlotKey, numbers: [u64; 2], error: &io::Error) {
        if self.journal.has_all() {
            self.note_now(kind, key, numbers, Some(error));
        }
    }

    /// Apart from the check, which is inlined: so the callers keep their registers.
    #[cold]
    #[inline(never)]
    fn note_now(&mut self, kind: EntryKind, key: SlotKey, numbers: [u64; 2], error: Option<&io::Error>) {
        let generation = self.generation(key);
        match error {
            None => self.journal.note(kind, key, generation, numbers),
            Some(error) => self.journal.note_error(kind, key, generation, numbers, error),
        }
    }

    /// Finds out how callbacks are called, after a change of the level or of `catches_panics`.
    pub(crate) fn update_calls(&mut self) {
        self.calls_directly = !self.catches_panics && !self.journal.has_all();
    }

    /// Sets the time of the entries that follow to the clock.
    pub(crate) fn update_journal_time(&mut self) {
        let now = self.clock().as_nanos();
        self.journal.set_time(now);
    }

    /// Sets how much the journal notes, from the next turn on. [`Handle::journal_level`](crate::Handle::journal_level)
    /// does the same from other threads.
    pub fn journal_level(&mut self, level: Level) {
        self.journal.request(level);
    }
}
