//! Findings: what slowed a loop down, read from a recording.
//!
//! A finding is judged from entries alone, so recordings of other loops can be judged, too.

mod loop_analysis;
mod object_history;
mod sentences;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::observe::entry::{Entry, Object, words};
use crate::observe::findings::loop_analysis::LoopAnalysis;
use crate::observe::findings::object_history::{ObjectKey, Occurrence};
use crate::observe::recording::{LoopRecording, Recording};

words! {
    /// What a [`Finding`] is about. [`findings`] has a table with the thresholds.
    FindingKind {
        /// A turn of the loop worked for long, a poll returned late, or a timer fired late: all clients and timers waited.
        LoopLag = "loop-lag",
        /// An object had work and was not served for long.
        Starvation = "starvation",
        /// A readable source was not read to its end, or its last call failed, and it was not read again for long. An
        /// edge-triggered poll does not report that input again.
        SourceLeftReady = "source-left-ready",
        /// A loop acted on an event for a closed object, or used an object after its close.
        StaleEvent = "stale-event-used",
        /// A listener or UDP socket paused after errors.
        Backoff = "backoff",
        /// A peer accepted none of the output that waited for it.
        SlowReader = "slow-reader",
        /// A callback took long.
        SlowCallback = "slow-callback",
        /// The loop polled many times in a row at once, and did nothing.
        Spin = "spin",
    }
}

impl FindingKind {
    /// Returns the unit of [`Finding::number`].
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Spin => "polls",
            Self::StaleEvent => "uses",
            _ => "ns",
        }
    }
}

/// Something in a recording that slowed the loop or its clients down.
///
/// `Display` writes it as one line: time, place, kind, sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// The index of the loop in [`Recording::loops`].
    pub loop_index: usize,
    /// The name of the loop. Without one, its index.
    pub loop_name: String,
    /// The index in [`LoopRecording::entries`] of the entry where it began.
    pub entry_index: usize,
    /// When it began: the time since the start of the earliest loop.
    pub time: Duration,
    /// The kind of the object. It is [`Object::Loop`] for loop lag.
    pub object: Object,
    /// The slot of the object.
    pub slot: u32,
    /// The generation of the object.
    pub generation: u64,
    /// The address of the object. Without one, its kind and slot.
    pub name: String,
    /// How bad it is, in the [unit](FindingKind::unit) of its kind: nanoseconds, polls or uses.
    pub number: u64,
    /// How often it happened to this object. The other fields describe the worst time.
    pub count: u64,
    /// What happened and what to do about it, for people.
    pub sentence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, loop_name, entry_index, time, sentence, count, .. } = self;
        write!(f, "{:.6}s {loop_name} entry {entry_index} {kind}: {sentence}", time.as_secs_f64())?;
        if *count > 1 {
            write!(f, " ({count} times; this was the worst)")?;
        }
        Ok(())
    }
}

/// Finds what slowed the loops of a recording down. The earliest finding is first.
///
/// One cause is one finding, and what happens again to the same object is counted in the first. Time that a slow callback
/// or a long turn took counts nowhere else: not as lag, late timer or starvation of others. What belongs to the design of
/// the loop is no finding: discarded events of closed objects, spurious readiness, work deferred to the next turn.
///
/// | kind | what it means | from | what to do |
/// |---|---|---|---|
/// | [`LoopLag`](FindingKind::LoopLag) | a turn took long without a slow callback; or a poll returned late, or a timer fired late, without a long turn | 100 ms | fewer events on this loop, more loops, more processor time |
/// | [`Starvation`](FindingKind::Starvation) | a ready or deferred object, or a client of a full listener, waited | 1 s | serve each ready object in each turn; a higher `connections_max` |
/// | [`SourceLeftReady`](FindingKind::SourceLeftReady) | a readable source was read in part, or its last call failed, and it was forgotten | 1 s | read until EAGAIN, or defer the rest to the next turn; after an error call again |
/// | [`StaleEvent`](FindingKind::StaleEvent) | an event or an object was used after the close | once | compare the generation in the event with that of the object |
/// | [`Backoff`](FindingKind::Backoff) | accept or receive failed again and again | 100 ms | free the resource that the error names |
/// | [`SlowReader`](FindingKind::SlowReader) | output waited and the peer accepted none, or the loop closed it for that | 1 s | send this peer less, or close it earlier with `write_timeout` |
/// | [`SlowCallback`](FindingKind::SlowCallback) | a callback took long, without the slow callbacks inside it | 50 ms | move the work to another thread, or split it |
/// | [`Spin`](FindingKind::Spin) | polls returned at once without work, on average at most 5 ms apart | 1,000 polls | return `Watch::Again` only after progress |
///
/// A recording at [`Level::Turns`](crate::observe::Level::Turns) shows only loop lag and spin. A deadline of a connection
/// may be late by design, while its input is served. After lost entries the analysis begins anew. Unread input of a connection is judged only if the recording
/// has all of its entries: it may have been paused before.
///
/// ```
/// use std::time::Duration;
/// use halloo::observe::{Callback, Entry, EntryKind, FindingKind, LoopRecording, Object, Recording, findings};
///
/// let at = Duration::from_millis;
/// let entry = |kind, number| Entry::new(kind, Object::Connection, 3, 17).numbers([Callback::Data as u64, number]);
/// let mut recorded = LoopRecording::default();
/// recorded.entries = vec![
///     Entry::new(EntryKind::PollEnd, Object::Loop, 0, 0).numbers([1, 0]).at(at(5)),
///     entry(EntryKind::CallbackBegin, 18).at(at(5)),
///     entry(EntryKind::CallbackEnd, 18).at(at(88)),
/// ];
/// let mut recording = Recording::default();
/// recording.loops.push(recorded);
///
/// let found = findings(&recording);
/// assert_eq!(found[0].kind, FindingKind::SlowCallback);
/// assert!(found[0].to_string().starts_with("0.005000s loop 0 entry 1 slow-callback: on_data of connection 3 took 83 ms"));
/// ```
#[must_use]
pub fn findings(recording: &Recording) -> Vec<Finding> {
    let mut all = Vec::new();
    for (index, recorded) in recording.loops.iter().enumerate() {
        all.extend(merge(index, recorded, LoopAnalysis::new(recorded).run()));
    }
    all.sort_by_key(|finding| (finding.time, finding.loop_index, finding.entry_index));
    all
}

/// Merges what happened repeatedly to one object; the worst time describes all.
fn merge(loop_index: usize, recorded: &LoopRecording, occurrences: Vec<Occurrence>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let mut indices = HashMap::new();
    for Occurrence { kind, key, name, entry_index, number, sentence } in occurrences {
        let time = recorded.entries.get(entry_index).map_or(Duration::ZERO, Entry::time);
        let time = recorded.started_after.saturating_add(time);
        let index = *indices.entry((kind, key)).or_insert(found.len());
        let count = found.get(index).map_or(1, |finding| finding.count + 1);
        let loop_name = match &*recorded.name {
            "" => format!("loop {loop_index}"),
            name => name.to_owned(),
        };
        let ObjectKey { object, slot, generation } = key;
        let one = Finding {
            kind,
            loop_index,
            loop_name,
            entry_index,
            time,
            object,
            slot,
            generation,
            name,
            number,
            count,
            sentence,
        };
        match found.get_mut(index) {
            None => found.push(one),
            Some(finding) if finding.number < number => *finding = one,
            Some(finding) => finding.count = count,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close_reason::CloseReason;
    use crate::observe::CLOSE_REASONS;
    use crate::observe::entry::{Callback, EntryKind};
    use crate::observe::journal::Detail;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;
    const EAGAIN: i32 = 11;
    const EMFILE: i32 = 24;

    /// A recording that is written by hand.
    #[derive(Default)]
    struct Notes {
        entries: Vec<Entry>,
        now: u64,
    }

    impl Notes {
        fn note(&mut self, kind: EntryKind, object: Object, slot: u32, numbers: [u64; 2]) -> &mut Self {
            let generation = if object == Object::Loop { 0 } else { 100 + u64::from(slot) };
            let time = Duration::from_nanos(self.now);
            self.entries.push(Entry::new(kind, object, slot, generation).numbers(numbers).at(time));
            self
        }

        fn connection(&mut self, slot: u32, kind: EntryKind, numbers: [u64; 2]) -> &mut Self {
            self.note(kind, Object::Connection, slot, numbers)
        }

        fn listener(&mut self, kind: EntryKind, numbers: [u64; 2]) -> &mut Self {
            self.note(kind, Object::Listener, 0, numbers)
        }

        /// Gives the last entry an error number.
        fn errno(&mut self, errno: i32) -> &mut Self {
            let last = self.entries.pop().expect("there is one");
            self.entries.push(last.error(&std::io::Error::from_raw_os_error(errno)));
            self
        }

        /// Ends the turn, and begins the next at a time, with so many events.
        fn turn_with(&mut self, at: u64, events: u64) -> &mut Self {
            self.note(EntryKind::TurnEnd, Object::Loop, 0, [1, 0]);
            self.note(EntryKind::PollBegin, Object::Loop, 0, [u64::MAX, 0]);
            self.now = at;
            self.note(EntryKind::PollEnd, Object::Loop, 0, [events, 0])
        }

        fn turn(&mut self, at: u64) -> &mut Self {
            self.turn_with(at, 1)
        }

        fn ready(&mut self, slot: u32) -> &mut Self {
            self.connection(slot, EntryKind::Readiness, [1, 100 + u64::from(slot)])
        }

        fn callback(&mut self, callback: Callback, slot: u32, took: u64) -> &mut Self {
            self.connection(slot, EntryKind::CallbackBegin, [callback as u64, 5]);
            self.now += took;
            self.connection(slot, EntryKind::CallbackEnd, [callback as u64, 5])
        }

        fn findings(&mut self) -> Vec<Finding> {
            self.note(EntryKind::TurnEnd, Object::Loop, 0, [1, 0]);
            let mut recording = Recording::default();
            recording.loops.push(LoopRecording { entries: self.entries.clone(), ..LoopRecording::default() });
            findings(&recording)
        }

        fn kinds(&mut self) -> Vec<FindingKind> {
            self.findings().iter().map(|finding| finding.kind).collect()
        }
    }

    /// Asserts that there is no finding just below a threshold, and one of this kind at it, with this number.
    fn assert_threshold(threshold: u64, kind: FindingKind, notes: impl Fn(&mut Notes, u64)) -> Finding {
        let mut below = Notes::default();
        notes(&mut below, threshold - 1);
        assert_eq!(below.kinds(), [], "just below");
        let mut at = Notes::default();
        notes(&mut at, threshold);
        let [one] = &at.findings()[..] else { panic!("not one finding: {:#?}", at.findings()) };
        assert_eq!((one.kind, one.number, one.count), (kind, threshold, 1));
        one.clone()
    }

    #[test]
    fn a_turn_of_100_ms_is_a_loop_lag() {
        let found = assert_threshold(100 * MS, FindingKind::LoopLag, |notes, took| {
            notes.turn(5 * MS).now += took;
            notes.turn_with(notes.now, 3);
        });
        assert_eq!((found.entry_index, found.time, found.object), (2, Duration::from_millis(5), Object::Loop));
        let line =
            "0.005000s loop 0 entry 2 loop-lag: a turn took 100 ms, only 0 us of it in no callback; 3 events and ";
        assert!(found.to_string().starts_with(line), "{found}");
    }

    #[test]
    fn a_poll_that_returns_100_ms_late_is_a_loop_lag_and_explains_what_waited() {
        let found = assert_threshold(100 * MS, FindingKind::LoopLag, |notes, late| {
            notes.note(EntryKind::PollBegin, Object::Loop, 0, [7 * MS, 0]).now += 7 * MS + late;
            notes.note(EntryKind::PollEnd, Object::Loop, 0, [0, 0]);
            notes.note(EntryKind::DeadlineFired, Object::Timer, 7, [7 * MS, 0]);
        });
        assert!(found.sentence.starts_with("a poll returned 100 ms after its time; "), "{found}");
        let mut notes = Notes::default();
        notes.turn(0).connection(1, EntryKind::Read, [64, 64]).connection(1, EntryKind::Deferred, [0; 2]);
        notes.note(EntryKind::PollBegin, Object::Loop, 0, [0, 0]).now += 2 * SECOND;
        notes.note(EntryKind::PollEnd, Object::Loop, 0, [0, 0]).connection(1, EntryKind::Read, [5, 64]);
        assert_eq!(notes.kinds(), [FindingKind::LoopLag]);
        let mut without_begin = Notes { now: 9 * SECOND, ..Notes::default() };
        without_begin.note(EntryKind::PollEnd, Object::Loop, 0, [0, 0]);
        assert_eq!(without_begin.kinds(), []);
    }

    #[test]
    fn a_timer_that_fires_100_ms_late_is_a_loop_lag_and_a_connection_may_be_late() {
        let fire = |object| {
            move |notes: &mut Notes, late: u64| {
                notes.turn(5 * MS + late).note(EntryKind::DeadlineFired, object, 7, [5 * MS, 0]);
            }
        };
        let found = assert_threshold(100 * MS, FindingKind::LoopLag, fire(Object::Timer));
        assert!(
            found.sentence.starts_with("timer 7 fired 100 ms late, and no callback, turn or poll was long; "),
            "{found}"
        );
        let mut notes = Notes::default();
        fire(Object::Connection)(&mut notes, SECOND);
        assert_eq!(notes.kinds(), []);
    }

    #[test]
    fn a_timer_that_is_late_because_of_a_slow_callback_or_a_long_turn_is_no_second_finding() {
        let mut notes = Notes::default();
        notes.turn(0).callback(Callback::Data, 1, 300 * MS);
        notes.turn(300 * MS).note(EntryKind::DeadlineFired, Object::Timer, 7, [MS, 0]);
        assert_eq!(notes.kinds(), [FindingKind::SlowCallback]);
        let mut notes = Notes::default();
        notes.turn(0).now += 300 * MS;
        notes.turn(300 * MS).note(EntryKind::DeadlineFired, Object::Timer, 7, [MS, 0]);
        assert_eq!(notes.kinds(), [FindingKind::LoopLag]);
    }

    #[test]
    fn a_callback_of_50_ms_is_slow_and_the_events_behind_it_are_counted() {
        let found = assert_threshold(50 * MS, FindingKind::SlowCallback, |notes, took| {
            notes.turn_with(0, 4).listener(EntryKind::Readiness, [1, 100]).ready(3).callback(Callback::Data, 3, took);
            // One event of the first poll was a listener that is not served yet, and two had not been handled.
            notes.turn_with(notes.now, 5);
        });
        assert_eq!((found.object, found.slot, found.generation), (Object::Connection, 3, 103));
        let sentence = "on_data of connection 3 took 50 ms; 8 other events waited; move the work to another thread, or \
                        split it";
        assert_eq!(found.sentence, sentence);
        let mut notes = Notes::default();
        notes.turn(0).ready(3).callback(Callback::Data, 3, 50 * MS).turn_with(SECOND, 5);
        let found = &notes.findings()[0];
        assert!(found.sentence.contains("no other event waited"), "the next poll waited, so no event did: {found}");
    }

    #[test]
    fn a_slow_callback_is_not_also_a_long_turn() {
        let mut notes = Notes::default();
        notes.turn(0).callback(Callback::Data, 1, 300 * MS);
        for slot in 2..5 {
            notes.callback(Callback::Data, slot, 33 * MS);
        }
        assert_eq!(notes.kinds(), [FindingKind::SlowCallback]);
        notes.turn(notes.now).callback(Callback::Data, 1, 300 * MS);
        for slot in 2..5 {
            notes.callback(Callback::Data, slot, 34 * MS);
        }
        assert_eq!(notes.kinds(), [FindingKind::SlowCallback, FindingKind::LoopLag]);
    }

    #[test]
    fn a_slow_callback_inside_another_is_found_and_the_outer_is_not() {
        let mut notes = Notes::default();
        notes.turn(0).note(EntryKind::CallbackBegin, Object::Loop, 0, [Callback::Job as u64, 0]);
        notes.now += 49 * MS;
        notes.callback(Callback::Start, 1, 60 * MS);
        notes.note(EntryKind::CallbackEnd, Object::Loop, 0, [Callback::Job as u64, 0]);
        let found = notes.findings();
        assert_eq!((found.len(), found[0].number, found[0].slot), (1, 60 * MS, 1), "{found:#?}");
    }

    #[test]
    fn a_ready_connection_that_is_not_served_for_a_second_while_another_is_starves() {
        let found = assert_threshold(SECOND, FindingKind::Starvation, |notes, waited| {
            notes.turn_with(0, 2).ready(1).ready(2).connection(2, EntryKind::Read, [5, 64]);
            notes.turn(waited).connection(1, EntryKind::Read, [5, 64]);
        });
        assert_eq!((found.slot, found.entry_index), (1, 3));
        let sentence = "connection 1 was ready and was not served for 1.0 s, in which others had 1 call; ";
        assert!(found.sentence.starts_with(sentence), "{found}");
    }

    #[test]
    fn deferred_work_input_without_memory_and_clients_of_a_full_listener_starve_after_a_second() {
        assert_threshold(SECOND, FindingKind::Starvation, |notes, waited| {
            notes.turn(0).ready(1).connection(1, EntryKind::Read, [64, 64]).connection(1, EntryKind::Deferred, [0; 2]);
            notes.turn(waited).connection(1, EntryKind::Read, [5, 64]);
        });
        assert_threshold(SECOND, FindingKind::Starvation, |notes, waited| {
            notes.turn(0).ready(1).connection(1, EntryKind::AwaitsMemory, [0; 2]);
            notes.turn(waited).connection(1, EntryKind::Read, [5, 64]);
        });
        // A client that is accepted without a new event has waited since the listener was full.
        assert_threshold(SECOND, FindingKind::Starvation, |notes, waited| {
            notes.turn(0).listener(EntryKind::Accept, [9, 0]).listener(EntryKind::Full, [7, 0]);
            notes.turn(waited).listener(EntryKind::Accept, [9, 0]).listener(EntryKind::Full, [7, 0]);
        });
        assert_threshold(SECOND, FindingKind::Starvation, |notes, waited| {
            notes.turn(0).listener(EntryKind::Accept, [9, 0]).listener(EntryKind::Full, [7, 0]);
            notes.turn(SECOND).listener(EntryKind::Readiness, [1, 100]);
            notes.turn(SECOND + waited).listener(EntryKind::Accept, [9, 0]).listener(EntryKind::Full, [7, 0]);
        });
    }

    #[test]
    fn a_loop_that_was_woken_by_a_message_is_healthy() {
        let mut notes = Notes::default();
        notes.turn(0).note(EntryKind::Readiness, Object::Loop, 0, [1, 0]).note(
            EntryKind::Message,
            Object::Loop,
            0,
            [0; 2],
        );
        for at in 1..9 {
            notes.turn(at * SECOND).ready(3).connection(3, EntryKind::Read, [5, 64]);
        }
        assert_eq!(notes.kinds(), []);
    }

    #[test]
    fn a_full_listener_without_a_client_is_healthy() {
        let mut notes = Notes::default();
        notes.turn(0).listener(EntryKind::Accept, [9, 0]).listener(EntryKind::Full, [7, 0]);
        notes.turn(9 * SECOND).listener(EntryKind::Accept, [0; 2]).errno(EAGAIN);
        notes.turn(19 * SECOND);
        assert_eq!(notes.kinds(), []);
    }

    #[test]
    fn waits_that_a_slow_callback_or_a_long_turn_explains_are_no_second_finding() {
        let mut notes = Notes::default();
        notes.turn_with(0, 2).ready(1).connection(1, EntryKind::Read, [64, 64]).connection(
            1,
            EntryKind::Deferred,
            [0; 2],
        );
        notes.connection(3, EntryKind::Write, [1, 2]).callback(Callback::Data, 2, 600 * MS);
        notes.now += 600 * MS;
        notes.turn(1_900 * MS);
        notes.connection(1, EntryKind::Read, [5, 64]).connection(3, EntryKind::Write, [1, 1]);
        assert_eq!(notes.kinds(), [FindingKind::LoopLag, FindingKind::SlowCallback]);
    }

    #[test]
    fn a_source_that_is_read_in_part_and_forgotten_for_a_second_is_left_ready() {
        let found = assert_threshold(SECOND, FindingKind::SourceLeftReady, |notes, waited| {
            notes.turn(0).ready(1).connection(1, EntryKind::Read, [64, 64]).callback(Callback::Data, 1, MS);
            notes.turn(waited).ready(1).connection(1, EntryKind::Read, [5, 64]);
        });
        assert_eq!((found.slot, found.entry_index), (1, 4));
        // An event that nothing follows, in a loop without other work.
        assert_threshold(SECOND, FindingKind::SourceLeftReady, |notes, waited| {
            notes.turn(0).ready(1).turn(waited);
        });
        // A short read is not the end if EOF follows.
        assert_threshold(SECOND, FindingKind::SourceLeftReady, |notes, waited| {
            notes.turn(0).connection(1, EntryKind::Readiness, [5, 101]).connection(1, EntryKind::Read, [5, 64]);
            notes.turn(waited).connection(1, EntryKind::Read, [0, 64]);
        });
    }

    #[test]
    fn a_listener_that_is_forgotten_after_an_error_is_left_ready_and_one_that_pauses_is_not() {
        let found = assert_threshold(SECOND, FindingKind::SourceLeftReady, |notes, waited| {
            notes.turn(0).listener(EntryKind::Readiness, [1, 100]).listener(EntryKind::Accept, [0; 2]).errno(EMFILE);
            notes.turn(waited).listener(EntryKind::Accept, [9, 0]).listener(EntryKind::Accept, [0; 2]).errno(EAGAIN);
        });
        let line =
            "listener 0 was ready, and its last call failed: Too many open files (os error 24); what it had waited ";
        assert!(found.sentence.starts_with(line), "{found}");
        let mut without_client = Notes::default();
        without_client.turn(0).listener(EntryKind::Accept, [0, 1]).errno(EMFILE);
        without_client.turn(2 * SECOND);
        assert_eq!(without_client.kinds(), []);
        let mut paused = Notes::default();
        paused.turn(0).listener(EntryKind::Accept, [0; 2]).errno(EMFILE);
        paused.listener(EntryKind::Backoff, [10 * MS, 0]).errno(EMFILE);
        paused.turn(2 * SECOND).listener(EntryKind::Accept, [0; 2]).errno(EAGAIN);
        assert_eq!(paused.kinds(), [FindingKind::Backoff]);
    }

    #[test]
    fn a_source_that_is_read_to_its_end_paused_blocked_or_closed_is_not_left_ready() {
        let ends: [fn(&mut Notes); 7] = [
            |notes| _ = notes.connection(1, EntryKind::Read, [5, 64]),
            |notes| _ = notes.connection(1, EntryKind::Read, [0, 64]).errno(EAGAIN),
            |notes| _ = notes.connection(1, EntryKind::Read, [0, 64]),
            |notes| _ = notes.connection(1, EntryKind::Paused, [0; 2]),
            |notes| _ = notes.connection(1, EntryKind::Closed, [0; 2]),
            |notes| _ = notes.turn(MS).connection(1, EntryKind::Read, [5, 64]),
            |notes| {
                notes.connection(1, EntryKind::Write, [5, 64]).turn(MS).connection(1, EntryKind::Write, [59, 59]);
            },
        ];
        for end in ends {
            let mut notes = Notes::default();
            notes.turn(0).ready(1).connection(1, EntryKind::Read, [64, 64]);
            end(&mut notes);
            notes.turn(9 * SECOND);
            assert_eq!(notes.kinds(), []);
        }
    }

    #[test]
    fn an_event_of_a_gone_object_or_a_closed_object_is_found_when_it_is_used() {
        let stale = |notes: &mut Notes| _ = notes.turn(0).connection(1, EntryKind::Readiness, [1, 99]);
        let mut notes = Notes::default();
        stale(&mut notes);
        let found = &notes.connection(1, EntryKind::Read, [5, 64]).findings()[..];
        assert_eq!((found.len(), found[0].kind, found[0].slot), (1, FindingKind::StaleEvent, 1));
        assert!(found[0].sentence.starts_with("an event of an object that is gone led to read of connection 1, "));
        let mut notes = Notes::default();
        notes.turn(0).connection(1, EntryKind::Closed, [0; 2]);
        let found = &notes.callback(Callback::Data, 1, MS).findings()[..];
        assert_eq!((found.len(), found[0].kind, found[0].slot), (1, FindingKind::StaleEvent, 1));
        assert!(found[0].sentence.starts_with("on_data of connection 1 followed its close; "));

        let mut discarded = Notes::default();
        stale(&mut discarded);
        // Its own event follows in the same turn, or it is served in a later one.
        discarded.ready(1).connection(1, EntryKind::Read, [5, 64]);
        stale(&mut discarded);
        discarded.turn(0).connection(1, EntryKind::Write, [5, 5]);
        discarded.connection(1, EntryKind::StaleEvent, [1, 99]).connection(1, EntryKind::Write, [5, 5]);
        discarded.connection(1, EntryKind::Closed, [0; 2]).callback(Callback::Close, 1, MS);
        assert_eq!(discarded.kinds(), []);
    }

    #[test]
    fn a_backoff_of_100_ms_is_found_with_its_error_and_tries() {
        let found = assert_threshold(100 * MS, FindingKind::Backoff, |notes, lasted| {
            for at in [0, 10 * MS, 30 * MS] {
                notes.turn(at).listener(EntryKind::Accept, [0; 2]).errno(EMFILE);
                notes.listener(EntryKind::Backoff, [10 * MS, 0]).errno(EMFILE);
            }
            notes.turn(lasted).listener(EntryKind::Accept, [9, 0]).listener(EntryKind::Accept, [0; 2]).errno(EAGAIN);
        });
        let sentence =
            "accept of listener 0 failed in 3 tries within 100 ms: Too many open files (os error 24); clients ";
        assert!(found.sentence.starts_with(sentence), "{found}");
    }

    #[test]
    fn output_without_progress_for_a_second_has_a_slow_reader() {
        let found = assert_threshold(SECOND, FindingKind::SlowReader, |notes, waited| {
            notes.turn(0).connection(1, EntryKind::Write, [9, 20]);
            notes.connection(1, EntryKind::Write, [0, 11]).errno(EAGAIN);
            notes.turn(waited).connection(1, EntryKind::Readiness, [2, 101]).connection(1, EntryKind::Write, [11, 11]);
        });
        assert!(
            found.sentence.starts_with("connection 1 accepted no output for 1.0 s, and 11 bytes waited; "),
            "{found}"
        );
        let mut notes = Notes::default();
        for at in 0..10 {
            notes.turn(at * 900 * MS).connection(1, EntryKind::Write, [9, 20]);
        }
        assert_eq!(notes.kinds(), [], "it reads slowly, but it reads");
        let mut notes = Notes::default();
        notes.turn(0).connection(1, EntryKind::Write, [9, 20]);
        notes.turn(MS).connection(1, EntryKind::Readiness, [2, 101]);
        notes.turn(9 * SECOND).connection(1, EntryKind::Write, [11, 11]);
        assert_eq!(notes.kinds(), [], "the loop did not write");
    }

    #[test]
    fn a_write_stalled_close_has_a_slow_reader_however_short_the_recording() {
        let reason = CLOSE_REASONS.iter().position(|reason| *reason == CloseReason::WriteStalled).expect("it is one");
        let mut notes = Notes::default();
        notes.turn(0).connection(1, EntryKind::Closed, [reason as u64, 1]);
        let found = notes.findings();
        assert_eq!((found.len(), found[0].kind, found[0].slot), (1, FindingKind::SlowReader, 1));
        assert!(found[0].sentence.contains("; the loop closed it as write-stalled; "), "{}", found[0]);
    }

    /// A poll that returns at once, and a turn.
    fn spin(notes: &mut Notes, apart: u64, progress: u64) -> &mut Notes {
        notes.now += apart;
        notes.note(EntryKind::PollBegin, Object::Loop, 0, [0, 0]).note(EntryKind::PollEnd, Object::Loop, 0, [0, 0]);
        notes.note(EntryKind::TurnEnd, Object::Loop, 0, [progress, 0])
    }

    #[test]
    fn a_thousand_polls_at_once_without_work_are_a_spin() {
        let polls = |notes: &mut Notes, polls, apart, progress| {
            for _ in 0..polls {
                spin(notes, apart, progress);
            }
        };
        let found = assert_threshold(1000, FindingKind::Spin, |notes, count| polls(notes, count, 5 * MS, 0));
        assert!(
            found.sentence.starts_with("1000 polls in a row returned at once within 5.0 s; the turns did nothing; ")
        );
        let mut healthy = Notes::default();
        polls(&mut healthy, 3000, 6 * MS, 0);
        polls(&mut healthy, 3000, MS, 1);
        for _ in 0..5 {
            polls(&mut healthy, 900, MS, 0);
            healthy.turn(healthy.now).connection(1, EntryKind::Read, [5, 64]);
        }
        assert_eq!(healthy.kinds(), []);
    }

    #[test]
    fn a_spin_names_the_object_that_is_served_in_each_turn() {
        let mut notes = Notes::default();
        for at in 0..1001 {
            // A loop that does not close at EOF.
            notes.turn(at * 1_000).ready(4).connection(4, EntryKind::Read, [0, 64]);
        }
        let found = notes.findings();
        assert_eq!((found.len(), found[0].kind, &*found[0].name), (1, FindingKind::Spin, "connection 4"), "{found:#?}");
    }

    #[test]
    fn what_happens_again_to_one_object_is_one_finding_with_the_worst_number() {
        let mut notes = Notes::default();
        notes.turn(0).callback(Callback::Data, 1, 60 * MS).callback(Callback::Open, 1, 90 * MS);
        notes.turn(SECOND).callback(Callback::Data, 1, 70 * MS).callback(Callback::Data, 2, 60 * MS);
        let found = notes.findings();
        let of: Vec<_> = found.iter().map(|one| (one.slot, one.number / MS, one.count)).collect();
        assert_eq!(of, [(1, 90, 3), (2, 60, 1)]);
        assert!(found[0].to_string().ends_with(" (3 times; this was the worst)"), "{}", found[0]);
    }

    #[test]
    fn lost_entries_may_have_ended_a_wait() {
        let mut notes = Notes::default();
        notes.turn(0).ready(1).connection(1, EntryKind::Read, [64, 64]).connection(2, EntryKind::Write, [9, 20]);
        notes.note(EntryKind::Lost, Object::Loop, 0, [5, 0]);
        notes.turn(9 * SECOND).connection(1, EntryKind::Read, [5, 64]);
        assert_eq!(notes.kinds(), []);
    }

    #[test]
    fn a_long_turn_is_a_loop_lag_also_if_steps_of_it_are_lost() {
        let found = assert_threshold(100 * MS, FindingKind::LoopLag, |notes, took| {
            notes.turn(5 * MS).ready(1).connection(1, EntryKind::Read, [64, 64]);
            notes.note(EntryKind::Lost, Object::Loop, 0, [5_000, 1]).now += took;
            notes.connection(1, EntryKind::Read, [5, 64]);
            notes.turn_with(notes.now, 3);
        });
        let line =
            "a turn took 100 ms, and 5000 steps of it did not fit the recording; 3 events and all timers waited ";
        assert!(found.sentence.starts_with(line), "{found}");
    }

    #[test]
    fn after_lost_entries_only_a_connection_that_is_seen_to_open_is_judged_by_its_reads() {
        for (opens, expected) in [(true, &[FindingKind::SourceLeftReady][..]), (false, &[])] {
            let mut notes = Notes::default();
            notes.note(EntryKind::Lost, Object::Loop, 0, [5, 0]).turn(0);
            if opens {
                notes.connection(1, EntryKind::Opened, [9, 0]);
            }
            notes.connection(1, EntryKind::Read, [64, 64]).turn(9 * SECOND);
            assert_eq!(notes.kinds(), expected);
        }
    }

    #[test]
    fn a_connection_that_existed_before_the_recording_may_be_paused() {
        let mut notes = Notes::default();
        notes.connection(1, EntryKind::Existing, [9, 0]).turn(0).ready(1).turn(9 * SECOND);
        assert_eq!(notes.kinds(), []);
    }

    #[test]
    fn findings_of_several_loops_are_ordered_by_time_and_named_by_address() {
        let mut notes = Notes::default();
        notes.turn(SECOND).connection(1, EntryKind::Opened, [9, 0]).callback(Callback::Data, 1, 60 * MS);
        let peer = Detail::Address(std::net::SocketAddr::from(([10, 0, 0, 9], 4000)));
        let part = LoopRecording { entries: notes.entries, details: vec![(3, peer)], ..LoopRecording::default() };
        let later = LoopRecording { started_after: Duration::from_secs(5), ..part.clone() };
        let found = findings(&Recording { loops: vec![later, part] });
        let of: Vec<_> = found.iter().map(|one| (one.loop_index, one.time.as_secs(), &*one.name)).collect();
        assert_eq!(of, [(1, 1, "10.0.0.9:4000"), (0, 6, "10.0.0.9:4000")]);
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let few = prop_oneof![0_u64..5, 0_u64..2_000_000_000, Just(u64::MAX)];
        let kinds = (prop::sample::select(EntryKind::ALL), prop::sample::select(Object::ALL), 0_u32..3, 0_u64..3);
        (kinds, [few.clone(), few.clone()], few, prop::option::of(0_i32..40)).prop_map(
            |((kind, object, slot, generation), numbers, nanoseconds, errno)| {
                let entry = Entry::new(kind, object, slot, generation).numbers(numbers);
                let entry = entry.at(Duration::from_nanos(nanoseconds));
                errno.map_or(entry, |errno| entry.error(&std::io::Error::from_raw_os_error(errno)))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn any_entries_have_findings_at_entries_of_theirs(
            entries in prop::collection::vec(any_entry(), 0..60),
            at in prop::collection::vec(0_usize..90, 0..5),
        ) {
            let details = at.iter().map(|at| (*at, Detail::Path("/tmp/socket".into()))).collect();
            let part = LoopRecording { entries, details, started_after: Duration::MAX, ..LoopRecording::default() };
            let recording = Recording { loops: vec![part] };
            let found = findings(&recording);
            for one in &found {
                prop_assert!(one.entry_index < recording.loops[0].entries.len());
                prop_assert_eq!(one.to_string().lines().count(), 1);
            }
            prop_assert_eq!(found, findings(&recording));
        }
    }
}
