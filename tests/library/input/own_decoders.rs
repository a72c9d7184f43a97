//! Decoders of formats that the library does not have.

use std::cell::RefCell;

use halloo::framing::{Decoded, Decoder, Frames};
use halloo::{CloseReason, Connection, EventLoop, Listen, StreamHandler};

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::turn_until::turn_until;

/// Decodes bodies, each after a `b` and its length in three bytes. A body comes in parts.
#[derive(Default)]
struct BodyDecoder {
    missing: usize,
}

#[derive(PartialEq, Eq, Debug)]
enum Part<'i> {
    Length(usize),
    Body(&'i [u8]),
}

impl Decoder for BodyDecoder {
    type Frame<'i> = Part<'i>;
    type Error = u8;

    fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<Part<'i>>, u8> {
        if self.missing > 0 {
            let part = &input[..input.len().min(self.missing)];
            self.missing -= part.len();
            return Ok(Decoded::Frame(Part::Body(part), part.len()));
        }
        match input {
            [b'b', high, middle, low, ..] => {
                self.missing = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
                Ok(Decoded::Frame(Part::Length(self.missing), 4))
            }
            [b'b', ..] => Ok(Decoded::Incomplete(0)),
            // A decoder that returns a frame of no bytes.
            [b'0', ..] => Ok(Decoded::Frame(Part::Length(0), 0)),
            [other, ..] => Err(*other),
            [] => panic!("a decoder is called with at least one byte"),
        }
    }
}

/// Returns the encoding of a body.
fn encode(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a length of three bytes").to_be_bytes();
    [b"b", &length[1..], body].concat()
}

/// Replies to each body with its length and the sum of its bytes, and to an error with the byte.
struct Sum<'a> {
    closed: &'a RefCell<Vec<CloseReason>>,
}

#[derive(Default)]
struct Session {
    decoder: BodyDecoder,
    length: usize,
    sum: usize,
}

impl StreamHandler for Sum<'_> {
    type Session = Session;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<Session> {
        Some(Session::default())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Session, input: &[u8]) -> usize {
        let mut frames = Frames::new(input);
        while let Some(part) = frames.next(connection, &mut session.decoder) {
            match part {
                Part::Length(length) => (session.length, session.sum) = (length, 0),
                Part::Body(part) => session.sum += part.iter().map(|byte| usize::from(*byte)).sum::<usize>(),
            }
            if session.decoder.missing == 0 {
                let reply = format!("{} {}\n", session.length, session.sum);
                connection.send(reply.as_bytes()).expect("half an outbox is free");
            }
        }
        if let Some(byte) = frames.error() {
            connection.send(format!("no body: {byte}\n").as_bytes()).expect("half an outbox is free");
        }
        frames.finish(connection)
    }

    fn on_close(&mut self, _: &mut Connection<'_>, _: Session, reason: CloseReason) {
        self.closed.borrow_mut().push(reason);
    }
}

#[test]
fn after_an_error_of_a_decoder_the_replies_arrive_and_the_connection_is_closed_for_invalid_input() {
    let closed = RefCell::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), Sum { closed: &closed }).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&[encode(b"\x01\x02"), b"?".to_vec(), encode(b"never")].concat());
    assert_eq!(client.read_to_end(&mut events), (&b"2 3\nno body: 63\n"[..], StreamEnd::Eof));
    drop(client);
    turn_until(&mut events, "the connection is closed", |_| !closed.borrow().is_empty());
    assert_eq!(*closed.borrow(), [CloseReason::InvalidInput]);
    assert_eq!(events.stats().closed(CloseReason::InvalidInput), 1);
}

#[test]
fn a_body_in_parts_may_be_longer_than_the_inbox() {
    let closed = RefCell::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).input_bytes_max(10);
    let listener = events.listen(at, Sum { closed: &closed }).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&[encode(&vec![1; 100_000]), encode(b""), encode(b"\xff")].concat());
    turn_until(&mut events, "three replies", |_| {
        client.transfer();
        client.has_received(24)
    });
    assert_eq!(client.received, b"100000 100000\n0 0\n1 255\n");
}

#[test]
fn a_frame_of_no_bytes_is_a_panic_and_not_an_endless_loop() {
    let closed = RefCell::default();
    let mut events = EventLoop::new().expect("a loop");
    events.catch_panics(true);
    let listener = events.listen(loopback(), Sum { closed: &closed }).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"0");
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Reset);
    assert_eq!(events.stats().closed(CloseReason::Panicked), 1);
}
