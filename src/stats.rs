//! Counters of a loop: plain numbers, always on.

use std::fmt;
use std::ops::AddAssign;

use crate::close_reason::CloseReason;

/// What a loop has done since it began, and how many connections it has now.
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
    /// Rounds of the loop.
    pub turns: u64,
    /// Events the poll returned.
    pub events: u64,
    /// Jobs run that were posted through a [`Handle`](crate::Handle).
    pub jobs: u64,
    /// Notes handed to connections ([`Context::notify`](crate::Context::notify)).
    pub notes: u64,
    /// Timers that came up.
    pub timers: u64,
    /// Connections that exist now, those being closed included.
    pub connections: u64,
    /// Clients accepted and given to a handler.
    pub accepted: u64,
    /// Outbound connections asked for.
    pub connects: u64,
    /// Of those, the ones that have failed.
    pub connect_errors: u64,
    /// Clients closed at once because `connections_max` was reached.
    pub refused_full: u64,
    /// Clients closed at once because their source had its share.
    pub refused_source: u64,
    /// Failed accepts, retried.
    pub accept_errors: u64,
    /// Times a listener or UDP socket paused after an error.
    pub pauses: u64,
    /// Bytes read from streams.
    pub bytes_received: u64,
    /// Bytes of streams that the kernel took.
    pub bytes_sent: u64,
    /// Datagrams received and given to a handler.
    pub datagrams_received: u64,
    /// Of those, the ones longer than their room.
    pub datagrams_truncated: u64,
    /// Datagrams that the kernel took.
    pub datagrams_sent: u64,
    /// Datagrams that the kernel did not take, lost.
    pub datagrams_dropped: u64,
    /// Replies refused: to port 0, to many at once, to a socket of ours, or past a source's rate.
    pub replies_refused: u64,
    /// Failed receives on UDP sockets, retried.
    pub receive_errors: u64,
    /// Callbacks that panicked.
    pub panics: u64,
    closed: [u64; CloseReason::COUNT],
}

impl Stats {
    /// Connections that ended for this reason; all of [`CloseReason::Io`] are counted as one.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason.index()]
    }

    /// Connections that ended, for whatever reason.
    #[must_use]
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }

    pub(crate) fn count_close(&mut self, reason: CloseReason) {
        self.closed[reason.index()] += 1;
    }
}

/// The counters of two loops together, for a program that has several.
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
        // In full, so that a field that is added later cannot be forgotten here.
        let Self {
            turns,
            events,
            jobs,
            notes,
            timers,
            connections,
            accepted,
            connects,
            connect_errors,
            refused_full,
            refused_source,
            accept_errors,
            pauses,
            bytes_received,
            bytes_sent,
            datagrams_received,
            datagrams_truncated,
            datagrams_sent,
            datagrams_dropped,
            replies_refused,
            receive_errors,
            panics,
            closed,
        } = other;
        self.turns += turns;
        self.events += events;
        self.jobs += jobs;
        self.notes += notes;
        self.timers += timers;
        self.connections += connections;
        self.accepted += accepted;
        self.connects += connects;
        self.connect_errors += connect_errors;
        self.refused_full += refused_full;
        self.refused_source += refused_source;
        self.accept_errors += accept_errors;
        self.pauses += pauses;
        self.bytes_received += bytes_received;
        self.bytes_sent += bytes_sent;
        self.datagrams_received += datagrams_received;
        self.datagrams_truncated += datagrams_truncated;
        self.datagrams_sent += datagrams_sent;
        self.datagrams_dropped += datagrams_dropped;
        self.replies_refused += replies_refused;
        self.receive_errors += receive_errors;
        self.panics += panics;
        for (own, other) in self.closed.iter_mut().zip(closed) {
            *own += other;
        }
    }
}

/// One line of `name=value`, in the order of the fields, then a `closed.reason=value` for each reason met.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "turns={} events={} jobs={}", self.turns, self.events, self.jobs)?;
        write!(f, " notes={} timers={} connections={}", self.notes, self.timers, self.connections)?;
        write!(f, " accepted={} connects={}", self.accepted, self.connects)?;
        write!(f, " connect_errors={} refused_full={}", self.connect_errors, self.refused_full)?;
        write!(f, " refused_source={} accept_errors={}", self.refused_source, self.accept_errors)?;
        write!(f, " pauses={}", self.pauses)?;
        write!(f, " bytes_received={} bytes_sent={}", self.bytes_received, self.bytes_sent)?;
        write!(f, " datagrams_received={}", self.datagrams_received)?;
        write!(f, " datagrams_truncated={}", self.datagrams_truncated)?;
        write!(f, " datagrams_sent={} datagrams_dropped={}", self.datagrams_sent, self.datagrams_dropped)?;
        write!(f, " replies_refused={} receive_errors={}", self.replies_refused, self.receive_errors)?;
        write!(f, " panics={}", self.panics)?;
        for reason in CloseReason::all() {
            if self.closed(reason) > 0 {
                write!(f, " closed.{}={}", reason.as_str(), self.closed(reason))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_only_the_reasons_that_were_met() {
        let mut stats = Stats { connections: 2, ..Stats::default() };
        stats.count_close(CloseReason::Eof);
        let line = stats.to_string();
        assert!(line.contains(" closed.eof=1"), "{line}");
        assert!(!line.contains("closed.local"), "{line}");
    }

    #[test]
    fn the_line_names_every_counter() {
        let fields = format!("{:#?}", Stats::default());
        let line = format!(" {}", Stats::default());
        let names: Vec<&str> = fields.lines().filter_map(|field| field.trim().strip_suffix(": 0,")).collect();
        assert!(names.len() > 20, "the search is broken: {fields}");
        for name in names {
            assert!(line.contains(&format!(" {name}=0")), "{name} is not in {line}");
        }
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
