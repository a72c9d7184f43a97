//! What a callback may ask of the whole loop, and tell it.
//!
//! Reading answers at once; everything else is a mark in the tables that the stations carry out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::connect::Connect;
use crate::entries::{Drain, Lifecycle};
use crate::lent::Connection;
use crate::phase::{Input, Phase};
use crate::stats::Stats;
use crate::tables::Context;
use crate::timers::Task;
use crate::token::{ConnectionId, HandlerId, SocketId, SourceId, TimerId, Watched};

impl Context {
    /// The time of this turn: read once, the same for all its callbacks.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.began + self.now.as_duration()
    }

    /// The loop's counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Removes a listener, a UDP socket or a timer; connections live on. Returns whether it was there.
    pub fn remove(&mut self, id: impl Into<SourceId>) -> bool {
        let SourceId(watched) = id.into();
        let was_there = match watched {
            Watched::Listener(place) => self.origin(place).is_some_and(|origin| std::mem::take(&mut origin.listening)),
            Watched::Socket(place) => self.socket(place).is_some_and(|socket| std::mem::take(&mut socket.open)),
            Watched::Timer(place) => self.timers.remove(place),
        };
        if was_there {
            self.removed.push(watched);
        }
        was_there
    }

    /// Another connection, or this one: `None` once it is closing or gone. Ids are never reused.
    ///
    /// What is written to it leaves at the end of this turn.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Connection<'_>> {
        let state = self.states.get(id.slot as usize)?;
        // planted: note-reaches-the-next-in-the-slot
        let is_there = state.serial == id.serial && state.is_open();
        is_there.then(|| Connection::lend(self, id.slot))
    }

    /// Visits every open connection of a handler, in no particular order.
    ///
    /// ```
    /// use halloo::{EventLoop, stream};
    ///
    /// let mut events = EventLoop::new()?;
    /// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    /// events.listen(address, stream(|connection, input| {
    ///     let everybody = connection.handler();
    ///     connection.context().for_each(everybody, |other| { let _ = other.send(input); });
    ///     input.len()
    /// }))?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn for_each(&mut self, served_by: HandlerId, mut visit: impl FnMut(&mut Connection<'_>)) {
        for slot in 0..self.slots_end() {
            if let Some(state) = self.states.get(slot as usize)
                && state.phase == Phase::Open
                && self.origins[state.origin as usize].handler == served_by.key
            {
                visit(&mut Connection::lend(self, slot));
            }
        }
    }

    /// Opens an outbound connection, served by a handler as its clients are: [`on_open`](crate::StreamHandler::on_open)
    /// tells when it is there, [`on_connect_failed`](crate::StreamHandler::on_connect_failed) that it never will be; one
    /// of the two comes, and not before this call has returned. Until then what is [written](Connection::write) to it
    /// waits, [`close`](Connection::close) is for when it is open, and [`abort`](Connection::abort) gives it up.
    ///
    /// ```
    /// use halloo::{Connection, EventLoop, StreamHandler};
    /// use std::io::{Read, Write};
    ///
    /// /// Asks one question and keeps the answer.
    /// struct Ask { answer: String }
    ///
    /// impl StreamHandler for Ask {
    ///     type Session = ();
    ///     fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
    ///         connection.send(b"Hello, TCP Server!").ok()
    ///     }
    ///     fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
    ///         self.answer = String::from_utf8_lossy(input).into_owned();
    ///         connection.context().stop();
    ///         input.len()
    ///     }
    ///     fn on_connect_failed(&mut self, _: &mut halloo::Context, _: halloo::ConnectionId, error: std::io::Error) {
    ///         panic!("{error}");
    ///     }
    /// }
    ///
    /// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let address = server.local_addr()?;
    /// std::thread::spawn(move || server.accept().unwrap().0.write_all(b"Hello, TCP Client!"));
    ///
    /// let mut events = EventLoop::new()?;
    /// let handler = events.attach(Ask { answer: String::new() });
    /// events.context().connect(address, handler);
    /// events.run()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// Past the end of a drain, when what is left is being cut, and on a loop that has ended, nothing is opened any more:
    /// the id names nobody, and no callback comes.
    ///
    /// # Panics
    /// If the handler is another loop's.
    #[track_caller]
    pub fn connect(&mut self, to: impl Into<Connect>, served_by: HandlerId) -> ConnectionId {
        let handler = self.own_handler(served_by);
        if self.lifecycle.is_ending(self.now) {
            return ConnectionId { serial: self.next_serial(), slot: u32::MAX };
        }
        self.add_outbound(handler, to.into())
    }

    /// Sends a datagram of the embedder's own initiative: true if it is staged to leave in this turn, or the next if no
    /// turn is under way. No rate holds for it. Refused are port 0, a socket that is gone, and more than 1,024 datagrams
    /// or 1 MiB of them at once.
    ///
    /// ```
    /// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let mut events = halloo::EventLoop::new()?;
    /// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    /// let socket = events.bind(address, halloo::datagrams(|_, _| {}))?;
    /// assert!(events.context().send_to(socket, b"Hello!", peer.local_addr()?));
    /// let _ = events.turn(Some(std::time::Duration::ZERO))?;
    /// assert_eq!(peer.recv(&mut [0; 16])?, 6);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn send_to(&mut self, socket: SocketId, payload: &[u8], to: SocketAddr) -> bool {
        let SocketId(place) = socket;
        let is_open = self.socket(place).is_some_and(|socket| socket.open);
        is_open && to.port() != 0 && self.staged.push(place.slot, to, None, payload)
    }

    /// Calls [`on_notify`](crate::StreamHandler::on_notify) of a connection with a value: how one connection tells
    /// another's session something. The call comes after the running callback has returned, in this turn or the next,
    /// and notes arrive in the order they were given. A connection that is closing or gone by then hears nothing; one
    /// that is not open yet hears it when it is.
    ///
    /// ```
    /// use halloo::{CloseReason, Connection, ConnectionId, EventLoop, StreamHandler};
    ///
    /// /// Whoever sends a byte has the client before it told.
    /// #[derive(Default)]
    /// struct Relay { last: Option<ConnectionId> }
    ///
    /// impl StreamHandler for Relay {
    ///     type Session = u64;
    ///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<u64> { Some(0) }
    ///     fn on_data(&mut self, connection: &mut Connection<'_>, _: &mut u64, input: &[u8]) -> usize {
    ///         if let Some(other) = self.last.replace(connection.id()) {
    ///             connection.context().notify(other, input.len() as u64);
    ///         }
    ///         input.len()
    ///     }
    ///     fn on_notify(&mut self, _: &mut Connection<'_>, told: &mut u64, value: u64) { *told += value; }
    /// }
    ///
    /// let mut events = EventLoop::new()?;
    /// events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), Relay::default())?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn notify(&mut self, id: ConnectionId, value: u64) {
        self.notes.push_back((id, value));
    }

    /// Calls [`on_timer`](crate::StreamHandler::on_timer) of a handler with a value, once, after this time: never
    /// early, and never in this turn. What the value means is the handler's to say.
    ///
    /// ```
    /// use std::time::Duration;
    /// use halloo::{Connection, Context, EventLoop, StreamHandler};
    ///
    /// struct Stopping;
    ///
    /// impl StreamHandler for Stopping {
    ///     type Session = ();
    ///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> { Some(()) }
    ///     fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize { input.len() }
    ///     fn on_timer(&mut self, context: &mut Context, value: u64) {
    ///         assert_eq!(value, 7);
    ///         context.stop();
    ///     }
    /// }
    ///
    /// let mut events = EventLoop::new()?;
    /// let handler = events.attach(Stopping);
    /// events.context().schedule(handler, Duration::from_millis(1), 7);
    /// events.run()?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the handler is another loop's.
    #[track_caller]
    pub fn schedule(&mut self, served_by: HandlerId, after: Duration, value: u64) -> TimerId {
        let handler = self.own_handler(served_by);
        let (serial, at) = (self.next_serial(), self.later(after));
        TimerId(self.timers.add(serial, at, Task::Tell { handler, value }))
    }

    /// Ends the loop at once: a [`drain`](Self::drain) without grace, and final.
    pub fn stop(&mut self) {
        self.drain(Duration::ZERO);
    }

    /// Ends the loop in order: listeners accept what is in their backlog and close, every connection hears
    /// [`on_drain`](crate::StreamHandler::on_drain), and what is still open after `grace` is reset. Clients past
    /// `connections_max` are reset with the backlog.
    ///
    /// A second call can only shorten the first.
    pub fn drain(&mut self, grace: Duration) {
        let wanted = self.now.after(grace);
        match &mut self.lifecycle {
            Lifecycle::Running => {
                let closed_before = self.stats.closed_in_all();
                self.lifecycle = Lifecycle::Asked(Drain { since: self.now, until: wanted, closed_before });
            }
            Lifecycle::Asked(drain) | Lifecycle::Draining(drain) => drain.until = wanted.min(drain.until),
            Lifecycle::Stopped(_) => {}
        }
    }

    /// Has every open connection hear that the loop drains.
    pub(crate) fn begin_drain(&mut self) {
        for slot in 0..self.slots_end() {
            if let Some(state) = self.states.get_mut(slot as usize).filter(|state| state.phase == Phase::Open) {
                state.owes_drain = true;
                // What has come since the last poll is to be answered, too.
                if state.input == Input::Waiting {
                    state.input = Input::Ready;
                }
                self.defer(slot);
            }
        }
    }
}
