//! Line framing: however the bytes are cut and delayed, the lines are those of a plain split, and every answer arrives.

#![no_main]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use halloo::framing::{FrameHandler, Framed, Lines};
use halloo::testing::{Fault, Simulation};
use halloo::{CloseReason, Connection, EventLoop, Listen};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Case<'a> {
    seed: u64,
    line_bytes_max: u8,
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
    lines: Vec<Vec<u8>>,
    ended: Option<CloseReason>,
}

/// Sends each line back.
struct Echo<'a>(&'a RefCell<Heard>);

impl FrameHandler for Echo<'_> {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_frame(&mut self, connection: &mut Connection<'_>, (): &mut (), line: &[u8]) {
        connection.send(&[line, b"\n"].concat()).expect("half an outbox is free");
        self.0.borrow_mut().lines.push(line.to_vec());
    }

    fn on_close(&mut self, _: &mut Connection<'_>, (): (), reason: CloseReason) {
        assert_eq!(self.0.borrow_mut().ended.replace(reason), None, "it closes once");
    }
}

fuzz_target!(|case: Case<'_>| {
    let heard = RefCell::default();
    let address = SocketAddr::from(([10, 0, 0, 1], 7));
    let line_bytes_max = usize::from(case.line_bytes_max);
    let simulation = Simulation::new(case.seed);
    let mut events = simulation.event_loop();
    let at = Listen::from(address)
        .input_bytes_max(line_bytes_max + 2 + usize::from(case.input_room))
        .outbox_bytes_max(2 * (line_bytes_max + 1) + usize::from(case.outbox_room))
        .idle_timeout(None)
        .write_timeout(None);
    events.listen(at, Framed::new(Lines, line_bytes_max, Echo(&heard))).expect("a listener");
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
    let expected = plain_split(&stream, line_bytes_max);
    let settle = |events: &mut EventLoop<'_>| {
        // Without an end to the trouble the world would never be quiet.
        simulation.heal();
        client.set_window(usize::MAX);
        simulation.settle(events).expect("turns");
    };
    if case.waits {
        settle(&mut events);
        assert_eq!(heard.borrow().lines, expected.lines, "no line waits for what comes behind it");
    }
    client.finish();
    turn(&mut events, 8);
    settle(&mut events);
    assert_eq!(*heard.borrow(), expected);
    let answers = expected.lines.iter().flat_map(|line| [line, b"\n".as_slice()]).flatten().copied();
    assert_eq!(client.received(), answers.collect::<Vec<u8>>());
    assert!(client.has_ended() && !client.was_reset());
});

fn turn(events: &mut EventLoop<'_>, turns: u8) {
    for _ in 0..turns {
        let _ = events.turn(Some(Duration::ZERO)).expect("a turn");
    }
}

/// The lines of a whole stream, and why it ends.
fn plain_split(stream: &[u8], line_bytes_max: usize) -> Heard {
    let mut pieces: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    let unfinished = pieces.pop().unwrap_or_default();
    let cut = |piece: &&[u8]| piece.strip_suffix(b"\r").unwrap_or(piece).to_vec();
    let lines: Vec<Vec<u8>> = pieces.iter().map(cut).take_while(|line| line.len() <= line_bytes_max).collect();
    // A CR at its end might yet be one of a line end.
    let is_too_long = lines.len() < pieces.len() || unfinished.len() >= line_bytes_max + 2;
    Heard { lines, ended: Some(if is_too_long { CloseReason::InputOverflow } else { CloseReason::Eof }) }
}
