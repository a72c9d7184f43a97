//! Deadlines by slot: an indexed heap, one deadline per slot.
//!
//! The heap is lazy: [`arm`](Deadlines::arm) moves a deadline only to an earlier time. A later one is noticed when the
//! earlier one expires, so that activity costs one comparison.

use crate::state::timestamp::Timestamp;

/// Deadlines by slot, the earliest at hand.
#[derive(Default)]
pub(crate) struct Deadlines {
    /// The slots that are armed.
    heap: Vec<u32>,
    /// By slot: when it comes up; [`NEVER`](Timestamp::NEVER) for a slot that is not armed.
    times: Vec<Timestamp>,
    /// By slot: where it stands in the heap, if it is armed.
    positions: Vec<u32>,
}

impl Deadlines {
    /// None, with room for `slots` before anything has to grow.
    pub(crate) fn with_capacity(slots: usize) -> Self {
        Self { heap: Vec::with_capacity(slots), times: Vec::with_capacity(slots), positions: Vec::with_capacity(slots) }
    }

    /// Sees to it that the slot comes up at `at` or before.
    pub(crate) fn arm(&mut self, slot: u32, at: Timestamp) {
        let before = self.deadline(slot);
        if at >= before {
            return;
        }
        if slot as usize >= self.times.len() {
            self.times.resize(slot as usize + 1, Timestamp::NEVER);
            self.positions.resize(slot as usize + 1, 0);
        }
        self.times[slot as usize] = at;
        let position = if before == Timestamp::NEVER {
            self.heap.push(slot);
            self.heap.len() - 1
        } else {
            self.positions[slot as usize] as usize
        };
        self.sift_up(position);
    }

    /// Forgets the slot.
    pub(crate) fn disarm(&mut self, slot: u32) {
        if self.deadline(slot) != Timestamp::NEVER {
            self.remove(self.positions[slot as usize] as usize);
        }
    }

    /// The earliest moment at which a slot comes up.
    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        self.heap.first().map(|&first| self.deadline(first))
    }

    /// When the slot comes up; [`NEVER`](Timestamp::NEVER) if it does not.
    pub(crate) fn deadline(&self, slot: u32) -> Timestamp {
        self.times.get(slot as usize).copied().unwrap_or(Timestamp::NEVER)
    }

    /// Takes out a slot whose moment has come.
    pub(crate) fn pop_expired(&mut self, now: Timestamp) -> Option<u32> {
        let first = *self.heap.first()?;
        (self.deadline(first) <= now).then(|| {
            self.remove(0);
            first
        })
    }

    fn remove(&mut self, position: usize) {
        let slot = self.heap.swap_remove(position);
        self.times[slot as usize] = Timestamp::NEVER;
        if position < self.heap.len() {
            let settled = self.sift_up(position);
            self.sift_down(settled);
        }
    }

    fn time_at(&self, position: usize) -> Timestamp {
        self.times[self.heap[position] as usize]
    }

    /// Moves an entry towards the root until its parent is no later; returns where it came to stand.
    fn sift_up(&mut self, mut position: usize) -> usize {
        while position > 0 && self.time_at(position) < self.time_at((position - 1) / 2) {
            self.swap(position, (position - 1) / 2);
            position = (position - 1) / 2;
        }
        self.record_position(position);
        position
    }

    /// Moves an entry away from the root until no child is earlier.
    fn sift_down(&mut self, mut position: usize) {
        loop {
            let children = 2 * position + 1..(2 * position + 3).min(self.heap.len());
            match children.min_by_key(|&child| self.time_at(child)) {
                Some(child) if self.time_at(child) < self.time_at(position) => {
                    self.swap(position, child);
                    position = child;
                }
                _ => break,
            }
        }
        self.record_position(position);
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.record_position(one);
        self.record_position(other);
    }

    #[expect(clippy::cast_possible_truncation, reason = "one entry a slot at most, and slots are 32 bits")]
    fn record_position(&mut self, position: usize) {
        self.positions[self.heap[position] as usize] = position as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[derive(Clone, Debug)]
    enum Act {
        Arm(u32, u64),
        Disarm(u32),
        Pop(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0u32..64, 0u64..1000).prop_map(|(slot, at)| Act::Arm(slot, at)),
            2 => (0u32..64).prop_map(Act::Disarm),
            1 => (0u64..1000).prop_map(Act::Pop),
        ]
    }

    fn at(nanoseconds: u64) -> Timestamp {
        Timestamp::since_start(Duration::from_nanos(nanoseconds))
    }

    proptest! {
        /// The model: for each slot the earliest moment it was armed for since it last came up.
        #[test]
        fn the_heap_agrees_with_a_map(acts in prop::collection::vec(act(), 1..300)) {
            let mut deadlines = Deadlines::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for act in acts {
                match act {
                    Act::Arm(slot, when) => {
                        deadlines.arm(slot, at(when));
                        let armed = model.entry(slot).or_insert(when);
                        *armed = when.min(*armed);
                    }
                    Act::Disarm(slot) => {
                        deadlines.disarm(slot);
                        model.remove(&slot);
                    }
                    Act::Pop(now) => match deadlines.pop_expired(at(now)) {
                        Some(slot) => {
                            let armed = model.remove(&slot).expect("an armed slot came up");
                            prop_assert!(armed <= now, "early");
                            prop_assert!(model.values().all(|other| *other >= armed), "out of order");
                        }
                        None => prop_assert!(model.values().all(|armed| *armed > now), "one is late"),
                    },
                }
                prop_assert_eq!(deadlines.earliest(), model.values().min().map(|when| at(*when)));
                prop_assert_eq!(deadlines.heap.len(), model.len());
            }
        }
    }

    #[test]
    fn a_deadline_that_never_comes_takes_no_room() {
        let mut deadlines = Deadlines::default();
        deadlines.arm(7, Timestamp::NEVER);
        assert_eq!(deadlines.earliest(), None);
        assert!(deadlines.times.is_empty());
    }
}
