//! The handler traits.

use std::io;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::datagram::Datagram;
use crate::ids::{ConnectionId, HandlerId, TimerId, UdpSocketId};

/// A protocol over streams. One handler serves all connections of its listeners, and its outbound connections.
///
/// ```
/// use halloo::{Connection, EventLoop, StreamHandler};
///
/// /// Counts the bytes of each client, and sends it the count at EOF.
/// struct Count;
///
/// impl StreamHandler for Count {
///     type Session = u64;
///
///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<u64> {
///         Some(0)
///     }
///
///     fn on_data(&mut self, _: &mut Connection<'_>, count: &mut u64, input: &[u8]) -> usize {
///         *count += input.len() as u64;
///         input.len()
///     }
///
///     fn on_eof(&mut self, connection: &mut Connection<'_>, count: &mut u64, _: &[u8]) {
///         let _ = connection.send(format!("{count}\n").as_bytes());
///         connection.close();
///     }
/// }
///
/// let mut events = EventLoop::new()?;
/// events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), Count)?;
/// # Ok::<(), halloo::Error>(())
/// ```
///
/// # Borrowed and boxed handlers
/// If `H` is a handler, `&mut H` is a handler, too: the loop borrows it, and the caller can use it after the loop is
/// dropped. Declare the handler before the loop, because it must outlive the loop.
/// `Box<dyn StreamHandler<Session = S>>` is a handler that is chosen at run time. A closure becomes a handler with
/// [`stream`](crate::stream), or with [`framing::lines`](crate::framing::lines) for whole lines.
///
/// ```
/// use halloo::{CloseReason, Connection, EventLoop, StreamHandler, stream};
/// use std::io::Write;
/// use std::net::{SocketAddr, TcpStream};
///
/// /// Counts the bytes of all clients, and stops the loop after the first connection.
/// #[derive(Default)]
/// struct Total {
///     bytes: usize,
/// }
///
/// impl StreamHandler for Total {
///     type Session = ();
///
///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
///         Some(())
///     }
///
///     fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
///         self.bytes += input.len();
///         input.len()
///     }
///
///     fn on_close(&mut self, connection: &mut Connection<'_>, (): (), _: CloseReason) {
///         connection.context().stop();
///     }
/// }
///
/// let address = SocketAddr::from(([127, 0, 0, 1], 0));
/// let is_echo = std::env::args().any(|argument| argument == "--echo");
/// let second: Box<dyn StreamHandler<Session = ()>> =
///     if is_echo { Box::new(stream(|connection, input| connection.try_write(input))) } else { Box::new(Total::default()) };
///
/// let mut total = Total::default();
/// let mut events = EventLoop::new()?;
/// let listener = events.listen(address, &mut total)?;
/// events.listen(address, second)?;
///
/// TcpStream::connect(events.local_addr(listener)?)?.write_all(b"hello")?;
/// events.run()?;
/// drop(events);
/// assert_eq!(total.bytes, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stream handler",
    label = "not a stream handler",
    note = "wrap a closure or function: `halloo::stream(|connection, input| ...)`, or `halloo::framing::lines` for whole lines",
    note = "pass a datagram handler to `bind` or `attach_datagrams`"
)]
pub trait StreamHandler {
    /// The handler's data about one connection.
    type Session;

    /// Called once when the handler is added to a loop, before all other callbacks, and before the call that adds it
    /// returns. The handler uses the id to set timers, and to open listeners and connections of its own. Default: does
    /// nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use halloo::{Connection, Context, EventLoop, HandlerId, StreamHandler, TimerId};
    ///
    /// /// Sends a line to all of its clients every minute.
    /// struct Clock { id: Option<HandlerId> }
    ///
    /// impl StreamHandler for Clock {
    ///     type Session = ();
    ///     fn on_start(&mut self, context: &mut Context, id: HandlerId) {
    ///         self.id = Some(id);
    ///         context.schedule(id, Duration::from_secs(60), 0);
    ///     }
    ///     fn on_timer(&mut self, context: &mut Context, _: TimerId, minutes: u64) {
    ///         let Some(id) = self.id else { return };
    ///         context.for_each_connection(id, |client| {
    ///             let _ = client.send(format!("{minutes} minutes\n").as_bytes());
    ///         });
    ///         context.schedule(id, Duration::from_secs(60), minutes + 1);
    ///     }
    ///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> { Some(()) }
    ///     fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize { input.len() }
    /// }
    ///
    /// let mut events = EventLoop::new()?;
    /// events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), Clock { id: None })?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    fn on_start(&mut self, _context: &mut Context, _id: HandlerId) {}

    /// Called when a client was accepted, or an outbound connection has opened. Returns the session. `None` refuses the
    /// connection like [`close`](Connection::close): output is sent first, and no other callback is called. A refused
    /// client counts in [`connections_max`](crate::Listen::connections_max) until its connection is closed: its input
    /// is discarded for up to 2 s. [`abort`](Connection::abort) before `None` resets it at once.
    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Self::Session>;

    /// Called with input. Returns how many bytes were consumed. The rest is kept. It is delivered again when more input
    /// has arrived, and also after [`on_flushed`](Self::on_flushed) and after [`resume`](Connection::resume).
    ///
    /// Consume every complete message of `input` in one call. A complete message that is left waits until one of these
    /// three things happens, which may be never.
    ///
    /// It is an error of the handler to return more than the length of `input`. With debug assertions it counts as a
    /// panic of this callback; without them, as the length of `input`.
    ///
    /// If the handler consumes nothing of a full inbox, and waits for nothing, the connection is closed with
    /// [`CloseReason::InputOverflow`]. A handler that waits for an event calls [`pause`](Connection::pause). A handler
    /// that waits for room in the outbox first calls [`try_write`](Connection::try_write) or
    /// [`send`](Connection::send) with output that does not fit. Then [`on_flushed`](Self::on_flushed) is called later,
    /// and the rest is delivered again.
    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, input: &[u8]) -> usize;

    /// Called at EOF: the peer has sent a FIN, and can still read. Default: closes.
    ///
    /// `rest` is the input that [`on_data`](Self::on_data) has not consumed: an incomplete message, or nothing. With
    /// a rest, the call waits while the connection is paused or its outbox has output. `rest` is dropped after the call,
    /// unless `on_eof` calls [`pause`](Connection::pause): then `on_data` gets `rest` again after
    /// [`resume`](Connection::resume).
    fn on_eof(&mut self, connection: &mut Connection<'_>, _session: &mut Self::Session, _rest: &[u8]) {
        connection.close();
    }

    /// Called when the outbox is empty, after output that did not fit, or that the kernel did not accept at once. It is
    /// not called if all output fitted and the kernel accepted it. Wait for it only after output that did not fit.
    fn on_flushed(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session) {}

    /// Called when the time of [`set_timeout`](Connection::set_timeout) has expired. Default: closes.
    fn on_timeout(&mut self, connection: &mut Connection<'_>, _session: &mut Self::Session) {
        connection.close();
    }

    /// Called when the time of a [`schedule`](crate::Context::schedule) has expired, with the id that it returned, and
    /// its value. Default: does nothing.
    fn on_timer(&mut self, _context: &mut Context, _timer: TimerId, _value: u64) {}

    /// Called after a [notify](crate::Context::notify) of this connection, with its value. Default: does nothing.
    fn on_notify(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session, _value: u64) {}

    /// Called when the loop drains, once, after the input that had arrived by then. A protocol that knows the end of a
    /// request closes there. A closure of [`stream`](crate::stream) closes. Default: does nothing, so that the connection
    /// stays open until the grace period ends.
    ///
    /// A last message needs room in the outbox. [`send`](Connection::send) returns [`SendError::Full`](crate::SendError::Full)
    /// for a client that does not read. A protocol that must send it keeps it in the session, and sends it in
    /// [`on_flushed`](Self::on_flushed).
    fn on_drain(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session) {}

    /// Called once for each session, after the connection and its descriptor are closed. It is the last callback. It is
    /// not called for a session whose callback panicked, nor if the loop is dropped before it has stopped.
    fn on_close(&mut self, _connection: &mut Connection<'_>, _session: Self::Session, _reason: CloseReason) {}

    /// Called when an outbound connection failed: refused, unreachable, timed out, or aborted. Every
    /// [`connect`](Context::connect) whose id refers to a connection ends in this callback or in
    /// [`on_open`](Self::on_open). Default: does nothing.
    fn on_connect_failed(&mut self, _context: &mut Context, _id: ConnectionId, _error: io::Error) {}

    /// Returns how many bytes of input the handler may need at once: its longest frame, as
    /// [`Format::input_bytes_min`](crate::framing::Format::input_bytes_min) returns it. A listener with a smaller
    /// `input_bytes_max` is refused. Called once, when the handler is added to a loop. Default: 1.
    ///
    /// Without it such a listener opens, and each longer frame closes its connection with
    /// [`CloseReason::InputOverflow`].
    fn input_bytes_min(&self) -> usize {
        1
    }
}

/// A protocol over datagrams. One handler serves all of its sockets.
///
/// ```
/// use halloo::{Datagram, DatagramHandler, EventLoop};
///
/// struct Length;
///
/// impl DatagramHandler for Length {
///     fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
///         datagram.reply(format!("{}\n", payload.len()).as_bytes());
///     }
/// }
///
/// let mut events = EventLoop::new()?;
/// events.bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), Length)?;
/// # Ok::<(), halloo::Error>(())
/// ```
///
/// As for stream handlers, `&mut H` and `Box<H>` are handlers if `H` is one. A closure becomes a handler with
/// [`datagrams`](crate::datagrams):
///
/// ```
/// use halloo::{EventLoop, datagrams};
/// use std::net::{SocketAddr, UdpSocket};
///
/// let mut bytes = 0;
/// let mut count = datagrams(|datagram, payload| {
///     bytes += payload.len();
///     datagram.context().stop();
/// });
/// let mut events = EventLoop::new()?;
/// let socket = events.bind(SocketAddr::from(([127, 0, 0, 1], 0)), &mut count)?;
///
/// UdpSocket::bind("127.0.0.1:0")?.send_to(b"hello", events.local_addr(socket)?)?;
/// events.run()?;
/// drop(events);
/// assert_eq!(bytes, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a datagram handler",
    label = "not a datagram handler",
    note = "wrap a closure or function: `halloo::datagrams(|datagram, payload| ...)`",
    note = "pass a stream handler to `listen` or `attach`"
)]
pub trait DatagramHandler {
    /// Called like [`StreamHandler::on_start`]. If [`bind`](crate::EventLoop::bind) opens a socket for the handler, the
    /// socket is already open. Its id is known when a datagram arrives ([`Datagram::socket`]). A handler that sends before
    /// it receives opens its socket here:
    ///
    /// ```
    /// use halloo::{Context, Datagram, DatagramHandler, EventLoop, HandlerId, TimerId, UdpSocketId};
    /// use std::net::{SocketAddr, UdpSocket};
    /// use std::time::Duration;
    ///
    /// /// Retransmits a request every 10 ms until the reply arrives.
    /// struct Ask { peer: SocketAddr, own: Option<(HandlerId, UdpSocketId)> }
    ///
    /// impl DatagramHandler for Ask {
    ///     fn on_start(&mut self, context: &mut Context, id: HandlerId) {
    ///         let socket = context.bind_for(SocketAddr::from(([127, 0, 0, 1], 0)), id).expect("a free port");
    ///         self.own = Some((id, socket));
    ///         context.schedule(id, Duration::ZERO, 1);
    ///     }
    ///     fn on_timer(&mut self, context: &mut Context, _: TimerId, tries: u64) {
    ///         let Some((id, socket)) = self.own else { return };
    ///         context.send_to(socket, format!("try {tries}").as_bytes(), self.peer);
    ///         context.schedule(id, Duration::from_millis(10), tries + 1);
    ///     }
    ///     fn on_datagram(&mut self, datagram: &mut Datagram<'_>, reply: &[u8]) {
    ///         assert_eq!(reply, b"heard try 2");
    ///         datagram.context().stop();
    ///     }
    /// }
    ///
    /// let peer = UdpSocket::bind("127.0.0.1:0")?;
    /// let mut events = EventLoop::new()?;
    /// events.attach_datagrams(Ask { peer: peer.local_addr()?, own: None });
    /// let peer = std::thread::spawn(move || -> std::io::Result<usize> {
    ///     let mut request = [0; 16];
    ///     peer.recv_from(&mut request)?; // The first gets no reply.
    ///     let (length, from) = peer.recv_from(&mut request)?;
    ///     peer.send_to(&[b"heard ", &request[..length]].concat(), from)
    /// });
    /// events.run()?;
    /// assert_eq!(peer.join().unwrap()?, 11);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn on_start(&mut self, _context: &mut Context, _id: HandlerId) {}

    /// Called with each received datagram, also an empty one.
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]);

    /// Called like [`StreamHandler::on_timer`].
    fn on_timer(&mut self, _context: &mut Context, _timer: TimerId, _value: u64) {}

    /// Called once for each socket when the loop drains, after the datagrams that were queued when the drain began.
    /// Default: [removes](Context::remove) the socket, so that its port is free as early as a listener's. Later replies
    /// through it, from timers and jobs, are refused.
    ///
    /// A socket that stays is still served. It delays the drain like an open connection, until it is removed or the
    /// grace period ends. It is for replies that are still expected, or that wait for an acknowledgement.
    fn on_drain(&mut self, context: &mut Context, socket: UdpSocketId) {
        context.remove(socket);
    }
}
