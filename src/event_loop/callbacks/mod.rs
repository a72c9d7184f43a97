//! The handlers and closures of a loop, by slot.
//!
//! They are stored outside of the context, because they may borrow from the embedder, and no callback can reach them.

pub(crate) mod removal;
pub(crate) mod stream_handlers;
pub(crate) mod timer_callbacks;
#[cfg(unix)]
pub(crate) mod watch_callbacks;

use crate::context::Context;
#[cfg(unix)]
use crate::context::entries::watch_entry::OwnedWatch;
use crate::context::erased_handler::{ErasedHandler, Handler};
use crate::context::foreign_code::{CallbackSite, call_back};
use crate::context::handler::DatagramHandler;
use crate::context::open::{Added, TimerCallback};
use crate::ids::{SlotKey, TimerId};
use crate::limits;
use crate::observe::entry::Callback;
use crate::state::memory::shrink_table;

/// The handlers and closures that an embedder has passed to a loop.
#[derive(Default)]
pub(crate) struct Callbacks<'h> {
    /// By the slots of their entries in the context.
    handlers: Vec<Option<Handler<'h>>>,
    /// The closures of timers, by the slots of their timers.
    timers: Vec<Option<TimerCallback<'h>>>,
    /// The sources and callbacks of watches, by the slots of their entries in the context.
    #[cfg(unix)]
    watches: Vec<Option<OwnedWatch<'h>>>,
}

/// Holds for every slot in an entry of the context.
const IS_THERE: &str = "a handler stays for as long as its entry does";

impl<'h> Callbacks<'h> {
    pub(super) fn insert(&mut self, added: Added<'h>) {
        match added {
            Added::Handler(slot, handler) => insert(&mut self.handlers, slot, handler),
            Added::Timer(slot, callback) => insert(&mut self.timers, slot, callback),
            #[cfg(unix)]
            Added::Watch(slot, watch) => insert(&mut self.watches, slot, watch),
        }
    }

    /// Takes the handlers and closures that callbacks have added to the context. A failed lookup may find its target
    /// there.
    #[cold]
    pub(super) fn join_added(&mut self, context: &mut Context) {
        for added in context.added.drain(..) {
            self.insert(added);
        }
        shrink_table(&mut context.added, 0, limits::BURST_MIN);
    }

    #[inline]
    pub(super) fn stream_handler(&mut self, context: &mut Context, slot: u32) -> &mut (dyn ErasedHandler + 'h) {
        if !matches!(self.handlers.get(slot as usize), Some(Some(Handler::Stream(_)))) {
            self.join_added(context);
        }
        match self.handlers.get_mut(slot as usize) {
            Some(Some(Handler::Stream(handler))) => &mut **handler,
            _ => unreachable!("{IS_THERE}, and a connection has a stream handler"),
        }
    }

    #[inline]
    pub(super) fn datagram_handler(&mut self, context: &mut Context, slot: u32) -> &mut (dyn DatagramHandler + 'h) {
        if !matches!(self.handlers.get(slot as usize), Some(Some(Handler::Datagram(_)))) {
            self.join_added(context);
        }
        match self.handlers.get_mut(slot as usize) {
            Some(Some(Handler::Datagram(handler))) => &mut **handler,
            _ => unreachable!("{IS_THERE}, and a UDP socket has a datagram handler"),
        }
    }

    /// Takes the closure of a timer out of its slot.
    pub(super) fn take_timer(&mut self, context: &mut Context, slot: u32) -> Option<TimerCallback<'h>> {
        if !is_there(&self.timers, slot) {
            self.join_added(context);
        }
        self.timers.get_mut(slot as usize)?.take()
    }

    #[cfg(unix)]
    pub(super) fn watch(&mut self, context: &mut Context, slot: u32) -> Option<&mut Option<OwnedWatch<'h>>> {
        if !is_there(&self.watches, slot) {
            self.join_added(context);
        }
        self.watches.get_mut(slot as usize)
    }

    /// Takes out a handler that nothing uses any more, which frees its slot.
    pub(super) fn take_unused_handler(&mut self, context: &mut Context) -> Option<Handler<'h>> {
        let slot = context.take_unused_handler()?;
        if !is_there(&self.handlers, slot) {
            self.join_added(context);
        }
        let handler = self.handlers.get_mut(slot as usize).and_then(Option::take);
        if context.shrink_handlers() {
            while self.handlers.pop_if(|handler| handler.is_none()).is_some() {}
            self.handlers.shrink_to_fit();
        }
        handler
    }

    /// Calls a handler with a value of a timer.
    pub(super) fn on_timer(&mut self, context: &mut Context, handler: u32, timer: TimerId, value: u64) {
        if !is_there(&self.handlers, handler) {
            self.join_added(context);
        }
        let handler = self.handlers[handler as usize].as_mut().expect(IS_THERE);
        let site = CallbackSite::of(SlotKey::Timer(timer.0.slot), Callback::Timer).with_input(value);
        let called = call_back(context, site, |context| handler.on_timer(context, timer, value));
        if called.is_none() {
            log::error!("a handler panicked in on_timer");
        }
    }

    /// Releases the memory of a burst of sessions and timers.
    pub(super) fn shrink(&mut self) {
        self.handlers.iter_mut().flatten().for_each(Handler::shrink_sessions);
        while self.timers.pop_if(|callback| callback.is_none()).is_some() {}
        let used = self.timers.len();
        shrink_table(&mut self.timers, used, limits::BURST_MIN);
    }
}

fn is_there<T>(table: &[Option<T>], slot: u32) -> bool {
    matches!(table.get(slot as usize), Some(Some(_)))
}

fn insert<T>(table: &mut Vec<Option<T>>, slot: u32, value: T) {
    let slot = slot as usize;
    if table.len() <= slot {
        table.resize_with(slot + 1, || None);
    }
    table[slot] = Some(value);
}
