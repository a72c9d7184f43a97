//! Frames of every format on real sockets.
//!
//! A frame is delivered and sent whole, or not at all.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use halloo::framing::{self, ByteOrder, Format, FrameDecoder, FrameSendError, Frames, frames};
use halloo::{CloseReason, Connect, Connection, ConnectionId, Context, ErrorKind, EventLoop, Listen, StreamHandler};

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

const SHORT: Format = Format::LengthU16(ByteOrder::BigEndian);

/// Each format, and the encoding of two frames: `ab`, and an empty one.
const EXAMPLES: [(Format, &[u8]); 6] = [
    (Format::Lines, b"ab\n\n"),
    (Format::Delimiter(0), b"ab\0\0"),
    (Format::LengthU16(ByteOrder::BigEndian), b"\0\x02ab\0\0"),
    (Format::LengthU16(ByteOrder::LittleEndian), b"\x02\0ab\0\0"),
    (Format::LengthU32(ByteOrder::BigEndian), b"\0\0\0\x02ab\0\0\0\0"),
    (Format::LengthU32(ByteOrder::LittleEndian), b"\x02\0\0\0ab\0\0\0\0"),
];

/// Listens with the handler and connects a client.
fn serve<'h>(at: impl Into<Listen>, handler: impl StreamHandler + 'h) -> (EventLoop<'h>, Client) {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(at, handler).expect("a listener");
    let client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    (events, client)
}

/// Calls a closure with each frame, as `on_data` of a handler does.
fn for_each_frame(
    connection: &mut Connection<'_>,
    decoder: &mut FrameDecoder,
    input: &[u8],
    mut on_frame: impl FnMut(&mut Connection<'_>, &[u8]),
) -> usize {
    let mut frames = Frames::new(input);
    while let Some(frame) = frames.next(connection, decoder) {
        on_frame(connection, frame);
    }
    frames.finish(connection)
}

#[test]
fn an_echo_of_every_format_returns_its_input_wherever_the_stream_is_split() {
    for (format, example) in EXAMPLES {
        for at in 0..example.len() {
            let (mut events, mut client) = serve(
                loopback(),
                frames(format, 100, |connection, frame| format.send(connection, frame).expect("there is room")),
            );
            client.send(&example[..at]);
            turn_until(&mut events, "the head is read", |events| events.stats().bytes_received == at as u64);
            client.send(&example[at..]);
            turn_until(&mut events, "the echo", |_| client.has_received(example.len()));
            client.half_close();
            assert_eq!(client.read_to_end(&mut events), (example, StreamEnd::Eof), "{format:?} split at {at}");
        }
    }
}

/// Records the address range of the input that the inner handler got last.
struct InputRangeRecorder<'a, H> {
    handler: H,
    input: &'a Cell<Range<*const u8>>,
}

impl<H: StreamHandler> StreamHandler for InputRangeRecorder<'_, H> {
    type Session = H::Session;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<H::Session> {
        self.handler.on_open(connection)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut H::Session, input: &[u8]) -> usize {
        self.input.set(input.as_ptr_range());
        self.handler.on_data(connection, session, input)
    }
}

#[test]
fn a_frame_is_delivered_in_the_input_without_a_copy() {
    let empty_range = std::ptr::null()..std::ptr::null();
    for (format, example) in EXAMPLES {
        let (input, frame_count) = (Cell::new(empty_range.clone()), Cell::new(0));
        let handler = frames(format, 100, |_, frame| {
            let (input_range, frame_range) = (input.replace(empty_range.clone()), frame.as_ptr_range());
            assert!(
                input_range.start <= frame_range.start && frame_range.end <= input_range.end,
                "{format:?}: {frame_range:?} is not in {input_range:?}"
            );
            input.set(input_range);
            frame_count.set(frame_count.get() + 1);
        });
        let (mut events, mut client) = serve(loopback(), InputRangeRecorder { handler, input: &input });
        client.send(&example.repeat(3));
        turn_until(&mut events, "all frames", |_| frame_count.get() == 6);
    }
}

#[test]
fn a_length_over_the_maximum_closes_before_the_frame_arrives() {
    let prefixes: [(Format, &[u8]); 4] = [
        (Format::LengthU16(ByteOrder::BigEndian), &[0, 101]),
        (Format::LengthU16(ByteOrder::LittleEndian), &[101, 0]),
        (Format::LengthU32(ByteOrder::BigEndian), &[255; 4]),
        (Format::LengthU32(ByteOrder::LittleEndian), &[0, 0, 0, 1]),
    ];
    for (format, prefix) in prefixes {
        let (mut events, mut client) = serve(loopback(), frames(format, 100, |_, _| panic!("there is no frame")));
        client.send(prefix);
        assert_eq!(client.read_to_end(&mut events), (&b""[..], StreamEnd::Eof), "{format:?}");
        drop(client);
        turn_until(&mut events, "the connection is closed", |events| {
            events.stats().closed(CloseReason::InputOverflow) == 1
        });
    }
}

#[test]
fn a_frame_may_be_as_long_as_the_inbox_and_a_longer_maximum_is_an_error_at_listen() {
    let longest = vec![7; 65_535];
    let frame_bytes = Cell::new(0);
    let (mut events, mut client) = serve(
        loopback(),
        frames(SHORT, longest.len(), |_, frame| {
            assert!(frame.iter().all(|byte| *byte == 7));
            frame_bytes.set(frame.len());
        }),
    );
    client.send(&[&[0xff, 0xff], longest.as_slice()].concat());
    turn_until(&mut events, "the longest frame", |_| {
        client.transfer();
        frame_bytes.get() == longest.len()
    });

    for (format, around) in [(Format::Lines, 2), (Format::Delimiter(0), 1), (SHORT, 0)] {
        let at = |bytes| Listen::from(loopback()).input_bytes_max(bytes);
        events.listen(at(100), frames(format, 100 - around, |_, _| {})).expect("the longest frame fits the inbox");
        let error = events
            .listen(at(99), frames(format, 100 - around, |_, _| {}))
            .expect_err("the longest frame exceeds the inbox by one byte");
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{format:?}");
    }
}

#[test]
fn a_frame_of_a_mebibyte_arrives_whole_in_every_format() {
    let content: Vec<u8> = (0..1 << 20).map(|at: u32| b'a' + u8::try_from(at % 23).expect("a letter")).collect();
    for (format, example) in EXAMPLES {
        if matches!(format, Format::LengthU16(_)) {
            continue;
        }
        let received = RefCell::new(Vec::new());
        let (mut events, mut client) = serve(
            Listen::from(loopback()).input_bytes_max(format.input_bytes_min(content.len())),
            frames(format, content.len(), |_, frame| received.borrow_mut().push(frame.to_vec())),
        );
        let length = u32::try_from(content.len()).expect("a short frame");
        let (head, tail): (&[u8], &[u8]) = match format {
            Format::LengthU32(ByteOrder::BigEndian) => (&length.to_be_bytes(), b""),
            Format::LengthU32(ByteOrder::LittleEndian) => (&length.to_le_bytes(), b""),
            _ => (b"", &example[2..3]),
        };
        client.send(&[head, content.as_slice(), tail, example].concat());
        turn_until(&mut events, "three frames", |_| {
            client.transfer();
            received.borrow().len() == 3
        });
        let is_whole = received.borrow()[0] == content && received.borrow()[1] == b"ab";
        assert!(is_whole, "{format:?}: a frame of {} bytes", received.borrow()[0].len());
    }
}

/// Sends one question over its own connection, and records the frames that come back.
struct RequestHandler<'a> {
    question: &'a [u8],
    received: &'a RefCell<Vec<Vec<u8>>>,
    failed: &'a Cell<Option<std::io::ErrorKind>>,
}

impl StreamHandler for RequestHandler<'_> {
    type Session = FrameDecoder;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<FrameDecoder> {
        SHORT.send(connection, self.question).expect("the outbox is empty");
        connection.shutdown_write();
        Some(FrameDecoder::new(SHORT, 100))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, decoder: &mut FrameDecoder, input: &[u8]) -> usize {
        for_each_frame(connection, decoder, input, |_, frame| self.received.borrow_mut().push(frame.to_vec()))
    }

    fn input_bytes_min(&self) -> usize {
        SHORT.input_bytes_min(100)
    }

    fn on_connect_failed(&mut self, _: &mut Context, _: ConnectionId, error: std::io::Error) {
        self.failed.set(Some(error.kind()));
    }
}

#[test]
fn a_client_that_has_shut_down_its_side_gets_every_reply() {
    let (received, failed) = (RefCell::default(), Cell::new(None));
    let mut events = EventLoop::new().expect("a loop");
    let twice = frames(SHORT, 100, |connection, frame| {
        SHORT.send(connection, frame).expect("half an outbox is free");
        SHORT.send(connection, frame).expect("half an outbox is free");
    });
    let listener = events.listen(loopback(), twice).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let handler = events.attach(RequestHandler { question: b"who?", received: &received, failed: &failed });
    events.context().connect(address, handler);
    turn_until(&mut events, "two answers and the end", |events| events.stats().closed(CloseReason::Eof) == 2);
    assert_eq!(*received.borrow(), [b"who?", b"who?"]);

    events.context().connect(Connect::from(address).input_bytes_max(99), handler);
    turn_until(&mut events, "the connect fails", |_| failed.get().is_some());
    assert_eq!(failed.get(), Some(std::io::ErrorKind::InvalidInput));
}

/// Sends these payloads one after another. Returns the results, and what the client reads.
fn sent(format: Format, outbox_bytes_max: usize, payloads: &[&[u8]]) -> (Vec<Result<(), FrameSendError>>, Vec<u8>) {
    let outcomes = RefCell::new(Vec::new());
    let handler = halloo::stream(|connection, input| {
        outcomes.borrow_mut().extend(payloads.iter().map(|payload| format.send(connection, payload)));
        connection.close();
        input.len()
    });
    let (mut events, mut client) = serve(Listen::from(loopback()).outbox_bytes_max(outbox_bytes_max), handler);
    client.send(b"go");
    let (received, end) = client.read_to_end(&mut events);
    assert_eq!(end, StreamEnd::Eof);
    let received = received.to_vec();
    drop(events);
    (outcomes.into_inner(), received)
}

#[test]
fn a_frame_is_sent_whole_with_its_header_or_delimiter_or_not_at_all() {
    let (full, too_long) = (Err(FrameSendError::Full), Err(FrameSendError::TooLong));
    // The outbox must have room for the header and the payload. A shorter frame may fit after a refusal.
    let lengths = sent(SHORT, 10, &[b"123456789", b"12345", b"12", b"1", b""]);
    assert_eq!(lengths, (vec![too_long, Ok(()), full, Ok(()), full], b"\0\x0512345\0\x011".to_vec()));
    let lines = sent(Format::Lines, 6, &[b"123456", b"12345", b""]);
    assert_eq!(lines, (vec![too_long, Ok(()), full], b"12345\n".to_vec()));
}

#[test]
fn a_payload_that_the_format_cannot_carry_is_refused_with_the_reason() {
    let cut = Err(FrameSendError::ContainsDelimiter);
    assert_eq!(
        sent(Format::Lines, 100, &[b"a\nb", b"a\rb", b"c\r"]),
        (vec![cut, Ok(()), Ok(())], b"a\rb\nc\r\r\n".to_vec())
    );
    assert_eq!(sent(Format::Delimiter(b';'), 100, &[b"a;", b"a\n"]), (vec![cut, Ok(())], b"a\n;".to_vec()));
    let long = vec![0; 65_536];
    assert_eq!(sent(SHORT, 100_000, &[&long, b"x"]), (vec![Err(FrameSendError::TooLong), Ok(())], b"\0\x01x".to_vec()));
    let (outcomes, received) = sent(SHORT, 100_000, &[&long[1..]]);
    assert_eq!((outcomes, received.len()), (vec![Ok(())], 65_537));
}

/// Sends a frame when requested, and tries again in `on_flushed`.
struct RetryHandler<'a> {
    refusals: &'a Cell<u32>,
    is_sent: bool,
}

impl RetryHandler<'_> {
    fn try_to_send(&mut self, connection: &mut Connection<'_>) {
        match SHORT.send(connection, b"12345678") {
            Ok(()) => self.is_sent = true,
            Err(error) => {
                assert_eq!(error, FrameSendError::Full);
                self.refusals.set(self.refusals.get() + 1);
            }
        }
    }
}

impl StreamHandler for RetryHandler<'_> {
    type Session = FrameDecoder;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<FrameDecoder> {
        Some(FrameDecoder::new(SHORT, 4))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, decoder: &mut FrameDecoder, input: &[u8]) -> usize {
        for_each_frame(connection, decoder, input, |connection, _| {
            connection.send(b"x").expect("the outbox is empty");
            self.try_to_send(connection);
        })
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, _: &mut FrameDecoder) {
        if !self.is_sent {
            self.try_to_send(connection);
        }
    }
}

#[test]
fn on_flushed_comes_after_a_frame_did_not_fit() {
    let refusals = Cell::new(0);
    let at = Listen::from(loopback()).outbox_bytes_max(10);
    let (mut events, mut client) = serve(at, RetryHandler { refusals: &refusals, is_sent: false });
    assert_eq!(client.request(&mut events, b"\0\0", 11), b"x\0\x0812345678");
    assert_eq!(refusals.get(), 1);
}

/// Tries to send after it has shut down its side.
struct SendAfterShutdown;

impl StreamHandler for SendAfterShutdown {
    type Session = FrameDecoder;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<FrameDecoder> {
        Some(FrameDecoder::new(SHORT, 4))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, decoder: &mut FrameDecoder, input: &[u8]) -> usize {
        for_each_frame(connection, decoder, input, |connection, _| {
            connection.send(b"12345678").expect("the outbox is empty");
            connection.shutdown_write();
            assert_eq!(SHORT.send(connection, b"9"), Err(FrameSendError::Closed));
        })
    }

    fn on_flushed(&mut self, _: &mut Connection<'_>, _: &mut FrameDecoder) {
        panic!("on_flushed came after a shutdown");
    }
}

#[test]
fn on_flushed_does_not_come_after_a_shutdown() {
    let (mut events, mut client) = serve(Listen::from(loopback()).outbox_bytes_max(10), SendAfterShutdown);
    client.send(b"\0\0");
    assert_eq!(client.read_to_end(&mut events), (&b"12345678"[..], StreamEnd::Eof));
    turn_until_idle(&mut events);
}

/// Records the frames, and the incomplete frame at EOF.
struct EventRecorder<'a> {
    decoder: FrameDecoder,
    events: &'a RefCell<Vec<String>>,
}

impl EventRecorder<'_> {
    fn record(&self, event: &str, bytes: &[u8]) {
        self.events.borrow_mut().push(format!("{event} {}", bytes.escape_ascii()));
    }
}

impl StreamHandler for EventRecorder<'_> {
    type Session = FrameDecoder;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<FrameDecoder> {
        Some(self.decoder.clone())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, decoder: &mut FrameDecoder, input: &[u8]) -> usize {
        for_each_frame(connection, decoder, input, |_, frame| self.record("frame", frame))
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, decoder: &mut FrameDecoder, rest: &[u8]) {
        if let Some(content) = decoder.unfinished(rest) {
            self.record("unfinished", content);
        }
        self.record("eof", b"");
        connection.close();
    }
}

#[test]
fn an_incomplete_frame_at_eof_is_returned_by_the_decoder() {
    let cases: [(Format, &[u8], &[&str]); 9] = [
        (Format::Lines, b"a\n", &["frame a", "eof "]),
        (Format::Lines, b"a\nb", &["frame a", "unfinished b", "eof "]),
        (Format::Lines, b"b\r", &["unfinished b", "eof "]),
        (Format::Delimiter(0), b"b\r", &["unfinished b\\r", "eof "]),
        (SHORT, b"\0\0", &["frame ", "eof "]),
        (SHORT, b"\0", &["unfinished ", "eof "]),
        (SHORT, b"\0\x02", &["unfinished ", "eof "]),
        (SHORT, b"\0\x02a", &["unfinished a", "eof "]),
        (SHORT, b"\0\x02ab", &["frame ab", "eof "]),
    ];
    for (format, stream, expected) in cases {
        let recorded = RefCell::default();
        let handler = EventRecorder { decoder: FrameDecoder::new(format, 100), events: &recorded };
        let (mut events, mut client) = serve(loopback(), handler);
        client.send(stream);
        client.half_close();
        turn_until(&mut events, "the connection is closed", |events| events.stats().closed(CloseReason::Eof) == 1);
        assert_eq!(*recorded.borrow(), expected, "{format:?} {}", stream.escape_ascii());
    }
}

#[test]
fn after_a_pause_a_close_or_an_abort_no_frame_is_delivered() {
    for (format, example) in EXAMPLES {
        let stops: [fn(&mut Connection<'_>); 3] = [|it| it.pause(), |it| it.close(), |it| it.abort()];
        for stop in stops {
            let frame_count = Cell::new(0);
            let handler = framing::frames(format, 100, |connection, _| {
                frame_count.set(frame_count.get() + 1);
                stop(connection);
            });
            let (mut events, mut client) = serve(loopback(), handler);
            client.send(&example.repeat(2));
            turn_until(&mut events, "a frame", |_| frame_count.get() > 0);
            turn_until_idle(&mut events);
            assert_eq!(frame_count.get(), 1, "{format:?}");
        }
    }
}

#[test]
fn an_empty_frame_that_waits_for_the_outbox_is_delivered_when_there_is_room() {
    for (format, example) in EXAMPLES {
        // The second frame: the second half of the bytes around `ab`.
        let empty = &example[2 + (example.len() - 2) / 2..];
        let frame_count = Cell::new(0);
        let at = Listen::from(loopback()).outbox_bytes_max(10);
        let handler = frames(format, 100, |connection, frame| {
            assert_eq!(connection.outbox_len(), 0, "a frame was delivered while output waited");
            assert!(frame.is_empty());
            frame_count.set(frame_count.get() + 1);
            connection.send(b"123456").expect("the outbox is empty");
        });
        let (mut events, mut client) = serve(at, handler);
        client.send(&empty.repeat(3));
        turn_until(&mut events, "every answer", |_| client.has_received(18));
        assert_eq!(frame_count.get(), 3, "{format:?}");
    }
}
