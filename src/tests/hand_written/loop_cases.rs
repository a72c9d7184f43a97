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

/// Never the server's turn to say something before it is asked.
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
fn who_has_asked_when_a_drain_begins_is_answered_though_the_poll_has_not_told_yet() {
    check(0..50, |simulation| {
        let opened = Cell::new(0);
        let mut events = simulation.event_loop();
        events.listen(SERVER, CountingEcho { opened: &opened }).expect("the address is free");
        let client = simulation.connect(SERVER).expect("somebody listens");
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        // From here on no edge is told.
        simulation.inject(Fault::LateReadiness, 1);
        client.send(b"hello");
        for _ in 0..5 {
            let _ = events.turn(Some(Duration::from_millis(50))).expect("no error is the loop's");
        }
        events.context().drain(Duration::from_secs(1));
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert_eq!(client.received(), b"hello");
    });
}

#[test]
fn no_two_loops_issue_the_same_generation() {
    let simulation = Simulation::new(1);
    let mut loops = [(); 3].map(|()| simulation.event_loop());
    // The first uses up more than a block of generations while the others are in their first.
    let index = |round: usize| if round.is_multiple_of(1_000) { 1 + round / 1_000 % 2 } else { 0 };
    let mut generations: Vec<u64> = (0..1_200_000).map(|round| loops[index(round)].context.next_generation()).collect();
    generations.sort_unstable();
    assert!(generations[0] > 0 && generations.windows(2).all(|pair| pair[0] < pair[1]), "one is given twice");
}

#[test]
fn only_the_polls_own_error_leaves_the_loop_and_an_interruption_does_not() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    simulation.fail_next(Fault::Poll, Errno::EINTR as i32, 1);
    assert!(matches!(events.turn(Some(Duration::ZERO)), Ok(Turn::Idle)));
    simulation.fail_next(Fault::Poll, Errno::EBADF as i32, 1);
    let error = events.turn(Some(Duration::ZERO)).expect_err("the poll has failed");
    assert_eq!(error.kind(), ErrorKind::Poll);
    assert!(matches!(events.turn(Some(Duration::ZERO)), Ok(Turn::Idle)), "the next may do");
}

#[test]
fn a_poll_that_did_not_come_back_full_is_the_turns_only_one() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    events.listen(SERVER, stream(|_, input| input.len())).expect("the address is free");
    simulation.record_trace();
    let _ = events.turn(Some(Duration::ZERO)).expect("no error is the loop's");
    assert_eq!(simulation.trace().matches(" poll ").count(), 1, "{}", simulation.trace());
}

#[test]
fn a_drain_counts_only_who_has_ended_since_it_began() {
    let simulation = Simulation::new(1);
    let opened = Cell::new(0);
    let mut events = simulation.event_loop();
    events.listen(SERVER, CountingEcho { opened: &opened }).expect("the address is free");
    for _ in 0..3 {
        let client = simulation.connect(SERVER).expect("somebody listens");
        client.shutdown_write();
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert!(client.saw_eof());
    }
    let client = simulation.connect(SERVER).expect("somebody listens");
    client.send(b"hello");
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
    events.context().drain(Duration::from_secs(5));
    let report = events.run().expect("no error is the loop's");
    assert_eq!((report.finished, report.forced, opened.get()), (1, 0, 4));
}

#[test]
fn a_connection_for_which_there_was_no_room_is_tried_again_until_there_is_or_its_time_is_up() {
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
            let _ = events.turn(Some(Duration::from_millis(100))).expect("no error is the loop's");
        }
        assert_eq!(*events_seen.borrow(), [expected]);
    }
}

#[test]
fn an_error_of_late_input_ends_a_closed_connection_and_is_not_tried_again() {
    check(0..20, |simulation| {
        let mut events = simulation.event_loop();
        let greet = stream(|connection: &mut Connection<'_>, _: &[u8]| {
            connection.close();
            0
        });
        events.listen(SERVER, greet).expect("the address is free");
        let client = simulation.connect(SERVER).expect("somebody listens");
        client.send(b"hello");
        let _ = events.turn(Some(Duration::from_millis(100))).expect("no error is the loop's");
        simulation.fail_next(Fault::Receive, Errno::ECONNRESET as i32, 1_000);
        simulation.record_trace();
        client.send(b"more");
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        simulation.advance(limits::LINGER);
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert!(simulation.trace().matches(" recv ").count() <= 2, "{}", simulation.trace());
        assert_eq!(events.stats().connections, 0);
    });
}

#[test]
fn the_write_timeout_runs_from_when_there_is_something_to_take() {
    let id = Cell::new(None);
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let non_replying = stream(|connection: &mut Connection<'_>, input: &[u8]| {
        id.set(Some(connection.id()));
        // All that the kernel has room for, so that it takes nothing of what comes later.
        assert_eq!(connection.send(b"abc"), Ok(()));
        input.len()
    });
    events.listen(Listen::from(SERVER).idle_timeout(None), non_replying).expect("the address is free");
    let client = simulation.connect(SERVER).expect("somebody listens");
    client.set_send_buffer_bytes_max(3);
    client.set_window(0);
    client.send(b"hello");
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
    simulation.advance(10 * limits::WRITE_TIMEOUT);
    let connection = events.context().connection(id.get().expect("it has spoken")).expect("it is open");
    assert_eq!({ connection }.send(b"later"), Ok(()));
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
    assert_eq!(events.stats().connections, 1, "it has had hardly any time");
    simulation.advance(limits::WRITE_TIMEOUT);
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
    assert_eq!(events.stats().closed(CloseReason::WriteStalled), 1);
}

#[test]
fn frames_that_wait_for_room_are_handed_over_once_there_is() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let long = |connection: &mut Connection<'_>, _: &[u8]| {
        let _ = connection.send(&[b'x'; 60]);
    };
    events.listen(Listen::from(SERVER).outbox_bytes_max(100), framing::lines(10, long)).expect("the address is free");
    let client = simulation.connect(SERVER).expect("somebody listens");
    client.send(&b"line\n".repeat(10));
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
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
        assert!(accepted <= 2 * limits::DRAIN_BACKLOG_MAX, "it listens on and on");
        if accepted % limits::ACCEPTS_PER_TURN_MAX == 0 {
            let _ = events.turn(Some(Duration::ZERO)).expect("no error is the loop's");
        }
    }
    assert!(
        opened.get() <= limits::DRAIN_BACKLOG_MAX + limits::ACCEPTS_PER_TURN_MAX,
        "the turn before it began counts, too"
    );
}

#[test]
fn accepting_that_fails_for_want_of_descriptors_pauses_and_that_is_counted() {
    let simulation = Simulation::new(1);
    let opened = Cell::new(0);
    let mut events = simulation.event_loop();
    events.listen(SERVER, CountingEcho { opened: &opened }).expect("the address is free");
    simulation.fail_next(Fault::Accept, Errno::EMFILE as i32, 3);
    let _client = simulation.connect(SERVER).expect("somebody listens");
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
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
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
    assert_eq!((events.stats().datagrams_sent, events.stats().replies_refused), (100, 0));
}

#[test]
fn a_linger_is_not_cut_short_by_a_timeout_that_was_set_before() {
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
    let client = simulation.connect(SERVER).expect("somebody listens");
    client.send(b"wait");
    while events.stats().bytes_received < 4 {
        let _ = events.turn(Some(Duration::from_millis(1))).expect("no error is the loop's");
    }
    client.send(b"go");
    while !client.saw_eof() {
        let _ = events.turn(Some(Duration::from_millis(10))).expect("no error is the loop's");
    }
    let closed_at = simulation.elapsed();
    while events.stats().connections > 0 {
        let _ = events.turn(Some(Duration::from_millis(10))).expect("no error is the loop's");
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
            simulation.connect(address).expect("a server listens").send(b"x");
        }
        for _ in 0..20 {
            let before = events.stats().accepted;
            let _ = events.turn(Some(Duration::ZERO)).expect("no error is the loop's");
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
    let clients: Vec<_> = (0..3).map(|_| simulation.connect(SERVER).expect("a server listens")).collect();
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
    assert!(events.context().remove(listener));
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
    clients[0].reset();
    while events.stats().connections == 2 {
        let _ = events.turn(Some(Duration::from_millis(10))).expect("no error is the loop's");
    }
    assert_ne!(events.next_timeout(), Some(Duration::ZERO), "nothing is left to do");
}

#[test]
fn a_drain_that_waits_for_one_listener_ends_when_it_is_removed() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let listener = events.listen(SERVER, stream(|_, input| input.len())).expect("the address is free");
    simulation.fail_next(Fault::Accept, Errno::EMFILE as i32, 1_000_000);
    let _client = simulation.connect(SERVER).expect("a server listens");
    for _ in 0..50 {
        let _ = events.turn(Some(Duration::ZERO)).expect("no error is the loop's");
        simulation.advance(Duration::from_millis(1));
    }
    events.context().drain(Duration::from_secs(60));
    for _ in 0..2 {
        assert!(
            !matches!(events.turn(Some(Duration::ZERO)), Ok(Turn::Stopped(_)) | Err(_)),
            "it waits for a descriptor"
        );
    }
    assert!(events.context().remove(listener));
    assert_eq!(events.next_timeout(), Some(Duration::ZERO), "the end of the drain is left to do");
    assert!(matches!(events.turn(None), Ok(Turn::Stopped(_))));
}

#[test]
fn late_input_of_a_closed_connection_is_read_up_to_its_bound_and_then_cut() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let greet = stream(|connection: &mut Connection<'_>, input: &[u8]| {
        connection.close();
        input.len()
    });
    events.listen(SERVER, greet).expect("the address is free");
    let client = simulation.connect(SERVER).expect("a server listens");
    let bound = limits::LINGER_BYTES_MAX as usize;
    client.send(&vec![0; bound + 1024 * 1024]);
    let begin = simulation.elapsed();
    while events.stats().closed_total() == 0 {
        let _ = events.turn(Some(Duration::ZERO)).expect("no error is the loop's");
        assert!(simulation.elapsed() < begin + limits::LINGER, "the bytes are the bound, not the time");
    }
    let received = usize::try_from(events.stats().bytes_received).expect("a count");
    let more = limits::INPUT_BYTES_MAX + limits::BYTES_PER_TURN_MAX as usize;
    assert!((bound..=bound + more).contains(&received), "{received} bytes were read");
}
