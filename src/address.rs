//! The address of a stream socket, and its packed form.
//!
//! An IPv4 address and its IPv6-mapped form are the same address.

use std::fmt;
#[cfg(unix)]
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

#[cfg(unix)]
use socket2::SockAddr;

/// An address to listen on or to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Inet(SocketAddr),
    /// A path in the file system; on Linux also an abstract name after a NUL (unix(7)). Empty for an unnamed socket.
    Unix(PathBuf),
}

impl Address {
    /// The internet address; `None` for a unix socket.
    pub(crate) fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The address of a peer; `None` is a unix peer.
    pub(crate) fn of_peer(peer: Option<SocketAddr>) -> Self {
        peer.map_or_else(|| Self::Unix(PathBuf::new()), Self::Inet)
    }

    /// Whether a path is an abstract name: it begins with a NUL.
    pub(crate) fn is_abstract(path: &Path) -> bool {
        path.as_os_str().as_encoded_bytes().first() == Some(&0)
    }

    /// Refuses addresses that the kernel would read as another address.
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        match self {
            Self::Unix(path) if Self::is_abstract(path) && !cfg!(target_os = "linux") => {
                Err("abstract unix socket names exist only on Linux; give a path")
            }
            // The kernel chooses a name itself when the name is empty (unix(7), autobind).
            Self::Unix(path) if path.as_os_str().as_encoded_bytes() == [0] => {
                Err("the abstract name is empty; put a name after the NUL")
            }
            // The kernel reads the path up to the NUL.
            Self::Unix(path) if !Self::is_abstract(path) && path.as_os_str().as_encoded_bytes().contains(&0) => {
                Err("a NUL would end the path; give a path without NUL, or put the NUL in front for an abstract name")
            }
            Self::Unix(_) | Self::Inet(_) => Ok(()),
        }
    }
}

/// The kernel's form of a path or an abstract name.
#[cfg(unix)]
pub(crate) fn unix_sock_addr(path: &Path) -> io::Result<SockAddr> {
    // The bytes that fit before the NUL at the end (unix(7), and sys/un.h of other systems).
    const PATH_BYTES_MAX: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };
    SockAddr::unix(path).map_err(|error| {
        let bytes = path.as_os_str().len() - usize::from(Address::is_abstract(path));
        let limit = format!("the path of a unix socket has {PATH_BYTES_MAX} bytes at most");
        io::Error::new(error.kind(), format!("invalid argument: {limit}, and this one has {bytes}"))
    })
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) if path.as_os_str().is_empty() => f.write_str("an unnamed unix socket"),
            // Escaped, because a path may contain any byte. An abstract name is written as in ss(8).
            Self::Unix(path) if Self::is_abstract(path) => {
                let name = String::from_utf8_lossy(&path.as_os_str().as_encoded_bytes()[1..]);
                write!(f, "@{}", name.escape_debug())
            }
            Self::Unix(path) => write!(f, "{}", path.display().to_string().escape_debug()),
        }
    }
}

/// Converts an IPv4-mapped IPv6 address to IPv4. An IPv6 socket reports an IPv4 client in that form (RFC 4291,
/// 2.5.5.2).
pub(crate) fn to_canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => SocketAddr::new(v6.ip().to_canonical(), v6.port()),
        other => other,
    }
}

/// The destination or source address of a datagram, with its interface if the address is link-local.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct ScopedIp {
    pub(crate) ip: IpAddr,
    /// The interface index, for link-local IPv6 addresses (RFC 4007), IPv6 groups and the unspecified IPv6 address;
    /// else zero.
    pub(crate) scope_id: u32,
}

impl ScopedIp {
    /// The IPv6 destination of a received datagram, and the interface that received it.
    #[cfg(target_os = "linux")]
    pub(crate) fn received(ip: Ipv6Addr, interface: u32) -> Self {
        let has_scope = ip.is_unicast_link_local() || ip.is_multicast();
        Self { ip: IpAddr::V6(ip).to_canonical(), scope_id: if has_scope { interface } else { 0 } }
    }

    /// The same address with a port. Only a link-local address keeps its scope id.
    pub(crate) fn with_port(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, if is_link_local(ip) { self.scope_id } else { 0 }).into(),
        }
    }
}

/// Whether an address belongs to one interface: link-local and interface-local addresses, unicast and multicast (RFC
/// 4291, 2.7).
fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.is_unicast_link_local() || matches!(ip.segments()[0] & 0xff0f, 0xff01 | 0xff02)
}

impl From<IpAddr> for ScopedIp {
    fn from(ip: IpAddr) -> Self {
        Self { ip, scope_id: 0 }
    }
}

/// Whether a datagram can be sent from or to an address as to one host.
pub(crate) fn is_unicast(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !is_broadcast && !ip.is_multicast() && !ip.is_unspecified()
}

/// The address of a peer. IPv4 is stored IPv4-mapped; no IPv6 peer can have such an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PackedAddress {
    ip: [u8; 16],
    scope: [u8; 4],
    port: u16,
}

impl PackedAddress {
    /// Of a unix socket, which has no address: a multicast address with a scope that no interface has.
    const NONE: Self = Self { ip: [0xff; 16], scope: [0xff; 4], port: 0 };

    pub(crate) fn socket_addr(self) -> Option<SocketAddr> {
        let address = SocketAddrV6::new(self.ip.into(), self.port, 0, u32::from_ne_bytes(self.scope));
        (self != Self::NONE).then(|| to_canonical(address.into()))
    }
}

impl From<Option<SocketAddr>> for PackedAddress {
    // Inlined, it would move the address byte by byte.
    #[inline(never)]
    fn from(address: Option<SocketAddr>) -> Self {
        match address {
            None => Self::NONE,
            Some(SocketAddr::V4(v4)) => Self { ip: v4.ip().to_ipv6_mapped().octets(), scope: [0; 4], port: v4.port() },
            Some(SocketAddr::V6(v6)) => {
                Self { ip: v6.ip().octets(), scope: v6.scope_id().to_ne_bytes(), port: v6.port() }
            }
        }
    }
}

impl fmt::Display for PackedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket_addr() {
            Some(address) => address.fmt(f),
            None => f.write_str("a unix peer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_an_address_loses_nothing() {
        for address in ["127.0.0.1:8888", "0.0.0.0:0", "[::1]:65535", "[fe80::1%7]:80", "[::]:0", "[2001:db8::1]:1"] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(PackedAddress::from(Some(address)).socket_addr(), Some(address));
        }
        assert_eq!(PackedAddress::from(None).socket_addr(), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_a_link_local_address_keeps_its_interface() {
        let shown = |text: &str| ScopedIp::received(text.parse().expect("an address"), 7).with_port(5).to_string();
        for (address, expected) in [
            ("fe80::1", "[fe80::1%7]:5"),
            ("ff02::1", "[ff02::1%7]:5"),
            ("ff11::1", "[ff11::1%7]:5"),
            ("ff05::1", "[ff05::1]:5"),
            ("2001:db8::1", "[2001:db8::1]:5"),
            ("::1", "[::1]:5"),
            ("::ffff:192.0.2.1", "192.0.2.1:5"),
        ] {
            assert_eq!(shown(address), expected);
        }
    }

    #[test]
    fn a_unix_address_is_shown_on_one_line() {
        let shown = |path: &str| Address::Unix(path.into()).to_string();
        assert_eq!(shown("/run/a b"), "/run/a b");
        assert_eq!(shown("a\nb\u{1b}"), "a\\nb\\u{1b}");
        assert_eq!(shown("\0name\0\n"), "@name\\0\\n");
        assert_eq!(shown(""), "an unnamed unix socket");
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_shows_its_ipv4_address() {
        let parse = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let mapped = parse("[::ffff:192.0.2.1]:80");
        assert_eq!(to_canonical(mapped), parse("192.0.2.1:80"));
        assert_eq!(PackedAddress::from(Some(mapped)).to_string(), "192.0.2.1:80");
        let scoped = SocketAddrV6::new(std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 0, 0, 7).into();
        assert_eq!(PackedAddress::from(Some(scoped)).socket_addr(), Some(parse("127.0.0.1:0")));
        for address in ["192.0.2.1:80", "[fe80::1%7]:80", "[::192.0.2.1]:80"] {
            assert_eq!(to_canonical(parse(address)), parse(address));
        }
    }
}
