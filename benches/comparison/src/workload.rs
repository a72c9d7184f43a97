//! The exchanges of each workload, byte for byte.

use clap::ValueEnum;

/// The request over TCP, and the response that the client expects.
pub(crate) const TCP_REQUEST: &[u8] = b"Hello, TCP Server!";
pub(crate) const TCP_RESPONSE: &[u8] = b"Hello, TCP Client!";
/// The same as lines.
pub(crate) const LINE_REQUEST: &[u8] = b"Hello, TCP Server!\n";
pub(crate) const LINE_RESPONSE: &[u8] = b"Hello, TCP Client!\n";
/// The same over UDP.
pub(crate) const UDP_REQUEST: &[u8] = b"Hello, UDP Server!";
pub(crate) const UDP_RESPONSE: &[u8] = b"Hello, UDP Client!";

/// The behaviour that a server is started with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// Reads once, answers, closes.
    Once,
    /// Answers every line, and keeps the connection open.
    Lines,
    /// Answers every datagram.
    Udp,
}

impl Mode {
    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Lines => "lines",
            Self::Udp => "udp",
        }
    }
}

/// The behaviour of the clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Workload {
    /// Connect, send a request, read the response and EOF; 64 clients.
    Once,
    /// 64 kept connections, one line in flight each.
    Lines,
    /// 64 kept connections, 16 lines in flight each.
    LinesDeep,
    /// 16 sockets, 8 datagrams in flight each.
    Udp,
    /// 64 sockets, one datagram in flight each.
    UdpSingle,
}

impl Workload {
    pub(crate) const ALL: [Self; 5] = [Self::Once, Self::Lines, Self::LinesDeep, Self::Udp, Self::UdpSingle];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Lines => "lines",
            Self::LinesDeep => "lines-deep",
            Self::Udp => "udp",
            Self::UdpSingle => "udp-single",
        }
    }

    /// The mode of the server for this workload.
    pub(crate) fn mode(self) -> Mode {
        match self {
            Self::Once => Mode::Once,
            Self::Lines | Self::LinesDeep => Mode::Lines,
            Self::Udp | Self::UdpSingle => Mode::Udp,
        }
    }

    /// The number of clients, and of requests in flight for each.
    pub(crate) fn load_options(self) -> LoadOptions {
        let (clients, depth) = match self {
            Self::Once | Self::Lines | Self::UdpSingle => (64, 1),
            Self::LinesDeep => (64, 16),
            Self::Udp => (16, 8),
        };
        LoadOptions { mode: self.mode(), clients, depth }
    }
}

/// The size of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LoadOptions {
    pub(crate) mode: Mode,
    pub(crate) clients: usize,
    pub(crate) depth: usize,
}
