//! Simulated sockets, and the clients connected to them.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Weak;
use std::time::Duration;

use crate::ids::Token;
use crate::options::Interest;
use crate::options::udp::Membership;

/// Calls on one socket.
#[derive(Default)]
pub(crate) struct CallCounts {
    pub(crate) accepts: u32,
    pub(crate) datagrams: u32,
    pub(crate) bytes_read: usize,
    pub(crate) most_failures_in_a_row: u32,
    pub(crate) failures_in_a_row: u32,
}

/// One socket of the loop, and what is at its other end.
pub(crate) struct SimSocket {
    pub(crate) token: Option<Token>,
    /// An edge that the poll has not told yet.
    pub(crate) has_edge: bool,
    /// Since when a fault has held the edge back.
    pub(crate) late_since: Option<Duration>,
    pub(crate) fd: FdState,
    pub(crate) local: SocketAddr,
    pub(crate) kind: SimSocketKind,
}

/// Whether the loop has a descriptor of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FdState {
    /// Not yet: it stands in a backlog.
    InBacklog,
    /// Not yet: it is in a `Connect`.
    HandedOver,
    Open,
    Closed,
}

pub(crate) enum SimSocketKind {
    Listener {
        backlog: VecDeque<usize>,
    },
    Stream(Box<SimStream>),
    Udp(RecvQueue),
    /// A descriptor of the embedder's: the readiness that its next edge is to report.
    Watched {
        readable: bool,
        writable: bool,
    },
}

/// What a UDP socket has received.
#[derive(Default)]
pub(crate) struct RecvQueue {
    pub(crate) queue: VecDeque<(SocketAddr, IpAddr, Vec<u8>)>,
    /// An error that cut a receive short: the next one is told.
    pub(crate) pending_error: Option<io::Error>,
    pub(crate) datagram_bytes_max: usize,
    pub(crate) memberships: BTreeSet<Membership>,
    /// Whether what it sends to a group comes to the loop's own sockets, too.
    pub(crate) multicast_loop: bool,
    pub(crate) may_broadcast: bool,
}

/// What travels from a client to the loop.
pub(crate) enum Segment {
    Bytes(Vec<u8>),
    Urgent,
    Fin,
    Reset,
}

#[expect(clippy::struct_excessive_bools, reason = "each is independent of the others")]
pub(crate) struct SimStream {
    pub(crate) peer: SocketAddr,
    /// What each `Connect` has that this socket was handed over in.
    pub(crate) owner: Weak<usize>,
    pub(crate) connect_answer: ConnectAnswer,
    pub(crate) in_flight: VecDeque<Segment>,
    /// Arrived and not yet read.
    pub(crate) recv_buffer: VecDeque<u8>,
    /// When the bytes in there arrived, and how many each time.
    pub(crate) arrivals: VecDeque<(Duration, usize)>,
    /// How many bytes of the queue stand before the urgent mark.
    pub(crate) urgent_after: Option<usize>,
    pub(crate) fin_received: bool,
    pub(crate) reset: Reset,
    /// Taken from the loop and not yet with the client.
    pub(crate) send_buffer: VecDeque<u8>,
    /// Room in `send_buffer`.
    pub(crate) send_buffer_bytes_max: usize,
    /// A send was refused, or cut short, for want of room.
    pub(crate) blocked: bool,
    pub(crate) write_shut_down: bool,
    pub(crate) resets_on_close: bool,
    pub(crate) client: ClientSide,
}

/// What has become of a connection that the loop has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectAnswer {
    Pending,
    /// It is there; so is every client's of a listener.
    Connected,
    /// An error number.
    Failed(i32),
}

/// How far a reset by the client has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reset {
    No,
    /// Here, and not yet told to a call.
    Arrived,
    Reported,
}

/// What a client sees.
#[derive(Default)]
pub(crate) struct ClientSide {
    pub(crate) received: Vec<u8>,
    /// How much of it the client has taken out of its receive buffer.
    pub(crate) read: usize,
    /// Room of that buffer; without end for a client that always reads.
    pub(crate) window: usize,
    pub(crate) saw_eof: bool,
    pub(crate) saw_reset: bool,
    /// An error was injected into a call for it: what it sees is its own fault.
    pub(crate) hit_by_fault: bool,
}

impl SimSocket {
    /// Whether it is a descriptor that the loop has opened.
    pub(crate) fn is_loops(&self) -> bool {
        matches!(self.kind, SimSocketKind::Listener { .. } | SimSocketKind::Stream(_) | SimSocketKind::Udp(_))
    }

    /// Whether the poll has an edge to tell of it.
    pub(crate) fn has_event(&self) -> bool {
        self.has_edge && self.token.is_some()
    }

    /// An edge of the readiness that the test sets.
    pub(crate) fn set_ready(&mut self, interest: Interest) {
        if let SimSocketKind::Watched { readable, writable } = &mut self.kind {
            *readable |= interest.reads();
            *writable |= interest.writes();
        }
        self.has_edge = true;
    }

    /// The poll has told the edge.
    pub(crate) fn clear_edge(&mut self) {
        self.has_edge = false;
        self.late_since = None;
        if let SimSocketKind::Watched { readable, writable } = &mut self.kind {
            (*readable, *writable) = (false, false);
        }
    }

    /// Whether nothing can happen to it any more.
    pub(crate) fn is_finished(&self) -> bool {
        let is_quiet = match &self.kind {
            SimSocketKind::Stream(stream) => {
                stream.client.saw_eof_or_reset() && stream.in_flight.is_empty() && stream.send_buffer.is_empty()
            }
            _ => true,
        };
        self.fd == FdState::Closed && is_quiet
    }
}

impl ClientSide {
    pub(crate) fn saw_eof_or_reset(&self) -> bool {
        self.saw_eof || self.saw_reset
    }
}

impl SimStream {
    /// Bytes arrive from the client.
    pub(crate) fn push_received(&mut self, bytes: Vec<u8>, at: Duration) {
        self.arrivals.push_back((at, bytes.len()));
        self.recv_buffer.extend(bytes);
    }

    /// The loop reads bytes that have arrived.
    pub(crate) fn take_received(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.recv_buffer.read_exact(buffer)?;
        let mut left = buffer.len();
        while left > 0
            && let Some((_, count)) = self.arrivals.front_mut()
        {
            let taken = left.min(*count);
            (left, *count) = (left - taken, *count - taken);
            if *count == 0 {
                self.arrivals.pop_front();
            }
        }
        Ok(())
    }
}
