//! UDP with one datagram per system call, on every system.
//!
//! On Linux a socket bound to a wildcard address replies from the destination address of the request (ip(7), RFC 3542).

use std::io;
use std::net::{SocketAddr, SocketAddrV6};

use crate::address::{ScopedIp, to_canonical};
use crate::net::recv_batch::{ReceivedMessage, RecvBatch, RecvMeta};
use crate::net::send_notes::SendNotes;
use crate::net::system::stream::descriptor;
use crate::state::udp_send_queue::{Transmit, UdpSendQueue};

/// A UDP socket and its options.
pub(crate) struct PlainUdpSocket {
    pub(crate) inner: mio::net::UdpSocket,
    pub(crate) is_v6: bool,
    /// Maximum number of bytes kept of a datagram.
    pub(crate) datagram_bytes_max: usize,
    /// Whether it is bound to a wildcard address, so that datagrams come with packet information.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "packet information is implemented only for Linux")
    )]
    pub(crate) has_packet_info: bool,
    /// Buffer for the control messages of a datagram, also for the other ones of an inherited socket.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "control messages are implemented only for Linux")
    )]
    pub(crate) control: Vec<u8>,
    /// Whether it was opened elsewhere, with unknown options.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "packet information is implemented only for Linux")
    )]
    pub(crate) is_inherited: bool,
}

impl PlainUdpSocket {
    pub(crate) fn new(socket: std::net::UdpSocket, datagram_bytes_max: usize, is_inherited: bool) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let inner = mio::net::UdpSocket::from_std(socket);
        let (is_v6, has_packet_info) = (address.is_ipv6(), to_canonical(address).ip().is_unspecified());
        let mut socket = Self { inner, is_v6, datagram_bytes_max, has_packet_info, control: Vec::new(), is_inherited };
        set_options(&mut socket)?;
        Ok(socket)
    }

    pub(crate) fn inner(&mut self) -> &mut mio::net::UdpSocket {
        &mut self.inner
    }

    pub(crate) fn descriptor(&self) -> usize {
        descriptor(&self.inner)
    }

    /// Receives one datagram, whatever the maximum. Only the next receive shows whether there are more.
    pub(crate) fn recv_datagrams(&mut self, batch: &mut RecvBatch, _most: usize) -> io::Result<bool> {
        receive(self, batch)?;
        Ok(true)
    }

    /// Sends datagrams one by one, notes each call, and reports the outcome of each.
    pub(crate) fn send_datagrams(
        &self,
        transmits: &[Transmit],
        send_queue: &UdpSendQueue,
        notes: &mut SendNotes<'_>,
        mut outcome: impl FnMut(&Transmit, io::Result<()>),
    ) {
        if notes.are_wanted() {
            return self.send_noted(transmits, send_queue, notes, &mut outcome);
        }
        for datagram in transmits.iter().copied().flat_map(Transmit::datagrams) {
            let sent = loop {
                match self.send_one(&datagram, send_queue) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            outcome(&datagram, sent);
        }
    }

    /// The same with notes: they would cost the loop above its registers.
    #[cold]
    fn send_noted(
        &self,
        transmits: &[Transmit],
        send_queue: &UdpSendQueue,
        notes: &mut SendNotes<'_>,
        outcome: &mut dyn FnMut(&Transmit, io::Result<()>),
    ) {
        for datagram in transmits.iter().copied().flat_map(Transmit::datagrams) {
            let sent = loop {
                let sent = self.send_one(&datagram, send_queue);
                if self.has_family_of(datagram.to) {
                    notes.note_single(&sent);
                }
                match sent {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            notes.note_datagram(&datagram, sent.as_ref().err(), send_queue);
            outcome(&datagram, sent);
        }
    }

    #[expect(clippy::inline_always, reason = "a call would cost more than the function saves in size")]
    #[inline(always)]
    fn send_one(&self, transmit: &Transmit, send_queue: &UdpSendQueue) -> io::Result<()> {
        if !self.has_family_of(transmit.to) {
            return Err(other_family());
        }
        send(self, transmit.to, transmit.from, send_queue.payload(transmit))
    }

    /// Whether this socket can send to an address. An IPv6 socket can send to IPv4 addresses, too.
    pub(crate) fn has_family_of(&self, address: SocketAddr) -> bool {
        self.is_v6 || address.is_ipv4()
    }

    /// Converts a peer's address to the socket's family.
    pub(crate) fn to_own_family(&self, peer: SocketAddr) -> SocketAddr {
        match peer {
            SocketAddr::V4(v4) if self.is_v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
            other => other,
        }
    }
}

/// The error of a datagram to an address of another family. It cannot be encoded for the socket, and without an
/// address the datagram would go to the peer of a connected socket.
fn other_family() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "address family not supported by the socket: an IPv4 socket cannot send to an IPv6 address",
    )
}

/// The peer of a datagram without a source address, which cannot be answered.
#[cfg(target_os = "linux")]
pub(crate) const UNKNOWN_PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

#[cfg(target_os = "linux")]
pub(crate) use linux::{SendControl, destination, has_other_control, merged_segment, std_addr};
#[cfg(target_os = "linux")]
use linux::{receive, send, set_options};

#[cfg(target_os = "linux")]
mod linux {
    use super::{
        PlainUdpSocket, ReceivedMessage, RecvBatch, RecvMeta, ScopedIp, SocketAddr, UNKNOWN_PEER, io, to_canonical,
    };
    use crate::limits;
    use crate::net::recv_batch::Destination;
    use nix::libc;
    use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, RxqOvfl, UdpGroSegment};
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, SockaddrLike, SockaddrStorage};
    use nix::sys::socket::{recvmsg, sendmsg, setsockopt};
    use std::io::{IoSlice, IoSliceMut};
    use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, SocketAddrV6};
    use std::os::fd::AsRawFd;

    /// Room for all control messages of fixed length in udp(7), ip(7), ipv6(7) and socket(7) at once.
    const INHERITED_CONTROL_BYTES: usize = 512;

    /// Called before the first receive: enables packet information on a wildcard socket, and allocates the buffer for
    /// control messages.
    pub(super) fn set_options(socket: &mut PlainUdpSocket) -> io::Result<()> {
        socket.control = nix::cmsg_space!(libc::c_int);
        if socket.has_packet_info {
            socket.control = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
        }
        if socket.is_inherited {
            socket.control = vec![0; INHERITED_CONTROL_BYTES];
            // With UDP_GRO, several datagrams could be received as one. The count of dropped datagrams comes with some
            // datagrams only, and would use the room of packet information. A kernel that does not know an option does
            // not apply it.
            let _ = setsockopt(&socket.inner, UdpGroSegment, &false);
            let _ = setsockopt(&socket.inner, RxqOvfl, &0);
        }
        match (socket.has_packet_info, socket.is_v6) {
            (false, _) => {}
            (true, true) => setsockopt(&socket.inner, Ipv6RecvPacketInfo, &true)?,
            (true, false) => setsockopt(&socket.inner, Ipv4PacketInfo, &true)?,
        }
        Ok(())
    }

    pub(super) fn receive(socket: &mut PlainUdpSocket, batch: &mut RecvBatch) -> io::Result<()> {
        let fd = socket.inner.as_raw_fd();
        let (mut buffers, received) = batch.prepare(socket.datagram_bytes_max, limits::DATAGRAM_BYTES_MAX, 1);
        let mut buffer = [IoSliceMut::new(buffers.next().unwrap_or_default())];
        let message = recvmsg::<SockaddrStorage>(fd, &mut buffer, Some(&mut socket.control[..]), MsgFlags::empty())?;
        let peer = message.address.as_ref().and_then(std_addr).map_or(UNKNOWN_PEER, to_canonical);
        let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
        let meta = RecvMeta { peer, dst: destination(&message), truncated };
        received.push(ReceivedMessage {
            len: message.bytes,
            segment: merged_segment(&message).unwrap_or(message.bytes),
            meta,
        });
        Ok(())
    }

    /// The length of the datagrams that the kernel has merged; `None` if it is one datagram.
    pub(crate) fn merged_segment<S: SockaddrLike>(message: &RecvMsg<'_, '_, S>) -> Option<usize> {
        message.cmsgs().ok()?.find_map(|control| match control {
            ControlMessageOwned::UdpGroSegments(segment) => usize::try_from(segment).ok(),
            _ => None,
        })
    }

    /// The destination address of the datagram, if packet information came with it.
    pub(crate) fn destination<S: SockaddrLike>(message: &RecvMsg<'_, '_, S>) -> Option<Destination> {
        message.cmsgs().ok()?.find_map(|control| packet_destination(&control))
    }

    /// Whether other control messages came with a datagram, or did not fit.
    pub(crate) fn has_other_control<S: SockaddrLike>(message: &RecvMsg<'_, '_, S>) -> bool {
        use ControlMessageOwned::{Ipv4PacketInfo, Ipv6PacketInfo};
        let is_other = |control| !matches!(control, Ipv4PacketInfo(_) | Ipv6PacketInfo(_));
        message.cmsgs().map_or(true, |mut controls| controls.any(is_other))
    }

    /// The destination address in packet information.
    fn packet_destination(control: &ControlMessageOwned) -> Option<Destination> {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                // They differ for a broadcast and a group, which are no source addresses for a reply. The kernel fills
                // `ipi_spec_dst` only for datagrams that arrived after the option was set; for earlier ones it is
                // unspecified.
                let [ip, local] = [info.ipi_addr, info.ipi_spec_dst].map(|ip| Ipv4Addr::from(ip.s_addr.to_ne_bytes()));
                Some(Destination::v4(ip, local))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let ip = ScopedIp::received(info.ipi6_addr.s6_addr.into(), info.ipi6_ifindex);
                Some(Destination::of(ip))
            }
            _ => None,
        }
    }

    pub(super) fn send(
        socket: &PlainUdpSocket,
        to: SocketAddr,
        from: Option<ScopedIp>,
        payload: &[u8],
    ) -> io::Result<()> {
        let Some(from) = from else {
            return socket.inner.send_to(payload, socket.to_own_family(to)).map(drop);
        };
        let to = SockaddrStorage::from(socket.to_own_family(to));
        let control = SendControl::new(Some(from), None, socket.is_v6);
        let (messages, count) = control.messages();
        let (fd, payload) = (socket.inner.as_raw_fd(), [IoSlice::new(payload)]);
        sendmsg(fd, &payload, &messages[..count], MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    /// Control messages of a send: the source address, and the segment size of a merged message.
    pub(crate) struct SendControl {
        packet_info: Option<PacketInfo>,
        segment: Option<u16>,
    }

    impl SendControl {
        pub(crate) fn new(from: Option<ScopedIp>, segment: Option<usize>, is_v6: bool) -> Self {
            let segment = segment.map(|segment| u16::try_from(segment).unwrap_or(u16::MAX));
            Self { packet_info: from.map(|from| PacketInfo::new(from, is_v6)), segment }
        }

        /// The control messages, at the front, and their number.
        pub(crate) fn messages(&self) -> ([ControlMessage<'_>; 2], usize) {
            let (mut messages, mut count) = ([ControlMessage::UdpGsoSegments(&0); 2], 0);
            let wanted = [
                self.packet_info.as_ref().map(PacketInfo::control),
                self.segment.as_ref().map(ControlMessage::UdpGsoSegments),
            ];
            for message in wanted.into_iter().flatten() {
                messages[count] = message;
                count += 1;
            }
            (messages, count)
        }
    }

    /// The source address of a datagram. The interface is not set, so the route decides it, except for an address of
    /// one interface.
    enum PacketInfo {
        V4(libc::in_pktinfo),
        V6(libc::in6_pktinfo),
    }

    impl PacketInfo {
        fn new(from: ScopedIp, is_v6: bool) -> Self {
            let v6 = match from.ip {
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
            Self::V6(libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: v6.octets() },
                ipi6_ifindex: from.scope_id,
            })
        }

        fn control(&self) -> ControlMessage<'_> {
            match self {
                Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
                Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
            }
        }
    }

    pub(crate) fn std_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn in_addr(ip: Ipv4Addr) -> libc::in_addr {
            libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) }
        }

        fn ip(text: &str) -> IpAddr {
            text.parse().expect("an address")
        }

        /// The packet information of a datagram to an address, on an IPv6 socket.
        fn v6_control(dst_ip: IpAddr) -> ControlMessageOwned {
            let v6 = match dst_ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let ipi6_addr = libc::in6_addr { s6_addr: v6.octets() };
            ControlMessageOwned::Ipv6PacketInfo(libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 7 })
        }

        #[test]
        fn the_destination_address_is_read_from_packet_information_of_both_families() {
            let ips = |control| packet_destination(&control).and_then(|dst| Some((dst.ip()?, dst.from)));
            for asked in ["2001:db8::1", "::1", "192.0.2.1"].map(ip) {
                assert_eq!(ips(v6_control(asked)), Some((asked.into(), Some(asked.into()))));
            }
            let scoped = ScopedIp { ip: ip("fe80::1"), scope_id: 7 };
            assert_eq!(ips(v6_control(scoped.ip)), Some((scoped, Some(scoped))));
            let by_interface = ScopedIp { ip: ip("::"), scope_id: 7 };
            for group in ["ff02::fb", "ff15::1"].map(ip) {
                let sent_to = ScopedIp { ip: group, scope_id: 7 };
                assert_eq!(ips(v6_control(group)), Some((sent_to, Some(by_interface))));
            }
            assert_eq!(ips(v6_control(ip("224.0.0.251"))), Some((ip("224.0.0.251").into(), None)), "the route decides");
            let v4_ips = |local: &str, sent_to: &str| {
                let [ipi_spec_dst, ipi_addr] = [local, sent_to].map(|ip| in_addr(ip.parse().expect("an address")));
                let control =
                    ControlMessageOwned::Ipv4PacketInfo(libc::in_pktinfo { ipi_ifindex: 7, ipi_spec_dst, ipi_addr });
                let (dst_ip, from) = ips(control).expect("it is packet information");
                assert_eq!(dst_ip, ip(sent_to).into());
                from.map(|from| from.ip)
            };
            for sent_to in ["192.0.2.1", "192.0.2.255", "255.255.255.255", "224.0.0.1"] {
                assert_eq!(v4_ips("192.0.2.1", sent_to), Some(ip("192.0.2.1")), "{sent_to}");
            }
            assert_eq!(v4_ips("0.0.0.0", "192.0.2.2"), Some(ip("192.0.2.2")), "queued before the option was set");
            assert_eq!(["255.255.255.255", "224.0.0.1"].map(|sent_to| v4_ips("0.0.0.0", sent_to)), [None; 2]);
            assert_eq!(packet_destination(&ControlMessageOwned::UdpGroSegments(9)), None);
        }

        #[test]
        fn datagrams_of_an_ipv6_socket_leave_from_the_destination_address_merged_or_not() {
            let scoped = ScopedIp { ip: ip("fe80::1"), scope_id: 7 };
            for from in [ip("2001:db8::1").into(), ip("192.0.2.1").into(), scoped] {
                for segment in [None, Some(9)] {
                    let control = SendControl::new(Some(from), segment, true);
                    let (messages, count) = control.messages();
                    let ControlMessage::Ipv6PacketInfo(info) = messages[0] else { panic!("{:?}", messages[0]) };
                    assert_eq!((info.ipi6_addr, info.ipi6_ifindex), (v6_ip(from.ip), from.scope_id));
                    assert_eq!(count, 1 + usize::from(segment.is_some()));
                }
            }
        }

        fn v6_ip(ip: IpAddr) -> libc::in6_addr {
            match v6_control(ip) {
                ControlMessageOwned::Ipv6PacketInfo(info) => info.ipi6_addr,
                other => panic!("{other:?}"),
            }
        }

        #[test]
        fn datagrams_of_an_ipv4_socket_leave_from_the_destination_address_merged_or_not() {
            for (segment, count) in [(None, 1), (Some(9), 2)] {
                let control = SendControl::new(Some(ip("192.0.2.1").into()), segment, false);
                let ControlMessage::Ipv4PacketInfo(info) = control.messages().0[0] else {
                    panic!("no packet information")
                };
                assert_eq!((info.ipi_spec_dst, info.ipi_ifindex), (in_addr(Ipv4Addr::new(192, 0, 2, 1)), 0));
                assert_eq!(control.messages().1, count);
            }
            assert_eq!(SendControl::new(None, None, false).messages().1, 0);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn receive(socket: &mut PlainUdpSocket, batch: &mut RecvBatch) -> io::Result<()> {
    // One byte more than the maximum, to detect a cut datagram.
    let (mut buffers, received) = batch.prepare(socket.datagram_bytes_max, socket.datagram_bytes_max + 1, 1);
    let (len, peer) = socket.inner.recv_from(buffers.next().unwrap_or_default())?;
    let meta = RecvMeta { peer: to_canonical(peer), dst: None, truncated: false };
    received.push(ReceivedMessage { len, segment: len, meta });
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn send(socket: &PlainUdpSocket, to: SocketAddr, _from: Option<ScopedIp>, payload: &[u8]) -> io::Result<()> {
    socket.inner.send_to(payload, socket.to_own_family(to)).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn set_options(_socket: &mut PlainUdpSocket) -> io::Result<()> {
    Ok(())
}
