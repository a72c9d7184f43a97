//! Single cases of time: stopped processes, slow callbacks and deadlines.
//!
//! Input that arrived before a deadline is delivered before it. Each duration runs from when it was set.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::super::HOST;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::handler::StreamHandler;
use crate::context::handler_impls::stream;
use crate::event_loop::{EventLoop, Turn};
use crate::ids::{ConnectionId, TimerId};
use crate::limits;
use crate::options::connect::Connect;
use crate::options::listen::Listen;
use crate::testing::{Fault, Simulation, check};

const SERVER: SocketAddr = SocketAddr::new(HOST, 9);
const PEER: SocketAddr = SocketAddr::new(HOST, 10);
const SECOND: Duration = Duration::from_secs(1);

/// Runs turns with a wait of at most 1 ms each.
fn run_turns(events: &mut EventLoop<'_>, turns: u32) {
    for _ in 0..turns {
        let _ = events.turn(Some(Duration::from_millis(1))).expect("the poll works");
    }
}

/// Delivers all bytes in flight, without reporting an event.
fn let_arrive(simulation: &Simulation) {
    for _ in 0..100 {
        simulation.world.borrow_mut().advance_network();
    }
}

/// Simulates a stopped process: the clock advances, and the waiting poll fails with EINTR.
fn stop_and_continue(simulation: &Simulation, pause: Duration) {
    let_arrive(simulation);
    simulation.advance(pause);
    simulation.fail_next(Fault::Poll, Errno::EINTR as i32, 1);
}

#[test]
fn a_request_that_arrived_while_the_process_was_stopped_is_answered() {
    check(0..50, |simulation| {
        let mut events = simulation.event_loop();
        let echo = stream(|connection: &mut Connection<'_>, input: &[u8]| connection.try_write(input));
        events.listen(Listen::from(SERVER).idle_timeout(SECOND), echo).expect("the address is free");
        let client = simulation.connect(SERVER).expect("the server listens");
        run_turns(&mut events, 3);
        client.send(b"hello");
        stop_and_continue(simulation, 3 * SECOND / 2);
        run_turns(&mut events, 20);
        assert_eq!(client.received(), b"hello", "{:?}", events.stats());
        simulation.advance(2 * SECOND);
        run_turns(&mut events, 20);
        assert_eq!(events.stats().closed(CloseReason::TimedOut), 1, "the silent connection is closed");
    });
}

/// The bytes received, in total and before `on_timeout`.
#[derive(Default)]
struct Counts {
    received: Cell<usize>,
    /// The bytes received before `on_timeout` was called.
    timed_out_at: Cell<Option<usize>>,
}

struct Counting<'a>(&'a Counts);

impl StreamHandler for Counting<'_> {
    type Session = ();

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
        connection.set_timeout(Some(SECOND));
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        self.0.received.set(self.0.received.get() + input.len());
        input.len()
    }

    fn on_timeout(&mut self, _: &mut Connection<'_>, (): &mut ()) {
        self.0.timed_out_at.set(Some(self.0.received.get()));
    }

    fn on_drain(&mut self, _: &mut Connection<'_>, (): &mut ()) {}
}

#[test]
fn on_timeout_follows_all_input_that_arrived_before_it() {
    check(0..50, |simulation| {
        let counts = Counts::default();
        let mut events = simulation.event_loop();
        events.listen(Listen::from(SERVER).idle_timeout(None), Counting(&counts)).expect("the address is free");
        let client = simulation.connect(SERVER).expect("the server listens");
        run_turns(&mut events, 3);
        // More bytes than several turns read.
        client.send(&vec![0; 300_000]);
        stop_and_continue(simulation, 2 * SECOND);
        run_turns(&mut events, 30);
        assert_eq!(counts.timed_out_at.get(), Some(300_000));
    });
}

#[test]
fn a_client_that_never_stops_sending_does_not_delay_on_timeout_forever() {
    let counts = Counts::default();
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    events.listen(SERVER, Counting(&counts)).expect("the address is free");
    let client = simulation.connect(SERVER).expect("the server listens");
    run_turns(&mut events, 3);
    simulation.advance(SECOND);
    let turns_max = 4 * u32::from(limits::LATE_TURNS_MAX);
    for turn in 0.. {
        client.send(&vec![0; 100_000]);
        let_arrive(&simulation);
        run_turns(&mut events, 1);
        if counts.timed_out_at.get().is_some() {
            return;
        }
        assert!(turn < turns_max, "after {turns_max} turns on_timeout was not called");
    }
}

#[test]
fn output_sent_while_the_process_was_stopped_is_no_write_timeout() {
    check(0..50, |simulation| {
        let mut events = simulation.event_loop();
        let long = stream(|connection: &mut Connection<'_>, input: &[u8]| {
            assert_eq!(connection.send(&vec![b'x'; 60_000]), Ok(()));
            input.len()
        });
        let at = Listen::from(SERVER).write_timeout(SECOND).idle_timeout(None);
        events.listen(at, long).expect("the address is free");
        let client = simulation.connect(SERVER).expect("the server listens");
        client.set_send_buffer_bytes_max(1_000);
        client.set_window(1_000);
        client.send(b"hello");
        run_turns(&mut events, 20);
        let _ = client.read();
        stop_and_continue(simulation, 3 * SECOND / 2);
        run_turns(&mut events, 5);
        assert_eq!(events.stats().connections, 1, "the client has read some output");
    });
}

/// Records the outcome of each connect.
struct Connecting<'a>(&'a RefCell<Vec<&'static str>>);

impl StreamHandler for Connecting<'_> {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        self.0.borrow_mut().push("open");
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        input.len()
    }

    fn on_connect_failed(&mut self, _: &mut Context, _: ConnectionId, _: std::io::Error) {
        self.0.borrow_mut().push("failed");
    }
}

#[test]
fn a_connect_answered_while_the_process_was_stopped_is_open() {
    check(0..50, |simulation| {
        let outcomes = RefCell::default();
        let mut events = simulation.event_loop();
        simulation.listen(PEER);
        simulation.inject(Fault::LateReadiness, 1);
        let handler = events.attach(Connecting(&outcomes));
        events.context().connect(Connect::from(PEER).timeout(SECOND), handler);
        run_turns(&mut events, 2);
        simulation.clear_faults();
        stop_and_continue(simulation, 2 * SECOND);
        run_turns(&mut events, 5);
        assert_eq!(*outcomes.borrow(), ["open"]);
    });
}

#[test]
fn input_that_arrived_before_the_end_of_a_drain_is_delivered_although_the_process_was_stopped() {
    check(0..50, |simulation| {
        let counts = Counts::default();
        let mut events = simulation.event_loop();
        events.listen(SERVER, Counting(&counts)).expect("the address is free");
        let client = simulation.connect(SERVER).expect("the server listens");
        run_turns(&mut events, 3);
        events.context().drain(SECOND);
        run_turns(&mut events, 3);
        // More bytes than one turn reads.
        client.send(&vec![b'x'; 150_000]);
        stop_and_continue(simulation, 2 * SECOND);
        let mut turns = 0;
        while !matches!(events.turn(None).expect("the poll works"), Turn::Stopped(_)) {
            turns += 1;
            assert!(turns < 50, "the drain does not end");
        }
        assert_eq!(counts.received.get(), 150_000);
    });
}

/// Fails if `on_timeout` comes although input arrived before its deadline. Each input sets a new deadline.
struct TimedByInput<'a>(&'a Simulation);

impl TimedByInput<'_> {
    fn set_timeout(&self, connection: &mut Connection<'_>) -> Duration {
        connection.set_timeout(Some(5 * SECOND));
        self.0.elapsed() + 5 * SECOND
    }
}

impl StreamHandler for TimedByInput<'_> {
    type Session = Duration;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Duration> {
        Some(self.set_timeout(connection))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, deadline: &mut Duration, input: &[u8]) -> usize {
        *deadline = self.set_timeout(connection);
        input.len()
    }

    fn on_timeout(&mut self, connection: &mut Connection<'_>, deadline: &mut Duration) {
        assert_unread_is_later(self.0, connection.peer_addr().expect("the connection was accepted"), *deadline);
        *deadline = self.set_timeout(connection);
    }
}

fn assert_unread_is_later(simulation: &Simulation, client: SocketAddr, deadline: Duration) {
    let unread_since = simulation.world.borrow().unread_since(client);
    assert!(unread_since.is_none_or(|at| at >= deadline), "unread since {unread_since:?}, deadline {deadline:?}");
}

#[test]
fn input_that_arrives_before_a_timeout_or_the_end_of_a_drain_is_read_wherever_the_process_is_stopped() {
    check(0..200, |simulation| {
        let mut events = simulation.event_loop();
        let at = Listen::from(SERVER).idle_timeout(None);
        events.listen(at, TimedByInput(simulation)).expect("the address is free");
        let addresses = [1, 2, 3].map(|port| SocketAddr::new(PEER.ip(), port));
        let clients = addresses.map(|from| simulation.connect_from(from, SERVER).expect("the server listens"));
        let send = || {
            for client in &clients {
                if simulation.random_below(2) == 0 {
                    client.send(b"x");
                }
            }
        };
        run_turns(&mut events, 3);
        simulation.inject(Fault::Pause, 4);
        for _ in 0..50 {
            send();
            run_turns(&mut events, 1);
        }
        let end = simulation.elapsed() + 5 * SECOND;
        events.context().drain(5 * SECOND);
        while !matches!(events.turn(None).expect("the poll works"), Turn::Stopped(_)) {
            send();
        }
        for address in addresses {
            assert_unread_is_later(simulation, address, end);
        }
    });
}

#[test]
fn deadlines_and_the_end_of_a_drain_hold_although_every_poll_is_interrupted() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let echo = stream(|connection: &mut Connection<'_>, input: &[u8]| connection.try_write(input));
    events.listen(Listen::from(SERVER).idle_timeout(SECOND), echo).expect("the address is free");
    let _silent = simulation.connect(SERVER).expect("the server listens");
    run_turns(&mut events, 3);
    simulation.fail_next(Fault::Poll, Errno::EINTR as i32, u64::MAX);
    let turns = 2 * u32::from(limits::LATE_TURNS_MAX);
    simulation.advance(2 * SECOND);
    run_turns(&mut events, turns);
    assert_eq!(events.stats().closed(CloseReason::TimedOut), 1);
    let _kept_open = simulation.connect(SERVER);
    events.context().drain(SECOND);
    simulation.advance(2 * SECOND);
    let is_over = (0..turns).any(|_| matches!(events.turn(None).expect("the poll works"), Turn::Stopped(_)));
    assert!(is_over, "the drain does not end");
}

#[test]
fn every_duration_runs_from_the_moment_it_was_set() {
    const SLOW: Duration = Duration::from_millis(120);
    const AFTER: Duration = Duration::from_millis(100);

    /// Sets a timer, a timeout or a drain, or connects, at the end of a slow callback.
    struct Slow<'a> {
        simulation: &'a Simulation,
        what: usize,
        set: &'a Cell<Duration>,
        fired: &'a Cell<Option<Duration>>,
    }

    impl Slow<'_> {
        fn fire(&self) {
            self.fired.set(Some(self.simulation.elapsed()));
        }
    }

    impl StreamHandler for Slow<'_> {
        type Session = ();

        fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
            Some(())
        }

        fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
            self.simulation.advance(SLOW);
            self.set.set(self.simulation.elapsed());
            let handler = connection.handler();
            match self.what {
                0 => drop(connection.context().schedule(handler, AFTER, 0)),
                1 => connection.set_timeout(Some(AFTER)),
                2 => drop(connection.context().connect(Connect::from(PEER).timeout(AFTER), handler)),
                _ => connection.context().drain(AFTER),
            }
            input.len()
        }

        fn on_timer(&mut self, _: &mut Context, _: TimerId, _: u64) {
            self.fire();
        }

        fn on_timeout(&mut self, _: &mut Connection<'_>, (): &mut ()) {
            self.fire();
        }

        fn on_connect_failed(&mut self, _: &mut Context, _: ConnectionId, _: std::io::Error) {
            self.fire();
        }

        fn on_close(&mut self, _: &mut Connection<'_>, (): (), reason: CloseReason) {
            if reason == CloseReason::Drained {
                self.fire();
            }
        }
    }

    for what in 0..4 {
        check(0..20, |simulation| {
            let (set, fired) = (Cell::default(), Cell::new(None));
            let mut events = simulation.event_loop();
            simulation.blackhole(PEER);
            let slow = Slow { simulation, what, set: &set, fired: &fired };
            events.listen(SERVER, slow).expect("the address is free");
            let client = simulation.connect(SERVER).expect("the server listens");
            client.send(b"hello");
            while fired.get().is_none() {
                let _ = events.turn(Some(SECOND)).expect("the poll works");
                assert!(simulation.elapsed() < 10 * SECOND, "{what} never fires");
            }
            let waited = fired.get().expect("it has fired").saturating_sub(set.get());
            assert!(waited >= AFTER, "{what} fired after {waited:?}");
        });
    }
}

#[test]
fn a_repeated_timer_runs_from_the_return_of_its_callback() {
    let (returned, early) = (Cell::new(None), Cell::new(false));
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    events.every(SECOND, |_| {
        let waited = returned.get().map(|returned| simulation.elapsed().saturating_sub(returned));
        early.set(early.get() || waited.is_some_and(|waited| waited < SECOND));
        simulation.advance(2 * SECOND);
        returned.set(Some(simulation.elapsed()));
        Some(SECOND)
    });
    while simulation.elapsed() < 30 * SECOND {
        let _ = events.turn(None).expect("the poll works");
    }
    assert!(!early.get());
}

#[test]
fn idle_and_write_timeouts_and_the_linger_do_not_run_during_a_slow_turn() {
    for what in ["idle", "write", "linger"] {
        check(0..20, |simulation| {
            let mut events = simulation.event_loop();
            let slow = stream(|connection: &mut Connection<'_>, input: &[u8]| {
                assert_eq!(connection.send(&vec![b'x'; if what == "write" { 60_000 } else { 100 }]), Ok(()));
                if what == "linger" {
                    connection.close();
                }
                simulation.advance(limits::LINGER + SECOND);
                input.len()
            });
            let at = Listen::from(SERVER).idle_timeout(limits::LINGER).write_timeout(limits::LINGER);
            events.listen(at, slow).expect("the address is free");
            let client = simulation.connect(SERVER).expect("the server listens");
            client.set_send_buffer_bytes_max(10_000);
            client.set_window(if what == "write" { 1 } else { usize::MAX });
            // So long that the server cannot know whether more input follows.
            client.send(&[b'x'; limits::WHOLE_MESSAGE_BYTES_MAX]);
            let_arrive(simulation);
            run_turns(&mut events, 5);
            simulation.advance(limits::LINGER.saturating_sub(SECOND));
            run_turns(&mut events, 5);
            assert_eq!(events.stats().connections, 1, "{what}: {:?}", events.stats());
            simulation.advance(2 * SECOND);
            run_turns(&mut events, 5);
            assert_eq!(events.stats().connections, 0, "{what}: the connection is closed after the timeout");
        });
    }
}

#[test]
fn a_connect_times_out_in_time_though_the_turn_that_began_it_was_slow() {
    check(0..20, |simulation| {
        let outcomes = RefCell::default();
        let mut events = simulation.event_loop();
        simulation.blackhole(PEER);
        let handler = events.attach(Connecting(&outcomes));
        events.context().connect(Connect::from(PEER).timeout(5 * SECOND), handler);
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        // A turn lasts until the embedder calls `turn` or `next_timeout` again.
        simulation.advance(4 * SECOND);
        run_turns(&mut events, 3);
        assert!(outcomes.borrow().is_empty(), "1 s of the timeout is left");
        simulation.advance(SECOND);
        run_turns(&mut events, 3);
        assert_eq!(*outcomes.borrow(), ["failed"]);
    });
}

#[test]
fn idle_timeouts_run_while_the_embedder_waits_outside_the_loop() {
    check(0..20, |simulation| {
        let mut events = simulation.event_loop();
        let at = Listen::from(SERVER).idle_timeout(5 * SECOND);
        events.listen(at, stream(|_, input| input.len())).expect("the address is free");
        let _client = simulation.connect(SERVER).expect("the server listens");
        let_arrive(simulation);
        while events.stats().accepted == 0 {
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        }
        assert!(events.next_timeout().is_some_and(|wait| wait > 4 * SECOND), "the client was just accepted");
        simulation.advance(6 * SECOND);
        run_turns(&mut events, 3);
        assert_eq!(events.stats().closed(CloseReason::TimedOut), 1, "{:?}", events.stats());
    });
}
