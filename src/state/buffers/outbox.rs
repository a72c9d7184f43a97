//! The outbox of a connection: copied bytes, and shared buffers between them.
//!
//! The order of the bytes is the order in which they were pushed.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use crate::limits::SEND_SLICES_MAX;
use crate::shared_bytes::SharedBytes;
use crate::state::buffers::byte_queue::ByteQueue;

/// The output that the kernel has not accepted.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The copied bytes, without the shared buffers between them.
    pub(super) copied: ByteQueue,
    shared: VecDeque<SharedPart>,
    /// All unsent bytes: lent, copied and shared.
    len: usize,
    /// Bytes before all others that are still in the read buffer, until the running callback returns.
    lent: usize,
    /// The copied bytes before the last shared buffer.
    copied_before_shared: usize,
}

/// A shared buffer in the outbox.
#[derive(Debug)]
struct SharedPart {
    /// Copied bytes between the shared buffer before it and this one.
    copied_before: usize,
    unsent: SharedBytes,
}

/// The input of the running callback. One outbox may borrow a part of it until the callback returns, so that bytes which
/// the kernel then accepts are not copied.
#[derive(Debug, Default)]
pub(crate) struct LentInput {
    /// The address of the input, and its length.
    address: usize,
    len: usize,
    /// The connection that has borrowed, and which part of the input.
    borrowed: Option<(u32, Range<usize>)>,
}

impl LentInput {
    /// Offers the input of a callback.
    pub(crate) fn offer(&mut self, input: &[u8]) {
        (self.address, self.len) = (input.as_ptr().addr(), input.len());
    }

    /// Ends the offer; returns the connection that has borrowed, and which part of the input.
    pub(crate) fn take(&mut self) -> Option<(u32, Range<usize>)> {
        self.len = 0;
        self.borrowed.take()
    }

    /// Lends bytes to a connection, if they are a part of the input; returns true if it did.
    #[cold]
    #[inline(never)]
    pub(crate) fn lend(&mut self, slot: u32, bytes: &[u8]) -> bool {
        let start = bytes.as_ptr().addr().wrapping_sub(self.address);
        let is_part = start < self.len && bytes.len() <= self.len - start;
        let is_lent = is_part && self.borrowed.is_none();
        if is_lent {
            self.borrowed = Some((slot, start..start + bytes.len()));
        }
        is_lent
    }
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes that are not copied.
    pub(crate) fn uncopied_len(&self) -> usize {
        self.len - self.copied.len()
    }

    /// The whole output as one slice, if it contains no shared buffer.
    pub(crate) fn as_slice(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| self.copied.as_slice())
    }

    /// Appends a copy; the pool has [reserved](super::BufferPool::reserve) the room.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.copied.push(bytes);
    }

    /// Appends bytes that the running callback's input lends; the outbox is empty.
    pub(crate) fn push_lent(&mut self, count: usize) {
        (self.len, self.lent) = (count, count);
    }

    /// Ends a loan: keeps a copy of the part that is not sent; the pool has reserved the room.
    pub(super) fn end_loan(&mut self, unsent: &[u8]) {
        self.len -= self.lent - unsent.len();
        self.lent = 0;
        // planted: lent-rest-dropped
        self.copied.push_front(unsent);
        if let Some(part) = self.shared.front_mut() {
            part.copied_before += unsent.len();
            self.copied_before_shared += unsent.len();
        }
    }

    /// Appends a shared buffer; the pool [counts](super::BufferPool::push_shared) it.
    pub(super) fn push_shared(&mut self, bytes: SharedBytes) {
        let copied_before = self.copied.len() - self.copied_before_shared;
        self.copied_before_shared = self.copied.len();
        self.len += bytes.len();
        self.shared.push_back(SharedPart { copied_before, unsent: bytes });
    }

    /// Fills `slices` from the front; returns how many it filled, and whether they are all of the output.
    pub(crate) fn fill_slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SEND_SLICES_MAX]) -> (usize, bool) {
        let mut copied = self.copied.as_slice();
        let mut filled = 0;
        for part in &self.shared {
            if filled + 2 > SEND_SLICES_MAX {
                return (filled, false);
            }
            // planted: shared-buffer-overtakes
            let (before, rest) = copied.split_at(part.copied_before);
            copied = rest;
            for slice in [before, &part.unsent[..]] {
                if !slice.is_empty() {
                    slices[filled] = IoSlice::new(slice);
                    filled += 1;
                }
            }
        }
        if !copied.is_empty() {
            if filled == SEND_SLICES_MAX {
                return (filled, false);
            }
            slices[filled] = IoSlice::new(copied);
            filled += 1;
        }
        (filled, true)
    }

    /// Drops sent bytes from the front; calls `release` with each shared buffer that is sent.
    #[inline]
    pub(super) fn consume(&mut self, count: usize, release: impl FnMut(&SharedBytes)) {
        self.len -= count;
        if self.shared.is_empty() {
            self.copied.consume(count);
        } else {
            self.consume_mixed(count, release);
        }
    }

    #[cold]
    fn consume_mixed(&mut self, mut count: usize, mut release: impl FnMut(&SharedBytes)) {
        while let Some(part) = self.shared.front_mut() {
            let copied = count.min(part.copied_before);
            self.copied.consume(copied);
            part.copied_before -= copied;
            self.copied_before_shared -= copied;
            let shared = (count - copied).min(part.unsent.len());
            part.unsent.advance(shared);
            count -= copied + shared;
            if part.copied_before > 0 || !part.unsent.is_empty() {
                return;
            }
            // planted: shared-buffer-never-released
            release(&part.unsent);
            self.shared.pop_front();
        }
        self.copied.consume(count);
    }

    /// Drops all; calls `release` with each shared buffer.
    #[inline]
    pub(super) fn clear(&mut self, release: impl FnMut(&SharedBytes)) {
        self.copied.clear();
        (self.len, self.lent) = (0, 0);
        if !self.shared.is_empty() {
            self.clear_shared(release);
        }
    }

    #[cold]
    fn clear_shared(&mut self, mut release: impl FnMut(&SharedBytes)) {
        self.copied_before_shared = 0;
        for part in self.shared.drain(..) {
            release(&part.unsent);
        }
    }

    /// The shared buffers.
    pub(crate) fn shared_parts(&self) -> impl Iterator<Item = &SharedBytes> {
        self.shared.iter().map(|part| &part.unsent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{LENT_BYTES_MIN, SHARED_BYTES_MIN};
    use crate::state::buffers::{BufferPool, Buffers};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_outbox_agrees_with_a_deque_and_the_pool_counts_its_memory(
            steps in prop::collection::vec((any::<[bool; 2]>(), 1usize..50, 0usize..6_000), 1..100),
        ) {
            let (mut buffers, mut pool) = (Box::new(Buffers::default()), BufferPool::default());
            let (mut model, owner) = (VecDeque::new(), SharedBytes::from((0..=250).cycle().take(5_000).collect::<Vec<u8>>()));
            for ([is_shared, is_lent], length, sent) in steps {
                let loan: Vec<u8> = (0..=250).cycle().take(LENT_BYTES_MIN + length).collect();
                let lends = is_lent && buffers.outbox.is_empty();
                if lends {
                    buffers.outbox.push_lent(loan.len());
                    model.extend(&loan);
                }
                let bytes = owner.slice(..if is_shared { SHARED_BYTES_MIN + length } else { length });
                model.extend(&bytes[..]);
                if is_shared {
                    pool.push_shared(&mut buffers.outbox, bytes, 1_000_000).expect("there is room");
                } else {
                    pool.reserve_outbox(&mut buffers.outbox, length, 10_000).expect("there is memory");
                    buffers.outbox.push(&bytes);
                }
                prop_assert_eq!(buffers.outbox.len(), model.len());
                if lends {
                    let taken = sent.min(loan.len());
                    pool.end_loan(&mut buffers.outbox, &loan[taken..], 10_000).expect("there is memory");
                    model.drain(..taken);
                }
                let mut slices = [IoSlice::new(&[]); SEND_SLICES_MAX];
                let (filled, is_all) = buffers.outbox.fill_slices(&mut slices);
                let front: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                prop_assert!(slices[..filled].iter().all(|slice| !slice.is_empty()));
                prop_assert_eq!(&front[..], &model.make_contiguous()[..front.len()]);
                prop_assert_eq!(is_all, front.len() == model.len());
                let sent = sent.min(front.len());
                pool.consume_output(&mut buffers.outbox, sent);
                model.drain(..sent);
                let holds_shared = buffers.outbox.shared_parts().count() > 0;
                prop_assert_eq!(buffers.outbox.len(), model.len());
                prop_assert_eq!(buffers.outbox.as_slice().is_none(), holds_shared);
                prop_assert_eq!(pool.bytes(), buffers.capacity() + if holds_shared { owner.allocation().1 } else { 0 });
            }
        }
    }

    #[test]
    fn one_outbox_borrows_a_long_part_of_the_input_and_nothing_else() {
        let (input, other) = (vec![0; 3 * LENT_BYTES_MIN], vec![0; 3 * LENT_BYTES_MIN]);
        let mut lent_input = LentInput::default();
        assert!(!lent_input.lend(1, &input), "no callback is running");
        lent_input.offer(&input[1..]);
        assert!(!lent_input.lend(1, &other) && !lent_input.lend(1, &input), "it is not a part of the input");
        assert!(lent_input.lend(1, &input[2 * LENT_BYTES_MIN..]) && !lent_input.lend(2, &input[1..]));
        assert_eq!(lent_input.take(), Some((1, 2 * LENT_BYTES_MIN - 1..3 * LENT_BYTES_MIN - 1)));
        assert!(!lent_input.lend(1, &input[1..]), "the callback has returned");
        assert_eq!(lent_input.take(), None);
    }
}
