//! A non-blocking client on the loop's own thread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use halloo::EventLoop;
use socket2::{Domain, Socket, Type};
use support::wait::TIMEOUT;

use crate::helpers::loopback::any_port;
use crate::helpers::turn_until::turn_until;

/// A client, or the accepted side of a connection, that never blocks.
pub(crate) struct Client {
    stream: Socket,
    unsent: Vec<u8>,
    /// How much of `unsent` is sent. Both are reset when all of it is.
    sent: usize,
    pub(crate) received: Vec<u8>,
    pub(crate) end: Option<StreamEnd>,
}

/// How the stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamEnd {
    Eof,
    Reset,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&to, TIMEOUT).expect("the listener is there").into())
    }

    /// Connects from the given local address.
    pub(crate) fn connect_from(host: &str, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        socket.bind(&any_port(host).into()).expect("a loopback address");
        socket.connect_timeout(&to.into(), TIMEOUT).expect("the listener is there");
        Self::new(socket)
    }

    /// Connects with a small receive buffer.
    pub(crate) fn connect_narrow(to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect_timeout(&to.into(), TIMEOUT).expect("the listener is there");
        Self::new(socket)
    }

    /// Connects to a unix socket.
    #[cfg(unix)]
    pub(crate) fn connect_unix(to: &std::path::Path) -> Self {
        let stream = std::os::unix::net::UnixStream::connect(to).expect("the listener is there");
        Self::new(std::os::fd::OwnedFd::from(stream).into())
    }

    pub(crate) fn new(stream: Socket) -> Self {
        stream.set_nonblocking(true).expect("an option of every socket");
        // A unix socket does not have this option, and does not need it.
        let _ = stream.set_tcp_nodelay(true);
        Self { stream, unsent: Vec::new(), sent: 0, received: Vec::new(), end: None }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().ok().and_then(|address| address.as_socket()).expect("the socket is connected")
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.stream.peer_addr().ok().and_then(|address| address.as_socket()).expect("the socket is connected")
    }

    /// Sends what the kernel accepts now, and keeps the rest.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        self.flush();
    }

    /// Sends one urgent byte (`MSG_OOB`).
    pub(crate) fn send_urgent(&mut self, byte: u8) {
        assert!(self.has_sent_all(), "an urgent byte would overtake unsent data");
        self.stream.send_out_of_band(&[byte]).expect("there is room for a byte");
    }

    /// Sends unsent bytes. After an error of the peer's close the rest is discarded.
    pub(crate) fn flush(&mut self) {
        while self.sent < self.unsent.len() {
            match self.stream.write(&self.unsent[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.sent = self.unsent.len(),
            }
        }
        self.unsent.clear();
        self.sent = 0;
    }

    /// Discards unsent bytes; returns how many of `count` bytes the kernel has accepted.
    pub(crate) fn discard_unsent(&mut self, count: usize) -> usize {
        let unsent = std::mem::take(&mut self.unsent).len() - std::mem::take(&mut self.sent);
        count - unsent
    }

    pub(crate) fn has_sent_all(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Reads at most `max` bytes without blocking.
    pub(crate) fn read_up_to(&mut self, max: usize) {
        let mut room = vec![0; max];
        match self.stream.read(&mut room) {
            Ok(0) => self.end = Some(StreamEnd::Eof),
            Ok(count) => self.received.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.end = Some(StreamEnd::Reset),
            Err(error) => panic!("a client cannot read: {error}"),
        }
    }

    /// Sends and reads as much as possible without blocking.
    pub(crate) fn transfer(&mut self) {
        self.flush();
        if self.end.is_none() {
            self.read_up_to(64 * 1024);
        }
    }

    /// Sends and reads, and returns whether `count` bytes or the end have come.
    pub(crate) fn has_received(&mut self, count: usize) -> bool {
        self.transfer();
        self.received.len() >= count || self.end.is_some()
    }

    pub(crate) fn has_reached_end(&mut self) -> bool {
        self.transfer();
        self.end.is_some()
    }

    /// Sends FIN. The client still reads.
    pub(crate) fn half_close(&self) {
        assert!(self.has_sent_all(), "the FIN would overtake unsent data");
        self.stream.shutdown(Shutdown::Write).expect("the socket is connected");
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        self.stream.set_linger(Some(Duration::ZERO)).expect("an option of every stream");
    }

    /// Returns everything received, after the end of the stream.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self, events: &mut EventLoop<'_>) -> (&[u8], StreamEnd) {
        turn_until(events, "the end of a client's stream", |_| self.has_reached_end());
        (&self.received, self.end.expect("the stream has ended"))
    }

    /// Sends the question and returns the next `answer_bytes` bytes.
    #[track_caller]
    pub(crate) fn request(&mut self, events: &mut EventLoop<'_>, question: &[u8], answer_bytes: usize) -> &[u8] {
        let target = self.received.len() + answer_bytes;
        self.send(question);
        turn_until(events, "an answer", |_| self.has_received(target));
        &self.received[target - answer_bytes..]
    }
}

/// Sends the same bytes from each client.
pub(crate) fn send_all(clients: &mut [Client], bytes: &[u8]) {
    for client in clients {
        client.send(bytes);
    }
}
