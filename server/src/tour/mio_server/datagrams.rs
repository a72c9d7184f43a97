//! The UDP socket of a server on mio.
//!
//! Packet information (`IP_PKTINFO`) says which address was asked. A reply leaves from there.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use halloo::observe::EntryKind;
use mio::Interest;
use mio::net::UdpSocket;

use crate::tour::mio_server::noted_mio::{NotedPoll, UDP_SOCKET, descriptor, with_result};
use crate::tour::mio_server::notes::{Noted, Notes};

/// Replies to one source in a second. Two servers that answer each other stop at this rate.
const REPLIES_PER_SECOND: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// Sources with replies in one second. Forged sources must not fill the memory.
const SOURCES_MAX: usize = 1024;

/// The longest datagram, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A datagram.
pub(crate) struct Received {
    pub(crate) payload: Vec<u8>,
    pub(crate) source: SocketAddr,
    /// The address that it was sent to.
    pub(crate) destination: Option<Ipv4Addr>,
}

impl Received {
    /// Whether a reply can reach one client: not port 0, not a group, not a broadcast address.
    pub(crate) fn is_from_possible_client(&self) -> bool {
        let is_group = match self.source.ip() {
            IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified(),
            IpAddr::V6(ip) => ip.is_multicast() || ip.is_unspecified(),
        };
        self.source.port() != 0 && !is_group
    }
}

/// A UDP socket whose calls are noted.
pub(crate) struct NotedUdpSocket {
    socket: UdpSocket,
    notes: Notes,
    /// Replies to each source in the second that began at this time.
    replies: HashMap<IpAddr, (Instant, u32)>,
}

impl NotedUdpSocket {
    /// Registers a socket.
    pub(crate) fn new(socket: std::net::UdpSocket, poll: &NotedPoll, notes: Notes) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        platform::ask_for_destination(&socket)?;
        let mut socket = UdpSocket::from_std(socket);
        let opened = Noted::UDP_SOCKET.entry(EntryKind::Bound).numbers([descriptor(&socket), 0]);
        notes.add_with_address(opened, socket.local_addr()?);
        // Not for writing: each reply that has left would be an event, too, and would hide that others were missed.
        poll.register(&mut socket, UDP_SOCKET, Interest::READABLE, Noted::UDP_SOCKET)?;
        Ok(Self { socket, notes, replies: HashMap::new() })
    }

    pub(crate) fn receive(&self) -> io::Result<Received> {
        let mut payload = vec![0; DATAGRAM_BYTES_MAX];
        let result = platform::receive(&self.socket, &mut payload);
        let count = u64::from(result.is_ok());
        let entry = Noted::UDP_SOCKET.entry(EntryKind::ReceiveBatch).numbers([count, 1]);
        self.notes.add(with_result(entry, &result));
        let (bytes, source, destination) = result?;
        payload.truncate(bytes);
        let entry = Noted::UDP_SOCKET.entry(EntryKind::DatagramIn).numbers([bytes as u64, 0]);
        self.notes.add_with_address(entry, source);
        Ok(Received { payload, source, destination })
    }

    /// Takes one reply from what a source may get in this second.
    pub(crate) fn has_allowance(&mut self, source: IpAddr) -> bool {
        let now = Instant::now();
        if !self.has_room_for(source, now) {
            return false;
        }
        let (since, replies) = self.replies.entry(source).or_insert((now, 0));
        if now.duration_since(*since) >= SECOND {
            (*since, *replies) = (now, 0);
        }
        *replies += 1;
        *replies <= REPLIES_PER_SECOND
    }

    /// Whether this source is counted, or can be. Sources whose second is over are forgotten.
    fn has_room_for(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.replies.len() == SOURCES_MAX {
            self.replies.retain(|_, (since, _)| now.duration_since(*since) < SECOND);
        }
        self.replies.len() < SOURCES_MAX || self.replies.contains_key(&source)
    }

    /// Sends a datagram from this address. A datagram that the kernel does not accept is lost, as on the network.
    pub(crate) fn send_from(&self, source: Option<Ipv4Addr>, payload: &[u8], target: SocketAddr) {
        let result = platform::send_from(&self.socket, source, payload, target);
        self.note_sent(payload, target, &result);
    }

    /// Sends a datagram. The kernel chooses the address that it leaves from.
    pub(crate) fn send_to(&self, payload: &[u8], target: SocketAddr) {
        let result = self.socket.send_to(payload, target);
        self.note_sent(payload, target, &result);
    }

    fn note_sent(&self, payload: &[u8], target: SocketAddr, result: &io::Result<usize>) {
        let count = u64::from(result.is_ok());
        let entry = Noted::UDP_SOCKET.entry(EntryKind::SendBatch).numbers([count, 1]);
        self.notes.add(with_result(entry, result));
        let entry = Noted::UDP_SOCKET.entry(EntryKind::DatagramOut).numbers([payload.len() as u64, 0]);
        self.notes.add_with_address(with_result(entry, result), target);
    }
}

/// Packet information on Linux: `IP_PKTINFO` of ip(7).
#[cfg(target_os = "linux")]
mod platform {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
    use std::os::fd::{AsFd, AsRawFd};

    use nix::libc::in_pktinfo;
    use nix::sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
    };

    pub(super) fn ask_for_destination(socket: &impl AsFd) -> io::Result<()> {
        Ok(setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?)
    }

    pub(super) fn receive(
        socket: &impl AsRawFd,
        payload: &mut [u8],
    ) -> io::Result<(usize, SocketAddr, Option<Ipv4Addr>)> {
        let mut space = nix::cmsg_space!(in_pktinfo);
        let mut parts = [IoSliceMut::new(payload)];
        let message = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
        let source = message.address.ok_or(io::ErrorKind::InvalidData)?;
        let destination = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(asked_address(&info)),
            _ => None,
        });
        Ok((message.bytes, SocketAddrV4::from(source).into(), destination))
    }

    /// The address of this host that was asked. After a broadcast it is not the address in the header, `ipi_addr`; for
    /// datagrams that came before `IP_PKTINFO` was set it is only there.
    pub(super) fn asked_address(info: &in_pktinfo) -> Ipv4Addr {
        let [local, header] =
            [info.ipi_spec_dst, info.ipi_addr].map(|address| Ipv4Addr::from_bits(u32::from_be(address.s_addr)));
        if local.is_unspecified() { header } else { local }
    }

    pub(super) fn send_from(
        socket: &impl AsRawFd,
        source: Option<Ipv4Addr>,
        payload: &[u8],
        target: SocketAddr,
    ) -> io::Result<usize> {
        let SocketAddr::V4(target) = target else { return Err(io::ErrorKind::Unsupported.into()) };
        let info = in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: nix::libc::in_addr { s_addr: source.map_or(0, |ip| ip.to_bits().to_be()) },
            ipi_addr: nix::libc::in_addr { s_addr: 0 },
        };
        let parts = [IoSlice::new(payload)];
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        let flags = MsgFlags::empty();
        Ok(sendmsg(socket.as_raw_fd(), &parts, &control, flags, Some(&SockaddrIn::from(target)))?)
    }
}

/// Elsewhere the socket is bound to one address, and every reply leaves from there.
#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;
    use std::net::{Ipv4Addr, SocketAddr};

    use mio::net::UdpSocket;

    pub(super) fn ask_for_destination(_: &std::net::UdpSocket) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn receive(socket: &UdpSocket, payload: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<Ipv4Addr>)> {
        let (bytes, source) = socket.recv_from(payload)?;
        Ok((bytes, source, None))
    }

    pub(super) fn send_from(
        socket: &UdpSocket,
        _: Option<Ipv4Addr>,
        payload: &[u8],
        target: SocketAddr,
    ) -> io::Result<usize> {
        socket.send_to(payload, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted_socket() -> NotedUdpSocket {
        let notes = Notes::new();
        let poll = NotedPoll::new(notes.clone()).expect("a poll");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        NotedUdpSocket::new(socket, &poll, notes).expect("registered")
    }

    #[test]
    fn a_source_gets_a_limited_number_of_replies_a_second() {
        let mut socket = noted_socket();
        let source = IpAddr::from([192, 0, 2, 1]);
        let allowed = (0..1000).filter(|_| socket.has_allowance(source)).count();
        assert!(allowed >= 100 && allowed.is_multiple_of(100), "{allowed}");
        assert!(socket.has_allowance([192, 0, 2, 2].into()), "another source");
    }

    #[test]
    fn many_forged_sources_do_not_fill_the_memory() {
        let mut socket = noted_socket();
        for number in 0..5_000_u32 {
            socket.has_allowance(Ipv4Addr::from_bits(number).into());
        }
        assert!((1..=SOURCES_MAX).contains(&socket.replies.len()), "{} sources", socket.replies.len());
        let known = *socket.replies.keys().next().expect("a source");
        assert!(socket.has_allowance(known));
    }

    #[test]
    fn only_an_address_of_one_client_is_answered() {
        for (source, is_possible) in [
            ("192.0.2.1:7", true),
            ("192.0.2.1:0", false),
            ("224.0.0.1:7", false),
            ("255.255.255.255:7", false),
            ("0.0.0.0:7", false),
            ("[ff02::1]:7", false),
        ] {
            let source = source.parse().expect("an address");
            let datagram = Received { payload: Vec::new(), source, destination: None };
            assert_eq!(datagram.is_from_possible_client(), is_possible, "{source}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_asked_address_is_the_local_one_of_a_broadcast_and_that_of_the_header_without_a_local_one() {
        let info = |local: [u8; 4], header: [u8; 4]| nix::libc::in_pktinfo {
            ipi_ifindex: 1,
            ipi_spec_dst: nix::libc::in_addr { s_addr: u32::from_ne_bytes(local) },
            ipi_addr: nix::libc::in_addr { s_addr: u32::from_ne_bytes(header) },
        };
        let asked = platform::asked_address(&info([192, 0, 2, 1], [192, 0, 2, 255]));
        assert_eq!(asked, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(platform::asked_address(&info([0; 4], [127, 0, 0, 2])), Ipv4Addr::new(127, 0, 0, 2));
    }
}
