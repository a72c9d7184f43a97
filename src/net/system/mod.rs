//! The network of this machine: mio, socket2 and nix.
//!
//! Each call is one system call, or the few that open a socket. Its error is the kernel's.

#[cfg(target_os = "linux")]
pub(crate) mod batched_udp_socket;
pub(crate) mod host_ips;
pub(crate) mod input_stop;
pub(crate) mod stream;
pub(crate) mod udp_options;
pub(crate) mod udp_socket;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpListener;
#[cfg(unix)]
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Waker};
use socket2::{Domain, Protocol, Socket, Type};

use crate::address::Address;
use crate::ids::Token;
use crate::limits;
use crate::net::system::host_ips::HostIps;
#[cfg(unix)]
use crate::net::system::stream::BoundUnixListener;
use crate::net::system::stream::{SystemListener, SystemStream, set_tcp_options};
use crate::net::system::udp_options::set_udp_options;
use crate::net::{Event, Listener, UdpSocket};
#[cfg(unix)]
use crate::options;
use crate::options::ReusePort;
use crate::options::bind::Bind;
use crate::options::listen::{InheritedListener, Listen};

#[cfg(target_os = "linux")]
pub(crate) type SystemUdpSocket = crate::net::system::batched_udp_socket::BatchedUdpSocket;
#[cfg(not(target_os = "linux"))]
pub(crate) type SystemUdpSocket = crate::net::system::udp_socket::PlainUdpSocket;

/// The network of the kernel.
pub(crate) struct System {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    local_ips: HostIps,
    broadcast_ips: HostIps,
}

impl System {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), mio_token(Token::WAKE))?);
        let events = Events::with_capacity(limits::EVENTS_PER_POLL_MAX);
        Ok(Self { poll, events, waker, local_ips: HostIps::local(), broadcast_ips: HostIps::broadcast() })
    }

    pub(crate) fn waker(&self) -> Box<dyn Fn() + Send + Sync> {
        let waker = Arc::clone(&self.waker);
        Box::new(move || {
            if let Err(error) = waker.wake() {
                log::error!("cannot wake the loop: {error}");
            }
        })
    }

    #[expect(clippy::inline_always, reason = "a call would cost more than the function saves in size")]
    #[inline(always)]
    pub(crate) fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<bool> {
        self.poll.poll(&mut self.events, timeout)?;
        let before = events.len();
        events.extend(self.events.iter().map(|event| Event {
            token: Token(event.token().0 as u64),
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_to_end: event.is_read_closed() || is_priority(event),
            error: event.is_error(),
            hang_up: event.is_read_closed() && event.is_write_closed(),
        }));
        Ok(events.len() - before == limits::EVENTS_PER_POLL_MAX)
    }

    pub(crate) fn listen(&mut self, options: &Listen, token: Token) -> io::Result<(Listener, Option<SocketAddr>)> {
        let mut listener = open_listener(options)?;
        let address = listener.local_addr()?;
        self.register_source(listener.source(), token, Interest::READABLE)?;
        Ok((Listener::System(listener), address))
    }

    pub(crate) fn bind(&mut self, options: &Bind, token: Token) -> io::Result<(UdpSocket, SocketAddr)> {
        let socket = match &options.inherited {
            Some(socket) => {
                let socket = from_inherited_udp_socket(socket.try_clone()?.into())?;
                set_udp_options(&socket, &options.udp, options.address)?;
                socket
            }
            None => open_udp_socket(options)?,
        };
        if let Some(bytes) = options.recv_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        let is_inherited = options.inherited.is_some();
        let mut socket = SystemUdpSocket::new(socket.into(), options.datagram_bytes_max, is_inherited)?;
        let address = socket.inner().local_addr()?;
        self.register_source(socket.inner(), token, Interest::READABLE)?;
        Ok((UdpSocket::System(socket), address))
    }

    pub(crate) fn register(&self, stream: &mut SystemStream, token: Token) -> io::Result<()> {
        self.register_source(stream.source(), token, stream_interest())
    }

    #[cfg(unix)]
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, interest: options::Interest, token: Token) -> io::Result<RawFd> {
        let fd = fd.as_raw_fd();
        let interest = match interest {
            options::Interest::Read => Interest::READABLE,
            options::Interest::Write => Interest::WRITABLE,
            options::Interest::ReadWrite => Interest::READABLE | Interest::WRITABLE,
        };
        self.register_source(&mut SourceFd(&fd), token, interest).map_err(|error| watch_error(fd, error))?;
        Ok(fd)
    }

    #[cfg(unix)]
    pub(crate) fn unwatch(&self, fd: RawFd) -> io::Result<()> {
        self.deregister(&mut SourceFd(&fd))
    }

    pub(crate) fn is_local_ip(&mut self, ip: IpAddr) -> bool {
        self.local_ips.contains(ip)
    }

    pub(crate) fn is_broadcast_ip(&mut self, ip: IpAddr) -> bool {
        ip.is_ipv4() && self.broadcast_ips.contains(ip)
    }

    /// Needed before a close that may not be the last: other processes may have a duplicate of an inherited socket.
    pub(crate) fn deregister(&self, source: &mut (impl mio::event::Source + ?Sized)) -> io::Result<()> {
        self.poll.registry().deregister(source)
    }

    fn register_source(
        &self,
        source: &mut (impl mio::event::Source + ?Sized),
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.poll.registry().register(source, mio_token(token), interest)
    }
}

#[cfg(unix)]
impl AsFd for System {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }
}

/// The error of `epoll_ctl(2)` for an open descriptor, with a way out.
#[cfg(unix)]
fn watch_error(fd: RawFd, error: io::Error) -> io::Error {
    let message = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "operation not permitted: descriptor {fd} is a regular file, a directory or similar, which the poll does \
             not accept; it is always ready, so read or write it without a watch"
        ),
        io::ErrorKind::AlreadyExists => format!(
            "file exists: descriptor {fd} is watched already; remove that watch first, or watch a duplicate of the \
             descriptor"
        ),
        _ => return error,
    };
    io::Error::new(error.kind(), message)
}

/// Prepares an inherited socket for the loop.
fn from_inherited(socket: Socket) -> io::Result<Socket> {
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The same for a listener. Every accept on a socket that does not listen would fail.
fn from_inherited_listener(socket: Socket) -> io::Result<Socket> {
    #[cfg(target_os = "linux")]
    if !socket.is_listener()? {
        let message = "invalid argument: the socket does not listen; call listen(2) before it is handed over";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    from_inherited(socket)
}

/// The same for a UDP socket. A stream socket would be read as if it returned datagrams.
fn from_inherited_udp_socket(socket: Socket) -> io::Result<Socket> {
    if socket.r#type()? != Type::DGRAM {
        let message = "invalid argument: the socket is not a datagram socket; hand over a UDP socket";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    from_inherited(socket)
}

fn open_listener(options: &Listen) -> io::Result<SystemListener> {
    let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
    let socket = match (&options.inherited, &options.address) {
        (Some(InheritedListener::Tcp(socket)), _) => {
            let socket = from_inherited_listener(socket.try_clone()?.into())?;
            set_tcp_options(&socket, &options.tcp)?;
            socket
        }
        #[cfg(unix)]
        (Some(InheritedListener::Unix(socket)), _) => {
            let socket = from_inherited_listener(socket.try_clone()?.into())?;
            return Ok(SystemListener::Unix(BoundUnixListener::from_inherited(socket.into())));
        }
        #[cfg(unix)]
        (None, Address::Unix(path)) => {
            return BoundUnixListener::bind(path, options.unix_mode, backlog, &options.socket_file)
                .map(SystemListener::Unix);
        }
        #[cfg(not(unix))]
        (None, Address::Unix(_)) => return Err(io::ErrorKind::Unsupported.into()),
        (None, Address::Inet(address)) => {
            let mut tries_left = limits::LISTEN_TRIES_MAX;
            loop {
                tries_left -= 1;
                match open_tcp_listener(*address, options, backlog) {
                    Err(ListenError::Listen(error)) if error.kind() == io::ErrorKind::AddrInUse && tries_left > 0 => {}
                    Err(ListenError::Listen(error) | ListenError::Bind(error)) => return Err(error),
                    Ok(socket) => break socket,
                }
            }
        }
    };
    Ok(SystemListener::Tcp(TcpListener::from_std(socket.into())))
}

/// The step at which a listener failed.
enum ListenError {
    Bind(io::Error),
    /// Another socket bound to the port listens. Two sockets that listen at the same moment may refuse each other,
    /// because each is marked as listening before the check. If several retry, one succeeds.
    Listen(io::Error),
}

fn open_tcp_listener(address: SocketAddr, options: &Listen, backlog: i32) -> Result<Socket, ListenError> {
    let bind = || {
        let socket = new_socket(address, Type::STREAM, Protocol::TCP, options.reuse_port, options.only_v6)?;
        // A restart must not wait for connections of the last run in TIME_WAIT. Outside of unix, the option also allows
        // other sockets to take the port.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        // Before listen(2): the window offered to a client depends on the buffer.
        set_tcp_options(&socket, &options.tcp)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let socket = bind().map_err(ListenError::Bind)?;
    socket.listen(backlog).map_err(ListenError::Listen)?;
    // After listen(2): with SO_REUSEADDR, a socket owns its port only once it listens.
    reuse_port_after_bind(&socket, options.reuse_port).map_err(ListenError::Bind)?;
    Ok(socket)
}

fn open_udp_socket(options: &Bind) -> io::Result<Socket> {
    let socket = new_socket(options.address, Type::DGRAM, Protocol::UDP, options.reuse_port, options.only_v6)?;
    // Before the bind: no datagram is received from groups that other sockets have joined.
    set_udp_options(&socket, &options.udp, options.address)?;
    socket.bind(&options.address.into())?;
    reuse_port_after_bind(&socket, options.reuse_port)?;
    Ok(socket)
}

fn new_socket(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
    reuse_port: ReusePort,
    only_v6: bool,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(only_v6)?;
    }
    #[cfg(unix)]
    if reuse_port == ReusePort::Yes {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(unix))]
    if reuse_port != ReusePort::No {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(socket)
}

#[cfg_attr(not(unix), expect(unused_variables, clippy::unnecessary_wraps, reason = "it is refused earlier"))]
fn reuse_port_after_bind(socket: &Socket, reuse_port: ReusePort) -> io::Result<()> {
    #[cfg(unix)]
    if reuse_port == ReusePort::AfterBind {
        return socket.set_reuse_port(true);
    }
    Ok(())
}

const _: () = assert!(usize::BITS >= 64, "a token needs 64 bits; halloo runs on 64-bit systems");

#[expect(clippy::cast_possible_truncation, reason = "asserted above")]
fn mio_token(token: Token) -> mio::Token {
    mio::Token(token.0 as usize)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn stream_interest() -> Interest {
    Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn stream_interest() -> Interest {
    Interest::READABLE | Interest::WRITABLE
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_priority(event: &mio::event::Event) -> bool {
    event.is_priority()
}

/// Without events for urgent bytes, every readiness may include some.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_priority(_event: &mio::event::Event) -> bool {
    true
}
