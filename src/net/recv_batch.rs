//! Datagrams that came in together, and which of them have been handed on.

use std::net::{IpAddr, SocketAddr};
use std::slice::ChunksExactMut;

use crate::limits;

/// Datagrams that came in together by one socket, and which of them have been handed on.
///
/// It belongs to the loop, so that a handler that unwinds loses none but its own, and all sockets share its room.
#[derive(Default)]
pub(crate) struct Batch {
    room: Vec<u8>,
    /// Between the beginnings of two datagrams.
    stride: usize,
    arrived: Vec<Arrival>,
    handed_on: usize,
}

/// One datagram, as far as it fitted its part of the room.
pub(crate) struct Arrival {
    pub(crate) length: usize,
    pub(crate) envelope: Envelope,
}

impl Batch {
    /// Room for datagrams of so many bytes, part by part; and the list of what has arrived, in their order.
    pub(crate) fn open(&mut self, bytes: usize) -> (ChunksExactMut<'_, u8>, &mut Vec<Arrival>) {
        // The system gives pages of zeros as they are written to: room that is never filled costs nothing.
        if self.room.is_empty() {
            self.room = vec![0; limits::BATCH_BYTES_MAX];
        }
        self.stride = bytes;
        (self.room.chunks_exact_mut(self.stride), &mut self.arrived)
    }

    /// The next one to hand on; the batch is empty again after the last.
    pub(crate) fn next(&mut self) -> Option<(Envelope, &[u8])> {
        let Some(&Arrival { length, envelope }) = self.arrived.get(self.handed_on) else {
            self.clear();
            return None;
        };
        let start = self.handed_on * self.stride;
        self.handed_on += 1;
        Some((envelope, &self.room[start..start + length]))
    }

    /// Forgets what has not been handed on.
    pub(crate) fn clear(&mut self) {
        self.arrived.clear();
        self.handed_on = 0;
    }
}

/// What is known about a datagram besides its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Envelope {
    pub(crate) peer: SocketAddr,
    /// The address that was asked, where the socket is bound to every address.
    pub(crate) asked: Option<IpAddr>,
    pub(crate) truncated: bool,
}
