//! One question to one address over a blocking socket, and what came of it.
//!
//! The far end of `halloo probe`, beside the server and independent of its library: a check that shares no code with
//! what it checks. It promises that every question ends by its deadline, however slowly the other side drips, and that
//! each outcome has one class. It never half-closes: some servers take that for a goodbye.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::exit::{Status, plain_words};
use crate::text::escape;

/// A connection that stays open has said what it had to say when it is silent for so long.
const SILENCE: Duration = Duration::from_millis(250);

/// More than this is never read of an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a server that only listens has not given.
const NO_WORD: &str = "connected, but no answer";

/// What is asked, and until when an answer counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// What is sent; `None` only connects.
    pub(crate) send: Option<&'a [u8]>,
    /// What the answer must contain; `None` takes any.
    pub(crate) expect: Option<&'a [u8]>,
    /// When the question was asked.
    pub(crate) asked: Instant,
    /// How long the answer may take.
    pub(crate) timeout: Duration,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) class: Class,
    /// From the question to the last byte of the answer, or to its failure.
    pub(crate) time: Duration,
    /// Printable: what came, or what happened instead.
    pub(crate) text: String,
}

/// One word for each outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Ok,
    Refused,
    Timeout,
    Unreachable,
    Dns,
    Mismatch,
}

impl Class {
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
    pub(crate) const fn status(self) -> Status {
        match self {
            Self::Ok => Status::Done,
            Self::Refused | Self::Unreachable | Self::Dns => Status::Unreachable,
            Self::Timeout => Status::TimedOut,
            Self::Mismatch => Status::WrongAnswer,
        }
    }
}

impl Question<'_> {
    /// Asks over TCP.
    pub(crate) fn tcp(&self, address: SocketAddr) -> Answer {
        self.stream(self.left().and_then(|left| TcpStream::connect_timeout(&address, left)).map(Socket::from))
    }

    /// Asks at a unix socket.
    pub(crate) fn unix(&self, path: &Path) -> Answer {
        self.stream(self.connect(path))
    }

    fn connect(&self, path: &Path) -> io::Result<Socket> {
        let (socket, address) = (Socket::new(Domain::UNIX, Type::STREAM, None)?, SockAddr::unix(path)?);
        loop {
            // It also bounds the wait for room in the backlog (unix(7), socket(7)).
            socket.set_write_timeout(Some(self.left()?))?;
            match socket.connect(&address) {
                Ok(()) => return Ok(socket),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn stream(&self, connected: io::Result<Socket>) -> Answer {
        match (connected, self.send) {
            (Err(error), _) => self.failed(&error, "no connection"),
            (Ok(_), None) => self.ended(Class::Ok, "connected"),
            (Ok(stream), Some(send)) => self.talk(stream, send).unwrap_or_else(|error| self.failed(&error, NO_WORD)),
        }
    }

    /// Asks over UDP; the first datagram is the answer.
    pub(crate) fn udp(&self, address: SocketAddr) -> Answer {
        self.try_udp(address).unwrap_or_else(|error| self.failed(&error, "no answer"))
    }

    /// An outcome of this moment.
    pub(crate) fn ended(&self, class: Class, text: impl Into<String>) -> Answer {
        Answer { class, time: self.asked.elapsed(), text: text.into() }
    }

    /// The outcome of a question whose time is over, and what was missing when it was.
    pub(crate) fn timed_out(&self, missing: &str) -> Answer {
        self.ended(Class::Timeout, format!("{missing} within {}", crate::text::duration::show(self.timeout)))
    }

    /// The time left; an error once there is none.
    pub(crate) fn left(&self) -> io::Result<Duration> {
        match self.timeout.checked_sub(self.asked.elapsed()) {
            None | Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
            Some(left) => Ok(left),
        }
    }

    fn talk(&self, mut stream: Socket, send: &[u8]) -> io::Result<Answer> {
        self.say(&mut stream, send)?;
        self.hear(&mut stream)
    }

    fn say(&self, stream: &mut Socket, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            stream.set_write_timeout(Some(self.left()?))?;
            match stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A server that answers without listening may have closed already: its answer is still to be read.
                Err(error) if has_closed(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn hear(&self, stream: &mut Socket) -> io::Result<Answer> {
        let mut heard = Vec::new();
        let mut time = self.asked.elapsed();
        let mut chunk = [0; 4096];
        while heard.len() < ANSWER_BYTES_MAX && !self.is_enough(&heard) {
            let Ok(left) = self.left() else {
                break;
            };
            let settles = self.expect.is_none() && !heard.is_empty();
            stream.set_read_timeout(Some(if settles { left.min(SILENCE) } else { left }))?;
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(self.judge_end(&heard, time)),
                Ok(count) => {
                    heard.extend_from_slice(&chunk[..count]);
                    time = self.asked.elapsed();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_over(&error) => break,
                Err(error) if has_closed(&error) => return Ok(self.judge_end(&heard, time)),
                Err(error) => return Err(error),
            }
        }
        if heard.is_empty() {
            return Ok(self.timed_out(NO_WORD));
        }
        Ok(self.judge(&heard, time))
    }

    fn try_udp(&self, address: SocketAddr) -> io::Result<Answer> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        // Connected, the socket hears from nobody else, and hears that nobody is there.
        socket.connect(address)?;
        socket.set_write_timeout(Some(self.left()?))?;
        socket.send(self.send.unwrap_or_default())?;
        let mut datagram = vec![0; ANSWER_BYTES_MAX];
        loop {
            socket.set_read_timeout(Some(self.left()?))?;
            match socket.recv(&mut datagram) {
                Ok(count) => return Ok(self.judge(&datagram[..count], self.asked.elapsed())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn is_enough(&self, heard: &[u8]) -> bool {
        self.expect.is_some_and(|expected| contains(heard, expected))
    }

    /// Judges what came before the other side closed.
    fn judge_end(&self, heard: &[u8], time: Duration) -> Answer {
        if heard.is_empty() {
            return self.ended(Class::Mismatch, "closed without an answer");
        }
        self.judge(heard, time)
    }

    fn judge(&self, heard: &[u8], time: Duration) -> Answer {
        let right = self.expect.is_none_or(|expected| contains(heard, expected));
        let class = if right { Class::Ok } else { Class::Mismatch };
        Answer { class, time, text: escape::text(heard) }
    }

    fn failed(&self, error: &io::Error, missing: &str) -> Answer {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => self.ended(Class::Refused, "nobody listens there"),
            _ if has_closed(error) => self.ended(Class::Refused, "the connection was reset"),
            _ if is_over(error) => self.timed_out(missing),
            _ => self.ended(Class::Unreachable, plain_words(error)),
        }
    }
}

fn contains(heard: &[u8], expected: &[u8]) -> bool {
    heard.windows(expected.len()).any(|window| window == expected)
}

fn has_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe
    )
}

/// A socket's timeout shows as either kind, by system.
fn is_over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::thread::{self, JoinHandle};
    use std::time::{Duration, Instant};

    use super::{Answer, Class, Question};

    /// Far beyond what any answer takes.
    const LONG: Duration = Duration::from_secs(20);
    /// What a silent server costs a test.
    const SHORT: Duration = Duration::from_millis(100);

    fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (address, thread::spawn(move || serve(listener.accept().unwrap().0)))
    }

    fn question(expect: Option<&'static str>, timeout: Duration) -> Question<'static> {
        let expect = expect.map(str::as_bytes);
        Question { send: Some(b"Hello, TCP Server!"), expect, asked: Instant::now(), timeout }
    }

    fn found(answer: &Answer) -> (Class, &str) {
        (answer.class, &answer.text)
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
        assert_eq!(found(&question(None, LONG).tcp(address)), (Class::Ok, "Hello, TCP Server!"));
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
            let answer = question(expect, LONG).tcp(address);
            assert_eq!(found(&answer), (Class::Ok, r"first second\n"));
            assert!(answer.time < LONG / 2);
            server.join().unwrap();
        }
    }

    #[test]
    fn a_server_that_drips_for_ever_is_left_at_the_deadline() {
        let (address, server) = server(|mut stream| while stream.write_all(b"x").is_ok() {});
        let timeout = SHORT * 3;
        let asked = Instant::now();
        let answer = question(Some("never"), timeout).tcp(address);
        assert_eq!(answer.class, Class::Mismatch);
        assert!(asked.elapsed() < LONG / 2);
        server.join().unwrap();
    }

    #[test]
    fn every_failure_has_its_class() {
        let (silent, server_one) = server(wait_for_end);
        assert_eq!(question(None, SHORT).tcp(silent).class, Class::Timeout);
        server_one.join().unwrap();
        let (mute, server_two) = server(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
        });
        assert_eq!(found(&question(None, LONG).tcp(mute)), (Class::Mismatch, "closed without an answer"));
        server_two.join().unwrap();
        // Its listener is gone.
        assert_eq!(question(None, LONG).tcp(mute).class, Class::Refused);
        let nowhere = "255.255.255.255:9".parse().unwrap();
        assert_eq!(question(None, LONG).tcp(nowhere).class, Class::Unreachable);
    }

    #[test]
    fn connecting_is_enough_where_nothing_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let question = Question { send: None, ..question(None, LONG) };
        assert_eq!(found(&question.tcp(listener.local_addr().unwrap())), (Class::Ok, "connected"));
    }

    #[test]
    fn udp_tells_answered_wrong_silent_and_refused_apart() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let answering = thread::spawn(move || {
            for _ in 0..2 {
                let (_, peer) = server.recv_from(&mut [0; 100]).unwrap();
                server.send_to(b"Hello, UDP Client!", peer).unwrap();
            }
            server
        });
        assert_eq!(found(&question(None, LONG).udp(address)), (Class::Ok, "Hello, UDP Client!"));
        assert_eq!(question(Some("Bye"), LONG).udp(address).class, Class::Mismatch);
        let server = answering.join().unwrap();
        assert_eq!(question(None, SHORT).udp(address).class, Class::Timeout);
        drop(server);
        assert_eq!(question(None, LONG).udp(address).class, Class::Refused);
    }
}
