//! Allocations of the loop's thread in the steady state.
//!
//! A request and its reply allocate nothing, whatever the journal notes. Input that a handler writes on is not copied. The
//! memory of a burst of messages is freed.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use halloo::observe::{EntryKind, Level, Recorder, Recording};
use halloo::{Connection, EventLoop, Turn, datagrams, framing, stream};

const AT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A list that is seldom used may still grow once. The three lists of the journal grow with the longest turn: on a busy
/// machine, more clients wait for one. An allocation for each exchange would be a thousand.
const GROWTH_MAX: u64 = 4 + 3 * 12;

/// Each of the 16 blocks of a recorder has three lists, which may double some times. An allocation for each exchange would
/// be a thousand.
const RECORDED_GROWTH_MAX: u64 = 16 * 3 * 6;

/// So many exchanges that tables, queues and the pool of buffers have their final size.
const WARM_UP: u64 = 300;
const MEASURED_CLIENTS: u64 = 1_000;

/// Returns a loop with this level, which keeps some payload. The observer counts the callbacks that were noted.
fn loop_at(level: Level, noted: &Cell<u64>) -> EventLoop<'_> {
    let mut events = EventLoop::new().expect("a loop");
    events.journal_level(level);
    events.journal_payload_bytes_max(16);
    events.set_observer(|turn| {
        let callbacks = turn.entries.iter().filter(|entry| entry.kind == EntryKind::CallbackEnd).count();
        noted.set(noted.get() + callbacks as u64);
    });
    events
}

#[track_caller]
fn assert_no_allocation(level: Level, noted: &Cell<u64>, allocations: u64) {
    assert!(allocations <= GROWTH_MAX, "{allocations} allocations in {MEASURED_CLIENTS} exchanges at level {level}");
    assert_eq!(noted.get() > 0, level == Level::All, "{} callbacks were noted at level {level}", noted.get());
}

/// Turns the loop until `target` exchanges have been made.
fn turn_until(events: &mut EventLoop<'_>, completed: &Cell<u64>, target: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while completed.get() < target {
        assert!(Instant::now() < deadline, "only {} exchanges of {target}", completed.get());
        assert!(!matches!(events.turn(Some(Duration::from_millis(100))), Ok(Turn::Stopped(_)) | Err(_)));
    }
}

/// Returns the allocations of the measured exchanges. `clients` makes at least as many exchanges.
fn allocations(events: &mut EventLoop<'_>, completed: &Cell<u64>, clients: impl FnOnce() + Send + 'static) -> u64 {
    let one = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(one.count_total, 1, "allocations are not counted");
    let clients = thread::spawn(clients);
    turn_until(events, completed, WARM_UP);
    let counted = allocation_counter::measure(|| turn_until(events, completed, WARM_UP + MEASURED_CLIENTS));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !clients.is_finished() {
        assert!(Instant::now() < deadline, "the clients do not finish");
        assert!(events.turn(Some(Duration::from_millis(10))).is_ok());
    }
    clients.join().expect("the clients are answered");
    counted.count_total
}

fn greet_clients(level: Level) {
    let (completed, noted) = (Cell::new(0), Cell::new(0));
    let mut events = loop_at(level, &noted);
    let greeter = stream(|connection, input| {
        completed.set(completed.get() + 1);
        let _ = connection.send(b"Hello, TCP Client!");
        connection.close();
        input.len()
    });
    let listener = events.listen(SocketAddr::from(AT), greeter).expect("an address");
    let address = events.local_addr(listener).expect("it has one");
    let count = allocations(&mut events, &completed, move || {
        for _ in 0..WARM_UP + MEASURED_CLIENTS {
            let mut client = TcpStream::connect(address).expect("it listens");
            client.write_all(b"Hello, TCP Server!").expect("the server reads");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("the server answers");
            assert_eq!(answer, "Hello, TCP Client!");
        }
    });
    assert_no_allocation(level, &noted, count);
}

#[test]
fn a_greeted_and_closed_client_causes_no_allocation_at_any_level() {
    for level in Level::ALL {
        greet_clients(*level);
    }
}

fn answer_lines(level: Level) {
    let (completed, noted) = (Cell::new(0), Cell::new(0));
    let mut events = loop_at(level, &noted);
    let echo = framing::lines(100, |connection, line| {
        completed.set(completed.get() + 1);
        let _ = connection.send(line);
        let _ = connection.send(b"\n");
    });
    let listener = events.listen(SocketAddr::from(AT), echo).expect("an address");
    let address = events.local_addr(listener).expect("it has one");
    let count = allocations(&mut events, &completed, move || {
        let mut client = TcpStream::connect(address).expect("it listens");
        for _ in 0..WARM_UP + MEASURED_CLIENTS {
            client.write_all(b"Hello!\n").expect("the server reads");
            let mut answer = [0; 7];
            client.read_exact(&mut answer).expect("the server answers");
            assert_eq!(&answer, b"Hello!\n");
        }
    });
    assert_no_allocation(level, &noted, count);
}

#[test]
fn an_answered_line_causes_no_allocation_at_any_level() {
    for level in Level::ALL {
        answer_lines(*level);
    }
}

fn answer_datagrams(level: Level) {
    let (completed, noted) = (Cell::new(0), Cell::new(0));
    let mut events = loop_at(level, &noted);
    let greeter = datagrams(|datagram, _| {
        completed.set(completed.get() + 1);
        datagram.reply(b"Hello, UDP Client!");
    });
    let socket = events.bind(SocketAddr::from(AT), greeter).expect("an address");
    let address = events.local_addr(socket).expect("it has one");
    let count = allocations(&mut events, &completed, move || {
        let client = UdpSocket::bind(AT).expect("an address");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("an option of every socket");
        for _ in 0..(WARM_UP + MEASURED_CLIENTS) / 4 {
            for _ in 0..4 {
                client.send_to(b"Hello, UDP Server!", address).expect("loopback takes it");
            }
            for _ in 0..4 {
                assert_eq!(client.recv(&mut [0; 32]).expect("the server answers"), 18);
            }
        }
    });
    assert_no_allocation(level, &noted, count);
}

#[test]
fn an_answered_datagram_causes_no_allocation_at_any_level() {
    for level in Level::ALL {
        answer_datagrams(*level);
    }
}

#[test]
fn a_recorded_exchange_causes_no_allocation() {
    let completed = Cell::new(0);
    let mut recorder = Recorder::new("main", 0);
    let mut events = EventLoop::new().expect("a loop");
    let greeter = stream(|connection, input| {
        completed.set(completed.get() + 1);
        let _ = connection.send(b"Hello, TCP Client!");
        connection.close();
        input.len()
    });
    let listener = events.listen(SocketAddr::from(AT), greeter).expect("an address");
    let address = events.local_addr(listener).expect("it has one");
    events.set_observer(|turn| recorder.record(turn));
    events.journal_level(Level::All);
    events.journal_payload_bytes_max(100);
    let count = allocations(&mut events, &completed, move || {
        for _ in 0..WARM_UP + MEASURED_CLIENTS {
            let mut client = TcpStream::connect(address).expect("it listens");
            client.write_all(b"Hello, TCP Server!").expect("the server reads");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("the server answers");
        }
    });
    assert!(count <= RECORDED_GROWTH_MAX, "{count} allocations in {MEASURED_CLIENTS} exchanges");
    drop(events);
    let recording = Recording::new([recorder]);
    assert_eq!(recording.loops[0].entries[0].kind, EntryKind::Lost, "the memory of the recorder was never full");
}

/// Returns the most bytes that the loop allocates while it receives 16,000 bytes. The handler writes them to the connection
/// that was opened first.
fn bytes_for_long_input(by_the_first: bool, is_copied: bool) -> u64 {
    const INPUT: [u8; 16_000] = [b'x'; 16_000];
    let first = Cell::new(None);
    let mut events = EventLoop::new().expect("a loop");
    let service = stream(|connection: &mut Connection<'_>, input: &[u8]| {
        first.set(first.get().or(Some(connection.id())));
        let copy = is_copied.then(|| input.to_vec());
        let first = first.get().and_then(|id| connection.context().connection(id));
        first.map_or(0, |mut first| first.try_write(copy.as_deref().unwrap_or(input)))
    });
    let listener = events.listen(SocketAddr::from(AT), service).expect("an address");
    let address = events.local_addr(listener).expect("it has one");
    let mut clients = [(); 2].map(|()| TcpStream::connect(address).expect("it listens"));
    clients[0].set_read_timeout(Some(Duration::from_secs(20))).expect("an option of every socket");
    let mut pass_on = |sender: usize, input: &[u8]| {
        clients[sender].write_all(input).expect("the server reads");
        let target = events.stats().bytes_sent + input.len() as u64;
        let deadline = Instant::now() + Duration::from_secs(20);
        let counted = allocation_counter::measure(|| {
            while events.stats().bytes_sent < target {
                assert!(Instant::now() < deadline && events.turn(Some(Duration::from_millis(100))).is_ok());
            }
        });
        let mut output = vec![0; input.len()];
        clients[0].read_exact(&mut output).expect("all of it is sent");
        assert!(output == input);
        counted.bytes_max
    };
    let _warm_up = [pass_on(0, b"?"), pass_on(1, b"?")];
    pass_on(usize::from(!by_the_first), &INPUT)
}

#[test]
fn long_input_that_a_handler_sends_back_or_passes_on_is_not_copied() {
    let [echoed, passed_on] = [true, false].map(|by_the_first| bytes_for_long_input(by_the_first, false));
    assert!(echoed < 4_000 && passed_on < 4_000, "{echoed} and {passed_on} bytes allocated");
    let copied = bytes_for_long_input(true, true);
    assert!(copied >= 2 * 16_000, "{copied} bytes: the outbox is not counted");
}

#[test]
fn the_memory_of_a_recorder_is_bounded() {
    const BYTES_MAX: usize = 256 * 1024;
    let mut events = EventLoop::new().expect("a loop");
    events.journal_level(Level::Turns);
    let counted = allocation_counter::measure(|| {
        let mut recorder = Recorder::new("main", BYTES_MAX);
        events.set_observer(move |turn| recorder.record(turn));
        for _ in 0..10_000 {
            assert!(events.turn(Some(Duration::ZERO)).is_ok());
        }
    });
    assert!(counted.bytes_max > BYTES_MAX as u64 * 3 / 4, "{} bytes: the memory is not used", counted.bytes_max);
    assert!(counted.bytes_max < BYTES_MAX as u64 * 9 / 8, "{} bytes", counted.bytes_max);
}

#[test]
fn the_memory_of_a_burst_of_messages_is_freed_once_they_are_handled() {
    const BURST: u64 = 100_000;
    let mut events = EventLoop::new().expect("a loop");
    let handle = events.handle();
    let counted = allocation_counter::measure(|| {
        for _ in 0..BURST {
            handle.post(|_| {}).expect("it runs");
        }
        while events.next_timeout() == Some(Duration::ZERO) {
            assert!(events.turn(None).is_ok());
        }
    });
    assert_eq!(events.stats().jobs, BURST);
    assert!(counted.bytes_max > 16 * BURST, "only {} bytes: this is no burst", counted.bytes_max);
    assert!(counted.bytes_current < 64 * 1024, "{} bytes stay allocated", counted.bytes_current);
}
