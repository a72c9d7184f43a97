//! Datagrams received by one call, and which are delivered.
//!
//! All sockets of a loop share one batch, which is empty between two receives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::slice::ChunksExactMut;

use crate::address::{ScopedIp, is_unicast};
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

/// The address that a datagram was sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Destination {
    /// As its header has it: also a group or a broadcast address.
    pub(crate) ip: ScopedIp,
    /// The local IPv4 address of a datagram to an IPv4 address (`ipi_spec_dst`, ip(7)); unspecified where it is not known.
    pub(crate) local_v4: Ipv4Addr,
}

impl Destination {
    /// The address that an answer leaves from, if it is known; for an IPv6 group, the interface alone.
    pub(crate) fn reply_from(self) -> Option<ScopedIp> {
        match self.ip.ip {
            IpAddr::V4(_) if !self.local_v4.is_unspecified() => Some(IpAddr::V4(self.local_v4).into()),
            IpAddr::V6(ip) if ip.is_multicast() => {
                Some(ScopedIp { ip: Ipv6Addr::UNSPECIFIED.into(), scope_id: self.ip.scope_id })
            }
            ip => is_unicast(ip).then_some(self.ip),
        }
    }
}
