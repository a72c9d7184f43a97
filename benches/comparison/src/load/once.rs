//! A client that connects for every request and reads to EOF.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{Client, Tally, wrong};
use crate::workload::{TCP_ANSWER, TCP_QUESTION};

pub(super) struct Once {
    address: SocketAddr,
    client: usize,
    connection: Option<Connection>,
}

struct Connection {
    socket: OwnedFd,
    asked_at: Instant,
    /// Room for one byte more than the answer has.
    answer: [u8; TCP_ANSWER.len() + 1],
    filled: usize,
}

impl Once {
    pub(super) fn new(address: SocketAddr, client: usize) -> Self {
        Self { address, client, connection: None }
    }
}

impl Client for Once {
    fn start(&mut self, tally: &mut Tally) -> io::Result<()> {
        if tally.take(1) == 0 {
            return Ok(());
        }
        let asked_at = tally.now;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // On this machine a connect is over when it returns, so that waiting for it costs nothing.
        rustix::net::connect(&socket, &self.address)?;
        rustix::net::send(&socket, TCP_QUESTION, SendFlags::NOSIGNAL)?;
        tally.watch(&socket, self.client)?;
        self.connection = Some(Connection { socket, asked_at, answer: [0; _], filled: 0 });
        Ok(())
    }

    fn on_ready(&mut self, tally: &mut Tally) -> io::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        loop {
            let room = &mut connection.answer[connection.filled..];
            match rustix::net::recv(&connection.socket, room, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return Ok(()),
                Ok((count @ 1.., _)) => connection.filled += count,
                Err(Errno::CONNRESET) => {
                    tally.outcome.resets += 1;
                    break;
                }
                Ok(_) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let answer = &connection.answer[..connection.filled];
        if answer != TCP_ANSWER {
            return Err(wrong(answer));
        }
        tally.answered(connection.asked_at);
        self.connection = None;
        self.start(tally)
    }

    fn waiting(&self) -> usize {
        usize::from(self.connection.is_some())
    }
}
