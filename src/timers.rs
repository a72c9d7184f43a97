//! Timers: what comes up when, and for whom.
//!
//! Pure. A timer belongs to a handler, which gets its number back, or to a closure of the embedder's, which stands with
//! the stations. One that was removed never comes up.

use slab::Slab;

use crate::deadlines::Deadlines;
use crate::moment::Moment;
use crate::token::{Place, slot_of};

/// All timers of a loop.
#[derive(Default)]
pub(crate) struct Timers {
    entries: Slab<Timer>,
    deadlines: Deadlines,
}

struct Timer {
    serial: u64,
    task: Task,
}

/// What is to be done when a timer comes up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// Call the closure that stands in its slot, which says when again.
    Tick,
    /// Hand a value to a handler, once.
    Tell { handler: u32, value: u64 },
}

impl Timers {
    pub(crate) fn add(&mut self, serial: u64, at: Moment, task: Task) -> Place {
        let slot = slot_of(self.entries.insert(Timer { serial, task }));
        self.deadlines.arm(slot, at);
        Place { serial, slot }
    }

    /// Has a timer that has come up come up again; false if it was removed meanwhile.
    pub(crate) fn again(&mut self, place: Place, at: Moment) -> bool {
        let is_there = self.has(place);
        if is_there {
            self.deadlines.arm(place.slot, at);
        }
        is_there
    }

    /// Forgets a timer; false if it is gone already.
    pub(crate) fn remove(&mut self, place: Place) -> bool {
        let is_there = self.has(place);
        if is_there {
            self.entries.remove(place.slot as usize);
            self.deadlines.disarm(place.slot);
        }
        is_there
    }

    fn has(&self, place: Place) -> bool {
        self.entries.get(place.slot as usize).is_some_and(|timer| timer.serial == place.serial)
    }

    /// The earliest moment at which one comes up.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.deadlines.next()
    }

    /// A timer whose moment has come. What it tells, it tells once; a tick stays until it is over.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<(Place, Task)> {
        let slot = self.deadlines.pop_due(now)?;
        let Timer { serial, task } = self.entries[slot as usize];
        if task != Task::Tick {
            self.entries.remove(slot as usize);
        }
        Some((Place { serial, slot }, task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Moment {
        Moment::START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_value_is_told_once_and_a_tick_until_it_is_over() {
        let mut timers = Timers::default();
        let tell = Task::Tell { handler: 0, value: 7 };
        let told = timers.add(1, at(1), tell);
        let ticking = timers.add(2, at(2), Task::Tick);
        assert_eq!((timers.next(), timers.pop_due(at(0))), (Some(at(1)), None));
        assert_eq!(timers.pop_due(at(2)), Some((told, tell)));
        assert_eq!(timers.pop_due(at(2)), Some((ticking, Task::Tick)));
        assert_eq!(timers.pop_due(at(9)), None);
        assert!(timers.again(ticking, at(3)) && !timers.again(told, at(3)));
        assert_eq!(timers.pop_due(at(3)), Some((ticking, Task::Tick)));
    }

    #[test]
    fn a_removed_timer_never_comes_up_whoever_has_its_slot() {
        let mut timers = Timers::default();
        let first = timers.add(1, at(1), Task::Tick);
        assert!(timers.remove(first) && !timers.remove(first));
        let second = timers.add(2, at(2), Task::Tick);
        assert_eq!(first.slot, second.slot);
        assert!(!timers.again(first, at(0)));
        assert_eq!(timers.pop_due(at(9)), Some((second, Task::Tick)));
    }
}
