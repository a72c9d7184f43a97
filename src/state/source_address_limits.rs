//! Connection counts and reply rate limits per source address.
//!
//! The count is exact. The table of the rate limiter has a fixed size, because a datagram's source can be forged.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use crate::limits;
use crate::state::sparse_vec::SparseVec;
use crate::state::timestamp::Timestamp;

/// A source: an IPv4 address, or an IPv6 /64, which one household or host usually has alone (RFC 6177).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum SourcePrefix {
    V4(u32),
    V6(u64),
}

impl SourcePrefix {
    /// From an address in its [canonical](crate::address::to_canonical) form.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

/// The number of connections of each source with each handler. It has entries only for open connections.
pub(crate) struct ConnectionCounts {
    open: HashMap<(u32, SourcePrefix), u32>,
    /// The source for which each connection counts, by slot.
    source_of: SparseVec<SourcePrefix>,
}

impl ConnectionCounts {
    pub(crate) fn new() -> Self {
        Self { open: HashMap::new(), source_of: SparseVec::new() }
    }

    /// Counts the connection in a slot for a source, and no longer for another. Returns false if that would exceed
    /// `connections_max`, or if there is no memory for the count; it then counts for no source.
    pub(crate) fn try_add(&mut self, slot: u32, handler: u32, source: SourcePrefix, connections_max: u32) -> bool {
        // First, because the source may be the same.
        // planted: earlier-source-still-counted
        self.remove(slot, handler);
        if self.open.try_reserve(1).is_err() {
            return false;
        }
        let count = self.open.entry((handler, source)).or_insert(0);
        let is_added = *count < connections_max && self.source_of.try_set(slot, Some(source)).is_ok();
        *count += u32::from(is_added);
        if *count == 0 {
            self.open.remove(&(handler, source));
        }
        is_added
    }

    /// The counts, by handler and source.
    #[cfg(test)]
    pub(crate) fn open(&self) -> impl Iterator<Item = ((u32, SourcePrefix), u32)> {
        self.open.iter().map(|(key, count)| (*key, *count))
    }

    /// For how many slots there is room.
    #[cfg(test)]
    pub(crate) fn slots_capacity(&self) -> usize {
        self.source_of.capacity()
    }

    /// Releases the memory of a burst of connections; no slot from `slots` on is in use.
    pub(crate) fn shrink(&mut self, slots: usize) {
        self.source_of.shrink(slots);
        if self.open.capacity() > limits::BURST_MIN && self.open.len() <= self.open.capacity() / 8 {
            self.open.shrink_to(limits::BURST_MIN);
        }
    }

    /// Ends the count of the connection in a slot, if it counts for a source.
    pub(crate) fn remove(&mut self, slot: u32, handler: u32) {
        if let Some(source) = self.source_of.take(slot)
            && let Entry::Occupied(mut entry) = self.open.entry((handler, source))
        {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// A token bucket per source in a table of fixed size: `per_second` replies a second, with a burst of at most one
/// second's worth. Sources with the same hash share a bucket. The key of the hash is secret, so no source can choose
/// another source's bucket.
pub(crate) struct RateLimiter {
    key: [u64; 2],
    interval: Duration,
    burst: Duration,
    /// Per bucket, the time when it is full again (the generic cell rate algorithm, ITU-T I.371).
    full_at: Box<[Timestamp]>,
}

impl RateLimiter {
    pub(crate) fn new(per_second: u32, key: [u64; 2]) -> Self {
        let interval = Duration::from_secs(1) / per_second;
        Self {
            key,
            interval,
            burst: interval * (per_second - 1),
            full_at: vec![Timestamp::START; limits::RATE_BUCKETS].into_boxed_slice(),
        }
    }

    /// Takes one reply from the source's bucket; returns false if it is empty.
    pub(crate) fn try_acquire(&mut self, source: SourcePrefix, now: Timestamp) -> bool {
        let bucket = self.bucket(source);
        let full_at = self.full_at[bucket].max(now);
        let allowed = full_at.since(now) <= self.burst;
        if allowed {
            self.full_at[bucket] = full_at.after(self.interval);
        }
        allowed
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
    fn bucket(&self, source: SourcePrefix) -> usize {
        let mut hasher = DefaultHasher::new();
        (self.key, source).hash(&mut hasher);
        hasher.finish() as usize & (limits::RATE_BUCKETS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::START.after(Duration::from_millis(milliseconds))
    }

    #[test]
    fn an_ipv4_address_and_an_ipv6_64_are_one_source_each() {
        let parse = |text: &str| SourcePrefix::of(text.parse().expect("an address"));
        assert_ne!(parse("10.0.0.1"), parse("10.0.0.2"));
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:1"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
    }

    proptest! {
        #[test]
        fn counts_agree_with_a_list_of_connections(steps in prop::collection::vec((0u32..16, 0u32..3, any::<bool>()), 1..200)) {
            let mut counts = ConnectionCounts::new();
            // By slot. A slot is used by the connections of one handler here.
            let mut open: BTreeMap<u32, u32> = BTreeMap::new();
            for (slot, address, opens) in steps {
                let handler = slot % 2;
                if opens {
                    open.remove(&slot);
                    let is_same = |(other, source): (&u32, &u32)| other % 2 == handler && *source == address;
                    let present = open.iter().filter(|entry| is_same(*entry)).count();
                    let is_added = counts.try_add(slot, handler, SourcePrefix::V4(address), 3);
                    prop_assert_eq!(is_added, present < 3);
                    if is_added {
                        open.insert(slot, address);
                    }
                } else {
                    open.remove(&slot);
                    counts.remove(slot, handler);
                }
            }
            for slot in open.into_keys() {
                counts.remove(slot, slot % 2);
            }
            prop_assert!(counts.open.is_empty(), "a source without a connection has no entry");
        }

        /// The model: a bucket that starts full, fills at the rate, and never contains more than a second's worth.
        #[test]
        fn a_source_gets_its_burst_then_its_rate(rate in 1u32..50, gaps in prop::collection::vec(0u64..1500, 1..200)) {
            let mut limiter = RateLimiter::new(rate, [1, 2]);
            let nanoseconds_each = 1_000_000_000 / u64::from(rate);
            let capacity = nanoseconds_each * u64::from(rate);
            let (mut filled, mut now) = (capacity, 0);
            for gap in gaps {
                now += gap;
                filled = (filled + gap * 1_000_000).min(capacity);
                let expected = filled >= nanoseconds_each;
                filled -= if expected { nanoseconds_each } else { 0 };
                prop_assert_eq!(limiter.try_acquire(SourcePrefix::V4(7), at(now)), expected);
            }
        }
    }

    #[test]
    fn a_million_forged_sources_do_not_grow_the_table() {
        let mut limiter = RateLimiter::new(1, [3, 4]);
        let size = limiter.full_at.len();
        for address in 0..1_000_000 {
            limiter.try_acquire(SourcePrefix::V4(address), at(0));
        }
        assert_eq!(limiter.full_at.len(), size);
        assert!(!limiter.try_acquire(SourcePrefix::V4(1), at(0)), "every bucket has been used");
    }

    #[test]
    fn the_key_decides_which_sources_share_a_bucket() {
        let (one, other) = (RateLimiter::new(1, [1, 1]), RateLimiter::new(1, [2, 2]));
        let moved = (0..100).filter(|n| one.bucket(SourcePrefix::V4(*n)) != other.bucket(SourcePrefix::V4(*n))).count();
        assert!(moved > 90, "only {moved} of 100 sources moved");
    }
}
