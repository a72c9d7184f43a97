//! The handlers of TCP and unix connections, one for each mode.
//!
//! No greeting is sent once the greeter is exhausted.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use halloo::framing::{Format, FrameDecoder, Frames};
use halloo::{CloseReason, Connection, EventLoop, HandlerId, SendError, StreamHandler};

use crate::cli::flags::serve_options::Mode;
use crate::greeting::greeter::{Greeter, PlainGreeting, Question};
use crate::greeting::greeting_quota::Reservation;
use crate::greeting::greeting_templates::TemplateId;
use crate::text::bound_address::{Addresses, BoundAddress};
use crate::text::greeting_event::KEPT_BYTES_MAX;
use crate::text::served_socket::ServedSocket;

/// Lines of at most 16 KiB; a longer one closes the connection.
const LINES: FrameDecoder = FrameDecoder::new(Format::Lines, 16 * 1024);

/// Attaches a handler to a loop, as it is or in another handler.
pub(crate) trait AttachStreamHandler<'h> {
    fn attach_stream_handler(self, handler: impl StreamHandler + 'h) -> HandlerId;
}

impl<'h> AttachStreamHandler<'h> for &mut EventLoop<'h> {
    fn attach_stream_handler(self, handler: impl StreamHandler + 'h) -> HandlerId {
        self.attach(handler)
    }
}

/// Writes the replies of a handler to its connection.
pub(crate) trait StreamOutput {
    /// Whether each message is sent as it is, so that several replies may be one message.
    const IS_DIRECT: bool;

    /// Sends a whole message, or nothing of it.
    fn send(&self, connection: &mut Connection<'_>, message: &[u8]) -> Result<(), SendError>;

    /// Sends what fits, and returns how many bytes.
    fn try_write(&self, connection: &mut Connection<'_>, bytes: &[u8]) -> usize;

    /// Closes after the output is sent.
    fn close(&self, connection: &mut Connection<'_>);
}

/// Writes replies as they are.
#[derive(Clone, Copy)]
pub(crate) struct DirectOutput;

impl StreamOutput for DirectOutput {
    const IS_DIRECT: bool = true;

    fn send(&self, connection: &mut Connection<'_>, message: &[u8]) -> Result<(), SendError> {
        connection.send(message)
    }

    fn try_write(&self, connection: &mut Connection<'_>, bytes: &[u8]) -> usize {
        connection.try_write(bytes)
    }

    fn close(&self, connection: &mut Connection<'_>) {
        connection.close();
    }
}

/// Attaches the handler of a mode for one listener.
pub(crate) fn attach<'h, O: StreamOutput + 'h>(
    to: impl AttachStreamHandler<'h>,
    mode: Mode,
    greeter: &'h RefCell<Greeter>,
    socket: Arc<ServedSocket>,
    output: O,
) -> HandlerId {
    let suffix: &[u8] = if mode == Mode::Line { b"\n" } else { b"" };
    let (template, plain) = (greeter.borrow().template_of(&socket), greeter.borrow().plain_greeting(&socket, suffix));
    let service = Service { greeter, socket, template, suffix, plain: plain.filter(|_| O::IS_DIRECT), output };
    match mode {
        Mode::Greet => to.attach_stream_handler(GreetHandler { service }),
        Mode::Banner => to.attach_stream_handler(BannerHandler { service }),
        Mode::Line => to.attach_stream_handler(LineHandler { service }),
        Mode::Echo => to.attach_stream_handler(CountingHandler { service, echoes: true }),
        Mode::Discard => to.attach_stream_handler(CountingHandler { service, echoes: false }),
    }
}

/// The addresses of a connection of this socket.
pub(crate) fn addresses(socket: &ServedSocket, connection: &Connection<'_>) -> Addresses {
    Addresses {
        protocol: socket.protocol,
        // The client of a unix socket has an address only from a PROXY header.
        peer: connection.peer_addr(),
        local: match socket.unix_address() {
            Some(address) => Some(address.clone()),
            None => connection.local_addr().map(BoundAddress::from),
        },
    }
}

/// What every handler has: the greeter of its worker, its listener, the template of that, and where it writes.
struct Service<'h, O> {
    greeter: &'h RefCell<Greeter>,
    socket: Arc<ServedSocket>,
    template: TemplateId,
    /// What follows each greeting.
    suffix: &'static [u8],
    /// Then nothing else of a greeting is looked at; known from the start.
    plain: Option<PlainGreeting>,
    output: O,
}

impl<O: StreamOutput> Service<'_, O> {
    /// Whether no greeting is left. Plain greetings have no limit.
    fn is_exhausted(&self) -> bool {
        self.plain.is_none() && self.greeter.borrow().is_exhausted()
    }

    /// The addresses of a connection, if a greeting or an event contains them.
    fn addresses(&self, connection: &Connection<'_>) -> Option<Addresses> {
        self.greeter.borrow().addresses_if_needed(|| addresses(&self.socket, connection))
    }

    /// Sends one greeting in reply to `received`; false if no greeting is left.
    #[inline]
    fn send_greeting(&self, connection: &mut Connection<'_>, received: &[u8]) -> bool {
        let Some(plain) = &self.plain else { return self.send_rendered(connection, received) };
        let is_sent = self.output.send(connection, plain.once()).is_ok();
        plain.record(usize::from(is_sent));
        is_sent
    }

    fn send_rendered(&self, connection: &mut Connection<'_>, received: &[u8]) -> bool {
        let addresses = self.addresses(connection);
        let mut greeter = self.greeter.borrow_mut();
        let Some(reservation) = greeter.reserve() else { return false };
        let question = Question { addresses: addresses.as_ref(), proxy: proxy_of(connection, &greeter), received };
        let greeting = greeter.render(reservation.number(), self.template, &question, self.suffix);
        // It fits: a line is passed on only while half of the outbox is free, and the longest greeting needs less.
        let is_sent = self.output.send(connection, greeting).is_ok();
        // A reservation that is dropped is released.
        if is_sent {
            let (protocol, context) = (self.socket.protocol, connection.context());
            greeter.record(reservation, protocol, context, addresses, received.len() as u64, received);
        }
        is_sent
    }
}

/// The address of the proxy that has sent the client's address, if a greeting contains it. A unix socket has none.
fn proxy_of(connection: &Connection<'_>, greeter: &Greeter) -> Option<SocketAddr> {
    let sender = greeter.templates().has_proxy().then(|| connection.sender_addr()).flatten();
    sender.filter(|sender| Some(*sender) != connection.peer_addr())
}

/// Replies to the first bytes, or to EOF, then closes.
struct GreetHandler<'h, O> {
    service: Service<'h, O>,
}

impl<O: StreamOutput> StreamHandler for GreetHandler<'_, O> {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        (!self.service.is_exhausted()).then_some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        self.service.send_greeting(connection, input);
        self.service.output.close(connection);
        input.len()
    }

    /// No byte was received, or the connection would be closed: perhaps a port check. The reply is not counted.
    fn on_eof(&mut self, connection: &mut Connection<'_>, (): &mut (), _: &[u8]) {
        let addresses = self.service.addresses(connection);
        let mut greeter = self.service.greeter.borrow_mut();
        if let Some(number) = greeter.next_number() {
            // It fits: the outbox is empty.
            let question =
                Question { addresses: addresses.as_ref(), proxy: proxy_of(connection, &greeter), received: b"" };
            let greeting = greeter.render(number, self.service.template, &question, self.service.suffix);
            let _ = self.service.output.send(connection, greeting);
        }
        self.service.output.close(connection);
    }

    /// A request may still arrive and gets a reply, unless no greeting is left.
    fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        if self.service.is_exhausted() {
            self.service.output.close(connection);
        }
    }
}

/// Replies without waiting for a request, then closes. Each connection counts.
struct BannerHandler<'h, O> {
    service: Service<'h, O>,
}

impl<O: StreamOutput> StreamHandler for BannerHandler<'_, O> {
    type Session = ();

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
        self.service.send_greeting(connection, b"");
        // A refused connection closes after its outbox is sent.
        None
    }

    fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        input.len()
    }
}

/// Replies to each line, and stays connected.
struct LineHandler<'h, O> {
    service: Service<'h, O>,
}

impl<O: StreamOutput> LineHandler<'_, O> {
    fn answer(&self, connection: &mut Connection<'_>, line: &[u8]) {
        if !self.service.send_greeting(connection, line) {
            self.service.output.close(connection);
        }
    }
}

impl<O: StreamOutput> StreamHandler for LineHandler<'_, O> {
    type Session = FrameDecoder;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<FrameDecoder> {
        (!self.service.is_exhausted()).then_some(LINES)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, lines: &mut FrameDecoder, input: &[u8]) -> usize {
        let mut frames = Frames::new(input);
        if let Some(plain) = &mut self.service.plain {
            loop {
                let mut count = 0;
                // Measured: `count()` is not inlined, and takes 60 of 1,400 instructions a line.
                for _ in frames.batch(connection, lines, plain.once().len()) {
                    count += 1;
                }
                // They fit: that is the limit of the batch.
                if count == 0 || self.service.output.send(connection, plain.repeated(count)).is_err() {
                    return frames.finish(connection);
                }
                plain.record(count);
            }
        }
        while let Some(line) = frames.next(connection, lines) {
            self.answer(connection, line);
        }
        frames.finish(connection)
    }

    /// A last line without a newline, as `printf` writes it, gets a reply; an empty one does not.
    fn on_eof(&mut self, connection: &mut Connection<'_>, lines: &mut FrameDecoder, rest: &[u8]) {
        if let Some(line) = lines.unfinished(rest).filter(|line| !line.is_empty()) {
            self.answer(connection, line);
        }
        self.service.output.close(connection);
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut FrameDecoder) {
        connection.drain();
    }

    /// The only note is that of the drain delay.
    fn on_notify(&mut self, connection: &mut Connection<'_>, lines: &mut FrameDecoder, _: u64) {
        self.on_drain(connection, lines);
    }

    fn input_bytes_min(&self) -> usize {
        LINES.input_bytes_min()
    }
}

/// What a connection has received.
#[derive(Default)]
struct Received {
    /// Reserved at the first byte: a connection is served only within the limit, however long it stays open.
    reservation: Option<Reservation>,
    byte_count: u64,
    /// The beginning of the bytes: as much as an event shows.
    beginning: Vec<u8>,
}

/// Sends back all input, or sends nothing; its session counts the bytes.
struct CountingHandler<'h, O> {
    service: Service<'h, O>,
    /// Whether input is sent back.
    echoes: bool,
}

impl<O: StreamOutput> StreamHandler for CountingHandler<'_, O> {
    type Session = Received;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<Received> {
        (!self.service.is_exhausted()).then(Received::default)
    }

    /// Bytes that do not fit in the outbox are not taken. `on_data` gets them again when there is room.
    fn on_data(&mut self, connection: &mut Connection<'_>, received: &mut Received, input: &[u8]) -> usize {
        if received.reservation.is_none() {
            received.reservation = self.service.greeter.borrow().reserve();
        }
        if received.reservation.is_none() {
            self.service.output.close(connection);
            return input.len();
        }
        let taken = if self.echoes { self.service.output.try_write(connection, input) } else { input.len() };
        received.byte_count += taken as u64;
        let missing = KEPT_BYTES_MAX - received.beginning.len();
        if missing > 0 && self.service.greeter.borrow().logs_events() {
            received.beginning.extend_from_slice(&input[..taken.min(missing)]);
        }
        taken
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, _: &mut Received, _: &[u8]) {
        self.service.output.close(connection);
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut Received) {
        if self.echoes {
            connection.drain();
        } else {
            self.service.output.close(connection);
        }
    }

    /// The only note is that of the drain delay.
    fn on_notify(&mut self, connection: &mut Connection<'_>, received: &mut Received, _: u64) {
        self.on_drain(connection, received);
    }

    /// A closed connection counts as one greeting, unless it has received no byte, like a port check.
    fn on_close(&mut self, connection: &mut Connection<'_>, received: Received, _: CloseReason) {
        let Received { reservation: Some(reservation), byte_count, beginning } = received else { return };
        let (addresses, protocol) = (self.service.addresses(connection), self.service.socket.protocol);
        let mut greeter = self.service.greeter.borrow_mut();
        greeter.record(reservation, protocol, connection.context(), addresses, byte_count, &beginning);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpStream};
    use std::thread;
    use std::time::{Duration, Instant};

    use halloo::{EventLoop, Handle, Turn};

    use super::{DirectOutput, attach};
    use crate::cli::flags::serve_options::Mode;
    use crate::greeting::greeter::Greeter;
    use crate::text::served_socket::ServedSocket;

    /// Far beyond what any reply takes.
    const TEST_TIMEOUT: Duration = Duration::from_secs(20);

    /// Stops the loop when the client has finished or panicked.
    struct StopOnDrop(Handle);

    impl Drop for StopOnDrop {
        fn drop(&mut self) {
            let _ = self.0.stop();
        }
    }

    /// Runs the loop until the client has finished.
    fn run_with_client<T: Send>(
        mode: Mode,
        greeter: &RefCell<Greeter>,
        client: impl FnOnce(SocketAddr) -> T + Send,
    ) -> T {
        let mut event_loop = EventLoop::new().unwrap();
        let handler = attach(&mut event_loop, mode, greeter, ServedSocket::for_test(), DirectOutput);
        let listener = event_loop.listen_for(SocketAddr::from(([127, 0, 0, 1], 0)), handler).unwrap();
        let (address, stop_on_drop) = (event_loop.local_addr(listener).unwrap(), StopOnDrop(event_loop.handle()));
        thread::scope(|scope| {
            let client = scope.spawn(move || {
                let _stop_on_drop = stop_on_drop;
                client(address)
            });
            event_loop.run().unwrap();
            client.join().unwrap()
        })
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream
    }

    fn read_to_end(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn greet_answers_the_first_bytes_or_eof_and_counts_only_the_former() {
        let greeter = Greeter::for_test(Mode::Greet, Some("{number}"), None);
        run_with_client(Mode::Greet, &greeter, |address| {
            for number in ["1", "2"] {
                let mut half_closed = connect(address);
                half_closed.shutdown(Shutdown::Write).unwrap();
                assert_eq!(read_to_end(&mut half_closed), number);
                let mut sender = connect(address);
                sender.write_all(b"Hello, TCP Server!").unwrap();
                assert_eq!(read_to_end(&mut sender), number);
            }
        });
        assert_eq!(greeter.borrow().greeting_count(), 2);
    }

    #[test]
    fn banner_answers_without_a_request_and_numbers_its_greetings() {
        let greeter = Greeter::for_test(Mode::Banner, Some("{protocol} {number} {peer}"), None);
        run_with_client(Mode::Banner, &greeter, |address| {
            for number in 1..=3 {
                let mut client = connect(address);
                let client_address = client.local_addr().unwrap();
                assert_eq!(read_to_end(&mut client), format!("tcp {number} {client_address}"));
            }
        });
        assert_eq!(greeter.borrow().greeting_count(), 3);
    }

    #[test]
    fn line_answers_each_line_and_stays_connected() {
        for (greeting, expected) in [("{number}", ["1\n", "2\n", "3\n", "4\n"]), ("hi", ["hi\n"; 4])] {
            let greeter = Greeter::for_test(Mode::Line, Some(greeting), None);
            run_with_client(Mode::Line, &greeter, |address| {
                let mut lines = BufReader::new(connect(address));
                let mut reply = String::new();
                for (input, replies) in [("one\r\ntwo\nthr", &expected[..2]), ("ee\nlast", &expected[2..3])] {
                    lines.get_mut().write_all(input.as_bytes()).unwrap();
                    for expected in replies {
                        reply.clear();
                        lines.read_line(&mut reply).unwrap();
                        assert_eq!(reply, *expected);
                    }
                }
                lines.get_mut().shutdown(Shutdown::Write).unwrap();
                assert_eq!(read_to_end(lines.get_mut()), expected[3]);
            });
            assert_eq!(greeter.borrow().greeting_count(), 4);
        }
    }

    #[test]
    fn a_client_that_sends_many_lines_at_once_gets_a_greeting_for_each_and_all_are_counted() {
        const COUNT: usize = 100_000;
        let greeter = Greeter::for_test(Mode::Line, Some("hi"), None);
        run_with_client(Mode::Line, &greeter, |address| {
            let mut client = connect(address);
            let mut writer = client.try_clone().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    writer.write_all("\n".repeat(COUNT).as_bytes()).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                assert_eq!(read_to_end(&mut client), "hi\n".repeat(COUNT));
            });
        });
        assert_eq!(greeter.borrow().greeting_count(), COUNT as u64);
    }

    #[test]
    fn only_a_greeting_that_is_constant_not_limited_and_not_printed_is_plain() {
        for (greeting, max, is_plain) in
            [("hi", None, true), ("hi", Some(9), false), ("{number}", None, false), ("{peer}", None, false)]
        {
            let greeter = Greeter::for_test(Mode::Greet, Some(greeting), max);
            let plain = greeter.borrow().plain_greeting(&ServedSocket::for_test(), b"");
            assert_eq!(plain.is_some(), is_plain, "{greeting} {max:?}");
        }
    }

    #[test]
    fn echo_sends_back_every_byte() {
        let greeter = Greeter::for_test(Mode::Echo, None, None);
        let sent: String = "0123456789".repeat(50_000);
        let echoed = run_with_client(Mode::Echo, &greeter, |address| {
            let mut client = connect(address);
            let mut writer = client.try_clone().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    writer.write_all(sent.as_bytes()).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                read_to_end(&mut client)
            })
        });
        assert!(echoed == sent);
    }

    #[test]
    fn discard_reads_all_input_and_sends_nothing() {
        let greeter = Greeter::for_test(Mode::Discard, None, None);
        run_with_client(Mode::Discard, &greeter, |address| {
            let mut client = connect(address);
            client.write_all("x".repeat(200_000).as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&mut client), "");
        });
        assert_eq!(greeter.borrow().greeting_count(), 1);
    }

    #[test]
    fn a_connection_of_one_byte_is_counted_in_echo_and_discard() {
        for mode in [Mode::Echo, Mode::Discard] {
            let greeter = Greeter::for_test(mode, None, None);
            run_with_client(mode, &greeter, |address| {
                let mut client = connect(address);
                client.write_all(b"x").unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                read_to_end(&mut client)
            });
            assert_eq!(greeter.borrow().greeting_count(), 1, "{mode:?}");
        }
    }

    #[test]
    fn a_connection_without_a_byte_is_not_counted_in_line_echo_or_discard() {
        for mode in [Mode::Line, Mode::Echo, Mode::Discard] {
            let greeter = Greeter::for_test(mode, None, Some(1));
            run_with_client(mode, &greeter, |address| {
                let mut client = connect(address);
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(read_to_end(&mut client), "");
            });
            assert_eq!((greeter.borrow().greeting_count(), greeter.borrow().is_exhausted()), (0, false), "{mode:?}");
        }
    }

    #[test]
    fn a_connection_is_closed_without_an_answer_when_no_greeting_is_left() {
        for mode in [Mode::Greet, Mode::Banner, Mode::Line, Mode::Echo, Mode::Discard] {
            let greeter = Greeter::for_test(mode, None, Some(1));
            let _last = greeter.borrow().reserve().unwrap();
            run_with_client(mode, &greeter, |address| assert_eq!(read_to_end(&mut connect(address)), "", "{mode:?}"));
            assert_eq!(greeter.borrow().greeting_count(), 0);
        }
    }

    #[test]
    fn input_closes_the_connection_when_no_greeting_is_left() {
        for mode in [Mode::Greet, Mode::Line] {
            let greeter = Greeter::for_test(mode, None, Some(1));
            let mut event_loop = EventLoop::new().unwrap();
            let handler = attach(&mut event_loop, mode, &greeter, ServedSocket::for_test(), DirectOutput);
            let listener = event_loop.listen_for(SocketAddr::from(([127, 0, 0, 1], 0)), handler).unwrap();
            let mut client = connect(event_loop.local_addr(listener).unwrap());
            while event_loop.stats().connections == 0 {
                let _ = event_loop.turn(Some(TEST_TIMEOUT)).unwrap();
            }
            let _last = greeter.borrow().reserve().unwrap();
            client.write_all(b"hello\n").unwrap();
            while event_loop.stats().bytes_received == 0 {
                let _ = event_loop.turn(Some(TEST_TIMEOUT)).unwrap();
            }
            assert_eq!(read_to_end(&mut client), "", "{mode:?}");
        }
    }

    #[test]
    fn exactly_the_limit_of_greetings_is_sent_and_the_loop_ends() {
        for mode in [Mode::Greet, Mode::Banner, Mode::Line] {
            let greeter = Greeter::for_test(mode, None, Some(3));
            let mut event_loop = EventLoop::new().unwrap();
            greeter.borrow().set_loop(&event_loop);
            let handler = attach(&mut event_loop, mode, &greeter, ServedSocket::for_test(), DirectOutput);
            let listener = event_loop.listen_for(SocketAddr::from(([127, 0, 0, 1], 0)), handler).unwrap();
            let address = event_loop.local_addr(listener).unwrap();
            let clients: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
            for mut client in &clients {
                client.write_all(b"hello\n").unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            }
            let start = Instant::now();
            while !matches!(event_loop.turn(Some(TEST_TIMEOUT)).unwrap(), Turn::Stopped(_)) {
                assert!(start.elapsed() < TEST_TIMEOUT, "{mode:?}: the loop does not end");
            }
            drop(event_loop);
            let replies =
                clients.into_iter().map(|mut client| read_to_end(&mut client)).filter(|text| !text.is_empty()).count();
            assert_eq!((replies, greeter.borrow().greeting_count()), (3, 3), "{mode:?}");
        }
    }
}
