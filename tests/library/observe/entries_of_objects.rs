//! The entries of connections and UDP sockets, and their details.

use std::cell::Cell;
use std::time::{Duration, Instant};

use halloo::observe::{Callback, Entry, EntryKind, Level, Object};
use halloo::{EventLoop, datagrams, stream};

use crate::helpers::loopback::{loopback, udp_socket};
use crate::helpers::nonblocking_client::Client;
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{recv, turn_until, turn_until_idle};
use crate::observe::noted_turns::{Note, Notes};

#[test]
fn the_entries_of_a_connection_tell_its_life_in_order() {
    let notes = Notes::default();
    let mut events = notes.recorded_loop();
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    let peer = client.local_addr();
    turn_until(&mut events, "the client is accepted", |events| events.stats().accepted == 1);
    turn_until_idle(&mut events);
    client.request(&mut events, b"hello", 5);
    drop(client);
    turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
    let mut life = notes.words_of(Object::Connection);
    // Room to send is reported once, when it is registered, alone or with input.
    life.retain(|words| words != "readiness 2");
    let expected = [
        "opened",
        "callback-begin on_open 0",
        "callback-end on_open 0",
        "read would-block",
        "registered",
        "deadline-set",
        "readiness 3",
        "read 5",
        "callback-begin on_data 5",
        "callback-end on_data 5",
        "write 5 of 5",
        "readiness 7",
        "read 0",
        "callback-begin on_eof 0",
        "callback-end on_eof 0",
        "shutdown-write",
        "closed eof",
        "callback-begin on_close 0",
        "callback-end on_close 0",
        "freed",
    ];
    assert_eq!(life, expected);
    let opened = &notes.of_kind(EntryKind::Opened)[0];
    assert_eq!(opened.address, Some(peer));
    let connection: Vec<Note> =
        notes.all().into_iter().filter(|note| note.entry.object == Object::Connection).collect();
    let identity = |entry: &Entry| (entry.slot, entry.generation);
    assert!(connection.iter().all(|note| identity(&note.entry) == identity(&opened.entry)), "{connection:?}");
    let accept = &notes.of_kind(EntryKind::Accept)[0];
    assert_eq!(accept.entry.numbers[0], opened.entry.numbers[0], "the descriptor");
}

#[test]
fn the_entries_of_a_datagram_and_its_reply_have_the_address_of_its_peer() {
    let notes = Notes::default();
    let mut events = notes.recorded_loop();
    let socket = datagrams(|datagram, payload| {
        datagram.reply(&payload[..2]);
    });
    let socket = events.bind(loopback(), socket).expect("a socket");
    let address = events.local_addr(socket).expect("the socket is open");
    turn_until_idle(&mut events);
    notes.turns.borrow_mut().clear();
    let peer = udp_socket("127.0.0.1");
    peer.send_to(b"four", address).expect("the datagram is sent");
    recv(&mut events, &peer);
    let expected = [
        "receive-batch 1",
        "callback-begin on_datagram 1",
        "datagram-in 4",
        "callback-end on_datagram 1",
        "send-batch 1",
        "datagram-out 2",
    ];
    assert_eq!(notes.words_of(Object::UdpSocket)[1..], expected, "after the readiness");
    for kind in [EntryKind::DatagramIn, EntryKind::DatagramOut] {
        assert_eq!(notes.of_kind(kind)[0].address, peer.local_addr().ok());
    }
}

#[test]
fn times_of_entries_never_go_back_and_callbacks_have_their_duration() {
    let busy_for = Duration::from_millis(2);
    let before = Instant::now();
    let notes = Notes::default();
    let mut events = notes.recorded_loop();
    let slow = stream(|connection, input| {
        let start = Instant::now();
        while start.elapsed() < busy_for {}
        connection.try_write(input)
    });
    let listener = events.listen(loopback(), slow).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.request(&mut events, b"hello", 5);
    let all = notes.all();
    assert!(all.is_sorted_by_key(|note| note.entry.nanoseconds), "{all:?}");
    assert!(all.last().is_some_and(|note| note.entry.time() <= before.elapsed()));
    let of_on_data = |note: &&Note| note.entry.numbers[0] == Callback::Data as u64;
    let (begins, ends) = (notes.of_kind(EntryKind::CallbackBegin), notes.of_kind(EntryKind::CallbackEnd));
    let begin = begins.iter().find(of_on_data).expect("on_data begins").entry.time();
    let end = ends.iter().find(of_on_data).expect("on_data ends").entry.time();
    assert!(end >= begin + busy_for, "from {begin:?} to {end:?}");
}

#[test]
fn on_start_between_two_turns_begins_at_the_time_of_its_call() {
    let (notes, started) = (Notes::default(), Cell::new(None));
    let mut events = EventLoop::new().expect("a loop");
    events.journal_level(Level::All);
    events.set_observer(|turn| {
        started.set(Some(turn.started));
        notes.add(turn);
    });
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    let attached = Instant::now();
    events.attach(stream(echo));
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
    let begin = notes.of_kind(EntryKind::CallbackBegin)[0].entry;
    assert_eq!(begin.numbers[0], Callback::Start as u64);
    let attached = attached.duration_since(started.get().expect("a turn was observed"));
    assert!(begin.time() >= attached, "attached at {attached:?}, on_start at {:?}", begin.time());
}

#[test]
fn objects_that_exist_are_noted_first_when_everything_is_noted_from_now_on() {
    let notes = Notes::default();
    let mut events = EventLoop::new().expect("a loop");
    events.set_observer(|turn| notes.add(turn));
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let socket = events.bind(loopback(), datagrams(|_, _| {})).expect("a socket");
    let listening = events.local_addr(listener).expect("the listener is open");
    let bound = events.local_addr(socket).expect("the socket is open");
    let mut client = Client::connect(listening);
    client.request(&mut events, b"hello", 5);
    turn_until_idle(&mut events);
    events.journal_level(Level::Turns);
    turn_until_idle(&mut events);
    assert_eq!(notes.of_kind(EntryKind::Existing).len(), 0, "turns name no object");

    events.journal_level(Level::All);
    client.request(&mut events, b"hello", 5);
    let turns = notes.turns.borrow();
    let first = turns.iter().find(|turn| turn[0].entry.kind != EntryKind::PollBegin).expect("a turn with objects");
    let existing: Vec<_> = first[..3].iter().map(|note| (note.entry.kind, note.entry.object, note.address)).collect();
    let expected = [
        (EntryKind::Existing, Object::Listener, Some(listening)),
        (EntryKind::Existing, Object::UdpSocket, Some(bound)),
        (EntryKind::Existing, Object::Connection, Some(client.local_addr())),
    ];
    assert_eq!(existing, expected);
    assert_eq!(turns.iter().flatten().filter(|note| note.entry.kind == EntryKind::Existing).count(), 3, "noted once");
}

#[test]
fn bytes_of_clients_are_noted_only_on_request_and_up_to_the_maximum() {
    let notes = Notes::default();
    let mut events = notes.recorded_loop();
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let socket = events.bind(loopback(), datagrams(|_, _| {})).expect("a socket");
    let bound = events.local_addr(socket).expect("the socket is open");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    let peer = udp_socket("127.0.0.1");
    let mut payloads_of = |events: &mut EventLoop<'_>| {
        notes.turns.borrow_mut().clear();
        client.request(events, b"stream", 6);
        let received = events.stats().datagrams_received;
        peer.send_to(b"datagram", bound).expect("the datagram is sent");
        turn_until(events, "the datagram", |events| events.stats().datagrams_received > received);
        [EntryKind::Read, EntryKind::Write, EntryKind::DatagramIn].map(|kind| {
            let payloads: Vec<Vec<u8>> = notes.of_kind(kind).into_iter().filter_map(|note| note.payload).collect();
            String::from_utf8(payloads.concat()).expect("ASCII")
        })
    };
    assert_eq!(payloads_of(&mut events), ["", "", ""], "by default none are kept");
    events.journal_payload_bytes_max(3);
    assert_eq!(payloads_of(&mut events), ["str", "str", "dat"]);
    events.journal_payload_bytes_max(0);
    assert_eq!(payloads_of(&mut events), ["", "", ""]);
}

#[test]
fn a_read_at_eof_or_without_input_has_no_bytes() {
    let notes = Notes::default();
    let mut events = notes.recorded_loop();
    events.journal_payload_bytes_max(3);
    let listener = events.listen(loopback(), stream(echo)).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    // The first read, at once after the accept, finds nothing.
    turn_until(&mut events, "the client", |events| events.stats().accepted > 0);
    client.request(&mut events, b"stream", 6);
    drop(client);
    turn_until(&mut events, "the end", |events| events.stats().closed_total() > 0);
    let reads = notes.of_kind(EntryKind::Read);
    let without: Vec<_> = reads.iter().filter(|note| note.entry.numbers[0] == 0).collect();
    assert!(without.len() >= 2, "{reads:?}");
    assert!(without.iter().all(|note| note.payload.is_none()), "{reads:?}");
}

#[test]
fn a_turn_with_too_many_entries_ends_with_the_number_of_those_lost() {
    const ENTRIES_MAX: usize = 64 * 1024;
    const PAUSES: usize = 40_000;
    let notes = Notes::default();
    let mut events = notes.recorded_loop();
    let restless = stream(|connection, input| {
        for _ in 0..PAUSES {
            connection.pause();
            connection.resume();
        }
        connection.try_write(input)
    });
    let listener = events.listen(loopback(), restless).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |events| events.stats().accepted == 1);
    turn_until_idle(&mut events);
    client.request(&mut events, b"hello", 5);
    turn_until_idle(&mut events);
    let turns = notes.turns.borrow();
    let longest = turns.iter().position(|turn| turn.len() > ENTRIES_MAX).expect("a turn over the maximum");
    let (last, kept) = turns[longest].split_last().expect("entries");
    assert_eq!((kept.len(), last.entry.kind), (ENTRIES_MAX, EntryKind::Lost));
    let pauses = kept.iter().filter(|note| matches!(note.entry.kind, EntryKind::Paused | EntryKind::Resumed)).count();
    let lost_pauses = (2 * PAUSES - pauses) as u64;
    // The end of `on_data`, the write and the end of the turn, and what a further read may add.
    let others = last.entry.numbers[0] - lost_pauses;
    assert!((3..10).contains(&others), "{others} other entries");
    assert!(turns[longest + 1..].iter().flatten().all(|note| note.entry.kind != EntryKind::Lost), "lost once");
}

#[test]
fn an_event_of_a_socket_that_was_removed_in_the_same_turn_is_noted_as_stale() {
    let notes = Notes::default();
    let mut events = notes.recorded_loop();
    let socket = events.bind(loopback(), datagrams(|_, _| {})).expect("a socket");
    let remover = stream(move |connection, input| {
        connection.context().remove(socket);
        input.len()
    });
    let listener = events.listen(loopback(), remover).expect("a listener");
    let bound = events.local_addr(socket).expect("the socket is open");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    turn_until(&mut events, "the client is accepted", |events| events.stats().accepted == 1);
    turn_until_idle(&mut events);
    // The events come in this order.
    client.send(b"remove it");
    udp_socket("127.0.0.1").send_to(b"late", bound).expect("the datagram is sent");
    turn_until_idle(&mut events);
    let (closed, stale) = (notes.of_kind(EntryKind::Closed), notes.of_kind(EntryKind::StaleEvent));
    assert_eq!((closed.len(), stale.len()), (1, 1));
    let object = |note: &Note| (note.entry.object, note.entry.slot, note.entry.generation);
    assert_eq!(object(&stale[0]), object(&closed[0]));
}
