//! Inbox and outbox of a connection, their pool and budget.
//!
//! An idle connection owns no buffers. The total of all connections is counted by allocated capacity.

pub(crate) mod byte_queue;
pub(crate) mod outbox;

use std::collections::HashMap;

use crate::limits;
use crate::shared_bytes::SharedBytes;
use crate::state::buffers::byte_queue::{ByteQueue, MOVES_PER_BYTE_MAX};
use crate::state::buffers::outbox::Outbox;
use crate::state::memory::{OutOfMemory, is_allocatable, shrink_map};
use crate::state::timestamp::Timestamp;

/// The buffers of both directions of one connection, behind one pointer.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Input that the handler has not consumed.
    pub(crate) inbox: ByteQueue,
    /// Output that the kernel has not accepted.
    pub(crate) outbox: Outbox,
    /// Whether the connection's own callbacks have written some of the output. Only then does more input produce more
    /// output, and reading may stop. Output from other connections must not stop reading: two proxied connections would
    /// deadlock.
    pub(crate) own_output: bool,
    /// Whether the inbox has bytes that were not delivered, or something has changed since the last delivery.
    pub(crate) inbox_changed: bool,
    /// Whether reading has stopped because the inbox may not grow now.
    pub(crate) awaits_memory: bool,
}

impl Buffers {
    pub(crate) fn is_empty(&self) -> bool {
        self.inbox.is_empty() && self.outbox.is_empty()
    }

    /// Updates the marks that end with the output.
    pub(crate) fn record_sent(&mut self) {
        let is_left = !self.outbox.is_empty();
        (self.own_output, self.awaits_memory) = (self.own_output && is_left, self.awaits_memory && is_left);
    }

    /// Bytes allocated.
    pub(crate) fn capacity(&self) -> usize {
        self.inbox.capacity() + self.outbox.copied.capacity()
    }
}

/// Counts all buffers in use, and keeps a bounded number of free ones, so that the steady state allocates nothing.
pub(crate) struct BufferPool {
    #[expect(clippy::vec_box, reason = "connections hold the boxes; moving them in and out must not copy")]
    free: Vec<Box<Buffers>>,
    /// Boxes in use by connections.
    in_use: usize,
    /// Bytes allocated in all connections. A shared buffer counts once, however many outboxes contain it.
    bytes: usize,
    /// How many outbox entries refer to each shared buffer, by its address.
    shared: HashMap<usize, usize>,
    bytes_max: usize,
    /// The same, or less after the system has refused memory, until the strain ends.
    bytes_max_now: usize,
    /// Near the maximum, buffers grow only to a small share. This ends when the loop finds that enough memory is free.
    pub(crate) is_strained: bool,
}

/// A period in which buffers are near their maximum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strain {
    pub(crate) since: Timestamp,
    /// The time of the next check.
    pub(crate) next_look: Timestamp,
}

impl Default for BufferPool {
    fn default() -> Self {
        // The block is mapped separately, so that it does not grow between buffers.
        let free = Vec::with_capacity(limits::TABLE_BYTES_RESERVED / size_of::<Box<Buffers>>());
        let bytes_max = limits::BUFFER_BYTES_MAX;
        Self {
            free,
            in_use: 0,
            bytes: 0,
            shared: HashMap::new(),
            bytes_max,
            bytes_max_now: bytes_max,
            is_strained: false,
        }
    }
}

impl BufferPool {
    pub(crate) fn set_bytes_max(&mut self, bytes: usize) {
        (self.bytes_max, self.bytes_max_now) = (bytes, bytes);
    }

    #[cfg(test)]
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Whether the system has refused memory during the present strain.
    pub(crate) fn was_refused(&self) -> bool {
        self.bytes_max_now < self.bytes_max
    }

    pub(crate) fn end_strain(&mut self) {
        (self.is_strained, self.bytes_max_now) = (false, self.bytes_max);
    }

    /// Makes buffers release at least an eighth of their memory after the system has refused some: other allocations of
    /// the process must not fail, too.
    #[cold]
    fn note_refusal(&mut self) -> OutOfMemory {
        self.bytes_max_now = self.bytes_max_now.min(self.bytes - self.bytes / 8);
        self.is_strained = true;
        OutOfMemory
    }

    #[cold]
    fn allocate(&mut self) -> Result<Box<Buffers>, OutOfMemory> {
        is_allocatable(size_of::<Buffers>()).then(Box::default).ok_or_else(|| self.note_refusal())
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Result<Box<Buffers>, OutOfMemory> {
        let mut buffers = match self.free.pop() {
            Some(buffers) => buffers,
            None => self.allocate()?,
        };
        self.in_use += 1;
        self.bytes += buffers.capacity();
        if self.is_above_resume() {
            self.free_room(&mut buffers);
        }
        Ok(buffers)
    }

    /// Frees the capacity of empty buffers, for which the budget may have no room.
    #[cold]
    fn free_room(&mut self, buffers: &mut Buffers) {
        self.shrink(buffers);
        self.is_strained |= self.is_above_resume();
    }

    pub(crate) fn put(&mut self, mut buffers: Box<Buffers>) {
        buffers.outbox.clear(|bytes| self.release_shared(bytes));
        let capacity = buffers.capacity();
        self.bytes -= capacity;
        self.in_use -= 1;
        if capacity > limits::BUFFER_BYTES_SHARE || self.free.len() >= limits::POOLED_BUFFERS_MAX {
            self.recycle(&mut buffers);
        }
        if self.free.len() < self.free.capacity() && !self.is_strained {
            (buffers.own_output, buffers.inbox_changed, buffers.awaits_memory) = (false, false, false);
            buffers.inbox.clear();
            self.free.push(buffers);
        }
    }

    /// Frees the capacity that many bytes have added. A few buffers keep it for bulk transfers; in a burst none does.
    #[cold]
    fn recycle(&self, buffers: &mut Buffers) {
        let capacity_max = match self.free.len() {
            0..limits::POOLED_BULK_BUFFERS_MAX => limits::OUTBOX_BYTES_MAX,
            limits::POOLED_BULK_BUFFERS_MAX..limits::POOLED_BUFFERS_MAX => limits::BUFFER_BYTES_SHARE,
            _ => 0,
        };
        for queue in [&mut buffers.inbox, &mut buffers.outbox.copied] {
            if queue.capacity() > capacity_max {
                *queue = ByteQueue::default();
            }
        }
    }

    /// Reserves room for `count` more bytes in a queue of at most `bytes_max`.
    pub(crate) fn reserve(&mut self, queue: &mut ByteQueue, count: usize, bytes_max: usize) -> Result<(), OutOfMemory> {
        if count <= queue.bytes.capacity() - queue.bytes.len() { Ok(()) } else { self.grow(queue, count, bytes_max) }
    }

    /// Grows a queue, unless its consumed bytes leave enough room. It never exceeds the maximum of the queue. While
    /// memory is plentiful it doubles, or grows by an eighth, so that each byte is copied a bounded number of times.
    #[cold]
    fn grow(&mut self, queue: &mut ByteQueue, count: usize, bytes_max: usize) -> Result<(), OutOfMemory> {
        let (needed, before) = (queue.capacity_for(count), queue.capacity());
        if needed <= before {
            return Ok(());
        }
        let is_within_share = needed <= limits::BUFFER_BYTES_SHARE + limits::BUFFER_BYTES_SHARE / MOVES_PER_BYTE_MAX;
        let fits = |capacity| is_within_share || self.bytes + (capacity - before) <= self.bytes_max_now;
        let larger = |capacity: usize| capacity.min(bytes_max).max(needed);
        let steps = [larger(2 * before), larger(needed + needed / MOVES_PER_BYTE_MAX)];
        let wanted = steps.into_iter().find(|step| !self.is_strained && fits(*step)).unwrap_or(needed);
        if !fits(wanted) {
            return Err(OutOfMemory);
        }
        let grown = queue.try_grow(wanted).or_else(|_| queue.try_grow(needed));
        self.charge(queue.capacity() - before);
        grown.map_err(|_| self.note_refusal())
    }

    /// How many more bytes a queue may take, of at most `bytes_max` in total.
    pub(crate) fn room(&self, queue: &ByteQueue, bytes_max: usize) -> usize {
        let room = bytes_max.saturating_sub(queue.len());
        if !self.is_strained {
            return room;
        }
        room.min(queue.spare().max(limits::BUFFER_BYTES_SHARE.saturating_sub(queue.len())))
    }

    /// How many more copied bytes an outbox may take, of at most `bytes_max` in total.
    pub(crate) fn outbox_room(&self, outbox: &Outbox, bytes_max: usize) -> usize {
        self.room(&outbox.copied, bytes_max.saturating_sub(outbox.uncopied_len()))
    }

    /// Reserves room for copied bytes in an outbox of at most `bytes_max`.
    pub(crate) fn reserve_outbox(
        &mut self,
        outbox: &mut Outbox,
        count: usize,
        bytes_max: usize,
    ) -> Result<(), OutOfMemory> {
        self.reserve(&mut outbox.copied, count, bytes_max)
    }

    /// Whether an outbox may take this shared buffer without the reset of a connection.
    pub(crate) fn has_room_for_shared(&self, bytes: &SharedBytes) -> bool {
        !self.is_strained || self.shared.contains_key(&bytes.allocation().0)
    }

    /// Appends shared bytes to an outbox of at most `bytes_max`: a few as a copy, more as a reference. The first outbox
    /// with a reference is charged for the buffer.
    #[inline(never)]
    pub(crate) fn push_shared(
        &mut self,
        outbox: &mut Outbox,
        bytes: SharedBytes,
        bytes_max: usize,
    ) -> Result<(), OutOfMemory> {
        if bytes.len() < limits::SHARED_BYTES_MIN {
            self.reserve_outbox(outbox, bytes.len(), bytes_max)?;
            outbox.push(&bytes);
            return Ok(());
        }
        let (address, size) = bytes.allocation();
        match self.shared.get_mut(&address) {
            Some(holders) => *holders += 1,
            None if self.bytes.saturating_add(size) > self.bytes_max_now => return Err(OutOfMemory),
            None => {
                self.shared.insert(address, 1);
                self.charge(size);
            }
        }
        outbox.push_shared(bytes);
        Ok(())
    }

    /// Drops bytes that the kernel has accepted.
    pub(crate) fn consume_output(&mut self, outbox: &mut Outbox, count: usize) {
        outbox.consume(count, |bytes| self.release_shared(bytes));
    }

    /// Ends the loan of an outbox of at most `bytes_max`: keeps a copy of the part that is not sent.
    pub(crate) fn end_loan(&mut self, outbox: &mut Outbox, unsent: &[u8], bytes_max: usize) -> Result<(), OutOfMemory> {
        let reserved = self.reserve_outbox(outbox, unsent.len(), bytes_max);
        outbox.end_loan(if reserved.is_ok() { unsent } else { &[] });
        reserved
    }

    fn release_shared(&mut self, bytes: &SharedBytes) {
        let (address, size) = bytes.allocation();
        if let Some(holders) = self.shared.get_mut(&address) {
            *holders -= 1;
            if *holders == 0 {
                self.shared.remove(&address);
                shrink_map(&mut self.shared);
                self.bytes -= size;
            }
        }
    }

    /// The memory that a reset of a connection frees. Its share of a shared buffer is small if many connections have
    /// it.
    pub(crate) fn held_by(&self, buffers: &Buffers) -> usize {
        let share = |bytes: &SharedBytes| {
            let (address, size) = bytes.allocation();
            self.shared.get(&address).map_or(0, |holders| size / holders)
        };
        buffers.capacity() + buffers.outbox.shared_parts().map(share).sum::<usize>()
    }

    /// How many bytes may be read for a connection, into an inbox of at most `bytes_max`. It is zero if memory is short
    /// and the connection's own output waits: more input would produce more output.
    pub(crate) fn read_room(&self, buffers: Option<&Buffers>, bytes_max: usize) -> usize {
        match buffers {
            Some(buffers) if self.is_strained && buffers.own_output => 0,
            Some(buffers) => self.room(&buffers.inbox, bytes_max),
            None if self.is_strained => bytes_max.min(limits::BUFFER_BYTES_SHARE),
            None => bytes_max,
        }
    }

    /// Counts bytes that a connection has allocated.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.is_strained |= self.is_above_resume();
    }

    /// Releases unused capacity of a connection's buffers.
    pub(crate) fn shrink(&mut self, buffers: &mut Buffers) {
        self.bytes -= buffers.capacity();
        buffers.inbox.shrink();
        buffers.outbox.copied.shrink();
        self.bytes += buffers.capacity();
    }

    /// Drops the free buffers.
    pub(crate) fn clear(&mut self) {
        self.free.clear();
    }

    /// Whether a burst has left more free buffers than are kept.
    pub(crate) fn is_large(&self) -> bool {
        self.free.len() > limits::POOLED_BUFFERS_MAX
    }

    /// Drops the buffers that a burst has left, once it is over. It keeps a bounded number of empty boxes, at the
    /// lowest addresses. Allocators that grow one region, such as glibc's, release its end, down to the last block in
    /// use. The lowest boxes are freed first, because the allocator keeps the first few. Returns true if it dropped
    /// any.
    pub(crate) fn trim(&mut self) -> bool {
        if !self.is_large() || self.in_use > limits::POOLED_BUFFERS_MAX {
            return false;
        }
        self.free.sort_unstable_by_key(|buffers| std::ptr::from_ref::<Buffers>(buffers).addr());
        for buffers in &mut self.free {
            (buffers.inbox, buffers.outbox) = (ByteQueue::default(), Outbox::default());
        }
        self.free.truncate(limits::POOLED_BUFFERS_MAX);
        true
    }

    /// Whether so much is allocated that buffers must not grow: three quarters of the maximum, so that there is room
    /// for output that was refused once.
    pub(crate) fn is_above_resume(&self) -> bool {
        self.bytes > self.bytes_max_now - self.bytes_max_now / 4
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: usize = limits::BUFFER_BYTES_SHARE;

    fn pool(bytes_max: usize) -> BufferPool {
        let mut pool = BufferPool::default();
        pool.set_bytes_max(bytes_max);
        pool
    }

    /// Fills a queue in reads of 1,000 bytes until memory is short; returns its bytes, and how many growth has copied.
    fn grow_in_reads(pool: &mut BufferPool, bytes_max: usize) -> (usize, usize) {
        let (mut queue, mut copied) = (ByteQueue::default(), 0);
        while queue.len() < bytes_max && !pool.is_strained {
            let (count, capacity, len) = (1_000.min(bytes_max - queue.len()), queue.capacity(), queue.len());
            pool.reserve(&mut queue, count, bytes_max).expect("there is memory");
            copied += if queue.capacity() > capacity { len } else { 0 };
            queue.push(&[1; 1_000][..count]);
        }
        (queue.len(), copied)
    }

    #[test]
    fn a_long_queue_is_copied_a_bounded_number_of_times_while_it_grows() {
        const MIB: usize = 1024 * 1024;
        let (len, copied) = grow_in_reads(&mut BufferPool::default(), MIB);
        assert!(len == MIB && copied <= 2 * MIB, "{copied} bytes copied");
        // The last doubling does not fit.
        let (len, copied) = grow_in_reads(&mut pool(30 * MIB), 32 * MIB);
        assert!(len > 20 * MIB && copied <= MOVES_PER_BYTE_MAX * len, "{copied} bytes copied for {len}");
    }

    #[test]
    fn the_pool_returns_empty_buffers_and_keeps_a_bounded_number() {
        let mut pool = BufferPool::default();
        let taken: Vec<_> = (0..2 * limits::POOLED_BUFFERS_MAX)
            .map(|_| {
                let mut buffers = pool.take().expect("there is memory");
                for (queue, bytes) in [(&mut buffers.inbox, 3 * SHARE), (&mut buffers.outbox.copied, 15)] {
                    pool.reserve(queue, bytes, bytes).expect("there is memory");
                    queue.push(&vec![0; bytes]);
                }
                (buffers.own_output, buffers.inbox_changed, buffers.awaits_memory) = (true, true, true);
                buffers
            })
            .collect();
        assert_eq!(pool.bytes, taken.iter().map(|buffers| buffers.capacity()).sum());
        for buffers in taken {
            pool.put(buffers);
        }
        assert_eq!((pool.free.len(), pool.bytes, pool.in_use), (2 * limits::POOLED_BUFFERS_MAX, 0, 0));
        let bulk = pool.free.iter().filter(|buffers| buffers.inbox.capacity() > SHARE).count();
        assert_eq!(bulk, limits::POOLED_BULK_BUFFERS_MAX, "a few keep room for bulk");
        let buffers = pool.take().expect("one is kept");
        assert!(buffers.is_empty() && !buffers.own_output && !buffers.inbox_changed && !buffers.awaits_memory);
        assert_eq!((buffers.outbox.copied.capacity(), pool.bytes), (0, 0), "buffers above the kept number are empty");
        assert!(pool.trim() && !pool.trim() && pool.free.len() == limits::POOLED_BUFFERS_MAX);
        let mut buffers = pool.take().expect("one is kept");
        pool.reserve_outbox(&mut buffers.outbox, 15, 15).expect("there is memory");
        pool.put(buffers);
        let buffers = pool.take().expect("one is kept");
        assert_eq!((buffers.outbox.copied.capacity(), pool.bytes), (15, 15), "its capacity is kept, and counted");
    }

    #[test]
    fn while_memory_is_short_the_pool_keeps_no_buffers() {
        let mut pool = pool(10 * SHARE);
        let mut buffers = pool.take().expect("there is memory");
        pool.reserve(&mut buffers.inbox, 8 * SHARE, 8 * SHARE).expect("there is room");
        assert!(pool.is_strained);
        pool.put(buffers);
        assert_eq!((pool.free.len(), pool.bytes), (0, 0));
    }

    #[test]
    fn near_the_maximum_a_queue_grows_to_its_share_and_beyond_it_allocates_nothing() {
        let mut pool = pool(10 * SHARE);
        let [mut large, mut small, mut third] = [(); 3].map(|()| ByteQueue::default());
        assert_eq!(pool.room(&small, 2 * SHARE), 2 * SHARE);
        pool.reserve(&mut large, 8 * SHARE, 20 * SHARE).expect("there is room");
        large.push(&vec![0; 8 * SHARE - 100]);
        assert!(pool.is_strained);
        let room = [&large, &small].map(|queue| pool.room(queue, 20 * SHARE));
        assert_eq!(room, [100, SHARE], "allocated capacity may be used, and each queue has a share");
        assert_eq!(pool.reserve(&mut third, 3 * SHARE, 20 * SHARE), Err(OutOfMemory));
        assert_eq!((third.capacity(), pool.bytes), (0, 8 * SHARE));
        for _ in 0..SHARE / 64 {
            pool.reserve(&mut small, 64, 20 * SHARE).expect("it is within its share");
            small.push(&[0; 64]);
        }
        assert_eq!(pool.reserve(&mut third, 3 * SHARE, 20 * SHARE), Err(OutOfMemory));
        large.consume(8 * SHARE - 101);
        let mut buffers = Buffers { inbox: large, ..Buffers::default() };
        buffers.outbox.copied = small;
        pool.shrink(&mut buffers);
        assert_eq!((buffers.capacity(), pool.bytes), (SHARE + 1, SHARE + 1));
    }

    #[test]
    fn near_the_maximum_pooled_buffers_are_taken_without_their_capacity() {
        let mut pool = pool(16 * SHARE);
        let mut buffers = [(); 2].map(|()| pool.take().expect("there is memory"));
        for buffers in &mut buffers {
            pool.reserve_outbox(&mut buffers.outbox, 5 * SHARE, 5 * SHARE).expect("there is room");
        }
        let [first, second] = buffers;
        pool.put(first);
        pool.put(second);
        let mut large = ByteQueue::default();
        pool.reserve(&mut large, 6 * SHARE, 6 * SHARE).expect("there is room");
        assert_eq!(pool.take().expect("one is kept").capacity(), 5 * SHARE, "there is still room");
        assert_eq!((pool.take().expect("one is kept").capacity(), pool.bytes), (0, 11 * SHARE));
    }

    #[test]
    fn memory_that_the_system_refuses_is_an_error() {
        let (mut pool, mut queue) = (pool(usize::MAX), ByteQueue::default());
        pool.reserve(&mut queue, 10, usize::MAX).expect("there is memory");
        queue.push(b"0123456789");
        assert_eq!(pool.reserve(&mut queue, 1 << 46, usize::MAX), Err(OutOfMemory));
        assert_eq!((queue.as_slice(), pool.bytes), (&b"0123456789"[..], 10));
        assert!(pool.is_strained && pool.was_refused() && pool.is_above_resume(), "some memory must be released");
        let mut buffers = Buffers { inbox: std::mem::take(&mut queue), ..Buffers::default() };
        buffers.inbox.clear();
        pool.shrink(&mut buffers);
        pool.end_strain();
        assert!(!pool.was_refused() && pool.reserve(&mut queue, 3 * SHARE, usize::MAX).is_ok());
        assert!(is_allocatable(1) && !is_allocatable(1 << 46));
    }
}
