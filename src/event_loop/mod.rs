//! The public interface of the event loop.

pub(crate) mod callbacks;
mod connections;
mod listeners;
mod observer;
mod receive;
mod send;
mod sources;
mod turn;
mod udp_sockets;

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use crate::context::Context;
use crate::context::erased_handler::Handler;
use crate::context::handle::Handle;
use crate::context::handler::{DatagramHandler, StreamHandler};
use crate::context::loop_state::DrainReport;
use crate::context::mailbox::Mailbox;
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::callbacks::Callbacks;
use crate::event_loop::observer::{Observer, TurnTimes};
use crate::ids::{HandlerId, ListenerId, SourceId, TimerId, UdpSocketId};
use crate::limits;
use crate::net::recv_batch::RecvBatch;
use crate::net::system::System;
use crate::net::{Event, Network};
use crate::options::bind::Bind;
use crate::options::listen::Listen;
use crate::state::buffers::Strain;
use crate::state::timestamp::Timestamp;
use crate::stats::Stats;

#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};

/// A single-threaded event loop: it reads from sockets, calls handlers, and sends their output.
///
/// A loop stays on the thread that created it. Handlers may borrow values that outlive the loop. The borrows end when
/// the loop is dropped.
///
/// ```
/// use halloo::{EventLoop, stream};
/// use std::io::{Read, Write};
///
/// let mut served = 0;
/// let mut events = EventLoop::new()?;
/// let listener = events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), stream(|connection, input| {
///     served += 1;
///     let _ = connection.send(b"Hello, TCP Client!");
///     connection.close();
///     input.len()
/// }))?;
///
/// let (address, handle) = (events.local_addr(listener)?, events.handle());
/// let client = std::thread::spawn(move || -> std::io::Result<String> {
///     let mut stream = std::net::TcpStream::connect(address)?;
///     stream.write_all(b"Hello, TCP Server!")?;
///     let mut reply = String::new();
///     stream.read_to_string(&mut reply)?;
///     let _ = handle.stop();
///     Ok(reply)
/// });
/// events.run()?;
/// assert_eq!(client.join().unwrap()?, "Hello, TCP Client!");
///
/// drop(events);
/// assert_eq!(served, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct EventLoop<'h> {
    /// The first field, so that handles fail before any destructor of the embedder runs.
    mailbox: Mailbox,
    pub(crate) context: Context,
    callbacks: Callbacks<'h>,
    /// The buffer of every read.
    read_buffer: Box<[u8]>,
    /// Datagrams received from the UDP socket that is being served.
    recv_batch: RecvBatch,
    events: Vec<Event>,
    /// The last poll returned a full batch.
    poll_has_more: bool,
    /// Is called after each turn with its entries.
    observer: Option<Observer<'h>>,
    turn_times: TurnTimes,
    pub(crate) strain: Option<Strain>,
    /// Turns in a row in which every poll was interrupted or returned a full batch.
    incomplete_turns: u8,
    /// When the embedder first called `next_timeout` after the last turn: the wait after it is not part of the turn.
    turn_ended: Cell<Option<Timestamp>>,
}

/// The result of a [`turn`](EventLoop::turn).
///
/// ```
/// use halloo::{EventLoop, Turn};
///
/// let mut events = EventLoop::new()?;
/// assert!(matches!(events.turn(Some(std::time::Duration::ZERO))?, Turn::Idle));
/// events.context().stop();
/// assert!(matches!(events.turn(None)?, Turn::Stopped(_)));
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
#[must_use = "it reports whether the loop has stopped"]
pub enum Turn {
    /// Nothing happened before the timeout.
    Idle,
    /// Something happened.
    Progress,
    /// The loop has ended; every later turn returns the same.
    Stopped(DrainReport),
}

impl<'h> EventLoop<'h> {
    /// Creates a loop without sockets.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`] if the system has no descriptors left for the poll and its waker.
    pub fn new() -> Result<Self> {
        let system = System::new().map_err(|error| Error::from_io(ErrorKind::Setup, None, error))?;
        let secret = || RandomState::new().build_hasher().finish();
        Ok(Self::with_network(
            Network::System(system),
            Box::new(|| limits::connections_max_per_loop(1)),
            [secret(), secret()],
        ))
    }

    /// Creates a loop on a network.
    pub(crate) fn with_network(
        network: Network,
        default_connections_max: Box<dyn Fn() -> usize>,
        hash_key: [u64; 2],
    ) -> Self {
        Self {
            mailbox: Mailbox::new(network.waker()),
            context: Context::new(network, default_connections_max, hash_key),
            callbacks: Callbacks::default(),
            read_buffer: vec![0; limits::READ_BYTES_MAX].into_boxed_slice(),
            recv_batch: RecvBatch::default(),
            // Room for all polls of a turn. The block is mapped separately, so that it does not grow between buffers.
            events: Vec::with_capacity(limits::EVENTS_PER_POLL_MAX * limits::POLLS_PER_TURN_MAX as usize),
            poll_has_more: false,
            observer: None,
            turn_times: TurnTimes::default(),
            strain: None,
            incomplete_turns: 0,
            turn_ended: Cell::new(None),
        }
    }

    /// Adds a listener with a handler of its own. The loop drops the handler at the end of the turn in which nothing
    /// uses it any more. This listener uses it until it is [removed](Self::remove). Its connections use it, too, and so
    /// do the handler's own listeners, [outbound connections](Context::connect) and [timers](Context::schedule).
    ///
    /// # Errors
    /// [`ErrorKind::Listen`] if the address cannot be listened on, [`ErrorKind::InvalidOption`] if an option is
    /// invalid, [`ErrorKind::Setup`] if the loop has ended.
    pub fn listen(&mut self, at: impl Into<Listen>, handler: impl StreamHandler + 'h) -> Result<ListenerId> {
        let (id, added) = self.context.listen_with(&at.into(), Handler::stream(handler))?;
        self.callbacks.insert(added);
        Ok(id)
    }

    /// Adds a handler without a listener, for several listeners or for outbound connections. It stays until it is
    /// [removed](Self::remove) and nothing uses it any more. Its [`on_start`](StreamHandler::on_start) is called before
    /// this returns. If the loop has ended, no other callback is called.
    ///
    /// ```
    /// use halloo::{EventLoop, stream};
    ///
    /// let mut events = EventLoop::new()?;
    /// let echo = events.attach(stream(|connection, input| connection.try_write(input)));
    /// for host in [[127, 0, 0, 1], [127, 0, 0, 2]] {
    ///     events.listen_for(std::net::SocketAddr::from((host, 0)), echo)?;
    /// }
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn attach(&mut self, handler: impl StreamHandler + 'h) -> HandlerId {
        let (id, added) = self.context.attach_handler(Handler::stream(handler));
        self.callbacks.insert(added);
        id
    }

    /// Adds a handler without a UDP socket, for several sockets, or for sockets that it opens itself. It is started and
    /// stays like a handler that [`attach`](Self::attach) adds.
    ///
    /// ```
    /// use halloo::{EventLoop, datagrams};
    ///
    /// let mut events = EventLoop::new()?;
    /// let echo = events.attach_datagrams(datagrams(|datagram, payload| { datagram.reply(payload); }));
    /// for host in [[127, 0, 0, 1], [127, 0, 0, 2]] {
    ///     events.bind_for(std::net::SocketAddr::from((host, 0)), echo)?;
    /// }
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn attach_datagrams(&mut self, handler: impl DatagramHandler + 'h) -> HandlerId {
        let (id, added) = self.context.attach_handler(Handler::datagram(handler));
        self.callbacks.insert(added);
        id
    }

    /// Calls [`Context::listen_for`] between two turns.
    ///
    /// # Errors
    /// As [`Context::listen_for`].
    pub fn listen_for(&mut self, at: impl Into<Listen>, served_by: HandlerId) -> Result<ListenerId> {
        self.context.listen_for(at, served_by)
    }

    /// Binds a UDP socket with a handler of its own. The loop drops the handler at the end of the turn in which nothing
    /// uses it any more. This socket uses it until it is [removed](Self::remove). Sockets that the handler has
    /// [opened](Context::bind_for) for itself use it, too, and so do its [timers](Context::schedule).
    ///
    /// # Errors
    /// [`ErrorKind::Bind`] if the address cannot be bound, or if the system refuses an option, such as an interface or
    /// a group. The cause names the option. [`ErrorKind::InvalidOption`] if an option is invalid on every system,
    /// [`ErrorKind::Setup`] if the loop has ended.
    pub fn bind(&mut self, at: impl Into<Bind>, handler: impl DatagramHandler + 'h) -> Result<UdpSocketId> {
        // A socket removed since the last turn may have the address.
        self.drop_removed();
        let (id, added) = self.context.bind_with(&at.into(), Handler::datagram(handler))?;
        self.callbacks.insert(added);
        Ok(id)
    }

    /// Calls [`Context::bind_for`] between two turns.
    ///
    /// # Errors
    /// As [`Context::bind_for`].
    pub fn bind_for(&mut self, at: impl Into<Bind>, served_by: HandlerId) -> Result<UdpSocketId> {
        // As for `bind`.
        self.drop_removed();
        self.context.bind_for(at, served_by)
    }

    /// Calls a closure after `first`, and then after each time that it returns; `None` ends the timer. If the loop has
    /// ended, the closure is never called.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let mut left = 3;
    /// let mut events = halloo::EventLoop::new()?;
    /// events.every(Duration::from_millis(1), |context| {
    ///     left -= 1;
    ///     if left == 0 {
    ///         context.stop();
    ///     }
    ///     Some(Duration::from_millis(1))
    /// });
    /// events.run()?;
    /// drop(events);
    /// assert_eq!(left, 0);
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn every(&mut self, first: Duration, callback: impl FnMut(&mut Context) -> Option<Duration> + 'h) -> TimerId {
        let (id, added) = self.context.set_timer(first, Box::new(callback));
        self.callbacks.insert(added);
        id
    }

    /// Calls [`Context::local_addr`] between two turns.
    ///
    /// # Errors
    /// As [`Context::local_addr`].
    pub fn local_addr(&self, id: impl Into<SourceId>) -> Result<SocketAddr> {
        self.context.local_addr(id)
    }

    /// Catches panics of handlers. The connection is reset and its session dropped. The panic is counted in
    /// [`Stats::panics`](crate::Stats::panics) and logged, and the loop goes on. This also applies to panics of jobs,
    /// timers and watches, and of destructors when the loop drops a session, handler, closure or value.
    ///
    /// Default: no. A panic then unwinds out of [`turn`](Self::turn) and [`run`](Self::run), and ends the loop: its
    /// listeners close, and its connections close when it is dropped.
    ///
    /// ```
    /// let mut events = halloo::EventLoop::new()?;
    /// events.catch_panics(true);
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn catch_panics(&mut self, catch: bool) {
        self.context.catches_panics = catch;
        self.context.update_calls();
    }

    /// Sets the maximum memory for the inboxes and outboxes of all connections together, in bytes. Default: 256 MiB. A
    /// value below 1 MiB counts as 1 MiB.
    ///
    /// Above three quarters of the maximum:
    /// - A connection with more than 4 KiB of input, or with its own output waiting, is not read.
    /// - Output of other callbacks beyond 4 KiB waits until the connection's outbox is empty.
    /// - Clients with short requests are still served.
    ///
    /// All connections continue when memory is free again. If none is free for a second, the connection with the
    /// largest buffers is reset with [`CloseReason::OutOfMemory`](crate::CloseReason::OutOfMemory), and then one more
    /// every 10 ms. Above the maximum, output longer than 4 KiB resets its own connection. Each connection may use 9
    /// KiB beyond the maximum.
    ///
    /// If the system refuses memory earlier, the maximum falls to seven eighths of the bytes allocated at that moment,
    /// until memory is free again. A reset then happens without the wait of a second.
    ///
    /// ```
    /// let mut events = halloo::EventLoop::new()?;
    /// events.buffer_bytes_max(64 * 1024 * 1024);
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn buffer_bytes_max(&mut self, bytes: usize) {
        self.context.buffer_pool.set_bytes_max(bytes.max(limits::BUFFER_BYTES_MIN));
    }

    /// Returns a handle, with which other threads reach the loop.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(&self.mailbox)
    }

    /// Returns the loop's counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.context.stats()
    }

    /// Runs turns until the loop is stopped. Without sockets and timers it waits for a [`Handle`].
    ///
    /// # Errors
    /// [`ErrorKind::Poll`] if the poll fails; no action of a client is an error of the loop. [`ErrorKind::Setup`] if a
    /// panic of a handler ended the loop before.
    ///
    /// # Panics
    /// If a handler panics. That ends the loop, unless it [catches panics](Self::catch_panics).
    pub fn run(&mut self) -> Result<DrainReport> {
        loop {
            if let Turn::Stopped(report) = self.turn(None)? {
                return Ok(report);
            }
        }
    }

    /// Runs one turn: waits for events, at most for `timeout`, and handles them. The work of a turn is bounded. `None`
    /// waits without a limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use halloo::{EventLoop, Turn};
    ///
    /// let mut events = EventLoop::new()?;
    /// events.context().stop();
    /// while !matches!(events.turn(Some(Duration::from_millis(10)))?, Turn::Stopped(_)) {
    ///     // Between two turns the thread is free for other work.
    /// }
    /// # Ok::<(), halloo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<Turn> {
        self.run_turn(timeout)
    }

    /// Returns the time until the next turn is due: zero if work is left, `None` if only an event can cause work.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        // Much time may have passed since the last turn.
        let (now, wait) = self.clock_and_wait();
        if self.turn_ended.get().is_none() {
            self.turn_ended.set(Some(now));
        }
        wait
    }

    /// Returns the loop's context, between two turns. It reads the clock. Output, connects and closes take effect in
    /// the next turn. But a listener that is [removed](Context::remove) closes at once, and [`remove`](Self::remove)
    /// drops at once.
    pub fn context(&mut self) -> &mut Context {
        let now = self.context.clock();
        self.end_turn(now);
        self.context.now = now;
        &mut self.context
    }
}

/// The loop's poll, for an outer loop to watch: it is readable while events wait. If a turn leaves work,
/// [`next_timeout`](EventLoop::next_timeout) returns zero, so that an edge-triggered outer loop does not stall. An
/// outer loop that needs an owned descriptor uses `as_fd().try_clone_to_owned()`.
///
/// ```
/// use std::os::fd::AsFd;
///
/// let events = halloo::EventLoop::new()?;
/// let watched = events.as_fd();
/// # let _ = watched;
/// # Ok::<(), halloo::Error>(())
/// ```
///
/// # Panics
/// If the loop runs in a simulation (feature `testing`), which has no descriptor.
#[cfg(unix)]
impl AsFd for EventLoop<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.context.network {
            Network::System(system) => system.as_fd(),
            #[cfg(any(test, feature = "testing"))]
            Network::Simulated(_) => panic!("a simulated loop has no descriptor"),
        }
    }
}

impl std::fmt::Debug for EventLoop<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLoop").field("context", &self.context).finish_non_exhaustive()
    }
}
