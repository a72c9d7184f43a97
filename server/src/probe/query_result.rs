//! The result of a query: a word, and the reply, if any.
//!
//! Of several results the most severe one decides the exit status.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::exit::ExitStatus;

/// The result of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueryResult {
    pub(crate) outcome: Outcome,
    /// When it was known.
    pub(crate) time: SystemTime,
    /// The address that the result is about, if it is about one only.
    pub(crate) address: Option<SocketAddr>,
    /// From the start to the last byte of the reply, or to the failure.
    pub(crate) elapsed: Duration,
    /// Printable: the whole reply, or what happened instead.
    pub(crate) text: String,
    /// The reply, if there was one.
    pub(crate) reply: Option<Reply>,
    /// How often the request was sent to an address, at most.
    pub(crate) tries: u32,
    pub(crate) presence: Presence,
    /// Other events of the query: addresses that failed before, a reset after the reply.
    pub(crate) notes: Vec<String>,
}

/// What a result shows about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// A server accepts connections or replies, rightly or not.
    Present,
    /// No server is there, or none that replies.
    Absent,
    /// The resolver failed, or this machine.
    Unknown,
}

/// The bytes of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    /// Whether reading stopped at the most that is read.
    pub(crate) is_truncated: bool,
}

/// How a query ended, the most severe outcome last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Ok,
    Timeout,
    Refused,
    Unreachable,
    Dns,
    Resolver,
    Mismatch,
    Reset,
}

impl Outcome {
    /// The word that is printed.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Dns => "dns",
            Self::Resolver => "resolver",
            Self::Mismatch => "mismatch",
            Self::Reset => "reset",
        }
    }

    /// What it shows about the server by itself.
    pub(crate) const fn presence(self) -> Presence {
        match self {
            Self::Ok | Self::Mismatch | Self::Reset => Presence::Present,
            Self::Refused | Self::Dns => Presence::Absent,
            Self::Timeout | Self::Unreachable | Self::Resolver => Presence::Unknown,
        }
    }

    /// What it means for the exit status.
    pub(crate) const fn status(self) -> ExitStatus {
        match self {
            Self::Ok => ExitStatus::Success,
            Self::Refused | Self::Unreachable | Self::Dns | Self::Resolver => ExitStatus::Unavailable,
            Self::Timeout => ExitStatus::TimedOut,
            Self::Mismatch | Self::Reset => ExitStatus::Mismatch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ExitStatus, Outcome};

    #[test]
    fn the_worst_answer_decides_the_exit_status() {
        let worst = |outcomes: &[Outcome]| outcomes.iter().max().unwrap().status();
        assert_eq!(worst(&[Outcome::Ok, Outcome::Ok]), ExitStatus::Success);
        assert_eq!(worst(&[Outcome::Timeout, Outcome::Ok]), ExitStatus::TimedOut);
        for unavailable in [Outcome::Refused, Outcome::Unreachable, Outcome::Dns] {
            assert_eq!(worst(&[unavailable, Outcome::Timeout]), ExitStatus::Unavailable);
            assert_eq!(worst(&[Outcome::Mismatch, unavailable]), ExitStatus::Mismatch);
        }
    }
}
