//! Datagrams on Linux, many a call: recvmmsg(2), sendmmsg(2), and neighbouring replies to one peer as one message that
//! the kernel cuts up again (udp(7), `UDP_SEGMENT`).
//!
//! Letters leave in the order they were staged, each as a datagram of its own, whatever carries it. A failed call is
//! about one message: what stands before it has gone, what stands behind it is tried again, and a merged one that the
//! kernel or the device will not cut up goes letter by letter. Where the kernel has no such calls, each datagram has one
//! of its own, in [`packets`](crate::net::system::udp_socket).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::UdpGsoSegment;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, getsockopt, recvmmsg, sendmmsg,
};

use crate::limits::DATAGRAMS_PER_CALL_MAX;
use crate::net::recv_batch::{Arrival, Batch, Envelope};
use crate::net::system::udp_socket::{NOBODY, Origin, Packets, asked, canonical};
use crate::state::send_queue::{Letter, Staged, mergeable};

/// A UDP socket whose datagrams come and go in batches.
pub(crate) struct Batches {
    packets: Packets,
    /// `None` once the kernel has refused batches.
    headers: Option<Headers>,
    /// Whether the kernel, and the device as far as is known, cut merged messages up again.
    merges: bool,
}

impl Batches {
    pub(crate) fn new(socket: std::net::UdpSocket, room: usize) -> io::Result<Self> {
        let packets = Packets::new(socket, room)?;
        // A kernel that does not know the option would send what is merged as one long datagram.
        let merges = getsockopt(&packets.socket, UdpGsoSegment).is_ok();
        Ok(Self { headers: Some(Headers::new(&packets)), packets, merges })
    }

    pub(crate) fn socket(&mut self) -> &mut UdpSocket {
        self.packets.socket()
    }

    /// Receives a batch. There may be more, without an edge to come, exactly if it is full.
    ///
    /// A short one ended at an empty queue, and what comes after that raises an edge; or at an error of the socket, which
    /// the kernel keeps for the next call (recvmmsg(2), BUGS). One that was there when the call began ends it at once, so
    /// this one has come since, and so since the last poll: its own edge is still to be told, and has the rest received.
    /// What a security module refuses in the middle of a batch has no edge, and waits for the next datagram's.
    pub(crate) fn receive(&mut self, batch: &mut Batch, most: usize) -> io::Result<bool> {
        let received = match &mut self.headers {
            Some(Headers::V4(headers)) => headers.receive(&self.packets, batch, most),
            Some(Headers::V6(headers)) => headers.receive(&self.packets, batch, most),
            None => return self.packets.receive(batch, most),
        };
        if received == Err(Errno::ENOSYS) {
            self.headers = None;
            return self.packets.receive(batch, most);
        }
        Ok(received?)
    }

    /// Sends letters, and says for each what became of it.
    pub(crate) fn transmit(
        &mut self,
        letters: &[Letter],
        staged: &Staged,
        mut outcome: impl FnMut(&Letter, io::Result<()>),
    ) {
        let mut rest = letters;
        // So many of them were refused as one message.
        let mut alone = 0;
        while !rest.is_empty() {
            // A batch of one costs more than the plain call, unless that has control messages to lay out.
            if let [Letter { from: None, .. }] = rest {
                return self.packets.transmit(rest, staged, outcome);
            }
            let call = match alone {
                0 => Call::of(rest, staged, self.merges),
                count => Call::of(&rest[..count], staged, false),
            };
            let sent = match &mut self.headers {
                Some(Headers::V4(headers)) => headers.send(&self.packets, &call),
                Some(Headers::V6(headers)) => headers.send(&self.packets, &call),
                None => return self.packets.transmit(rest, staged, outcome),
            };
            let done = match sent {
                Ok(messages) => {
                    let letters = call.letters_in(messages);
                    rest[..letters].iter().for_each(|letter| outcome(letter, Ok(())));
                    letters
                }
                Err(Errno::EINTR) => 0,
                Err(Errno::ENOSYS) => {
                    self.headers = None;
                    0
                }
                Err(error) if call.segment.is_some() && self.is_about_merging(error) => {
                    alone = call.letters_in(1);
                    0
                }
                Err(error) => {
                    outcome(&rest[0], Err(error.into()));
                    1
                }
            };
            rest = &rest[done..];
            alone = alone.saturating_sub(done);
        }
    }

    /// Whether a message may have failed only because it was to be cut up again.
    fn is_about_merging(&mut self, error: Errno) -> bool {
        match error {
            // Longer than the path to that peer takes, where a datagram of its own may be fragmented.
            Errno::EINVAL | Errno::EMSGSIZE => true,
            // The device cannot, or the transformation (IPsec) on the way to it.
            Errno::EIO | Errno::EOPNOTSUPP => {
                self.merges = false;
                log::debug!("{:?}: sends replies unmerged from now on: {error}", self.packets.socket.local_addr());
                true
            }
            _ => false,
        }
    }
}

/// One call's worth of letters, as messages that can share a call.
struct Call<'a> {
    messages: [[IoSlice<'a>; 1]; DATAGRAMS_PER_CALL_MAX],
    /// By message: the letters merged in it.
    letters: [&'a [Letter]; DATAGRAMS_PER_CALL_MAX],
    count: usize,
    from: Option<IpAddr>,
    /// The length of a letter in merged messages. A message that is no longer is not cut.
    segment: Option<usize>,
}

impl<'a> Call<'a> {
    /// Takes as many letters from the front as can go: one set of control messages is for all, so they leave from one
    /// address, and what is merged is cut to one length.
    fn of(letters: &'a [Letter], staged: &'a Staged, merges: bool) -> Self {
        let mut call = Self {
            messages: [[IoSlice::new(&[])]; DATAGRAMS_PER_CALL_MAX],
            letters: [&[]; DATAGRAMS_PER_CALL_MAX],
            count: 0,
            from: letters.first().and_then(|letter| letter.from),
            segment: None,
        };
        let (mut rest, mut longest) = (letters, 0);
        while let [first, ..] = rest
            && call.count < DATAGRAMS_PER_CALL_MAX
            && first.from == call.from
        {
            let (message, behind) = rest.split_at(if merges { mergeable(rest) } else { 1 });
            let is_merged = message.len() > 1;
            let segment = if is_merged { call.segment.or(Some(first.length())) } else { call.segment };
            longest = first.length().max(longest);
            if segment.is_some_and(|segment| longest > segment || (is_merged && first.length() < segment)) {
                break;
            }
            call.segment = segment;
            call.messages[call.count] = [IoSlice::new(staged.merged(message))];
            call.letters[call.count] = message;
            call.count += 1;
            rest = behind;
        }
        call
    }

    /// How many letters stand in its first messages.
    fn letters_in(&self, messages: usize) -> usize {
        self.letters[..messages].iter().map(|merged| merged.len()).sum()
    }
}

/// What the kernel is handed with every batch, kept from call to call.
enum Headers {
    V4(Box<FamilyHeaders<SockaddrIn>>),
    V6(Box<FamilyHeaders<SockaddrIn6>>),
}

/// As many datagrams as one call is first asked for.
const FEW: usize = 8;

struct FamilyHeaders<S> {
    /// Whether the last batch was of many.
    many: bool,
    incoming: MultiHeaders<S>,
    /// By the control messages they have room for: an origin, a segment. The kernel wants that room filled.
    outgoing: [[Option<MultiHeaders<S>>; 2]; 2],
    to: Vec<Option<S>>,
}

impl Headers {
    fn new(packets: &Packets) -> Self {
        if packets.is_v6 {
            Self::V6(Box::new(FamilyHeaders::new(packets)))
        } else {
            Self::V4(Box::new(FamilyHeaders::new(packets)))
        }
    }
}

impl<S: Family> FamilyHeaders<S> {
    fn new(packets: &Packets) -> Self {
        let to = Vec::with_capacity(DATAGRAMS_PER_CALL_MAX);
        Self { many: false, incoming: incoming(packets), outgoing: Default::default(), to }
    }

    fn receive(&mut self, packets: &Packets, batch: &mut Batch, most: usize) -> nix::Result<bool> {
        // Room for many has to be laid out with each call, whether many come or one.
        let (count, is_full) = if self.many {
            self.receive_up_to::<DATAGRAMS_PER_CALL_MAX>(packets, batch, most)?
        } else {
            self.receive_up_to::<FEW>(packets, batch, most)?
        };
        self.many = count >= FEW;
        Ok(is_full)
    }

    /// Says how many have come, and whether that is as many as could.
    fn receive_up_to<const MOST: usize>(
        &mut self,
        packets: &Packets,
        batch: &mut Batch,
        most: usize,
    ) -> nix::Result<(usize, bool)> {
        let (mut rooms, arrived) = batch.open(packets.room);
        let most = most.min(rooms.len()).min(MOST);
        let mut places: [[IoSliceMut<'_>; 1]; MOST] =
            std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let fd = packets.socket.as_raw_fd();
        let mut is_uninformed = false;
        for message in recvmmsg(fd, &mut self.incoming, places.iter_mut().take(most), MsgFlags::empty(), None)? {
            let asked = if packets.is_informed() { asked(&message) } else { None };
            is_uninformed |= packets.is_informed() && asked.is_none();
            let peer = message.address.map_or(NOBODY, |address| canonical(address.into()));
            let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
            arrived.push(Arrival { length: message.bytes, envelope: Envelope { peer, asked, truncated } });
        }
        // A header keeps the room for control messages that its last datagram filled, which was none.
        if is_uninformed {
            self.incoming = incoming(packets);
        }
        Ok((arrived.len(), arrived.len() == most))
    }

    /// Says how many messages have gone.
    fn send(&mut self, packets: &Packets, call: &Call<'_>) -> nix::Result<usize> {
        let origin = call.from.map(|from| Origin::new(from, packets.is_v6));
        let segment = call.segment.map(|segment| u16::try_from(segment).unwrap_or(u16::MAX));
        let (mut controls, mut used) = ([ControlMessage::UdpGsoSegments(&0); 2], 0);
        let wanted = [origin.as_ref().map(Origin::control), segment.as_ref().map(ControlMessage::UdpGsoSegments)];
        for control in wanted.into_iter().flatten() {
            controls[used] = control;
            used += 1;
        }
        let headers = &mut self.outgoing[usize::from(origin.is_some())][usize::from(segment.is_some())];
        let headers = headers.get_or_insert_with(|| outgoing(packets, origin.is_some(), segment.is_some()));
        self.to.clear();
        let to = call.letters[..call.count].iter().filter_map(|merged| merged.first());
        self.to.extend(to.map(|letter| S::of(packets.written(letter.to))));
        let messages = call.messages[..call.count].iter();
        let sent =
            sendmmsg(packets.socket.as_raw_fd(), headers, messages, &self.to, &controls[..used], MsgFlags::empty())?;
        Ok(sent.count())
    }
}

fn incoming<S: Family>(packets: &Packets) -> MultiHeaders<S> {
    let control = packets.is_informed().then(|| nix::cmsg_space!(libc::in6_pktinfo));
    MultiHeaders::preallocate(DATAGRAMS_PER_CALL_MAX, control)
}

fn outgoing<S: Family>(packets: &Packets, origin: bool, segment: bool) -> MultiHeaders<S> {
    let control = match (origin, segment, packets.is_v6) {
        (false, false, _) => None,
        (false, true, _) => Some(nix::cmsg_space!(u16)),
        (true, false, false) => Some(nix::cmsg_space!(libc::in_pktinfo)),
        (true, false, true) => Some(nix::cmsg_space!(libc::in6_pktinfo)),
        (true, true, false) => Some(nix::cmsg_space!(libc::in_pktinfo, u16)),
        (true, true, true) => Some(nix::cmsg_space!(libc::in6_pktinfo, u16)),
    };
    MultiHeaders::preallocate(DATAGRAMS_PER_CALL_MAX, control)
}

/// An address family's addresses, as the kernel has them.
trait Family: SockaddrLike + Copy + Into<SocketAddr> {
    /// `None` for an address of another family.
    fn of(address: SocketAddr) -> Option<Self>;
}

impl Family for SockaddrIn {
    fn of(address: SocketAddr) -> Option<Self> {
        match address {
            SocketAddr::V4(v4) => Some(v4.into()),
            SocketAddr::V6(_) => None,
        }
    }
}

impl Family for SockaddrIn6 {
    fn of(address: SocketAddr) -> Option<Self> {
        match address {
            SocketAddr::V6(v6) => Some(v6.into()),
            SocketAddr::V4(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::setsockopt;
    use nix::sys::socket::sockopt::Ipv4PacketInfo;
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
    use std::time::Duration;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    /// How a socket may have to work.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Way {
        Merging,
        Batches,
        OneByOne,
    }

    const WAYS: [Way; 3] = [Way::Merging, Way::Batches, Way::OneByOne];

    fn bound(way: Way, ip: IpAddr, room: usize) -> (Batches, u16) {
        let socket = UdpSocket::bind((ip, 0)).expect("a free port");
        socket.set_nonblocking(true).expect("it can be");
        let port = socket.local_addr().expect("it is bound").port();
        let mut batches = Batches::new(socket, room).expect("a socket");
        assert!(batches.merges, "this kernel merges");
        batches.merges = way == Way::Merging;
        if way == Way::OneByOne {
            batches.headers = None;
        }
        (batches, port)
    }

    fn peer(ip: IpAddr) -> UdpSocket {
        let peer = UdpSocket::bind((ip, 0)).expect("a free port");
        peer.set_read_timeout(Some(Duration::from_secs(20))).expect("it can be");
        peer
    }

    fn address(peer: &UdpSocket) -> SocketAddr {
        peer.local_addr().expect("it is bound")
    }

    fn hear(peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut room = vec![0; 65_535];
        let (length, from) = peer.recv_from(&mut room).expect("something comes");
        room.truncate(length);
        (room, from)
    }

    /// Everything that waits at a socket.
    fn receive_all(batches: &mut Batches, most: usize) -> Vec<(Envelope, Vec<u8>)> {
        let (mut batch, mut all) = (Batch::default(), Vec::new());
        while batches.receive(&mut batch, most).is_ok() {
            let before = all.len();
            while let Some((envelope, payload)) = batch.next() {
                all.push((envelope, payload.to_vec()));
            }
            assert!((1..=most).contains(&(all.len() - before)));
        }
        all
    }

    /// Sends letters, and tells which were lost.
    fn transmit(
        batches: &mut Batches,
        letters: &[(SocketAddr, Option<IpAddr>, Vec<u8>)],
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        let (mut staged, mut lost, mut told) = (Staged::default(), Vec::new(), 0);
        for (to, from, payload) in letters {
            assert!(staged.push(0, *to, *from, payload));
        }
        staged.group();
        batches.transmit(&staged.letters, &staged, |letter, sent| {
            told += 1;
            if sent.is_err() {
                lost.push((letter.to, staged.payload(letter).to_vec()));
            }
        });
        assert_eq!(told, letters.len(), "each letter's outcome is told, once");
        lost
    }

    #[test]
    fn a_hundred_datagrams_of_several_peers_all_come_each_peers_in_order() {
        for way in WAYS {
            let (mut batches, port) = bound(way, LOOPBACK, 65_535);
            let peers: Vec<UdpSocket> = (0..5).map(|_| peer(LOOPBACK)).collect();
            for number in 0..20u8 {
                for peer in &peers {
                    peer.send_to(&vec![number; usize::from(number)], (LOOPBACK, port)).expect("it is sent");
                }
            }
            let all = receive_all(&mut batches, 64);
            for peer in &peers {
                let own = all.iter().filter(|(envelope, _)| envelope.peer == address(peer));
                let payloads: Vec<Vec<u8>> = own.map(|(_, payload)| payload.clone()).collect();
                let expected: Vec<Vec<u8>> = (0..20u8).map(|number| vec![number; usize::from(number)]).collect();
                assert_eq!(payloads, expected, "{way:?}");
            }
            assert!(
                all.len() == 100 && all.iter().all(|(envelope, _)| !envelope.truncated && envelope.asked.is_none())
            );
        }
    }

    #[test]
    fn only_a_full_batch_says_that_there_may_be_more() {
        let (mut batches, port) = bound(Way::Merging, LOOPBACK, 65_535);
        let peer = peer(LOOPBACK);
        for _ in 0..5 {
            peer.send_to(b"x", (LOOPBACK, port)).expect("it is sent");
        }
        let mut batch = Batch::default();
        let mut receive = || {
            let outcome = batches.receive(&mut batch, 3).map_err(|error| error.kind());
            (outcome, std::iter::from_fn(|| batch.next().map(drop)).count())
        };
        assert_eq!(
            [receive(), receive(), receive()],
            [(Ok(true), 3), (Ok(false), 2), (Err(io::ErrorKind::WouldBlock), 0)]
        );
    }

    #[test]
    fn a_datagram_longer_than_its_room_is_cut_and_says_so_and_those_beside_it_are_whole() {
        for way in WAYS {
            let (mut batches, port) = bound(way, LOOPBACK, 4);
            let peer = peer(LOOPBACK);
            for length in [0, 5, 3, 4, 100, 0] {
                peer.send_to(&b"0123456789".repeat(10)[..length], (LOOPBACK, port)).expect("it is sent");
            }
            let all = receive_all(&mut batches, 64);
            let seen: Vec<(&[u8], bool)> =
                all.iter().map(|(envelope, bytes)| (&bytes[..], envelope.truncated)).collect();
            let expected = [(0, false), (4, true), (3, false), (4, false), (4, true), (0, false)];
            assert_eq!(seen, expected.map(|(length, truncated)| (&b"0123"[..length], truncated)), "{way:?}");
        }
    }

    #[test]
    fn letters_arrive_as_the_datagrams_they_are_in_order_whatever_carries_them() {
        for way in WAYS {
            let (mut batches, port) = bound(way, LOOPBACK, 65_535);
            let peers: Vec<UdpSocket> = (0..3).map(|_| peer(LOOPBACK)).collect();
            // Of one length; the last shorter; empty ones, longer ones and one that fills a datagram among them.
            let lengths: [&[usize]; 3] = [&[18; 100], &[18, 18, 18, 7], &[5, 0, 0, 9, 9, 9, 60_000, 9, 1, 9]];
            let mut letters = Vec::new();
            for number in 0..100 {
                for (peer, lengths) in peers.iter().zip(lengths) {
                    if let Some(length) = lengths.get(number) {
                        letters.push((address(peer), None, vec![u8::try_from(number).expect("below 100"); *length]));
                    }
                }
            }
            assert_eq!(transmit(&mut batches, &letters), []);
            for (peer, lengths) in peers.iter().zip(lengths) {
                for (number, length) in lengths.iter().enumerate() {
                    let expected = vec![u8::try_from(number).expect("below 100"); *length];
                    assert!(hear(peer) == (expected, (LOOPBACK, port).into()), "{way:?}: {number}");
                }
            }
        }
    }

    /// Binds at every address; peers ask at several, three times each, and are answered there.
    fn ask_everywhere(way: Way, bind: IpAddr, asked: &[IpAddr]) {
        let (mut batches, port) = bound(way, bind, 65_535);
        let peers: Vec<UdpSocket> = asked.iter().map(|ip| peer(*ip)).collect();
        for _ in 0..3 {
            for (peer, ip) in peers.iter().zip(asked) {
                peer.send_to(b"where?", (*ip, port)).expect("it is sent");
            }
        }
        let mut letters = Vec::new();
        for (envelope, _) in receive_all(&mut batches, 4) {
            let place = peers.iter().position(|peer| address(peer) == envelope.peer).expect("one of them");
            assert_eq!(envelope.asked, Some(asked[place]), "{way:?}");
            letters.push((envelope.peer, envelope.asked, b"here".to_vec()));
        }
        assert_eq!((letters.len(), transmit(&mut batches, &letters)), (3 * asked.len(), vec![]), "{way:?}");
        for (peer, ip) in peers.iter().zip(asked) {
            for _ in 0..3 {
                assert_eq!(hear(peer), (b"here".to_vec(), (*ip, port).into()), "{way:?}");
            }
        }
    }

    #[test]
    fn answers_leave_from_the_addresses_that_were_asked_merged_or_not() {
        for way in WAYS {
            ask_everywhere(way, Ipv4Addr::UNSPECIFIED.into(), &[LOOPBACK, SECOND]);
            // Where a machine has no IPv6, the tests of the library say so.
            if UdpSocket::bind("[::1]:0").is_ok() {
                ask_everywhere(way, Ipv6Addr::UNSPECIFIED.into(), &[Ipv6Addr::LOCALHOST.into(), LOOPBACK, SECOND]);
            }
        }
    }

    #[test]
    fn an_error_costs_the_letter_it_is_about_and_no_other() {
        // Nobody has allowed this socket to broadcast.
        let refused = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
        for way in WAYS {
            let (mut batches, _) = bound(way, LOOPBACK, 65_535);
            let peers: Vec<UdpSocket> = (0..3).map(|_| peer(LOOPBACK)).collect();
            let mut letters = Vec::new();
            for peer in &peers {
                letters.push((refused, None, b"not here".to_vec()));
                for number in 0..3 {
                    letters.push((address(peer), None, vec![number; 8]));
                }
            }
            assert_eq!(transmit(&mut batches, &letters), vec![(refused, b"not here".to_vec()); 3], "{way:?}");
            for peer in &peers {
                assert_eq!([0, 1, 2].map(|_| hear(peer).0), [0, 1, 2].map(|number| vec![number; 8]), "{way:?}");
            }
            assert_eq!(batches.merges, way == Way::Merging, "that was no reason to give up merging");
        }
    }

    #[test]
    fn a_peer_that_has_gone_costs_nobody_else_a_letter_or_a_datagram() {
        for way in WAYS {
            let (mut batches, port) = bound(way, LOOPBACK, 65_535);
            let (gone, here) = (address(&peer(LOOPBACK)), peer(LOOPBACK));
            let letters = [gone, address(&here)].map(|to| vec![(to, None, b"for you".to_vec()); 4]).concat();
            for _ in 0..3 {
                assert_eq!(transmit(&mut batches, &letters), [], "{way:?}");
                here.send_to(b"for you, too", (LOOPBACK, port)).expect("it is sent");
                assert_eq!([(); 4].map(|()| hear(&here).0), [(); 4].map(|()| b"for you".to_vec()), "{way:?}");
                assert_eq!(receive_all(&mut batches, 64).len(), 1, "{way:?}");
            }
        }
    }

    #[test]
    fn one_call_carries_what_differs_in_length_or_peer_and_never_two_origins_or_two_segments() {
        let to = |port| SocketAddr::new(LOOPBACK, port);
        let calls = |letters: &[(u16, Option<IpAddr>, usize)]| {
            let mut staged = Staged::default();
            for (port, from, length) in letters {
                assert!(staged.push(0, to(*port), *from, &vec![0; *length]));
            }
            let (mut calls, mut rest) = (Vec::new(), &staged.letters[..]);
            while !rest.is_empty() {
                let call = Call::of(rest, &staged, true);
                let letters: Vec<usize> = call.letters[..call.count].iter().map(|merged| merged.len()).collect();
                calls.push((letters, call.segment));
                rest = &rest[call.letters_in(call.count)..];
            }
            calls
        };
        let plain = |port, length| (port, None, length);
        assert_eq!(calls(&[plain(1, 5), plain(2, 9), plain(3, 0)]), [(vec![1, 1, 1], None)]);
        assert_eq!(calls(&[plain(1, 5), plain(2, 9), plain(2, 9), plain(3, 9)]), [(vec![1, 2, 1], Some(9))]);
        let longer_beside = [plain(1, 5), plain(1, 5), plain(2, 9)];
        assert_eq!(calls(&longer_beside), [(vec![2], Some(5)), (vec![1], None)], "or it would be cut");
        let two_segments = [plain(1, 5), plain(1, 5), plain(2, 9), plain(2, 9)];
        assert_eq!(calls(&two_segments), [(vec![2], Some(5)), (vec![2], Some(9))]);
        let two_origins = [(1, Some(LOOPBACK), 5), (1, Some(LOOPBACK), 5), (1, Some(SECOND), 5)];
        assert_eq!(calls(&two_origins), [(vec![2], Some(5)), (vec![1], None)]);
        let crowd: Vec<_> = (1..=100).map(|port| plain(port, 5)).collect();
        assert_eq!(calls(&crowd), [(vec![1; 64], None), (vec![1; 36], None)]);
    }

    #[test]
    fn packet_information_that_was_missing_once_is_there_again_for_the_next() {
        let (mut batches, port) = bound(Way::Merging, Ipv4Addr::UNSPECIFIED.into(), 65_535);
        let peer = peer(LOOPBACK);
        let mut asked = |wanted| {
            setsockopt(batches.socket(), Ipv4PacketInfo, &wanted).expect("it can be");
            peer.send_to(b"x", (SECOND, port)).expect("it is sent");
            receive_all(&mut batches, 64)[0].0.asked
        };
        assert_eq!([asked(true), asked(false), asked(true)], [Some(SECOND), None, Some(SECOND)]);
    }
}
