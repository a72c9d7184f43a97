//! Inbox and outbox of a connection, and the pool of buffers.
//!
//! An idle connection owns no buffers.

use crate::limits;

/// Bytes in a row: pushed at the end, consumed at the front, always readable as one slice.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    bytes: Vec<u8>,
    /// What is already consumed of `bytes`; dropped in bulk, so that each byte is moved at most once or twice.
    consumed: usize,
}

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

    pub(crate) fn push(&mut self, more: &[u8]) {
        if self.consumed > 0 && self.consumed >= self.len() {
            self.bytes.drain(..self.consumed);
            self.consumed = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.consumed += count;
        debug_assert!(self.consumed <= self.bytes.len(), "consumed more than there is");
        if self.consumed == self.bytes.len() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.consumed = 0;
    }

    /// Empties it for the next owner; what one long backlog made it grow to goes back to the system.
    fn recycle(&mut self) {
        self.clear();
        self.bytes.shrink_to(limits::OUTBOX_BYTES_MAX);
    }
}

/// Both directions of one connection, together behind one pointer.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Input that the handler has been shown and has not consumed.
    pub(crate) inbox: ByteQueue,
    /// Output that the kernel has not taken.
    pub(crate) outbox: ByteQueue,
    /// Whether the connection's own callbacks have written some of it. Only then is it an answer that more input would
    /// make longer; what others write must not keep the peer's words from being read, or two that wait for each other
    /// do so for ever.
    pub(crate) own_output: bool,
    /// Whether the inbox holds something that the handler has not seen, or something has changed since it has.
    pub(crate) inbox_changed: bool,
}

impl Buffers {
    pub(crate) fn is_empty(&self) -> bool {
        self.inbox.is_empty() && self.outbox.is_empty()
    }
}

/// Boxes of buffers not in use, a bounded number of them, so that the steady state allocates nothing.
#[derive(Default)]
pub(crate) struct BufferPool {
    #[expect(clippy::vec_box, reason = "connections hold the boxes; moving them in and out must not copy")]
    free: Vec<Box<Buffers>>,
}

impl BufferPool {
    #[expect(clippy::unnecessary_box_returns, reason = "the box is what is pooled")]
    pub(crate) fn take(&mut self) -> Box<Buffers> {
        self.free.pop().unwrap_or_default()
    }

    pub(crate) fn put(&mut self, mut buffers: Box<Buffers>) {
        if self.free.len() < limits::POOLED_BUFFERS_MAX {
            (buffers.own_output, buffers.inbox_changed) = (false, false);
            buffers.inbox.recycle();
            buffers.outbox.recycle();
            self.free.push(buffers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn a_queue_agrees_with_a_deque(steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), 0usize..60), 1..100)) {
            let mut queue = ByteQueue::default();
            let mut model: VecDeque<u8> = VecDeque::new();
            for (bytes, count) in steps {
                queue.push(&bytes);
                model.extend(&bytes);
                prop_assert!(queue.bytes.len() <= 2 * queue.len(), "what is consumed is let go of");
                let count = count.min(model.len());
                queue.consume(count);
                model.drain(..count);
                prop_assert_eq!(queue.as_slice(), model.make_contiguous());
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }

    #[test]
    fn the_pool_hands_out_empty_buffers_and_keeps_a_bounded_number() {
        let mut pool = BufferPool::default();
        for _ in 0..2 * limits::POOLED_BUFFERS_MAX {
            let mut buffers = Box::<Buffers>::default();
            buffers.inbox.push(b"somebody else's");
            buffers.outbox.push(&vec![0; 3 * limits::OUTBOX_BYTES_MAX]);
            (buffers.own_output, buffers.inbox_changed) = (true, true);
            pool.put(buffers);
        }
        assert_eq!(pool.free.len(), limits::POOLED_BUFFERS_MAX);
        let buffers = pool.take();
        assert!(buffers.is_empty() && !buffers.own_output && !buffers.inbox_changed);
        let room = buffers.outbox.bytes.capacity();
        assert!(0 < room && room <= limits::OUTBOX_BYTES_MAX, "room for {room} bytes comes with it");
    }
}
