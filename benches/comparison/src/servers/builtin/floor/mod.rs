//! The floor: the fastest safe loop that was found for each workload.
//!
//! No response is lost. There are no log, limits or timeouts.

mod floor_datagrams;
mod floor_streams;

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::{ADDRESS, READ_BYTES, line_responses, print_ready_line, response_bytes};
use crate::workload::Mode;

const EVENTS_MAX: usize = 256;

pub(super) fn run(mode: Mode) -> Result<(), Box<dyn Error>> {
    match mode {
        Mode::Udp | Mode::UdpGso => floor_datagrams::run(mode == Mode::UdpGso),
        Mode::Once => floor_streams::serve_once(),
        _ => floor_streams::serve_lines(),
    }
}

/// An epoll instance with its events.
struct Poll {
    epoll: OwnedFd,
    events: [Event; EVENTS_MAX],
}

impl Poll {
    fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX] })
    }

    fn add(&self, socket: impl AsFd, token: u64, interest: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, socket, EventData::new_u64(token), interest | EventFlags::ET)
    }

    /// Waits for events, and returns their number. A tracer that attaches or detaches interrupts the wait.
    fn wait(&mut self) -> Result<usize, Errno> {
        loop {
            match epoll::wait(&self.epoll, &mut self.events, None) {
                Err(Errno::INTR) => {}
                count => return count,
            }
        }
    }

    fn token(&self, event: usize) -> u64 {
        self.events[event].data.u64()
    }
}
