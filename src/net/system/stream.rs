//! TCP and unix stream sockets and listeners.
//!
//! Each method is one system call.

#[cfg(not(target_os = "linux"))]
use std::io::Write;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
#[cfg(unix)]
use std::path::Path;
#[cfg(unix)]
use std::sync::Arc;

use mio::event::Source;
#[cfg(unix)]
use mio::net::UnixListener;
use mio::net::{TcpListener, TcpStream};
use socket2::SockRef;

use crate::address::Address;
use crate::net::Stream;
#[cfg(unix)]
use crate::socket_file::{SharedSocketFile, SocketFile};

/// A listening socket.
pub(crate) enum SystemListener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(BoundUnixListener),
}

/// A connected socket, or one that is about to be.
pub(crate) enum SystemStream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(mio::net::UnixStream),
}

/// The same call, whatever the family.
macro_rules! each {
    ($socket:expr, $inner:ident => $call:expr) => {
        match $socket {
            Self::Tcp($inner) => $call,
            #[cfg(unix)]
            Self::Unix($inner) => $call,
        }
    };
}

impl SystemListener {
    pub(crate) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            #[cfg(unix)]
            Self::Unix(bound) => &mut bound.listener,
        }
    }

    /// The address it is bound to, if its family has addresses.
    pub(crate) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
        }
    }

    pub(crate) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::System(SystemStream::Tcp(stream)), Some(peer)))
            }
            #[cfg(unix)]
            Self::Unix(bound) => {
                let (stream, _) = bound.listener.accept()?;
                Ok((Stream::System(SystemStream::Unix(stream)), None))
            }
        }
    }
}

impl SystemStream {
    /// Begins to connect.
    pub(crate) fn connect(to: &Address, nodelay: bool) -> io::Result<Self> {
        match to {
            Address::Inet(address) => {
                let stream = TcpStream::connect(*address)?;
                stream.set_nodelay(nodelay)?;
                Ok(Self::Tcp(stream))
            }
            #[cfg(unix)]
            Address::Unix(path) => connect_unix(path).map(Self::Unix),
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether the other side has answered: its refusal is the error.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = each!(self, stream => stream.take_error())? {
            return Err(error);
        }
        match each!(self, stream => stream.peer_addr().map(drop)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn source(&mut self) -> &mut dyn Source {
        each!(self, stream => stream)
    }

    /// Its address on this side, if its family has addresses.
    pub(crate) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(stream) => stream.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
        }
    }

    /// The address it is connected to, if its family has addresses.
    pub(crate) fn peer_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
        }
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => (&mut &*stream).read(buffer))
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn send(&self, bytes: &[u8], fin_follows: bool) -> io::Result<usize> {
        // Without the signal that a peer's end would raise in a program that does not ignore it.
        let flags = nix::libc::MSG_NOSIGNAL | if fin_follows { nix::libc::MSG_MORE } else { 0 };
        each!(self, stream => SockRef::from(stream).send_with_flags(bytes, flags))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn send(&self, bytes: &[u8], _fin_follows: bool) -> io::Result<usize> {
        each!(self, stream => (&mut &*stream).write(bytes))
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        each!(self, stream => stream.shutdown(Shutdown::Write))
    }

    /// Has the close that follows discard what is unsent, and send a reset where the family knows one (socket(7)). A
    /// socket that refuses the option is closed all the same.
    pub(crate) fn reset_on_close(&self) {
        let _ = each!(self, stream => SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)));
    }
}

#[cfg(unix)]
fn connect_unix(path: &Path) -> io::Result<mio::net::UnixStream> {
    #[cfg(target_os = "linux")]
    if Address::is_abstract(path) {
        use std::os::linux::net::SocketAddrExt;
        let name = &path.as_os_str().as_encoded_bytes()[1..];
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return mio::net::UnixStream::connect_addr(&address);
    }
    mio::net::UnixStream::connect(path)
}

/// A listener at a path.
#[cfg(unix)]
pub(crate) struct BoundUnixListener {
    pub(crate) listener: UnixListener,
    /// When the last that has it goes, the file goes too.
    _file: Option<Arc<SocketFile>>,
}

#[cfg(unix)]
impl BoundUnixListener {
    /// Listens at a path, together with the clones that do so already. A socket that stands there otherwise is replaced
    /// if no server answers on it.
    pub(crate) fn bind(path: &Path, mode: Option<u32>, backlog: i32, shared: &SharedSocketFile) -> io::Result<Self> {
        let file = shared.open(path, mode, backlog)?;
        Ok(Self { listener: UnixListener::from_std(file.listener()?), _file: Some(file) })
    }

    /// Listens on an inherited socket, and leaves its file alone.
    pub(crate) fn from_inherited(listener: std::os::unix::net::UnixListener) -> Self {
        Self { listener: UnixListener::from_std(listener), _file: None }
    }
}
