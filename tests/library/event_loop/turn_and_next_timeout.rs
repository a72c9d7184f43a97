//! `turn`, `next_timeout`, and values that handlers borrow.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use halloo::{EventLoop, Listen, Turn, datagrams, stream};
use support::byte_pattern::byte_pattern;
use support::wait::TIMEOUT;

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::nonblocking_client::{Client, send_all};
use crate::helpers::recording_handler::{CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

#[test]
fn with_nothing_to_do_a_turn_sleeps_for_its_timeout() {
    let mut events = EventLoop::new().expect("a loop");
    events.listen(loopback(), stream(greet)).expect("a listener");
    turn_until_idle(&mut events);
    assert_eq!(events.next_timeout(), None, "there is no deadline");
    let start = Instant::now();
    assert_eq!(events.turn(Some(Duration::from_millis(30))).expect("the poll works"), Turn::Idle);
    assert!(start.elapsed() >= Duration::from_millis(30), "{:?}", start.elapsed());
    assert_eq!(events.turn(Some(Duration::ZERO)).expect("the poll works"), Turn::Idle);
    assert!(start.elapsed() < TIMEOUT, "{:?}", start.elapsed());
}

#[test]
fn a_client_ends_a_waiting_turn_with_progress() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    let _client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(events.turn(None).expect("the poll works"), Turn::Progress);
    assert_eq!(events.stats().accepted, 1);
}

#[test]
fn a_datagram_ends_a_waiting_turn_with_progress() {
    let mut events = EventLoop::new().expect("a loop");
    let socket = events.bind(loopback(), datagrams(|_, _| {})).expect("a socket");
    let address = events.local_addr(socket).expect("the socket is open");
    udp_socket("127.0.0.1").send_to(b"?", address).expect("the datagram is sent");
    assert_eq!(events.turn(None).expect("the poll works"), Turn::Progress);
    assert_eq!(events.stats().datagrams_received, 1);
}

#[test]
fn next_timeout_is_the_time_until_the_nearest_deadline() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).idle_timeout(Duration::from_secs(3_000));
    let listener = events.listen(at, RecordingHandler::new(&log)).expect("a listener");
    let _client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| !log.ids().is_empty());
    turn_until_idle(&mut events);
    let idle = events.next_timeout().expect("the idle timeout runs");
    assert!((Duration::from_secs(2_900)..Duration::from_secs(3_000)).contains(&idle), "{idle:?}");

    events
        .context()
        .connection(log.ids()[0])
        .expect("the connection is open")
        .set_timeout(Some(Duration::from_secs(1_000)));
    assert_eq!(events.next_timeout(), Some(Duration::ZERO), "a timeout set between turns is work");
    turn_until_idle(&mut events);
    let timer = events.next_timeout().expect("the timeout runs");
    assert!((Duration::from_secs(900)..Duration::from_secs(1_000)).contains(&timer), "{timer:?}");
    let deadline = Instant::now() + TIMEOUT;
    while events.next_timeout().is_some_and(|rest| rest >= timer) {
        assert!(Instant::now() < deadline, "next_timeout does not decrease between two turns");
    }
}

#[test]
fn next_timeout_is_zero_while_work_is_left_over() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(|_, input| input.len())).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |events| events.stats().accepted == 1);
    turn_until_idle(&mut events);
    client.send(&byte_pattern(4 * 1024 * 1024));
    let mut left_over = 0;
    turn_until(&mut events, "all is read", |events| {
        client.flush();
        left_over += u32::from(events.next_timeout() == Some(Duration::ZERO));
        events.stats().bytes_received == 4 * 1024 * 1024
    });
    assert!(left_over > 0, "a turn reads 128 KiB, so there was work left over");
    turn_until_idle(&mut events);
}

#[test]
fn next_timeout_is_zero_after_a_stop_and_after_its_turn() {
    let mut events = EventLoop::new().expect("a loop");
    events.context().stop();
    assert_eq!(events.next_timeout(), Some(Duration::ZERO));
    assert!(matches!(events.turn(None).expect("the poll works"), Turn::Stopped(_)));
    assert_eq!(events.next_timeout(), Some(Duration::ZERO));
}

#[test]
fn a_turn_that_sends_output_written_between_turns_is_progress() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |_| !log.ids().is_empty());
    turn_until_idle(&mut events);
    events
        .context()
        .connection(log.ids()[0])
        .expect("the connection is open")
        .send(b"data")
        .expect("the outbox is empty");
    assert_eq!(events.turn(Some(Duration::ZERO)).expect("the poll works"), Turn::Progress);
    assert_eq!(events.stats().bytes_sent, 4, "the output is sent");
    turn_until(&mut events, "the output arrives", |_| client.has_received(4));
}

#[test]
fn the_borrows_of_handlers_end_when_the_loop_is_dropped() {
    let (mut bytes, mut questions) = (0, Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let counter = stream(|connection, input| {
        bytes += input.len();
        greet(connection, input)
    });
    let counter = events.listen(loopback(), counter).expect("a listener");
    let socket = events.bind(loopback(), datagrams(|_, payload| questions.push(payload.to_vec()))).expect("a socket");
    let (tcp, udp) = (
        events.local_addr(counter).expect("the listener is open"),
        events.local_addr(socket).expect("the socket is open"),
    );
    assert_eq!(Client::connect(tcp).request(&mut events, b"four", GREETING.len()), GREETING);
    udp_socket("127.0.0.1").send_to(b"five?", udp).expect("the datagram is sent");
    turn_until(&mut events, "the datagram", |events| events.stats().datagrams_received == 1);
    drop(events);
    assert_eq!((bytes, questions), (4, vec![b"five?".to_vec()]));
}

#[test]
fn handlers_may_share_an_rc() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let addresses: Vec<_> = (0..2)
        .map(|number| {
            let log = Rc::clone(&log);
            let handler = stream(move |connection, input| {
                log.borrow_mut().push(number);
                greet(connection, input)
            });
            let listener = events.listen(loopback(), handler).expect("a listener");
            events.local_addr(listener).expect("the listener is open")
        })
        .collect();
    for address in [addresses[1], addresses[0], addresses[1]] {
        assert_eq!(Client::connect(address).request(&mut events, b"?", GREETING.len()), GREETING);
    }
    assert_eq!(*log.borrow(), [1, 0, 1]);
    assert_eq!(Rc::strong_count(&log), 3);
    drop(events);
    assert_eq!(Rc::strong_count(&log), 1);
}

#[test]
fn two_loops_take_turns_on_one_thread() {
    let (mut one, mut other) = (EventLoop::new().expect("a loop"), EventLoop::new().expect("a loop"));
    let echo = || stream(echo);
    let first = one.listen(loopback(), echo()).expect("a listener");
    let second = other.listen(loopback(), echo()).expect("a listener");
    let mut clients = [
        Client::connect(one.local_addr(first).expect("the listener is open")),
        Client::connect(other.local_addr(second).expect("the listener is open")),
    ];
    send_all(&mut clients, b"hello");
    turn_until(&mut one, "both echoes", |_| {
        let _ = other.turn(Some(Duration::ZERO)).expect("the poll works");
        clients.iter_mut().map(|client| client.has_received(5)).filter(|has| *has).count() == 2
    });
    assert!(clients.iter().all(|client| client.received == b"hello"));
    assert_eq!((one.stats().accepted, other.stats().accepted), (1, 1));
}

#[test]
fn the_clock_stands_still_during_a_turn_and_never_goes_back() {
    let timestamps = RefCell::new(Vec::new());
    let started = Cell::new(None);
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        let context = connection.context();
        timestamps.borrow_mut().push((context.stats().turns, context.now()));
        let start = Instant::now();
        started.set(Some(start));
        while start.elapsed() < Duration::from_micros(50) {}
        connection.try_write(input)
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(address)).collect();
    for _ in 0..20 {
        send_all(&mut clients, b"x");
        let _ = events.turn(Some(Duration::from_millis(2))).expect("the poll works");
    }
    turn_until(&mut events, "all are echoed", |_| clients.iter_mut().all(|client| client.has_received(20)));
    let timestamps = timestamps.borrow();
    let pairs = || timestamps.windows(2).map(|pair| (pair[0], pair[1]));
    assert!(pairs().any(|(one, next)| one.0 == next.0), "several callbacks shared a turn");
    assert!(pairs().all(|(one, next)| (one.0 == next.0) == (one.1 == next.1) && one.1 <= next.1), "{timestamps:?}");
    assert!(
        started.get().is_some_and(|last| last >= timestamps[timestamps.len() - 1].1),
        "the time of a turn was in the future"
    );
    drop(clients);
}

#[test]
fn stats_display_as_one_line_of_names_and_numbers() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"Hello, TCP Server!");
    assert_eq!(client.read_to_end(&mut events).0, GREETING);
    turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
    let line = events.stats().to_string();
    for part in ["accepted=1", "bytes_received=18", "bytes_sent=18", "connections=0", "closed.local=1"] {
        assert!(line.split(' ').any(|field| field == part), "no {part} in {line}");
    }
    assert!(
        line.split(' ').all(|field| field.split_once('=').is_some_and(|(_, n)| n.parse::<u64>().is_ok())),
        "{line}"
    );
}
