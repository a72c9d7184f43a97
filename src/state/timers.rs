//! Timers: what comes up when, and for whom.
//!
//! Pure. A timer belongs to a handler, which gets its number back, or to a closure of the embedder's, which stands with
//! the stations. They come up in the order of their moments, those of one moment in the order they were set; one that
//! was removed never does.

use std::collections::BTreeMap;

use slab::Slab;

use crate::ids::{Place, slot_of};
use crate::state::timestamp::Moment;

/// All timers of a loop.
#[derive(Default)]
pub(crate) struct Timers {
    entries: Slab<Timer>,
    /// The slots of those that are set.
    queue: BTreeMap<Due, u32>,
    /// How many times one was set.
    settings: u64,
}

/// When a timer comes up, and which of those that come up together goes first.
type Due = (Moment, u64);

struct Timer {
    serial: u64,
    task: Task,
    due: Due,
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
        let due = self.due(at);
        let slot = slot_of(self.entries.insert(Timer { serial, task, due }));
        self.queue.insert(due, slot);
        Place { serial, slot }
    }

    /// Has a timer that has come up come up again; false if it was removed meanwhile.
    pub(crate) fn again(&mut self, place: Place, at: Moment) -> bool {
        let due = self.due(at);
        let Some(timer) = self.entries.get_mut(place.slot as usize).filter(|timer| timer.serial == place.serial) else {
            return false;
        };
        self.queue.remove(&timer.due);
        timer.due = due;
        self.queue.insert(due, place.slot);
        true
    }

    /// Forgets a timer; false if it is gone already.
    pub(crate) fn remove(&mut self, place: Place) -> bool {
        let is_there = self.entries.get(place.slot as usize).is_some_and(|timer| timer.serial == place.serial);
        if is_there {
            let timer = self.entries.remove(place.slot as usize);
            self.queue.remove(&timer.due);
        }
        is_there
    }

    fn due(&mut self, at: Moment) -> Due {
        self.settings += 1;
        (at, self.settings)
    }

    /// The earliest moment at which one comes up.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.queue.first_key_value().map(|((at, _), _)| *at).filter(|at| *at != Moment::NEVER)
    }

    /// A timer whose moment has come. What it tells, it tells once; a tick stays until it is over.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<(Place, Task)> {
        let first = self.queue.first_entry().filter(|first| first.key().0 <= now)?;
        let slot = first.remove();
        let Timer { serial, task, .. } = self.entries[slot as usize];
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

    #[test]
    fn timers_of_one_moment_come_up_in_the_order_they_were_set() {
        let mut timers = Timers::default();
        let mut places: Vec<Place> = (1..=50).map(|serial| timers.add(serial, at(5), Task::Tick)).collect();
        timers.remove(places.remove(20));
        timers.remove(places.remove(0));
        places.extend((51..=60).map(|serial| timers.add(serial, at(5), Task::Tick)));
        let first = timers.add(61, at(4), Task::Tick);
        let up: Vec<Place> = std::iter::from_fn(|| timers.pop_due(at(5))).map(|(place, _)| place).collect();
        assert_eq!((up[0], &up[1..]), (first, &places[..]));
    }

    #[test]
    fn a_timer_that_never_comes_up_is_nothing_to_wait_for() {
        let mut timers = Timers::default();
        let never = timers.add(1, Moment::NEVER, Task::Tick);
        assert_eq!(timers.next(), None);
        assert!(timers.remove(never) && timers.queue.is_empty());
    }
}
