//! All calls that the loop makes to the kernel.
//!
//! A loop uses one [`Network`], the machine's or a simulated one, and only its sockets. Readiness is edge-triggered:
//! each change causes one event. Only `poll` blocks. Each error is the error of the system call.
//!
//! | call | contract |
//! |---|---|
//! | `Network::now` | the monotonic clock |
//! | `Network::poll` | appends events, and waits at most the timeout; returns true if more may follow at once |
//! | `Network::waker` | returns a closure that wakes a waiting `poll`, from any thread |
//! | `Network::listen` | opens a listener whose events carry the token; returns its address, if its family has addresses |
//! | `Network::connect` | starts a connect; an event reports the result; `WouldBlock` is a full backlog at a unix path; an inherited stream is already connected |
//! | `Network::bind` | opens a UDP socket whose events carry the token; returns its address |
//! | `Network::register` | registers a stream for events in both directions, until it is closed |
//! | `Network::watch` | registers a descriptor of the embedder, of any kind that the poll accepts |
//! | `Network::unwatch` | ends its events, but not those of a new descriptor with the same number |
//! | `Network::close_listener`, `close_udp_socket` | ends its events, even if another process has a duplicate; an error does not prevent the close |
//! | `Network::close_inherited_stream` | the same; unless it is reset, the peer also sees EOF |
//! | `Network::is_local_ip` | whether an address belongs to this machine |
//! | `Network::is_broadcast_ip` | whether an address is a broadcast address of this machine's networks |
//! | `Listener::accept` | returns the next client of the backlog and its address; `WouldBlock` if there is none |
//! | `Listener::has_client` | whether the backlog has a client; true where the system cannot report it |
//! | `Listener::duplicate` | duplicates its descriptor, which keeps a descriptor of the process in reserve |
//! | `Listener::replace` | closes a stream, and makes its descriptor such a duplicate; on Linux no other thread can take it in between |
//! | `Stream::is_connected` | whether a connect has finished; a refusal is an error |
//! | `Stream::local_addr`, `peer_addr` | the address on either side, if the family has addresses |
//! | `Stream::is_unix` | whether it is a unix socket |
//! | `Stream::recv` | reads once; 0 is EOF |
//! | `Stream::send` | writes once; the hint that a FIN follows lets both share a segment |
//! | `Stream::send_vectored` | the same for several buffers, in one call |
//! | `Stream::shutdown_write` | sends a FIN |
//! | `Stream::stop_input` | accepts no further input: on TCP the peer keeps it, on a unix socket its writes fail, and reads return EOF; `None` if the peer has sent EOF, or where the system cannot |
//! | `Stream::has_sent_all` | whether a FIN would leave at once, with the outcome of the option that makes an event report it later; true where the system cannot report it |
//! | `Stream::resume_input` | accepts input again, on TCP |
//! | `Listener::descriptor`, `Stream::descriptor`, `UdpSocket::descriptor`, `WatchedFd::descriptor` | the descriptor, or a number of the simulation, for the journal |
//! | `Stream::reset_on_close` | makes the close discard unsent output and send an RST |
//! | `UdpSocket::has_family_of` | whether its family includes an address |
//! | `UdpSocket::may_broadcast` | whether it may send to broadcast addresses; true where the system cannot report it |
//! | `UdpSocket::change_membership` | joins or leaves a multicast group; an error names the call |
//! | `UdpSocket::recv_datagrams` | receives at least one datagram into an empty batch; returns true if more may wait without an event |
//! | `UdpSocket::send_datagrams` | sends each datagram, and reports the outcome of each |
//!
//! Dropping a stream closes it.

pub(crate) mod backoff;
pub(crate) mod descriptor_reserve;
pub(crate) mod io_error_class;
pub(crate) mod recv_batch;
pub(crate) mod repeated_log;
pub(crate) mod send_notes;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod simulated;
pub(crate) mod system;

use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown, SocketAddr};
#[cfg(unix)]
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::ids::Token;
use crate::net::recv_batch::RecvBatch;
use crate::net::send_notes::SendNotes;
#[cfg(any(test, feature = "testing"))]
use crate::net::simulated::{Simulated, datagrams::is_broadcast_ip, sim_handle::SimHandle};
use crate::net::system::stream::{SystemListener, SystemStream};
use crate::net::system::{System, SystemUdpSocket, udp_options};
#[cfg(unix)]
use crate::options::Interest;
use crate::options::bind::Bind;
use crate::options::connect::Connect;
use crate::options::listen::Listen;
use crate::options::udp::{Membership, MembershipChange};
use crate::state::phase::{CloseMode, InputStop};
use crate::state::udp_send_queue::{Transmit, UdpSendQueue};

/// The network of a loop.
pub(crate) enum Network {
    System(System),
    #[cfg(any(test, feature = "testing"))]
    Simulated(Simulated),
}

/// A listening socket.
pub(crate) enum Listener {
    System(SystemListener),
    #[cfg(any(test, feature = "testing"))]
    Simulated(SimHandle),
}

/// A connected socket, or one with a connect in progress.
pub(crate) enum Stream {
    System(SystemStream),
    #[cfg(any(test, feature = "testing"))]
    Simulated(SimHandle),
}

/// A UDP socket.
pub(crate) enum UdpSocket {
    System(SystemUdpSocket),
    #[cfg(any(test, feature = "testing"))]
    Simulated(SimHandle),
}

/// A descriptor of the embedder that the poll watches.
#[cfg(unix)]
pub(crate) enum WatchedFd {
    System(RawFd),
    #[cfg(any(test, feature = "testing"))]
    Simulated(SimHandle),
}

/// Makes the same call on either network.
macro_rules! each {
    ($socket:expr, $inner:ident => $call:expr) => {
        match $socket {
            Self::System($inner) => $call,
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated($inner) => $call,
        }
    };
}

impl Network {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::System(_) => Instant::now(),
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(network) => network.now(),
        }
    }

    pub(crate) fn waker(&self) -> Box<dyn Fn() + Send + Sync> {
        match self {
            Self::System(network) => network.waker(),
            // A posted job is found at the next poll in any case, because no simulated poll waits.
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(_) => Box::new(|| {}),
        }
    }

    #[expect(clippy::inline_always, reason = "a call would cost more than the function saves in size")]
    #[inline(always)]
    pub(crate) fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<bool> {
        each!(self, network => network.poll(events, timeout))
    }

    pub(crate) fn listen(&mut self, options: &Listen, token: Token) -> io::Result<(Listener, Option<SocketAddr>)> {
        each!(self, network => network.listen(options, token))
    }

    pub(crate) fn connect(&self, to: &Connect) -> io::Result<Stream> {
        match self {
            Self::System(_) => SystemStream::connect(to).map(Stream::System),
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(network) => network.connect(to),
        }
    }

    pub(crate) fn bind(&mut self, options: &Bind, token: Token) -> io::Result<(UdpSocket, SocketAddr)> {
        each!(self, network => network.bind(options, token))
    }

    pub(crate) fn register(&self, stream: &mut Stream, token: Token) -> io::Result<()> {
        match (self, stream) {
            (Self::System(network), Stream::System(stream)) => network.register(stream, token),
            #[cfg(any(test, feature = "testing"))]
            (_, Stream::Simulated(stream)) => stream.register(token),
            #[cfg(any(test, feature = "testing"))]
            (Self::Simulated(_), Stream::System(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    #[cfg(unix)]
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, interest: Interest, token: Token) -> io::Result<WatchedFd> {
        match self {
            Self::System(network) => network.watch(fd, interest, token).map(WatchedFd::System),
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(network) => network.watch(token).map(WatchedFd::Simulated),
        }
    }

    /// `fd` is the present descriptor of the embedder's source. If it is another one, the watched descriptor was
    /// closed, which ended its watch. Its number may belong to a descriptor with another watch. Then it returns `None`.
    #[cfg(unix)]
    pub(crate) fn unwatch(&self, watched: WatchedFd, fd: BorrowedFd<'_>) -> Option<io::Result<()>> {
        match (self, watched) {
            (Self::System(network), WatchedFd::System(watched)) => {
                (fd.as_raw_fd() == watched).then(|| network.unwatch(watched))
            }
            #[cfg(any(test, feature = "testing"))]
            _ => Some(Ok(())),
        }
    }

    pub(crate) fn close_listener(&self, listener: Listener) -> io::Result<()> {
        match (self, listener) {
            (Self::System(network), Listener::System(mut listener)) => network.deregister(listener.source()),
            #[cfg(any(test, feature = "testing"))]
            _ => Ok(()),
        }
    }

    pub(crate) fn close_udp_socket(&self, socket: UdpSocket) -> io::Result<()> {
        match (self, socket) {
            (Self::System(network), UdpSocket::System(mut socket)) => network.deregister(socket.inner()),
            #[cfg(any(test, feature = "testing"))]
            _ => Ok(()),
        }
    }

    /// Returns the results of `epoll_ctl(2)` and `shutdown(2)`.
    pub(crate) fn close_inherited_stream(
        &self,
        stream: Stream,
        mode: CloseMode,
    ) -> (io::Result<()>, Option<io::Result<()>>) {
        match (self, stream) {
            (Self::System(network), Stream::System(mut stream)) => {
                let deregistered = network.deregister(stream.source());
                (deregistered, (mode == CloseMode::Close).then(|| stream.shutdown(Shutdown::Both)))
            }
            #[cfg(any(test, feature = "testing"))]
            _ => (Ok(()), None),
        }
    }

    pub(crate) fn is_local_ip(&mut self, ip: IpAddr) -> bool {
        each!(self, network => network.is_local_ip(ip))
    }

    pub(crate) fn is_broadcast_ip(&mut self, ip: IpAddr) -> bool {
        match self {
            Self::System(network) => network.is_broadcast_ip(ip),
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(_) => is_broadcast_ip(ip),
        }
    }
}

#[cfg(unix)]
impl WatchedFd {
    pub(crate) fn descriptor(&self) -> u64 {
        match self {
            Self::System(fd) => u64::try_from(*fd).unwrap_or(0),
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(handle) => handle.descriptor() as u64,
        }
    }
}

impl Listener {
    pub(crate) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        each!(self, listener => listener.accept())
    }

    pub(crate) fn has_client(&self) -> bool {
        each!(self, listener => listener.has_client())
    }

    pub(crate) fn descriptor(&self) -> usize {
        each!(self, listener => listener.descriptor())
    }
}

impl Stream {
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        each!(self, stream => stream.is_connected())
    }

    pub(crate) fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::System(stream) => stream.local_addr(),
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(stream) => Ok(Some(stream.local_addr())),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::System(stream) => stream.peer_addr(),
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(stream) => Ok(Some(stream.peer_addr())),
        }
    }

    pub(crate) fn is_unix(&self) -> bool {
        match self {
            #[cfg(unix)]
            Self::System(SystemStream::Unix(_)) => true,
            _ => false,
        }
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.recv(buffer))
    }

    pub(crate) fn send(&self, bytes: &[u8], fin_follows: bool) -> io::Result<usize> {
        each!(self, stream => stream.send(bytes, fin_follows))
    }

    pub(crate) fn send_vectored(&self, slices: &[IoSlice<'_>], fin_follows: bool) -> io::Result<usize> {
        each!(self, stream => stream.send_vectored(slices, fin_follows))
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        each!(self, stream => stream.shutdown_write())
    }

    pub(crate) fn stop_input(&self) -> Option<(InputStop, io::Result<()>)> {
        each!(self, stream => stream.stop_input())
    }

    pub(crate) fn has_sent_all(&self) -> (bool, io::Result<()>) {
        each!(self, stream => stream.has_sent_all())
    }

    pub(crate) fn resume_input(&self) -> io::Result<()> {
        each!(self, stream => stream.resume_input())
    }

    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        each!(self, stream => stream.reset_on_close())
    }

    pub(crate) fn descriptor(&self) -> usize {
        each!(self, stream => stream.descriptor())
    }
}

impl UdpSocket {
    pub(crate) fn descriptor(&self) -> usize {
        each!(self, socket => socket.descriptor())
    }

    pub(crate) fn has_family_of(&self, address: SocketAddr) -> bool {
        each!(self, socket => socket.has_family_of(address))
    }

    pub(crate) fn may_broadcast(&mut self) -> bool {
        match self {
            Self::System(socket) => SockRef::from(&*socket.inner()).broadcast().unwrap_or(true),
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(socket) => socket.may_broadcast(),
        }
    }

    pub(crate) fn change_membership(&mut self, membership: Membership, change: MembershipChange) -> io::Result<()> {
        match self {
            Self::System(socket) => {
                let socket = &*socket.inner();
                udp_options::change_membership(&SockRef::from(socket), membership, change)
            }
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(socket) => socket.change_membership(membership, change),
        }
    }

    pub(crate) fn recv_datagrams(&mut self, batch: &mut RecvBatch, max: usize) -> io::Result<bool> {
        each!(self, socket => socket.recv_datagrams(batch, max))
    }

    pub(crate) fn send_datagrams(
        &mut self,
        transmits: &[Transmit],
        send_queue: &UdpSendQueue,
        notes: &mut SendNotes<'_>,
        outcome: impl FnMut(&Transmit, io::Result<()>),
    ) {
        each!(self, socket => socket.send_datagrams(transmits, send_queue, notes, outcome));
    }
}

/// One event of the poll, for one socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they come from the kernel as independent bits")]
pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// More may follow a short read: the peer has sent a FIN, or an urgent byte ended the read.
    pub(crate) read_to_end: bool,
    /// The source has an error.
    pub(crate) error: bool,
    /// The stream is closed in both directions.
    pub(crate) hang_up: bool,
}
