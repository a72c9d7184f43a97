//! Datagrams on this machine's kernel, one a call.
//!
//! A socket bound to every address has to say which one a peer asked, and to answer from there; on Linux packet
//! information tells (ip(7), RFC 3542), elsewhere the system chooses the address.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use mio::net::UdpSocket;

use crate::lent::Envelope;
use crate::network::Batch;

/// A UDP socket, and how to use it.
pub(crate) struct Packets {
    pub(crate) socket: UdpSocket,
    is_v6: bool,
    room: usize,
    /// Room for packet information, on a socket bound to every address.
    control: Option<Vec<u8>>,
}

impl Packets {
    pub(crate) fn new(socket: std::net::UdpSocket, room: usize) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let socket = UdpSocket::from_std(socket);
        let is_v6 = address.is_ipv6();
        let control = if address.ip().is_unspecified() { packet_information(&socket, is_v6)? } else { None };
        Ok(Self { socket, is_v6, room, control })
    }

    /// A peer's address as this socket's family writes it.
    fn written(&self, peer: SocketAddr) -> SocketAddr {
        match peer {
            SocketAddr::V4(v4) if self.is_v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
            other => other,
        }
    }
}

/// An IPv4 client of an IPv6 socket, by its IPv4 address.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(address.ip().to_canonical(), v6.port())
        }
        other => other,
    }
}

#[cfg(target_os = "linux")]
use linux::packet_information;
#[cfg(target_os = "linux")]
pub(crate) use linux::{receive, send};

#[cfg(target_os = "linux")]
mod linux {
    use super::{Batch, Envelope, IpAddr, Packets, SocketAddr, UdpSocket, canonical, io};
    use nix::libc;
    use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, SockaddrStorage};
    use nix::sys::socket::{recvmsg, sendmsg, setsockopt};
    use std::io::{IoSlice, IoSliceMut};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
    use std::os::fd::AsRawFd;

    /// Asks for packet information, and makes room for it.
    pub(super) fn packet_information(socket: &UdpSocket, is_v6: bool) -> io::Result<Option<Vec<u8>>> {
        if is_v6 {
            setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(socket, Ipv4PacketInfo, &true)?;
        }
        Ok(Some(nix::cmsg_space!(libc::in6_pktinfo)))
    }

    pub(crate) fn receive(packets: &mut Packets, batch: &mut Batch) -> io::Result<()> {
        let fd = packets.socket.as_raw_fd();
        let control = packets.control.as_mut().map(|control| {
            control.resize(control.capacity(), 0);
            control.as_mut_slice()
        });
        let mut room = [IoSliceMut::new(&mut batch.room[..packets.room])];
        let message = recvmsg::<SockaddrStorage>(fd, &mut room, control, MsgFlags::empty())?;
        let (length, truncated) = (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC));
        let Some(peer) = message.address.as_ref().and_then(std_addr) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a datagram without a sender"));
        };
        let asked = asked(&message)?;
        batch.arrive(0, length, Envelope { peer: canonical(peer), asked, truncated });
        Ok(())
    }

    /// The address that the datagram was sent to, if packet information was asked for.
    fn asked(message: &RecvMsg<'_, '_, SockaddrStorage>) -> io::Result<Option<IpAddr>> {
        Ok(message.cmsgs()?.find_map(|control| match control {
            // Not `ipi_addr`: for a broadcast that one is nobody's address to answer from.
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical())
            }
            _ => None,
        }))
    }

    pub(crate) fn send(packets: &Packets, to: SocketAddr, from: Option<IpAddr>, payload: &[u8]) -> io::Result<()> {
        let Some(from) = from else {
            return packets.socket.send_to(payload, packets.written(to)).map(drop);
        };
        let to = SockaddrStorage::from(packets.written(to));
        let (fd, payload) = (packets.socket.as_raw_fd(), [IoSlice::new(payload)]);
        // The interface stays open: the route decides it, as it would without packet information.
        match from {
            IpAddr::V4(v4) if !packets.is_v6 => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(v4.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                sendmsg(fd, &payload, &[ControlMessage::Ipv4PacketInfo(&info)], MsgFlags::empty(), Some(&to))?;
            }
            ip => {
                let v6 = match ip {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: v6.octets() }, ipi6_ifindex: 0 };
                sendmsg(fd, &payload, &[ControlMessage::Ipv6PacketInfo(&info)], MsgFlags::empty(), Some(&to))?;
            }
        }
        Ok(())
    }

    fn std_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn receive(packets: &mut Packets, batch: &mut Batch) -> io::Result<()> {
    let (length, peer) = packets.socket.recv_from(&mut batch.room[..=packets.room])?;
    let truncated = length > packets.room;
    batch.arrive(0, length.min(packets.room), Envelope { peer: canonical(peer), asked: None, truncated });
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn send(packets: &Packets, to: SocketAddr, _from: Option<IpAddr>, payload: &[u8]) -> io::Result<()> {
    packets.socket.send_to(payload, packets.written(to)).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn packet_information(_socket: &UdpSocket, _is_v6: bool) -> io::Result<Option<Vec<u8>>> {
    Ok(None)
}
