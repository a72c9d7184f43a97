//! The recording of a simulation, in memory: its loop and its peers.
//!
//! Entries are added when they are noted, so their order is exact. Time never runs backwards in it.

use crate::observe::entry::{Entry, EntryKind, Object};
use crate::observe::journal::Detail;
use crate::observe::recorder::{Before, address_in};
use crate::observe::recording::LoopRecording;

/// The number of entries that are kept by default. Up to twice as many are in memory.
const ENTRIES_KEPT: usize = 4_096;

/// What the loop of a simulation and its peers have noted: the last part, or everything.
#[derive(Default)]
pub(crate) struct SimRecording {
    recording: LoopRecording,
    keeps_all: bool,
    shows_all: bool,
    /// What existed before the entries that are kept.
    before: Before,
}

impl SimRecording {
    /// Keeps all entries from now on.
    pub(crate) fn keep_all(&mut self) {
        self.keeps_all = true;
    }

    /// Drops the entries so far, and keeps and shows all later ones.
    pub(crate) fn restart(&mut self) {
        self.drop_where(|_| true);
        // The new recording lacks nothing.
        self.recording.entries.clear();
        (self.keeps_all, self.shows_all) = (true, true);
    }

    /// Whether the trace has a line for every entry.
    pub(crate) fn shows_all(&self) -> bool {
        self.shows_all
    }

    /// Adds an entry; returns it with its time, which is no earlier than that of the entry before it.
    pub(crate) fn push(&mut self, entry: Entry) -> Entry {
        let entries = &mut self.recording.entries;
        let last = entries.last().map_or(0, |last| last.nanoseconds);
        let entry = Entry { nanoseconds: entry.nanoseconds.max(last), ..entry };
        entries.push(entry);
        entry
    }

    /// Adds a detail to the last entry.
    pub(crate) fn add_detail(&mut self, detail: Detail) {
        if let Some(last) = self.recording.entries.len().checked_sub(1) {
            self.recording.details.push((last, detail));
        }
    }

    /// Adds bytes of the last entry.
    pub(crate) fn add_payload(&mut self, bytes: &[u8]) {
        let index = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let (start, len) = (index(self.recording.payload.len()), index(bytes.len()));
        self.recording.payload.extend_from_slice(bytes);
        self.add_detail(Detail::Payload { start, len });
    }

    /// The entries, with their details.
    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = (&Entry, &[(usize, Detail)])> {
        self.recording.entries_with_details()
    }

    /// An entry for each object that existed before the entries that are kept, and may still exist.
    pub(crate) fn existing(&self) -> Vec<(Entry, Option<Detail>)> {
        self.before.clone().into_sorted()
    }

    /// A copy, with the objects that existed before it at its start.
    pub(crate) fn to_recording(&self, name: String) -> LoopRecording {
        let mut copy = Self::default();
        let mut entries = self.entries().peekable();
        if let Some((lost, _)) = entries.next_if(|(entry, _)| entry.kind == EntryKind::Lost) {
            copy.push(*lost);
        }
        for (entry, detail) in self.existing() {
            copy.push(entry);
            if let Some(detail) = detail {
                copy.add_detail(detail);
            }
        }
        for (entry, details) in entries {
            copy.copy_entry(*entry, details, &self.recording.payload);
        }
        LoopRecording { name, ..copy.recording }
    }

    /// Forgets old entries if there are many: first turns in which nothing happened, so that a long wait does not
    /// displace what was before it.
    pub(crate) fn trim(&mut self) {
        if self.keeps_all || self.recording.entries.len() < 2 * ENTRIES_KEPT {
            return;
        }
        let (is_quiet, first_kept) = (quiet_turns(&self.recording.entries), self.first_kept());
        self.drop_where(|index| index < first_kept && is_quiet[index]);
        if self.recording.entries.len() > ENTRIES_KEPT + ENTRIES_KEPT / 2 {
            let first_kept = self.first_kept();
            self.drop_where(|index| index < first_kept);
        }
    }

    /// The index of the first entry to keep: the begin of a turn, unless the turns are long.
    fn first_kept(&self) -> usize {
        let entries = &self.recording.entries;
        let first = entries.len() - ENTRIES_KEPT;
        let ends = entries[first..][..ENTRIES_KEPT / 2].iter().position(|entry| entry.kind == EntryKind::TurnEnd);
        ends.map_or(first, |ends| first + ends + 1)
    }

    /// Drops entries by index, and notes at each place how many are missing.
    fn drop_where(&mut self, is_dropped: impl Fn(usize) -> bool) {
        let mut old = std::mem::take(self);
        let mut kept = Self { before: std::mem::take(&mut old.before), ..Self::default() };
        let mut missing = 0;
        let note_missing = |kept: &mut Self, missing: &mut u64, nanoseconds| {
            if *missing > 0 {
                let entry = Entry::new(EntryKind::Lost, Object::Loop, 0, 0).numbers([*missing, 0]);
                kept.push(Entry { nanoseconds, ..entry });
            }
            *missing = 0;
        };
        let mut last = 0;
        for (index, (entry, details)) in old.entries().enumerate() {
            last = entry.nanoseconds;
            if entry.kind == EntryKind::Lost {
                missing += entry.numbers[0];
            } else if is_dropped(index) {
                missing += 1;
                kept.before.add(entry, || address_in(details.iter().map(|(_, detail)| detail)));
            } else {
                note_missing(&mut kept, &mut missing, entry.nanoseconds);
                kept.copy_entry(*entry, details, &old.recording.payload);
            }
        }
        note_missing(&mut kept, &mut missing, last);
        *self = kept;
    }

    fn copy_entry(&mut self, entry: Entry, details: &[(usize, Detail)], payload: &[u8]) {
        self.push(entry);
        for (_, detail) in details {
            match detail {
                Detail::Payload { start, len } => {
                    self.add_payload(&payload[*start as usize..][..*len as usize]);
                }
                other => self.add_detail(other.clone()),
            }
        }
    }
}

/// Marks the entries of turns in which nothing happened: polls without events, and the end of the turn.
fn quiet_turns(entries: &[Entry]) -> Vec<bool> {
    let is_poll =
        |entry: &Entry| entry.kind == EntryKind::PollBegin || entry.kind == EntryKind::PollEnd && entry.numbers[0] == 0;
    let (mut is_quiet, mut begin) = (vec![false; entries.len()], None);
    for (index, entry) in entries.iter().enumerate() {
        if is_poll(entry) {
            begin.get_or_insert(index);
        } else if let Some(begin) = begin.take().filter(|_| entry.kind == EntryKind::TurnEnd) {
            is_quiet[begin..=index].fill(true);
        }
    }
    is_quiet
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn entry(kind: EntryKind, generation: u64, numbers: [u64; 2]) -> Entry {
        let object = if generation == 0 { Object::Loop } else { Object::Connection };
        Entry::new(kind, object, u32::try_from(generation).expect("a slot"), generation).numbers(numbers)
    }

    fn push_turns(recording: &mut SimRecording, turns: usize, events: u64) {
        for _ in 0..turns {
            recording.push(entry(EntryKind::PollBegin, 0, [0; 2]));
            recording.push(entry(EntryKind::PollEnd, 0, [events, 0]));
            recording.push(entry(EntryKind::TurnEnd, 0, [0; 2]));
            recording.trim();
        }
    }

    fn kinds(recording: &SimRecording) -> Vec<EntryKind> {
        recording.entries().map(|(entry, _)| entry.kind).collect()
    }

    #[test]
    fn a_long_wait_does_not_displace_what_was_before_it() {
        let mut recording = SimRecording::default();
        recording.push(entry(EntryKind::Read, 1, [5, 10]));
        push_turns(&mut recording, 100_000, 0);
        let kinds = kinds(&recording);
        assert_eq!(kinds[..2], [EntryKind::Read, EntryKind::Lost]);
        assert!(kinds.len() < 2 * ENTRIES_KEPT);
        let lost = recording.entries().nth(1).expect("an entry").0.numbers[0];
        assert_eq!(lost + kinds.len() as u64 - 2, 300_000);
    }

    #[test]
    fn many_entries_leave_the_last_part_and_what_is_older() {
        let mut recording = SimRecording::default();
        let peer = SocketAddr::from(([10, 0, 0, 9], 4000));
        for generation in 1..4 {
            recording.push(entry(EntryKind::Opened, generation, [0, 2]));
            recording.add_detail(Detail::Address(peer));
            recording.push(entry(EntryKind::Connect, generation, [3 + generation, 0]));
        }
        recording.push(entry(EntryKind::Freed, 2, [0; 2]));
        push_turns(&mut recording, 10_000, 1);
        recording.push(entry(EntryKind::Read, 1, [2, 2]));
        recording.add_payload(b"hi");
        let copy = recording.to_recording(String::from("name"));
        assert_eq!(copy.entries[0].kind, EntryKind::Lost);
        let existing = copy.entries.iter().filter(|entry| entry.kind == EntryKind::Existing);
        assert_eq!(
            existing.map(|entry| (entry.generation, entry.numbers)).collect::<Vec<_>>(),
            [(1, [4, 2]), (3, [6, 2])]
        );
        let last = copy.entries.len() - 1;
        let payload = Detail::Payload { start: 0, len: 2 };
        assert_eq!(copy.details, [(1, Detail::Address(peer)), (2, Detail::Address(peer)), (last, payload)]);
        assert_eq!(copy.payload, b"hi");
        assert_eq!(copy.entries[0].numbers[0] + copy.entries.len() as u64 - 3, 30_008, "all are there or counted");
    }

    #[test]
    fn a_new_recording_has_only_what_comes_after_it_and_what_exists() {
        let mut recording = SimRecording::default();
        recording.push(entry(EntryKind::Opened, 7, [4, 0]));
        recording.restart();
        push_turns(&mut recording, 10_000, 0);
        let copy = recording.to_recording(String::new());
        assert_eq!((copy.entries[0].kind, copy.entries[0].generation), (EntryKind::Existing, 7));
        assert_eq!(copy.entries.len(), 30_001);
    }

    #[test]
    fn time_never_runs_backwards() {
        let mut recording = SimRecording::default();
        recording.push(Entry { nanoseconds: 5, ..entry(EntryKind::PeerSend, 0, [1, 0]) });
        let pushed = recording.push(Entry { nanoseconds: 3, ..entry(EntryKind::Read, 1, [1, 1]) });
        assert_eq!(pushed.nanoseconds, 5);
    }
}
