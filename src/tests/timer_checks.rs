//! Timers of every kind, each with the moment before which it must not come up.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::handlers::Fuse;

use crate::context::Context;
use crate::event_loop::EventLoop;
use crate::ids::{HandlerId, TimerId};
use crate::testing::Simulation;

/// What was set, and not taken back.
#[derive(Default)]
pub(super) struct Clocks {
    values: BTreeMap<u64, (Instant, TimerId)>,
    next_value: u64,
    ticks: Vec<Rc<Tick>>,
    /// Ticks end at their next chance.
    pub(super) are_ending: Rc<Cell<bool>>,
}

/// A closure that is called again and again.
#[derive(Default)]
struct Tick {
    /// When it comes up; `None` once it is over.
    due: Cell<Option<Instant>>,
    id: Cell<Option<TimerId>>,
}

/// The loop keeps to its promise that what is set comes up later than now.
fn due(now: Instant, after: Duration) -> Instant {
    now + after.max(Duration::from_nanos(1))
}

impl Clocks {
    fn schedule(&mut self, context: &mut Context, handler: HandlerId, after: Duration) {
        self.next_value += 1;
        let id = context.schedule(handler, after, self.next_value);
        self.values.insert(self.next_value, (due(context.now(), after), id));
    }

    /// A value has come.
    pub(super) fn fired(&mut self, context: &Context, value: u64) {
        let (due, _) = self.values.remove(&value).expect("a value comes once, and not after it was removed");
        assert!(context.now() >= due, "value {value} has come early");
    }

    /// Removes one that is set, if there is any.
    fn remove(&mut self, simulation: &Simulation, context: &mut Context) {
        let value = simulation.below(self.next_value + 1);
        if let Some((_, id)) = self.values.remove(&value) {
            assert!(context.remove(id) && !context.remove(id), "a value that has not come can be removed, once");
        }
        let index = usize::try_from(simulation.below(self.ticks.len() as u64 + 1)).expect("an index");
        if let Some(tick) = self.ticks.get(index) {
            let is_set = tick.due.take().is_some();
            assert_eq!(context.remove(tick.id.get().expect("it was set")), is_set, "a tick is there until it is over");
        }
    }

    /// Whether nothing is set any more.
    pub(super) fn are_over(&self) -> bool {
        self.values.is_empty() && self.ticks.iter().all(|tick| tick.due.get().is_none())
    }

    /// After a turn nothing is left that was due in it.
    pub(super) fn assert_none_is_late(&self, tables: &Context) {
        let now = tables.now();
        let late = self.values.iter().find(|(_, (due, _))| *due <= now);
        assert!(late.is_none(), "a value that was due has not come: {late:?}");
        assert!(self.ticks.iter().all(|tick| tick.due.get().is_none_or(|due| due > now)), "a tick is late");
    }
}

/// Sets one timer of some kind, or removes one.
pub(super) fn wind(
    clocks: &Rc<RefCell<Clocks>>,
    simulation: &Simulation,
    events: &mut EventLoop<'static>,
    handler: HandlerId,
    fuse: Option<&Fuse>,
) {
    let after = Duration::from_micros(simulation.below(4) * simulation.below(10_000));
    match simulation.below(4) {
        0 | 1 => clocks.borrow_mut().schedule(events.context(), handler, after),
        2 => clocks.borrow_mut().remove(simulation, events.context()),
        _ => {
            let tick = Rc::<Tick>::default();
            let first = due(events.context().now(), after);
            let closure = ticking(&tick, simulation, &clocks.borrow().are_ending, fuse.cloned());
            tick.id.set(Some(events.every(after, closure)));
            tick.due.set(Some(first));
            clocks.borrow_mut().ticks.push(tick);
        }
    }
}

/// A closure that checks when it is called, and ends, removes itself or panics now and then.
fn ticking(
    tick: &Rc<Tick>,
    simulation: &Simulation,
    are_ending: &Rc<Cell<bool>>,
    fuse: Option<Fuse>,
) -> impl FnMut(&mut Context) -> Option<Duration> + 'static {
    let (tick, simulation, are_ending) = (Rc::clone(tick), simulation.clone(), Rc::clone(are_ending));
    move |context| {
        let was_due = tick.due.take().expect("what is over is not called");
        assert!(context.now() >= was_due, "a tick is early");
        let after = Duration::from_micros(simulation.below(3) * simulation.below(5_000));
        match (simulation.below(6), &fuse) {
            _ if are_ending.get() => None,
            (0, _) => None,
            (1, _) => {
                let own = tick.id.get().expect("it was set");
                assert!(context.remove(own) && !context.remove(own), "a tick may remove itself, once");
                Some(after)
            }
            (2, Some(fuse)) => {
                fuse.burn(1);
                None
            }
            _ => {
                tick.due.set(Some(due(context.now(), after)));
                Some(after)
            }
        }
    }
}
