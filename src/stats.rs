//! Counters of a loop: plain numbers, always on.

use std::fmt;
use std::ops::AddAssign;

use crate::close_reason::CloseReason;

/// Makes the struct, its sums and its line from one list of counters.
macro_rules! counters {
    ($($(#[$docs:meta])* $counter:ident,)*) => {
        /// Counters of a loop since its start, and the number of its open connections.
        ///
        /// ```
        /// let events = halloo::EventLoop::new()?;
        /// assert_eq!(events.stats().accepted, 0);
        /// assert_eq!(events.stats().closed(halloo::CloseReason::Reset), 0);
        /// println!("{}", events.stats());
        /// # Ok::<(), halloo::Error>(())
        /// ```
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$docs])* pub $counter: u64,)*
            /// Nanoseconds of work in a turn, from the end of its poll. Kept from
            /// [`Level::Turns`](crate::observe::Level::Turns) on.
            pub turn_time: Histogram,
            /// Nanoseconds that a turn waited in its polls. Kept like `turn_time`.
            pub poll_time: Histogram,
            /// Events that the polls of a turn returned. Kept like `turn_time`.
            pub events_per_turn: Histogram,
            closed: [u64; CloseReason::ALL.len()],
        }

        /// Adds the counters of another loop, for a program with several loops.
        ///
        /// ```
        /// let (first, second) = (halloo::EventLoop::new()?, halloo::EventLoop::new()?);
        /// let mut all = first.stats().clone();
        /// all += second.stats();
        /// assert_eq!(all.accepted, first.stats().accepted + second.stats().accepted);
        /// # Ok::<(), halloo::Error>(())
        /// ```
        impl AddAssign<&Self> for Stats {
            fn add_assign(&mut self, other: &Self) {
                $(self.$counter += other.$counter;)*
                self.turn_time += &other.turn_time;
                self.poll_time += &other.poll_time;
                self.events_per_turn += &other.events_per_turn;
                for (own, other) in self.closed.iter_mut().zip(other.closed) {
                    *own += other;
                }
            }
        }

        /// One line of `name=value`, in the order of the fields, then a `closed.reason=value` for each reason counted.
        impl fmt::Display for Stats {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut words = vec![$(format!("{}={}", stringify!($counter), self.$counter)),*];
                for (reason, count) in CloseReason::ALL.iter().zip(self.closed).filter(|(_, count)| *count > 0) {
                    words.push(format!("closed.{}={count}", reason.as_str()));
                }
                f.write_str(&words.join(" "))
            }
        }
    };
}

counters! {
    /// Turns of the loop.
    turns,
    /// Events that the poll returned.
    events,
    /// Jobs run that were posted through a [`Handle`](crate::Handle).
    jobs,
    /// Notes delivered to connections ([`Context::notify`](crate::Context::notify)).
    notes,
    /// Timers that expired.
    timers,
    /// Connections that exist now, including those being closed.
    connections,
    /// Clients accepted and passed to a handler.
    accepted,
    /// Outbound connections requested, including streams that were already connected.
    connects,
    /// Outbound connections that failed.
    connect_errors,
    /// Clients closed at once because `connections_max` was reached.
    refused_full,
    /// Clients closed because `connections_per_source_max` was reached: at once, or by
    /// [`set_peer_addr`](crate::Connection::set_peer_addr). The latter are also in `accepted`, and closed as
    /// [`Rejected`](CloseReason::Rejected).
    refused_source,
    /// Failed accepts; each is retried.
    accept_errors,
    /// Pauses of listeners and UDP sockets after errors.
    pauses,
    /// Times that all buffers together came near [`buffer_bytes_max`](crate::EventLoop::buffer_bytes_max).
    memory_strains,
    /// Bytes read from streams.
    bytes_received,
    /// Bytes of streams that the kernel accepted.
    bytes_sent,
    /// Datagrams received and passed to a handler.
    datagrams_received,
    /// Received datagrams longer than `datagram_bytes_max`, and so cut.
    datagrams_truncated,
    /// Datagrams that the kernel accepted.
    datagrams_sent,
    /// Datagrams that the kernel did not accept; they are lost.
    datagrams_dropped,
    /// Replies refused because of their destination: port 0, a multicast, broadcast or unspecified address, a socket of
    /// the loop.
    replies_refused_address,
    /// Replies refused because their source was over its rate limit.
    replies_refused_rate,
    /// Replies refused because the send queue was full, the payload was too long, or the socket was removed.
    replies_refused_queue,
    /// Failed receives on UDP sockets; each is retried.
    receive_errors,
    /// Callbacks that panicked.
    panics,
}

impl Stats {
    /// Returns the connections that ended for this reason; all [`CloseReason::Io`] are counted as one.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason.index()]
    }

    /// Returns the connections that ended, for any reason.
    #[must_use]
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }

    /// Returns the replies that were refused, for any reason.
    #[must_use]
    pub fn replies_refused(&self) -> u64 {
        self.replies_refused_address + self.replies_refused_rate + self.replies_refused_queue
    }

    pub(crate) fn count_close(&mut self, reason: CloseReason) {
        self.closed[reason.index()] += 1;
    }
}

/// The number of values up to each power of two.
///
/// ```
/// use halloo::Histogram;
///
/// let mut sizes = Histogram::default();
/// for size in [0, 1, 5, 5, 900] {
///     sizes.record(size);
/// }
/// assert_eq!((sizes.count(), sizes.sum(), sizes.max()), (5, 911, 900));
/// assert_eq!(sizes.quantile(0.5), 7, "half of the values are at most 7");
/// assert_eq!(sizes.buckets().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [(0, 1), (1, 1), (7, 2), (1023, 1)]);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    /// By the number of bits of the value.
    counts: [u64; Self::BUCKETS],
    sum: u64,
    max: u64,
}

impl Histogram {
    const BUCKETS: usize = u64::BITS as usize + 1;

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.counts[(u64::BITS - value.leading_zeros()) as usize] += 1;
        self.sum = self.sum.wrapping_add(value);
        self.max = self.max.max(value);
    }

    /// Returns the number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of the values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Returns the largest value, 0 without values.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Returns the largest value of each bucket, ascending, with the number of values in the bucket: those above the
    /// bucket before it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let bounds = (0..=u64::BITS).map(|bits| u64::MAX.checked_shr(u64::BITS - bits).unwrap_or(0));
        bounds.zip(self.counts)
    }

    /// Returns a bound for the smallest values: this share of them is at most that large. The bound is at most twice
    /// the value at that place, and 0 without values.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count below 2^52, times a share"
        )]
        let rank = (self.count() as f64 * share.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        let found = self.buckets().find(|(_, count)| {
            seen += count;
            seen >= rank && seen > 0
        });
        found.map_or(0, |(bound, _)| bound.min(self.max))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; Self::BUCKETS], sum: 0, max: 0 }
    }
}

impl AddAssign<&Self> for Histogram {
    fn add_assign(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(other.counts) {
            *own += other;
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sum, max, .. } = self;
        f.debug_struct("Histogram").field("count", &self.count()).field("sum", sum).field("max", max).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_every_counter_and_only_the_counted_reasons() {
        let mut stats = Stats { turns: 3, panics: 1, ..Stats::default() };
        stats.count_close(CloseReason::Eof);
        stats.count_close(CloseReason::Io(std::io::ErrorKind::Other));
        let line = stats.to_string();
        assert!(line.starts_with("turns=3 events=0 jobs=0 "), "{line}");
        assert!(line.ends_with(" receive_errors=0 panics=1 closed.eof=1 closed.io=1"), "{line}");
    }

    #[test]
    fn adding_counts_every_counter_and_every_reason() {
        let mut one = Stats { turns: 1, connections: 4, bytes_sent: 7, panics: 2, ..Stats::default() };
        one.count_close(CloseReason::Eof);
        one.count_close(CloseReason::Reset);
        let mut both = one.clone();
        both += &one;
        assert_eq!((both.turns, both.connections, both.bytes_sent, both.panics), (2, 8, 14, 4));
        assert_eq!((both.closed(CloseReason::Eof), both.closed(CloseReason::Reset), both.closed_total()), (2, 2, 4));
        both += &Stats::default();
        assert_eq!(both.closed_total(), 4);
    }
}
