//! The addresses of this host, read at most once a second.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use crate::limits;
use crate::net::io_error_class::IoErrorClass;

/// What is known of the addresses of this host.
#[derive(Default)]
pub(crate) struct LocalIps {
    ips: HashSet<IpAddr>,
    expires: Option<Instant>,
}

impl LocalIps {
    /// Whether an address is one of this host's.
    ///
    /// Whether a socket can be bound there does not tell: with `ip_nonlocal_bind` it can be bound to every address.
    pub(crate) fn contains(&mut self, ip: IpAddr) -> bool {
        if ip.is_loopback() {
            return true;
        }
        let now = Instant::now();
        if self.expires.is_none_or(|expires| expires <= now) {
            match interface_ips() {
                Ok(ips) => self.ips = ips,
                Err(_) => return can_be_bound(ip),
            }
            self.expires = Some(now + limits::LOCAL_IPS_AGE_MAX);
        }
        self.ips.contains(&ip)
    }
}

/// The addresses of all interfaces. A sandbox may forbid to ask for them.
#[cfg(target_os = "linux")]
fn interface_ips() -> io::Result<HashSet<IpAddr>> {
    use crate::net::system::udp_socket::std_addr;
    let addresses = nix::ifaddrs::getifaddrs()?.filter_map(|interface| std_addr(&interface.address?));
    Ok(addresses.map(|address| address.ip()).collect())
}

#[cfg(not(target_os = "linux"))]
fn interface_ips() -> io::Result<HashSet<IpAddr>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether a socket can be bound to an address. Without a descriptor to try it, the answer is yes: a socket that answers
/// itself does so for ever.
fn can_be_bound(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).map_or_else(|error| IoErrorClass::of(&error) == IoErrorClass::ResourceExhausted, |_| true)
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
        assert!(local_ips.ips.iter().all(|ip| can_be_bound(*ip) || ip.is_ipv6()), "{:?}", local_ips.ips);
        let expires = local_ips.expires.expect("they were read");
        assert_eq!(ips.map(|ip| local_ips.contains(ip)), expected);
        assert_eq!(local_ips.expires, Some(expires), "not again within the second");
        local_ips = LocalIps { ips: ips.into(), expires: Some(Instant::now()) };
        assert_eq!(ips.map(|ip| local_ips.contains(ip)), expected, "what is too old is read anew");
    }
}
