//! Peer addresses that handlers set, limits per source, rejections.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use halloo::{CloseReason, Connect, Connection, EventLoop, Listen, Stats, StreamHandler, framing};

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::nonblocking_listener::Listener;
use crate::helpers::turn_until::{turn_until, turn_until_idle};

/// Takes lines: an address is set as the peer's, `reject` rejects, any other line is echoed with the peer's address.
fn proxied(ends: &RefCell<Vec<(CloseReason, Option<SocketAddr>)>>) -> impl StreamHandler + '_ {
    WithEnds { lines: framing::lines(100, take_line), ends }
}

fn take_line(connection: &mut Connection<'_>, line: &[u8]) {
    let line = std::str::from_utf8(line).expect("text");
    match line.parse::<SocketAddr>() {
        Ok(client) => {
            let _ = connection.set_peer_addr(client);
        }
        Err(_) if line == "reject" => connection.reject(),
        Err(_) => {
            let peer = connection.peer_addr().map_or_else(|| "none".to_owned(), |peer| peer.to_string());
            connection.send(format!("{line} {peer}\n").as_bytes()).expect("the outbox is empty");
        }
    }
}

/// Records how the connections of another handler end, and their peers then.
struct WithEnds<'a, H> {
    lines: H,
    ends: &'a RefCell<Vec<(CloseReason, Option<SocketAddr>)>>,
}

impl<H: StreamHandler> StreamHandler for WithEnds<'_, H> {
    type Session = H::Session;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<H::Session> {
        self.lines.on_open(connection)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut H::Session, input: &[u8]) -> usize {
        self.lines.on_data(connection, session, input)
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, session: &mut H::Session, rest: &[u8]) {
        self.lines.on_eof(connection, session, rest);
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, session: H::Session, reason: CloseReason) {
        self.ends.borrow_mut().push((reason, connection.peer_addr()));
        // Too late to count.
        assert!(connection.set_peer_addr(address("192.0.2.99:1")));
        self.lines.on_close(connection, session, reason);
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Opens a listener, and returns its address.
fn listen<'a>(
    events: &mut EventLoop<'a>,
    at: Listen,
    ends: &'a RefCell<Vec<(CloseReason, Option<SocketAddr>)>>,
) -> SocketAddr {
    let listener = events.listen(at, proxied(ends)).expect("a listener");
    events.local_addr(listener).expect("the listener is open")
}

/// Connects, sends a header, and returns the peer that the server then shows, or how it ended the connection.
fn open(events: &mut EventLoop<'_>, to: SocketAddr, header: &str) -> (Client, Result<String, StreamEnd>) {
    let mut client = Client::connect(to);
    client.send(format!("{header}\nhello\n").as_bytes());
    turn_until(events, "an answer or the end", |_| client.has_received(1));
    let answer = String::from_utf8(client.received.clone()).expect("text");
    let outcome = client.end.map_or_else(|| Ok(answer), Err);
    (client, outcome)
}

/// Waits for the end of all connections.
fn close_all(events: &mut EventLoop<'_>, clients: Vec<Client>) {
    drop(clients);
    turn_until(events, "no connection is left", |events| events.stats().connections == 0);
}

fn rejections(stats: &Stats) -> (u64, u64) {
    (stats.refused_source, stats.closed(CloseReason::Rejected))
}

#[test]
fn the_address_that_a_handler_sets_is_the_peer_address_until_it_sets_another() {
    let ends = RefCell::default();
    let mut events = EventLoop::new().expect("a loop");
    let to = listen(&mut events, loopback().into(), &ends);
    let (mut client, shown) = open(&mut events, to, "192.0.2.1:4711");
    assert_eq!(shown.expect("it is served"), "hello 192.0.2.1:4711\n");
    for (set, shown) in
        [("[2001:db8::1]:5", "[2001:db8::1]:5"), ("[::ffff:192.0.2.2]:6", "192.0.2.2:6"), ("[::]:0", "[::]:0")]
    {
        let expected = format!("again {shown}\n");
        let answer = client.request(&mut events, format!("{set}\nagain\n").as_bytes(), expected.len());
        assert_eq!(String::from_utf8_lossy(answer), expected);
    }
    client.half_close();
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    close_all(&mut events, vec![client]);
    assert_eq!(*ends.borrow(), [(CloseReason::Eof, Some(address("[::]:0")))]);
}

#[test]
fn the_limit_per_source_counts_the_address_that_the_handler_sets() {
    for from_handler in [false, true] {
        let ends = RefCell::default();
        let mut events = EventLoop::new().expect("a loop");
        let at = Listen::from(loopback()).connections_per_source_max(2).peer_addr_from_handler(from_handler);
        let to = listen(&mut events, at, &ends);
        for round in 1..=2 {
            let mut clients = Vec::new();
            // One more than the limit for 127.0.0.1, the address of the proxy.
            for header in ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"] {
                let (client, shown) = open(&mut events, to, header);
                assert_eq!(shown, Ok(format!("hello {header}\n")), "from_handler={from_handler}");
                clients.push(client);
            }
            assert_eq!(open(&mut events, to, "192.0.2.1:3").1, Err(StreamEnd::Reset));
            assert_eq!(rejections(events.stats()), (round, round));
            assert_eq!(ends.borrow().last(), Some(&(CloseReason::Rejected, Some(address("192.0.2.1:3")))));
            close_all(&mut events, clients);
        }
    }
}

#[test]
fn with_peer_addr_from_handler_a_connection_without_an_address_counts_for_no_source() {
    let ends = RefCell::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).connections_per_source_max(1).peer_addr_from_handler(true);
    let to = listen(&mut events, at, &ends);
    let silent: Vec<Client> = (0..5).map(|_| Client::connect(to)).collect();
    turn_until(&mut events, "all are open", |events| events.stats().connections == 5);
    let (counted, shown) = open(&mut events, to, "127.0.0.1:9");
    assert_eq!(shown.expect("no other is counted"), "hello 127.0.0.1:9\n");
    // The end of a connection that was never counted leaves the count of its address alone.
    drop(silent);
    turn_until(&mut events, "they are closed", |events| events.stats().connections == 1);
    assert_eq!(open(&mut events, to, "127.0.0.1:10").1, Err(StreamEnd::Reset));
    close_all(&mut events, vec![counted]);
    assert!(open(&mut events, to, "127.0.0.1:11").1.is_ok());
}

#[test]
fn a_repeated_address_moves_the_count_and_the_same_source_keeps_its_place() {
    let ends = RefCell::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).connections_per_source_max(1).peer_addr_from_handler(true);
    let to = listen(&mut events, at, &ends);
    let (mut client, _) = open(&mut events, to, "192.0.2.1:1");
    let answer = client.request(&mut events, b"192.0.2.1:2\nagain\n", 18);
    assert_eq!(answer, b"again 192.0.2.1:2\n", "its own place is not taken twice");
    let answer = client.request(&mut events, b"192.0.2.2:1\nagain\n", 18);
    assert_eq!(answer, b"again 192.0.2.2:1\n");
    let (first, shown) = open(&mut events, to, "192.0.2.1:3");
    assert!(shown.is_ok(), "the place of the first address is free");
    assert_eq!(open(&mut events, to, "192.0.2.2:2").1, Err(StreamEnd::Reset));
    close_all(&mut events, vec![client, first]);
    assert!(open(&mut events, to, "192.0.2.2:3").1.is_ok());
}

#[test]
#[cfg(unix)]
fn on_a_unix_socket_an_address_is_set_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, ends) = (folder.path().join("socket"), RefCell::default());
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::unix(&path).connections_per_source_max(1);
    events.listen(at, proxied(&ends)).expect("a free path");
    let mut client = Client::connect_unix(&path);
    client.send(b"192.0.2.1:1\nhello\n");
    turn_until(&mut events, "an answer", |_| client.has_received(18));
    assert_eq!(client.received, b"hello 192.0.2.1:1\n");
    let mut second = Client::connect_unix(&path);
    second.send(b"192.0.2.1:2\nhello\n");
    turn_until(&mut events, "the end", |events| rejections(events.stats()) == (1, 1));
}

#[test]
#[cfg(unix)]
fn a_unix_peer_with_an_address_that_has_left_is_still_read_after_a_pause() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, received) = (folder.path().join("socket"), Cell::new(0));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(halloo::stream(|connection, input| {
        received.set(received.get() + input.len());
        if connection.peer_addr().is_none() {
            assert!(connection.set_peer_addr(address("192.0.2.1:1")));
            connection.pause();
        }
        input.len()
    }));
    events.listen_for(Listen::unix(&path), handler).expect("a free path");
    let mut client = Client::connect_unix(&path);
    client.send(b"header");
    turn_until(&mut events, "the header", |_| received.get() == 6);
    client.send(b"request");
    drop(client);
    // A unix socket hangs up with its peer, although input is unread.
    turn_until_idle(&mut events);
    events.context().for_each_connection(handler, |connection| connection.resume());
    turn_until(&mut events, "the close", |events| events.stats().connections == 0);
    assert_eq!((received.get(), events.stats().closed(CloseReason::Eof)), (13, 1), "{}", events.stats());
}

#[test]
fn a_rejected_client_is_reset_at_once_and_gets_no_output() {
    let ends = RefCell::default();
    let mut events = EventLoop::new().expect("a loop");
    let to = listen(&mut events, loopback().into(), &ends);
    let mut client = Client::connect(to);
    client.send(b"hello\nreject\nhello\n");
    assert_eq!(client.read_to_end(&mut events), (&b""[..], StreamEnd::Reset));
    assert_eq!(rejections(events.stats()), (0, 1));
    assert_eq!(ends.borrow()[0], (CloseReason::Rejected, Some(client.local_addr())));
    assert_eq!(CloseReason::Rejected.to_string(), "rejected");
}

#[test]
fn a_rejection_after_a_close_keeps_the_first_reason() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = halloo::stream(|connection, input| {
        connection.close();
        connection.reject();
        input.len()
    });
    let listener = events.listen(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"x");
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Reset);
    assert_eq!((events.stats().closed(CloseReason::Local), rejections(events.stats())), (1, (0, 0)));
}

#[test]
fn on_an_outbound_connection_only_the_shown_address_changes() {
    let ends = RefCell::default();
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::from(loopback()).connections_per_source_max(1).peer_addr_from_handler(true);
    let listener = events.listen(at, proxied(&ends)).expect("a listener");
    let to = events.local_addr(listener).expect("the listener is open");
    let (_client, _) = open(&mut events, to, "192.0.2.1:1");
    let server = Listener::new();
    let handler = events.attach(proxied(&ends));
    events.context().connect(Connect::from(server.address()), handler);
    let mut peer = server.accept(&mut events);
    let answer = peer.request(&mut events, b"192.0.2.1:2\nhello\n", 18);
    assert_eq!(answer, b"hello 192.0.2.1:2\n", "the source has its maximum with another handler");
    assert_eq!(rejections(events.stats()), (0, 0));
}

#[test]
fn idle_time_is_the_time_since_the_last_progress() {
    let (idle, wait) = (Cell::new(Duration::MAX), Duration::from_millis(50));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(halloo::stream(|_, input| input.len()));
    let listener = events.listen_for(loopback(), handler).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    let look = |events: &mut EventLoop<'_>| {
        events.context().for_each_connection(handler, |connection| idle.set(connection.idle_time()));
        idle.get()
    };
    turn_until(&mut events, "it is open", |events| events.stats().connections == 1);
    turn_until(&mut events, "it is idle", |events| look(events) >= wait);
    client.send(b"x");
    turn_until(&mut events, "the input is consumed", |events| events.stats().bytes_received == 1);
    assert!(look(&mut events) < wait, "{idle:?}");
}
