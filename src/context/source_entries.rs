//! Entries of the context for listeners and UDP sockets.

use std::net::SocketAddr;

use crate::options::connection_limits::ConnectionLimits;
use crate::options::listen::WhenFull;
use crate::state::source_limits::RateLimiter;

/// What connections have in common that came by one listener, or went out alike.
pub(crate) struct ListenerEntry {
    pub(crate) generation: u64,
    pub(crate) handler: u32,
    /// The listener's address; outbound and at a unix socket there is none.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) is_outbound: bool,
    pub(crate) limits: ConnectionLimits,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_source_max: Option<u32>,
    pub(crate) when_full: WhenFull,
    pub(crate) connections: u32,
    pub(crate) is_listening: bool,
}

/// A UDP socket, as the context knows it.
pub(crate) struct UdpSocketEntry {
    pub(crate) generation: u64,
    pub(crate) local: SocketAddr,
    pub(crate) rate_limiter: Option<RateLimiter>,
    pub(crate) limit_loopback: bool,
    pub(crate) is_open: bool,
}
