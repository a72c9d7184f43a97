//! A UDP client with some datagrams in flight.
//!
//! A datagram without an answer is sent again, and counted.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::{UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{Client, LoadState, READ_BYTES, unexpected_response};
use crate::workload::{LoadOptions, Mode, UDP_REQUEST, UDP_RESPONSE};

/// On one machine, a response that takes longer is lost.
const RETRANSMIT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) struct Datagrams {
    socket: UdpSocket,
    depth: usize,
    /// Whether one call sends several requests, and one receives several responses.
    is_segmented: bool,
    /// When each datagram in flight was sent, oldest first.
    sent_at: VecDeque<Instant>,
    /// All requests that may be in flight, and responses for the longest read.
    requests: Vec<u8>,
    responses: Vec<u8>,
}

impl Datagrams {
    pub(super) fn open(
        address: SocketAddr,
        client: usize,
        options: LoadOptions,
        state: &LoadState,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        let is_segmented = options.mode == Mode::UdpGso;
        if is_segmented {
            // The kernel cuts a longer message into datagrams of this size, and joins those that it receives.
            setsockopt(&socket, UdpGsoSegment, &i32::try_from(UDP_REQUEST.len()).map_err(io::Error::other)?)?;
            setsockopt(&socket, UdpGroSegment, &true)?;
        }
        state.register(&socket, client)?;
        Ok(Self {
            socket,
            depth: options.depth,
            is_segmented,
            sent_at: VecDeque::with_capacity(options.depth),
            requests: UDP_REQUEST.repeat(options.depth),
            responses: UDP_RESPONSE.repeat(READ_BYTES / UDP_RESPONSE.len() + 1),
        })
    }

    fn send_requests(&mut self, datagrams: usize, state: &mut LoadState) -> io::Result<()> {
        let datagrams = state.reserve_requests(datagrams);
        self.sent_at.extend(std::iter::repeat_n(state.now, datagrams));
        let datagrams_per_call = if self.is_segmented { datagrams } else { 1 };
        (0..datagrams).step_by(datagrams_per_call.max(1)).try_for_each(|_| self.send(datagrams_per_call))
    }

    /// Sends requests in one call.
    fn send(&self, requests: usize) -> io::Result<()> {
        match rustix::net::send(&self.socket, &self.requests[..requests * UDP_REQUEST.len()], SendFlags::DONTWAIT) {
            // The requests are sent again after the timeout.
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Receives responses in one call, and returns their number; `None` if none waits.
    fn receive(&self) -> io::Result<Option<usize>> {
        let mut buffer = [0; READ_BYTES];
        let received = if self.is_segmented {
            self.receive_segments(&mut buffer)
        } else {
            // A longer datagram is a wrong answer.
            let buffer = &mut buffer[..=UDP_RESPONSE.len()];
            rustix::net::recv(&self.socket, buffer, RecvFlags::DONTWAIT).map(|(count, _)| (count, UDP_RESPONSE.len()))
        };
        let (count, segment) = match received {
            Err(Errno::AGAIN) => return Ok(None),
            received => received?,
        };
        let input = &buffer[..count];
        let is_right = count > 0 && segment == UDP_RESPONSE.len() && count.is_multiple_of(segment);
        if is_right && input == &self.responses[..count] {
            Ok(Some(count / segment))
        } else {
            Err(unexpected_response(input))
        }
    }

    /// The bytes of several datagrams, and the length of each but the last.
    fn receive_segments(&self, buffer: &mut [u8]) -> Result<(usize, usize), Errno> {
        let (mut slices, mut control) = ([IoSliceMut::new(buffer)], nix::cmsg_space!(i32));
        let fd = self.socket.as_raw_fd();
        let message = recvmsg::<()>(fd, &mut slices, Some(&mut control), MsgFlags::MSG_DONTWAIT);
        let message = message.map_err(|error| Errno::from_raw_os_error(error as i32))?;
        let segment = message.cmsgs().ok().and_then(|mut messages| {
            messages.find_map(|message| match message {
                ControlMessageOwned::UdpGroSegments(bytes) => usize::try_from(bytes).ok(),
                _ => None,
            })
        });
        // A single datagram comes without a length.
        Ok((message.bytes, segment.unwrap_or(message.bytes)))
    }
}

impl Client for Datagrams {
    fn start(&mut self, state: &mut LoadState) -> io::Result<()> {
        self.send_requests(self.depth, state)
    }

    fn on_ready(&mut self, state: &mut LoadState) -> io::Result<()> {
        let mut completed = 0;
        while let Some(responses) = self.receive()? {
            // A response that comes after a retransmission counts once.
            for sent_at in self.sent_at.drain(..responses.min(self.sent_at.len())) {
                state.record_response(sent_at);
                completed += 1;
            }
        }
        self.send_requests(completed, state)
    }

    fn in_flight(&self) -> usize {
        self.sent_at.len()
    }

    fn retransmit_lost(&mut self, state: &mut LoadState) -> io::Result<()> {
        while self.sent_at.front().is_some_and(|sent_at| state.now - *sent_at > RETRANSMIT_TIMEOUT) {
            self.sent_at.pop_front();
            self.sent_at.push_back(state.now);
            state.outcome.resent += 1;
            self.send(1)?;
        }
        Ok(())
    }
}
