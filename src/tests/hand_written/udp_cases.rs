//! Single cases of UDP sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::udp_traffic::WILDCARD_ADDRESSES;
use super::super::{HOST, UDP_WILDCARD};
use nix::errno::Errno;

use crate::context::datagram::Datagram;
use crate::context::handler_impls::datagrams;
use crate::limits;
use crate::testing::{Fault, Simulation};

const SERVER: SocketAddr = SocketAddr::new(HOST, 9);
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 9);

#[test]
fn a_socket_of_every_address_answers_a_peer_with_the_same_port_unless_it_is_this_machine() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let echo = |datagram: &mut Datagram<'_>, payload: &[u8]| {
        datagram.reply(payload);
    };
    events.bind(UDP_WILDCARD, datagrams(echo)).expect("the address is free");
    let other_peer = SocketAddr::new(PEER.ip(), UDP_WILDCARD.port());
    simulation.send_datagram(other_peer, WILDCARD_ADDRESSES[0], b"from afar");
    simulation.send_datagram(WILDCARD_ADDRESSES[0], WILDCARD_ADDRESSES[0], b"from itself");
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
    assert_eq!(simulation.receive_datagram(other_peer), Some((WILDCARD_ADDRESSES[0], b"from afar".to_vec())));
    assert_eq!((events.stats().datagrams_received, events.stats().replies_refused), (2, 1), "{}", events.stats());
}

#[test]
fn a_socket_of_an_ipv6_mapped_address_answers_its_ipv4_peers_and_not_itself() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    let echo = |datagram: &mut Datagram<'_>, payload: &[u8]| {
        datagram.reply(payload);
    };
    let IpAddr::V4(host) = HOST else { panic!("it is an IPv4 address") };
    let mapped = SocketAddr::new(host.to_ipv6_mapped().into(), 9);
    let socket = events.bind(mapped, datagrams(echo)).expect("the address is free");
    assert_eq!(events.local_addr(socket).expect("it is there"), SocketAddr::new(HOST, 9));
    for peer in [PEER, SocketAddr::new(HOST, 9)] {
        simulation.send_datagram(peer, mapped, b"?");
    }
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
    assert!(simulation.receive_datagram(PEER).is_some());
    assert_eq!((events.stats().datagrams_received, events.stats().replies_refused), (2, 1), "{}", events.stats());
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
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert_eq!(events.stats().replies_refused, replies_refused);
        events.context().remove(removed);
    }
    assert!(simulation.receive_datagram(other).is_some());
}

#[test]
fn receiving_that_fails_again_and_again_pauses_and_that_is_counted() {
    let simulation = Simulation::new(1);
    let mut events = simulation.event_loop();
    events.bind(SERVER, datagrams(|_, _| {})).expect("the address is free");
    let series = 2 * u64::from(limits::ERRORS_IN_A_ROW_MAX);
    simulation.fail_next(Fault::ReceiveDatagram, Errno::ENOMEM as i32, series);
    simulation.send_datagram(PEER, SERVER, b"hello");
    simulation.run_until_idle(&mut events).expect("no error is the loop's");
    assert!(events.stats().pauses >= 1, "{}", events.stats());
    assert_eq!((events.stats().receive_errors, events.stats().datagrams_received), (series, 1));
}
