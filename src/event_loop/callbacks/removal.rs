//! Drops removed closures, UDP sockets, watches and handlers.
//!
//! No destructor of the embedder runs during a callback, and no panic of one ends a loop that catches panics.

#[cfg(unix)]
use crate::context::entries::watch_entry::ErasedWatch;
use crate::context::erased_handler::Handler;
use crate::context::foreign_code::drop_foreign;
use crate::context::open::TimerCallback;
use crate::event_loop::EventLoop;
use crate::ids::{SourceId, SourceKey};

/// The object that [`EventLoop::remove`] returns: the closure of a timer, the source of a watch, or a handler that
/// nothing uses any more. It is empty if the loop owned nothing else, or if something still uses the handler.
///
/// The caller chooses when and where to drop it, outside of the loop. [`into_source`](Self::into_source) returns the
/// source of a watch.
///
/// ```
/// use std::rc::Rc;
///
/// let used = Rc::new(());
/// let held = Rc::clone(&used);
/// let mut events = halloo::EventLoop::new()?;
/// let timer = events.every(std::time::Duration::from_secs(1), move |_| { let _ = &held; None });
/// let removed = events.remove(timer).expect("it is set");
/// assert_eq!(Rc::strong_count(&used), 2);
/// drop(removed);
/// assert_eq!(Rc::strong_count(&used), 1);
/// assert!(events.remove(timer).is_none());
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Default)]
pub struct Removed<'h> {
    _handler: Option<Handler<'h>>,
    _callback: Option<TimerCallback<'h>>,
    #[cfg(unix)]
    watch: Option<Box<dyn ErasedWatch + 'h>>,
}

#[cfg(unix)]
impl Removed<'_> {
    /// Returns the source of a [watch](EventLoop::watch); `None` if this was no watch, or if its source has another
    /// type. The callback is dropped.
    ///
    /// ```
    /// use halloo::{EventLoop, Interest, Watch};
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (source, mut peer) = UnixStream::pair()?;
    /// source.set_nonblocking(true)?;
    /// let mut events = EventLoop::new()?;
    /// let watch = events.watch(source, Interest::Read, |_, _, _| Watch::Drained)?;
    /// peer.write_all(b"hello")?;
    ///
    /// let removed = events.remove(watch).expect("it was watched");
    /// let mut source: UnixStream = removed.into_source().expect("it is a stream");
    /// assert_eq!(source.read(&mut [0; 16])?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn into_source<S: 'static>(self) -> Option<S> {
        let source = self.watch?.into_source().downcast::<S>();
        source.ok().map(|source| *source)
    }
}

impl std::fmt::Debug for Removed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Removed").finish_non_exhaustive()
    }
}

impl<'h> EventLoop<'h> {
    /// Removes like [`Context::remove`](crate::Context::remove), between two turns, and returns what the loop owned.
    /// Returns `None` if the object was not there, or was removed before.
    ///
    /// ```
    /// use halloo::{EventLoop, stream};
    ///
    /// let mut events = EventLoop::new()?;
    /// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    /// let listener = events.listen(address, stream(|connection, input| connection.try_write(input)))?;
    /// let address = events.local_addr(listener)?;
    /// let handler = events.remove(listener);
    /// assert!(handler.is_some());
    /// events.listen(address, stream(|connection, input| connection.try_write(input)))?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn remove(&mut self, id: impl Into<SourceId>) -> Option<Removed<'h>> {
        // Objects removed before are dropped first, so that what remains belongs to this removal.
        self.drop_removed();
        self.context.remove(id).then(|| self.take_removed().unwrap_or_default())
    }

    /// Drops the closures, UDP sockets and handlers that are not needed any more; returns true if there were any.
    pub(in crate::event_loop) fn drop_removed(&mut self) -> bool {
        let is_any = !(self.context.removed_sources.is_empty() && self.context.unused_handlers.is_empty());
        is_any && self.drop_all_removed()
    }

    /// A separate function, because every turn makes the check but seldom calls it.
    #[cold]
    fn drop_all_removed(&mut self) -> bool {
        let mut any = false;
        while let Some(removed) = self.take_removed() {
            drop_foreign(&mut self.context, removed);
            any = true;
        }
        any
    }

    fn take_removed(&mut self) -> Option<Removed<'h>> {
        let source = self.context.removed_sources.pop_front();
        match source {
            Some(SourceKey::UdpSocket(key)) => {
                self.send_datagrams();
                self.context.free_udp_socket(key.slot);
            }
            Some(SourceKey::Timer(key)) => {
                let callback = self.callbacks.take_timer(&mut self.context, key.slot);
                self.context.timers.free(key);
                return Some(Removed { _callback: callback, ..Removed::default() });
            }
            #[cfg(unix)]
            Some(SourceKey::Watch(key)) => return Some(Removed { watch: self.close_watch(key), ..Removed::default() }),
            Some(SourceKey::Listener(_) | SourceKey::Handler(_)) | None => {}
        }
        let handler = self.callbacks.take_unused_handler(&mut self.context);
        (source.is_some() || handler.is_some()).then(|| Removed { _handler: handler, ..Removed::default() })
    }
}
