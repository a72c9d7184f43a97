//! A UDP client with some datagrams in flight.
//!
//! A datagram without an answer is sent again, and counted.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{Client, LoadState, unexpected_response};
use crate::workload::{UDP_REQUEST, UDP_RESPONSE};

/// On one machine, a response that takes longer is lost.
const RETRANSMIT_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) struct Datagrams {
    socket: UdpSocket,
    depth: usize,
    /// When each datagram in flight was sent, oldest first.
    sent_at: VecDeque<Instant>,
}

impl Datagrams {
    pub(super) fn open(address: SocketAddr, client: usize, depth: usize, state: &LoadState) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        state.register(&socket, client)?;
        Ok(Self { socket, depth, sent_at: VecDeque::with_capacity(depth) })
    }

    fn send_requests(&mut self, datagrams: usize, state: &mut LoadState) -> io::Result<()> {
        for _ in 0..state.reserve_requests(datagrams) {
            self.sent_at.push_back(state.now);
            self.send_request()?;
        }
        Ok(())
    }

    fn send_request(&self) -> io::Result<()> {
        match rustix::net::send(&self.socket, UDP_REQUEST, SendFlags::DONTWAIT) {
            // The request is sent again after the timeout.
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Client for Datagrams {
    fn start(&mut self, state: &mut LoadState) -> io::Result<()> {
        self.send_requests(self.depth, state)
    }

    fn on_ready(&mut self, state: &mut LoadState) -> io::Result<()> {
        let mut buffer = [0; UDP_RESPONSE.len() + 1];
        let mut responses = 0;
        loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return self.send_requests(responses, state),
                Ok((count, _)) if &buffer[..count] == UDP_RESPONSE => {}
                Ok((count, _)) => return Err(unexpected_response(&buffer[..count])),
                Err(error) => return Err(error.into()),
            }
            // A response that comes after a retransmission counts once.
            if let Some(sent_at) = self.sent_at.pop_front() {
                state.record_response(sent_at);
                responses += 1;
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.sent_at.len()
    }

    fn retransmit_lost(&mut self, state: &mut LoadState) -> io::Result<()> {
        while self.sent_at.front().is_some_and(|sent_at| state.now - *sent_at > RETRANSMIT_TIMEOUT) {
            self.sent_at.pop_front();
            self.sent_at.push_back(state.now);
            state.outcome.resent += 1;
            self.send_request()?;
        }
        Ok(())
    }
}
