//! One pass over the entries of a loop: turns, callbacks, spin.
//!
//! What waits for an object is judged by its history.

use std::collections::HashMap;

use crate::limits;
use crate::observe::entry::{Callback, Entry, EntryKind, Object, nanoseconds};
use crate::observe::findings::object_history::{Moment, ObjectHistory, ObjectKey, Occurrence};
use crate::observe::findings::{FindingKind, sentences};
use crate::observe::journal::Detail;
use crate::observe::recording::LoopRecording;

/// The analysis of one loop.
pub(super) struct LoopAnalysis<'a> {
    recorded: &'a LoopRecording,
    objects: HashMap<ObjectKey, ObjectHistory>,
    now: Moment,
    turn: TurnWork,
    callbacks: Vec<OpenCallback>,
    /// Slow callbacks of this turn. The next poll shows what else has waited for them.
    slow_callbacks: Vec<SlowCallback>,
    /// A long turn, likewise.
    long_turn: Option<LongTurn>,
    poll: Poll,
    spin: Option<SpinRun>,
    /// The end of the last slow callback or long turn.
    explained_until: u64,
    has_lost_entries: bool,
    found: Vec<Occurrence>,
}

/// The work of a turn so far.
#[derive(Default)]
struct TurnWork {
    is_running: bool,
    entry_index: usize,
    /// Events of its poll, and how many of them have been handled.
    events: u64,
    events_seen: u64,
    /// Listeners, UDP sockets and watches whose events were reported, and that were not served yet.
    ready_sources: Vec<ObjectKey>,
    callbacks: u64,
    in_callbacks: u64,
    longest_callback: u64,
    in_slow_callbacks: u64,
    /// Steps that are missing in the recording.
    lost: u64,
    /// Whether there are entries between the poll and the end of the turn.
    has_entries: bool,
    did_something: bool,
    last_object: Option<ObjectKey>,
}

#[derive(Clone, Copy)]
struct Poll {
    began: u64,
    entry_index: usize,
    /// How long it may wait. After its end it is `u64::MAX`, in case the begin of the next is missing.
    wait_max: u64,
    /// Whether it returned before its time, within [`limits::FINDING_SPIN_GAP`].
    returned_at_once: bool,
}

impl Poll {
    const NONE: Self = Self { began: 0, entry_index: 0, wait_max: u64::MAX, returned_at_once: false };
}

struct OpenCallback {
    key: ObjectKey,
    callback: u64,
    input: u64,
    began: u64,
    entry_index: usize,
    /// Time of slow callbacks inside it.
    in_slow_callbacks: u64,
}

struct SlowCallback {
    begin: OpenCallback,
    callback: Callback,
    took: u64,
    waiting: u64,
}

struct LongTurn {
    work: TurnWork,
    took: u64,
}

/// Polls in a row without work.
struct SpinRun {
    polls: u64,
    entry_index: usize,
    began: u64,
    last_began: u64,
    /// The object that was served in all of these turns; `None` for several.
    culprit: Option<ObjectKey>,
}

const LOOP: ObjectKey = ObjectKey { object: Object::Loop, slot: 0, generation: 0 };

impl<'a> LoopAnalysis<'a> {
    pub(super) fn new(recorded: &'a LoopRecording) -> Self {
        let first = recorded.entries.first().map_or(0, |entry| entry.nanoseconds);
        Self {
            recorded,
            objects: HashMap::new(),
            now: Moment { at: first, ..Moment::default() },
            turn: TurnWork::default(),
            callbacks: Vec::new(),
            slow_callbacks: Vec::new(),
            long_turn: None,
            poll: Poll::NONE,
            spin: None,
            explained_until: 0,
            has_lost_entries: false,
            found: Vec::new(),
        }
    }

    /// Returns what was found, in no particular order.
    pub(super) fn run(mut self) -> Vec<Occurrence> {
        for (index, (entry, details)) in self.recorded.entries_with_details().enumerate() {
            let mut details = details.iter().map(|(_, detail)| detail);
            self.observe(index, entry, details.find(|detail| !matches!(detail, Detail::Payload { .. })));
        }
        let end = self.recorded.entries.last().map_or(0, |entry| entry.nanoseconds);
        self.end_turn(end, None);
        self.begin_turn(end, 0);
        self.end_spin();
        for mut history in self.objects.into_values() {
            history.end(self.now, &mut self.found);
        }
        self.found
    }

    fn observe(&mut self, index: usize, entry: &Entry, address: Option<&Detail>) {
        match entry.kind {
            EntryKind::PollBegin => return self.begin_poll(index, entry),
            EntryKind::PollEnd => return self.end_poll(index, entry),
            EntryKind::TurnEnd => return self.end_turn(entry.nanoseconds, Some(entry.numbers[0] == 1)),
            EntryKind::Lost => return self.lose_entries(entry),
            _ if entry.object == Object::Peer => return,
            _ => {}
        }
        let key = ObjectKey { object: entry.object, slot: entry.slot, generation: entry.generation };
        let history = self.objects.entry(key).or_insert_with(|| ObjectHistory::new(key, self.has_lost_entries));
        let (is_call, is_progress) = (is_call(entry), is_progress(entry, history.has_eof()));
        if address.is_some() && entry.kind.names_object() {
            history.name = sentences::name(key, address);
        }
        // The event of a wake-up is served by the messages of its turn.
        if entry.object != Object::Loop {
            history.observe(entry, index, self.now, &mut self.found);
        }
        self.now.served += u64::from(is_call);
        let turn = &mut self.turn;
        turn.has_entries = true;
        turn.did_something |= is_progress;
        if entry.object != Object::Loop {
            turn.last_object = Some(key);
        }
        if is_call {
            turn.ready_sources.retain(|source| *source != key);
        }
        match entry.kind {
            EntryKind::Readiness | EntryKind::StaleEvent => {
                turn.events_seen += 1;
                let is_source = matches!(entry.object, Object::Listener | Object::UdpSocket | Object::Watch);
                if is_source && entry.kind == EntryKind::Readiness && !turn.ready_sources.contains(&key) {
                    turn.ready_sources.push(key);
                }
            }
            EntryKind::CallbackBegin => self.begin_callback(index, entry, key),
            EntryKind::CallbackEnd => self.end_callback(entry, key),
            EntryKind::DeadlineFired if entry.object == Object::Timer => self.judge_timer(index, entry, key),
            _ => {}
        }
    }

    fn begin_poll(&mut self, index: usize, entry: &Entry) {
        self.end_turn(entry.nanoseconds, None);
        self.poll =
            Poll { began: entry.nanoseconds, entry_index: index, wait_max: entry.numbers[0], returned_at_once: false };
    }

    fn end_poll(&mut self, index: usize, entry: &Entry) {
        let Poll { began, entry_index, wait_max, .. } = self.poll;
        let waited = entry.nanoseconds.saturating_sub(began);
        let returned_at_once = wait_max == 0 || waited < wait_max.min(nanoseconds(limits::FINDING_SPIN_GAP));
        self.poll = Poll { began, entry_index, returned_at_once, ..Poll::NONE };
        let late = waited.saturating_sub(wait_max);
        if late >= nanoseconds(limits::FINDING_LOOP_LAG) {
            self.report_loop(FindingKind::LoopLag, entry_index, late, sentences::late_poll(late));
            self.now.explained = self.now.explained.saturating_add(late);
            self.explained_until = entry.nanoseconds;
        }
        let [events, has_more] = entry.numbers;
        self.end_turn(entry.nanoseconds, None);
        self.begin_turn(entry.nanoseconds, if returned_at_once { events } else { 0 });
        // With more to come, the work of this turn has not begun.
        let did_something = has_more == 1;
        self.turn = TurnWork { is_running: true, entry_index: index, events, did_something, ..TurnWork::default() };
    }

    /// Begins a turn whose poll has reported so many events at once. They have waited for what was slow before.
    fn begin_turn(&mut self, at: u64, events: u64) {
        for slow in std::mem::take(&mut self.slow_callbacks) {
            let OpenCallback { key, input, entry_index, .. } = slow.begin;
            let history = self.objects.entry(key).or_insert_with(|| ObjectHistory::new(key, true));
            let waiting = slow.waiting.saturating_add(events);
            let sentence = sentences::slow_callback(&history.name, slow.callback, input, slow.took, waiting);
            let occurrence = history.occurrence(FindingKind::SlowCallback, entry_index, slow.took, sentence);
            self.found.push(occurrence);
            self.now.explained = self.now.explained.saturating_add(slow.took);
        }
        if let Some(LongTurn { work, took }) = self.long_turn.take() {
            let in_callbacks = work.in_callbacks.saturating_sub(work.in_slow_callbacks);
            let sentence = match work.lost {
                0 => sentences::long_turn(took, work.callbacks, in_callbacks, work.longest_callback, events),
                lost => sentences::long_turn_with_lost_steps(took, lost, events),
            };
            self.report_loop(FindingKind::LoopLag, work.entry_index, took, sentence);
            self.now.explained = self.now.explained.saturating_add(took);
        }
        self.now.at = at;
        self.now.turn += 1;
    }

    /// Ends the work after a poll. `progress` is what the loop noted about it.
    fn end_turn(&mut self, at: u64, progress: Option<bool>) {
        let turn = std::mem::take(&mut self.turn);
        self.callbacks.clear();
        if !turn.is_running {
            return;
        }
        let is_idle = !turn.did_something && (turn.has_entries || progress != Some(true));
        self.count_spin(is_idle && self.poll.returned_at_once, turn.last_object);
        let took = at.saturating_sub(self.now.at).saturating_sub(turn.in_slow_callbacks);
        if took >= nanoseconds(limits::FINDING_LOOP_LAG) {
            self.long_turn = Some(LongTurn { work: turn, took });
            self.explained_until = at;
        }
    }

    fn begin_callback(&mut self, index: usize, entry: &Entry, key: ObjectKey) {
        let [callback, input] = entry.numbers;
        let began = entry.nanoseconds;
        self.callbacks.push(OpenCallback { key, callback, input, began, entry_index: index, in_slow_callbacks: 0 });
    }

    fn end_callback(&mut self, entry: &Entry, key: ObjectKey) {
        // The key of a removed object may have changed meanwhile.
        let is_its_begin = |open: &OpenCallback| {
            open.callback == entry.numbers[0] && open.key.object == key.object && open.key.slot == key.slot
        };
        let Some(position) = self.callbacks.iter().rposition(is_its_begin) else {
            return;
        };
        self.callbacks.truncate(position + 1);
        let Some(open) = self.callbacks.pop() else {
            return;
        };
        let took = entry.nanoseconds.saturating_sub(open.began);
        let own = took.saturating_sub(open.in_slow_callbacks);
        let is_slow = own >= nanoseconds(limits::FINDING_SLOW_CALLBACK);
        let turn = &mut self.turn;
        turn.callbacks += 1;
        if self.callbacks.is_empty() {
            turn.in_callbacks = turn.in_callbacks.saturating_add(took);
        }
        let mut in_slow_callbacks = open.in_slow_callbacks;
        if let (true, Some(callback)) = (is_slow, Callback::from_index(open.callback)) {
            in_slow_callbacks = took;
            turn.in_slow_callbacks = turn.in_slow_callbacks.saturating_add(own);
            self.explained_until = entry.nanoseconds;
            let waiting = turn.events.saturating_sub(turn.events_seen).saturating_add(turn.ready_sources.len() as u64);
            self.slow_callbacks.push(SlowCallback { begin: open, callback, took: own, waiting });
        } else {
            turn.longest_callback = turn.longest_callback.max(own);
        }
        if let Some(outer) = self.callbacks.last_mut() {
            outer.in_slow_callbacks = outer.in_slow_callbacks.saturating_add(in_slow_callbacks);
        }
    }

    /// Judges a timer that fires: by the time at which its turn began, because a long turn is judged by itself.
    fn judge_timer(&mut self, index: usize, entry: &Entry, key: ObjectKey) {
        let due = entry.numbers[0];
        let late = self.now.at.saturating_sub(due);
        if late >= nanoseconds(limits::FINDING_LOOP_LAG) && due >= self.explained_until {
            let sentence = sentences::late_timer(&sentences::name(key, None), late);
            self.report_loop(FindingKind::LoopLag, index, late, sentence);
        }
    }

    fn count_spin(&mut self, spins: bool, object: Option<ObjectKey>) {
        if !spins {
            return self.end_spin();
        }
        let Poll { began, entry_index, .. } = self.poll;
        let first = || SpinRun { polls: 0, entry_index, began, last_began: began, culprit: object };
        let run = self.spin.get_or_insert_with(first);
        run.polls += 1;
        run.last_began = began;
        if run.culprit != object {
            run.culprit = None;
        }
    }

    fn end_spin(&mut self) {
        let Some(run) = self.spin.take() else {
            return;
        };
        let lasted = run.last_began.saturating_sub(run.began);
        // The average: a busy machine may delay some of them.
        let is_seldom = lasted / run.polls.max(1) > nanoseconds(limits::FINDING_SPIN_GAP);
        if run.polls < limits::FINDING_SPIN_POLLS || is_seldom {
            return;
        }
        if let Some(history) = run.culprit.and_then(|key| self.objects.get(&key)) {
            let sentence = sentences::spin(Some(&history.name), run.polls, lasted);
            self.found.push(history.occurrence(FindingKind::Spin, run.entry_index, run.polls, sentence));
        } else {
            let sentence = sentences::spin(None, run.polls, lasted);
            self.report_loop(FindingKind::Spin, run.entry_index, run.polls, sentence);
        }
    }

    fn report_loop(&mut self, kind: FindingKind, entry_index: usize, number: u64, sentence: String) {
        let name = sentences::name(LOOP, None);
        self.found.push(Occurrence { kind, key: LOOP, name, entry_index, number, sentence });
    }

    /// Forgets what lost entries may have ended. If all were steps of this turn, it goes on.
    fn lose_entries(&mut self, entry: &Entry) {
        self.has_lost_entries = true;
        self.callbacks.clear();
        for history in self.objects.values_mut() {
            history.forget_waits();
        }
        let [lost, is_of_turn] = entry.numbers;
        if is_of_turn == 1 {
            let turn = &mut self.turn;
            (turn.has_entries, turn.did_something) = (true, true);
            turn.lost = turn.lost.saturating_add(lost);
            turn.ready_sources.clear();
        } else {
            (self.poll, self.turn, self.spin) = (Poll::NONE, TurnWork::default(), None);
        }
    }
}

/// Whether the loop serves the object with this entry.
fn is_call(entry: &Entry) -> bool {
    matches!(
        entry.kind,
        EntryKind::Accept | EntryKind::Read | EntryKind::Write | EntryKind::ReceiveBatch | EntryKind::CallbackBegin
    )
}

/// Whether an entry shows that a turn did something.
fn is_progress(entry: &Entry, had_eof: bool) -> bool {
    let [number, outcome] = entry.numbers;
    let is_watch_callback = Callback::from_index(number) == Some(Callback::Watch);
    match entry.kind {
        // The event of a watch shows that its source has something new; only its callback knows what it reads.
        EntryKind::Readiness => entry.object == Object::Watch,
        EntryKind::CallbackBegin => !is_watch_callback,
        EntryKind::CallbackEnd => !is_watch_callback || outcome != 1,
        EntryKind::Read => entry.errno.is_none() && (number > 0 || !had_eof),
        EntryKind::Accept => entry.errno.is_none(),
        EntryKind::Write | EntryKind::ReceiveBatch | EntryKind::SendBatch => entry.errno.is_none() && number > 0,
        EntryKind::StaleEvent
        | EntryKind::Existing
        | EntryKind::Deferred
        | EntryKind::AwaitsMemory
        | EntryKind::Full
        | EntryKind::OptionSet
        | EntryKind::Deregistered
        | EntryKind::Freed => false,
        _ => true,
    }
}
