//! Options of UDP sockets, with their defaults.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::options::ReusePort;
use crate::options::udp::{Membership, UdpOptions};

/// A UDP socket to be: an address, and the limits of what is received and answered there.
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
    /// Bytes of datagrams that the kernel keeps while the loop is busy (`SO_RCVBUF`), 2,147,483,647 at most. Linux
    /// doubles it, for its own overhead, and cuts it to `net.core.rmem_max`. Default: the system's.
    pub fn recv_buffer_bytes(mut self, bytes: usize) -> Self {
        self.recv_buffer_bytes = Some(bytes);
        self
    }

    /// Room for one datagram; a longer one is cut and [says so](crate::Datagram::is_truncated). Default: 65,535, which
    /// no datagram exceeds.
    pub fn datagram_bytes_max(mut self, bytes: usize) -> Self {
        self.datagram_bytes_max = bytes;
        self
    }

    /// Answer one source at most this often in a second, after a burst of at most as many: a source that was silent for
    /// a second may get twice the number in the next. A source is an IPv4 address or an IPv6 /64. Zero or the default:
    /// no such limit.
    pub fn replies_per_source_per_second_max(mut self, replies: u32) -> Self {
        self.replies_per_source_per_second_max = NonZeroU32::new(replies);
        self
    }

    /// Whether that limit holds for the machine itself too. Default: no.
    pub fn limit_loopback(mut self, limit: bool) -> Self {
        self.limit_loopback = limit;
        self
    }

    /// Allow to send to broadcast addresses (`SO_BROADCAST`), with [`Context::send_to`](crate::Context::send_to).
    /// Without it the kernel refuses: "permission denied". A [reply](crate::Context::reply) to a broadcast address is
    /// refused with it, too: its datagram has a forged source. Default: no.
    pub fn broadcast(mut self, allow: bool) -> Self {
        self.udp.broadcast = Some(allow);
        self
    }

    /// How many routers a datagram to one peer may pass (`IP_TTL`, `IPV6_UNICAST_HOPS`): between 1 and 255. Default:
    /// the system's, 64 on Linux. A socket that serves IPv6 and IPv4 sends over both with it; so it is with the options
    /// below.
    pub fn ttl(mut self, routers: u32) -> Self {
        self.udp.ttl = Some(routers);
        self
    }

    /// The type of service, or traffic class, of the datagrams that leave (`IP_TOS`, `IPV6_TCLASS`): a byte, of which the
    /// upper six bits are the DSCP (RFC 2474). `0xb8` is expedited forwarding. Default: 0. On Windows it is an error of the
    /// kind [`Unsupported`](std::io::ErrorKind::Unsupported).
    pub fn tos(mut self, tos: u32) -> Self {
        self.udp.tos = Some(tos);
        self
    }

    /// Receive the datagrams of a multicast group that come by an interface (`IP_ADD_MEMBERSHIP`, `IPV6_JOIN_GROUP`). May be
    /// called several times. The interface is an index, as `if_nametoindex(3)` returns it; zero is the interface that the
    /// route to the group suggests. [`Context::join_multicast`](crate::Context::join_multicast) does it later.
    ///
    /// The socket has to be bound to `0.0.0.0`, to `[::]` (which receives IPv4 groups, too) or to the group itself. On Linux
    /// it gets datagrams of the groups that it has joined, and of no others (`IP_MULTICAST_ALL` is off).
    /// [`Datagram::local_addr`](crate::Datagram::local_addr) is the group. Several sockets get each datagram of a group if
    /// all of them set [`reuse_port`](Self::reuse_port).
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
    /// let bound = events.bind(at, datagrams(move |datagram, question| {
    ///     if datagram.local_addr().ip() == group {
    ///         datagram.reply(question);
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

    /// The index of the interface that datagrams to groups leave by (`IP_MULTICAST_IF`, `IPV6_MULTICAST_IF`). Zero and the
    /// default: that which the route to the group suggests. Over IPv4 it has to have an address, and systems other than
    /// Linux return an error of the kind [`Unsupported`](std::io::ErrorKind::Unsupported).
    pub fn multicast_interface(mut self, index: u32) -> Self {
        self.udp.multicast_interface = Some(index);
        self
    }

    /// How many routers a datagram to a group may pass, plus one (`IP_MULTICAST_TTL`, `IPV6_MULTICAST_HOPS`): between 0, which
    /// leaves the machine never, and 255. Default: 1, the local network.
    pub fn multicast_ttl(mut self, ttl: u32) -> Self {
        self.udp.multicast_ttl = Some(ttl);
        self
    }

    /// Whether datagrams to a group also come to the sockets of this machine that have joined it (`IP_MULTICAST_LOOP`,
    /// `IPV6_MULTICAST_LOOP`). What leaves by the loopback device comes in any case. Default: yes.
    pub fn multicast_loop(mut self, enabled: bool) -> Self {
        self.udp.multicast_loop = Some(enabled);
        self
    }

    bound_socket_setters!();

    /// Refuses options that cannot work.
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

/// Takes over a socket that is bound already; what concerns its opening (`reuse_port`, `only_v6`) is as it is.
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
        // Without an address it is no bound socket; `bind` will say so.
        let address = socket.local_addr().unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, 0).into());
        Self { inherited: Some(Arc::new(socket)), ..Self::from(address) }
    }
}
