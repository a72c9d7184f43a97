//! The floor of echo and proxy: a copy loop on bare epoll.
//!
//! Bytes that the destination does not take are kept, and nothing more is read before they are sent. A turn of one
//! connection is bounded, so none keeps others waiting.

use std::collections::VecDeque;
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, accept_with, connect, recv, send, shutdown,
    socket_with,
};
use rustix::time::Timespec;

use super::{COPY_BYTES, print_ready_line};
use crate::servers::builtin::listen;

/// The most that one turn of one connection reads, except for the last read.
const TURN_BYTES: usize = 1024 * 1024;
const EVENTS_MAX: usize = 256;
/// The token of the listener: no descriptor has this number.
const LISTENER: u64 = u64::MAX;

/// One direction of a connection. An echo has one, from a socket to itself; a proxy has two.
struct Link {
    from: Rc<OwnedFd>,
    to: Rc<OwnedFd>,
    /// Bytes that are read but not sent, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    /// EOF is on its way, so a short read does not mean that there is nothing more to read.
    is_ending: bool,
    is_queued: bool,
    is_over: bool,
}

/// What a turn ended with.
#[derive(PartialEq)]
enum Turn {
    /// There may be more to read.
    Unfinished,
    /// An event continues it.
    Waits,
    /// EOF was read, and all bytes are sent.
    Over,
}

impl Link {
    fn new(from: &Rc<OwnedFd>, to: &Rc<OwnedFd>) -> Self {
        let (from, to) = (Rc::clone(from), Rc::clone(to));
        Self { from, to, unsent: Vec::new(), sent: 0, is_ending: false, is_queued: false, is_over: false }
    }

    /// Sends what is kept, and copies until there is nothing to read, no room, or the bound is reached.
    fn turn(&mut self, buffer: &mut [u8]) -> Result<Turn, Errno> {
        if self.sent < self.unsent.len() {
            self.sent += send_some(&self.to, &self.unsent[self.sent..])?;
            if self.sent < self.unsent.len() {
                return Ok(Turn::Waits);
            }
        }
        let mut copied = 0;
        while copied < TURN_BYTES {
            let count = match recv(&self.from, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::AGAIN) => return Ok(Turn::Waits),
                Ok((0, _)) => {
                    shutdown(&self.to, Shutdown::Write)?;
                    return Ok(Turn::Over);
                }
                result => result?.0,
            };
            let sent = send_some(&self.to, &buffer[..count])?;
            if sent < count {
                self.unsent.clear();
                self.unsent.extend_from_slice(&buffer[sent..count]);
                self.sent = 0;
                return Ok(Turn::Waits);
            }
            if count < buffer.len() && !self.is_ending {
                return Ok(Turn::Waits);
            }
            copied += count;
        }
        Ok(Turn::Unfinished)
    }
}

fn send_some(to: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    match send(to, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => Ok(0),
        result => result,
    }
}

struct Server {
    poll: OwnedFd,
    target: Option<SocketAddr>,
    /// By the number of the descriptor from which they read.
    links: Vec<Option<Link>>,
    /// Those with a turn to come.
    ready: VecDeque<usize>,
}

/// Serves until killed: a proxy to the target, or an echo without one.
pub(super) fn run(target: Option<SocketAddr>) -> Result<(), Box<dyn Error>> {
    let listener = listen()?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
    print_ready_line(listener.local_addr()?)?;

    let mut server = Server { poll, target, links: Vec::new(), ready: VecDeque::new() };
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = if server.ready.is_empty() { None } else { Some(&at_once) };
        let count = match epoll::wait(&server.poll, &mut events, timeout) {
            // A tracer that attaches or detaches interrupts the wait.
            Err(Errno::INTR) => 0,
            result => result?,
        };
        for event in &events[..count] {
            match event.data.u64() {
                LISTENER => server.accept(&listener)?,
                token => server.on_event(usize::try_from(token)?, event.flags),
            }
        }
        for _ in 0..server.ready.len() {
            let Some(slot) = server.ready.pop_front() else { break };
            server.serve(slot, &mut buffer);
        }
    }
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) -> Result<(), Box<dyn Error>> {
        loop {
            let client = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(client) => Rc::new(client),
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let Some(target) = self.target else {
                self.add(&client, &client)?;
                continue;
            };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let backend = Rc::new(socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?);
            rustix::net::sockopt::set_tcp_nodelay(&backend, true)?;
            match connect(&backend, &target) {
                Ok(()) | Err(Errno::INPROGRESS) => {}
                Err(error) => return Err(error.into()),
            }
            self.add(&client, &backend)?;
            self.add(&backend, &client)?;
        }
    }

    fn add(&mut self, from: &Rc<OwnedFd>, to: &Rc<OwnedFd>) -> Result<(), Box<dyn Error>> {
        let slot = usize::try_from(from.as_raw_fd())?;
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.poll, from, EventData::new_u64(slot as u64), interest)?;
        if self.links.len() <= slot {
            self.links.resize_with(slot + 1, || None);
        }
        self.links[slot] = Some(Link::new(from, to));
        Ok(())
    }

    /// The slot of the other direction, for an echo the same.
    fn other(&self, slot: usize) -> Option<usize> {
        usize::try_from(self.links.get(slot)?.as_ref()?.to.as_raw_fd()).ok()
    }

    /// A socket can be read from, written to, or both.
    fn on_event(&mut self, slot: usize, flags: EventFlags) {
        let Some(other) = self.other(slot) else { return };
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            let is_ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            self.enqueue(slot, is_ending);
        }
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.enqueue(other, false);
        }
    }

    fn enqueue(&mut self, slot: usize, is_ending: bool) {
        let Some(link) = &mut self.links[slot] else { return };
        link.is_ending |= is_ending;
        if !link.is_queued && !link.is_over {
            link.is_queued = true;
            self.ready.push_back(slot);
        }
    }

    fn serve(&mut self, slot: usize, buffer: &mut [u8]) {
        let Some(link) = &mut self.links[slot] else { return };
        link.is_queued = false;
        let turn = link.turn(buffer);
        link.is_over = turn == Ok(Turn::Over);
        match turn {
            Ok(Turn::Unfinished) => self.enqueue(slot, false),
            Ok(Turn::Waits) => {}
            Ok(Turn::Over) => {
                let Some(other) = self.other(slot) else { return };
                if self.links[other].as_ref().is_none_or(|link| link.is_over) {
                    self.remove(slot);
                }
            }
            Err(_) => self.remove(slot),
        }
    }

    /// Closes both sockets.
    fn remove(&mut self, slot: usize) {
        if let Some(other) = self.other(slot) {
            self.links[slot] = None;
            self.links[other] = None;
        }
    }
}
