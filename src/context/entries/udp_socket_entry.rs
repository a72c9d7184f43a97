//! The entry of one UDP socket: bind, look-up, removal.
//!
//! A removed socket closes at once, or at the end of the turn if datagrams are queued for it. Its slot is free at the
//! end of the turn.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::{ScopedIp, to_canonical};
use crate::context::Context;
use crate::context::entries::source::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Key, SlotKey, SourceKey, Token, UdpSocketId, to_slot};
use crate::net::UdpSocket;
use crate::net::recv_batch::RecvBatch;
use crate::observe::entry::EntryKind;
use crate::options::bind::Bind;
use crate::state::source_address_limits::RateLimiter;

/// One UDP socket.
pub(crate) struct UdpSocketEntry {
    /// `None` after the close.
    pub(crate) socket: Option<UdpSocket>,
    /// Received datagrams behind the end of the last budget.
    pub(crate) undelivered: RecvBatch,
    pub(crate) handler: u32,
    /// The bound address, in canonical form.
    pub(crate) local: SocketAddr,
    pub(crate) rate_limiter: Option<RateLimiter>,
    pub(crate) limit_loopback: bool,
    /// Whether the kernel lets it send to broadcast addresses.
    pub(crate) may_broadcast: bool,
    /// False after the removal, while its queued datagrams are not sent.
    pub(crate) is_open: bool,
    pub(crate) source: Source,
}

impl Context {
    /// Returns a UDP socket that was not removed.
    pub(crate) fn udp_socket(&self, key: Key) -> Option<&UdpSocketEntry> {
        let entry = self.udp_sockets.get(key.slot as usize)?;
        (entry.source.generation == key.generation && entry.is_open).then_some(entry)
    }

    pub(crate) fn udp_socket_mut(&mut self, key: Key) -> Option<&mut UdpSocketEntry> {
        let entry = self.udp_sockets.get_mut(key.slot as usize)?;
        (entry.source.generation == key.generation && entry.is_open).then_some(entry)
    }

    /// Returns the key of the UDP socket in a slot, if it was not removed.
    pub(crate) fn udp_socket_key(&self, slot: u32) -> Option<Key> {
        let entry = self.udp_sockets.get(slot as usize).filter(|entry| entry.is_open)?;
        Some(Key { generation: entry.source.generation, slot })
    }

    /// Opens a UDP socket for a handler.
    pub(crate) fn open_udp_socket(&mut self, at: &Bind, handler: u32) -> Result<UdpSocketId> {
        at.validate()?;
        self.check_not_stopped(Some(&at.address.into()))?;
        let key = Key { generation: self.next_generation(), slot: to_slot(self.udp_sockets.vacant_key()) };
        let (mut socket, local) = self
            .network
            .bind(at, Token::new(SlotKey::UdpSocket(key.slot), key.generation))
            .map_err(|error| Error::from_io(ErrorKind::Bind, Some(at.address.into()), error))?;
        let (local, limit) = (to_canonical(local), at.replies_per_source_per_second_max);
        self.bound_addresses.add(local);
        self.use_handler(handler);
        let source = self.new_source(key);
        let (of_socket, descriptor) = (SlotKey::UdpSocket(key.slot), socket.descriptor() as u64);
        self.journal.note_address(EntryKind::Bound, of_socket, key.generation, [descriptor, 0], || local.into());
        self.journal.note(EntryKind::Registered, of_socket, key.generation, [0; 2]);
        self.udp_sockets.insert(UdpSocketEntry {
            may_broadcast: socket.may_broadcast(),
            socket: Some(socket),
            undelivered: RecvBatch::default(),
            handler,
            local,
            rate_limiter: limit.map(|limit| RateLimiter::new(limit.get(), self.hash_key)),
            limit_loopback: at.limit_loopback,
            is_open: true,
            source,
        });
        Ok(UdpSocketId(key))
    }

    /// Removes a UDP socket, and ends the calls of its callbacks. It closes at once, unless datagrams are queued for
    /// it. Returns whether it was there.
    pub(crate) fn remove_udp_socket(&mut self, key: Key) -> bool {
        let has_queued = self.send_queue.has_transmits_of(key.slot);
        let Some(entry) = self.udp_socket_mut(key) else {
            return false;
        };
        entry.is_open = false;
        self.forget_source(SlotKey::UdpSocket(key.slot));
        self.removed_sources.push_back(SourceKey::UdpSocket(key));
        if !has_queued {
            self.close_udp_socket(key.slot);
        }
        true
    }

    fn close_udp_socket(&mut self, slot: u32) {
        let entry = &mut self.udp_sockets[slot as usize];
        if let Some(socket) = entry.socket.take() {
            self.bound_addresses.remove(entry.local);
            let (key, generation) = (SlotKey::UdpSocket(slot), entry.source.generation);
            let deregistered = self.network.close_udp_socket(socket);
            self.journal.note_result(EntryKind::Deregistered, key, generation, [0; 2], &deregistered);
            self.journal.note(EntryKind::Closed, key, generation, [0; 2]);
        }
    }

    /// Frees the slot of a removed UDP socket, after its queued datagrams were sent.
    pub(crate) fn free_udp_socket(&mut self, slot: u32) {
        self.close_udp_socket(slot);
        let handler = self.udp_sockets.remove(slot as usize).handler;
        self.release_handler(handler);
    }

    /// Whether the peer is a socket of this loop: the loop would answer itself for ever.
    pub(crate) fn is_own_address(&mut self, peer: SocketAddr, from: Option<ScopedIp>) -> bool {
        match self.bound_addresses.find(peer) {
            None => false,
            Some(BoundTo::Address) => true,
            Some(BoundTo::Wildcard) => {
                from.is_some_and(|from| from.ip == peer.ip()) || self.network.is_local_ip(peer.ip())
            }
        }
    }
}

/// The bound addresses of the UDP sockets of a loop.
#[derive(Default)]
pub(crate) struct BoundAddresses {
    /// The number of sockets at each address, by port.
    by_port: BTreeMap<u16, BTreeMap<IpAddr, u32>>,
}

/// How a socket with an address is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BoundTo {
    Address,
    Wildcard,
}

impl BoundAddresses {
    fn add(&mut self, address: SocketAddr) {
        *self.by_port.entry(address.port()).or_default().entry(address.ip()).or_insert(0) += 1;
    }

    fn remove(&mut self, address: SocketAddr) {
        let Some(by_ip) = self.by_port.get_mut(&address.port()) else { return };
        let Some(sockets) = by_ip.get_mut(&address.ip()) else { return };
        *sockets -= 1;
        if *sockets == 0 {
            by_ip.remove(&address.ip());
        }
        if by_ip.is_empty() {
            self.by_port.remove(&address.port());
        }
    }

    /// Finds a socket that is bound to an address, or to its port on a wildcard address.
    fn find(&self, address: SocketAddr) -> Option<BoundTo> {
        let by_ip = self.by_port.get(&address.port())?;
        let is_wildcard_bound = by_ip.contains_key(&Ipv6Addr::UNSPECIFIED.into())
            || address.is_ipv4() && by_ip.contains_key(&Ipv4Addr::UNSPECIFIED.into());
        if by_ip.contains_key(&address.ip()) {
            Some(BoundTo::Address)
        } else {
            is_wildcard_bound.then_some(BoundTo::Wildcard)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_by_its_port_for_as_long_as_a_socket_is_bound_there() {
        let parse = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let mut bound = BoundAddresses::default();
        let found = |bound: &BoundAddresses| {
            ["10.0.0.1:5", "10.0.0.2:5", "10.0.0.1:6", "[2001:db8::1]:6"].map(|address| bound.find(parse(address)))
        };
        bound.add(parse("10.0.0.1:5"));
        bound.add(parse("10.0.0.1:5"));
        bound.add(parse("0.0.0.0:6"));
        let (at, any) = (Some(BoundTo::Address), Some(BoundTo::Wildcard));
        assert_eq!(found(&bound), [at, None, any, None]);
        bound.remove(parse("10.0.0.1:5"));
        assert_eq!(found(&bound), [at, None, any, None], "two sockets shared the address");
        bound.remove(parse("10.0.0.1:5"));
        bound.remove(parse("0.0.0.0:6"));
        assert!(bound.by_port.is_empty());
        bound.add(parse("[::]:6"));
        assert_eq!(found(&bound), [None, None, any, any]);
    }
}
