//! Whether an address is local to this host, or a broadcast address.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits;
use crate::net::io_error_class::IoErrorClass;

/// A kind of addresses of this host, with a cache of lookups.
pub(crate) struct HostIps {
    find_out: fn(IpAddr) -> bool,
    found: HashMap<IpAddr, bool>,
    expires: Option<Instant>,
}

impl HostIps {
    /// The addresses of the host itself.
    pub(crate) fn local() -> Self {
        Self { find_out: is_local, found: HashMap::new(), expires: None }
    }

    /// The broadcast addresses of the host's networks.
    pub(crate) fn broadcast() -> Self {
        Self { find_out: is_broadcast, ..Self::local() }
    }

    /// Whether an address is one of them, now or up to a second ago.
    pub(crate) fn contains(&mut self, ip: IpAddr) -> bool {
        let now = Instant::now();
        if self.expires.is_none_or(|expires| expires <= now) || self.found.len() == limits::HOST_IPS_MAX {
            self.found.clear();
            self.expires = Some(now + limits::HOST_IPS_AGE_MAX);
        }
        *self.found.entry(ip).or_insert_with(|| (self.find_out)(ip))
    }
}

/// Only a local address can be bound, unless the system allows every address (`ip_nonlocal_bind`, ip(7)).
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || can_be_bound(ip) && (!can_all_be_bound(ip) || is_on_interface(ip))
}

/// Whether a socket can be bound to an address. If no descriptor is left for a test, it returns true: a socket that
/// answers itself never stops.
fn can_be_bound(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).map_or_else(|error| IoErrorClass::of(&error) == IoErrorClass::ResourceExhausted, |_| true)
}

#[cfg(target_os = "linux")]
fn can_all_be_bound(ip: IpAddr) -> bool {
    let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let setting = std::fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
    setting.is_ok_and(|setting| setting.trim() != "0")
}

#[cfg(not(target_os = "linux"))]
fn can_all_be_bound(_ip: IpAddr) -> bool {
    false
}

/// Whether an interface has an address. It returns true where a sandbox forbids the lookup.
#[cfg(target_os = "linux")]
fn is_on_interface(ip: IpAddr) -> bool {
    use crate::net::system::udp_socket::std_addr;
    nix::ifaddrs::getifaddrs().map_or(true, |interfaces| {
        let mut addresses = interfaces.filter_map(|interface| std_addr(&interface.address?));
        addresses.any(|address| address.ip() == ip)
    })
}

#[cfg(not(target_os = "linux"))]
fn is_on_interface(_ip: IpAddr) -> bool {
    true
}

/// Whether an IPv4 address is a broadcast address. The connect of a UDP socket sends nothing; without `SO_BROADCAST`,
/// Linux refuses it to a broadcast address (`EACCES`). If no descriptor or port is left, or a sandbox forbids the test,
/// it returns true: a reply would reach a whole network.
fn is_broadcast(ip: IpAddr) -> bool {
    const DISCARD_PORT: u16 = 9;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP));
    let connected = socket.and_then(|socket| socket.connect(&SocketAddr::new(ip, DISCARD_PORT).into()));
    connected.is_err_and(|error| {
        error.kind() == ErrorKind::PermissionDenied || IoErrorClass::of(&error) != IoErrorClass::Transient
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_host_are_local_and_documentation_addresses_are_not() {
        // RFC 5737 and RFC 3849.
        let ips =
            ["127.0.0.1", "127.9.9.9", "::1", "192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().expect("an address"));
        let expected = [true, true, true, false, false];
        let mut local_ips = HostIps::local();
        assert_eq!(ips.map(|ip| local_ips.contains(ip)), expected);
        // The answer where every address can be bound; an interface has one address of a loopback network.
        assert_eq!([ips[0], ips[3], ips[4]].map(is_on_interface), [true, false, false]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn broadcast_addresses_are_distinguished_from_host_addresses() {
        let ips = ["127.255.255.255", "255.255.255.255", "127.0.0.1", "192.0.2.1"];
        let mut broadcast_ips = HostIps::broadcast();
        let found = ips.map(|ip| broadcast_ips.contains(ip.parse().expect("an address")));
        assert_eq!(found, [true, true, false, false]);
    }

    #[test]
    fn a_lookup_is_cached_for_a_second_in_bounded_memory() {
        let ip: IpAddr = "192.0.2.1".parse().expect("an address");
        let soon = Instant::now() + limits::HOST_IPS_AGE_MAX;
        let mut local_ips = HostIps { found: HashMap::from([(ip, true)]), expires: Some(soon), ..HostIps::local() };
        assert!(local_ips.contains(ip));
        local_ips.expires = Some(Instant::now());
        assert!(!local_ips.contains(ip));
        for number in 0..3 * limits::HOST_IPS_MAX {
            let number = u32::try_from(number).expect("it is small");
            local_ips.contains(IpAddr::from((0x7F00_0000 + number).to_be_bytes()));
            assert!(local_ips.found.len() <= limits::HOST_IPS_MAX);
        }
    }
}
