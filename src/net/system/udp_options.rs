//! Sets the options of UDP sockets: TTL, TOS, broadcast, multicast.
//!
//! A dual-stack socket gets each option for both families.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{InterfaceIndexOrAddress, Socket};

use crate::address::to_canonical;
use crate::options::udp::{Membership, MembershipChange, UdpOptions};

/// Sets the options of a socket that is bound to an address, or will be.
pub(crate) fn set_udp_options(socket: &Socket, options: &UdpOptions, bound: SocketAddr) -> io::Result<()> {
    let UdpOptions { broadcast, ttl, tos, memberships, multicast_interface, multicast_ttl, multicast_loop } = options;
    if let Some(broadcast) = *broadcast {
        socket.set_broadcast(broadcast).map_err(|error| explain("broadcast", broadcast, &error))?;
    }
    let families = Families::of(socket, bound)?;
    families.set("ttl", *ttl, |ttl| socket.set_ttl_v4(ttl), |ttl| socket.set_unicast_hops_v6(ttl))?;
    families.set("tos", *tos, |tos| set_tos_v4(socket, tos), |tos| set_tclass_v6(socket, tos))?;
    families.set(
        "multicast_interface",
        *multicast_interface,
        |index| match ipv4_of_interface(index) {
            // Without an IPv4 address, the interface sends nothing over IPv4.
            Err(_) if families.has_v6 => Ok(()),
            address => socket.set_multicast_if_v4(&address?),
        },
        |index| socket.set_multicast_if_v6(index),
    )?;
    families.set(
        "multicast_ttl",
        *multicast_ttl,
        |ttl| socket.set_multicast_ttl_v4(ttl),
        |hops| socket.set_multicast_hops_v6(hops),
    )?;
    families.set(
        "multicast_loop",
        *multicast_loop,
        |enabled| socket.set_multicast_loop_v4(enabled),
        |enabled| socket.set_multicast_loop_v6(enabled),
    )?;
    memberships.iter().try_for_each(|membership| change_membership(socket, *membership, MembershipChange::Join))
}

/// The families of datagrams that a socket sends and receives.
struct Families {
    has_v4: bool,
    has_v6: bool,
}

impl Families {
    fn of(socket: &Socket, bound: SocketAddr) -> io::Result<Self> {
        let has_v6 = bound.is_ipv6();
        let has_v4 = to_canonical(bound).is_ipv4() || bound.ip().is_unspecified() && !socket.only_v6()?;
        Ok(Self { has_v4, has_v6 })
    }

    /// Sets an option for each family, IPv6 first.
    fn set<T: Copy + Display>(
        &self,
        option: &str,
        value: Option<T>,
        set_v4: impl FnOnce(T) -> io::Result<()>,
        set_v6: impl FnOnce(T) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(value) = value else { return Ok(()) };
        let set = || {
            if self.has_v6 {
                set_v6(value)?;
            }
            if self.has_v4 { set_v4(value) } else { Ok(()) }
        };
        set().map_err(|error| explain(option, value, &error))
    }
}

/// Joins or leaves a group. After a join the socket receives no datagrams of groups that other sockets have joined.
pub(crate) fn change_membership(socket: &Socket, membership: Membership, change: MembershipChange) -> io::Result<()> {
    let Membership { group, interface } = membership;
    let changed = match (group.to_canonical(), change) {
        (IpAddr::V4(group), MembershipChange::Join) => join_v4(socket, group, interface),
        (IpAddr::V4(group), MembershipChange::Leave) => {
            socket.leave_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
        }
        (IpAddr::V6(group), MembershipChange::Join) => {
            #[cfg(target_os = "linux")]
            let _ = socket.set_multicast_all_v6(false);
            socket.join_multicast_v6(&group, interface)
        }
        (IpAddr::V6(group), MembershipChange::Leave) => socket.leave_multicast_v6(&group, interface),
    };
    let call = if change == MembershipChange::Join { "join_multicast" } else { "leave_multicast" };
    changed.map_err(|error| explain(call, format_args!("{group}, {interface}"), &error))
}

fn join_v4(socket: &Socket, group: Ipv4Addr, interface: u32) -> io::Result<()> {
    // The kernel lets an IPv6-only socket join, but delivers nothing.
    if socket.only_v6().is_ok_and(|only_v6| only_v6) {
        let message = "invalid argument: an IPv6-only socket cannot join an IPv4 group; bind another socket to 0.0.0.0";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    #[cfg(target_os = "linux")]
    let _ = socket.set_multicast_all_v4(false);
    socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
}

/// An error that names the option, and a way out.
fn explain(option: &str, value: impl Display, error: &io::Error) -> io::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; the socket has joined the group already",
        io::ErrorKind::AddrNotAvailable if option == "leave_multicast" => "; the socket has not joined the group there",
        io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied => "",
        _ if option.contains("multicast") => "; give the index of an interface (if_nametoindex(3)) that is up",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{option}({value}): {error}{hint}"))
}

/// An address of the interface, which identifies it to the kernel: socket2 lacks the structure for an index
/// (`ip_mreqn`).
#[cfg(target_os = "linux")]
fn ipv4_of_interface(index: u32) -> io::Result<Ipv4Addr> {
    use crate::net::system::udp_socket::std_addr;
    if index == 0 {
        return Ok(Ipv4Addr::UNSPECIFIED);
    }
    let v4 = nix::ifaddrs::getifaddrs()?.find_map(|interface| match std_addr(&interface.address?)?.ip() {
        IpAddr::V4(v4) if nix::net::if_::if_nametoindex(&*interface.interface_name) == Ok(index) => Some(v4),
        _ => None,
    });
    v4.ok_or_else(|| nix::errno::Errno::EADDRNOTAVAIL.into())
}

#[cfg(not(target_os = "linux"))]
fn ipv4_of_interface(_index: u32) -> io::Result<Ipv4Addr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
fn set_tos_v4(socket: &Socket, tos: u32) -> io::Result<()> {
    socket.set_tos_v4(tos)
}

#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
fn set_tclass_v6(socket: &Socket, class: u32) -> io::Result<()> {
    socket.set_tclass_v6(class)
}

#[cfg(not(unix))]
fn set_tos_v4(_socket: &Socket, _tos: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "freebsd")))]
fn set_tclass_v6(_socket: &Socket, _class: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
