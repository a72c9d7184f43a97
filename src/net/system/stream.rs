//! TCP and unix stream sockets and listeners.
//!
//! Each method is one system call.

#[cfg(not(target_os = "linux"))]
use std::io::Write;
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
#[cfg(unix)]
use std::path::Path;
#[cfg(unix)]
use std::sync::Arc;
use std::time::Duration;

use mio::event::Source;
#[cfg(unix)]
use mio::net::UnixListener;
use mio::net::{TcpListener, TcpStream};
#[cfg(target_os = "linux")]
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
#[cfg(target_os = "linux")]
use socket2::Protocol;
#[cfg(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd", windows))]
use socket2::TcpKeepalive;
use socket2::{Domain, SockRef, Socket, Type};

use crate::address::Address;
#[cfg(unix)]
use crate::address::unix_sock_addr;
use crate::net::Stream;
use crate::options::connect::Connect;
use crate::options::tcp::{Keepalive, TcpOptions};
#[cfg(unix)]
use crate::socket_file::{SharedSocketFile, SocketFile};

/// A listening socket.
pub(crate) enum SystemListener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(BoundUnixListener),
}

/// A connected socket, or one with a connect in progress.
pub(crate) enum SystemStream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(mio::net::UnixStream),
}

/// Makes the same call for either family.
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

    /// The bound address, if the family has addresses.
    pub(crate) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
        }
    }

    pub(crate) fn descriptor(&self) -> usize {
        match self {
            Self::Tcp(listener) => descriptor(listener),
            #[cfg(unix)]
            Self::Unix(bound) => descriptor(&bound.listener),
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

#[cfg(unix)]
impl AsFd for SystemListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(bound) => bound.listener.as_fd(),
        }
    }
}

#[cfg(target_os = "linux")]
impl SystemListener {
    /// Whether the backlog has a client. An error returns true, and accept reports it.
    pub(crate) fn has_client(&self) -> bool {
        poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) != Ok(0)
    }
}

#[cfg(not(target_os = "linux"))]
impl SystemListener {
    #[expect(clippy::unused_self, reason = "used on Linux")]
    pub(crate) fn has_client(&self) -> bool {
        true
    }
}

impl SystemStream {
    /// Starts a connect, or takes a connected stream.
    pub(crate) fn connect(to: &Connect) -> io::Result<Self> {
        match (&to.inherited, &to.address) {
            (Some(inherited), _) => Self::from_inherited(inherited.take_socket()?, &to.tcp),
            (None, Address::Inet(address)) => connect_tcp(*address, &to.tcp).map(Self::Tcp),
            #[cfg(unix)]
            (None, Address::Unix(path)) => connect_unix(path).map(Self::Unix),
            #[cfg(not(unix))]
            (None, Address::Unix(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn from_inherited(socket: Socket, options: &TcpOptions) -> io::Result<Self> {
        let domain = domain_of_connected(&socket)?;
        socket.set_nonblocking(true)?;
        #[cfg(unix)]
        if domain == Domain::UNIX {
            return Ok(Self::Unix(mio::net::UnixStream::from_std(socket.into())));
        }
        if domain != Domain::IPV4 && domain != Domain::IPV6 {
            return Err(invalid_stream("the socket is neither TCP nor unix"));
        }
        set_tcp_options(&socket, options)?;
        Ok(Self::Tcp(TcpStream::from_std(socket.into())))
    }

    /// Whether the connect has finished; a refusal is an error.
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

    /// The local address, if the family has addresses.
    pub(crate) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(stream) => stream.local_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(_) => Ok(None),
        }
    }

    /// The peer's address, if the family has addresses.
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
        each!(self, stream => SockRef::from(stream).send_with_flags(bytes, send_flags(fin_follows)))
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn send_vectored(&self, slices: &[IoSlice<'_>], fin_follows: bool) -> io::Result<usize> {
        each!(self, stream => SockRef::from(stream).send_vectored_with_flags(slices, send_flags(fin_follows)))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn send(&self, bytes: &[u8], _fin_follows: bool) -> io::Result<usize> {
        each!(self, stream => (&mut &*stream).write(bytes))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn send_vectored(&self, slices: &[IoSlice<'_>], _fin_follows: bool) -> io::Result<usize> {
        each!(self, stream => (&mut &*stream).write_vectored(slices))
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    pub(crate) fn shutdown(&self, half: Shutdown) -> io::Result<()> {
        each!(self, stream => stream.shutdown(half))
    }

    /// Makes the next close discard unsent output, and send an RST if the family has one (socket(7)). A socket that
    /// refuses the option is closed in any case.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        each!(self, stream => SockRef::from(stream).set_linger(Some(Duration::ZERO)))
    }

    pub(crate) fn descriptor(&self) -> usize {
        each!(self, stream => descriptor(stream))
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn into_fd(self) -> OwnedFd {
        each!(self, stream => stream.into())
    }
}

/// The number of a descriptor.
#[cfg(unix)]
pub(crate) fn descriptor(socket: &impl AsRawFd) -> usize {
    usize::try_from(socket.as_raw_fd()).unwrap_or(0)
}

#[cfg(not(unix))]
pub(crate) fn descriptor<S>(_socket: &S) -> usize {
    0
}

/// The family of a connected stream. Other descriptors would fail at every read, or never become readable.
fn domain_of_connected(socket: &Socket) -> io::Result<Domain> {
    match socket.r#type() {
        Ok(Type::STREAM) => {}
        Ok(_) => return Err(invalid_stream("the socket is not a stream")),
        Err(_) => return Err(invalid_stream("the descriptor is not a socket")),
    }
    #[cfg(target_os = "linux")]
    if socket.is_listener()? {
        return Err(invalid_stream("the socket listens, which is for EventLoop::listen"));
    }
    match socket.peer_addr() {
        Ok(peer) => Ok(peer.domain()),
        // A reset is the socket's pending error until it is read.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(socket.take_error()?.unwrap_or_else(|| invalid_stream("the socket is not connected")))
        }
        Err(error) => Err(error),
    }
}

fn invalid_stream(cause: &str) -> io::Error {
    let message = format!("invalid argument: {cause}; hand over a connected TCP or unix stream");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Sets the options before the connect, because the window offered to the peer depends on the buffer.
#[cfg(target_os = "linux")]
fn connect_tcp(to: SocketAddr, options: &TcpOptions) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    set_tcp_options(&socket, options)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// The error of a connect in progress differs between systems; mio knows it.
#[cfg(not(target_os = "linux"))]
fn connect_tcp(to: SocketAddr, options: &TcpOptions) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    set_tcp_options(&SockRef::from(&stream), options)?;
    Ok(stream)
}

/// Sets the options of a TCP socket. Accepted sockets inherit them, which saves system calls for each connection.
pub(crate) fn set_tcp_options(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(bytes) = options.recv_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.notsent_lowat {
        set_notsent_lowat(socket, bytes)?;
    }
    if let Some(keepalive) = &options.keepalive {
        set_keepalive(socket, keepalive)?;
    }
    if let Some(after) = options.user_timeout {
        set_user_timeout(socket, after)?;
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd", windows))]
fn set_keepalive(socket: &Socket, keepalive: &Keepalive) -> io::Result<()> {
    let Keepalive { idle, interval, probes } = *keepalive;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes))
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd", windows)))]
fn set_keepalive(_socket: &Socket, _keepalive: &Keepalive) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn set_notsent_lowat(socket: &Socket, bytes: u32) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(bytes)
}

#[cfg(not(target_os = "linux"))]
fn set_notsent_lowat(_socket: &Socket, _bytes: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_os = "linux")]
fn set_user_timeout(socket: &Socket, after: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(after))
}

#[cfg(not(target_os = "linux"))]
fn set_user_timeout(_socket: &Socket, _after: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
fn connect_unix(path: &Path) -> io::Result<mio::net::UnixStream> {
    // Called for its error, which contains the maximum length of a path.
    unix_sock_addr(path)?;
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
    /// The file is removed with the last reference.
    _file: Option<Arc<SocketFile>>,
}

#[cfg(unix)]
impl BoundUnixListener {
    /// Listens at a path, together with the clones that listen there already. A stale socket file is replaced.
    pub(crate) fn bind(path: &Path, mode: Option<u32>, backlog: i32, shared: &SharedSocketFile) -> io::Result<Self> {
        let file = shared.open(path, mode, backlog)?;
        Ok(Self { listener: UnixListener::from_std(file.listener()?), _file: Some(file) })
    }

    /// Listens on an inherited socket. Its file stays when the listener closes.
    pub(crate) fn from_inherited(listener: std::os::unix::net::UnixListener) -> Self {
        Self { listener: UnixListener::from_std(listener), _file: None }
    }
}

/// Without SIGPIPE, which would end a program that does not ignore it.
#[cfg(target_os = "linux")]
fn send_flags(fin_follows: bool) -> std::ffi::c_int {
    nix::libc::MSG_NOSIGNAL | if fin_follows { nix::libc::MSG_MORE } else { 0 }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::options::listen::Listen;

    /// Options of the tests, small enough for every machine's limits.
    macro_rules! with_options {
        ($options:expr) => {
            $options
                .nodelay(false)
                .recv_buffer_bytes(9_000)
                .send_buffer_bytes(11_000)
                .tcp_notsent_lowat(12_000)
                .tcp_keepalive(Duration::from_secs(7), Duration::from_millis(2_900), 5)
                .tcp_user_timeout(Duration::from_millis(1_234))
        };
    }

    /// Checks that a socket has these options.
    #[track_caller]
    fn assert_has_options(socket: &SockRef<'_>) {
        let buffers = (socket.recv_buffer_size().expect("a size"), socket.send_buffer_size().expect("a size"));
        assert_eq!(
            (socket.tcp_nodelay().expect("an option"), buffers),
            (false, (18_000, 22_000)),
            "Linux doubles them"
        );
        assert_eq!(socket.tcp_notsent_lowat().expect("an option"), 12_000);
        let times = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval(), socket.tcp_keepalive_retries());
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(
            (times.0.expect("a time"), times.1.expect("a time")),
            (Duration::from_secs(7), Duration::from_secs(2))
        );
        assert_eq!(times.2.expect("a number"), 5);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(Duration::from_millis(1_234)));
    }

    fn open(at: impl Into<Listen>) -> SystemListener {
        crate::net::system::open_listener(&at.into()).expect("a free port")
    }

    #[test]
    fn connections_have_the_options_of_their_listener_or_connect() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let inherited = std::net::TcpListener::bind(loopback).expect("a free port");
        for at in [Listen::from(loopback), Listen::from(inherited)] {
            let listener = open(with_options!(at));
            let address = listener.local_addr().expect("it is bound").expect("it has an address");
            let client = SystemStream::connect(&with_options!(Connect::from(address))).expect("it listens");
            let SystemStream::Tcp(client) = &client else { panic!("a TCP stream") };
            assert_has_options(&SockRef::from(client));
            let (accepted, _) = support::wait::wait_for("a client", || listener.accept().ok());
            let Stream::System(SystemStream::Tcp(accepted)) = accepted else { panic!("a TCP stream") };
            assert_has_options(&SockRef::from(&accepted));
        }
        let listener = std::net::TcpListener::bind(loopback).expect("a free port");
        let connected = std::net::TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let adopted = SystemStream::connect(&with_options!(Connect::from(connected))).expect("it is connected");
        let SystemStream::Tcp(adopted) = &adopted else { panic!("a TCP stream") };
        assert_has_options(&SockRef::from(adopted));
    }

    #[test]
    fn options_that_are_not_set_keep_the_system_default() {
        let system = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let SystemListener::Tcp(listener) = open(SocketAddr::from(([127, 0, 0, 1], 0))) else { panic!("it is TCP") };
        let ours = SockRef::from(&listener);
        for figure in [Socket::recv_buffer_size, Socket::send_buffer_size] {
            assert_eq!(figure(&ours).expect("a size"), figure(&system).expect("a size"));
        }
        assert_eq!((ours.keepalive().expect("an option"), ours.tcp_user_timeout().expect("an option")), (false, None));
    }
}
