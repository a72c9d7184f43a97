//! One connection as a callback sees it.
//!
//! No method makes a system call; the loop carries the changes out after the callback.

use std::net::SocketAddr;
use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::entries::connection_entry::ConnectionEntry;
use crate::error::SendError;
use crate::ids::{ConnectionId, HandlerId, Key, ListenerId};
use crate::state::connection_state::ConnectionState;
use crate::state::phase::{CloseMode, Phase, WriteHalf};
use crate::state::timestamp::Timestamp;

/// One connection, as a callback gets it.
///
/// ```
/// use halloo::{EventLoop, stream};
///
/// let mut events = EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// events.listen(address, stream(|connection, input| {
///     if let Some(peer) = connection.peer_addr() {
///         let _ = connection.send(format!("{peer} sent {} bytes\n", input.len()).as_bytes());
///     }
///     connection.close();
///     input.len()
/// }))?;
/// # Ok::<(), halloo::Error>(())
/// ```
pub struct Connection<'a> {
    context: &'a mut Context,
    slot: u32,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(context: &'a mut Context, slot: u32) -> Self {
        Self { context, slot }
    }

    fn state_mut(&mut self) -> &mut ConnectionState {
        self.context.state(self.slot)
    }

    fn entry(&self) -> &ConnectionEntry {
        &self.context.connections[self.slot as usize]
    }

    fn state(&self) -> &ConnectionState {
        &self.entry().state
    }

    /// Whether it is there to its handler, or will be.
    fn is_open(&self) -> bool {
        self.state().is_open()
    }

    /// Its id, valid for as long as the loop lives and never given again.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.context.id(self.slot)
    }

    /// The handler that serves it.
    #[must_use]
    pub fn handler(&self) -> HandlerId {
        self.context.handler_id(self.context.listeners[self.entry().listener as usize].handler)
    }

    /// The listener that accepted it; `None` for an outbound connection.
    #[must_use]
    pub fn listener(&self) -> Option<ListenerId> {
        let slot = self.entry().listener;
        let listener = &self.context.listeners[slot as usize];
        (!listener.is_outbound).then_some(ListenerId(Key { generation: listener.source.generation, slot }))
    }

    /// The address of the other side; `None` on a unix socket. An IPv4 client of an IPv6 socket shows its IPv4 address.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.state().peer.socket_addr()
    }

    /// Our address, as the client asked for it; `None` on a unix socket, and before an outbound connection is open.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.context.connection_local_addr(self.slot)
    }

    /// Takes as many of the bytes as fit `outbox_bytes_max`, and says how many. If that was not all of them,
    /// [`on_flushed`](crate::StreamHandler::on_flushed) comes once all of the outbox is sent. After a close it takes
    /// none.
    ///
    /// ```
    /// // An echo with backpressure: what does not fit is not consumed, and shown again.
    /// let echo = halloo::stream(|connection, input| connection.try_write(input));
    /// # let _ = echo;
    /// ```
    #[must_use = "what did not fit is still the caller's"]
    pub fn try_write(&mut self, bytes: &[u8]) -> usize {
        self.queue_output(bytes, b"", false).unwrap_or(0)
    }

    /// Takes the whole message, or nothing of it.
    ///
    /// # Errors
    /// [`SendError`] if the outbox has not enough room now, or never will, or after `close` or `shutdown_write`. In
    /// the first case [`on_flushed`](crate::StreamHandler::on_flushed) tells when to try again. A message longer than
    /// `outbox_bytes_max` (64 KiB unless told otherwise) is always too long. Past
    /// [`buffer_bytes_max`](crate::EventLoop::buffer_bytes_max) the connection may be reset instead.
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_pair(message, b"")
    }

    /// A message in two parts: both or none.
    pub(crate) fn send_pair(&mut self, head: &[u8], tail: &[u8]) -> Result<(), SendError> {
        self.queue_output(head, tail, true).map(drop).ok_or(SendError)
    }

    /// Takes what fits, or the whole or nothing; `None` if it takes nothing at all. One look at the context, because
    /// protocols answer with many small messages.
    fn queue_output(&mut self, head: &[u8], tail: &[u8], whole: bool) -> Option<usize> {
        let Context { connections, listeners, buffer_pool, now, running_callback, .. } = &mut *self.context;
        let ConnectionEntry { state, listener, .. } = &mut connections[self.slot as usize];
        if !state.accepts_output() {
            return None;
        }
        let outbox_bytes_max = listeners[*listener as usize].limits.outbox_bytes_max;
        let queued = state.outbox_len();
        let wanted = head.len().saturating_add(tail.len());
        let is_own = running_callback.is_some_and(|callback| callback.slot == self.slot);
        let room = match &state.buffers {
            // An empty outbox takes what it may hold, or the notice that it is empty would come again at once. An
            // answer may be written in parts.
            Some(buffers) if queued > 0 && !is_own => buffer_pool.room(&buffers.outbox, outbox_bytes_max),
            _ => outbox_bytes_max.saturating_sub(queued),
        };
        let taken = wanted.min(room);
        if taken < wanted {
            // What can never fit is not worth a call to try again.
            if !whole || wanted <= outbox_bytes_max {
                state.request_flush_notice();
            }
            if whole {
                return None;
            }
        }
        if taken > 0 {
            // What waits for the connection to open does not put off the time to give that up.
            if queued == 0 && state.phase == Phase::Open {
                state.last_progress = *now;
            }
            let Ok(buffers) = state.reserve_outbox(taken, outbox_bytes_max, buffer_pool) else {
                state.close_out_of_memory();
                self.context.mark_dirty(self.slot);
                return None;
            };
            let split = taken.min(head.len());
            buffers.outbox.push(&head[..split]);
            buffers.outbox.push(&tail[..taken - split]);
            buffers.own_output |= is_own;
            if !is_own {
                self.context.mark_dirty(self.slot);
            }
        }
        Some(taken)
    }

    /// Bytes written that the kernel has not taken yet.
    #[must_use]
    pub fn outbox_len(&self) -> usize {
        self.state().outbox_len()
    }

    /// The most that [`outbox_len`](Self::outbox_len) can be.
    #[must_use]
    pub fn outbox_bytes_max(&self) -> usize {
        self.context.connection_limits(self.slot).outbox_bytes_max
    }

    /// Stops reading, until [`resume`](Self::resume). Meanwhile no input is shown; timeouts run on.
    pub fn pause(&mut self) {
        self.state_mut().paused = true;
    }

    /// Reads again, and shows again what the handler has left in the inbox.
    pub fn resume(&mut self) {
        // planted: resume-does-not-read
        if std::mem::take(&mut self.state_mut().paused) {
            self.state_mut().set_inbox_changed(true);
            self.context.mark_dirty(self.slot);
        }
    }

    /// Calls [`on_timeout`](crate::StreamHandler::on_timeout) once after this time; `None` takes that back. A new call
    /// replaces the former. It is no part of the idle timeout, which runs besides.
    ///
    /// The time runs from this call. Input that arrived before its end is delivered first, and may set it anew.
    pub fn set_timeout(&mut self, after: Option<Duration>) {
        let at = after.map_or(Timestamp::NEVER, |after| self.context.deadline_after(after));
        self.state_mut().timeout = at;
        self.context.mark_dirty(self.slot);
    }

    /// Sends what is written, then the end of our stream; reading goes on. Nothing can be written after it. How a
    /// client says that its request is whole, and waits for the answer. Once the peer's end has been told, too, the
    /// connection is over by itself, with [`CloseReason::Eof`].
    ///
    /// ```
    /// # use halloo::Connection;
    /// fn ask(connection: &mut Connection<'_>, question: &[u8]) {
    ///     let _ = connection.send(question);
    ///     connection.shutdown_write();
    /// }
    /// # let _ = ask;
    /// ```
    pub fn shutdown_write(&mut self) {
        if self.state().accepts_output() {
            self.state_mut().write_half = WriteHalf::ShutdownPending;
            self.context.mark_dirty(self.slot);
        }
    }

    /// Sends what is written, then the end of stream, and sees to it that the peer can read all of it. No more input
    /// is shown.
    pub fn close(&mut self) {
        let reason = self.callback_cause().unwrap_or(CloseReason::Local);
        self.close_with(reason);
    }

    /// Resets the connection now; what is written and not yet sent is lost.
    pub fn abort(&mut self) {
        let phase = match self.state().phase {
            Phase::Open | Phase::Connecting(_) => Phase::Closing(CloseReason::Aborted, CloseMode::Reset),
            Phase::Flushing(first) => Phase::Closing(first, CloseMode::Reset),
            other => other,
        };
        self.state_mut().phase = phase;
        self.context.mark_dirty(self.slot);
    }

    /// Takes the value that was given to [`connect_with`](crate::Context::connect_with) for this connection; for
    /// [`on_open`](crate::StreamHandler::on_open), after which it is dropped. `None` if there is none, or it is of another
    /// type, which stays.
    pub fn take_value<T: 'static>(&mut self) -> Option<T> {
        let id = self.id();
        self.context.take_value(id)
    }

    /// The rest of the loop.
    #[must_use]
    pub fn context(&mut self) -> &mut Context {
        self.context
    }

    /// Closes for a reason that only the library itself can give.
    pub(crate) fn close_with(&mut self, reason: CloseReason) {
        let phase = match self.state().phase {
            Phase::Open => Phase::Flushing(reason),
            Phase::Connecting(None) => Phase::Connecting(Some(reason)),
            _ => return,
        };
        self.state_mut().phase = phase;
        self.context.mark_dirty(self.slot);
    }

    /// Resets it, because memory for it was refused.
    pub(crate) fn close_out_of_memory(&mut self) {
        self.state_mut().close_out_of_memory();
        self.context.mark_dirty(self.slot);
    }

    /// Whether input may be shown to the handler now.
    pub(crate) fn is_reading(&self) -> bool {
        self.is_open() && !self.state().paused
    }

    /// Asks for an `on_flushed` though everything fitted.
    pub(crate) fn request_flushed(&mut self) {
        self.state_mut().request_flush_notice();
    }

    /// What the running callback stands for, if it is this connection's.
    fn callback_cause(&self) -> Option<CloseReason> {
        self.context.running_callback.filter(|callback| callback.slot == self.slot).map(|callback| callback.cause)
    }
}

impl std::fmt::Debug for Connection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id())
            .field("peer", &self.peer_addr())
            .field("phase", &self.state().phase)
            .field("pending", &self.outbox_len())
            .finish_non_exhaustive()
    }
}
