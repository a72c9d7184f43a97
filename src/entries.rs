//! The entries of the tables: listeners, UDP sockets, and how far the loop's life has come.

use std::net::SocketAddr;
use std::time::Duration;

use crate::bounds::Bounds;
use crate::moment::Moment;
use crate::options::WhenFull;
use crate::reason::CloseReason;
use crate::sources::Rates;

/// What connections have in common that came by one listener, or went out alike.
pub(crate) struct Origin {
    pub(crate) serial: u64,
    pub(crate) handler: u32,
    /// The listener's address; outbound and at a unix socket there is none.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) is_outbound: bool,
    pub(crate) bounds: Bounds,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_source_max: Option<u32>,
    pub(crate) when_full: WhenFull,
    pub(crate) connections: u32,
    pub(crate) listening: bool,
}

/// A UDP socket, as the tables know it.
pub(crate) struct Socket {
    pub(crate) serial: u64,
    pub(crate) local: SocketAddr,
    pub(crate) rates: Option<Rates>,
    pub(crate) limit_loopback: bool,
    pub(crate) open: bool,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifecycle {
    Running,
    /// Asked to drain; the stations have not yet begun.
    Asked(Drain),
    Draining(Drain),
    Stopped(DrainReport),
}

impl Lifecycle {
    /// Whether the loop has ended, or is cutting what is left at the end of its drain.
    pub(crate) fn is_ending(self, now: Moment) -> bool {
        match self {
            Self::Running | Self::Asked(_) => false,
            Self::Draining(drain) => drain.until <= now,
            Self::Stopped(_) => true,
        }
    }
}

/// A drain that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) since: Moment,
    pub(crate) until: Moment,
    /// Connections that had ended before it began.
    pub(crate) closed_before: u64,
}

/// The callback that is running.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calling {
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
    pub took: Duration,
}
