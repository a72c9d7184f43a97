//! Keeps what a loop noted last, in bounded memory.
//!
//! The oldest entries are dropped first; what they said about objects that still exist is kept.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Instant;

use crate::observe::entry::{Entry, EntryKind, Object};
use crate::observe::journal::{Detail, TurnBuffers, TurnEntries};
use crate::observe::recording::LoopRecording;

/// Memory is freed in blocks of about this part of the whole.
const BLOCKS: usize = 16;

/// The least memory of a recorder. Less would be a few turns.
const BYTES_MIN: usize = 64 * 1024;

/// Collects the entries of one loop, as its observer.
///
/// It keeps the last entries that fit its memory. When older ones are dropped, the recording begins with an entry of
/// kind [`Lost`](EntryKind::Lost), which has their number. Entries of kind [`Existing`](EntryKind::Existing) follow it,
/// for what was opened before and still exists. In the steady state it allocates nothing.
///
/// ```
/// use halloo::observe::{Level, Recorder, Recording};
/// use std::cell::RefCell;
/// use std::rc::Rc;
///
/// let recorder = Rc::new(RefCell::new(Recorder::new("main", 16 << 20)));
/// let shared = Rc::clone(&recorder);
/// let mut events = halloo::EventLoop::new()?;
/// events.set_observer(move |turn| shared.borrow_mut().record(turn));
/// events.journal_level(Level::All);
/// let _ = events.turn(Some(std::time::Duration::ZERO))?;
///
/// let recording = Recording::new([recorder.borrow_mut().take()]);
/// assert_eq!(recording.loops[0].name, "main");
/// # let mut file = Vec::new();
/// recording.write_to(&mut file)?; // or `save`
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Without a need for it before the end of the loop, the recorder is borrowed:
/// `events.set_observer(|turn| recorder.record(turn))`. A recorder can be sent to another thread, so the recorders of
/// several loops can become one [`Recording`](super::Recording).
#[derive(Clone, Debug)]
pub struct Recorder {
    name: String,
    bytes_max: usize,
    /// Memory of the blocks: their capacity, not their length.
    bytes: usize,
    /// When the loop was created.
    pub(super) started: Option<Instant>,
    /// The oldest block is the first; the last one is filled.
    blocks: VecDeque<TurnBuffers>,
    /// How many entries were dropped.
    lost: u64,
    before: Before,
}

/// What dropped entries said about objects that still exist.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// By kind and slot.
    existing: BTreeMap<(Object, u32), (Entry, Option<Detail>)>,
    /// The time of the last dropped entry.
    nanoseconds: u64,
}

impl Recorder {
    /// Creates a recorder for the loop with this name. Entries, details and payload take `bytes_max` bytes at most: from
    /// 64 KiB to 4 GiB. An entry takes 40 bytes, an address 40 more. Objects that were opened by dropped entries, and
    /// still exist, come on top, with about 100 bytes each.
    #[must_use]
    pub fn new(name: impl Into<String>, bytes_max: usize) -> Self {
        Self {
            name: name.into(),
            // A detail has 32 bits for the index of its payload.
            bytes_max: bytes_max.clamp(BYTES_MIN, u32::MAX as usize),
            bytes: 0,
            started: None,
            blocks: VecDeque::new(),
            lost: 0,
            before: Before::default(),
        }
    }

    /// Copies the entries of a turn. All turns must be of the same loop.
    pub fn record(&mut self, turn: &TurnEntries<'_>) {
        self.started.get_or_insert(turn.started);
        let (mut from, mut details) = (0, turn.details);
        while from < turn.entries.len() {
            let block_bytes = self.bytes_max / BLOCKS;
            if self.blocks.back().is_none_or(|last| last.bytes() >= block_bytes) {
                self.begin_block();
            }
            let Some(block) = self.blocks.back_mut() else { return };
            let room = block_bytes.saturating_sub(block.bytes()) / size_of::<Entry>();
            let to = turn.entries.len().min(from + room.max(1));
            let (now, later) = details.split_at(details.partition_point(|(index, _)| (*index as usize) < to));
            let capacity = block.capacity();
            block.append(&turn.entries[from..to], now, from, turn.payload);
            self.bytes += block.capacity() - capacity;
            (from, details) = (to, later);
            while self.bytes > self.bytes_max {
                drop(self.drop_oldest_block());
            }
        }
    }

    /// Takes what was recorded, and goes on with an empty recorder. It remembers the objects that exist.
    ///
    /// While the level is [`Off`](super::Level::Off), objects may be opened and closed without an entry. Begin with a new
    /// recorder after that: the loop then notes what exists.
    #[must_use = "this removes what was recorded"]
    pub fn take(&mut self) -> Self {
        let rest = Self::new(self.name.clone(), self.bytes_max);
        let taken = mem::replace(self, rest);
        self.started = taken.started;
        self.before = taken.before.clone();
        for block in &taken.blocks {
            self.before.add_block(block);
        }
        taken
    }

    /// Begins a block in new memory, or in that of the oldest.
    fn begin_block(&mut self) {
        let is_full = self.bytes + self.bytes_max / BLOCKS > self.bytes_max;
        let recycled = is_full.then(|| self.drop_oldest_block()).flatten();
        // A new block is like the last: a list that grows is copied.
        let block = recycled.or_else(|| self.blocks.back().map(TurnBuffers::with_capacity_of)).unwrap_or_default();
        self.bytes += block.capacity();
        self.blocks.push_back(block);
    }

    /// Drops the entries of the oldest block, and returns it, empty.
    fn drop_oldest_block(&mut self) -> Option<TurnBuffers> {
        let mut block = self.blocks.pop_front()?;
        self.bytes -= block.capacity();
        self.lost += block.entries.iter().map(lost_in).sum::<u64>();
        self.before.add_block(&block);
        block.entries.clear();
        block.details.clear();
        block.payload.clear();
        Some(block)
    }

    /// The recording of everything that is kept.
    pub(super) fn into_recording(self) -> LoopRecording {
        let Self { name, blocks, lost, before, .. } = self;
        let mut recording = LoopRecording { name, ..LoopRecording::default() };
        if lost > 0 {
            let lost = Entry::new(EntryKind::Lost, Object::Loop, 0, 0).numbers([lost, 0]);
            recording.entries.push(Entry { nanoseconds: before.nanoseconds, ..lost });
        }
        for (entry, detail) in before.into_sorted() {
            recording.details.extend(detail.map(|detail| (recording.entries.len(), detail)));
            recording.entries.push(entry);
        }
        for block in blocks {
            let (first, start) = (recording.entries.len(), to_u32(recording.payload.len()));
            recording.details.extend(block.details.into_iter().map(|(index, detail)| {
                let detail = match detail {
                    Detail::Payload { start: offset, len } => Detail::Payload { start: start + offset, len },
                    detail => detail,
                };
                (first + index as usize, detail)
            }));
            recording.entries.extend(block.entries);
            recording.payload.extend(block.payload);
        }
        recording
    }
}

/// How many entries are lost with this one: an entry about lost entries stands for them.
fn lost_in(entry: &Entry) -> u64 {
    if entry.kind == EntryKind::Lost { entry.numbers[0] } else { 1 }
}

fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Makes room for more elements. A list that doubled would leave half of the memory unused.
#[inline]
fn reserve<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more.max(list.len() / 4));
    }
}

impl TurnBuffers {
    /// Creates an empty block with room for as much as another has.
    fn with_capacity_of(like: &Self) -> Self {
        Self {
            entries: Vec::with_capacity(like.entries.len()),
            details: Vec::with_capacity(like.details.len()),
            payload: Vec::with_capacity(like.payload.len()),
        }
    }

    /// Appends entries with their details and payload. `first` is the index of the first in its turn.
    fn append(&mut self, entries: &[Entry], details: &[(u32, Detail)], first: usize, payload: &[u8]) {
        let offset = self.entries.len();
        reserve(&mut self.entries, entries.len());
        reserve(&mut self.details, details.len());
        for (index, detail) in details {
            let detail = match detail {
                Detail::Payload { start, len } => {
                    let bytes = payload.get(*start as usize..).and_then(|rest| rest.get(..*len as usize));
                    let (start, bytes) = (to_u32(self.payload.len()), bytes.unwrap_or_default());
                    reserve(&mut self.payload, bytes.len());
                    self.payload.extend_from_slice(bytes);
                    Detail::Payload { start, len: to_u32(self.payload.len()) - start }
                }
                detail => detail.clone(),
            };
            self.details.push((to_u32(*index as usize - first + offset), detail));
        }
        self.entries.extend_from_slice(entries);
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.details) + self.payload.len()
    }

    fn capacity(&self) -> usize {
        let Self { entries, details, payload } = self;
        entries.capacity() * size_of::<Entry>() + details.capacity() * size_of::<(u32, Detail)>() + payload.capacity()
    }
}

impl Before {
    /// Learns from the entries of a block what exists after them.
    fn add_block(&mut self, block: &TurnBuffers) {
        let mut details = block.details.iter().peekable();
        for (index, entry) in block.entries.iter().enumerate() {
            self.add(entry, || {
                while details.next_if(|(of, _)| (*of as usize) < index).is_some() {}
                let of_entry = details.clone().take_while(|(of, _)| *of as usize == index);
                address_in(of_entry.map(|(_, detail)| detail))
            });
        }
    }

    /// Learns from an entry what exists after it. Most entries change nothing: the address is looked up if it is needed.
    #[inline]
    pub(super) fn add(&mut self, entry: &Entry, address: impl FnOnce() -> Option<Detail>) {
        self.nanoseconds = entry.nanoseconds;
        let key = (entry.object, entry.slot);
        match entry.kind {
            EntryKind::Existing
            | EntryKind::Opened
            | EntryKind::Listening
            | EntryKind::Bound
            | EntryKind::Watching
            | EntryKind::PeerConnect => {
                self.existing.insert(key, (*entry, address()));
            }
            // An outbound connection was opened without a descriptor.
            EntryKind::Connect if entry.errno.is_none() => {
                if let Some((opened, _)) = self.existing.get_mut(&key) {
                    opened.numbers[0] = entry.numbers[0];
                }
            }
            EntryKind::Freed => {
                self.existing.remove(&key);
            }
            EntryKind::Closed if entry.object != Object::Connection => {
                self.existing.remove(&key);
            }
            _ => {}
        }
    }

    /// An entry for everything that exists, at the time of the last dropped entry. Listeners come before their
    /// connections.
    pub(super) fn into_sorted(self) -> Vec<(Entry, Option<Detail>)> {
        let mut existing: Vec<_> = self.existing.into_values().collect();
        existing.sort_unstable_by_key(|(entry, _)| (entry.object == Object::Connection, entry.object, entry.slot));
        for (entry, _) in &mut existing {
            let listener = if entry.object == Object::Connection { entry.numbers[1] } else { 0 };
            let numbers = [entry.numbers[0], listener];
            *entry = Entry { kind: EntryKind::Existing, numbers, nanoseconds: self.nanoseconds, ..*entry };
        }
        existing
    }
}

/// The address among the details of an entry.
pub(super) fn address_in<'a>(details: impl IntoIterator<Item = &'a Detail>) -> Option<Detail> {
    details.into_iter().find(|detail| !matches!(detail, Detail::Payload { .. })).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::recording::Recording;

    const BYTES_MAX: usize = 100_000;

    fn record(recorder: &mut Recorder, entries: &[Entry], details: &[(u32, Detail)], payload: &[u8]) {
        recorder.record(&TurnEntries { entries, details, payload, started: Instant::now() });
        assert!(recorder.bytes <= BYTES_MAX, "{} bytes", recorder.bytes);
        let capacity: usize = recorder.blocks.iter().map(TurnBuffers::capacity).sum();
        assert_eq!(recorder.bytes, capacity);
    }

    fn entry(kind: EntryKind, object: Object, slot: u32) -> Entry {
        Entry::new(kind, object, slot, u64::from(slot) + 1)
    }

    /// Records the polls with these numbers, in turns of ten.
    fn record_polls(recorder: &mut Recorder, numbers: std::ops::Range<u64>) {
        let polls: Vec<Entry> = numbers
            .map(|number| Entry {
                nanoseconds: number,
                ..Entry::new(EntryKind::PollBegin, Object::Loop, 0, 0).numbers([number, 0])
            })
            .collect();
        polls.chunks(10).for_each(|turn| record(recorder, turn, &[], &[]));
    }

    fn address(port: u16) -> Detail {
        Detail::Address(([10, 0, 0, 1], port).into())
    }

    #[test]
    fn the_oldest_entries_are_dropped_and_their_number_is_reported() {
        let mut recorder = Recorder::new("main", BYTES_MAX);
        record_polls(&mut recorder, 0..1_000);
        assert_eq!(recorder.clone().into_recording().entries.len(), 1_000, "they fit");
        record_polls(&mut recorder, 1_000..10_000);
        let kept = recorder.into_recording().entries;
        assert!((1_800..2_500).contains(&kept.len()), "{} entries take {BYTES_MAX} bytes", kept.len());
        let first = 10_000 - (kept.len() as u64 - 1);
        assert_eq!(kept[0], Entry { nanoseconds: first - 1, ..entry_lost(first) });
        assert!(kept[1..].iter().map(|entry| entry.numbers[0]).eq(first..10_000));
    }

    fn entry_lost(count: u64) -> Entry {
        Entry::new(EntryKind::Lost, Object::Loop, 0, 0).numbers([count, 0])
    }

    #[test]
    fn a_dropped_entry_about_lost_entries_counts_as_these() {
        let mut recorder = Recorder::new("main", BYTES_MAX);
        record(&mut recorder, &[entry_lost(1_000_000)], &[], &[]);
        record_polls(&mut recorder, 0..10_000);
        let kept = recorder.into_recording().entries;
        assert_eq!(kept[0].numbers[0], 1_000_000 + 10_000 - (kept.len() as u64 - 1));
    }

    #[test]
    fn what_still_exists_follows_the_loss_of_its_entry() {
        let mut recorder = Recorder::new("main", BYTES_MAX);
        let opened = [
            entry(EntryKind::Opened, Object::Connection, 7).numbers([9, 1]),
            entry(EntryKind::Listening, Object::Listener, 1).numbers([5, 0]),
            entry(EntryKind::Bound, Object::UdpSocket, 1).numbers([6, 0]),
            entry(EntryKind::Watching, Object::Watch, 0).numbers([8, 3]),
            entry(EntryKind::Opened, Object::Connection, 8).numbers([10, 1]),
            entry(EntryKind::Bound, Object::UdpSocket, 2).numbers([11, 0]),
        ];
        let details = [(0, address(7)), (1, address(1)), (2, address(2)), (4, address(8)), (5, address(11))];
        record(&mut recorder, &opened, &details, &[]);
        let ended = [
            entry(EntryKind::Closed, Object::Connection, 7),
            entry(EntryKind::Closed, Object::Connection, 8),
            entry(EntryKind::Freed, Object::Connection, 8),
            entry(EntryKind::Closed, Object::UdpSocket, 2),
        ];
        record(&mut recorder, &ended, &[], &[]);
        record_polls(&mut recorder, 0..10_000);
        let recording = recorder.into_recording();
        let existing = [
            entry(EntryKind::Existing, Object::Listener, 1).numbers([5, 0]),
            entry(EntryKind::Existing, Object::UdpSocket, 1).numbers([6, 0]),
            entry(EntryKind::Existing, Object::Watch, 0).numbers([8, 0]),
            entry(EntryKind::Existing, Object::Connection, 7).numbers([9, 1]),
        ];
        let nanoseconds = recording.entries[0].nanoseconds;
        assert_eq!(recording.entries[1..5], existing.map(|entry| Entry { nanoseconds, ..entry }));
        assert_eq!(recording.entries[5].kind, EntryKind::PollBegin);
        assert_eq!(recording.details, [(1, address(1)), (2, address(2)), (4, address(7))]);
    }

    #[test]
    fn details_and_payload_stay_with_their_entries() {
        let mut recorder = Recorder::new("main", BYTES_MAX);
        for turn in 0..400_u64 {
            let reads: Vec<Entry> =
                (0..7).map(|of| entry(EntryKind::Read, Object::Connection, of).numbers([turn, 0])).collect();
            let payload: Vec<u8> = [turn.to_le_bytes(), (turn + 1).to_le_bytes()].concat();
            let bytes = |start| Detail::Payload { start, len: 8 };
            record(&mut recorder, &reads, &[(0, address(1)), (0, bytes(0)), (6, bytes(8))], &payload);
        }
        let recording = recorder.into_recording();
        assert!(recording.entries.len() < 400 * 7, "nothing was dropped");
        assert!(recording.entries.len() > 500, "only {} entries are left", recording.entries.len());
        let mut details = 0;
        for (index, detail) in &recording.details {
            let Entry { slot, numbers: [turn, _], .. } = recording.entries[*index];
            match detail {
                Detail::Payload { start, len: 8 } => {
                    let bytes = &recording.payload[*start as usize..][..8];
                    assert_eq!(bytes, (turn + u64::from(slot == 6)).to_le_bytes());
                }
                detail => assert_eq!((slot, detail), (0, &address(1))),
            }
            details += 1;
        }
        // The first turn may have lost its first entries.
        assert!(details >= (recording.entries.len() / 7 - 1) * 3, "{details} details");
    }

    #[test]
    fn a_turn_larger_than_the_memory_is_lost_and_reported() {
        let mut recorder = Recorder::new("main", BYTES_MAX);
        let read = entry(EntryKind::Read, Object::Connection, 0);
        let payload = vec![0; 2 * BYTES_MAX];
        let len = to_u32(payload.len());
        record(&mut recorder, &[read, read], &[(1, Detail::Payload { start: 0, len })], &payload);
        record(&mut recorder, &[read], &[], &[]);
        let kinds: Vec<_> = recorder.into_recording().entries.iter().map(|entry| (entry.kind, entry.numbers)).collect();
        assert_eq!(kinds, [(EntryKind::Lost, [2, 0]), (EntryKind::Read, [0, 0])]);
    }

    #[test]
    fn a_recorder_goes_on_after_a_take_with_what_exists() {
        let mut recorder = Recorder::new("main", BYTES_MAX);
        let opened = [entry(EntryKind::Opened, Object::Connection, 3), entry(EntryKind::Opened, Object::Connection, 4)];
        record(&mut recorder, &opened, &[(0, address(3)), (1, address(4))], &[]);
        assert_eq!(recorder.take().into_recording().entries, opened);
        record(&mut recorder, &[entry(EntryKind::Freed, Object::Connection, 4)], &[], &[]);
        record_polls(&mut recorder, 0..1);
        let second = recorder.take();
        assert_eq!(second.started, recorder.started);
        let kinds = |recorder: Recorder| -> Vec<_> {
            recorder.into_recording().entries.iter().map(|entry| (entry.kind, entry.slot)).collect()
        };
        let rest = [(EntryKind::Freed, 4), (EntryKind::PollBegin, 0)];
        assert_eq!(kinds(second), [&[(EntryKind::Existing, 3), (EntryKind::Existing, 4)], &rest[..]].concat());
        assert_eq!(kinds(recorder), [(EntryKind::Existing, 3)]);
    }

    #[test]
    fn the_same_entries_give_the_same_recording() {
        let recorded = || {
            let mut recorder = Recorder::new("main", BYTES_MAX);
            let opened: Vec<Entry> = (0..500).map(|slot| entry(EntryKind::Opened, Object::Connection, slot)).collect();
            record(&mut recorder, &opened, &[], &[]);
            record_polls(&mut recorder, 0..5_000);
            Recording::new([recorder])
        };
        assert_eq!(recorded(), recorded());
    }
}
