//! UDP replies that are refused: rate limit, own sockets, port 0.

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use halloo::{Bind, EventLoop, datagrams};
use socket2::{Domain, Protocol, Socket, Type};

use crate::helpers::loopback::{any_port, loopback, udp_socket};
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle};

/// Sends `count` datagrams from `from` to an echo. Returns how many were answered.
fn count_replies(events: &mut EventLoop<'_>, to: SocketAddr, from: &UdpSocket, count: usize) -> u64 {
    let before = (events.stats().datagrams_received, events.stats().datagrams_sent, events.stats().replies_refused());
    for _ in 0..count {
        from.send_to(b"?", to).expect("the datagram is sent");
    }
    turn_until(events, "all are delivered", |events| events.stats().datagrams_received == before.0 + count as u64);
    let replies = events.stats().datagrams_sent - before.1;
    assert_eq!(replies + events.stats().replies_refused() - before.2, count as u64, "each is answered or refused");
    replies
}

#[test]
fn replies_beyond_the_rate_of_a_source_are_refused_and_another_source_is_answered() {
    let mut events = EventLoop::new().expect("a loop");
    let at = Bind::from(any_port("0.0.0.0")).replies_per_source_per_second_max(5).limit_loopback(true);
    let echo = datagrams(|datagram, payload| {
        datagram.reply(payload);
    });
    let socket = events.bind(at, echo).expect("a socket");
    let port = events.local_addr(socket).expect("the socket is open").port();
    let to = SocketAddr::new(loopback().ip(), port);
    let (one, other) = (udp_socket("127.0.0.1"), udp_socket("127.0.0.2"));

    let start = Instant::now();
    let of_one = count_replies(&mut events, to, &one, 50);
    let max = 5 + start.elapsed().as_secs() * 5 + 5;
    assert!((5..=max).contains(&of_one), "the burst is the replies of one second: {of_one}");
    assert!(count_replies(&mut events, to, &other, 3) >= 1, "the other source has a rate of its own");

    turn_until(&mut events, "the source is answered again", |events| count_replies(events, to, &one, 1) == 1);
    assert_eq!(recv(&mut events, &one).0, b"?");
}

#[test]
fn without_limit_loopback_the_rate_does_not_apply_to_loopback() {
    let mut events = EventLoop::new().expect("a loop");
    let echo = || {
        datagrams(|datagram, payload| {
            datagram.reply(payload);
        })
    };
    let limited = events.bind(Bind::from(loopback()).replies_per_source_per_second_max(1), echo()).expect("a socket");
    let unlimited = events.bind(loopback(), echo()).expect("a socket");
    let zero = Bind::from(loopback()).replies_per_source_per_second_max(0).limit_loopback(true);
    let zero = events.bind(zero, echo()).expect("a socket");
    let peer = udp_socket("127.0.0.1");
    for socket in [limited, unlimited, zero] {
        let to = events.local_addr(socket).expect("the socket is open");
        assert_eq!(count_replies(&mut events, to, &peer, 100), 100);
    }
}

/// Returns a UDP socket with `SO_REUSEPORT`.
fn bind_with_reuse_port(address: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    socket.set_reuse_port(true).expect("an option of every socket");
    socket.bind(&address.into()).expect("the address is shared");
    socket.set_nonblocking(true).expect("an option of every socket");
    socket.into()
}

#[test]
fn a_datagram_with_the_source_of_a_socket_of_this_loop_is_not_answered() {
    let replied = Cell::new(None);
    let mut events = EventLoop::new().expect("a loop");
    let wildcard = events
        .bind(loopback(), datagrams(|datagram, payload| replied.set(Some(datagram.reply(payload)))))
        .expect("a socket");
    let other =
        events.bind(Bind::from(any_port("127.0.0.2")).reuse_port(true), datagrams(|_, _| {})).expect("a socket");
    let (wildcard, other) = (
        events.local_addr(wildcard).expect("the listener is open"),
        events.local_addr(other).expect("the listener is open"),
    );
    bind_with_reuse_port(other).send_to(b"I am you", wildcard).expect("the datagram is sent");
    turn_until(&mut events, "the datagram is delivered", |_| replied.get().is_some());
    assert_eq!((replied.get(), events.stats().replies_refused()), (Some(false), 1));
    let peer = udp_socket("127.0.0.2");
    peer.send_to(b"I am not", wildcard).expect("the datagram is sent");
    assert_eq!(recv(&mut events, &peer).0, b"I am not");
}

#[test]
fn a_wildcard_socket_does_not_answer_its_own_port_on_any_address() {
    for host in ["127.0.0.1", "127.0.0.2"] {
        let replied = Cell::new(None);
        let mut events = EventLoop::new().expect("a loop");
        let socket = events
            .bind(
                Bind::from(any_port("0.0.0.0")).reuse_port(true),
                datagrams(|datagram, payload| replied.set(Some(datagram.reply(payload)))),
            )
            .expect("a socket");
        let port = events.local_addr(socket).expect("the socket is open").port();
        let same_port = bind_with_reuse_port(SocketAddr::new(any_port(host).ip(), port));
        same_port
            .send_to(b"I am you", SocketAddr::new(any_port("127.0.0.3").ip(), port))
            .expect("the datagram is sent");
        turn_until(&mut events, "the datagram is delivered", |_| replied.get().is_some());
        assert_eq!((replied.get(), events.stats().replies_refused()), (Some(false), 1), "from {host}");
        turn_until_idle(&mut events);
        assert_eq!(events.stats().datagrams_sent, 0);
    }
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs a network namespace"]
fn a_datagram_from_port_0_is_delivered_but_not_answered() {
    support::network::network_namespace::in_network_namespace(|| {
        let replied = Cell::new(None);
        let mut events = EventLoop::new().expect("a loop");
        let socket = events
            .bind(
                loopback(),
                datagrams(|datagram, payload| {
                    replied.set(Some((datagram.peer_addr().port(), datagram.reply(payload))));
                }),
            )
            .expect("a socket");
        let to = events.local_addr(socket).expect("the socket is open");
        // Only a raw socket can send from port 0.
        support::network::raw_udp::RawUdpSocket::new().send(loopback(), to, b"forged");
        turn_until(&mut events, "the datagram is delivered", |_| replied.get().is_some());
        assert_eq!((replied.get(), events.stats().replies_refused()), (Some((0, false)), 1));
        let peer = udp_socket("127.0.0.1");
        replied.set(None);
        peer.send_to(b"honest", to).expect("the datagram is sent");
        assert_eq!(recv(&mut events, &peer).0, b"honest");
    });
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs a network namespace"]
fn a_datagram_from_a_broadcast_address_is_not_answered_by_a_broadcast_socket() {
    use support::network::network_namespace::{in_network_namespace, ip};
    in_network_namespace(|| {
        ip("link add one type veth peer name two");
        for (link, network) in [("one", "10.9.1.1/24"), ("two", "10.9.2.1/28")] {
            ip(&format!("address add {network} broadcast + dev {link}"));
            ip(&format!("link set {link} up"));
        }
        let inherited = || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a free port");
            socket.set_broadcast(true).expect("an option of every socket");
            Bind::from(socket)
        };
        let new = |host| Bind::from(any_port(host)).broadcast(true);
        for at in [new("0.0.0.0"), new("127.0.0.1"), inherited()] {
            let replied = Cell::new(None);
            let mut events = EventLoop::new().expect("a loop");
            let handler = datagrams(|datagram, payload| replied.set(Some(datagram.reply(payload))));
            let socket = events.bind(at, handler).expect("a socket");
            let to = SocketAddr::new(loopback().ip(), events.local_addr(socket).expect("the socket is open").port());
            for (from, is_answered) in [
                ("127.255.255.255", false),
                ("10.9.1.255", false),
                ("10.9.2.15", false),
                ("255.255.255.255", false),
                ("10.9.2.255", true),
                ("10.9.1.1", true),
                ("127.0.0.2", true),
            ] {
                let from = SocketAddr::new(any_port(from).ip(), 9);
                support::network::raw_udp::RawUdpSocket::new().send(from, to, b"forged");
                turn_until(&mut events, "the datagram is delivered", |_| replied.get().is_some());
                assert_eq!(replied.take(), Some(is_answered), "{from}");
            }
            assert_eq!(events.stats().replies_refused(), 4);
            // `send_to` may send to a broadcast address.
            let peer = udp_socket("0.0.0.0");
            let port = peer.local_addr().expect("the socket is bound").port();
            assert!(events.context().send_to(socket, b"to all", SocketAddr::from(([127, 255, 255, 255], port))));
            assert_eq!(recv(&mut events, &peer).0, b"to all");
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs a network namespace"]
fn a_peer_with_our_port_is_answered_also_with_ip_nonlocal_bind() {
    use support::network::network_namespace::{in_network_namespace, ip};
    in_network_namespace(|| {
        // The kernel makes the second a secondary address of the first one's network.
        ip("address add 10.9.9.1/24 dev lo");
        ip("address add 10.9.9.2/24 dev lo");
        std::fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1").expect("a namespace of our own");
        // 192.0.2.0/24 is reserved for documentation (RFC 5737).
        UdpSocket::bind(any_port("192.0.2.1")).expect("any address can be bound to");
        let replied = Cell::new(None);
        let mut events = EventLoop::new().expect("a loop");
        let handler = datagrams(|datagram, payload| replied.set(Some(datagram.reply(payload))));
        let socket = events.bind(any_port("0.0.0.0"), handler).expect("a socket");
        let port = events.local_addr(socket).expect("the socket is open").port();
        let to = SocketAddr::new(loopback().ip(), port);
        for (from, is_answered) in [("192.0.2.1", true), ("127.0.0.2", false), ("10.9.9.1", false), ("10.9.9.2", false)]
        {
            let from = SocketAddr::new(any_port(from).ip(), port);
            support::network::raw_udp::RawUdpSocket::new().send(from, to, b"?");
            turn_until(&mut events, "the datagram is delivered", |_| replied.get().is_some());
            assert_eq!(replied.take(), Some(is_answered), "{from}");
        }
    });
}

#[test]
fn a_peer_with_our_port_and_its_own_address_is_answered() {
    let mut events = EventLoop::new().expect("a loop");
    let echo = || datagrams(|datagram, payload| assert!(datagram.reply(payload)));
    // The loop's port must also be free at the peer's address. Otherwise it tries another.
    let (to, peer) = std::iter::repeat_with(|| {
        let socket = events.bind(loopback(), echo()).expect("a socket");
        let to = events.local_addr(socket).expect("the socket is open");
        (to, UdpSocket::bind(SocketAddr::new(any_port("127.0.0.2").ip(), to.port())))
    })
    .find_map(|(to, peer)| peer.ok().map(|peer| (to, peer)))
    .expect("the iterator does not end");
    peer.set_nonblocking(true).expect("an option of every socket");
    peer.send_to(b"not you", to).expect("the datagram is sent");
    assert_eq!(recv(&mut events, &peer), (b"not you".to_vec(), to));
}
