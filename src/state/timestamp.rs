//! Timestamps: nanoseconds since the loop started, on the monotonic clock.

use std::time::Duration;

/// A point in time, in eight bytes; the range is five centuries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Timestamp(u64);

impl Timestamp {
    pub(crate) const START: Self = Self(0);
    /// Later than every other time: a deadline that never expires.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn since_start(elapsed: Duration) -> Self {
        Self(nanoseconds(elapsed))
    }

    /// The time after a span; [`NEVER`](Self::NEVER) if it is out of range.
    pub(crate) fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(span)))
    }

    /// The span since an earlier time; zero if that time is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn as_nanos(self) -> u64 {
        self.0
    }

    pub(crate) fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

fn nanoseconds(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(span.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_out_of_range_never_ends() {
        assert_eq!(Timestamp::START.after(Duration::MAX), Timestamp::NEVER);
        assert_eq!(Timestamp::START.since(Timestamp::NEVER), Duration::ZERO);
    }
}
