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

/// An outbound connection to be: where to, or a stream that is connected already, and the limits of the connection.
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
/// A `TcpStream`, a `UnixStream` or an `OwnedFd` becomes a connection of the loop: one end of a socketpair, a client that
/// another thread has accepted, a descriptor that another process has passed. The family is that of the descriptor, TCP
/// over IPv4 or IPv6, or a unix stream. [`on_open`](crate::StreamHandler::on_open) comes without a wait, and what has
/// arrived before is delivered then, an end of stream too. It counts in [`Stats::connects`](crate::Stats::connects).
///
/// ```
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// let (mut client, stream) = UnixStream::pair()?;
/// client.write_all(b"hello")?;
///
/// let mut events = halloo::EventLoop::new()?;
/// let echo = events.attach(halloo::stream(|connection, input| connection.write(input)));
/// events.context().connect(stream, echo);
/// events.context().drain(std::time::Duration::from_secs(1));
/// events.run()?;
///
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!(answer, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// - The stream is made non-blocking. This is a property of the open file description (open(2)): every duplicate of the
///   descriptor is non-blocking then, in other processes too.
/// - The options of TCP are set on a TCP stream. The [`timeout`](Self::timeout) has no effect.
/// - A descriptor that is no stream socket, that listens or that is not connected is an error of the kind
///   [`InvalidInput`](std::io::ErrorKind::InvalidInput) in
///   [`on_connect_failed`](crate::StreamHandler::on_connect_failed). A TCP stream that its peer has reset before is one of
///   the kind [`ConnectionReset`](std::io::ErrorKind::ConnectionReset); input that came before the reset is lost.
/// - When the connection closes, the stream is shut down in both directions, so that the peer sees its end although a
///   duplicate of the descriptor is open elsewhere. [`abort`](crate::Connection::abort) sends its reset when the last
///   duplicate is closed.
/// - Clones of a `Connect` share the stream. The first connect takes it, and a later one fails.
///
/// A service of inetd(8) has its client as standard input. Standard output and standard error may be duplicates of it:
///
/// ```no_run
/// use std::os::fd::AsFd;
///
/// let client = std::io::stdin().as_fd().try_clone_to_owned()?;
/// let mut events = halloo::EventLoop::new()?;
/// let echo = events.attach(halloo::stream(|connection, input| connection.write(input)));
/// events.context().connect(halloo::Connect::from(client).idle_timeout(None), echo);
/// while events.stats().closed_total() == 0 {
///     let _ = events.turn(None)?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a Connect does nothing until Context::connect takes it"]
pub struct Connect {
    /// Where to; of a stream that is connected already, where that is connected to.
    pub(crate) address: Address,
    pub(crate) inherited: Option<InheritedStream>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) tcp: TcpOptions,
}

/// A stream that is connected already. Clones share it, and the first connect takes it.
#[derive(Clone, Debug)]
pub(crate) enum InheritedStream {
    System(Arc<Mutex<Option<Socket>>>),
    /// The number of a simulated socket, which closes with the last clone.
    #[cfg(any(test, feature = "testing"))]
    Simulated(Arc<usize>),
}

impl InheritedStream {
    /// What a connect returns that comes after the first.
    pub(crate) fn taken_error() -> io::Error {
        let message = "invalid argument: the stream was taken by another connect; clones of a Connect share one stream";
        io::Error::new(io::ErrorKind::InvalidInput, message)
    }

    /// The descriptor, for one caller.
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
    /// Connect to a unix stream socket, by its path; on Linux, behind a NUL, by its
    /// [abstract name](crate::Listen::unix). With a NUL in a path, or an empty name, the connect fails.
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

    /// A stream that is connected already, to this peer if its family has addresses.
    pub(crate) fn inherited(stream: InheritedStream, peer: Option<SocketAddr>) -> Self {
        let address = peer.map_or_else(|| Address::Unix(PathBuf::new()), Address::from);
        Self { inherited: Some(stream), ..Self::new(address) }
    }

    fn from_socket(socket: Socket) -> Self {
        // What has no peer is not connected: the connect will fail with that.
        let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
        Self::inherited(InheritedStream::System(Arc::new(Mutex::new(Some(socket)))), peer)
    }

    /// Give up if the other side has not answered in this time. Default: 10 s. A stream that is connected already needs no
    /// answer.
    pub fn timeout(mut self, after: Duration) -> Self {
        self.limits.connect_timeout = after;
        self
    }

    connection_setters!();

    /// Refuses options that cannot work, for a handler that must see `input_bytes_min` bytes at once.
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

/// Takes over a TCP stream that is [connected already](Connect#streams-that-are-connected-already).
impl From<TcpStream> for Connect {
    fn from(stream: TcpStream) -> Self {
        Self::from_socket(stream.into())
    }
}

/// Takes over a unix stream that is [connected already](Connect#streams-that-are-connected-already).
#[cfg(unix)]
impl From<UnixStream> for Connect {
    fn from(stream: UnixStream) -> Self {
        Self::from_socket(stream.into())
    }
}

/// Takes over a TCP or unix stream that is [connected already](Connect#streams-that-are-connected-already).
#[cfg(unix)]
impl From<OwnedFd> for Connect {
    fn from(stream: OwnedFd) -> Self {
        Self::from_socket(stream.into())
    }
}
