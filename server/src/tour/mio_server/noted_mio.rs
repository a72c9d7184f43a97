//! mio's poll and sockets, which note each call and its result.
//!
//! They change nothing: arguments, results and errors are those of mio.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use halloo::observe::{Entry, EntryKind};
use mio::event::{Event, Source};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::notes::{Noted, Notes};

pub(crate) const LISTENER: Token = Token(usize::MAX);
pub(crate) const UDP_SOCKET: Token = Token(usize::MAX - 1);
pub(crate) const WAKER: Token = Token(usize::MAX - 2);

/// Adds the error number of a failed call.
pub(crate) fn with_result<T>(entry: Entry, result: &io::Result<T>) -> Entry {
    match result {
        Ok(_) => entry,
        Err(error) => entry.error(error),
    }
}

/// A poll that reports the readiness of sources once, as edge-triggered epoll(7) does.
pub(crate) struct NotedPoll {
    poll: Poll,
    notes: Notes,
}

impl NotedPoll {
    pub(crate) fn new(notes: Notes) -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, notes })
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Adds a source.
    pub(crate) fn register(
        &self,
        source: &mut impl Source,
        token: Token,
        interest: Interest,
        noted: Noted,
    ) -> io::Result<()> {
        let result = self.poll.registry().register(source, token, interest);
        self.notes.add(with_result(noted.entry(EntryKind::Registered), &result));
        result
    }

    pub(crate) fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let wait = timeout.map_or(u64::MAX, |wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        self.notes.add(Noted::LOOP.entry(EntryKind::PollBegin).numbers([wait, 0]));
        let result = self.poll.poll(events, timeout);
        let count = if result.is_ok() { events.iter().count() as u64 } else { 0 };
        self.notes.add(with_result(Noted::LOOP.entry(EntryKind::PollEnd).numbers([count, 0]), &result));
        for event in events.iter().filter(|_| result.is_ok()) {
            self.notes.add(readiness(event));
        }
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            result => result,
        }
    }
}

/// The entry of an event, with its readiness as a sum.
fn readiness(event: &Event) -> Entry {
    let noted = match event.token() {
        LISTENER => Noted::LISTENER,
        UDP_SOCKET => Noted::UDP_SOCKET,
        WAKER => Noted::LOOP,
        token => Key::from(token).noted(),
    };
    let parts = [
        (event.is_readable(), 1),
        (event.is_writable(), 2),
        (event.is_read_closed(), 4),
        (event.is_error(), 8),
        (event.is_write_closed(), 16),
    ];
    let sum = parts.iter().filter(|(is_set, _)| *is_set).map(|(_, value)| value).sum();
    noted.entry(EntryKind::Readiness).numbers([sum, noted.generation & 0xffff_ffff])
}

/// A listener whose accepts are noted.
pub(crate) struct NotedListener {
    listener: TcpListener,
    notes: Notes,
}

impl NotedListener {
    /// Registers a listener.
    pub(crate) fn new(mut listener: TcpListener, poll: &NotedPoll, notes: Notes) -> io::Result<Self> {
        let opened = Noted::LISTENER.entry(EntryKind::Listening).numbers([descriptor(&listener), 0]);
        notes.add_with_address(opened, listener.local_addr()?);
        poll.register(&mut listener, LISTENER, Interest::READABLE, Noted::LISTENER)?;
        Ok(Self { listener, notes })
    }

    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let result = self.listener.accept();
        let new = result.as_ref().map_or(0, |(stream, _)| descriptor(stream));
        self.notes.add(with_result(Noted::LISTENER.entry(EntryKind::Accept).numbers([new, 0]), &result));
        result
    }
}

/// A connection whose reads and writes are noted.
pub(crate) struct NotedStream {
    stream: TcpStream,
    noted: Noted,
    notes: Notes,
}

impl NotedStream {
    /// Registers a stream that was accepted.
    pub(crate) fn new(
        mut stream: TcpStream,
        peer: SocketAddr,
        key: Key,
        poll: &NotedPoll,
        notes: Notes,
    ) -> io::Result<Self> {
        let opened = key.noted().entry(EntryKind::Opened).numbers([descriptor(&stream), 0]);
        notes.add_with_address(opened, peer);
        poll.register(&mut stream, key.into(), Interest::READABLE | Interest::WRITABLE, key.noted())?;
        Ok(Self { stream, noted: key.noted(), notes })
    }

    /// Sends a FIN after the output.
    pub(crate) fn shutdown_write(&self) {
        let result = self.stream.shutdown(Shutdown::Write);
        self.notes.add(with_result(self.noted.entry(EntryKind::ShutdownWrite), &result));
    }

    /// Closes the connection: the poll watches it no longer, and its slot is free.
    pub(crate) fn close(mut self, registry: &Registry, reason: halloo::CloseReason) {
        let result = registry.deregister(&mut self.stream);
        self.notes.add(with_result(self.noted.entry(EntryKind::Deregistered), &result));
        let index = halloo::observe::CLOSE_REASONS.iter().position(|one| *one == reason).unwrap_or_default();
        self.notes.add(self.noted.entry(EntryKind::Closed).numbers([index as u64, 0]));
        self.notes.add(self.noted.entry(EntryKind::Freed));
    }
}

impl Read for NotedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.stream.read(buffer);
        let bytes = result.as_ref().map_or(0, |bytes| *bytes as u64);
        let entry = self.noted.entry(EntryKind::Read).numbers([bytes, buffer.len() as u64]);
        self.notes.add(with_result(entry, &result));
        result
    }
}

impl Write for NotedStream {
    fn write(&mut self, output: &[u8]) -> io::Result<usize> {
        let result = self.stream.write(output);
        let bytes = result.as_ref().map_or(0, |bytes| *bytes as u64);
        let entry = self.noted.entry(EntryKind::Write).numbers([bytes, output.len() as u64]);
        self.notes.add(with_result(entry, &result));
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The descriptor of a socket, for an entry.
pub(crate) fn descriptor(socket: &impl AsRawFd) -> u64 {
    u64::try_from(socket.as_raw_fd()).unwrap_or_default()
}
