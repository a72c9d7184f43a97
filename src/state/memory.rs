//! Fallible allocation, and release of memory.
//!
//! The allocator maps large tables separately, and grows and shrinks them in place.

use std::collections::{HashMap, TryReserveError, VecDeque};
use std::hash::Hash;

use slab::Slab;

use crate::limits;

/// The system refused memory, or the budget is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutOfMemory;

impl From<TryReserveError> for OutOfMemory {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

/// Whether the system can allocate a block of this size. Types without a fallible allocation call this first; the
/// allocator then has the memory for the allocation that follows.
pub(crate) fn is_allocatable(bytes: usize) -> bool {
    let mut block = Vec::<u8>::new();
    let outcome = block.try_reserve_exact(bytes);
    // The compiler may remove an allocation that nothing uses.
    std::hint::black_box(&mut block);
    outcome.is_ok()
}

/// Makes the allocator join freed memory and release it. glibc does this when a block above 64 KiB is freed, but not
/// for blocks as small as a posted job.
pub(crate) fn release_freed_memory() {
    is_allocatable(limits::RELEASING_BLOCK_BYTES);
}

/// Shrinks a table that is large and at most a quarter full; `kept` entries keep their room. A table is never freed as
/// a whole: after a large block was freed, glibc maps only larger blocks separately.
pub(crate) fn shrink_table<T>(table: &mut Vec<T>, used: usize, kept: usize) {
    if table.capacity() > kept && used <= table.capacity() / 4 {
        table.shrink_to(kept.max(2 * used));
    }
}

/// Does the same for a queue.
pub(crate) fn shrink_queue<T>(queue: &mut VecDeque<T>, kept: usize) {
    if queue.capacity() > kept && queue.len() <= queue.capacity() / 4 {
        queue.shrink_to(kept.max(2 * queue.len()));
    }
}

/// Does the same for a slab, down to its last used entry. An empty slab contains `entry` for a moment.
pub(crate) fn shrink_slab<T>(slab: &mut Slab<T>, kept: usize, entry: impl FnOnce() -> T) {
    if slab.capacity() <= kept || slab.len() > slab.capacity() / 4 {
        return;
    }
    if slab.is_empty() {
        slab.clear();
        let key = slab.insert(entry());
        slab.shrink_to_fit();
        slab.remove(key);
    } else {
        slab.shrink_to_fit();
    }
    slab.reserve_exact(kept.saturating_sub(slab.len()));
}

/// Whether a table has much more room than entries, after a burst.
pub(crate) fn is_mostly_free(len: usize, capacity: usize) -> bool {
    capacity > 64 && len < capacity / 8
}

/// Frees the room that a burst has left in a map.
pub(crate) fn shrink_map<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if is_mostly_free(map.len(), map.capacity()) {
        map.shrink_to(2 * map.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_larger_than_memory_is_refused() {
        assert!(is_allocatable(1) && !is_allocatable(1 << 46));
    }

    #[test]
    fn tables_release_room_when_a_quarter_full_and_keep_some() {
        let mut table: Vec<u64> = (0..10_000).collect();
        shrink_table(&mut table, 5_000, 10);
        assert!(table.capacity() >= 10_000);
        table.truncate(1_000);
        shrink_table(&mut table, 1_000, 10);
        assert_eq!((table.capacity(), table.len()), (2_000, 1_000));
        let mut queue: VecDeque<u64> = (0..10_000).collect();
        queue.drain(..9_999);
        shrink_queue(&mut queue, 10);
        assert!(queue.capacity() < 20 && queue == [9_999]);
    }

    #[test]
    fn a_slab_shrinks_to_its_last_entry_for_any_order_of_removals() {
        let mut slab: Slab<usize> = (0..10_000).map(|number| (number, number)).collect();
        (0..10_000).filter(|number| *number != 500).for_each(|number| assert_eq!(slab.remove(number), number));
        shrink_slab(&mut slab, 10, || 0);
        assert_eq!((slab.capacity(), slab.get(500)), (501, Some(&500)));
        slab.remove(500);
        shrink_slab(&mut slab, 10, || 0);
        assert!(slab.is_empty() && slab.capacity() <= 11 && slab.insert(7) == 0);
    }
}
