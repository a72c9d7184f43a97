//! Borrowed and boxed handlers.

use halloo::framing::{Format, FrameDecoder};
use halloo::{
    CloseReason, Connection, Datagram, DatagramHandler, ErrorKind, EventLoop, Listen, StreamHandler, datagrams,
    framing, stream,
};

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{recv, turn_until};

/// Counts bytes and datagrams, and records how connections ended.
#[derive(Default)]
struct Tally {
    bytes: usize,
    datagrams: usize,
    closed: Vec<(u32, CloseReason)>,
}

impl StreamHandler for Tally {
    /// How often this connection has sent input.
    type Session = u32;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<u32> {
        Some(0)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, times: &mut u32, input: &[u8]) -> usize {
        *times += 1;
        self.bytes += input.len();
        connection.try_write(input)
    }

    fn on_close(&mut self, _: &mut Connection<'_>, times: u32, reason: CloseReason) {
        self.closed.push((times, reason));
    }
}

impl DatagramHandler for Tally {
    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        self.datagrams += 1;
        assert!(datagram.reply(payload), "the reply is queued");
    }
}

/// Sends a line to a handler, reads it back and ends the connection.
fn echo_a_line_through(handler: impl StreamHandler) {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.request(&mut events, b"a line\n", 7), b"a line\n");
    client.half_close();
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
}

#[test]
fn a_borrowed_stream_handler_is_readable_after_the_loop() {
    let mut tally = Tally::default();
    echo_a_line_through(&mut tally as &mut dyn StreamHandler<Session = u32>);
    assert_eq!((tally.bytes, tally.closed.as_slice()), (7, &[(1, CloseReason::Eof)][..]));

    let mut bytes = 0;
    let mut closure = stream(|connection, input| {
        bytes += input.len();
        connection.try_write(input)
    });
    echo_a_line_through(&mut closure);
    echo_a_line_through(&mut closure);
    assert_eq!(bytes, 14);
}

#[test]
fn boxed_stream_handlers_have_one_type() {
    let handlers: [Box<dyn StreamHandler<Session = ()>>; 2] = [Box::new(stream(echo)), Box::new(stream(greet))];
    let mut events = EventLoop::new().expect("a loop");
    for (handler, answer) in handlers.into_iter().zip([b"hello", GREETING]) {
        let listener = events.listen(loopback(), handler).expect("a listener");
        let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
        assert_eq!(client.request(&mut events, b"hello", answer.len()), answer);
    }
}

#[test]
fn a_handler_of_lines_can_be_borrowed_or_boxed() {
    let mut lines = Vec::new();
    let mut echo = framing::lines(100, |connection, line| {
        lines.push(line.to_vec());
        Format::Lines.send(connection, line).expect("the outbox is empty");
    });
    echo_a_line_through(&mut echo);
    let boxed: Box<dyn StreamHandler<Session = FrameDecoder> + '_> = Box::new(&mut echo);
    echo_a_line_through(boxed);
    assert_eq!(lines, [b"a line"; 2]);
}

#[test]
fn a_datagram_handler_can_be_borrowed_or_boxed() {
    fn echo_a_datagram_through(handler: impl DatagramHandler) {
        let mut events = EventLoop::new().expect("a loop");
        let socket = events.bind(loopback(), handler).expect("a socket");
        let peer = udp_socket("127.0.0.1");
        peer.send_to(b"hello", events.local_addr(socket).expect("the socket is open")).expect("the datagram is sent");
        assert_eq!(recv(&mut events, &peer).0, b"hello");
    }
    let mut tally = Tally::default();
    echo_a_datagram_through(&mut tally);
    assert_eq!(tally.datagrams, 1);
    let boxed: Box<dyn DatagramHandler + '_> = Box::new(&mut tally);
    echo_a_datagram_through(boxed);
    assert_eq!(tally.datagrams, 2);

    let mut bytes = 0;
    let mut closure = datagrams(|datagram, payload| {
        bytes += payload.len();
        assert!(datagram.reply(payload), "the reply is queued");
    });
    echo_a_datagram_through(&mut closure);
    assert_eq!(bytes, 5);
}

#[test]
fn a_borrowed_and_a_boxed_handler_need_the_same_inbox_size_as_the_handler() {
    let lines_of_100 = || framing::lines(100, |_, _| {});
    let at = || Listen::from(loopback()).input_bytes_max(50);
    let mut borrowed = lines_of_100();
    let mut events = EventLoop::new().expect("a loop");
    let of_borrowed = events.listen(at(), &mut borrowed).expect_err("a line of 100 does not fit");
    let of_boxed = events.listen(at(), Box::new(lines_of_100())).expect_err("a line of 100 does not fit");
    assert_eq!((of_borrowed.kind(), of_boxed.kind()), (ErrorKind::InvalidOption, ErrorKind::InvalidOption));
}
