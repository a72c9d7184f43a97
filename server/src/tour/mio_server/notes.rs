//! The journal of a server on mio, with the entries of halloo's loop.
//!
//! It keeps all entries up to a maximum, and counts the rest.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use halloo::observe::{Callback, Detail, Entry, EntryKind, LoopRecording, Object, Recording};

/// Entries that are kept. Each takes 40 bytes, and 200 bytes in a file.
const ENTRIES_MAX: usize = 400_000;

/// The entries of a server, shared by everything that notes some.
#[derive(Clone)]
pub(crate) struct Notes(Rc<RefCell<Journal>>);

struct Journal {
    started: Instant,
    entries: Vec<Entry>,
    details: Vec<(usize, Detail)>,
    lost: u64,
}

impl Notes {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Journal {
            started: Instant::now(),
            entries: Vec::new(),
            details: Vec::new(),
            lost: 0,
        })))
    }

    /// Adds an entry with the current time.
    pub(crate) fn add(&self, entry: Entry) {
        self.add_entry(entry, None);
    }

    /// Adds an entry with an address.
    pub(crate) fn add_with_address(&self, entry: Entry, address: SocketAddr) {
        self.add_entry(entry, Some(Detail::Address(address)));
    }

    fn add_entry(&self, entry: Entry, detail: Option<Detail>) {
        let mut journal = self.0.borrow_mut();
        if journal.entries.len() == ENTRIES_MAX {
            journal.lost += 1;
            return;
        }
        let (index, time) = (journal.entries.len(), journal.started.elapsed());
        journal.details.extend(detail.map(|detail| (index, detail)));
        journal.entries.push(entry.at(time));
    }

    /// Runs a part of the server as a callback of an object.
    pub(crate) fn callback<T>(&self, callback: Callback, object: Noted, input: usize, run: impl FnOnce() -> T) -> T {
        self.add(object.entry(EntryKind::CallbackBegin).numbers([callback as u64, input as u64]));
        let result = run();
        self.add(object.entry(EntryKind::CallbackEnd).numbers([callback as u64, input as u64]));
        result
    }

    /// The recording of everything that was noted.
    pub(crate) fn recording(&self, name: &str) -> Recording {
        let journal = self.0.borrow();
        let mut recorded = LoopRecording::default();
        name.clone_into(&mut recorded.name);
        recorded.entries.clone_from(&journal.entries);
        recorded.details.clone_from(&journal.details);
        if let (Some(last), true) = (journal.entries.last(), journal.lost > 0) {
            let lost = Entry::new(EntryKind::Lost, Object::Loop, 0, 0).numbers([journal.lost, 0]);
            recorded.entries.push(lost.at(last.time()));
        }
        let mut recording = Recording::default();
        recording.loops.push(recorded);
        recording
    }
}

/// The object that an entry is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) object: Object,
    pub(crate) slot: u32,
    pub(crate) generation: u64,
}

impl Noted {
    pub(crate) const LISTENER: Self = Self { object: Object::Listener, slot: 0, generation: 1 };
    pub(crate) const UDP_SOCKET: Self = Self { object: Object::UdpSocket, slot: 0, generation: 2 };
    pub(crate) const LOOP: Self = Self { object: Object::Loop, slot: 0, generation: 0 };

    /// An entry about it.
    pub(crate) fn entry(self, kind: EntryKind) -> Entry {
        Entry::new(kind, self.object, self.slot, self.generation)
    }
}
