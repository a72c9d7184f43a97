//! One query to a server over sockets of its own.
//!
//! It shares no code with the library, so that it can test it. It never half-closes: some servers close the connection
//! at EOF.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::poll::PollFlags;
use proxy_header::Protocol;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::cli::flags::probe_options::ProxySource;
use crate::exit::describe_io_error;
use crate::probe::proxy_prefix::proxy_prefix;
use crate::probe::query_result::{Outcome, Presence, QueryResult, Reply};
use crate::probe::race::{Race, Resend, race};
use crate::text::address::{UnixPath, describe_unknown_zone, lacks_zone};
use crate::text::duration::format_duration;
use crate::text::escape;

/// A reply on a connection that stays open is complete after this long without data.
const REPLY_IDLE_TIMEOUT: Duration = Duration::from_millis(250);

/// The most that is read of a reply, in bytes.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// The text for a server that accepts and does not reply.
const NO_REPLY: &str = "connected, but no reply";

/// The text for a connection that the server resets, whichever call returns the error.
const RESET_BEFORE_REPLY: &str = "connection reset by peer before a reply";

/// What to send, the expected reply, and the deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    /// What to send; `None` only connects.
    pub(crate) send: Option<&'a [u8]>,
    /// What the reply must contain; `None` accepts any.
    pub(crate) expect: Option<&'a [u8]>,
    /// When the query was started.
    pub(crate) started: Instant,
    /// How long the reply may take, over UDP all tries together.
    pub(crate) timeout: Duration,
    /// How often a datagram is sent again if no reply comes.
    pub(crate) retries: u32,
    /// The client in the PROXY header before the request.
    pub(crate) proxy: ProxySource,
}

/// How the server ended the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnd {
    Eof,
    Reset,
}

impl Query<'_> {
    /// Connects over TCP to the first address that accepts, and asks there.
    pub(crate) fn run_tcp(&self, addresses: &[SocketAddr]) -> QueryResult {
        let finish = |socket: &Socket| match finish_tcp(socket) {
            // Only an open connection can be reset. Nothing is to be sent, so that is enough.
            Err(error) if self.send.is_none() && is_reset(&error) => Ok(Some(())),
            result => result,
        };
        let connected = race(addresses, self.deadline(), PollFlags::POLLOUT, None, start_tcp, finish);
        self.decide(connected, "no connection", |stream, ()| self.run_stream(stream))
    }

    /// Asks over UDP. The first datagram from any of the addresses, whichever try it is for, is the reply.
    pub(crate) fn run_udp(&self, addresses: &[SocketAddr]) -> QueryResult {
        let send = |mut socket: &Socket| {
            let prefix = proxy_prefix(self.proxy, Protocol::Datagram, socket)?;
            socket.write(&[&prefix, self.send.unwrap_or_default()].concat()).map(drop)
        };
        let start = |address| {
            let socket = connect_udp(address)?;
            send(&socket)?;
            Ok(socket)
        };
        let interval = self.timeout.saturating_sub(self.started.elapsed()) / (self.retries + 1);
        let resend = Resend { interval, count: self.retries, send: &send };
        let answered = race(addresses, self.deadline(), PollFlags::POLLIN, Some(resend), start, finish_udp);
        let tries = answered.as_ref().map_or(1, |race| race.sent_count);
        let mut result =
            self.decide(answered, "no reply", |_, datagram| self.reply_result(datagram, self.started.elapsed(), None));
        result.tries = tries;
        if tries > 1 && result.reply.is_some() {
            result.notes.push(format!("the reply came after {tries} requests"));
        }
        result
    }

    /// Asks at a unix socket.
    pub(crate) fn run_unix(&self, path: &UnixPath) -> QueryResult {
        match self.connect_unix(path) {
            Ok(stream) => self.run_stream(stream),
            Err(error) => self.error_result(&error, "no connection"),
        }
    }

    fn connect_unix(&self, path: &UnixPath) -> io::Result<Socket> {
        let (socket, address) = (Socket::new(Domain::UNIX, Type::STREAM, None)?, sock_addr(path)?);
        loop {
            // The timeout for sending also bounds the wait for room in the backlog (unix(7), socket(7)).
            socket.set_write_timeout(Some(self.time_left()?))?;
            match socket.connect(&address) {
                Ok(()) => return Ok(socket),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The result of a race: that of its winner, or one for all failures.
    fn decide<T>(
        &self,
        race: io::Result<Race<T>>,
        missing: &str,
        result_of: impl FnOnce(Socket, T) -> QueryResult,
    ) -> QueryResult {
        let Race { tried, winner, .. } = match race {
            Ok(race) => race,
            Err(error) => return self.error_result(&error, missing),
        };
        if let Some((address, socket, answer)) = winner {
            let mut result = result_of(socket, answer);
            let notes = tried.into_iter().map(|(address, socket)| match socket {
                Ok(_) => format!("{address} is silent so far"),
                Err(error) => format!("{address} {}", self.failure(address, &error, missing).text),
            });
            result.notes.splice(..0, notes);
            return QueryResult { address: Some(address), ..result };
        }
        let failures = tried.into_iter().map(|(address, socket)| {
            let error = socket.err().unwrap_or_else(|| io::ErrorKind::TimedOut.into());
            (address, self.failure(address, &error, missing))
        });
        let mut failures: Vec<(SocketAddr, QueryResult)> = failures.collect();
        if failures.len() == 1 {
            let (address, result) = failures.remove(0);
            return QueryResult { address: Some(address), ..result };
        }
        // A machine that resets or refuses exists, and a silent one may exist.
        let has_outcome = |outcome: &Outcome| failures.iter().any(|(_, failure)| failure.outcome == *outcome);
        let outcome = [Outcome::Reset, Outcome::Refused, Outcome::Timeout].into_iter().find(has_outcome);
        let texts = failures.iter().map(|(address, failure)| format!("{address} {}", failure.text));
        let presences: Vec<Presence> = failures.iter().map(|(_, failure)| failure.presence).collect();
        let result = self.result(outcome.unwrap_or(Outcome::Unreachable), texts.collect::<Vec<_>>().join("; "));
        QueryResult { presence: common_presence(&presences), ..result }
    }

    /// The result of an address that failed.
    fn failure(&self, address: SocketAddr, error: &io::Error, missing: &str) -> QueryResult {
        let mut result = self.error_result(error, missing);
        if let SocketAddr::V6(address) = address
            && address.scope_id() != 0
            && result.outcome == Outcome::Unreachable
            // nix 0.31 returns an empty name for an unknown number.
            && if_indextoname(address.scope_id()).map_or(true, |name| name.is_empty())
        {
            result.text = describe_unknown_zone(&address.scope_id().to_string());
        }
        if lacks_zone(address) && result.outcome == Outcome::Unreachable {
            let (ip, port) = (address.ip(), address.port());
            let hint = format!("name it, as in [{ip}%eth0]:{port}; ip link lists the interfaces");
            result.text = format!("{}: a link-local address needs its interface; {hint}", result.text);
        }
        result
    }

    fn run_stream(&self, stream: Socket) -> QueryResult {
        match self.send {
            None => self.result(Outcome::Ok, "connected"),
            Some(question) => {
                self.exchange(stream, question).unwrap_or_else(|error| self.error_result(&error, NO_REPLY))
            }
        }
    }

    /// A result at this moment.
    pub(crate) fn result(&self, outcome: Outcome, text: impl Into<String>) -> QueryResult {
        QueryResult {
            outcome,
            time: SystemTime::now(),
            address: None,
            elapsed: self.started.elapsed(),
            text: text.into(),
            reply: None,
            tries: 1,
            presence: outcome.presence(),
            notes: Vec::new(),
        }
    }

    /// The result of a query that has timed out; `missing` is what did not arrive.
    pub(crate) fn timeout_result(&self, missing: &str) -> QueryResult {
        // The rest of --wait-gone is no round number: the next multiple of 10 ms is as true.
        let is_whole = self.timeout.subsec_nanos().is_multiple_of(1_000_000);
        let tens = || Duration::from_millis((u64::try_from(self.timeout.as_millis()).unwrap_or(0) / 10 + 1) * 10);
        let text = format!("{missing} within {}", format_duration(if is_whole { self.timeout } else { tens() }));
        // A server that accepts connections is there, even if it does not reply.
        let presence = if missing == NO_REPLY { Presence::Present } else { Presence::Absent };
        QueryResult { presence, ..self.result(Outcome::Timeout, text) }
    }

    fn deadline(&self) -> Instant {
        self.started + self.timeout
    }

    /// The time left; an error once there is none.
    pub(crate) fn time_left(&self) -> io::Result<Duration> {
        match self.timeout.checked_sub(self.started.elapsed()) {
            None | Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
            Some(time_left) => Ok(time_left),
        }
    }

    fn exchange(&self, mut stream: Socket, question: &[u8]) -> io::Result<QueryResult> {
        let prefix = proxy_prefix(self.proxy, Protocol::Stream, &stream)?;
        let end = self.write_question(&mut stream, &[&prefix, question].concat())?;
        self.read_reply(&mut stream, end)
    }

    /// Sends the request, and returns how the stream ends after all received bytes are read.
    fn write_question(&self, stream: &mut Socket, mut remaining: &[u8]) -> io::Result<StreamEnd> {
        while !remaining.is_empty() {
            stream.set_write_timeout(Some(self.time_left()?))?;
            match stream.write(remaining) {
                Ok(count) => remaining = &remaining[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A server that replies without reading may have closed already: its reply can still be read.
                Err(error) if is_reset(&error) => return Ok(StreamEnd::Reset),
                Err(error) => return Err(error),
            }
        }
        Ok(StreamEnd::Eof)
    }

    fn read_reply(&self, stream: &mut Socket, end: StreamEnd) -> io::Result<QueryResult> {
        let mut received = Vec::new();
        let mut elapsed = self.started.elapsed();
        let mut chunk = [0; 4096];
        while received.len() < REPLY_BYTES_MAX && !self.is_complete(&received) {
            let Ok(time_left) = self.time_left() else {
                break;
            };
            stream.set_read_timeout(Some(self.silence_max(&received, time_left)))?;
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(self.reply_result(received, elapsed, Some(end))),
                Ok(count) => {
                    received.extend_from_slice(&chunk[..count]);
                    elapsed = self.started.elapsed();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => break,
                Err(error) if is_reset(&error) => {
                    return Ok(self.reply_result(received, elapsed, Some(StreamEnd::Reset)));
                }
                Err(error) => return Err(error),
            }
        }
        if received.is_empty() {
            return Ok(self.silence_result());
        }
        Ok(self.reply_result(received, elapsed, None))
    }

    /// How long to wait for the next bytes of a reply.
    fn silence_max(&self, received: &[u8], time_left: Duration) -> Duration {
        let may_be_complete = self.expect.is_none() && !received.is_empty();
        if may_be_complete { time_left.min(REPLY_IDLE_TIMEOUT) } else { time_left }
    }

    fn is_complete(&self, received: &[u8]) -> bool {
        self.expect.is_some_and(|expected| contains(received, expected))
    }

    /// The result for a server that is silent until the deadline, with a hint on the request.
    fn silence_result(&self) -> QueryResult {
        let mut result = self.timeout_result(NO_REPLY);
        result.text.push_str(match self.send {
            None | Some([.., b'\n']) => "",
            Some([]) => "; --send is empty, and a server that waits for input does not reply",
            Some(_) => r"; a server that reads lines waits for \n at the end of --send",
        });
        result
    }

    /// The result for a reply, and for the end of the stream after it.
    fn reply_result(&self, received: Vec<u8>, elapsed: Duration, end: Option<StreamEnd>) -> QueryResult {
        let is_match = self.expect.is_none_or(|expected| contains(&received, expected));
        let (outcome, text) = match end {
            Some(StreamEnd::Eof) if received.is_empty() => (Outcome::Mismatch, "closed without a reply".to_owned()),
            Some(StreamEnd::Reset) if received.is_empty() => (Outcome::Reset, RESET_BEFORE_REPLY.to_owned()),
            _ if is_match => (Outcome::Ok, escape::whole(&received)),
            Some(StreamEnd::Reset) => (Outcome::Reset, escape::whole(&received)),
            _ => (Outcome::Mismatch, escape::whole(&received)),
        };
        let is_reset_behind_answer = end == Some(StreamEnd::Reset) && outcome == Outcome::Ok;
        let notes = is_reset_behind_answer.then(|| "connection reset by peer after the reply".to_owned());
        let is_missing = end.is_some() && received.is_empty();
        let is_truncated = received.len() >= REPLY_BYTES_MAX;
        let reply = (!is_missing).then_some(Reply { bytes: received, is_truncated });
        QueryResult { elapsed, reply, notes: notes.into_iter().collect(), ..self.result(outcome, text) }
    }

    fn error_result(&self, error: &io::Error, missing: &str) -> QueryResult {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => self.result(Outcome::Refused, describe_io_error(error)),
            _ if is_reset(error) => self.result(Outcome::Reset, RESET_BEFORE_REPLY),
            _ if is_timeout(error) => self.timeout_result(missing),
            _ => {
                let presence = if is_absence(error) { Presence::Absent } else { Presence::Unknown };
                QueryResult { presence, ..self.result(Outcome::Unreachable, describe_io_error(error)) }
            }
        }
    }
}

/// The kernel's form of a path, which limits its length.
fn sock_addr(path: &UnixPath) -> io::Result<SockAddr> {
    // The number of bytes that fit before the NUL at the end (unix(7), and sys/un.h of other systems).
    const PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
    SockAddr::unix(path.as_path()).map_err(|error| {
        let bytes = path.as_path().as_os_str().len() - usize::from(path.is_abstract());
        let limit = format!("the path of a unix socket has {PATH_BYTES_MAX} bytes at most");
        io::Error::new(error.kind(), format!("invalid argument: {limit}, and this one has {bytes}"))
    })
}

fn start_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if !is_in_progress(&error) => Err(error),
        _ => Ok(socket),
    }
}

fn finish_tcp(socket: &Socket) -> io::Result<Option<()>> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    refuse_self_connect(socket)?;
    socket.set_nonblocking(false)?;
    Ok(Some(()))
}

fn connect_udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    // A connected socket receives from this address only, and gets an error if no socket is there.
    socket.connect(&address.into())?;
    refuse_self_connect(&socket)?;
    Ok(socket)
}

fn finish_udp(mut socket: &Socket) -> io::Result<Option<Vec<u8>>> {
    let mut datagram = vec![0; REPLY_BYTES_MAX];
    match socket.read(&mut datagram) {
        Ok(count) => {
            datagram.truncate(count);
            Ok(Some(datagram))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An error if the socket is its own peer: the system gave it the port to connect to, which no server has.
fn refuse_self_connect(socket: &Socket) -> io::Result<()> {
    match socket.peer_addr() {
        Ok(peer) if peer.as_socket() == socket.local_addr()?.as_socket() => Err(Errno::ECONNREFUSED.into()),
        // Without a peer it was reset after it connected, which the next call returns.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn contains(received: &[u8], expected: &[u8]) -> bool {
    received.windows(expected.len()).any(|window| window == expected)
}

/// Whether a non-blocking connect is in progress, also after a signal (connect(2)).
fn is_in_progress(error: &io::Error) -> bool {
    [Errno::EINPROGRESS, Errno::EINTR].iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// What several failures show together.
fn common_presence(presences: &[Presence]) -> Presence {
    match presences {
        _ if presences.contains(&Presence::Present) => Presence::Present,
        _ if presences.contains(&Presence::Unknown) => Presence::Unknown,
        _ => Presence::Absent,
    }
}

/// Whether an error shows that no server is there. Others are about this machine, such as its limit on descriptors.
fn is_absence(error: &io::Error) -> bool {
    use Errno::{EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENODEV, ENOENT, ENOTDIR};
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(EHOSTUNREACH | EHOSTDOWN | ENETUNREACH | ENETDOWN | ENODEV | ENOENT | ENOTDIR))
}

/// A timeout of a socket is either kind, depending on the system.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::thread::{self, JoinHandle};
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use socket2::{Domain, SockRef, Socket, Type};

    use super::{
        Outcome, Presence, ProxySource, Query, QueryResult, REPLY_IDLE_TIMEOUT, finish_tcp, is_absence,
        refuse_self_connect,
    };

    /// Far beyond what any reply takes.
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
        let (started, send) = (Instant::now(), Some(&b"Hello, TCP Server!\n"[..]));
        Query { send, expect, started, timeout, retries: 0, proxy: ProxySource::None }
    }

    fn outcome_and_text(result: &QueryResult) -> (Outcome, &str) {
        (result.outcome, &result.text)
    }

    /// Keeps the connection open until the client closes it.
    fn wait_for_end(mut stream: TcpStream) {
        let _ = stream.read_to_end(&mut Vec::new());
    }

    #[test]
    fn an_answer_and_a_close_are_ok() {
        let (address, server) = server(|mut stream| {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer).unwrap();
            stream.write_all(&buffer[..count]).unwrap();
        });
        assert_eq!(
            outcome_and_text(&query(None, LONG_TIMEOUT).run_tcp(&[address])),
            (Outcome::Ok, r"Hello, TCP Server!\n")
        );
        server.join().unwrap();
    }

    #[test]
    fn a_reply_ends_though_the_server_stays_connected() {
        for expect in [None, Some("second")] {
            let (address, server) = server(|mut stream| {
                stream.write_all(b"first ").unwrap();
                stream.write_all(b"second\n").unwrap();
                wait_for_end(stream);
            });
            let start = Instant::now();
            let result = query(expect, LONG_TIMEOUT).run_tcp(&[address]);
            assert!(start.elapsed() < LONG_TIMEOUT / 2, "{:?}", start.elapsed());
            assert_eq!(outcome_and_text(&result), (Outcome::Ok, r"first second\n"));
            // The time does not include the silence at the end.
            let silence = if expect.is_none() { REPLY_IDLE_TIMEOUT } else { Duration::ZERO };
            assert!(result.elapsed + silence <= start.elapsed(), "{:?} of {:?}", result.elapsed, start.elapsed());
            server.join().unwrap();
        }
    }

    #[test]
    fn silence_of_250_ms_ends_only_a_reply_that_may_be_complete() {
        let (any, expecting) = (query(None, LONG_TIMEOUT), query(Some("second"), LONG_TIMEOUT));
        assert!(any.silence_max(b"first", LONG_TIMEOUT) <= Duration::from_millis(250));
        assert_eq!(any.silence_max(b"first", Duration::from_millis(1)), Duration::from_millis(1));
        assert_eq!(any.silence_max(b"", LONG_TIMEOUT), LONG_TIMEOUT);
        assert_eq!(expecting.silence_max(b"first", LONG_TIMEOUT), LONG_TIMEOUT);
    }

    #[test]
    fn the_rest_of_a_time_is_printed_without_its_last_digits() {
        for (micros, expected) in [(999_200, "1s"), (290_001, "300ms"), (205_000, "205ms"), (1_000_000, "1s")] {
            let result = query(None, Duration::from_micros(micros)).timeout_result("no reply");
            assert_eq!(result.text, format!("no reply within {expected}"));
        }
    }

    /// Closes with a reset.
    fn reset(stream: &TcpStream) {
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    #[test]
    fn a_reset_and_a_close_are_distinguished_before_and_after_a_partial_reply() {
        for (answer, resets, expect, expected, notes) in [
            ("", false, None, (Outcome::Mismatch, "closed without a reply"), &[][..]),
            ("", true, None, (Outcome::Reset, "connection reset by peer before a reply"), &[]),
            ("Hel", false, Some("Hello"), (Outcome::Mismatch, "Hel"), &[]),
            ("Hel", true, Some("Hello"), (Outcome::Reset, "Hel"), &[]),
            ("Hel", false, None, (Outcome::Ok, "Hel"), &[]),
            ("Hel", true, None, (Outcome::Ok, "Hel"), &["connection reset by peer after the reply"]),
        ] {
            let (address, server) = server(move |mut stream| {
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
                if resets {
                    reset(&stream);
                }
            });
            let result = query(expect, LONG_TIMEOUT).run_tcp(&[address]);
            server.join().unwrap();
            assert_eq!(outcome_and_text(&result), expected);
            assert_eq!(result.notes, notes);
        }
    }

    #[test]
    fn a_reply_that_arrives_before_the_whole_request_is_sent_is_read() {
        let (address, server) = server(|mut stream| {
            // A part of the request has arrived and is never read: the close sends a RST, after the FIN.
            assert!(stream.peek(&mut [0; 100]).unwrap() > 0);
            stream.write_all(b"too long").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        // More than the kernel buffers for a server that does not read.
        let question = vec![b'x'; 64 << 20];
        let result = Query { send: Some(&question), ..query(None, LONG_TIMEOUT) }.run_tcp(&[address]);
        server.join().unwrap();
        assert_eq!(outcome_and_text(&result), (Outcome::Ok, "too long"));
        assert_eq!(result.notes, ["connection reset by peer after the reply"]);
    }

    #[test]
    fn a_reply_that_never_ends_is_read_until_the_deadline() {
        let (address, server) = server(|mut stream| while stream.write_all(b"x").is_ok() {});
        let timeout = SHORT_TIMEOUT * 3;
        let start = Instant::now();
        let result = query(Some("never"), timeout).run_tcp(&[address]);
        assert_eq!(result.outcome, Outcome::Mismatch);
        assert!(start.elapsed() < LONG_TIMEOUT / 2);
        server.join().unwrap();
    }

    #[test]
    fn every_failure_has_its_own_outcome() {
        let (silent, silent_server) = server(wait_for_end);
        assert_eq!(query(None, SHORT_TIMEOUT).run_tcp(&[silent]).outcome, Outcome::Timeout);
        silent_server.join().unwrap();
        let (closing, closing_server) = server(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
        });
        assert_eq!(
            outcome_and_text(&query(None, LONG_TIMEOUT).run_tcp(&[closing])),
            (Outcome::Mismatch, "closed without a reply")
        );
        closing_server.join().unwrap();
        // Its listener is closed.
        assert_eq!(query(None, LONG_TIMEOUT).run_tcp(&[closing]).outcome, Outcome::Refused);
        let unreachable = "255.255.255.255:9".parse().unwrap();
        assert_eq!(query(None, LONG_TIMEOUT).run_tcp(&[unreachable]).outcome, Outcome::Unreachable);
    }

    #[test]
    fn a_connection_is_enough_if_nothing_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let query = Query { send: None, ..query(None, LONG_TIMEOUT) };
        assert_eq!(outcome_and_text(&query.run_tcp(&[listener.local_addr().unwrap()])), (Outcome::Ok, "connected"));
    }

    #[test]
    fn udp_distinguishes_right_wrong_missing_and_refused_answers() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let replying_server = thread::spawn(move || {
            for _ in 0..2 {
                let (_, peer) = server.recv_from(&mut [0; 100]).unwrap();
                server.send_to(b"Hello, UDP Client!", peer).unwrap();
            }
            server
        });
        assert_eq!(
            outcome_and_text(&query(None, LONG_TIMEOUT).run_udp(&[address])),
            (Outcome::Ok, "Hello, UDP Client!")
        );
        assert_eq!(query(Some("Bye"), LONG_TIMEOUT).run_udp(&[address]).outcome, Outcome::Mismatch);
        let server = replying_server.join().unwrap();
        assert_eq!(query(None, SHORT_TIMEOUT).run_udp(&[address]).outcome, Outcome::Timeout);
        drop(server);
        assert_eq!(query(None, LONG_TIMEOUT).run_udp(&[address]).outcome, Outcome::Refused);
    }

    /// A server that receives this number of datagrams, and then answers the first one.
    fn late_udp(received: usize) -> (SocketAddr, JoinHandle<()>) {
        let (socket, address) = silent_udp();
        let server = thread::spawn(move || {
            let mut peers = (0..received).map(|_| socket.recv_from(&mut [0; 100]).unwrap().1);
            let peer = peers.next().unwrap();
            assert!(peers.all(|other| other == peer), "a datagram from another socket");
            socket.send_to(b"Hello, UDP Client!", peer).unwrap();
        });
        (address, server)
    }

    #[test]
    fn a_lost_datagram_is_sent_again_and_a_reply_to_any_try_counts() {
        let (address, server) = late_udp(3);
        let result = Query { retries: 49, ..query(None, LONG_TIMEOUT) }.run_udp(&[address]);
        server.join().unwrap();
        assert_eq!(outcome_and_text(&result), (Outcome::Ok, "Hello, UDP Client!"));
        assert_eq!(result.tries, 3);
        assert_eq!(result.notes, ["the reply came after 3 requests"]);
    }

    #[test]
    fn all_tries_together_take_no_longer_than_the_timeout() {
        let (socket, address) = silent_udp();
        let start = Instant::now();
        let result = Query { retries: 4, ..query(None, SHORT_TIMEOUT * 5) }.run_udp(&[address]);
        assert_eq!((result.outcome, result.tries), (Outcome::Timeout, 5));
        assert!(start.elapsed() < LONG_TIMEOUT / 2, "{:?}", start.elapsed());
        socket.set_nonblocking(true).unwrap();
        let received = (0..6).filter(|_| socket.recv_from(&mut [0; 100]).is_ok()).count();
        assert_eq!(received, 5);
    }

    #[test]
    fn a_refusal_ends_the_tries() {
        let (_other, other_address) = silent_udp();
        let (socket, address) = silent_udp();
        socket.connect(other_address).unwrap();
        let result = Query { retries: 3, ..query(None, LONG_TIMEOUT) }.run_udp(&[address]);
        assert_eq!((result.outcome, result.tries), (Outcome::Refused, 1));
    }

    #[test]
    fn an_error_of_this_machine_does_not_show_that_the_server_is_gone() {
        for (errno, expected) in [
            (Errno::ENOENT, true),
            (Errno::EHOSTUNREACH, true),
            (Errno::EMFILE, false),
            (Errno::EACCES, false),
            (Errno::ECONNRESET, false),
        ] {
            assert_eq!(is_absence(&errno.into()), expected, "{errno}");
        }
        let (silent, server) = server(wait_for_end);
        let result = query(None, SHORT_TIMEOUT).run_tcp(&[silent]);
        server.join().unwrap();
        assert_eq!((result.outcome, result.presence), (Outcome::Timeout, Presence::Present), "it accepts connections");
        let (_socket, silent) = silent_udp();
        let result = query(None, SHORT_TIMEOUT).run_udp(&[silent]);
        assert_eq!((result.outcome, result.presence), (Outcome::Timeout, Presence::Absent));
        let (_refusing_socket, refusing) = refusing();
        assert_eq!(query(None, LONG_TIMEOUT).run_tcp(&[refusing, unreachable()]).presence, Presence::Absent);
    }

    #[test]
    fn a_reset_before_the_question_is_sent_is_reported() {
        let (address, server) = server(|stream| reset(&stream));
        let stream = TcpStream::connect(address).unwrap();
        server.join().unwrap();
        // The RST has arrived, and no call has returned the error yet.
        let timeout = PollTimeout::try_from(LONG_TIMEOUT).unwrap();
        assert_eq!(poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], timeout), Ok(1));
        let result = query(None, LONG_TIMEOUT).run_stream(stream.into());
        assert_eq!(outcome_and_text(&result), (Outcome::Reset, "connection reset by peer before a reply"));
    }

    /// An address that refuses connections: its socket is bound and does not listen.
    fn refusing() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    fn unreachable() -> SocketAddr {
        "255.255.255.255:9".parse().unwrap()
    }

    fn silent_udp() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn greeting_udp() -> (SocketAddr, JoinHandle<()>) {
        let (socket, address) = silent_udp();
        let server = thread::spawn(move || {
            let (_, peer) = socket.recv_from(&mut [0; 100]).unwrap();
            socket.send_to(b"Hello, UDP Client!", peer).unwrap();
        });
        (address, server)
    }

    #[test]
    fn after_an_address_fails_the_next_is_tried_and_the_failure_is_noted() {
        let (_socket, refusing) = refusing();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let query = Query { send: None, ..query(None, LONG_TIMEOUT) };
        let result = query.run_tcp(&[unreachable(), refusing, address]);
        assert_eq!((outcome_and_text(&result), result.address), ((Outcome::Ok, "connected"), Some(address)));
        assert_eq!(result.notes.len(), 2, "{:?}", result.notes);
        assert!(result.notes[0].starts_with("255.255.255.255:9 "), "{:?}", result.notes);
        assert_eq!(result.notes[1], format!("{refusing} connection refused"));
    }

    #[test]
    fn fifty_silent_addresses_do_not_use_up_the_time() {
        let (_socket, silent) = silent_udp();
        let (address, server) = greeting_udp();
        let start = Instant::now();
        let result = query(None, LONG_TIMEOUT / 5).run_udp(&[vec![silent; 49], vec![address]].concat());
        server.join().unwrap();
        assert_eq!(outcome_and_text(&result), (Outcome::Ok, "Hello, UDP Client!"));
        assert_eq!(result.address, Some(address));
        assert_eq!(result.notes, vec![format!("{silent} is silent so far"); 49]);
        assert!(start.elapsed() < LONG_TIMEOUT / 5);
    }

    #[test]
    fn the_next_address_is_tried_after_250_ms_of_silence_or_at_once_after_a_failure() {
        let (_socket, silent) = silent_udp();
        let (connected, refusing) = silent_udp();
        connected.connect(silent).unwrap();
        // One failure is an error of `start`, the other one of `finish`.
        for others in [vec![], vec![unreachable(); 40], vec![refusing; 40]] {
            let (address, server) = greeting_udp();
            let start = Instant::now();
            // Far longer than the query takes, so that a wait for a share of it would be noticed.
            let query = query(None, LONG_TIMEOUT * 6);
            let result = query.run_udp(&[vec![silent], others.clone(), vec![address]].concat());
            server.join().unwrap();
            assert_eq!((result.outcome, result.address), (Outcome::Ok, Some(address)));
            assert_eq!(result.notes.len(), 1 + others.len());
            assert!(start.elapsed() < LONG_TIMEOUT / 4, "{:?}", start.elapsed());
        }
    }

    #[test]
    fn when_all_addresses_fail_each_is_reported_with_its_cause() {
        let (_socket, refusing) = refusing();
        let (_other_socket, silent) = silent_udp();
        let result = query(None, LONG_TIMEOUT).run_tcp(&[unreachable(), refusing]);
        assert_eq!((result.outcome, result.address), (Outcome::Refused, None));
        assert!(result.text.starts_with("255.255.255.255:9 "), "{}", result.text);
        assert!(result.text.ends_with(&format!("; {refusing} connection refused")), "{}", result.text);
        let result = query(None, SHORT_TIMEOUT).run_udp(&[unreachable(), silent]);
        assert_eq!((result.outcome, result.address), (Outcome::Timeout, None));
        assert!(result.text.ends_with(&format!("; {silent} no reply within 100ms")), "{}", result.text);
        // A UDP socket that is connected elsewhere receives nothing from this client, and the kernel refuses it (ICMP).
        let (connected, refusing) = silent_udp();
        connected.connect(silent).unwrap();
        let result = query(None, SHORT_TIMEOUT).run_udp(&[silent, refusing]);
        assert_eq!((result.outcome, result.notes.len()), (Outcome::Refused, 0));
        let result = query(None, LONG_TIMEOUT).run_tcp(&[unreachable(), unreachable()]);
        assert_eq!(result.outcome, Outcome::Unreachable);
    }

    #[test]
    fn a_socket_that_is_its_own_peer_is_refused() {
        for (socket_type, is_self) in [(Type::STREAM, true), (Type::DGRAM, true), (Type::DGRAM, false)] {
            let socket = Socket::new(Domain::IPV4, socket_type, None).unwrap();
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            let (other, _) = silent_udp();
            let address = if is_self { socket.local_addr().unwrap() } else { other.local_addr().unwrap().into() };
            socket.connect(&address).unwrap();
            let refused = refuse_self_connect(&socket).map_err(|error| error.kind());
            assert_eq!(refused, if is_self { Err(io::ErrorKind::ConnectionRefused) } else { Ok(()) });
            assert_eq!(finish_tcp(&socket).is_err(), is_self);
        }
    }
}
