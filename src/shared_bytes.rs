//! Reference-counted bytes that connections send without a copy.
//!
//! The bytes never change.

use std::fmt;
use std::ops::{Bound, Deref, RangeBounds};
use std::sync::Arc;

/// Reference-counted bytes that many connections send without a copy, with
/// [`send_shared`](crate::Connection::send_shared).
///
/// A clone and a [`slice`](Self::slice) share the bytes. The memory is freed when all of them are dropped and no outbox
/// contains it: a part that is still to be sent keeps the whole. A worker thread can build it and
/// [post](crate::Handle::post) it.
///
/// ```
/// use halloo::{EventLoop, SharedBytes, stream};
///
/// // Every client gets the same page; it is in memory once.
/// let page = SharedBytes::from(vec![b'x'; 50_000]);
/// let mut events = EventLoop::new()?;
/// events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), stream(move |connection, input| {
///     let _ = connection.send_shared(&page);
///     connection.close();
///     input.len()
/// }))?;
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct SharedBytes {
    owner: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl SharedBytes {
    /// Returns a part of the bytes. It shares the memory of the whole.
    ///
    /// ```
    /// let text = halloo::SharedBytes::from(&b"Hello, TCP Client!"[..]);
    /// assert_eq!(&text.slice(7..10)[..], b"TCP");
    /// ```
    ///
    /// # Panics
    /// If the range is not within the bytes, as for a slice.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => self.len(),
        };
        assert!(from <= to && to <= self.len(), "the range {from}..{to} is not within {} bytes", self.len());
        Self { owner: Arc::clone(&self.owner), start: self.start + from, end: self.start + to }
    }

    /// Drops bytes at the front of this reference.
    pub(crate) fn advance(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "advanced past the end");
    }

    /// The allocation: its address, which identifies it, and its size in bytes.
    pub(crate) fn allocation(&self) -> (usize, usize) {
        (Arc::as_ptr(&self.owner).addr(), self.owner.capacity())
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.owner[self.start..self.end]
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Takes the vector without a copy.
impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { start: 0, end: bytes.len(), owner: Arc::new(bytes) }
    }
}

/// Takes the string without a copy.
impl From<String> for SharedBytes {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

/// Copies the bytes once.
impl From<&[u8]> for SharedBytes {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBytes").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_range_gives_the_bytes_that_a_slice_gives() {
        let bytes = b"0123456789";
        let shared = SharedBytes::from(&bytes[..]).slice(1..9);
        let inner = &bytes[1..9];
        assert_eq!(&shared[..], inner);
        assert_eq!(&shared.slice(..)[..], inner);
        assert_eq!(&shared.slice(2..=4)[..], &inner[2..=4]);
        assert_eq!(&shared.slice(..3)[..], &inner[..3]);
        assert_eq!(&shared.slice((Bound::Excluded(5), Bound::Unbounded))[..], &inner[6..]);
        assert_eq!(&shared.slice(8..)[..], b"");
        assert_eq!(shared.slice(2..5).slice(1..).allocation(), shared.allocation());
    }

    #[test]
    #[should_panic(expected = "the range 2..9 is not within 8 bytes")]
    fn a_range_past_the_end_of_a_part_panics_although_the_whole_is_longer() {
        let _ = SharedBytes::from(&b"0123456789"[..]).slice(1..9).slice(2..9);
    }
}
