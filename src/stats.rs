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
    /// Clients closed at once because `connections_per_source_max` was reached.
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
    /// Replies refused: to port 0, to a multicast or broadcast address, to a socket of the loop, or over a source's
    /// rate limit.
    replies_refused,
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

    pub(crate) fn count_close(&mut self, reason: CloseReason) {
        self.closed[reason.index()] += 1;
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
