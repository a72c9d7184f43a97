//! Multicast groups, broadcast, and options of sent datagrams.
//!
//! A socket receives the groups that it has joined, and answers from an address of the machine.

use std::cell::RefCell;
use std::error::Error as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use halloo::{Bind, Error, ErrorKind, EventLoop, UdpSocketId, datagrams};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::sockopt::{IpRecvTos, Ipv4RecvTtl, Ipv6RecvHopLimit, Ipv6RecvTClass};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use socket2::{Domain, Socket, Type};

use crate::helpers::loopback::{any_port, loopback, udp_socket};
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle};

/// A group of the site-local block (RFC 2365). Each test has its own, because tests run at the same time.
fn group(last: u8) -> IpAddr {
    IpAddr::from([239, 255, 77, last])
}

fn loopback_index() -> u32 {
    if_nametoindex("lo").expect("the loopback device")
}

/// Returns a peer that sends to groups through the loopback interface.
fn multicast_peer() -> std::net::UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("the loopback device has the address");
    socket.set_broadcast(true).expect("an option of every socket");
    socket.set_nonblocking(true).expect("an option of every socket");
    socket.bind(&loopback().into()).expect("a free port");
    socket.into()
}

fn port(events: &EventLoop<'_>, socket: UdpSocketId) -> u16 {
    events.local_addr(socket).expect("the socket is open").port()
}

/// Binds a socket that answers, and sends to `to` at its port. Checks the datagram's local address, and that the answer
/// comes from 127.0.0.1.
fn assert_answered(at: Bind, to: IpAddr) {
    let sent_to = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = datagrams(|datagram, payload| {
        sent_to.borrow_mut().push(datagram.local_addr());
        assert!(datagram.reply(payload));
    });
    let socket = events.bind(at, handler).expect("a socket");
    let (peer, to) = (multicast_peer(), SocketAddr::new(to, port(&events, socket)));
    let (one, other) = (SocketAddr::new(loopback().ip(), to.port()), SocketAddr::new([127, 0, 0, 2].into(), to.port()));
    let is_wildcard = events.local_addr(socket).expect("the socket is open").ip().is_unspecified();
    peer.send_to(b"to all", to).expect("the datagram is sent");
    assert_eq!(
        recv(&mut events, &peer),
        (b"to all".to_vec(), one),
        "the answer does not come from the group's address"
    );
    assert_eq!(*sent_to.borrow(), [to]);
    if is_wildcard {
        peer.send_to(b"to one", other).expect("the datagram is sent");
        assert_eq!(recv(&mut events, &peer), (b"to one".to_vec(), other));
        assert_eq!(*sent_to.borrow(), [to, other]);
    }
}

#[test]
fn local_addr_is_the_group_of_a_datagram_and_the_reply_leaves_from_a_host_address() {
    assert_answered(Bind::from(any_port("0.0.0.0")).join_multicast(group(1), loopback_index()), group(1));
}

#[test]
fn a_socket_bound_to_a_group_receives_and_replies() {
    let at = Bind::from(SocketAddr::new(group(2), 0)).join_multicast(group(2), loopback_index());
    assert_answered(at, group(2));
}

#[test]
fn local_addr_is_the_broadcast_address_that_a_datagram_was_sent_to() {
    assert_answered(Bind::from(any_port("0.0.0.0")), [127, 255, 255, 255].into());
}

#[test]
#[ignore = "needs IPv6"]
fn a_dual_stack_socket_receives_an_ipv4_group() {
    assert_answered(Bind::from(any_port("::")).join_multicast(group(3), loopback_index()), group(3));
}

#[test]
fn a_socket_gets_group_datagrams_only_between_join_and_leave() {
    let received = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let handler = datagrams(|_, payload| received.borrow_mut().push(payload.to_vec()));
    let at = Bind::from(any_port("0.0.0.0")).join_multicast(group(4), loopback_index());
    let socket = events.bind(at, handler).expect("a socket");
    let port = port(&events, socket);
    let other = udp_socket("0.0.0.0");
    other.join_multicast_v4(&Ipv4Addr::new(239, 255, 77, 5), &Ipv4Addr::LOCALHOST).expect("the device has the address");
    let peer = multicast_peer();
    let send = |events: &mut EventLoop<'_>, payload: &[u8]| {
        peer.send_to(payload, SocketAddr::new(group(5), port)).expect("the datagram is sent");
        // When the marker has arrived, so have the datagrams before it.
        peer.send_to(b"marker", SocketAddr::new(loopback().ip(), port)).expect("the datagram is sent");
        turn_until(events, "the marker", |_| received.borrow().last().is_some_and(|last| last == b"marker"));
        let got: Vec<Vec<u8>> = received.take();
        got.into_iter().filter(|payload| payload != b"marker").collect::<Vec<_>>()
    };
    assert_eq!(send(&mut events, b"before"), [b""; 0]);
    events.context().join_multicast(socket, group(5), loopback_index()).expect("it joins");
    assert_eq!(send(&mut events, b"while"), [b"while"]);
    events.context().leave_multicast(socket, group(5), loopback_index()).expect("the socket has joined");
    assert_eq!(send(&mut events, b"after"), [b""; 0]);
}

/// Returns the text of an error and its cause.
fn text(error: &Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[test]
fn a_group_that_cannot_be_joined_is_an_error_with_a_hint() {
    let mut events = EventLoop::new().expect("a loop");
    let every = any_port("0.0.0.0");
    for (at, group, expected) in [
        (every, IpAddr::from([10, 0, 0, 1]), "not a multicast address"),
        (every, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb).into(), "bind another socket to [::]"),
        (loopback(), group(6), "bind to 0.0.0.0"),
    ] {
        let error = events.bind(Bind::from(at).join_multicast(group, 0), datagrams(|_, _| {})).expect_err(expected);
        assert!(error.kind() == ErrorKind::InvalidOption && text(&error).contains(expected), "{}", text(&error));
        let socket = events.bind(at, datagrams(|_, _| {})).expect("a socket");
        let error = events.context().join_multicast(socket, group, 0).expect_err(expected);
        assert!(error.kind() == ErrorKind::InvalidOption && text(&error).contains(expected), "{}", text(&error));
    }
    let no_such = Bind::from(every).join_multicast(group(6), 1 << 30);
    let error = events.bind(no_such, datagrams(|_, _| {})).expect_err("there is no such interface");
    assert!(error.kind() == ErrorKind::Bind && text(&error).contains("No such device"), "{}", text(&error));
    assert!(text(&error).contains("join_multicast(239.255.77.6, 1073741824)"), "{}", text(&error));

    let socket = events.bind(every, datagrams(|_, _| {})).expect("a socket");
    let join = |events: &mut EventLoop<'_>| events.context().join_multicast(socket, group(6), loopback_index());
    join(&mut events).expect("it joins");
    let error = join(&mut events).expect_err("the socket has already joined");
    assert!(text(&error).contains("Address already in use") && text(&error).contains("has joined"), "{}", text(&error));
    let error =
        events.context().leave_multicast(socket, group(7), loopback_index()).expect_err("the socket has not joined");
    assert!(
        text(&error).contains("leave_multicast(239.255.77.7") && text(&error).contains("has not"),
        "{}",
        text(&error)
    );
    events.context().remove(socket);
    assert_eq!(join(&mut events).expect_err("the socket is removed").kind(), ErrorKind::UnknownId);
}

#[test]
#[ignore = "needs IPv6"]
fn an_ipv6_only_socket_refuses_an_ipv4_group() {
    let mut events = EventLoop::new().expect("a loop");
    let at = Bind::from(any_port("::")).only_v6(true).join_multicast(group(8), 0);
    let error = events.bind(at, datagrams(|_, _| {})).expect_err("an IPv6-only socket gets no IPv4 datagram");
    assert!(text(&error).contains("IPv6-only"), "{}", text(&error));
}

#[test]
fn invalid_udp_options_are_refused() {
    let mut events = EventLoop::new().expect("a loop");
    let at = || Bind::from(loopback());
    for (at, expected) in [
        (at().ttl(0), "ttl must be between 1 and 255"),
        (at().ttl(256), "ttl must be between 1 and 255"),
        (at().tos(256), "tos must be at most 255"),
        (at().multicast_ttl(256), "multicast_ttl must be at most 255"),
    ] {
        let error = events.bind(at, datagrams(|_, _| {})).expect_err(expected);
        assert_eq!((error.kind(), error.address()), (ErrorKind::InvalidOption, Some(loopback())));
        assert_eq!(error.to_string(), format!("cannot use {}: {expected}", loopback()));
    }
    let at = Bind::from(loopback()).multicast_interface(1 << 30);
    let error = events.bind(at, datagrams(|_, _| {})).expect_err("there is no such interface");
    assert!(text(&error).contains("multicast_interface(1073741824)"), "{}", text(&error));
    assert!(text(&error).contains("Cannot assign requested address"), "{}", text(&error));
}

/// Returns the TTL and the type of service in the header of the next datagram.
fn recv_header(events: &mut EventLoop<'_>, socket: &std::net::UdpSocket) -> (i32, i32) {
    use std::os::fd::AsRawFd;
    let mut header = None;
    turn_until(events, "a datagram", |_| {
        let (mut room, mut control) = ([0; 64], vec![0; 256]);
        let mut buffer = [std::io::IoSliceMut::new(&mut room)];
        let message =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer, Some(&mut control), MsgFlags::MSG_DONTWAIT);
        header = message.ok().map(|message| {
            let mut header = (-1, -1);
            for control in message.cmsgs().expect("they fit") {
                match control {
                    ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => header.0 = ttl,
                    ControlMessageOwned::Ipv4Tos(tos) => header.1 = i32::from(tos),
                    ControlMessageOwned::Ipv6TClass(class) => header.1 = class,
                    other => panic!("{other:?}"),
                }
            }
            header
        });
        header.is_some()
    });
    header.expect("a datagram")
}

/// Returns a socket that receives the header fields, of both families if the host is an IPv6 address.
fn header_socket(host: &str) -> std::net::UdpSocket {
    let socket = udp_socket(host);
    setsockopt(&socket, Ipv4RecvTtl, &true).expect("Linux has it");
    setsockopt(&socket, IpRecvTos, &true).expect("Linux has it");
    if host.contains(':') {
        setsockopt(&socket, Ipv6RecvHopLimit, &true).expect("Linux has it");
        setsockopt(&socket, Ipv6RecvTClass, &true).expect("Linux has it");
    }
    socket
}

fn options(at: Bind) -> Bind {
    at.ttl(7).tos(0xb8).multicast_ttl(9).multicast_interface(loopback_index())
}

#[test]
fn datagrams_leave_with_the_ttl_and_the_type_of_service_that_were_set() {
    let mut events = EventLoop::new().expect("a loop");
    let socket = events.bind(options(Bind::from(any_port("0.0.0.0"))), datagrams(|_, _| {})).expect("a socket");
    let one = header_socket("127.0.0.1");
    assert!(events.context().send_to(socket, b"to one", one.local_addr().expect("the socket is bound")));
    assert_eq!(recv_header(&mut events, &one), (7, 0xb8));
    let member = header_socket("0.0.0.0");
    member
        .join_multicast_v4(&Ipv4Addr::new(239, 255, 77, 9), &Ipv4Addr::LOCALHOST)
        .expect("the device has the address");
    let to = SocketAddr::new(group(9), member.local_addr().expect("the socket is bound").port());
    assert!(events.context().send_to(socket, b"to all", to));
    assert_eq!(recv_header(&mut events, &member), (9, 0xb8));
}

#[test]
#[ignore = "needs IPv6"]
fn a_dual_stack_socket_sends_over_both_families_with_its_options() {
    let mut events = EventLoop::new().expect("a loop");
    let socket = events.bind(options(Bind::from(any_port("::"))), datagrams(|_, _| {})).expect("a socket");
    for host in ["127.0.0.1", "::1"] {
        let one = header_socket(host);
        assert!(events.context().send_to(socket, b"to one", one.local_addr().expect("the socket is bound")));
        assert_eq!(recv_header(&mut events, &one), (7, 0xb8), "{host}");
    }
    let member = header_socket("0.0.0.0");
    member.join_multicast_v4(&Ipv4Addr::new(239, 255, 77, 10), &Ipv4Addr::LOCALHOST).expect("the device has it");
    let to = SocketAddr::new(group(10), member.local_addr().expect("the socket is bound").port());
    assert!(events.context().send_to(socket, b"to all", to));
    assert_eq!(recv_header(&mut events, &member), (9, 0xb8));
}

#[test]
#[ignore = "needs a network namespace"]
fn without_multicast_loop_datagrams_to_a_group_do_not_return_to_this_machine() {
    use support::network::network_namespace::{in_network_namespace_after, ip};
    // This interface delivers only what the kernel loops back. The loopback interface would deliver everything.
    let add_device = || {
        ip("link add void type veth peer name void-peer");
        ip("link set void up");
        ip("link set void-peer up");
        ip("address add 10.9.8.1/24 dev void");
    };
    in_network_namespace_after(add_device, || {
        let void = if_nametoindex("void").expect("the interface exists");
        let received = RefCell::new(Vec::new());
        let mut events = EventLoop::new().expect("a loop");
        let handler = datagrams(|_, payload| received.borrow_mut().push(payload.to_vec()));
        let member = Bind::from(any_port("0.0.0.0")).join_multicast(group(11), void);
        let member = events.bind(member, handler).expect("a socket");
        let to = SocketAddr::new(group(11), port(&events, member));
        for (multicast_loop, payload) in [(false, b"unheard"), (true, b"is here")] {
            let at = Bind::from(any_port("0.0.0.0")).multicast_interface(void).multicast_loop(multicast_loop);
            let socket = events.bind(at, datagrams(|_, _| {})).expect("a socket");
            assert!(events.context().send_to(socket, payload, to));
            turn_until_idle(&mut events);
        }
        turn_until(&mut events, "the second datagram", |_| {
            received.borrow().last().is_some_and(|last| last == b"is here")
        });
        assert_eq!(*received.borrow(), [b"is here"]);
        assert_eq!(events.stats().datagrams_sent, 2);
    });
}

#[test]
fn only_a_socket_with_the_broadcast_option_can_broadcast() {
    let mut events = EventLoop::new().expect("a loop");
    let peer = udp_socket("0.0.0.0");
    let to = SocketAddr::new([127, 255, 255, 255].into(), peer.local_addr().expect("the socket is bound").port());
    for (may_broadcast, sent_and_dropped) in [(false, (0, 1)), (true, (1, 1))] {
        let at = Bind::from(any_port("0.0.0.0")).broadcast(may_broadcast);
        let socket = events.bind(at, datagrams(|_, _| {})).expect("a socket");
        assert!(events.context().send_to(socket, b"to all", to));
        turn_until_idle(&mut events);
        assert_eq!((events.stats().datagrams_sent, events.stats().datagrams_dropped), sent_and_dropped);
    }
    assert_eq!(recv(&mut events, &peer).0, b"to all");
}

#[test]
fn an_inherited_socket_gets_its_options_and_groups() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a free port");
    assert_answered(Bind::from(socket).join_multicast(group(12), loopback_index()), group(12));
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a free port");
    let copy = socket.try_clone().expect("a descriptor");
    let mut events = EventLoop::new().expect("a loop");
    let at = options(Bind::from(socket)).broadcast(true).multicast_loop(false);
    events.bind(at, datagrams(|_, _| {})).expect("a socket");
    assert_eq!((copy.ttl().ok(), copy.multicast_ttl_v4().ok()), (Some(7), Some(9)));
    assert_eq!((copy.broadcast().ok(), copy.multicast_loop_v4().ok()), (Some(true), Some(false)));
}

#[test]
#[ignore = "needs a network namespace"]
fn an_ipv6_group_is_reported_with_its_interface_and_replies_use_it() {
    use support::network::network_namespace::{in_network_namespace_after, ip};
    use support::wait::wait_until;
    let add_links = || {
        for (link, peer, number) in [("one", "one-peer", 1), ("two", "two-peer", 2)] {
            ip(&format!("link add {link} type veth peer name {peer}"));
            for name in [link, peer] {
                ip(&format!("link set {name} up"));
            }
            ip(&format!("-6 address add fe80::{number}/64 dev {link} nodad"));
            ip(&format!("-6 address add fe80::a{number}/64 dev {peer} nodad"));
            ip(&format!("-6 address add fd09::{number}/128 dev {link} nodad"));
            ip(&format!("-6 address add fd09::a{number}/128 dev {peer} nodad"));
            ip(&format!("-6 route add fd09::a{number}/128 dev {link} src fd09::{number}"));
        }
        wait_until("the addresses", || {
            [("fe80::1", "one"), ("fe80::a1", "one-peer"), ("fe80::2", "two"), ("fe80::a2", "two-peer")]
                .into_iter()
                .all(|(ip, link)| scoped(ip, link).is_some_and(|address| std::net::UdpSocket::bind(address).is_ok()))
        });
    };
    in_network_namespace_after(add_links, || {
        let sent_to = RefCell::new(Vec::new());
        let mut events = EventLoop::new().expect("a loop");
        let handler = datagrams(|datagram, payload| {
            sent_to.borrow_mut().push(datagram.local_addr());
            assert!(datagram.reply(payload));
        });
        let (near, far): (IpAddr, IpAddr) =
            ("ff02::1234".parse().expect("an address"), "ff15::1234".parse().expect("an address"));
        let at = ["one", "two"].into_iter().fold(Bind::from(any_port("::")), |at, link| {
            let index = if_nametoindex(link).expect("the interface exists");
            at.join_multicast(near, index).join_multicast(far, index)
        });
        let socket = events.bind(at, handler).expect("a socket");
        let port = port(&events, socket);
        for (number, link) in [(1, "one"), (2, "two")] {
            let peer_link = format!("{link}-peer");
            for prefix in ["fe80::", "fd09::"] {
                let peer = Socket::new(Domain::IPV6, Type::DGRAM, None).expect("a socket");
                peer.set_multicast_if_v6(if_nametoindex(&*peer_link).expect("the interface exists"))
                    .expect("the interface is up");
                peer.set_nonblocking(true).expect("an option of every socket");
                let own = scoped(&format!("{prefix}a{number}"), &peer_link).expect("an address");
                peer.bind(&own.into()).expect("a free port");
                let peer = std::net::UdpSocket::from(peer);
                for group in [near, far] {
                    peer.send_to(b"who?", SocketAddr::new(group, port)).expect("the datagram is sent");
                    let (answer, from) = recv(&mut events, &peer);
                    // Without the interface the kernel would use a local route, with the peer's own address as the
                    // source.
                    let expected = format!("{prefix}{number}").parse().expect("an address");
                    assert_eq!((answer, from.ip()), (b"who?".to_vec(), expected), "to {group} by {link}");
                    let shown = if group == near { scoped("ff02::1234", link) } else { Some(SocketAddr::new(far, 0)) };
                    let mut shown = shown.expect("an address");
                    shown.set_port(port);
                    assert_eq!(sent_to.borrow().last(), Some(&shown));
                }
            }
        }
    });
}

/// A link-local address with its interface, at port 0.
fn scoped(ip: &str, interface: &str) -> Option<SocketAddr> {
    let index = if_nametoindex(interface).ok()?;
    Some(std::net::SocketAddrV6::new(ip.parse().ok()?, 0, 0, index).into())
}
