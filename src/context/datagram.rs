//! One received datagram as a callback sees it, and replies to it.
//!
//! A reply to an address that is no single peer's is refused.

use std::net::SocketAddr;

use crate::address::is_unicast;
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
    /// What the socket is bound to.
    pub(crate) bound: SocketAddr,
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

    /// The address it was sent to; a reply leaves from there. A link-local one has the scope id of its interface.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.meta.dst_ip.map_or(self.bound, |ip| ip.with_port(self.bound.port()))
    }

    /// Whether it was longer than its room, so that the payload is only its beginning.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.meta.truncated
    }

    /// Sends a datagram back: true if it is queued to leave in this turn, false if it is refused.
    ///
    /// Refused are: port 0; multicast, broadcast and unspecified addresses; the loop's own sockets; a source past its
    /// rate; more than 65,507 bytes over IPv4 or 65,527 over IPv6; more than 1,024 replies or 1 MiB of them at once; and
    /// every reply once the socket was [removed](Context::remove). A refusal is counted.
    pub fn reply(&mut self, payload: &[u8]) -> bool {
        let RecvMeta { peer, dst_ip, .. } = self.meta;
        let from = dst_ip.filter(|from| is_unicast(from.ip));
        let queued = peer.port() != 0
            && is_unicast(peer.ip())
            && self.is_within_rate(peer)
            // planted: answers-own-address
            && !self.context.is_own_address(peer, self.local_addr().ip())
            && self.context.send_queue.push(self.socket.slot, peer, from, payload);
        self.context.stats.replies_refused += u64::from(!queued);
        queued
    }

    /// Whether the socket is still there, and may answer this peer now.
    fn is_within_rate(&mut self, peer: SocketAddr) -> bool {
        let now = self.context.now;
        let Some(entry) = self.context.udp_socket_mut(self.socket) else {
            return false;
        };
        let Some(rate_limiter) = &mut entry.rate_limiter else {
            return true;
        };
        let is_limited = entry.limit_loopback || !peer.ip().is_loopback();
        let is_allowed = !is_limited || rate_limiter.try_acquire(SourcePrefix::of(peer.ip()), now);
        if !is_allowed {
            let local = entry.local;
            self.context.repeated_logs.occurrences_mut().replies_past_rate.add((local, peer));
        }
        is_allowed
    }

    /// The rest of the loop.
    #[must_use]
    pub fn context(&mut self) -> &mut Context {
        self.context
    }
}

impl std::fmt::Debug for Datagram<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datagram").field("socket", &self.socket).field("meta", &self.meta).finish_non_exhaustive()
    }
}
