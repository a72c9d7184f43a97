//! Datagrams on Linux, many a call: recvmmsg(2), sendmmsg(2), and neighbouring replies to one peer as one message that
//! the kernel cuts up again (udp(7), `UDP_SEGMENT`).
//!
//! Letters leave in the order they were staged, each as a datagram of its own, whatever carries it. A failed call is
//! about one message: what stands before it has gone, what stands behind it is tried again, and a merged one that the
//! kernel or the device will not cut up goes letter by letter. Where the kernel has no such calls, each datagram has one
//! of its own, in [`packets`](crate::packets).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::UdpGsoSegment;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike};
use nix::sys::socket::{getsockopt, recvmmsg, sendmmsg};

use crate::lent::Envelope;
use crate::limits::DATAGRAMS_PER_CALL_MAX;
use crate::network::{Arrival, Batch};
use crate::packets::{NOBODY, Origin, Packets, asked, canonical};
use crate::staged::{Letter, Staged, mergeable};

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
mod tests;
