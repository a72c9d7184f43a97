//! How far a loop is between running and stopped.
//!
//! A loop never goes back: running, drain requested, draining, stopped. A panic ends it at any of them.

use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::state::timestamp::Timestamp;

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LoopState {
    Running,
    /// A drain was requested and begins at the end of this turn.
    DrainRequested(Drain),
    Draining(Drain),
    Stopped(DrainReport),
    /// A handler panicked out of a turn.
    Panicked,
}

impl LoopState {
    /// Whether the loop has ended, or is cutting what is left at the end of its drain.
    pub(crate) fn is_ending(self, now: Timestamp) -> bool {
        match self {
            Self::Running => false,
            Self::DrainRequested(_) => self.is_stopping(),
            Self::Draining(drain) => drain.until <= now,
            Self::Stopped(_) | Self::Panicked => true,
        }
    }

    /// Whether a stop was requested, which ends the loop with this turn: no client is accepted before that.
    pub(crate) fn is_stopping(self) -> bool {
        matches!(self, Self::DrainRequested(drain) | Self::Draining(drain) if drain.until == Timestamp::START)
    }
}

/// A drain that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) since: Timestamp,
    /// [`START`](Timestamp::START) is that of a stop.
    pub(crate) until: Timestamp,
    /// Connections that had ended before it began.
    pub(crate) closed_before: u64,
    /// Turns since its end that served input from before.
    pub(crate) late_turns: u8,
}

/// The callback that is running.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunningCallback {
    pub(crate) slot: u32,
    /// What a `close()` inside it means.
    pub(crate) cause: CloseReason,
}

/// How a drain went.
///
/// ```
/// let mut events = halloo::EventLoop::new()?;
/// events.context().drain(std::time::Duration::from_secs(1));
/// let report = events.run()?;
/// assert_eq!((report.finished, report.forced), (0, 0));
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DrainReport {
    /// Connections that ended by themselves since the drain began, those from the backlog included.
    pub finished: u64,
    /// Connections cut at its end.
    pub forced: u64,
    /// How long it took.
    pub elapsed: Duration,
}
