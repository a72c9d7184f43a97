//! A client that connects for every request and reads to EOF.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{Client, LoadState, unexpected_response};
use crate::workload::{TCP_REQUEST, TCP_RESPONSE};

pub(super) struct Once {
    address: SocketAddr,
    client: usize,
    connection: Option<Connection>,
}

struct Connection {
    socket: OwnedFd,
    sent_at: Instant,
    /// With room for one byte more than the response.
    response: [u8; TCP_RESPONSE.len() + 1],
    filled: usize,
}

impl Once {
    pub(super) fn new(address: SocketAddr, client: usize) -> Self {
        Self { address, client, connection: None }
    }
}

impl Client for Once {
    fn start(&mut self, state: &mut LoadState) -> io::Result<()> {
        if state.reserve_requests(1) == 0 {
            return Ok(());
        }
        let sent_at = state.now;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // On loopback a blocking connect returns at once.
        rustix::net::connect(&socket, &self.address)?;
        rustix::net::send(&socket, TCP_REQUEST, SendFlags::NOSIGNAL)?;
        state.register(&socket, self.client)?;
        self.connection = Some(Connection { socket, sent_at, response: [0; _], filled: 0 });
        Ok(())
    }

    fn on_ready(&mut self, state: &mut LoadState) -> io::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        loop {
            let unfilled = &mut connection.response[connection.filled..];
            match rustix::net::recv(&connection.socket, unfilled, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return Ok(()),
                Ok((count @ 1.., _)) => connection.filled += count,
                Err(Errno::CONNRESET) => {
                    state.outcome.resets += 1;
                    break;
                }
                Ok(_) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let response = &connection.response[..connection.filled];
        if response != TCP_RESPONSE {
            return Err(unexpected_response(response));
        }
        state.record_response(connection.sent_at);
        self.connection = None;
        self.start(state)
    }

    fn in_flight(&self) -> usize {
        usize::from(self.connection.is_some())
    }
}
