//! The seam to the outside: every call that the loop makes to a kernel, or to what stands in for one.
//!
//! The loop is generic over [`Network`], with static dispatch. An implementation supplies: readiness told by edges
//! (once for each change, lost if nobody acts on it), non-blocking calls with the errors of their system calls, a
//! monotonic clock, and randomness. What an error means is decided here too, by [`Trouble`], for all implementations
//! alike.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::slice::ChunksExactMut;
use std::time::{Duration, Instant};

use crate::connect::Connect;
use crate::lent::Envelope;
use crate::limits;
use crate::options::{Bind, Listen};
use crate::staged::{Letter, Staged};
use crate::token::Token;

/// What the loop needs of the outside.
pub(crate) trait Network {
    /// A listening socket.
    type Listener;
    /// A connected socket.
    type Stream;
    /// A UDP socket.
    type Datagrams;

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
    fn connected(&self, stream: &Self::Stream) -> io::Result<bool>;
    /// The address on this side, if there are addresses.
    fn local_addr(&self, stream: &Self::Stream) -> io::Result<Option<SocketAddr>>;
    /// Asks for edges of a stream, in both directions and for good.
    fn register(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;
    fn recv(&mut self, stream: &Self::Stream, room: &mut [u8]) -> io::Result<usize>;
    /// Sends; `more` says that the end of stream follows at once, so that both can share a segment.
    fn send(&mut self, stream: &Self::Stream, bytes: &[u8], more: bool) -> io::Result<usize>;
    /// Ends our side of a stream.
    fn shutdown(&mut self, stream: &Self::Stream) -> io::Result<()>;
    fn close(&mut self, stream: Self::Stream);
    /// Closes a stream so that its peer sees a reset.
    fn reset(&mut self, stream: Self::Stream);

    /// Opens a UDP socket; its edges carry the token.
    fn bind(&mut self, options: &Bind, token: Token) -> io::Result<(Self::Datagrams, SocketAddr)>;
    fn close_socket(&mut self, socket: Self::Datagrams);
    /// Receives at least one datagram into an empty batch, and at most so many. Says whether there may be more of which
    /// no edge will tell.
    fn receive(&mut self, socket: &mut Self::Datagrams, batch: &mut Batch, most: usize) -> io::Result<bool>;
    /// Sends letters that all leave through this socket, and says for each what became of it.
    fn transmit(
        &mut self,
        socket: &mut Self::Datagrams,
        letters: &[Letter],
        staged: &Staged,
        outcome: impl FnMut(&Letter, io::Result<()>),
    );
    /// Whether an address is this machine's.
    fn is_local(&mut self, ip: IpAddr) -> bool;
}

/// What an edge told about one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they come from the kernel as independent bits")]
pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Behind a short read there may be more: the peer has shut down, or an urgent byte stands in the way.
    pub(crate) deep: bool,
    /// The source is broken.
    pub(crate) broken: bool,
    /// The stream is over in both directions.
    pub(crate) over: bool,
}

/// What the loop does about an error of a source that it goes on using.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// Nothing there: the poll will tell.
    Empty,
    /// That one call failed; the next may not.
    Passing,
    /// A resource is used up: trying again at once would only spin.
    Exhausted,
}

impl Trouble {
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Empty,
            _ if is_exhaustion(error) => Self::Exhausted,
            _ => Self::Passing,
        }
    }
}

#[cfg(target_os = "linux")]
fn is_exhaustion(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

/// Without the numbers, only the kind tells; what it does not tell pauses after a few tries.
#[cfg(not(target_os = "linux"))]
fn is_exhaustion(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

/// Datagrams that came in together by one socket, and which of them have been handed on.
///
/// It belongs to the loop, so that a handler that unwinds loses none but its own, and all sockets share its room.
#[derive(Default)]
pub(crate) struct Batch {
    room: Vec<u8>,
    /// Between the beginnings of two datagrams.
    stride: usize,
    arrived: Vec<Arrival>,
    handed_on: usize,
}

/// One datagram, as far as it fitted its part of the room.
pub(crate) struct Arrival {
    pub(crate) length: usize,
    pub(crate) envelope: Envelope,
}

impl Batch {
    /// Room for datagrams of so many bytes, part by part; and the list of what has arrived, in their order.
    pub(crate) fn open(&mut self, bytes: usize) -> (ChunksExactMut<'_, u8>, &mut Vec<Arrival>) {
        // The system gives pages of zeros as they are written to: room that is never filled costs nothing.
        if self.room.is_empty() {
            self.room = vec![0; limits::BATCH_BYTES_MAX];
        }
        self.stride = bytes;
        (self.room.chunks_exact_mut(self.stride), &mut self.arrived)
    }

    /// The next one to hand on; the batch is empty again after the last.
    pub(crate) fn next(&mut self) -> Option<(Envelope, &[u8])> {
        let Some(&Arrival { length, envelope }) = self.arrived.get(self.handed_on) else {
            self.clear();
            return None;
        };
        let start = self.handed_on * self.stride;
        self.handed_on += 1;
        Some((envelope, &self.room[start..start + length]))
    }

    /// Forgets what has not been handed on.
    pub(crate) fn clear(&mut self) {
        self.arrived.clear();
        self.handed_on = 0;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn errors_of_accept_have_the_classes_that_accept_2_gives_them() {
        let trouble = |errno: Errno| Trouble::of(&io::Error::from(errno));
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
            assert_eq!(trouble(errno), Trouble::Exhausted, "{errno}");
        }
        let passing = [
            Errno::EINTR,
            Errno::ECONNABORTED,
            Errno::EPROTO,
            Errno::EPERM,
            Errno::ENETDOWN,
            Errno::EHOSTUNREACH,
            Errno::EOPNOTSUPP,
            Errno::ENOPROTOOPT,
            Errno::ENONET,
            Errno::ETIMEDOUT,
        ];
        for errno in passing {
            assert_eq!(trouble(errno), Trouble::Passing, "{errno}");
        }
        assert_eq!(trouble(Errno::EAGAIN), Trouble::Empty);
    }
}
