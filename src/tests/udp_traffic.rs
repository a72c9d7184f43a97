//! UDP of the workload: who sends, and what must not be answered.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{HOST, Workload};

/// A UDP socket of one address, and one of every address.
pub(super) const UDP: SocketAddr = SocketAddr::new(HOST, 5);
pub(super) const UDP_WILDCARD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7);
/// What the second is asked at.
pub(super) const WILDCARD_ADDRESSES: [SocketAddr; 2] =
    [SocketAddr::new(HOST, 7), SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 7)];
pub(super) const UDP_REPLY: &[u8] = b"Hello, UDP Client!";

impl Workload {
    pub(super) fn send_datagram(&mut self) {
        let port = u16::try_from(self.simulation.random_below(3)).expect("a port");
        let to = [UDP, WILDCARD_ADDRESSES[0], WILDCARD_ADDRESSES[1]][usize::from(port)];
        // Port 0, our own sockets, a broadcast: those nobody must answer.
        let from = match self.simulation.random_below(8) {
            0 => SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1)), 0),
            1 => [UDP, WILDCARD_ADDRESSES[0]][usize::from(port % 2)],
            2 => SocketAddr::new(IpAddr::V4(Ipv4Addr::BROADCAST), 9),
            _ => SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1)), 100 + port),
        };
        self.datagrams += 1;
        self.peers.insert(from);
        self.simulation.send_datagram(from, to, b"Hello, UDP Server!");
    }

    pub(super) fn datagrams_are_in(&self) -> bool {
        self.events.stats().datagrams_received == self.datagrams
    }

    pub(super) fn check_datagrams(&mut self) {
        let mut replies = self.replies;
        for peer in &self.peers {
            while let Some((from, payload)) = self.simulation.receive_datagram(*peer) {
                let is_legitimate = peer.port() >= 100;
                assert!(is_legitimate, "{peer} must not be answered");
                let dst_ip = [UDP, WILDCARD_ADDRESSES[0], WILDCARD_ADDRESSES[1]][usize::from(peer.port() - 100)];
                assert_eq!(
                    (from, &payload[..]),
                    (dst_ip, UDP_REPLY),
                    "the answer comes from the address that was asked"
                );
                replies += 1;
            }
        }
        self.replies = replies;
        let stats = self.events.stats();
        assert_eq!(replies, stats.datagrams_sent, "what was sent has arrived");
        let accounted = stats.datagrams_sent + stats.datagrams_dropped + stats.replies_refused;
        assert_eq!(accounted, self.datagrams, "each datagram is answered, lost or refused, and counted");
    }
}
