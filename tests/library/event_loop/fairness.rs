//! The budgets of a turn: bytes, accepts and datagrams.
//!
//! No source keeps another waiting.

use std::time::Duration;

use halloo::{Bind, EventLoop, datagrams, stream};
use support::byte_pattern::byte_pattern;

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::nonblocking_client::{Client, send_all};
use crate::helpers::recording_handler::{CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle};

#[test]
fn one_connection_is_read_for_at_most_128_kib_a_turn() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(|_, input| input.len())).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&byte_pattern(8 * 1024 * 1024));
    let (mut before, mut max) = (0, 0);
    turn_until(&mut events, "all is read", |events| {
        client.flush();
        let now = events.stats().bytes_received;
        max = max.max(now - before);
        before = now;
        now == 8 * 1024 * 1024
    });
    assert!((64 * 1024..=128 * 1024).contains(&max), "{max} bytes in one turn");
}

#[test]
fn clients_that_never_stop_sending_do_not_delay_another() {
    let mut events = EventLoop::new().expect("a loop");
    let discard = events.listen(loopback(), stream(|_, input| input.len())).expect("a listener");
    let greeter = events.listen(loopback(), stream(greet)).expect("a listener");
    let (discard, greeter) = (
        events.local_addr(discard).expect("the listener is open"),
        events.local_addr(greeter).expect("the listener is open"),
    );
    let flood = byte_pattern(256 * 1024);
    let mut flooding: Vec<Client> = (0..4).map(|_| Client::connect(discard)).collect();
    turn_until(&mut events, "the flood is under way", |events| {
        send_all(&mut flooding, &flood[..flood.len() / 4]);
        events.stats().bytes_received > 1024 * 1024
    });
    for _ in 0..20 {
        let mut client = Client::connect(greeter);
        client.send(b"Hello, TCP Server!");
        let before = events.stats().turns;
        turn_until(&mut events, "the greeting", |_| {
            for sender in &mut flooding {
                sender.flush();
                if sender.has_sent_all() {
                    sender.send(&flood);
                }
            }
            client.has_received(GREETING.len())
        });
        assert_eq!(client.received, GREETING);
        let turns = events.stats().turns - before;
        assert!(turns <= 10, "{turns} turns until the greeting");
    }
}

#[test]
fn a_client_that_never_reads_its_echo_does_not_delay_another() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let mut non_reading = Client::connect_narrow(address);
    let flood = byte_pattern(10 * 1024 * 1024);
    non_reading.send(&flood);
    turn_until(&mut events, "its output waits", |events| {
        non_reading.flush();
        events.stats().bytes_received > events.stats().bytes_sent
    });
    turn_until_idle(&mut events);
    assert_eq!(Client::connect(address).request(&mut events, b"and me?", 7), b"and me?");
}

#[test]
fn many_clients_are_accepted_in_portions_without_another_event() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let listener = events.listen(loopback(), RecordingHandler::new(&log)).expect("a listener");
    let address = events.local_addr(listener).expect("the listener is open");
    let clients: Vec<Client> = (0..300).map(|_| Client::connect(address)).collect();
    let mut before = 0;
    turn_until(&mut events, "all are accepted", |events| {
        let accepted = events.stats().accepted;
        assert!(accepted - before <= 128, "{} in one turn", accepted - before);
        if (1..300).contains(&accepted) {
            assert_eq!(events.next_timeout(), Some(Duration::ZERO), "{accepted} accepted, more are waiting");
        }
        before = accepted;
        accepted == 300
    });
    assert_eq!(log.ids().len(), clients.len());
}

#[test]
fn a_full_udp_socket_delivers_at_most_128_datagrams_a_turn_and_delays_no_tcp_client() {
    let mut events = EventLoop::new().expect("a loop");
    let at = Bind::from(loopback()).recv_buffer_bytes(4 * 1024 * 1024);
    let socket = events.bind(at, datagrams(|_, _| {})).expect("a socket");
    let listener = events.listen(loopback(), stream(greet)).expect("a listener");
    let (udp, tcp) = (
        events.local_addr(socket).expect("the socket is open"),
        events.local_addr(listener).expect("the listener is open"),
    );
    let flooder = udp_socket("127.0.0.1");
    let flood = || (0..400).filter(|_| flooder.send_to(b"flood", udp).is_ok()).count();
    let mut sent = flood() as u64;
    turn_until(&mut events, "the flood is under way", |events| events.stats().datagrams_received > 0);

    let mut client = Client::connect(tcp);
    client.send(b"Hello, TCP Server!");
    let (mut before, turns) = (events.stats().datagrams_received, events.stats().turns);
    turn_until(&mut events, "the greeting", |events| {
        let received = events.stats().datagrams_received;
        assert!(received - before <= 128, "{} in one turn", received - before);
        before = received;
        sent += flood() as u64;
        client.has_received(GREETING.len())
    });
    assert_eq!(client.received, GREETING);
    let turns = events.stats().turns - turns;
    assert!(turns <= 10, "{turns} turns until the greeting");
    assert!(events.stats().datagrams_received < sent, "all datagrams were received before the end of the flood");
}
