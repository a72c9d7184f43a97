//! Single cases of outbound connections: descriptors, timeouts and proxies.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::HOST;
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::handler::StreamHandler;
use crate::context::handler_impls::stream;
use crate::event_loop::EventLoop;
use crate::ids::ConnectionId;
use crate::limits;
use crate::options::connect::Connect;
use crate::state::phase::CloseMode;
use crate::testing::{Client, Fault, Simulation, check};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 7);

/// The outcomes of connections.
#[derive(Default)]
struct Outcomes {
    opened: u64,
    failed: Vec<io::Error>,
    closed: Vec<CloseReason>,
}

/// Records the outcome of each connection, and shuts down its own side.
struct RecordOutcomes<'a>(&'a RefCell<Outcomes>);

impl StreamHandler for RecordOutcomes<'_> {
    type Session = ();

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
        self.0.borrow_mut().opened += 1;
        connection.shutdown_write();
        Some(())
    }

    fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        input.len()
    }

    fn on_close(&mut self, _: &mut Connection<'_>, (): (), reason: CloseReason) {
        self.0.borrow_mut().closed.push(reason);
    }

    fn on_connect_failed(&mut self, _: &mut Context, _: ConnectionId, error: io::Error) {
        self.0.borrow_mut().failed.push(error);
    }
}

#[test]
fn a_connection_that_would_be_its_own_peer_is_refused() {
    check(0..100, |simulation| {
        let outcomes = RefCell::default();
        let mut events = simulation.event_loop();
        let handler = events.attach(RecordOutcomes(&outcomes));
        let next_port = simulation.world.borrow().next_port + 1;
        for (ip, port) in [([0, 0, 0, 0], next_port), ([10, 0, 0, 1], next_port + 1)] {
            events.context().connect(SocketAddr::from((ip, port)), handler);
        }
        simulation.run_until_idle(&mut events).expect("the poll works");
        let outcomes = outcomes.borrow();
        let kinds: Vec<io::ErrorKind> = outcomes.failed.iter().map(io::Error::kind).collect();
        assert_eq!((outcomes.opened, kinds), (0, vec![io::ErrorKind::ConnectionRefused; 2]));
    });
}

#[test]
fn while_descriptors_are_exhausted_connects_fail_and_later_ones_open() {
    check(0..100, |simulation| {
        let outcomes = RefCell::default();
        simulation.listen(SERVER);
        simulation.set_descriptors_max(2);
        let mut events = simulation.event_loop();
        let handler = events.attach(RecordOutcomes(&outcomes));
        for _ in 0..5 {
            events.context().connect(SERVER, handler);
        }
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!((outcomes.borrow().opened, outcomes.borrow().failed.len()), (2, 3));
        let is_emfile = |error: &io::Error| error.raw_os_error() == Some(Errno::EMFILE as i32);
        assert!(outcomes.borrow().failed.iter().all(is_emfile), "{:?}", outcomes.borrow().failed);
        while let Some(peer) = simulation.accept(SERVER) {
            peer.shutdown_write();
        }
        simulation.run_until_idle(&mut events).expect("the poll works");
        events.context().connect(SERVER, handler);
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!((outcomes.borrow().opened, outcomes.borrow().failed.len()), (3, 3), "descriptors are free again");
    });
}

#[test]
fn writes_do_not_extend_the_timeout_of_a_connect() {
    check(0..100, |simulation| {
        let outcomes = RefCell::default();
        simulation.blackhole(SERVER);
        let mut events = simulation.event_loop();
        let handler = events.attach(RecordOutcomes(&outcomes));
        let start = simulation.elapsed();
        let id = events.context().connect(Connect::from(SERVER).timeout(Duration::from_secs(5)), handler);
        while simulation.elapsed() < start + Duration::from_secs(4) {
            let _ = events.turn(Some(Duration::from_millis(100))).expect("the poll works");
        }
        assert!(outcomes.borrow().failed.is_empty(), "the connect failed before its timeout");
        events
            .context()
            .connection(id)
            .expect("the connection is opening")
            .send(b"is it open?")
            .expect("there is room");
        while outcomes.borrow().failed.is_empty() {
            let _ = events.turn(Some(Duration::from_millis(100))).expect("the poll works");
        }
        let elapsed = simulation.elapsed().saturating_sub(start);
        assert!(
            elapsed >= Duration::from_secs(5) && elapsed < Duration::from_secs(6),
            "the connect failed after {elapsed:?}"
        );
        assert_eq!(outcomes.borrow().failed[0].kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn many_connects_are_started_in_portions_and_all_complete() {
    let (simulation, outcomes) = (Simulation::new(1), RefCell::default());
    simulation.listen(SERVER);
    simulation.record_trace();
    let mut events = simulation.event_loop();
    let handler = events.attach(RecordOutcomes(&outcomes));
    for _ in 0..1_000 {
        let id = events.context().connect(SERVER, handler);
        events.context().connection(id).expect("the connection is opening").send(b"hello").expect("there is room");
    }
    let started = || simulation.trace().lines().filter(|line| line.contains(" connect ")).count();
    let mut last = 0;
    while last < 1_000 {
        assert_eq!(events.next_timeout(), Some(Duration::ZERO), "more connects are to begin");
        let _ = events.turn(Some(Duration::from_secs(1))).expect("the poll works");
        let now = started();
        assert!(now > last && now - last <= limits::CONNECTS_PER_TURN_MAX, "{} in a turn", now - last);
        last = now;
    }
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert_eq!(outcomes.borrow().opened, 1_000);
    assert!(events.context.pending_connects.capacity() <= 64, "the list's memory is freed");
}

#[test]
fn a_client_that_sends_after_its_connection_is_closed_is_reset() {
    check(0..100, |simulation| {
        let outcomes = RefCell::default();
        simulation.listen(SERVER);
        let mut events = simulation.event_loop();
        let handler = events.attach(RecordOutcomes(&outcomes));
        events.context().connect(SERVER, handler);
        simulation.run_until_idle(&mut events).expect("the poll works");
        let peer = simulation.accept(SERVER).expect("the loop has connected");
        peer.shutdown_write();
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!((peer.saw_eof(), &outcomes.borrow().closed[..]), (true, &[CloseReason::Eof][..]));
        peer.send(b"are you there?");
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert!(peer.saw_reset(), "the connection is closed");
    });
}

#[test]
fn a_failed_shutdown_ends_the_connection_at_once() {
    check(0..100, |simulation| {
        let outcomes = RefCell::default();
        simulation.listen(SERVER);
        let mut events = simulation.event_loop();
        let handler = events.attach(RecordOutcomes(&outcomes));
        simulation.fail_next(Fault::Shutdown, Errno::ENOTCONN as i32, 1);
        events.context().connect(Connect::from(SERVER).idle_timeout(None), handler);
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!((outcomes.borrow().opened, &outcomes.borrow().closed[..]), (1, &[CloseReason::Reset][..]));
        assert_eq!(events.stats().connections, 0);
    });
}

pub(super) const PROXY: SocketAddr = SocketAddr::new(HOST, 7);
pub(super) const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 7);

/// Forwards bytes in both directions. The session is the connection on the other side.
pub(super) struct Proxy;

impl StreamHandler for Proxy {
    type Session = ConnectionId;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<ConnectionId> {
        if connection.listener().is_none() {
            return connection.take_value();
        }
        let (handler, client) = (connection.handler(), connection.id());
        Some(connection.context().connect_with(TARGET, handler, client))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, other: &mut ConnectionId, input: &[u8]) -> usize {
        let Some(mut to) = connection.context().connection(*other) else { return input.len() };
        let written = to.try_write(input);
        if written < input.len() {
            connection.pause();
        }
        written
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, other: &mut ConnectionId) {
        if let Some(mut from) = connection.context().connection(*other) {
            from.resume();
        }
    }
}

#[test]
fn a_target_that_reads_only_after_its_output_is_read_does_not_block_a_proxy() {
    check(0..50, |simulation| {
        let mut events = simulation.event_loop();
        events.listen(PROXY, Proxy).expect("the address is free");
        simulation.listen(TARGET);
        let client = simulation.connect(PROXY).expect("the proxy listens");
        simulation.run_until_idle(&mut events).expect("the poll works");
        let peer = simulation.accept(TARGET).expect("the proxy has connected");
        peer.set_window(0);
        client.send(&vec![7; 400_000]);
        simulation.run_until_idle(&mut events).expect("the poll works");
        peer.send(b"answer");
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!(client.received(), b"answer");
        peer.set_window(usize::MAX);
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!(peer.received().len(), 400_000);
    });
}

#[test]
fn values_given_to_connects_are_returned_whether_they_open_or_fail() {
    /// Checks each value against the address of its connect.
    struct Checks<'a>(&'a RefCell<Vec<u16>>);
    impl StreamHandler for Checks<'_> {
        type Session = ();
        fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
            let value = connection.take_value().expect("the connect had a value");
            assert_eq!(connection.peer_addr(), Some(SocketAddr::new(SERVER.ip(), value)));
            self.0.borrow_mut().push(value);
            None
        }
        fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
            input.len()
        }
        fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, _: io::Error) {
            self.0.borrow_mut().push(context.take_value(id).expect("the connect had a value"));
        }
    }
    check(0..100, |simulation| {
        let values = RefCell::default();
        let mut events = simulation.event_loop();
        simulation.inject(Fault::Connect, 3);
        simulation.inject(Fault::LateReadiness, 3);
        let handler = events.attach(Checks(&values));
        for port in 1..=200 {
            let server = SocketAddr::new(SERVER.ip(), port);
            match port % 3 {
                0 => simulation.listen(server),
                1 => simulation.blackhole(server),
                _ => {}
            }
            events.context().connect_with(Connect::from(server).timeout(Duration::from_secs(1)), handler, port);
        }
        simulation.run_until_idle(&mut events).expect("the poll works");
        simulation.advance(Duration::from_secs(2));
        simulation.run_until_idle(&mut events).expect("the poll works");
        values.borrow_mut().sort_unstable();
        assert!(values.borrow().iter().copied().eq(1..=200), "{values:?}");
        assert_memory_is_back(&events);
    });
}

fn echo(connection: &mut Connection<'_>, input: &[u8]) -> usize {
    connection.try_write(input)
}

#[test]
fn a_connected_stream_is_served_from_its_first_byte_to_its_end() {
    check(0..300, |simulation| {
        let mut events = simulation.event_loop();
        simulation.inject(Fault::LateReadiness, 3);
        simulation.inject(Fault::SpuriousReadiness, 3);
        let echo = events.attach(stream(echo));
        let (adopted, client) = simulation.stream_pair();
        client.send(&[7; 3_000]);
        for _ in 0..simulation.random_below(4) {
            let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        }
        let adopted = adopted.outbox_bytes_max(1_000);
        let id = events.context().connect(adopted, echo);
        let mut connection = events.context().connection(id).expect("the connection is opening");
        assert_eq!((connection.peer_addr(), connection.try_write(b"welcome")), (Some(client.address()), 7));
        simulation.run_until_idle(&mut events).expect("the poll works");
        client.shutdown_write();
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!(client.received(), [&b"welcome"[..], &[7; 3_000]].concat());
        assert!(client.saw_eof() && !client.saw_reset());
        assert_eq!((events.stats().connects, events.stats().closed(CloseReason::Eof)), (1, 1));
    });
}

#[test]
fn an_unused_stream_is_closed_for_its_client() {
    check(0..100, |simulation| {
        let outcomes = RefCell::default();
        let mut events = simulation.event_loop();
        let handler = events.attach(RecordOutcomes(&outcomes));
        let [(dropped, dropped_client), (aborted, aborted_client), (invalid, invalid_client), (shared, shared_client)] =
            [(); 4].map(|()| simulation.stream_pair());
        drop(dropped);
        let id = events.context().connect(aborted, handler);
        events.context().connection(id).expect("the connection is opening").abort();
        let (elsewhere, _) = Simulation::new(1).stream_pair();
        for wrong in [shared.clone(), shared.clone(), invalid.input_bytes_max(0), elsewhere] {
            events.context().connect(wrong, handler);
        }
        simulation.run_until_idle(&mut events).expect("the poll works");
        let mut kinds: Vec<io::ErrorKind> = outcomes.borrow().failed.iter().map(io::Error::kind).collect();
        kinds.sort();
        let expected = [io::ErrorKind::ConnectionAborted, io::ErrorKind::InvalidInput];
        assert_eq!((outcomes.borrow().opened, &kinds[..2], kinds.len()), (1, &expected[..], 4));
        assert!(dropped_client.saw_eof() && aborted_client.saw_reset() && invalid_client.saw_eof());
        assert!(!shared_client.saw_reset());
        // More connects than one turn starts, in the loop's last turn.
        let mut clients = vec![shared_client];
        for _ in 0..=limits::CONNECTS_PER_TURN_MAX {
            let (adopted, client) = simulation.stream_pair();
            events.context().connect(adopted, handler);
            clients.push(client);
        }
        events.context().stop();
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert!(clients.iter().all(Client::saw_reset) && simulation.world.borrow().descriptors == 0);
    });
}

#[cfg(unix)]
#[test]
fn a_stream_of_another_simulation_is_refused() {
    let (simulation, outcomes) = (Simulation::new(1), RefCell::default());
    let ((simulated, _client), real) = (simulation.stream_pair(), std::os::unix::net::UnixStream::pair());
    let real = Connect::from(real.expect("a pair").0);
    for (mut events, wrong) in [(simulation.event_loop(), real), (EventLoop::new().expect("a loop"), simulated)] {
        let handler = events.attach(RecordOutcomes(&outcomes));
        events.context().connect(wrong, handler);
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    }
    let failed: Vec<String> = outcomes.borrow().failed.iter().map(ToString::to_string).collect();
    assert_eq!((failed.len(), outcomes.borrow().opened), (2, 0));
    assert!(failed.iter().all(|error| error.contains("imulation")), "{failed:?}");
}

#[test]
fn values_notified_to_a_connection_that_never_opens_are_dropped() {
    let simulation = Simulation::new(1);
    let outcomes = RefCell::default();
    let mut events = simulation.event_loop();
    let handler = events.attach(RecordOutcomes(&outcomes));
    for value in 0..10 {
        let id = events.context().connect(SERVER, handler);
        events.context().notify(id, value);
    }
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert_eq!(outcomes.borrow().failed.len(), 10, "every connect fails");
    assert!(events.context.notes_before_open.is_empty());
}

/// Returns the CPU time of this thread, without that of other threads and processes.
fn thread_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the usage of this thread");
    let of = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    of(usage.user_time()) + of(usage.system_time())
}

/// Returns the CPU time to start and close `count` connects, each with its own timeout, note and value.
fn time_of_connects(count: u32) -> Duration {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let handler = events.attach(stream(|_, input| input.len()));
    let start = thread_time();
    let ids: Vec<ConnectionId> = (0..count)
        .map(|number| {
            let to = Connect::from(SERVER).timeout(Duration::from_secs(10) + Duration::from_micros(number.into()));
            events.context.connect_with(to, handler, number)
        })
        .collect();
    for id in &ids {
        // As the loop does with a note for a connection that is not open yet.
        events.context.notes_before_open.entry(*id).or_default().push(1);
    }
    for id in ids {
        let _ = events.context.take_notes_before_open(id.slot);
        let _ = events.context.take_value::<u32>(id).expect("the connect had a value");
        events.context.close_connection(id.slot, CloseMode::Close, None);
    }
    events.context.free_closed();
    assert_memory_is_back(&events);
    thread_time().saturating_sub(start)
}

fn assert_memory_is_back(events: &EventLoop<'_>) {
    let context = &events.context;
    let [entries, notes, values] =
        [context.outbound_entries.len(), context.notes_before_open.len(), context.connect_values.len()];
    assert_eq!((entries, context.listeners.len(), notes, values), (0, 0, 0, 0));
    let rooms = [
        context.outbound_entries.capacity(),
        context.listeners.capacity(),
        context.notes_before_open.capacity(),
        context.connect_values.capacity(),
    ];
    assert!(rooms.iter().all(|room| *room <= 64), "{rooms:?}");
}

/// With a linear search, eight times as many connects would take 64 times as long.
#[test]
fn a_connect_with_its_own_limits_costs_the_same_beside_thousands_of_others() {
    let fastest = |count| (0..5).map(|_| time_of_connects(count)).min().expect("five tries");
    let (few, many) = (fastest(2_000), fastest(16_000));
    assert!(many < 30 * few, "{few:?} for 2,000, {many:?} for 16,000");
}
