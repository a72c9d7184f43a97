//! Clients that send a stream of bytes without a pause.
//!
//! An exchange is one MiB, from the first byte sent to the last one confirmed.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{Client, LoadState, unexpected_response};
use crate::byte_pattern::{is_pattern, pattern_at};
use crate::workload::MIB;

/// The most bytes in flight of an echo, there and back. They fit the buffers of a socket, so neither side waits for room
/// that only the other one can make.
const ECHO_WINDOW_BYTES: u64 = MIB;

/// The sending half of a client.
struct BulkSender {
    stream: TcpStream,
    /// Bytes that may be sent in all, a multiple of one MiB.
    granted_bytes: u64,
    sent_bytes: u64,
    /// When the first byte of each MiB in flight was sent, oldest first.
    sent_at: VecDeque<Instant>,
    /// The MiB in flight, and those that are granted, but not begun.
    in_flight: usize,
}

impl BulkSender {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, granted_bytes: 0, sent_bytes: 0, sent_at: VecDeque::new(), in_flight: 0 })
    }

    fn grant(&mut self, mebibytes: usize, state: &mut LoadState) {
        let granted = state.reserve_requests(mebibytes);
        self.in_flight += granted;
        self.granted_bytes += granted as u64 * MIB;
    }

    /// Sends until the socket has no room, or to this position of the stream.
    fn send_up_to(&mut self, end: u64, state: &LoadState) -> io::Result<()> {
        let end = end.min(self.granted_bytes);
        while self.sent_bytes < end {
            let bytes = pattern_at(self.sent_bytes);
            let rest_of_mebibyte = MIB - self.sent_bytes % MIB;
            let count = usize::try_from((end - self.sent_bytes).min(rest_of_mebibyte)).unwrap_or(usize::MAX);
            let bytes = &bytes[..count.min(bytes.len())];
            let sent = match rustix::net::send(&self.stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return Ok(()),
                result => result? as u64,
            };
            if rest_of_mebibyte == MIB {
                self.sent_at.push_back(state.now);
            }
            self.sent_bytes += sent;
        }
        Ok(())
    }

    /// Counts MiB that have arrived.
    fn confirm(&mut self, mebibytes: usize, state: &mut LoadState) -> io::Result<()> {
        if mebibytes > self.sent_at.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes came back than were sent"));
        }
        for sent_at in self.sent_at.drain(..mebibytes) {
            state.record_response(sent_at);
        }
        self.in_flight -= mebibytes;
        self.grant(mebibytes, state);
        Ok(())
    }

    /// Reads once into the buffer of the load; `None` if there is nothing to read.
    fn recv(&self, state: &mut LoadState) -> io::Result<Option<usize>> {
        match rustix::net::recv(&self.stream, &mut state.input[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) if self.in_flight > 0 => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a kept connection"))
            }
            Ok((0, _)) | Err(Errno::AGAIN) => Ok(None),
            Ok((count, _)) => Ok(Some(count)),
            Err(error) => Err(error.into()),
        }
    }
}

/// A client that gets back what it sends.
pub(super) struct Echo {
    sender: BulkSender,
    depth: usize,
    received_bytes: u64,
}

impl Echo {
    pub(super) fn open(address: SocketAddr, client: usize, depth: usize, state: &LoadState) -> io::Result<Self> {
        let sender = BulkSender::connect(address)?;
        // Level-triggered: one read for each event, so that no connection keeps the others waiting. There is no interest
        // in room for sending, because bytes in flight come back, and with them an event.
        state.register_for(&sender.stream, client, EventFlags::IN | EventFlags::RDHUP)?;
        Ok(Self { sender, depth, received_bytes: 0 })
    }

    fn send(&mut self, state: &LoadState) -> io::Result<()> {
        self.sender.send_up_to(self.received_bytes + ECHO_WINDOW_BYTES, state)
    }
}

impl Client for Echo {
    fn start(&mut self, state: &mut LoadState) -> io::Result<()> {
        self.sender.grant(self.depth, state);
        self.send(state)
    }

    fn on_ready(&mut self, state: &mut LoadState) -> io::Result<()> {
        let Some(count) = self.sender.recv(state)? else { return Ok(()) };
        let input = &state.input[..count];
        if !is_pattern(self.received_bytes, input) {
            return Err(unexpected_response(&input[..input.len().min(64)]));
        }
        let before = self.received_bytes / MIB;
        self.received_bytes += count as u64;
        let completed = usize::try_from(self.received_bytes / MIB - before).map_err(io::Error::other)?;
        self.sender.confirm(completed, state)?;
        self.send(state)
    }

    fn in_flight(&self) -> usize {
        self.sender.in_flight
    }
}

/// A client whose bytes end in a backend, which checks them and confirms each MiB with one byte.
pub(super) struct Upload {
    sender: BulkSender,
    depth: usize,
}

impl Upload {
    pub(super) fn open(address: SocketAddr, client: usize, depth: usize, state: &LoadState) -> io::Result<Self> {
        let sender = BulkSender::connect(address)?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        state.register_for(&sender.stream, client, interest)?;
        Ok(Self { sender, depth })
    }
}

impl Client for Upload {
    fn start(&mut self, state: &mut LoadState) -> io::Result<()> {
        self.sender.grant(self.depth, state);
        self.sender.send_up_to(u64::MAX, state)
    }

    fn on_ready(&mut self, state: &mut LoadState) -> io::Result<()> {
        if let Some(confirmed) = self.sender.recv(state)? {
            self.sender.confirm(confirmed, state)?;
        }
        self.sender.send_up_to(u64::MAX, state)
    }

    fn in_flight(&self) -> usize {
        self.sender.in_flight
    }
}
