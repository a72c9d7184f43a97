//! A queue of bytes in one allocation.
//!
//! Each byte is moved a bounded number of times.

use crate::state::memory::OutOfMemory;

/// A queue of bytes: pushed at the end, consumed at the front, readable as one slice.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    pub(super) bytes: Vec<u8>,
    /// Consumed bytes at the front of `bytes`. They are dropped in bulk, so that each byte is moved a bounded number of
    /// times.
    pub(super) consumed: usize,
}

/// Consumed bytes are dropped once they are one eighth of the rest: each of them then costs at most eight moved bytes.
pub(super) const MOVES_PER_BYTE_MAX: usize = 8;

impl ByteQueue {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.consumed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.consumed..]
    }

    /// Bytes allocated.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends bytes; the pool has [reserved](super::BufferPool::reserve) the room.
    pub(crate) fn push(&mut self, more: &[u8]) {
        if more.len() > self.bytes.capacity() - self.bytes.len() {
            self.bytes.drain(..self.consumed);
            self.consumed = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// Inserts bytes at the front; the pool has reserved the room.
    pub(super) fn push_front(&mut self, bytes: &[u8]) {
        self.bytes.splice(..self.consumed, bytes.iter().copied());
        self.consumed = 0;
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.consumed += count;
        debug_assert!(self.consumed <= self.bytes.len(), "consumed more bytes than the queue has");
        if self.consumed == self.bytes.len() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.consumed = 0;
    }

    /// The capacity for `count` more bytes.
    pub(super) fn capacity_for(&self, count: usize) -> usize {
        let is_moved = self.consumed >= self.len() / MOVES_PER_BYTE_MAX;
        let kept = if is_moved { self.len() } else { self.bytes.len() };
        kept.saturating_add(count)
    }

    /// How many more bytes fit without an allocation.
    pub(super) fn spare(&self) -> usize {
        self.capacity() - self.capacity_for(0)
    }

    pub(super) fn try_grow(&mut self, capacity: usize) -> Result<(), OutOfMemory> {
        if capacity > self.capacity() {
            self.bytes.drain(..self.consumed);
            self.consumed = 0;
            self.bytes.try_reserve_exact(capacity - self.bytes.len())?;
        }
        Ok(())
    }

    /// Releases unused capacity.
    pub(super) fn shrink(&mut self) {
        self.bytes.drain(..self.consumed);
        self.consumed = 0;
        self.bytes.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::buffers::BufferPool;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn a_queue_behaves_like_a_deque_and_allocates_at_most_an_eighth_over_its_limit(
            steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), 0usize..60), 1..100),
            bytes_max in 50usize..200,
        ) {
            let (mut queue, mut pool) = (ByteQueue::default(), BufferPool::default());
            let mut model: VecDeque<u8> = VecDeque::new();
            for (bytes, count) in steps {
                let bytes = &bytes[..bytes.len().min(bytes_max - model.len())];
                prop_assert_eq!(pool.reserve(&mut queue, bytes.len(), bytes_max), Ok(()));
                let capacity = queue.capacity();
                queue.push(bytes);
                model.extend(bytes);
                prop_assert_eq!(queue.capacity(), capacity, "there was room");
                prop_assert!(capacity <= bytes_max + bytes_max / MOVES_PER_BYTE_MAX, "{} bytes", capacity);
                prop_assert_eq!(pool.bytes(), capacity);
                let count = count.min(model.len());
                queue.consume(count);
                model.drain(..count);
                prop_assert_eq!(queue.as_slice(), model.make_contiguous());
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }

    #[test]
    fn a_byte_is_moved_at_most_eight_times_and_twice_for_growth() {
        let (mut queue, mut pool, bytes_max) = (ByteQueue::default(), BufferPool::default(), 64 * 1024);
        let (mut moved, mut pushed) = (0, 0);
        while pushed < 100 * bytes_max {
            let count = 100.min(bytes_max - queue.len());
            pool.reserve(&mut queue, count, bytes_max).expect("there is memory");
            let (consumed, len) = (queue.consumed, queue.len());
            queue.push(&vec![0; count]);
            moved += if consumed > 0 && queue.consumed == 0 { len } else { 0 };
            pushed += count;
            if queue.len() == bytes_max {
                queue.consume(100);
            }
        }
        assert!(moved <= MOVES_PER_BYTE_MAX * pushed, "{moved} bytes moved for {pushed}");
    }
}
