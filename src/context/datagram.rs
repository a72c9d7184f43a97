//! UDP for callbacks: received datagrams, replies, multicast groups.
//!
//! A reply goes only to the address of one host, and never to a socket of this loop.

use std::net::{IpAddr, SocketAddr};

use crate::address::{Address, ScopedIp, is_unicast, to_canonical};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{HandlerId, Key, UdpSocketId};
use crate::net::recv_batch::{Destination, RecvMeta};
use crate::options::udp::{Membership, MembershipChange};
use crate::state::source_address_limits::SourcePrefix;

/// A received datagram, passed to a callback.
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
    /// The bound address of the socket.
    pub(crate) bound: SocketAddr,
    pub(crate) meta: RecvMeta,
    /// The sender, or the client behind it.
    pub(crate) peer: SocketAddr,
}

/// Why a reply is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    Address,
    Rate,
    Queue,
}

impl Datagram<'_> {
    /// Returns the socket that received the datagram.
    #[must_use]
    pub fn socket(&self) -> UdpSocketId {
        UdpSocketId(self.socket)
    }

    /// Returns the id of the handler that is called, for a [timer](Context::schedule) or for another
    /// [socket](Context::bind_for).
    ///
    /// ```
    /// use halloo::{Datagram, DatagramHandler, EventLoop};
    /// use std::net::{SocketAddr, UdpSocket};
    ///
    /// /// Replies from a new socket for each peer: the peer's next request goes there.
    /// struct Ports;
    ///
    /// impl DatagramHandler for Ports {
    ///     fn on_datagram(&mut self, datagram: &mut Datagram<'_>, request: &[u8]) {
    ///         let (handler, peer) = (datagram.handler(), datagram.peer_addr());
    ///         let at = SocketAddr::new(datagram.local_addr().ip(), 0);
    ///         if let Ok(socket) = datagram.context().bind_for(at, handler) {
    ///             datagram.context().send_to(socket, request, peer);
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

    /// Returns the source address, or the one that [`set_peer_addr`](Self::set_peer_addr) has set. UDP source addresses
    /// can be forged.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Sets the address that [`peer_addr`](Self::peer_addr) returns from now on: the real client behind a proxy, from a
    /// header in the payload.
    ///
    /// The [rate limit](crate::Bind::replies_per_source_per_second_max) then counts replies for this address, also
    /// replies that are sent later to a [`reply_addr`](Self::reply_addr) from after this call. Replies still go to the
    /// [sender](Self::sender_addr), and the checks of [`Context::reply`] against loops and broadcasts are for the
    /// sender. Without [`limit_loopback`](crate::Bind::limit_loopback) the rate exempts this address only if the sender
    /// is loopback, too.
    ///
    /// ```
    /// use halloo::{EventLoop, datagrams};
    /// use std::net::{SocketAddr, UdpSocket};
    ///
    /// let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    /// let mut events = EventLoop::new()?;
    /// // A trusted proxy puts the client's address on a line before the request.
    /// let socket = events.bind(loopback, datagrams(|datagram, payload| {
    ///     let text = std::str::from_utf8(payload).unwrap_or_default();
    ///     let Some((client, request)) = text.split_once('\n') else { return };
    ///     let Ok(client) = client.parse() else { return };
    ///     datagram.set_peer_addr(client);
    ///     let reply = format!("{request}, {}!", datagram.peer_addr());
    ///     datagram.reply(reply.as_bytes());
    /// #   datagram.context().stop();
    /// }))?;
    /// let proxy = UdpSocket::bind(loopback)?;
    /// proxy.send_to(b"192.0.2.7:53\nHello", events.local_addr(socket)?)?;
    /// events.run()?;
    /// let mut reply = [0; 64];
    /// let length = proxy.recv(&mut reply)?;
    /// assert_eq!(&reply[..length], b"Hello, 192.0.2.7:53!");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_peer_addr(&mut self, peer: SocketAddr) {
        self.peer = to_canonical(peer);
    }

    /// Returns the address that sent the datagram, and gets the reply.
    #[must_use]
    pub fn sender_addr(&self) -> SocketAddr {
        self.meta.peer
    }

    /// Returns the destination address, which may be a multicast group or a broadcast address. A link-local address has
    /// the scope id of its interface.
    ///
    /// A reply is sent from this address. If it is a group or a broadcast address, a reply is sent from an address of
    /// the machine: the one that the kernel chooses for the peer, over IPv6 by the interface that received the
    /// datagram. On systems other than Linux this is the bound address of the socket.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.meta.dst.and_then(Destination::ip).map_or(self.bound, |ip| ip.with_port(self.bound.port()))
    }

    /// Returns whether the datagram was longer than [`datagram_bytes_max`](crate::Bind::datagram_bytes_max), so that
    /// the payload is only its beginning.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.meta.truncated
    }

    /// Returns the addresses of a reply, for a reply that is sent later with [`Context::reply`].
    #[must_use]
    pub fn reply_addr(&self) -> ReplyAddr {
        let Self { socket, meta, peer: client, .. } = *self;
        ReplyAddr { socket, peer: meta.peer, from: meta.dst.and_then(|dst| dst.from), client }
    }

    /// Sends a reply. Returns true if it is queued to be sent in this turn, false if it is refused for a reason of
    /// [`Context::reply`].
    pub fn reply(&mut self, payload: &[u8]) -> bool {
        let to = self.reply_addr();
        self.context.reply(to, payload)
    }

    /// Returns the rest of the loop.
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

/// The destination of a reply to a datagram, and its source: the address that the peer has sent to.
///
/// [`Datagram::reply_addr`](crate::Datagram::reply_addr) returns it, and [`Context::reply`] takes it, as often and as
/// late as needed. It has no lifetime, and can be sent to another thread and back.
///
/// Two values are equal if the socket, the peer, the source of a reply and the [client](Datagram::set_peer_addr) behind
/// the peer are equal: a retransmitted request has an equal value. The order is for maps, and has no other meaning.
///
/// ```
/// use halloo::{EventLoop, ReplyAddr, datagrams};
/// use std::time::Duration;
///
/// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// let requests = std::cell::RefCell::new(Vec::<ReplyAddr>::new());
/// let mut events = EventLoop::new()?;
/// let every_address = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
/// let socket = events.bind(every_address, datagrams(|datagram, _| {
///     requests.borrow_mut().push(datagram.reply_addr());
/// }))?;
/// // A timer sends the replies.
/// events.every(Duration::from_millis(1), |context| {
///     for request in requests.take() {
///         assert!(context.reply(request, b"at last"));
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
    /// The source address of a reply, on a wildcard socket.
    pub(crate) from: Option<ScopedIp>,
    /// The peer, or the client behind it, for which the rate limit counts.
    pub(crate) client: SocketAddr,
}

impl ReplyAddr {
    /// Returns the socket that sends a reply.
    #[must_use]
    pub fn socket(&self) -> UdpSocketId {
        UdpSocketId(self.socket)
    }

    /// Returns the peer that receives a reply: the [sender](Datagram::sender_addr) of the datagram, also if its handler
    /// has [set](Datagram::set_peer_addr) the address of a client behind it.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl Context {
    /// Replies to a datagram, now or later. Returns true if the reply is queued to be sent in this turn, or in the next
    /// if no turn is running; false if it is refused.
    ///
    /// The reply is sent from the address that the peer has sent to. If that was a group or a broadcast address, it is
    /// sent from an address of the machine. A link-local address keeps its interface. On systems other than Linux a
    /// wildcard socket sends from the address that the route selects.
    ///
    /// A reply is refused, and counted in [`Stats`](crate::Stats), if
    /// - it goes to port 0, or to a multicast, broadcast or unspecified address (`replies_refused_address`);
    /// - it goes to a socket of this loop: [`send_to`](Self::send_to) can send there (`replies_refused_address`);
    /// - the peer is over the [rate limit](crate::Bind::replies_per_source_per_second_max), which counts every reply,
    ///   also a retransmitted one (`replies_refused_rate`);
    /// - it is longer than 65,507 bytes over IPv4, or 65,527 over IPv6 (`replies_refused_queue`);
    /// - the send queue is full (`replies_refused_queue`);
    /// - the socket was [removed](Self::remove), or belongs to another loop (`replies_refused_queue`).
    ///
    /// The broadcast addresses are `255.255.255.255` and, on Linux, those of the host's networks. On a socket without
    /// [`Bind::broadcast`](crate::Bind::broadcast) the kernel refuses the latter: such a reply is queued, and dropped.
    ///
    /// All sockets of a loop share one send queue of 1,024 datagrams and 1 MiB of payloads, which is empty after each
    /// turn. A message to more peers takes several turns: a [timer](Self::schedule) of zero continues where the queue
    /// was full.
    ///
    /// [`ReplyAddr`] has an example.
    pub fn reply(&mut self, to: ReplyAddr, payload: &[u8]) -> bool {
        let ReplyAddr { socket, peer, from, .. } = to;
        let checked = self.check_reply(to);
        let queued = match checked {
            Ok(()) if !self.send_queue.push(socket.slot, peer, from, payload) => Err(Refusal::Queue),
            checked => checked,
        };
        match queued {
            Ok(()) => {}
            Err(Refusal::Address) => self.stats.replies_refused_address += 1,
            Err(Refusal::Rate) => self.stats.replies_refused_rate += 1,
            Err(Refusal::Queue) => self.stats.replies_refused_queue += 1,
        }
        queued.is_ok()
    }

    /// Whether a reply may be sent now; if so, the rate limit counts it.
    fn check_reply(&mut self, to: ReplyAddr) -> std::result::Result<(), Refusal> {
        let ReplyAddr { socket, peer, from, client } = to;
        if peer.port() == 0 || !is_unicast(peer.ip()) {
            return Err(Refusal::Address);
        }
        let now = self.now;
        let entry = self.udp_socket_mut(socket).ok_or(Refusal::Queue)?;
        let (local, may_broadcast) = (entry.local, entry.may_broadcast);
        // A sender on another machine can claim that its client is loopback.
        let is_limited = entry.limit_loopback || !(client.ip().is_loopback() && peer.ip().is_loopback());
        let rate_limiter = entry.rate_limiter.as_mut().filter(|_| is_limited);
        if rate_limiter.is_some_and(|limiter| !limiter.try_acquire(SourcePrefix::of(client.ip()), now)) {
            self.repeated_logs.occurrences_mut().replies_past_rate.add((local, client));
            return Err(Refusal::Rate);
        }
        // On other sockets the kernel refuses a broadcast.
        // planted: answers-broadcast-address
        if may_broadcast && self.network.is_broadcast_ip(peer.ip()) {
            return Err(Refusal::Address);
        }
        // planted: answers-own-address
        if self.is_own_address(peer, from) {
            return Err(Refusal::Address);
        }
        Ok(())
    }

    /// Sends a datagram that is no reply. Returns true if it is queued to be sent in this turn, or in the next if no
    /// turn is running. No rate limit applies. The datagram is refused if
    /// - it goes to port 0, or to an address of another family;
    /// - it is longer than 65,507 bytes over IPv4, or 65,527 over IPv6;
    /// - the [send queue](Self::reply) is full;
    /// - the socket was [removed](Self::remove), or belongs to another loop.
    ///
    /// A wildcard socket sends from the address that the route to the peer selects. A reply must be sent from the
    /// address that the peer has sent to: use [`reply`](Self::reply).
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

    /// Joins a multicast group, like [`Bind::join_multicast`](crate::Bind::join_multicast).
    ///
    /// ```
    /// use std::net::{IpAddr, SocketAddr};
    ///
    /// let mut events = halloo::EventLoop::new()?;
    /// let every_address = SocketAddr::from(([0, 0, 0, 0], 0));
    /// let socket = events.bind(every_address, halloo::datagrams(|_, _| {}))?;
    /// let error = events.context().join_multicast(socket, IpAddr::from([10, 0, 0, 1]), 0).unwrap_err();
    /// assert_eq!(error.kind(), halloo::ErrorKind::InvalidOption, "it is not a group");
    /// # Ok::<(), halloo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::UnknownId`] if the socket was removed. [`ErrorKind::InvalidOption`] if the address is not a group,
    /// if the socket's address cannot receive datagrams of the group, or if the system refuses.
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
