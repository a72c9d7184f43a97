//! Simulated sockets, and the clients connected to them.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Weak;
use std::time::Duration;

use crate::ids::Token;
use crate::options::Interest;
use crate::options::udp::Membership;

/// Counts of calls on one socket.
#[derive(Default)]
pub(crate) struct CallCounts {
    pub(crate) accepts: u32,
    pub(crate) datagrams: u32,
    pub(crate) bytes_read: usize,
    pub(crate) most_failures_in_a_row: u32,
    pub(crate) failures_in_a_row: u32,
}

/// The descriptor of a socket. The first three are stdin, stdout and stderr.
pub(crate) fn descriptor(socket: usize) -> usize {
    socket + 3
}

/// One socket of the loop, and the peer at its other end.
pub(crate) struct SimSocket {
    pub(crate) token: Option<Token>,
    /// An edge that the poll has not reported.
    pub(crate) has_edge: bool,
    /// The time since which a fault has delayed the edge.
    pub(crate) late_since: Option<Duration>,
    pub(crate) fd: FdState,
    pub(crate) local: SocketAddr,
    pub(crate) kind: SimSocketKind,
}

/// The state of the loop's descriptor of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FdState {
    /// None yet: the socket is in a backlog.
    InBacklog,
    /// None yet: the socket is in a `Connect`.
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
    /// A descriptor of the embedder: the readiness of its next edge.
    Watched {
        readable: bool,
        writable: bool,
    },
}

impl SimSocketKind {
    /// The counter of its failures in the world.
    pub(crate) fn failure_index(&self) -> usize {
        match self {
            Self::Udp(_) => 1,
            Self::Listener { backlog } if backlog.is_empty() => 2,
            _ => 0,
        }
    }
}

/// The receive queue of a UDP socket, and its options.
#[derive(Default)]
pub(crate) struct RecvQueue {
    pub(crate) queue: VecDeque<(SocketAddr, IpAddr, Vec<u8>)>,
    /// An error that ended a receive early: the next call returns it.
    pub(crate) pending_error: Option<io::Error>,
    pub(crate) datagram_bytes_max: usize,
    pub(crate) memberships: BTreeSet<Membership>,
    /// Whether the loop's own sockets also receive what it sends to a group.
    pub(crate) multicast_loop: bool,
    pub(crate) may_broadcast: bool,
}

/// A segment from a client to the loop.
pub(crate) enum Segment {
    Bytes(Vec<u8>),
    Urgent,
    Fin,
    Reset,
}

#[expect(clippy::struct_excessive_bools, reason = "each is independent of the others")]
pub(crate) struct SimStream {
    pub(crate) peer: SocketAddr,
    /// The reference of every `Connect` that contains this socket.
    pub(crate) owner: Weak<usize>,
    pub(crate) connect_answer: ConnectAnswer,
    pub(crate) in_flight: VecDeque<Segment>,
    /// Bytes that arrived and were not read.
    pub(crate) recv_buffer: VecDeque<u8>,
    /// The arrival times of those bytes, and how many arrived each time.
    pub(crate) arrivals: VecDeque<(Duration, usize)>,
    /// The number of bytes before the urgent mark.
    pub(crate) urgent_after: Option<usize>,
    pub(crate) fin_received: bool,
    /// Data stays in flight, because the kernel drops it and the peer sends it again.
    pub(crate) input_stopped: bool,
    /// How many bytes have arrived, and how many of them before our FIN.
    pub(crate) bytes_arrived: usize,
    pub(crate) bytes_before_fin: Option<usize>,
    /// The loop has called shutdown(2). A close alone, as at a timeout, may lose input.
    pub(crate) fin_requested: bool,
    /// Only an empty send buffer counts as room.
    pub(crate) writable_when_sent: bool,
    pub(crate) reset: Reset,
    /// Bytes from the loop that have not reached the client.
    pub(crate) send_buffer: VecDeque<u8>,
    /// The maximum of `send_buffer`.
    pub(crate) send_buffer_bytes_max: usize,
    /// A send was refused or incomplete because there was no room: an event reports room later.
    pub(crate) blocked: bool,
    pub(crate) write_shut_down: bool,
    pub(crate) resets_on_close: bool,
    pub(crate) client: ClientSide,
}

/// The result of a connect of the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ConnectAnswer {
    Pending,
    /// Connected, like every client of a listener.
    Connected,
    /// An error number.
    Failed(i32),
}

/// The progress of a reset by the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reset {
    No,
    /// Arrived, and not yet returned by a call.
    Arrived,
    Reported,
}

/// The client's view of a stream.
#[derive(Default)]
pub(crate) struct ClientSide {
    pub(crate) received: Vec<u8>,
    /// How many of these bytes the client has read.
    pub(crate) read: usize,
    /// The size of the client's receive buffer; no limit for a client that always reads.
    pub(crate) window: usize,
    pub(crate) saw_eof: bool,
    pub(crate) saw_reset: bool,
    /// An error was injected into a call for this client.
    pub(crate) hit_by_fault: bool,
}

impl SimSocket {
    /// Whether the loop has opened the descriptor.
    pub(crate) fn is_loops(&self) -> bool {
        matches!(self.kind, SimSocketKind::Listener { .. } | SimSocketKind::Stream(_) | SimSocketKind::Udp(_))
    }

    /// Whether the poll has an edge to report.
    pub(crate) fn has_event(&self) -> bool {
        self.has_edge && self.token.is_some()
    }

    /// Adds an edge of the readiness that a test sets.
    pub(crate) fn set_ready(&mut self, interest: Interest) {
        if let SimSocketKind::Watched { readable, writable } = &mut self.kind {
            *readable |= interest.reads();
            *writable |= interest.writes();
        }
        self.has_edge = true;
    }

    /// Clears the edge after the poll has reported it.
    pub(crate) fn clear_edge(&mut self) {
        self.has_edge = false;
        self.late_since = None;
        if let SimSocketKind::Watched { readable, writable } = &mut self.kind {
            (*readable, *writable) = (false, false);
        }
    }

    /// Whether nothing more can happen to the socket.
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
    /// Whether the next segment in flight may arrive.
    pub(crate) fn has_segment_to_deliver(&self) -> bool {
        match self.in_flight.front() {
            Some(Segment::Bytes(_) | Segment::Urgent) => !self.input_stopped,
            Some(Segment::Fin | Segment::Reset) => true,
            None => false,
        }
    }

    /// Moves output to the client, and the FIN behind it.
    pub(crate) fn carry_to_client(&mut self, count: usize) {
        self.client.received.extend(self.send_buffer.drain(..count));
        self.note_fin();
    }

    /// The FIN leaves when all output before it has left.
    pub(crate) fn note_fin(&mut self) {
        if self.fin_requested && self.send_buffer.is_empty() {
            self.bytes_before_fin.get_or_insert(self.bytes_arrived);
        }
    }

    /// Whether an event reports room for output.
    pub(crate) fn is_writable(&self) -> bool {
        let room_max = if self.writable_when_sent { 0 } else { self.send_buffer_bytes_max * 2 / 3 };
        self.send_buffer.len() <= room_max
    }

    /// Adds bytes that arrive from the client.
    pub(crate) fn push_received(&mut self, bytes: Vec<u8>, at: Duration) {
        self.bytes_arrived += bytes.len();
        self.arrivals.push_back((at, bytes.len()));
        self.recv_buffer.extend(bytes);
    }

    /// Removes bytes that the loop reads.
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
