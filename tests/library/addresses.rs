//! Addresses: which ones connections and sockets say they have, and the removal of listeners and sockets.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use halloo::{Connection, ErrorKind, EventLoop, Listen, SourceId, datagrams, stream};

use crate::support::{
    Client, GREETING, Notes, Probe, at, greet, loopback, receive, turn_until, turn_until_asleep, udp_peer,
};

/// Whether the machine has IPv6; said aloud where it has not, since the test then proves nothing.
fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("SKIPPED: this machine has no IPv6");
    }
    has
}

/// Listens at `bound` and has a client ask at `asked`; tells the connection's local and peer address, and the client's.
fn addresses(bound: &str, asked: &str) -> (SocketAddr, SocketAddr, SocketAddr) {
    let said = Cell::new(None);
    let mut events = EventLoop::new().expect("a loop");
    let listener = events
        .listen(
            at(bound),
            stream(|connection, input| {
                said.set(connection.local_addr().zip(connection.peer_addr()));
                greet(connection, input)
            }),
        )
        .expect("a listener");
    let port = events.local_addr(listener).expect("it is there").port();
    let mut client = Client::connect(SocketAddr::new(asked.parse().expect("an address"), port));
    let own = client.local_addr();
    assert_eq!(client.ask(&mut events, b"?", GREETING.len()), GREETING);
    let (local, peer) = said.get().expect("it was asked");
    assert_eq!(local.port(), port);
    (local, peer, own)
}

#[test]
fn a_connection_of_one_address_has_the_listeners() {
    let (local, peer, client) = addresses("127.0.0.2", "127.0.0.2");
    assert_eq!((local.ip(), peer), (at("127.0.0.2").ip(), client));
}

#[test]
fn a_connection_of_every_address_has_the_one_that_was_asked() {
    for asked in ["127.0.0.1", "127.0.0.2"] {
        let (local, peer, client) = addresses("0.0.0.0", asked);
        assert_eq!((local.ip(), peer), (at(asked).ip(), client));
    }
}

#[test]
fn on_the_ipv6_wildcard_an_ipv4_client_shows_its_ipv4_address() {
    if has_ipv6() {
        let (local, peer, client) = addresses("::", "127.0.0.2");
        assert_eq!((local.ip(), peer), (at("127.0.0.2").ip(), client));
        let (local, peer, client) = addresses("::", "::1");
        assert_eq!((local.ip(), peer), (at("::1").ip(), client));
    }
}

#[test]
fn an_ipv6_wildcard_leaves_ipv4_alone_where_it_is_asked_to() {
    if has_ipv6() {
        let mut events = EventLoop::new().expect("a loop");
        let listener = events.listen(Listen::from(at("::")).only_v6(true), greet).expect("a listener");
        let port = events.local_addr(listener).expect("it is there").port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        let mut client = Client::connect(SocketAddr::new(at("::1").ip(), port));
        assert_eq!(client.ask(&mut events, b"?", GREETING.len()), GREETING);
    }
}

#[test]
fn each_connection_keeps_its_own_local_address_when_slots_are_used_again() {
    let said: RefCell<Vec<IpAddr>> = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let note = |connection: &mut Connection<'_>, input: &[u8]| {
        said.borrow_mut().push(connection.local_addr().expect("an IP socket").ip());
        greet(connection, input)
    };
    let everywhere = events.listen(at("0.0.0.0"), note).expect("a listener");
    let one = events.listen(at("127.0.0.3"), note).expect("a listener");
    let (everywhere, one) = (events.local_addr(everywhere).expect("there"), events.local_addr(one).expect("there"));
    let mut expected = Vec::new();
    for host in ["127.0.0.1", "127.0.0.3", "127.0.0.2", "127.0.0.3"] {
        let to = if host == "127.0.0.3" { one } else { SocketAddr::new(at(host).ip(), everywhere.port()) };
        expected.push(to.ip());
        let mut client = Client::connect(to);
        assert_eq!(client.ask(&mut events, b"?", GREETING.len()), GREETING);
        drop(client);
        turn_until(&mut events, "the connection is over", |events| events.stats().connections == 0);
    }
    assert_eq!(*said.borrow(), expected);
}

#[test]
fn a_removed_listener_is_gone_and_its_connections_live_on() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = Probe::new(&notes).on_data(|connection, input| {
        assert!(connection.listener().is_some() && connection.local_addr().is_some());
        connection.write(input)
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("it is there");
    let mut client = Client::connect(address);
    assert_eq!(client.ask(&mut events, b"before", 6), b"before");

    assert!(events.context().remove(listener));
    assert!(!events.context().remove(listener), "it is gone already");
    assert_eq!(events.local_addr(listener).expect_err("it is gone").kind(), ErrorKind::Unknown);
    turn_until_asleep(&mut events);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    assert_eq!(client.ask(&mut events, b"after", 5), b"after");

    let next = events.listen(loopback(), greet).expect("a listener");
    assert_ne!(next, listener);
    assert!(!events.context().remove(listener), "an id is never given again");
    assert_eq!(client.ask(&mut events, b"and on", 6), b"and on");
    let next = events.local_addr(next).expect("it is there");
    assert_eq!(Client::connect(next).ask(&mut events, b"?", GREETING.len()), GREETING);
}

#[test]
fn a_callback_can_remove_its_own_listener_while_others_wait_in_the_backlog() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        if let Some(listener) = connection.listener() {
            connection.context().remove(listener);
        }
        greet(connection, input)
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("it is there");
    let mut first = Client::connect(address);
    first.say(b"?");
    let mut others: Vec<Client> = (0..5).map(|_| Client::connect(address)).collect();
    assert_eq!(first.ask(&mut events, b"", GREETING.len()), GREETING);
    turn_until_asleep(&mut events);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    assert!(events.local_addr(listener).is_err());
    for other in &mut others {
        other.say(b"?");
        assert!([b"", GREETING].contains(&other.read_to_end(&mut events).0), "served or cut, not left hanging");
    }
}

#[test]
fn a_removed_socket_is_gone() {
    let mut events = EventLoop::new().expect("a loop");
    let echo = || datagrams(|datagram, payload| assert!(datagram.reply(payload)));
    let socket = events.bind(loopback(), echo()).expect("a socket");
    let address = events.local_addr(socket).expect("it is there");
    let peer = udp_peer("127.0.0.1");
    peer.send_to(b"before", address).expect("it is sent");
    assert_eq!(receive(&mut events, &peer), (b"before".to_vec(), address));

    assert!(events.context().remove(socket));
    assert!(!events.context().remove(socket), "it is gone already");
    assert_eq!(events.local_addr(socket).expect_err("it is gone").kind(), ErrorKind::Unknown);
    turn_until_asleep(&mut events);
    UdpSocket::bind(address).expect("the port is free again");
    let next = events.bind(loopback(), echo()).expect("a socket");
    assert_ne!(next, socket);
    assert!(!events.context().remove(socket), "an id is never given again");
    let address = events.local_addr(next).expect("it is there");
    peer.send_to(b"after", address).expect("it is sent");
    assert_eq!(receive(&mut events, &peer), (b"after".to_vec(), address));
}

#[test]
fn a_datagram_that_removes_its_own_socket_is_answered_all_the_same_or_counted_as_lost() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = datagrams(|datagram, payload| {
        assert!(datagram.reply(payload));
        let socket = datagram.socket();
        assert!(datagram.context().remove(socket));
    });
    let socket = events.bind(loopback(), handler).expect("a socket");
    let address = events.local_addr(socket).expect("it is there");
    udp_peer("127.0.0.1").send_to(b"last", address).expect("it is sent");
    turn_until(&mut events, "it is gone", |events| events.local_addr(socket).is_err());
    turn_until_asleep(&mut events);
    let stats = events.stats();
    assert_eq!((stats.datagrams_received, stats.datagrams_sent + stats.datagrams_dropped), (1, 1));
}

#[test]
fn ids_of_listeners_and_sockets_are_told_apart() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), greet).expect("a listener");
    let socket = events.bind(loopback(), datagrams(|_, _| {})).expect("a socket");
    let (one, other) = (SourceId::from(listener), SourceId::from(socket));
    assert_ne!(one, other);
    assert_ne!(events.local_addr(one).expect("there"), events.local_addr(other).expect("there"));
    assert!(events.context().remove(other) && !events.context().remove(other));
    assert!(events.local_addr(listener).is_ok(), "the listener is untouched");
}
