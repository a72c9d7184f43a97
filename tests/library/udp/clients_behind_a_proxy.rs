//! Datagrams of clients behind a proxy, and their rate limit.

use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};

use halloo::{Bind, Datagram, EventLoop, ReplyAddr, datagrams};

use crate::helpers::loopback::{any_port, loopback, udp_socket};
use crate::helpers::turn_until::{recv, turn_until};

/// The rate limit of the tests. A second is not over before a test has seen the limit.
const RATE: u32 = 2;

fn limited() -> Bind {
    Bind::from(loopback()).replies_per_source_per_second_max(RATE).limit_loopback(true)
}

/// Sets the address in the payload as the datagram's peer.
fn take_header(datagram: &mut Datagram<'_>, payload: &[u8]) -> SocketAddr {
    let client = std::str::from_utf8(payload).expect("text").parse().expect("an address");
    datagram.set_peer_addr(client);
    client
}

/// Sends one datagram for each client from one proxy, and returns the addresses for the replies, in the same order.
fn ask<'a>(
    events: &mut EventLoop<'a>,
    questions: &'a RefCell<Vec<ReplyAddr>>,
    proxy: &UdpSocket,
    clients: &[&str],
) -> Vec<ReplyAddr> {
    let handler = datagrams(|datagram, payload| {
        take_header(datagram, payload);
        questions.borrow_mut().push(datagram.reply_addr());
    });
    let socket = events.bind(limited(), handler).expect("a socket");
    let to = events.local_addr(socket).expect("the socket is open");
    for client in clients {
        proxy.send_to(client.as_bytes(), to).expect("the datagram is sent");
    }
    turn_until(events, "all are delivered", |_| questions.borrow().len() == clients.len());
    questions.borrow().clone()
}

#[test]
fn the_address_that_a_handler_sets_is_shown_and_the_sender_gets_the_reply() {
    let mut events = EventLoop::new().expect("a loop");
    let handler = datagrams(|datagram, payload| {
        let sender = datagram.peer_addr();
        assert_eq!(datagram.sender_addr(), sender);
        take_header(datagram, payload);
        let shown = format!("{} by {}", datagram.peer_addr(), datagram.sender_addr());
        assert!(datagram.reply(shown.as_bytes()));
        assert_eq!(datagram.reply_addr().peer_addr(), sender);
    });
    let socket = events.bind(loopback(), handler).expect("a socket");
    let (to, proxy) = (events.local_addr(socket).expect("the socket is open"), udp_socket("127.0.0.1"));
    let sender = proxy.local_addr().expect("it is bound");
    for (client, shown) in [("192.0.2.1:53", "192.0.2.1:53"), ("[::ffff:192.0.2.2]:0", "192.0.2.2:0")] {
        proxy.send_to(client.as_bytes(), to).expect("the datagram is sent");
        let expected = format!("{shown} by {sender}");
        assert_eq!(recv(&mut events, &proxy), (expected.into_bytes(), to));
    }
}

#[test]
fn the_rate_limit_counts_the_client_behind_the_proxy_also_for_later_replies() {
    let (questions, proxy) = (RefCell::default(), udp_socket("127.0.0.1"));
    let mut events = EventLoop::new().expect("a loop");
    let asked = ask(&mut events, &questions, &proxy, &["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"]);
    let replied = [0, 1, 0, 1, 2, 2, 2].map(|index| events.context().reply(asked[index], b"!"));
    assert_eq!(replied, [true, true, false, false, true, true, false], "each source has its rate");
    let stats = events.stats();
    assert_eq!((stats.replies_refused_rate, stats.replies_refused()), (3, 3), "{stats}");
}

#[test]
fn replies_to_clients_behind_one_proxy_have_addresses_of_their_own() {
    let (questions, proxy) = (RefCell::default(), udp_socket("127.0.0.1"));
    let mut events = EventLoop::new().expect("a loop");
    let asked = ask(&mut events, &questions, &proxy, &["192.0.2.1:1", "192.0.2.1:1", "192.0.2.1:2"]);
    assert_eq!(asked[0], asked[1], "a retransmitted request");
    assert_ne!(asked[0], asked[2]);
}

#[test]
fn a_client_address_does_not_avoid_the_checks_of_the_sender() {
    let replied = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = |header: &'static str| {
        let replied = &replied;
        datagrams(move |datagram, _| {
            take_header(datagram, header.as_bytes());
            replied.borrow_mut().push(datagram.reply(b"!"));
        })
    };
    let first = events.bind(loopback(), handler("192.0.2.1:1")).expect("a socket");
    let other = events.bind(any_port("127.0.0.2"), handler("255.255.255.255:0")).expect("a socket");
    let (first, to) = (first, events.local_addr(first).expect("the socket is open"));
    assert!(events.context().send_to(other, b"from ourselves", to));
    turn_until(&mut events, "it is delivered", |_| !replied.borrow().is_empty());
    // The other way round, the client's address is no address for a reply, and gets none.
    let peer = udp_socket("127.0.0.1");
    peer.send_to(b"?", events.local_addr(other).expect("the socket is open")).expect("the datagram is sent");
    assert_eq!(recv(&mut events, &peer).0, b"!");
    assert_eq!(*replied.borrow(), [false, true]);
    let stats = events.stats();
    assert_eq!((stats.replies_refused_address, stats.replies_refused()), (1, 1), "{stats}");
    assert!(events.context().remove(first));
}

#[test]
fn refused_replies_are_counted_by_their_cause_and_added_up() {
    let (questions, proxy) = (RefCell::default(), udp_socket("127.0.0.1"));
    let mut events = EventLoop::new().expect("a loop");
    let asked = ask(&mut events, &questions, &proxy, &["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"]);
    let too_long = vec![0; 65_508];
    assert!(!events.context().reply(asked[0], &too_long));
    assert!(events.context().reply(asked[1], b"!"));
    assert!(events.context().reply(asked[1], b"!"));
    assert!(!events.context().reply(asked[1], b"!"));
    assert!(events.context().remove(asked[2].socket()));
    assert!(!events.context().reply(asked[2], b"!"));
    let stats = events.stats();
    let refused = (stats.replies_refused_address, stats.replies_refused_rate, stats.replies_refused_queue);
    assert_eq!((refused, stats.replies_refused()), ((0, 1, 2), 3), "{stats}");
}
