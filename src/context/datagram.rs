//! One received datagram as a callback sees it, and replies to it.
//!
//! A reply to an address that is no single peer's is refused.

use std::net::{IpAddr, SocketAddr};

use crate::context::Context;
use crate::ids::{Key, UdpSocketId};
use crate::net::recv_batch::RecvMeta;
use crate::state::source_address_limits::SourcePrefix;

/// One received datagram, as a callback gets it.
///
/// ```
/// use halloo::{EventLoop, datagrams};
///
/// let mut events = EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// events.bind(address, datagrams(|datagram, payload| {
///     if !datagram.is_truncated() {
///         datagram.reply(payload);
///     }
/// }))?;
/// # Ok::<(), halloo::Error>(())
/// ```
pub struct Datagram<'a> {
    pub(crate) context: &'a mut Context,
    pub(crate) socket: Key,
    pub(crate) meta: RecvMeta,
}

impl Datagram<'_> {
    /// The socket it came in by.
    #[must_use]
    pub fn socket(&self) -> UdpSocketId {
        UdpSocketId(self.socket)
    }

    /// Who sent it. On UDP anybody can pretend to be anybody.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.meta.peer
    }

    /// The address it was sent to; a reply leaves from there.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        let bound = self.context.udp_sockets[self.socket.slot as usize].local;
        self.meta.dst_ip.map_or(bound, |ip| SocketAddr::new(ip, bound.port()))
    }

    /// Whether it was longer than its room, so that the payload is only its beginning.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.meta.truncated
    }

    /// Sends a datagram back: true if it is queued to leave in this turn, false if it is refused.
    ///
    /// Refused are: port 0; multicast, broadcast and unspecified addresses; the loop's own sockets; a source past its
    /// rate; and more than 1,024 replies or 1 MiB of them at once. A refusal is counted.
    pub fn reply(&mut self, payload: &[u8]) -> bool {
        let RecvMeta { peer, dst_ip, .. } = self.meta;
        let from = dst_ip.filter(|ip| is_unicast(*ip));
        let queued = peer.port() != 0
            && is_unicast(peer.ip())
            && self.is_within_rate(peer.ip())
            // planted: answers-own-address
            && !self.context.is_own_address(peer, self.local_addr().ip())
            && self.context.send_queue.push(self.socket.slot, peer, from, payload);
        self.context.stats.replies_refused += u64::from(!queued);
        queued
    }

    fn is_within_rate(&mut self, peer: IpAddr) -> bool {
        let now = self.context.now;
        let socket = &mut self.context.udp_sockets[self.socket.slot as usize];
        match &mut socket.rate_limiter {
            Some(rate_limiter) if socket.limit_loopback || !peer.is_loopback() => {
                rate_limiter.try_acquire(SourcePrefix::of(peer), now)
            }
            _ => true,
        }
    }

    /// The rest of the loop.
    #[must_use]
    pub fn context(&mut self) -> &mut Context {
        self.context
    }
}

/// Whether an address is one party's, so that a datagram may be sent to it, or from it.
fn is_unicast(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !is_broadcast && !ip.is_multicast() && !ip.is_unspecified()
}

impl std::fmt::Debug for Datagram<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datagram").field("socket", &self.socket).field("meta", &self.meta).finish_non_exhaustive()
    }
}
