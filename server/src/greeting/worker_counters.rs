//! The counters of one worker's greetings, which other threads can read.
//!
//! Only the worker's own thread adds to them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::text::protocol::Protocol;

/// What one worker has counted since its start.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    /// Greetings sent over TCP; in echo and discard mode connections that have ended.
    pub(crate) tcp_greetings: Counter,
    /// The same at unix sockets.
    pub(crate) unix_greetings: Counter,
    /// Greetings sent over UDP; in echo and discard mode datagrams.
    pub(crate) udp_greetings: Counter,
    /// Datagrams that were themselves greetings, and got no reply.
    pub(crate) looped_datagrams: Counter,
}

impl WorkerCounters {
    /// The greetings over one protocol.
    pub(crate) fn greetings(&self, protocol: Protocol) -> &Counter {
        match protocol {
            Protocol::Tcp => &self.tcp_greetings,
            Protocol::Unix => &self.unix_greetings,
            Protocol::Udp => &self.udp_greetings,
        }
    }

    /// The greetings over all protocols.
    pub(crate) fn greeting_count(&self) -> u64 {
        [Protocol::Tcp, Protocol::Unix, Protocol::Udp].map(|protocol| self.greetings(protocol).get()).iter().sum()
    }
}

/// A number that one thread increases and every thread may read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one. With a single writer, a load and a store are enough, and cost less than an atomic addition.
    pub(crate) fn add_one(&self) {
        self.0.store(self.get() + 1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
