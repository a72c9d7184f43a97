//! UDP for callbacks: received datagrams, replies, multicast groups.
//!
//! A reply to an address that is no single peer's is refused.

use std::net::{IpAddr, SocketAddr};

use crate::address::{Address, ScopedIp, is_unicast, to_canonical};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{HandlerId, Key, UdpSocketId};
use crate::net::recv_batch::{Destination, RecvMeta};
use crate::options::udp::{Membership, MembershipChange};
use crate::state::source_address_limits::SourcePrefix;

/// One received datagram, as a callback gets it.
///
/// ```
/// use halloo::{EventLoop, datagrams};
///
/// let mut events = EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// events.bind(address, datagrams(|datagram, payload| {
///     if !datagram.is_truncated() {
///         datagram.reply(payload);
///     }
/// }))?;
/// # Ok::<(), halloo::Error>(())
/// ```
pub struct Datagram<'a> {
    pub(crate) context: &'a mut Context,
    pub(crate) socket: Key,
    /// What the socket is bound to.
    pub(crate) bound: SocketAddr,
    pub(crate) meta: RecvMeta,
}

impl Datagram<'_> {
    /// The socket it came in by.
    #[must_use]
    pub fn socket(&self) -> UdpSocketId {
        UdpSocketId(self.socket)
    }

    /// The handler that is called with it: for a [timer](Context::schedule), or for another
    /// [socket](Context::bind_for).
    ///
    /// ```
    /// use halloo::{Datagram, DatagramHandler, EventLoop};
    /// use std::net::{SocketAddr, UdpSocket};
    ///
    /// /// Answers by a socket of its own for each peer: the next question goes there.
    /// struct Ports;
    ///
    /// impl DatagramHandler for Ports {
    ///     fn on_datagram(&mut self, datagram: &mut Datagram<'_>, question: &[u8]) {
    ///         let (handler, peer) = (datagram.handler(), datagram.peer_addr());
    ///         let at = SocketAddr::new(datagram.local_addr().ip(), 0);
    ///         if let Ok(socket) = datagram.context().bind_for(at, handler) {
    ///             datagram.context().send_to(socket, question, peer);
    ///         }
    /// #       datagram.context().stop();
    ///     }
    /// }
    ///
    /// let mut events = EventLoop::new()?;
    /// let first = events.bind(SocketAddr::from(([127, 0, 0, 1], 0)), Ports)?;
    /// let (peer, first) = (UdpSocket::bind("127.0.0.1:0")?, events.local_addr(first)?);
    /// peer.send_to(b"hello", first)?;
    /// events.run()?;
    /// let (length, from) = peer.recv_from(&mut [0; 16])?;
    /// assert!(length == 5 && from != first);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn handler(&self) -> HandlerId {
        self.context.handler_id(self.context.udp_sockets[self.socket.slot as usize].handler)
    }

    /// Who sent it. On UDP anybody can pretend to be anybody.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.meta.peer
    }

    /// The address it was sent to, which may be a multicast group or a broadcast address. A link-local one has the scope
    /// id of its interface.
    ///
    /// A reply leaves from there; after a datagram to a group or to a broadcast address, from an address of the machine:
    /// that which the kernel would use towards the peer, and over IPv6 by the interface that the datagram came in by. On
    /// systems other than Linux it is the address that the socket is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.meta.dst.and_then(Destination::ip).map_or(self.bound, |ip| ip.with_port(self.bound.port()))
    }

    /// Whether it was longer than its room, so that the payload is only its beginning.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.meta.truncated
    }

    /// Where a reply goes to and leaves from: for an answer that is sent later, by [`Context::reply`].
    #[must_use]
    pub fn reply_addr(&self) -> ReplyAddr {
        ReplyAddr { socket: self.socket, peer: self.meta.peer, from: self.meta.dst.and_then(|dst| dst.from) }
    }

    /// Sends a datagram back: true if it is queued to leave in this turn, false if it is refused, as [`Context::reply`]
    /// refuses.
    pub fn reply(&mut self, payload: &[u8]) -> bool {
        let to = self.reply_addr();
        self.context.reply(to, payload)
    }

    /// The rest of the loop.
    #[must_use]
    pub fn context(&mut self) -> &mut Context {
        self.context
    }
}

impl std::fmt::Debug for Datagram<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datagram").field("socket", &self.socket).field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// Where a reply to a datagram goes to, and the address that it leaves from: that which the peer has asked.
///
/// [`Datagram::reply_addr`](crate::Datagram::reply_addr) returns it, and [`Context::reply`] takes it, as often and as late
/// as the protocol needs. It is a value without a lifetime, and can be sent to another thread and back.
///
/// Two are equal if the socket, the peer and the address that a reply leaves from are equal: a question that is sent again
/// has an equal one. The order is for maps, and means nothing else.
///
/// ```
/// use halloo::{EventLoop, ReplyAddr, datagrams};
/// use std::time::Duration;
///
/// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// let questions = std::cell::RefCell::new(Vec::<ReplyAddr>::new());
/// let mut events = EventLoop::new()?;
/// let every_address = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
/// let socket = events.bind(every_address, datagrams(|datagram, _| {
///     questions.borrow_mut().push(datagram.reply_addr());
/// }))?;
/// // The answers come from a timer.
/// events.every(Duration::from_millis(1), |context| {
///     for question in questions.take() {
///         assert!(context.reply(question, b"at last"));
///         context.stop();
///     }
///     Some(Duration::from_millis(1))
/// });
/// let asked = std::net::SocketAddr::from(([127, 0, 0, 1], events.local_addr(socket)?.port()));
/// peer.send_to(b"when?", asked)?;
/// events.run()?;
/// assert_eq!(peer.recv_from(&mut [0; 16])?, (7, asked));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReplyAddr {
    pub(crate) socket: Key,
    pub(crate) peer: SocketAddr,
    /// The address that a reply leaves from, where the socket is bound to every address.
    pub(crate) from: Option<ScopedIp>,
}

impl ReplyAddr {
    /// The socket that a reply leaves through.
    #[must_use]
    pub fn socket(&self) -> UdpSocketId {
        UdpSocketId(self.socket)
    }

    /// The peer that a reply goes to.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl Context {
    /// Answers a datagram, now or later: true if the answer is queued to leave in this turn, or the next if no turn is
    /// under way; false if it is refused.
    ///
    /// It leaves from the address that the peer has asked; after a datagram to a group or to a broadcast address, from an
    /// address of the machine. A link-local address keeps its interface. On systems other than Linux a socket of every
    /// address sends from the address that the route suggests.
    ///
    /// Refused are: port 0; multicast, broadcast and unspecified addresses; the loop's own sockets; a source past its
    /// rate; more than 65,507 bytes over IPv4 or 65,527 over IPv6; what does not fit the send queue; and every reply once the
    /// socket was [removed](Self::remove), or of another loop's socket. A refusal is counted. The rate counts each reply,
    /// also one that is sent again. To a socket of the same loop, [`send_to`](Self::send_to) sends.
    ///
    /// The broadcast addresses are `255.255.255.255` and, on Linux, those of the host's networks. Of a socket without
    /// [`Bind::broadcast`](crate::Bind::broadcast) the kernel refuses the latter: such a reply is queued, and dropped.
    ///
    /// All sockets of a loop share one send queue, for 1,024 datagrams and 1 MiB of payloads, which is empty after each
    /// turn. A message for more peers than that is sent over several turns: a [timer](Self::schedule) of zero goes on where
    /// the queue was full.
    ///
    /// An example is at [`ReplyAddr`].
    pub fn reply(&mut self, to: ReplyAddr, payload: &[u8]) -> bool {
        let ReplyAddr { socket, peer, from } = to;
        let queued = peer.port() != 0
            && is_unicast(peer.ip())
            && self.may_reply(socket, peer)
            // planted: answers-own-address
            && !self.is_own_address(peer, from)
            && self.send_queue.push(socket.slot, peer, from, payload);
        self.stats.replies_refused += u64::from(!queued);
        queued
    }

    /// Whether the socket is still there, and may answer this peer now.
    fn may_reply(&mut self, socket: Key, peer: SocketAddr) -> bool {
        let now = self.now;
        let Some(entry) = self.udp_socket_mut(socket) else {
            return false;
        };
        let (local, may_broadcast) = (entry.local, entry.may_broadcast);
        let is_limited = entry.limit_loopback || !peer.ip().is_loopback();
        let rate_limiter = entry.rate_limiter.as_mut().filter(|_| is_limited);
        if rate_limiter.is_some_and(|limiter| !limiter.try_acquire(SourcePrefix::of(peer.ip()), now)) {
            self.repeated_logs.occurrences_mut().replies_past_rate.add((local, peer));
            return false;
        }
        // What other sockets send there the kernel refuses.
        // planted: answers-broadcast-address
        !(may_broadcast && self.network.is_broadcast_ip(peer.ip()))
    }

    /// Sends a datagram of the embedder's own initiative: true if it is queued to leave in this turn, or the next if no
    /// turn is under way. No rate holds for it. Refused are port 0, an address of a family that the socket does not have,
    /// a socket that is gone, more than 65,507 bytes over IPv4 or 65,527 over IPv6, and what does not fit
    /// the send queue, which [`reply`](Self::reply) describes.
    ///
    /// A socket of every address sends from the address that the route to the peer suggests. What answers a datagram has to
    /// leave from where that was sent to: [`reply`](Self::reply).
    ///
    /// ```
    /// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let mut events = halloo::EventLoop::new()?;
    /// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    /// let socket = events.bind(address, halloo::datagrams(|_, _| {}))?;
    /// assert!(events.context().send_to(socket, b"Hello!", peer.local_addr()?));
    /// let _ = events.turn(Some(std::time::Duration::ZERO))?;
    /// assert_eq!(peer.recv(&mut [0; 16])?, 6);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn send_to(&mut self, socket: UdpSocketId, payload: &[u8], to: SocketAddr) -> bool {
        let (UdpSocketId(key), to) = (socket, to_canonical(to));
        let socket = self.udp_socket(key).and_then(|entry| entry.socket.as_ref());
        to.port() != 0
            && socket.is_some_and(|socket| socket.has_family_of(to))
            && self.send_queue.push(key.slot, to, None, payload)
    }

    /// Joins a multicast group on a socket, as [`Bind::join_multicast`](crate::Bind::join_multicast) does.
    ///
    /// ```
    /// use std::net::{IpAddr, SocketAddr};
    ///
    /// let mut events = halloo::EventLoop::new()?;
    /// let every_address = SocketAddr::from(([0, 0, 0, 0], 0));
    /// let socket = events.bind(every_address, halloo::datagrams(|_, _| {}))?;
    /// let error = events.context().join_multicast(socket, IpAddr::from([10, 0, 0, 1]), 0).unwrap_err();
    /// assert_eq!(error.kind(), halloo::ErrorKind::InvalidOption, "it is no group");
    /// # Ok::<(), halloo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::UnknownId`] if the socket was removed; [`ErrorKind::InvalidOption`] if the address is no group, if
    /// datagrams of the group do not come to a socket that is bound there, and if the system refuses.
    pub fn join_multicast(&mut self, socket: UdpSocketId, group: IpAddr, interface: u32) -> Result<()> {
        self.change_membership(socket, Membership { group, interface }, MembershipChange::Join)
    }

    /// Leaves a multicast group that the socket has joined on the same interface.
    ///
    /// # Errors
    /// As [`join_multicast`](Self::join_multicast); also if the socket has not joined the group there.
    pub fn leave_multicast(&mut self, socket: UdpSocketId, group: IpAddr, interface: u32) -> Result<()> {
        self.change_membership(socket, Membership { group, interface }, MembershipChange::Leave)
    }

    fn change_membership(&mut self, socket: UdpSocketId, of: Membership, change: MembershipChange) -> Result<()> {
        let entry = self.udp_socket_mut(socket.0);
        let Some((local, socket)) = entry.and_then(|entry| Some((entry.local, entry.socket.as_mut()?))) else {
            let message = "this loop has no such UDP socket; it was removed, or belongs to another loop";
            return Err(Error::with_message(ErrorKind::UnknownId, None, message));
        };
        let at = Some(Address::from(local));
        if let Err(message) = of.validate(local.ip()) {
            return Err(Error::with_message(ErrorKind::InvalidOption, at, message));
        }
        let changed = socket.change_membership(of, change);
        changed.map_err(|error| Error::from_io(ErrorKind::InvalidOption, at, error))
    }
}
