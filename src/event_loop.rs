//! The event loop as embedders see it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::dispatch::{Core, Round};
use crate::entries::{DrainReport, Socket};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::handler::{DatagramHandler, Served, StreamHandler, WithSessions};
use crate::network::Network;
use crate::options::{Bind, Listen};
use crate::sources::Rates;
use crate::stats::Stats;
use crate::system::System;
use crate::tables::Context;
use crate::token::{HandlerId, ListenerId, Place, SocketId, SourceId, Token, Watched, slot_of};

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
    core: Core<'h, System>,
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
        let system = System::new().map_err(|error| Error::system(ErrorKind::Setup, None, error))?;
        Ok(Self { core: Core::new(system) })
    }

    /// Listens for TCP clients, and has them served by a handler of their own.
    ///
    /// # Errors
    /// [`ErrorKind::Listen`] if the address cannot be listened on, [`ErrorKind::Option`] if an option cannot work.
    pub fn listen(&mut self, at: impl Into<Listen>, handler: impl StreamHandler + 'h) -> Result<ListenerId> {
        let (at, handler) = (at.into(), WithSessions::new(handler));
        let reserved = self.open_listener(&at, handler.input_bytes_min())?;
        let handler = self.attach_served(Box::new(handler));
        Ok(self.enter_listener(reserved, &at, handler))
    }

    /// Takes a handler in that several listeners are to share.
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
        HandlerId(self.attach_served(Box::new(WithSessions::new(handler))))
    }

    /// Listens for TCP clients, and has them served by a handler that is [attached](Self::attach) already.
    ///
    /// # Errors
    /// As [`listen`](Self::listen), and [`ErrorKind::Unknown`] if the handler is another loop's.
    pub fn listen_for(&mut self, at: impl Into<Listen>, served_by: HandlerId) -> Result<ListenerId> {
        let at = at.into();
        let Some(handler) = self.core.connections.handler(served_by.0) else {
            return Err(Error::said(ErrorKind::Unknown, Some(at.address), "this loop has no such handler"));
        };
        let reserved = self.open_listener(&at, handler.input_bytes_min())?;
        Ok(self.enter_listener(reserved, &at, served_by.0))
    }

    /// Binds a UDP socket, and has its datagrams handled.
    ///
    /// # Errors
    /// [`ErrorKind::Bind`] if the address cannot be bound, [`ErrorKind::Option`] if an option cannot work.
    pub fn bind(&mut self, at: impl Into<Bind>, handler: impl DatagramHandler + 'h) -> Result<SocketId> {
        let at = at.into();
        at.check()?;
        let Core { network, tables, datagrams, .. } = &mut self.core;
        let place = Place { serial: tables.next_serial(), slot: slot_of(tables.sockets.vacant_key()) };
        let (socket, local) = network
            .bind(&at, Token::socket(place))
            .map_err(|error| Error::system(ErrorKind::Bind, Some(at.address), error))?;
        let limit = at.replies_per_source_per_second_max;
        let rates = limit.map(|limit| Rates::new(limit.get(), [network.entropy(), network.entropy()]));
        let Bind { limit_loopback, .. } = at;
        tables.sockets.insert(Socket { serial: place.serial, local, rates, limit_loopback, open: true });
        datagrams.add(place, socket, local, Box::new(handler));
        Ok(SocketId(place))
    }

    /// The address that a listener or UDP socket is bound to, the port of its own choosing included.
    ///
    /// # Errors
    /// [`ErrorKind::Unknown`] if it was removed.
    pub fn local_addr(&self, id: impl Into<SourceId>) -> Result<SocketAddr> {
        let SourceId(watched) = id.into();
        let tables = &self.core.tables;
        let found = match watched {
            Watched::Listener(Place { serial, slot }) => {
                let origin = tables.origins.get(slot as usize);
                origin.filter(|origin| origin.serial == serial && origin.listening).map(|origin| origin.local)
            }
            Watched::Socket(Place { serial, slot }) => {
                let socket = tables.sockets.get(slot as usize);
                socket.filter(|socket| socket.serial == serial && socket.open).map(|socket| socket.local)
            }
        };
        found.ok_or_else(|| Error::said(ErrorKind::Unknown, None, "there is no such listener or socket any more"))
    }

    /// A way into the loop for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::to(&self.core.mailbox)
    }

    /// The loop's counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.core.tables.stats()
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
        match self.core.turn(timeout) {
            Ok(Round::Idle) => Ok(Turn::Idle),
            Ok(Round::Progress) => Ok(Turn::Progress),
            Ok(Round::Stopped(report)) => Ok(Turn::Stopped(report)),
            Err(error) => Err(Error::system(ErrorKind::Poll, None, error)),
        }
    }

    /// How long the next turn may be put off: zero while work is left over, `None` if nothing but an event can bring
    /// any.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        self.core.next_timeout(self.core.tables.moment(self.core.network.now()))
    }

    /// The loop's tables, between two turns. Reads the clock; what is marked through them is done in the next turn.
    pub fn context(&mut self) -> &mut Context {
        let now = self.core.network.now();
        self.core.tables.read_clock(now);
        &mut self.core.tables
    }

    fn attach_served(&mut self, handler: Box<dyn Served + 'h>) -> u32 {
        self.core.tables.served.push(0);
        self.core.connections.attach(handler)
    }

    fn open_listener(&mut self, at: &Listen, input_bytes_min: usize) -> Result<Reserved> {
        at.check(input_bytes_min)?;
        let Core { network, tables, .. } = &mut self.core;
        let place = Place { serial: tables.next_serial(), slot: slot_of(tables.origins.vacant_key()) };
        let (listener, local) = network
            .listen(at, Token::listener(place))
            .map_err(|error| Error::system(ErrorKind::Listen, Some(at.address), error))?;
        Ok(Reserved { place, listener, local })
    }

    fn enter_listener(&mut self, reserved: Reserved, at: &Listen, handler: u32) -> ListenerId {
        let Reserved { place, listener, local } = reserved;
        let most = self.core.network.connections_max();
        self.core.tables.add_origin(place, handler, at, local, most);
        self.core.listeners.add(place, listener, local);
        ListenerId(place)
    }
}

/// A listener that is open and not yet in the tables.
struct Reserved {
    place: Place,
    listener: <System as Network>::Listener,
    local: SocketAddr,
}

impl std::fmt::Debug for EventLoop<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLoop").field("context", &self.core.tables).finish_non_exhaustive()
    }
}
