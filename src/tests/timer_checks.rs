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

/// The timers that are set and not removed.
#[derive(Default)]
pub(super) struct TimerChecks {
    values: BTreeMap<u64, (Instant, TimerId)>,
    next_value: u64,
    repeating: Vec<Rc<RepeatingTimer>>,
    /// Repeating timers end at their next call.
    pub(super) stop_requested: Rc<Cell<bool>>,
}

/// A closure that is called repeatedly.
#[derive(Default)]
struct RepeatingTimer {
    /// The next due time, or `None` after its end.
    due: Cell<Option<Instant>>,
    id: Cell<Option<TimerId>>,
}

/// The due time of a timer set now: `after` from the call, and never at once.
fn due(context: &Context, after: Duration) -> Instant {
    context.network.now() + after.max(Duration::from_nanos(1))
}

impl TimerChecks {
    fn schedule(&mut self, context: &mut Context, handler: HandlerId, after: Duration) {
        self.next_value += 1;
        let id = context.schedule(handler, after, self.next_value);
        self.values.insert(self.next_value, (due(context, after), id));
    }

    /// Records that a value has come.
    pub(super) fn record_fired(&mut self, context: &Context, timer: TimerId, value: u64) {
        let (due, id) = self.values.remove(&value).expect("a value comes once, and not after its removal");
        assert_eq!(id, timer, "value {value} comes with the id of another timer");
        assert!(context.now() >= due, "value {value} has come early");
    }

    /// Removes a timer, if one is set.
    fn remove(&mut self, simulation: &Simulation, context: &mut Context) {
        let value = simulation.random_below(self.next_value + 1);
        if let Some((_, id)) = self.values.remove(&value) {
            assert!(context.remove(id) && !context.remove(id), "a timer that has not fired is removed once");
        }
        let index = usize::try_from(simulation.random_below(self.repeating.len() as u64 + 1)).expect("an index");
        if let Some(timer) = self.repeating.get(index) {
            let is_set = timer.due.take().is_some();
            assert_eq!(
                context.remove(timer.id.get().expect("the timer was set")),
                is_set,
                "a timer stays until it has ended"
            );
        }
    }

    /// Whether no timer is set.
    pub(super) fn are_finished(&self) -> bool {
        self.values.is_empty() && self.repeating.iter().all(|timer| timer.due.get().is_none())
    }

    /// After a turn no due timer is left.
    pub(super) fn assert_none_is_late(&self, context: &Context) {
        let now = context.now();
        let late = self.values.iter().find(|(_, (due, _))| *due <= now);
        assert!(late.is_none(), "a value that was due has not come: {late:?}");
        assert!(self.repeating.iter().all(|timer| timer.due.get().is_none_or(|due| due > now)), "a timer is late");
    }
}

/// Sets a random timer, or removes one.
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

/// Returns a closure that checks its due time, and sometimes ends, removes itself or panics.
fn repeating_callback(
    timer: &Rc<RepeatingTimer>,
    simulation: &Simulation,
    stop_requested: &Rc<Cell<bool>>,
    panic_injector: Option<PanicInjector>,
) -> impl FnMut(&mut Context) -> Option<Duration> + 'static {
    let (timer, simulation, stop_requested) = (Rc::clone(timer), simulation.clone(), Rc::clone(stop_requested));
    move |context| {
        let was_due = timer.due.take().expect("a timer fires after its end");
        assert!(context.now() >= was_due, "a timer is early");
        take_time(&simulation);
        let after = Duration::from_micros(simulation.random_below(3) * simulation.random_below(5_000));
        match (simulation.random_below(6), &panic_injector) {
            _ if stop_requested.get() => None,
            (0, _) => None,
            (1, _) => {
                let id = timer.id.get().expect("the timer was set");
                assert!(context.remove(id) && !context.remove(id), "a timer removes itself once");
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
