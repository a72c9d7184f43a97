//! A connection, for callbacks.
//!
//! No method makes a system call; the loop applies the changes after the callback.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use crate::address::to_canonical;
use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::entries::connection_entry::ConnectionEntry;
use crate::error::SendError;
use crate::ids::{ConnectionId, HandlerId, Key, ListenerId, SlotKey};
use crate::limits::LENT_BYTES_MIN;
use crate::observe::entry::EntryKind;
use crate::shared_bytes::SharedBytes;
use crate::state::buffers::BufferPool;
use crate::state::buffers::outbox::Outbox;
use crate::state::connection_state::ConnectionState;
use crate::state::memory::OutOfMemory;
use crate::state::phase::{DrainStep, Phase, WriteHalf};
use crate::state::timestamp::Timestamp;

/// Output of a callback.
#[derive(Clone, Copy)]
enum Output<'a> {
    Copied(&'a [u8]),
    /// A part of the input of the running callback.
    Lent(&'a [u8]),
    CopiedParts(&'a [&'a [u8]]),
    Shared(&'a SharedBytes),
}

/// The unit that is queued whole, or not at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Message,
}

/// A connection, passed to a callback.
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

    /// Returns its id, which is unique for the life of the process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.context.id(self.slot)
    }

    /// Returns its handler.
    #[must_use]
    pub fn handler(&self) -> HandlerId {
        self.context.handler_id(self.context.listeners[self.entry().listener as usize].handler)
    }

    /// Returns the listener that accepted it; `None` for an outbound connection.
    #[must_use]
    pub fn listener(&self) -> Option<ListenerId> {
        let slot = self.entry().listener;
        let listener = &self.context.listeners[slot as usize];
        (!listener.is_outbound).then_some(ListenerId(Key { generation: listener.source.generation, slot }))
    }

    /// Returns how many descriptors of its listener's [`descriptor_reserve`](crate::Listen::descriptor_reserve) are left.
    /// Fewer than that number: the process has no other descriptor. A handler then closes idle connections, so that new
    /// clients are served.
    ///
    /// ```
    /// use halloo::{Connection, stream};
    ///
    /// let service = stream(|connection: &mut Connection<'_>, input: &[u8]| {
    ///     let _ = connection.send(b"ready\n");
    ///     if connection.reserved_descriptors() < 4 {
    ///         connection.close();
    ///     }
    ///     input.len()
    /// });
    /// # let _ = service;
    /// ```
    #[must_use]
    pub fn reserved_descriptors(&self) -> usize {
        self.context.listeners[self.entry().listener as usize].reserve.len()
    }

    /// Returns the peer's address, or the one that [`set_peer_addr`](Self::set_peer_addr) has set; `None` on a unix
    /// socket without it. For an IPv4 client of an IPv6 socket, it is the IPv4 address.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.state().peer.socket_addr()
    }

    /// Sets the address that [`peer_addr`](Self::peer_addr) returns from now on, and that log lines show: the real
    /// client behind a proxy, from a header that the proxy sends. It may be set on TCP and unix sockets, and again.
    ///
    /// The connection then counts for the source of this address, and no longer for an earlier one, under
    /// [`connections_per_source_max`](crate::Listen::connections_per_source_max). Returns false if the source has its
    /// maximum already. The connection is then [rejected](Self::reject), and counted in
    /// [`Stats::refused_source`](crate::Stats::refused_source).
    ///
    /// With [`peer_addr_from_handler`](crate::Listen::peer_addr_from_handler) the connection counts for no source
    /// before this call. Without `peer_addr_from_handler` it counts for the proxy's address until this call, and a proxy
    /// with many clients may reach the maximum. On an outbound connection and in
    /// [`on_close`](crate::StreamHandler::on_close), only the address changes.
    ///
    /// ```
    /// use halloo::{EventLoop, Listen, framing};
    /// use std::io::{Read, Write};
    /// use std::net::{SocketAddr, TcpStream};
    ///
    /// // A trusted proxy sends the client's address in the first line.
    /// let service = framing::lines(100, |connection, line| {
    ///     match std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("CLIENT ")?.parse().ok()) {
    ///         Some(client) => {
    ///             if !connection.set_peer_addr(client) {
    ///                 return; // The client has its maximum of connections.
    ///             }
    ///             let _ = connection.send(format!("Hello, {client}!").as_bytes());
    ///             connection.close();
    ///         }
    ///         None => connection.reject(),
    ///     }
    /// });
    /// let mut events = EventLoop::new()?;
    /// let at = Listen::from(SocketAddr::from(([127, 0, 0, 1], 0)));
    /// let at = at.peer_addr_from_handler(true).connections_per_source_max(10);
    /// let listener = events.listen(at, service)?;
    /// let address = events.local_addr(listener)?;
    /// let proxy = std::thread::spawn(move || -> std::io::Result<String> {
    ///     let mut stream = TcpStream::connect(address)?;
    ///     stream.write_all(b"CLIENT 192.0.2.7:4711\n")?;
    ///     let mut reply = String::new();
    ///     stream.read_to_string(&mut reply)?;
    ///     Ok(reply)
    /// });
    /// while !proxy.is_finished() {
    ///     let _ = events.turn(Some(std::time::Duration::from_millis(10)))?;
    /// }
    /// assert_eq!(proxy.join().unwrap()?, "Hello, 192.0.2.7:4711!");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_peer_addr(&mut self, peer: SocketAddr) -> bool {
        let is_counted = self.context.set_peer(self.slot, peer);
        if !is_counted {
            self.reject();
        }
        is_counted
    }

    /// Returns the address of the socket's own peer, which [`set_peer_addr`](Self::set_peer_addr) does not change: the
    /// proxy. `None` on a unix socket, and after the peer has reset the connection. It is a system call
    /// (`getpeername(2)`).
    ///
    /// ```
    /// let service = halloo::stream(|connection, input| {
    ///     if connection.sender_addr() != connection.peer_addr() {
    ///         let _ = connection.send(b"behind a proxy\n");
    ///     }
    ///     input.len()
    /// });
    /// # let _ = service;
    /// ```
    #[must_use]
    pub fn sender_addr(&self) -> Option<SocketAddr> {
        let stream = self.entry().stream.as_ref()?;
        stream.peer_addr().ok().flatten().map(to_canonical)
    }

    /// Returns for how long the connection has made no progress: no input was consumed, no output was accepted by the
    /// kernel, and none was queued in an empty outbox. [`idle_timeout`](crate::Listen::idle_timeout) counts this time.
    ///
    /// ```
    /// use halloo::{Context, HandlerId};
    /// use std::time::Duration;
    ///
    /// /// Closes the clients that have been silent for a second, before the idle timeout does.
    /// fn close_silent(context: &mut Context, clients: HandlerId) {
    ///     context.for_each_connection(clients, |client| {
    ///         if client.idle_time() > Duration::from_secs(1) {
    ///             client.close();
    ///         }
    ///     });
    /// }
    /// # let _ = close_silent;
    /// ```
    #[must_use]
    pub fn idle_time(&self) -> Duration {
        self.context.now.since(self.state().last_progress)
    }

    /// Returns the local address, to which the client connected; `None` on a unix socket, and before an outbound
    /// connection opens.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.context.connection_local_addr(self.slot)
    }

    /// Queues as many of the bytes as fit `outbox_bytes_max`, and returns how many. If some did not fit,
    /// [`on_flushed`](crate::StreamHandler::on_flushed) is called when the outbox is empty. After a close it queues
    /// none.
    ///
    /// ```
    /// // An echo with backpressure: on_data is called again with what did not fit.
    /// let echo = halloo::stream(|connection, input| connection.try_write(input));
    /// # let _ = echo;
    /// ```
    ///
    /// Part of a message may be queued. If several callbacks write to one connection (a timer, a job, other
    /// connections), another message could follow that part. They must all use [`send`](Self::send), which queues whole
    /// messages only. The same holds for [`io::Write`].
    #[must_use = "what did not fit is still the caller's"]
    pub fn try_write(&mut self, bytes: &[u8]) -> usize {
        self.queue_output(Output::Copied(bytes), Unit::Byte).unwrap_or(0)
    }

    /// Queues like [`try_write`](Self::try_write), without a copy. The rest is
    /// [`bytes.slice(taken..)`](SharedBytes::slice).
    ///
    /// ```
    /// use halloo::{CloseReason, Connection, SharedBytes, StreamHandler};
    ///
    /// /// Sends a file of any length, then closes. The outbox never holds more than `outbox_bytes_max` of it.
    /// struct SendFile(SharedBytes);
    ///
    /// impl StreamHandler for SendFile {
    ///     type Session = SharedBytes;
    ///
    ///     fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<SharedBytes> {
    ///         let mut rest = self.0.clone();
    ///         self.on_flushed(connection, &mut rest);
    ///         Some(rest)
    ///     }
    ///
    ///     fn on_flushed(&mut self, connection: &mut Connection<'_>, rest: &mut SharedBytes) {
    ///         let taken = connection.try_write_shared(rest);
    ///         *rest = rest.slice(taken..);
    ///         if rest.is_empty() {
    ///             connection.close();
    ///         }
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut Connection<'_>, _: &mut SharedBytes, input: &[u8]) -> usize {
    ///         input.len()
    ///     }
    /// }
    /// ```
    #[must_use = "what did not fit is still the caller's"]
    pub fn try_write_shared(&mut self, bytes: &SharedBytes) -> usize {
        self.queue_output(Output::Shared(bytes), Unit::Byte).unwrap_or(0)
    }

    /// Queues a whole message, or nothing of it.
    ///
    /// # Errors
    /// [`SendError::Full`] if the outbox has no room for it now; [`on_flushed`](crate::StreamHandler::on_flushed) is
    /// called when the outbox is empty. [`SendError::TooLong`] if the message is longer than `outbox_bytes_max` (128 KiB
    /// by default). [`SendError::Closed`] after [`close`](Self::close), [`abort`](Self::abort) or
    /// [`shutdown_write`](Self::shutdown_write). Past [`buffer_bytes_max`](crate::EventLoop::buffer_bytes_max) the
    /// connection may be reset instead, with the same error.
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.queue_output(Output::Copied(message), Unit::Message).map(drop)
    }

    /// Queues a message in several parts, like [`send`](Self::send): all of them, or none.
    ///
    /// ```
    /// fn reply(connection: &mut halloo::Connection<'_>, key: &str, value: &[u8]) -> Result<(), halloo::SendError> {
    ///     connection.send_parts(&[b"VALUE ", key.as_bytes(), b"\r\n", value, b"\r\nEND\r\n"])
    /// }
    /// # let _ = reply;
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send), for the length of all parts together.
    pub fn send_parts(&mut self, parts: &[&[u8]]) -> Result<(), SendError> {
        self.queue_output(Output::CopiedParts(parts), Unit::Message).map(drop)
    }

    /// Queues a message like [`send`](Self::send), without a copy: the outbox keeps a reference until the kernel has
    /// accepted the bytes.
    ///
    /// The bytes count in [`outbox_len`](Self::outbox_len) like all output. In
    /// [`buffer_bytes_max`](crate::EventLoop::buffer_bytes_max) the buffer counts once for all connections that send
    /// it. Less than 4 KiB are copied, because that is faster.
    ///
    /// ```
    /// use halloo::{Context, HandlerId, SharedBytes};
    ///
    /// /// Sends one message to every client of a handler. A client without room misses it.
    /// fn publish(context: &mut Context, clients: HandlerId, message: Vec<u8>) {
    ///     let message = SharedBytes::from(message);
    ///     context.for_each_connection(clients, |client| {
    ///         let _ = client.send_shared(&message);
    ///     });
    /// }
    /// # let _ = publish;
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_shared(&mut self, message: &SharedBytes) -> Result<(), SendError> {
        self.queue_output(Output::Shared(message), Unit::Message).map(drop)
    }

    /// Queues output; returns how many bytes. It looks up the context once, because protocols reply with many small
    /// messages.
    fn queue_output(&mut self, output: Output<'_>, unit: Unit) -> Result<usize, SendError> {
        let Context { connections, listeners, buffer_pool, now, running_callback, lent_input, .. } = &mut *self.context;
        let ConnectionEntry { state, listener, .. } = &mut connections[self.slot as usize];
        if !state.accepts_output() {
            return Err(SendError::Closed);
        }
        let outbox_bytes_max = listeners[*listener as usize].limits.outbox_bytes_max;
        let queued = state.outbox_len();
        let wanted = output.len();
        let is_own = running_callback.is_some_and(|callback| callback.slot == self.slot);
        let room = match &state.buffers {
            // An empty outbox takes up to its maximum; otherwise on_flushed would be called again at once. A reply may
            // be written in parts.
            Some(buffers) if queued > 0 && !is_own => output.room(buffer_pool, &buffers.outbox, outbox_bytes_max),
            _ => outbox_bytes_max.saturating_sub(queued),
        };
        let taken = wanted.min(room);
        if taken < wanted {
            if unit == Unit::Message && wanted > outbox_bytes_max {
                log::debug!(
                    "{}: cannot send a message of {wanted} bytes: it is longer than the outbox; raise outbox_bytes_max \
                     ({outbox_bytes_max}) or send parts",
                    state.peer
                );
                return Err(SendError::TooLong);
            }
            state.request_flush_notice();
            if unit == Unit::Message {
                return Err(SendError::Full);
            }
        }
        if taken > 0 {
            // Output that waits for a connection to open does not extend the connect timeout.
            if queued == 0 && matches!(state.phase, Phase::Open) {
                state.last_progress = *now;
            }
            let output = match output {
                Output::Copied(bytes) if taken >= LENT_BYTES_MIN && state.can_send_now() => {
                    if lent_input.lend(self.slot, &bytes[..taken]) { Output::Lent(bytes) } else { output }
                }
                _ => output,
            };
            if output.push(taken, state, buffer_pool, outbox_bytes_max, is_own).is_err() {
                state.close_out_of_memory();
                self.context.mark_dirty(self.slot);
                return Err(SendError::Closed);
            }
            if !is_own {
                self.context.mark_dirty(self.slot);
            }
        }
        Ok(taken)
    }

    /// Returns the bytes of output that the kernel has not accepted yet.
    #[must_use]
    pub fn outbox_len(&self) -> usize {
        self.state().outbox_len()
    }

    /// Returns the maximum of [`outbox_len`](Self::outbox_len).
    #[must_use]
    pub fn outbox_bytes_max(&self) -> usize {
        self.context.connection_limits(self.slot).outbox_bytes_max
    }

    /// Stops reading until [`resume`](Self::resume). Meanwhile no input is delivered; timeouts continue.
    pub fn pause(&mut self) {
        if !std::mem::replace(&mut self.state_mut().paused, true) {
            self.context.note(EntryKind::Paused, SlotKey::Connection(self.slot), [0; 2]);
        }
    }

    /// Resumes reading, and delivers the inbox again.
    pub fn resume(&mut self) {
        // planted: resume-does-not-read
        if std::mem::take(&mut self.state_mut().paused) {
            self.state_mut().set_inbox_changed(true);
            self.context.mark_dirty(self.slot);
            self.context.note(EntryKind::Resumed, SlotKey::Connection(self.slot), [0; 2]);
        }
    }

    /// Calls [`on_timeout`](crate::StreamHandler::on_timeout) once after this time; `None` cancels it. A new call
    /// replaces the time. It is independent of the idle timeout.
    ///
    /// The time starts at this call. Input that arrived before its end is delivered first, and its callback may set a
    /// new time.
    pub fn set_timeout(&mut self, after: Option<Duration>) {
        let at = after.map_or(Timestamp::NEVER, |after| self.context.deadline_after(after));
        self.state_mut().timeout = at;
        self.context.mark_dirty(self.slot);
    }

    /// Sends a FIN after the output (half-close); reading continues. Later output is refused. A client
    /// ends its request in this way, and then waits for the reply. When the peer's EOF was also delivered, the
    /// connection closes by itself with [`CloseReason::Eof`].
    ///
    /// ```
    /// # use halloo::Connection;
    /// fn ask(connection: &mut Connection<'_>, request: &[u8]) {
    ///     let _ = connection.send(request);
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

    /// Sends the output and a FIN, then closes so that the peer can read all of it. No more input is delivered. The
    /// connection stays open while the peer may still be sending, for up to 2 s: late input is read and discarded, because
    /// unread input would turn the FIN into an RST. After one short message and a reply of at most 1 KiB, the peer sends
    /// nothing more before it has the reply, and the connection closes at once.
    pub fn close(&mut self) {
        let reason = self.callback_cause().unwrap_or(CloseReason::Local);
        self.close_with(reason);
    }

    /// Ends the connection without losing a request. All input that has arrived is delivered, and its replies are sent.
    /// Then the connection closes like [`close`](Self::close). A handler calls it in
    /// [`on_drain`](crate::StreamHandler::on_drain), where `close` would lose the requests that arrive while the outbox
    /// is sent.
    ///
    /// ```
    /// use halloo::{Connection, StreamHandler};
    ///
    /// struct Echo;
    ///
    /// impl StreamHandler for Echo {
    ///     type Session = ();
    ///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> { Some(()) }
    ///     fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
    ///         connection.try_write(input)
    ///     }
    ///     fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
    ///         connection.drain();
    ///     }
    /// }
    /// # let _ = Echo;
    /// ```
    ///
    /// Callbacks go on as before: `on_data` with all input, also with what waits for room in the outbox, then `on_eof`
    /// if the peer has sent EOF. The rest of an incomplete message is dropped. The idle timeout, the write timeout and
    /// the end of the loop's drain apply. A [paused](Self::pause) connection waits for [`resume`](Self::resume): a
    /// handler that owes a reply pauses. `close` and [`abort`](Self::abort) end the drain.
    ///
    /// `on_drain` is not called after this call. So a call outside of `on_drain`, such as from a timer, skips what the
    /// handler does there: a reply to an incomplete message, or a goodbye.
    ///
    /// From this call on, the kernel acknowledges no further input:
    /// - TCP on Linux: a socket filter drops segments with data until our FIN is sent. So every byte that was acknowledged
    ///   before our FIN is delivered.
    ///   A client whose request was not acknowledged reads EOF without a reply; it can repeat the request elsewhere.
    /// - A unix socket: the peer's writes fail with EPIPE. So every byte that a write has accepted is delivered.
    /// - TCP on other systems: the kernel still accepts input. What arrives between the last read and our FIN is lost.
    pub fn drain(&mut self) {
        match (self.state().phase, self.state().drain_step) {
            // Nothing was received.
            (Phase::Connecting(_), _) => self.close(),
            (Phase::Open, DrainStep::None | DrainStep::NoticeDue) => {
                self.state_mut().drain_step = DrainStep::StopDue;
                self.context.mark_dirty(self.slot);
            }
            _ => {}
        }
    }

    /// Resets the connection now; output that is not yet sent is lost.
    pub fn abort(&mut self) {
        self.reset_for(CloseReason::Aborted);
    }

    /// Resets the connection now, because the handler does not accept its peer: [`abort`](Self::abort) with
    /// [`CloseReason::Rejected`]. As after `abort`, no more input is delivered,
    /// [`Frames::next`](crate::framing::Frames::next) returns `None`, and [`send`](Self::send) returns
    /// [`SendError::Closed`].
    ///
    /// ```
    /// use halloo::{Connection, stream};
    ///
    /// /// Serves only clients of this machine.
    /// let local_only = stream(|connection: &mut Connection<'_>, input: &[u8]| {
    ///     if !connection.peer_addr().is_some_and(|peer| peer.ip().is_loopback()) {
    ///         connection.reject();
    ///         return input.len();
    ///     }
    ///     connection.try_write(input)
    /// });
    /// # let _ = local_only;
    /// ```
    pub fn reject(&mut self) {
        self.reset_for(CloseReason::Rejected);
    }

    fn reset_for(&mut self, reason: CloseReason) {
        self.state_mut().reset_for(reason);
        self.context.mark_dirty(self.slot);
    }

    /// Takes the value that was passed to [`connect_with`](crate::Context::connect_with) for this connection. It is for
    /// [`on_open`](crate::StreamHandler::on_open), after which the value is dropped. `None` if there is no value, or if
    /// it has another type; it then stays.
    pub fn take_value<T: 'static>(&mut self) -> Option<T> {
        let id = self.id();
        self.context.take_value(id)
    }

    /// Returns the rest of the loop.
    #[must_use]
    pub fn context(&mut self) -> &mut Context {
        self.context
    }

    /// Closes for a reason of the library.
    pub(crate) fn close_with(&mut self, reason: CloseReason) {
        let phase = &mut self.state_mut().phase;
        *phase = match phase {
            Phase::Open => Phase::Flushing(reason),
            Phase::Connecting(None) => Phase::Connecting(Some(reason)),
            _ => return,
        };
        self.context.mark_dirty(self.slot);
    }

    /// Resets the connection, because memory was refused.
    pub(crate) fn close_out_of_memory(&mut self) {
        self.state_mut().close_out_of_memory();
        self.context.mark_dirty(self.slot);
    }

    /// The room for replies to frames, in bytes: what is free of the first half of the outbox. `None` if no frame may be
    /// delivered: input may not be delivered, or more than half of the outbox is used. Then `on_flushed` is called
    /// later, and the input is delivered again.
    #[inline]
    pub(crate) fn room_for_frames(&mut self) -> Option<usize> {
        let Context { connections, listeners, .. } = &mut *self.context;
        let ConnectionEntry { state, listener, .. } = &mut connections[self.slot as usize];
        if state.paused || !state.is_open() {
            return None;
        }
        let half = listeners[*listener as usize].limits.outbox_bytes_max / 2;
        let room = half.checked_sub(state.outbox_len());
        if room.is_none() {
            state.request_flush_notice();
        }
        room
    }

    /// Whether input may be delivered now.
    #[cfg(test)]
    pub(crate) fn is_reading(&self) -> bool {
        self.state().is_open() && !self.state().paused
    }

    /// The close reason of the running callback, if it belongs to this connection.
    fn callback_cause(&self) -> Option<CloseReason> {
        self.context.running_callback.filter(|callback| callback.slot == self.slot).map(|callback| callback.cause)
    }
}

impl Output<'_> {
    fn len(self) -> usize {
        match self {
            Self::Copied(bytes) | Self::Lent(bytes) => bytes.len(),
            Self::CopiedParts(parts) => parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len())),
            Self::Shared(bytes) => bytes.len(),
        }
    }

    /// How many bytes of it an outbox may take.
    fn room(self, pool: &BufferPool, outbox: &Outbox, outbox_bytes_max: usize) -> usize {
        match self {
            Self::Shared(bytes) if pool.has_room_for_shared(bytes) => outbox_bytes_max.saturating_sub(outbox.len()),
            _ => pool.outbox_room(outbox, outbox_bytes_max),
        }
    }

    /// Appends the first `count` bytes to the outbox.
    #[inline]
    fn push(
        self,
        count: usize,
        state: &mut ConnectionState,
        pool: &mut BufferPool,
        outbox_bytes_max: usize,
        is_own: bool,
    ) -> Result<(), OutOfMemory> {
        let buffers = state.buffers_or_take(pool)?;
        let outbox = &mut buffers.outbox;
        match self {
            Self::Copied(bytes) => {
                pool.reserve_outbox(outbox, count, outbox_bytes_max)?;
                outbox.push(&bytes[..count]);
            }
            Self::Lent(_) => outbox.push_lent(count),
            Self::CopiedParts(parts) => {
                pool.reserve_outbox(outbox, count, outbox_bytes_max)?;
                let mut left = count;
                for part in parts {
                    let taken = part.len().min(left);
                    outbox.push(&part[..taken]);
                    left -= taken;
                }
            }
            Self::Shared(bytes) => pool.push_shared(outbox, bytes.slice(..count), outbox_bytes_max)?,
        }
        buffers.own_output |= is_own;
        Ok(())
    }
}

/// Writes into the outbox, for libraries that write to a stream: rustls, tungstenite, serde, [`write!`].
///
/// `write` queues the bytes that fit, like [`try_write`](Connection::try_write). Its error is
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if the outbox is full, and [`BrokenPipe`](io::ErrorKind::BrokenPipe) if
/// the connection accepts no more output. `flush` does nothing: the loop sends the outbox after the callback.
///
/// If the outbox becomes full, `write_all` and `write!` return that error after a part of the bytes was queued, and do
/// not return how many. Use them where [`outbox_bytes_max`](Connection::outbox_bytes_max) is surely enough, or close
/// the connection after the error.
///
/// ```
/// use std::io::Write;
/// use halloo::stream;
///
/// let length = stream(|connection, input| {
///     if writeln!(connection, "{} bytes", input.len()).is_err() {
///         connection.abort();
///     }
///     input.len()
/// });
/// # let _ = length;
/// ```
impl io::Write for Connection<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.queue_output(Output::Copied(bytes), Unit::Byte)? {
            0 if !bytes.is_empty() => Err(SendError::Full.into()),
            count => Ok(count),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut written = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match self.write(slice) {
                Ok(count) => written += count,
                Err(error) if written == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
