//! Clients of a server under test: blocking sockets with deadlines.
//!
//! Every wait ends: with what it waits for, or after the patience of the target.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use crate::cli::flags::tour_options::TourMode;
use crate::tour::positions::extend_text;

/// How long a server may take for what a healthy one does within milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The reply to a slow request may take this long, and is slow from this on.
pub(crate) const SLOW_REPLY_MAX: Duration = Duration::from_secs(10);
pub(crate) const SLOW_REPLY_MIN: Duration = Duration::from_millis(100);

/// How a reader can get a judgement on a server that has no slow request.
pub(crate) const NO_SLOW_REQUEST: &str =
    "let the server reply to the line of --slow (without it `work 300`) after 300 ms of work";

/// The kernel keeps the bytes until more follow (send(2)).
#[cfg(target_os = "linux")]
const MSG_MORE: i32 = nix::libc::MSG_MORE;
#[cfg(not(target_os = "linux"))]
const MSG_MORE: i32 = 0;

/// After this silence a greeting is complete, if the server does not close.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// Limits for a server that sends without end: no reply to these clients is longer, and none takes longer.
const RECEIVED_BYTES_MAX: usize = 64 << 20;
const RECEIVE_TIME_MAX: Duration = Duration::from_secs(20);

/// A client whose server takes no more input for this long has filled the buffers on the way.
pub(crate) const FULL_AFTER: Duration = Duration::from_millis(300);

/// What a server gets that may serve only one client at a time.
pub(crate) const SECOND_CLIENT: &str =
    "a line from a client, and a line from a second client while the first stayed connected";

/// The server under test.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its TCP address, if it serves TCP.
    pub(crate) tcp: Option<SocketAddr>,
    /// Its UDP address, if it serves UDP.
    pub(crate) udp: Option<SocketAddr>,
    /// What is expected of it.
    pub(crate) mode: TourMode,
    /// A request that takes it long; a line.
    pub(crate) slow_request: Vec<u8>,
    /// How long to wait for what must happen.
    pub(crate) patience: Duration,
}

impl Target {
    /// Connects over TCP.
    pub(crate) fn connect(&self) -> io::Result<Client> {
        self.connect_with(|_| Ok(()))
    }

    /// Connects over TCP, with buffers that are soon full if the client does not read.
    pub(crate) fn connect_with_small_buffers(&self) -> io::Result<Client> {
        const BUFFER_BYTES: usize = 32 * 1024;
        const SEGMENT_BYTES: u32 = 1460;
        self.connect_with(|socket| {
            // A segment of the loopback device is larger than this buffer, and would wait for it.
            socket.set_tcp_mss(SEGMENT_BYTES)?;
            socket.set_recv_buffer_size(BUFFER_BYTES)?;
            socket.set_send_buffer_size(BUFFER_BYTES)
        })
    }

    fn connect_with(&self, set_options: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<Client> {
        let address = self.tcp.ok_or_else(|| io::Error::other("the server does not serve TCP"))?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        set_options(&socket)?;
        socket.connect_timeout(&address.into(), self.patience)?;
        self.client(socket.into())
    }

    /// The client of a connection.
    pub(crate) fn client(&self, stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        Ok(Client { stream, mode: self.mode, patience: self.patience })
    }

    /// The same server, for clients with another patience.
    pub(crate) fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// What a second client gets while a first one stays connected, if that is no reply. Some cases need both.
    pub(crate) fn missing_reply_of_second_client(&self) -> io::Result<Option<String>> {
        let mut first = self.connect()?;
        first.exchange("hello")?;
        Ok(self.connect()?.exchange("hello").err().map(|error| format!("for the second client, {error}")))
    }

    /// Whether no process listens at its address any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// The slow request, without its newline.
    pub(crate) fn slow_line(&self) -> String {
        String::from_utf8_lossy(&self.slow_request).trim_end_matches('\n').to_owned()
    }
}

/// A TCP client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) mode: TourMode,
    pub(crate) patience: Duration,
}

/// What a client received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: End,
}

/// Why a client received no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It has all that it waited for.
    Complete,
    /// The server sent a FIN.
    Eof,
    /// The server sent an RST.
    Reset,
    /// Nothing came for the patience of the target.
    Silence,
}

impl Client {
    /// Sends all bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.patience))?;
        self.stream.write_all(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io::Error::other(format!("the server read no input for {:?}", self.patience))
            }
            _ => error,
        })
    }

    /// Sends all bytes on a thread, while this one does something else with the client.
    pub(crate) fn send_while<T>(
        &mut self,
        bytes: &[u8],
        meanwhile: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut sender = Self { stream: self.stream.try_clone()?, mode: self.mode, patience: self.patience };
        thread::scope(|scope| {
            let sending = scope.spawn(move || sender.send(bytes));
            let result = meanwhile(self);
            let started = Instant::now();
            while !sending.is_finished() && started.elapsed() < self.patience {
                thread::sleep(Duration::from_millis(1));
            }
            if !sending.is_finished() {
                // The server does not read it.
                let _ = self.stream.shutdown(Shutdown::Both);
            }
            result
        })
    }

    /// Sends the text of positions until no buffer has room for more, at most this much of it. Receives nothing.
    pub(crate) fn send_until_full(&mut self, bytes_max: usize) -> io::Result<Vec<u8>> {
        const CHUNK_BYTES: usize = 64 * 1024;
        self.stream.set_write_timeout(Some(FULL_AFTER))?;
        let (mut text, mut sent) = (Vec::new(), 0);
        while sent < bytes_max {
            extend_text(&mut text, bytes_max.min(sent + CHUNK_BYTES));
            match self.stream.write(&text[sent..]) {
                Ok(bytes) => {
                    sent += bytes;
                    // The time was over, and only a part of the bytes had found room.
                    if sent < text.len() {
                        break;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => break,
                    _ => return Err(error),
                },
            }
        }
        text.truncate(sent);
        Ok(text)
    }

    /// Receives until `is_complete`, EOF, a reset, or silence.
    pub(crate) fn receive(&mut self, mut is_complete: impl FnMut(&[u8]) -> bool) -> io::Result<Received> {
        self.receive_for(self.patience, &mut is_complete)
    }

    /// Receives this many bytes.
    pub(crate) fn receive_bytes(&mut self, count: usize) -> io::Result<Received> {
        self.receive(|bytes| bytes.len() >= count)
    }

    /// Receives the reply to a line, of a greeting only its first bytes; not for longer than this.
    pub(crate) fn receive_reply(&mut self, silence: Duration) -> io::Result<Received> {
        let is_greeting = self.mode == TourMode::Greet;
        self.receive_for(silence, &mut |bytes| bytes.ends_with(b"\n") || is_greeting && !bytes.is_empty())
    }

    /// Connects one more client to the server of a client that waits in the backlog. If only that event was missing, this
    /// text tells of it.
    pub(crate) fn after_one_more(&mut self, target: &Target) -> &'static str {
        let next = target.connect();
        let reply = self.receive_reply(target.patience);
        drop(next);
        match reply.map(|reply| reply.end) {
            Ok(End::Complete) => "; one more client connected, and then the reply came",
            _ => "",
        }
    }

    /// Receives until EOF.
    pub(crate) fn receive_to_eof(&mut self) -> io::Result<Received> {
        self.receive(|_| false)
    }

    /// Receives until `is_complete`, EOF, a reset, or this long a silence.
    pub(crate) fn receive_for(
        &mut self,
        silence: Duration,
        is_complete: &mut dyn FnMut(&[u8]) -> bool,
    ) -> io::Result<Received> {
        self.receive_more(Vec::new(), silence, is_complete)
    }

    /// Receives what follows these bytes.
    pub(crate) fn receive_more(
        &mut self,
        mut bytes: Vec<u8>,
        silence: Duration,
        is_complete: &mut dyn FnMut(&[u8]) -> bool,
    ) -> io::Result<Received> {
        self.stream.set_read_timeout(Some(silence))?;
        let mut buffer = vec![0; 64 * 1024];
        let started = Instant::now();
        let end = loop {
            if is_complete(&bytes) {
                break End::Complete;
            }
            if bytes.len() > RECEIVED_BYTES_MAX || started.elapsed() > RECEIVE_TIME_MAX {
                let (bytes, time) = (bytes.len(), started.elapsed());
                return Err(io::Error::other(format!("the server sent {bytes} bytes in {time:?}, without an end")));
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => break End::Eof,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => break End::Silence,
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => break End::Reset,
                    _ => return Err(error),
                },
            }
        };
        Ok(Received { bytes, end })
    }

    /// Sends a line and receives its reply; the time it took. A missing reply (`TimedOut`) or a wrong one
    /// (`InvalidData`) is an error that says so.
    ///
    /// A greeting is read to its end, and the connection may be closed after it.
    pub(crate) fn exchange(&mut self, line: &str) -> io::Result<Duration> {
        let started = Instant::now();
        self.exchange_to_end(line).map(|_| started.elapsed())
    }

    /// Does what `exchange` does, and returns how the reply ended.
    pub(crate) fn exchange_to_end(&mut self, line: &str) -> io::Result<End> {
        let request = format!("{line}\n").into_bytes();
        match self.send(&request) {
            // The greeting has come, and the server has closed.
            Err(_) if self.mode == TourMode::Greet => {}
            sent => sent?,
        }
        let received = self.receive_reply_to(&request)?;
        let is_right = match self.mode {
            TourMode::Echo => received.bytes == request,
            TourMode::Line => received.end == End::Complete,
            TourMode::Greet => !received.bytes.is_empty(),
        };
        if is_right { Ok(received.end) } else { Err(self.missing_reply(&received)) }
    }

    /// Receives the whole reply to a line.
    pub(crate) fn receive_reply_to(&mut self, line: &[u8]) -> io::Result<Received> {
        match self.mode {
            TourMode::Echo => self.receive_bytes(line.len()),
            TourMode::Line => self.receive(|bytes| bytes.ends_with(b"\n")),
            TourMode::Greet => self.receive_greeting(),
        }
    }

    /// Receives a greeting: to EOF, or to a silence after its first bytes.
    pub(crate) fn receive_greeting(&mut self) -> io::Result<Received> {
        let first = self.receive(|bytes| !bytes.is_empty())?;
        if first.end == End::Complete { self.receive_more(first.bytes, SILENCE, &mut |_| false) } else { Ok(first) }
    }

    /// Waits until something was received, and leaves it in the receive buffer.
    pub(crate) fn wait_for_input(&self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(self.patience))?;
        match self.stream.peek(&mut [0]) {
            Ok(1..) => Ok(()),
            _ => Err(io::Error::other(format!("no reply within {:?}", self.patience))),
        }
    }

    /// What is wrong with a reply.
    pub(crate) fn missing_reply(&self, received: &Received) -> io::Error {
        use io::ErrorKind::{ConnectionReset, InvalidData, TimedOut, UnexpectedEof};
        let after = format!("the connection after {} bytes of the reply", received.bytes.len());
        let (kind, text) = match received.end {
            End::Silence => (TimedOut, format!("no reply within {:?}", self.patience)),
            End::Eof => (UnexpectedEof, format!("the server closed {after}")),
            End::Reset => (ConnectionReset, format!("the server reset {after}")),
            End::Complete => (InvalidData, "the reply was another text".to_owned()),
        };
        io::Error::new(kind, text)
    }

    /// Sends bytes and a FIN in one segment, so that a server sees both at once.
    pub(crate) fn send_last(&mut self, bytes: &[u8]) -> io::Result<()> {
        SockRef::from(&self.stream).send_with_flags(bytes, MSG_MORE)?;
        self.finish_sending()
    }

    /// Sends a FIN: no more input comes from this client, and it still waits for replies.
    pub(crate) fn finish_sending(&self) -> io::Result<()> {
        match self.stream.shutdown(Shutdown::Write) {
            // The server has closed: what ends the reply shows how.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Sends an RST.
    pub(crate) fn reset(self) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }
}

/// A client that makes one exchange after the other: for each greeting with a new connection.
#[derive(Debug)]
pub(crate) struct Regular {
    target: Target,
    /// The connection of all exchanges.
    client: Option<Client>,
}

impl Regular {
    /// Connects, unless each exchange has a connection of its own: a close with an unread greeting would be a reset.
    pub(crate) fn new(target: &Target) -> io::Result<Self> {
        let client = (target.mode != TourMode::Greet).then(|| target.connect()).transpose()?;
        Ok(Self { target: target.clone(), client })
    }

    /// Sends a line and receives its reply; the time it took. The time of a greeting is that of its first bytes.
    pub(crate) fn exchange(&mut self, line: &str) -> io::Result<Duration> {
        if let Some(client) = &mut self.client {
            return client.exchange(line);
        }
        let started = Instant::now();
        let mut client = self.target.connect()?;
        // A server that has greeted may have closed.
        let _ = client.send(format!("{line}\n").as_bytes());
        client.wait_for_input()?;
        let took = started.elapsed();
        let _ = client.finish_sending();
        client.receive_for(SILENCE, &mut |_| false)?;
        Ok(took)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that serves each client on a thread of its own, until the test program ends.
    pub(crate) fn start_server(mode: TourMode, serve: fn(TcpStream)) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let tcp = listener.local_addr().ok();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream));
            }
        });
        Target { tcp, udp: None, mode, slow_request: Vec::new(), patience: Duration::from_secs(10) }
    }

    #[test]
    fn output_without_end_is_an_error() {
        let target = start_server(TourMode::Greet, |mut stream| while stream.write_all(&[b'x'; 8192]).is_ok() {});
        let error = target.connect().expect("a client").receive_to_eof().expect_err("no end");
        assert!(error.to_string().starts_with("the server sent "), "{error}");
    }

    #[test]
    fn a_server_that_reads_nothing_fills_the_buffers() {
        let mut target = start_server(TourMode::Echo, |stream| {
            let _kept_open = stream;
            loop {
                thread::park();
            }
        });
        target.patience = Duration::from_millis(50);
        let mut client = target.connect_with_small_buffers().expect("a client");
        let text = client.send_until_full(64 << 20).expect("a part is sent");
        assert!((1..64 << 20).contains(&text.len()), "{} bytes", text.len());
        let error = client.send(&text).expect_err("no room");
        assert_eq!(error.to_string(), "the server read no input for 50ms");
    }

    #[test]
    fn a_greeting_is_received_also_when_the_server_has_closed() {
        let target = start_server(TourMode::Greet, |mut stream| drop(stream.write_all(b"hello")));
        for _ in 0..20 {
            let mut client = target.connect().expect("a client");
            client.wait_for_input().expect("the greeting");
            assert!(matches!(client.exchange_to_end("hi").expect("a greeting"), End::Eof | End::Reset));
            client.finish_sending().expect("no error after the end");
        }
    }
}
