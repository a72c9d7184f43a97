//! Single cases of listeners, streams and drains.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::HOST;
use nix::errno::Errno;

use crate::close_reason::CloseReason;
use crate::context::connection::Connection;
use crate::context::datagram::Datagram;
use crate::context::handler::StreamHandler;
use crate::context::handler_impls::{datagrams, stream};
use crate::error::ErrorKind;
use crate::event_loop::Turn;
use crate::ids::ListenerId;
use crate::options::connect::Connect;
use crate::options::listen::Listen;
use crate::testing::{Fault, Simulation, check};
use crate::{framing, limits};

const SERVER: SocketAddr = SocketAddr::new(HOST, 9);
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 9);

/// Counts its connections, and sends nothing before input comes.
struct CountingEcho<'a> {
    opened: &'a Cell<u32>,
}

impl StreamHandler for CountingEcho<'_> {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        self.opened.set(self.opened.get() + 1);
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        connection.try_write(input)
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        connection.close();
    }
}

#[test]
fn input_that_arrived_before_a_drain_is_answered_though_the_poll_has_not_reported_it() {
    check(0..50, |simulation| {
        let opened = Cell::new(0);
        let mut events = simulation.event_loop();
        events.listen(SERVER, CountingEcho { opened: &opened }).expect("the address is free");
        let client = simulation.connect(SERVER).expect("the server listens");
        simulation.run_until_idle(&mut events).expect("the poll works");
        // From here on the poll reports no event.
        simulation.inject(Fault::LateReadiness, 1);
        client.send(b"hello");
        for _ in 0..5 {
            let _ = events.turn(Some(Duration::from_millis(50))).expect("the poll works");
        }
        events.context().drain(Duration::from_secs(1));
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!(client.received(), b"hello");
    });
}

#[test]
fn no_two_loops_issue_the_same_generation() {
    let simulation = Simulation::new(1);
    let mut loops = [(); 3].map(|()| simulation.event_loop());
    // The first loop uses more than one block of generations, while the other two stay in their first.
    let index = |round: usize| if round.is_multiple_of(1_000) { 1 + round / 1_000 % 2 } else { 0 };
    let mut generations: Vec<u64> = (0..1_200_000).map(|round| loops[index(round)].context.next_generation()).collect();
    generations.sort_unstable();
    assert!(generations[0] > 0 && generations.windows(2).all(|pair| pair[0] < pair[1]), "a generation was used twice");
}

#[test]
fn turn_returns_an_error_of_the_poll_but_not_eintr() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    simulation.fail_next(Fault::Poll, Errno::EINTR as i32, 1);
    assert!(matches!(events.turn(Some(Duration::ZERO)), Ok(Turn::Idle)));
    simulation.fail_next(Fault::Poll, Errno::EBADF as i32, 1);
    let error = events.turn(Some(Duration::ZERO)).expect_err("the poll has failed");
    assert_eq!(error.kind(), ErrorKind::Poll);
    assert!(matches!(events.turn(Some(Duration::ZERO)), Ok(Turn::Idle)), "the next poll may succeed");
}

#[test]
fn a_turn_polls_once_unless_the_event_buffer_was_full() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    events.listen(SERVER, stream(|_, input| input.len())).expect("the address is free");
    simulation.record_trace();
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    // Polls in a row with the same outcome would be one line that says how many.
    let trace = simulation.trace();
    assert!(trace.matches(" poll ").count() == 1 && !trace.contains(" times"), "{trace}");
}

#[test]
fn a_drain_counts_only_connections_that_ended_since_it_began() {
    let simulation = Simulation::new(1);
    let opened = Cell::new(0);
    let mut events = simulation.event_loop();
    events.listen(SERVER, CountingEcho { opened: &opened }).expect("the address is free");
    for _ in 0..3 {
        let client = simulation.connect(SERVER).expect("the server listens");
        client.shutdown_write();
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert!(client.saw_eof());
    }
    let client = simulation.connect(SERVER).expect("the server listens");
    client.send(b"hello");
    simulation.run_until_idle(&mut events).expect("the poll works");
    events.context().drain(Duration::from_secs(5));
    let report = events.run().expect("the poll works");
    assert_eq!((report.finished, report.forced, opened.get()), (1, 0, 4));
}

#[test]
fn a_connect_that_fails_with_eagain_is_retried_until_it_opens_or_times_out() {
    struct RequestOnOpen<'a>(&'a RefCell<Vec<String>>);

    impl StreamHandler for RequestOnOpen<'_> {
        type Session = ();

        fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
            self.0.borrow_mut().push("open".into());
            Some(())
        }

        fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
            input.len()
        }

        fn on_connect_failed(&mut self, _: &mut crate::Context, _: crate::ConnectionId, error: std::io::Error) {
            self.0.borrow_mut().push(error.kind().to_string());
        }
    }

    for (tries, expected) in [(5, "open"), (1_000_000, "timed out")] {
        let simulation = Simulation::new(1);
        let events_seen = RefCell::default();
        let mut events = simulation.event_loop();
        let handler = events.attach(RequestOnOpen(&events_seen));
        simulation.listen(PEER);
        simulation.fail_next(Fault::Connect, Errno::EAGAIN as i32, tries);
        events.context().connect(Connect::from(PEER).timeout(Duration::from_secs(1)), handler);
        while simulation.elapsed() < Duration::from_secs(2) {
            let _ = events.turn(Some(Duration::from_millis(100))).expect("the poll works");
        }
        assert_eq!(*events_seen.borrow(), [expected]);
    }
}

#[test]
fn an_error_of_input_after_close_ends_the_connection_and_is_not_retried() {
    check(0..20, |simulation| {
        let mut events = simulation.event_loop();
        let greet = stream(|connection: &mut Connection<'_>, _: &[u8]| {
            connection.close();
            0
        });
        events.listen(SERVER, greet).expect("the address is free");
        let client = simulation.connect(SERVER).expect("the server listens");
        client.send(b"hello");
        let _ = events.turn(Some(Duration::from_millis(100))).expect("the poll works");
        simulation.fail_next(Fault::Receive, Errno::ECONNRESET as i32, 1_000);
        simulation.record_trace();
        client.send(b"more");
        simulation.run_until_idle(&mut events).expect("the poll works");
        simulation.advance(limits::LINGER);
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert!(simulation.trace().matches(" read ").count() <= 2, "{}", simulation.trace());
        assert_eq!(events.stats().connections, 0);
    });
}

#[test]
fn the_write_timeout_runs_from_when_output_waits() {
    let id = Cell::new(None);
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let non_replying = stream(|connection: &mut Connection<'_>, input: &[u8]| {
        id.set(Some(connection.id()));
        // This fills the kernel's send buffer, so that it accepts nothing later.
        assert_eq!(connection.send(b"abc"), Ok(()));
        input.len()
    });
    events.listen(Listen::from(SERVER).idle_timeout(None), non_replying).expect("the address is free");
    let client = simulation.connect(SERVER).expect("the server listens");
    client.set_send_buffer_bytes_max(3);
    client.set_window(0);
    client.send(b"hello");
    simulation.run_until_idle(&mut events).expect("the poll works");
    simulation.advance(10 * limits::WRITE_TIMEOUT);
    let connection =
        events.context().connection(id.get().expect("the request has come")).expect("the connection is open");
    assert_eq!({ connection }.send(b"later"), Ok(()));
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert_eq!(events.stats().connections, 1, "the write timeout has just begun");
    simulation.advance(limits::WRITE_TIMEOUT);
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert_eq!(events.stats().closed(CloseReason::WriteStalled), 1);
}

#[test]
fn frames_that_wait_for_outbox_room_are_delivered_when_there_is_room() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let long = |connection: &mut Connection<'_>, _: &[u8]| {
        let _ = connection.send(&[b'x'; 60]);
    };
    events.listen(Listen::from(SERVER).outbox_bytes_max(100), framing::lines(10, long)).expect("the address is free");
    let client = simulation.connect(SERVER).expect("the server listens");
    client.send(&b"line\n".repeat(10));
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert_eq!(client.received().len(), 600);
}

#[test]
fn a_flood_of_clients_does_not_hold_up_a_drain() {
    let simulation = Simulation::new(1);
    let opened = Cell::new(0);
    let mut events = simulation.event_loop();
    events.listen(SERVER, CountingEcho { opened: &opened }).expect("the address is free");
    events.context().drain(Duration::from_secs(600));
    let mut accepted = 0;
    while simulation.connect(SERVER).is_some() {
        accepted += 1;
        assert!(accepted <= 2 * limits::DRAIN_BACKLOG_MAX, "the listener stays open");
        if accepted % limits::ACCEPTS_PER_TURN_MAX == 0 {
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        }
    }
    assert!(
        opened.get() <= limits::DRAIN_BACKLOG_MAX + limits::ACCEPTS_PER_TURN_MAX,
        "at most the drain's bound and one turn's accepts"
    );
}

#[test]
fn accepting_that_fails_with_emfile_pauses_the_listener_and_counts_the_pauses() {
    let simulation = Simulation::new(1);
    let opened = Cell::new(0);
    let mut events = simulation.event_loop();
    events.listen(SERVER, CountingEcho { opened: &opened }).expect("the address is free");
    simulation.fail_next(Fault::Accept, Errno::EMFILE as i32, 3);
    let _client = simulation.connect(SERVER).expect("the server listens");
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert_eq!((events.stats().accept_errors, events.stats().pauses, opened.get()), (3, 3, 1));
}

#[test]
fn many_long_datagrams_of_one_turn_are_all_answered() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let echo = |datagram: &mut Datagram<'_>, payload: &[u8]| {
        datagram.reply(payload);
    };
    events.bind(SERVER, datagrams(echo)).expect("the address is free");
    let long = vec![7; limits::SEND_QUEUE_BYTES_MAX / 50];
    for _ in 0..100 {
        simulation.send_datagram(PEER, SERVER, &long);
    }
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert_eq!((events.stats().datagrams_sent, events.stats().replies_refused()), (100, 0));
}

#[test]
fn a_timeout_set_before_a_close_does_not_shorten_the_linger() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let closing = stream(|connection: &mut Connection<'_>, input: &[u8]| {
        if input == b"wait" {
            connection.set_timeout(Some(limits::LINGER / 2));
            return input.len();
        }
        connection.close();
        0
    });
    events.listen(SERVER, closing).expect("the address is free");
    let client = simulation.connect(SERVER).expect("the server listens");
    client.send(b"wait");
    while events.stats().bytes_received < 4 {
        let _ = events.turn(Some(Duration::from_millis(1))).expect("the poll works");
    }
    client.send(b"go");
    while !client.saw_eof() {
        let _ = events.turn(Some(Duration::from_millis(10))).expect("the poll works");
    }
    let closed_at = simulation.elapsed();
    while events.stats().connections > 0 {
        let _ = events.turn(Some(Duration::from_millis(10))).expect("the poll works");
    }
    let lingered = simulation.elapsed().saturating_sub(closed_at);
    assert!(lingered >= limits::LINGER * 9 / 10, "only {lingered:?}");
}

#[test]
fn removing_a_listener_in_a_callback_of_another_gives_that_one_no_second_budget() {
    check(0..20, |simulation| {
        let others: RefCell<Vec<ListenerId>> = RefCell::new(Vec::new());
        let mut events = simulation.event_loop();
        let remove_others = |connection: &mut Connection<'_>, input: &[u8]| {
            for listener in others.borrow_mut().drain(..) {
                connection.context().remove(listener);
            }
            input.len()
        };
        events.listen(SERVER, stream(remove_others)).expect("the address is free");
        let other_addresses = (20..24).map(|port| SocketAddr::new(HOST, port));
        for address in other_addresses.clone() {
            let listener = events.listen(address, stream(|_, input| input.len())).expect("the address is free");
            others.borrow_mut().push(listener);
        }
        let clients = (0..1_000).map(|_| SERVER).chain(other_addresses);
        for address in clients {
            simulation.connect(address).expect("the server listens").send(b"x");
        }
        for _ in 0..20 {
            let before = events.stats().accepted;
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
            let accepted = events.stats().accepted - before;
            assert!(accepted <= u64::from(limits::ACCEPTS_PER_TURN_MAX) + 4, "{accepted} clients in one turn");
        }
    });
}

#[test]
fn a_removed_listener_that_was_paused_for_room_causes_no_work_when_there_is_room() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let at = Listen::from(SERVER).connections_max(2);
    let listener = events.listen(at, stream(|_, input| input.len())).expect("the address is free");
    let clients: Vec<_> = (0..3).map(|_| simulation.connect(SERVER).expect("the server listens")).collect();
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert!(events.context().remove(listener));
    simulation.run_until_idle(&mut events).expect("the poll works");
    clients[0].reset();
    while events.stats().connections == 2 {
        let _ = events.turn(Some(Duration::from_millis(10))).expect("the poll works");
    }
    assert_ne!(events.next_timeout(), Some(Duration::ZERO), "the loop has no work left");
}

#[test]
fn a_drain_that_waits_for_one_listener_ends_when_it_is_removed() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let listener = events.listen(SERVER, stream(|_, input| input.len())).expect("the address is free");
    simulation.fail_next(Fault::Accept, Errno::EMFILE as i32, 1_000_000);
    let _client = simulation.connect(SERVER).expect("the server listens");
    for _ in 0..50 {
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        simulation.advance(Duration::from_millis(1));
    }
    events.context().drain(Duration::from_secs(60));
    for _ in 0..2 {
        assert!(
            !matches!(events.turn(Some(Duration::ZERO)), Ok(Turn::Stopped(_)) | Err(_)),
            "the drain waits for the listener's client"
        );
    }
    assert!(events.context().remove(listener));
    assert_eq!(events.next_timeout(), Some(Duration::ZERO), "the drain can end now");
    assert!(matches!(events.turn(None), Ok(Turn::Stopped(_))));
}

#[test]
fn input_after_a_close_is_read_up_to_linger_bytes_max_and_then_reset() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let greet = stream(|connection: &mut Connection<'_>, input: &[u8]| {
        connection.close();
        input.len()
    });
    events.listen(SERVER, greet).expect("the address is free");
    let client = simulation.connect(SERVER).expect("the server listens");
    let bound = limits::LINGER_BYTES_MAX as usize;
    client.send(&vec![0; bound + 1024 * 1024]);
    let begin = simulation.elapsed();
    while events.stats().closed_total() == 0 {
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        assert!(simulation.elapsed() < begin + limits::LINGER, "the limit on bytes ends the linger before its time");
    }
    let received = usize::try_from(events.stats().bytes_received).expect("a count");
    let more = limits::READ_BYTES_MAX + limits::BYTES_PER_TURN_MAX as usize;
    assert!((bound..=bound + more).contains(&received), "{received} bytes were read");
}
