//! A socket of the server: its protocol and its address.

use crate::text::address::Endpoint;
use crate::text::bound_address::BoundAddress;
use crate::text::protocol::Protocol;

/// A TCP listener, a listener at a unix socket or a UDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServedSocket {
    pub(crate) protocol: Protocol,
    /// The address as wanted: its port may be 0.
    pub(crate) address: BoundAddress,
    /// The address of the command line; an inherited socket has none.
    pub(crate) given: Option<Endpoint>,
}

impl ServedSocket {
    /// The address of a unix socket, which its connections do not have.
    pub(crate) fn unix_address(&self) -> Option<&BoundAddress> {
        (self.protocol == Protocol::Unix).then_some(&self.address)
    }
}

#[cfg(test)]
impl ServedSocket {
    /// A TCP listener with a free port.
    pub(crate) fn for_test() -> std::sync::Arc<Self> {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into();
        std::sync::Arc::new(Self { protocol: Protocol::Tcp, address, given: None })
    }
}
