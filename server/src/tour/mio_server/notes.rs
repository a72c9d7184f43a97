//! The journal of a server of the tour.
//!
//! It has the entries of halloo's loop, and bounded memory: beginning and end are kept, and `Lost` is between them.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use halloo::observe::{Callback, Detail, Entry, EntryKind, LoopRecording, Object, Recording, TurnEntries};

/// Entries of the beginning, and of the end. Together they make a file of 8 MB at most.
const ENTRIES_OF_BEGINNING: usize = 16_000;
const ENTRIES_OF_END: usize = 16_000;

/// Entries of one turn that are kept of its beginning, and of its end. A turn without a limit has a million.
const STEPS_OF_TURN: usize = 1_000;

/// The entries of a server, shared by everything that notes some.
#[derive(Clone)]
pub(crate) struct Notes {
    started: Instant,
    journal: Rc<RefCell<Journal>>,
}

/// An entry with its address.
type Note = (Entry, Option<Detail>);

#[derive(Default)]
struct Journal {
    turn: TurnNotes,
    beginning: Vec<Note>,
    /// The last turns.
    end: VecDeque<Vec<Note>>,
    end_len: usize,
    /// How many entries between the beginning and the end are missing.
    lost: u64,
    /// Objects that missing entries have opened, and that still exist.
    opened: BTreeMap<(Object, u32), Note>,
}

/// The entries of the turn that goes on.
#[derive(Default)]
struct TurnNotes {
    notes: Vec<Note>,
    /// Steps that are kept only if the turn ends soon.
    last_steps: VecDeque<Note>,
    lost: u64,
}

impl TurnNotes {
    /// Adds an entry. In a long turn, what opens or closes an object is kept, and so are the last other steps.
    fn add(&mut self, note: Note) {
        if self.notes.len() >= STEPS_OF_TURN && is_repeated(note.0.kind) {
            self.last_steps.push_back(note);
            if self.last_steps.len() > STEPS_OF_TURN {
                self.last_steps.pop_front();
                self.lost += 1;
            }
        } else {
            self.take_last_steps();
            self.notes.push(note);
        }
    }

    fn take_last_steps(&mut self) {
        if let (Some((first, _)), true) = (self.last_steps.front(), self.lost > 0) {
            let lost = Entry::new(EntryKind::Lost, Object::Loop, 0, 0).numbers([self.lost, 1]);
            self.notes.push((lost.at(first.time()), None));
        }
        self.lost = 0;
        self.notes.extend(self.last_steps.drain(..));
    }

    fn take(&mut self) -> Vec<Note> {
        self.take_last_steps();
        std::mem::take(&mut self.notes)
    }
}

/// Whether a connection has many entries of this kind, and none of them opens or closes it.
fn is_repeated(kind: EntryKind) -> bool {
    use EntryKind::{CallbackBegin, CallbackEnd, DatagramIn, DatagramOut, Read, ReceiveBatch, SendBatch, Write};
    matches!(kind, Read | Write | CallbackBegin | CallbackEnd | ReceiveBatch | DatagramIn | SendBatch | DatagramOut)
}

impl Journal {
    fn add(&mut self, note: Note) {
        let is_end = note.0.kind == EntryKind::TurnEnd;
        self.turn.add(note);
        if is_end {
            self.end_turn();
        }
    }

    /// Keeps the turn, and drops the oldest turns of the end.
    fn end_turn(&mut self) {
        let turn = self.turn.take();
        if self.end.is_empty() && self.beginning.len() < ENTRIES_OF_BEGINNING {
            self.beginning.extend(turn);
            return;
        }
        self.end_len += turn.len();
        self.end.push_back(turn);
        while self.end_len > ENTRIES_OF_END && self.end.len() > 1 {
            for note in self.end.pop_front().unwrap_or_default() {
                self.end_len -= 1;
                self.lose(note);
            }
        }
    }

    fn lose(&mut self, (entry, detail): Note) {
        let key = (entry.object, entry.slot);
        match entry.kind {
            EntryKind::Opened => _ = self.opened.insert(key, (entry, detail)),
            EntryKind::Freed => _ = self.opened.remove(&key),
            _ => {}
        }
        self.lost += if entry.kind == EntryKind::Lost { entry.numbers[0] } else { 1 };
    }

    /// All that is kept, in its order.
    fn into_notes(mut self) -> impl Iterator<Item = Note> {
        let turn = self.turn.take();
        let end: Vec<Note> = self.end.into_iter().flatten().chain(turn).collect();
        let mut gap = Vec::new();
        if let (Some((first, _)), true) = (end.first(), self.lost > 0) {
            let time = first.time();
            let lost = Entry::new(EntryKind::Lost, Object::Loop, 0, 0).numbers([self.lost, 0]);
            gap.push((lost.at(time), None));
            gap.extend(self.opened.into_values().map(|(opened, detail)| {
                let existing = Entry { kind: EntryKind::Existing, ..opened };
                (existing.at(time), detail)
            }));
        }
        self.beginning.into_iter().chain(gap).chain(end)
    }
}

impl Notes {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), journal: Rc::default() }
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
        self.journal.borrow_mut().add((entry.at(self.started.elapsed()), detail));
    }

    /// Adds what halloo's loop has noted in a turn.
    pub(crate) fn add_turn(&self, turn: &TurnEntries<'_>) {
        let mut journal = self.journal.borrow_mut();
        let mut details = turn.details.iter().peekable();
        for (index, entry) in turn.entries.iter().enumerate() {
            let detail = details.next_if(|(of, _)| *of as usize == index).map(|(_, detail)| detail.clone());
            journal.add((*entry, detail));
        }
    }

    /// Runs a part of the server as a callback of an object.
    pub(crate) fn callback<T>(&self, callback: Callback, object: Noted, input: usize, run: impl FnOnce() -> T) -> T {
        self.add(object.entry(EntryKind::CallbackBegin).numbers([callback as u64, input as u64]));
        let result = run();
        self.add(object.entry(EntryKind::CallbackEnd).numbers([callback as u64, input as u64]));
        result
    }

    /// Takes everything that was noted.
    pub(crate) fn take_recording(&self, name: &str) -> Recording {
        let mut recorded = LoopRecording::default();
        name.clone_into(&mut recorded.name);
        for (index, (entry, detail)) in self.journal.take().into_notes().enumerate() {
            recorded.entries.push(entry);
            recorded.details.extend(detail.map(|detail| (index, detail)));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use halloo::observe::{FindingKind, findings};

    use super::*;

    /// Adds a turn at a time, with so many reads of a connection.
    fn add_turn(journal: &mut Journal, milliseconds: [u64; 2], reads: u64) {
        let [begin, end] = milliseconds.map(Duration::from_millis);
        let read = |number| Entry::new(EntryKind::Read, Object::Connection, 0, 3).numbers([number, 1]).at(begin);
        journal.add((Noted::LOOP.entry(EntryKind::PollEnd).numbers([1, 0]).at(begin), None));
        (0..reads).for_each(|number| journal.add((read(number), None)));
        journal.add((Noted::LOOP.entry(EntryKind::TurnEnd).numbers([1, 0]).at(end), None));
    }

    fn recording(journal: Journal) -> Recording {
        Notes { journal: Rc::new(RefCell::new(journal)), ..Notes::new() }.take_recording("twin")
    }

    /// Entries that are there, and entries that are missing.
    fn counts(recording: &Recording) -> (u64, u64) {
        let (lost, kept): (Vec<&Entry>, Vec<&Entry>) =
            recording.loops[0].entries.iter().partition(|entry| entry.kind == EntryKind::Lost);
        (kept.len() as u64, lost.iter().map(|entry| entry.numbers[0]).sum())
    }

    #[test]
    fn a_long_turn_keeps_its_begin_and_its_end_and_is_a_finding() {
        let mut journal = Journal::default();
        add_turn(&mut journal, [5, 500], 1_000_000);
        let recording = recording(journal);
        let (kept, lost) = counts(&recording);
        assert_eq!((kept, kept + lost), (2 * STEPS_OF_TURN as u64 + 1, 1_000_002));
        let entries = &recording.loops[0].entries;
        assert_eq!(entries[STEPS_OF_TURN].numbers, [lost, 1]);
        let numbers = |range: std::ops::Range<usize>| entries[range].iter().map(|entry| entry.numbers[0]);
        let len = entries.len();
        assert!(numbers(1..1_000).eq(0..999) && numbers(len - 1_001..len - 1).eq(999_000..1_000_000));
        let kinds: Vec<FindingKind> = findings(&recording).iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [FindingKind::LoopLag]);
    }

    #[test]
    fn what_opens_and_closes_in_a_long_turn_stays() {
        let mut journal = Journal::default();
        let read = || (Entry::new(EntryKind::Read, Object::Connection, 0, 3), None);
        (0..5_000).for_each(|_| journal.add(read()));
        journal.add((Entry::new(EntryKind::Opened, Object::Connection, 1, 4), None));
        (0..5_000).for_each(|_| journal.add(read()));
        let recording = recording(journal);
        let entries = &recording.loops[0].entries;
        let losses: Vec<usize> = (0..entries.len()).filter(|index| entries[*index].kind == EntryKind::Lost).collect();
        let opened = entries.iter().position(|entry| entry.kind == EntryKind::Opened).expect("it is kept");
        assert_eq!((losses, opened), (vec![STEPS_OF_TURN, 2 * STEPS_OF_TURN + 2], 2 * STEPS_OF_TURN + 1));
        assert_eq!(counts(&recording), (3 * STEPS_OF_TURN as u64 + 1, 7_000));
    }

    #[test]
    fn a_long_recording_keeps_its_begin_and_its_end_and_what_was_opened_between() {
        let mut journal = Journal::default();
        for turn in 0..20_000 {
            if turn == 10_000 {
                let opened = Entry::new(EntryKind::Opened, Object::Connection, 7, 9).numbers([5, 0]);
                let address = Detail::Address(([127, 0, 0, 1], 4000).into());
                journal.add((opened.at(Duration::from_millis(turn)), Some(address)));
            }
            add_turn(&mut journal, [turn, turn], 3);
        }
        let recording = recording(journal);
        let (kept, lost) = counts(&recording);
        // The entry of kind existing is new.
        assert_eq!(kept + lost, 20_000 * 5 + 2);
        assert!((32_000..32_010).contains(&kept), "{kept}");
        let part = &recording.loops[0];
        assert_eq!(part.entries[ENTRIES_OF_BEGINNING].numbers, [lost, 0]);
        let existing = part.entries[ENTRIES_OF_BEGINNING + 1];
        assert_eq!((existing.kind, existing.slot, existing.numbers), (EntryKind::Existing, 7, [5, 0]));
        assert_eq!(part.details, [(ENTRIES_OF_BEGINNING + 1, Detail::Address(([127, 0, 0, 1], 4000).into()))]);
        let times: Vec<Duration> = part.entries.iter().map(Entry::time).collect();
        assert!(times.is_sorted() && times.last() == Some(&Duration::from_millis(19_999)));
    }
}
