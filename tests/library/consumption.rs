//! What a handler leaves of its input: kept, and shown again when something has changed, never in a spin.

use std::cell::Cell;

use halloo::{CloseReason, Connection, EventLoop, Listen};

use crate::support::{Called, Client, End, Notes, Probe, echo, loopback, pattern, turn_until, turn_until_asleep};

/// Lets every connection go on, from outside.
fn resume_all(events: &mut EventLoop<'_>, notes: &Notes) {
    for id in notes.ids() {
        if let Some(mut connection) = events.context().connection(id) {
            connection.resume();
        }
    }
}

#[test]
fn the_rest_is_shown_again_with_new_bytes() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = Probe::new(&notes).on_data(|_, input| input.len() / 2);
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("it is there"));
    client.say(b"abcd");
    turn_until(&mut events, "it is shown", |_| notes.shown().len() == 1);
    turn_until_asleep(&mut events);
    client.say(b"ef");
    turn_until(&mut events, "it is shown", |_| notes.shown().len() == 2);
    turn_until_asleep(&mut events);
    assert_eq!(notes.shown(), [&b"abcd"[..], b"cdef"]);
}

#[test]
fn a_rest_that_nothing_has_changed_about_is_not_shown_again() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), Probe::new(&notes).on_data(|_, _| 0)).expect("a listener");
    let address = events.local_addr(listener).expect("it is there");
    let mut client = Client::connect(address);
    client.say(b"whatever");
    turn_until(&mut events, "it is shown", |_| !notes.shown().is_empty());
    let mut other = Client::connect(address);
    for _ in 0..5 {
        other.say(b"x");
        turn_until_asleep(&mut events);
    }
    assert_eq!(notes.of(notes.ids()[0]), [Called::Open, Called::Data(b"whatever".to_vec())]);
}

#[test]
fn the_rest_is_shown_again_after_resume() {
    let notes = Notes::default();
    let pauses = Cell::new(true);
    let mut events = EventLoop::new().expect("a loop");
    let handler = Probe::new(&notes).on_data(|connection, input| {
        if pauses.replace(false) {
            connection.pause();
            1
        } else {
            input.len()
        }
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("it is there"));
    client.say(b"abc");
    turn_until(&mut events, "it is shown", |_| !notes.shown().is_empty());
    client.say(b"d");
    turn_until_asleep(&mut events);
    assert_eq!(notes.shown(), [b"abc"], "nothing is shown meanwhile");
    resume_all(&mut events, &notes);
    turn_until(&mut events, "all is shown", |_| notes.shown().len() == 3);
    assert_eq!(notes.shown(), [&b"abc"[..], b"bc", b"d"]);
}

#[test]
fn the_rest_is_shown_again_after_on_flushed() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(4);
    let handler = Probe::new(&notes).on_data(echo);
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("it is there"));
    assert_eq!(client.ask(&mut events, b"0123456789", 10), b"0123456789");
    turn_until_asleep(&mut events);
    assert_eq!(notes.shown(), [&b"0123456789"[..], b"456789", b"89"]);
    assert_eq!(notes.count(&Called::Flushed), 2);
}

#[test]
fn at_the_end_of_stream_the_rest_is_shown_as_long_as_some_of_it_is_used_and_then_the_end_once() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), Probe::new(&notes).on_data(|_, _| 1)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("it is there"));
    client.say(b"abc");
    client.half_close();
    assert_eq!(client.read_to_end(&mut events), (&b""[..], End::Orderly));
    turn_until(&mut events, "the connection is over", |_| !notes.closed().is_empty());
    let data = |bytes: &[u8]| Called::Data(bytes.to_vec());
    assert_eq!(
        notes.all(),
        [Called::Open, data(b"abc"), data(b"bc"), data(b"c"), Called::Eof, Called::Closed(CloseReason::Eof)]
    );
}

#[test]
fn at_the_end_of_stream_a_rest_left_untouched_brings_the_end_once() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = Probe::new(&notes).on_data(|_, _| 0).on_eof(|_| {});
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("it is there"));
    client.say(b"half a questi");
    client.half_close();
    turn_until(&mut events, "the end is told", |_| notes.count(&Called::Eof) == 1);
    turn_until_asleep(&mut events);
    assert_eq!(notes.count(&Called::Eof), 1);
    assert!(notes.shown().len() <= 2 && notes.shown().iter().all(|shown| shown == b"half a questi"));
    assert_eq!(notes.closed(), [], "the handler did not close");
}

#[test]
fn at_the_end_of_stream_a_paused_connection_hears_of_the_end_after_resume() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = Probe::new(&notes).on_data(|connection, input| {
        if input.starts_with(b"a") {
            connection.pause();
        }
        1
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("it is there"));
    client.say(b"ab");
    client.half_close();
    turn_until(&mut events, "it is shown", |_| !notes.shown().is_empty());
    turn_until_asleep(&mut events);
    assert_eq!(notes.count(&Called::Eof), 0);
    resume_all(&mut events, &notes);
    turn_until(&mut events, "the end is told", |_| notes.count(&Called::Eof) == 1);
    assert_eq!(notes.shown(), [&b"ab"[..], b"b"]);
}

#[test]
fn at_the_end_of_stream_the_rest_waits_for_the_output_before_it() {
    let question = pattern(200_000);
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).outbox_bytes_max(1_000);
    let handler = Probe::new(&notes).on_data(echo).on_eof(|connection| {
        assert_eq!(connection.pending(), 0);
        connection.close();
    });
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("it is there"));
    client.say(&question);
    turn_until(&mut events, "all is said", |_| {
        client.pump();
        client.has_sent_all()
    });
    client.half_close();
    let (received, end) = client.read_to_end(&mut events);
    assert!(received == question, "{} bytes came back", received.len());
    assert_eq!(end, End::Orderly);
    turn_until(&mut events, "the connection is over", |_| !notes.closed().is_empty());
    assert_eq!(notes.count(&Called::Eof), 1);
}

#[test]
fn a_full_inbox_left_untouched_is_an_overflow_and_one_byte_less_is_not() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).input_bytes_max(100);
    let listener = events.listen(at, Probe::new(&notes).on_data(|_, _| 0)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("it is there"));
    client.say(&[1; 99]);
    turn_until(&mut events, "it is shown", |_| notes.shown().concat().len() >= 99);
    turn_until_asleep(&mut events);
    assert_eq!(notes.closed(), []);
    client.say(&[2; 1]);
    assert_eq!(client.read_to_end(&mut events).1, End::Orderly);
    drop(client);
    turn_until(&mut events, "the connection is over", |_| !notes.closed().is_empty());
    assert_eq!(notes.closed(), [CloseReason::InputOverflow]);
    assert_eq!(events.stats().closed(CloseReason::InputOverflow), 1);
}

#[test]
fn a_full_inbox_is_no_overflow_while_its_handler_has_paused() {
    let notes = Notes::default();
    let paused = Cell::new(false);
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).input_bytes_max(100);
    let handler = Probe::new(&notes).on_data(|connection, input| {
        if paused.get() {
            return input.len();
        }
        if input.len() == 100 {
            connection.pause();
            paused.set(true);
        }
        0
    });
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("it is there"));
    let question = pattern(1_000);
    client.say(&question);
    turn_until(&mut events, "the inbox is full", |_| paused.get());
    turn_until_asleep(&mut events);
    assert_eq!(notes.closed(), []);
    let before = notes.shown().len();
    resume_all(&mut events, &notes);
    turn_until(&mut events, "all is shown", |_| notes.shown()[before..].concat().len() >= 1_000);
    assert!(notes.shown()[before..].concat() == question, "each byte once, in order");
}

#[test]
fn a_full_inbox_is_no_overflow_while_output_waits() {
    let (notes, stalled) = (Notes::default(), Cell::new(true));
    let fill = |connection: &mut Connection<'_>| while connection.write(&vec![1; 65_536]) == 65_536 {};
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).input_bytes_max(100);
    let handler = Probe::new(&notes)
        .on_open(|connection| {
            fill(connection);
            true
        })
        .on_flushed(|connection| {
            if stalled.get() {
                fill(connection);
            }
        })
        .on_data(|_, input| if stalled.get() { 0 } else { input.len() });
    let listener = events.listen(at, handler).expect("a listener");
    let mut client = Client::connect_narrow(events.local_addr(listener).expect("it is there"));
    turn_until(&mut events, "it is accepted", |_| !notes.ids().is_empty());
    turn_until_asleep(&mut events);
    let question = pattern(1_000);
    client.say(&question);
    turn_until_asleep(&mut events);
    assert!(events.context().connection(notes.ids()[0]).expect("it is open").pending() > 0, "output waits");
    stalled.set(false);
    turn_until(&mut events, "all is shown", |_| {
        client.pump();
        notes.shown().concat().ends_with(&question)
    });
    assert_eq!(notes.closed(), []);
}

#[test]
fn a_pause_stops_reading_and_resume_takes_it_up_though_no_new_byte_comes() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = Probe::new(&notes).on_open(|connection| {
        connection.pause();
        true
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("it is there"));
    turn_until(&mut events, "it is accepted", |_| !notes.ids().is_empty());
    turn_until_asleep(&mut events);
    client.say(b"long ago");
    client.half_close();
    turn_until_asleep(&mut events);
    assert_eq!((events.stats().bytes_received, notes.shown().len()), (0, 0));
    resume_all(&mut events, &notes);
    assert_eq!(client.read_to_end(&mut events).1, End::Orderly);
    assert_eq!((notes.shown().concat(), notes.count(&Called::Eof)), (b"long ago".to_vec(), 1));
}

#[test]
fn another_connections_callback_can_resume() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = Probe::new(&notes).on_data(|connection, input| {
        if input == b"wait" {
            connection.pause();
            return 0;
        }
        let everybody = connection.handler();
        connection.context().for_each(everybody, |other| {
            if other.send(b"go").is_ok() {
                other.resume();
            }
        });
        input.len()
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("it is there");
    let (mut first, mut second) = (Client::connect(address), Client::connect(address));
    first.say(b"wait");
    turn_until(&mut events, "the first waits", |_| notes.shown() == [b"wait"]);
    assert_eq!(second.ask(&mut events, b"now", 2), b"go");
    turn_until(&mut events, "the first is shown its rest", |_| notes.shown() == [&b"wait"[..], b"now", b"wait"]);
    assert_eq!(first.ask(&mut events, b"", 2), b"go");
}
