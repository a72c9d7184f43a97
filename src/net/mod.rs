//! The seam to the kernel: every call the loop makes to it.
//!
//! An implementation of [`Network`] reports readiness edge-triggered (once per change), never blocks except in `poll`,
//! and returns the errors of its system calls.

pub(crate) mod io_error_class;
pub(crate) mod recv_batch;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod simulated;
pub(crate) mod system;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::ids::Token;
use crate::net::recv_batch::RecvBatch;
use crate::options::bind::Bind;
use crate::options::connect::Connect;
use crate::options::listen::Listen;
use crate::state::udp_send_queue::{Transmit, UdpSendQueue};

/// What the loop needs of the outside.
pub(crate) trait Network {
    /// A listening socket.
    type Listener;
    /// A connected socket.
    type Stream;
    /// A UDP socket.
    type UdpSocket;

    /// The monotonic clock.
    fn now(&self) -> Instant;
    /// A number that nobody outside can foresee.
    fn entropy(&self) -> u64;
    /// How many connections a listener may have that says nothing of it.
    fn connections_max(&self) -> usize;
    /// Something that ends a poll that waits, from any thread.
    fn waker(&self) -> Box<dyn Fn() + Send + Sync>;
    /// Waits for events, at most as long as told, and appends them; says whether there may be more at once.
    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<bool>;

    /// Opens a listener; its edges carry the token.
    fn listen(&mut self, options: &Listen, token: Token) -> io::Result<(Self::Listener, Option<SocketAddr>)>;
    fn close_listener(&mut self, listener: Self::Listener);
    /// Takes a client from the backlog.
    fn accept(&mut self, listener: &Self::Listener) -> io::Result<(Self::Stream, Option<SocketAddr>)>;
    /// Begins to connect; an edge tells that the answer has come.
    fn connect(&mut self, to: &Connect) -> io::Result<Self::Stream>;
    /// Whether the answer has come; a refusal is an error.
    fn is_connected(&self, stream: &Self::Stream) -> io::Result<bool>;
    /// The address on this side, if there are addresses.
    fn local_addr(&self, stream: &Self::Stream) -> io::Result<Option<SocketAddr>>;
    /// Asks for edges of a stream, in both directions and for good.
    fn register(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;
    fn recv(&mut self, stream: &Self::Stream, buffer: &mut [u8]) -> io::Result<usize>;
    /// Sends; `more` says that the end of stream follows at once, so that both can share a segment.
    fn send(&mut self, stream: &Self::Stream, bytes: &[u8], more: bool) -> io::Result<usize>;
    /// Ends our side of a stream.
    fn shutdown_write(&mut self, stream: &Self::Stream) -> io::Result<()>;
    fn close(&mut self, stream: Self::Stream);
    /// Closes a stream so that its peer sees a reset.
    fn reset(&mut self, stream: Self::Stream);

    /// Opens a UDP socket; its edges carry the token.
    fn bind(&mut self, options: &Bind, token: Token) -> io::Result<(Self::UdpSocket, SocketAddr)>;
    fn close_udp_socket(&mut self, socket: Self::UdpSocket);
    /// Receives at least one datagram into an empty batch, and at most so many. Says whether there may be more of which
    /// no edge will tell.
    fn recv_datagrams(&mut self, socket: &mut Self::UdpSocket, batch: &mut RecvBatch, max: usize) -> io::Result<bool>;
    /// Sends datagrams that all leave through this socket, and says for each what became of it.
    fn send_datagrams(
        &mut self,
        socket: &mut Self::UdpSocket,
        transmits: &[Transmit],
        send_queue: &UdpSendQueue,
        outcome: impl FnMut(&Transmit, io::Result<()>),
    );
    /// Whether an address is this machine's.
    fn is_local_ip(&mut self, ip: IpAddr) -> bool;
}

/// What an edge told about one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they come from the kernel as independent bits")]
pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Behind a short read there may be more: the peer has shut down, or an urgent byte stands in the way.
    pub(crate) read_to_end: bool,
    /// The source is broken.
    pub(crate) error: bool,
    /// The stream is over in both directions.
    pub(crate) hang_up: bool,
}
