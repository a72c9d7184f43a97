//! Replies from a timer, a job or another callback.
//!
//! The rules for immediate replies hold for later replies too.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use halloo::{Bind, EventLoop, ReplyAddr, datagrams};

use crate::helpers::loopback::{any_port, loopback, udp_socket};
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle};

/// Returns the reply address of a datagram from `peer_host` to a socket bound to `to`.
fn reply_addr(to: SocketAddr, peer_host: &str) -> ReplyAddr {
    let last = Cell::new(None);
    let mut events = EventLoop::new().expect("a loop");
    let socket = events.bind(to, datagrams(|datagram, _| last.set(Some(datagram.reply_addr())))).expect("a socket");
    udp_socket(peer_host)
        .send_to(b"?", events.local_addr(socket).expect("the socket is open"))
        .expect("the datagram is sent");
    turn_until(&mut events, "the datagram is delivered", |_| last.get().is_some());
    last.get().expect("the datagram was delivered")
}

#[test]
fn a_reply_from_a_timer_leaves_from_the_destination_address() {
    answers_from_a_timer("0.0.0.0", &["127.0.0.1", "127.0.0.2", "127.1.2.3"]);
}

#[test]
#[ignore = "needs IPv6"]
fn a_reply_of_an_ipv6_socket_from_a_timer_leaves_from_the_destination_address() {
    answers_from_a_timer("::", &["::1", "127.0.0.2", "127.1.2.3"]);
}

/// Sends to a wildcard socket at several of its addresses. One timer sends all replies, so that they share system
/// calls.
fn answers_from_a_timer(bound: &str, hosts: &[&str]) {
    let questions = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = datagrams(|datagram, _| questions.borrow_mut().push(datagram.reply_addr()));
    let socket = events.bind(any_port(bound), handler).expect("a socket");
    let count = 3 * hosts.len();
    let questions = &questions;
    events.every(Duration::from_millis(1), move |context| {
        if questions.borrow().len() == count {
            for question in questions.take() {
                assert_eq!(question.socket(), socket);
                assert!(context.reply(question, b"later"), "{question:?}");
            }
        }
        Some(Duration::from_millis(1))
    });
    let port = events.local_addr(socket).expect("the socket is open").port();
    let asked: Vec<SocketAddr> = hosts.iter().map(|host| SocketAddr::new(any_port(host).ip(), port)).collect();
    let peers: Vec<_> = asked.iter().map(|to| udp_socket(if to.is_ipv4() { "127.0.0.1" } else { "::1" })).collect();
    for _ in 0..3 {
        for (peer, to) in peers.iter().zip(&asked) {
            peer.send_to(b"when?", to).expect("the datagram is sent");
        }
    }
    for (peer, from) in peers.iter().zip(&asked) {
        for _ in 0..3 {
            assert_eq!(recv(&mut events, peer), (b"later".to_vec(), *from));
        }
    }
}

#[test]
fn a_reply_address_can_be_sent_to_another_thread_and_back() {
    let mut events = EventLoop::new().expect("a loop");
    let handle = events.handle();
    let handler = datagrams(move |datagram, _| {
        let (to, handle) = (datagram.reply_addr(), handle.clone());
        std::thread::spawn(move || handle.post(move |context| assert!(context.reply(to, b"computed"))));
    });
    let socket = events.bind(any_port("0.0.0.0"), handler).expect("a socket");
    let port = events.local_addr(socket).expect("the socket is open").port();
    let (peer, asked) = (udp_socket("127.0.0.1"), SocketAddr::new(any_port("127.0.0.3").ip(), port));
    peer.send_to(b"compute", asked).expect("the datagram is sent");
    assert_eq!(recv(&mut events, &peer), (b"computed".to_vec(), asked));
}

#[test]
fn a_later_reply_of_a_removed_socket_or_another_loop_is_refused() {
    let questions = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = || datagrams(|datagram, _| questions.borrow_mut().push(datagram.reply_addr()));
    let socket = events.bind(loopback(), handler()).expect("a socket");
    let address = events.local_addr(socket).expect("the socket is open");
    let peer = udp_socket("127.0.0.1");
    peer.send_to(b"?", address).expect("the datagram is sent");
    turn_until(&mut events, "the datagram is delivered", |_| !questions.borrow().is_empty());
    let question = questions.borrow()[0];
    assert_eq!((question.socket(), question.peer_addr()), (socket, peer.local_addr().expect("the socket is bound")));
    assert!(events.context().reply(question, b"while it is there"));
    assert_eq!(recv(&mut events, &peer), (b"while it is there".to_vec(), address));
    assert!(events.context().remove(socket));
    // The new socket has the slot and the address of the first.
    let next = events.bind(address, handler()).expect("the address is free");
    assert!(!events.context().reply(question, b"by another socket"));
    let mut other = EventLoop::new().expect("a loop");
    other.bind(loopback(), datagrams(|_, _| {})).expect("a socket");
    assert!(!other.context().reply(question, b"by another loop"));
    assert_eq!((events.stats().replies_refused(), other.stats().replies_refused()), (1, 1));
    assert_ne!(next, question.socket());
    turn_until_idle(&mut events);
    assert!(peer.recv(&mut [0; 32]).is_err(), "no reply was sent");
}

#[test]
fn a_later_reply_counts_against_the_rate_of_its_source() {
    let questions = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let at = Bind::from(loopback()).replies_per_source_per_second_max(2).limit_loopback(true);
    let handler = datagrams(|datagram, _| questions.borrow_mut().push(datagram.reply_addr()));
    let socket = events.bind(at, handler).expect("a socket");
    udp_socket("127.0.0.1")
        .send_to(b"?", events.local_addr(socket).expect("the socket is open"))
        .expect("the datagram is sent");
    turn_until(&mut events, "the datagram is delivered", |_| !questions.borrow().is_empty());
    let question = questions.borrow()[0];
    let replies = [(); 5].map(|()| events.context().reply(question, b"again"));
    assert_eq!(replies, [true, true, false, false, false]);
    assert_eq!(events.stats().replies_refused(), 3);
}

#[test]
fn a_later_reply_to_a_socket_of_this_loop_is_refused() {
    let questions = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = datagrams(|datagram, _| questions.borrow_mut().push(datagram.reply_addr()));
    let socket = events.bind(loopback(), handler).expect("a socket");
    let other = events.bind(any_port("0.0.0.0"), datagrams(|_, _| {})).expect("a socket");
    let to = events.local_addr(socket).expect("the socket is open");
    assert!(events.context().send_to(other, b"from ourselves", to));
    turn_until(&mut events, "the datagram is delivered", |_| !questions.borrow().is_empty());
    let question = questions.borrow()[0];
    assert!(!events.context().reply(question, b"and so on"));
    assert_eq!(events.stats().replies_refused(), 1);
}

#[test]
fn reply_addresses_differ_by_socket_and_peer() {
    let (one, other) = (reply_addr(loopback(), "127.0.0.1"), reply_addr(loopback(), "127.0.0.2"));
    let copy = one;
    assert_eq!(std::collections::HashSet::from([one, copy, other]).len(), 2);
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs a network namespace"]
fn a_later_reply_from_a_link_local_address_reaches_a_peer_with_a_global_address() {
    use std::net::{SocketAddrV6, UdpSocket};
    use support::network::network_namespace::{in_network_namespace_after, ip};
    use support::wait::wait_until;
    let link_local = |port| SocketAddr::from(SocketAddrV6::new("fe80::1".parse().expect("an address"), port, 0, 1));
    let add_addresses = || {
        ip("-6 address add fe80::1/64 dev lo nodad");
        ip("-6 address add fd09::1/128 dev lo nodad");
        let can_be_used = || UdpSocket::bind(link_local(0)).is_ok() && UdpSocket::bind("[fd09::1]:0").is_ok();
        wait_until("the addresses", can_be_used);
    };
    in_network_namespace_after(add_addresses, || {
        let question = Cell::new(None);
        let mut events = EventLoop::new().expect("a loop");
        let handler = datagrams(|datagram, _| question.set(Some(datagram.reply_addr())));
        let socket = events.bind(any_port("::"), handler).expect("a socket");
        events.every(Duration::from_millis(1), |context| {
            if let Some(question) = question.take() {
                assert!(context.reply(question, b"later"));
            }
            Some(Duration::from_millis(1))
        });
        let asked = link_local(events.local_addr(socket).expect("the socket is open").port());
        let peer = udp_socket("fd09::1");
        peer.send_to(b"?", asked).expect("the datagram is sent");
        assert_eq!(recv(&mut events, &peer), (b"later".to_vec(), asked));
    });
}
