//! A stream handler with its type erased, and its sessions.
//!
//! A session lives as long as its connection, unless its callback panics.

use std::io;

use slab::Slab;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::handler::StreamHandler;
use crate::ids::{ConnectionId, to_slot};
use crate::limits;
use crate::state::connection_state::NO_SESSION;

/// A stream handler as the loop calls it: sessions by key.
pub(crate) trait ErasedHandler {
    fn input_bytes_min(&self) -> usize;
    /// Returns the key of the session, or [`NO_SESSION`] for a refusal.
    fn open(&mut self, connection: &mut Connection<'_>) -> u32;
    fn data(&mut self, connection: &mut Connection<'_>, session: u32, input: &[u8]) -> usize;
    fn event(&mut self, connection: &mut Connection<'_>, session: u32, event: HandlerEvent);
    fn timer(&mut self, context: &mut Context, value: u64);
    fn connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error);
    fn close(&mut self, connection: &mut Connection<'_>, session: u32, reason: CloseReason);
    /// Drops a session without a word: its callback panicked.
    fn drop_session(&mut self, session: u32);
}

/// The callbacks that bring no bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HandlerEvent {
    Eof,
    Flushed,
    Timeout,
    Drain,
    Notify(u64),
}

/// A handler and the sessions of its connections.
pub(crate) struct HandlerWithSessions<H: StreamHandler> {
    handler: H,
    sessions: Slab<H::Session>,
}

impl<H: StreamHandler> HandlerWithSessions<H> {
    pub(crate) fn new(handler: H) -> Self {
        // A session of nothing still takes a slot.
        let room = limits::TABLE_BYTES_RESERVED / size_of::<H::Session>().max(size_of::<usize>());
        Self { handler, sessions: Slab::with_capacity(room) }
    }
}

impl<H: StreamHandler> ErasedHandler for HandlerWithSessions<H> {
    fn input_bytes_min(&self) -> usize {
        self.handler.input_bytes_min()
    }

    fn open(&mut self, connection: &mut Connection<'_>) -> u32 {
        match self.handler.on_open(connection) {
            Some(session) => to_slot(self.sessions.insert(session)),
            None => NO_SESSION,
        }
    }

    fn data(&mut self, connection: &mut Connection<'_>, session: u32, input: &[u8]) -> usize {
        self.handler.on_data(connection, &mut self.sessions[session as usize], input)
    }

    fn event(&mut self, connection: &mut Connection<'_>, session: u32, event: HandlerEvent) {
        let session = &mut self.sessions[session as usize];
        match event {
            HandlerEvent::Eof => self.handler.on_eof(connection, session),
            HandlerEvent::Flushed => self.handler.on_flushed(connection, session),
            HandlerEvent::Timeout => self.handler.on_timeout(connection, session),
            HandlerEvent::Drain => self.handler.on_drain(connection, session),
            HandlerEvent::Notify(value) => self.handler.on_notify(connection, session, value),
        }
    }

    fn timer(&mut self, context: &mut Context, value: u64) {
        self.handler.on_timer(context, value);
    }

    fn connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
        self.handler.on_connect_failed(context, id, error);
    }

    fn close(&mut self, connection: &mut Connection<'_>, session: u32, reason: CloseReason) {
        let session = self.sessions.remove(session as usize);
        self.handler.on_close(connection, session, reason);
    }

    fn drop_session(&mut self, session: u32) {
        self.sessions.remove(session as usize);
    }
}
