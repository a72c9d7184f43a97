//! Loops inside other loops, and types that cross threads.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::hash::Hash;
use std::net::SocketAddr;
use std::time::Duration;

use halloo::{
    CloseReason, Connect, Connection, ConnectionId, DrainReport, Error, EventLoop, Handle, HandlerId, Listen,
    ListenerId, SourceId, Stats, TimerId, Turn, UdpSocketId, datagrams, stream,
};
use support::byte_pattern::byte_pattern;
use support::wait::TIMEOUT;

use crate::helpers::loopback::{any_port, loopback, udp_socket};
use crate::helpers::nonblocking_client::Client;
use crate::helpers::nonblocking_listener::Listener;
use crate::helpers::recording_handler::{CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle};

/// Returns a loop with an echo server, and the server's address.
fn echoing() -> (EventLoop<'static>, SocketAddr) {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    (events, address)
}

#[cfg(target_os = "linux")]
mod descriptor {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use std::os::fd::AsFd;

    /// Whether the descriptor becomes readable within `timeout`.
    fn is_readable(events: &EventLoop<'_>, timeout: Duration) -> bool {
        let mut watched = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).expect("it is short");
        poll(&mut watched, timeout).expect("poll works") == 1
    }

    #[test]
    fn the_descriptor_is_readable_only_while_the_loop_has_work() {
        let (mut events, address) = echoing();
        turn_until_idle(&mut events);
        assert!(!is_readable(&events, Duration::ZERO), "there is no client");
        let mut client = Client::connect(address);
        assert!(is_readable(&events, TIMEOUT), "a client is in the backlog");
        turn_until(&mut events, "the client is accepted", |events| events.stats().accepted == 1);
        turn_until_idle(&mut events);
        assert!(!is_readable(&events, Duration::ZERO), "the client is silent");
        client.send(b"hello");
        assert!(is_readable(&events, TIMEOUT), "input has arrived");
        turn_until(&mut events, "the echo", |_| client.has_received(5));
        turn_until_idle(&mut events);
        let handle = events.handle();
        std::thread::spawn(move || handle.post(|_| {})).join().expect("no panic").expect("the loop runs");
        assert!(is_readable(&events, TIMEOUT), "a job waits");
    }

    #[test]
    fn an_edge_triggered_outer_loop_that_turns_until_no_work_is_left_never_stalls() {
        let (mut events, address) = echoing();
        let text = byte_pattern(300_000);
        let outer = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll");
        let edges = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        outer.add(events.as_fd(), edges).expect("it can be watched");
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(address)).collect();
        let deadline = std::time::Instant::now() + TIMEOUT;
        for client in &mut clients {
            client.send(&text);
        }
        loop {
            for client in &mut clients {
                client.transfer();
            }
            if clients.iter().all(|client| client.received.len() == text.len()) {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "the loop stalls; {}", events.stats());
            // The loop is turned only after an edge. Its own deadlines come from `next_timeout`.
            let wait = EpollTimeout::try_from(Duration::from_millis(5)).expect("it is short");
            if outer.wait(&mut [EpollEvent::empty()], wait).expect("epoll works") > 0 {
                let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
                while events.next_timeout() == Some(Duration::ZERO) {
                    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
                }
            }
        }
        assert!(clients.iter().all(|client| client.received == text));
    }
}

#[test]
fn a_loop_can_be_turned_in_a_timer_of_another_loop() {
    let ((mut inner, to), server) = (echoing(), Listener::new());
    let mut outer = EventLoop::new().expect("a loop");
    let listener = outer.listen(loopback(), stream(greet)).expect("a listener");
    let proxy = inner.attach(stream(|connection, input| connection.try_write(input)));
    inner.context().connect(server.address(), proxy);
    outer.every(Duration::ZERO, |_| {
        let turn = inner.turn(Some(Duration::ZERO)).expect("the poll works");
        (!matches!(turn, Turn::Stopped(_)))
            .then(|| inner.next_timeout().unwrap_or(TIMEOUT).min(Duration::from_millis(1)))
    });
    let mut peer = server.accept(&mut outer);
    let mut clients = [Client::connect(to), Client::connect(outer.local_addr(listener).expect("the listener is open"))];
    assert_eq!(clients[0].request(&mut outer, b"hello", 5), b"hello");
    assert_eq!(clients[1].request(&mut outer, b"?", GREETING.len()), GREETING);
    assert_eq!(peer.request(&mut outer, b"and you", 7), b"and you");
}

#[test]
fn a_callback_may_send_to_and_close_other_connections_and_connect_new_ones() {
    let (log, server) = (CallLog::default(), Listener::new());
    let handler = Cell::new(None::<HandlerId>);
    let to = server.address();
    let mut events = EventLoop::new().expect("a loop");
    let probe = RecordingHandler::new(&log).on_data(|connection, input| {
        let others: Vec<ConnectionId> = log.ids().into_iter().filter(|id| *id != connection.id()).collect();
        let context = connection.context();
        for (id, message) in others.into_iter().zip([&b"goodbye"[..], b"welcome"]) {
            let mut other = context.connection(id).expect("the connection is open");
            other.send(message).expect("there is room");
            if message == b"goodbye" {
                other.close();
            }
        }
        let id = context.connect(Connect::from(to), handler.get().expect("the handler is attached"));
        context.connection(id).expect("it opens").send(b"come").expect("there is room");
        input.len()
    });
    handler.set(Some(events.attach(probe)));
    let listener = events.listen_for(loopback(), handler.get().expect("the handler is attached")).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut clients: Vec<Client> = Vec::new();
    for number in 1..=3 {
        clients.push(Client::connect(address));
        turn_until(&mut events, "the connection is open", |_| log.ids().len() == number);
    }
    clients[2].send(b"go");
    let mut peer = server.accept(&mut events);
    turn_until(&mut events, "all three", |_| {
        clients[0].has_reached_end() && clients[1].has_received(7) && peer.has_received(4)
    });
    assert_eq!((&clients[0].received[..], &clients[1].received[..]), (&b"goodbye"[..], &b"welcome"[..]));
    turn_until(&mut events, "the new connection is open", |_| log.ids().len() == 4);
}

#[test]
fn send_to_sends_in_the_same_turn_or_is_refused() {
    let (peer, received) = (udp_socket("127.0.0.1"), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let socket =
        events.bind(loopback(), datagrams(|_, payload| received.borrow_mut().push(payload.to_vec()))).expect("one");
    let (from, to) =
        (events.local_addr(socket).expect("the socket is open"), peer.local_addr().expect("the socket is bound"));
    assert!(events.context().send_to(socket, b"data", to));
    assert_eq!(events.next_timeout(), Some(Duration::ZERO), "the datagram is queued");
    assert_eq!(recv(&mut events, &peer), (b"data".to_vec(), from));
    assert!(!events.context().send_to(socket, b"?", SocketAddr::new(to.ip(), 0)), "port 0 is not a destination");
    assert!(!events.context().send_to(socket, &vec![0; 2_000_000], to), "the payload is longer than a datagram");
    let once = events.every(Duration::ZERO, move |context| {
        assert!(context.send_to(socket, b"from a tick", to));
        None
    });
    assert_eq!(recv(&mut events, &peer), (b"from a tick".to_vec(), from));
    assert!(!events.context().remove(once), "the timer has ended");
    // A socket may also send to its own address.
    assert!(events.context().send_to(socket, b"to myself", from));
    turn_until(&mut events, "the datagram is received", |_| !received.borrow().is_empty());
    assert!(events.context().send_to(socket, b"the last", to) && events.context().remove(socket));
    assert!(!events.context().send_to(socket, b"too late", to), "the socket is removed");
    assert_eq!(recv(&mut events, &peer), (b"the last".to_vec(), from));
    let other = events.bind(any_port("127.0.0.1"), datagrams(|_, _| {})).expect("a socket");
    assert!(
        !events.context().send_to(socket, b"too late", to),
        "an old id does not name the socket that reuses its slot"
    );
    assert!(events.context().send_to(other, b"another", to));
    assert_eq!(recv(&mut events, &peer).0, b"another");
    assert_eq!((events.stats().datagrams_sent, events.stats().datagrams_dropped), (5, 0));
}

#[test]
fn handles_and_ids_are_send_and_loops_are_not() {
    trait AmbiguousIf<Why> {
        fn assert_not_send() {}
    }
    struct Marker;
    impl<T: ?Sized> AmbiguousIf<()> for T {}
    impl<T: ?Sized + Send> AmbiguousIf<Marker> for T {}
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn plain<T: Send + Sync + Copy + Eq + Hash + Ord + Debug + 'static>() {}
    fn sent<T: Send + Debug + 'static>() {}
    // Compiles only while `EventLoop` is not `Send`: otherwise both impls match.
    <EventLoop<'static> as AmbiguousIf<_>>::assert_not_send();
    shared::<Handle>();
    plain::<ConnectionId>();
    plain::<HandlerId>();
    plain::<ListenerId>();
    plain::<UdpSocketId>();
    plain::<TimerId>();
    sent::<SourceId>();
    sent::<(Listen, Connect, Stats, Error, CloseReason, DrainReport)>();
}

#[test]
fn no_id_of_any_kind_is_issued_twice() {
    let (log, server) = (CallLog::default(), Listener::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_open(|connection: &mut Connection<'_>| {
        connection.abort();
        true
    }));
    let (mut connections, mut timers, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..30 {
        connections.push(events.context().connect(server.address(), handler));
        timers.push(events.context().schedule(handler, Duration::ZERO, 0));
        timers.push(events.every(Duration::ZERO, |_| None));
        listeners.push(events.listen_for(loopback(), handler).expect("a listener"));
        events.context().remove(*listeners.last().expect("one"));
        drop(server.accept(&mut events));
        turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
    }
    let count = |ids: &mut Vec<String>| {
        ids.sort();
        ids.dedup();
        ids.len()
    };
    assert_eq!(count(&mut connections.iter().map(|id| format!("{id:?}")).collect()), 30);
    assert_eq!(count(&mut timers.iter().map(|id| format!("{id:?}")).collect()), 60);
    assert_eq!(count(&mut listeners.iter().map(|id| format!("{id:?}")).collect()), 30);
    assert!(connections.iter().all(|id| events.context().connection(*id).is_none()));
    assert!(!timers.iter().any(|id| events.context().remove(*id)));
    assert!(!listeners.iter().any(|id| events.context().remove(*id)));
}
