//! Stream handlers with their sessions, and every call of their callbacks.
//!
//! While a callback runs, the context names its connection: a `close()`, a change of another connection and a panic are
//! attributed by that.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::entries::connection_entry::NO_SESSION;
use crate::context::handler::StreamHandler;
use crate::context::loop_state::RunningCallback;
use crate::ids::{ConnectionId, to_slot};
use crate::limits;
use crate::state::memory::{OutOfMemory, shrink_table};

/// Calls foreign code. With `catch_panics`, a panic is caught here, counted, and becomes `None`; else it unwinds.
pub(crate) fn catch_panic<T>(context: &mut Context, call: impl FnOnce(&mut Context) -> T) -> Option<T> {
    if !context.catches_panics {
        return Some(call(context));
    }
    let panic = match catch_unwind(AssertUnwindSafe(|| call(context))) {
        Ok(value) => return Some(value),
        Err(panic) => panic,
    };
    context.stats.panics += 1;
    // The value that the panic carries is foreign, too, and may panic when it is dropped.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(panic);
    }
    None
}

/// Drops what an embedder has given to the loop: a handler, a session, a closure.
pub(crate) fn drop_foreign<T>(context: &mut Context, value: T) {
    if catch_panic(context, |_| drop(value)).is_none() {
        log::error!("a handler, session or closure has panicked when it was dropped");
    }
}

/// The stream handlers of a loop, by the slots of their entries in the context.
#[derive(Default)]
pub(crate) struct StreamHandlers<'h> {
    handlers: Vec<Option<Box<dyn ErasedHandler + 'h>>>,
}

/// What holds for every slot that an entry of the context names.
const IS_THERE: &str = "a handler stays for as long as its entry does";

impl<'h> StreamHandlers<'h> {
    pub(crate) fn insert(&mut self, slot: u32, handler: Box<dyn ErasedHandler + 'h>) {
        let slot = slot as usize;
        if self.handlers.len() <= slot {
            self.handlers.resize_with(slot + 1, || None);
        }
        self.handlers[slot] = Some(handler);
    }

    /// Takes a handler out whose entry is gone.
    pub(crate) fn take(&mut self, slot: u32) -> Option<Box<dyn ErasedHandler + 'h>> {
        self.handlers[slot as usize].take()
    }

    /// Gives back the room behind the last handler.
    pub(crate) fn shrink(&mut self) {
        while self.handlers.pop_if(|handler| handler.is_none()).is_some() {}
        self.handlers.shrink_to_fit();
    }

    pub(crate) fn get(&mut self, slot: u32) -> &mut (dyn ErasedHandler + 'h) {
        &mut **self.handlers[slot as usize].as_mut().expect(IS_THERE)
    }

    /// Gives back the memory of a burst of sessions.
    pub(crate) fn shrink_sessions(&mut self) {
        for handler in self.handlers.iter_mut().flatten() {
            handler.shrink_sessions();
        }
    }

    /// Calls the handler with a new client; a refusal closes it.
    pub(crate) fn on_open(&mut self, context: &mut Context, slot: u32) {
        let session = self.call(context, slot, CloseReason::Local, |handler, connection, _| handler.open(connection));
        context.connections[slot as usize].session = session.unwrap_or(NO_SESSION);
        if session == Some(NO_SESSION) {
            Connection::new(context, slot).close_with(CloseReason::Local);
        }
    }

    /// Calls the handler, if it keeps a session, with the end of a connection.
    pub(crate) fn on_close(&mut self, context: &mut Context, slot: u32, reason: CloseReason) {
        let session = std::mem::replace(&mut context.connections[slot as usize].session, NO_SESSION);
        if session != NO_SESSION {
            self.call(context, slot, reason, |handler, connection, _| handler.close(connection, session, reason));
        }
    }

    /// Drops the session of a connection whose callback panicked.
    pub(crate) fn drop_session(&mut self, context: &mut Context, slot: u32) {
        let session = std::mem::replace(&mut context.connections[slot as usize].session, NO_SESSION);
        if session != NO_SESSION {
            let handler = self.handler_of(context, slot);
            if catch_panic(context, |_| handler.drop_session(session)).is_none() {
                log::error!("a session has panicked when it was dropped");
            }
        }
    }

    /// Calls the handler with an event.
    pub(crate) fn on_event(&mut self, context: &mut Context, slot: u32, event: HandlerEvent) {
        let cause = match event {
            HandlerEvent::Eof => CloseReason::Eof,
            HandlerEvent::Timeout => CloseReason::TimedOut,
            HandlerEvent::Flushed | HandlerEvent::Drain | HandlerEvent::Notify(_) => CloseReason::Local,
        };
        self.call(context, slot, cause, |handler, connection, session| handler.event(connection, session, event));
    }

    /// Calls the handler with bytes; returns how many it has consumed.
    pub(crate) fn on_data(&mut self, context: &mut Context, slot: u32, input: &[u8]) -> usize {
        let consumed = self.call(context, slot, CloseReason::Local, |handler, connection, session| {
            let consumed = handler.data(connection, session, input);
            debug_assert!(consumed <= input.len(), "on_data has used up {consumed} of {} bytes", input.len());
            consumed
        });
        consumed.map_or(0, |consumed| consumed.min(input.len()))
    }

    /// Calls a handler with a value of a timer.
    pub(crate) fn on_timer(&mut self, context: &mut Context, handler: u32, value: u64) {
        let handler = self.get(handler);
        if catch_panic(context, |context| handler.timer(context, value)).is_none() {
            log::error!("a handler has panicked over a timer");
        }
    }

    /// Calls `on_connect_failed` for an outbound connection.
    pub(crate) fn on_connect_failed(&mut self, context: &mut Context, slot: u32, error: io::Error) {
        let id = context.id(slot);
        let handler = self.handler_of(context, slot);
        if catch_panic(context, |context| handler.connect_failed(context, id, error)).is_none() {
            log::error!("a handler has panicked over a failed connection");
        }
    }

    /// The longest input that a connection's handler must see at once; more than any inbox holds if it panics over that.
    pub(crate) fn input_bytes_min(&mut self, context: &mut Context, slot: u32) -> usize {
        let handler = self.handler_of(context, slot);
        catch_panic(context, |_| handler.input_bytes_min()).unwrap_or(usize::MAX)
    }

    fn handler_of(&mut self, context: &Context, slot: u32) -> &mut (dyn ErasedHandler + 'h) {
        let listener = context.connections[slot as usize].listener;
        self.get(context.listeners[listener as usize].handler)
    }

    /// Calls a connection's handler; `None` if it panicked and that was caught, which is the connection's end.
    fn call<T>(
        &mut self,
        context: &mut Context,
        slot: u32,
        cause: CloseReason,
        callback: impl FnOnce(&mut dyn ErasedHandler, &mut Connection<'_>, u32) -> T,
    ) -> Option<T> {
        let session = context.connections[slot as usize].session;
        let handler = self.handler_of(context, slot);
        context.running_callback = Some(RunningCallback { slot, cause });
        let outcome = catch_panic(context, |context| callback(handler, &mut Connection::new(context, slot), session));
        context.running_callback = None;
        if outcome.is_none() {
            context.abort_panicked(slot);
            self.drop_session(context, slot);
        }
        outcome
    }
}

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
    /// Gives back the memory of a burst of sessions.
    fn shrink_sessions(&mut self);
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
    /// Not a slab: a session without data takes one byte here, and sixteen there.
    sessions: Vec<Option<H::Session>>,
    free_sessions: Vec<u32>,
}

impl<H: StreamHandler> HandlerWithSessions<H> {
    /// Sessions for which there is room from the first on.
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

    /// Makes room for a session, and for giving it up.
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
            // Mapped by itself, so that it does not grow amid buffers.
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

    fn event(&mut self, connection: &mut Connection<'_>, session: u32, event: HandlerEvent) {
        let Some(session) = &mut self.sessions[session as usize] else {
            return;
        };
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
