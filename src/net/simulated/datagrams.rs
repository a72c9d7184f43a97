//! Datagrams in the simulated world.
//!
//! Each copy of a datagram is lost, duplicated or reordered independently.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::{ScopedIp, is_unicast};
use crate::net::recv_batch::Destination;
use crate::net::simulated::faults::Fault;
use crate::net::simulated::sim_socket::{FdState, RecvQueue, SimSocket, SimSocketKind};
use crate::net::simulated::world::{World, is_bound_at};
use crate::observe::entry::EntryKind;

impl World {
    /// Delivers a datagram to the socket that is bound to its destination, or to all that have joined the group.
    /// Returns how many copies arrived.
    pub(crate) fn deliver_datagram(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> u64 {
        self.record_activity();
        self.note_peer(EntryKind::PeerDatagramOut, 0, payload.len(), Some(from));
        let receivers = self.receivers(to);
        receivers.into_iter().map(|socket| self.deliver_datagram_to(socket, from, to, payload)).sum()
    }

    /// Sends a datagram of the loop: to a socket of the machine, to a simulated peer, or to a group of both.
    pub(crate) fn transmit_datagram(&mut self, socket: usize, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let is_group = to.ip().is_multicast();
        let is_local = if is_group { self.recv_queue(socket).multicast_loop } else { self.is_local_ip(to.ip()) };
        let receivers = if is_local { self.receivers(to) } else { Vec::new() };
        let is_for_peer = is_group || receivers.is_empty();
        for receiver in receivers {
            self.deliver_datagram_to(receiver, from, to, payload);
        }
        if is_for_peer {
            let fate = self.datagram_fate();
            let kind = if fate.copies > 0 { EntryKind::PeerDatagramIn } else { EntryKind::PeerDatagramLost };
            self.note_peer(kind, 0, payload.len(), Some(to));
            self.surplus_transmits += i64::try_from(fate.copies).unwrap_or(0) - 1;
            fate.enqueue(self.received_datagrams.entry(to).or_default(), &(from, payload.to_vec()));
        }
    }

    /// The sockets that receive a datagram to an address.
    fn receivers(&self, to: SocketAddr) -> Vec<usize> {
        let is_group = to.ip().is_multicast();
        let is_receiver = |socket: &SimSocket| {
            let has_joined = |queue: &RecvQueue| queue.memberships.iter().any(|joined| joined.group == to.ip());
            let receives = matches!(&socket.kind, SimSocketKind::Udp(queue) if !is_group || has_joined(queue));
            socket.fd == FdState::Open && receives && is_bound_at(socket.local, to)
        };
        let receivers = (0..self.sockets.len()).filter(|socket| is_receiver(&self.sockets[*socket]));
        receivers.take(if is_group { usize::MAX } else { 1 }).collect()
    }

    fn deliver_datagram_to(&mut self, socket: usize, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> u64 {
        let fate = self.datagram_fate();
        fate.enqueue(&mut self.recv_queue(socket).queue, &(from, to.ip(), payload.to_vec()));
        self.sockets[socket].has_edge |= fate.copies > 0;
        fate.copies
    }

    fn datagram_fate(&mut self) -> DatagramFate {
        let Self { faults, random, .. } = self;
        let copies = if faults.occurs(Fault::LostDatagram, random) {
            0
        } else {
            1 + u64::from(faults.occurs(Fault::DuplicateDatagram, random))
        };
        DatagramFate { copies, overtakes: faults.occurs(Fault::ReorderedDatagram, random) }
    }
}

/// The machine's source address towards a peer of either family, if nothing else decides it.
pub(crate) fn machine_ip(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => Ipv4Addr::new(10, 0, 0, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// Whether an address is a broadcast address of the network, which is 10.0.0.0/8.
pub(crate) fn is_broadcast_ip(ip: IpAddr) -> bool {
    [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 255, 255, 255)].into_iter().any(|broadcast| ip == broadcast)
}

/// The destination of a datagram, as a wildcard socket receives it.
pub(crate) fn destination(ip: IpAddr) -> Destination {
    /// The index of the only interface.
    const INTERFACE: u32 = 1;
    match (ip, machine_ip(ip)) {
        (IpAddr::V4(v4), IpAddr::V4(machine)) => {
            Destination::v4(v4, if is_unicast(ip) && !is_broadcast_ip(ip) { v4 } else { machine })
        }
        _ => Destination::of(ScopedIp { ip, scope_id: if ip.is_multicast() { INTERFACE } else { 0 } }),
    }
}

/// The fate of a datagram in the network.
struct DatagramFate {
    copies: u64,
    /// It arrives before the last one that was not received.
    overtakes: bool,
}

impl DatagramFate {
    fn enqueue<T: Clone>(&self, queue: &mut VecDeque<T>, datagram: &T) {
        for _ in 0..self.copies {
            let at = queue.len() - usize::from(self.overtakes && !queue.is_empty());
            queue.insert(at, datagram.clone());
        }
    }
}
