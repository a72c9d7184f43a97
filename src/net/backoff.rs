//! Backoff after errors of a listener or UDP socket.
//!
//! A backoff is a deadline of one source; the loop never sleeps for it.

use std::time::Duration;

use crate::limits;
use crate::net::io_error_class::IoErrorClass;
use crate::state::timestamp::Timestamp;

/// The errors of one source.
pub(crate) struct Backoff {
    errors_in_a_row: u32,
    delay: Duration,
    episode: Option<Episode>,
    log_throttle: LogThrottle,
}

/// Errors from the first pause until the source is empty.
struct Episode {
    since: Timestamp,
    failures: u64,
    was_logged: bool,
}

/// The action after a failed call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BackoffAction {
    /// Try again at once.
    Retry,
    /// Try again after a pause, and log the error if required.
    Wait { after: Duration, should_log: bool },
}

/// An episode that has ended and was logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Recovery {
    pub(crate) failures: u64,
    pub(crate) lasted: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { errors_in_a_row: 0, delay: limits::BACKOFF_MIN, episode: None, log_throttle: LogThrottle::default() }
    }
}

impl Backoff {
    /// Records an error other than `WouldBlock`.
    pub(crate) fn on_error(&mut self, class: IoErrorClass, now: Timestamp) -> BackoffAction {
        self.errors_in_a_row += 1;
        if let Some(episode) = &mut self.episode {
            episode.failures += 1;
        }
        // planted: no-backoff-without-descriptors
        if class == IoErrorClass::Transient && self.errors_in_a_row < limits::ERRORS_IN_A_ROW_MAX {
            return BackoffAction::Retry;
        }
        let should_log = self.episode.is_none() && self.log_throttle.allow(now);
        if self.episode.is_none() {
            self.episode =
                Some(Episode { since: now, failures: u64::from(self.errors_in_a_row), was_logged: should_log });
        }
        let after = self.delay;
        self.delay = (2 * after).min(limits::BACKOFF_MAX);
        self.errors_in_a_row = 0;
        BackoffAction::Wait { after, should_log }
    }

    /// Records a successful call.
    pub(crate) fn on_success(&mut self) {
        self.errors_in_a_row = 0;
        self.delay = limits::BACKOFF_MIN;
    }

    /// Records that the source is empty, which ends an episode. Returns the episode if its start was logged.
    pub(crate) fn on_would_block(&mut self, now: Timestamp) -> Option<Recovery> {
        self.on_success();
        let episode = self.episode.take()?;
        episode.was_logged.then(|| Recovery { failures: episode.failures, lasted: now.since(episode.since) })
    }
}

/// Limits one kind of log line to one per interval.
#[derive(Default)]
pub(crate) struct LogThrottle {
    last: Option<Timestamp>,
}

impl LogThrottle {
    /// Whether the line may be logged now; if so, it counts as logged.
    pub(crate) fn allow(&mut self, now: Timestamp) -> bool {
        let is_allowed = self.last.is_none_or(|last| now.since(last) >= limits::LOG_INTERVAL);
        if is_allowed {
            self.last = Some(now);
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::START.after(Duration::from_millis(milliseconds))
    }

    #[test]
    fn pauses_double_from_ten_milliseconds_to_a_second_and_success_resets_them() {
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for _ in 0..9 {
            let BackoffAction::Wait { after, .. } = backoff.on_error(IoErrorClass::ResourceExhausted, at(0)) else {
                panic!("an exhausted resource must pause");
            };
            delays.push(after.as_millis());
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.on_success();
        let BackoffAction::Wait { after, .. } = backoff.on_error(IoErrorClass::ResourceExhausted, at(0)) else {
            panic!("an exhausted resource must pause");
        };
        assert_eq!(after, limits::BACKOFF_MIN);
    }

    #[test]
    fn transient_errors_are_retried_until_sixteen_come_in_a_row() {
        let mut backoff = Backoff::default();
        for _ in 1..limits::ERRORS_IN_A_ROW_MAX {
            assert_eq!(backoff.on_error(IoErrorClass::Transient, at(0)), BackoffAction::Retry);
        }
        assert!(matches!(backoff.on_error(IoErrorClass::Transient, at(0)), BackoffAction::Wait { .. }));
        backoff.on_success();
        for _ in 1..limits::ERRORS_IN_A_ROW_MAX {
            assert_eq!(backoff.on_error(IoErrorClass::Transient, at(0)), BackoffAction::Retry);
        }
        backoff.on_would_block(at(0));
        assert_eq!(backoff.on_error(IoErrorClass::Transient, at(0)), BackoffAction::Retry, "the source was empty");
    }

    #[test]
    fn one_line_at_the_start_one_at_the_end_and_none_for_repeated_short_failures() {
        let mut backoff = Backoff::default();
        let logs = |action| matches!(action, BackoffAction::Wait { should_log: true, .. });
        assert!(logs(backoff.on_error(IoErrorClass::ResourceExhausted, at(0))));
        assert!(!logs(backoff.on_error(IoErrorClass::ResourceExhausted, at(10))));
        backoff.on_success();
        assert!(
            !logs(backoff.on_error(IoErrorClass::ResourceExhausted, at(20))),
            "clients still wait: the same trouble"
        );
        let recovery = backoff.on_would_block(at(30)).expect("the start was logged");
        assert_eq!((recovery.failures, recovery.lasted.as_millis()), (3, 30));
        assert!(!logs(backoff.on_error(IoErrorClass::ResourceExhausted, at(40))), "within the second");
        assert_eq!(backoff.on_would_block(at(50)), None, "the end is not logged without the start");
        assert!(logs(backoff.on_error(IoErrorClass::ResourceExhausted, at(1000))));
    }
}
