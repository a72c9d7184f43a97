//! `connect`: success, failure and timeout.
//!
//! Each connection opens or fails once, after `connect` has returned.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use halloo::{CloseReason, Connect, Connection, ConnectionId, Context, EventLoop, HandlerId, framing, stream};

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::nonblocking_listener::{FullBacklog, Listener, unused_address};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, echo};
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

#[test]
fn an_outbound_connection_is_served_like_any_other() {
    let (log, server) = (CallLog::default(), Listener::new());
    let local_addr = Cell::new(None);
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(
        RecordingHandler::new(&log)
            .on_open(|connection| {
                local_addr.set(Some((connection.peer_addr(), connection.local_addr(), connection.handler())));
                assert_eq!(connection.listener(), None, "an outbound connection has no listener");
                connection.send(b"Hello, TCP Server!").is_ok()
            })
            .on_data(|connection, input| {
                connection.close();
                input.len()
            }),
    );
    let id = events.context().connect(server.address(), handler);
    assert_eq!(log.all(), [], "a callback came before connect returned");
    let connection = events.context().connection(id).expect("the connection is opening");
    assert_eq!((connection.id(), connection.handler(), connection.listener()), (id, handler, None));
    assert_eq!((connection.peer_addr(), connection.local_addr()), (Some(server.address()), None));
    let mut peer = server.accept(&mut events);
    turn_until(&mut events, "the question", |_| peer.has_received(18));
    assert_eq!(peer.received, b"Hello, TCP Server!");
    peer.send(GREETING);
    peer.received.clear();
    assert_eq!(peer.read_to_end(&mut events), (&b""[..], StreamEnd::Eof));
    drop(peer);
    turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
    let expected = [Call::Open, Call::Data(GREETING.to_vec()), Call::Closed(CloseReason::Local)];
    assert_eq!(log.of(id), expected);
    let (peer, local, of) = local_addr.get().expect("the connection was open");
    assert_eq!((peer, of), (Some(server.address()), handler));
    assert!(local.is_some_and(|local| local.ip().is_loopback() && local.port() != 0), "{local:?}");
    assert!(events.context().connection(id).is_none(), "the connection is closed");
    assert_eq!((events.stats().connects, events.stats().connect_errors, events.stats().accepted), (1, 0, 0));
}

#[test]
fn a_refused_connect_fails_once_and_leaves_no_state() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let id = events.context().connect(unused_address(), handler);
    assert_eq!(log.all(), [], "a failure comes after connect has returned");
    turn_until(&mut events, "the failure", |_| !log.connect_errors().is_empty());
    turn_until_idle(&mut events);
    assert_eq!(log.of(id), [Call::Failed(io::ErrorKind::ConnectionRefused)]);
    let stats = events.stats();
    assert_eq!((stats.connects, stats.connect_errors, stats.connections, stats.closed_total()), (1, 1, 0, 0));
}

#[test]
fn a_connect_to_an_unreachable_address_fails() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let unreachable: Vec<SocketAddr> = ["127.0.0.1:0", "[::1]:0", "255.255.255.255:9", "224.0.0.1:9"]
        .map(|address| address.parse().expect("an address"))
        .to_vec();
    let ids = unreachable.iter().map(|to| Connect::from(*to).timeout(Duration::from_secs(1)));
    let ids: Vec<ConnectionId> = ids.map(|to| events.context().connect(to, handler)).collect();
    turn_until(&mut events, "four failures", |_| log.connect_errors().len() == 4);
    for id in ids {
        assert!(matches!(log.of(id)[..], [Call::Failed(_)]), "{:?}", log.of(id));
    }
    turn_until_idle(&mut events);
}

#[test]
fn an_unanswered_connect_fails_at_its_timeout_but_not_before() {
    let (log, full_backlog) = (CallLog::default(), FullBacklog::new());
    let timeout = Duration::from_millis(150);
    let failed = Cell::new(None);
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_connect_failed(|_, _, error| {
        assert_eq!(error.to_string(), "connection timed out; the peer did not answer within the connect timeout");
        failed.set(Some(Instant::now()));
    }));
    let start = events.context().now();
    events.context().connect(Connect::from(full_backlog.address()).timeout(timeout), handler);
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    let wait = events.next_timeout().expect("the connect timeout runs");
    assert!(wait > Duration::ZERO && wait <= timeout, "the loop waits for {wait:?}, not for the timeout");
    turn_until(&mut events, "the failure", |_| failed.get().is_some());
    let elapsed = failed.get().expect("the connect has failed").duration_since(start);
    assert!(elapsed >= timeout, "the connect failed after {elapsed:?}");
    assert_eq!(log.connect_errors(), [io::ErrorKind::TimedOut]);
    turn_until_idle(&mut events);
    assert_eq!(events.next_timeout(), None, "no deadline is left");
}

#[test]
fn each_of_many_connects_either_opens_or_fails() {
    let (log, server, full_backlog) = (CallLog::default(), Listener::new(), FullBacklog::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let to = [server.address(), unused_address(), full_backlog.address()];
    let started = to.iter().cycle().take(300).enumerate().map(|(number, to)| {
        let to = Connect::from(*to).timeout(Duration::from_millis(if number % 3 == 2 { 50 } else { 10_000 }));
        (events.context().connect(to, handler), number % 3)
    });
    let started: BTreeMap<ConnectionId, usize> = started.collect();
    assert_eq!(started.len(), 300, "each has an id of its own");
    let mut peers = Vec::new();
    turn_until(&mut events, "all are settled", |_| {
        peers.extend(std::iter::from_fn(|| server.try_accept()));
        log.ids().len() + log.connect_errors().len() == 300
    });
    for (id, kind) in started {
        let expected =
            [Call::Open, Call::Failed(io::ErrorKind::ConnectionRefused), Call::Failed(io::ErrorKind::TimedOut)];
        assert_eq!(log.of(id), [expected[kind].clone()]);
    }
    assert_eq!((events.stats().connects, events.stats().connect_errors, events.stats().connections), (300, 200, 100));
    events.context().stop();
    assert_eq!(turn_until_stopped(&mut events).forced, 100);
}

#[test]
fn invalid_options_of_a_connect_fail_with_the_reason() {
    let (log, server, errors) = (CallLog::default(), Listener::new(), RefCell::new(Vec::new()));
    let to = || Connect::from(server.address());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(
        RecordingHandler::new(&log).on_connect_failed(|_, _, error| errors.borrow_mut().push(error.to_string())),
    );
    let never = Duration::ZERO;
    let invalid = [
        to().timeout(never),
        to().idle_timeout(never),
        to().input_bytes_max(0),
        to().outbox_bytes_max(0),
        to().recv_buffer_bytes(1 << 32),
        to().send_buffer_bytes(1 << 32),
        to().tcp_keepalive(never, Duration::from_secs(1), 1),
        to().tcp_user_timeout(never),
    ];
    for to in invalid {
        let id = events.context().connect(to, handler);
        // Output written in advance does not change the failure.
        let _ = events.context().connection(id).expect("the connection is opening").try_write(b"hello");
    }
    turn_until(&mut events, "eight failures", |_| log.connect_errors().len() == 8);
    assert_eq!(log.connect_errors(), [io::ErrorKind::InvalidInput; 8]);
    let words = [
        "timeout of zero",
        "timeout of zero",
        "input_bytes_max must be between",
        "outbox_bytes_max must be between",
        "recv_buffer_bytes must be at most",
        "send_buffer_bytes must be at most",
        "tcp_keepalive needs",
        "tcp_user_timeout must be between",
    ];
    for (sentence, words) in errors.borrow().iter().zip(words) {
        assert!(sentence.contains(words), "{sentence}");
    }
    let framed = events.attach(framing::lines(1_000, |_, _| panic!("the connection opened")));
    events.context().connect(to().input_bytes_max(999), framed);
    turn_until(&mut events, "one more failure", |events| events.stats().connect_errors == 9);
    assert!(server.try_accept().is_none(), "no connect reached the server");
}

/// Waits until every callback's connect is accepted and open.
fn every_callback_connects(server: &Listener, events: &mut EventLoop<'_>, log: &CallLog, callbacks: usize) {
    let mut peers = Vec::new();
    turn_until(events, "every callback has connected", |_| {
        peers.extend(std::iter::from_fn(|| server.try_accept()));
        peers.len() == callbacks
    });
    turn_until(events, "all are open", |_| log.ids().len() >= callbacks);
}

#[test]
fn every_callback_can_connect() {
    let (log, outside, server) = (CallLog::default(), CallLog::default(), Listener::new());
    let target = Cell::new(None::<HandlerId>);
    let at = server.address();
    let connect = |context: &mut Context| {
        let id = context.connect(at, target.get().expect("the handler is attached"));
        assert_eq!(context.connection(id).expect("the connection is opening").send(b"early"), Ok(()));
    };
    let mut events = EventLoop::new().expect("a loop");
    target.set(Some(events.attach(RecordingHandler::new(&log))));
    let failing = unused_address();
    let inside = events.attach(
        RecordingHandler::new(&outside)
            .on_open(|connection| {
                connect(connection.context());
                connection.set_timeout(Some(Duration::from_millis(1)));
                true
            })
            .on_data(|connection, input| {
                connect(connection.context());
                let _ = connection.try_write(&vec![b'x'; 140_000]);
                input.len()
            })
            .on_flushed(|connection| connect(connection.context()))
            .on_timeout(|connection| connect(connection.context()))
            .on_notify(|connection, _| connect(connection.context()))
            .on_timer(|context, _| connect(context))
            .on_connect_failed(|context, _, _| connect(context))
            .on_eof(|connection| {
                connect(connection.context());
                connection.close();
            })
            .on_close(|connection| connect(connection.context())),
    );
    let listener = events.listen_for(loopback(), inside).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    events.every(Duration::ZERO, |context| {
        connect(context);
        None
    });
    events.context().schedule(inside, Duration::ZERO, 1);
    events.context().connect(failing, inside);
    client.send(b"?");
    turn_until(&mut events, "the answer", |_| client.has_received(131_072));
    turn_until(&mut events, "on_timeout", |_| outside.count(&Call::Timeout) == 1);
    let id = outside.ids()[0];
    events.context().notify(id, 7);
    turn_until(&mut events, "on_notify", |_| outside.count(&Call::Notify(7)) == 1);
    client.half_close();
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    // `every`, on_timer and on_connect_failed; for the client on_open, on_data, on_flushed, on_timeout, on_notify,
    // on_eof and on_close.
    every_callback_connects(&server, &mut events, &log, 10);
}

#[test]
fn a_job_can_connect() {
    let (log, server) = (CallLog::default(), Listener::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let (to, handle) = (server.address(), events.handle());
    std::thread::spawn(move || {
        handle.post(move |context| {
            let _ = context.connect(to, handler);
        })
    })
    .join()
    .expect("no panic")
    .expect("the loop runs");
    let _peer = server.accept(&mut events);
    turn_until(&mut events, "the connection is open", |_| log.ids().len() == 1);
}

#[test]
fn on_connect_failed_can_connect_again_until_one_succeeds() {
    let (log, server) = (CallLog::default(), Listener::new());
    let (tries, handler) = (Cell::new(0), Cell::new(None));
    let (open, closed) = (server.address(), unused_address());
    // Some connects fail at once, and others later.
    let missing = Connect::unix("/there/is/no/such/path");
    let mut events = EventLoop::new().expect("a loop");
    handler.set(Some(events.attach(RecordingHandler::new(&log).on_connect_failed(|context, _, _| {
        tries.set(tries.get() + 1);
        let to = match tries.get() {
            200.. => open.into(),
            odd if odd % 2 == 1 => missing.clone(),
            _ => closed.into(),
        };
        let next = context.connect(to, handler.get().expect("the handler is attached"));
        context.connection(next).expect("the connection is opening").send(b"at last").expect("there is room");
    }))));
    events.context().connect(closed, handler.get().expect("the handler is attached"));
    let mut peer = server.accept(&mut events);
    turn_until(&mut events, "the message", |_| peer.has_received(7));
    assert_eq!((tries.get(), &peer.received[..]), (200, &b"at last"[..]));
    assert_eq!(events.stats().connect_errors, 200);
}

#[test]
fn a_loop_can_connect_to_its_own_listener() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let handler = events.attach(RecordingHandler::new(&log).on_data(|connection, input| {
        connection.close();
        input.len()
    }));
    let to = events.local_addr(listener).expect("the listener is open");
    for _ in 0..20 {
        let id = events.context().connect(to, handler);
        events.context().connection(id).expect("the connection is opening").send(b"to myself").expect("there is room");
    }
    turn_until(&mut events, "all are closed", |events| events.stats().closed_total() == 40);
    assert_eq!((log.ids().len(), log.inputs().concat().len()), (20, 20 * 9));
    assert_eq!((events.stats().connects, events.stats().accepted), (20, 20));
}

#[test]
fn a_panic_in_on_connect_failed_affects_no_other_connection() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    events.catch_panics(true);
    let handler = events.attach(
        RecordingHandler::new(&log).on_connect_failed(|_, _, error| panic!("this is the panic of the test: {error}")),
    );
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"hello");
    for _ in 0..3 {
        events.context().connect(unused_address(), handler);
    }
    turn_until(&mut events, "three failures", |events| events.stats().panics == 3);
    assert_eq!(log.connect_errors().len(), 3);
    turn_until(&mut events, "the echo", |_| client.has_received(5));
    assert_eq!((events.stats().connect_errors, events.stats().connections), (3, 1));
    events.context().stop();
    assert_eq!(turn_until_stopped(&mut events).forced, 1);
}

/// Returns an address whose port a connect to it will soon get as its own local port. It is a free port, shortly above
/// the port of the last connect. Linux hands out ports for one destination in steps of two.
#[cfg(target_os = "linux")]
fn soon_its_own_peer(host: &str) -> SocketAddr {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("Linux has it");
    let [first, last] = [0, 1].map(|at| range.split_whitespace().nth(at).and_then(|port| port.parse::<u16>().ok()));
    let (first, last) = (first.expect("a port"), last.expect("a port"));
    let distance_of = |port: u16| -> Option<u16> {
        let address = SocketAddr::new(host.parse().expect("an address"), port);
        let listener = std::net::TcpListener::bind(address).ok()?;
        let client = socket2::SockRef::from(&std::net::TcpStream::connect(address).ok()?).try_clone().ok()?;
        // RST instead of TIME_WAIT, which would keep the port in use.
        client.set_linger(Some(Duration::ZERO)).ok()?;
        let given = client.local_addr().ok()?.as_socket()?.port();
        drop((client, listener));
        port.checked_sub(given)
    };
    // Only about 60 ports: other tests may expect a port to be free.
    let ports = (first..last - 1).step_by(2 * usize::from((last - first) / 120).max(1));
    let nearest = ports.filter_map(|port| distance_of(port).map(|distance| (distance, port))).min();
    SocketAddr::new(host.parse().expect("an address"), nearest.expect("a free port").1)
}

/// Connects until a connect gets its own destination as its local address.
#[cfg(target_os = "linux")]
fn assert_never_its_own_peer(host: &str) {
    let (log, refused_here) = (CallLog::default(), Cell::new(false));
    let to = soon_its_own_peer(host);
    let mut events = EventLoop::new().expect("a loop");
    // A listener of another test may get the port. It is then an ordinary peer.
    let is_other_peer = |connection: &mut Connection<'_>| {
        let local_port = connection.local_addr().map(|local| local.port());
        assert_ne!(local_port, Some(to.port()), "a connection opened to itself at {to}");
        false
    };
    let handler = RecordingHandler::new(&log).on_open(is_other_peer);
    let handler = events.attach(handler.on_connect_failed(|_, _, error| {
        // A listener of another test, which closes, resets.
        let is_expected = [io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionReset].contains(&error.kind());
        assert!(is_expected, "{error}");
        // Errors with an OS code are the kernel's own refusals.
        refused_here.set(refused_here.get() || error.raw_os_error().is_none());
    }));
    turn_until(&mut events, "a socket that is its own peer", |events| {
        if events.stats().connections == 0 {
            for _ in 0..100 {
                events.context().connect(to, handler);
            }
        }
        refused_here.get()
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_connect_to_itself_is_refused_however_its_address_is_written() {
    for host in ["127.0.0.1", "0.0.0.0"] {
        assert_never_its_own_peer(host);
    }
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs IPv6"]
fn a_connect_to_itself_is_refused_over_ipv6() {
    for host in ["::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"] {
        assert_never_its_own_peer(host);
    }
}
