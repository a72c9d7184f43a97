//! Limits on connections: in total and per source.
//!
//! The listeners of a handler share its limits.

use std::time::Duration;

use halloo::{EventLoop, HandlerId, Listen, WhenFull, stream};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::{any_port, loopback};
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::recording_handler::{CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

#[test]
fn beyond_connections_max_clients_wait_and_all_are_served() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).connections_max(3);
    let listener = events.listen(at, RecordingHandler::new(&log).on_data(greet)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(address)).collect();
    turn_until(&mut events, "three are accepted", |_| log.ids().len() == 3);
    turn_until_idle(&mut events);
    assert_eq!(events.stats().accepted, 3, "the other clients wait, and the loop is idle");
    for client in &mut clients {
        client.send(b"Hello, TCP Server!");
        turn_until(&mut events, "the greeting", |events| {
            assert!(events.stats().connections <= 3, "{}", events.stats());
            client.has_reached_end()
        });
        assert_eq!((client.received.as_slice(), client.end), (GREETING, Some(StreamEnd::Eof)));
    }
    assert_eq!((events.stats().accepted, events.stats().refused_full), (20, 0));
}

#[test]
fn with_when_full_close_clients_beyond_connections_max_are_closed_at_once() {
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).connections_max(2).when_full(WhenFull::Refuse);
    let listener = events.listen(at, stream(echo)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let (mut one, mut two) = (Client::connect(address), Client::connect(address));
    assert_eq!((one.request(&mut events, b"1", 1), two.request(&mut events, b"2", 1)), (&b"1"[..], &b"2"[..]));
    for refused in 1..=5 {
        assert_eq!(Client::connect(address).read_to_end(&mut events).0, b"");
        assert_eq!((events.stats().refused_full, events.stats().accepted), (refused, 2));
    }
    assert_eq!(two.request(&mut events, b"still here", 10), b"still here");
    drop(one);
    turn_until(&mut events, "there is room", |events| events.stats().connections == 1);
    assert_eq!(Client::connect(address).request(&mut events, b"3", 1), b"3");
}

#[test]
fn each_source_has_its_own_connection_limit() {
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(any_port("0.0.0.0")).connections_per_source_max(2);
    let listener = events.listen(at, stream(echo)).expect("a listener");
    let mut address = events.local_addr(listener).expect("the listener is open");
    address.set_ip(loopback().ip());
    let mut one: Vec<Client> = (0..2).map(|_| Client::connect_from("127.0.0.1", address)).collect();
    for client in &mut one {
        assert_eq!(client.request(&mut events, b"one", 3), b"one");
    }
    assert_eq!(Client::connect_from("127.0.0.1", address).read_to_end(&mut events).0, b"");
    assert_eq!((events.stats().refused_source, events.stats().accepted), (1, 2));
    let mut other = Client::connect_from("127.0.0.2", address);
    assert_eq!(other.request(&mut events, b"other", 5), b"other");

    drop(one.pop());
    turn_until(&mut events, "there is room", |events| events.stats().connections == 2);
    let mut reconnected = Client::connect_from("127.0.0.1", address);
    assert_eq!(reconnected.request(&mut events, b"again", 5), b"again");
    assert_eq!(Client::connect_from("127.0.0.1", address).read_to_end(&mut events).0, b"");
    assert_eq!(events.stats().refused_source, 2);
}

#[test]
#[ignore = "needs IPv6"]
fn on_the_ipv6_wildcard_each_ipv4_address_is_a_source_of_its_own() {
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(any_port("::")).connections_per_source_max(1);
    let listener = events.listen(at, stream(echo)).expect("a listener");
    let mut address = events.local_addr(listener).expect("the listener is open");
    address.set_ip(loopback().ip());
    for _ in 0..2 {
        let mut clients = ["127.0.0.1", "127.0.0.2"].map(|host| Client::connect_from(host, address));
        for client in &mut clients {
            assert_eq!(client.request(&mut events, b"one", 3), b"one");
        }
        assert_eq!(Client::connect_from("127.0.0.1", address).read_to_end(&mut events).0, b"");
        drop(clients);
        turn_until(&mut events, "the connections are closed", |events| events.stats().connections == 0);
    }
    assert_eq!((events.stats().refused_source, events.stats().accepted), (2, 4));
}

/// Returns the addresses of two listeners of one handler, each with the same limits.
fn pair(events: &mut EventLoop<'_>, at: &Listen) -> [std::net::SocketAddr; 2] {
    let handler: HandlerId = events.attach(stream(echo));
    [(); 2].map(|()| {
        let listener = events.listen_for(at.clone(), handler).expect("a listener");
        events.local_addr(listener).expect("the listener is open")
    })
}

#[test]
fn listeners_of_one_handler_share_connections_max() {
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).connections_max(2).when_full(WhenFull::Refuse);
    let addresses = pair(&mut events, &at);
    let mut inside = addresses.map(Client::connect);
    for client in &mut inside {
        assert_eq!(client.request(&mut events, b"in", 2), b"in");
    }
    for address in addresses {
        assert_eq!(Client::connect(address).read_to_end(&mut events).0, b"");
    }
    assert_eq!(events.stats().refused_full, 2);
}

#[test]
fn a_listener_that_waits_for_room_continues_when_a_connection_of_another_listener_closes() {
    let mut events = EventLoop::new().expect("a loop");
    let [one, other] = pair(&mut events, &Listen::from(loopback()).connections_max(1));
    let mut inside = Client::connect(one);
    assert_eq!(inside.request(&mut events, b"in", 2), b"in");
    let mut waiting = Client::connect(other);
    waiting.send(b"and I?");
    turn_until_idle(&mut events);
    assert_eq!(events.stats().accepted, 1);
    drop(inside);
    assert_eq!(waiting.request(&mut events, b"", 6), b"and I?");
}

#[test]
fn listeners_of_one_handler_share_the_limit_per_source() {
    let mut events = EventLoop::new().expect("a loop");
    let [one, other] = pair(&mut events, &Listen::from(loopback()).connections_per_source_max(1));
    let mut inside = Client::connect(one);
    assert_eq!(inside.request(&mut events, b"in", 2), b"in");
    assert_eq!(Client::connect(other).read_to_end(&mut events).0, b"");
    assert_eq!(events.stats().refused_source, 1);
}

#[test]
fn handlers_do_not_share_their_limits() {
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).connections_max(1).connections_per_source_max(1).when_full(WhenFull::Refuse);
    let mut clients: Vec<Client> = (0..3)
        .map(|_| {
            let echo = stream(echo);
            let listener = events.listen(at.clone(), echo).expect("a listener");
            Client::connect(events.local_addr(listener).expect("the listener is open"))
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.request(&mut events, b"mine", 4), b"mine");
    }
}

#[test]
fn a_refused_client_that_has_sent_much_affects_no_other_client() {
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).connections_max(1).when_full(WhenFull::Refuse);
    let listener = events.listen(at, stream(echo)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut inside = Client::connect(address);
    assert_eq!(inside.request(&mut events, b"in", 2), b"in");
    let mut refused = Client::connect(address);
    refused.send(&byte_pattern(20_000));
    assert_eq!(refused.read_to_end(&mut events).0, b"");
    assert_eq!(inside.request(&mut events, b"in", 2), b"in");
    turn_until_idle(&mut events);
}

#[test]
fn the_share_of_a_source_is_free_again_however_its_connection_ends() {
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).connections_per_source_max(1);
    let listener = events.listen(at, stream(echo)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    for round in 1..=6 {
        let mut client = Client::connect(address);
        assert_eq!(client.request(&mut events, b"mine", 4), b"mine", "round {round}");
        if round % 2 == 0 {
            client.reset();
        } else {
            client.half_close();
            assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
        }
        turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
    }
    assert_eq!(events.stats().refused_source, 0);
}

#[test]
#[cfg(target_os = "linux")]
fn in_a_drain_a_full_listener_closes_when_its_backlog_is_empty() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_data(greet));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("listener.sock");
    let options = [Listen::from(loopback()), Listen::unix(&path)];
    let [tcp, _] = options.map(|at| events.listen_for(at.connections_max(2), handler).expect("a listener"));
    let address = events.local_addr(tcp).expect("the listener is open");
    let idle_clients = [Client::connect(address), Client::connect(address)];
    turn_until(&mut events, "the clients are accepted", |_| log.ids().len() == 2);
    let mut waiting = Client::connect(address);
    turn_until_idle(&mut events);
    events.context().drain(Duration::from_secs(600));
    turn_until(&mut events, "the path is free", |_| !path.exists());
    turn_until_idle(&mut events);
    events.local_addr(tcp).expect("the listener stays open while a client waits");
    let [first, second] = idle_clients;
    drop(first);
    turn_until(&mut events, "the waiting client is accepted", |_| log.ids().len() == 3);
    turn_until(&mut events, "the port is free", |events| events.local_addr(tcp).is_err());
    std::net::TcpListener::bind(address).expect("the port is free");
    assert_eq!(events.stats().connections, 2);
    waiting.send(b"Hello, TCP Server!");
    assert_eq!(waiting.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    drop(second);
    assert_eq!(turn_until_stopped(&mut events).finished, 3);
}
