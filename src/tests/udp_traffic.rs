//! UDP of the workload: its peers, and datagrams without an answer.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use super::{HOST, Workload};

use crate::context::Context;
use crate::context::datagram::Datagram;
use crate::context::handler::DatagramHandler;
use crate::error::Error;
use crate::ids::UdpSocketId;
use crate::testing::Simulation;

/// A socket of one address, a wildcard socket, and a socket that is removed and bound again.
pub(super) const UDP: SocketAddr = SocketAddr::new(HOST, 5);
pub(super) const UDP_WILDCARD: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 7);
const UDP_TRANSIENT: SocketAddr = SocketAddr::new(HOST, 9);
/// The addresses at which the wildcard socket is asked.
pub(super) const WILDCARD_ADDRESSES: [SocketAddr; 2] =
    [SocketAddr::new(HOST, 7), SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 7)];
/// The destination of a peer's datagrams, by its port minus 100.
const ASKED: [SocketAddr; 4] = [UDP, WILDCARD_ADDRESSES[0], WILDCARD_ADDRESSES[1], UDP_TRANSIENT];
const PEER_IPV4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1));
const PEER_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1));
/// The broadcast address of the simulated network.
pub(super) const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 255);
pub(super) const UDP_REPLY: &[u8] = b"Hello, UDP Client!";

/// A socket that is removed and bound again, between turns and by its own callbacks.
#[derive(Default)]
pub(super) struct TransientSocket {
    id: Option<UdpSocketId>,
    delivered: u64,
    is_told_of_drain: bool,
}

impl TransientSocket {
    /// Whether its handler has kept it in a drain, which then waits for it.
    pub(super) fn is_kept(&self) -> bool {
        self.id.is_some()
    }

    pub(super) fn assert_drained(&self) {
        assert!(self.id.is_none() || self.is_told_of_drain, "a UDP socket was open and did not get on_drain");
    }
}

struct TransientHandler {
    simulation: Simulation,
    socket: Rc<RefCell<TransientSocket>>,
}

impl DatagramHandler for TransientHandler {
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, _: &[u8]) {
        let mut socket = self.socket.borrow_mut();
        assert_eq!(socket.id, Some(datagram.socket()), "a callback came for a removed socket");
        socket.delivered += 1;
        let is_removed = self.simulation.random_below(3) == 0;
        if is_removed && let Some(id) = socket.id.take() {
            assert!(datagram.context().remove(id));
        }
        let is_queued = datagram.reply(UDP_REPLY);
        assert!(!(is_queued && is_removed), "a reply was queued on a removed socket");
    }

    fn on_drain(&mut self, context: &mut Context, id: UdpSocketId) {
        let mut socket = self.socket.borrow_mut();
        assert_eq!((socket.id, socket.is_told_of_drain), (Some(id), false), "on_drain comes once, for an open socket");
        socket.is_told_of_drain = true;
        if self.simulation.random_below(2) == 0 {
            assert!(context.remove(id));
            socket.id = None;
        }
    }
}

impl Workload {
    /// Binds the transient socket, removes it, or sends to it.
    pub(super) fn change_transient_socket(&mut self) {
        let id = self.transient_socket.borrow().id;
        let Some(id) = id else {
            let handler =
                TransientHandler { simulation: self.simulation.clone(), socket: Rc::clone(&self.transient_socket) };
            let bound = self.events.bind(UDP_TRANSIENT, handler).map_err(Error::into);
            let is_in_use = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
            assert!(!bound.as_ref().is_err_and(is_in_use), "a removed socket keeps its address");
            self.transient_socket.borrow_mut().id = bound.ok();
            return;
        };
        if self.simulation.random_below(4) == 0 {
            assert!(self.events.context().remove(id));
            self.transient_socket.borrow_mut().id = None;
        }
        let peer = SocketAddr::new(PEER_IPV4, 103);
        self.peers.insert(peer);
        for _ in 0..self.simulation.random_below(6) {
            self.simulation.send_datagram(peer, UDP_TRANSIENT, b"Hello, UDP Server!");
        }
    }

    pub(super) fn send_datagram(&mut self) {
        let port = u16::try_from(self.simulation.random_below(3)).expect("a port");
        let to = ASKED[usize::from(port)];
        let peer_ip = if to.is_ipv4() { PEER_IPV4 } else { PEER_IPV6 };
        // Port 0, the loop's own sockets and broadcast addresses must not be answered.
        let from = match self.simulation.random_below(8) {
            0 => SocketAddr::new(peer_ip, 0),
            1 => [UDP, WILDCARD_ADDRESSES[0]][usize::from(port % 2)],
            2 => SocketAddr::new([Ipv4Addr::BROADCAST, BROADCAST][usize::from(port % 2)].into(), 9),
            _ => SocketAddr::new(peer_ip, 100 + port),
        };
        self.peers.insert(from);
        self.datagrams += self.simulation.world.borrow_mut().deliver_datagram(from, to, b"Hello, UDP Server!");
    }

    pub(super) fn datagrams_are_in(&self) -> bool {
        self.events.stats().datagrams_received == self.datagrams + self.transient_socket.borrow().delivered
    }

    pub(super) fn check_datagrams(&mut self) {
        let mut replies = self.replies;
        for peer in &self.peers {
            while let Some((from, payload)) = self.simulation.receive_datagram(*peer) {
                let is_legitimate = peer.port() >= 100;
                assert!(is_legitimate, "{peer} must not be answered");
                let dst_ip = ASKED[usize::from(peer.port() - 100)];
                assert_eq!(
                    (from, &payload[..]),
                    (dst_ip, UDP_REPLY),
                    "the reply leaves from the destination address of the request"
                );
                replies += 1;
            }
        }
        self.replies = replies;
        let stats = self.events.stats();
        let arrived = stats.datagrams_sent.checked_add_signed(self.simulation.world.borrow().surplus_transmits);
        assert_eq!(Some(replies), arrived, "sent datagrams arrive, unless the network loses or duplicates them");
        let accounted = stats.datagrams_sent + stats.datagrams_dropped + stats.replies_refused();
        let delivered = self.datagrams + self.transient_socket.borrow().delivered;
        assert_eq!(accounted, delivered, "each datagram is answered, lost or refused, and counted");
    }
}
