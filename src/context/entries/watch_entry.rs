//! The entry of one watched descriptor: look-up, readiness, removal.
//!
//! The loop owns the source and the callback, at the same slot. The slot is not free until both are dropped.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd};

use crate::context::Context;
use crate::context::entries::source::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Key, SlotKey, Token, WatchId, to_slot};
use crate::net::{Event, WatchedFd};
use crate::observe::entry::EntryKind;
use crate::options::Interest;

/// When the callback of a watch is called next.
///
/// ```
/// use halloo::Watch;
/// use std::io::{ErrorKind, Read};
///
/// /// Reads once: at most one buffer in a turn of the loop.
/// fn read_some(source: &mut impl Read) -> Watch {
///     match source.read(&mut [0; 4096]) {
///         Err(error) if error.kind() == ErrorKind::WouldBlock => Watch::Drained,
///         _ => Watch::Again,
///     }
/// }
/// # assert_eq!(read_some(&mut &b"bytes"[..]), Watch::Again);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "the loop needs it to know when to call again"]
pub enum Watch {
    /// At the next edge. Return it after the source has returned [`WouldBlock`](std::io::ErrorKind::WouldBlock).
    Drained,
    /// In the next turn, with or without an edge: more input may wait, in the kernel or in a buffer of the source.
    Again,
}

/// The readiness of a watched source.
///
/// ```
/// use halloo::{EventLoop, Interest, Watch};
/// use std::os::unix::net::UnixStream;
///
/// let (source, peer) = UnixStream::pair()?;
/// source.set_nonblocking(true)?;
/// let mut events = EventLoop::new()?;
/// let watch = events.watch(source, Interest::ReadWrite, |context, _, event| {
///     assert!(event.is_readable() && event.is_writable());
///     context.stop();
///     Watch::Drained
/// })?;
/// drop(peer);
/// events.run()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchEvent {
    id: WatchId,
    readable: bool,
    writable: bool,
}

impl WatchEvent {
    /// Returns the watch, which the callback may [remove](Context::remove).
    #[must_use]
    pub fn id(&self) -> WatchId {
        self.id
    }

    /// Returns whether a read returns at once: input, EOF, or an error. Always false with [`Interest::Write`].
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Returns whether a write returns at once: there is room, or an error, such as a closed reader. Always false with
    /// [`Interest::Read`].
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }
}

/// A source and its callback, of any types.
pub(crate) trait ErasedWatch {
    fn fd(&self) -> BorrowedFd<'_>;
    fn call(&mut self, context: &mut Context, event: WatchEvent) -> Watch;
    fn into_source(self: Box<Self>) -> Box<dyn Any>;
}

/// A source and its callback.
pub(crate) struct SourceWithCallback<S, F> {
    pub(crate) source: S,
    pub(crate) callback: F,
}

impl<S, F> ErasedWatch for SourceWithCallback<S, F>
where
    S: AsFd + 'static,
    F: FnMut(&mut Context, &mut S, WatchEvent) -> Watch,
{
    fn fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }

    fn call(&mut self, context: &mut Context, event: WatchEvent) -> Watch {
        (self.callback)(context, &mut self.source, event)
    }

    fn into_source(self: Box<Self>) -> Box<dyn Any> {
        Box::new(self.source)
    }
}

/// The loop's part of a watch.
pub(crate) type OwnedWatch<'h> = (WatchedFd, Box<dyn ErasedWatch + 'h>);

/// One watched descriptor.
pub(crate) struct WatchEntry {
    pub(crate) source: Source,
    /// The number of the descriptor, for the journal.
    pub(crate) descriptor: u64,
    interest: Interest,
    /// Reported by events, and not yet delivered to the callback.
    readable: bool,
    writable: bool,
    /// False after the removal.
    pub(crate) is_open: bool,
}

impl Context {
    /// Registers a descriptor with the poll.
    pub(crate) fn insert_watch(&mut self, fd: BorrowedFd<'_>, interest: Interest) -> Result<(WatchId, WatchedFd)> {
        self.check_not_stopped(None)?;
        let key = Key { generation: self.next_generation(), slot: to_slot(self.watches.vacant_key()) };
        let watched = self
            .network
            .watch(fd, interest, Token::new(SlotKey::Watch(key.slot), key.generation))
            .inspect_err(|error| {
                let of_watch = SlotKey::Watch(key.slot);
                self.journal.note_error(EntryKind::Registered, of_watch, key.generation, [0; 2], error);
            })
            .map_err(|error| Error::from_io(ErrorKind::Watch, None, error))?;
        let descriptor = watched.descriptor();
        self.watches.insert(WatchEntry {
            source: self.new_source(key),
            descriptor,
            interest,
            readable: false,
            writable: false,
            is_open: true,
        });
        let of_watch = SlotKey::Watch(key.slot);
        let interests = u64::from(interest.reads()) | u64::from(interest.writes()) << 1;
        self.journal.note(EntryKind::Watching, of_watch, key.generation, [descriptor, interests]);
        self.journal.note(EntryKind::Registered, of_watch, key.generation, [0; 2]);
        Ok((WatchId(key), watched))
    }

    /// Records the readiness of a watched descriptor; returns true if its callback waits for it.
    pub(crate) fn note_watch_event(&mut self, slot: u32, event: &Event) -> bool {
        let Some(entry) = self.watches.get_mut(slot as usize) else {
            return false;
        };
        if !event.token.matches(entry.source.generation) {
            return false;
        }
        let is_broken = event.error || event.hang_up;
        entry.readable |= entry.interest.reads() && (event.readable || event.read_to_end || is_broken);
        entry.writable |= entry.interest.writes() && (event.writable || is_broken);
        entry.readable || entry.writable
    }

    /// Takes the readiness for the callback of a watch.
    pub(crate) fn take_watch_event(&mut self, slot: u32) -> WatchEvent {
        let entry = &mut self.watches[slot as usize];
        let (readable, writable) = (std::mem::take(&mut entry.readable), std::mem::take(&mut entry.writable));
        let id = WatchId(Key { generation: entry.source.generation, slot });
        WatchEvent { id, readable, writable }
    }

    /// Restores readiness that a callback has not used up.
    pub(crate) fn restore_watch_event(&mut self, slot: u32, event: WatchEvent) {
        if let Some(entry) = self.watches.get_mut(slot as usize) {
            entry.readable |= event.readable;
            entry.writable |= event.writable;
        }
    }

    /// Removes a watch, and ends the calls of its callback. Returns whether it was there.
    pub(crate) fn remove_watch(&mut self, key: Key) -> bool {
        let entry = self.watches.get_mut(key.slot as usize);
        let Some(entry) = entry.filter(|entry| entry.source.generation == key.generation && entry.is_open) else {
            return false;
        };
        entry.is_open = false;
        self.forget_source(SlotKey::Watch(key.slot));
        true
    }
}
