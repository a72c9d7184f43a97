//! When an observer is called, and what each level notes.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use halloo::observe::{EntryKind, Level};
use halloo::{ErrorKind, EventLoop, stream};

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::Client;
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{turn_until, turn_until_idle};
use crate::observe::noted_turns::{Note, Notes};

#[test]
fn an_observer_is_called_once_after_each_turn_and_never_in_a_callback() {
    let (is_in_callback, calls, open_callbacks) = (Cell::new(false), Cell::new(0), Cell::new(0));
    let act = || is_in_callback.set(!is_in_callback.get());
    let mut events = EventLoop::new().expect("a loop");
    events.journal_level(Level::All);
    events.set_observer(|turn| {
        assert!(!is_in_callback.get(), "the observer was called in a callback");
        calls.set(calls.get() + 1);
        let count = |kind| turn.entries.iter().filter(|entry| entry.kind == kind).count();
        assert_eq!(count(EntryKind::TurnEnd), 1, "a call is for one turn");
        assert_eq!(turn.entries.last().map(|entry| entry.kind), Some(EntryKind::TurnEnd));
        assert_eq!(count(EntryKind::CallbackBegin), count(EntryKind::CallbackEnd), "a callback was split");
        open_callbacks.set(open_callbacks.get() + count(EntryKind::CallbackEnd));
    });
    let handler = stream(|connection, input| {
        act();
        let sent = connection.try_write(input);
        act();
        sent
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.request(&mut events, b"hello", 5);
    events.handle().post(|_| {}).expect("the loop runs");
    turn_until(&mut events, "the job", |events| events.stats().jobs == 1);
    events.every(Duration::ZERO, |_| {
        act();
        act();
        None
    });
    turn_until(&mut events, "the timer", |events| events.stats().timers == 1);
    turn_until_idle(&mut events);
    assert_eq!(calls.get(), events.stats().turns);
    // `on_open`, `on_data`, the job and the timer.
    assert_eq!(open_callbacks.get(), 4);
}

#[test]
fn a_level_that_a_callback_lowers_leaves_the_entries_of_its_own_turn() {
    let notes = Notes::default();
    let mut events = notes.recorded_loop();
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    let handle = events.handle();
    for level in [Level::Turns, Level::Off] {
        handle.post(|context| context.journal_level(Level::All)).expect("the loop runs");
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        let before = notes.turns.borrow().len();
        handle.post(move |context| context.journal_level(level)).expect("the loop runs");
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        let turns = notes.turns.borrow();
        let callbacks =
            turns[before..].concat().iter().filter(|note| note.entry.kind == EntryKind::CallbackEnd).count();
        assert_eq!((turns.len() - before, callbacks), (1, 1), "to {level}");
    }
}

#[test]
fn a_level_set_on_another_thread_takes_effect_after_at_most_one_turn() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    events.set_observer(|turn| notes.add(turn));
    let handle = events.handle();
    let turns_observed_at = |events: &mut EventLoop<'_>, level| {
        let handle = handle.clone();
        thread::spawn(move || handle.journal_level(level)).join().expect("no panic").expect("the loop runs");
        // The turn that takes the job has the level of before.
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        let before = notes.turns.borrow().len();
        for _ in 0..3 {
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        }
        notes.turns.borrow().len() - before
    };
    let levels = [Level::Off, Level::All, Level::Turns, Level::Off, Level::All];
    assert_eq!(levels.map(|level| turns_observed_at(&mut events, level)), [0, 3, 3, 0, 3]);
    turn_until_idle(&mut events);
}

#[test]
fn at_level_turns_only_polls_and_turns_are_noted() {
    let notes = Notes::default();
    let mut events = notes.recorded_loop();
    events.journal_level(Level::Turns);
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.request(&mut events, b"hello", 5);
    let kinds = |turn: &Vec<Note>| turn.iter().map(|note| note.entry.kind).collect::<Vec<_>>();
    for turn in notes.turns.borrow().iter() {
        assert_eq!(kinds(turn), [EntryKind::PollBegin, EntryKind::PollEnd, EntryKind::TurnEnd]);
    }
    assert_eq!(notes.turns.borrow().len() as u64, events.stats().turns);
}

#[test]
fn turn_statistics_count_every_turn_from_level_turns_on() {
    let busy_for = Duration::from_millis(2);
    let wait = Duration::from_millis(2);
    let mut events = EventLoop::new().expect("a loop");
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    assert_eq!(events.stats().turn_time.count(), 0, "nothing is kept at level off");
    for level in [Level::Turns, Level::All] {
        events.journal_level(level);
        let before = events.stats().clone();
        events
            .handle()
            .post(move |_| {
                let start = Instant::now();
                while start.elapsed() < busy_for {}
            })
            .expect("the loop runs");
        for _ in 0..5 {
            let _ = events.turn(Some(wait)).expect("the poll works");
        }
        let after = events.stats();
        let turns = after.turns - before.turns;
        let counts = [&after.turn_time, &after.poll_time, &after.events_per_turn].map(|histogram| histogram.count());
        assert_eq!(counts, [before.turn_time.count() + turns; 3], "{level}");
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).expect("a short time");
        assert!(after.turn_time.max() >= nanoseconds(busy_for), "{:?}", after.turn_time);
        assert!(after.poll_time.sum() - before.poll_time.sum() >= nanoseconds(3 * wait), "{:?}", after.poll_time);
        let polled = after.events_per_turn.sum() - before.events_per_turn.sum();
        assert_eq!(polled, after.events - before.events, "the waker's event");
    }
}

#[test]
fn what_happens_between_two_turns_is_noted_at_the_front_of_the_next() {
    let notes = Notes::default();
    let mut events = notes.recorded_loop();
    turn_until_idle(&mut events);
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    let turns = notes.turns.borrow();
    let last = turns.last().expect("a turn");
    let address = events.local_addr(listener).ok();
    assert_eq!((last[0].entry.kind, last[0].address), (EntryKind::Listening, address));
    let poll = last.iter().position(|note| note.entry.kind == EntryKind::PollBegin).expect("a poll");
    assert!(last[..poll].iter().any(|note| note.entry.kind == EntryKind::Registered), "{last:?}");
}

#[test]
fn with_catch_panics_a_panic_of_the_observer_is_counted_and_the_loop_continues() {
    let calls = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    events.catch_panics(true);
    events.journal_level(Level::All);
    events.set_observer(|_| {
        calls.set(calls.get() + 1);
        assert_ne!(calls.get(), 2, "this is the panic of the test");
    });
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.request(&mut events, b"hello", 5);
    turn_until(&mut events, "a panic", |events| events.stats().panics == 1);
    client.request(&mut events, b"hello", 5);
    assert_eq!(calls.get(), events.stats().turns, "the observer stays");
}

#[test]
fn without_catch_panics_a_panic_of_the_observer_ends_the_loop() {
    let mut events = EventLoop::new().expect("a loop");
    events.journal_level(Level::Turns);
    events.set_observer(|_| panic!("this is the panic of the test"));
    let panic = catch_unwind(AssertUnwindSafe(|| events.turn(Some(Duration::ZERO))));
    assert!(panic.is_err(), "the panic unwinds out of the turn");
    let error = events.turn(Some(Duration::ZERO)).expect_err("the loop has ended");
    assert_eq!(error.kind(), ErrorKind::Setup);
}
