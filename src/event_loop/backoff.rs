//! How a listener or a UDP socket meets trouble that lasts: by pausing, a little longer each time, and saying so once.
//!
//! Pure. A pause is a deadline of the one source, never a sleep of the loop.

use std::time::Duration;

use crate::limits;
use crate::net::io_error_class::Trouble;
use crate::state::timestamp::Moment;

/// The troubles of one source.
pub(crate) struct Backoff {
    in_a_row: u32,
    pause: Duration,
    episode: Option<Episode>,
    said: Seldom,
}

/// Trouble from its first pause until the source is empty again.
struct Episode {
    since: Moment,
    failures: u64,
    said: bool,
}

/// What follows from a failed call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reaction {
    /// Try again at once.
    Retry,
    /// Try again after the pause; say so if told to.
    Pause { after: Duration, say: bool },
}

/// An episode that is over and was announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Relief {
    pub(crate) failures: u64,
    pub(crate) lasted: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { in_a_row: 0, pause: limits::PAUSE_MIN, episode: None, said: Seldom::default() }
    }

    /// A call failed, and not for want of something to do.
    pub(crate) fn failed(&mut self, trouble: Trouble, now: Moment) -> Reaction {
        self.in_a_row += 1;
        if let Some(episode) = &mut self.episode {
            episode.failures += 1;
        }
        // planted: no-backoff-without-descriptors
        if trouble == Trouble::Passing && self.in_a_row < limits::ERRORS_IN_A_ROW_MAX {
            return Reaction::Retry;
        }
        let say = self.episode.is_none() && self.said.may_say(now);
        if self.episode.is_none() {
            self.episode = Some(Episode { since: now, failures: u64::from(self.in_a_row), said: say });
        }
        let after = self.pause;
        self.pause = (2 * after).min(limits::PAUSE_MAX);
        self.in_a_row = 0;
        Reaction::Pause { after, say }
    }

    /// A call brought something.
    pub(crate) fn succeeded(&mut self) {
        self.in_a_row = 0;
        self.pause = limits::PAUSE_MIN;
    }

    /// The source is empty: nobody waits, so the trouble is over. Returns what is to be said about it.
    pub(crate) fn emptied(&mut self, now: Moment) -> Option<Relief> {
        self.succeeded();
        let episode = self.episode.take()?;
        episode.said.then(|| Relief { failures: episode.failures, lasted: now.since(episode.since) })
    }
}

/// Keeps one kind of log line from coming more than once an interval.
#[derive(Default)]
pub(crate) struct Seldom {
    last: Option<Moment>,
}

impl Seldom {
    /// Whether the line may be said now; if so, it counts as said.
    pub(crate) fn may_say(&mut self, now: Moment) -> bool {
        let may = self.last.is_none_or(|last| now.since(last) >= limits::LOG_INTERVAL);
        if may {
            self.last = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::START.after(Duration::from_millis(milliseconds))
    }

    #[test]
    fn pauses_double_from_ten_milliseconds_to_a_second_and_success_resets_them() {
        let mut backoff = Backoff::new();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let Reaction::Pause { after, .. } = backoff.failed(Trouble::Exhausted, at(0)) else {
                panic!("an exhausted resource must pause");
            };
            pauses.push(after.as_millis());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.succeeded();
        let Reaction::Pause { after, .. } = backoff.failed(Trouble::Exhausted, at(0)) else {
            panic!("an exhausted resource must pause");
        };
        assert_eq!(after, limits::PAUSE_MIN);
    }

    #[test]
    fn passing_errors_are_retried_until_they_come_in_a_row() {
        let mut backoff = Backoff::new();
        for _ in 1..limits::ERRORS_IN_A_ROW_MAX {
            assert_eq!(backoff.failed(Trouble::Passing, at(0)), Reaction::Retry);
        }
        assert!(matches!(backoff.failed(Trouble::Passing, at(0)), Reaction::Pause { .. }));
        backoff.succeeded();
        assert_eq!(backoff.failed(Trouble::Passing, at(0)), Reaction::Retry);
    }

    #[test]
    fn one_line_at_the_start_one_at_the_end_and_none_for_trouble_that_flaps() {
        let mut backoff = Backoff::new();
        let says = |reaction| matches!(reaction, Reaction::Pause { say: true, .. });
        assert!(says(backoff.failed(Trouble::Exhausted, at(0))));
        assert!(!says(backoff.failed(Trouble::Exhausted, at(10))));
        backoff.succeeded();
        assert!(!says(backoff.failed(Trouble::Exhausted, at(20))), "clients still wait: the same trouble");
        let relief = backoff.emptied(at(30)).expect("it was announced");
        assert_eq!((relief.failures, relief.lasted.as_millis()), (3, 30));
        assert!(!says(backoff.failed(Trouble::Exhausted, at(40))), "within the second");
        assert_eq!(backoff.emptied(at(50)), None, "what was not announced is not taken back");
        assert!(says(backoff.failed(Trouble::Exhausted, at(1000))));
    }
}
