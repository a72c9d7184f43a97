//! A listener with descriptors in reserve, in a process without free descriptors.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

use halloo::{CloseReason, EventLoop, Listen, ListenerId, stream};
use socket2::{Domain, Socket, Type};
use support::process::rlimit::set_fd_limit;
use support::wait::TIMEOUT;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle};
use crate::memory::own_process::in_own_process;

/// The descriptor limit of the tests. The test program, two loops and their listeners need less.
const FDS_MAX: u64 = 64;

/// Descriptors above the limit that the process may have inherited.
const INHERITED_FDS_MAX: u64 = 64;

/// Unconnected sockets of clients. Those with a number above the limit can be closed without freeing a descriptor below.
struct ClientSockets {
    below: Vec<Socket>,
    above: Vec<Socket>,
}

impl ClientSockets {
    /// Opens `count` sockets above the limit and uses every descriptor below it. Then the process has none left.
    fn exhaust_descriptors(count: usize) -> Self {
        set_fd_limit(FDS_MAX + INHERITED_FDS_MAX + count as u64);
        let (mut below, mut above) = (Vec::new(), Vec::new());
        while above.len() < count {
            let socket = new_socket().expect("a descriptor below the limit");
            let is_below = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&socket)).expect("a number") < FDS_MAX;
            if is_below { below.push(socket) } else { above.push(socket) }
        }
        set_fd_limit(FDS_MAX);
        assert!(new_socket().is_err(), "a descriptor is left");
        Self { below, above }
    }

    /// Connects one of them.
    fn connect(&mut self, to: SocketAddr) -> Client {
        let socket = self.above.pop().expect("a socket is left");
        socket.connect_timeout(&to.into(), TIMEOUT).expect("the listener is there");
        Client::new(socket)
    }
}

fn new_socket() -> std::io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, None)
}

/// Opens a listener with a reserve.
fn listen_with_reserve(events: &mut EventLoop<'_>, descriptors: u32) -> (ListenerId, SocketAddr) {
    let at = Listen::from(loopback()).descriptor_reserve(descriptors).idle_timeout(None);
    let listener = events.listen(at, stream(greet)).expect("a listener");
    (listener, events.local_addr(listener).expect("it is open"))
}

#[test]
fn without_a_free_descriptor_a_listener_with_a_reserve_serves_1000_clients_next_to_a_busy_one() {
    in_own_process(|| {
        let (send_address, address) = mpsc::channel();
        let (send_stats, stats) = mpsc::channel();
        // Its clients wait for descriptors all the time.
        let busy = std::thread::spawn(move || {
            let mut events = EventLoop::new().expect("a loop");
            let at = Listen::from(loopback()).connections_max(1_000).idle_timeout(None);
            let listener = events.listen(at, stream(echo)).expect("a listener");
            let address = events.local_addr(listener).expect("it is open");
            send_address.send((address, events.handle())).expect("the test waits");
            events.run().expect("the poll works");
            send_stats.send(events.stats().clone()).expect("the test waits");
        });
        let (busy_address, handle) = address.recv().expect("the thread runs");
        let mut events = EventLoop::new().expect("a loop");
        let (_, to) = listen_with_reserve(&mut events, 4);
        let mut sockets = ClientSockets::exhaust_descriptors(1_050);
        let waiting: Vec<Client> = (0..50).map(|_| sockets.connect(busy_address)).collect();
        for number in 0..1_000 {
            let mut client = sockets.connect(to);
            client.send(b"?");
            assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof), "client {number}");
        }
        let served = events.stats().closed(CloseReason::Local);
        assert!(served >= 999 && events.stats().pauses == 0, "{}", events.stats());
        drop((waiting, sockets));
        handle.stop().expect("the loop runs");
        busy.join().expect("no panic");
        let busy_stats = stats.recv().expect("it was sent");
        assert!(busy_stats.accept_errors > 0, "it had descriptors: {busy_stats}");
    });
}

#[test]
fn beyond_its_reserve_clients_wait_until_a_connection_of_the_listener_closes() {
    in_own_process(|| {
        let mut events = EventLoop::new().expect("a loop");
        let (_, to) = listen_with_reserve(&mut events, 3);
        let mut sockets = ClientSockets::exhaust_descriptors(20);
        for round in 0..3 {
            let mut clients: Vec<Client> = (0..5).map(|_| sockets.connect(to)).collect();
            turn_until(&mut events, "three are accepted", |events| events.stats().connections == 3);
            turn_until_idle(&mut events);
            assert_eq!(events.stats().connections, 3, "in round {round}");
            for mut client in clients.drain(..) {
                assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
            }
            turn_until(&mut events, "all are closed", |events| events.stats().connections == 0);
        }
    });
}

#[test]
fn a_reserve_in_use_is_taken_back_when_other_descriptors_are_free() {
    in_own_process(|| {
        let mut events = EventLoop::new().expect("a loop");
        let (_, to) = listen_with_reserve(&mut events, 2);
        let mut sockets = ClientSockets::exhaust_descriptors(20);
        let mut clients: Vec<Client> = (0..2).map(|_| sockets.connect(to)).collect();
        turn_until(&mut events, "they are accepted", |events| events.stats().connections == 2);
        // Two descriptors are free. Nothing reports this to the loop, and no client connects.
        sockets.below.truncate(sockets.below.len() - 2);
        turn_until(&mut events, "the descriptors are reserved", |_| new_socket().is_err());
        clients.extend((0..2).map(|_| sockets.connect(to)));
        turn_until(&mut events, "more are accepted", |events| events.stats().connections == 4);
        for mut client in clients {
            assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
        }
        turn_until(&mut events, "all are closed", |events| events.stats().connections == 0);
        let free: Vec<Socket> = std::iter::from_fn(|| new_socket().ok()).collect();
        assert_eq!(free.len(), 2, "the reserve is full, and the rest is free");
    });
}

#[test]
fn a_handler_sees_how_many_descriptors_are_left_and_only_an_accept_with_a_client_counts_as_failed() {
    in_own_process(|| {
        let mut events = EventLoop::new().expect("a loop");
        let at = Listen::from(loopback()).descriptor_reserve(3).idle_timeout(None);
        let tell = |connection: &mut halloo::Connection<'_>, input: &[u8]| {
            let _ = connection.send(connection.reserved_descriptors().to_string().as_bytes());
            input.len()
        };
        let listener = events.listen(at, stream(tell)).expect("a listener");
        let to = events.local_addr(listener).expect("it is open");
        let mut sockets = ClientSockets::exhaust_descriptors(20);
        let mut clients: Vec<Client> = Vec::new();
        for left in ["2", "1", "0"] {
            clients.push(sockets.connect(to));
            let client = clients.last_mut().expect("it was added");
            assert_eq!(client.request(&mut events, b"?", 1), left.as_bytes());
        }
        turn_until_idle(&mut events);
        assert_eq!(events.stats().accept_errors, 3, "one for each client");
        drop(clients.pop());
        turn_until(&mut events, "it is closed", |events| events.stats().connections == 2);
        assert_eq!(clients[0].request(&mut events, b"?", 1), b"1");
        sockets.below.truncate(sockets.below.len() - 2);
        turn_until(&mut events, "the descriptors are reserved", |_| new_socket().is_err());
        assert_eq!(clients[0].request(&mut events, b"?", 1), b"3");
    });
}

#[test]
fn a_refused_client_gives_its_descriptor_back_to_the_reserve() {
    in_own_process(|| {
        let mut events = EventLoop::new().expect("a loop");
        let at = Listen::from(loopback()).descriptor_reserve(1).connections_per_source_max(1);
        let at = at.when_full(halloo::WhenFull::Refuse).connections_max(1);
        let listener = events.listen(at, stream(greet)).expect("a listener");
        let to = events.local_addr(listener).expect("it is open");
        let mut sockets = ClientSockets::exhaust_descriptors(20);
        // One descriptor for the client that stays, and one for those that are refused.
        sockets.below.truncate(sockets.below.len() - 1);
        let mut first = sockets.connect(to);
        turn_until(&mut events, "it is accepted", |events| events.stats().connections == 1);
        for _ in 0..5 {
            assert_eq!(sockets.connect(to).read_to_end(&mut events).0, b"");
        }
        assert_eq!((events.stats().refused_full, events.stats().pauses), (5, 0));
        assert_eq!(first.request(&mut events, b"?", GREETING.len()), GREETING);
    });
}

#[test]
fn a_listener_with_a_reserve_frees_its_address_when_it_is_removed_or_drained() {
    let mut events = EventLoop::new().expect("a loop");
    let (listener, address) = listen_with_reserve(&mut events, 4);
    let mut open = Client::connect(address);
    turn_until(&mut events, "it is accepted", |events| events.stats().connections == 1);
    assert!(events.context().remove(listener));
    drop(TcpListener::bind(address).expect("the address is free"));
    assert_eq!(open.request(&mut events, b"?", GREETING.len()), GREETING);

    let mut drained = EventLoop::new().expect("a loop");
    let (_, address) = listen_with_reserve(&mut drained, 4);
    drained.context().drain(TIMEOUT);
    let report = RefCell::new(None);
    turn_until(&mut drained, "the end", |events| {
        if let Ok(halloo::Turn::Stopped(stopped)) = events.turn(Some(std::time::Duration::ZERO)) {
            report.replace(Some(stopped));
        }
        report.borrow().is_some()
    });
    TcpListener::bind(address).expect("the address is free");
}

#[test]
fn opening_fails_without_descriptors_for_the_reserve_and_leaves_none_in_use() {
    in_own_process(|| {
        let mut events = EventLoop::new().expect("a loop");
        set_fd_limit(FDS_MAX);
        let count = || {
            let opened: Vec<Socket> = std::iter::from_fn(|| new_socket().ok()).collect();
            opened.len()
        };
        let (before, address) = (count(), Cell::new(loopback()));
        let at = Listen::from(address.get()).descriptor_reserve(1_000);
        let error = events.listen(at, stream(greet)).expect_err("there are fewer");
        assert_eq!(error.kind(), halloo::ErrorKind::Listen);
        assert!(error.to_string().to_lowercase().contains("too many open files"), "{error}");
        assert_eq!(count(), before);
        listen_with_reserve(&mut events, 4);
        assert_eq!(count(), before - 5, "a listener and its reserve");
    });
}
