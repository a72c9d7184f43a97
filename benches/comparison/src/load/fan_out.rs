//! Clients that all get the same bytes when one of them asks.
//!
//! The client that has read its bytes last asks for the next round. So a round begins when the last one is over.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{Client, LoadState, unexpected_response};
use crate::byte_pattern::pattern_at;
use crate::workload::DELIVERY_BYTES;

/// What the clients share.
pub(super) struct Round {
    clients: usize,
    /// Clients that have not read all of their bytes.
    pending: Cell<usize>,
    number: Cell<u64>,
    asked_at: Cell<Instant>,
}

impl Round {
    pub(super) fn new(clients: usize) -> Rc<Self> {
        let asked_at = Cell::new(Instant::now());
        Rc::new(Self { clients, pending: Cell::new(0), number: Cell::new(0), asked_at })
    }
}

pub(super) struct FanOut {
    stream: TcpStream,
    round: Rc<Round>,
    is_last: bool,
    /// Rounds whose bytes have all arrived, and bytes of the next one.
    rounds: u64,
    filled: usize,
}

impl FanOut {
    pub(super) fn open(address: SocketAddr, client: usize, round: &Rc<Round>, state: &LoadState) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        state.register(&stream, client)?;
        Ok(Self { stream, round: Rc::clone(round), is_last: client + 1 == round.clients, rounds: 0, filled: 0 })
    }

    /// Asks for a round. It is complete, even if fewer exchanges are wanted.
    fn ask(&self, state: &mut LoadState) -> io::Result<()> {
        if state.reserve_requests(self.round.clients) == 0 {
            return Ok(());
        }
        self.round.pending.set(self.round.clients);
        self.round.number.set(self.round.number.get() + 1);
        self.round.asked_at.set(state.now);
        rustix::net::send(&self.stream, b"?", SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl Client for FanOut {
    /// The last client asks first: once the server has accepted it, it has accepted all.
    fn start(&mut self, state: &mut LoadState) -> io::Result<()> {
        if self.is_last { self.ask(state) } else { Ok(()) }
    }

    fn on_ready(&mut self, state: &mut LoadState) -> io::Result<()> {
        loop {
            // One byte more than is expected, which must not come.
            let expected = if self.rounds < self.round.number.get() { DELIVERY_BYTES - self.filled } else { 0 };
            let buffer = &mut state.input[..=expected];
            let count = match rustix::net::recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return Ok(()),
                Ok((count @ 1.., _)) => count,
                Ok(_) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed a kept connection"));
                }
                Err(error) => return Err(error.into()),
            };
            let input = &buffer[..count];
            if count > expected || *input != pattern_at(0)[self.filled..][..count] {
                return Err(unexpected_response(&input[..count.min(64)]));
            }
            self.filled += count;
            if self.filled == DELIVERY_BYTES {
                (self.rounds, self.filled) = (self.rounds + 1, 0);
                state.record_response(self.round.asked_at.get());
                self.round.pending.set(self.round.pending.get() - 1);
                if self.round.pending.get() == 0 {
                    self.ask(state)?;
                }
            }
            // A short read has emptied the socket.
            if count < expected {
                return Ok(());
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.round.pending.get()
    }
}
