//! Type-erased handlers, with the sessions of their connections.
//!
//! A session is kept until its connection is closed, or until one of its callbacks has panicked.

use std::io;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::entries::connection_entry::NO_SESSION;
use crate::context::handler::{DatagramHandler, StreamHandler};
use crate::ids::{ConnectionId, HandlerId, TimerId, to_slot};
use crate::limits;
use crate::state::memory::{OutOfMemory, shrink_table};

/// A handler of a loop.
pub(crate) enum Handler<'h> {
    Stream(Box<dyn ErasedHandler + 'h>),
    Datagram(Box<dyn DatagramHandler + 'h>),
}

impl<'h> Handler<'h> {
    pub(crate) fn stream(handler: impl StreamHandler + 'h) -> Self {
        Self::Stream(Box::new(HandlerWithSessions::new(handler)))
    }

    pub(crate) fn datagram(handler: impl DatagramHandler + 'h) -> Self {
        Self::Datagram(Box::new(handler))
    }

    pub(crate) fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        match self {
            Self::Stream(handler) => handler.start(context, id),
            Self::Datagram(handler) => handler.on_start(context, id),
        }
    }

    pub(crate) fn on_timer(&mut self, context: &mut Context, timer: TimerId, value: u64) {
        match self {
            Self::Stream(handler) => handler.timer(context, timer, value),
            Self::Datagram(handler) => handler.on_timer(context, timer, value),
        }
    }

    /// Releases the memory of a burst of sessions.
    pub(crate) fn shrink_sessions(&mut self) {
        if let Self::Stream(handler) = self {
            handler.shrink_sessions();
        }
    }
}

/// A stream handler, with sessions by key.
pub(crate) trait ErasedHandler {
    fn input_bytes_min(&self) -> usize;
    /// Returns the key of the session, or [`NO_SESSION`] for a refusal.
    fn open(&mut self, connection: &mut Connection<'_>) -> u32;
    fn data(&mut self, connection: &mut Connection<'_>, session: u32, input: &[u8]) -> usize;
    fn eof(&mut self, connection: &mut Connection<'_>, session: u32, rest: &[u8]);
    fn event(&mut self, connection: &mut Connection<'_>, session: u32, event: HandlerEvent);
    fn start(&mut self, context: &mut Context, id: HandlerId);
    fn timer(&mut self, context: &mut Context, timer: TimerId, value: u64);
    fn connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error);
    fn close(&mut self, connection: &mut Connection<'_>, session: u32, reason: CloseReason);
    /// Drops a session without `on_close`, because its callback panicked.
    fn drop_session(&mut self, session: u32);
    /// Releases the memory of a burst of sessions.
    fn shrink_sessions(&mut self);
}

/// The callbacks without input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HandlerEvent {
    Flushed,
    Timeout,
    Drain,
    Notify(u64),
}

/// A handler and the sessions of its connections.
pub(crate) struct HandlerWithSessions<H: StreamHandler> {
    handler: H,
    /// Not a slab: a session without data takes one byte here, and sixteen in a slab.
    sessions: Vec<Option<H::Session>>,
    free_sessions: Vec<u32>,
}

impl<H: StreamHandler> HandlerWithSessions<H> {
    /// Initial room for sessions.
    const SESSIONS_RESERVED: usize = match size_of::<Option<H::Session>>() {
        0 => limits::TABLE_BYTES_RESERVED,
        bytes => limits::TABLE_BYTES_RESERVED / bytes,
    };

    pub(crate) fn new(handler: H) -> Self {
        Self { handler, sessions: Vec::new(), free_sessions: Vec::new() }
    }

    fn add_session(&mut self, session: H::Session) -> u32 {
        if let Some(free) = self.free_sessions.pop() {
            self.sessions[free as usize] = Some(session);
            return free;
        }
        self.sessions.push(Some(session));
        to_slot(self.sessions.len() - 1)
    }

    /// Reserves room for a session, and for its removal.
    fn reserve_session(&mut self) -> Result<(), OutOfMemory> {
        let Self { sessions, free_sessions, .. } = self;
        if !free_sessions.is_empty() {
            return Ok(());
        }
        if sessions.len() == sessions.capacity() {
            let more = Self::SESSIONS_RESERVED.max(sessions.len() / 4).max(1);
            sessions.try_reserve_exact(more).or_else(|_| sessions.try_reserve_exact(1))?;
        }
        if free_sessions.capacity() <= sessions.len() {
            // The block is mapped separately, so that it does not grow between buffers.
            let more = (limits::TABLE_BYTES_RESERVED / size_of::<u32>()).max(2 * sessions.len());
            free_sessions.try_reserve_exact(more).or_else(|_| free_sessions.try_reserve_exact(sessions.len() + 1))?;
        }
        Ok(())
    }

    fn take_session(&mut self, session: u32) -> Option<H::Session> {
        self.free_sessions.push(session);
        self.sessions[session as usize].take()
    }
}

impl<H: StreamHandler> ErasedHandler for HandlerWithSessions<H> {
    fn input_bytes_min(&self) -> usize {
        self.handler.input_bytes_min()
    }

    fn open(&mut self, connection: &mut Connection<'_>) -> u32 {
        if self.reserve_session().is_err() {
            connection.close_out_of_memory();
            return NO_SESSION;
        }
        match self.handler.on_open(connection) {
            Some(session) => self.add_session(session),
            None => NO_SESSION,
        }
    }

    fn data(&mut self, connection: &mut Connection<'_>, session: u32, input: &[u8]) -> usize {
        match &mut self.sessions[session as usize] {
            Some(session) => self.handler.on_data(connection, session, input),
            None => 0,
        }
    }

    fn eof(&mut self, connection: &mut Connection<'_>, session: u32, rest: &[u8]) {
        if let Some(session) = &mut self.sessions[session as usize] {
            self.handler.on_eof(connection, session, rest);
        }
    }

    fn event(&mut self, connection: &mut Connection<'_>, session: u32, event: HandlerEvent) {
        let Some(session) = &mut self.sessions[session as usize] else {
            return;
        };
        match event {
            HandlerEvent::Flushed => self.handler.on_flushed(connection, session),
            HandlerEvent::Timeout => self.handler.on_timeout(connection, session),
            HandlerEvent::Drain => self.handler.on_drain(connection, session),
            HandlerEvent::Notify(value) => self.handler.on_notify(connection, session, value),
        }
    }

    fn start(&mut self, context: &mut Context, id: HandlerId) {
        self.handler.on_start(context, id);
    }

    fn timer(&mut self, context: &mut Context, timer: TimerId, value: u64) {
        self.handler.on_timer(context, timer, value);
    }

    fn connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
        self.handler.on_connect_failed(context, id, error);
    }

    fn close(&mut self, connection: &mut Connection<'_>, session: u32, reason: CloseReason) {
        if let Some(session) = self.take_session(session) {
            self.handler.on_close(connection, session, reason);
        }
    }

    fn drop_session(&mut self, session: u32) {
        drop(self.take_session(session));
    }

    fn shrink_sessions(&mut self) {
        let Self { sessions, free_sessions, .. } = self;
        let is_sparse = sessions.len() - free_sessions.len() <= sessions.len() / 4;
        if sessions.len() > Self::SESSIONS_RESERVED && is_sparse {
            while sessions.pop_if(|session| session.is_none()).is_some() {}
            let used = sessions.len();
            free_sessions.retain(|free| (*free as usize) < used);
            shrink_table(sessions, used, Self::SESSIONS_RESERVED);
            shrink_table(free_sessions, used, Self::SESSIONS_RESERVED);
        }
    }
}
