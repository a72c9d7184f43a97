//! Deadlines in an indexed heap, ordered by time, then by sequence.
//!
//! Each connection, listener, UDP socket and timer has at most one deadline. Arming it again allocates nothing.

use crate::ids::SlotKey;
use crate::limits;
use crate::state::memory::{OutOfMemory, shrink_table};
use crate::state::timestamp::Timestamp;

/// All deadlines of a loop.
pub(crate) struct Deadlines {
    heap: Vec<Deadline>,
    /// By kind and slot: the position of the deadline in the heap, or [`NOT_ARMED`].
    positions: [Vec<u32>; 5],
    /// Connections with reserved room in the heap, whatever else is armed.
    connections_reserved: usize,
    /// Number of arms so far, wrapping.
    sequence: u32,
}

/// 16 bytes, because each idle connection has one.
#[derive(Clone, Copy)]
struct Deadline {
    at: Timestamp,
    sequence: u32,
    packed_key: u32,
}

const NOT_ARMED: u32 = u32::MAX;

/// Children of an entry. With four, an entry moves half as far as with two, and they lie in two cache lines.
const CHILDREN: usize = 4;

/// Entries with room from the start.
const HEAP_RESERVED: usize = limits::TABLE_BYTES_RESERVED / size_of::<Deadline>();
const POSITIONS_RESERVED: usize = limits::TABLE_BYTES_RESERVED / size_of::<u32>();

impl Deadline {
    fn is_before(&self, other: &Self) -> bool {
        // The sequence wraps: the earlier of two is less than half the range behind.
        self.at < other.at || self.at == other.at && self.sequence.wrapping_sub(other.sequence).cast_signed() < 0
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        let of_connections = Vec::with_capacity(POSITIONS_RESERVED);
        let heap = Vec::with_capacity(HEAP_RESERVED);
        let positions = [of_connections, Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        Self { heap, positions, connections_reserved: 0, sequence: 0 }
    }
}

impl Deadlines {
    /// Reserves room for `count` connections: arming their deadlines then allocates nothing.
    pub(crate) fn try_reserve_connections(&mut self, count: usize) -> Result<(), OutOfMemory> {
        let positions = &mut self.positions[SlotKey::Connection(0).kind_and_slot().0 as usize];
        positions.try_reserve_exact(count.saturating_sub(positions.len()))?;
        self.heap.try_reserve_exact(count)?;
        self.connections_reserved = count;
        Ok(())
    }

    /// Releases the memory of a burst of deadlines, and keeps room for this many connections.
    pub(crate) fn shrink(&mut self, connections: usize) {
        self.connections_reserved = connections;
        let used = self.heap.len() + connections;
        shrink_table(&mut self.heap, used, HEAP_RESERVED);
        for positions in &mut self.positions {
            while positions.pop_if(|position| *position == NOT_ARMED).is_some() {}
        }
        let [of_connections, others @ ..] = &mut self.positions;
        shrink_table(of_connections, connections, POSITIONS_RESERVED);
        for positions in others {
            let used = positions.len();
            shrink_table(positions, used, limits::BURST_MIN);
        }
    }

    /// Sets the deadline; [`NEVER`](Timestamp::NEVER) disarms it.
    pub(crate) fn arm(&mut self, key: SlotKey, at: Timestamp) {
        if at == Timestamp::NEVER {
            return self.disarm(key);
        }
        self.sequence = self.sequence.wrapping_add(1);
        let deadline = Deadline { at, sequence: self.sequence, packed_key: key.pack() };
        if let Some(position) = self.position(key) {
            self.restore_order(position, deadline);
        } else {
            if !matches!(key, SlotKey::Connection(_)) {
                self.heap.reserve(1 + self.connections_reserved);
            }
            let (kind, slot) = key.kind_and_slot();
            let positions = &mut self.positions[kind as usize];
            if positions.len() <= slot as usize {
                positions.resize(slot as usize + 1, NOT_ARMED);
            }
            self.heap.push(deadline);
            self.sift_up(self.heap.len() - 1, deadline);
        }
    }

    /// Sets the deadline unless an earlier one is set, so that activity costs one comparison. When the earlier one
    /// expires, the caller sets the later one.
    pub(crate) fn arm_no_later(&mut self, key: SlotKey, at: Timestamp) {
        if at < self.deadline(key) {
            self.arm(key, at);
        }
    }

    pub(crate) fn disarm(&mut self, key: SlotKey) {
        if let Some(position) = self.position(key) {
            self.remove(position);
        }
    }

    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        self.heap.first().map(|first| first.at)
    }

    /// The deadline; [`NEVER`](Timestamp::NEVER) if none is set.
    pub(crate) fn deadline(&self, key: SlotKey) -> Timestamp {
        self.position(key).map_or(Timestamp::NEVER, |position| self.heap[position].at)
    }

    /// Removes and returns the earliest deadline if it has expired, with its time.
    pub(crate) fn pop_expired(&mut self, now: Timestamp) -> Option<(SlotKey, Timestamp)> {
        let first = *self.heap.first().filter(|first| first.at <= now)?;
        self.remove(0);
        Some((SlotKey::unpack(first.packed_key), first.at))
    }

    fn position(&self, key: SlotKey) -> Option<usize> {
        let (kind, slot) = key.kind_and_slot();
        let position = *self.positions[kind as usize].get(slot as usize)?;
        (position != NOT_ARMED).then_some(position as usize)
    }

    fn remove(&mut self, position: usize) {
        let removed = self.heap.swap_remove(position);
        if let Some(last) = self.heap.get(position) {
            self.restore_order(position, *last);
        }
        self.set_position(removed, NOT_ARMED);
    }

    /// Moves an entry from a position up or down to its place in the order.
    fn restore_order(&mut self, position: usize, deadline: Deadline) {
        if position > 0 && deadline.is_before(&self.heap[(position - 1) / CHILDREN]) {
            self.sift_up(position, deadline);
        } else {
            self.sift_down(position, deadline);
        }
    }

    /// Moves an entry towards the root until its parent is before it.
    fn sift_up(&mut self, mut position: usize, deadline: Deadline) {
        while position > 0 {
            let parent = (position - 1) / CHILDREN;
            if !deadline.is_before(&self.heap[parent]) {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, deadline);
    }

    /// Moves an entry away from the root until no child is before it.
    fn sift_down(&mut self, mut position: usize, deadline: Deadline) {
        loop {
            let first = CHILDREN * position + 1;
            let mut earliest = (position, deadline);
            for (child, other) in (first..).zip(self.heap.iter().skip(first).take(CHILDREN)) {
                if other.is_before(&earliest.1) {
                    earliest = (child, *other);
                }
            }
            if earliest.0 == position {
                break;
            }
            self.place(position, earliest.1);
            position = earliest.0;
        }
        self.place(position, deadline);
    }

    #[expect(clippy::cast_possible_truncation, reason = "a deadline per slot at most, and slots have 29 bits")]
    fn place(&mut self, position: usize, deadline: Deadline) {
        self.heap[position] = deadline;
        self.set_position(deadline, position as u32);
    }

    fn set_position(&mut self, deadline: Deadline, position: u32) {
        let (kind, slot) = SlotKey::unpack(deadline.packed_key).kind_and_slot();
        self.positions[kind as usize][slot as usize] = position;
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
        Arm(SlotKey, u64),
        ArmNoLater(SlotKey, u64),
        Disarm(SlotKey),
        Pop(u64),
    }

    fn key() -> impl Strategy<Value = SlotKey> {
        let kinds = [SlotKey::Connection, SlotKey::Listener, SlotKey::UdpSocket, SlotKey::Timer].to_vec();
        (prop::sample::select(kinds), 0u32..24).prop_map(|(kind, slot)| kind(slot))
    }

    fn act() -> impl Strategy<Value = Act> {
        // Few different times, so that many deadlines share one.
        let moment = 0u64..40;
        prop_oneof![
            4 => (key(), moment.clone()).prop_map(|(key, at)| Act::Arm(key, at)),
            4 => (key(), moment.clone()).prop_map(|(key, at)| Act::ArmNoLater(key, at)),
            2 => key().prop_map(Act::Disarm),
            2 => moment.prop_map(Act::Pop),
        ]
    }

    fn at(nanoseconds: u64) -> Timestamp {
        Timestamp::since_start(Duration::from_nanos(nanoseconds))
    }

    proptest! {
        /// The model: the time of each key, and when it was armed. The sequence starts close to its wrap.
        #[test]
        fn the_heap_agrees_with_a_map(acts in prop::collection::vec(act(), 1..300)) {
            let mut deadlines = Deadlines { sequence: u32::MAX - 50, ..Deadlines::default() };
            let mut model: BTreeMap<SlotKey, (u64, usize)> = BTreeMap::new();
            for (order, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Arm(key, when) => {
                        deadlines.arm(key, at(when));
                        model.insert(key, (when, order));
                    }
                    Act::ArmNoLater(key, when) => {
                        deadlines.arm_no_later(key, at(when));
                        if model.get(&key).is_none_or(|(armed, _)| when < *armed) {
                            model.insert(key, (when, order));
                        }
                    }
                    Act::Disarm(key) => {
                        deadlines.disarm(key);
                        model.remove(&key);
                    }
                    Act::Pop(now) => {
                        let first = model.iter().min_by_key(|(_, armed)| **armed).map(|(key, armed)| (*key, *armed));
                        let expected = first.filter(|(_, (when, _))| *when <= now).map(|(key, (when, _))| (key, at(when)));
                        prop_assert_eq!(deadlines.pop_expired(at(now)), expected);
                        expected.map(|(key, _)| model.remove(&key));
                    }
                }
                prop_assert_eq!(deadlines.earliest(), model.values().min().map(|(when, _)| at(*when)));
                prop_assert_eq!(deadlines.heap.len(), model.len());
                let is_same = |(key, (when, _)): (&SlotKey, &(u64, usize))| deadlines.deadline(*key) == at(*when);
                prop_assert!(model.iter().all(is_same));
            }
        }
    }

    #[test]
    fn a_deadline_takes_16_bytes_and_its_position_4() {
        assert_eq!(size_of::<Deadline>(), 16);
        assert_eq!(size_of_val(&NOT_ARMED), 4);
    }

    #[test]
    fn a_deadline_that_is_never_due_uses_no_memory() {
        let mut deadlines = Deadlines::default();
        deadlines.arm(SlotKey::Timer(7), Timestamp::NEVER);
        assert_eq!(deadlines.earliest(), None);
        assert!(deadlines.positions.iter().all(Vec::is_empty));
        deadlines.arm(SlotKey::Timer(7), at(1));
        deadlines.arm(SlotKey::Timer(7), Timestamp::NEVER);
        assert_eq!(deadlines.earliest(), None, "a disarmed deadline does not expire");
    }

    #[test]
    fn a_connection_with_a_reserved_place_arms_its_deadline_without_an_allocation() {
        let mut deadlines = Deadlines::default();
        deadlines.try_reserve_connections(100_000).expect("there is memory");
        (0..200_000).for_each(|slot| deadlines.arm(SlotKey::Timer(slot), at(1)));
        let counted = allocation_counter::measure(|| {
            (0..100_000).for_each(|slot| deadlines.arm(SlotKey::Connection(slot), at(2)));
        });
        assert_eq!(counted.count_total, 0);
        assert!(deadlines.try_reserve_connections(1 << 44).is_err(), "there is not so much memory");
    }

    #[test]
    fn a_deadline_that_is_armed_again_allocates_nothing() {
        let mut deadlines = Deadlines::default();
        (0..100).for_each(|slot| deadlines.arm(SlotKey::Timer(slot), at(u64::from(slot))));
        let counted = allocation_counter::measure(|| {
            for moment in 0..1_000 {
                let (first, _) = deadlines.pop_expired(at(10_000)).expect("a hundred are armed");
                deadlines.arm(first, at(moment));
            }
        });
        assert_eq!(counted.count_total, 0);
    }
}
