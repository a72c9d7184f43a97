//! The station of timers: calls what has come due.
//!
//! The closures stand here, since they may borrow what the tables cannot; when each comes up is a matter of the tables.
//! It promises that a timer fires never early, and once for each time it was set; and that timers without end leave
//! room for everything else in a turn.

use std::time::Duration;

use crate::context::Context;
use crate::event_loop::callbacks::{Callbacks, guarded};
use crate::ids::Place;
use crate::limits;
use crate::state::timers::Task;

/// A closure that says how long until it is called again, or `None` for never.
pub(crate) type Tick<'h> = Box<dyn FnMut(&mut Context) -> Option<Duration> + 'h>;

/// The closures of timers, by the slot of their entry in the tables, each with its serial.
#[derive(Default)]
pub(crate) struct Ticks<'h> {
    ticks: Vec<Option<(u64, Tick<'h>)>>,
}

impl<'h> Ticks<'h> {
    pub(crate) fn add(&mut self, place: Place, tick: Tick<'h>) {
        let slot = place.slot as usize;
        if self.ticks.len() <= slot {
            self.ticks.resize_with(slot + 1, || None);
        }
        self.ticks[slot] = Some((place.serial, tick));
    }

    /// Drops a closure, if it is still the one that stands there.
    pub(crate) fn remove(&mut self, place: Place) {
        if let Some(entry) = self.ticks.get_mut(place.slot as usize) {
            entry.take_if(|(serial, _)| *serial == place.serial);
        }
    }

    /// Calls what has come due; true if there was anything.
    pub(crate) fn expire(&mut self, tables: &mut Context, callbacks: &mut Callbacks<'h>) -> bool {
        let mut any = false;
        for _ in 0..limits::TIMERS_PER_TURN_MAX {
            let Some((place, task)) = tables.timers.pop_due(tables.now) else {
                break;
            };
            any = true;
            tables.stats.timers += 1;
            match task {
                Task::Tell { handler, value } => callbacks.timer(tables, handler, value),
                Task::Tick => self.tick(tables, place),
            }
        }
        any
    }

    /// Calls a closure. It is out of its slot meanwhile, so that it may remove itself; one that panics is over.
    fn tick(&mut self, tables: &mut Context, place: Place) {
        let Some((_, mut tick)) = self.ticks.get_mut(place.slot as usize).and_then(Option::take) else {
            return;
        };
        tables.ticking = Some(place);
        let outcome = guarded(tables, |context| tick(context));
        tables.ticking = None;
        if outcome.is_none() {
            log::error!("a timer has panicked, and is over");
        }
        let again = outcome.flatten().is_some_and(|after| {
            // planted: timer-repeats-at-once
            let at = tables.later(after);
            tables.timers.again(place, at)
        });
        if again {
            self.add(place, tick);
        } else {
            tables.timers.remove(place);
        }
    }
}
