//! Real sockets on loopback, in batches and one by one: what comes and goes is the same.

use super::*;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv4PacketInfo;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// How a socket may have to work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Merging,
    Batches,
    OneByOne,
}

const WAYS: [Way; 3] = [Way::Merging, Way::Batches, Way::OneByOne];

fn bound(way: Way, ip: IpAddr, room: usize) -> (Batches, u16) {
    let socket = UdpSocket::bind((ip, 0)).expect("a free port");
    socket.set_nonblocking(true).expect("it can be");
    let port = socket.local_addr().expect("it is bound").port();
    let mut batches = Batches::new(socket, room).expect("a socket");
    assert!(batches.merges, "this kernel merges");
    batches.merges = way == Way::Merging;
    if way == Way::OneByOne {
        batches.headers = None;
    }
    (batches, port)
}

fn peer(ip: IpAddr) -> UdpSocket {
    let peer = UdpSocket::bind((ip, 0)).expect("a free port");
    peer.set_read_timeout(Some(Duration::from_secs(20))).expect("it can be");
    peer
}

fn address(peer: &UdpSocket) -> SocketAddr {
    peer.local_addr().expect("it is bound")
}

fn hear(peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut room = vec![0; 65_535];
    let (length, from) = peer.recv_from(&mut room).expect("something comes");
    room.truncate(length);
    (room, from)
}

/// Everything that waits at a socket.
fn receive_all(batches: &mut Batches, most: usize) -> Vec<(Envelope, Vec<u8>)> {
    let (mut batch, mut all) = (Batch::default(), Vec::new());
    while batches.receive(&mut batch, most).is_ok() {
        let before = all.len();
        while let Some((envelope, payload)) = batch.next() {
            all.push((envelope, payload.to_vec()));
        }
        assert!((1..=most).contains(&(all.len() - before)));
    }
    all
}

/// Sends letters, and tells which were lost.
fn transmit(batches: &mut Batches, letters: &[(SocketAddr, Option<IpAddr>, Vec<u8>)]) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut staged, mut lost, mut told) = (Staged::default(), Vec::new(), 0);
    for (to, from, payload) in letters {
        assert!(staged.push(0, *to, *from, payload));
    }
    staged.group();
    batches.transmit(&staged.letters, &staged, |letter, sent| {
        told += 1;
        if sent.is_err() {
            lost.push((letter.to, staged.payload(letter).to_vec()));
        }
    });
    assert_eq!(told, letters.len(), "each letter's outcome is told, once");
    lost
}

#[test]
fn a_hundred_datagrams_of_several_peers_all_come_each_peers_in_order() {
    for way in WAYS {
        let (mut batches, port) = bound(way, LOOPBACK, 65_535);
        let peers: Vec<UdpSocket> = (0..5).map(|_| peer(LOOPBACK)).collect();
        for number in 0..20u8 {
            for peer in &peers {
                peer.send_to(&vec![number; usize::from(number)], (LOOPBACK, port)).expect("it is sent");
            }
        }
        let all = receive_all(&mut batches, 64);
        for peer in &peers {
            let own = all.iter().filter(|(envelope, _)| envelope.peer == address(peer));
            let payloads: Vec<Vec<u8>> = own.map(|(_, payload)| payload.clone()).collect();
            let expected: Vec<Vec<u8>> = (0..20u8).map(|number| vec![number; usize::from(number)]).collect();
            assert_eq!(payloads, expected, "{way:?}");
        }
        assert!(all.len() == 100 && all.iter().all(|(envelope, _)| !envelope.truncated && envelope.asked.is_none()));
    }
}

#[test]
fn only_a_full_batch_says_that_there_may_be_more() {
    let (mut batches, port) = bound(Way::Merging, LOOPBACK, 65_535);
    let peer = peer(LOOPBACK);
    for _ in 0..5 {
        peer.send_to(b"x", (LOOPBACK, port)).expect("it is sent");
    }
    let mut batch = Batch::default();
    let mut receive = || {
        let outcome = batches.receive(&mut batch, 3).map_err(|error| error.kind());
        (outcome, std::iter::from_fn(|| batch.next().map(drop)).count())
    };
    assert_eq!([receive(), receive(), receive()], [(Ok(true), 3), (Ok(false), 2), (Err(io::ErrorKind::WouldBlock), 0)]);
}

#[test]
fn a_datagram_longer_than_its_room_is_cut_and_says_so_and_those_beside_it_are_whole() {
    for way in WAYS {
        let (mut batches, port) = bound(way, LOOPBACK, 4);
        let peer = peer(LOOPBACK);
        for length in [0, 5, 3, 4, 100, 0] {
            peer.send_to(&b"0123456789".repeat(10)[..length], (LOOPBACK, port)).expect("it is sent");
        }
        let all = receive_all(&mut batches, 64);
        let seen: Vec<(&[u8], bool)> = all.iter().map(|(envelope, bytes)| (&bytes[..], envelope.truncated)).collect();
        let expected = [(0, false), (4, true), (3, false), (4, false), (4, true), (0, false)];
        assert_eq!(seen, expected.map(|(length, truncated)| (&b"0123"[..length], truncated)), "{way:?}");
    }
}

#[test]
fn letters_arrive_as_the_datagrams_they_are_in_order_whatever_carries_them() {
    for way in WAYS {
        let (mut batches, port) = bound(way, LOOPBACK, 65_535);
        let peers: Vec<UdpSocket> = (0..3).map(|_| peer(LOOPBACK)).collect();
        // Of one length; the last shorter; empty ones, longer ones and one that fills a datagram among them.
        let lengths: [&[usize]; 3] = [&[18; 100], &[18, 18, 18, 7], &[5, 0, 0, 9, 9, 9, 60_000, 9, 1, 9]];
        let mut letters = Vec::new();
        for number in 0..100 {
            for (peer, lengths) in peers.iter().zip(lengths) {
                if let Some(length) = lengths.get(number) {
                    letters.push((address(peer), None, vec![u8::try_from(number).expect("below 100"); *length]));
                }
            }
        }
        assert_eq!(transmit(&mut batches, &letters), []);
        for (peer, lengths) in peers.iter().zip(lengths) {
            for (number, length) in lengths.iter().enumerate() {
                let expected = vec![u8::try_from(number).expect("below 100"); *length];
                assert!(hear(peer) == (expected, (LOOPBACK, port).into()), "{way:?}: {number}");
            }
        }
    }
}

/// Binds at every address; peers ask at several, three times each, and are answered there.
fn ask_everywhere(way: Way, bind: IpAddr, asked: &[IpAddr]) {
    let (mut batches, port) = bound(way, bind, 65_535);
    let peers: Vec<UdpSocket> = asked.iter().map(|ip| peer(*ip)).collect();
    for _ in 0..3 {
        for (peer, ip) in peers.iter().zip(asked) {
            peer.send_to(b"where?", (*ip, port)).expect("it is sent");
        }
    }
    let mut letters = Vec::new();
    for (envelope, _) in receive_all(&mut batches, 4) {
        let place = peers.iter().position(|peer| address(peer) == envelope.peer).expect("one of them");
        assert_eq!(envelope.asked, Some(asked[place]), "{way:?}");
        letters.push((envelope.peer, envelope.asked, b"here".to_vec()));
    }
    assert_eq!((letters.len(), transmit(&mut batches, &letters)), (3 * asked.len(), vec![]), "{way:?}");
    for (peer, ip) in peers.iter().zip(asked) {
        for _ in 0..3 {
            assert_eq!(hear(peer), (b"here".to_vec(), (*ip, port).into()), "{way:?}");
        }
    }
}

#[test]
fn answers_leave_from_the_addresses_that_were_asked_merged_or_not() {
    for way in WAYS {
        ask_everywhere(way, Ipv4Addr::UNSPECIFIED.into(), &[LOOPBACK, SECOND]);
        // Where a machine has no IPv6, the tests of the library say so.
        if UdpSocket::bind("[::1]:0").is_ok() {
            ask_everywhere(way, Ipv6Addr::UNSPECIFIED.into(), &[Ipv6Addr::LOCALHOST.into(), LOOPBACK, SECOND]);
        }
    }
}

#[test]
fn an_error_costs_the_letter_it_is_about_and_no_other() {
    // Nobody has allowed this socket to broadcast.
    let refused = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
    for way in WAYS {
        let (mut batches, _) = bound(way, LOOPBACK, 65_535);
        let peers: Vec<UdpSocket> = (0..3).map(|_| peer(LOOPBACK)).collect();
        let mut letters = Vec::new();
        for peer in &peers {
            letters.push((refused, None, b"not here".to_vec()));
            for number in 0..3 {
                letters.push((address(peer), None, vec![number; 8]));
            }
        }
        assert_eq!(transmit(&mut batches, &letters), vec![(refused, b"not here".to_vec()); 3], "{way:?}");
        for peer in &peers {
            assert_eq!([0, 1, 2].map(|_| hear(peer).0), [0, 1, 2].map(|number| vec![number; 8]), "{way:?}");
        }
        assert_eq!(batches.merges, way == Way::Merging, "that was no reason to give up merging");
    }
}

#[test]
fn a_peer_that_has_gone_costs_nobody_else_a_letter_or_a_datagram() {
    for way in WAYS {
        let (mut batches, port) = bound(way, LOOPBACK, 65_535);
        let (gone, here) = (address(&peer(LOOPBACK)), peer(LOOPBACK));
        let letters = [gone, address(&here)].map(|to| vec![(to, None, b"for you".to_vec()); 4]).concat();
        for _ in 0..3 {
            assert_eq!(transmit(&mut batches, &letters), [], "{way:?}");
            here.send_to(b"for you, too", (LOOPBACK, port)).expect("it is sent");
            assert_eq!([(); 4].map(|()| hear(&here).0), [(); 4].map(|()| b"for you".to_vec()), "{way:?}");
            assert_eq!(receive_all(&mut batches, 64).len(), 1, "{way:?}");
        }
    }
}

#[test]
fn one_call_carries_what_differs_in_length_or_peer_and_never_two_origins_or_two_segments() {
    let to = |port| SocketAddr::new(LOOPBACK, port);
    let calls = |letters: &[(u16, Option<IpAddr>, usize)]| {
        let mut staged = Staged::default();
        for (port, from, length) in letters {
            assert!(staged.push(0, to(*port), *from, &vec![0; *length]));
        }
        let (mut calls, mut rest) = (Vec::new(), &staged.letters[..]);
        while !rest.is_empty() {
            let call = Call::of(rest, &staged, true);
            let letters: Vec<usize> = call.letters[..call.count].iter().map(|merged| merged.len()).collect();
            calls.push((letters, call.segment));
            rest = &rest[call.letters_in(call.count)..];
        }
        calls
    };
    let plain = |port, length| (port, None, length);
    assert_eq!(calls(&[plain(1, 5), plain(2, 9), plain(3, 0)]), [(vec![1, 1, 1], None)]);
    assert_eq!(calls(&[plain(1, 5), plain(2, 9), plain(2, 9), plain(3, 9)]), [(vec![1, 2, 1], Some(9))]);
    let longer_beside = [plain(1, 5), plain(1, 5), plain(2, 9)];
    assert_eq!(calls(&longer_beside), [(vec![2], Some(5)), (vec![1], None)], "or it would be cut");
    let two_segments = [plain(1, 5), plain(1, 5), plain(2, 9), plain(2, 9)];
    assert_eq!(calls(&two_segments), [(vec![2], Some(5)), (vec![2], Some(9))]);
    let two_origins = [(1, Some(LOOPBACK), 5), (1, Some(LOOPBACK), 5), (1, Some(SECOND), 5)];
    assert_eq!(calls(&two_origins), [(vec![2], Some(5)), (vec![1], None)]);
    let crowd: Vec<_> = (1..=100).map(|port| plain(port, 5)).collect();
    assert_eq!(calls(&crowd), [(vec![1; 64], None), (vec![1; 36], None)]);
}

#[test]
fn packet_information_that_was_missing_once_is_there_again_for_the_next() {
    let (mut batches, port) = bound(Way::Merging, Ipv4Addr::UNSPECIFIED.into(), 65_535);
    let peer = peer(LOOPBACK);
    let mut asked = |wanted| {
        setsockopt(batches.socket(), Ipv4PacketInfo, &wanted).expect("it can be");
        peer.send_to(b"x", (SECOND, port)).expect("it is sent");
        receive_all(&mut batches, 64)[0].0.asked
    };
    assert_eq!([asked(true), asked(false), asked(true)], [Some(SECOND), None, Some(SECOND)]);
}
