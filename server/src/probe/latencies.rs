//! How many requests were sent, and how long their replies took.
//!
//! Its memory is bounded: times are counted by their first three digits.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::probe::query_result::{Outcome, QueryResult};

/// The requests of one target and protocol.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    /// The number of right replies for each time, in microseconds.
    times: BTreeMap<u64, u64>,
    shortest: Option<Duration>,
    longest: Duration,
}

/// The times of the right replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latencies {
    pub(crate) min: Duration,
    pub(crate) median: Duration,
    /// The time within which 95 per cent of the replies came.
    pub(crate) p95: Duration,
    pub(crate) max: Duration,
}

impl Tally {
    /// Counts a result.
    pub(crate) fn add(&mut self, result: &QueryResult) {
        self.sent += 1;
        if result.outcome == Outcome::Ok {
            self.add_time(result.elapsed);
        }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.sent - self.ok
    }

    fn add_time(&mut self, elapsed: Duration) {
        self.ok += 1;
        *self.times.entry(first_three_digits(elapsed)).or_default() += 1;
        self.shortest = Some(self.shortest.map_or(elapsed, |shortest| shortest.min(elapsed)));
        self.longest = self.longest.max(elapsed);
    }

    /// The times, unless no reply was right.
    pub(crate) fn latencies(&self) -> Option<Latencies> {
        let min = self.shortest?;
        let within = |per_cent| self.time_within(per_cent).clamp(min, self.longest);
        Some(Latencies { min, median: within(50), p95: within(95), max: self.longest })
    }

    /// The time within which this share of the replies came.
    fn time_within(&self, per_cent: u64) -> Duration {
        let wanted = self.ok.saturating_mul(per_cent).div_ceil(100);
        let mut counted = 0;
        let found = self.times.iter().find(|(_, count)| {
            counted += **count;
            counted >= wanted
        });
        found.map_or(self.longest, |(micros, _)| Duration::from_micros(*micros))
    }
}

/// A time in microseconds, all digits but the first three zero.
fn first_three_digits(elapsed: Duration) -> u64 {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let unit = 10_u64.pow(micros.checked_ilog10().unwrap_or(0).saturating_sub(2));
    micros / unit * unit
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Latencies, Tally, first_three_digits};

    fn tally(times: impl IntoIterator<Item = u64>) -> Tally {
        let mut tally = Tally::default();
        times.into_iter().for_each(|micros| tally.add_time(Duration::from_micros(micros)));
        tally
    }

    #[test]
    fn median_and_95_per_cent_are_times_that_were_measured() {
        let micros = Duration::from_micros;
        let of = |times: &[u64]| tally(times.iter().copied()).latencies();
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some(Latencies { min: micros(7), median: micros(7), p95: micros(7), max: micros(7) }));
        let [min, median, p95, max] = [1, 2, 3, 3].map(micros);
        assert_eq!(of(&[3, 1, 2]), Some(Latencies { min, median, p95, max }));
        let [min, median, p95, max] = [1, 50, 95, 100].map(micros);
        assert_eq!(tally((1..=100).rev()).latencies(), Some(Latencies { min, median, p95, max }));
    }

    #[test]
    fn a_million_times_are_kept_in_a_few_thousand_numbers() {
        let tally = tally((0..1_000_000).map(|number| number * number));
        assert!(tally.times.len() < 12_000, "{}", tally.times.len());
        assert_eq!((tally.ok, first_three_digits(Duration::from_micros(123_456))), (1_000_000, 123_000));
    }

    proptest! {
        #[test]
        fn the_times_are_in_order(times in prop::collection::vec(any::<u64>(), 1..40)) {
            let Latencies { min, median, p95, max } = tally(times).latencies().unwrap();
            prop_assert!(min <= median && median <= p95 && p95 <= max);
        }
    }
}
