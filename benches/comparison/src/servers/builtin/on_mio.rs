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

use super::{ADDRESS, READ_BYTES, answer_bytes, line_answers, ready};
use crate::workload::{Mode, TCP_ANSWER, UDP_ANSWER};

const SERVER: Token = Token(0);

/// A client, and how many bytes of answer it waits for.
struct Client {
    stream: TcpStream,
    owed: usize,
}

pub(super) fn run(mode: Mode) -> Result<(), Box<dyn Error>> {
    match mode {
        Mode::Once | Mode::Lines => streams(mode),
        Mode::Udp => datagrams(),
    }
}

fn streams(mode: Mode) -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut listener = TcpListener::bind(ADDRESS)?;
    poll.registry().register(&mut listener, SERVER, Interest::READABLE)?;
    ready(listener.local_addr()?)?;

    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut last = SERVER.0;
    let answers = line_answers();
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            if event.token() == SERVER {
                while let Ok((mut stream, _)) = listener.accept() {
                    last += 1;
                    if mode == Mode::Lines {
                        stream.set_nodelay(true)?;
                    }
                    poll.registry().register(&mut stream, Token(last), Interest::READABLE)?;
                    clients.insert(Token(last), Client { stream, owed: 0 });
                }
            } else if let Some(client) = clients.get_mut(&event.token()) {
                let is_done = serve(&poll, client, event, mode, &answers).unwrap_or(true);
                if is_done && let Some(mut client) = clients.remove(&event.token()) {
                    poll.registry().deregister(&mut client.stream)?;
                }
            }
        }
    }
}

/// Waits for events; a tracer that comes or goes interrupts it.
fn wait(poll: &mut Poll, events: &mut Events) -> std::io::Result<()> {
    match poll.poll(events, None) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        done => done,
    }
}

/// Serves one event; true once the client is done with.
fn serve(poll: &Poll, client: &mut Client, event: &Event, mode: Mode, answers: &[u8]) -> std::io::Result<bool> {
    if event.is_writable() && client.owed > 0 {
        match mode {
            Mode::Lines => client.stream.write_all(&answers[..client.owed])?,
            Mode::Once | Mode::Udp => {
                client.stream.write_all(TCP_ANSWER)?;
                return Ok(true);
            }
        }
        client.owed = 0;
        poll.registry().reregister(&mut client.stream, event.token(), Interest::READABLE)?;
    }
    if event.is_readable() {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match client.stream.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) if mode == Mode::Lines => client.owed += answer_bytes(&buffer[..count]),
                Ok(count) => client.owed += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if client.owed > 0 {
            poll.registry().reregister(&mut client.stream, event.token(), Interest::WRITABLE)?;
        }
    }
    Ok(false)
}

fn datagrams() -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1);
    let mut socket = UdpSocket::bind(ADDRESS)?;
    poll.registry().register(&mut socket, SERVER, Interest::READABLE)?;
    ready(socket.local_addr()?)?;

    let mut buffer = [0; READ_BYTES];
    loop {
        wait(&mut poll, &mut events)?;
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(UDP_ANSWER, peer);
        }
    }
}
