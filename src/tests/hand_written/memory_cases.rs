//! Memory is short: which clients are served, wait, or are reset.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use super::super::HOST;
use super::super::invariants;
use super::outbound_cases::{PROXY, Proxy, TARGET};

use crate::close_reason::CloseReason;
use crate::context::connection::Connection;
use crate::context::handler_impls::stream;
use crate::event_loop::EventLoop;
use crate::framing::{ByteOrder, Format};
use crate::options::listen::Listen;
use crate::testing::{Client, Fault, Simulation, check};
use crate::{framing, limits};

const LINES: SocketAddr = SocketAddr::new(HOST, 3);
const ECHO: SocketAddr = SocketAddr::new(HOST, 2);
const FRAMES: SocketAddr = SocketAddr::new(HOST, 4);

/// The longest time until a client must be served.
const SERVICE_TIME_MAX: Duration = Duration::from_millis(500);

/// Returns a loop with little memory and no timeouts, which echoes lines and bytes.
fn loop_with_little_memory(simulation: &Simulation) -> EventLoop<'static> {
    let mut events = simulation.event_loop();
    events.buffer_bytes_max(limits::BUFFER_BYTES_MIN);
    let without_timeouts = |at: SocketAddr| Listen::from(at).idle_timeout(None).write_timeout(None);
    let answer = |connection: &mut Connection<'_>, line: &[u8]| {
        connection.send(line).expect("half an outbox is free");
        connection.send(b"\n").expect("half an outbox is free");
    };
    events.listen(without_timeouts(LINES), framing::lines(60_000, answer)).expect("the address is free");
    let echo = |connection: &mut Connection<'_>, input: &[u8]| connection.try_write(input);
    events.listen(without_timeouts(ECHO), stream(echo)).expect("the address is free");
    events
}

/// Runs a turn, then checks all invariants.
fn turn(simulation: &Simulation, events: &mut EventLoop<'_>) {
    simulation.world.borrow_mut().call_counts.clear();
    let _ = events.turn(Some(Duration::from_millis(10))).expect("the poll works");
    invariants::check(events, &simulation.world.borrow());
}

fn turn_for(simulation: &Simulation, events: &mut EventLoop<'_>, time: Duration) {
    let end = simulation.elapsed() + time;
    while simulation.elapsed() < end {
        turn(simulation, events);
    }
}

/// Connects clients that send half a line of 50,000 bytes, which stays in the inbox.
fn connect_half_liners(simulation: &Simulation, count: usize) -> Vec<Client> {
    let connect = |_| {
        let client = simulation.connect(LINES).expect("the service listens");
        client.send(&vec![b'x'; 50_000]);
        client
    };
    (0..count).map(connect).collect()
}

/// Connects clients that fill the inbox and the outbox of their echo, and never read.
fn connect_non_readers(simulation: &Simulation, count: usize) -> Vec<Client> {
    let connect = |_| {
        let client = simulation.connect(ECHO).expect("the service listens");
        client.set_window(0);
        client.set_send_buffer_bytes_max(10_000);
        client.send(&vec![b'e'; 200_000]);
        client
    };
    (0..count).map(connect).collect()
}

/// Sends a line from a new client, and fails if the answer is late.
fn assert_is_served(simulation: &Simulation, events: &mut EventLoop<'_>) {
    let (client, asked) = (simulation.connect(LINES).expect("the service listens"), simulation.elapsed());
    client.send(b"hello\n");
    while client.received() != b"hello\n" {
        assert!(
            simulation.elapsed().saturating_sub(asked) < SERVICE_TIME_MAX,
            "not served: {:?}",
            events.context.buffer_pool.bytes()
        );
        assert!(!client.saw_reset(), "reset");
        turn(simulation, events);
        let _ = client.read();
    }
}

#[test]
fn clients_that_use_all_memory_do_not_block_a_client_with_a_short_line() {
    check(0..20, |simulation| {
        let mut events = loop_with_little_memory(simulation);
        let _half_lines = connect_half_liners(simulation, 40);
        let _never_read = connect_non_readers(simulation, 40);
        for _ in 0..20 {
            assert_is_served(simulation, &mut events);
            turn_for(simulation, &mut events, Duration::from_millis(90));
        }
        assert!(events.stats().memory_strains >= 1, "{}", events.stats());
        assert!(events.stats().closed(CloseReason::OutOfMemory) >= 1, "{}", events.stats());
    });
}

#[test]
fn connections_that_wait_for_memory_continue_when_there_is_some() {
    check(0..20, |simulation| {
        let mut events = loop_with_little_memory(simulation);
        let holders = connect_half_liners(simulation, 16);
        turn_for(simulation, &mut events, Duration::from_millis(100));
        let late = connect_half_liners(simulation, 2);
        for client in &late {
            client.send(b"\n");
        }
        turn_for(simulation, &mut events, Duration::from_millis(300));
        assert!(late.iter().all(|client| client.received().is_empty()), "no memory is free for their lines");
        for client in &holders[..6] {
            client.reset();
        }
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert!(late.iter().all(|client| client.received().len() == 50_001), "{}", events.stats());
        assert!(events.strain.is_none() && !events.context.buffer_pool.is_strained);
        assert_eq!(events.stats().closed(CloseReason::OutOfMemory), 0);
    });
}

#[test]
fn when_memory_is_short_for_a_second_the_largest_connections_are_reset_until_there_is_some() {
    let simulation = Simulation::new(1);
    let mut events = loop_with_little_memory(&simulation);
    let small = simulation.connect(LINES).expect("the service listens");
    small.send(b"half a li");
    let _half_lines = connect_half_liners(&simulation, 30);
    let begun = simulation.elapsed();
    while events.stats().closed(CloseReason::OutOfMemory) == 0 {
        turn(&simulation, &mut events);
    }
    let waited = simulation.elapsed().saturating_sub(begun);
    assert!(waited >= limits::STRAIN_MAX && waited < 2 * limits::STRAIN_MAX, "{waited:?}");
    turn_for(&simulation, &mut events, Duration::from_secs(3));
    let resets = events.stats().closed(CloseReason::OutOfMemory);
    assert!(
        (3..6).contains(&resets),
        "one reset a second, because waiting clients take the freed memory: {}",
        events.stats()
    );
    small.send(b"ne\n");
    turn_for(&simulation, &mut events, Duration::from_millis(100));
    assert_eq!(small.received(), b"half a line\n");
}

#[test]
fn proxied_connections_short_of_memory_do_not_deadlock() {
    check(0..20, |simulation| {
        let mut events = loop_with_little_memory(simulation);
        events.listen(Listen::from(PROXY).idle_timeout(None).write_timeout(None), Proxy).expect("the address is free");
        simulation.listen(TARGET);
        let _never_read = connect_non_readers(simulation, 30);
        turn_for(simulation, &mut events, Duration::from_millis(100));
        assert!(events.strain.is_some());
        let client = simulation.connect(PROXY).expect("the proxy listens");
        turn_for(simulation, &mut events, Duration::from_millis(100));
        let peer = simulation.accept(TARGET).expect("the proxy has connected");
        for side in [&client, &peer] {
            side.set_window(3_000);
            side.send(&vec![7; 100_000]);
        }
        let (mut received, mut last_progress) = (0, simulation.elapsed());
        while received < 200_000 {
            turn(simulation, &mut events);
            let count = [&client, &peer].map(|side| {
                let _ = side.read();
                side.received().len()
            });
            if received < count.iter().sum() {
                (received, last_progress) = (count.iter().sum(), simulation.elapsed());
            }
            let waited = simulation.elapsed().saturating_sub(last_progress);
            assert!(waited < Duration::from_secs(2), "no progress after {count:?} bytes");
            assert!(!client.saw_reset() && !peer.saw_reset());
        }
    });
}

#[test]
fn a_reply_without_memory_resets_only_its_own_connection() {
    let simulation = Simulation::new(1);
    let refused = Cell::new(0);
    let mut events = simulation.event_loop();
    events.buffer_bytes_max(0);
    let long_answer = stream(|connection: &mut Connection<'_>, input: &[u8]| {
        refused.set(refused.get() + u32::from(connection.send(&vec![b'x'; 60_000]).is_err()));
        input.len()
    });
    events.listen(Listen::from(LINES).write_timeout(None), long_answer).expect("the address is free");
    let clients: Vec<Client> = (0..40).map(|_| simulation.connect(LINES).expect("the service listens")).collect();
    for client in &clients {
        client.set_window(0);
        client.set_send_buffer_bytes_max(1);
        client.send(b"?");
    }
    turn_for(&simulation, &mut events, Duration::from_millis(500));
    let closed = events.stats().closed(CloseReason::OutOfMemory);
    assert_eq!(closed, u64::from(refused.get()), "{}", events.stats());
    assert!((20..30).contains(&closed) && events.stats().closed_total() == closed, "{}", events.stats());
    assert_eq!(clients.iter().filter(|client| client.saw_reset()).count() as u64, closed);
}

#[test]
fn output_written_while_the_inbox_is_shown_stays_within_the_maximum() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    events.context.buffer_pool.set_bytes_max(80_000);
    // Answers with the whole input once all of it has come.
    let answer_late = |connection: &mut Connection<'_>, input: &[u8]| {
        if input.len() == 50_000 {
            let _ = connection.try_write(input);
        }
        0
    };
    events.listen(ECHO, stream(answer_late)).expect("the address is free");
    let client = simulation.connect(ECHO).expect("the service listens");
    client.set_window(0);
    client.set_send_buffer_bytes_max(1);
    for _ in 0..2 {
        client.send(&[b'x'; 10_000]);
        turn_for(&simulation, &mut events, Duration::from_millis(100));
        client.send(&[b'x'; 15_000]);
        turn_for(&simulation, &mut events, Duration::from_millis(100));
    }
}

/// Bytes of a frame that is longer than one read.
const LONG_FRAME: usize = 600_000;

/// A loop with little memory, which replies to each long frame with its length.
fn loop_with_long_frames(simulation: &Simulation) -> EventLoop<'static> {
    let mut events = loop_with_little_memory(simulation);
    let format = Format::LengthU32(ByteOrder::BigEndian);
    let at = Listen::from(FRAMES).input_bytes_max(4 * LONG_FRAME).idle_timeout(None).write_timeout(None);
    let reply = |connection: &mut Connection<'_>, frame: &[u8]| {
        assert!(frame.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251), "the bytes of the frame");
        connection.send(format!("{}\n", frame.len()).as_bytes()).expect("half an outbox is free");
    };
    events.listen(at, framing::frames(format, 4 * LONG_FRAME, reply)).expect("the address is free");
    events
}

fn long_frame(length: usize) -> Vec<u8> {
    let content = (0..length).map(|at| u8::try_from(at % 251).expect("a byte"));
    u32::try_from(length).expect("a short frame").to_be_bytes().into_iter().chain(content).collect()
}

#[test]
fn a_frame_longer_than_a_read_arrives_whole_however_it_is_split() {
    check(0..20, |simulation| {
        let mut events = loop_with_long_frames(simulation);
        for fault in [Fault::LateReadiness, Fault::SpuriousReadiness] {
            simulation.inject(fault, 2 + simulation.random_below(10));
        }
        let client = simulation.connect(FRAMES).expect("the service listens");
        let stream = [long_frame(LONG_FRAME), long_frame(3)].concat();
        let longest = [100_000, 2_000][usize::from(simulation.random_below(2) == 0)];
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let length = 1 + usize::try_from(simulation.random_below(longest)).expect("a length");
            let (piece, next) = rest.split_at(length.min(rest.len()));
            client.send(piece);
            rest = next;
            turn(simulation, &mut events);
        }
        simulation.clear_faults();
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert_eq!(client.received(), b"600000\n3\n");
    });
}

#[test]
fn a_frame_that_does_not_fit_the_memory_of_the_loop_resets_only_its_connection() {
    check(0..20, |simulation| {
        let mut events = loop_with_long_frames(simulation);
        let too_long = simulation.connect(FRAMES).expect("the service listens");
        too_long.send(&long_frame(3 * LONG_FRAME));
        for _ in 0..20 {
            assert_is_served(simulation, &mut events);
            turn_for(simulation, &mut events, Duration::from_millis(90));
        }
        assert!(too_long.saw_reset(), "{} bytes do not fit", 3 * LONG_FRAME);
        assert_eq!(events.stats().closed(CloseReason::OutOfMemory), 1, "{}", events.stats());
        let fits = simulation.connect(FRAMES).expect("the service listens");
        fits.send(&long_frame(LONG_FRAME));
        turn_for(simulation, &mut events, Duration::from_millis(300));
        let _ = fits.read();
        assert_eq!(fits.received(), b"600000\n");
    });
}
