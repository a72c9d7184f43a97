//! UDP datagrams queued in this turn, grouped by destination.
//!
//! Datagrams to one destination keep their order. The queue is empty after every turn.

use std::net::{IpAddr, SocketAddr};

use crate::address::ScopedIp;
use crate::limits;

/// The lowest bits of a sort key: the position in the queue.
const POSITION_BITS: u32 = 10;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;
/// The highest bits are the socket, above 48 bits of the peer.
const SOCKET_SHIFT: u32 = 48 + POSITION_BITS;
const _: () = assert!(limits::SEND_QUEUE_DATAGRAMS_MAX <= 1 << POSITION_BITS, "each position has a key");

/// The datagrams that callbacks have queued.
#[derive(Default)]
pub(crate) struct UdpSendQueue {
    pub(crate) transmits: Vec<Transmit>,
    datagrams: usize,
    bytes: Vec<u8>,
    /// Sort keys with positions, and the transmits in that order. They are kept between turns for their capacity.
    order: Vec<u64>,
    grouped: Vec<Transmit>,
}

/// Datagrams queued one after another with one path and length; the last may be shorter. They fit one message that the
/// kernel segments (udp(7), `UDP_SEGMENT`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Transmit {
    /// The slot of its socket.
    pub(crate) socket: u32,
    pub(crate) to: SocketAddr,
    /// The source address, on a socket with several addresses.
    pub(crate) from: Option<ScopedIp>,
    /// The number of datagrams.
    pub(crate) count: u32,
    /// The length of each datagram but the last.
    pub(crate) segment: usize,
    /// The range of the payloads in the bytes of the queue.
    start: usize,
    end: usize,
}

impl Transmit {
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Its datagrams, as transmits of one datagram each.
    pub(crate) fn datagrams(self) -> impl Iterator<Item = Self> {
        (0..self.count as usize).map(move |number| {
            let start = self.start + number * self.segment;
            let end = self.end.min(start + self.segment);
            Self { start, end, count: 1, segment: end - start, ..self }
        })
    }

    /// Whether more datagrams to the same destination fit its message, behind this many datagrams and bytes. All have
    /// its length; only the last may be shorter.
    #[inline]
    fn takes(&self, (count, bytes): (u32, usize), more: u32, segment: usize, more_bytes: usize) -> bool {
        bytes == count as usize * self.segment
            && (segment == self.segment || more == 1 && segment < self.segment)
            && segment > 0
            && (count + more) as usize <= limits::MERGED_DATAGRAMS_MAX
            && bytes + more_bytes <= limits::MERGED_BYTES_MAX
    }

    /// From the highest bit: the socket, both addresses, the port, and zeros for the position in the queue.
    ///
    /// Different paths may share a key: sockets whose slots differ by 64, or addresses whose last 32 bits combine to
    /// the same value. Their transmits stay in the order of the queue and may alternate, which only costs merging and
    /// batching.
    fn sort_key(&self) -> u64 {
        let ips = last_bits(self.to.ip()) ^ self.from.map_or(0, |from| last_bits(from.ip));
        let peer = u64::from(ips) << 16 | u64::from(self.to.port());
        u64::from(self.socket) << SOCKET_SHIFT | peer << POSITION_BITS
    }

    /// Whether it has this socket, destination and source.
    #[inline]
    fn has_path(&self, socket: u32, to: SocketAddr, from: Option<ScopedIp>) -> bool {
        self.to.port() == to.port() && self.to == to && self.from == from && self.socket == socket
    }
}

impl UdpSendQueue {
    /// Queues a datagram to an address in canonical form. Returns false if it is longer than a datagram can be, or if
    /// the queue is full.
    pub(crate) fn push(&mut self, socket: u32, to: SocketAddr, from: Option<ScopedIp>, payload: &[u8]) -> bool {
        let (start, segment) = (self.bytes.len(), payload.len());
        let payload_bytes_max =
            if to.is_ipv4() { limits::IPV4_PAYLOAD_BYTES_MAX } else { limits::IPV6_PAYLOAD_BYTES_MAX };
        let fits = segment <= payload_bytes_max
            && self.datagrams < limits::SEND_QUEUE_DATAGRAMS_MAX
            && start + segment <= limits::SEND_QUEUE_BYTES_MAX;
        if fits {
            self.datagrams += 1;
            self.bytes.extend_from_slice(payload);
            let end = start + segment;
            match self.transmits.last_mut() {
                Some(last)
                    if last.has_path(socket, to, from) && last.takes((last.count, last.len()), 1, segment, segment) =>
                {
                    (last.count, last.end) = (last.count + 1, end);
                }
                _ => self.transmits.push(Transmit { socket, to, from, count: 1, segment, start, end }),
            }
        }
        fits
    }

    /// Whether a datagram is queued for a socket.
    pub(crate) fn has_transmits_of(&self, socket: u32) -> bool {
        self.transmits.iter().any(|transmit| transmit.socket == socket)
    }

    pub(crate) fn payload(&self, transmit: &Transmit) -> &[u8] {
        &self.bytes[transmit.start..transmit.end]
    }

    /// Groups transmits with the same path, and keeps their order.
    pub(crate) fn group(&mut self) {
        // Two transmits are always grouped.
        if self.transmits.len() < 3 {
            return;
        }
        let keys = self.transmits.iter().enumerate().map(|(position, transmit)| transmit.sort_key() | position as u64);
        self.order.clear();
        self.order.extend(keys);
        self.order.dedup_by_key(|key| *key | POSITION_MASK);
        let is_by_socket = self.order.is_sorted_by_key(|key| key >> SOCKET_SHIFT);
        self.order.sort_unstable();
        // If each key occurs once, and no two sockets alternate, the transmits are grouped already.
        if is_by_socket && self.order.is_sorted_by(|one, next| one | POSITION_MASK != next | POSITION_MASK) {
            return;
        }
        self.grouped.clear();
        for key in &self.order {
            let rest = &self.transmits[(key & POSITION_MASK) as usize..];
            let run = rest.chunk_by(|one, next| one.sort_key() == next.sort_key()).next();
            self.grouped.extend_from_slice(run.unwrap_or_default());
        }
        std::mem::swap(&mut self.transmits, &mut self.grouped);
    }

    /// Whether the queue must be sent before the end of the turn.
    pub(crate) fn is_over_soft_max(&self) -> bool {
        self.bytes.len() >= limits::SEND_QUEUE_BYTES_SOFT_MAX
    }

    pub(crate) fn clear(&mut self) {
        self.datagrams = 0;
        self.transmits.clear();
        self.bytes.clear();
    }
}

fn last_bits(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => (v6.to_bits() & 0xFFFF_FFFF) as u32,
    }
}

/// How many transmits from the front can be sent as one message that the kernel segments.
#[cfg(any(test, target_os = "linux"))]
pub(crate) fn mergeable_len(transmits: &[Transmit]) -> usize {
    let [first, rest @ ..] = transmits else { return 0 };
    let (mut len, mut count, mut bytes) = (1, first.count, first.len());
    for next in rest {
        if !first.has_path(next.socket, next.to, next.from)
            || !first.takes((count, bytes), next.count, next.segment, next.len())
        {
            break;
        }
        (len, count, bytes) = (len + 1, count + next.count, bytes + next.len());
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    fn has_same_path(one: &Transmit, other: &Transmit) -> bool {
        one.has_path(other.socket, other.to, other.from)
    }

    /// The payloads of transmits, one by one.
    fn payloads<'a>(send_queue: &'a UdpSendQueue, transmits: &[Transmit]) -> Vec<&'a [u8]> {
        let datagrams = transmits.iter().copied().flat_map(Transmit::datagrams);
        datagrams.map(|datagram| send_queue.payload(&datagram)).collect()
    }

    #[test]
    fn each_datagram_keeps_its_own_payload() {
        let mut send_queue = UdpSendQueue::default();
        let pushed = [&b"one"[..], b"two", b"3", b"four", b"", b"", b"fifth", b"sixth"];
        for payload in pushed {
            assert!(send_queue.push(0, PEER, None, payload));
        }
        assert_eq!(payloads(&send_queue, &send_queue.transmits), pushed);
        let counts: Vec<u32> = send_queue.transmits.iter().map(|transmit| transmit.count).collect();
        assert_eq!(counts, [3, 1, 1, 1, 2], "only the last of a transmit may be shorter");
    }

    fn any_transmits() -> impl Strategy<Value = Vec<(u32, u16, usize)>> {
        prop::collection::vec((0u32..2, 1u16..5, 0usize..4), 0..60)
    }

    fn send_queue(transmits: &[(u32, u16, usize)]) -> UdpSendQueue {
        let mut send_queue = UdpSendQueue::default();
        for (number, (socket, port, length)) in transmits.iter().enumerate() {
            let payload = vec![u8::try_from(number).expect("a few"); *length];
            assert!(send_queue.push(*socket, SocketAddr::new(PEER.ip(), *port), None, &payload));
        }
        send_queue
    }

    /// The payloads of each socket and peer, in the order of sending.
    fn payloads_by_peer(send_queue: &UdpSendQueue) -> BTreeMap<(u32, SocketAddr), Vec<Vec<u8>>> {
        let mut payloads_by_peer: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
        for datagram in send_queue.transmits.iter().copied().flat_map(Transmit::datagrams) {
            let payload = send_queue.payload(&datagram).to_vec();
            payloads_by_peer.entry((datagram.socket, datagram.to)).or_default().push(payload);
        }
        payloads_by_peer
    }

    proptest! {
        #[test]
        fn grouping_joins_the_transmits_of_a_peer_and_keeps_their_order(transmits in any_transmits()) {
            let mut send_queue = send_queue(&transmits);
            let before = payloads_by_peer(&send_queue);
            send_queue.group();
            prop_assert_eq!(&payloads_by_peer(&send_queue), &before);
            let groups = send_queue.transmits.chunk_by(has_same_path).count();
            prop_assert_eq!(groups, before.len());
            let sockets: BTreeSet<u32> = send_queue.transmits.iter().map(|transmit| transmit.socket).collect();
            let runs = send_queue.transmits.chunk_by(|one, next| one.socket == next.socket).count();
            prop_assert!(runs == sockets.len() || runs == 2 && transmits.len() < 3, "sockets alternate");
        }

        #[test]
        fn merged_transmits_are_segmented_into_themselves(transmits in any_transmits()) {
            let mut send_queue = send_queue(&transmits);
            send_queue.group();
            let mut rest = &send_queue.transmits[..];
            while !rest.is_empty() {
                let (merged, behind) = rest.split_at(mergeable_len(rest));
                let segment = merged[0].segment.max(1);
                let payloads = payloads(&send_queue, merged);
                let bytes = payloads.concat();
                let cut: Vec<&[u8]> = if bytes.is_empty() { vec![b""] } else { bytes.chunks(segment).collect() };
                prop_assert_eq!(cut, payloads);
                prop_assert!(merged.iter().all(|transmit| has_same_path(transmit, &merged[0])));
                rest = behind;
            }
        }
    }

    #[test]
    fn replies_to_one_peer_are_grouped_by_the_address_they_leave_from() {
        let sources = [1, 2].map(|last| Some(ScopedIp::from(IpAddr::from([127, 0, 0, last]))));
        let mut send_queue = UdpSendQueue::default();
        for source in sources.repeat(3) {
            assert!(send_queue.push(0, PEER, source, b"here"));
        }
        send_queue.group();
        assert_eq!(send_queue.transmits.chunk_by(has_same_path).count(), 2);
    }

    #[test]
    fn transmits_that_share_a_sort_key_are_all_kept_in_their_order() {
        let ipv6 = ["[2001:db8::1]:9", "[2001:db8:1::1]:9"].map(|to| to.parse().expect("an address"));
        let mut send_queue = UdpSendQueue::default();
        for payload in [b"1", b"2", b"3"] {
            for (socket, to) in [(0, PEER), (64, PEER), (0, ipv6[0]), (0, ipv6[1])] {
                assert!(send_queue.push(socket, to, None, payload));
            }
        }
        send_queue.group();
        let by_peer: Vec<_> = payloads_by_peer(&send_queue).into_values().collect();
        assert_eq!(by_peer, vec![[b"1", b"2", b"3"]; 4]);
    }

    #[test]
    fn as_many_are_merged_as_the_kernel_segments_and_no_more() {
        let merged = |transmits: &[(u32, u16, usize)]| {
            let mut send_queue = send_queue(transmits);
            send_queue.group();
            let merged = &send_queue.transmits[..mergeable_len(&send_queue.transmits)];
            merged.iter().map(|transmit| transmit.count).sum::<u32>()
        };
        // Queued one after another, and grouped.
        for peers in [vec![9], vec![9, 10]] {
            let merged_of = |(count, length)| {
                let transmits: Vec<_> = peers.iter().map(|port| (0, *port, length)).collect();
                merged(&transmits.repeat(count))
            };
            assert_eq!([(64, 1), (65, 1), (3, 0)].map(merged_of), [64, 64, 1]);
            assert_eq!([(7, 10_000), (50, 1_472)].map(merged_of), [6, 44], "65,507 bytes");
        }
        assert_eq!(merged(&[(0, 9, 2), (0, 9, 1), (0, 9, 1)]), 2, "a shorter one is the last");
    }

    #[test]
    fn a_payload_longer_than_the_protocol_allows_is_refused() {
        let ipv6: SocketAddr = "[2001:db8::1]:9".parse().expect("an address");
        for (to, bytes_max) in [(PEER, 65_507), (ipv6, 65_527)] {
            let mut send_queue = UdpSendQueue::default();
            assert!(send_queue.push(0, to, None, &vec![0; bytes_max]));
            assert!(!send_queue.push(0, to, None, &vec![0; bytes_max + 1]));
            assert_eq!((send_queue.transmits.len(), send_queue.bytes.len()), (1, bytes_max));
        }
    }

    #[test]
    fn a_handler_that_never_stops_replying_is_stopped() {
        let mut send_queue = UdpSendQueue::default();
        let payload = vec![0; 60_000];
        while send_queue.push(0, PEER, None, &payload) {}
        assert!(send_queue.bytes.len() <= limits::SEND_QUEUE_BYTES_MAX);
        send_queue.clear();
        while send_queue.push(0, PEER, None, b"") {}
        assert_eq!(send_queue.datagrams, limits::SEND_QUEUE_DATAGRAMS_MAX);
    }
}
