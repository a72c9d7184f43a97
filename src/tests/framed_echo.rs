//! Framed echo in every format on a faulty simulated network.

use std::net::SocketAddr;
use std::time::Duration;

use crate::context::connection::Connection;
use crate::context::handler::StreamHandler;
use crate::event_loop::EventLoop;
use crate::framing::{self, ByteOrder, Decoded, Decoder, Format, FrameDecoder, Frames};
use crate::options::listen::Listen;
use crate::testing::{Client, Fault, Simulation, check};

const FORMATS: [Format; 7] = [
    Format::Lines,
    Format::Delimiter(0),
    Format::Delimiter(b'x'),
    Format::LengthU16(ByteOrder::BigEndian),
    Format::LengthU16(ByteOrder::LittleEndian),
    Format::LengthU32(ByteOrder::BigEndian),
    Format::LengthU32(ByteOrder::LittleEndian),
];

const FRAME_BYTES_MAX: usize = 300;

/// The most bytes that any format adds to a frame.
const EXTRA_BYTES_MAX: usize = 4;

/// Returns the encoding of a frame that contains no delimiter.
fn encode(format: Format, frame: &[u8]) -> Vec<u8> {
    let length = u16::try_from(frame.len()).expect("a short frame");
    let [high, low] = length.to_be_bytes();
    match format {
        Format::Lines if frame.ends_with(b"\r") => [frame, b"\r\n"].concat(),
        Format::Lines => [frame, b"\n"].concat(),
        Format::Delimiter(delimiter) => [frame, &[delimiter]].concat(),
        Format::LengthU16(ByteOrder::BigEndian) => [&[high, low], frame].concat(),
        Format::LengthU16(ByteOrder::LittleEndian) => [&[low, high], frame].concat(),
        Format::LengthU32(ByteOrder::BigEndian) => [&[0, 0, high, low], frame].concat(),
        Format::LengthU32(ByteOrder::LittleEndian) => [&[low, high, 0, 0], frame].concat(),
    }
}

fn random_below(simulation: &Simulation, bound: usize) -> usize {
    usize::try_from(simulation.random_below(bound as u64)).expect("less than the bound")
}

fn any_frame(simulation: &Simulation) -> Vec<u8> {
    let length = if simulation.random_below(4) == 0 { FRAME_BYTES_MAX } else { 20 };
    // CR, but neither LF, NUL nor `x`.
    let transmits = b"ab\r\xff";
    (0..random_below(simulation, length + 1)).map(|_| transmits[random_below(simulation, transmits.len())]).collect()
}

/// Sends a stream in pieces. Between them the loop turns, and the client reads sometimes.
fn send_in_pieces(simulation: &Simulation, events: &mut EventLoop<'_>, client: &Client, mut stream: &[u8]) {
    let longest = [1, 10, 1_000][random_below(simulation, 3)];
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at(stream.len().min(1 + random_below(simulation, longest)));
        client.send(piece);
        stream = rest;
        for _ in 0..simulation.random_below(3) {
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        }
        if simulation.random_below(3) == 0 {
            let _ = client.read();
        }
    }
}

/// Sends back the frames of a batch in one message.
struct BatchedEcho {
    format: Format,
}

impl StreamHandler for BatchedEcho {
    type Session = FrameDecoder;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<FrameDecoder> {
        Some(FrameDecoder::new(self.format, FRAME_BYTES_MAX))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, decoder: &mut FrameDecoder, input: &[u8]) -> usize {
        let mut frames = Frames::new(input);
        loop {
            let batch = frames.batch(connection, decoder, FRAME_BYTES_MAX + EXTRA_BYTES_MAX);
            let replies: Vec<u8> = batch.flat_map(|frame| encode(self.format, frame)).collect();
            if replies.is_empty() {
                return frames.finish(connection);
            }
            connection.send(&replies).expect("the replies to a batch fit");
        }
    }
}

#[test]
fn a_framed_echo_returns_every_frame_whatever_the_network_does() {
    let address = SocketAddr::from(([10, 0, 0, 1], 7));
    check(0..1_000, |simulation| {
        let format = FORMATS[random_below(simulation, FORMATS.len())];
        let mut events = simulation.event_loop();
        let at = Listen::from(address)
            .input_bytes_max(format.input_bytes_min(FRAME_BYTES_MAX) + random_below(simulation, 100))
            .outbox_bytes_max(2 * (FRAME_BYTES_MAX + EXTRA_BYTES_MAX) + random_below(simulation, 100));
        let echo = framing::frames(format, FRAME_BYTES_MAX, |connection, frame| {
            format.send(connection, frame).expect("half an outbox is free");
        });
        let listening = if simulation.random_below(2) == 0 {
            events.listen(at, echo)
        } else {
            events.listen(at, BatchedEcho { format })
        };
        listening.expect("the address is free");
        for fault in [Fault::Accept, Fault::LateReadiness, Fault::SpuriousReadiness, Fault::Poll] {
            simulation.inject(fault, 2 + simulation.random_below(10));
        }
        if simulation.random_below(4) == 0 {
            simulation.inject(Fault::Receive, 50);
            simulation.inject(Fault::Send, 50);
        }

        let client = simulation.connect(address).expect("the server listens");
        client.set_window(1 + random_below(simulation, 1_000));
        let frames: Vec<Vec<u8>> = (0..simulation.random_below(40)).map(|_| any_frame(simulation)).collect();
        let stream = frames.iter().map(|frame| encode(format, frame)).collect::<Vec<_>>().concat();
        send_in_pieces(simulation, &mut events, &client, &stream);
        client.shutdown_write();
        for _ in 0..20 {
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        }
        client.set_window(usize::MAX);
        simulation.run_until_idle(&mut events).expect("the poll works");

        let received = client.received();
        assert!(stream.starts_with(&received), "{format:?}: {} bytes received that were not sent", received.len());
        let is_whole = received.len() == stream.len() && client.saw_eof() && !client.saw_reset();
        assert!(is_whole || client.was_hit_by_fault(), "{format:?}: {} of {} bytes", received.len(), stream.len());
    });
}

/// Decodes bodies of up to 255 bytes, each after its length. A body comes in parts.
#[derive(Default)]
struct BodyDecoder {
    missing: usize,
}

impl Decoder for BodyDecoder {
    type Frame<'i> = &'i [u8];
    type Error = ();

    fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<&'i [u8]>, ()> {
        if self.missing == 0 {
            self.missing = input[0].into();
            return Ok(Decoded::Frame(&[], 1));
        }
        let part = &input[..input.len().min(self.missing)];
        self.missing -= part.len();
        Ok(Decoded::Frame(part, part.len()))
    }
}

/// Replies to each body with the sum of its bytes. Sometimes it pauses until a timeout.
struct SumHandler<'a> {
    simulation: &'a Simulation,
}

impl StreamHandler for SumHandler<'_> {
    type Session = (BodyDecoder, u8);

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<Self::Session> {
        Some((BodyDecoder::default(), 0))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, input: &[u8]) -> usize {
        let (decoder, sum) = session;
        let mut frames = Frames::new(input);
        while let Some(part) = frames.next(connection, decoder) {
            *sum = part.iter().fold(*sum, |sum, byte| sum.wrapping_add(*byte));
            if decoder.missing == 0 {
                connection.send(&[std::mem::take(sum)]).expect("half an outbox is free");
            }
            if self.simulation.random_below(4) == 0 {
                connection.pause();
                connection.set_timeout(Some(Duration::from_millis(1)));
            }
        }
        frames.finish(connection)
    }

    fn on_timeout(&mut self, connection: &mut Connection<'_>, _: &mut Self::Session) {
        connection.resume();
    }
}

#[test]
fn bodies_in_parts_are_decoded_whatever_the_network_does() {
    let address = SocketAddr::from(([10, 0, 0, 1], 7));
    check(0..500, |simulation| {
        let mut events = simulation.event_loop();
        let at = Listen::from(address)
            .input_bytes_max(1 + random_below(simulation, 100))
            .outbox_bytes_max(2 + random_below(simulation, 10));
        events.listen(at, SumHandler { simulation }).expect("the address is free");
        for fault in [Fault::LateReadiness, Fault::SpuriousReadiness, Fault::Poll] {
            simulation.inject(fault, 2 + simulation.random_below(10));
        }
        let client = simulation.connect(address).expect("the server listens");
        client.set_window(1 + random_below(simulation, 10));
        let body = |_| {
            (0..random_below(simulation, 256)).map(|_| u8::try_from(random_below(simulation, 256)).expect("a byte"))
        };
        let bodies: Vec<Vec<u8>> = (0..simulation.random_below(20)).map(body).map(Iterator::collect).collect();
        let encoded =
            bodies.iter().map(|body| [&[u8::try_from(body.len()).expect("a short body")], body.as_slice()].concat());
        send_in_pieces(simulation, &mut events, &client, &encoded.collect::<Vec<_>>().concat());
        client.shutdown_write();
        client.set_window(usize::MAX);
        simulation.clear_faults();
        simulation.run_until_idle(&mut events).expect("the poll works");
        let sums: Vec<u8> = bodies.iter().map(|body| body.iter().fold(0, |sum, byte| byte.wrapping_add(sum))).collect();
        assert_eq!(client.received(), sums);
        assert!(client.saw_eof() && !client.saw_reset());
    });
}
