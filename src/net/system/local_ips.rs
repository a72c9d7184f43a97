//! Whether an address is one of this host's.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use crate::limits;
use crate::net::io_error_class::IoErrorClass;

/// What was found out about addresses, for a while.
#[derive(Default)]
pub(crate) struct LocalIps {
    is_local: HashMap<IpAddr, bool>,
    expires: Option<Instant>,
}

impl LocalIps {
    /// Whether an address is one of this host's, now or a second ago.
    pub(crate) fn contains(&mut self, ip: IpAddr) -> bool {
        let now = Instant::now();
        if self.expires.is_none_or(|expires| expires <= now) || self.is_local.len() == limits::LOCAL_IPS_MAX {
            self.is_local.clear();
            self.expires = Some(now + limits::LOCAL_IPS_AGE_MAX);
        }
        *self.is_local.entry(ip).or_insert_with(|| is_local(ip))
    }
}

/// Only a local address can be bound to, unless the system allows every address (`ip_nonlocal_bind`, ip(7)).
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || can_be_bound(ip) && (!can_all_be_bound(ip) || is_on_interface(ip))
}

/// Whether a socket can be bound to an address. Without a descriptor to try it, the answer is yes: a socket that answers
/// itself does so for ever.
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

/// Whether an interface has an address. Where a sandbox forbids to ask, the answer is yes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_this_host_are_local_and_those_of_documentation_are_not() {
        // RFC 5737 and RFC 3849.
        let ips =
            ["127.0.0.1", "127.9.9.9", "::1", "192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().expect("an address"));
        let expected = [true, true, true, false, false];
        let mut local_ips = LocalIps::default();
        assert_eq!(ips.map(|ip| local_ips.contains(ip)), expected);
        // The answer where every address can be bound to; of a loopback network, an interface has one address.
        assert_eq!([ips[0], ips[3], ips[4]].map(is_on_interface), [true, false, false]);
    }

    #[test]
    fn what_was_found_out_is_used_for_a_second_and_its_memory_is_bounded() {
        let ip: IpAddr = "192.0.2.1".parse().expect("an address");
        let soon = Instant::now() + limits::LOCAL_IPS_AGE_MAX;
        let mut local_ips = LocalIps { is_local: HashMap::from([(ip, true)]), expires: Some(soon) };
        assert!(local_ips.contains(ip));
        local_ips.expires = Some(Instant::now());
        assert!(!local_ips.contains(ip));
        for number in 0..3 * limits::LOCAL_IPS_MAX {
            let number = u32::try_from(number).expect("it is small");
            local_ips.contains(IpAddr::from((0x7F00_0000 + number).to_be_bytes()));
            assert!(local_ips.is_local.len() <= limits::LOCAL_IPS_MAX);
        }
    }
}
