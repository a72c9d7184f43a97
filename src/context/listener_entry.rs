//! The entry of the context for one listener.

use std::net::SocketAddr;

use crate::options::connection_limits::ConnectionLimits;
use crate::options::listen::WhenFull;

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
