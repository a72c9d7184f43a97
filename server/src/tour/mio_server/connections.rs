//! The connections of a server on mio, in a slab.
//!
//! A slot is reused at once. The generation in a key is unique, so an old key finds no new connection.

use std::io;
use std::net::SocketAddr;

use halloo::CloseReason;
use halloo::observe::Object;
use mio::Token;
use mio::net::TcpStream;
use slab::Slab;

use crate::tour::mio_server::noted_mio::{NotedPoll, NotedStream};
use crate::tour::mio_server::notes::{Noted, Notes};
use crate::tour::mio_server::rules::Rules;

/// A connection waits for its client to read, and is not read, from this many bytes of output on.
pub(crate) const OUTPUT_MAX: usize = 64 * 1024;

/// The name of a connection: its slot, and a number that no other connection has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Key {
    /// The connection in entries.
    pub(crate) fn noted(self) -> Noted {
        Noted { object: Object::Connection, slot: self.slot, generation: u64::from(self.generation) }
    }
}

impl From<Key> for Token {
    fn from(key: Key) -> Self {
        Self((key.generation as usize) << 32 | key.slot as usize)
    }
}

impl From<Token> for Key {
    #[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
    fn from(token: Token) -> Self {
        Self { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

/// What a connection does with input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InputState {
    /// It is read.
    Open,
    /// A slow request is worked on elsewhere. What follows it is read after its reply.
    Working,
    /// The client has sent its FIN.
    Ended,
}

/// A client.
pub(crate) struct Connection {
    pub(crate) stream: NotedStream,
    pub(crate) generation: u32,
    pub(crate) input: InputState,
    /// Replies that the kernel has not accepted yet.
    pub(crate) output: Vec<u8>,
}

impl Connection {
    /// Whether to read: the client takes its replies, and may send more.
    pub(crate) fn wants_input(&self) -> bool {
        self.input == InputState::Open && self.output.len() < OUTPUT_MAX
    }
}

/// All clients.
pub(crate) struct Connections {
    slots: Slab<Connection>,
    last_generation: u32,
    rules: &'static dyn Rules,
}

impl Connections {
    pub(crate) fn new(rules: &'static dyn Rules) -> Self {
        // The listener and the UDP socket have the numbers 1 and 2.
        Self { slots: Slab::new(), last_generation: 2, rules }
    }

    /// Gives a client its slot.
    pub(crate) fn open(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        poll: &NotedPoll,
        notes: &Notes,
    ) -> io::Result<Key> {
        self.last_generation += 1;
        let entry = self.slots.vacant_entry();
        let slot = u32::try_from(entry.key()).map_err(io::Error::other)?;
        let key = Key { slot, generation: self.last_generation };
        let stream = NotedStream::new(stream, peer, key, poll, notes.clone())?;
        entry.insert(Connection { stream, generation: key.generation, input: InputState::Open, output: Vec::new() });
        Ok(key)
    }

    /// Finds the connection with this key, if it still exists.
    pub(crate) fn find(&mut self, key: Key) -> Option<&mut Connection> {
        let rules = self.rules;
        self.slots.get_mut(key.slot as usize).filter(|connection| rules.is_current(connection, key))
    }

    /// Closes a connection. Its slot is free for the next client.
    pub(crate) fn close(&mut self, key: Key, reason: CloseReason, poll: &NotedPoll) {
        if self.find(key).is_some() {
            self.slots.remove(key.slot as usize).stream.close(poll.registry(), reason);
        }
    }
}
