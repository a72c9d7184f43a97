//! What happened to one object, and what it waits for.
//!
//! Waits are measured from turn to turn, without the time that slow callbacks and long turns explain.

use crate::close_reason::CloseReason;
use crate::limits;
use crate::observe::entry::{Callback, Entry, EntryKind, Object, nanoseconds};
use crate::observe::findings::{FindingKind, sentences};

/// The identity of an object in a recording.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct ObjectKey {
    pub(super) object: Object,
    pub(super) slot: u32,
    pub(super) generation: u64,
}

/// A finding before it is merged with others.
pub(super) struct Occurrence {
    pub(super) kind: FindingKind,
    pub(super) key: ObjectKey,
    pub(super) name: String,
    pub(super) entry_index: usize,
    pub(super) number: u64,
    pub(super) sentence: String,
}

/// The current turn, as far as waits need it.
#[derive(Clone, Copy, Default)]
pub(super) struct Moment {
    /// The number of the turn.
    pub(super) turn: u64,
    /// When the turn began, in nanoseconds.
    pub(super) at: u64,
    /// Nanoseconds before this turn that slow callbacks and long turns explain.
    pub(super) explained: u64,
    /// Calls and callbacks so far, of all objects.
    pub(super) served: u64,
}

impl Moment {
    /// Unexplained nanoseconds from this moment to a later one.
    fn wait_until(self, now: Self) -> u64 {
        now.at.saturating_sub(self.at).saturating_sub(now.explained.saturating_sub(self.explained))
    }
}

/// What happened to an object so far.
pub(super) struct ObjectHistory {
    pub(super) key: ObjectKey,
    /// Its address, or its kind and slot.
    pub(super) name: String,
    phase: Phase,
    is_paused: bool,
    work: Option<Work>,
    output: Option<Output>,
    backoff: Option<Episode>,
    /// Failed calls since the last that found nothing or succeeded.
    failures: u64,
    /// The turn in which an event of another generation was reported for it.
    stale_turn: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It existed before, and may be paused, blocked or at EOF.
    Unknown,
    Connecting,
    Open,
    Eof,
    Closed,
}

/// Work that waits for the loop.
#[derive(Clone, Copy)]
struct Work {
    kind: WorkKind,
    since: Moment,
    entry_index: usize,
    /// Input ends with EOF or an urgent byte, so a short read is not the last.
    reads_to_end: bool,
}

/// Why work waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkKind {
    /// The poll reported it, and no call followed.
    Unserved,
    /// The last call may have left something: bytes, clients or datagrams.
    ReadInPart { count: u64, of: u64 },
    /// The last call failed for a reason that may pass, and no other call followed.
    Failed { errno: Option<i32> },
    /// It waits for the next turn.
    Deferred,
    /// It waits for memory.
    Memory,
    /// A listener has this many connections; a client may wait in the backlog.
    Full { connections: u64, has_client: bool },
}

/// Output that the kernel has not accepted.
struct Output {
    bytes: u64,
    since: Moment,
    entry_index: usize,
    /// The poll has reported that it can be sent.
    writable_since: Option<Moment>,
}

/// Errors from the first pause until a call works.
struct Episode {
    since: Moment,
    entry_index: usize,
    errno: Option<i32>,
    pauses: u64,
}

/// The outcome of a call that takes input, clients or datagrams.
enum InputOutcome {
    Interrupted,
    Drained,
    Eof,
    InPart { count: u64, of: u64 },
    Failed,
}

const EINTR: i32 = 4;

/// Whether an error number is EAGAIN: of Linux, of BSD and macOS, of Windows. No read or write returns the others.
pub(super) fn is_would_block(errno: i32) -> bool {
    matches!(errno, 11 | 35 | 10_035)
}

impl ObjectHistory {
    /// A history that begins now. If the object may have had entries before, they are not known.
    pub(super) fn new(key: ObjectKey, may_be_older: bool) -> Self {
        Self {
            key,
            name: sentences::name(key, None),
            phase: if may_be_older { Phase::Unknown } else { Phase::Open },
            is_paused: false,
            work: None,
            output: None,
            backoff: None,
            failures: 0,
            stale_turn: None,
        }
    }

    pub(super) fn has_eof(&self) -> bool {
        self.phase == Phase::Eof
    }

    /// Takes in the next entry of the object.
    pub(super) fn observe(&mut self, entry: &Entry, index: usize, now: Moment, found: &mut Vec<Occurrence>) {
        match entry.kind {
            EntryKind::Readiness => self.on_readiness(entry, index, now),
            EntryKind::Accept | EntryKind::Read | EntryKind::ReceiveBatch => self.on_input(entry, index, now, found),
            EntryKind::Write => self.on_write(entry, index, now, found),
            EntryKind::CallbackBegin => self.on_callback(entry, index, now, found),
            EntryKind::Existing => self.phase = Phase::Unknown,
            EntryKind::Opened | EntryKind::Listening | EntryKind::Bound => self.phase = Phase::Open,
            EntryKind::Connect if entry.errno.is_none() => self.phase = Phase::Connecting,
            EntryKind::Connected if entry.errno.is_none() => self.phase = Phase::Open,
            EntryKind::Deferred => self.wait(WorkKind::Deferred, index, now),
            EntryKind::AwaitsMemory => self.wait(WorkKind::Memory, index, now),
            EntryKind::Full => self.on_full(entry.numbers[0], index, now, found),
            EntryKind::Paused => (self.is_paused, self.work) = (true, None),
            EntryKind::Resumed => self.is_paused = false,
            EntryKind::Backoff => self.on_backoff(entry, index, now),
            EntryKind::Recovered => self.end_backoff(now, found),
            EntryKind::Closed => self.on_close(entry, index, now, found),
            _ => {}
        }
    }

    /// Judges what waits at the end of the recording.
    pub(super) fn end(&mut self, now: Moment, found: &mut Vec<Occurrence>) {
        self.end_work(now, found);
        self.end_output(now, None, found);
        self.end_backoff(now, found);
    }

    /// Forgets what waits: entries are missing that may have ended it.
    pub(super) fn forget_waits(&mut self) {
        (self.work, self.output, self.backoff, self.stale_turn) = (None, None, None, None);
        (self.is_paused, self.failures) = (false, 0);
        if self.phase != Phase::Closed {
            self.phase = Phase::Unknown;
        }
    }

    fn wait(&mut self, kind: WorkKind, index: usize, now: Moment) {
        let reads_to_end = self.work.is_some_and(|work| work.reads_to_end);
        self.work = Some(Work { kind, since: now, entry_index: index, reads_to_end });
    }

    fn on_readiness(&mut self, entry: &Entry, index: usize, now: Moment) {
        let [flags, generation] = entry.numbers;
        if generation != entry.generation & u64::from(u32::MAX) {
            self.stale_turn = Some(now.turn);
            return;
        }
        self.stale_turn = None;
        let (is_readable, is_writable, reads_to_end) = (flags & 0b1_1101 != 0, flags & 2 != 0, flags & 0b1_1100 != 0);
        if let Some(output) = &mut self.output {
            if is_writable && output.writable_since.is_none() {
                output.writable_since = Some(now);
            }
            // Reading stops while much output waits.
            return;
        }
        // The callback of a watch is called only for the events that it waits for.
        let is_watch = self.key.object == Object::Watch;
        if !is_readable || is_watch || self.is_paused || self.phase != Phase::Open || self.backoff.is_some() {
            return;
        }
        match &mut self.work {
            Some(Work { kind: WorkKind::Full { has_client, .. }, since, .. }) => {
                if !*has_client {
                    (*has_client, *since) = (true, now);
                }
            }
            Some(work) => work.reads_to_end |= reads_to_end,
            None => {
                self.work = Some(Work { kind: WorkKind::Unserved, since: now, entry_index: index, reads_to_end });
            }
        }
    }

    fn on_input(&mut self, entry: &Entry, index: usize, now: Moment, found: &mut Vec<Occurrence>) {
        let outcome = self.input_outcome(entry);
        if matches!(outcome, InputOutcome::Interrupted) {
            return;
        }
        self.judge_use(entry, index, now, found);
        if self.phase == Phase::Unknown && entry.kind != EntryKind::Read {
            // A listener or UDP socket can only be in backoff, which this call shows to be over.
            self.phase = Phase::Open;
        }
        if let Some(Work { kind: WorkKind::Full { has_client, .. }, .. }) = &mut self.work {
            // A client that is accepted without an event has waited since the listener was full.
            *has_client |= matches!(outcome, InputOutcome::InPart { .. });
        }
        let reads_to_end = self.work.is_some_and(|work| work.reads_to_end);
        self.end_work(now, found);
        match outcome {
            InputOutcome::Interrupted => {}
            InputOutcome::Failed => {
                self.failures += 1;
                // The failed read of a connection is its end.
                if entry.kind != EntryKind::Read && self.phase == Phase::Open && self.backoff.is_none() {
                    self.wait(WorkKind::Failed { errno: entry.errno() }, index, now);
                }
            }
            InputOutcome::Eof => self.phase = Phase::Eof,
            InputOutcome::Drained => {
                self.failures = 0;
                self.end_backoff(now, found);
            }
            InputOutcome::InPart { count, of } => {
                if entry.kind == EntryKind::ReceiveBatch {
                    self.end_backoff(now, found);
                }
                if self.backoff.is_none() {
                    self.failures = 0;
                }
                if self.output.is_none() && !self.is_paused && self.phase == Phase::Open {
                    let kind = WorkKind::ReadInPart { count, of };
                    self.work = Some(Work { kind, since: now, entry_index: index, reads_to_end });
                }
            }
        }
    }

    fn input_outcome(&self, entry: &Entry) -> InputOutcome {
        let [count, of] = entry.numbers;
        match entry.errno() {
            Some(EINTR) => InputOutcome::Interrupted,
            Some(errno) if is_would_block(errno) => InputOutcome::Drained,
            // No client waits.
            Some(_) if entry.kind == EntryKind::Accept && of == 1 => InputOutcome::Drained,
            Some(_) => InputOutcome::Failed,
            // The first number is the descriptor. The backlog may have more.
            None if entry.kind == EntryKind::Accept => InputOutcome::InPart { count: 1, of: 1 },
            None if entry.kind == EntryKind::Read && count == 0 => InputOutcome::Eof,
            None if count < of && !self.work.is_some_and(|work| work.reads_to_end) => InputOutcome::Drained,
            None => InputOutcome::InPart { count, of },
        }
    }

    fn on_write(&mut self, entry: &Entry, index: usize, now: Moment, found: &mut Vec<Occurrence>) {
        let [count, of] = entry.numbers;
        let would_block = entry.errno().is_some_and(is_would_block);
        if entry.errno() == Some(EINTR) {
            return;
        }
        self.judge_use(entry, index, now, found);
        let bytes = of.saturating_sub(count);
        if let (true, Some(output)) = (would_block, &mut self.output) {
            (output.bytes, output.writable_since) = (bytes, None);
            return;
        }
        self.end_output(now, None, found);
        if would_block || entry.errno.is_none() && bytes > 0 {
            self.output = Some(Output { bytes, since: now, entry_index: index, writable_since: None });
            self.work = None;
        }
    }

    fn on_callback(&mut self, entry: &Entry, index: usize, now: Moment, found: &mut Vec<Occurrence>) {
        match Callback::from_index(entry.numbers[0]) {
            // They follow the close.
            Some(Callback::Close | Callback::ConnectFailed) => return,
            Some(Callback::Open) if self.phase == Phase::Connecting => self.phase = Phase::Open,
            _ => {}
        }
        self.judge_use(entry, index, now, found);
        if self.work.is_some_and(|work| matches!(work.kind, WorkKind::Unserved | WorkKind::Deferred)) {
            self.end_work(now, found);
        }
    }

    fn on_full(&mut self, connections: u64, index: usize, now: Moment, found: &mut Vec<Occurrence>) {
        match self.work {
            Some(Work { kind: WorkKind::Full { .. }, .. }) => {}
            Some(work) if work.kind == WorkKind::Unserved => {
                let kind = WorkKind::Full { connections, has_client: true };
                self.work = Some(Work { kind, ..work });
            }
            _ => self.wait(WorkKind::Full { connections, has_client: false }, index, now),
        }
        self.end_backoff(now, found);
    }

    fn on_backoff(&mut self, entry: &Entry, index: usize, now: Moment) {
        self.work = None;
        match &mut self.backoff {
            Some(episode) => episode.pauses += 1,
            None => {
                self.backoff = Some(Episode { since: now, entry_index: index, errno: entry.errno(), pauses: 1 });
            }
        }
    }

    fn on_close(&mut self, entry: &Entry, index: usize, now: Moment, found: &mut Vec<Occurrence>) {
        let reason = CloseReason::from_index(entry.numbers[0]);
        let is_stalled = self.key.object == Object::Connection && reason == Some(CloseReason::WriteStalled);
        self.end_work(now, found);
        self.end_output(now, is_stalled.then_some(index), found);
        self.end_backoff(now, found);
        self.phase = Phase::Closed;
    }

    /// Judges a call or a callback: the object must be open, and the event must have been its own.
    fn judge_use(&mut self, entry: &Entry, index: usize, now: Moment, found: &mut Vec<Occurrence>) {
        let is_stale = self.stale_turn.take() == Some(now.turn);
        let is_closed = self.phase == Phase::Closed && self.key.generation != 0;
        if is_stale || is_closed {
            let sentence = sentences::stale_event(&self.name, entry, is_closed);
            found.push(self.occurrence(FindingKind::StaleEvent, index, 1, sentence));
        }
    }

    fn end_work(&mut self, now: Moment, found: &mut Vec<Occurrence>) {
        let Some(work) = self.work.take() else {
            return;
        };
        let waited = work.since.wait_until(now);
        let others = now.served.saturating_sub(work.since.served);
        let kind = match work.kind {
            WorkKind::Full { has_client: false, .. } => return,
            WorkKind::ReadInPart { .. } | WorkKind::Failed { .. } => FindingKind::SourceLeftReady,
            WorkKind::Unserved if others == 0 => FindingKind::SourceLeftReady,
            _ => FindingKind::Starvation,
        };
        if waited < nanoseconds(limits::FINDING_WORK_WAITS) || self.output.is_some() || self.is_paused {
            return;
        }
        let sentence = sentences::work(&self.name, work.kind, waited, others);
        found.push(self.occurrence(kind, work.entry_index, waited, sentence));
    }

    /// Judges output that waited; `closed_at` is the entry of a close because of it.
    fn end_output(&mut self, now: Moment, closed_at: Option<usize>, found: &mut Vec<Occurrence>) {
        let output = self.output.take();
        let waited = output.as_ref().map_or(0, |output| output.since.wait_until(output.writable_since.unwrap_or(now)));
        let index = output.as_ref().map(|output| output.entry_index).or(closed_at);
        let is_slow = waited >= nanoseconds(limits::FINDING_SLOW_READER) || closed_at.is_some();
        if let (true, Some(index)) = (is_slow, index) {
            let bytes = output.map(|output| output.bytes);
            let sentence = sentences::slow_reader(&self.name, bytes, waited, closed_at.is_some());
            found.push(self.occurrence(FindingKind::SlowReader, index, waited, sentence));
        }
    }

    fn end_backoff(&mut self, now: Moment, found: &mut Vec<Occurrence>) {
        let Some(episode) = self.backoff.take() else {
            return;
        };
        let tries = episode.pauses.max(std::mem::take(&mut self.failures));
        let lasted = episode.since.wait_until(now);
        if lasted >= nanoseconds(limits::FINDING_BACKOFF) {
            let sentence = sentences::backoff(&self.name, self.key.object, episode.errno, tries, lasted);
            found.push(self.occurrence(FindingKind::Backoff, episode.entry_index, lasted, sentence));
        }
    }

    pub(super) fn occurrence(&self, kind: FindingKind, index: usize, number: u64, sentence: String) -> Occurrence {
        Occurrence { kind, key: self.key, name: self.name.clone(), entry_index: index, number, sentence }
    }
}
