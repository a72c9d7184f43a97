//! The removal of listeners and UDP sockets.

use std::cell::{Cell, RefCell};
use std::net::{TcpStream, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use halloo::{Connection, ErrorKind, EventLoop, Listen, ListenerId, SourceId, StreamHandler, Turn, datagrams, stream};

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::recording_handler::{CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle};

#[test]
fn connections_of_a_removed_listener_stay_open() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        assert!(connection.listener().is_some() && connection.local_addr().is_some());
        connection.try_write(input)
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut client = Client::connect(address);
    assert_eq!(client.request(&mut events, b"before", 6), b"before");

    assert!(events.context().remove(listener));
    assert!(!events.context().remove(listener), "the listener is already removed");
    assert_eq!(events.local_addr(listener).expect_err("the listener is removed").kind(), ErrorKind::UnknownId);
    turn_until_idle(&mut events);
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
    assert_eq!(client.request(&mut events, b"after", 5), b"after");

    let next = events.listen(loopback(), stream(greet)).expect("a listener");
    assert_ne!(next, listener);
    assert!(!events.context().remove(listener), "an id is never reused");
    assert_eq!(client.request(&mut events, b"and on", 6), b"and on");
    let next = events.local_addr(next).expect("the listener is open");
    assert_eq!(Client::connect(next).request(&mut events, b"?", GREETING.len()), GREETING);
}

#[test]
fn input_at_a_duplicate_of_a_removed_socket_does_not_wake_the_loop() {
    let listener = std::net::TcpListener::bind(loopback()).expect("a free port");
    let socket = UdpSocket::bind(loopback()).expect("a free port");
    let (listener_copy, socket_copy) = (listener.try_clone().expect("a copy"), socket.try_clone().expect("a copy"));
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(listener, stream(greet)).expect("it listens");
    let socket = events.bind(socket, datagrams(|_, _| {})).expect("a socket");
    assert!(events.context().remove(listener) && events.context().remove(socket));
    turn_until_idle(&mut events);
    let _client =
        TcpStream::connect(listener_copy.local_addr().expect("the socket is bound")).expect("the copy listens");
    let to = socket_copy.local_addr().expect("the socket is bound");
    udp_socket("127.0.0.1").send_to(b"?", to).expect("the datagram is sent");
    assert_eq!(events.turn(Some(Duration::ZERO)).expect("the poll works"), Turn::Idle);
    assert_eq!(events.stats().events, 0);
}

#[test]
fn a_callback_can_remove_its_own_listener_while_clients_wait_in_the_backlog() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = stream(|connection, input| {
        if let Some(listener) = connection.listener() {
            connection.context().remove(listener);
        }
        greet(connection, input)
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut first = Client::connect(address);
    first.send(b"?");
    let mut others: Vec<Client> = (0..5).map(|_| Client::connect(address)).collect();
    assert_eq!(first.request(&mut events, b"", GREETING.len()), GREETING);
    turn_until_idle(&mut events);
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
    assert!(events.local_addr(listener).is_err());
    for other in &mut others {
        other.send(b"?");
        assert!([b"", GREETING].contains(&other.read_to_end(&mut events).0), "each client is served or closed");
    }
}

#[test]
fn a_removed_socket_is_closed_and_its_id_is_unknown() {
    let mut events = EventLoop::new().expect("a loop");
    let echo = || datagrams(|datagram, payload| assert!(datagram.reply(payload)));
    let socket = events.bind(loopback(), echo()).expect("a socket");
    let address = events.local_addr(socket).expect("the socket is open");
    let peer = udp_socket("127.0.0.1");
    peer.send_to(b"before", address).expect("the datagram is sent");
    assert_eq!(recv(&mut events, &peer), (b"before".to_vec(), address));

    assert!(events.context().remove(socket));
    assert!(!events.context().remove(socket), "the socket is already removed");
    assert_eq!(events.local_addr(socket).expect_err("the socket is removed").kind(), ErrorKind::UnknownId);
    turn_until_idle(&mut events);
    UdpSocket::bind(address).expect("the port is free again");
    let next = events.bind(loopback(), echo()).expect("a socket");
    assert_ne!(next, socket);
    assert!(!events.context().remove(socket), "an id is never reused");
    let address = events.local_addr(next).expect("the listener is open");
    peer.send_to(b"after", address).expect("the datagram is sent");
    assert_eq!(recv(&mut events, &peer), (b"after".to_vec(), address));
}

#[test]
fn a_reply_before_the_removal_of_its_socket_is_sent_or_counted_as_dropped() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = datagrams(|datagram, payload| {
        assert!(datagram.reply(payload));
        let socket = datagram.socket();
        assert!(datagram.context().remove(socket));
    });
    let socket = events.bind(loopback(), handler).expect("a socket");
    let address = events.local_addr(socket).expect("the socket is open");
    udp_socket("127.0.0.1").send_to(b"last", address).expect("the datagram is sent");
    turn_until(&mut events, "the socket is removed", |events| events.local_addr(socket).is_err());
    turn_until_idle(&mut events);
    let stats = events.stats();
    assert_eq!((stats.datagrams_received, stats.datagrams_sent + stats.datagrams_dropped), (1, 1));
}

#[test]
fn a_removed_socket_delivers_no_datagram_although_some_have_arrived() {
    for removes_itself in [true, false] {
        let calls = Cell::new(0);
        let mut events = EventLoop::new().expect("a loop");
        let handler = datagrams(|datagram, _| {
            calls.set(calls.get() + 1);
            let socket = datagram.socket();
            assert!(datagram.context().remove(socket));
        });
        let socket = events.bind(loopback(), handler).expect("a socket");
        let (peer, address) = (udp_socket("127.0.0.1"), events.local_addr(socket).expect("the socket is open"));
        for _ in 0..20 {
            peer.send_to(b"more", address).expect("the datagram is sent");
        }
        if !removes_itself {
            assert!(events.context().remove(socket));
        }
        turn_until(&mut events, "the socket is removed", |events| events.local_addr(socket).is_err());
        turn_until_idle(&mut events);
        assert_eq!(calls.get(), u32::from(removes_itself));
    }
}

#[test]
fn a_reply_through_a_removed_socket_is_refused_and_earlier_replies_are_sent() {
    let outcomes = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = datagrams(|datagram, payload| {
        let (socket, peer, local) = (datagram.socket(), datagram.peer_addr(), datagram.local_addr());
        assert!(datagram.reply(b"first") && datagram.context().send_to(socket, b"second", peer));
        assert!(datagram.context().remove(socket));
        outcomes.borrow_mut().extend([datagram.reply(payload), datagram.context().send_to(socket, b"?", peer)]);
        assert_eq!(datagram.local_addr(), local, "local_addr stays the same");
    });
    let socket = events.bind(loopback(), handler).expect("a socket");
    let (peer, address) = (udp_socket("127.0.0.1"), events.local_addr(socket).expect("the socket is open"));
    for _ in 0..5 {
        peer.send_to(b"last", address).expect("the datagram is sent");
    }
    assert_eq!(recv(&mut events, &peer), (b"first".to_vec(), address));
    assert_eq!(recv(&mut events, &peer), (b"second".to_vec(), address));
    turn_until_idle(&mut events);
    let stats = events.stats();
    assert_eq!((stats.datagrams_received, stats.datagrams_sent, stats.datagrams_dropped), (1, 2, 0));
    assert_eq!((&outcomes.borrow()[..], stats.replies_refused()), (&[false, false][..], 1));
    UdpSocket::bind(address).expect("the port is free");
}

#[test]
fn the_port_of_a_removed_socket_is_free_at_once() {
    let mut events = EventLoop::new().expect("a loop");
    let peer = udp_socket("127.0.0.1");
    let bind = |events: &mut EventLoop<'_>| {
        let socket = events.bind(loopback(), datagrams(|_, _| {})).expect("a socket");
        (socket, events.local_addr(socket).expect("the socket is open"))
    };
    let (idle, address) = bind(&mut events);
    assert!(events.context().remove(idle));
    let taken = UdpSocket::bind(address).expect("the port is free between two turns");
    let (queued, address) = bind(&mut events);
    assert!(events.context().send_to(queued, b"leaves", peer.local_addr().expect("the socket is bound")));
    assert!(events.context().remove(queued));
    let again = events.bind(address, datagrams(|_, _| {})).expect("the queued datagram was sent, and the port is free");
    assert_eq!(recv(&mut events, &peer), (b"leaves".to_vec(), address));
    assert!(!events.context().remove(queued) && events.context().remove(again));
    drop(taken);
}

#[test]
fn the_handler_of_a_removed_socket_is_dropped_at_the_end_of_the_turn() {
    let alive = Rc::new(());
    let kept = Rc::clone(&alive);
    let mut events = EventLoop::new().expect("a loop");
    let socket = events.bind(loopback(), datagrams(move |_, _| drop(Rc::clone(&kept)))).expect("a socket");
    assert!(events.context().remove(socket));
    assert_eq!(Rc::strong_count(&alive), 2, "no handler is dropped while a callback may run");
    turn_until_idle(&mut events);
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[test]
fn ids_of_listeners_and_sockets_differ() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    let socket = events.bind(loopback(), datagrams(|_, _| {})).expect("a socket");
    let (one, other) = (SourceId::from(listener), SourceId::from(socket));
    assert_ne!(one, other);
    assert_ne!(
        events.local_addr(one).expect("the listener is open"),
        events.local_addr(other).expect("the listener is open")
    );
    assert!(events.context().remove(other) && !events.context().remove(other));
    assert!(events.local_addr(listener).is_ok(), "the listener stays open");
}

#[test]
fn an_address_removed_between_two_turns_is_free_at_once() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    assert!(events.context().remove(listener));
    events.listen(address, stream(echo)).expect("the address is free");
    let socket = events.bind(loopback(), datagrams(|_, _| {})).expect("a socket");
    let address = events.local_addr(socket).expect("the socket is open");
    assert!(events.context().remove(socket));
    events.bind(address, datagrams(|_, _| {})).expect("the address is free");
}

/// A handler whose session type has no value.
struct RefusingHandler;

impl StreamHandler for RefusingHandler {
    type Session = std::convert::Infallible;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<Self::Session> {
        None
    }

    fn on_data(&mut self, _: &mut Connection<'_>, session: &mut Self::Session, _: &[u8]) -> usize {
        match *session {}
    }
}

#[test]
fn a_handler_whose_sessions_cannot_exist_refuses_every_client() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RefusingHandler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
}

#[test]
fn a_listener_removed_in_on_open_accepts_no_further_client() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(|connection| {
        let listener = connection.listener().expect("the connection was accepted");
        assert!(connection.context().remove(listener));
        true
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(address)).collect();
    turn_until(&mut events, "one is open", |_| !log.ids().is_empty());
    turn_until_idle(&mut events);
    assert_eq!((log.ids().len(), events.stats().accepted), (1, 1));
    assert_eq!(clients[0].request(&mut events, b"?", 0), b"", "the first is served");
    for client in &mut clients[1..] {
        assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Reset, "the kernel resets the rest of the backlog");
    }
}

/// A callback removes its own listener. Then another loop listens at the same address.
fn assert_free_in_the_same_turn(at: &Listen, connect: impl Fn(&EventLoop<'_>, ListenerId) -> Client) {
    let mut next = EventLoop::new().expect("a loop");
    let mut events = EventLoop::new().expect("a loop");
    let mut to = None;
    let handler = stream(|connection, input| {
        let listener = connection.listener().expect("the connection was accepted");
        assert!(connection.context().remove(listener));
        // With port 0, the port that the kernel chose.
        let at = connection.local_addr().map_or_else(|| at.clone(), Listen::from);
        to = Some(next.listen(at, stream(greet)).expect("the address is free"));
        connection.try_write(input)
    });
    let listener = events.listen(at.clone(), handler).expect("a listener");
    let mut client = connect(&events, listener);
    assert_eq!(client.request(&mut events, b"hello", 5), b"hello");
    drop(events);
    let mut client = connect(&next, to.expect("the second loop listens"));
    assert_eq!(client.request(&mut next, b"?", GREETING.len()), GREETING);
}

#[test]
fn the_address_of_a_removed_listener_is_free_in_the_same_turn() {
    assert_free_in_the_same_turn(&loopback().into(), |events, listener| {
        Client::connect(events.local_addr(listener).expect("the listener is open"))
    });
}

#[cfg(unix)]
#[test]
fn the_path_of_a_removed_listener_is_free_in_the_same_turn_and_between_turns() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let at = Listen::unix(&path);
    assert_free_in_the_same_turn(&at, |_, _| Client::connect_unix(&path));
    let mut events = EventLoop::new().expect("a loop");
    for _ in 0..3 {
        let listener = events.listen(at.clone(), stream(greet)).expect("the path is free");
        let mut client = Client::connect_unix(&path);
        assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
        assert!(events.context().remove(listener));
        assert!(!path.exists(), "its file is removed at once");
    }
}
