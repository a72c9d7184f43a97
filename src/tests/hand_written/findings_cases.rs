//! Recordings that are healthy or have one defect, and their findings.
//!
//! Runs whose times matter are simulated: their clock does not depend on the load of the machine.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use crate::context::connection::Connection;
use crate::context::handler_impls::{datagrams, stream};
use crate::event_loop::EventLoop;
use crate::observe::{
    Callback, Detail, Entry, EntryKind, Finding, FindingKind, Level, LoopRecording, Object, Recorder, Recording,
    findings,
};
use crate::options::listen::Listen;
use crate::testing::{Fault, check};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 7);

/// Asserts that nothing was found but what the load of the machine can cause.
fn assert_healthy(recording: &Recording, may_be_late: bool) {
    assert!(recording.loops[0].entries.len() > 10, "nothing was noted");
    let is_of_load = |finding: &Finding| matches!(finding.kind, FindingKind::LoopLag | FindingKind::SlowCallback);
    let mut found = findings(recording);
    found.retain(|one| !(may_be_late && is_of_load(one)));
    assert!(found.is_empty(), "{found:#?}");
}

/// Asserts that exactly one was found.
fn assert_one(recording: &Recording, kind: FindingKind, object: Object, name: &str) -> Finding {
    let found = findings(recording);
    let [one] = &found[..] else {
        panic!("not one finding: {found:#?}");
    };
    assert_eq!((one.kind, one.object, &*one.name), (kind, object, name), "{one}");
    one.clone()
}

fn echo(connection: &mut Connection<'_>, input: &[u8]) -> usize {
    connection.try_write(input)
}

fn greet(connection: &mut Connection<'_>, input: &[u8]) -> usize {
    let _ = connection.send(b"Hello, TCP Client!");
    connection.close();
    input.len()
}

#[test]
fn greetings_with_half_close_are_healthy() {
    check(0..10, |simulation| {
        let mut events = simulation.event_loop();
        simulation.record_trace();
        events.listen(SERVER, stream(greet)).expect("the address is free");
        for _ in 0..20 {
            let client = simulation.connect(SERVER).expect("the server listens");
            client.send(b"Hello, TCP Server!");
            client.shutdown_write();
            simulation.run_until_idle(&mut events).expect("the loop becomes idle");
            assert!(client.saw_eof());
        }
        assert_healthy(&simulation.recording(), false);
    });
}

#[test]
fn an_echo_in_bulk_with_backpressure_is_healthy() {
    check(0..10, |simulation| {
        let mut events = simulation.event_loop();
        simulation.record_trace();
        events.listen(SERVER, stream(echo)).expect("the address is free");
        for fault in [Fault::LateReadiness, Fault::SpuriousReadiness] {
            simulation.inject(fault, 5);
        }
        let client = simulation.connect(SERVER).expect("the server listens");
        client.set_window(16 * 1024);
        client.send(&vec![7; 200_000]);
        let mut received = 0;
        while received < 200_000 {
            let _ = events.turn(Some(Duration::from_millis(10))).expect("the poll works");
            received += client.read().len();
        }
        assert_healthy(&simulation.recording(), false);
    });
}

#[test]
fn timers_in_an_idle_loop_are_healthy() {
    check(0..10, |simulation| {
        let mut events = simulation.event_loop();
        simulation.record_trace();
        let mut left = 500;
        events.every(Duration::from_millis(20), move |context| {
            left -= 1;
            if left == 0 {
                context.stop();
            }
            Some(Duration::from_millis(20))
        });
        events.run().expect("the poll works");
        assert_healthy(&simulation.recording(), false);
    });
}

#[test]
fn a_drain_is_healthy() {
    check(0..10, |simulation| {
        let mut events = simulation.event_loop();
        simulation.record_trace();
        events.listen(SERVER, stream(echo)).expect("the address is free");
        let clients = [(); 20].map(|()| simulation.connect(SERVER).expect("the server listens"));
        for client in &clients {
            client.send(b"hello");
        }
        let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
        events.context().drain(Duration::from_secs(5));
        for client in &clients {
            client.shutdown_write();
        }
        events.run().expect("the poll works");
        assert!(clients.iter().all(|client| client.received() == b"hello"));
        assert_healthy(&simulation.recording(), false);
    });
}

/// Records everything that a loop notes.
fn record(events: &mut EventLoop<'_>) -> Rc<RefCell<Recorder>> {
    let recorder = Rc::new(RefCell::new(Recorder::new("real", 64 << 20)));
    let shared = Rc::clone(&recorder);
    events.journal_level(Level::All);
    events.set_observer(move |turn| shared.borrow_mut().record(turn));
    recorder
}

/// A loop on this thread, with real sockets, and a client on another thread that stops it.
fn serve_real_client(
    events: &mut EventLoop<'_>,
    client: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> Recording {
    let recorder = record(events);
    let handle = events.handle();
    let client = thread::spawn(move || {
        let outcome = client();
        let _ = handle.stop();
        outcome
    });
    events.run().expect("the poll works");
    client.join().expect("the client does not panic").expect("the server replies");
    Recording::new([recorder.borrow_mut().take()])
}

#[test]
fn two_hundred_real_clients_at_once_are_healthy() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(SocketAddr::from(([127, 0, 0, 1], 0)), stream(greet)).expect("a listener");
    let server = events.local_addr(listener).expect("it is open");
    let recording = serve_real_client(&mut events, move || {
        let clients: Result<Vec<TcpStream>, _> = (0..200).map(|_| TcpStream::connect(server)).collect();
        for mut client in clients? {
            client.set_read_timeout(Some(Duration::from_secs(30)))?;
            client.write_all(b"Hello, TCP Server!")?;
            client.read_to_end(&mut Vec::new())?;
        }
        Ok(())
    });
    assert_eq!(events.stats().accepted, 200);
    assert_healthy(&recording, true);
}

#[test]
fn a_burst_of_real_datagrams_is_healthy() {
    let mut events = EventLoop::new().expect("a loop");
    let reply = datagrams(|datagram, payload| {
        datagram.reply(payload);
    });
    let socket = events.bind(SocketAddr::from(([127, 0, 0, 1], 0)), reply).expect("a socket");
    let server = events.local_addr(socket).expect("it is open");
    let recording = serve_real_client(&mut events, move || {
        let client = std::net::UdpSocket::bind("127.0.0.1:0")?;
        client.set_read_timeout(Some(Duration::from_secs(30)))?;
        for _ in 0..10 {
            for _ in 0..100 {
                client.send_to(b"hello", server)?;
            }
            for _ in 0..100 {
                client.recv(&mut [0; 16])?;
            }
        }
        Ok(())
    });
    assert_eq!(events.stats().datagrams_received, 1000);
    assert_healthy(&recording, true);
}

#[test]
fn a_slow_callback_is_found_with_its_client_and_the_events_that_waited() {
    check(0..10, |simulation| {
        let mut events = simulation.event_loop();
        simulation.record_trace();
        let slow_run = simulation.clone();
        let handler = stream(move |connection, input| {
            if input == b"slow" {
                slow_run.advance(Duration::from_millis(83));
            }
            connection.try_write(input)
        });
        events.listen(SERVER, handler).expect("the address is free");
        let clients = [(); 13].map(|()| simulation.connect(SERVER).expect("the server listens"));
        simulation.run_until_idle(&mut events).expect("the loop becomes idle");
        clients[0].send(b"slow");
        for client in &clients[1..] {
            client.send(b"hello");
        }
        simulation.run_until_idle(&mut events).expect("the loop becomes idle");
        let name = clients[0].address().to_string();
        let found = assert_one(&simulation.recording(), FindingKind::SlowCallback, Object::Connection, &name);
        assert_eq!((found.number, found.count), (83_000_000, 1));
        assert!(found.sentence.starts_with(&format!("on_data of {name} took 83 ms; ")), "{found}");
        assert!(found.sentence.contains(" waited; move the work to another thread, or split it"), "{found}");
        let entry = simulation.recording().loops[0].entries[found.entry_index];
        assert_eq!((entry.kind, entry.time()), (EntryKind::CallbackBegin, found.time));
    });
}

#[test]
fn many_small_callbacks_in_one_turn_are_a_loop_lag() {
    check(0..10, |simulation| {
        let mut events = simulation.event_loop();
        simulation.record_trace();
        for _ in 0..200 {
            let simulation = simulation.clone();
            events.every(Duration::from_secs(1), move |_| {
                simulation.advance(Duration::from_millis(1));
                None
            });
        }
        simulation.run_until_idle(&mut events).expect("the loop becomes idle");
        let found = assert_one(&simulation.recording(), FindingKind::LoopLag, Object::Loop, "the loop");
        assert_eq!((found.number, found.count), (200_000_000, 1));
        let sentence = "a turn took 200 ms, 200 ms of it in 200 callbacks of at most 1 ms; ";
        assert!(found.sentence.starts_with(sentence), "{found}");
    });
}

#[test]
fn a_client_that_does_not_read_is_a_slow_reader() {
    check(0..10, |simulation| {
        let mut events = simulation.event_loop();
        simulation.record_trace();
        let flood = stream(|connection, input| {
            let _ = connection.send(&[7; 6_000]);
            input.len()
        });
        events.listen(SERVER, flood).expect("the address is free");
        let clients = [(); 5].map(|()| simulation.connect(SERVER).expect("the server listens"));
        clients[0].set_window(1);
        clients[0].set_send_buffer_bytes_max(1_000);
        for client in &clients {
            client.send(b"x");
        }
        simulation.run_until_idle(&mut events).expect("the loop becomes idle");
        simulation.advance(Duration::from_secs(2));
        simulation.run_until_idle(&mut events).expect("the loop becomes idle");
        let name = clients[0].address().to_string();
        let found = assert_one(&simulation.recording(), FindingKind::SlowReader, Object::Connection, &name);
        assert!(found.number > 2_000_000_000, "{found}");
        assert!(found.sentence.starts_with(&format!("{name} accepted no output for ")), "{found}");
        assert!(found.sentence.contains(" bytes waited; it does not read"), "{found}");
    });
}

#[test]
fn a_listener_without_descriptors_is_in_backoff() {
    check(0..10, |simulation| {
        let mut events = simulation.event_loop();
        simulation.record_trace();
        events.listen(SERVER, stream(greet)).expect("the address is free");
        simulation.fail_next(Fault::Accept, nix::errno::Errno::EMFILE as i32, 6);
        let client = simulation.connect(SERVER).expect("the server listens");
        client.send(b"Hello, TCP Server!");
        simulation.run_until_idle(&mut events).expect("the loop becomes idle");
        assert!(client.saw_eof());
        let found = assert_one(&simulation.recording(), FindingKind::Backoff, Object::Listener, "listener 10.0.0.1:7");
        assert!(found.number >= 630_000_000, "{found}");
        let sentence = "accept of listener 10.0.0.1:7 failed in 6 tries within ";
        assert!(found.sentence.starts_with(sentence), "{found}");
        assert!(found.sentence.contains("Too many open files (os error 24); clients waited"), "{found}");
    });
}

#[test]
fn a_watch_that_asks_to_be_called_again_without_reading_spins() {
    let (source, mut peer) = std::os::unix::net::UnixStream::pair().expect("a pair");
    source.set_nonblocking(true).expect("it can be set");
    peer.write_all(b"never read").expect("there is room");
    let mut events = EventLoop::new().expect("a loop");
    let recorder = record(&mut events);
    let mut calls = 0;
    let spin = move |context: &mut crate::context::Context, _: &mut _, _| {
        calls += 1;
        if calls == 3_000 {
            context.stop();
        }
        crate::context::entries::watch_entry::Watch::Again
    };
    events.watch(source, crate::options::Interest::Read, spin).expect("it can be watched");
    events.run().expect("the poll works");
    let mut found = findings(&Recording::new([recorder.borrow_mut().take()]));
    // A busy machine may delay the loop meanwhile.
    found.retain(|one| !matches!(one.kind, FindingKind::LoopLag | FindingKind::SlowCallback));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].kind, found[0].object, &*found[0].name), (FindingKind::Spin, Object::Watch, "watch 0"));
    assert!(found[0].number > 2_900, "{}", found[0]);
}

/// A loop on mio that reads once for each event, which is wrong with edges. Its clock is simulated: a turn takes 0.3 s.
struct ReadsOnce {
    poll: Poll,
    recorded: LoopRecording,
    now: Duration,
}

impl ReadsOnce {
    fn note(&mut self, entry: Entry) {
        self.recorded.entries.push(entry.at(self.now));
    }

    /// Polls once, and reads from the ready clients; returns how many were ready.
    fn turn(&mut self, clients: &mut [mio::net::TcpStream], wait: Duration) -> usize {
        let mut ready = Events::with_capacity(16);
        self.note(Entry::new(EntryKind::PollBegin, Object::Loop, 0, 0).numbers([u64::MAX, 0]));
        self.poll.poll(&mut ready, Some(wait)).expect("the poll works");
        self.now += Duration::from_millis(300);
        let events: Vec<Token> = ready.iter().map(mio::event::Event::token).collect();
        self.note(Entry::new(EntryKind::PollEnd, Object::Loop, 0, 0).numbers([events.len() as u64, 0]));
        for Token(index) in &events {
            let slot = u32::try_from(*index).expect("few clients");
            let of_client = |kind| Entry::new(kind, Object::Connection, slot, 100 + u64::from(slot));
            self.note(of_client(EntryKind::Readiness).numbers([1, 100 + u64::from(slot)]));
            let count = clients[*index].read(&mut [0; 64]).expect("it is ready");
            self.note(of_client(EntryKind::Read).numbers([count as u64, 64]));
            self.note(of_client(EntryKind::CallbackBegin).numbers([Callback::Data as u64, count as u64]));
            self.note(of_client(EntryKind::CallbackEnd).numbers([Callback::Data as u64, count as u64]));
        }
        self.note(Entry::new(EntryKind::TurnEnd, Object::Loop, 0, 0).numbers([1, 0]));
        events.len()
    }
}

#[test]
fn a_loop_that_reads_once_per_edge_leaves_its_source_ready() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = server.local_addr().expect("it is bound");
    let mut peers = [(); 2].map(|()| TcpStream::connect(address).expect("the server listens"));
    let mut broken =
        ReadsOnce { poll: Poll::new().expect("a poll"), recorded: LoopRecording::default(), now: Duration::ZERO };
    let mut clients = Vec::new();
    for slot in 0..2_u32 {
        let (stream, peer) = server.accept().expect("a client has connected");
        stream.set_nonblocking(true).expect("it can be set");
        let mut stream = mio::net::TcpStream::from_std(stream);
        let token = Token(clients.len());
        broken.poll.registry().register(&mut stream, token, Interest::READABLE).expect("it can be registered");
        broken.recorded.details.push((broken.recorded.entries.len(), Detail::Address(peer)));
        broken.note(Entry::new(EntryKind::Opened, Object::Connection, slot, 100 + u64::from(slot)));
        clients.push(stream);
    }
    // The first client sends more than one read takes. The second goes on with short messages.
    peers[0].write_all(&[7; 200]).expect("there is room");
    assert_eq!(broken.turn(&mut clients, Duration::from_secs(30)), 1);
    for _ in 0..5 {
        peers[1].write_all(b"hello").expect("there is room");
        assert_eq!(broken.turn(&mut clients, Duration::from_secs(30)), 1);
    }
    let recording = Recording { loops: vec![broken.recorded] };
    let name = peers[0].local_addr().expect("it is connected").to_string();
    let found = assert_one(&recording, FindingKind::SourceLeftReady, Object::Connection, &name);
    let sentence = format!("{name} was readable, and its last call took 64 of at most 64; the rest waited 1.5 s; ");
    assert!(found.sentence.starts_with(&sentence), "{found}");
}

#[test]
fn a_client_of_a_full_listener_starves() {
    check(0..10, |simulation| {
        let mut events = simulation.event_loop();
        simulation.record_trace();
        events.listen(Listen::from(SERVER).connections_max(1), stream(echo)).expect("the address is free");
        let first = simulation.connect(SERVER).expect("the server listens");
        first.send(b"hello");
        simulation.run_until_idle(&mut events).expect("the loop becomes idle");
        let second = simulation.connect(SERVER).expect("the server listens");
        second.send(b"hello");
        simulation.run_until_idle(&mut events).expect("the loop becomes idle");
        first.shutdown_write();
        simulation.run_until_idle(&mut events).expect("the loop becomes idle");
        assert_eq!(second.received(), b"hello");
        let found =
            assert_one(&simulation.recording(), FindingKind::Starvation, Object::Listener, "listener 10.0.0.1:7");
        assert!(found.sentence.starts_with("a client of listener 10.0.0.1:7 waited 1."), "{found}");
        assert!(found.sentence.contains("because its handler has 1 connection and may not have more; "), "{found}");
    });
}

#[test]
fn whatever_the_network_does_the_loop_itself_is_not_blamed() {
    check(0..100, |simulation| {
        simulation.record_trace();
        crate::tests::run(simulation);
        let mut found = findings(&simulation.recording());
        // The rest has causes outside of the loop: calls that fail, limits, clients that do not read, a clock that jumps.
        found.retain(|one| match one.kind {
            FindingKind::Starvation => one.object != Object::Listener && !one.sentence.contains("for memory"),
            FindingKind::SourceLeftReady | FindingKind::StaleEvent | FindingKind::Spin => true,
            _ => false,
        });
        assert!(found.is_empty(), "{found:#?}");
    });
}
