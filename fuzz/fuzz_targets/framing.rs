//! Framing: however the bytes are cut and delayed, the frames are those of a plain split, and every answer arrives.

#![no_main]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use halloo::framing::{ByteOrder, Format, FrameHandler, Framed};
use halloo::testing::{Fault, Simulation};
use halloo::{CloseReason, Connection, EventLoop, Listen};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Case<'a> {
    seed: u64,
    format: AnyFormat,
    frame_bytes_max: u8,
    /// Room beyond the least that works.
    input_room: u8,
    outbox_room: u8,
    /// How much of the answers the client's kernel takes before the client reads.
    window: u16,
    /// One in so many moments of readiness goes wrong; below two none.
    trouble: u8,
    /// Whether the client waits for its answers before it ends its side.
    waits: bool,
    steps: Vec<Step<'a>>,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum AnyFormat {
    Lines,
    Delimiter(u8),
    LengthU16 { is_little: bool },
    LengthU32 { is_little: bool },
}

impl AnyFormat {
    fn format(self) -> Format {
        let order = |is_little| if is_little { ByteOrder::LittleEndian } else { ByteOrder::BigEndian };
        match self {
            Self::Lines => Format::Lines,
            Self::Delimiter(delimiter) => Format::Delimiter(delimiter),
            Self::LengthU16 { is_little } => Format::LengthU16(order(is_little)),
            Self::LengthU32 { is_little } => Format::LengthU32(order(is_little)),
        }
    }

    /// How many bytes stand around a frame at most, and how many of them in the inbox beside it.
    fn extra_bytes_max(self) -> (usize, usize) {
        match self {
            Self::Lines => (2, 2),
            Self::Delimiter(_) => (1, 1),
            Self::LengthU16 { .. } => (2, 0),
            Self::LengthU32 { .. } => (4, 0),
        }
    }

    /// A frame as it travels.
    fn around(self, frame: &[u8]) -> Vec<u8> {
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
    /// How often the loop turns before the next step.
    turns: u8,
    is_read: bool,
}

/// What the handler was told.
#[derive(Default, PartialEq, Debug)]
struct Heard {
    frames: Vec<Vec<u8>>,
    /// What had come of one more at the end of stream.
    unfinished: Option<Vec<u8>>,
    ended: Option<CloseReason>,
}

/// Sends each frame back.
struct Echo<'a>(Format, &'a RefCell<Heard>);

impl FrameHandler for Echo<'_> {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_frame(&mut self, connection: &mut Connection<'_>, (): &mut (), frame: &[u8]) {
        self.0.send(connection, frame).expect("half an outbox is free, and what came can be sent");
        self.1.borrow_mut().frames.push(frame.to_vec());
    }

    fn on_unfinished(&mut self, _: &mut Connection<'_>, (): &mut (), rest: &[u8]) {
        assert_eq!(self.1.borrow_mut().unfinished.replace(rest.to_vec()), None, "it is told once");
    }

    fn on_close(&mut self, _: &mut Connection<'_>, (): (), reason: CloseReason) {
        assert_eq!(self.1.borrow_mut().ended.replace(reason), None, "it closes once");
    }
}

fuzz_target!(|case: Case<'_>| {
    let heard = RefCell::default();
    let address = SocketAddr::from(([10, 0, 0, 1], 7));
    let (format, frame_bytes_max) = (case.format.format(), usize::from(case.frame_bytes_max));
    let (extra, beside) = case.format.extra_bytes_max();
    let simulation = Simulation::new(case.seed);
    let mut events = simulation.event_loop();
    let at = Listen::from(address)
        // A length has to fit, too, where no frame does.
        .input_bytes_max((frame_bytes_max + beside).max(extra) + usize::from(case.input_room))
        .outbox_bytes_max(2 * (frame_bytes_max + extra) + usize::from(case.outbox_room))
        .idle_timeout(None)
        .write_timeout(None);
    events.listen(at, Framed::new(format, frame_bytes_max, Echo(format, &heard))).expect("a listener");
    for fault in [Fault::LateReadiness, Fault::SpuriousReadiness, Fault::Poll] {
        simulation.inject(fault, if case.trouble < 2 { 0 } else { case.trouble.into() });
    }

    let client = simulation.connect(address).expect("somebody listens");
    client.set_window(case.window.into());
    for step in &case.steps {
        client.send(step.segment);
        turn(&mut events, step.turns % 8);
        if step.is_read {
            let _ = client.read();
        }
    }
    let stream: Vec<u8> = case.steps.iter().flat_map(|step| step.segment).copied().collect();
    let expected = plain_split(case.format, &stream, frame_bytes_max);
    let settle = |events: &mut EventLoop<'_>| {
        // Without an end to the trouble the world would never be quiet.
        simulation.heal();
        client.set_window(usize::MAX);
        simulation.settle(events).expect("turns");
    };
    if case.waits {
        settle(&mut events);
        assert_eq!(heard.borrow().frames, expected.frames, "no frame waits for what comes behind it");
    }
    client.finish();
    turn(&mut events, 8);
    settle(&mut events);
    assert_eq!(*heard.borrow(), expected);
    let answers: Vec<u8> = expected.frames.iter().flat_map(|frame| case.format.around(frame)).collect();
    assert_eq!(client.received(), answers);
    assert!(client.has_ended() && !client.was_reset());
});

fn turn(events: &mut EventLoop<'_>, turns: u8) {
    for _ in 0..turns {
        let _ = events.turn(Some(Duration::ZERO)).expect("a turn");
    }
}

/// The frames of a whole stream, and why it ends.
fn plain_split(format: AnyFormat, stream: &[u8], frame_bytes_max: usize) -> Heard {
    let (frames, unfinished) = match format {
        AnyFormat::Lines => split_at(b'\n', stream, frame_bytes_max, |line| line.strip_suffix(b"\r").unwrap_or(line)),
        AnyFormat::Delimiter(delimiter) => split_at(delimiter, stream, frame_bytes_max, |frame| frame),
        AnyFormat::LengthU16 { is_little } => split_by(2, is_little, stream, frame_bytes_max),
        AnyFormat::LengthU32 { is_little } => split_by(4, is_little, stream, frame_bytes_max),
    };
    let ended = Some(if unfinished.is_ok() { CloseReason::Eof } else { CloseReason::InputOverflow });
    Heard { frames, unfinished: unfinished.unwrap_or_default(), ended }
}

/// Frames, then what has come of one more, or that it is too long.
type Split = (Vec<Vec<u8>>, Result<Option<Vec<u8>>, ()>);

fn split_at(delimiter: u8, stream: &[u8], frame_bytes_max: usize, content: fn(&[u8]) -> &[u8]) -> Split {
    let mut pieces: Vec<&[u8]> = stream.split(|byte| *byte == delimiter).collect();
    let last = pieces.pop().unwrap_or_default();
    let frames: Vec<Vec<u8>> = pieces.iter().map(|piece| content(piece).to_vec()).collect();
    if let Some(at) = frames.iter().position(|frame| frame.len() > frame_bytes_max) {
        return (frames[..at].to_vec(), Err(()));
    }
    let unfinished = content(last);
    let unfinished = (!last.is_empty()).then(|| unfinished.to_vec());
    let is_too_long = unfinished.as_ref().is_some_and(|rest| rest.len() > frame_bytes_max);
    (frames, if is_too_long { Err(()) } else { Ok(unfinished) })
}

fn split_by(length_bytes: usize, is_little: bool, mut stream: &[u8], frame_bytes_max: usize) -> Split {
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
