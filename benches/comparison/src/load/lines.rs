//! A client with one connection and some lines in flight.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{Client, LoadState, READ_BYTES, unexpected_response};
use crate::workload::{LINE_REQUEST, LINE_RESPONSE};

pub(super) struct Lines {
    stream: TcpStream,
    depth: usize,
    /// When each line in flight was sent, oldest first.
    sent_at: VecDeque<Instant>,
    /// Bytes received of the oldest response.
    filled: usize,
    /// All requests that may be in flight, and responses for the longest read.
    requests: Vec<u8>,
    responses: Vec<u8>,
}

impl Lines {
    pub(super) fn open(address: SocketAddr, client: usize, depth: usize, state: &LoadState) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        state.register(&stream, client)?;
        let responses = LINE_RESPONSE.repeat(READ_BYTES / LINE_RESPONSE.len() + 2);
        let requests = LINE_REQUEST.repeat(depth);
        Ok(Self { stream, depth, sent_at: VecDeque::with_capacity(depth), filled: 0, requests, responses })
    }

    fn send_requests(&mut self, lines: usize, state: &mut LoadState) -> io::Result<()> {
        let lines = state.reserve_requests(lines);
        if lines == 0 {
            return Ok(());
        }
        self.sent_at.extend(std::iter::repeat_n(state.now, lines));
        let requests = &self.requests[..lines * LINE_REQUEST.len()];
        if rustix::net::send(&self.stream, requests, SendFlags::NOSIGNAL)? < requests.len() {
            return Err(io::Error::other("the send buffer has no room for the requests"));
        }
        Ok(())
    }
}

impl Client for Lines {
    fn start(&mut self, state: &mut LoadState) -> io::Result<()> {
        self.send_requests(self.depth, state)
    }

    fn on_ready(&mut self, state: &mut LoadState) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        let count = match rustix::net::recv(&self.stream, &mut buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => return Ok(()),
            Ok((count @ 1.., _)) => count,
            // A server may exit once it has answered all.
            Ok(_) if self.sent_at.is_empty() => return Ok(()),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a kept connection")),
            Err(error) => return Err(error.into()),
        };
        let input = &buffer[..count];
        let end = self.filled + count;
        let (completed, in_flight) = (end / LINE_RESPONSE.len(), self.sent_at.len());
        if input != &self.responses[self.filled..end] || completed > in_flight {
            return Err(unexpected_response(input));
        }
        self.filled = end % LINE_RESPONSE.len();
        for sent_at in self.sent_at.drain(..completed) {
            state.record_response(sent_at);
        }
        self.send_requests(completed, state)
    }

    fn in_flight(&self) -> usize {
        self.sent_at.len()
    }
}
