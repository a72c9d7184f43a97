//! The address that a datagram leaves from.
//!
//! A wildcard socket replies from the destination address of the request, also if it was inherited.

use std::cell::Cell;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use halloo::{Datagram, EventLoop, datagrams};

use crate::helpers::loopback::{any_port, loopback, udp_socket};
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle};

fn echo(datagram: &mut Datagram<'_>, payload: &[u8]) {
    assert!(datagram.reply(payload), "the reply is queued");
}

#[test]
fn a_datagram_queued_in_an_inherited_socket_is_answered_from_its_destination_address() {
    let (socket, peer) = (UdpSocket::bind("0.0.0.0:0").expect("a free port"), udp_socket("127.0.0.1"));
    let asked = SocketAddr::new(any_port("127.0.0.2").ip(), socket.local_addr().expect("the socket is bound").port());
    for payload in [b"before", b"also  "] {
        peer.send_to(payload, asked).expect("the datagram is sent");
    }
    let mut events = EventLoop::new().expect("a loop");
    events.bind(socket, datagrams(echo)).expect("a socket");
    peer.send_to(b"behind", asked).expect("the datagram is sent");
    for payload in [b"before", b"also  ", b"behind"] {
        assert_eq!(recv(&mut events, &peer), (payload.to_vec(), asked));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_inherited_socket_with_timestamps_replies_from_the_destination_address() {
    use nix::sys::socket::{setsockopt, sockopt::ReceiveTimestamp};
    let (socket, peer) = (UdpSocket::bind("0.0.0.0:0").expect("a free port"), udp_socket("127.0.0.1"));
    setsockopt(&socket, ReceiveTimestamp, &true).expect("an option of every socket");
    let asked = SocketAddr::new(any_port("127.0.0.2").ip(), socket.local_addr().expect("the socket is bound").port());
    let mut events = EventLoop::new().expect("a loop");
    events.bind(socket, datagrams(echo)).expect("a socket");
    for number in 0..40u8 {
        peer.send_to(&[number], asked).expect("the datagram is sent");
    }
    for number in 0..40u8 {
        assert_eq!(recv(&mut events, &peer), (vec![number], asked));
    }
}

#[test]
fn a_connected_socket_sends_its_peer_nothing_meant_for_the_other_family() {
    let (socket, peer) = (UdpSocket::bind(loopback()).expect("a free port"), udp_socket("127.0.0.1"));
    let to = peer.local_addr().expect("the socket is bound");
    socket.connect(to).expect("a connected UDP socket");
    let mut events = EventLoop::new().expect("a loop");
    let socket = events.bind(socket, datagrams(echo)).expect("a socket");
    let other_family = SocketAddr::from((Ipv6Addr::LOCALHOST, to.port()));
    for payload in [b"one", b"two"] {
        assert!(!events.context().send_to(socket, b"not for you", other_family));
        assert!(events.context().send_to(socket, payload, to));
    }
    let mapped = SocketAddr::from((Ipv6Addr::new(0, 0, 0, 0, 0, 0xFFFF, 0x7F00, 1), to.port()));
    assert!(events.context().send_to(socket, b"mapped", mapped), "a mapped address is an IPv4 address");
    for payload in [&b"one"[..], b"two", b"mapped"] {
        assert_eq!(recv(&mut events, &peer).0, payload);
    }
    turn_until_idle(&mut events);
    assert_eq!((events.stats().datagrams_sent, events.stats().datagrams_dropped), (3, 0));
}

#[test]
fn a_payload_over_the_datagram_limit_is_refused_and_not_counted_as_sent() {
    let replied = Cell::new(None);
    let mut events = EventLoop::new().expect("a loop");
    let handler = datagrams(|datagram, _| replied.set(Some(datagram.reply(&vec![0; 65_508]))));
    let socket = events.bind(loopback(), handler).expect("a socket");
    let (peer, address) = (udp_socket("127.0.0.1"), events.local_addr(socket).expect("the socket is open"));
    let to = peer.local_addr().expect("the socket is bound");
    for bytes in [65_508, 65_536, 70_000] {
        assert!(!events.context().send_to(socket, &vec![0; bytes], to), "{bytes} bytes");
    }
    peer.send_to(b"?", address).expect("the datagram is sent");
    turn_until(&mut events, "the datagram is delivered", |_| replied.get().is_some());
    assert_eq!((replied.get(), events.stats().replies_refused()), (Some(false), 1));
    assert!(events.context().send_to(socket, &vec![7; 65_507], to), "the longest payload of a datagram");
    assert_eq!(recv(&mut events, &peer).0, vec![7; 65_507]);
    assert_eq!((events.stats().datagrams_sent, events.stats().datagrams_dropped), (1, 0));
}
