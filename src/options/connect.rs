//! Options of outbound connections, with their defaults.

use std::net::SocketAddr;
use std::time::Duration;

use crate::address::Address;
use crate::options::connection_limits::ConnectionLimits;

/// An outbound connection to be: where to, and the limits of the connection.
///
/// A plain address is enough; every limit has a default.
///
/// ```
/// use std::time::Duration;
/// use halloo::{Connect, EventLoop, stream};
///
/// let mut events = EventLoop::new()?;
/// let handler = events.attach(stream(|_, input| input.len()));
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
/// events.context().connect(Connect::from(address).timeout(Duration::from_secs(2)), handler);
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a Connect does nothing until Context::connect takes it"]
pub struct Connect {
    pub(crate) address: Address,
    pub(crate) limits: ConnectionLimits,
    pub(crate) nodelay: bool,
}

impl Connect {
    /// Connect to a unix stream socket, by its path.
    ///
    /// ```
    /// let to = halloo::Connect::unix("/run/greeter.sock");
    /// # let _ = to;
    /// ```
    #[cfg(unix)]
    pub fn unix(path: impl Into<std::path::PathBuf>) -> Self {
        Self { address: Address::Unix(path.into()), limits: ConnectionLimits::default(), nodelay: false }
    }

    /// Give up if the other side has not answered in this time. Default: 10 s.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.limits.connect_timeout = after;
        self
    }

    /// As [`Listen::idle_timeout`](crate::Listen::idle_timeout); it runs from when the connection is open.
    pub fn idle_timeout(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.limits.idle_timeout = after.into();
        self
    }

    /// As [`Listen::write_timeout`](crate::Listen::write_timeout).
    pub fn write_timeout(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.limits.write_timeout = after.into();
        self
    }

    /// As [`Listen::input_bytes_max`](crate::Listen::input_bytes_max).
    pub fn input_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.input_bytes_max = bytes;
        self
    }

    /// As [`Listen::outbox_bytes_max`](crate::Listen::outbox_bytes_max). What is written before the connection is open
    /// counts, too.
    pub fn outbox_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.outbox_bytes_max = bytes;
        self
    }

    /// As [`Listen::nodelay`](crate::Listen::nodelay).
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// Refuses limits that cannot work, for a handler that must see `input_bytes_min` bytes at once.
    pub(crate) fn validate(&self, input_bytes_min: usize) -> Result<(), &'static str> {
        self.limits.validate(input_bytes_min)
    }
}

impl From<SocketAddr> for Connect {
    fn from(address: SocketAddr) -> Self {
        Self { address: Address::Inet(address), limits: ConnectionLimits::default(), nodelay: true }
    }
}
