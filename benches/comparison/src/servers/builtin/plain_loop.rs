//! A plain server on bare epoll, without error handling.
//!
//! Edge-triggered; each connection is registered once and read at each event. There are no log, limits or timeouts. The
//! rest of a short write is lost, and any error ends the connection.

use std::error::Error;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, recvfrom, send, sendto};

use super::{ADDRESS, READ_BYTES, line_responses, listen, print_ready_line, response_bytes};
use crate::workload::{Mode, TCP_RESPONSE, UDP_RESPONSE};

const EVENTS_MAX: usize = 256;

/// The token of the listener: no descriptor has this number.
const LISTENER: u64 = u64::MAX;

pub(super) fn run(mode: Mode) -> Result<(), Box<dyn Error>> {
    match mode {
        Mode::Udp | Mode::UdpGso => serve_udp(),
        _ => serve_tcp(mode),
    }
}

fn serve_tcp(mode: Mode) -> Result<(), Box<dyn Error>> {
    let listener = listen()?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
    print_ready_line(listener.local_addr()?)?;

    let mut connections: Vec<Option<OwnedFd>> = Vec::new();
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];
    let mut buffer = [0; READ_BYTES];
    let responses = line_responses();
    loop {
        let count = wait(&poll, &mut events)?;
        for event in &events[..count] {
            let token = event.data.u64();
            if token == LISTENER {
                accept(&listener, &poll, &mut connections)?;
                continue;
            }
            let slot = usize::try_from(token)?;
            let Some(connection) = &connections[slot] else { continue };
            let is_open = match mode {
                Mode::Lines => respond_to_lines(connection, &mut buffer, &responses),
                _ => respond_once(connection, &mut buffer),
            };
            if !is_open {
                connections[slot] = None;
            }
        }
    }
}

/// Waits for events. A tracer that attaches or detaches interrupts the wait.
fn wait(poll: &OwnedFd, events: &mut [Event]) -> Result<usize, Errno> {
    loop {
        match epoll::wait(poll, &mut *events, None) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &OwnedFd,
    connections: &mut Vec<Option<OwnedFd>>,
) -> Result<(), Box<dyn Error>> {
    loop {
        let connection = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let slot = usize::try_from(connection.as_raw_fd())?;
        epoll::add(poll, &connection, EventData::new_u64(slot as u64), EventFlags::IN | EventFlags::ET)?;
        if connections.len() <= slot {
            connections.resize_with(slot + 1, || None);
        }
        connections[slot] = Some(connection);
    }
}

/// Sends the response; true if there was nothing to read yet.
fn respond_once(connection: &OwnedFd, buffer: &mut [u8]) -> bool {
    match recv(connection, buffer, RecvFlags::empty()) {
        Err(Errno::AGAIN) => true,
        Ok((1.., _)) => {
            let _ = send(connection, TCP_RESPONSE, SendFlags::NOSIGNAL);
            false
        }
        Ok(_) | Err(_) => false,
    }
}

/// Responds to the lines of one read, and reads again only if it filled the buffer; false at EOF.
fn respond_to_lines(connection: &OwnedFd, buffer: &mut [u8], responses: &[u8]) -> bool {
    loop {
        match recv(connection.as_fd(), &mut *buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN) => return true,
            Ok((count @ 1.., _)) => {
                let _ = send(connection, &responses[..response_bytes(&buffer[..count])], SendFlags::NOSIGNAL);
                if count < buffer.len() {
                    return true;
                }
            }
            Ok(_) | Err(_) => return false,
        }
    }
}

fn serve_udp() -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind(ADDRESS)?;
    socket.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &socket, EventData::new_u64(0), EventFlags::IN | EventFlags::ET)?;
    print_ready_line(socket.local_addr()?)?;

    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];
    let mut buffer = [0; READ_BYTES];
    loop {
        wait(&poll, &mut events)?;
        while let Ok((_, _, Some(peer))) = recvfrom(&socket, &mut buffer, RecvFlags::empty()) {
            let _ = sendto(&socket, UDP_RESPONSE, SendFlags::empty(), &peer);
        }
    }
}
