//! The entry of one UDP socket: bind, look-up, close.

use std::net::{IpAddr, SocketAddr};

use crate::context::Context;
use crate::context::source::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Key, SlotKey, Token, UdpSocketId, to_slot};
use crate::net::UdpSocket;
use crate::net::backoff::LogThrottle;
use crate::options::bind::Bind;
use crate::state::source_address_limits::RateLimiter;

/// One UDP socket.
pub(crate) struct UdpSocketEntry {
    pub(crate) socket: UdpSocket,
    pub(crate) local: SocketAddr,
    pub(crate) rate_limiter: Option<RateLimiter>,
    pub(crate) limit_loopback: bool,
    /// False once it was removed; it is closed at the end of the turn, after what is queued has left.
    pub(crate) is_open: bool,
    pub(crate) source: Source,
    pub(crate) dropped_log: LogThrottle,
}

impl Context {
    /// A UDP socket that was not removed.
    pub(crate) fn udp_socket(&self, key: Key) -> Option<&UdpSocketEntry> {
        let entry = self.udp_sockets.get(key.slot as usize)?;
        (entry.source.generation == key.generation && entry.is_open).then_some(entry)
    }

    /// Opens a UDP socket.
    pub(crate) fn bind(&mut self, at: &Bind) -> Result<UdpSocketId> {
        at.validate()?;
        self.check_not_stopped(&at.address.into())?;
        let key = Key { generation: self.next_generation(), slot: to_slot(self.udp_sockets.vacant_key()) };
        let (socket, local) = self
            .network
            .bind(at, Token::new(SlotKey::UdpSocket(key.slot), key.generation))
            .map_err(|error| Error::from_io(ErrorKind::Bind, Some(at.address.into()), error))?;
        let limit = at.replies_per_source_per_second_max;
        self.udp_sockets.insert(UdpSocketEntry {
            socket,
            local,
            rate_limiter: limit.map(|limit| RateLimiter::new(limit.get(), self.hash_key)),
            limit_loopback: at.limit_loopback,
            is_open: true,
            source: Source { generation: key.generation, ..Source::default() },
            dropped_log: LogThrottle::default(),
        });
        Ok(UdpSocketId(key))
    }

    /// Closes a UDP socket.
    pub(crate) fn close_udp_socket(&mut self, slot: u32) {
        let entry = self.udp_sockets.remove(slot as usize);
        self.network.close_udp_socket(entry.socket);
        self.forget_source(SlotKey::UdpSocket(slot));
    }

    /// Whether the source of a datagram is a socket of this loop, which would answer itself for ever.
    pub(crate) fn is_own_address(&self, peer: SocketAddr, dst_ip: IpAddr) -> bool {
        self.udp_sockets.iter().filter(|(_, entry)| entry.local.port() == peer.port()).any(|(_, entry)| {
            let bound = entry.local.ip();
            bound == peer.ip() || bound.is_unspecified() && (peer.ip() == dst_ip || self.network.is_local_ip(peer.ip()))
        })
    }
}
