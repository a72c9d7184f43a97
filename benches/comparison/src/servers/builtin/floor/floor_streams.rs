//! The floor of the workloads over TCP.

use std::error::Error;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, accept_with, recv, send, shutdown};

use super::{Poll, READ_BYTES, line_responses, print_ready_line, response_bytes};
use crate::servers::builtin::listen;
use crate::workload::{LINE_RESPONSE, TCP_RESPONSE};

/// The token of the listener: no descriptor has this number.
const LISTENER: u64 = u64::MAX;
/// Connections that share a stage.
const STAGE_MAX: usize = 64;

/// A listener in a poll, and the connections that are registered there, by their descriptors.
struct Server<C> {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<C>>,
}

impl<C> Server<C> {
    fn open() -> Result<Self, Box<dyn Error>> {
        let listener = listen()?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, EventFlags::IN)?;
        print_ready_line(listener.local_addr()?)?;
        Ok(Self { poll, listener, connections: Vec::new() })
    }

    /// Accepts a connection; `None` if none waits.
    fn accept(&self) -> Result<Option<OwnedFd>, Errno> {
        match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Err(Errno::AGAIN) => Ok(None),
            connection => connection.map(Some),
        }
    }

    /// Registers a socket; returns the place for its connection.
    fn register(&mut self, socket: &OwnedFd, interest: EventFlags) -> Result<&mut Option<C>, Box<dyn Error>> {
        let slot = usize::try_from(socket.as_raw_fd())?;
        self.poll.add(socket, slot as u64, interest)?;
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        Ok(&mut self.connections[slot])
    }
}

/// Responds to a request and closes, for each connection.
pub(super) fn serve_once() -> Result<(), Box<dyn Error>> {
    let mut server = Server::open()?;
    let mut stage = Stage { connections: Vec::with_capacity(STAGE_MAX), buffer: [0; READ_BYTES] };
    loop {
        for event in 0..server.poll.wait()? {
            let token = server.poll.token(event);
            if token == LISTENER {
                while let Some(connection) = server.accept()? {
                    // Most requests arrive before the accept, so most connections need no registration.
                    if let Some(connection) = stage.read(connection) {
                        let place = server.register(&connection, EventFlags::IN)?;
                        *place = Some(connection);
                    }
                }
                continue;
            }
            let slot = usize::try_from(token)?;
            if let Some(connection) = server.connections[slot].take() {
                server.connections[slot] = stage.read(connection);
            }
        }
        stage.respond();
    }
}

/// Connections whose requests were read. The same call for all, then the next, finds its code in the caches.
struct Stage {
    connections: Vec<OwnedFd>,
    buffer: [u8; READ_BYTES],
}

impl Stage {
    /// Reads a request; returns the connection if none has arrived.
    fn read(&mut self, connection: OwnedFd) -> Option<OwnedFd> {
        let mut is_full = match recv(&connection, &mut self.buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN) => return Some(connection),
            Ok((count @ 1.., _)) => count == READ_BYTES,
            Ok(_) | Err(_) => return None,
        };
        // Unread input would make the close a reset, which destroys the response.
        while is_full {
            is_full =
                recv(&connection, &mut self.buffer, RecvFlags::empty()).is_ok_and(|(count, _)| count == READ_BYTES);
        }
        self.connections.push(connection);
        if self.connections.len() == STAGE_MAX {
            self.respond();
        }
        None
    }

    /// Responds to all requests and closes. Each response shares a segment with its FIN.
    fn respond(&mut self) {
        for connection in &self.connections {
            let _ = send(connection, TCP_RESPONSE, SendFlags::NOSIGNAL | SendFlags::MORE);
        }
        for connection in &self.connections {
            let _ = shutdown(connection, Shutdown::Write);
        }
        self.connections.clear();
    }
}

/// Responds to lines, with one send for each read.
pub(super) fn serve_lines() -> Result<(), Box<dyn Error>> {
    let mut server = Server::open()?;
    let mut buffer = [0; READ_BYTES];
    let responses = line_responses();
    loop {
        for event in 0..server.poll.wait()? {
            let token = server.poll.token(event);
            if token == LISTENER {
                while let Some(socket) = server.accept()? {
                    let place = server.register(&socket, EventFlags::IN | EventFlags::OUT)?;
                    *place = Some(LineConnection { socket, unsent_bytes: 0 });
                }
                continue;
            }
            let slot = usize::try_from(token)?;
            let Some(connection) = &mut server.connections[slot] else { continue };
            if !connection.respond(&mut buffer, &responses) {
                server.connections[slot] = None;
            }
        }
    }
}

struct LineConnection {
    socket: OwnedFd,
    /// Bytes of responses for which the socket had no room. All responses are equal, so their number is enough.
    unsent_bytes: usize,
}

impl LineConnection {
    /// Responds to the lines of one read, and reads again only if it filled the buffer; false at EOF.
    fn respond(&mut self, buffer: &mut [u8], responses: &[u8]) -> bool {
        loop {
            if self.unsent_bytes > 0 {
                let start = (LINE_RESPONSE.len() - self.unsent_bytes % LINE_RESPONSE.len()) % LINE_RESPONSE.len();
                if !self.send(&responses[start..start + self.unsent_bytes]) {
                    return false;
                }
                if self.unsent_bytes > 0 {
                    return true;
                }
            }
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::AGAIN) => return true,
                Ok((count @ 1.., _)) => {
                    let is_full = count == buffer.len();
                    if !self.send(&responses[..response_bytes(&buffer[..count])]) {
                        return false;
                    }
                    if !is_full {
                        return true;
                    }
                }
                Ok(_) | Err(_) => return false,
            }
        }
    }

    /// Sends as much as there is room for; false if the client is gone.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => 0,
            Ok(count) => count,
            Err(_) => return false,
        };
        self.unsent_bytes = bytes.len() - sent;
        true
    }
}
