//! UDP datagrams queued in this turn, grouped by destination.
//!
//! Datagrams to one destination keep their order. The queue is empty after every turn.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::limits;

/// What callbacks have said to send.
#[derive(Default)]
pub(crate) struct UdpSendQueue {
    pub(crate) transmits: Vec<Transmit>,
    bytes: Vec<u8>,
    grouping: Grouping,
}

/// What it takes to bring transmits together, kept from turn to turn.
#[derive(Default)]
struct Grouping {
    /// A hash table with open addressing: the last transmit of each peer so far, and one more; zero is free.
    last: Vec<usize>,
    /// The first transmit of each peer.
    firsts: Vec<usize>,
    /// By transmit: the next one to the same peer, or itself.
    next: Vec<usize>,
    transmits: Vec<Transmit>,
    bytes: Vec<u8>,
}

/// One datagram to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Transmit {
    /// The socket it leaves through.
    pub(crate) socket: u32,
    pub(crate) to: SocketAddr,
    /// The address it leaves from, where the socket has several.
    pub(crate) from: Option<IpAddr>,
    payload: Range<usize>,
}

impl Transmit {
    #[cfg(any(test, target_os = "linux"))]
    pub(crate) fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether both go the same way.
    fn has_same_path(&self, other: &Self) -> bool {
        self.to == other.to && self.from == other.from && self.socket == other.socket
    }

    /// A number that is mostly another for another peer. Whoever chooses his address so that it is not makes the search
    /// longer, by as many transmits as there may be at most.
    fn hash(&self) -> u64 {
        let ip = match self.to.ip() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.segments().iter().fold(0, |hash: u64, part| hash.rotate_left(13) ^ u64::from(*part)),
        };
        let mixed = (ip ^ u64::from(self.to.port()) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ mixed >> 32
    }
}

impl UdpSendQueue {
    /// Stages one more; false if there is too much already.
    pub(crate) fn push(&mut self, socket: u32, to: SocketAddr, from: Option<IpAddr>, payload: &[u8]) -> bool {
        let start = self.bytes.len();
        let fits = self.transmits.len() < limits::SEND_QUEUE_DATAGRAMS_MAX
            && start + payload.len() <= limits::SEND_QUEUE_BYTES_MAX;
        if fits {
            self.bytes.extend_from_slice(payload);
            self.transmits.push(Transmit { socket, to, from, payload: start..start + payload.len() });
        }
        fits
    }

    pub(crate) fn payload(&self, transmit: &Transmit) -> &[u8] {
        &self.bytes[transmit.payload.clone()]
    }

    /// Brings transmits that go the same way together, behind the first of them and in their order.
    pub(crate) fn group(&mut self) {
        // Of two, none stands between.
        if self.transmits.len() < 3 || !self.grouping.link_by_path(&self.transmits) {
            return;
        }
        let Grouping { firsts, next, transmits, bytes, .. } = &mut self.grouping;
        transmits.clear();
        bytes.clear();
        for &first in &*firsts {
            let mut index = first;
            loop {
                let start = bytes.len();
                bytes.extend_from_slice(&self.bytes[self.transmits[index].payload.clone()]);
                transmits.push(Transmit { payload: start..bytes.len(), ..self.transmits[index].clone() });
                if next[index] == index {
                    break;
                }
                index = next[index];
            }
        }
        std::mem::swap(&mut self.transmits, transmits);
        std::mem::swap(&mut self.bytes, bytes);
    }

    /// Whether it is time to send, before the turn's end.
    pub(crate) fn is_over_soft_max(&self) -> bool {
        self.bytes.len() >= limits::SEND_QUEUE_BYTES_SOFT_MAX
    }

    pub(crate) fn clear(&mut self) {
        self.transmits.clear();
        self.bytes.clear();
    }
}

impl Grouping {
    /// Finds who belongs together, in one pass; false if they stand together already.
    #[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
    fn link_by_path(&mut self, transmits: &[Transmit]) -> bool {
        let size = (2 * transmits.len()).next_power_of_two();
        self.last.clear();
        self.last.resize(size, 0);
        self.firsts.clear();
        self.next.clear();
        self.next.extend(0..transmits.len());
        let (mut bucket, mut is_apart) = (0, false);
        for (index, transmit) in transmits.iter().enumerate() {
            // Mostly it is the same peer again, whose bucket is known.
            if index == 0 || !transmit.has_same_path(&transmits[index - 1]) {
                bucket = transmit.hash() as usize & (size - 1);
                while self.last[bucket] > 0 && !transmit.has_same_path(&transmits[self.last[bucket] - 1]) {
                    bucket = (bucket + 1) & (size - 1);
                }
            }
            match self.last[bucket] {
                0 => self.firsts.push(index),
                last => {
                    self.next[last - 1] = index;
                    is_apart |= last != index;
                }
            }
            self.last[bucket] = index + 1;
        }
        is_apart
    }
}

/// How many transmits, from the first of the list on, can leave as one message that the kernel cuts up again: to one
/// peer from one address, one as long as the other, only the last may be shorter (udp(7), `UDP_SEGMENT`).
#[cfg(any(test, target_os = "linux"))]
pub(crate) fn mergeable_len(transmits: &[Transmit]) -> usize {
    let [first, rest @ ..] = transmits else { return 0 };
    let segment = first.len();
    let (mut count, mut bytes, mut last) = (1, segment, segment);
    for next in rest.iter().take(limits::MERGED_DATAGRAMS_MAX - 1) {
        let is_next = next.has_same_path(first) && (1..=segment).contains(&next.len());
        bytes += next.len();
        if last < segment || !is_next || bytes > limits::MERGED_BYTES_MAX {
            break;
        }
        (count, last) = (count + 1, next.len());
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    #[test]
    fn each_transmit_keeps_its_own_payload() {
        let mut send_queue = UdpSendQueue::default();
        for payload in [&b"one"[..], b"", b"three"] {
            assert!(send_queue.push(0, PEER, None, payload));
        }
        let payloads: Vec<&[u8]> = send_queue.transmits.iter().map(|transmit| send_queue.payload(transmit)).collect();
        assert_eq!(payloads, [&b"one"[..], b"", b"three"]);
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

    /// Who gets what, in what order.
    fn payloads_by_peer(send_queue: &UdpSendQueue) -> BTreeMap<(u32, SocketAddr), Vec<Vec<u8>>> {
        let mut payloads_by_peer: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
        for transmit in &send_queue.transmits {
            payloads_by_peer
                .entry((transmit.socket, transmit.to))
                .or_default()
                .push(send_queue.payload(transmit).to_vec());
        }
        payloads_by_peer
    }

    proptest! {
        #[test]
        fn grouping_brings_a_peers_transmits_together_and_keeps_their_order(transmits in any_transmits()) {
            let mut send_queue = send_queue(&transmits);
            let before = payloads_by_peer(&send_queue);
            send_queue.group();
            prop_assert_eq!(&payloads_by_peer(&send_queue), &before);
            let groups = send_queue.transmits.chunk_by(Transmit::has_same_path).count();
            prop_assert_eq!(groups, before.len());
        }

        #[test]
        fn merged_transmits_are_cut_up_into_themselves(transmits in any_transmits()) {
            let mut send_queue = send_queue(&transmits);
            send_queue.group();
            let mut rest = &send_queue.transmits[..];
            while !rest.is_empty() {
                let (merged, behind) = rest.split_at(mergeable_len(rest));
                let segment = merged[0].len().max(1);
                let payloads: Vec<&[u8]> = merged.iter().map(|transmit| send_queue.payload(transmit)).collect();
                let bytes = payloads.concat();
                let cut: Vec<&[u8]> = if bytes.is_empty() { vec![b""] } else { bytes.chunks(segment).collect() };
                prop_assert_eq!(cut, payloads);
                prop_assert!(merged.iter().all(|transmit| transmit.has_same_path(&merged[0])));
                rest = behind;
            }
        }
    }

    #[test]
    fn as_many_are_merged_as_the_kernel_cuts_up_and_no_more() {
        let merged_len = |count, length| mergeable_len(&send_queue(&vec![(0, 9, length); count]).transmits);
        assert_eq!((merged_len(64, 1), merged_len(65, 1), merged_len(3, 0)), (64, 64, 1));
        assert_eq!((merged_len(7, 10_000), merged_len(60, 1_472)), (6, 44), "65,507 bytes");
        let long_first = send_queue(&[(0, 9, 2), (0, 9, 1), (0, 9, 1)]);
        assert_eq!(mergeable_len(&long_first.transmits), 2, "a shorter one is the last");
    }

    #[test]
    fn a_handler_that_never_stops_replying_is_stopped() {
        let mut send_queue = UdpSendQueue::default();
        let payload = vec![0; 60_000];
        while send_queue.push(0, PEER, None, &payload) {}
        assert!(send_queue.bytes.len() <= limits::SEND_QUEUE_BYTES_MAX);
        send_queue.clear();
        while send_queue.push(0, PEER, None, b"") {}
        assert_eq!(send_queue.transmits.len(), limits::SEND_QUEUE_DATAGRAMS_MAX);
    }
}
