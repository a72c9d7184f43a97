//! Framing: the frames of a simulated connection are those of its bytes.
//!
//! However the bytes are split and delayed, every reply arrives.

#![no_main]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use halloo::framing::{ByteOrder, Format, FrameDecoder, Frames};
use halloo::testing::{Fault, Simulation};
use halloo::{CloseReason, Connection, EventLoop, Listen, StreamHandler};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    seed: u64,
    format: FormatInput,
    frame_bytes_max: u8,
    /// Room beyond the minimum that works.
    extra_input_bytes: u8,
    extra_outbox_bytes: u8,
    /// The bytes of replies that the client's kernel buffers before the client reads.
    window: u16,
    /// One fault in so many events. Below 2 there is none.
    fault_interval: u8,
    /// Whether the client waits for the replies before it half-closes.
    waits_for_replies: bool,
    steps: Vec<Step<'a>>,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum FormatInput {
    Lines,
    Delimiter(u8),
    LengthU16 { is_little: bool },
    LengthU32 { is_little: bool },
}

impl FormatInput {
    fn format(self) -> Format {
        let order = |is_little| if is_little { ByteOrder::LittleEndian } else { ByteOrder::BigEndian };
        match self {
            Self::Lines => Format::Lines,
            Self::Delimiter(delimiter) => Format::Delimiter(delimiter),
            Self::LengthU16 { is_little } => Format::LengthU16(order(is_little)),
            Self::LengthU32 { is_little } => Format::LengthU32(order(is_little)),
        }
    }

    /// The most bytes around a frame, and the number of them that the inbox has to hold with it.
    fn overhead_bytes_max(self) -> (usize, usize) {
        match self {
            Self::Lines => (2, 2),
            Self::Delimiter(_) => (1, 1),
            Self::LengthU16 { .. } => (2, 0),
            Self::LengthU32 { .. } => (4, 0),
        }
    }

    /// A frame as it is sent.
    fn encode(self, frame: &[u8]) -> Vec<u8> {
        let length = u32::try_from(frame.len()).expect("a short frame").to_le_bytes();
        let mut head = match self {
            Self::Lines | Self::Delimiter(_) => vec![],
            Self::LengthU16 { .. } => length[..2].to_vec(),
            Self::LengthU32 { .. } => length.to_vec(),
        };
        if let Self::LengthU16 { is_little: false } | Self::LengthU32 { is_little: false } = self {
            head.reverse();
        }
        let tail = match self {
            Self::Lines if frame.ends_with(b"\r") => vec![b'\r', b'\n'],
            Self::Lines => vec![b'\n'],
            Self::Delimiter(delimiter) => vec![delimiter],
            Self::LengthU16 { .. } | Self::LengthU32 { .. } => vec![],
        };
        [head, frame.to_vec(), tail].concat()
    }
}

#[derive(Debug, Arbitrary)]
struct Step<'a> {
    segment: &'a [u8],
    /// The turns of the loop before the next step.
    turns: u8,
    reads: bool,
}

/// What the handler received.
#[derive(Default, PartialEq, Debug)]
struct Received {
    frames: Vec<Vec<u8>>,
    /// The beginning of another frame at EOF.
    unfinished: Option<Vec<u8>>,
    close_reason: Option<CloseReason>,
}

/// Sends each frame back.
struct Echo<'a> {
    format: Format,
    decoder: FrameDecoder,
    received: &'a RefCell<Received>,
}

impl StreamHandler for Echo<'_> {
    type Session = FrameDecoder;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<FrameDecoder> {
        Some(self.decoder.clone())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, decoder: &mut FrameDecoder, input: &[u8]) -> usize {
        let mut frames = Frames::new(input);
        while let Some(frame) = frames.next(connection, decoder) {
            self.format.send(connection, frame).expect("half an outbox is free, and the format can send the frame");
            self.received.borrow_mut().frames.push(frame.to_vec());
        }
        frames.finish(connection)
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, decoder: &mut FrameDecoder, rest: &[u8]) {
        let unfinished = decoder.unfinished(rest).map(<[u8]>::to_vec);
        assert_eq!(std::mem::replace(&mut self.received.borrow_mut().unfinished, unfinished), None, "a second EOF");
        connection.close();
    }

    fn on_close(&mut self, _: &mut Connection<'_>, _: FrameDecoder, reason: CloseReason) {
        assert_eq!(self.received.borrow_mut().close_reason.replace(reason), None, "a second close");
    }

    fn input_bytes_min(&self) -> usize {
        self.decoder.input_bytes_min()
    }
}

fuzz_target!(|input: Input<'_>| {
    let received = RefCell::default();
    let address = SocketAddr::from(([10, 0, 0, 1], 7));
    let (format, frame_bytes_max) = (input.format.format(), usize::from(input.frame_bytes_max));
    let (overhead, inbox_overhead) = input.format.overhead_bytes_max();
    let simulation = Simulation::new(input.seed);
    let mut event_loop = simulation.event_loop();
    let listen = Listen::from(address)
        // A length prefix has to fit even if no frame does.
        .input_bytes_max((frame_bytes_max + inbox_overhead).max(overhead) + usize::from(input.extra_input_bytes))
        .outbox_bytes_max(2 * (frame_bytes_max + overhead) + usize::from(input.extra_outbox_bytes))
        .idle_timeout(None)
        .write_timeout(None);
    let echo = Echo { format, decoder: FrameDecoder::new(format, frame_bytes_max), received: &received };
    event_loop.listen(listen, echo).expect("a listener");
    for fault in [Fault::LateReadiness, Fault::SpuriousReadiness, Fault::Poll] {
        simulation.inject(fault, if input.fault_interval < 2 { 0 } else { input.fault_interval.into() });
    }

    let client = simulation.connect(address).expect("a listener");
    client.set_window(input.window.into());
    for step in &input.steps {
        client.send(step.segment);
        run_turns(&mut event_loop, step.turns % 8);
        if step.reads {
            let _ = client.read();
        }
    }
    let stream: Vec<u8> = input.steps.iter().flat_map(|step| step.segment).copied().collect();
    let expected = expected_frames(input.format, &stream, frame_bytes_max);
    let run_until_idle = |event_loop: &mut EventLoop<'_>| {
        // Without faults the simulation is idle sooner.
        simulation.clear_faults();
        client.set_window(usize::MAX);
        simulation.run_until_idle(event_loop).expect("turns");
    };
    if input.waits_for_replies {
        run_until_idle(&mut event_loop);
        assert_eq!(received.borrow().frames, expected.frames, "a frame waits for later bytes");
    }
    client.shutdown_write();
    run_turns(&mut event_loop, 8);
    run_until_idle(&mut event_loop);
    assert_eq!(*received.borrow(), expected);
    let replies: Vec<u8> = expected.frames.iter().flat_map(|frame| input.format.encode(frame)).collect();
    assert_eq!(client.received(), replies);
    assert!(client.saw_eof() && !client.saw_reset());
});

fn run_turns(event_loop: &mut EventLoop<'_>, turns: u8) {
    for _ in 0..turns {
        let _ = event_loop.turn(Some(Duration::ZERO)).expect("a turn");
    }
}

/// The expected frames of a whole stream, and its close reason.
fn expected_frames(format: FormatInput, stream: &[u8], frame_bytes_max: usize) -> Received {
    let (frames, unfinished) = match format {
        FormatInput::Lines => {
            split_at_delimiter(b'\n', stream, frame_bytes_max, |line| line.strip_suffix(b"\r").unwrap_or(line))
        }
        FormatInput::Delimiter(delimiter) => split_at_delimiter(delimiter, stream, frame_bytes_max, |frame| frame),
        FormatInput::LengthU16 { is_little } => split_by_length(2, is_little, stream, frame_bytes_max),
        FormatInput::LengthU32 { is_little } => split_by_length(4, is_little, stream, frame_bytes_max),
    };
    let close_reason = Some(if unfinished.is_ok() { CloseReason::Eof } else { CloseReason::InputOverflow });
    Received { frames, unfinished: unfinished.unwrap_or_default(), close_reason }
}

/// The frames, and the beginning of another frame. `Err` means that this frame is too long.
type FramesAndRest = (Vec<Vec<u8>>, Result<Option<Vec<u8>>, ()>);

fn split_at_delimiter(
    delimiter: u8,
    stream: &[u8],
    frame_bytes_max: usize,
    content: fn(&[u8]) -> &[u8],
) -> FramesAndRest {
    let mut chunks: Vec<&[u8]> = stream.split(|byte| *byte == delimiter).collect();
    let last = chunks.pop().unwrap_or_default();
    let frames: Vec<Vec<u8>> = chunks.iter().map(|chunk| content(chunk).to_vec()).collect();
    if let Some(first_too_long) = frames.iter().position(|frame| frame.len() > frame_bytes_max) {
        return (frames[..first_too_long].to_vec(), Err(()));
    }
    let rest = content(last);
    let unfinished = (!last.is_empty()).then(|| rest.to_vec());
    let is_too_long = unfinished.as_ref().is_some_and(|rest| rest.len() > frame_bytes_max);
    (frames, if is_too_long { Err(()) } else { Ok(unfinished) })
}

fn split_by_length(length_bytes: usize, is_little: bool, mut stream: &[u8], frame_bytes_max: usize) -> FramesAndRest {
    let mut frames = Vec::new();
    while let Some((head, tail)) = stream.split_at_checked(length_bytes) {
        let shift = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
        let length = if is_little { head.iter().rev().fold(0, shift) } else { head.iter().fold(0, shift) };
        if length > frame_bytes_max {
            return (frames, Err(()));
        }
        let Some((frame, rest)) = tail.split_at_checked(length) else {
            return (frames, Ok(Some(tail.to_vec())));
        };
        frames.push(frame.to_vec());
        stream = rest;
    }
    (frames, Ok((!stream.is_empty()).then(Vec::new)))
}
