//! UDP on Linux: recvmmsg(2), sendmmsg(2), `UDP_SEGMENT` and `UDP_GRO` (udp(7)).
//!
//! Datagrams are sent in the order of the queue. A failed call concerns one message: the earlier ones were sent, and
//! the next call sends the later ones. A merged message that is refused is sent again unmerged.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike};
use nix::sys::socket::{getsockopt, recv, recvmmsg, sendmmsg, setsockopt};

use crate::address::{ScopedIp, to_canonical};
use crate::limits::{DATAGRAM_BYTES_MAX, DATAGRAMS_PER_CALL_MAX, RECV_BATCH_BYTES_MAX};
use crate::limits::{GRO_TRIAL_CALLS, GRO_TRIALS_PAUSE};
use crate::net::recv_batch::{ReceivedMessage, RecvBatch, RecvMeta};
use crate::net::send_notes::SendNotes;
use crate::net::system::udp_socket::{
    PlainUdpSocket, SendControl, UNKNOWN_PEER, destination, has_other_control, merged_segment,
};
use crate::state::udp_send_queue::{Transmit, UdpSendQueue, mergeable_len};

/// A UDP socket that receives and sends in batches.
pub(crate) struct BatchedUdpSocket {
    socket: PlainUdpSocket,
    /// `None` after the kernel has refused batches.
    headers: Option<Headers>,
    /// Whether the kernel segments merged messages, and the device as far as is known.
    has_gso: bool,
    gro: Gro,
    /// The datagrams of transmits that are not sent as they are; empty between calls.
    split: Vec<Transmit>,
}

impl BatchedUdpSocket {
    pub(crate) fn new(socket: std::net::UdpSocket, datagram_bytes_max: usize, is_inherited: bool) -> io::Result<Self> {
        let socket = PlainUdpSocket::new(socket, datagram_bytes_max, is_inherited)?;
        // A kernel without the option would send a merged message as one long datagram.
        let has_gso = getsockopt(&socket.inner, UdpGsoSegment).is_ok();
        let gro = Gro { is_on: false, calls: 0, trial_at: GRO_TRIALS_PAUSE };
        Ok(Self { headers: Some(Headers::new(&socket, gro.is_on)), socket, has_gso, gro, split: Vec::new() })
    }

    pub(crate) fn descriptor(&self) -> usize {
        self.socket.descriptor()
    }

    pub(crate) fn inner(&mut self) -> &mut mio::net::UdpSocket {
        self.socket.inner()
    }

    pub(crate) fn has_family_of(&self, address: SocketAddr) -> bool {
        self.socket.has_family_of(address)
    }

    /// Receives a batch. Returns whether it is full: only then may more wait without a later edge.
    ///
    /// A short batch ended at an empty queue, or at an error of the socket. After an empty queue, the next datagram
    /// causes an edge. The kernel keeps the error for the next call (recvmmsg(2), BUGS). An error that exists at the
    /// start of a call ends it at once. So this error is newer than the call, and than the last poll: its own edge
    /// follows, and causes the next receive. If a security module refuses a datagram in the middle of a batch, no edge
    /// follows; the rest waits for the edge of the next datagram.
    pub(crate) fn recv_datagrams(&mut self, batch: &mut RecvBatch, max: usize) -> io::Result<bool> {
        let received = match &mut self.headers {
            Some(Headers::V4(headers)) => headers.receive(&self.socket, batch, max),
            Some(Headers::V6(headers)) => headers.receive(&self.socket, batch, max),
            None => return self.socket.recv_datagrams(batch, max),
        };
        if received == Err(Errno::ENOSYS) {
            self.headers = None;
            batch.is_refused = true;
        }
        let received = received?;
        if self.gro.is_due(&received) {
            self.change_gro();
        }
        Ok(received.is_full)
    }

    /// Starts merging, or ends it.
    #[cold]
    fn change_gro(&mut self) {
        let (socket, is_on) = (&self.socket.inner, !self.gro.is_on);
        if setsockopt(socket, UdpGroSegment, &is_on).is_err() {
            self.gro.trial_at = u32::MAX;
            return;
        }
        // Without the option the kernel does not report the length of the datagrams that it has merged before. A core
        // that has read the option before may still queue such a message; it is received as one datagram.
        if !is_on && recv(socket.as_raw_fd(), &mut [], MsgFlags::MSG_PEEK) != Err(Errno::EAGAIN) {
            let _ = setsockopt(socket, UdpGroSegment, &true);
            return;
        }
        self.gro.is_on = is_on;
        self.gro.calls = 0;
        self.headers = Some(Headers::new(&self.socket, is_on));
    }

    /// Sends datagrams, notes each call, and reports the outcome of each transmit, or of each datagram in it.
    pub(crate) fn send_datagrams(
        &mut self,
        transmits: &[Transmit],
        send_queue: &UdpSendQueue,
        notes: &mut SendNotes<'_>,
        mut outcome: impl FnMut(&Transmit, io::Result<()>),
    ) {
        self.send_list(transmits, true, send_queue, notes, &mut outcome);
    }

    fn send_list<F: FnMut(&Transmit, io::Result<()>)>(
        &mut self,
        transmits: &[Transmit],
        may_merge: bool,
        send_queue: &UdpSendQueue,
        notes: &mut SendNotes<'_>,
        outcome: &mut F,
    ) {
        let mut rest = transmits;
        while !rest.is_empty() {
            // A batch of one costs more than a plain call, unless it needs control messages.
            if let [Transmit { from: None, count: 1, .. }] = rest {
                return self.socket.send_datagrams(rest, send_queue, notes, outcome);
            }
            if may_merge && !self.has_gso {
                let datagrams = rest.iter().copied().flat_map(Transmit::datagrams);
                return self.send_split(datagrams, false, send_queue, notes, outcome);
            }
            if !self.has_family_of(rest[0].to) {
                // It reports the error of each datagram.
                self.socket.send_datagrams(&rest[..1], send_queue, notes, &mut *outcome);
                rest = &rest[1..];
                continue;
            }
            let call = SendCall::of(rest, may_merge);
            let sent = match &mut self.headers {
                Some(Headers::V4(headers)) => headers.send(&self.socket, &call, send_queue),
                Some(Headers::V6(headers)) => headers.send(&self.socket, &call, send_queue),
                None => return self.socket.send_datagrams(rest, send_queue, notes, outcome),
            };
            if let Err(error) = sent {
                notes.note_failed_call(call.count, &error.into());
            }
            let done = match sent {
                Ok(messages) => {
                    let transmits = call.transmits_in(messages);
                    notes.note_batch(messages, call.count, &rest[..transmits], send_queue);
                    rest[..transmits].iter().for_each(|transmit| outcome(transmit, Ok(())));
                    transmits
                }
                Err(Errno::EINTR) => 0,
                Err(Errno::ENOSYS) => {
                    self.headers = None;
                    0
                }
                Err(error) if call.segment.is_some() && self.is_gso_error(error) => {
                    let refused = &rest[..call.transmits_in(1)];
                    let datagrams = refused.iter().copied().flat_map(Transmit::datagrams);
                    self.send_split(datagrams, false, send_queue, notes, outcome);
                    refused.len()
                }
                Err(error) => {
                    let (error, mut datagrams) = (error.into(), rest[0].datagrams());
                    let lost = datagrams.next().unwrap_or(rest[0]);
                    notes.note_datagram(&lost, Some(&error), send_queue);
                    outcome(&lost, Err(error));
                    self.send_split(datagrams, may_merge, send_queue, notes, outcome);
                    1
                }
            };
            rest = &rest[done..];
        }
    }

    /// Sends the datagrams of a transmit that cannot be sent as it is.
    #[cold]
    fn send_split<F: FnMut(&Transmit, io::Result<()>)>(
        &mut self,
        datagrams: impl Iterator<Item = Transmit>,
        may_merge: bool,
        send_queue: &UdpSendQueue,
        notes: &mut SendNotes<'_>,
        outcome: &mut F,
    ) {
        let mut split = std::mem::take(&mut self.split);
        split.extend(datagrams);
        self.send_list(&split, may_merge, send_queue, notes, outcome);
        split.clear();
        self.split = split;
    }

    /// Whether a message may have failed only because it was merged.
    fn is_gso_error(&mut self, error: Errno) -> bool {
        match error {
            // The segment exceeds the path MTU to that peer. Unmerged, the datagram may be fragmented.
            Errno::EINVAL | Errno::EMSGSIZE => true,
            // The device, or a transformation (IPsec) on the way to it, cannot segment.
            Errno::EIO | Errno::EOPNOTSUPP => {
                self.has_gso = false;
                log::debug!(
                    "{:?}: cannot send merged datagrams: {error}; datagrams are sent unmerged from now on",
                    self.socket.inner.local_addr()
                );
                true
            }
            _ => false,
        }
    }
}

/// Whether the kernel merges received datagrams, on trial.
///
/// A header for recvmmsg(2) loses its room for control messages with a datagram that was not merged. New headers cost
/// three allocations a call, so merging stays on only while the peers send segments.
struct Gro {
    is_on: bool,
    /// Calls since the last merged datagrams, or since it is off; then only those with many datagrams.
    calls: u32,
    /// The number of calls after which it is tried. It doubles with each trial without merged datagrams.
    trial_at: u32,
}

impl Gro {
    /// Whether it should change after a call.
    fn is_due(&mut self, received: &Received) -> bool {
        if !self.is_on {
            self.calls += u32::from(received.messages >= SMALL_BATCH);
            return self.calls >= self.trial_at;
        }
        self.calls += 1;
        if received.has_merged {
            (self.calls, self.trial_at) = (0, GRO_TRIALS_PAUSE);
        } else if self.calls == GRO_TRIAL_CALLS {
            self.trial_at = self.trial_at.saturating_mul(2);
        }
        self.calls > 0 && self.calls.is_multiple_of(GRO_TRIAL_CALLS)
    }
}

/// What one call has received.
#[derive(PartialEq)]
struct Received {
    messages: usize,
    is_full: bool,
    has_merged: bool,
}

/// The transmits of one call, as messages that can share it.
struct SendCall<'a> {
    /// The front of the list, as far as one call can send it.
    transmits: &'a [Transmit],
    /// The transmits that share the call, by message.
    messages: [&'a [Transmit]; DATAGRAMS_PER_CALL_MAX],
    count: usize,
    from: Option<ScopedIp>,
    /// The segment size of merged messages. A message that is not longer is not cut.
    segment: Option<usize>,
}

impl<'a> SendCall<'a> {
    /// Takes as many transmits from the front as one call can send. One set of control messages applies to all: they
    /// share a source address and a segment size. All destinations are of one family.
    fn of(transmits: &'a [Transmit], has_gso: bool) -> Self {
        let transmits = &transmits[..transmits.len().min(DATAGRAMS_PER_CALL_MAX)];
        let mut call = Self {
            transmits,
            messages: [&[]; DATAGRAMS_PER_CALL_MAX],
            count: 0,
            from: transmits.first().and_then(|transmit| transmit.from),
            segment: None,
        };
        let (mut rest, mut longest) = (transmits, 0);
        while let [first, ..] = rest
            && first.from == call.from
            && first.to.is_ipv4() == transmits[0].to.is_ipv4()
        {
            let (message, after) = rest.split_at(if has_gso { mergeable_len(rest) } else { 1 });
            let is_merged = message.len() > 1 || first.count > 1;
            let segment = if is_merged { call.segment.or(Some(first.segment)) } else { call.segment };
            longest = first.segment.max(longest);
            if segment.is_some_and(|segment| longest > segment || (is_merged && first.segment < segment)) {
                break;
            }
            call.segment = segment;
            call.messages[call.count] = message;
            call.count += 1;
            rest = after;
        }
        call
    }

    /// The number of transmits in its first messages.
    fn transmits_in(&self, messages: usize) -> usize {
        self.messages[..messages].iter().map(|merged| merged.len()).sum()
    }
}

/// The buffers of a batch for the kernel, kept between calls.
enum Headers {
    V4(Box<FamilyHeaders<SockaddrIn>>),
    V6(Box<FamilyHeaders<SockaddrIn6>>),
}

/// The batch size of a receive while few datagrams arrive.
const SMALL_BATCH: usize = 8;

struct FamilyHeaders<S> {
    has_gro: bool,
    /// Whether the last batch was large.
    last_was_large: bool,
    /// The most datagrams in one message of the last call.
    merged_max: usize,
    incoming: MultiHeaders<S>,
    /// Indexed by their control messages: source address, segment size. The kernel needs that room filled.
    outgoing: [[Option<MultiHeaders<S>>; 2]; 2],
    to: Vec<Option<S>>,
}

impl Headers {
    fn new(socket: &PlainUdpSocket, has_gro: bool) -> Self {
        if socket.is_v6 {
            Self::V6(Box::new(FamilyHeaders::new(socket, has_gro)))
        } else {
            Self::V4(Box::new(FamilyHeaders::new(socket, has_gro)))
        }
    }
}

impl<S: SocketAddressFamily> FamilyHeaders<S> {
    fn new(socket: &PlainUdpSocket, has_gro: bool) -> Self {
        let (incoming, to) = (incoming(socket, has_gro), Vec::with_capacity(DATAGRAMS_PER_CALL_MAX));
        Self { has_gro, last_was_large: false, merged_max: 1, incoming, outgoing: Default::default(), to }
    }

    fn receive(&mut self, socket: &PlainUdpSocket, batch: &mut RecvBatch, max: usize) -> nix::Result<Received> {
        // Each call initializes room for all datagrams, even if one arrives.
        let received = if self.last_was_large {
            self.recv_up_to::<DATAGRAMS_PER_CALL_MAX>(socket, batch, max)?
        } else {
            self.recv_up_to::<SMALL_BATCH>(socket, batch, max)?
        };
        self.last_was_large = received.messages >= SMALL_BATCH;
        Ok(received)
    }

    fn recv_up_to<const MOST: usize>(
        &mut self,
        socket: &PlainUdpSocket,
        batch: &mut RecvBatch,
        max: usize,
    ) -> nix::Result<Received> {
        let stride = if self.has_gro { DATAGRAM_BYTES_MAX } else { socket.datagram_bytes_max };
        let messages_max = (max / self.merged_max).clamp(1, MOST);
        let (mut buffers, received) = batch.prepare(socket.datagram_bytes_max, stride, messages_max);
        let max = buffers.len();
        let mut slices: [[IoSliceMut<'_>; 1]; MOST] =
            std::array::from_fn(|_| [IoSliceMut::new(buffers.next().unwrap_or_default())]);
        let fd = socket.inner.as_raw_fd();
        let has_control = socket.has_packet_info || self.has_gro;
        let (mut has_less_room, mut merged_max) = (false, 1);
        for message in recvmmsg(fd, &mut self.incoming, slices.iter_mut().take(max), MsgFlags::empty(), None)? {
            let (mut dst, mut segment) = (None, None);
            if has_control {
                (dst, segment) = (destination(&message), merged_segment(&message));
                has_less_room |= self.has_gro && segment.is_none()
                    || socket.has_packet_info && dst.is_none()
                    || socket.is_inherited && has_other_control(&message);
            }
            let peer = message.address.map_or(UNKNOWN_PEER, |address| to_canonical(address.into()));
            let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
            if let Some(segment) = segment {
                merged_max = merged_max.max(message.bytes.div_ceil(segment.max(1)));
            }
            let (len, meta) = (message.bytes, RecvMeta { peer, dst, truncated });
            received.push(ReceivedMessage { len, segment: segment.unwrap_or(len), meta });
        }
        // A header keeps only the room for control messages that its last datagram filled. If that was packet
        // information alone, it is what the next one needs.
        if has_less_room {
            self.incoming = incoming(socket, self.has_gro);
        }
        let messages = received.len();
        batch.asked = max * self.merged_max;
        self.merged_max = merged_max;
        Ok(Received { messages, is_full: messages == max, has_merged: merged_max > 1 })
    }

    /// Returns how many messages were sent.
    fn send(&mut self, socket: &PlainUdpSocket, call: &SendCall<'_>, send_queue: &UdpSendQueue) -> nix::Result<usize> {
        let control = SendControl::new(call.from, call.segment, socket.is_v6);
        let (controls, used) = control.messages();
        let (has_source, has_segment) = (call.from.is_some(), call.segment.is_some());
        let headers = &mut self.outgoing[usize::from(has_source)][usize::from(has_segment)];
        let headers = headers.get_or_insert_with(|| outgoing(socket, has_source, has_segment));
        let merged = &call.messages[..call.count];
        self.to.clear();
        self.to.extend(merged.iter().map(|transmits| S::of(socket.to_own_family(transmits[0].to))));
        let mut slices = [IoSlice::new(&[]); DATAGRAMS_PER_CALL_MAX];
        for (slice, transmit) in slices.iter_mut().zip(call.transmits) {
            *slice = IoSlice::new(send_queue.payload(transmit));
        }
        let mut messages = [&slices[..0]; DATAGRAMS_PER_CALL_MAX];
        let mut rest = &slices[..];
        for (message, transmits) in messages.iter_mut().zip(merged) {
            (*message, rest) = rest.split_at(transmits.len());
        }
        let fd = socket.inner.as_raw_fd();
        let sent = sendmmsg(fd, headers, messages.iter(), &self.to, &controls[..used], MsgFlags::empty())?;
        Ok(sent.count())
    }
}

fn incoming<S: SocketAddressFamily>(socket: &PlainUdpSocket, has_gro: bool) -> MultiHeaders<S> {
    let control = (socket.has_packet_info || has_gro).then(|| socket.control.clone());
    let count = if has_gro { RECV_BATCH_BYTES_MAX / DATAGRAM_BYTES_MAX } else { DATAGRAMS_PER_CALL_MAX };
    MultiHeaders::preallocate(count, control)
}

fn outgoing<S: SocketAddressFamily>(socket: &PlainUdpSocket, packet_info: bool, segment: bool) -> MultiHeaders<S> {
    let control = match (packet_info, segment, socket.is_v6) {
        (false, false, _) => None,
        (false, true, _) => Some(nix::cmsg_space!(u16)),
        (true, false, false) => Some(nix::cmsg_space!(libc::in_pktinfo)),
        (true, false, true) => Some(nix::cmsg_space!(libc::in6_pktinfo)),
        (true, true, false) => Some(nix::cmsg_space!(libc::in_pktinfo, u16)),
        (true, true, true) => Some(nix::cmsg_space!(libc::in6_pktinfo, u16)),
    };
    MultiHeaders::preallocate(DATAGRAMS_PER_CALL_MAX, control)
}

/// Addresses of one family, in the kernel's form.
trait SocketAddressFamily: SockaddrLike + Copy + Into<SocketAddr> {
    /// `None` for an address of another family.
    fn of(address: SocketAddr) -> Option<Self>;
}

impl SocketAddressFamily for SockaddrIn {
    fn of(address: SocketAddr) -> Option<Self> {
        match address {
            SocketAddr::V4(v4) => Some(v4.into()),
            SocketAddr::V6(_) => None,
        }
    }
}

impl SocketAddressFamily for SockaddrIn6 {
    fn of(address: SocketAddr) -> Option<Self> {
        match address {
            SocketAddr::V6(v6) => Some(v6.into()),
            SocketAddr::V4(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BatchedUdpSocket, RecvBatch, RecvMeta, ScopedIp, SendCall, SendNotes, SocketAddr, Transmit, UdpSendQueue, io,
    };
    use crate::observe::journal::Journal;
    use nix::sys::socket::setsockopt;
    use nix::sys::socket::sockopt::{IpRecvTos, Ipv4PacketInfo, Ipv4RecvTtl, ReceiveTimestamp, UdpGroSegment};
    use std::net::IpAddr;
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
    use std::time::Duration;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    /// The mode in which a socket sends and receives.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Mode {
        Gso,
        Batched,
        OneByOne,
    }

    const MODES: [Mode; 3] = [Mode::Gso, Mode::Batched, Mode::OneByOne];

    fn bind(mode: Mode, ip: IpAddr, room: usize) -> (BatchedUdpSocket, u16) {
        let socket = UdpSocket::bind((ip, 0)).expect("a free port");
        let port = address(&socket).port();
        (open(mode, socket, room, false), port)
    }

    fn open(mode: Mode, socket: UdpSocket, room: usize, is_inherited: bool) -> BatchedUdpSocket {
        socket.set_nonblocking(true).expect("it can be");
        let mut socket = BatchedUdpSocket::new(socket, room, is_inherited).expect("a socket");
        assert!(socket.has_gso, "this kernel supports UDP_SEGMENT");
        socket.has_gso = mode == Mode::Gso;
        if mode == Mode::OneByOne {
            socket.headers = None;
        }
        socket
    }

    fn peer(ip: IpAddr) -> UdpSocket {
        let peer = UdpSocket::bind((ip, 0)).expect("a free port");
        peer.set_read_timeout(Some(Duration::from_secs(20))).expect("it can be");
        peer
    }

    fn address(peer: &UdpSocket) -> SocketAddr {
        peer.local_addr().expect("it is bound")
    }

    fn recv(peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut room = vec![0; 65_535];
        let (length, from) = peer.recv_from(&mut room).expect("a datagram");
        room.truncate(length);
        (room, from)
    }

    /// Receives all datagrams that wait at a socket.
    fn receive_all(socket: &mut BatchedUdpSocket, max: usize) -> Vec<(RecvMeta, Vec<u8>)> {
        let (mut batch, mut all) = (RecvBatch::default(), Vec::new());
        while socket.recv_datagrams(&mut batch, max).is_ok() {
            let before = all.len();
            while let Some((meta, payload)) = batch.next() {
                all.push((*meta, payload.to_vec()));
            }
            assert!((1..=max).contains(&(all.len() - before)));
        }
        all
    }

    /// The destination address of a datagram.
    fn dst_ip(meta: &RecvMeta) -> Option<IpAddr> {
        Some(meta.dst?.ip()?.ip)
    }

    /// Sends transmits, and returns the lost ones.
    fn transmit(
        socket: &mut BatchedUdpSocket,
        transmits: &[(SocketAddr, Option<ScopedIp>, Vec<u8>)],
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        let (mut send_queue, mut lost, mut outcomes) = (UdpSendQueue::default(), Vec::new(), 0);
        for (to, from, payload) in transmits {
            assert!(send_queue.push(0, *to, *from, payload));
        }
        send_queue.group();
        let mut journal = Journal::new();
        let notes = &mut SendNotes::new(&mut journal, 0, 1);
        socket.send_datagrams(&send_queue.transmits, &send_queue, notes, |transmit, sent| {
            outcomes += transmit.count as usize;
            if sent.is_err() {
                lost.push((transmit.to, send_queue.payload(transmit).to_vec()));
            }
        });
        assert_eq!(outcomes, transmits.len(), "each datagram's outcome is reported once");
        lost
    }

    #[test]
    fn a_hundred_datagrams_of_several_peers_arrive_in_order_for_each_peer() {
        for mode in MODES {
            let (mut socket, port) = bind(mode, LOOPBACK, 65_535);
            let peers: Vec<UdpSocket> = (0..5).map(|_| peer(LOOPBACK)).collect();
            for number in 0..20u8 {
                for peer in &peers {
                    peer.send_to(&vec![number; usize::from(number)], (LOOPBACK, port)).expect("it is sent");
                }
            }
            let all = receive_all(&mut socket, 64);
            for peer in &peers {
                let own = all.iter().filter(|(meta, _)| meta.peer == address(peer));
                let payloads: Vec<Vec<u8>> = own.map(|(_, payload)| payload.clone()).collect();
                let expected: Vec<Vec<u8>> = (0..20u8).map(|number| vec![number; usize::from(number)]).collect();
                assert_eq!(payloads, expected, "{mode:?}");
            }
            assert!(all.len() == 100 && all.iter().all(|(meta, _)| !meta.truncated && meta.dst.is_none()));
        }
    }

    #[test]
    fn only_a_full_batch_reports_that_more_may_wait() {
        let (mut socket, port) = bind(Mode::Gso, LOOPBACK, 65_535);
        let peer = peer(LOOPBACK);
        for _ in 0..5 {
            peer.send_to(b"x", (LOOPBACK, port)).expect("it is sent");
        }
        let mut batch = RecvBatch::default();
        let mut receive = || {
            let outcome = socket.recv_datagrams(&mut batch, 3).map_err(|error| error.kind());
            (outcome, std::iter::from_fn(|| batch.next().map(drop)).count())
        };
        assert_eq!(
            [receive(), receive(), receive()],
            [(Ok(true), 3), (Ok(false), 2), (Err(io::ErrorKind::WouldBlock), 0)]
        );
    }

    #[test]
    fn a_datagram_longer_than_its_buffer_is_truncated_and_the_others_are_whole() {
        for mode in MODES {
            let (mut socket, port) = bind(mode, LOOPBACK, 4);
            let peer = peer(LOOPBACK);
            for length in [0, 5, 3, 4, 100, 0] {
                peer.send_to(&b"0123456789".repeat(10)[..length], (LOOPBACK, port)).expect("it is sent");
            }
            let all = receive_all(&mut socket, 64);
            let received: Vec<(&[u8], bool)> = all.iter().map(|(meta, bytes)| (&bytes[..], meta.truncated)).collect();
            let expected = [(0, false), (4, true), (3, false), (4, false), (4, true), (0, false)];
            assert_eq!(received, expected.map(|(length, truncated)| (&b"0123"[..length], truncated)), "{mode:?}");
        }
    }

    #[test]
    fn datagrams_arrive_whole_and_in_order_single_batched_or_merged() {
        for mode in MODES {
            let (mut socket, port) = bind(mode, LOOPBACK, 65_535);
            let peers: Vec<UdpSocket> = (0..3).map(|_| peer(LOOPBACK)).collect();
            // Equal lengths; a shorter last one; empty, longer and nearly maximum datagrams among others.
            let lengths: [&[usize]; 3] = [&[18; 100], &[18, 18, 18, 7], &[5, 0, 0, 9, 9, 9, 60_000, 9, 1, 9]];
            let mut transmits = Vec::new();
            for number in 0..100 {
                for (peer, lengths) in peers.iter().zip(lengths) {
                    if let Some(length) = lengths.get(number) {
                        transmits.push((address(peer), None, vec![u8::try_from(number).expect("below 100"); *length]));
                    }
                }
            }
            assert_eq!(transmit(&mut socket, &transmits), []);
            for (peer, lengths) in peers.iter().zip(lengths) {
                for (number, length) in lengths.iter().enumerate() {
                    let expected = vec![u8::try_from(number).expect("below 100"); *length];
                    assert!(recv(peer) == (expected, (LOOPBACK, port).into()), "{mode:?}: {number}");
                }
            }
        }
    }

    /// Binds to a wildcard address. Peers send to several addresses, three times each, and get replies from there.
    fn ask_at_addresses(mode: Mode, bound: IpAddr, dst_ips: &[IpAddr]) {
        let (mut socket, port) = bind(mode, bound, 65_535);
        let peers: Vec<UdpSocket> = dst_ips.iter().map(|ip| peer(*ip)).collect();
        for _ in 0..3 {
            for (peer, ip) in peers.iter().zip(dst_ips) {
                peer.send_to(b"where?", (*ip, port)).expect("it is sent");
            }
        }
        let mut transmits = Vec::new();
        for (meta, _) in receive_all(&mut socket, 4) {
            let index = peers.iter().position(|peer| address(peer) == meta.peer).expect("one of them");
            assert_eq!(dst_ip(&meta), Some(dst_ips[index]), "{mode:?}");
            transmits.push((meta.peer, meta.dst.and_then(|dst| dst.from), b"here".to_vec()));
        }
        assert_eq!((transmits.len(), transmit(&mut socket, &transmits)), (3 * dst_ips.len(), vec![]), "{mode:?}");
        for (peer, ip) in peers.iter().zip(dst_ips) {
            for _ in 0..3 {
                assert_eq!(recv(peer), (b"here".to_vec(), (*ip, port).into()), "{mode:?}");
            }
        }
    }

    #[test]
    fn replies_leave_from_their_destination_addresses_merged_or_not() {
        for mode in MODES {
            ask_at_addresses(mode, Ipv4Addr::UNSPECIFIED.into(), &[LOOPBACK, SECOND]);
        }
    }

    #[test]
    #[ignore = "needs IPv6"]
    fn replies_of_an_ipv6_socket_leave_from_their_destination_addresses_merged_or_not() {
        for mode in MODES {
            ask_at_addresses(mode, Ipv6Addr::UNSPECIFIED.into(), &[Ipv6Addr::LOCALHOST.into(), LOOPBACK, SECOND]);
        }
    }

    #[test]
    fn a_datagram_queued_in_an_inherited_socket_has_its_destination_address() {
        for mode in MODES {
            let (socket, peer) = (UdpSocket::bind("0.0.0.0:0").expect("a free port"), peer(LOOPBACK));
            for ip in [SECOND, LOOPBACK] {
                peer.send_to(b"x", (ip, address(&socket).port())).expect("it is sent");
            }
            let received = receive_all(&mut open(mode, socket, 65_535, true), 64);
            let dst_ips: Vec<_> = received.iter().map(|(meta, _)| dst_ip(meta)).collect();
            assert_eq!(dst_ips, [Some(SECOND), Some(LOOPBACK)], "{mode:?}");
        }
    }

    #[test]
    fn other_control_messages_of_an_inherited_socket_do_not_displace_packet_information() {
        for mode in MODES {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
            let other = socket.try_clone().expect("a descriptor");
            let (port, peer) = (address(&socket).port(), peer(LOOPBACK));
            let mut socket = open(mode, socket, 65_535, true);
            let mut dst_ips = |count| {
                for _ in 0..count {
                    peer.send_to(b"x", (SECOND, port)).expect("it is sent");
                }
                receive_all(&mut socket, 64).iter().map(|(meta, _)| dst_ip(meta)).collect::<Vec<_>>()
            };
            setsockopt(&other, ReceiveTimestamp, &true).expect("it can be");
            for count in [1, 20, 3] {
                assert_eq!(dst_ips(count), vec![Some(SECOND); count], "{mode:?}: {count}");
            }
            setsockopt(&other, Ipv4RecvTtl, &true).expect("it can be");
            setsockopt(&other, IpRecvTos, &true).expect("it can be");
            assert_eq!(dst_ips(20), [Some(SECOND); 20], "{mode:?}: one that came later");
        }
    }

    #[test]
    fn merged_datagrams_of_an_inherited_socket_are_delivered_one_by_one() {
        for mode in MODES {
            let socket = UdpSocket::bind((LOOPBACK, 0)).expect("a free port");
            setsockopt(&socket, UdpGroSegment, &true).expect("it can be");
            let (to, mut socket) = (address(&socket), open(mode, socket, 65_535, true));
            let (mut sender, _) = bind(Mode::Gso, LOOPBACK, 65_535);
            assert_eq!(transmit(&mut sender, &vec![(to, None, b"one".to_vec()); 5]), []);
            let payloads: Vec<_> = receive_all(&mut socket, 64).into_iter().map(|(_, payload)| payload).collect();
            assert_eq!(payloads, vec![b"one".to_vec(); 5], "{mode:?}");
        }
    }

    #[test]
    fn a_datagram_to_the_other_family_is_lost_and_not_sent_to_the_connected_peer() {
        // Grouped by address, one is sent before the peer's, and one after.
        let others = ["[::1]:9", "[2001:db8::ffff:ffff]:9"].map(|to| to.parse().expect("an address"));
        for mode in MODES {
            let (socket, peer) = (UdpSocket::bind((LOOPBACK, 0)).expect("a free port"), peer(LOOPBACK));
            socket.connect(address(&peer)).expect("it can be");
            let mut socket = open(mode, socket, 65_535, true);
            let refused = others.map(|to| (to, None, b"not here".to_vec()));
            for number in 0..3 {
                let own = (address(&peer), None, vec![number; 8]);
                let lost = transmit(&mut socket, &[&refused[..], &[own.clone(), own], &refused[..]].concat());
                assert_eq!(lost, [0, 0, 1, 1].map(|index| (others[index], b"not here".to_vec())), "{mode:?}");
                assert_eq!(transmit(&mut socket, &refused[..1]).len(), 1, "{mode:?}");
                assert_eq!([(); 2].map(|()| recv(&peer).0), [(); 2].map(|()| vec![number; 8]), "{mode:?}");
            }
        }
    }

    #[test]
    fn an_error_loses_only_the_datagram_it_concerns() {
        // This socket may not send broadcasts.
        let refused = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
        for mode in MODES {
            let (mut socket, _) = bind(mode, LOOPBACK, 65_535);
            let peers: Vec<UdpSocket> = (0..3).map(|_| peer(LOOPBACK)).collect();
            let mut transmits = Vec::new();
            for peer in &peers {
                transmits.extend([(), ()].map(|()| (refused, None, b"not here".to_vec())));
                for number in 0..3 {
                    transmits.push((address(peer), None, vec![number; 8]));
                }
            }
            assert_eq!(transmit(&mut socket, &transmits), vec![(refused, b"not here".to_vec()); 6], "{mode:?}");
            for peer in &peers {
                assert_eq!([0, 1, 2].map(|_| recv(peer).0), [0, 1, 2].map(|number| vec![number; 8]), "{mode:?}");
            }
            assert_eq!(socket.has_gso, mode == Mode::Gso, "merging continues after the error");
        }
    }

    #[test]
    fn a_closed_peer_costs_no_other_peer_a_datagram() {
        for mode in MODES {
            let (mut socket, port) = bind(mode, LOOPBACK, 65_535);
            let (closed_peer, open_peer) = (address(&peer(LOOPBACK)), peer(LOOPBACK));
            let transmits =
                [closed_peer, address(&open_peer)].map(|to| vec![(to, None, b"for you".to_vec()); 4]).concat();
            for _ in 0..3 {
                assert_eq!(transmit(&mut socket, &transmits), [], "{mode:?}");
                open_peer.send_to(b"for you, too", (LOOPBACK, port)).expect("it is sent");
                assert_eq!([(); 4].map(|()| recv(&open_peer).0), [(); 4].map(|()| b"for you".to_vec()), "{mode:?}");
                assert_eq!(receive_all(&mut socket, 64).len(), 1, "{mode:?}");
            }
        }
    }

    #[test]
    fn one_call_sends_different_lengths_and_peers_but_one_source_address_and_one_segment_size() {
        let to = |port| SocketAddr::new(LOOPBACK, port);
        let calls = |transmits: &[(u16, Option<ScopedIp>, usize)]| {
            let mut send_queue = UdpSendQueue::default();
            for (port, from, length) in transmits {
                assert!(send_queue.push(0, to(*port), *from, &vec![0; *length]));
            }
            let (mut calls, mut rest) = (Vec::new(), &send_queue.transmits[..]);
            while !rest.is_empty() {
                let call = SendCall::of(rest, true);
                let count = |merged: &&[Transmit]| merged.iter().map(|transmit| transmit.count).sum::<u32>();
                calls.push((call.messages[..call.count].iter().map(count).collect::<Vec<_>>(), call.segment));
                rest = &rest[call.transmits_in(call.count)..];
            }
            calls
        };
        let plain = |port, length| (port, None, length);
        assert_eq!(calls(&[plain(1, 5), plain(2, 9), plain(3, 0)]), [(vec![1, 1, 1], None)]);
        assert_eq!(calls(&[plain(1, 5), plain(2, 9), plain(2, 9), plain(3, 9)]), [(vec![1, 2, 1], Some(9))]);
        let longer_beside = [plain(1, 5), plain(1, 5), plain(2, 9)];
        assert_eq!(calls(&longer_beside), [(vec![2], Some(5)), (vec![1], None)], "otherwise it would be cut");
        let two_segments = [plain(1, 5), plain(1, 5), plain(2, 9), plain(2, 9)];
        assert_eq!(calls(&two_segments), [(vec![2], Some(5)), (vec![2], Some(9))]);
        // Two addresses; after datagrams to IPv6 groups, two interfaces.
        let by_interface = |scope_id| ScopedIp { ip: Ipv6Addr::UNSPECIFIED.into(), scope_id };
        for [one, other] in [[LOOPBACK, SECOND].map(ScopedIp::from), [1, 2].map(by_interface)] {
            let two_sources = [(1, Some(one), 5), (1, Some(one), 5), (1, Some(other), 5)];
            assert_eq!(calls(&two_sources), [(vec![2], Some(5)), (vec![1], None)]);
        }
        let two_long_runs = [[plain(1, 5); 40], [plain(2, 5); 40]].concat();
        assert_eq!(calls(&two_long_runs), [(vec![40, 40], Some(5))]);
        let crowd: Vec<_> = (1..=100).map(|port| plain(port, 5)).collect();
        assert_eq!(calls(&crowd), [(vec![1; 64], None), (vec![1; 36], None)]);
    }

    #[test]
    fn packet_information_is_received_again_after_it_was_missing_once() {
        let (mut socket, port) = bind(Mode::Gso, Ipv4Addr::UNSPECIFIED.into(), 65_535);
        let peer = peer(LOOPBACK);
        let mut dst_ip_with = |wanted| {
            setsockopt(socket.inner(), Ipv4PacketInfo, &wanted).expect("it can be");
            peer.send_to(b"x", (SECOND, port)).expect("it is sent");
            dst_ip(&receive_all(&mut socket, 64)[0].0)
        };
        assert_eq!([dst_ip_with(true), dst_ip_with(false), dst_ip_with(true)], [Some(SECOND), None, Some(SECOND)]);
    }
}
