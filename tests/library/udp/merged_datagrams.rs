//! Datagrams that the kernel has merged (`UDP_GRO`), delivered one by one.
//!
//! A handler gets each as if it had arrived alone. They are merged because their sender sends segments (`UDP_SEGMENT`).

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, UdpSocket};

use halloo::{Bind, Datagram, EventLoop, datagrams};
use nix::sys::socket::sockopt::{UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{getsockopt, setsockopt};

use crate::helpers::loopback::udp_socket;
use crate::helpers::turn_until::{turn_until, turn_until_idle};

/// What a handler got: the payload, and whether it was cut.
type Received = RefCell<Vec<(Vec<u8>, bool)>>;

fn record(received: &Received, datagram: &Datagram<'_>, payload: &[u8]) {
    received.borrow_mut().push((payload.to_vec(), datagram.is_truncated()));
}

/// A socket for the loop, and a duplicate that shows its options.
fn socket_and_duplicate() -> (UdpSocket, UdpSocket) {
    let socket = udp_socket("127.0.0.1");
    let duplicate = socket.try_clone().expect("a descriptor");
    (socket, duplicate)
}

fn is_merging(socket: &UdpSocket) -> bool {
    getsockopt(socket, UdpGroSegment).expect("the kernel has the option")
}

/// Sends the bytes with one call, in datagrams of this length; the last may be shorter.
fn send_segments(sender: &UdpSocket, to: SocketAddr, bytes: &[u8], segment: i32) {
    setsockopt(sender, UdpGsoSegment, &segment).expect("the kernel has the option");
    sender.send_to(bytes, to).expect("it is sent");
}

/// Sends until the loop's socket merges; the handler gets 16 datagrams of one byte at a time.
fn start_merging(events: &mut EventLoop<'_>, sender: &UdpSocket, to: &UdpSocket) {
    let address = to.local_addr().expect("it is bound");
    turn_until(events, "datagrams are merged", |events| {
        let before = events.stats().datagrams_received;
        send_segments(sender, address, &[b'.'; 16], 1);
        turn_until(events, "they arrive", |events| events.stats().datagrams_received == before + 16);
        is_merging(to)
    });
}

#[test]
fn merged_datagrams_are_delivered_one_by_one_and_answered() {
    let received = Received::default();
    let mut events = EventLoop::new().expect("a loop");
    let (socket, duplicate) = socket_and_duplicate();
    let (sender, other) = (udp_socket("127.0.0.1"), udp_socket("127.0.0.1"));
    let handler = datagrams(|datagram, payload| {
        record(&received, datagram, payload);
        assert!(payload == b"." || datagram.reply(payload));
    });
    events.bind(socket, handler).expect("a socket");
    start_merging(&mut events, &sender, &duplicate);
    received.borrow_mut().clear();
    let address = duplicate.local_addr().expect("it is bound");
    // Merged ones of two lengths with a shorter last one, and between them some that were sent alone.
    send_segments(&sender, address, &[[b'a'; 100], [b'b'; 100], [b'c'; 100]].concat()[..230], 100);
    for length in [1, 0, 300] {
        other.send_to(&vec![b'o'; length], address).expect("it is sent");
    }
    send_segments(&sender, address, b"onetwosix", 3);
    turn_until(&mut events, "all arrive", |_| received.borrow().len() == 9);
    let expected: [&[u8]; 9] =
        [&[b'a'; 100], &[b'b'; 100], &[b'c'; 30], b"o", b"", &[b'o'; 300], b"one", b"two", b"six"];
    assert_eq!(*received.borrow(), expected.map(|payload| (payload.to_vec(), false)));
    for (peer, replies) in [(&sender, [0, 1, 2, 6, 7, 8].as_slice()), (&other, &[3, 4, 5])] {
        for index in replies {
            let mut reply = [0; 512];
            let length = turn_until_received(&mut events, peer, &mut reply);
            assert_eq!(&reply[..length], expected[*index]);
        }
    }
}

fn turn_until_received(events: &mut EventLoop<'_>, peer: &UdpSocket, reply: &mut [u8]) -> usize {
    let length = Cell::new(None);
    turn_until(events, "a reply", |_| {
        length.set(peer.recv(reply).ok());
        length.get().is_some()
    });
    length.get().expect("it has arrived")
}

#[test]
fn a_merged_datagram_over_datagram_bytes_max_is_truncated_and_the_others_are_whole() {
    let received = Received::default();
    let mut events = EventLoop::new().expect("a loop");
    let (socket, duplicate) = socket_and_duplicate();
    let handler = datagrams(|datagram, payload| record(&received, datagram, payload));
    events.bind(Bind::from(socket).datagram_bytes_max(10), handler).expect("a socket");
    let sender = udp_socket("127.0.0.1");
    start_merging(&mut events, &sender, &duplicate);
    received.borrow_mut().clear();
    let address = duplicate.local_addr().expect("it is bound");
    send_segments(&sender, address, &[b'x'; 25], 11);
    send_segments(&sender, address, &[b'y'; 15], 10);
    sender.send_to(&[b'z'; 10], address).expect("it is sent");
    turn_until(&mut events, "all arrive", |_| received.borrow().len() == 6);
    let expected = [(b'x', 10, true), (b'x', 10, true), (b'x', 3, false), (b'y', 10, false), (b'y', 5, false)];
    let expected = [&expected[..], &[(b'z', 10, false)]].concat();
    let expected: Vec<_> = expected.iter().map(|(byte, length, cut)| (vec![*byte; *length], *cut)).collect();
    assert_eq!(*received.borrow(), expected);
    assert_eq!(events.stats().datagrams_truncated, 2);
}

/// Sends five messages of 64 numbered datagrams, of which a turn delivers less.
fn send_numbers(sender: &UdpSocket, to: &UdpSocket) {
    let numbers: Vec<u8> = (0..320u16).flat_map(u16::to_be_bytes).collect();
    for message in numbers.chunks(128) {
        send_segments(sender, to.local_addr().expect("it is bound"), message, 2);
    }
}

#[test]
fn a_budget_that_ends_inside_merged_datagrams_continues_there_in_the_next_turn() {
    let numbers = RefCell::new(Vec::new());
    let mut events = EventLoop::new().expect("a loop");
    let (socket, duplicate) = socket_and_duplicate();
    let handler = datagrams(|_, payload| {
        numbers.borrow_mut().extend(payload.try_into().map(u16::from_be_bytes));
    });
    events.bind(socket, handler).expect("a socket");
    let sender = udp_socket("127.0.0.1");
    start_merging(&mut events, &sender, &duplicate);
    for _ in 0..2 {
        numbers.borrow_mut().clear();
        send_numbers(&sender, &duplicate);
        turn_until(&mut events, "a turn", |_| !numbers.borrow().is_empty());
        assert_eq!(numbers.borrow().len(), 128, "the budget of a turn");
        turn_until(&mut events, "all arrive", |_| numbers.borrow().len() >= 320);
        turn_until_idle(&mut events);
        assert_eq!(*numbers.borrow(), (0..320).collect::<Vec<_>>());
    }
}

/// Removes the socket at this number, or between two turns. Returns how many numbers were delivered.
fn numbers_until_removal(at: usize) -> usize {
    let count = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    let (socket, duplicate) = socket_and_duplicate();
    let handler = datagrams(|datagram, payload| {
        if payload.len() == 2 {
            count.set(count.get() + 1);
            let socket = datagram.socket();
            assert!(count.get() != at || datagram.context().remove(socket));
        }
    });
    let id = events.bind(socket, handler).expect("a socket");
    let sender = udp_socket("127.0.0.1");
    start_merging(&mut events, &sender, &duplicate);
    send_numbers(&sender, &duplicate);
    turn_until(&mut events, "a turn", |_| count.get() > 0);
    events.context().remove(id);
    turn_until_idle(&mut events);
    count.get()
}

#[test]
fn no_merged_datagram_is_delivered_after_the_removal_of_its_socket() {
    assert_eq!([1, 70, 127, 128, usize::MAX].map(numbers_until_removal), [1, 70, 127, 128, 128]);
}

#[test]
fn a_panic_loses_only_its_own_one_of_merged_datagrams() {
    let received = Received::default();
    let mut events = EventLoop::new().expect("a loop");
    events.catch_panics(true);
    let (socket, duplicate) = socket_and_duplicate();
    let handler = datagrams(|datagram, payload| {
        assert_ne!(payload, b"bad", "a deliberate panic");
        record(&received, datagram, payload);
    });
    events.bind(socket, handler).expect("a socket");
    let sender = udp_socket("127.0.0.1");
    start_merging(&mut events, &sender, &duplicate);
    received.borrow_mut().clear();
    send_segments(&sender, duplicate.local_addr().expect("it is bound"), b"onebadsix", 3);
    turn_until(&mut events, "all arrive", |_| received.borrow().len() == 2);
    assert_eq!(*received.borrow(), [b"one", b"six"].map(|payload| (payload.to_vec(), false)));
}

#[test]
fn merging_ends_when_the_peers_send_no_segments_and_no_datagram_is_lost() {
    let count = Cell::new(0);
    let mut events = EventLoop::new().expect("a loop");
    let (socket, duplicate) = socket_and_duplicate();
    events.bind(socket, datagrams(|_, _| count.set(count.get() + 1))).expect("a socket");
    let sender = udp_socket("127.0.0.1");
    start_merging(&mut events, &sender, &duplicate);
    let plain = udp_socket("127.0.0.1");
    turn_until(&mut events, "merging ends", |events| {
        let before = count.get();
        for _ in 0..20 {
            plain.send_to(b"alone", duplicate.local_addr().expect("it is bound")).expect("it is sent");
        }
        turn_until(events, "they arrive", |_| count.get() == before + 20);
        !is_merging(&duplicate)
    });
    start_merging(&mut events, &sender, &duplicate);
}
