//! mio as its `tcp_server` example uses it.
//!
//! A map of connections, a new 4 KiB buffer for each read, and a registration switched between reading and writing.
//! Unlike in the example, one client's error ends that client alone.

use std::collections::HashMap;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};

use super::{ADDRESS, READ_BYTES, line_responses, print_ready_line, response_bytes};
use crate::workload::{Mode, TCP_RESPONSE, UDP_RESPONSE};

const SERVER: Token = Token(0);

/// A client, and the bytes of its responses that are not sent yet.
struct Client {
    stream: TcpStream,
    unsent_bytes: usize,
}

pub(super) fn run(mode: Mode) -> Result<(), Box<dyn Error>> {
    match mode {
        Mode::Udp | Mode::UdpGso => serve_udp(),
        _ => serve_tcp(mode),
    }
}

fn serve_tcp(mode: Mode) -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut listener = TcpListener::bind(ADDRESS)?;
    poll.registry().register(&mut listener, SERVER, Interest::READABLE)?;
    print_ready_line(listener.local_addr()?)?;

    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut last_token = SERVER.0;
    let responses = line_responses();
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            if event.token() == SERVER {
                while let Ok((mut stream, _)) = listener.accept() {
                    last_token += 1;
                    if mode == Mode::Lines {
                        stream.set_nodelay(true)?;
                    }
                    poll.registry().register(&mut stream, Token(last_token), Interest::READABLE)?;
                    clients.insert(Token(last_token), Client { stream, unsent_bytes: 0 });
                }
            } else if let Some(client) = clients.get_mut(&event.token()) {
                let is_done = serve(&poll, client, event, mode, &responses).unwrap_or(true);
                if is_done && let Some(mut client) = clients.remove(&event.token()) {
                    poll.registry().deregister(&mut client.stream)?;
                }
            }
        }
    }
}

/// Waits for events. A tracer that attaches or detaches interrupts the wait.
fn wait(poll: &mut Poll, events: &mut Events) -> std::io::Result<()> {
    match poll.poll(events, None) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result,
    }
}

/// Serves one event; true if the client is finished.
fn serve(poll: &Poll, client: &mut Client, event: &Event, mode: Mode, responses: &[u8]) -> std::io::Result<bool> {
    if event.is_writable() && client.unsent_bytes > 0 {
        if mode != Mode::Lines {
            client.stream.write_all(TCP_RESPONSE)?;
            return Ok(true);
        }
        client.stream.write_all(&responses[..client.unsent_bytes])?;
        client.unsent_bytes = 0;
        poll.registry().reregister(&mut client.stream, event.token(), Interest::READABLE)?;
    }
    if event.is_readable() {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match client.stream.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) if mode == Mode::Lines => client.unsent_bytes += response_bytes(&buffer[..count]),
                Ok(count) => client.unsent_bytes += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if client.unsent_bytes > 0 {
            poll.registry().reregister(&mut client.stream, event.token(), Interest::WRITABLE)?;
        }
    }
    Ok(false)
}

fn serve_udp() -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1);
    let mut socket = UdpSocket::bind(ADDRESS)?;
    poll.registry().register(&mut socket, SERVER, Interest::READABLE)?;
    print_ready_line(socket.local_addr()?)?;

    let mut buffer = [0; READ_BYTES];
    loop {
        wait(&mut poll, &mut events)?;
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(UDP_RESPONSE, peer);
        }
    }
}
