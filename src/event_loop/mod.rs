//! The event loop as embedders see it.

pub(crate) mod callbacks;
mod connections;
mod listeners;
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

/// A single-threaded event loop: sockets on one side, handlers on the other.
///
/// It lives on the thread that built it. Handlers may borrow from what outlives the loop; they are given back when it
/// is dropped.
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
///     let mut answer = String::new();
///     stream.read_to_string(&mut answer)?;
///     let _ = handle.stop();
///     Ok(answer)
/// });
/// events.run()?;
/// assert_eq!(client.join().unwrap()?, "Hello, TCP Client!");
///
/// drop(events);
/// assert_eq!(served, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct EventLoop<'h> {
    /// The first field, so that handles are refused before any destructor of the embedder runs.
    mailbox: Mailbox,
    pub(crate) context: Context,
    callbacks: Callbacks<'h>,
    /// What every read is made into.
    read_buffer: Box<[u8]>,
    /// What has come in by the UDP socket that is being served.
    recv_batch: RecvBatch,
    events: Vec<Event>,
    /// The last poll came back full.
    poll_has_more: bool,
    pub(crate) strain: Option<Strain>,
    /// Turns in a row without a poll that was neither interrupted nor full.
    incomplete_turns: u8,
    /// When the embedder asked how long it may wait after the last turn: the wait is no part of that.
    turn_ended: Cell<Option<Timestamp>>,
}

/// What a [`turn`](EventLoop::turn) was.
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
#[must_use = "a stopped loop turns no more"]
pub enum Turn {
    /// Nothing happened in the time given.
    Idle,
    /// Something did.
    Progress,
    /// The loop has ended; every further turn says the same.
    Stopped(DrainReport),
}

impl<'h> EventLoop<'h> {
    /// Makes a loop with nothing to watch.
    ///
    /// # Errors
    /// [`ErrorKind::Setup`] if the system has no descriptors left for the poll and its wake.
    pub fn new() -> Result<Self> {
        let system = System::new().map_err(|error| Error::from_io(ErrorKind::Setup, None, error))?;
        let secret = || RandomState::new().build_hasher().finish();
        Ok(Self::with_network(
            Network::System(system),
            Box::new(|| limits::connections_max_per_loop(1)),
            [secret(), secret()],
        ))
    }

    /// Makes a loop on a network.
    pub(crate) fn with_network(
        network: Network,
        default_connections_max: Box<dyn Fn() -> usize>,
        hash_key: [u64; 2],
    ) -> Self {
        Self {
            mailbox: Mailbox::new(network.waker()),
            context: Context::new(network, default_connections_max, hash_key),
            callbacks: Callbacks::default(),
            read_buffer: vec![0; limits::INPUT_BYTES_MAX].into_boxed_slice(),
            recv_batch: RecvBatch::default(),
            // Room for those of all polls of a turn, mapped by itself, so that it does not grow amid buffers.
            events: Vec::with_capacity(limits::EVENTS_PER_POLL_MAX * limits::POLLS_PER_TURN_MAX as usize),
            poll_has_more: false,
            strain: None,
            incomplete_turns: 0,
            turn_ended: Cell::new(None),
        }
    }

    /// Listens for clients, and has them served by a handler of their own. The loop drops the handler at the end of the
    /// turn in which nothing uses it any more. This listener uses it until it is [removed](Self::remove); so do its
    /// connections, the listeners and [connections](Context::connect) that the handler opens for itself, and its
    /// [timers](Context::schedule).
    ///
    /// # Errors
    /// [`ErrorKind::Listen`] if the address cannot be listened on, [`ErrorKind::InvalidOption`] if an option cannot
    /// work, [`ErrorKind::Setup`] if the loop has ended.
    pub fn listen(&mut self, at: impl Into<Listen>, handler: impl StreamHandler + 'h) -> Result<ListenerId> {
        let (id, added) = self.context.listen_with(&at.into(), Handler::stream(handler))?;
        self.callbacks.insert(added);
        Ok(id)
    }

    /// Adds a handler without a listener: one that several listeners share, or that serves outbound connections. It stays
    /// until it is [removed](Self::remove) and nothing uses it any more. Its [`on_start`](StreamHandler::on_start) is
    /// called before this returns. On a loop that has ended no other callback of it comes.
    ///
    /// ```
    /// use halloo::{EventLoop, stream};
    ///
    /// let mut events = EventLoop::new()?;
    /// let echo = events.attach(stream(|connection, input| connection.write(input)));
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

    /// Adds a handler without a UDP socket: one that several sockets share, or that opens its sockets itself. It stays, and
    /// is started, as one that [`attach`](Self::attach) adds.
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

    /// [`Context::listen_for`], between two turns.
    ///
    /// # Errors
    /// As there.
    pub fn listen_for(&mut self, at: impl Into<Listen>, served_by: HandlerId) -> Result<ListenerId> {
        self.context.listen_for(at, served_by)
    }

    /// Binds a UDP socket, and has its datagrams handled by a handler of its own. The loop drops the handler at the end of
    /// the turn in which nothing uses it any more. This socket uses it until it is [removed](Self::remove); so do sockets
    /// that the handler has [opened](Context::bind_for) for itself, and its [timers](Context::schedule).
    ///
    /// # Errors
    /// [`ErrorKind::Bind`] if the address cannot be bound, or if the system refuses an option, such as an interface or a
    /// group: the cause in the error names the option. [`ErrorKind::InvalidOption`] if an option cannot work anywhere,
    /// [`ErrorKind::Setup`] if the loop has ended.
    pub fn bind(&mut self, at: impl Into<Bind>, handler: impl DatagramHandler + 'h) -> Result<UdpSocketId> {
        // Sockets removed since the last turn may have the address.
        self.drop_removed();
        let (id, added) = self.context.bind_with(&at.into(), Handler::datagram(handler))?;
        self.callbacks.insert(added);
        Ok(id)
    }

    /// [`Context::bind_for`], between two turns.
    ///
    /// # Errors
    /// As there.
    pub fn bind_for(&mut self, at: impl Into<Bind>, served_by: HandlerId) -> Result<UdpSocketId> {
        // As for `bind`.
        self.drop_removed();
        self.context.bind_for(at, served_by)
    }

    /// Calls a closure after `first`, and then again after each span it returns; `None` ends it. On a loop that has ended
    /// it is never called.
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

    /// [`Context::local_addr`], between two turns.
    ///
    /// # Errors
    /// As there.
    pub fn local_addr(&self, id: impl Into<SourceId>) -> Result<SocketAddr> {
        self.context.local_addr(id)
    }

    /// Catches the panics of handlers: the connection concerned is reset and its session dropped, the panic is counted
    /// in [`Stats::panics`](crate::Stats::panics) and logged, and the loop goes on. So are the panics of jobs, timers
    /// and watches caught, and those of destructors, when the loop drops a session, a handler, a closure or a value. Default: no, a panic
    /// unwinds out of [`turn`](Self::turn) and [`run`](Self::run), and ends the loop: its listeners close, and its
    /// connections close when it is dropped.
    ///
    /// ```
    /// let mut events = halloo::EventLoop::new()?;
    /// events.catch_panics(true);
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn catch_panics(&mut self, catch: bool) {
        self.context.catches_panics = catch;
    }

    /// The most memory for the inboxes and outboxes of all connections together. Default: 256 MiB; what is less than
    /// 1 MiB counts as that.
    ///
    /// Past three quarters of it, connections that hold more than 4 KiB of input are not read, those with answers
    /// waiting are not either, and what other callbacks write to a connection waits until its outbox is empty. Clients
    /// with short requests are served on. All go on when memory is free again. If there is none for a second, the
    /// connection that holds the most is reset with [`CloseReason::OutOfMemory`](crate::CloseReason::OutOfMemory),
    /// and then one every 10 ms until there is. Past all of it, output that is longer than 4 KiB resets its own
    /// connection. Each connection may hold 9 KiB beyond the maximum. Where the system refuses memory before, what is
    /// allocated then less an eighth is the maximum until there is memory again, and the reset comes at once.
    ///
    /// ```
    /// let mut events = halloo::EventLoop::new()?;
    /// events.buffer_bytes_max(64 * 1024 * 1024);
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn buffer_bytes_max(&mut self, bytes: usize) {
        self.context.buffer_pool.set_bytes_max(bytes.max(limits::BUFFER_BYTES_MIN));
    }

    /// A way into the loop for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(&self.mailbox)
    }

    /// The loop's counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.context.stats()
    }

    /// Turns until the loop is stopped. With nothing to watch, it waits for a [`Handle`].
    ///
    /// # Errors
    /// [`ErrorKind::Poll`] if the poll itself fails; nothing that a client does is an error of the loop.
    /// [`ErrorKind::Setup`] if a handler has panicked out of a turn before.
    ///
    /// # Panics
    /// If a handler does. That is the end of the loop, unless it [catches panics](Self::catch_panics).
    pub fn run(&mut self) -> Result<DrainReport> {
        loop {
            if let Turn::Stopped(report) = self.turn(None)? {
                return Ok(report);
            }
        }
    }

    /// One bounded round: waits for something to do, at most as long as told, and does it. `None` waits for as long as
    /// it takes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use halloo::{EventLoop, Turn};
    ///
    /// let mut events = EventLoop::new()?;
    /// events.context().stop();
    /// while !matches!(events.turn(Some(Duration::from_millis(10)))?, Turn::Stopped(_)) {
    ///     // Between two turns the thread is yours.
    /// }
    /// # Ok::<(), halloo::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<Turn> {
        self.run_turn(timeout)
    }

    /// How long the next turn may be put off: zero while work is left over, `None` if nothing but an event can bring
    /// any.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        // The embedder may have taken long since the last turn.
        let (now, wait) = self.clock_and_wait();
        if self.turn_ended.get().is_none() {
            self.turn_ended.set(Some(now));
        }
        wait
    }

    /// The loop's context, between two turns. Reads the clock. What is written, opened and closed through it is done in
    /// the next turn; a listener that is [removed](Context::remove) closes at once, and [`remove`](Self::remove) drops at
    /// once, too.
    pub fn context(&mut self) -> &mut Context {
        let now = self.context.clock();
        self.end_turn(now);
        self.context.now = now;
        &mut self.context
    }
}

/// The poll under the loop, for an outer loop to watch: it is readable while there is something to do. What a turn does
/// not take out of it, [`next_timeout`](EventLoop::next_timeout) tells by zero, so that an edge-triggered outer loop
/// does not stall. An outer loop that wants to own what it watches gets `as_fd().try_clone_to_owned()`.
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
/// If the loop runs in a simulation (feature `testing`): there is no descriptor.
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
