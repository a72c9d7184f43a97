//! Datagrams on this machine's kernel, one a call: the plain way, on every system.
//!
//! A socket bound to every address has to say which one a peer asked, and to answer from there; on Linux packet
//! information tells (ip(7), RFC 3542), elsewhere the system chooses the address. Where the kernel takes many datagrams
//! a call, `batches` go before this, and come back to it if they are refused.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use mio::net::UdpSocket;

use crate::net::recv_batch::{Arrival, Batch, Envelope};
use crate::state::send_queue::{Letter, Staged};

/// A UDP socket, and how to use it.
pub(crate) struct Packets {
    pub(crate) socket: UdpSocket,
    pub(crate) is_v6: bool,
    /// Bytes of a datagram that are kept.
    pub(crate) room: usize,
    /// Room for packet information, on a socket bound to every address.
    control: Option<Vec<u8>>,
}

impl Packets {
    pub(crate) fn new(socket: std::net::UdpSocket, room: usize) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let socket = UdpSocket::from_std(socket);
        let is_v6 = address.is_ipv6();
        // Before the first receive, so that every datagram comes with it.
        let control = if address.ip().is_unspecified() { packet_information(&socket, is_v6)? } else { None };
        Ok(Self { socket, is_v6, room, control })
    }

    pub(crate) fn socket(&mut self) -> &mut UdpSocket {
        &mut self.socket
    }

    /// Receives one datagram, whatever is asked for. Whether there are more, only the next receive can tell.
    pub(crate) fn receive(&mut self, batch: &mut Batch, _most: usize) -> io::Result<bool> {
        receive(self, batch)?;
        Ok(true)
    }

    /// Sends letters one by one, and says for each what became of it.
    pub(crate) fn transmit(
        &self,
        letters: &[Letter],
        staged: &Staged,
        mut outcome: impl FnMut(&Letter, io::Result<()>),
    ) {
        for letter in letters {
            let sent = loop {
                match send(self, letter.to, letter.from, staged.payload(letter)) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            outcome(letter, sent);
        }
    }

    /// Whether datagrams come with packet information.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_informed(&self) -> bool {
        self.control.is_some()
    }

    /// A peer's address as this socket's family writes it.
    pub(crate) fn written(&self, peer: SocketAddr) -> SocketAddr {
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

/// The sender of a datagram that came without one: nobody, who cannot be answered.
#[cfg(target_os = "linux")]
pub(crate) const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

#[cfg(target_os = "linux")]
pub(crate) use linux::{Origin, asked};
#[cfg(target_os = "linux")]
use linux::{packet_information, receive, send};

#[cfg(target_os = "linux")]
mod linux {
    use super::{Arrival, Batch, Envelope, IpAddr, NOBODY, Packets, SocketAddr, UdpSocket, canonical, io};
    use nix::libc;
    use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, SockaddrLike, SockaddrStorage};
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

    pub(super) fn receive(packets: &mut Packets, batch: &mut Batch) -> io::Result<()> {
        let fd = packets.socket.as_raw_fd();
        let control = packets.control.as_deref_mut();
        let (mut rooms, arrived) = batch.open(packets.room);
        let mut room = [IoSliceMut::new(rooms.next().unwrap_or_default())];
        let message = recvmsg::<SockaddrStorage>(fd, &mut room, control, MsgFlags::empty())?;
        let peer = message.address.as_ref().and_then(std_addr).map_or(NOBODY, canonical);
        let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
        let envelope = Envelope { peer, asked: asked(&message), truncated };
        arrived.push(Arrival { length: message.bytes, envelope });
        Ok(())
    }

    /// The address that the datagram was sent to, if packet information came with it.
    pub(crate) fn asked<S: SockaddrLike>(message: &RecvMsg<'_, '_, S>) -> Option<IpAddr> {
        message.cmsgs().ok()?.find_map(|control| match control {
            // Not `ipi_addr`: for a broadcast that one is nobody's address to answer from.
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical())
            }
            _ => None,
        })
    }

    pub(super) fn send(packets: &Packets, to: SocketAddr, from: Option<IpAddr>, payload: &[u8]) -> io::Result<()> {
        let Some(from) = from else {
            return packets.socket.send_to(payload, packets.written(to)).map(drop);
        };
        let to = SockaddrStorage::from(packets.written(to));
        let origin = Origin::new(from, packets.is_v6);
        let (fd, payload) = (packets.socket.as_raw_fd(), [IoSlice::new(payload)]);
        sendmsg(fd, &payload, &[origin.control()], MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    /// The address that a datagram is to leave from, as the kernel wants to be told it. The interface stays open: the
    /// route decides it, as it would without.
    pub(crate) enum Origin {
        V4(libc::in_pktinfo),
        V6(libc::in6_pktinfo),
    }

    impl Origin {
        pub(crate) fn new(from: IpAddr, is_v6: bool) -> Self {
            let v6 = match from {
                IpAddr::V4(v4) if !is_v6 => {
                    return Self::V4(libc::in_pktinfo {
                        ipi_ifindex: 0,
                        ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(v4.octets()) },
                        ipi_addr: libc::in_addr { s_addr: 0 },
                    });
                }
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            Self::V6(libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: v6.octets() }, ipi6_ifindex: 0 })
        }

        pub(crate) fn control(&self) -> ControlMessage<'_> {
            match self {
                Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
                Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
            }
        }
    }

    fn std_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
    }
}

#[cfg(not(target_os = "linux"))]
fn receive(packets: &mut Packets, batch: &mut Batch) -> io::Result<()> {
    // One byte more than is kept: it tells a cut one.
    let (mut rooms, arrived) = batch.open(packets.room + 1);
    let (length, peer) = packets.socket.recv_from(rooms.next().unwrap_or_default())?;
    let envelope = Envelope { peer: canonical(peer), asked: None, truncated: length > packets.room };
    arrived.push(Arrival { length: length.min(packets.room), envelope });
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn send(packets: &Packets, to: SocketAddr, _from: Option<IpAddr>, payload: &[u8]) -> io::Result<()> {
    packets.socket.send_to(payload, packets.written(to)).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn packet_information(_socket: &UdpSocket, _is_v6: bool) -> io::Result<Option<Vec<u8>>> {
    Ok(None)
}
