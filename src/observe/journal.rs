//! The journal of a loop: the entries of the current turn.
//!
//! Without a level it costs a comparison per note. It never reads the clock by itself.

#[cfg(any(test, feature = "testing"))]
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
#[cfg(any(test, feature = "testing"))]
use std::rc::Rc;
use std::time::Instant;

use crate::address::Address;
use crate::ids::SlotKey;
use crate::limits;
use crate::observe::entry::{Entry, EntryKind, Level, Object, raw_errno, to_errno};
#[cfg(any(test, feature = "testing"))]
use crate::observe::sim_recording::SimRecording;

/// False in a build with `--cfg without_journal`, which measures what the journal costs while it is off.
const IS_COMPILED: bool = cfg!(not(without_journal));

/// `setsockopt(2)`: the levels and options of a reset, of the end of a filter, and of the wait for sent output, as on Linux.
pub(crate) const SOL_SOCKET: u64 = 1;
pub(crate) const SO_LINGER: u64 = 13;
pub(crate) const SO_DETACH_FILTER: u64 = 27;
pub(crate) const IPPROTO_TCP: u64 = 6;
pub(crate) const TCP_NOTSENT_LOWAT: u64 = 25;

/// The notes of a loop.
pub(crate) struct Journal {
    /// What is noted in this turn.
    level: Level,
    /// The level from the next turn on.
    requested: Level,
    /// The level that was requested before this turn.
    observed: Level,
    /// Turns are noted, or another level was requested.
    is_active: bool,
    /// The lowest level: a simulation needs all entries.
    level_min: Level,
    /// The time of the last clock reading.
    nanoseconds: u64,
    turn: TurnBuffers,
    payload_bytes_max: usize,
    /// Entries of this turn that did not fit.
    lost: u64,
    /// The recording of a simulation, which gets each entry at once.
    #[cfg(any(test, feature = "testing"))]
    sim_recording: Option<Rc<RefCell<SimRecording>>>,
}

/// The entries of a turn, and what they refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct TurnBuffers {
    pub(super) entries: Vec<Entry>,
    pub(super) details: Vec<(u32, Detail)>,
    pub(super) payload: Vec<u8>,
}

/// More about one entry than fits into two numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Detail {
    /// The address of a peer, listener or UDP socket.
    Address(SocketAddr),
    /// The path of a unix listener; empty for a unix peer.
    Path(PathBuf),
    /// The bytes of a read, write or datagram, as a range of [`TurnEntries::payload`]. They are kept only if
    /// [`journal_payload_bytes_max`](crate::EventLoop::journal_payload_bytes_max) asks for them.
    Payload {
        /// Index of the first byte.
        start: u32,
        /// Number of bytes.
        len: u32,
    },
}

/// The entries of one turn of a loop, for an observer.
///
/// ```
/// use halloo::observe::{EntryKind, Level};
///
/// let mut polls = 0;
/// let mut events = halloo::EventLoop::new()?;
/// events.journal_level(Level::Turns);
/// events.set_observer(|turn| {
///     polls += turn.entries.iter().filter(|entry| entry.kind == EntryKind::PollEnd).count();
/// });
/// let _ = events.turn(Some(std::time::Duration::ZERO))?;
/// drop(events);
/// assert_eq!(polls, 1);
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TurnEntries<'a> {
    /// The entries, in the order in which things happened. What was changed between two turns comes first.
    pub entries: &'a [Entry],
    /// Details of entries, by their index in [`entries`](Self::entries), in ascending order.
    pub details: &'a [(u32, Detail)],
    /// The bytes that [`Detail::Payload`] refers to.
    pub payload: &'a [u8],
    /// When the loop was created: time zero of the entries.
    pub started: Instant,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            level: Level::Off,
            requested: Level::Off,
            observed: Level::Off,
            is_active: false,
            level_min: Level::Off,
            nanoseconds: 0,
            turn: TurnBuffers::default(),
            payload_bytes_max: 0,
            lost: 0,
            #[cfg(any(test, feature = "testing"))]
            sim_recording: None,
        }
    }

    /// Notes everything from now on in a recording, too, whatever the level of the observer.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn record(&mut self, recording: Rc<RefCell<SimRecording>>) {
        (self.level_min, self.level, self.is_active) = (Level::All, Level::All, true);
        self.sim_recording = Some(recording);
    }

    /// The level of this turn for the observer.
    pub(crate) fn observed_level(&self) -> Level {
        self.observed
    }

    pub(crate) fn request(&mut self, level: Level) {
        self.requested = level;
        self.is_active = true;
    }

    pub(crate) fn set_payload_bytes_max(&mut self, bytes: usize) {
        self.payload_bytes_max = bytes;
    }

    /// Whether turns are noted, or another level was requested.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        IS_COMPILED && self.is_active
    }

    /// Takes over the requested level; returns true if everything is noted from now on, and was not before.
    pub(crate) fn change_level(&mut self) -> bool {
        self.observed = self.requested;
        let before = std::mem::replace(&mut self.level, self.requested.max(self.level_min));
        self.is_active = self.level != Level::Off;
        if !self.is_active {
            self.turn = TurnBuffers::default();
        }
        self.level == Level::All && before != Level::All
    }

    /// Whether turns are noted, and so the clock is read for them.
    #[inline]
    pub(crate) fn has_turns(&self) -> bool {
        IS_COMPILED && self.level != Level::Off
    }

    /// Sets the time of the entries that follow.
    pub(crate) fn set_time(&mut self, nanoseconds: u64) {
        self.nanoseconds = nanoseconds;
    }

    #[inline]
    pub(crate) fn has_all(&self) -> bool {
        IS_COMPILED && self.level == Level::All
    }

    /// Notes a step of a turn, at a new time.
    pub(crate) fn note_turn(
        &mut self,
        kind: EntryKind,
        nanoseconds: u64,
        numbers: [u64; 2],
        error: Option<&io::Error>,
    ) {
        self.nanoseconds = nanoseconds;
        let errno = error.map(raw_errno).and_then(to_errno);
        self.push(Entry { errno, ..Entry::new(kind, Object::Loop, 0, 0).numbers(numbers) });
    }

    /// Notes what happened to an object.
    #[inline]
    pub(crate) fn note(&mut self, kind: EntryKind, key: SlotKey, generation: u64, numbers: [u64; 2]) {
        if self.has_all() {
            self.note_object(kind, key, generation, numbers, None);
        }
    }

    /// Notes a read or write, with the bytes as far as they are wanted.
    #[inline]
    pub(crate) fn note_io(
        &mut self,
        kind: EntryKind,
        key: SlotKey,
        generation: u64,
        outcome: Result<&[u8], i32>,
        of: usize,
    ) {
        if self.has_all() {
            self.note_outcome(kind, key, generation, outcome, of);
        }
    }

    #[cold]
    #[inline(never)]
    fn note_outcome(&mut self, kind: EntryKind, key: SlotKey, generation: u64, outcome: Result<&[u8], i32>, of: usize) {
        let bytes = outcome.unwrap_or_default();
        let errno = outcome.err().and_then(to_errno);
        self.note_object(kind, key, generation, [bytes.len() as u64, of as u64], errno);
        self.add_payload(bytes);
    }

    /// Notes a failed system call, or a consequence of it.
    #[inline]
    pub(crate) fn note_error(
        &mut self,
        kind: EntryKind,
        key: SlotKey,
        generation: u64,
        numbers: [u64; 2],
        error: &io::Error,
    ) {
        if self.has_all() {
            self.note_object(kind, key, generation, numbers, to_errno(raw_errno(error)));
        }
    }

    /// Notes a system call with its result.
    #[inline]
    pub(crate) fn note_result<T>(
        &mut self,
        kind: EntryKind,
        key: SlotKey,
        generation: u64,
        numbers: [u64; 2],
        result: &io::Result<T>,
    ) {
        if self.has_all() {
            let errno = result.as_ref().err().map(raw_errno).and_then(to_errno);
            self.note_object(kind, key, generation, numbers, errno);
        }
    }

    /// Notes a step of the loop itself.
    pub(crate) fn note_loop(&mut self, kind: EntryKind, numbers: [u64; 2]) {
        if self.has_all() {
            self.push(Entry::new(kind, Object::Loop, 0, 0).numbers(numbers));
        }
    }

    /// Notes a datagram that was received or sent.
    #[inline]
    pub(crate) fn note_datagram(
        &mut self,
        kind: EntryKind,
        key: SlotKey,
        generation: u64,
        payload: &[u8],
        number: u64,
        peer: SocketAddr,
    ) {
        if self.has_all() {
            self.note_object(kind, key, generation, [payload.len() as u64, number], None);
            self.add_detail(Detail::Address(peer));
            self.add_payload(payload);
        }
    }

    /// Notes a datagram that could not be sent.
    pub(crate) fn note_lost_datagram(
        &mut self,
        key: SlotKey,
        generation: u64,
        bytes: usize,
        peer: SocketAddr,
        error: &io::Error,
    ) {
        if self.has_all() {
            self.note_object(EntryKind::DatagramOut, key, generation, [bytes as u64, 0], to_errno(raw_errno(error)));
            self.add_detail(Detail::Address(peer));
        }
    }

    /// Notes what happened to an object with an address.
    #[inline]
    pub(crate) fn note_address(
        &mut self,
        kind: EntryKind,
        key: SlotKey,
        generation: u64,
        numbers: [u64; 2],
        address: impl FnOnce() -> Address,
    ) {
        if self.has_all() {
            self.note_object(kind, key, generation, numbers, None);
            self.add_detail(address().into());
        }
    }

    #[cold]
    #[inline(never)]
    fn note_object(
        &mut self,
        kind: EntryKind,
        key: SlotKey,
        generation: u64,
        numbers: [u64; 2],
        errno: Option<NonZeroU16>,
    ) {
        let (_, slot) = key.kind_and_slot();
        self.push(Entry { errno, ..Entry::new(kind, key.into(), slot, generation).numbers(numbers) });
    }

    /// Adds an entry at the time of the last clock reading.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        let entry = Entry { nanoseconds: self.nanoseconds, ..entry };
        #[cfg(any(test, feature = "testing"))]
        let entry = self.sim_recording.as_ref().map_or(entry, |recording| recording.borrow_mut().push(entry));
        if self.turn.entries.len() >= limits::JOURNAL_ENTRIES_PER_TURN_MAX {
            self.lost += 1;
            return;
        }
        self.turn.entries.push(entry);
    }

    /// Adds a detail to the last entry, unless that was lost.
    fn add_detail(&mut self, detail: Detail) {
        #[cfg(any(test, feature = "testing"))]
        if let Some(recording) = &self.sim_recording
            && !matches!(detail, Detail::Payload { .. })
        {
            recording.borrow_mut().add_detail(detail.clone());
        }
        if self.lost == 0
            && let Some(last) = self.turn.entries.len().checked_sub(1)
        {
            self.turn.details.push((u32::try_from(last).unwrap_or(u32::MAX), detail));
        }
    }

    /// Adds the bytes of the last entry, as far as they are wanted. A failed call and EOF have none.
    fn add_payload(&mut self, bytes: &[u8]) {
        if self.payload_bytes_max > 0 && !bytes.is_empty() {
            let bytes = &bytes[..bytes.len().min(self.payload_bytes_max)];
            #[cfg(any(test, feature = "testing"))]
            if let Some(recording) = &self.sim_recording {
                recording.borrow_mut().add_payload(bytes);
            }
            let start = u32::try_from(self.turn.payload.len()).unwrap_or(u32::MAX);
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.turn.payload.extend_from_slice(bytes);
            self.add_detail(Detail::Payload { start, len });
        }
    }

    /// Takes the entries of the turn out, so that code of the embedder can see them.
    pub(crate) fn take_turn(&mut self) -> TurnBuffers {
        if self.lost > 0 {
            // The limit is for steps; this entry is one more.
            let lost = Entry::new(EntryKind::Lost, Object::Loop, 0, 0).numbers([self.lost, 0]);
            self.turn.entries.push(Entry { nanoseconds: self.nanoseconds, ..lost });
        }
        self.lost = 0;
        std::mem::take(&mut self.turn)
    }

    /// Puts the buffers back, empty.
    pub(crate) fn return_turn(&mut self, mut turn: TurnBuffers) {
        turn.entries.clear();
        turn.details.clear();
        turn.payload.clear();
        self.turn = turn;
    }
}

impl TurnBuffers {
    pub(crate) fn as_entries(&self, started: Instant) -> TurnEntries<'_> {
        let Self { entries, details, payload } = self;
        TurnEntries { entries, details, payload, started }
    }
}

impl From<Address> for Detail {
    fn from(address: Address) -> Self {
        match address {
            Address::Inet(address) => Self::Address(address),
            Address::Unix(path) => Self::Path(path),
        }
    }
}
