//! The state of a loop, from running to stopped.
//!
//! A loop never goes back: running, drain requested, draining, stopped. A panic can end it in any state.

use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::state::timestamp::Timestamp;

/// The state of the loop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LoopState {
    Running,
    /// A drain was requested, and begins at the end of this turn.
    DrainRequested(Drain),
    Draining(Drain),
    Stopped(DrainReport),
    /// A panic of a handler ended a turn.
    Panicked,
}

impl LoopState {
    /// Whether the loop has ended, or closes its remaining connections at the end of a drain.
    pub(crate) fn is_ending(self, now: Timestamp) -> bool {
        match self {
            Self::Running => false,
            Self::DrainRequested(_) => self.is_stopping(),
            Self::Draining(drain) => drain.until <= now,
            Self::Stopped(_) | Self::Panicked => true,
        }
    }

    /// Whether a stop was requested. It ends the loop with this turn, and no client is accepted before.
    pub(crate) fn is_stopping(self) -> bool {
        matches!(self, Self::DrainRequested(drain) | Self::Draining(drain) if drain.until == Timestamp::START)
    }
}

/// A drain in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) since: Timestamp,
    /// [`START`](Timestamp::START) for a stop.
    pub(crate) until: Timestamp,
    /// Connections that ended before the drain.
    pub(crate) closed_before: u64,
    /// Turns after its end that served input from before the end.
    pub(crate) late_turns: u8,
}

/// The callback that is running.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunningCallback {
    pub(crate) slot: u32,
    /// The reason of a `close()` inside it.
    pub(crate) cause: CloseReason,
}

/// The result of a drain.
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
    /// Connections that ended by themselves during the drain, including those from the backlog.
    pub finished: u64,
    /// Connections reset at its end.
    pub forced: u64,
    /// Its duration.
    pub elapsed: Duration,
}
