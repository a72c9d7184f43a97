//! The way into foreign code: every callback of a stream handler is made here.
//!
//! Before each, it is noted whose callback runs, so that a `close()` in it has its meaning, touches of others are told
//! from its own, and a panic finds its culprit.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::erased_handler::{News, Served};
use crate::context::lifecycle::Calling;
use crate::ids::slot_of;
use crate::state::connection_state::NO_SESSION;

/// Calls foreign code. Where the embedder has asked for it, a panic is caught here, counted, and becomes `None`; else it
/// unwinds, and the next turn finds whose callback it was.
pub(crate) fn guarded<T>(tables: &mut Context, call: impl FnOnce(&mut Context) -> T) -> Option<T> {
    if !tables.catches_panics {
        return Some(call(tables));
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| call(tables)));
    if outcome.is_err() {
        tables.stats.panics += 1;
    }
    outcome.ok()
}

/// The stream handlers of a loop.
#[derive(Default)]
pub(crate) struct Callbacks<'h> {
    handlers: Vec<Box<dyn Served + 'h>>,
}

impl<'h> Callbacks<'h> {
    pub(crate) fn attach(&mut self, handler: Box<dyn Served + 'h>) -> u32 {
        self.handlers.push(handler);
        slot_of(self.handlers.len() - 1)
    }

    pub(crate) fn handler(&self, key: u32) -> Option<&(dyn Served + 'h)> {
        self.handlers.get(key as usize).map(|handler| &**handler)
    }

    /// Calls the handler with a new client; a refusal closes it.
    pub(crate) fn welcome(&mut self, tables: &mut Context, slot: u32) {
        let session = self.call(tables, slot, CloseReason::Local, |handler, connection, _| handler.open(connection));
        tables.state(slot).session = session.unwrap_or(NO_SESSION);
        if session == Some(NO_SESSION) {
            Connection::lend(tables, slot).close_because(CloseReason::Local);
        }
    }

    /// Calls the handler, if it keeps a session, with the end of a connection.
    pub(crate) fn farewell(&mut self, tables: &mut Context, slot: u32, reason: CloseReason) {
        let session = std::mem::replace(&mut tables.state(slot).session, NO_SESSION);
        if session != NO_SESSION {
            self.call(tables, slot, reason, |handler, connection, _| handler.close(connection, session, reason));
        }
    }

    /// Drops the session of a connection whose callback panicked.
    pub(crate) fn forget(&mut self, tables: &mut Context, slot: u32) {
        let session = std::mem::replace(&mut tables.state(slot).session, NO_SESSION);
        if session != NO_SESSION {
            let handler = self.of(tables, slot);
            guarded(tables, |_| handler.forget(session));
        }
    }

    /// Calls the handler with news.
    pub(crate) fn tell(&mut self, tables: &mut Context, slot: u32, news: News) {
        let cause = match news {
            News::Eof => CloseReason::Eof,
            News::Timeout => CloseReason::TimedOut,
            News::Flushed | News::Drain | News::Note(_) => CloseReason::Local,
        };
        self.call(tables, slot, cause, |handler, connection, session| handler.tell(connection, session, news));
    }

    /// Calls the handler with bytes, and says how many it has used up.
    pub(crate) fn data(&mut self, tables: &mut Context, slot: u32, input: &[u8]) -> usize {
        let consumed = self.call(tables, slot, CloseReason::Local, |handler, connection, session| {
            handler.data(connection, session, input)
        });
        consumed.map_or(0, |consumed| consumed.min(input.len()))
    }

    /// Calls a handler with a value of a timer.
    pub(crate) fn timer(&mut self, tables: &mut Context, handler: u32, value: u64) {
        let handler = &mut self.handlers[handler as usize];
        if guarded(tables, |context| handler.timer(context, value)).is_none() {
            log::error!("a handler has panicked over a timer");
        }
    }

    /// Tells a handler that its outbound connection has failed.
    pub(crate) fn connect_failed(&mut self, tables: &mut Context, slot: u32, error: io::Error) {
        let id = tables.id(slot);
        let handler = self.of(tables, slot);
        if guarded(tables, |context| handler.connect_failed(context, id, error)).is_none() {
            log::error!("a handler has panicked over a failed connection");
        }
    }

    /// The longest input that a connection's handler must see at once.
    pub(crate) fn input_bytes_min(&mut self, tables: &Context, slot: u32) -> usize {
        self.of(tables, slot).input_bytes_min()
    }

    fn of(&mut self, tables: &Context, slot: u32) -> &mut (dyn Served + 'h) {
        &mut *self.handlers[tables.origins[tables.states[slot as usize].origin as usize].handler as usize]
    }

    /// Calls a connection's handler; `None` if it panicked and that was caught, which is the connection's end.
    fn call<T>(
        &mut self,
        tables: &mut Context,
        slot: u32,
        cause: CloseReason,
        callback: impl FnOnce(&mut dyn Served, &mut Connection<'_>, u32) -> T,
    ) -> Option<T> {
        let session = tables.state(slot).session;
        let handler = self.of(tables, slot);
        tables.calling = Some(Calling { slot, cause });
        let outcome = guarded(tables, |tables| callback(handler, &mut Connection::lend(tables, slot), session));
        tables.calling = None;
        if outcome.is_none() {
            tables.condemn(slot);
            self.forget(tables, slot);
        }
        outcome
    }
}
