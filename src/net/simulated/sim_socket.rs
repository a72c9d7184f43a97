//! The two ends of every simulated connection: a socket of the loop's, and what is behind it.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::ids::Token;

/// Calls on one socket.
#[derive(Default)]
pub(crate) struct Usage {
    pub(crate) accepts: u32,
    pub(crate) datagrams: u32,
    pub(crate) bytes_read: usize,
    pub(crate) most_failures_in_a_row: u32,
    pub(crate) failures_in_a_row: u32,
}

/// One socket of the loop, and what is at its other end.
pub(crate) struct End {
    pub(crate) token: Option<Token>,
    /// An edge that the poll has not told yet.
    pub(crate) edge: bool,
    pub(crate) hold: Hold,
    pub(crate) local: SocketAddr,
    pub(crate) kind: Kind,
}

/// Whether the loop has a descriptor of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// Not yet: it stands in a backlog.
    Waiting,
    Held,
    Closed,
}

pub(crate) enum Kind {
    Listener { backlog: VecDeque<usize> },
    Stream(Box<Stream>),
    Socket(Inbound),
}

/// What a UDP socket has received.
#[derive(Default)]
pub(crate) struct Inbound {
    pub(crate) queue: VecDeque<(SocketAddr, IpAddr, Vec<u8>)>,
    /// An error that cut a receive short: the next one is told.
    pub(crate) pending: Option<io::Error>,
}

/// What travels from a client to the loop.
pub(crate) enum Segment {
    Bytes(Vec<u8>),
    Urgent,
    Fin,
    Reset,
}

pub(crate) struct Stream {
    pub(crate) peer: SocketAddr,
    pub(crate) answer: Answer,
    pub(crate) under_way: VecDeque<Segment>,
    /// Arrived and not yet read.
    pub(crate) queue: VecDeque<u8>,
    /// How many bytes of the queue stand before the urgent mark.
    pub(crate) urgent_after: Option<usize>,
    pub(crate) ended: bool,
    pub(crate) reset: Reset,
    /// Taken from the loop and not yet with the client.
    pub(crate) unsent: VecDeque<u8>,
    /// Room for `unsent`.
    pub(crate) room: usize,
    /// A send was refused, or cut short, for want of room.
    pub(crate) blocked: bool,
    pub(crate) shut: bool,
    pub(crate) client: ClientSide,
}

/// What has become of a connection that the loop has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Awaited,
    /// It is there; so is every client's of a listener.
    Yes,
    /// An error number.
    No(i32),
}

/// How far a reset by the client has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reset {
    No,
    /// Here, and not yet told to a call.
    Arrived,
    Told,
}

/// What a client sees.
#[derive(Default)]
pub(crate) struct ClientSide {
    pub(crate) received: Vec<u8>,
    /// How much of it the client has taken out of its receive buffer.
    pub(crate) taken: usize,
    /// Room of that buffer; without end for a client that always reads.
    pub(crate) window: usize,
    pub(crate) saw_end: bool,
    pub(crate) saw_reset: bool,
    /// An error was injected into a call for it: what it sees is its own fault.
    pub(crate) struck: bool,
}

impl End {
    /// Whether the poll has an edge to tell of it.
    pub(crate) fn is_told(&self) -> bool {
        self.edge && self.token.is_some()
    }

    /// Whether nothing can happen to it any more.
    pub(crate) fn is_over(&self) -> bool {
        let is_quiet = match &self.kind {
            Kind::Stream(stream) => {
                stream.client.knows_the_end() && stream.under_way.is_empty() && stream.unsent.is_empty()
            }
            Kind::Listener { .. } | Kind::Socket { .. } => true,
        };
        self.hold == Hold::Closed && is_quiet
    }
}

impl ClientSide {
    pub(crate) fn knows_the_end(&self) -> bool {
        self.saw_end || self.saw_reset
    }
}

impl Stream {
    /// The client's connection is reset: what had not reached it never will.
    pub(crate) fn cut(&mut self) {
        self.unsent.clear();
        self.client.saw_reset = true;
    }
}
