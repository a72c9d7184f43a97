//! An observer that keeps all entries with their details.

use std::cell::RefCell;
use std::net::SocketAddr;

use halloo::EventLoop;
use halloo::observe::{CLOSE_REASONS, Callback, Detail, Entry, EntryKind, Level, Object, TurnEntries};

/// The entries that an observer has got, turn by turn.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) turns: RefCell<Vec<Vec<Note>>>,
}

/// An entry with its detail.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) entry: Entry,
    pub(super) address: Option<SocketAddr>,
    pub(super) payload: Option<Vec<u8>>,
}

impl Notes {
    /// Returns a loop that notes everything.
    pub(super) fn recorded_loop(&self) -> EventLoop<'_> {
        let mut events = EventLoop::new().expect("a loop");
        events.journal_level(Level::All);
        events.set_observer(|turn| self.add(turn));
        events
    }

    pub(super) fn add(&self, turn: &TurnEntries<'_>) {
        let notes = turn.entries.iter().map(|entry| Note { entry: *entry, address: None, payload: None });
        let mut notes: Vec<Note> = notes.collect();
        for (index, detail) in turn.details {
            let note = &mut notes[*index as usize];
            match detail {
                Detail::Address(address) => note.address = Some(*address),
                Detail::Payload { start, len } => {
                    note.payload = Some(turn.payload[*start as usize..][..*len as usize].to_vec());
                }
                other => panic!("no detail of this test: {other:?}"),
            }
        }
        self.turns.borrow_mut().push(notes);
    }

    pub(super) fn all(&self) -> Vec<Note> {
        self.turns.borrow().concat()
    }

    pub(super) fn of_kind(&self, kind: EntryKind) -> Vec<Note> {
        self.all().into_iter().filter(|note| note.entry.kind == kind).collect()
    }

    /// The entries about one kind of object, in words.
    pub(super) fn words_of(&self, object: Object) -> Vec<String> {
        self.all().iter().filter(|note| note.entry.object == object).map(|note| words(&note.entry)).collect()
    }
}

/// An entry in words: callbacks and close reasons by name, numbers where they do not depend on the machine.
fn words(entry: &Entry) -> String {
    let [first, second] = entry.numbers;
    let callback = Callback::from_index(first).map_or("none", Callback::as_str);
    let reason = usize::try_from(first).ok().and_then(|index| CLOSE_REASONS.get(index));
    let numbers = match entry.kind {
        EntryKind::CallbackBegin | EntryKind::CallbackEnd => format!(" {callback} {second}"),
        EntryKind::Closed => reason.map(|reason| format!(" {reason}")).unwrap_or_default(),
        EntryKind::Write => format!(" {first} of {second}"),
        EntryKind::Read if entry.errno().is_some() => " would-block".to_owned(),
        EntryKind::Read
        | EntryKind::Readiness
        | EntryKind::ReceiveBatch
        | EntryKind::DatagramIn
        | EntryKind::SendBatch
        | EntryKind::DatagramOut => format!(" {first}"),
        _ => String::new(),
    };
    format!("{}{numbers}", entry.kind)
}
