//! `Connection::drain`: a connection ends without losing a request.

use std::io::Write;
use std::os::fd::OwnedFd;

use halloo::{CloseReason, Connection, EventLoop, Listen};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{turn_until, turn_until_idle};

/// Calls `drain` on every connection.
fn drain_all(events: &mut EventLoop<'_>, log: &CallLog) {
    for id in log.ids() {
        events.context().connection(id).expect("the connection is open").drain();
    }
}

/// Sends until neither the client's kernel nor the loop takes more, and returns what was sent.
fn send_until_full(events: &mut EventLoop<'_>, client: &mut Client) -> Vec<u8> {
    let sent = byte_pattern(4_000_000);
    client.send(&sent);
    assert!(!client.has_sent_all(), "the client's kernel takes 4 MB that are not read");
    turn_until_idle(events);
    client.flush();
    turn_until_idle(events);
    sent[..client.discard_unsent(sent.len())].to_vec()
}

#[test]
fn a_drained_connection_answers_the_input_that_waits_for_room_in_its_outbox() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).input_bytes_max(4_096).outbox_bytes_max(4_096).send_buffer_bytes(4_096);
    let listener = events.listen(at, RecordingHandler::new(&log).on_data(echo)).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    let sent = byte_pattern(60_000);
    client.send(&sent);
    turn_until_idle(&mut events);
    assert!(events.stats().bytes_received < 60_000, "{}", events.stats());
    drain_all(&mut events, &log);
    assert_eq!(client.read_to_end(&mut events), (sent.as_slice(), StreamEnd::Eof));
    drop(client);
    turn_until(&mut events, "the connection is closed", |_| log.close_reasons() == [CloseReason::Local]);
}

#[test]
fn every_byte_that_a_unix_socket_has_accepted_before_a_drain_is_answered() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_data(echo));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    events.context().connect(ours, handler);
    let mut client = Client::new(OwnedFd::from(theirs).into());
    turn_until(&mut events, "the connection is open", |_| log.ids().len() == 1);
    let sent = send_until_full(&mut events, &mut client);
    drain_all(&mut events, &log);
    let (received, end) = client.read_to_end(&mut events);
    assert_eq!((received.len(), end), (sent.len(), StreamEnd::Eof));
    assert!(received == sent);
    turn_until(&mut events, "the connection is closed", |_| log.close_reasons() == [CloseReason::Local]);
}

#[test]
fn the_writes_of_a_unix_peer_fail_once_its_connection_drains() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let pausing = |connection: &mut Connection<'_>, input: &[u8]| {
        connection.pause();
        input.len()
    };
    let handler = events.attach(RecordingHandler::new(&log).on_data(pausing));
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    events.context().connect(ours, handler);
    theirs.write_all(b"a question").expect("the peer reads");
    turn_until(&mut events, "the input is delivered", |_| log.inputs().len() == 1);
    drain_all(&mut events, &log);
    turn_until_idle(&mut events);
    assert_eq!(theirs.write(b"another one").map_err(|error| error.kind()), Err(std::io::ErrorKind::BrokenPipe));
    events.context().connection(log.ids()[0]).expect("the connection is open").resume();
    turn_until(&mut events, "the connection is closed at once", |_| log.close_reasons() == [CloseReason::Local]);
    assert_eq!(log.inputs().len(), 1);
}

#[test]
fn the_rest_of_an_incomplete_message_is_dropped_and_no_other_callback_comes() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let whole_lines =
        |_: &mut Connection<'_>, input: &[u8]| input.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_data(whole_lines)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"one\ntw");
    turn_until(&mut events, "the input is delivered", |_| log.inputs().len() == 1);
    turn_until_idle(&mut events);
    drain_all(&mut events, &log);
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    drop(client);
    turn_until(&mut events, "the connection is closed", |_| log.close_reasons().len() == 1);
    assert_eq!(log.all(), [Call::Open, Call::Data(b"one\ntw".to_vec()), Call::Closed(CloseReason::Local)]);
}

#[test]
fn on_eof_comes_in_a_drain_if_the_peer_has_sent_eof() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_data(|_, _| 0));
    let mut clients = Vec::new();
    for (ours, client) in crate::outbound::adopted_streams::pairs() {
        events.context().connect(ours, handler);
        clients.push(client);
    }
    turn_until(&mut events, "both connections are open", |_| log.ids().len() == 2);
    turn_until_idle(&mut events);
    // A paused connection has not read the EOF when the input is stopped.
    for id in log.ids() {
        events.context().connection(id).expect("the connection is open").pause();
    }
    for client in &mut clients {
        client.send(b"unfinished");
        client.half_close();
    }
    drain_all(&mut events, &log);
    turn_until_idle(&mut events);
    for id in log.ids() {
        events.context().connection(id).expect("the connection is open").resume();
    }
    for client in &mut clients {
        assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    }
    assert_eq!(log.rests(), [b"unfinished", b"unfinished"]);
    turn_until(&mut events, "both are closed", |_| log.close_reasons() == [CloseReason::Eof; 2]);
}

#[test]
fn a_paused_connection_is_drained_after_its_handler_has_resumed_it() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let pausing = |connection: &mut Connection<'_>, input: &[u8]| {
        connection.pause();
        input.len()
    };
    let listener = events.listen(loopback(), RecordingHandler::new(&log).on_data(pausing)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"a question");
    turn_until(&mut events, "the input is delivered", |_| log.inputs().len() == 1);
    client.send(b"another one");
    drain_all(&mut events, &log);
    turn_until_idle(&mut events);
    assert_eq!((log.inputs().len(), log.close_reasons().len()), (1, 0));
    for inputs in [2, 2] {
        let mut connection = events.context().connection(log.ids()[0]).expect("the connection is open");
        connection.send(b"an answer").expect("the outbox is empty");
        connection.resume();
        turn_until(&mut events, "the answer", |_| client.has_received(9));
        turn_until_idle(&mut events);
        assert_eq!(log.inputs().len(), inputs);
    }
    assert_eq!(client.read_to_end(&mut events), (&b"an answeran answer"[..], StreamEnd::Eof));
    assert_eq!(log.inputs()[1], b"another one");
}

#[test]
fn on_drain_does_not_come_on_a_connection_that_is_already_draining() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| log.ids().len() == 1);
    let mut connection = events.context().connection(log.ids()[0]).expect("the connection is open");
    connection.pause();
    connection.drain();
    events.context().drain(std::time::Duration::from_secs(600));
    turn_until_idle(&mut events);
    events.context().connection(log.ids()[0]).expect("the connection is open").resume();
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    assert_eq!(log.count(&Call::Drain), 0);
}

#[test]
fn close_and_abort_end_a_drain() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut closed, mut aborted) = (Client::connect(address), Client::connect(address));
    turn_until(&mut events, "both clients are accepted", |_| log.ids().len() == 2);
    for id in log.ids() {
        events.context().connection(id).expect("the connection is open").pause();
    }
    drain_all(&mut events, &log);
    turn_until_idle(&mut events);
    let first_is_closed = log.ids()[0];
    events.context().connection(first_is_closed).expect("the connection is open").close();
    events.context().connection(log.ids()[1]).expect("the connection is open").abort();
    assert_eq!(closed.read_to_end(&mut events).1, StreamEnd::Eof);
    assert_eq!(aborted.read_to_end(&mut events).1, StreamEnd::Reset);
    drop(closed);
    turn_until(&mut events, "both are closed", |_| log.close_reasons().len() == 2);
}
