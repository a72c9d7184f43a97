//! Options of outbound connections, with their defaults.

use std::io;
use std::net::{SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::fd::OwnedFd;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::Socket;

use crate::address::Address;
use crate::options::connection_limits::ConnectionLimits;
use crate::options::tcp::TcpOptions;

/// Options of an outbound connection: an address, or a connected stream, and limits.
///
/// A plain address is enough; every limit has a default.
///
/// ```
/// use std::time::Duration;
/// use halloo::{Connect, EventLoop, stream};
///
/// let mut events = EventLoop::new()?;
/// let handler = events.attach(stream(|_, input| input.len()));
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
/// events.context().connect(Connect::from(address).timeout(Duration::from_secs(2)), handler);
/// # Ok::<(), halloo::Error>(())
/// ```
///
/// # Streams that are connected already
/// A `TcpStream`, a `UnixStream` or an `OwnedFd` becomes a connection of the loop: one end of a socketpair, a client
/// that another thread has accepted, or a descriptor from another process. TCP over IPv4 or IPv6 and unix streams are
/// supported. [`on_open`](crate::StreamHandler::on_open) is called without a wait. Input that has arrived before is
/// delivered then, and so is an EOF. The connection is counted in [`Stats::connects`](crate::Stats::connects).
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// let (mut client, stream) = UnixStream::pair()?;
/// client.write_all(b"hello")?;
///
/// let mut events = halloo::EventLoop::new()?;
/// let echo = events.attach(halloo::stream(|connection, input| connection.try_write(input)));
/// events.context().connect(stream, echo);
/// events.context().drain(std::time::Duration::from_secs(1));
/// events.run()?;
///
/// let mut reply = String::new();
/// client.read_to_string(&mut reply)?;
/// assert_eq!(reply, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// - The stream becomes non-blocking. This is a property of the open file description (open(2)): every duplicate of the
///   descriptor becomes non-blocking, also in other processes.
/// - The TCP options are set on a TCP stream. The [`timeout`](Self::timeout) has no effect.
/// - A descriptor that is not a stream socket, that listens or that is not connected is an error of the kind
///   [`InvalidInput`](std::io::ErrorKind::InvalidInput) in
///   [`on_connect_failed`](crate::StreamHandler::on_connect_failed). A TCP stream that its peer has already reset is an
///   error of the kind [`ConnectionReset`](std::io::ErrorKind::ConnectionReset); input from before the reset is lost.
/// - When the connection closes, the stream is shut down in both directions. The peer sees EOF even if a duplicate of
///   the descriptor is open elsewhere. [`abort`](crate::Connection::abort) sends its RST when the last duplicate is
///   closed.
/// - Clones of a `Connect` share the stream. The first connect takes it, and a later one fails.
///
/// A service of inetd(8) gets its client as standard input. Standard output and standard error may be duplicates of it:
///
/// ```no_run
/// use std::os::fd::AsFd;
///
/// let client = std::io::stdin().as_fd().try_clone_to_owned()?;
/// let mut events = halloo::EventLoop::new()?;
/// let echo = events.attach(halloo::stream(|connection, input| connection.try_write(input)));
/// events.context().connect(halloo::Connect::from(client).idle_timeout(None), echo);
/// while events.stats().closed_total() == 0 {
///     let _ = events.turn(None)?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a Connect does nothing until Context::connect takes it"]
pub struct Connect {
    /// The address of the peer; with an inherited stream, the peer that it is connected to.
    pub(crate) address: Address,
    pub(crate) inherited: Option<InheritedStream>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) tcp: TcpOptions,
}

/// A stream that is connected already. Clones share it; the first connect takes it.
#[derive(Clone, Debug)]
pub(crate) enum InheritedStream {
    System(Arc<Mutex<Option<Socket>>>),
    /// The number of a simulated socket, which closes with the last clone.
    #[cfg(any(test, feature = "testing"))]
    Simulated(Arc<usize>),
}

impl InheritedStream {
    /// The error of a second connect with the same stream.
    pub(crate) fn taken_error() -> io::Error {
        let message = "invalid argument: the stream was taken by another connect; clones of a Connect share one stream";
        io::Error::new(io::ErrorKind::InvalidInput, message)
    }

    /// Takes the socket; fails on the second call.
    pub(crate) fn take_socket(&self) -> io::Result<Socket> {
        match self {
            Self::System(socket) => {
                socket.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(Self::taken_error)
            }
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(_) => {
                let message = "invalid argument: the stream is simulated; connect it in a loop of its Simulation";
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }
}

impl Connect {
    /// Connects to a unix stream socket at a path. On Linux, a NUL in front makes it an [abstract
    /// name](crate::Listen::unix). The connect fails if the path contains a NUL, or if the abstract name is empty.
    ///
    /// ```
    /// let to = halloo::Connect::unix("/run/greeter.sock");
    /// # let _ = to;
    /// ```
    #[cfg(unix)]
    pub fn unix(path: impl Into<std::path::PathBuf>) -> Self {
        Self::new(Address::Unix(path.into()))
    }

    fn new(address: Address) -> Self {
        Self { address, inherited: None, limits: ConnectionLimits::default(), tcp: TcpOptions::default() }
    }

    /// Options for a connected stream, with its peer's address if its family has addresses.
    pub(crate) fn inherited(stream: InheritedStream, peer: Option<SocketAddr>) -> Self {
        let address = peer.map_or_else(|| Address::Unix(PathBuf::new()), Address::from);
        Self { inherited: Some(stream), ..Self::new(address) }
    }

    fn from_socket(socket: Socket) -> Self {
        // A socket without a peer is not connected; the connect fails with that error.
        let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
        Self::inherited(InheritedStream::System(Arc::new(Mutex::new(Some(socket)))), peer)
    }

    /// Limits the time for the connect. Default: 10 s. It has no effect on a stream that is connected already.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.limits.connect_timeout = after;
        self
    }

    connection_setters!();

    /// Refuses invalid options, for a handler that needs `input_bytes_min` bytes of input at once.
    pub(crate) fn validate(&self, input_bytes_min: usize) -> Result<(), &'static str> {
        self.address.validate()?;
        self.tcp.validate()?;
        self.limits.validate(input_bytes_min)
    }
}

impl From<SocketAddr> for Connect {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.into())
    }
}

/// Uses a TCP stream that is [connected already](Connect#streams-that-are-connected-already).
impl From<TcpStream> for Connect {
    fn from(stream: TcpStream) -> Self {
        Self::from_socket(stream.into())
    }
}

/// Uses a unix stream that is [connected already](Connect#streams-that-are-connected-already).
#[cfg(unix)]
impl From<UnixStream> for Connect {
    fn from(stream: UnixStream) -> Self {
        Self::from_socket(stream.into())
    }
}

/// Uses a TCP or unix stream that is [connected already](Connect#streams-that-are-connected-already).
#[cfg(unix)]
impl From<OwnedFd> for Connect {
    fn from(stream: OwnedFd) -> Self {
        Self::from_socket(stream.into())
    }
}
