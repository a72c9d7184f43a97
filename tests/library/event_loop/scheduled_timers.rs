//! Timers: order, removal, budget and panics.
//!
//! A timer is never early, and fires once for each `schedule`.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use halloo::{Context, EventLoop, HandlerId, TimerId, Turn, stream};
use support::wait::TIMEOUT;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::Client;
use crate::helpers::recording_handler::{CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_repeated_timer_fires_after_each_duration_it_returns_but_not_early() {
    let fired = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let set = events.context().now();
    events.every(20 * MS, |context| {
        fired.borrow_mut().push(context.now());
        (fired.borrow().len() < 4).then_some(15 * MS)
    });
    turn_until(&mut events, "four ticks", |_| fired.borrow().len() == 4);
    turn_until_idle(&mut events);
    let fired = fired.borrow();
    assert_eq!((fired.len(), events.stats().timers), (4, 4), "the timer ended when it returned None");
    assert!(fired[0].duration_since(set) >= 20 * MS, "the first was early");
    assert!(fired.windows(2).all(|pair| pair[1].duration_since(pair[0]) >= 15 * MS), "early: {fired:?}");
}

#[test]
fn scheduled_values_arrive_once_ordered_by_time_and_then_by_call() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let late = events.context();
    for (after, value) in [(30, 7), (10, 1), (10, 2), (20, 5), (10, 3), (20, 6), (10, 4)] {
        late.schedule(handler, after * MS, value);
    }
    turn_until(&mut events, "the last value", |_| log.timer_values().len() == 7);
    turn_until_idle(&mut events);
    assert_eq!(log.timer_values(), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_scheduled_value_is_not_early_and_the_loop_sleeps_until_it_is_due() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let set = events.context().now();
    events.context().schedule(handler, 60 * MS, 1);
    let wait = events.next_timeout().expect("a timer is set");
    assert!(wait > 10 * MS && wait <= 60 * MS, "{wait:?}");
    let mut turns = 0;
    while log.timer_values().is_empty() {
        let _ = events.turn(None).expect("the poll works");
        turns += 1;
    }
    assert!(set.elapsed() >= 60 * MS, "the timer was early");
    assert!(turns <= 3, "{turns} turns for one sleep");
    assert_eq!(events.next_timeout(), None);
}

#[test]
fn a_timer_that_became_due_while_the_loop_was_busy_fires_without_a_sleep() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_timer(|_, value| {
        // The first callback runs for longer than the second timer waits.
        let start = Instant::now();
        while value == 1 && start.elapsed() < 30 * MS {}
    }));
    events.context().schedule(handler, MS, 1);
    events.context().schedule(handler, 20 * MS, 2);
    turn_until(&mut events, "the first", |_| log.timer_values() == [1]);
    assert_eq!(events.next_timeout(), Some(Duration::ZERO), "the second is due");
    assert_eq!(events.turn(None).expect("the poll works"), Turn::Progress);
    assert_eq!(log.timer_values(), [1, 2]);
}

#[test]
fn a_removed_timer_never_fires_and_its_id_finds_nothing() {
    let (log, tick_count) = (CallLog::default(), Cell::new(0));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let scheduled = events.context().schedule(handler, MS, 1);
    let tick = events.every(MS, |_| {
        tick_count.set(tick_count.get() + 1);
        Some(MS)
    });
    for id in [scheduled, tick] {
        assert!(events.context().remove(id) && !events.context().remove(id), "each is removed once");
    }
    // New timers reuse the slots. The old ids must not remove them.
    let last = events.context().schedule(handler, 20 * MS, 2);
    let other = events.context().schedule(handler, 10 * MS, 3);
    assert!(!events.context().remove(scheduled) && !events.context().remove(tick));
    turn_until(&mut events, "the other timers", |_| log.timer_values().len() == 2);
    assert_eq!((log.timer_values(), tick_count.get()), (vec![3, 2], 0));
    assert!(!events.context().remove(last) && !events.context().remove(other), "a timer that has fired has ended");
    assert_eq!(events.local_addr(last).expect_err("a timer has no address").kind(), halloo::ErrorKind::UnknownId);
}

#[test]
fn a_repeated_timer_can_remove_itself_and_timers_it_has_set_remain() {
    let (log, timer, handler, tick_count) = (CallLog::default(), Cell::new(None), Cell::new(None), Cell::new(0));
    let mut events = EventLoop::new().expect("a loop");
    handler.set(Some(events.attach(RecordingHandler::new(&log))));
    timer.set(Some(events.every(MS, |context: &mut Context| {
        let timer: TimerId = timer.get().expect("the timer is set");
        tick_count.set(tick_count.get() + 1);
        assert!(context.remove(timer) && !context.remove(timer));
        // The new timer reuses the free slot.
        context.schedule(handler.get().expect("the handler is attached"), 5 * MS, 9);
        Some(MS)
    })));
    turn_until(&mut events, "the timer's value", |_| log.timer_values() == [9]);
    turn_until_idle(&mut events);
    assert_eq!((tick_count.get(), events.next_timeout()), (1, None));
}

#[test]
fn a_closure_is_dropped_with_its_timer() {
    let shared = std::rc::Rc::new(());
    let mut events = EventLoop::new().expect("a loop");
    let count = || std::rc::Rc::strong_count(&shared);
    let tick = |shared: &std::rc::Rc<()>| {
        let clone = std::rc::Rc::clone(shared);
        move |_: &mut Context| {
            let _ = &clone;
            None
        }
    };
    let removed = events.every(TIMEOUT, tick(&shared));
    events.every(Duration::ZERO, tick(&shared));
    events.every(TIMEOUT, tick(&shared));
    assert_eq!(count(), 4);
    assert!(events.context().remove(removed));
    turn_until(&mut events, "the second has fired", |events| events.stats().timers == 1);
    assert_eq!(count(), 2, "one was removed, and one has ended");
    drop(events);
    assert_eq!(count(), 1);
}

#[test]
fn a_closure_removed_between_turns_is_dropped_by_the_next_without_a_wait() {
    let shared = std::rc::Rc::new(());
    let clone = std::rc::Rc::clone(&shared);
    let mut events = EventLoop::new().expect("a loop");
    let timer = events.every(TIMEOUT, move |_| {
        let _ = &clone;
        None
    });
    assert!(events.context().remove(timer));
    assert_eq!(events.next_timeout(), Some(Duration::ZERO));
    let _ = events.turn(None).expect("the poll works");
    assert_eq!(std::rc::Rc::strong_count(&shared), 1);
}

#[test]
fn a_panic_of_a_timer_ends_only_that_timer() {
    let (log, tick_count) = (CallLog::default(), Cell::new(0));
    let mut events = EventLoop::new().expect("a loop");
    events.catch_panics(true);
    let handler = events.attach(RecordingHandler::new(&log).on_timer(|_, value| {
        assert_ne!(value, 2, "this is the panic of the test");
    }));
    let panicking = events.every(MS, |_| panic!("this is the panic of the test"));
    events.every(MS, |_| {
        tick_count.set(tick_count.get() + 1);
        Some(MS)
    });
    for value in 1..=3 {
        events.context().schedule(handler, MS, value);
    }
    turn_until(&mut events, "the other timers", |_| log.timer_values().len() == 3 && tick_count.get() > 3);
    assert_eq!((log.timer_values(), events.stats().panics), (vec![1, 2, 3], 2));
    assert!(!events.context().remove(panicking), "the timer has ended");
    events.context().stop();
    turn_until_stopped(&mut events);
}

#[test]
fn timers_without_delay_fire_once_a_turn_and_do_not_starve_connections() {
    let (log, handler, ticks) = (CallLog::default(), Cell::new(None::<HandlerId>), Cell::new(0));
    let mut events = EventLoop::new().expect("a loop");
    handler.set(Some(events.attach(RecordingHandler::new(&log).on_timer(|context, value| {
        context.schedule(handler.get().expect("the handler is attached"), Duration::ZERO, value + 1);
    }))));
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    events.every(Duration::ZERO, |_| {
        ticks.set(ticks.get() + 1);
        Some(Duration::ZERO)
    });
    events.context().schedule(handler.get().expect("the handler is attached"), Duration::ZERO, 0);
    let first = events.stats().turns;
    for _ in 0..100 {
        assert_eq!(events.turn(Some(TIMEOUT)).expect("the poll works"), Turn::Progress);
    }
    assert_eq!(events.stats().turns - first, 100);
    assert!((99..=100).contains(&ticks.get()), "{} ticks in 100 turns", ticks.get());
    assert_eq!(log.timer_values(), (0..log.timer_values().len() as u64).collect::<Vec<_>>());
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.request(&mut events, b"Hello, TCP Server!", GREETING.len()), GREETING);
}

#[test]
fn a_running_loop_does_not_sleep_between_timers_without_delay() {
    let ticks = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    events.every(Duration::ZERO, |context| {
        ticks.set(ticks.get() + 1);
        if ticks.get() == 3_000 {
            context.stop();
        }
        Some(Duration::ZERO)
    });
    let start = Instant::now();
    events.run().expect("the poll works");
    // A poll waits for whole milliseconds: a wait for each of the 3,000 ticks would take 3 s.
    assert!(start.elapsed() < 2_000 * MS, "3,000 ticks took {:?}", start.elapsed());
}

#[test]
fn thousands_of_timers_due_at_once_are_bounded_per_turn_and_all_fire() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    for value in 0..5_000 {
        events.context().schedule(handler, MS, value);
    }
    client.send(b"hello");
    let mut last = 0;
    turn_until(&mut events, "all have come", |_| {
        let fired = log.timer_values().len();
        assert!(fired - last <= 1_024, "{} in a turn", fired - last);
        last = fired;
        fired == 5_000
    });
    assert_eq!(log.timer_values(), (0..5_000).collect::<Vec<_>>());
    turn_until(&mut events, "the echo", |_| client.has_received(5));
    turn_until_idle(&mut events);
}

#[test]
fn timers_fire_during_a_drain_and_do_not_delay_its_end() {
    let (log, tick_count) = (CallLog::default(), Cell::new(0));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let listener = events.listen_for(loopback(), handler).expect("a listener");
    let _client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| !log.ids().is_empty());
    events.every(MS, |_| {
        tick_count.set(tick_count.get() + 1);
        Some(MS)
    });
    events.context().schedule(handler, TIMEOUT, 1);
    events.context().drain(50 * MS);
    let report = turn_until_stopped(&mut events);
    assert!(report.elapsed >= 50 * MS && report.forced == 1, "{report:?}");
    assert!(tick_count.get() > 3, "{} ticks during a drain of 50 ms", tick_count.get());
    assert_eq!(log.timer_values(), [], "a timer due after the drain does not fire");
    let mut empty = EventLoop::new().expect("a loop");
    empty.every(MS, |_| Some(MS));
    empty.context().drain(TIMEOUT);
    assert!(turn_until_stopped(&mut empty).elapsed < TIMEOUT, "the drain waited for a timer");
}

#[test]
fn a_timer_of_the_longest_duration_sets_no_timeout() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let never = events.context().schedule(handler, Duration::MAX, 1);
    assert_eq!(events.next_timeout(), None);
    turn_until_idle(&mut events);
    assert!(events.context().remove(never));
}

#[test]
fn handlers_of_another_loop_are_refused_with_a_panic() {
    let (mut one, mut other) = (EventLoop::new().expect("a loop"), EventLoop::new().expect("a loop"));
    let foreign_handler = other.attach(stream(echo));
    one.attach(stream(echo));
    for ask in [
        |context: &mut Context, of| {
            context.schedule(of, Duration::ZERO, 0);
        },
        |context: &mut Context, of| {
            context.connect(loopback(), of);
        },
    ] {
        let outcome = catch_unwind(AssertUnwindSafe(|| ask(one.context(), foreign_handler)));
        let payload = outcome.expect_err("the handler is of another loop");
        assert!(payload.downcast_ref::<String>().is_some_and(|message| message.contains("another loop")));
    }
    turn_until_idle(&mut one);
}

#[test]
fn a_closure_removed_after_the_end_of_the_loop_is_dropped() {
    let shared = std::rc::Rc::new(());
    let mut events = EventLoop::new().expect("a loop");
    let held = std::rc::Rc::clone(&shared);
    let timer = events.every(TIMEOUT, move |_| (std::rc::Rc::strong_count(&held) == 0).then_some(MS));
    events.context().stop();
    turn_until_stopped(&mut events);
    assert!(events.context().remove(timer));
    turn_until_stopped(&mut events);
    assert_eq!(std::rc::Rc::strong_count(&shared), 1);
}

#[test]
fn a_timer_that_reuses_the_slot_of_a_removed_one_keeps_its_closure() {
    let tick_count = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    let removed = events.every(TIMEOUT, |_| None);
    assert!(events.context().remove(removed));
    // The removed closure is dropped in the next turn.
    events.every(MS, |_| {
        tick_count.set(tick_count.get() + 1);
        None
    });
    turn_until(&mut events, "the tick", |_| tick_count.get() == 1);
}

#[test]
fn a_timer_removed_by_an_earlier_callback_of_the_turn_does_not_fire() {
    for in_job in [true, false] {
        let (log, fired, first) = (CallLog::default(), Cell::new(0), RefCell::new(Vec::new()));
        let mut events = EventLoop::new().expect("a loop");
        let handler = events.attach(RecordingHandler::new(&log));
        // All timers are due in the next turn, in this order.
        events.every(Duration::ZERO, |context| {
            first.borrow_mut().drain(..).for_each(|timer: TimerId| assert!(context.remove(timer)));
            None
        });
        let mut timers = Vec::new();
        for _ in 0..3 {
            timers.push(events.context().schedule(handler, Duration::ZERO, 1));
            timers.push(events.every(Duration::ZERO, |_| {
                fired.set(fired.get() + 1);
                None
            }));
        }
        if in_job {
            let remove_all =
                move |context: &mut Context| timers.into_iter().for_each(|timer| assert!(context.remove(timer)));
            events.handle().post(remove_all).expect("the loop runs");
        } else {
            first.borrow_mut().extend(timers);
        }
        turn_until_idle(&mut events);
        assert_eq!((log.timer_values(), fired.get(), events.stats().timers), (vec![], 0, 1), "in a job: {in_job}");
    }
}
