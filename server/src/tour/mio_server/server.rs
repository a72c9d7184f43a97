//! One turn of a server on mio: poll, events, unfinished work.
//!
//! It has what all servers need. What the cases are about is in the rules.

use std::collections::BTreeSet;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use halloo::CloseReason;
use halloo::observe::{Callback, EntryKind};
use mio::net::TcpListener;
use mio::{Events, Waker};
use nix::errno::Errno;

use crate::tour::mio_server::connections::{Connection, Connections, InputState, Key};
use crate::tour::mio_server::datagrams::NotedUdpSocket;
use crate::tour::mio_server::noted_mio::{LISTENER, NotedListener, NotedPoll, UDP_SOCKET, WAKER};
use crate::tour::mio_server::notes::{Noted, Notes};
use crate::tour::mio_server::rules::{Flow, Rules};

/// The most bytes of one read.
pub(crate) const READ_BYTES: usize = 512;

/// The request that takes long, and how long.
pub(crate) const SLOW_REQUEST: &[u8] = b"work 300\n";
pub(crate) const SLOW_REQUEST_TIME: Duration = Duration::from_millis(300);

/// How long a listener without a free descriptor waits.
const LISTENER_PAUSE: Duration = Duration::from_millis(10);

/// A server on mio.
pub(crate) struct Server {
    pub(crate) connections: Connections,
    pub(crate) udp: NotedUdpSocket,
    pub(crate) notes: Notes,
    poll: NotedPoll,
    listener: NotedListener,
    rules: &'static dyn Rules,
    /// Connections with input that was not read yet, because the other clients came first.
    deferred: BTreeSet<Key>,
    has_deferred_datagrams: bool,
    /// When to accept again without an event.
    accept_at: Option<Instant>,
    results: Results,
    finished: Receiver<(Key, &'static [u8])>,
    stop: Arc<AtomicBool>,
}

/// Where other threads send the results of slow requests.
#[derive(Clone)]
pub(crate) struct Results {
    sender: Sender<(Key, &'static [u8])>,
    waker: Arc<Waker>,
}

impl Results {
    pub(crate) fn send(&self, key: Key, reply: &'static [u8]) {
        // The server may have ended: then there is no client for the reply.
        let _ = self.sender.send((key, reply));
        let _ = self.waker.wake();
    }
}

impl Server {
    /// Creates a server with these rules.
    pub(crate) fn new(
        listener: std::net::TcpListener,
        udp: UdpSocket,
        rules: &'static dyn Rules,
        notes: Notes,
    ) -> io::Result<Self> {
        let poll = NotedPoll::new(notes.clone())?;
        listener.set_nonblocking(true)?;
        let listener = NotedListener::new(TcpListener::from_std(listener), &poll, notes.clone())?;
        let udp = NotedUdpSocket::new(udp, &poll, notes.clone())?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, finished) = channel();
        Ok(Self {
            connections: Connections::new(rules),
            udp,
            notes,
            poll,
            listener,
            rules,
            deferred: BTreeSet::new(),
            has_deferred_datagrams: false,
            accept_at: None,
            results: Results { sender, waker },
            finished,
            stop: Arc::default(),
        })
    }

    /// Ends the server, from another thread.
    pub(crate) fn stopper(&self) -> impl FnOnce() + Send + use<> {
        let (stop, waker) = (Arc::clone(&self.stop), Arc::clone(&self.results.waker));
        move || {
            stop.store(true, Ordering::Relaxed);
            let _ = waker.wake();
        }
    }

    /// Serves until it is stopped. An error ends the server.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !self.stop.load(Ordering::Relaxed) {
            self.turn(&mut events)?;
        }
        Ok(())
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        self.poll.poll(events, self.timeout())?;
        // What the last turns left comes after the events. What is left from here on waits for the next turn.
        let deferred = std::mem::take(&mut self.deferred);
        let has_deferred_datagrams = std::mem::take(&mut self.has_deferred_datagrams);
        let accepts_again = self.accept_at.take_if(|at| *at <= Instant::now()).is_some();
        for event in &*events {
            match event.token() {
                LISTENER => self.rules.accept_clients(self)?,
                UDP_SOCKET => self.rules.receive_datagrams(self),
                WAKER => self.take_results(),
                token => self.rules.on_event(self, token.into(), event)?,
            }
        }
        // An event has served some of them already. Those that it deferred again have had their part of this turn.
        if has_deferred_datagrams && !self.has_deferred_datagrams {
            self.rules.receive_datagrams(self);
        }
        for key in deferred {
            if !self.deferred.contains(&key) {
                self.serve(key)?;
            }
        }
        if accepts_again && self.accept_at.is_none() {
            self.rules.accept_clients(self)?;
        }
        self.notes.add(Noted::LOOP.entry(EntryKind::TurnEnd).numbers([1, 0]));
        Ok(())
    }

    /// How long the poll may wait.
    fn timeout(&self) -> Option<Duration> {
        if self.has_deferred_datagrams || !self.deferred.is_empty() {
            return Some(Duration::ZERO);
        }
        self.accept_at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Accepts one client. Without a free descriptor, `failed` decides what comes next.
    pub(crate) fn accept(&mut self, failed: fn(&mut Self)) -> io::Result<Flow> {
        match self.listener.accept() {
            Ok((stream, peer)) => {
                let opened = self.connections.open(stream, peer, &self.poll, &self.notes);
                // Input may be there already. An error is the end of this client.
                opened.map_or(Ok(()), |key| self.serve(key))?;
                Ok(Flow::More)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flow::Stop),
            Err(error) if is_lack_of_descriptors(&error) => {
                failed(self);
                Ok(Flow::Stop)
            }
            Err(error) if is_of_client(&error) => Ok(Flow::More),
            // The same error may come again at once.
            Err(_) => {
                self.pause_listener();
                Ok(Flow::Stop)
            }
        }
    }

    /// Accepts again in the next turn, after all that are ready then.
    pub(crate) fn defer_listener(&mut self) {
        self.notes.add(Noted::LISTENER.entry(EntryKind::Deferred));
        self.accept_at = Some(Instant::now());
    }

    /// Tries to accept again a little later: the poll does not report the waiting clients a second time.
    pub(crate) fn pause_listener(&mut self) {
        let pause = u64::try_from(LISTENER_PAUSE.as_nanos()).unwrap_or_default();
        self.notes.add(Noted::LISTENER.entry(EntryKind::Backoff).numbers([pause, 0]));
        self.accept_at = Some(Instant::now() + LISTENER_PAUSE);
    }

    /// Receives one datagram, and replies.
    pub(crate) fn receive_datagram(&mut self) -> Flow {
        match self.udp.receive() {
            Ok(datagram) => {
                self.rules.reply(self, &datagram);
                Flow::More
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Flow::Stop,
            // Errors of earlier datagrams, such as ECONNREFUSED (udp(7)): the next datagram is not affected.
            Err(_) => Flow::More,
        }
    }

    pub(crate) fn defer_datagrams(&mut self) {
        self.notes.add(Noted::UDP_SOCKET.entry(EntryKind::Deferred));
        self.has_deferred_datagrams = true;
    }

    /// Serves a connection in the next turn, after all that are ready then.
    pub(crate) fn defer(&mut self, key: Key) {
        self.notes.add(key.noted().entry(EntryKind::Deferred));
        self.deferred.insert(key);
    }

    /// Sends what waits, and reads what has arrived.
    pub(crate) fn serve(&mut self, key: Key) -> io::Result<()> {
        self.flush(key);
        self.rules.read_input(self, key)
    }

    /// Sends what waits. After the last reply a connection whose client has sent its FIN is closed.
    pub(crate) fn flush(&mut self, key: Key) {
        let Some(connection) = self.connections.find(key) else { return };
        if self.rules.write_output(connection).is_err() {
            self.close(key, CloseReason::Reset);
        } else if connection.input == InputState::Ended && connection.output.is_empty() {
            connection.stream.shutdown_write();
            self.close(key, CloseReason::Eof);
        }
    }

    /// Closes a connection, and drops its client's replies.
    pub(crate) fn close(&mut self, key: Key, reason: CloseReason) {
        self.connections.close(key, reason, &self.poll);
    }

    /// Replies to all input up to a slow request, whose reply takes its time. What follows it waits.
    pub(crate) fn answer(&mut self, key: Key) {
        while self.connections.find(key).is_some_and(Connection::next_slow_request) {
            self.rules.slow_request(self, key);
        }
    }

    /// Where a thread sends the result of a slow request.
    pub(crate) fn results(&self) -> Results {
        self.results.clone()
    }

    /// Sends the results of slow requests to their clients.
    fn take_results(&mut self) {
        while let Ok((key, reply)) = self.finished.try_recv() {
            self.notes.add(Noted::LOOP.entry(EntryKind::Message).numbers([1, reply.len() as u64]));
            let Some(connection) = self.connections.find(key) else { continue };
            let notes = self.notes.clone();
            notes.callback(Callback::Notify, key.noted(), reply.len(), || {
                connection.output.extend_from_slice(reply);
                connection.input = InputState::Open;
            });
            // What came after the request.
            self.answer(key);
            self.defer(key);
        }
    }
}

/// Whether no descriptor is free (EMFILE, ENFILE), or no memory for one.
fn is_lack_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

/// Whether a client has gone before it was accepted, or its network (accept(2), "Error handling", and `EPERM`).
fn is_of_client(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    #[cfg(target_os = "linux")]
    if errno == Some(Errno::ENONET) {
        return true;
    }
    matches!(
        errno,
        Some(
            Errno::EINTR
                | Errno::ECONNABORTED
                | Errno::EPERM
                | Errno::EPROTO
                | Errno::ENOPROTOOPT
                | Errno::EOPNOTSUPP
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::ETIMEDOUT
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_accept_is_of_a_client_or_lasts() {
        for errno in [Errno::ECONNABORTED, Errno::EPERM, Errno::EPROTO, Errno::EHOSTUNREACH] {
            assert!(is_of_client(&errno.into()), "{errno}");
        }
        for errno in [Errno::EINVAL, Errno::EBADF, Errno::ENOTSOCK, Errno::EMFILE] {
            assert!(!is_of_client(&errno.into()), "{errno}");
        }
    }
}
