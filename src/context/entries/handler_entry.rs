//! The entry of one handler: its uses and its lifetime.
//!
//! A handler is kept while something uses it.

use crate::address::Address;
use crate::context::Context;
use crate::context::erased_handler::Handler;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{HandlerId, Key, to_slot};
use crate::limits;

/// The context's data about a handler. The loop owns the handler itself, at the same slot.
pub(crate) struct HandlerEntry {
    pub(crate) generation: u64,
    pub(crate) kind: HandlerKind,
    /// The minimum `input_bytes_max` that a stream handler needs.
    pub(crate) input_bytes_min: usize,
    /// Open connections accepted by its listeners.
    pub(crate) clients: usize,
    /// The number of its listener entries (which exist as long as their connections), UDP sockets and scheduled timers.
    pub(crate) uses: usize,
    pub(crate) lifetime: HandlerLifetime,
}

/// The kind of a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HandlerKind {
    Stream,
    Datagram,
}

/// The lifetime of a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HandlerLifetime {
    /// Attached: until it is removed.
    UntilRemoved,
    /// Passed to `listen` or `bind`: until nothing uses it.
    WhileUsed,
    /// Removed: until nothing uses it, and nothing new can use it.
    Removed,
}

impl Context {
    pub(crate) fn insert_handler(&mut self, lifetime: HandlerLifetime, handler: &Handler<'_>) -> Key {
        let (kind, input_bytes_min) = match handler {
            Handler::Stream(handler) => (HandlerKind::Stream, handler.input_bytes_min()),
            Handler::Datagram(_) => (HandlerKind::Datagram, 1),
        };
        let generation = self.next_generation();
        let entry = HandlerEntry { generation, kind, input_bytes_min, clients: 0, uses: 0, lifetime };
        Key { generation, slot: to_slot(self.handlers.insert(entry)) }
    }

    /// Returns a handler of this loop, unless it was dropped.
    pub(crate) fn handler(&self, HandlerId(key): HandlerId) -> Option<&HandlerEntry> {
        self.handlers.get(key.slot as usize).filter(|entry| entry.generation == key.generation)
    }

    pub(crate) fn handler_id(&self, slot: u32) -> HandlerId {
        HandlerId(Key { generation: self.handlers[slot as usize].generation, slot })
    }

    /// Returns the slot of a handler for a new listener or UDP socket.
    pub(crate) fn find_handler(&self, id: HandlerId, wanted: HandlerKind, at: &Address) -> Result<u32> {
        let message = match self.handler(id).filter(|entry| entry.lifetime != HandlerLifetime::Removed) {
            None => "this loop has no such handler; it was removed, or belongs to another loop",
            Some(entry) if entry.kind == wanted => return Ok(id.0.slot),
            Some(_) => match wanted {
                HandlerKind::Stream => "this handler serves datagrams; listen for a handler that `attach` has returned",
                HandlerKind::Datagram => {
                    "this handler serves connections; bind for a handler that `attach_datagrams` has returned"
                }
            },
        };
        Err(Error::with_message(ErrorKind::UnknownId, Some(at.clone()), message))
    }

    /// Whether a handler was removed, and only serves what still uses it.
    #[track_caller]
    pub(crate) fn is_removed_handler(&self, id: HandlerId) -> bool {
        // Not in a closure, because `track_caller` does not reach through one.
        let Some(entry) = self.handler(id) else {
            panic!("{id:?} is not a handler of this loop; it was dropped, or belongs to another loop");
        };
        entry.lifetime == HandlerLifetime::Removed
    }

    /// Records a use of a handler, which keeps it.
    pub(crate) fn use_handler(&mut self, slot: u32) {
        self.handlers[slot as usize].uses += 1;
    }

    /// Ends a use of a handler. After its last use, a handler that was not attached is dropped.
    pub(crate) fn release_handler(&mut self, slot: u32) {
        let entry = &mut self.handlers[slot as usize];
        entry.uses -= 1;
        if entry.is_unused() {
            self.unused_handlers.push(slot);
        }
    }

    /// Stops new uses of a handler; returns false if it was already removed.
    pub(crate) fn remove_handler(&mut self, key: Key) -> bool {
        let Some(entry) = self.handlers.get_mut(key.slot as usize).filter(|entry| entry.generation == key.generation)
        else {
            return false;
        };
        if entry.lifetime == HandlerLifetime::Removed {
            return false;
        }
        entry.lifetime = HandlerLifetime::Removed;
        if entry.is_unused() {
            self.unused_handlers.push(key.slot);
        }
        true
    }

    /// Frees the slot of a handler that nothing uses any more.
    pub(crate) fn take_unused_handler(&mut self) -> Option<u32> {
        while let Some(slot) = self.unused_handlers.pop() {
            // It may be in use again, or dropped.
            if self.handlers.get(slot as usize).is_some_and(HandlerEntry::is_unused) {
                self.handlers.remove(slot as usize);
                return Some(slot);
            }
        }
        None
    }

    /// Frees the room of many handlers when few are left; returns true if it did.
    pub(crate) fn shrink_handlers(&mut self) -> bool {
        let is_large = self.handlers.capacity() > limits::HANDLERS_KEPT.max(4 * self.handlers.len());
        if is_large {
            self.handlers.shrink_to_fit();
            self.unused_handlers.shrink_to_fit();
        }
        is_large
    }
}

impl HandlerEntry {
    /// Whether the handler can be dropped.
    pub(crate) fn is_unused(&self) -> bool {
        self.uses == 0 && self.lifetime != HandlerLifetime::UntilRemoved
    }
}
