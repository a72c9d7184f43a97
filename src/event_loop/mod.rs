//! The event loop as embedders see it.

pub(crate) mod backoff;
pub(crate) mod callbacks;
pub(crate) mod connections;
pub(crate) mod core;
pub(crate) mod listeners;
pub(crate) mod ready_queue;
pub(crate) mod stream_io;
pub(crate) mod timer_callbacks;
pub(crate) mod udp_sockets;

use std::net::SocketAddr;
use std::time::Duration;

use crate::context::Context;
use crate::context::erased_handler::HandlerWithSessions;
use crate::context::handle::Handle;
use crate::context::handler::{DatagramHandler, StreamHandler};
use crate::context::loop_state::DrainReport;
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::core::Core;
use crate::ids::{HandlerId, ListenerId, SourceId, TimerId, UdpSocketId};
use crate::net::Network;
use crate::net::system::System;
use crate::options::bind::Bind;
use crate::options::listen::Listen;
use crate::stats::Stats;

#[cfg(any(test, feature = "testing"))]
use crate::net::simulated::Simulated;
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
pub struct EventLoop<'h>(Inner<'h>);

/// The network that a loop runs on: one branch for each call of the embedder's, none for an event.
enum Inner<'h> {
    System(Core<'h, System>),
    #[cfg(any(test, feature = "testing"))]
    Simulated(Core<'h, Simulated>),
}

/// The same call, whatever the network.
macro_rules! each {
    ($inner:expr, $core:ident => $call:expr) => {
        match $inner {
            Inner::System($core) => $call,
            #[cfg(any(test, feature = "testing"))]
            Inner::Simulated($core) => $call,
        }
    };
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
        Ok(Self(Inner::System(Core::new(system))))
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn simulated(network: Simulated) -> Self {
        Self(Inner::Simulated(Core::new(network)))
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Core<'h, Simulated> {
        match &self.0 {
            Inner::Simulated(core) => core,
            Inner::System(_) => panic!("this loop runs on the kernel"),
        }
    }

    /// Listens for clients, and has them served by a handler of their own.
    ///
    /// # Errors
    /// [`ErrorKind::Listen`] if the address cannot be listened on, [`ErrorKind::InvalidOption`] if an option cannot
    /// work.
    pub fn listen(&mut self, at: impl Into<Listen>, handler: impl StreamHandler + 'h) -> Result<ListenerId> {
        each!(&mut self.0, core => core.listen(&at.into(), Box::new(HandlerWithSessions::new(handler))))
    }

    /// Takes a handler in that several listeners are to share, or outbound connections.
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
        each!(&mut self.0, core => core.attach(Box::new(HandlerWithSessions::new(handler))))
    }

    /// Listens for clients, and has them served by a handler that is [attached](Self::attach) already.
    ///
    /// # Errors
    /// As [`listen`](Self::listen), and [`ErrorKind::UnknownId`] if the handler is another loop's.
    pub fn listen_for(&mut self, at: impl Into<Listen>, served_by: HandlerId) -> Result<ListenerId> {
        each!(&mut self.0, core => core.listen_for(&at.into(), served_by))
    }

    /// Binds a UDP socket, and has its datagrams handled.
    ///
    /// # Errors
    /// [`ErrorKind::Bind`] if the address cannot be bound, [`ErrorKind::InvalidOption`] if an option cannot work.
    pub fn bind(&mut self, at: impl Into<Bind>, handler: impl DatagramHandler + 'h) -> Result<UdpSocketId> {
        each!(&mut self.0, core => core.bind(&at.into(), Box::new(handler)))
    }

    /// Calls a closure after `first`, and then again after each span it returns; `None` ends it.
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
        each!(&mut self.0, core => core.every(first, Box::new(callback)))
    }

    /// The address that a listener or UDP socket is bound to, the port of its own choosing included.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownId`] if it was removed, or never had one: a timer, a listener at a unix socket.
    pub fn local_addr(&self, id: impl Into<SourceId>) -> Result<SocketAddr> {
        each!(&self.0, core => core.local_addr(id.into()))
    }

    /// Catches the panics of handlers: the connection concerned is reset and its session dropped, the panic is counted
    /// in [`Stats::panics`](crate::Stats::panics) and logged, and the loop goes on. Default: no, a panic unwinds out of
    /// [`turn`](Self::turn) and [`run`](Self::run), which can be called again.
    ///
    /// ```
    /// let mut events = halloo::EventLoop::new()?;
    /// events.catch_panics(true);
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn catch_panics(&mut self, catch: bool) {
        each!(&mut self.0, core => core.context.catches_panics = catch);
    }

    /// A way into the loop for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        each!(&self.0, core => Handle::new(&core.mailbox))
    }

    /// The loop's counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        each!(&self.0, core => core.context.stats())
    }

    /// Turns until the loop is stopped. With nothing to watch, it waits for a [`Handle`].
    ///
    /// # Errors
    /// [`ErrorKind::Poll`] if the poll itself fails; nothing that a client does is an error of the loop.
    ///
    /// # Panics
    /// If a handler does. The loop can be run again: it aborts the connection concerned and goes on with the next.
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
        each!(&mut self.0, core => core.turn(timeout)).map_err(|error| Error::from_io(ErrorKind::Poll, None, error))
    }

    /// How long the next turn may be put off: zero while work is left over, `None` if nothing but an event can bring
    /// any.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        each!(&self.0, core => core.next_timeout())
    }

    /// The loop's context, between two turns. Reads the clock; what is changed through it is done in the next turn.
    pub fn context(&mut self) -> &mut Context {
        each!(&mut self.0, core => {
            core.context.set_now(core.network.now());
            &mut core.context
        })
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
        match &self.0 {
            Inner::System(core) => core.network.as_fd(),
            #[cfg(any(test, feature = "testing"))]
            Inner::Simulated(_) => panic!("a simulated loop has no descriptor"),
        }
    }
}

impl std::fmt::Debug for EventLoop<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLoop").field("context", each!(&self.0, core => &core.context)).finish_non_exhaustive()
    }
}
