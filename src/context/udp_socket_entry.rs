//! The entry of the context for one UDP socket.

use std::net::SocketAddr;

use crate::state::source_address_limits::RateLimiter;

/// A UDP socket, as the context knows it.
pub(crate) struct UdpSocketEntry {
    pub(crate) generation: u64,
    pub(crate) local: SocketAddr,
    pub(crate) rate_limiter: Option<RateLimiter>,
    pub(crate) limit_loopback: bool,
    pub(crate) is_open: bool,
}
