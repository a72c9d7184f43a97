//! What the tests share: a loop that is turned until something holds, and clients that never block.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use halloo::{Connection, DrainReport, EventLoop, Turn};
use socket2::{Domain, Socket, Type};

pub(crate) use crate::probe::{Called, Notes, Probe};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a turn waits while clients of the same thread have something to do.
const SHORT: Duration = Duration::from_millis(2);

pub(crate) const GREETING: &[u8] = b"Hello, TCP Client!";

/// A free port of a host.
pub(crate) fn at(host: &str) -> SocketAddr {
    SocketAddr::new(host.parse().expect("an address"), 0)
}

pub(crate) fn loopback() -> SocketAddr {
    at("127.0.0.1")
}

/// Bytes in which every loss, swap and repetition shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).to_le_bytes()[0]).collect()
}

/// The handler of the greeting server, as a closure would be.
pub(crate) fn greet(connection: &mut Connection<'_>, input: &[u8]) -> usize {
    connection.send(GREETING).expect("the outbox is empty");
    connection.close();
    input.len()
}

/// The handler of an echo server, as a closure would be.
pub(crate) fn echo(connection: &mut Connection<'_>, input: &[u8]) -> usize {
    connection.write(input)
}

// ---- the loop -------------------------------------------------------------------------------------------------------

/// Turns the loop until the condition holds.
#[track_caller]
pub(crate) fn turn_until(events: &mut EventLoop<'_>, what: &str, mut holds: impl FnMut(&mut EventLoop<'_>) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(events) {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}; {}", events.stats());
        let _ = events.turn(Some(SHORT)).expect("the poll works");
    }
}

/// Turns the loop until it has nothing to do; a loop that spins never comes to that.
#[track_caller]
pub(crate) fn turn_until_asleep(events: &mut EventLoop<'_>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rests = events.next_timeout() != Some(Duration::ZERO);
        let turn = events.turn(Some(10 * SHORT)).expect("the poll works");
        if rests && turn == Turn::Idle {
            return;
        }
        assert!(Instant::now() < deadline, "the loop never rests; {}", events.stats());
    }
}

/// Turns the loop until it has stopped.
#[track_caller]
pub(crate) fn turn_until_stopped(events: &mut EventLoop<'_>) -> DrainReport {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Turn::Stopped(report) = events.turn(Some(SHORT)).expect("the poll works") {
            return report;
        }
        assert!(Instant::now() < deadline, "the loop never stops; {}", events.stats());
    }
}

// ---- clients --------------------------------------------------------------------------------------------------------

/// A client, or a server's side, on the loop's own thread: it never blocks.
pub(crate) struct Client {
    stream: Socket,
    unsent: Vec<u8>,
    /// How much of `unsent` has gone all the same; dropped once all of it has.
    gone: usize,
    pub(crate) received: Vec<u8>,
    pub(crate) end: Option<End>,
}

/// What a client's reading ended with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Orderly,
    Reset,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&to, PATIENCE).expect("the listener is there").into())
    }

    /// Connects from an address of its own.
    pub(crate) fn connect_from(host: &str, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        socket.bind(&at(host).into()).expect("a loopback address");
        socket.connect_timeout(&to.into(), PATIENCE).expect("the listener is there");
        Self::new(socket)
    }

    /// Connects with little room for what it has not read.
    pub(crate) fn connect_narrow(to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.connect_timeout(&to.into(), PATIENCE).expect("the listener is there");
        Self::new(socket)
    }

    /// Connects to a unix socket.
    #[cfg(unix)]
    pub(crate) fn connect_unix(to: &std::path::Path) -> Self {
        let stream = std::os::unix::net::UnixStream::connect(to).expect("the listener is there");
        Self::new(std::os::fd::OwnedFd::from(stream).into())
    }

    fn new(stream: Socket) -> Self {
        stream.set_nonblocking(true).expect("an option of every socket");
        // A unix socket knows no such option, and has no such delay.
        let _ = stream.set_tcp_nodelay(true);
        Self { stream, unsent: Vec::new(), gone: 0, received: Vec::new(), end: None }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().ok().and_then(|address| address.as_socket()).expect("it is connected")
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.stream.peer_addr().ok().and_then(|address| address.as_socket()).expect("it is connected")
    }

    /// Sends what the kernel takes at once, and keeps the rest for later.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        self.push();
    }

    /// One urgent byte (`MSG_OOB`).
    pub(crate) fn say_urgently(&mut self, byte: u8) {
        assert!(self.has_sent_all(), "an urgent byte would overtake");
        self.stream.send_out_of_band(&[byte]).expect("there is room for a byte");
    }

    /// Sends on; what a closed peer refuses is forgotten.
    pub(crate) fn push(&mut self) {
        while self.gone < self.unsent.len() {
            match self.stream.write(&self.unsent[self.gone..]) {
                Ok(count) => self.gone += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.gone = self.unsent.len(),
            }
        }
        self.unsent.clear();
        self.gone = 0;
    }

    pub(crate) fn has_sent_all(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Reads at most so many bytes of what is there.
    pub(crate) fn read_up_to(&mut self, most: usize) {
        let mut room = vec![0; most];
        match self.stream.read(&mut room) {
            Ok(0) => self.end = Some(End::Orderly),
            Ok(count) => self.received.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.end = Some(End::Reset),
            Err(error) => panic!("a client cannot read: {error}"),
        }
    }

    /// Sends and reads what can be sent and read.
    pub(crate) fn pump(&mut self) {
        self.push();
        if self.end.is_none() {
            self.read_up_to(64 * 1024);
        }
    }

    /// Pumps, and says whether it has received so much, or the end.
    pub(crate) fn has(&mut self, count: usize) -> bool {
        self.pump();
        self.received.len() >= count || self.end.is_some()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.pump();
        self.end.is_some()
    }

    /// Ends its own side; it still reads.
    pub(crate) fn half_close(&self) {
        assert!(self.has_sent_all(), "the end would overtake");
        self.stream.shutdown(Shutdown::Write).expect("it is connected");
    }

    /// Closes so that the other side sees a reset.
    pub(crate) fn reset(self) {
        self.stream.set_linger(Some(Duration::ZERO)).expect("an option of every stream");
    }

    /// What it has received, once that has ended.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self, events: &mut EventLoop<'_>) -> (&[u8], End) {
        turn_until(events, "the end of a client's stream", |_| self.has_ended());
        (&self.received, self.end.expect("it has ended"))
    }

    /// Asks, and reads as much as that many bytes.
    #[track_caller]
    pub(crate) fn ask(&mut self, events: &mut EventLoop<'_>, question: &[u8], answer_bytes: usize) -> &[u8] {
        let wanted = self.received.len() + answer_bytes;
        self.say(question);
        turn_until(events, "an answer", |_| self.has(wanted));
        &self.received[wanted - answer_bytes..]
    }
}

/// Somebody for the loop to connect to, on its own thread.
pub(crate) struct Server {
    listener: Socket,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::over(TcpListener::bind(loopback()).expect("a free port").into())
    }

    #[cfg(unix)]
    pub(crate) fn unix(at: &std::path::Path) -> Self {
        let listener = std::os::unix::net::UnixListener::bind(at).expect("a path");
        Self::over(std::os::fd::OwnedFd::from(listener).into())
    }

    fn over(listener: Socket) -> Self {
        listener.set_nonblocking(true).expect("an option of every socket");
        Self { listener }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound")
    }

    /// The next that has connected, if there is one.
    pub(crate) fn try_accept(&self) -> Option<Client> {
        self.listener.accept().ok().map(|(stream, _)| Client::new(stream))
    }

    /// Turns the loop until it has connected.
    #[track_caller]
    pub(crate) fn accept(&self, events: &mut EventLoop<'_>) -> Client {
        let mut accepted = None;
        turn_until(events, "a connection", |_| {
            accepted = self.try_accept();
            accepted.is_some()
        });
        accepted.expect("it has come")
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    Server::new().address()
}

/// An address where nobody answers, neither yes nor no: a listener that accepts nobody and whose backlog is full.
pub(crate) struct Deaf {
    listener: Socket,
    /// Those that fill it.
    waiting: Vec<TcpStream>,
}

impl Deaf {
    pub(crate) fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&loopback().into()).expect("a free port");
        listener.listen(0).expect("it is bound");
        let mut deaf = Self { listener, waiting: Vec::new() };
        while let Ok(stream) = TcpStream::connect_timeout(&deaf.address(), Duration::from_millis(100)) {
            deaf.waiting.push(stream);
        }
        deaf
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound")
    }
}

/// Has each say the same.
pub(crate) fn say_all(clients: &mut [Client], bytes: &[u8]) {
    for client in clients {
        client.say(bytes);
    }
}

/// A UDP peer on the loop's own thread.
pub(crate) fn udp_peer(host: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at(host)).expect("a free port");
    socket.set_nonblocking(true).expect("an option of every socket");
    socket
}

/// Turns the loop until the peer has a datagram.
#[track_caller]
pub(crate) fn receive(events: &mut EventLoop<'_>, peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut received = None;
    turn_until(events, "a datagram", |_| {
        let mut room = vec![0; 65_536];
        received = peer.recv_from(&mut room).ok().map(|(count, from)| (room[..count].to_vec(), from));
        received.is_some()
    });
    received.expect("it has come")
}
