//! Batches of frames, whose replies are one message.

use std::cell::RefCell;

use halloo::framing::{Format, FrameDecoder, Frames};
use halloo::{CloseReason, Connection, EventLoop, Listen, StreamHandler};

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

/// The reply to a line.
const REPLY: &[u8] = b"123456789\n";

/// Replies to batches of lines, and records their sizes. After a batch it calls `stop`.
struct BatchedReplies<'r> {
    reply: &'static [u8],
    batches: &'r RefCell<Vec<usize>>,
    stop: fn(&mut Connection<'_>),
}

impl StreamHandler for BatchedReplies<'_> {
    type Session = FrameDecoder;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<FrameDecoder> {
        Some(FrameDecoder::new(Format::Lines, 20))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, lines: &mut FrameDecoder, input: &[u8]) -> usize {
        let mut frames = Frames::new(input);
        loop {
            let count = frames.batch(connection, lines, self.reply.len()).count();
            if count == 0 {
                return frames.finish(connection);
            }
            self.batches.borrow_mut().push(count);
            connection.send(&self.reply.repeat(count)).expect("the replies to a batch fit");
            (self.stop)(connection);
        }
    }
}

/// Sends lines to a handler of batches; returns its loop and the client.
fn send_lines<'r>(
    reply: &'static [u8],
    batches: &'r RefCell<Vec<usize>>,
    stop: fn(&mut Connection<'_>),
    lines: &[u8],
) -> (EventLoop<'r>, Client) {
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(105);
    let listener = events.listen(at, BatchedReplies { reply, batches, stop }).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(lines);
    (events, client)
}

#[test]
fn a_batch_has_the_frames_whose_replies_begin_in_the_first_half_of_the_outbox() {
    let batches = RefCell::default();
    let (mut events, mut client) = send_lines(REPLY, &batches, |_| {}, &b"one\r\n\n".repeat(10));
    turn_until(&mut events, "every reply", |_| client.has_received(20 * REPLY.len()));
    assert_eq!(client.received, REPLY.repeat(20));
    // Replies that begin at 0, 10, 20, 30, 40 and 50 of 105 bytes.
    assert_eq!(*batches.borrow(), [6, 6, 6, 2]);
}

#[test]
fn a_batch_without_replies_has_every_frame_of_the_input() {
    let batches = RefCell::default();
    let (mut events, client) = send_lines(b"", &batches, |_| {}, &b"one\n".repeat(500));
    turn_until(&mut events, "the lines", |_| batches.borrow().iter().sum::<usize>() == 500);
    assert_eq!(events.stats().bytes_received, 2_000);
    assert_eq!(batches.borrow().len(), 1);
    drop(client);
}

#[test]
fn after_a_pause_a_close_or_an_abort_a_batch_is_empty() {
    let stops: [fn(&mut Connection<'_>); 3] = [|it| it.pause(), |it| it.close(), |it| it.abort()];
    for stop in stops {
        let batches = RefCell::default();
        let (mut events, _client) = send_lines(REPLY, &batches, stop, &b"one\n".repeat(10));
        turn_until(&mut events, "a batch", |_| !batches.borrow().is_empty());
        turn_until_idle(&mut events);
        assert_eq!(*batches.borrow(), [6]);
    }
}

#[test]
fn a_batch_ends_at_a_frame_that_is_too_long_and_its_replies_arrive() {
    let batches = RefCell::default();
    let (mut events, mut client) = send_lines(REPLY, &batches, |_| {}, b"one\ntwo\nand this is much too long\nthree\n");
    let expected = REPLY.repeat(2);
    assert_eq!(client.read_to_end(&mut events), (expected.as_slice(), StreamEnd::Eof));
    drop(client);
    let is_closed = |events: &mut EventLoop<'_>| events.stats().closed(CloseReason::InputOverflow) == 1;
    turn_until(&mut events, "the connection is closed", is_closed);
    assert_eq!(*batches.borrow(), [2]);
}

#[test]
fn a_frame_that_ends_in_the_next_segment_is_in_the_next_batch() {
    let batches = RefCell::default();
    let (mut events, mut client) = send_lines(REPLY, &batches, |_| {}, b"one\ntwo\nthr");
    turn_until(&mut events, "two replies", |_| client.has_received(2 * REPLY.len()));
    client.send(b"ee\n");
    turn_until(&mut events, "the last reply", |_| client.has_received(3 * REPLY.len()));
    assert_eq!(*batches.borrow(), [2, 1]);
}
