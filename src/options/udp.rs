//! Socket options of UDP sockets, and multicast groups.

use std::net::IpAddr;

/// UDP socket options, set before the bind, or on an inherited socket. `None` leaves the system's default.
#[derive(Clone, Default, Debug)]
pub(crate) struct UdpOptions {
    pub(crate) broadcast: Option<bool>,
    pub(crate) ttl: Option<u32>,
    pub(crate) tos: Option<u32>,
    pub(crate) memberships: Vec<Membership>,
    pub(crate) multicast_interface: Option<u32>,
    pub(crate) multicast_ttl: Option<u32>,
    pub(crate) multicast_loop: Option<bool>,
}

impl UdpOptions {
    /// Refuses values that the kernel would refuse, or read as another value, on a socket bound to this address.
    pub(crate) fn validate(&self, bound: IpAddr) -> Result<(), &'static str> {
        const BYTE_MAX: u32 = 255;
        if self.ttl.is_some_and(|ttl| !(1..=BYTE_MAX).contains(&ttl)) {
            Err("ttl must be between 1 and 255")
        } else if self.tos.is_some_and(|tos| tos > BYTE_MAX) {
            Err("tos must be at most 255")
        } else if self.multicast_ttl.is_some_and(|ttl| ttl > BYTE_MAX) {
            Err("multicast_ttl must be at most 255")
        } else {
            self.memberships.iter().try_for_each(|membership| membership.validate(bound))
        }
    }
}

/// A multicast group, and the index of the interface that receives its datagrams. Zero is the interface of the route to
/// the group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Membership {
    pub(crate) group: IpAddr,
    pub(crate) interface: u32,
}

impl Membership {
    /// Refuses a group whose datagrams a socket bound to this address does not receive.
    pub(crate) fn validate(self, bound: IpAddr) -> Result<(), &'static str> {
        let (group, bound) = (self.group.to_canonical(), bound.to_canonical());
        if !group.is_multicast() {
            Err("the group is not a multicast address; give one from 224.0.0.0/4 or ff00::/8")
        } else if bound.is_ipv4() && group.is_ipv6() {
            Err("an IPv4 socket cannot join an IPv6 group; bind another socket to [::]")
        } else if bound.is_unspecified() || bound == group {
            Ok(())
        } else {
            // The kernel compares the destination address of a datagram with the address of the socket.
            Err("a socket bound to this address receives no datagrams of a group; bind to 0.0.0.0, [::] or the group")
        }
    }
}

/// A change of a membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MembershipChange {
    Join,
    Leave,
}
