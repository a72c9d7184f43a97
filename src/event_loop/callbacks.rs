//! Every call of a stream handler's callbacks.
//!
//! While a callback runs, the context names its connection, so that a `close()`, a change of another connection and a
//! panic are attributed to the right one.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::erased_handler::{ErasedHandler, HandlerEvent};
use crate::context::loop_state::RunningCallback;
use crate::ids::to_slot;
use crate::state::connection_state::NO_SESSION;

/// Calls foreign code. Where the embedder has asked for it, a panic is caught here, counted, and becomes `None`; else
/// it unwinds, and the next turn finds whose callback it was.
pub(crate) fn catch_panic<T>(context: &mut Context, call: impl FnOnce(&mut Context) -> T) -> Option<T> {
    if !context.catches_panics {
        return Some(call(context));
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| call(context)));
    if outcome.is_err() {
        context.stats.panics += 1;
    }
    outcome.ok()
}

/// The stream handlers of a loop.
#[derive(Default)]
pub(crate) struct Callbacks<'h> {
    handlers: Vec<Box<dyn ErasedHandler + 'h>>,
}

impl<'h> Callbacks<'h> {
    pub(crate) fn attach(&mut self, handler: Box<dyn ErasedHandler + 'h>) -> u32 {
        self.handlers.push(handler);
        to_slot(self.handlers.len() - 1)
    }

    pub(crate) fn handler(&self, index: u32) -> Option<&(dyn ErasedHandler + 'h)> {
        self.handlers.get(index as usize).map(|handler| &**handler)
    }

    /// Calls the handler with a new client; a refusal closes it.
    pub(crate) fn on_open(&mut self, context: &mut Context, slot: u32) {
        let session = self.call(context, slot, CloseReason::Local, |handler, connection, _| handler.open(connection));
        context.state(slot).session = session.unwrap_or(NO_SESSION);
        if session == Some(NO_SESSION) {
            Connection::new(context, slot).close_with(CloseReason::Local);
        }
    }

    /// Calls the handler, if it keeps a session, with the end of a connection.
    pub(crate) fn on_close(&mut self, context: &mut Context, slot: u32, reason: CloseReason) {
        let session = std::mem::replace(&mut context.state(slot).session, NO_SESSION);
        if session != NO_SESSION {
            self.call(context, slot, reason, |handler, connection, _| handler.close(connection, session, reason));
        }
    }

    /// Drops the session of a connection whose callback panicked.
    pub(crate) fn drop_session(&mut self, context: &mut Context, slot: u32) {
        let session = std::mem::replace(&mut context.state(slot).session, NO_SESSION);
        if session != NO_SESSION {
            let handler = self.handler_of(context, slot);
            catch_panic(context, |_| handler.drop_session(session));
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

    /// Calls the handler with bytes, and says how many it has used up.
    pub(crate) fn on_data(&mut self, context: &mut Context, slot: u32, input: &[u8]) -> usize {
        let consumed = self.call(context, slot, CloseReason::Local, |handler, connection, session| {
            handler.data(connection, session, input)
        });
        consumed.map_or(0, |consumed| consumed.min(input.len()))
    }

    /// Calls a handler with a value of a timer.
    pub(crate) fn on_timer(&mut self, context: &mut Context, handler: u32, value: u64) {
        let handler = &mut self.handlers[handler as usize];
        if catch_panic(context, |context| handler.timer(context, value)).is_none() {
            log::error!("a handler has panicked over a timer");
        }
    }

    /// Tells a handler that its outbound connection has failed.
    pub(crate) fn on_connect_failed(&mut self, context: &mut Context, slot: u32, error: io::Error) {
        let id = context.id(slot);
        let handler = self.handler_of(context, slot);
        if catch_panic(context, |context| handler.connect_failed(context, id, error)).is_none() {
            log::error!("a handler has panicked over a failed connection");
        }
    }

    /// The longest input that a connection's handler must see at once.
    pub(crate) fn input_bytes_min(&mut self, context: &Context, slot: u32) -> usize {
        self.handler_of(context, slot).input_bytes_min()
    }

    fn handler_of(&mut self, context: &Context, slot: u32) -> &mut (dyn ErasedHandler + 'h) {
        &mut *self.handlers[context.listeners[context.connections[slot as usize].listener as usize].handler as usize]
    }

    /// Calls a connection's handler; `None` if it panicked and that was caught, which is the connection's end.
    fn call<T>(
        &mut self,
        context: &mut Context,
        slot: u32,
        cause: CloseReason,
        callback: impl FnOnce(&mut dyn ErasedHandler, &mut Connection<'_>, u32) -> T,
    ) -> Option<T> {
        let session = context.state(slot).session;
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
