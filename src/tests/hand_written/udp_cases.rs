//! Single cases of UDP sockets.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::udp_traffic::{BROADCAST, WILDCARD_ADDRESSES};
use super::super::{HOST, UDP_WILDCARD};
use nix::errno::Errno;

use crate::context::datagram::Datagram;
use crate::context::handler_impls::datagrams;
use crate::event_loop::EventLoop;
use crate::limits;
use crate::options::bind::Bind;
use crate::testing::{Fault, Simulation};

const SERVER: SocketAddr = SocketAddr::new(HOST, 9);
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 9);

#[test]
fn a_wildcard_socket_answers_a_peer_with_its_own_port_unless_it_is_this_machine() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let echo = |datagram: &mut Datagram<'_>, payload: &[u8]| {
        datagram.reply(payload);
    };
    events.bind(UDP_WILDCARD, datagrams(echo)).expect("the address is free");
    let other_peer = SocketAddr::new(PEER.ip(), UDP_WILDCARD.port());
    simulation.send_datagram(other_peer, WILDCARD_ADDRESSES[0], b"from afar");
    simulation.send_datagram(WILDCARD_ADDRESSES[0], WILDCARD_ADDRESSES[0], b"from itself");
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert_eq!(simulation.receive_datagram(other_peer), Some((WILDCARD_ADDRESSES[0], b"from afar".to_vec())));
    assert_eq!((events.stats().datagrams_received, events.stats().replies_refused()), (2, 1), "{}", events.stats());
}

#[test]
fn the_rate_exempts_loopback_only_if_the_sender_and_the_client_behind_it_are_loopback() {
    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
    let cases = [(PEER, LOCAL, 1), (LOCAL, PEER, 1), (LOCAL, LOCAL, 0), (PEER, PEER, 1)];
    for (sender, client, refused) in cases {
        let simulation = Simulation::new(1);
        let mut events = simulation.event_loop();
        let reply = move |datagram: &mut Datagram<'_>, payload: &[u8]| {
            datagram.set_peer_addr(client);
            datagram.reply(payload);
        };
        events.bind(Bind::from(SERVER).replies_per_source_per_second_max(1), datagrams(reply)).expect("it is free");
        for _ in 0..2 {
            simulation.send_datagram(sender, SERVER, b"?");
        }
        simulation.run_until_idle(&mut events).expect("the poll works");
        let stats = events.stats();
        assert_eq!((stats.datagrams_received, stats.replies_refused_rate), (2, refused), "{client} by {sender}");
    }
}

#[test]
fn a_socket_of_an_ipv6_mapped_address_answers_its_ipv4_peers_and_not_itself() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let echo = |datagram: &mut Datagram<'_>, payload: &[u8]| {
        datagram.reply(payload);
    };
    let IpAddr::V4(host) = HOST else { panic!("HOST is an IPv4 address") };
    let mapped = SocketAddr::new(host.to_ipv6_mapped().into(), 9);
    let socket = events.bind(mapped, datagrams(echo)).expect("the address is free");
    assert_eq!(events.local_addr(socket).expect("the socket is open"), SocketAddr::new(HOST, 9));
    for peer in [PEER, SocketAddr::new(HOST, 9)] {
        simulation.send_datagram(peer, mapped, b"?");
    }
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert!(simulation.receive_datagram(PEER).is_some());
    assert_eq!((events.stats().datagrams_received, events.stats().replies_refused()), (2, 1), "{}", events.stats());
}

#[test]
fn a_broadcast_socket_sends_to_a_broadcast_address_and_does_not_reply_to_one() {
    for may_broadcast in [false, true] {
        let simulation = Simulation::new(1);
        let replied = RefCell::new(Vec::new());
        let mut events = simulation.event_loop();
        let echo = datagrams(|datagram, payload| replied.borrow_mut().push(datagram.reply(payload)));
        let at = Bind::from(UDP_WILDCARD).broadcast(may_broadcast);
        let socket = events.bind(at, echo).expect("the address is free");
        let broadcast = SocketAddr::new(BROADCAST.into(), 9);
        for peer in [broadcast, PEER] {
            simulation.send_datagram(peer, WILDCARD_ADDRESSES[0], b"?");
        }
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!(simulation.receive_datagram(broadcast), None, "the reply to the broadcast address is not sent");
        assert!(simulation.receive_datagram(PEER).is_some());
        // Without SO_BROADCAST the kernel refuses the reply.
        assert_eq!(*replied.borrow(), [!may_broadcast, true]);
        let refused = (events.stats().replies_refused(), events.stats().datagrams_dropped);
        assert_eq!(refused, if may_broadcast { (1, 0) } else { (0, 1) });
        assert!(events.context().send_to(socket, b"to all", broadcast));
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!(simulation.receive_datagram(broadcast).is_some(), may_broadcast);
    }
}

#[test]
fn a_peer_at_the_address_of_a_removed_socket_is_answered() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let echo = |datagram: &mut Datagram<'_>, payload: &[u8]| {
        datagram.reply(payload);
    };
    let other = SocketAddr::new(HOST, 10);
    let removed = events.bind(other, datagrams(echo)).expect("the address is free");
    events.bind(SERVER, datagrams(echo)).expect("the address is free");
    for replies_refused in [1, 1] {
        simulation.send_datagram(other, SERVER, b"?");
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!(events.stats().replies_refused(), replies_refused);
        events.context().remove(removed);
    }
    assert!(simulation.receive_datagram(other).is_some());
}

#[test]
fn receiving_that_fails_repeatedly_pauses_the_socket_and_counts_the_pause() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    events.bind(SERVER, datagrams(|_, _| {})).expect("the address is free");
    let series = 2 * u64::from(limits::ERRORS_IN_A_ROW_MAX);
    simulation.fail_next(Fault::ReceiveDatagram, Errno::ENOMEM as i32, series);
    simulation.send_datagram(PEER, SERVER, b"hello");
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert!(events.stats().pauses >= 1, "{}", events.stats());
    assert_eq!((events.stats().receive_errors, events.stats().datagrams_received), (series, 1));
}

#[test]
fn a_reply_from_a_timer_leaves_from_the_destination_address() {
    let simulation = Simulation::new(1);
    let questions = RefCell::new(Vec::new());
    let mut events = simulation.event_loop();
    let handler = datagrams(|datagram, _| questions.borrow_mut().push(datagram.reply_addr()));
    let socket = events.bind(UDP_WILDCARD, handler).expect("the address is free");
    events.every(Duration::from_millis(10), |context| {
        questions.take().into_iter().for_each(|question| assert!(context.reply(question, b"later")));
        Some(Duration::from_millis(10))
    });
    for asked in WILDCARD_ADDRESSES {
        simulation.send_datagram(PEER, asked, b"when?");
    }
    for _ in 0..20 {
        let _ = events.turn(Some(Duration::from_millis(10))).expect("the poll works");
    }
    let mut answers: Vec<_> = std::iter::from_fn(|| simulation.receive_datagram(PEER)).collect();
    answers.sort();
    assert_eq!(answers, WILDCARD_ADDRESSES.map(|asked| (asked, b"later".to_vec())));
    simulation.send_datagram(PEER, WILDCARD_ADDRESSES[0], b"when?");
    while questions.borrow().is_empty() {
        let _ = events.turn(Some(Duration::from_millis(1))).expect("the poll works");
    }
    let question = questions.take()[0];
    assert!(events.context().remove(socket) && !events.context().reply(question, b"too late"));
}

#[test]
fn reply_addrs_are_equal_if_socket_peer_and_local_address_are_and_a_datagram_has_its_handlers_id() {
    let simulation = Simulation::new(1);
    let (questions, handlers) = (RefCell::new(BTreeSet::new()), RefCell::new(BTreeSet::new()));
    let mut events = simulation.event_loop();
    let handler = events.attach_datagrams(datagrams(|datagram, _| {
        questions.borrow_mut().insert(datagram.reply_addr());
        handlers.borrow_mut().insert(datagram.handler());
    }));
    for bound in [UDP_WILDCARD, SERVER] {
        events.bind_for(bound, handler).expect("the address is free");
    }
    let other_port = SocketAddr::new(PEER.ip(), PEER.port() + 1);
    for asked in WILDCARD_ADDRESSES.into_iter().chain([SERVER]) {
        for peer in [PEER, other_port, PEER] {
            assert!(simulation.send_datagram(peer, asked, b"?"));
        }
    }
    simulation.run_until_idle(&mut events).expect("the poll works");
    assert_eq!(*handlers.borrow(), BTreeSet::from([handler]));
    assert_eq!(questions.borrow().len(), 2 * (WILDCARD_ADDRESSES.len() + 1), "{questions:?}");
}

#[test]
fn group_datagrams_reach_only_joined_sockets_with_the_group_as_local_addr() {
    let groups: [IpAddr; 2] = ["224.0.0.251", "ff02::fb"].map(|group| group.parse().expect("an address"));
    for (group, bound) in groups.into_iter().zip([Ipv4Addr::UNSPECIFIED.into(), UDP_WILDCARD.ip()]) {
        let simulation = Simulation::new(1);
        let received = RefCell::new(Vec::new());
        let mut events = simulation.event_loop();
        let handler = |number| {
            let received = &received;
            datagrams(move |datagram: &mut Datagram<'_>, payload: &[u8]| {
                received.borrow_mut().push((number, datagram.local_addr().ip()));
                datagram.reply(payload);
            })
        };
        let at = |port| Bind::from(SocketAddr::new(bound, port));
        let joined = events.bind(at(1).join_multicast(group, 0), handler(1)).expect("the address is free");
        events.bind(at(2).join_multicast(group, 0), handler(2)).expect("the address is free");
        let later = events.bind(at(3), handler(3)).expect("the address is free");
        let ask = |events: &mut EventLoop<'_>, port| {
            let is_delivered = simulation.send_datagram(PEER, SocketAddr::new(group, port), b"?");
            simulation.run_until_idle(events).expect("the poll works");
            let answer = simulation.receive_datagram(PEER).map(|(from, _)| from);
            assert_eq!(is_delivered, answer.is_some());
            assert!(answer.is_none_or(|from| !from.ip().is_multicast() && !from.ip().is_unspecified()), "{answer:?}");
            received.take()
        };
        assert_eq!(ask(&mut events, 1), [(1, group)]);
        assert_eq!(ask(&mut events, 3), []);
        events.context().join_multicast(later, group, 0).expect("the socket has not joined");
        assert_eq!(ask(&mut events, 3), [(3, group)]);
        events.context().join_multicast(later, group, 0).expect_err("the socket has already joined");
        for socket in [later, joined] {
            events.context().leave_multicast(socket, group, 0).expect("the socket has joined");
            events.context().leave_multicast(socket, group, 0).expect_err("the socket has left");
        }
        assert_eq!([ask(&mut events, 1), ask(&mut events, 3)], [vec![], vec![]]);
        assert_eq!(ask(&mut events, 2), [(2, group)]);
    }
}

#[test]
fn datagrams_to_a_group_reach_the_loops_own_sockets_and_peers() {
    let to = SocketAddr::new(IpAddr::from([224, 0, 0, 251]), 5353);
    let simulation = Simulation::new(1);
    let received = RefCell::new(Vec::new());
    let mut events = simulation.event_loop();
    let member = Bind::from(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 5353)).join_multicast(to.ip(), 0);
    let handler = datagrams(|_, payload| received.borrow_mut().push(payload.to_vec()));
    events.bind(member, handler).expect("the address is free");
    for (multicast_loop, payload) in [(true, b"heard"), (false, b"alone")] {
        let at = Bind::from(SocketAddr::new(HOST, 0)).multicast_loop(multicast_loop);
        let socket = events.bind(at, datagrams(|_, _| {})).expect("the address is free");
        assert!(events.context().send_to(socket, payload, to));
        simulation.run_until_idle(&mut events).expect("the poll works");
        assert_eq!(simulation.receive_datagram(to).expect("a copy").1, payload);
    }
    assert_eq!(*received.borrow(), [b"heard"]);
}

#[test]
fn datagrams_are_lost_duplicated_and_reordered_in_both_directions() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let echo = |datagram: &mut Datagram<'_>, payload: &[u8]| assert!(datagram.reply(payload));
    events.bind(SERVER, datagrams(echo)).expect("the address is free");
    let mut exchange = |fault, in_request: bool, in_reply: bool| {
        let inject = |is_on: bool| simulation.inject(fault, u64::from(is_on));
        inject(in_request);
        let arrived = [b"1", b"2", b"3"].map(|payload| simulation.send_datagram(PEER, SERVER, payload));
        inject(in_reply);
        simulation.run_until_idle(&mut events).expect("the poll works");
        inject(false);
        let replies = std::iter::from_fn(|| simulation.receive_datagram(PEER)).map(|(_, payload)| payload);
        (arrived, String::from_utf8(replies.flatten().collect()).expect("digits"))
    };
    let expected = |digits: &str| ([true; 3], digits.to_owned());
    assert_eq!(exchange(Fault::LostDatagram, true, false), ([false; 3], String::new()));
    assert_eq!(exchange(Fault::LostDatagram, false, true), expected(""));
    assert_eq!(exchange(Fault::DuplicateDatagram, true, false), expected("112233"));
    assert_eq!(exchange(Fault::DuplicateDatagram, false, true), expected("112233"));
    assert_eq!(exchange(Fault::ReorderedDatagram, true, false), expected("231"));
    assert_eq!(exchange(Fault::ReorderedDatagram, false, true), expected("231"));
    assert_eq!(exchange(Fault::LostDatagram, false, false), expected("123"));
}

#[test]
fn a_client_that_retries_gets_its_answer_though_most_datagrams_are_lost() {
    crate::testing::check(0..200, |simulation| {
        let mut events = simulation.event_loop();
        let echo = |datagram: &mut Datagram<'_>, payload: &[u8]| assert!(datagram.reply(payload));
        events.bind(SERVER, datagrams(echo)).expect("the address is free");
        simulation.inject(Fault::LostDatagram, 2);
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            assert!(tries < 1_000, "one exchange in four succeeds");
            simulation.send_datagram(PEER, SERVER, b"again");
            simulation.run_until_idle(&mut events).expect("the poll works");
            if let Some(answer) = simulation.receive_datagram(PEER) {
                break answer;
            }
        };
        assert_eq!(answer, (SERVER, b"again".to_vec()));
    });
}
