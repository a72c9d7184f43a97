//! Watches descriptors, and calls their callbacks.
//!
//! A callback is called at most once in a turn, so that a source that is always ready delays no other.

use std::os::fd::AsFd;

use crate::context::Context;
use crate::context::entries::source::SourceState;
use crate::context::entries::watch_entry::{ErasedWatch, SourceWithCallback, Watch, WatchEvent};
use crate::context::foreign_code::{CallbackSite, call_back};
use crate::error::Result;
use crate::event_loop::EventLoop;
use crate::ids::{Key, SlotKey, WatchId};
use crate::net::Event;
use crate::observe::entry::{Callback, EntryKind};
use crate::options::Interest;

impl<'h> EventLoop<'h> {
    /// Watches a descriptor: calls a closure with its source each time it becomes ready. A source is a pipe, a
    /// terminal, a socket with its own protocol, a signal pipe, or a descriptor of another library.
    ///
    /// The loop owns the source, and passes it to the callback. It must be `'static`; an `Rc`, `Arc` or `Box` of a
    /// source is also a source. [`remove`](Self::remove) returns it, also after the loop has ended. The callback is
    /// called at most once in a turn, until the loop ends: watches continue during a [drain](Context::drain) and do not
    /// delay it.
    ///
    /// ```
    /// use halloo::{EventLoop, Interest, Watch};
    /// use std::io::{ErrorKind, Read, Write};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (source, mut peer) = UnixStream::pair()?;
    /// source.set_nonblocking(true)?;
    /// let mut received = Vec::new();
    /// let mut events = EventLoop::new()?;
    /// events.watch(source, Interest::Read, |context, source, event| {
    ///     let mut buffer = [0; 4096];
    ///     match source.read(&mut buffer) {
    ///         Ok(0) => {
    ///             context.remove(event.id());
    ///             context.stop();
    ///             Watch::Drained
    ///         }
    ///         Ok(count) => {
    ///             received.extend_from_slice(&buffer[..count]);
    ///             Watch::Again
    ///         }
    ///         Err(error) if error.kind() == ErrorKind::WouldBlock => Watch::Drained,
    ///         Err(error) => panic!("{error}"),
    ///     }
    /// })?;
    /// peer.write_all(b"hello")?;
    /// drop(peer);
    /// events.run()?;
    /// drop(events);
    /// assert_eq!(received, b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Edges
    /// The poll is edge-triggered: it reports each change once. If a callback leaves input unread and returns
    /// [`Watch::Drained`], it is not called for that input again. So read the source until it returns
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock), in one call or, with [`Watch::Again`], in several turns. Return
    /// `Again` also if the source has bytes in a buffer of its own, which the poll cannot see.
    ///
    /// # Non-blocking mode
    /// The source must be non-blocking; otherwise a read without input blocks the loop. The loop does not set the mode,
    /// because the mode belongs to the open file description, which other processes may share. A terminal that a
    /// program makes non-blocking is non-blocking for the shell, too. Sockets of std have `set_nonblocking`; other
    /// descriptors are opened with `O_NONBLOCK`, or changed with fcntl(2).
    ///
    /// # What cannot be watched
    /// - Regular files, directories and some devices (`/dev/null`): they are always ready, and `epoll_ctl(2)` returns
    ///   `EPERM`. Read them without a watch.
    /// - A descriptor with another watch in this loop: `epoll_ctl(2)` returns `EEXIST`. Use one watch with
    ///   [`Interest::ReadWrite`](crate::Interest::ReadWrite), or watch a duplicate. A watch that a callback has removed
    ///   keeps its descriptor until the end of the turn.
    /// - A new descriptor that a callback puts into its source: it causes no events. Remove the watch, and watch the
    ///   new descriptor.
    ///
    /// # Stop on a signal
    /// A signal handler may call only few functions (signal-safety(7)), but it may write a byte. The loop watches the
    /// other end of that socket pair, and no thread waits for signals. `signal-hook` installs such handlers:
    ///
    /// ```
    /// use halloo::{EventLoop, Interest, Watch};
    /// use signal_hook::consts::{SIGINT, SIGTERM};
    /// use signal_hook::low_level::pipe;
    /// use std::io::Read;
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    ///
    /// let (signals, handler_end) = UnixStream::pair()?;
    /// signals.set_nonblocking(true)?;
    /// for signal in [SIGTERM, SIGINT] {
    ///     pipe::register(signal, handler_end.try_clone()?)?;
    /// }
    /// let mut events = EventLoop::new()?;
    /// events.watch(signals, Interest::Read, |context, signals, _| match signals.read(&mut [0; 64]) {
    ///     Ok(1..) => {
    ///         context.drain(Duration::from_secs(5));
    ///         Watch::Again
    ///     }
    ///     // WouldBlock: no further signal.
    ///     _ => Watch::Drained,
    /// })?;
    /// # signal_hook::low_level::raise(SIGTERM)?;
    /// events.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// The bytes are read before the action, so that no later signal is lost. If a second signal must stop the loop at
    /// once, the callback then calls [`stop`](Context::stop) (`examples/watching/stop_on_signal.rs`).
    ///
    /// # Errors
    /// [`ErrorKind::Watch`](crate::ErrorKind::Watch) if the descriptor cannot be watched,
    /// [`ErrorKind::Setup`](crate::ErrorKind::Setup) if the loop has ended. The source is then dropped.
    pub fn watch<S: AsFd + 'static>(
        &mut self,
        source: S,
        interest: Interest,
        callback: impl FnMut(&mut Context, &mut S, WatchEvent) -> Watch + 'h,
    ) -> Result<WatchId> {
        // A watch removed since the last turn may have the descriptor.
        self.drop_removed();
        let (id, added) = self.context.watch_with(interest, SourceWithCallback { source, callback })?;
        self.callbacks.insert(added);
        Ok(id)
    }

    /// Makes a watch ready for this turn, unless it is ready already.
    pub(in crate::event_loop) fn on_watch_event(&mut self, slot: u32, event: &Event) {
        if self.context.note_watch_event(slot, event) {
            self.on_source_event(SlotKey::Watch(slot), event.token);
        }
    }

    /// Calls the callback of a watch. A panic ends the watch.
    pub(in crate::event_loop) fn call_watch(&mut self, slot: u32) -> SourceState {
        let event = self.context.take_watch_event(slot);
        let Some(Some((_, watch))) = self.callbacks.watch(&mut self.context, slot) else {
            return SourceState::WouldBlock;
        };
        let (key, input) = (SlotKey::Watch(slot), u64::from(event.is_readable()) | u64::from(event.is_writable()) << 1);
        let site = CallbackSite::of(key, Callback::Watch).with_input(input);
        let outcome = call_back(&mut self.context, site, |context| watch.call(context, event));
        match outcome {
            Some(Watch::Drained) => SourceState::WouldBlock,
            Some(Watch::Again) => {
                self.context.restore_watch_event(slot, event);
                // planted: watch-forgotten-after-again
                SourceState::Ready
            }
            None => {
                log::error!("the callback of a watch panicked; the watch is removed");
                self.context.remove(event.id());
                SourceState::WouldBlock
            }
        }
    }

    /// Ends a removed watch, and returns what the loop owned of it.
    pub(in crate::event_loop) fn close_watch(&mut self, key: Key) -> Option<Box<dyn ErasedWatch + 'h>> {
        self.context.watches.remove(key.slot as usize);
        let (watched, watch) = self.callbacks.watch(&mut self.context, key.slot)?.take()?;
        let Context { network, journal, .. } = &mut self.context;
        let of_watch = SlotKey::Watch(key.slot);
        if let Some(deregistered) = network.unwatch(watched, watch.fd()) {
            journal.note_result(EntryKind::Deregistered, of_watch, key.generation, [0; 2], &deregistered);
        }
        journal.note(EntryKind::Closed, of_watch, key.generation, [0; 2]);
        Some(watch)
    }
}
