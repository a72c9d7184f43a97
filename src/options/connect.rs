//! Options of outbound connections, with their defaults.

use std::net::SocketAddr;
use std::time::Duration;

use crate::address::Address;
use crate::options::connection_limits::ConnectionLimits;
use crate::options::tcp::TcpOptions;

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
    pub(crate) tcp: TcpOptions,
}

impl Connect {
    /// Connect to a unix stream socket, by its path; on Linux, behind a NUL, by its
    /// [abstract name](crate::Listen::unix). With a NUL in a path, or an empty name, the connect fails.
    ///
    /// ```
    /// let to = halloo::Connect::unix("/run/greeter.sock");
    /// # let _ = to;
    /// ```
    #[cfg(unix)]
    pub fn unix(path: impl Into<std::path::PathBuf>) -> Self {
        Self::new(Address::Unix(path.into()))
    }

    fn new(address: Address) -> Self {
        Self { address, limits: ConnectionLimits::default(), tcp: TcpOptions::default() }
    }

    /// Give up if the other side has not answered in this time. Default: 10 s.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.limits.connect_timeout = after;
        self
    }

    connection_setters!();

    /// Refuses options that cannot work, for a handler that must see `input_bytes_min` bytes at once.
    pub(crate) fn validate(&self, input_bytes_min: usize) -> Result<(), &'static str> {
        self.address.validate()?;
        self.tcp.validate()?;
        self.limits.validate(input_bytes_min)
    }
}

impl From<SocketAddr> for Connect {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.into())
    }
}
