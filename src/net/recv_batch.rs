//! Datagrams received by one call, and which are delivered.
//!
//! All sockets of a loop share one batch, which is empty between two receives. If a budget ends inside a batch, its
//! socket keeps the rest until the next turn.

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
    /// Maximum number of bytes delivered of a datagram.
    bytes_max: usize,
    received: Vec<ReceivedMessage>,
    /// The messages that are delivered, and the bytes of the next one that are.
    delivered: usize,
    offset: usize,
    /// The most datagrams that the last call asked for; zero in the rest of a batch.
    pub(crate) asked: usize,
    /// Whether the kernel has just refused to receive batches. The next call receives one datagram.
    pub(crate) is_refused: bool,
}

/// One datagram, or several of one sender that the kernel has merged; cut if it was longer than its part of the buffer.
pub(crate) struct ReceivedMessage {
    pub(crate) len: usize,
    /// The length of each datagram; the last may be shorter.
    pub(crate) segment: usize,
    pub(crate) meta: RecvMeta,
}

impl RecvBatch {
    /// Returns `max` or fewer buffers of `stride` bytes, and the list of received messages, in the same order. Datagrams
    /// are delivered up to this many bytes.
    pub(crate) fn prepare(
        &mut self,
        bytes_max: usize,
        stride: usize,
        max: usize,
    ) -> (Take<ChunksExactMut<'_, u8>>, &mut Vec<ReceivedMessage>) {
        self.clear();
        // The system supplies pages of zeros when they are first written, so unused room costs nothing.
        if self.buffer.is_empty() {
            self.buffer = vec![0; limits::RECV_BATCH_BYTES_MAX];
        }
        (self.bytes_max, self.stride) = (bytes_max, stride);
        let buffers = self.buffer.chunks_exact_mut(self.stride).take(max);
        self.asked = buffers.len();
        (buffers, &mut self.received)
    }

    /// Returns the next datagram to deliver.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(&RecvMeta, &[u8])> {
        let ReceivedMessage { len, segment, meta } = self.received.get_mut(self.delivered)?;
        let start = self.delivered * self.stride + self.offset;
        let bytes = (*segment).min(*len - self.offset);
        self.offset += bytes;
        if self.offset == *len {
            (self.delivered, self.offset) = (self.delivered + 1, 0);
        }
        // The kernel reports that it has cut a whole message.
        if bytes < *len || bytes > self.bytes_max {
            meta.truncated = bytes > self.bytes_max;
        }
        Some((meta, &self.buffer[start..start + bytes.min(self.bytes_max)]))
    }

    /// Whether all datagrams are delivered.
    pub(crate) fn is_empty(&self) -> bool {
        self.delivered == self.received.len()
    }

    /// The number of datagrams that are not delivered.
    pub(crate) fn len(&self) -> usize {
        let rest = &self.received[self.delivered..];
        let delivered = rest.first().map_or(0, |message| self.offset / message.segment.max(1));
        let datagrams = rest.iter().map(|message| message.len.div_ceil(message.segment.max(1)).max(1));
        datagrams.sum::<usize>() - delivered
    }

    /// Drops the datagrams that are not delivered.
    pub(crate) fn clear(&mut self) {
        self.received.clear();
        (self.delivered, self.offset) = (0, 0);
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
