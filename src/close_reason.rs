//! Why a connection ended.
//!
//! Each reason has one counter and one word.

use std::{fmt, io};

/// The first cause of a connection's end, as [`on_close`](crate::StreamHandler::on_close) is told.
///
/// [`as_str`](CloseReason::as_str) and `Display` are stable, for logs and metrics; [`Stats`](crate::Stats) counts each.
///
/// ```
/// assert_eq!(halloo::CloseReason::WriteStalled.as_str(), "write-stalled");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer ended its stream, and the handler closed in answer.
    Eof,
    /// The handler closed.
    Local,
    /// The handler aborted.
    Aborted,
    /// The peer reset the connection, or is gone (`ECONNRESET`, `EPIPE`).
    Reset,
    /// Nothing moved for the idle timeout, or the handler closed in its `on_timeout`.
    TimedOut,
    /// The peer took nothing of what waits for it for the write timeout.
    WriteStalled,
    /// The handler left a full inbox untouched, or a frame was longer than its maximum.
    InputOverflow,
    /// Still open at the end of a drain's grace, or at a stop.
    Drained,
    /// The handler panicked in a callback for this connection; its `on_close` does not come, but it is counted.
    Panicked,
    /// Another error of the connection's socket.
    Io(io::ErrorKind),
}

impl CloseReason {
    /// What the handler is told of an outbound connection that has come to this end before it was open.
    pub(crate) fn to_connect_error(self) -> io::Error {
        match self {
            Self::TimedOut => io::Error::new(io::ErrorKind::TimedOut, "nobody has answered in time"),
            Self::Io(kind) => kind.into(),
            _ => io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was given up before it was open"),
        }
    }

    /// How many different words there are.
    pub(crate) const COUNT: usize = 10;

    /// One word for it, the same in every version.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        const WORDS: [&str; CloseReason::COUNT] = [
            "eof",
            "local",
            "aborted",
            "reset",
            "timed-out",
            "write-stalled",
            "input-overflow",
            "drained",
            "panicked",
            "io",
        ];
        WORDS[self.index()]
    }

    /// One of each kind, in the order of the counters.
    pub(crate) fn all() -> [Self; Self::COUNT] {
        [
            Self::Eof,
            Self::Local,
            Self::Aborted,
            Self::Reset,
            Self::TimedOut,
            Self::WriteStalled,
            Self::InputOverflow,
            Self::Drained,
            Self::Panicked,
            Self::Io(io::ErrorKind::Other),
        ]
    }

    /// Its place among the counters.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Eof => 0,
            Self::Local => 1,
            Self::Aborted => 2,
            Self::Reset => 3,
            Self::TimedOut => 4,
            Self::WriteStalled => 5,
            Self::InputOverflow => 6,
            Self::Drained => 7,
            Self::Panicked => 8,
            Self::Io(_) => 9,
        }
    }

    /// What an error of a connection's socket means.
    pub(crate) fn from_io_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Reset,
            kind => Self::Io(kind),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(kind) => write!(f, "io: {kind}"),
            other => f.write_str(other.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_word_of_its_own() {
        for (index, reason) in CloseReason::all().into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
        let mut words = CloseReason::all().map(CloseReason::as_str).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), CloseReason::COUNT);
    }

    #[test]
    fn a_vanished_peer_is_a_reset_whichever_call_noticed() {
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset] {
            assert_eq!(CloseReason::from_io_error(&kind.into()), CloseReason::Reset);
        }
        assert_eq!(
            CloseReason::from_io_error(&io::ErrorKind::TimedOut.into()),
            CloseReason::Io(io::ErrorKind::TimedOut)
        );
    }
}
