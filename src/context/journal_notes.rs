//! The notes of the journal that need more than their place knows.
//!
//! Each function returns at once while nothing is noted.

use std::io;
use std::time::Duration;

use crate::address::Address;
use crate::context::Context;
use crate::ids::{SlotKey, Token, to_slot};
use crate::net::{Event, Stream};
use crate::observe::entry::{Callback, Entry, EntryKind, Level, Object};

impl Context {
    /// Notes what happened to an object.
    #[inline]
    pub(crate) fn note(&mut self, kind: EntryKind, key: SlotKey, numbers: [u64; 2]) {
        if self.journal.has_all() {
            let generation = self.generation(key);
            self.journal.note(kind, key, generation, numbers);
        }
    }

    /// Notes the begin of a callback, and reads the clock for it.
    #[inline]
    pub(crate) fn note_callback_begin(&mut self, callback: Callback, key: SlotKey, input: u64) {
        if self.journal.has_all() {
            self.note_callback(EntryKind::CallbackBegin, callback, key, input);
        }
    }

    /// Notes the end of a callback; `None` if it panicked.
    #[inline]
    pub(crate) fn note_callback_end(&mut self, callback: Callback, key: SlotKey, consumed: Option<usize>) {
        if self.journal.has_all() {
            let consumed = consumed.map_or(u64::MAX, |consumed| consumed as u64);
            self.note_callback(EntryKind::CallbackEnd, callback, key, consumed);
        }
    }

    /// The same for a callback that belongs to no object: a job, or `on_start` of a handler.
    pub(crate) fn note_loop_callback(&mut self, kind: EntryKind, callback: Callback, object: Object, number: u64) {
        if self.journal.has_all() {
            let now = self.clock().as_nanos();
            self.journal.note_callback(Entry::new(kind, object, 0, 0), now, callback, number);
        }
    }

    /// Notes a message: 0 for a job, 1 for a note with its value.
    pub(crate) fn note_message(&mut self, kind: u64, value: u64) {
        if self.journal.has_all() {
            self.journal.note_loop(EntryKind::Message, [kind, value]);
        }
    }

    #[cold]
    #[inline(never)]
    fn note_callback(&mut self, kind: EntryKind, callback: Callback, key: SlotKey, number: u64) {
        let (generation, now) = (self.generation(key), self.clock().as_nanos());
        let entry = Entry::new(kind, key.into(), key.kind_and_slot().1, generation);
        self.journal.note_callback(entry, now, callback, number);
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
        let Self { journal, listeners, udp_sockets, connections, .. } = self;
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
        for (slot, entry) in &*connections {
            let descriptor = entry.stream.as_ref().map_or(0, Stream::descriptor) as u64;
            let (key, numbers) = (SlotKey::Connection(to_slot(slot)), [descriptor, entry.listener.into()]);
            let peer = || Address::of_peer(entry.state.peer.socket_addr());
            journal.note_address(EntryKind::Existing, key, entry.generation, numbers, peer);
        }
    }

    /// Notes that a source pauses after an error.
    pub(crate) fn note_backoff(&mut self, key: SlotKey, pause: Duration, error: &io::Error) {
        if self.journal.has_all() {
            let (generation, pause) = (self.generation(key), usize::try_from(pause.as_nanos()).unwrap_or(usize::MAX));
            self.journal.note_failure(EntryKind::Backoff, key, generation, pause as u64, error);
        }
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
