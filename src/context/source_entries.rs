//! What a loop knows of its listeners and UDP sockets.

use std::net::SocketAddr;

use crate::options::connection_limits::Bounds;
use crate::options::listen::WhenFull;
use crate::state::source_limits::Rates;

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
