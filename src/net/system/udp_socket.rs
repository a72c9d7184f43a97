//! UDP with one datagram per system call, on every system.
//!
//! On Linux a socket bound to a wildcard address replies from the address that was asked (ip(7), RFC 3542).

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::address::to_canonical;
use crate::net::recv_batch::{ReceivedDatagram, RecvBatch, RecvMeta};
use crate::state::udp_send_queue::{Transmit, UdpSendQueue};

/// A UDP socket, and how to use it.
pub(crate) struct PlainUdpSocket {
    pub(crate) inner: mio::net::UdpSocket,
    pub(crate) is_v6: bool,
    /// Bytes of a datagram that are kept.
    pub(crate) datagram_bytes_max: usize,
    /// Room for packet information, on a socket bound to every address.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "packet information is Linux's here"))]
    control: Option<Vec<u8>>,
}

impl PlainUdpSocket {
    pub(crate) fn new(socket: std::net::UdpSocket, datagram_bytes_max: usize) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let inner = mio::net::UdpSocket::from_std(socket);
        let is_v6 = address.is_ipv6();
        // Before the first receive, so that every datagram comes with it.
        let control = if address.ip().is_unspecified() { enable_packet_info(&inner, is_v6)? } else { None };
        Ok(Self { inner, is_v6, datagram_bytes_max, control })
    }

    pub(crate) fn inner(&mut self) -> &mut mio::net::UdpSocket {
        &mut self.inner
    }

    /// Receives one datagram, whatever is asked for. Whether there are more, only the next receive can tell.
    pub(crate) fn recv_datagrams(&mut self, batch: &mut RecvBatch, _most: usize) -> io::Result<bool> {
        receive(self, batch)?;
        Ok(true)
    }

    /// Sends datagrams one by one, and says for each what became of it.
    pub(crate) fn send_datagrams(
        &self,
        transmits: &[Transmit],
        send_queue: &UdpSendQueue,
        mut outcome: impl FnMut(&Transmit, io::Result<()>),
    ) {
        for transmit in transmits {
            let sent = loop {
                match send(self, transmit.to, transmit.from, send_queue.payload(transmit)) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            outcome(transmit, sent);
        }
    }

    /// Whether datagrams come with packet information.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_packet_info(&self) -> bool {
        self.control.is_some()
    }

    /// A peer's address as this socket's family writes it.
    pub(crate) fn to_own_family(&self, peer: SocketAddr) -> SocketAddr {
        match peer {
            SocketAddr::V4(v4) if self.is_v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
            other => other,
        }
    }
}

/// The peer of a datagram that came without a source address: it cannot be answered.
#[cfg(target_os = "linux")]
pub(crate) const UNKNOWN_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

#[cfg(target_os = "linux")]
pub(crate) use linux::{PacketInfo, dst_ip};
#[cfg(target_os = "linux")]
use linux::{enable_packet_info, receive, send};

#[cfg(target_os = "linux")]
mod linux {
    use super::{
        IpAddr, PlainUdpSocket, ReceivedDatagram, RecvBatch, RecvMeta, SocketAddr, UNKNOWN_PEER, io, to_canonical,
    };
    use nix::libc;
    use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, SockaddrLike, SockaddrStorage};
    use nix::sys::socket::{recvmsg, sendmsg, setsockopt};
    use std::io::{IoSlice, IoSliceMut};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
    use std::os::fd::AsRawFd;

    /// Asks for packet information, and makes room for it.
    pub(super) fn enable_packet_info(socket: &mio::net::UdpSocket, is_v6: bool) -> io::Result<Option<Vec<u8>>> {
        if is_v6 {
            setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(socket, Ipv4PacketInfo, &true)?;
        }
        Ok(Some(nix::cmsg_space!(libc::in6_pktinfo)))
    }

    pub(super) fn receive(socket: &mut PlainUdpSocket, batch: &mut RecvBatch) -> io::Result<()> {
        let fd = socket.inner.as_raw_fd();
        let control = socket.control.as_deref_mut();
        let (mut buffers, received) = batch.prepare(socket.datagram_bytes_max);
        let mut buffer = [IoSliceMut::new(buffers.next().unwrap_or_default())];
        let message = recvmsg::<SockaddrStorage>(fd, &mut buffer, control, MsgFlags::empty())?;
        let peer = message.address.as_ref().and_then(std_addr).map_or(UNKNOWN_PEER, to_canonical);
        let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
        let meta = RecvMeta { peer, dst_ip: dst_ip(&message), truncated };
        received.push(ReceivedDatagram { len: message.bytes, meta });
        Ok(())
    }

    /// The address that the datagram was sent to, if packet information came with it.
    pub(crate) fn dst_ip<S: SockaddrLike>(message: &RecvMsg<'_, '_, S>) -> Option<IpAddr> {
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

    pub(super) fn send(
        socket: &PlainUdpSocket,
        to: SocketAddr,
        from: Option<IpAddr>,
        payload: &[u8],
    ) -> io::Result<()> {
        let Some(from) = from else {
            return socket.inner.send_to(payload, socket.to_own_family(to)).map(drop);
        };
        let to = SockaddrStorage::from(socket.to_own_family(to));
        let packet_info = PacketInfo::new(from, socket.is_v6);
        let (fd, payload) = (socket.inner.as_raw_fd(), [IoSlice::new(payload)]);
        sendmsg(fd, &payload, &[packet_info.control()], MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    /// The address that a datagram is to leave from, as the kernel wants to be told it. The interface stays open: the
    /// route decides it, as it would without.
    pub(crate) enum PacketInfo {
        V4(libc::in_pktinfo),
        V6(libc::in6_pktinfo),
    }

    impl PacketInfo {
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
fn receive(socket: &mut PlainUdpSocket, batch: &mut RecvBatch) -> io::Result<()> {
    // One byte more than is kept: it tells a cut one.
    let (mut buffers, received) = batch.prepare(socket.datagram_bytes_max + 1);
    let (length, peer) = socket.inner.recv_from(buffers.next().unwrap_or_default())?;
    let meta = RecvMeta { peer: to_canonical(peer), dst_ip: None, truncated: length > socket.datagram_bytes_max };
    received.push(ReceivedDatagram { len: length.min(socket.datagram_bytes_max), meta });
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn send(socket: &PlainUdpSocket, to: SocketAddr, _from: Option<IpAddr>, payload: &[u8]) -> io::Result<()> {
    socket.inner.send_to(payload, socket.to_own_family(to)).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn enable_packet_info(_socket: &mio::net::UdpSocket, _is_v6: bool) -> io::Result<Option<Vec<u8>>> {
    Ok(None)
}
