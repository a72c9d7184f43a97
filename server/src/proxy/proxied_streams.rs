//! Reads the PROXY header of each connection, before its handler.
//!
//! A trusted client has to send a header: the inner handler opens the connection after it. Any other client is served
//! directly, and refused if it sends a header.

use std::io;
use std::rc::Rc;

use halloo::{CloseReason, Connection, ConnectionId, Context, HandlerId, StreamHandler, TimerId};

use crate::greeting::worker_counters::HeaderError;
use crate::proxy::header::{HEADER_BYTES_MAX, Parsed, begins_with_signature, parse_stream};
use crate::proxy::header_policy::HeaderPolicy;

/// A handler of streams behind proxies.
pub(crate) struct ProxiedStreams<'h, H> {
    inner: H,
    policy: Rc<HeaderPolicy<'h>>,
}

/// A connection of a client.
#[derive(Debug)]
pub(crate) enum Session<S> {
    /// A trusted client, whose header has not arrived yet.
    Awaited {
        is_draining: bool,
    },
    Served {
        inner: S,
        stage: Stage,
    },
    /// Refused by this handler or the inner one.
    Refused,
}

/// What a served client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing; it is not trusted to send a header.
    NoInput,
    /// The same, in a drain: the beginning of a signature is ordinary input, because no more may follow.
    NoInputInDrain,
    /// The beginning of a signature; it is not trusted.
    MayBeHeader,
    /// The same, and the loop drains: the bytes are delivered again as input, and then the drain.
    DrainsAfterInput,
    /// A header, or something that is none.
    Input,
}

impl<'h, H: StreamHandler> ProxiedStreams<'h, H> {
    pub(crate) fn new(inner: H, policy: Rc<HeaderPolicy<'h>>) -> Self {
        Self { inner, policy }
    }

    /// Opens the connection of a trusted client after its header, and delivers the rest of the input. Returns how many
    /// bytes of the rest are consumed.
    fn open(
        &mut self,
        connection: &mut Connection<'_>,
        session: &mut Session<H::Session>,
        is_draining: bool,
        rest: &[u8],
    ) -> usize {
        connection.set_timeout(None);
        let Some(mut opened) = self.inner.on_open(connection) else {
            *session = Session::Refused;
            connection.close();
            return rest.len();
        };
        let consumed = if rest.is_empty() { 0 } else { self.inner.on_data(connection, &mut opened, rest) };
        if is_draining {
            self.inner.on_drain(connection, &mut opened);
        }
        *session = Session::Served { inner: opened, stage: Stage::Input };
        consumed
    }

    /// Input of a client that is not trusted, before it is known to be no header.
    fn on_direct_data(
        &mut self,
        connection: &mut Connection<'_>,
        session: &mut Session<H::Session>,
        input: &[u8],
    ) -> usize {
        let Session::Served { inner, stage } = session else { return input.len() };
        if *stage != Stage::DrainsAfterInput {
            match begins_with_signature(input) {
                Some(true) => {
                    *session = self.refuse(connection, HeaderError::Untrusted);
                    return input.len();
                }
                Some(false) => {}
                None if *stage == Stage::NoInputInDrain => {}
                None => {
                    if *stage == Stage::NoInput {
                        connection.set_timeout(Some(self.policy.header_timeout));
                        *stage = Stage::MayBeHeader;
                    }
                    return 0;
                }
            }
        }
        if *stage == Stage::MayBeHeader {
            connection.set_timeout(None);
        }
        let drains = std::mem::replace(stage, Stage::Input) == Stage::DrainsAfterInput;
        let consumed = self.inner.on_data(connection, inner, input);
        if drains {
            self.inner.on_drain(connection, inner);
        }
        consumed
    }

    fn refuse(&self, connection: &mut Connection<'_>, error: HeaderError) -> Session<H::Session> {
        self.count(connection, error);
        connection.reject();
        Session::Refused
    }

    fn count(&self, connection: &mut Connection<'_>, error: HeaderError) {
        let (handler, peer) = (connection.handler(), connection.peer_addr());
        self.policy.refuse(connection.context(), handler, peer, error);
    }
}

impl<H: StreamHandler> StreamHandler for ProxiedStreams<'_, H> {
    type Session = Session<H::Session>;

    fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        self.inner.on_start(context, id);
    }

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Self::Session> {
        let peer = connection.peer_addr();
        if self.policy.trusts(peer) {
            connection.set_timeout(Some(self.policy.header_timeout));
            return Some(Session::Awaited { is_draining: false });
        }
        // This counts the client in the limit per source.
        if peer.is_some_and(|peer| !connection.set_peer_addr(peer)) {
            return None;
        }
        let inner = self.inner.on_open(connection)?;
        Some(Session::Served { inner, stage: Stage::NoInput })
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, input: &[u8]) -> usize {
        let is_draining = match session {
            Session::Served { inner, stage: Stage::Input } => return self.inner.on_data(connection, inner, input),
            Session::Served { .. } => return self.on_direct_data(connection, session, input),
            Session::Awaited { is_draining } => *is_draining,
            Session::Refused => return input.len(),
        };
        let error = match parse_stream(input) {
            Parsed::Incomplete => return 0,
            Parsed::Header { client, length } => {
                self.policy.count_accepted(input);
                let peer = client.or_else(|| connection.peer_addr());
                if peer.is_some_and(|peer| !connection.set_peer_addr(peer)) {
                    *session = Session::Refused;
                    return input.len();
                }
                return length + self.open(connection, session, is_draining, &input[length..]);
            }
            Parsed::NoHeader => HeaderError::Missing,
            Parsed::Invalid(error) => error,
        };
        *session = self.refuse(connection, error);
        input.len()
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, rest: &[u8]) {
        match session {
            Session::Served { inner, stage: Stage::Input } => self.inner.on_eof(connection, inner, rest),
            Session::Served { inner, .. } => {
                // The rest is the beginning of a signature: the outbox is empty, so that it is consumed at once.
                let consumed = if rest.is_empty() { 0 } else { self.inner.on_data(connection, inner, rest) };
                self.inner.on_eof(connection, inner, &rest[consumed..]);
            }
            // A check that connects and leaves without a byte.
            Session::Awaited { .. } if rest.is_empty() => connection.close(),
            Session::Awaited { .. } => *session = self.refuse(connection, HeaderError::Incomplete),
            Session::Refused => {}
        }
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        if let Session::Served { inner, .. } = session {
            self.inner.on_flushed(connection, inner);
        }
    }

    fn on_timeout(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        match session {
            Session::Awaited { .. } => *session = self.refuse(connection, HeaderError::Timeout),
            Session::Served { stage: stage @ Stage::MayBeHeader, .. } => {
                *stage = Stage::Input;
                deliver_again(connection);
            }
            Session::Served { inner, .. } => self.inner.on_timeout(connection, inner),
            Session::Refused => {}
        }
    }

    fn on_timer(&mut self, context: &mut Context, timer: TimerId, value: u64) {
        if !self.policy.on_timer(context, timer) {
            self.inner.on_timer(context, timer, value);
        }
    }

    /// The only note is that of the drain delay: this connection drains alone.
    fn on_notify(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, _: u64) {
        self.on_drain(connection, session);
    }

    /// A header may still arrive during the drain: the request is behind it.
    fn on_drain(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        match session {
            Session::Awaited { .. } if self.policy.is_exhausted() => connection.close(),
            Session::Awaited { is_draining } => *is_draining = true,
            Session::Served { stage: stage @ Stage::MayBeHeader, .. } => {
                *stage = Stage::DrainsAfterInput;
                connection.set_timeout(None);
                deliver_again(connection);
            }
            Session::Served { inner, stage } => {
                if *stage == Stage::NoInput {
                    *stage = Stage::NoInputInDrain;
                }
                self.inner.on_drain(connection, inner);
            }
            Session::Refused => {}
        }
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, session: Self::Session, reason: CloseReason) {
        match session {
            Session::Served { inner, .. } => self.inner.on_close(connection, inner, reason),
            // The idle timeout is shorter than the header's.
            Session::Awaited { .. } if reason == CloseReason::TimedOut => self.count(connection, HeaderError::Timeout),
            Session::Awaited { .. } | Session::Refused => {}
        }
    }

    fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
        self.inner.on_connect_failed(context, id, error);
    }

    fn input_bytes_min(&self) -> usize {
        self.inner.input_bytes_min().max(HEADER_BYTES_MAX)
    }
}

/// Delivers unconsumed input again: a resume does so.
fn deliver_again(connection: &mut Connection<'_>) {
    connection.pause();
    connection.resume();
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpStream};
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use halloo::{EventLoop, HandlerId, Listen, StreamHandler, Turn};

    use super::ProxiedStreams;
    use crate::cli::flags::serve_options::Mode;
    use crate::greeting::greeter::Greeter;
    use crate::greeting::stream_handlers::{self, AttachStreamHandler, DirectOutput};
    use crate::greeting::worker_counters::HeaderError;
    use crate::proxy::header_policy::HeaderPolicy;
    use crate::text::served_socket::ServedSocket;

    const TEST_TIMEOUT: Duration = Duration::from_secs(20);
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 80\r\n";
    const LONG: Duration = Duration::from_secs(3600);

    /// A loop, its server, and one client.
    struct Served<'h> {
        event_loop: EventLoop<'h>,
        client: TcpStream,
        handler: HandlerId,
        greeter: &'h RefCell<Greeter>,
    }

    struct Attach<'l, 'h>(&'l mut EventLoop<'h>, Rc<HeaderPolicy<'h>>);

    impl<'h> AttachStreamHandler<'h> for Attach<'_, 'h> {
        fn attach_stream_handler(self, handler: impl StreamHandler + 'h) -> HandlerId {
            self.0.attach(ProxiedStreams::new(handler, self.1))
        }
    }

    impl<'h> Served<'h> {
        fn new(greeter: &'h RefCell<Greeter>, mode: Mode, trusted: &str, header_timeout: Duration) -> Self {
            let mut event_loop = EventLoop::new().unwrap();
            let mut policy = HeaderPolicy::new(vec![trusted.parse().unwrap()], greeter);
            policy.header_timeout = header_timeout;
            let handler = stream_handlers::attach(
                Attach(&mut event_loop, Rc::new(policy)),
                mode,
                greeter,
                ServedSocket::for_test(),
                DirectOutput,
            );
            let any_port = Listen::from(SocketAddr::from(([127, 0, 0, 1], 0))).peer_addr_from_handler(true);
            let listener = event_loop.listen_for(any_port, handler).unwrap();
            let client = TcpStream::connect(event_loop.local_addr(listener).unwrap()).unwrap();
            client.set_nonblocking(true).unwrap();
            let mut served = Self { event_loop, client, handler, greeter };
            served.turn_until(|served| served.event_loop.stats().accepted == 1);
            served
        }

        fn turn_until(&mut self, condition: impl Fn(&Self) -> bool) {
            let start = Instant::now();
            while !condition(self) {
                assert!(start.elapsed() < TEST_TIMEOUT, "{}", self.event_loop.stats());
                let _ = self.event_loop.turn(Some(Duration::from_millis(10))).unwrap();
            }
        }

        fn send(&mut self, bytes: &[u8]) {
            let received = self.event_loop.stats().bytes_received + bytes.len() as u64;
            self.client.write_all(bytes).unwrap();
            self.turn_until(|served| served.event_loop.stats().bytes_received == received);
        }

        /// Everything that the client receives, up to EOF; an error if the connection is reset.
        fn read_to_end(&mut self) -> Result<String, ErrorKind> {
            let (start, mut received) = (Instant::now(), Vec::new());
            loop {
                assert!(start.elapsed() < TEST_TIMEOUT, "no EOF: {}", self.event_loop.stats());
                let _ = self.event_loop.turn(Some(Duration::from_millis(10))).unwrap();
                match self.client.read_to_end(&mut received) {
                    Ok(_) => return Ok(String::from_utf8(received).unwrap()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.kind()),
                }
            }
        }

        fn half_close(&mut self) {
            self.client.shutdown(Shutdown::Write).unwrap();
        }

        /// What the client has received by now.
        fn received(&mut self) -> String {
            let mut buffer = [0; 256];
            let count = self.client.read(&mut buffer).unwrap_or(0);
            String::from_utf8_lossy(&buffer[..count]).into_owned()
        }

        fn header_errors(&self) -> Vec<HeaderError> {
            let greeter = self.greeter.borrow();
            let errors = HeaderError::ALL.into_iter();
            errors.filter(|error| greeter.counters().header_errors(*error).get() > 0).collect()
        }
    }

    fn with_greeting(mode: Mode) -> RefCell<Greeter> {
        Greeter::for_test(mode, Some("hello {peer}"), None)
    }

    #[test]
    fn banner_waits_for_the_header_of_a_trusted_client_and_greets_the_real_one() {
        let greeter = with_greeting(Mode::Banner);
        let mut served = Served::new(&greeter, Mode::Banner, "127.0.0.1", LONG);
        let (head, tail) = HEADER.split_at(20);
        served.send(head);
        assert_eq!((served.received().as_str(), served.event_loop.stats().connections), ("", 1));
        served.send(tail);
        served.half_close();
        assert_eq!(served.read_to_end().as_deref(), Ok("hello 192.0.2.7:4711"));
        assert_eq!(served.header_errors(), []);
    }

    #[test]
    fn a_request_is_answered_in_the_segment_of_the_header_and_in_a_later_one() {
        for is_one_segment in [true, false] {
            let greeter = with_greeting(Mode::Line);
            let mut served = Served::new(&greeter, Mode::Line, "127.0.0.0/8", LONG);
            if is_one_segment {
                served.send(&[HEADER, b"one\ntwo\n"].concat());
            } else {
                for segment in [HEADER, b"on", b"e\ntwo\n"] {
                    served.send(segment);
                }
            }
            served.half_close();
            assert_eq!(served.read_to_end().as_deref(), Ok("hello 192.0.2.7:4711\nhello 192.0.2.7:4711\n"));
        }
    }

    #[test]
    fn a_trusted_client_that_leaves_without_a_byte_is_not_counted() {
        for mode in [Mode::Greet, Mode::Banner, Mode::Line, Mode::Echo] {
            let greeter = with_greeting(mode);
            let mut served = Served::new(&greeter, mode, "127.0.0.1", LONG);
            served.half_close();
            assert_eq!(served.read_to_end().as_deref(), Ok(""));
            assert_eq!((served.header_errors(), greeter.borrow().greeting_count()), (vec![], 0), "{mode:?}");
        }
    }

    #[test]
    fn a_trusted_client_is_reset_for_a_wrong_or_missing_or_late_header() {
        for (input, ends, error) in [
            (&b"GET / HTTP/1.1\r\n"[..], false, HeaderError::Missing),
            (b"PROXY TCP4 1.2.3.4\r\n", false, HeaderError::Malformed),
            (b"PROXY TCP4 1.2", true, HeaderError::Incomplete),
            (b"PROXY TCP4 1.2", false, HeaderError::Timeout),
            (b"", false, HeaderError::Timeout),
        ] {
            let greeter = with_greeting(Mode::Greet);
            let timeout = if error == HeaderError::Timeout { Duration::from_millis(20) } else { LONG };
            let mut served = Served::new(&greeter, Mode::Greet, "127.0.0.1", timeout);
            served.client.write_all(input).unwrap();
            if ends {
                served.half_close();
            }
            assert_eq!(served.read_to_end(), Err(ErrorKind::ConnectionReset), "{error:?}");
            assert_eq!((served.header_errors(), greeter.borrow().greeting_count()), (vec![error], 0));
            assert_eq!(served.event_loop.stats().closed(halloo::CloseReason::Rejected), 1);
        }
    }

    #[test]
    fn a_header_in_time_ends_the_header_timeout() {
        let greeter = with_greeting(Mode::Echo);
        let mut served = Served::new(&greeter, Mode::Echo, "127.0.0.1", Duration::from_millis(500));
        served.send(HEADER);
        let start = Instant::now();
        served.turn_until(|_| start.elapsed() > Duration::from_millis(600));
        served.send(b"hello");
        served.half_close();
        assert_eq!(served.read_to_end().as_deref(), Ok("hello"));
    }

    #[test]
    fn a_direct_client_is_served_and_refused_after_a_header() {
        for (input, reply) in [
            (&b"hello"[..], Ok("hello")),
            (b"PROXY\n", Ok("PROXY\n")),
            (b"\r\n\r\nx", Ok("\r\n\r\nx")),
            (HEADER, Err(ErrorKind::ConnectionReset)),
            (b"\r\n\r\n\0\r\nQUIT\n", Err(ErrorKind::ConnectionReset)),
        ] {
            for segment_bytes in [1, input.len()] {
                let greeter = with_greeting(Mode::Echo);
                let mut served = Served::new(&greeter, Mode::Echo, "10.0.0.0/8", LONG);
                for segment in input.chunks(segment_bytes) {
                    if served.event_loop.stats().connections == 1 {
                        served.send(segment);
                    }
                }
                if reply.is_ok() {
                    served.half_close();
                }
                let errors = if reply.is_ok() { vec![] } else { vec![HeaderError::Untrusted] };
                assert_eq!(served.read_to_end(), reply.map(ToOwned::to_owned), "{}", input.escape_ascii());
                assert_eq!(served.header_errors(), errors);
            }
        }
    }

    #[test]
    fn the_beginning_of_a_signature_is_ordinary_input_of_a_direct_client_after_the_timeout_eof_or_drain() {
        for end in ["timeout", "EOF", "drain"] {
            let greeter = with_greeting(Mode::Echo);
            let timeout = if end == "timeout" { Duration::from_millis(20) } else { LONG };
            let mut served = Served::new(&greeter, Mode::Echo, "10.0.0.0/8", timeout);
            served.send(b"PROX");
            match end {
                "timeout" => {
                    served.turn_until(|served| served.event_loop.stats().bytes_sent == 4);
                    served.send(b"Y TCP4 ");
                    served.half_close();
                    assert_eq!(served.read_to_end().as_deref(), Ok("PROXY TCP4 "));
                }
                "EOF" => {
                    served.half_close();
                    assert_eq!(served.read_to_end().as_deref(), Ok("PROX"));
                }
                _ => {
                    served.event_loop.context().drain(TEST_TIMEOUT);
                    served.turn_until(|served| served.event_loop.stats().bytes_sent == 4);
                }
            }
            assert_eq!(served.header_errors(), [], "{end}");
        }
    }

    #[test]
    fn the_beginning_of_a_signature_that_arrives_just_before_the_drain_is_ordinary_input() {
        let greeter = with_greeting(Mode::Echo);
        let mut served = Served::new(&greeter, Mode::Echo, "10.0.0.0/8", LONG);
        let mut open = Vec::new();
        served.event_loop.context().for_each_connection(served.handler, |connection| open.push(connection.id()));
        let (mut client, handle) = (served.client.try_clone().unwrap(), served.event_loop.handle());
        // Both in one turn, after its poll: the note is delivered before the input is read.
        handle.post(move |_| client.write_all(b"PROX").unwrap()).unwrap();
        handle.notify(open[0], 0).unwrap();
        assert_eq!(served.read_to_end().as_deref(), Ok("PROX"));
        assert_eq!(served.header_errors(), []);
    }

    #[test]
    fn a_header_and_its_request_are_served_during_a_drain() {
        for mode in [Mode::Greet, Mode::Banner, Mode::Line] {
            let greeter = with_greeting(mode);
            let mut served = Served::new(&greeter, mode, "127.0.0.1", LONG);
            served.event_loop.context().drain(LONG);
            while served.event_loop.turn(Some(Duration::ZERO)).unwrap() != Turn::Idle {}
            assert_eq!(served.event_loop.stats().connections, 1, "{mode:?}");
            served.send(&[HEADER, b"one\n"].concat());
            let reply = served.read_to_end().unwrap();
            assert_eq!(reply.trim_end(), "hello 192.0.2.7:4711", "{mode:?}");
        }
    }

    #[test]
    fn a_drain_without_a_greeting_left_awaits_no_header() {
        let greeter = Greeter::for_test(Mode::Greet, None, Some(1));
        let mut served = Served::new(&greeter, Mode::Greet, "127.0.0.1", LONG);
        let _last = greeter.borrow().reserve().unwrap();
        served.event_loop.context().drain(LONG);
        assert_eq!(served.read_to_end().as_deref(), Ok(""));
    }

    #[test]
    fn each_source_has_its_limit_behind_a_proxy_and_in_front_of_it() {
        let greeter = with_greeting(Mode::Echo);
        for trusted in ["127.0.0.1", "10.0.0.0/8"] {
            let mut event_loop = EventLoop::new().unwrap();
            let policy = Rc::new(HeaderPolicy::new(vec![trusted.parse().unwrap()], &greeter));
            let handler = stream_handlers::attach(
                Attach(&mut event_loop, policy),
                Mode::Echo,
                &greeter,
                ServedSocket::for_test(),
                DirectOutput,
            );
            let listen = Listen::from(SocketAddr::from(([127, 0, 0, 1], 0)));
            let listen = listen.peer_addr_from_handler(true).connections_per_source_max(2);
            let listener = event_loop.listen_for(listen, handler).unwrap();
            let address = event_loop.local_addr(listener).unwrap();
            let clients: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(address).unwrap()).collect();
            if trusted == "127.0.0.1" {
                for (index, mut client) in clients.iter().enumerate() {
                    write!(client, "PROXY TCP4 192.0.2.{} 198.51.100.1 1 2\r\n", index % 2).unwrap();
                }
            }
            let (start, refused) = (Instant::now(), if trusted == "127.0.0.1" { 2 } else { 4 });
            while event_loop.stats().refused_source < refused {
                assert!(start.elapsed() < TEST_TIMEOUT, "{}", event_loop.stats());
                let _ = event_loop.turn(Some(Duration::from_millis(10))).unwrap();
            }
            let _ = event_loop.turn(Some(Duration::from_millis(50))).unwrap();
            assert_eq!((event_loop.stats().refused_source, event_loop.stats().connections), (refused, 6 - refused));
        }
    }
}
