//! Timers of the workload: none early, none late, none twice.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::handlers::{PanicInjector, take_time};

use crate::context::Context;
use crate::event_loop::EventLoop;
use crate::ids::{HandlerId, TimerId};
use crate::testing::Simulation;

/// What was set, and not taken back.
#[derive(Default)]
pub(super) struct TimerChecks {
    values: BTreeMap<u64, (Instant, TimerId)>,
    next_value: u64,
    repeating: Vec<Rc<RepeatingTimer>>,
    /// Ticks end at their next chance.
    pub(super) stop_requested: Rc<Cell<bool>>,
}

/// A closure that is called again and again.
#[derive(Default)]
struct RepeatingTimer {
    /// When it comes up; `None` once it is over.
    due: Cell<Option<Instant>>,
    id: Cell<Option<TimerId>>,
}

/// When a timer that is set now comes up: this long after the call, and not at once.
fn due(context: &Context, after: Duration) -> Instant {
    context.network.now() + after.max(Duration::from_nanos(1))
}

impl TimerChecks {
    fn schedule(&mut self, context: &mut Context, handler: HandlerId, after: Duration) {
        self.next_value += 1;
        let id = context.schedule(handler, after, self.next_value);
        self.values.insert(self.next_value, (due(context, after), id));
    }

    /// A value has come.
    pub(super) fn record_fired(&mut self, context: &Context, timer: TimerId, value: u64) {
        let (due, id) = self.values.remove(&value).expect("a value comes once, and not after it was removed");
        assert_eq!(id, timer, "value {value} comes with another timer's id");
        assert!(context.now() >= due, "value {value} has come early");
    }

    /// Removes one that is set, if there is any.
    fn remove(&mut self, simulation: &Simulation, context: &mut Context) {
        let value = simulation.random_below(self.next_value + 1);
        if let Some((_, id)) = self.values.remove(&value) {
            assert!(context.remove(id) && !context.remove(id), "a value that has not come can be removed, once");
        }
        let index = usize::try_from(simulation.random_below(self.repeating.len() as u64 + 1)).expect("an index");
        if let Some(timer) = self.repeating.get(index) {
            let is_set = timer.due.take().is_some();
            assert_eq!(
                context.remove(timer.id.get().expect("it was set")),
                is_set,
                "a timer is there until it is over"
            );
        }
    }

    /// Whether nothing is set any more.
    pub(super) fn are_finished(&self) -> bool {
        self.values.is_empty() && self.repeating.iter().all(|timer| timer.due.get().is_none())
    }

    /// After a turn nothing is left that was due in it.
    pub(super) fn assert_none_is_late(&self, context: &Context) {
        let now = context.now();
        let late = self.values.iter().find(|(_, (due, _))| *due <= now);
        assert!(late.is_none(), "a value that was due has not come: {late:?}");
        assert!(self.repeating.iter().all(|timer| timer.due.get().is_none_or(|due| due > now)), "a timer is late");
    }
}

/// Sets one timer of some kind, or removes one.
pub(super) fn change_timers(
    timer_checks: &Rc<RefCell<TimerChecks>>,
    simulation: &Simulation,
    events: &mut EventLoop<'static>,
    handler: HandlerId,
    panic_injector: Option<&PanicInjector>,
) {
    let after = Duration::from_micros(simulation.random_below(4) * simulation.random_below(10_000));
    match simulation.random_below(4) {
        0 | 1 => timer_checks.borrow_mut().schedule(events.context(), handler, after),
        2 => timer_checks.borrow_mut().remove(simulation, events.context()),
        _ => {
            let timer = Rc::<RepeatingTimer>::default();
            let first = due(&events.context, after);
            let closure =
                repeating_callback(&timer, simulation, &timer_checks.borrow().stop_requested, panic_injector.cloned());
            timer.id.set(Some(events.every(after, closure)));
            timer.due.set(Some(first));
            timer_checks.borrow_mut().repeating.push(timer);
        }
    }
}

/// A closure that checks when it is called, and ends, removes itself or panics now and then.
fn repeating_callback(
    timer: &Rc<RepeatingTimer>,
    simulation: &Simulation,
    stop_requested: &Rc<Cell<bool>>,
    panic_injector: Option<PanicInjector>,
) -> impl FnMut(&mut Context) -> Option<Duration> + 'static {
    let (timer, simulation, stop_requested) = (Rc::clone(timer), simulation.clone(), Rc::clone(stop_requested));
    move |context| {
        let was_due = timer.due.take().expect("what is over is not called");
        assert!(context.now() >= was_due, "a timer is early");
        take_time(&simulation);
        let after = Duration::from_micros(simulation.random_below(3) * simulation.random_below(5_000));
        match (simulation.random_below(6), &panic_injector) {
            _ if stop_requested.get() => None,
            (0, _) => None,
            (1, _) => {
                let id = timer.id.get().expect("it was set");
                assert!(context.remove(id) && !context.remove(id), "a timer may remove itself, once");
                Some(after)
            }
            (2, Some(panic_injector)) => {
                panic_injector.maybe_panic(1);
                None
            }
            _ => {
                timer.due.set(Some(due(context, after)));
                Some(after)
            }
        }
    }
}
