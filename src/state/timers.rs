//! Timers, and the task of each.

use slab::Slab;

use crate::ids::{Key, to_slot};
use crate::limits;
use crate::state::memory::shrink_slab;

/// All timers of a loop, without their deadlines.
#[derive(Default)]
pub(crate) struct Timers {
    entries: Slab<Timer>,
}

#[derive(Clone, Copy)]
struct Timer {
    generation: u64,
    task: TimerTask,
}

/// The task of an expired timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerTask {
    /// Calls the closure in its slot, which returns the time until the next call.
    Callback,
    /// Calls the handler with the value, once.
    Handler { handler: u32, value: u64 },
    /// Nothing: the timer was removed, and its closure is still in its slot.
    Removed,
}

impl Timers {
    pub(crate) fn add(&mut self, generation: u64, task: TimerTask) -> Key {
        Key { generation, slot: to_slot(self.entries.insert(Timer { generation, task })) }
    }

    /// The timer in a slot.
    pub(crate) fn get(&self, slot: u32) -> (Key, TimerTask) {
        let Timer { generation, task } = self.entries[slot as usize];
        (Key { generation, slot }, task)
    }

    /// The generation of the timer in a slot.
    pub(crate) fn generation(&self, slot: u32) -> Option<u64> {
        self.entries.get(slot as usize).map(|timer| timer.generation)
    }

    /// The tasks of all timers.
    #[cfg(test)]
    pub(crate) fn tasks(&self) -> impl Iterator<Item = TimerTask> {
        self.entries.iter().map(|(_, timer)| timer.task)
    }

    pub(crate) fn contains(&self, key: Key) -> bool {
        let entry = self.entries.get(key.slot as usize);
        entry.is_some_and(|timer| timer.generation == key.generation && timer.task != TimerTask::Removed)
    }

    pub(crate) fn is_large(&self) -> bool {
        self.entries.capacity() > 2 * limits::BURST_MIN
    }

    /// Releases the memory of a burst of timers.
    pub(crate) fn shrink(&mut self) {
        shrink_slab(&mut self.entries, limits::BURST_MIN, || Timer { generation: 0, task: TimerTask::Callback });
    }

    /// Removes a timer; `None` if it is already gone. The slot of a closure is not free until it is
    /// [freed](Self::free).
    pub(crate) fn remove(&mut self, key: Key) -> Option<TimerTask> {
        if !self.contains(key) {
            return None;
        }
        let entry = &mut self.entries[key.slot as usize];
        let task = std::mem::replace(&mut entry.task, TimerTask::Removed);
        if task != TimerTask::Callback {
            self.free(key);
        }
        Some(task)
    }

    /// Frees the slot of a closure that is dropped.
    pub(crate) fn free(&mut self, key: Key) {
        self.entries.remove(key.slot as usize);
    }
}
