//! Datagrams received by one call, and which are delivered.
//!
//! All sockets of a loop share one batch, which is empty between two receives.

use std::net::{IpAddr, SocketAddr};
#[cfg(any(target_os = "linux", test, feature = "testing"))]
use std::net::{Ipv4Addr, Ipv6Addr};
use std::slice::ChunksExactMut;

use crate::address::ScopedIp;
#[cfg(any(target_os = "linux", test, feature = "testing"))]
use crate::address::is_unicast;
use crate::limits;

/// Datagrams that came in together by one socket, and which of them have been delivered.
#[derive(Default)]
pub(crate) struct RecvBatch {
    buffer: Vec<u8>,
    /// Between the beginnings of two datagrams.
    stride: usize,
    received: Vec<ReceivedDatagram>,
    delivered: usize,
}

/// One datagram, as far as it fitted its part of the room.
pub(crate) struct ReceivedDatagram {
    pub(crate) len: usize,
    pub(crate) meta: RecvMeta,
}

impl RecvBatch {
    /// Room for datagrams of so many bytes, part by part; and the list of what has arrived, in their order.
    pub(crate) fn prepare(&mut self, bytes: usize) -> (ChunksExactMut<'_, u8>, &mut Vec<ReceivedDatagram>) {
        // The system gives pages of zeros as they are written to: room that is never filled costs nothing.
        if self.buffer.is_empty() {
            self.buffer = vec![0; limits::RECV_BATCH_BYTES_MAX];
        }
        self.stride = bytes;
        (self.buffer.chunks_exact_mut(self.stride), &mut self.received)
    }

    /// The next one to hand on; the batch is empty again after the last.
    pub(crate) fn next(&mut self) -> Option<(&RecvMeta, &[u8])> {
        if self.delivered == self.received.len() {
            self.clear();
        }
        let ReceivedDatagram { len, meta } = self.received.get(self.delivered)?;
        let start = self.delivered * self.stride;
        self.delivered += 1;
        Some((meta, &self.buffer[start..start + len]))
    }

    /// Drops what has not been delivered.
    pub(crate) fn clear(&mut self) {
        self.received.clear();
        self.delivered = 0;
    }
}

/// What is known about a datagram besides its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecvMeta {
    pub(crate) peer: SocketAddr,
    /// Where the socket is bound to every address.
    pub(crate) dst: Option<Destination>,
    pub(crate) truncated: bool,
}

/// The address that a datagram was sent to, and the one that an answer leaves from: the same, except for groups and
/// broadcasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Destination {
    /// The address that an answer leaves from, if it is known; after a datagram to an IPv6 group, the interface alone.
    pub(crate) from: Option<ScopedIp>,
    /// The group or broadcast address that the datagram was sent to.
    pub(crate) group: Option<IpAddr>,
}

// Packet information is Linux's here.
#[cfg(any(target_os = "linux", test, feature = "testing"))]
impl Destination {
    /// Of the address in an IPv4 header, and the local address: unspecified where it is not known.
    pub(crate) fn v4(ip: Ipv4Addr, local: Ipv4Addr) -> Self {
        if local.is_unspecified() {
            return Self::of(IpAddr::V4(ip).into());
        }
        Self { from: Some(IpAddr::V4(local).into()), group: (ip != local).then_some(ip.into()) }
    }

    /// Of an address alone.
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
    /// The address that the datagram was sent to.
    pub(crate) fn ip(self) -> Option<ScopedIp> {
        let scope_id = self.from.map_or(0, |from| from.scope_id);
        self.group.map(|ip| ScopedIp { ip, scope_id }).or(self.from)
    }
}
