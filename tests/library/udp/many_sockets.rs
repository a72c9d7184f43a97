//! Thousands of UDP sockets in one loop.
//!
//! A datagram costs the same beside thousands of sockets as beside a few.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use halloo::{EventLoop, UdpSocketId, datagrams};
use support::process::rlimit::raise_fd_limit;

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

/// Binds `count` sockets that echo.
fn bind_many(events: &mut EventLoop<'_>, count: usize) -> Vec<UdpSocketId> {
    let echo = || datagrams(|datagram, payload| assert!(datagram.reply(payload)));
    (0..count).map(|_| events.bind(loopback(), echo()).expect("a socket")).collect()
}

/// Returns the shortest time for 100 datagrams at one socket, of 30 rounds: other processes disturb some rounds.
fn time_of_a_hundred(events: &mut EventLoop<'_>, socket: UdpSocketId, peer: &UdpSocket) -> Duration {
    let address = events.local_addr(socket).expect("the socket is open");
    let rounds = (0..30).map(|_| {
        for _ in 0..100 {
            peer.send_to(b"x", address).expect("the datagram is sent");
        }
        let (start, wanted) = (Instant::now(), events.stats().datagrams_sent + 100);
        turn_until(events, "all are answered", |events| events.stats().datagrams_sent == wanted);
        let time = start.elapsed();
        while peer.recv(&mut [0; 1]).is_ok() {}
        time
    });
    rounds.min().expect("30 rounds")
}

#[test]
fn a_datagram_costs_the_same_beside_3000_sockets_as_beside_10() {
    raise_fd_limit();
    let peer = udp_socket("127.0.0.1");
    let mut events = EventLoop::new().expect("a loop");
    let mut sockets = bind_many(&mut events, 10);
    let few = time_of_a_hundred(&mut events, sockets[0], &peer);
    sockets.extend(bind_many(&mut events, 3_000));
    let many = time_of_a_hundred(&mut events, sockets[0], &peer);
    assert!(many < 3 * few + Duration::from_micros(100), "{few:?} beside ten, {many:?} beside 3,000");
    for socket in sockets {
        assert!(events.context().remove(socket));
    }
    turn_until_idle(&mut events);
}
