//! The entry of one handler: its uses and its lifetime.
//!
//! A handler stays for as long as something uses it.

use crate::address::Address;
use crate::context::Context;
use crate::context::erased_handler::Handler;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{HandlerId, Key, to_slot};
use crate::limits;

/// What the context knows about a handler. The handler itself is with the loop, at the same slot.
pub(crate) struct HandlerEntry {
    pub(crate) generation: u64,
    pub(crate) kind: HandlerKind,
    /// The longest input that a handler of connections must see at once.
    pub(crate) input_bytes_min: usize,
    /// Open connections that its listeners have accepted.
    pub(crate) clients: usize,
    /// Its entries among the listeners, which last as long as their connections, its UDP sockets and scheduled timers.
    pub(crate) uses: usize,
    pub(crate) lifetime: HandlerLifetime,
}

/// What a handler serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HandlerKind {
    Stream,
    Datagram,
}

/// How long a handler stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HandlerLifetime {
    /// It was attached: until it is removed.
    UntilRemoved,
    /// It was given to `listen` or `bind`: until nothing uses it.
    WhileUsed,
    /// It was removed: until nothing uses it, and nothing new does.
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

    /// A handler of this loop that is not gone.
    pub(crate) fn handler(&self, HandlerId(key): HandlerId) -> Option<&HandlerEntry> {
        self.handlers.get(key.slot as usize).filter(|entry| entry.generation == key.generation)
    }

    pub(crate) fn handler_id(&self, slot: u32) -> HandlerId {
        HandlerId(Key { generation: self.handlers[slot as usize].generation, slot })
    }

    /// The slot of a handler that a listener or UDP socket is to be opened for.
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

    /// Whether a handler of this loop serves only what it has.
    #[track_caller]
    pub(crate) fn is_removed_handler(&self, id: HandlerId) -> bool {
        // Not in a closure, which would hide the caller's line.
        let Some(entry) = self.handler(id) else {
            panic!("{id:?} is not a handler of this loop; it was dropped, or belongs to another loop");
        };
        entry.lifetime == HandlerLifetime::Removed
    }

    /// Notes that something uses a handler, so that it stays.
    pub(crate) fn use_handler(&mut self, slot: u32) {
        self.handlers[slot as usize].uses += 1;
    }

    /// Notes that something does not use a handler any more. The last use of one that was not attached is its end.
    pub(crate) fn release_handler(&mut self, slot: u32) {
        let entry = &mut self.handlers[slot as usize];
        entry.uses -= 1;
        if entry.is_unused() {
            self.unused_handlers.push(slot);
        }
    }

    /// Has a handler used for nothing new; false if it was removed already.
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
            // It may be in use again, or gone.
            if self.handlers.get(slot as usize).is_some_and(HandlerEntry::is_unused) {
                self.handlers.remove(slot as usize);
                return Some(slot);
            }
        }
        None
    }

    /// Gives back the room of many handlers once few are left; true if it did.
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
    /// Whether it may go.
    pub(crate) fn is_unused(&self) -> bool {
        self.uses == 0 && self.lifetime != HandlerLifetime::UntilRemoved
    }
}
