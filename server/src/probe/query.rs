//! One query to one address over a blocking socket, and its result.
//!
//! It shares no code with the library, so that it can check it. It never half-closes: some servers close the connection
//! then.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::exit::{ExitStatus, describe_io_error};
use crate::text::duration::format_duration;
use crate::text::escape;

/// A reply on a connection that stays open is complete after this long without data.
const REPLY_IDLE_TIMEOUT: Duration = Duration::from_millis(250);

/// The most that is read of a reply, in bytes.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// What is missing from a server that accepts and does not answer.
const NO_REPLY: &str = "connected, but no answer";

/// What is sent, and which reply is expected until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    /// What is sent; `None` only connects.
    pub(crate) send: Option<&'a [u8]>,
    /// What the answer must contain; `None` takes any.
    pub(crate) expect: Option<&'a [u8]>,
    /// When the query was started.
    pub(crate) started: Instant,
    /// How long the answer may take.
    pub(crate) timeout: Duration,
}

/// The result of a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueryResult {
    pub(crate) outcome: Outcome,
    /// From the start to the last byte of the reply, or to the failure.
    pub(crate) elapsed: Duration,
    /// Printable: what came, or what happened instead.
    pub(crate) text: String,
}

/// How a query ended, the most severe outcome last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Ok,
    Timeout,
    Refused,
    Unreachable,
    Dns,
    Mismatch,
}

impl Outcome {
    /// The word that is printed.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Dns => "dns",
            Self::Mismatch => "mismatch",
        }
    }

    /// What it means for the exit status.
    pub(crate) const fn status(self) -> ExitStatus {
        match self {
            Self::Ok => ExitStatus::Success,
            Self::Refused | Self::Unreachable | Self::Dns => ExitStatus::Unavailable,
            Self::Timeout => ExitStatus::TimedOut,
            Self::Mismatch => ExitStatus::Mismatch,
        }
    }
}

impl Query<'_> {
    /// Runs the query over TCP.
    pub(crate) fn run_tcp(&self, address: SocketAddr) -> QueryResult {
        self.run_stream(
            self.time_left().and_then(|time_left| TcpStream::connect_timeout(&address, time_left)).map(Socket::from),
        )
    }

    /// Runs the query over a unix socket.
    pub(crate) fn run_unix(&self, path: &Path) -> QueryResult {
        self.run_stream(self.connect_unix(path))
    }

    fn connect_unix(&self, path: &Path) -> io::Result<Socket> {
        let (socket, address) = (Socket::new(Domain::UNIX, Type::STREAM, None)?, SockAddr::unix(path)?);
        loop {
            // It also bounds the wait for room in the backlog (unix(7), socket(7)).
            socket.set_write_timeout(Some(self.time_left()?))?;
            match socket.connect(&address) {
                Ok(()) => return Ok(socket),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn run_stream(&self, connection: io::Result<Socket>) -> QueryResult {
        match (connection, self.send) {
            (Err(error), _) => self.error_result(&error, "no connection"),
            (Ok(_), None) => self.result(Outcome::Ok, "connected"),
            (Ok(stream), Some(request)) => {
                self.exchange(stream, request).unwrap_or_else(|error| self.error_result(&error, NO_REPLY))
            }
        }
    }

    /// Runs the query over UDP; the first datagram is the reply.
    pub(crate) fn run_udp(&self, address: SocketAddr) -> QueryResult {
        self.exchange_datagrams(address).unwrap_or_else(|error| self.error_result(&error, "no answer"))
    }

    /// A result at this moment.
    pub(crate) fn result(&self, outcome: Outcome, text: impl Into<String>) -> QueryResult {
        QueryResult { outcome, elapsed: self.started.elapsed(), text: text.into() }
    }

    /// The result of a query that has timed out, with what was missing.
    pub(crate) fn timeout_result(&self, missing: &str) -> QueryResult {
        self.result(Outcome::Timeout, format!("{missing} within {}", format_duration(self.timeout)))
    }

    /// The time left; an error once there is none.
    pub(crate) fn time_left(&self) -> io::Result<Duration> {
        match self.timeout.checked_sub(self.started.elapsed()) {
            None | Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
            Some(time_left) => Ok(time_left),
        }
    }

    fn exchange(&self, mut stream: Socket, request: &[u8]) -> io::Result<QueryResult> {
        self.write_request(&mut stream, request)?;
        self.read_reply(&mut stream)
    }

    fn write_request(&self, stream: &mut Socket, mut remaining: &[u8]) -> io::Result<()> {
        while !remaining.is_empty() {
            stream.set_write_timeout(Some(self.time_left()?))?;
            match stream.write(remaining) {
                Ok(count) => remaining = &remaining[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A server that answers without listening may have closed already: its answer is still to be read.
                Err(error) if is_closed_by_peer(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_reply(&self, stream: &mut Socket) -> io::Result<QueryResult> {
        let mut received = Vec::new();
        let mut elapsed = self.started.elapsed();
        let mut chunk = [0; 4096];
        while received.len() < REPLY_BYTES_MAX && !self.is_complete(&received) {
            let Ok(time_left) = self.time_left() else {
                break;
            };
            let has_reply = self.expect.is_none() && !received.is_empty();
            stream.set_read_timeout(Some(if has_reply { time_left.min(REPLY_IDLE_TIMEOUT) } else { time_left }))?;
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(self.eof_result(&received, elapsed)),
                Ok(count) => {
                    received.extend_from_slice(&chunk[..count]);
                    elapsed = self.started.elapsed();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => break,
                Err(error) if is_closed_by_peer(&error) => return Ok(self.eof_result(&received, elapsed)),
                Err(error) => return Err(error),
            }
        }
        if received.is_empty() {
            return Ok(self.silence_result());
        }
        Ok(self.reply_result(&received, elapsed))
    }

    /// The result of a server that is silent until the deadline, with what its question may lack.
    fn silence_result(&self) -> QueryResult {
        let mut result = self.timeout_result(NO_REPLY);
        result.text.push_str(match self.send {
            None | Some([.., b'\n']) => "",
            Some([]) => "; --send is empty, and only a server that speaks first answers",
            Some(_) => r"; a server that reads lines waits for \n at the end of --send",
        });
        result
    }

    fn exchange_datagrams(&self, address: SocketAddr) -> io::Result<QueryResult> {
        let local: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(local)?;
        // Connected, the socket hears from nobody else, and hears that nobody is there.
        socket.connect(address)?;
        socket.set_write_timeout(Some(self.time_left()?))?;
        socket.send(self.send.unwrap_or_default())?;
        let mut datagram = vec![0; REPLY_BYTES_MAX];
        loop {
            socket.set_read_timeout(Some(self.time_left()?))?;
            match socket.recv(&mut datagram) {
                Ok(count) => return Ok(self.reply_result(&datagram[..count], self.started.elapsed())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn is_complete(&self, received: &[u8]) -> bool {
        self.expect.is_some_and(|expected| contains(received, expected))
    }

    /// The result after the server has closed the connection.
    fn eof_result(&self, received: &[u8], elapsed: Duration) -> QueryResult {
        if received.is_empty() {
            return self.result(Outcome::Mismatch, "closed without an answer");
        }
        self.reply_result(received, elapsed)
    }

    fn reply_result(&self, received: &[u8], elapsed: Duration) -> QueryResult {
        let is_match = self.expect.is_none_or(|expected| contains(received, expected));
        let outcome = if is_match { Outcome::Ok } else { Outcome::Mismatch };
        QueryResult { outcome, elapsed, text: escape::whole(received) }
    }

    fn error_result(&self, error: &io::Error, missing: &str) -> QueryResult {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => self.result(Outcome::Refused, "nobody listens there"),
            _ if is_closed_by_peer(error) => self.result(Outcome::Refused, "the connection was reset"),
            _ if is_timeout(error) => self.timeout_result(missing),
            _ => self.result(Outcome::Unreachable, describe_io_error(error)),
        }
    }
}

fn contains(received: &[u8], expected: &[u8]) -> bool {
    received.windows(expected.len()).any(|window| window == expected)
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe
    )
}

/// A socket's timeout shows as either kind, by system.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::thread::{self, JoinHandle};
    use std::time::{Duration, Instant};

    use super::{ExitStatus, Outcome, Query, QueryResult};

    /// Far beyond what any answer takes.
    const LONG_TIMEOUT: Duration = Duration::from_secs(20);
    /// What a silent server costs a test.
    const SHORT_TIMEOUT: Duration = Duration::from_millis(100);

    fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (address, thread::spawn(move || serve(listener.accept().unwrap().0)))
    }

    fn query(expect: Option<&'static str>, timeout: Duration) -> Query<'static> {
        let expect = expect.map(str::as_bytes);
        Query { send: Some(b"Hello, TCP Server!\n"), expect, started: Instant::now(), timeout }
    }

    fn outcome_and_text(result: &QueryResult) -> (Outcome, &str) {
        (result.outcome, &result.text)
    }

    /// Keeps the connection open until the client closes it.
    fn wait_for_end(mut stream: TcpStream) {
        let _ = stream.read_to_end(&mut Vec::new());
    }

    #[test]
    fn of_several_answers_the_worst_decides() {
        let worst = |outcomes: &[Outcome]| outcomes.iter().max().unwrap().status();
        assert_eq!(worst(&[Outcome::Ok, Outcome::Ok]), ExitStatus::Success);
        assert_eq!(worst(&[Outcome::Timeout, Outcome::Ok]), ExitStatus::TimedOut);
        for unavailable in [Outcome::Refused, Outcome::Unreachable, Outcome::Dns] {
            assert_eq!(worst(&[unavailable, Outcome::Timeout]), ExitStatus::Unavailable);
            assert_eq!(worst(&[Outcome::Mismatch, unavailable]), ExitStatus::Mismatch);
        }
    }

    #[test]
    fn an_answer_and_a_close_are_ok() {
        let (address, server) = server(|mut stream| {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer).unwrap();
            stream.write_all(&buffer[..count]).unwrap();
        });
        assert_eq!(
            outcome_and_text(&query(None, LONG_TIMEOUT).run_tcp(address)),
            (Outcome::Ok, r"Hello, TCP Server!\n")
        );
        server.join().unwrap();
    }

    #[test]
    fn a_server_that_stays_connected_is_not_waited_for() {
        for expect in [None, Some("second")] {
            let (address, server) = server(|mut stream| {
                stream.write_all(b"first ").unwrap();
                stream.write_all(b"second\n").unwrap();
                wait_for_end(stream);
            });
            let result = query(expect, LONG_TIMEOUT).run_tcp(address);
            assert_eq!(outcome_and_text(&result), (Outcome::Ok, r"first second\n"));
            assert!(result.elapsed < LONG_TIMEOUT / 2);
            server.join().unwrap();
        }
    }

    #[test]
    fn a_server_that_drips_for_ever_is_left_at_the_deadline() {
        let (address, server) = server(|mut stream| while stream.write_all(b"x").is_ok() {});
        let timeout = SHORT_TIMEOUT * 3;
        let start = Instant::now();
        let result = query(Some("never"), timeout).run_tcp(address);
        assert_eq!(result.outcome, Outcome::Mismatch);
        assert!(start.elapsed() < LONG_TIMEOUT / 2);
        server.join().unwrap();
    }

    #[test]
    fn every_failure_has_its_class() {
        let (silent, silent_server) = server(wait_for_end);
        assert_eq!(query(None, SHORT_TIMEOUT).run_tcp(silent).outcome, Outcome::Timeout);
        silent_server.join().unwrap();
        let (closing, closing_server) = server(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
        });
        assert_eq!(
            outcome_and_text(&query(None, LONG_TIMEOUT).run_tcp(closing)),
            (Outcome::Mismatch, "closed without an answer")
        );
        closing_server.join().unwrap();
        // Its listener is gone.
        assert_eq!(query(None, LONG_TIMEOUT).run_tcp(closing).outcome, Outcome::Refused);
        let unreachable = "255.255.255.255:9".parse().unwrap();
        assert_eq!(query(None, LONG_TIMEOUT).run_tcp(unreachable).outcome, Outcome::Unreachable);
    }

    #[test]
    fn connecting_is_enough_where_nothing_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let query = Query { send: None, ..query(None, LONG_TIMEOUT) };
        assert_eq!(outcome_and_text(&query.run_tcp(listener.local_addr().unwrap())), (Outcome::Ok, "connected"));
    }

    #[test]
    fn udp_tells_answered_wrong_silent_and_refused_apart() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let replying_server = thread::spawn(move || {
            for _ in 0..2 {
                let (_, peer) = server.recv_from(&mut [0; 100]).unwrap();
                server.send_to(b"Hello, UDP Client!", peer).unwrap();
            }
            server
        });
        assert_eq!(outcome_and_text(&query(None, LONG_TIMEOUT).run_udp(address)), (Outcome::Ok, "Hello, UDP Client!"));
        assert_eq!(query(Some("Bye"), LONG_TIMEOUT).run_udp(address).outcome, Outcome::Mismatch);
        let server = replying_server.join().unwrap();
        assert_eq!(query(None, SHORT_TIMEOUT).run_udp(address).outcome, Outcome::Timeout);
        drop(server);
        assert_eq!(query(None, LONG_TIMEOUT).run_udp(address).outcome, Outcome::Refused);
    }
}
