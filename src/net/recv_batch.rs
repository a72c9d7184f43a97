//! Datagrams received by one call, and which are delivered.
//!
//! All sockets of a loop share one batch, which is empty between two receives.

use std::iter::Take;
use std::net::{IpAddr, SocketAddr};
#[cfg(any(target_os = "linux", test, feature = "testing"))]
use std::net::{Ipv4Addr, Ipv6Addr};
use std::slice::ChunksExactMut;

use crate::address::ScopedIp;
#[cfg(any(target_os = "linux", test, feature = "testing"))]
use crate::address::is_unicast;
use crate::limits;

/// Datagrams received together from one socket, and how many of them are delivered.
#[derive(Default)]
pub(crate) struct RecvBatch {
    buffer: Vec<u8>,
    /// Distance in bytes between the starts of two datagrams.
    stride: usize,
    received: Vec<ReceivedDatagram>,
    delivered: usize,
    /// The most datagrams that the last call asked for.
    pub(crate) asked: usize,
    /// Whether the kernel has just refused to receive batches. The next call receives one datagram.
    pub(crate) is_refused: bool,
}

/// One datagram, cut if it was longer than its part of the buffer.
pub(crate) struct ReceivedDatagram {
    pub(crate) len: usize,
    pub(crate) meta: RecvMeta,
}

impl RecvBatch {
    /// Returns buffers for at most `max` datagrams of this many bytes, and the list of received datagrams, in the same
    /// order.
    pub(crate) fn prepare(
        &mut self,
        bytes: usize,
        max: usize,
    ) -> (Take<ChunksExactMut<'_, u8>>, &mut Vec<ReceivedDatagram>) {
        // The system supplies pages of zeros when they are first written, so unused room costs nothing.
        if self.buffer.is_empty() {
            self.buffer = vec![0; limits::RECV_BATCH_BYTES_MAX];
        }
        self.stride = bytes;
        let buffers = self.buffer.chunks_exact_mut(self.stride).take(max);
        self.asked = buffers.len();
        (buffers, &mut self.received)
    }

    /// Returns the next datagram to deliver; clears the batch after the last.
    pub(crate) fn next(&mut self) -> Option<(&RecvMeta, &[u8])> {
        if self.delivered == self.received.len() {
            self.clear();
        }
        let ReceivedDatagram { len, meta } = self.received.get(self.delivered)?;
        let start = self.delivered * self.stride;
        self.delivered += 1;
        Some((meta, &self.buffer[start..start + len]))
    }

    /// The number of received datagrams.
    pub(crate) fn len(&self) -> usize {
        self.received.len()
    }

    /// Drops the datagrams that are not delivered.
    pub(crate) fn clear(&mut self) {
        self.received.clear();
        self.delivered = 0;
    }
}

/// Metadata of a received datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecvMeta {
    pub(crate) peer: SocketAddr,
    /// Known on a socket bound to a wildcard address.
    pub(crate) dst: Option<Destination>,
    pub(crate) truncated: bool,
}

/// The destination address of a datagram, and the source address of a reply. They differ for groups and broadcasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Destination {
    /// The source address of a reply, if it is known; for a datagram to an IPv6 group, only the interface.
    pub(crate) from: Option<ScopedIp>,
    /// The group or broadcast address that the datagram was sent to.
    pub(crate) group: Option<IpAddr>,
}

// Packet information is implemented only for Linux.
#[cfg(any(target_os = "linux", test, feature = "testing"))]
impl Destination {
    /// From the address in an IPv4 header, and the local address; unspecified if not known.
    pub(crate) fn v4(ip: Ipv4Addr, local: Ipv4Addr) -> Self {
        if local.is_unspecified() {
            return Self::of(IpAddr::V4(ip).into());
        }
        Self { from: Some(IpAddr::V4(local).into()), group: (ip != local).then_some(ip.into()) }
    }

    /// From a destination address alone.
    pub(crate) fn of(ip: ScopedIp) -> Self {
        match ip.ip {
            IpAddr::V6(group) if group.is_multicast() => Self {
                from: Some(ScopedIp { ip: Ipv6Addr::UNSPECIFIED.into(), scope_id: ip.scope_id }),
                group: Some(ip.ip),
            },
            unicast if is_unicast(unicast) => Self { from: Some(ip), group: None },
            group => Self { from: None, group: Some(group) },
        }
    }
}

impl Destination {
    /// The destination address of the datagram.
    pub(crate) fn ip(self) -> Option<ScopedIp> {
        let scope_id = self.from.map_or(0, |from| from.scope_id);
        self.group.map(|ip| ScopedIp { ip, scope_id }).or(self.from)
    }
}
