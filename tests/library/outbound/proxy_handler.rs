//! A proxy: one handler for both sides, with backpressure and half-close.

use std::io;

use halloo::{CloseReason, Connect, Connection, ConnectionId, Context, EventLoop, HandlerId, Listen, StreamHandler};
use support::byte_pattern::byte_pattern;
use support::wait::TIMEOUT;

use crate::helpers::loopback::{any_port, loopback};
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::nonblocking_listener::{Listener, unused_address};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

/// Forwards input in both directions.
pub(crate) struct Proxy {
    pub(crate) to: Connect,
}

impl StreamHandler for Proxy {
    /// The connection on the other side.
    type Session = ConnectionId;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<ConnectionId> {
        let (id, handler) = (connection.id(), connection.handler());
        if connection.listener().is_none() {
            // The client for which this connection was opened.
            return connection.take_value();
        }
        Some(connection.context().connect_with(self.to.clone(), handler, id))
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, other: &mut ConnectionId, input: &[u8]) -> usize {
        let written = connection.context().connection(*other).map_or(input.len(), |mut other| other.try_write(input));
        if written < input.len() {
            // `on_flushed` of the other side resumes this one.
            connection.pause();
        }
        written
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, other: &mut ConnectionId) {
        if let Some(mut other) = connection.context().connection(*other) {
            other.resume();
        }
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, other: &mut ConnectionId, _: &[u8]) {
        match connection.context().connection(*other) {
            Some(mut other) => other.shutdown_write(),
            None => connection.close(),
        }
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, other: ConnectionId, reason: CloseReason) {
        // After EOF on both sides the other side still sends its outbox, and then closes too.
        if reason != CloseReason::Eof
            && let Some(mut other) = connection.context().connection(other)
        {
            other.abort();
        }
    }

    fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, _: io::Error) {
        if let Some(client) = context.take_value(id)
            && let Some(mut client) = context.connection(client)
        {
            client.abort();
        }
    }
}

/// Returns a loop with a proxy to `to`, and a client of the proxy.
fn proxied(to: &Listener) -> (EventLoop<'static>, Client) {
    let mut events = EventLoop::new().expect("a loop");
    let to = Connect::from(to.address()).idle_timeout(None);
    let listener = events.listen(Listen::from(loopback()).idle_timeout(None), Proxy { to }).expect("a listener");
    let client = Client::connect_narrow(events.local_addr(listener).expect("the listener is open"));
    (events, client)
}

#[test]
fn a_proxy_forwards_both_directions_and_eof_of_each() {
    let server = Listener::new();
    let (mut events, mut client) = proxied(&server);
    client.send(b"sent before there was a peer");
    let mut peer = server.accept(&mut events);
    turn_until(&mut events, "the question", |_| peer.has_received(28));
    client.half_close();
    assert_eq!(peer.read_to_end(&mut events), (&b"sent before there was a peer"[..], StreamEnd::Eof));
    assert_eq!(client.end, None, "only one direction has ended");
    assert_eq!(events.stats().connections, 2, "{}", events.stats());
    peer.send(b"an answer to all of it");
    peer.half_close();
    assert_eq!(client.read_to_end(&mut events), (&b"an answer to all of it"[..], StreamEnd::Eof));
    turn_until(&mut events, "both connections are closed", |events| events.stats().connections == 0);
    assert_eq!(events.stats().closed(CloseReason::Eof), 2);
}

#[test]
fn a_proxy_forwards_a_reset() {
    let server = Listener::new();
    let (mut events, client) = proxied(&server);
    let mut peer = server.accept(&mut events);
    client.reset();
    assert_eq!(peer.read_to_end(&mut events), (&b""[..], StreamEnd::Reset));
    turn_until(&mut events, "both connections are closed", |events| events.stats().connections == 0);
}

#[test]
fn a_proxy_whose_target_refuses_resets_its_client() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), Proxy { to: unused_address().into() }).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(b"is a peer there?");
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Reset);
    turn_until(&mut events, "both connections are closed", |events| events.stats().connections == 0);
    assert_eq!((events.stats().connects, events.stats().connect_errors), (1, 1));
}

#[test]
fn a_proxy_applies_backpressure_in_both_directions_at_once() {
    let (request, response) = (byte_pattern(3_000_000), byte_pattern(2_500_000));
    let server = Listener::new();
    let (mut events, mut client) = proxied(&server);
    let mut peer = server.accept(&mut events);
    client.send(&request);
    peer.send(&response);
    let (mut client_ended, mut peer_ended) = (false, false);
    turn_until(&mut events, "both streams", |events| {
        for (side, has_ended) in [(&mut client, &mut client_ended), (&mut peer, &mut peer_ended)] {
            side.flush();
            if side.has_sent_all() && !*has_ended {
                side.half_close();
                *has_ended = true;
            }
            side.read_up_to(16 * 1024);
        }
        let buffered = events.stats().bytes_received - events.stats().bytes_sent;
        // An inbox and an outbox on each side.
        assert!(buffered <= 4 * 131_072, "{buffered} bytes in the proxy");
        client.end.is_some() && peer.end.is_some()
    });
    assert!(
        client.received == response && peer.received == request,
        "{} {}",
        client.received.len(),
        peer.received.len()
    );
    turn_until(&mut events, "both connections are closed", |events| events.stats().connections == 0);
    turn_until_idle(&mut events);
}

#[test]
fn one_handler_serves_two_listeners_and_its_outbound_connections() {
    struct BroadcastHandler {
        opened: Vec<bool>,
    }
    impl StreamHandler for BroadcastHandler {
        type Session = ();
        fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
            self.opened.push(connection.listener().is_none());
            Some(())
        }
        fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
            let handler = connection.handler();
            connection.context().for_each_connection(handler, |other| other.send(input).expect("there is room"));
            input.len()
        }
        fn on_close(&mut self, _: &mut Connection<'_>, (): (), _: CloseReason) {
            assert!(self.opened.len() == 5, "a connection closed before all were open");
        }
    }
    let server = Listener::new();
    let mut events = EventLoop::new().expect("a loop");
    let handler: HandlerId = events.attach(BroadcastHandler { opened: Vec::new() });
    let addresses = [loopback(), any_port("127.0.0.2")].map(|at| {
        let listener = events.listen_for(at, handler).expect("a listener");
        events.local_addr(listener).expect("the listener is open")
    });
    let mut clients: Vec<Client> = addresses.iter().cycle().take(4).map(|at| Client::connect(*at)).collect();
    events.context().connect(server.address(), handler);
    clients.push(server.accept(&mut events));
    turn_until(&mut events, "all are accepted", |events| events.stats().accepted == 4);
    turn_until_idle(&mut events);
    clients[4].send(b"hello all");
    for side in &mut clients {
        turn_until(&mut events, "the broadcast", |_| side.has_received(9));
        assert_eq!(side.received, b"hello all");
    }
    events.context().drain(TIMEOUT);
    drop(clients);
    turn_until(&mut events, "all are closed", |events| events.stats().connections == 0);
}
