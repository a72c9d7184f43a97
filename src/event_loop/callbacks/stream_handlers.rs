//! All calls of callbacks for a connection.
//!
//! During a callback, the context records the callback's connection. A `close()` gets its reason from this record, and
//! a panic ends that connection.

use std::io;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::entries::connection_entry::{ConnectionEntry, NO_SESSION};
use crate::context::erased_handler::{ErasedHandler, HandlerEvent};
use crate::context::foreign_code::{CallbackResult, CallbackSite, call_back, catch_panic};
use crate::context::loop_state::RunningCallback;
use crate::event_loop::callbacks::Callbacks;
use crate::ids::SlotKey;
use crate::observe::entry::Callback;

impl<'h> Callbacks<'h> {
    /// Calls the handler with a new connection; a refusal closes it.
    pub(crate) fn on_open(&mut self, context: &mut Context, slot: u32) {
        let open = CallbackSite::of(SlotKey::Connection(slot), Callback::Open);
        let session =
            self.call(context, slot, open, CloseReason::Local, |handler, connection, _| handler.open(connection));
        context.connections[slot as usize].session = session.unwrap_or(NO_SESSION);
        if session == Some(NO_SESSION) {
            Connection::new(context, slot).close_with(CloseReason::Local);
        }
    }

    /// Calls the handler with the end of a connection, if it has a session.
    pub(crate) fn on_close(&mut self, context: &mut Context, slot: u32, reason: CloseReason) {
        let session = std::mem::replace(&mut context.connections[slot as usize].session, NO_SESSION);
        if session != NO_SESSION {
            let site = CallbackSite::of(SlotKey::Connection(slot), Callback::Close);
            self.call(context, slot, site, reason, move |handler, connection, _| {
                handler.close(connection, session, reason);
            });
        }
    }

    /// Drops the session of a connection whose callback panicked.
    pub(crate) fn drop_session(&mut self, context: &mut Context, slot: u32) {
        let session = std::mem::replace(&mut context.connections[slot as usize].session, NO_SESSION);
        if session != NO_SESSION {
            let handler = self.handler_of(context, context.connections[slot as usize].listener);
            if catch_panic(context, |_| handler.drop_session(session)).is_none() {
                log::error!("a session panicked when it was dropped");
            }
        }
    }

    /// Calls the handler with an event.
    pub(crate) fn on_event(&mut self, context: &mut Context, slot: u32, event: HandlerEvent) {
        let (callback, cause) = match event {
            HandlerEvent::Timeout => (Callback::Timeout, CloseReason::TimedOut),
            HandlerEvent::Flushed => (Callback::Flushed, CloseReason::Local),
            HandlerEvent::Drain => (Callback::Drain, CloseReason::Local),
            HandlerEvent::Notify(_) => (Callback::Notify, CloseReason::Local),
        };
        let site = CallbackSite::of(SlotKey::Connection(slot), callback);
        self.call(context, slot, site, cause, |handler, connection, session| {
            handler.event(connection, session, event);
        });
    }

    /// Calls the handler with bytes; returns how many it has consumed.
    pub(crate) fn on_data(&mut self, context: &mut Context, slot: u32, input: &[u8]) -> usize {
        let site = CallbackSite::of(SlotKey::Connection(slot), Callback::Data).with_input(input.len() as u64);
        let consumed = self.call(context, slot, site, CloseReason::Local, move |handler, connection, session| {
            let consumed = handler.data(connection, session, input);
            debug_assert!(consumed <= input.len(), "on_data returned {consumed} for {} bytes", input.len());
            consumed
        });
        consumed.map_or(0, |consumed| consumed.min(input.len()))
    }

    /// Calls the handler with EOF, and with the unconsumed input.
    pub(crate) fn on_eof(&mut self, context: &mut Context, slot: u32, rest: &[u8]) {
        let site = CallbackSite::of(SlotKey::Connection(slot), Callback::Eof).with_input(rest.len() as u64);
        self.call(context, slot, site, CloseReason::Eof, |handler, connection, session| {
            handler.eof(connection, session, rest);
        });
    }

    /// Calls `on_connect_failed` for an outbound connection.
    pub(crate) fn on_connect_failed(&mut self, context: &mut Context, slot: u32, error: io::Error) {
        let id = context.id(slot);
        let handler = self.handler_of(context, context.connections[slot as usize].listener);
        let site = CallbackSite::of(SlotKey::Connection(slot), Callback::ConnectFailed);
        let called = call_back(context, site, |context| handler.connect_failed(context, id, error));
        if called.is_none() {
            log::error!("a handler panicked in on_connect_failed");
        }
    }

    /// The handler of the connections of a listener's entry.
    #[inline]
    fn handler_of(&mut self, context: &mut Context, listener: u32) -> &mut (dyn ErasedHandler + 'h) {
        let handler = context.listeners[listener as usize].handler;
        self.stream_handler(context, handler)
    }

    /// Calls a connection's handler. Returns `None` if it panicked and the panic was caught, which ends the connection.
    fn call<T: CallbackResult>(
        &mut self,
        context: &mut Context,
        slot: u32,
        site: CallbackSite,
        cause: CloseReason,
        callback: impl FnOnce(&mut dyn ErasedHandler, &mut Connection<'_>, u32) -> T,
    ) -> Option<T> {
        let &ConnectionEntry { session, listener, .. } = &context.connections[slot as usize];
        let handler = self.handler_of(context, listener);
        context.running_callback = Some(RunningCallback { slot, cause });
        let outcome =
            call_back(context, site, move |context| callback(handler, &mut Connection::new(context, slot), session));
        context.running_callback = None;
        if outcome.is_none() {
            context.abort_panicked(slot);
            self.drop_session(context, slot);
        }
        outcome
    }
}
