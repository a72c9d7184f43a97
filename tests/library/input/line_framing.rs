//! Lines: split anywhere, within their bounds, each answered.

use std::cell::RefCell;

use halloo::framing::{Format, FrameDecoder, Frames, lines};
use halloo::{CloseReason, Connection, EventLoop, Listen, StreamHandler};
use support::wait::TIMEOUT;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

/// Sends each segment alone. Returns the lines that the handler got, and the overflow if there was one.
fn decode_lines(line_bytes_max: usize, segments: &[&[u8]]) -> (Vec<Vec<u8>>, Option<CloseReason>) {
    let received = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = lines(line_bytes_max, |_, line| received.borrow_mut().push(line.to_vec()));
    let at = Listen::from(loopback()).input_bytes_max(line_bytes_max + 2);
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    let mut sent = 0;
    for segment in segments {
        client.send(segment);
        sent += segment.len() as u64;
        turn_until(&mut events, "the segment is read or refused", |events| {
            events.stats().bytes_received == sent || client.has_reached_end()
        });
    }
    turn_until_idle(&mut events);
    let is_open = events.stats().closed_total() == 0 && !client.has_reached_end();
    drop(client);
    turn_until(&mut events, "the connection is closed", |events| events.stats().closed_total() == 1);
    let overflow = events.stats().closed(CloseReason::InputOverflow) == 1;
    assert_ne!(is_open, overflow, "open, or too long: {}", events.stats());
    drop(events);
    (received.into_inner(), overflow.then_some(CloseReason::InputOverflow))
}

#[test]
fn lines_are_found_wherever_the_stream_was_split() {
    let text = b"one\r\ntwo\n\nth ree\r\n\r\n";
    let expected = [&b"one"[..], b"two", b"", b"th ree", b""].map(<[u8]>::to_vec).to_vec();
    for at in 1..text.len() {
        let (head, tail) = text.split_at(at);
        assert_eq!(decode_lines(100, &[head, tail]), (expected.clone(), None), "split at {at}");
    }
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(decode_lines(100, &bytes), (expected, None), "byte by byte");
}

#[test]
fn only_one_carriage_return_before_the_line_feed_is_dropped() {
    let (lines, _) = decode_lines(100, &[b"a\rb\r\r\n\r\r\n\0\n"]);
    assert_eq!(lines, [&b"a\rb\r"[..], b"\r", b"\0"]);
}

#[test]
fn a_line_of_exactly_the_maximum_passes_with_either_line_end() {
    assert_eq!(decode_lines(10, &[b"0123456789\r\n"]), (vec![b"0123456789".to_vec()], None));
    assert_eq!(decode_lines(10, &[b"0123456789\n"]), (vec![b"0123456789".to_vec()], None));
    assert_eq!(decode_lines(10, &[b"0123456789", b"\r", b"\n"]), (vec![b"0123456789".to_vec()], None));
    assert_eq!(decode_lines(0, &[b"\r\n\n"]), (vec![Vec::new(), Vec::new()], None));
}

#[test]
fn a_line_over_the_maximum_closes_after_the_lines_before_it_are_delivered() {
    let overflow = Some(CloseReason::InputOverflow);
    assert_eq!(decode_lines(10, &[b"fine\n0123456789a\nnever\n"]), (vec![b"fine".to_vec()], overflow));
    assert_eq!(decode_lines(10, &[b"fine\n", b"0123456789ab"]), (vec![b"fine".to_vec()], overflow));
    assert_eq!(decode_lines(10, &[b"0123456789", b"ab"]), (Vec::new(), overflow));
    assert_eq!(decode_lines(0, &[b"\n", b"a\n"]), (vec![Vec::new()], overflow));
}

#[test]
fn before_a_line_that_is_too_long_every_reply_arrives() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), lines(10, answer)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"one\ntwo\nand this is too long\nthree\n");
    assert_eq!(client.read_to_end(&mut events), (&b"one\ntwo\n"[..], StreamEnd::Eof));
}

/// Sends the line and a line feed.
fn answer(connection: &mut Connection<'_>, line: &[u8]) {
    connection.send(&[line, b"\n"].concat()).expect("half an outbox is free");
}

#[test]
fn thousands_of_short_lines_sent_at_once_are_each_answered_in_order() {
    for outbox_bytes_max in [100, 4_096, 65_536] {
        let question: Vec<u8> = (0..5_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let mut events = EventLoop::new().expect("a loop");
        let at = Listen::from(loopback()).outbox_bytes_max(outbox_bytes_max);
        let listener = events.listen(at, lines(20, answer)).expect("a listener");
        let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
        client.send(&question);
        turn_until(&mut events, "all is sent", |_| {
            client.transfer();
            client.has_sent_all()
        });
        client.half_close();
        let (answer, end) = client.read_to_end(&mut events);
        assert!(answer == question, "{} of {} bytes were echoed", answer.len(), question.len());
        assert_eq!(end, StreamEnd::Eof);
    }
}

#[test]
fn a_slow_reader_gets_all_long_replies() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = lines(20, |connection, line| {
        connection.send(&line.repeat(1_000)).expect("half an outbox is free");
    });
    let listener = events.listen(Listen::from(loopback()).outbox_bytes_max(40_000), handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    client.send(&b"0123456789\n".repeat(300));
    client.half_close();
    turn_until(&mut events, "the end", |_| {
        client.read_up_to(50_000);
        client.end.is_some()
    });
    assert!(client.received == b"0123456789".repeat(300_000), "{} bytes received", client.received.len());
}

#[test]
fn an_unterminated_line_at_eof_is_dropped() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), lines(100, answer)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"whole\nhal");
    client.half_close();
    assert_eq!(client.read_to_end(&mut events), (&b"whole\n"[..], StreamEnd::Eof));
    turn_until(&mut events, "the connection is closed", |events| events.stats().closed_total() == 1);
    assert_eq!(events.stats().closed(CloseReason::Eof), 1);
}

#[test]
fn after_a_close_no_further_line_of_the_same_segment_is_delivered() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = lines(100, |connection, line| {
        assert_ne!(line, b"never");
        if line == b"quit" {
            connection.send(b"bye").expect("the outbox is empty");
            connection.close();
        }
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"hello\nquit\nnever\nnever\n");
    assert_eq!(client.read_to_end(&mut events), (&b"bye"[..], StreamEnd::Eof));
}

#[test]
fn after_a_pause_the_next_line_of_the_same_segment_waits_for_resume() {
    let (ids, received) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let handler = lines(100, |connection, line| {
        ids.borrow_mut().push(connection.id());
        received.borrow_mut().push(line.to_vec());
        connection.pause();
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"one\ntwo\nthr");
    for count in 1..=2 {
        turn_until(&mut events, "a line", |_| received.borrow().len() == count);
        turn_until_idle(&mut events);
        assert_eq!(received.borrow().len(), count);
        let id = ids.borrow()[0];
        events.context().connection(id).expect("the connection is open").resume();
    }
    client.send(b"ee\n");
    turn_until(&mut events, "the last line", |_| received.borrow().len() == 3);
    assert_eq!(*received.borrow(), [&b"one"[..], b"two", b"three"]);
}

#[test]
fn a_drain_closes_connections_of_a_lines_closure() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), lines(100, answer)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.request(&mut events, b"once\n", 5), b"once\n");
    events.context().drain(TIMEOUT);
    assert_eq!(client.read_to_end(&mut events), (&b"once\n"[..], StreamEnd::Eof));
    drop(client);
    let report = turn_until_stopped(&mut events);
    assert_eq!((report.finished, report.forced), (1, 0));
}

/// Numbers the lines of each client, and records the close reasons.
struct LineCounter<'a> {
    closed: &'a RefCell<Vec<(u32, CloseReason)>>,
}

struct LineSession {
    lines: FrameDecoder,
    count: u32,
}

impl StreamHandler for LineCounter<'_> {
    type Session = LineSession;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<LineSession> {
        let session = LineSession { lines: FrameDecoder::new(Format::Lines, 100), count: 0 };
        connection.send(b"welcome\n").is_ok().then_some(session)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut LineSession, input: &[u8]) -> usize {
        let mut frames = Frames::new(input);
        while let Some(line) = frames.next(connection, &mut session.lines) {
            session.count += 1;
            answer(connection, format!("{} {}", session.count, String::from_utf8_lossy(line)).as_bytes());
        }
        if let Some(error) = frames.error() {
            answer(connection, error.to_string().as_bytes());
        }
        frames.finish(connection)
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, session: &mut LineSession, _: &[u8]) {
        answer(connection, format!("{} in all", session.count).as_bytes());
        connection.close();
    }

    fn on_close(&mut self, _: &mut Connection<'_>, session: LineSession, reason: CloseReason) {
        self.closed.borrow_mut().push((session.count, reason));
    }
}

#[test]
fn a_handler_of_frames_keeps_a_session_per_connection_and_gets_on_eof_and_on_close() {
    let closed = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), LineCounter { closed: &closed }).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut one, mut other) = (Client::connect(address), Client::connect(address));
    assert_eq!(one.request(&mut events, b"a\nb\n", 16), b"welcome\n1 a\n2 b\n");
    assert_eq!(other.request(&mut events, b"x\n", 12), b"welcome\n1 x\n");
    one.half_close();
    assert_eq!(one.read_to_end(&mut events), (&b"welcome\n1 a\n2 b\n2 in all\n"[..], StreamEnd::Eof));
    turn_until(&mut events, "the connection is closed", |_| closed.borrow().len() == 1);
    assert_eq!(*closed.borrow(), [(2, CloseReason::Eof)]);
    other.send(b"y");
    other.reset();
    turn_until(&mut events, "the connection is closed", |_| closed.borrow().len() == 2);
    assert_eq!(closed.borrow()[1], (1, CloseReason::Reset));
}

#[test]
fn a_line_that_is_too_long_can_be_answered_before_the_connection_closes() {
    let closed = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), LineCounter { closed: &closed }).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&[b"a\n", &[b'x'; 101][..], b"\nb\n"].concat());
    assert_eq!(client.read_to_end(&mut events), (&b"welcome\n1 a\nframe too long\n"[..], StreamEnd::Eof));
    drop(client);
    turn_until(&mut events, "the connection is closed", |_| !closed.borrow().is_empty());
    assert_eq!(*closed.borrow(), [(1, CloseReason::InputOverflow)]);
}
