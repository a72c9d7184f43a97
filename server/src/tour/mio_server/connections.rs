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
use crate::tour::mio_server::server::SLOW_REQUEST;

/// A connection waits for its client to read, and is not read, from this many bytes of output on.
pub(crate) const OUTPUT_MAX: usize = 64 * 1024;

/// Half of the bits of a token are the slot, the others the generation.
const HALF_BITS: u32 = usize::BITS / 2;
const HALF_MAX: usize = usize::MAX >> HALF_BITS;

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
        Self((key.generation as usize) << HALF_BITS | key.slot as usize)
    }
}

impl From<Token> for Key {
    #[expect(clippy::cast_possible_truncation, reason = "each half has at most 32 bits")]
    fn from(token: Token) -> Self {
        Self { slot: (token.0 & HALF_MAX) as u32, generation: (token.0 >> HALF_BITS) as u32 }
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
    /// Input without a reply: a slow request and what follows it, or the beginning of what may be one.
    pub(crate) unanswered: Vec<u8>,
    /// Whether the first byte without a reply begins a line.
    is_at_line_start: bool,
    /// Replies that the kernel has not accepted yet.
    pub(crate) output: Vec<u8>,
}

impl Connection {
    fn new(stream: NotedStream, generation: u32) -> Self {
        let (input, unanswered, output) = (InputState::Open, Vec::new(), Vec::new());
        Self { stream, generation, input, unanswered, is_at_line_start: true, output }
    }

    /// Whether to read: the client takes its replies, and may send more.
    pub(crate) fn wants_input(&self) -> bool {
        self.input == InputState::Open && self.output.len() < OUTPUT_MAX
    }

    /// Sends back what comes before the next slow request. Takes this request, and returns whether there is one.
    pub(crate) fn next_slow_request(&mut self) -> bool {
        if self.input == InputState::Working {
            return false;
        }
        let bytes = bytes_before_slow_request(&self.unanswered, self.is_at_line_start);
        if let Some(last) = self.unanswered[..bytes].last() {
            self.is_at_line_start = *last == b'\n';
        }
        self.output.extend(self.unanswered.drain(..bytes));
        let is_slow = self.unanswered.starts_with(SLOW_REQUEST);
        if is_slow {
            self.unanswered.drain(..SLOW_REQUEST.len());
        }
        is_slow
    }
}

/// How many bytes come before the first line that is the slow request, or may become it. A read may end anywhere.
pub(crate) fn bytes_before_slow_request(input: &[u8], mut is_at_line_start: bool) -> usize {
    let mut at = 0;
    while at < input.len() {
        let rest = &input[at..];
        if is_at_line_start && (rest.starts_with(SLOW_REQUEST) || SLOW_REQUEST.starts_with(rest)) {
            break;
        }
        at += rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        is_at_line_start = true;
    }
    at
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
        let entry = self.slots.vacant_entry();
        let slot = u32::try_from(entry.key()).map_err(io::Error::other)?;
        // The last generation is that of the tokens of other sources.
        if entry.key() > HALF_MAX || self.last_generation as usize + 1 >= HALF_MAX {
            return Err(io::Error::other("no more connections have a token"));
        }
        self.last_generation += 1;
        let key = Key { slot, generation: self.last_generation };
        let stream = NotedStream::new(stream, peer, key, poll, notes.clone())?;
        entry.insert(Connection::new(stream, key.generation));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_slot_and_generation_is_in_its_token() {
        let half = u32::try_from(HALF_MAX).expect("at most 32 bits");
        for key in
            [Key { slot: 0, generation: 3 }, Key { slot: half, generation: 3 }, Key { slot: 7, generation: half }]
        {
            assert_eq!(Key::from(Token::from(key)), key);
        }
    }

    #[test]
    fn input_before_a_line_that_is_or_may_become_the_slow_request_does_not_wait() {
        for (input, bytes) in [
            ("", 0),
            ("hello", 5),
            ("work 300\n", 0),
            ("work 3", 0),
            ("work 301", 8),
            ("hello\nwork 300\nhello\n", 6),
            ("hello\nwo", 6),
            ("work 30\nw", 8),
        ] {
            assert_eq!(bytes_before_slow_request(input.as_bytes(), true), bytes, "{input:?}");
        }
        // The line has another beginning, which was sent back already.
        assert_eq!(bytes_before_slow_request(b"work 300\nwork 300\n", false), 9);
    }
}
