//! The handler traits.

use std::io;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::datagram::Datagram;
use crate::ids::{ConnectionId, HandlerId, TimerId, UdpSocketId};

/// A protocol over streams: one handler for all connections of its listeners, and for those it makes.
///
/// ```
/// use halloo::{Connection, EventLoop, StreamHandler};
///
/// /// Counts the bytes of each client, and tells it at its end of stream.
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
/// `&mut H` is a handler where `H` is one: the loop borrows it, and the caller has it back when the loop is dropped. The
/// handler is declared before the loop, which it has to outlive.
/// `Box<dyn StreamHandler<Session = S>>` is a handler that is chosen at run time. A closure is a handler in
/// [`stream`](crate::stream), or in [`framing::lines`](crate::framing::lines) for whole lines.
///
/// ```
/// use halloo::{CloseReason, Connection, EventLoop, StreamHandler, stream};
/// use std::io::Write;
/// use std::net::{SocketAddr, TcpStream};
///
/// /// Counts the bytes of all clients, and stops the loop when the first has gone.
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
    note = "give a datagram handler to `bind` or `attach_datagrams`"
)]
pub trait StreamHandler {
    /// What the handler keeps about one connection.
    type Session;

    /// The handler belongs to a loop now. With its id it sets timers and opens listeners and connections of its own.
    /// Called once, before every other callback, and before the call that gives the handler to the loop returns. Default:
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

    /// A client is there, or an outbound connection is open. `None` refuses it, as [`close`](Connection::close) does:
    /// what is written goes out first, and no other callback comes. A refused client counts in
    /// [`connections_max`](crate::Listen::connections_max) until its connection is closed: what it still sends is
    /// discarded for up to 2 s. [`abort`](Connection::abort) before `None` resets it at once.
    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Self::Session>;

    /// Bytes have come. Returns how many of them are used up; the rest is kept and shown again, with what comes after
    /// it, and after [`on_flushed`](Self::on_flushed) and [`resume`](Connection::resume).
    ///
    /// To return more than the length of `input` is a fault of the handler. With debug assertions it counts as a panic of
    /// this callback; without them, as the length of `input`.
    ///
    /// A handler that leaves a full inbox untouched while nothing holds it up is closed with
    /// [`CloseReason::InputOverflow`]; one that waits for something says [`pause`](Connection::pause). Waiting for room
    /// in the outbox needs a [`try_write`](Connection::try_write) or [`send`](Connection::send) that did not fit: after it
    /// [`on_flushed`](Self::on_flushed) comes, and then the rest is shown again.
    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, input: &[u8]) -> usize;

    /// The peer has ended its stream (FIN) and can still read. Default: close.
    ///
    /// `rest` is the input that [`on_data`](Self::on_data) has not consumed: a message cut short, or nothing. While the
    /// connection is paused or its outbox holds output, this callback waits. `rest` is dropped after it, unless it calls
    /// [`pause`](Connection::pause): then `on_data` gets `rest` again after [`resume`](Connection::resume).
    fn on_eof(&mut self, connection: &mut Connection<'_>, _session: &mut Self::Session, _rest: &[u8]) {
        connection.close();
    }

    /// The outbox is empty again, after a write that did not fit or that the kernel could not take at once. Where every
    /// write fitted and the kernel took it all, it does not come: who waits for it waits after a short write.
    fn on_flushed(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session) {}

    /// The time of [`set_timeout`](Connection::set_timeout) has come. Default: close.
    fn on_timeout(&mut self, connection: &mut Connection<'_>, _session: &mut Self::Session) {
        connection.close();
    }

    /// The time of a [`schedule`](crate::Context::schedule) has come: the id that it returned, and its value. Default:
    /// nothing.
    fn on_timer(&mut self, _context: &mut Context, _timer: TimerId, _value: u64) {}

    /// Somebody has [notified](crate::Context::notify) this connection. Default: nothing.
    fn on_notify(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session, _value: u64) {}

    /// The loop drains: a protocol that knows where one request ends closes there. Closures made by
    /// [`stream`](crate::stream) close here. Default: nothing, so that who is connected stays until the grace is over.
    fn on_drain(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session) {}

    /// The connection is closed, its descriptor too: once for every session, and last. Two kinds of sessions are
    /// dropped without it: one whose own callback has panicked, and those of a loop that is dropped before it has
    /// stopped.
    fn on_close(&mut self, _connection: &mut Connection<'_>, _session: Self::Session, _reason: CloseReason) {}

    /// An outbound connection has failed: refused, unreachable, not answered in time, or given up. Every
    /// [`connect`](Context::connect) whose id names a connection ends in this or in [`on_open`](Self::on_open). Default:
    /// nothing.
    fn on_connect_failed(&mut self, _context: &mut Context, _id: ConnectionId, _error: io::Error) {}

    /// How many bytes the handler may have to see at once before it can use any: its longest frame, as
    /// [`Format::input_bytes_min`](crate::framing::Format::input_bytes_min) returns it. A listener whose `input_bytes_max`
    /// is less is refused. Called once, when the handler is given to a loop. Default: 1.
    ///
    /// Without it such a listener opens, and each longer frame closes its connection with
    /// [`CloseReason::InputOverflow`].
    fn input_bytes_min(&self) -> usize {
        1
    }
}

/// A protocol over datagrams: one handler for all of its sockets.
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
/// As for stream handlers, `&mut H` and `Box<H>` are handlers where `H` is one, and a closure is one in
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
    note = "give a stream handler to `listen` or `attach`"
)]
pub trait DatagramHandler {
    /// As [`StreamHandler::on_start`]. The socket that [`bind`](crate::EventLoop::bind) opens for a handler is open by then, and
    /// its id comes with its datagrams. A handler that sends first opens its socket here:
    ///
    /// ```
    /// use halloo::{Context, Datagram, DatagramHandler, EventLoop, HandlerId, TimerId, UdpSocketId};
    /// use std::net::{SocketAddr, UdpSocket};
    /// use std::time::Duration;
    ///
    /// /// Sends a question again every 10 ms until the answer comes.
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
    ///     fn on_datagram(&mut self, datagram: &mut Datagram<'_>, answer: &[u8]) {
    ///         assert_eq!(answer, b"heard try 2");
    ///         datagram.context().stop();
    ///     }
    /// }
    ///
    /// let peer = UdpSocket::bind("127.0.0.1:0")?;
    /// let mut events = EventLoop::new()?;
    /// events.attach_datagrams(Ask { peer: peer.local_addr()?, own: None });
    /// let answered = std::thread::spawn(move || -> std::io::Result<usize> {
    ///     let mut question = [0; 16];
    ///     peer.recv_from(&mut question)?; // The first is not answered.
    ///     let (length, from) = peer.recv_from(&mut question)?;
    ///     peer.send_to(&[b"heard ", &question[..length]].concat(), from)
    /// });
    /// events.run()?;
    /// assert_eq!(answered.join().unwrap()?, 11);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn on_start(&mut self, _context: &mut Context, _id: HandlerId) {}

    /// One datagram has come; an empty one is one too.
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]);

    /// As [`StreamHandler::on_timer`].
    fn on_timer(&mut self, _context: &mut Context, _timer: TimerId, _value: u64) {}

    /// The loop drains, and the datagrams that were queued at a socket when the drain began have been delivered. It is
    /// called once for each socket. Default: [remove](Context::remove) the socket, so that the port is free as soon as
    /// that of a listener is. Later replies through it, from timers and jobs, are refused.
    ///
    /// A socket that is kept is served on, and holds the drain up as an open connection does, until it is removed or the
    /// grace is over: for answers that are still to come, or that wait to be acknowledged.
    fn on_drain(&mut self, context: &mut Context, socket: UdpSocketId) {
        context.remove(socket);
    }
}
