//! Timers ordered by deadline, then by when they were set.
//!
//! A removed timer never fires, even if its slot is reused.

use std::collections::BTreeMap;

use slab::Slab;

use crate::ids::{Key, to_slot};
use crate::state::timestamp::Timestamp;

/// All timers of a loop.
#[derive(Default)]
pub(crate) struct Timers {
    entries: Slab<Timer>,
    /// The slots of those that are set.
    queue: BTreeMap<QueueKey, u32>,
    /// How many times one was set.
    sequence: u64,
}

/// When a timer comes up, and which of those that come up together goes first.
type QueueKey = (Timestamp, u64);

struct Timer {
    generation: u64,
    task: TimerTask,
    queue_key: QueueKey,
}

/// What is to be done when a timer comes up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerTask {
    /// Call the closure that stands in its slot, which says when again.
    Callback,
    /// Hand a value to a handler, once.
    Handler { handler: u32, value: u64 },
}

impl Timers {
    pub(crate) fn add(&mut self, generation: u64, at: Timestamp, task: TimerTask) -> Key {
        let queue_key = self.next_queue_key(at);
        let slot = to_slot(self.entries.insert(Timer { generation, task, queue_key }));
        self.queue.insert(queue_key, slot);
        Key { generation, slot }
    }

    /// Has a timer that has come up come up again; false if it was removed meanwhile.
    pub(crate) fn rearm(&mut self, key: Key, at: Timestamp) -> bool {
        let queue_key = self.next_queue_key(at);
        let Some(timer) = self.entries.get_mut(key.slot as usize).filter(|timer| timer.generation == key.generation)
        else {
            return false;
        };
        self.queue.remove(&timer.queue_key);
        timer.queue_key = queue_key;
        self.queue.insert(queue_key, key.slot);
        true
    }

    /// Forgets a timer; false if it is gone already.
    pub(crate) fn remove(&mut self, key: Key) -> bool {
        let is_there = self.entries.get(key.slot as usize).is_some_and(|timer| timer.generation == key.generation);
        if is_there {
            let timer = self.entries.remove(key.slot as usize);
            self.queue.remove(&timer.queue_key);
        }
        is_there
    }

    fn next_queue_key(&mut self, at: Timestamp) -> QueueKey {
        self.sequence += 1;
        (at, self.sequence)
    }

    /// The earliest moment at which one comes up.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.queue.first_key_value().map(|((at, _), _)| *at).filter(|at| *at != Timestamp::NEVER)
    }

    /// A timer whose moment has come. What it tells, it tells once; a tick stays until it is over.
    pub(crate) fn pop_expired(&mut self, now: Timestamp) -> Option<(Key, TimerTask)> {
        let first = self.queue.first_entry().filter(|first| first.key().0 <= now)?;
        let slot = first.remove();
        let Timer { generation, task, .. } = self.entries[slot as usize];
        if task != TimerTask::Callback {
            self.entries.remove(slot as usize);
        }
        Some((Key { generation, slot }, task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_value_is_told_once_and_a_tick_until_it_is_over() {
        let mut timers = Timers::default();
        let handler_task = TimerTask::Handler { handler: 0, value: 7 };
        let handler_timer = timers.add(1, at(1), handler_task);
        let callback_timer = timers.add(2, at(2), TimerTask::Callback);
        assert_eq!((timers.next_deadline(), timers.pop_expired(at(0))), (Some(at(1)), None));
        assert_eq!(timers.pop_expired(at(2)), Some((handler_timer, handler_task)));
        assert_eq!(timers.pop_expired(at(2)), Some((callback_timer, TimerTask::Callback)));
        assert_eq!(timers.pop_expired(at(9)), None);
        assert!(timers.rearm(callback_timer, at(3)) && !timers.rearm(handler_timer, at(3)));
        assert_eq!(timers.pop_expired(at(3)), Some((callback_timer, TimerTask::Callback)));
    }

    #[test]
    fn a_removed_timer_never_comes_up_whoever_has_its_slot() {
        let mut timers = Timers::default();
        let first = timers.add(1, at(1), TimerTask::Callback);
        assert!(timers.remove(first) && !timers.remove(first));
        let second = timers.add(2, at(2), TimerTask::Callback);
        assert_eq!(first.slot, second.slot);
        assert!(!timers.rearm(first, at(0)));
        assert_eq!(timers.pop_expired(at(9)), Some((second, TimerTask::Callback)));
    }

    #[test]
    fn timers_of_one_moment_come_up_in_the_order_they_were_set() {
        let mut timers = Timers::default();
        let mut keys: Vec<Key> =
            (1..=50).map(|generation| timers.add(generation, at(5), TimerTask::Callback)).collect();
        timers.remove(keys.remove(20));
        timers.remove(keys.remove(0));
        keys.extend((51..=60).map(|generation| timers.add(generation, at(5), TimerTask::Callback)));
        let first = timers.add(61, at(4), TimerTask::Callback);
        let expired: Vec<Key> = std::iter::from_fn(|| timers.pop_expired(at(5))).map(|(key, _)| key).collect();
        assert_eq!((expired[0], &expired[1..]), (first, &keys[..]));
    }

    #[test]
    fn a_timer_that_never_comes_up_is_nothing_to_wait_for() {
        let mut timers = Timers::default();
        let never = timers.add(1, Timestamp::NEVER, TimerTask::Callback);
        assert_eq!(timers.next_deadline(), None);
        assert!(timers.remove(never) && timers.queue.is_empty());
    }
}
