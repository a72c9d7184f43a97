//! The floor of a fan-out: one send for each client.
//!
//! The rest of a short write is sent when there is room.

use std::error::Error;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use super::print_ready_line;
use crate::byte_pattern::pattern_at;
use crate::servers::builtin::listen;
use crate::workload::DELIVERY_BYTES;

const EVENTS_MAX: usize = 256;
/// The token of the listener: no descriptor has this number.
const LISTENER: u64 = u64::MAX;

struct Client {
    socket: OwnedFd,
    /// Bytes of deliveries that are not sent yet. All deliveries are equal, so their number is all that is kept.
    unsent_bytes: usize,
}

impl Client {
    /// Sends until the socket has no room; false if the client is gone.
    fn send(&mut self, delivery: &[u8]) -> bool {
        while self.unsent_bytes > 0 {
            let sent_of_first = (DELIVERY_BYTES - self.unsent_bytes % DELIVERY_BYTES) % DELIVERY_BYTES;
            match send(&self.socket, &delivery[sent_of_first..], SendFlags::NOSIGNAL) {
                Ok(count) => self.unsent_bytes -= count,
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Counts the requests that have arrived; `None` if the client is gone.
    fn requests(&self, buffer: &mut [u8]) -> Option<usize> {
        match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN) => Some(0),
            Ok((count @ 1.., _)) => Some(count),
            Ok(_) | Err(_) => None,
        }
    }
}

/// Serves until killed.
pub(super) fn run() -> Result<(), Box<dyn Error>> {
    let listener = listen()?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
    print_ready_line(listener.local_addr()?)?;

    let delivery = &pattern_at(0)[..DELIVERY_BYTES];
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];
    let mut buffer = [0; 1024];
    loop {
        let count = match epoll::wait(&poll, &mut events, None) {
            // A tracer that attaches or detaches interrupts the wait.
            Err(Errno::INTR) => 0,
            result => result?,
        };
        for event in &events[..count] {
            let token = event.data.u64();
            if token == LISTENER {
                accept(&listener, &poll, &mut clients)?;
                continue;
            }
            let slot = usize::try_from(token)?;
            let Some(client) = &mut clients[slot] else { continue };
            let requests = client.send(delivery).then(|| client.requests(&mut buffer)).flatten();
            match requests {
                Some(0) => {}
                Some(requests) => deliver(&mut clients, requests, delivery),
                None => clients[slot] = None,
            }
        }
    }
}

/// Sends a delivery to every client, for each request.
fn deliver(clients: &mut [Option<Client>], requests: usize, delivery: &[u8]) {
    for slot in clients {
        let Some(client) = slot else { continue };
        client.unsent_bytes += requests * DELIVERY_BYTES;
        if !client.send(delivery) {
            *slot = None;
        }
    }
}

fn accept(listener: &TcpListener, poll: &OwnedFd, clients: &mut Vec<Option<Client>>) -> Result<(), Box<dyn Error>> {
    loop {
        let socket = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let slot = usize::try_from(socket.as_raw_fd())?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(poll, &socket, EventData::new_u64(slot as u64), interest)?;
        if clients.len() <= slot {
            clients.resize_with(slot + 1, || None);
        }
        clients[slot] = Some(Client { socket, unsent_bytes: 0 });
    }
}
