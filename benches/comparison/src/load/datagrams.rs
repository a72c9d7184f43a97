//! A UDP client with some datagrams in flight.
//!
//! A datagram without an answer is sent again, and counted.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{Client, Tally, wrong};
use crate::workload::{UDP_ANSWER, UDP_QUESTION};

/// On one machine, an answer that takes longer will not come.
const LOST: Duration = Duration::from_millis(500);

pub(super) struct Datagrams {
    socket: UdpSocket,
    depth: usize,
    /// When each datagram under way was sent, oldest first.
    asked_at: VecDeque<Instant>,
}

impl Datagrams {
    pub(super) fn open(address: SocketAddr, client: usize, depth: usize, tally: &Tally) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        tally.watch(&socket, client)?;
        Ok(Self { socket, depth, asked_at: VecDeque::with_capacity(depth) })
    }

    fn ask(&mut self, datagrams: usize, tally: &mut Tally) -> io::Result<()> {
        for _ in 0..tally.take(datagrams) {
            self.asked_at.push_back(tally.now);
            self.send()?;
        }
        Ok(())
    }

    fn send(&self) -> io::Result<()> {
        match rustix::net::send(&self.socket, UDP_QUESTION, SendFlags::DONTWAIT) {
            // Asked again by and by.
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Client for Datagrams {
    fn start(&mut self, tally: &mut Tally) -> io::Result<()> {
        self.ask(self.depth, tally)
    }

    fn on_ready(&mut self, tally: &mut Tally) -> io::Result<()> {
        let mut buffer = [0; UDP_ANSWER.len() + 1];
        let mut answered = 0;
        loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return self.ask(answered, tally),
                Ok((count, _)) if &buffer[..count] == UDP_ANSWER => {}
                Ok((count, _)) => return Err(wrong(&buffer[..count])),
                Err(error) => return Err(error.into()),
            }
            // One that comes after it was asked again counts once.
            if let Some(asked_at) = self.asked_at.pop_front() {
                tally.answered(asked_at);
                answered += 1;
            }
        }
    }

    fn waiting(&self) -> usize {
        self.asked_at.len()
    }

    fn look(&mut self, tally: &mut Tally) -> io::Result<()> {
        while self.asked_at.front().is_some_and(|asked_at| tally.now - *asked_at > LOST) {
            self.asked_at.pop_front();
            self.asked_at.push_back(tally.now);
            tally.outcome.resent += 1;
            self.send()?;
        }
        Ok(())
    }
}
