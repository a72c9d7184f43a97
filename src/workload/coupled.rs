//! Two connections that wait for each other, as those of a proxy do.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::HOST;
use crate::handler::StreamHandler;
use crate::lent::Connection;
use crate::testing::check;
use crate::token::ConnectionId;

const PROXY: SocketAddr = SocketAddr::new(HOST, 7);
const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 7);

/// Hands bytes on, both ways; a session is the other side.
#[derive(Default)]
struct Proxy {
    opening: HashMap<ConnectionId, ConnectionId>,
}

impl StreamHandler for Proxy {
    type Session = ConnectionId;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<ConnectionId> {
        if connection.listener().is_none() {
            return self.opening.remove(&connection.id());
        }
        let (handler, client) = (connection.handler(), connection.id());
        let out = connection.context().connect(TARGET, handler);
        self.opening.insert(out, client);
        Some(out)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, other: &mut ConnectionId, input: &[u8]) -> usize {
        let Some(mut to) = connection.context().connection(*other) else { return input.len() };
        let taken = to.write(input);
        if taken < input.len() {
            connection.pause();
        }
        taken
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, other: &mut ConnectionId) {
        if let Some(mut from) = connection.context().connection(*other) {
            from.resume();
        }
    }
}

#[test]
fn a_target_that_reads_only_when_its_answer_is_taken_does_not_stop_a_proxy() {
    check(0..50, |simulation| {
        let mut events = simulation.event_loop();
        events.listen(PROXY, Proxy::default()).expect("the address is free");
        simulation.serve(TARGET);
        let client = simulation.connect(PROXY).expect("somebody listens");
        simulation.settle(&mut events).expect("no error is the loop's");
        let peer = simulation.accept(TARGET).expect("the proxy has connected");
        peer.set_window(0);
        client.send(&vec![7; 400_000]);
        simulation.settle(&mut events).expect("no error is the loop's");
        peer.send(b"answer");
        simulation.settle(&mut events).expect("no error is the loop's");
        assert_eq!(client.received(), b"answer");
        peer.set_window(usize::MAX);
        simulation.settle(&mut events).expect("no error is the loop's");
        assert_eq!(peer.received().len(), 400_000);
    });
}
