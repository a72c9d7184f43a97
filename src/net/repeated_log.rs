//! Log lines about frequent occurrences, each with a count.
//!
//! Each kind of line is logged at most once a second for all sockets and listeners of a loop. Its counts add up to all
//! occurrences.

use std::io;
use std::net::SocketAddr;

use crate::address::PackedAddress;
use crate::limits;
use crate::state::timestamp::Timestamp;

/// Counts one kind of occurrence.
pub(crate) struct RepeatedLog<T> {
    /// Since the last line.
    count: u64,
    last: Option<T>,
    last_line: Option<Timestamp>,
}

impl<T> Default for RepeatedLog<T> {
    fn default() -> Self {
        Self { count: 0, last: None, last_line: None }
    }
}

impl<T> RepeatedLog<T> {
    /// Counts an occurrence; the next line names the last one.
    pub(crate) fn add(&mut self, occurrence: T) {
        self.count += 1;
        self.last = Some(occurrence);
    }

    /// The time of the next line.
    fn due(&self) -> Option<Timestamp> {
        (self.count > 0).then(|| self.last_line.map_or(Timestamp::START, |last| last.after(limits::LOG_INTERVAL)))
    }

    /// Returns the count since the last line and the last occurrence, if a line is due.
    fn take(&mut self, now: Timestamp) -> Option<(u64, T)> {
        self.due().filter(|due| *due <= now)?;
        self.last_line = Some(now);
        Some((std::mem::take(&mut self.count), self.last.take()?))
    }
}

/// All counted occurrences, by kind.
#[derive(Default)]
pub(crate) struct Occurrences {
    /// Replies that the rate limit refused: from and to.
    pub(crate) replies_past_rate: RepeatedLog<(SocketAddr, SocketAddr)>,
    /// Datagrams that were not sent: from, to, and the error.
    pub(crate) datagrams_lost: RepeatedLog<(SocketAddr, SocketAddr, io::Error)>,
    /// Clients refused by the total limit, and by the limit per source.
    pub(crate) refused_full: RepeatedLog<PackedAddress>,
    pub(crate) refused_source: RepeatedLog<PackedAddress>,
    /// Connections that the poll refused.
    pub(crate) unwatched: RepeatedLog<(PackedAddress, io::Error)>,
    /// Connections reset because memory was short, and their buffers in bytes.
    pub(crate) out_of_memory: RepeatedLog<(PackedAddress, usize)>,
}

/// The repeated log lines of a loop. A turn without occurrences costs a check of one flag.
#[derive(Default)]
pub(crate) struct RepeatedLogs {
    occurrences: Occurrences,
    /// Whether something may have been counted since its last line.
    is_pending: bool,
}

impl RepeatedLogs {
    /// Returns the occurrences, to count one.
    pub(crate) fn occurrences_mut(&mut self) -> &mut Occurrences {
        self.is_pending = true;
        &mut self.occurrences
    }

    /// The time of the next line.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        if self.is_pending { self.occurrences.due() } else { None }
    }

    /// Logs the lines that are due.
    pub(crate) fn log(&mut self, now: Timestamp) {
        if self.is_pending {
            self.occurrences.log(now);
            self.is_pending = self.occurrences.due().is_some();
        }
    }
}

impl Occurrences {
    #[cold]
    fn due(&self) -> Option<Timestamp> {
        let Self { replies_past_rate, datagrams_lost, refused_full, refused_source, unwatched, out_of_memory } = self;
        let of_datagrams = [replies_past_rate.due(), datagrams_lost.due()];
        let of_connections = [refused_full.due(), refused_source.due(), unwatched.due(), out_of_memory.due()];
        of_datagrams.into_iter().chain(of_connections).flatten().min()
    }

    #[cold]
    fn log(&mut self, now: Timestamp) {
        if let Some((count, (from, to))) = self.replies_past_rate.take(now) {
            log::info!("replies over the rate limit of a source: refused={count}, last from {from} to {to}");
        }
        if let Some((count, (from, to, error))) = self.datagrams_lost.take(now) {
            log::warn!("cannot send datagrams: lost={count}, last from {from} to {to}: {error}");
        }
        if let Some((count, peer)) = self.refused_full.take(now) {
            log::info!("clients over the connection limit: refused={count}, last {peer}");
        }
        if let Some((count, peer)) = self.refused_source.take(now) {
            log::info!("clients over the connection limit per source: refused={count}, last {peer}");
        }
        if let Some((count, (peer, error))) = self.unwatched.take(now) {
            log::warn!("cannot register connections with the poll: closed={count}, last {peer}: {error}");
        }
        if let Some((count, (peer, bytes))) = self.out_of_memory.take(now) {
            log::warn!("not enough memory for buffers: reset={count}, last {peer} with {bytes} bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_is_logged_at_once_the_rest_within_a_second_and_no_count_is_lost() {
        let at = |milliseconds: u64| Timestamp::START.after(Duration::from_millis(milliseconds));
        let mut log = RepeatedLog::default();
        assert_eq!((log.due(), log.take(at(0))), (None, None));
        log.add("a");
        assert_eq!(log.take(at(500)), Some((1, "a")));
        for last in ["b", "c", "d"] {
            log.add(last);
            assert_eq!((log.due(), log.take(at(1499))), (Some(at(1500)), None));
        }
        assert_eq!(log.take(at(1500)), Some((3, "d")));
        assert_eq!((log.due(), log.take(at(9000))), (None, None));
        log.add("e");
        assert_eq!(log.take(at(9000)), Some((1, "e")));
    }
}
