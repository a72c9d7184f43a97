//! Why a connection ended.
//!
//! Each reason has one counter and one word.

use std::{fmt, io};

/// Makes the enum and its words from one list. The reason with an error kind comes last.
macro_rules! close_reasons {
    ($($(#[$docs:meta])* $reason:ident = $word:literal,)*) => {
        /// The first cause of a connection's end, passed to [`on_close`](crate::StreamHandler::on_close).
        ///
        /// [`as_str`](CloseReason::as_str) is one stable word, for metrics. `Display` is the same, and adds the kind of
        /// error to [`Io`](Self::Io), for logs. [`Stats`](crate::Stats) counts each reason.
        ///
        /// ```
        /// assert_eq!(halloo::CloseReason::WriteStalled.as_str(), "write-stalled");
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum CloseReason {
            $($(#[$docs])* $reason,)*
            /// Another error of the connection's socket.
            Io(io::ErrorKind),
        }

        impl CloseReason {
            /// Every reason once, in the order of the counters; [`Io`](Self::Io) stands for all its error kinds.
            ///
            /// ```
            /// let stats = halloo::EventLoop::new()?.stats().clone();
            /// for reason in halloo::CloseReason::ALL {
            ///     println!("closed_total{{reason=\"{}\"}} {}", reason.as_str(), stats.closed(*reason));
            /// }
            /// # Ok::<(), halloo::Error>(())
            /// ```
            pub const ALL: &[Self] = &[$(Self::$reason,)* Self::Io(io::ErrorKind::Other)];

            /// Returns one word for the reason, the same in every version.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => $word,)*
                    Self::Io(_) => "io",
                }
            }

            /// The index of its counter.
            pub(crate) fn index(self) -> usize {
                enum Index {
                    $($reason,)*
                    Io,
                }
                match self {
                    $(Self::$reason => Index::$reason as usize,)*
                    Self::Io(_) => Index::Io as usize,
                }
            }

            pub(crate) fn from_index(index: u64) -> Option<Self> {
                Self::ALL.get(usize::try_from(index).ok()?).copied()
            }
        }
    };
}

close_reasons! {
    /// The peer sent EOF, and the handler then closed.
    Eof = "eof",
    /// The handler closed.
    Local = "local",
    /// The handler aborted.
    Aborted = "aborted",
    /// The peer reset the connection, or has gone (`ECONNRESET`, `EPIPE`).
    Reset = "reset",
    /// No progress for the idle timeout, or the handler closed in its `on_timeout`.
    TimedOut = "timed-out",
    /// The kernel accepted none of the waiting output for the write timeout.
    WriteStalled = "write-stalled",
    /// The handler consumed nothing of a full inbox, or a frame was longer than its maximum.
    InputOverflow = "input-overflow",
    /// A [`Decoder`](crate::framing::Decoder) returned an error: the peer sent what the protocol does not allow.
    InvalidInput = "invalid-input",
    /// The system refused memory for it; or the buffers of the loop stayed near
    /// [`buffer_bytes_max`](crate::EventLoop::buffer_bytes_max) and this connection had the most.
    OutOfMemory = "out-of-memory",
    /// Still open when the grace period of a drain ended, or at a stop.
    Drained = "drained",
    /// The handler panicked in a callback for this connection. `on_close` is not called; the reason is counted.
    Panicked = "panicked",
    /// The handler does not accept the peer ([`reject`](crate::Connection::reject)), or the peer's source has its
    /// maximum of connections ([`set_peer_addr`](crate::Connection::set_peer_addr)).
    Rejected = "rejected",
}

impl CloseReason {
    /// The error for `on_connect_failed` when a connection ends for this reason before it opens.
    pub(crate) fn to_connect_error(self) -> io::Error {
        match self {
            Self::TimedOut => io::Error::new(
                io::ErrorKind::TimedOut,
                "connection timed out; the peer did not answer within the connect timeout",
            ),
            Self::OutOfMemory => io::ErrorKind::OutOfMemory.into(),
            Self::Io(kind) => kind.into(),
            _ => io::Error::new(io::ErrorKind::ConnectionAborted, "connection aborted; it was closed before it opened"),
        }
    }

    /// The reason for an error of a connection's socket.
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
            other => f.pad(other.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_word_of_its_own() {
        for (index, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }

    #[test]
    fn a_reason_is_displayed_with_the_width_of_a_table() {
        assert_eq!(format!("{:<6}|{:>6}", CloseReason::Eof, CloseReason::Eof), "eof   |   eof");
    }

    #[test]
    fn broken_pipe_and_connection_reset_have_the_reason_reset() {
        for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset] {
            assert_eq!(CloseReason::from_io_error(&kind.into()), CloseReason::Reset);
        }
        assert_eq!(
            CloseReason::from_io_error(&io::ErrorKind::TimedOut.into()),
            CloseReason::Io(io::ErrorKind::TimedOut)
        );
    }
}
