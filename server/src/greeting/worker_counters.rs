//! The counters of one worker's greetings, which other threads can read.
//!
//! Only the worker's own thread adds to them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::text::fault_event::FaultKind;
use crate::text::protocol::Protocol;

/// What one worker has counted since its start.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    /// Greetings sent, by protocol; in echo and discard mode connections that have ended, and datagrams.
    greetings: [Counter; 3],
    /// Datagrams that were themselves greetings, and got no reply.
    pub(crate) looped_datagrams: Counter,
    /// PROXY headers of version 1 that were accepted.
    pub(crate) version_1_headers: Counter,
    /// PROXY headers of version 2 that were accepted.
    pub(crate) version_2_headers: Counter,
    /// Datagrams refused for their PROXY header; they are also in `header_errors`.
    pub(crate) refused_datagrams: Counter,
    /// Connections and datagrams refused for their PROXY header, in the order of [`HeaderError::ALL`].
    header_errors: [Counter; HeaderError::ALL.len()],
    /// Connections and datagrams for which a fault was drawn.
    pub(crate) fault_exchanges: Counter,
    /// Replies over UDP that a fault has held back, and those that no longer wait.
    pub(crate) held_replies: Counter,
    pub(crate) released_replies: Counter,
    /// Faults on purpose, in the order of [`FaultKind::ALL`].
    faults: [Counter; FaultKind::ALL.len()],
}

impl WorkerCounters {
    /// The greetings over one protocol.
    pub(crate) fn greetings(&self, protocol: Protocol) -> &Counter {
        &self.greetings[protocol as usize]
    }

    /// The greetings over all protocols.
    pub(crate) fn greeting_count(&self) -> u64 {
        self.greetings.iter().map(Counter::get).sum()
    }

    /// Whether a fault holds back a reply over UDP.
    pub(crate) fn has_held_replies(&self) -> bool {
        self.held_replies.get() > self.released_replies.get()
    }

    /// The connections and datagrams refused for one error of their PROXY header.
    pub(crate) fn header_errors(&self, error: HeaderError) -> &Counter {
        &self.header_errors[error as usize]
    }

    /// The connections and datagrams that have met one kind of fault.
    pub(crate) fn faults(&self, kind: FaultKind) -> &Counter {
        &self.faults[kind as usize]
    }
}

/// A number that one thread increases and every thread may read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    /// Adds a number. With a single writer, a load and a store are enough, and cost less than an atomic addition.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.get() + count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes the enum, its words and its causes from one list.
macro_rules! header_errors {
    ($($(#[$docs:meta])* $error:ident = $word:literal, $cause:literal;)*) => {
        /// Why a connection or a datagram was refused for its PROXY header. The words are stable, for metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum HeaderError {
            $($(#[$docs])* $error,)*
        }

        impl HeaderError {
            /// All errors, in the order of the counters.
            pub(crate) const ALL: [Self; [$($word),*].len()] = [$(Self::$error),*];

            /// One word, for metrics and the log.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$error => $word,)*
                }
            }

            /// The cause and a way out, for the log.
            pub(crate) const fn cause(self) -> &'static str {
                match self {
                    $(Self::$error => $cause,)*
                }
            }
        }
    };
}

header_errors! {
    /// It violates the specification.
    Malformed = "malformed", "the header violates the specification";
    /// Version 1 has at most 107 bytes; version 2 is refused beyond 536.
    TooLong = "too_long", "the header is longer than 107 bytes (version 1) or 536 bytes (version 2); send fewer TLVs";
    /// A header for datagrams on a stream, or for a stream on UDP.
    Unsupported = "unsupported", "the header is for the other transport: a stream over UDP, or datagrams over TCP";
    /// The client is not in a trusted network, and has sent a header.
    Untrusted = "untrusted", "the client has sent a header and is not in --proxy-protocol; add its network if it is a proxy";
    /// The client has not sent its header in time.
    Timeout = "timeout", "no whole header has arrived within 5s; check that the proxy sends it";
    /// EOF within the header, or a datagram with a part of it.
    Incomplete = "incomplete", "the header ends too early";
    /// A header of version 1 before a datagram.
    Version1Datagram = "version_1_datagram", "version 1 is not defined for datagrams, but nginx sends it for UDP with proxy_protocol on; send version 2";
    /// A trusted client has sent something else.
    Missing = "missing", "the client is in --proxy-protocol and has sent no header; check that the proxy sends one";
}

#[cfg(test)]
mod tests {
    use super::{HeaderError, WorkerCounters};

    #[test]
    fn each_header_error_has_a_counter_and_a_word_of_its_own() {
        let counters = WorkerCounters::default();
        for (index, error) in HeaderError::ALL.into_iter().enumerate() {
            assert_eq!(error as usize, index);
            counters.header_errors(error).add_one();
            assert_eq!(counters.header_errors(error).get(), 1);
            let same_word = HeaderError::ALL.into_iter().filter(|other| other.as_str() == error.as_str());
            assert_eq!(same_word.count(), 1, "{error:?}");
        }
    }
}
