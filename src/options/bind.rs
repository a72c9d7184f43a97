//! Options of UDP sockets, with their defaults.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::options::ReusePort;

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

    bound_socket_setters!();

    /// Refuses options that cannot work.
    pub(crate) fn validate(&self) -> Result<()> {
        let valid = if self.datagram_bytes_max == 0 || self.datagram_bytes_max > limits::DATAGRAM_BYTES_MAX {
            Err("datagram_bytes_max is between 1 and 65,535")
        } else if self.recv_buffer_bytes.is_some_and(|bytes| bytes > limits::KERNEL_BUFFER_BYTES_MAX) {
            Err("recv_buffer_bytes is at most 2,147,483,647")
        } else {
            Ok(())
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
