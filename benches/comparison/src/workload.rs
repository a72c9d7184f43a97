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

/// The bytes of an exchange of the workloads `echo` and `proxy`.
pub(crate) const MIB: u64 = 1 << 20;
/// The bytes that each client of the workload `fan-out` gets in a round.
pub(crate) const DELIVERY_BYTES: usize = 64 * 1024;

/// The behaviour that a server is started with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// Reads once, answers, closes.
    Once,
    /// Answers every line, and keeps the connection open.
    Lines,
    /// Answers every datagram.
    Udp,
    /// The same, for clients that send several datagrams in one call. Only the floor serves them in another way.
    UdpGso,
    /// Sends back what it reads.
    Echo,
    /// Forwards to another server, and back.
    Proxy,
    /// Sends `DELIVERY_BYTES` to every connection when one of them has sent a byte.
    FanOut,
}

impl Mode {
    /// Whether an exchange has many bytes.
    pub(crate) fn is_bulk(self) -> bool {
        matches!(self, Self::Echo | Self::Proxy | Self::FanOut)
    }

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Lines => "lines",
            Self::Udp => "udp",
            Self::UdpGso => "udp-gso",
            Self::Echo => "echo",
            Self::Proxy => "proxy",
            Self::FanOut => "fan-out",
        }
    }
}

/// Workloads that share a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// A request and a response of a few bytes.
    Small,
    /// Many bytes.
    Bulk,
}

impl Group {
    pub(crate) const ALL: [Self; 2] = [Self::Small, Self::Bulk];

    /// What an exchange is called in a title.
    pub(crate) fn exchange(self) -> &'static str {
        match self {
            Self::Small => "an exchange",
            Self::Bulk => "a bulk exchange",
        }
    }

    /// The line above its panels of the chart.
    pub(crate) fn chart_title(self) -> &'static str {
        match self {
            Self::Small => "A request and its response",
            Self::Bulk => "A MiB through an echo or a proxy; 64 KiB to one client of a fan-out",
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
    /// 16 sockets, 8 datagrams in flight each, which they send in one call.
    UdpGso,
    /// One connection that gets back what it sends.
    Echo,
    /// 16 of them.
    #[value(name = "echo-16")]
    Echo16,
    /// One stream through the server to another one.
    Proxy,
    /// Eight of them.
    #[value(name = "proxy-8")]
    Proxy8,
    /// 64 KiB to each of 1,000 clients.
    FanOut,
}

impl Workload {
    pub(crate) const ALL: [Self; 11] = [
        Self::Once,
        Self::Lines,
        Self::LinesDeep,
        Self::Udp,
        Self::UdpSingle,
        Self::UdpGso,
        Self::Echo,
        Self::Echo16,
        Self::Proxy,
        Self::Proxy8,
        Self::FanOut,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Lines => "lines",
            Self::LinesDeep => "lines-deep",
            Self::Udp => "udp",
            Self::UdpSingle => "udp-single",
            Self::UdpGso => "udp-gso",
            Self::Echo => "echo",
            Self::Echo16 => "echo-16",
            Self::Proxy => "proxy",
            Self::Proxy8 => "proxy-8",
            Self::FanOut => "fan-out",
        }
    }

    /// The mode of the server for this workload.
    pub(crate) fn mode(self) -> Mode {
        match self {
            Self::Once => Mode::Once,
            Self::Lines | Self::LinesDeep => Mode::Lines,
            Self::Udp | Self::UdpSingle => Mode::Udp,
            Self::UdpGso => Mode::UdpGso,
            Self::Echo | Self::Echo16 => Mode::Echo,
            Self::Proxy | Self::Proxy8 => Mode::Proxy,
            Self::FanOut => Mode::FanOut,
        }
    }

    pub(crate) fn group(self) -> Group {
        if self.exchange_bytes().is_some() { Group::Bulk } else { Group::Small }
    }

    /// The bytes of an exchange, if they are many.
    pub(crate) fn exchange_bytes(self) -> Option<u64> {
        match self.mode() {
            Mode::Once | Mode::Lines | Mode::Udp | Mode::UdpGso => None,
            Mode::Echo | Mode::Proxy => Some(MIB),
            Mode::FanOut => Some(DELIVERY_BYTES as u64),
        }
    }

    /// The number of exchanges over which calls are counted.
    pub(crate) fn counted_exchanges(self) -> u64 {
        match self.mode() {
            Mode::Once | Mode::Lines | Mode::Udp | Mode::UdpGso => 4_096,
            Mode::Echo | Mode::Proxy => 256,
            Mode::FanOut => 1_000,
        }
    }

    /// The number of clients, and of requests in flight for each.
    pub(crate) fn load_options(self) -> LoadOptions {
        let (clients, depth) = match self {
            Self::Once | Self::Lines | Self::UdpSingle => (64, 1),
            Self::LinesDeep => (64, 16),
            Self::Udp | Self::UdpGso => (16, 8),
            Self::Echo => (1, 2),
            Self::Echo16 => (16, 2),
            Self::Proxy => (1, 4),
            Self::Proxy8 => (8, 4),
            Self::FanOut => (1_000, 1),
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
