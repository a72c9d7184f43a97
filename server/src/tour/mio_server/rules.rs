//! The rules of a non-blocking server: each method is a right way.
//!
//! A twin overrides one of them with a mistake. The rest of the server is the same.

use std::io::{self, Read, Write};
use std::thread;

use halloo::CloseReason;
use halloo::observe::Callback;
use mio::event::Event;

use crate::tour::mio_server::connections::{Connection, InputState, Key};
use crate::tour::mio_server::datagrams::Received;
use crate::tour::mio_server::server::{READ_BYTES, SLOW_REQUEST, SLOW_REQUEST_TIME, Server};

/// Clients that are accepted, reads of one connection, and datagrams of one socket, in one turn of the loop.
const ACCEPTS_PER_TURN: usize = 64;
const READS_PER_TURN: usize = 16;
const DATAGRAMS_PER_TURN: usize = 64;

/// Whether there may be more to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// Something was read: there may be more.
    More,
    /// Nothing more now: the source is empty, has ended, or has to wait.
    Stop,
}

/// The server without a mistake.
pub(crate) struct AllRight;

impl Rules for AllRight {}

/// What a server does at each step. The methods are right.
pub(crate) trait Rules: Sync {
    /// An event of the listener stands for one new client or for many: accept until there are no more.
    fn accept_clients(&self, server: &mut Server) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_TURN {
            if server.accept(self.accept_failed())? == Flow::Stop {
                return Ok(());
            }
        }
        server.defer_listener();
        Ok(())
    }

    /// Without a free descriptor the clients stay in the backlog, and the poll does not report them again: try later.
    fn accept_failed(&self) -> fn(&mut Server) {
        Server::pause_listener
    }

    /// An event of the socket stands for one datagram or for many: receive until there are no more.
    fn receive_datagrams(&self, server: &mut Server) {
        for _ in 0..DATAGRAMS_PER_TURN {
            if server.receive_datagram() == Flow::Stop {
                return;
            }
        }
        server.defer_datagrams();
    }

    /// Replies from the address that was asked, at a limited rate, and only to an address that can be a client's.
    fn reply(&self, server: &mut Server, datagram: &Received) {
        if datagram.is_from_possible_client() && server.udp.has_allowance(datagram.source.ip()) {
            server.udp.send_from(datagram.destination, &datagram.payload, datagram.source);
        }
    }

    /// Serves a connection after an event. A client that has sent its FIN still waits for its replies.
    fn on_event(&self, server: &mut Server, key: Key, event: &Event) -> io::Result<()> {
        match server.connections.find(key) {
            // Both directions are closed: there is no client for the reply of the slow request.
            Some(connection) if connection.input == InputState::Working && event.is_write_closed() => {
                server.close(key, CloseReason::Reset);
                Ok(())
            }
            _ => server.serve(key),
        }
    }

    /// Reads until nothing is left. After a number of reads the other clients come first.
    fn read_input(&self, server: &mut Server, key: Key) -> io::Result<()> {
        for _ in 0..READS_PER_TURN {
            if self.read_once(server, key)? == Flow::Stop {
                return Ok(());
            }
        }
        server.defer(key);
        Ok(())
    }

    /// Makes one read, and replies.
    fn read_once(&self, server: &mut Server, key: Key) -> io::Result<Flow> {
        let mut buffer = [0; READ_BYTES];
        let Some(connection) = server.connections.find(key).filter(|connection| connection.wants_input()) else {
            return Ok(Flow::Stop);
        };
        match connection.stream.read(&mut buffer) {
            Ok(0) => Ok(self.at_eof(server, key)),
            Ok(bytes) => Ok(self.on_input(server, key, &buffer[..bytes])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flow::Stop),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Flow::More),
            Err(error) => self.read_failed(server, key, error),
        }
    }

    /// A read of 0 bytes is the client's FIN: no more input, ever. The connection ends after its last reply.
    fn at_eof(&self, server: &mut Server, key: Key) -> Flow {
        if let Some(connection) = server.connections.find(key) {
            connection.input = InputState::Ended;
            // An unfinished line is no slow request.
            connection.output.append(&mut connection.unanswered);
        }
        server.flush(key);
        Flow::Stop
    }

    /// An error of a read is the end of this client, and of no other.
    fn read_failed(&self, server: &mut Server, key: Key, _: io::Error) -> io::Result<Flow> {
        server.close(key, CloseReason::Reset);
        Ok(Flow::Stop)
    }

    /// Sends the input back. A read is a piece of a stream, and not a message: it may end within a request.
    fn on_input(&self, server: &mut Server, key: Key, input: &[u8]) -> Flow {
        let notes = server.notes.clone();
        notes.callback(Callback::Data, key.noted(), input.len(), || {
            if let Some(connection) = server.connections.find(key) {
                connection.unanswered.extend_from_slice(input);
            }
            server.answer(key);
        });
        server.flush(key);
        Flow::More
    }

    /// Work that takes long is done on another thread. Its result comes back as a message.
    fn slow_request(&self, server: &mut Server, key: Key) {
        if let Some(connection) = server.connections.find(key) {
            connection.input = InputState::Working;
        }
        let results = server.results();
        let started = thread::Builder::new().spawn(move || {
            thread::sleep(SLOW_REQUEST_TIME);
            results.send(key, SLOW_REQUEST);
        });
        if started.is_err() {
            // No memory for a thread: this client gets no reply, and the server goes on.
            server.close(key, CloseReason::OutOfMemory);
        }
    }

    /// The result of a slow request is for the connection that asked. It may be gone, and its slot used again.
    fn is_current(&self, connection: &Connection, key: Key) -> bool {
        connection.generation == key.generation
    }

    /// Writes what the kernel accepts, and keeps the rest until the connection is writable.
    fn write_output(&self, connection: &mut Connection) -> io::Result<()> {
        while !connection.output.is_empty() {
            match connection.stream.write(&connection.output) {
                Ok(bytes) => drop(connection.output.drain(..bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
