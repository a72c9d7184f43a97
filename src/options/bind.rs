//! Options of UDP sockets, with their defaults.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::options::ReusePort;
use crate::options::udp::{Membership, UdpOptions};

/// Options of a UDP socket: its address, and limits on received datagrams and replies.
///
/// A `SocketAddr` becomes a `Bind`, and so does a `UdpSocket` that is bound already, such as an inherited one.
///
/// ```
/// use halloo::{Bind, EventLoop, datagrams};
///
/// let mut events = EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// let at = Bind::from(address).replies_per_source_per_second_max(100).limit_loopback(true);
/// events.bind(at, datagrams(|datagram, payload| { datagram.reply(payload); }))?;
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a Bind does nothing until EventLoop::bind takes it"]
pub struct Bind {
    pub(crate) address: SocketAddr,
    /// A socket that is bound already.
    pub(crate) inherited: Option<Arc<UdpSocket>>,
    pub(crate) reuse_port: ReusePort,
    pub(crate) only_v6: bool,
    pub(crate) recv_buffer_bytes: Option<usize>,
    pub(crate) datagram_bytes_max: usize,
    pub(crate) replies_per_source_per_second_max: Option<NonZeroU32>,
    pub(crate) limit_loopback: bool,
    pub(crate) udp: UdpOptions,
}

impl Bind {
    /// Sets the size in bytes of the kernel's receive buffer (`SO_RCVBUF`), at most 2,147,483,647. The buffer keeps
    /// datagrams while the loop is busy. Linux doubles the size for its own overhead, and limits it to
    /// `net.core.rmem_max`. Default: the system's.
    pub fn recv_buffer_bytes(mut self, bytes: usize) -> Self {
        self.recv_buffer_bytes = Some(bytes);
        self
    }

    /// Sets the longest datagram in bytes, at most 65,535. A longer one is cut, and
    /// [`is_truncated`](crate::Datagram::is_truncated) returns true for it. Default: 65,535, which no datagram exceeds.
    pub fn datagram_bytes_max(mut self, bytes: usize) -> Self {
        self.datagram_bytes_max = bytes;
        self
    }

    /// Limits replies to one source per second, after a burst of at most as many. A source that was silent for a second
    /// may get twice the number in the next second. A source is an IPv4 address or an IPv6 /64. Zero and the default:
    /// no limit.
    pub fn replies_per_source_per_second_max(mut self, replies: u32) -> Self {
        self.replies_per_source_per_second_max = NonZeroU32::new(replies);
        self
    }

    /// Sets whether that limit also applies to loopback addresses. Default: no. A client
    /// [behind a proxy](crate::Datagram::set_peer_addr) is loopback only if the proxy is, too.
    pub fn limit_loopback(mut self, limit: bool) -> Self {
        self.limit_loopback = limit;
        self
    }

    /// Allows sending to broadcast addresses (`SO_BROADCAST`), with [`Context::send_to`](crate::Context::send_to).
    /// Default: no; the kernel then refuses with "permission denied".
    ///
    /// A [reply](crate::Context::reply) to a broadcast address is always refused: the source of its request
    /// is forged.
    pub fn broadcast(mut self, allow: bool) -> Self {
        self.udp.broadcast = Some(allow);
        self
    }

    /// Sets how many routers a unicast datagram may pass (`IP_TTL`, `IPV6_UNICAST_HOPS`), between 1 and 255. Default:
    /// the system's, 64 on Linux. On a socket that serves IPv6 and IPv4, this option and those below apply to both.
    pub fn ttl(mut self, routers: u32) -> Self {
        self.udp.ttl = Some(routers);
        self
    }

    /// Sets the type of service, or traffic class, of sent datagrams (`IP_TOS`, `IPV6_TCLASS`). It is one byte, and its
    /// upper six bits are the DSCP (RFC 2474): `0xb8` is expedited forwarding. Default: 0. On Windows it is an error of
    /// the kind [`Unsupported`](std::io::ErrorKind::Unsupported).
    pub fn tos(mut self, tos: u32) -> Self {
        self.udp.tos = Some(tos);
        self
    }

    /// Joins a multicast group on an interface (`IP_ADD_MEMBERSHIP`, `IPV6_JOIN_GROUP`). May be called several times.
    /// The interface is an index, as `if_nametoindex(3)` returns it; zero selects the interface of the route to the
    /// group. [`Context::join_multicast`](crate::Context::join_multicast) joins later.
    ///
    /// The socket must be bound to `0.0.0.0`, to `[::]` (which also receives IPv4 groups) or to the group itself. On
    /// Linux it receives only datagrams of the groups that it has joined (`IP_MULTICAST_ALL` is off).
    /// [`Datagram::local_addr`](crate::Datagram::local_addr) is the group. Several sockets can each receive every
    /// datagram of a group if all of them set [`reuse_port`](Self::reuse_port).
    ///
    /// ```
    /// use halloo::{Bind, EventLoop, datagrams};
    /// use std::net::{IpAddr, SocketAddr};
    ///
    /// // Names on the local network: multicast DNS (RFC 6762).
    /// let group = IpAddr::from([224, 0, 0, 251]);
    /// let at = Bind::from(SocketAddr::from(([0, 0, 0, 0], 0)))
    ///     .join_multicast(group, 0)
    ///     .multicast_ttl(255)
    ///     .multicast_loop(false);
    /// let mut events = EventLoop::new()?;
    /// let bound = events.bind(at, datagrams(move |datagram, request| {
    ///     if datagram.local_addr().ip() == group {
    ///         datagram.reply(request);
    ///     }
    /// }));
    /// // A machine without a network has no interface for the group.
    /// if let Err(error) = bound {
    ///     println!("{error}");
    /// }
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn join_multicast(mut self, group: IpAddr, interface: u32) -> Self {
        self.udp.memberships.push(Membership { group, interface });
        self
    }

    /// Sets the interface by which datagrams to groups leave, as an index (`IP_MULTICAST_IF`, `IPV6_MULTICAST_IF`).
    /// Zero and the default: the interface of the route to the group. For IPv4 the interface must have an IPv4 address,
    /// and systems other than Linux return an error of the kind [`Unsupported`](std::io::ErrorKind::Unsupported).
    pub fn multicast_interface(mut self, index: u32) -> Self {
        self.udp.multicast_interface = Some(index);
        self
    }

    /// Sets how many routers a datagram to a group may pass, plus one (`IP_MULTICAST_TTL`, `IPV6_MULTICAST_HOPS`):
    /// between 0 and 255. With 0 it does not leave the machine. Default: 1, the local network.
    pub fn multicast_ttl(mut self, ttl: u32) -> Self {
        self.udp.multicast_ttl = Some(ttl);
        self
    }

    /// Sets whether members of a group on this machine receive the datagrams that the socket sends to it
    /// (`IP_MULTICAST_LOOP`, `IPV6_MULTICAST_LOOP`). A datagram sent by the loopback device is received in any case.
    /// Default: yes.
    pub fn multicast_loop(mut self, enabled: bool) -> Self {
        self.udp.multicast_loop = Some(enabled);
        self
    }

    bound_socket_setters!();

    /// Refuses invalid options.
    pub(crate) fn validate(&self) -> Result<()> {
        let valid = if self.datagram_bytes_max == 0 || self.datagram_bytes_max > limits::DATAGRAM_BYTES_MAX {
            Err("datagram_bytes_max must be between 1 and 65,535")
        } else if self.recv_buffer_bytes.is_some_and(|bytes| bytes > limits::KERNEL_BUFFER_BYTES_MAX) {
            Err("recv_buffer_bytes must be at most 2,147,483,647")
        } else {
            self.udp.validate(self.address.ip())
        };
        valid.map_err(|message| Error::with_message(ErrorKind::InvalidOption, Some(self.address.into()), message))
    }
}

impl From<SocketAddr> for Bind {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            inherited: None,
            reuse_port: ReusePort::No,
            only_v6: false,
            recv_buffer_bytes: None,
            datagram_bytes_max: limits::DATAGRAM_BYTES_MAX,
            replies_per_source_per_second_max: None,
            limit_loopback: false,
            udp: UdpOptions::default(),
        }
    }
}

/// Uses a socket that is bound already. The options of opening (`reuse_port`, `only_v6`) have no effect.
///
/// ```
/// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// let address = socket.local_addr()?;
/// let mut events = halloo::EventLoop::new()?;
/// let socket = events.bind(socket, halloo::datagrams(|_, _| {}))?;
/// assert_eq!(events.local_addr(socket)?, address);
/// # Ok::<(), std::io::Error>(())
/// ```
impl From<UdpSocket> for Bind {
    fn from(socket: UdpSocket) -> Self {
        // A socket without an address is not bound; `bind` returns the error.
        let address = socket.local_addr().unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, 0).into());
        Self { inherited: Some(Arc::new(socket)), ..Self::from(address) }
    }
}
