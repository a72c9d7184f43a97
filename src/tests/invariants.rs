//! What must hold after every turn of the workload.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::context::entries::listener_entry::ListenerEntry;
use crate::context::entries::source::SourceState;
use crate::context::loop_state::LoopState;
use crate::event_loop::EventLoop;
use crate::ids::{SlotKey, to_slot};
use crate::limits;
use crate::net::simulated::sim_handle::SimHandle;
use crate::net::simulated::sim_socket::{ConnectAnswer, FdState, RecvQueue, Reset, SimSocketKind};
use crate::net::simulated::world::{Call, World};
use crate::net::{Listener, Stream, UdpSocket};
use crate::observe::entry::{Entry, EntryKind, Level, Object};
use crate::shared_bytes::SharedBytes;
use crate::state::phase::{Action, Phase, Queued, ReadState, WriteState};
use crate::state::source_address_limits::SourcePrefix;
use crate::state::timers::TimerTask;
use crate::state::timestamp::Timestamp;

/// Checks everything. The caller is between two turns.
pub(super) fn check(events: &EventLoop<'_>, world: &World) {
    if matches!(events.context.loop_state, LoopState::Stopped(_)) {
        assert_eq!(world.descriptors, 0, "a stopped loop holds no descriptor");
        assert_eq!(events.context.stats.connections, 0, "a stopped loop has no connection");
        return;
    }
    counters_agree(events, world);
    handlers_are_kept_while_used(events);
    sources_are_counted(events);
    memory_is_bounded(events);
    poll_never_waits_past_a_deadline(events);
    for (key, _) in &events.context.connections {
        connection_will_be_served(events, world, u32::try_from(key).expect("a slot"));
    }
    listeners_will_be_served(events, world);
    udp_sockets_will_be_served(events, world);
    assert!(events.context.send_queue.transmits.is_empty(), "datagrams are never queued beyond the turn");
    assert!(events.context.running_callback.is_none(), "no callback runs between turns");
}

/// The poll never waits past an armed deadline or the end of a drain.
fn poll_never_waits_past_a_deadline(events: &EventLoop<'_>) {
    let context = &events.context;
    let deadlines = context.connections.iter().map(|(slot, _)| deadline(context, to_slot(slot)));
    let look = events.strain.map(|strain| strain.next_look);
    let others = [context.deadlines.earliest(), context.drain_until(), look, context.repeated_logs.due()];
    let first = deadlines.chain(others.into_iter().flatten()).min().unwrap_or(Timestamp::NEVER);
    let wait = events.next_timeout();
    let lists = [context.deferred.len(), context.dirty.len(), context.notes.len(), context.pending_connects.len()];
    let is_left = lists.iter().sum::<usize>() + context.ready_sources.len() > 0;
    assert!(!is_left || wait == Some(Duration::ZERO), "work is left, and the poll would wait {wait:?}");
    let at_once = context.now.after(Duration::from_nanos(1));
    let is_in_time =
        first == Timestamp::NEVER || wait.is_some_and(|wait| wait <= first.max(at_once).since(context.now));
    assert!(is_in_time, "the poll would wait {wait:?}, and a deadline is due in {:?}", first.since(context.now));
}

/// All buffers are counted, and keep to their maximum, except for the guaranteed shares.
fn memory_is_bounded(events: &EventLoop<'_>) {
    let Context { connections, buffer_pool, .. } = &events.context;
    let buffers = connections.iter().filter_map(|(_, entry)| entry.state.buffers.as_ref());
    let (count, copied) = buffers.clone().fold((0, 0), |(count, sum), buffers| (count + 1, sum + buffers.capacity()));
    // A shared buffer counts once.
    let shared: BTreeMap<usize, usize> =
        buffers.flat_map(|buffers| buffers.outbox.shared_parts().map(SharedBytes::allocation)).collect();
    let bytes = copied + shared.values().sum::<usize>();
    assert_eq!(buffer_pool.bytes(), bytes, "the pool counts the bytes of all buffers");
    let share = limits::BUFFER_BYTES_SHARE + limits::BUFFER_BYTES_SHARE / 8;
    assert!(
        bytes <= buffer_pool.bytes_max() + 2 * share * count,
        "{bytes} bytes exceed the maximum for {count} connections"
    );
    assert!(
        buffer_pool.is_strained || !buffer_pool.is_above_resume(),
        "memory is short, and the pool is not marked strained"
    );
}

/// The next deadline of a connection.
fn deadline(context: &Context, slot: u32) -> Timestamp {
    context.connections[slot as usize].state.deadline(context.connection_limits(slot))
}

/// The simulated socket of a connection, if it has one.
fn socket_of(context: &Context, slot: u32) -> Option<usize> {
    match context.connections[slot as usize].stream.as_ref()? {
        Stream::Simulated(SimHandle { socket, .. }) => Some(*socket),
        Stream::System(_) => panic!("this loop is simulated"),
    }
}

/// Whether a source is served without an event, soon or after its backoff.
fn will_be_served(context: &Context, key: SlotKey, state: SourceState) -> bool {
    match state {
        SourceState::Ready => context.ready_sources.contains(&key),
        SourceState::BackingOff => context.deadlines.deadline(key) != Timestamp::NEVER,
        SourceState::WouldBlock | SourceState::HandlerFull => false,
    }
}

fn counters_agree(events: &EventLoop<'_>, world: &World) {
    let context = &events.context;
    let connections = context.connections.len() as u64;
    assert_eq!(context.stats.connections, connections, "stats count the connections");
    let stats = &context.stats;
    let closed = stats.closed_total() + stats.connect_errors;
    assert_eq!(stats.accepted + stats.connects, connections + closed, "accepted and connected equals open and ended");
    let [failed_accepts, failed_receives, without_client] = world.failures;
    // With a reserve, an accept without a client does not count.
    let counted = failed_accepts..=failed_accepts + without_client;
    assert!(counted.contains(&context.stats.accept_errors), "failed accepts are counted");
    assert_eq!(context.stats.receive_errors, failed_receives, "failed receives are counted");
    let by_listener: u32 = context.listeners.iter().map(|(_, listener)| listener.connections).sum();
    assert_eq!(u64::from(by_listener), connections, "listeners count their connections");
    let open_fds = |is_kind: fn(&SimSocketKind) -> bool| {
        world.sockets.iter().filter(|end| end.fd == FdState::Open && is_kind(&end.kind)).count()
    };
    let started = context.connections.iter().filter(|(_, entry)| entry.stream.is_some()).count();
    assert_eq!(open_fds(|kind| matches!(kind, SimSocketKind::Stream(_))), started, "a descriptor for each connection");
    let is_needed = |entry: &ListenerEntry| entry.socket.is_some() || entry.connections > 0;
    let needed = context.listeners.iter().all(|(_, entry)| is_needed(entry));
    assert!(needed, "an entry is removed with the last use of it");
    let listening = context.listeners.iter().filter(|(_, entry)| entry.socket.is_some()).count();
    assert_eq!(
        open_fds(|kind| matches!(kind, SimSocketKind::Listener { .. })),
        listening,
        "a descriptor for each listener"
    );
    assert_eq!(
        open_fds(|kind| matches!(kind, SimSocketKind::Udp(_))),
        context.udp_sockets.len(),
        "a descriptor for each UDP socket"
    );
}

/// Each open connection whose address the loop or the handler has set counts for its source, and no other does.
fn sources_are_counted(events: &EventLoop<'_>) {
    let context = &events.context;
    let mut expected: BTreeMap<(u32, SourcePrefix), u32> = BTreeMap::new();
    for (_, entry) in &context.connections {
        let listener = &context.listeners[entry.listener as usize];
        let peer = entry.state.peer.socket_addr().expect("a simulated peer has an address").ip();
        // The addresses that handlers set are in this network, which no simulated client has (RFC 5737).
        let is_set = matches!(peer, IpAddr::V4(v4) if v4.octets().starts_with(&[192, 0, 2]));
        if listener.connections_per_source_max.is_some() && (is_set || !listener.peer_addr_from_handler) {
            *expected.entry((listener.handler, SourcePrefix::of(peer))).or_default() += 1;
        }
    }
    let counted: BTreeMap<(u32, SourcePrefix), u32> = context.connection_counts.open().collect();
    assert_eq!(counted, expected, "connections count for their sources");
}

/// A handler stays while something uses it, or until it is removed. No removed handler stays.
fn handlers_are_kept_while_used(events: &EventLoop<'_>) {
    let context = &events.context;
    for (slot, handler) in &context.handlers {
        let is_own = |entry: &&ListenerEntry| entry.handler == to_slot(slot);
        let clients = context.connections.iter().map(|(_, entry)| &context.listeners[entry.listener as usize]);
        let clients = clients.filter(|entry| !entry.is_outbound).filter(is_own).count();
        assert_eq!(handler.clients, clients, "handler {slot} counts its clients");
        let listeners = context.listeners.iter().map(|(_, entry)| entry).filter(is_own).count();
        let is_own_timer =
            |task: &TimerTask| matches!(task, TimerTask::Handler { handler, .. } if *handler == to_slot(slot));
        let timers = context.timers.tasks().filter(is_own_timer).count();
        let udp_sockets = context.udp_sockets.iter().filter(|(_, entry)| entry.handler == to_slot(slot)).count();
        assert_eq!(handler.uses, listeners + timers + udp_sockets, "handler {slot} counts its uses");
        assert!(!handler.is_unused(), "handler {slot} is unused and not dropped");
    }
    assert!(
        context.removed_sources.is_empty() && context.unused_handlers.is_empty(),
        "removed sources and handlers are dropped"
    );
}

fn connection_will_be_served(events: &EventLoop<'_>, world: &World, slot: u32) {
    let context = &events.context;
    let (state, limits) = (&context.connections[slot as usize].state, context.connection_limits(slot));
    assert_ne!(state.phase, Phase::Closed, "a closed connection is freed at the end of its turn");
    assert!(state.inbox_len() <= limits.input_bytes_max, "the inbox keeps to its bound");
    assert!(state.outbox_len() <= limits.outbox_bytes_max, "the outbox keeps to its bound");
    if state.queued == Queued::No {
        assert!(state.buffers.as_ref().is_none_or(|buffers| !buffers.is_empty()), "an idle connection owns no buffer");
        assert_eq!(state.next_action(|| *limits), Action::Wait, "a connection with a next action is queued: {state:?}");
    }
    let will_resume = context.buffer_pool.is_strained && (events.strain.is_some() || events.has_work_left());
    assert!(will_resume || !state.awaits_memory(), "{slot} waits for memory although some is free");
    let list = match state.queued {
        Queued::No => None,
        Queued::Dirty => Some(&context.dirty),
        Queued::Deferred => Some(&context.deferred),
    };
    assert!(list.is_none_or(|list| list.contains(&slot)), "{slot} is marked as queued and is on no list");
    // A deadline that passed after the poll began is checked after the next poll.
    let at_once = context.now.after(Duration::from_nanos(1));
    let armed = context.deadlines.deadline(SlotKey::Connection(slot));
    let Some(end) = socket_of(context, slot) else {
        let id = context.id(slot);
        let is_timed = armed <= state.last_progress.after(limits.connect_timeout).max(at_once);
        let is_connect_retry = context.connect_retries.iter().any(|(_, other, _)| *other == id) && is_timed;
        let is_waiting = is_connect_retry || context.pending_connects.iter().any(|(other, _)| *other == id);
        // A connect that was aborted before it began is reported in the next turn.
        let is_scheduled = is_waiting && matches!(state.phase, Phase::Connecting(_)) || state.queued != Queued::No;
        assert!(is_scheduled, "{slot} has no socket and will not get one: {state:?}");
        return;
    };
    let deadline = deadline(context, slot);
    if deadline != Timestamp::NEVER && state.queued == Queued::No {
        assert!(armed <= deadline.max(at_once), "the deadline of {slot} is armed");
    }
    let edge = world.sockets[end].has_edge && world.sockets[end].token.is_some();
    let SimSocketKind::Stream(stream) = &world.sockets[end].kind else {
        panic!("the socket of a connection is a stream")
    };
    if state.queued == Queued::No {
        assert!(world.sockets[end].token.is_some(), "a waiting connection is registered");
        let connect_deadline = state.last_progress.after(limits.connect_timeout).max(at_once);
        let is_timed = !matches!(state.phase, Phase::Connecting(_)) || armed <= connect_deadline;
        assert!(is_timed, "{slot} waits for a connect without a deadline");
        let is_awaited =
            !matches!(state.phase, Phase::Connecting(_)) || stream.connect_answer == ConnectAnswer::Pending;
        assert!(edge || is_awaited, "{slot} waits for a connect that was reported: {state:?}");
        let is_reported = matches!(state.phase, Phase::Flushing(_)) || state.read_state != ReadState::WouldBlock;
        let readable = !stream.recv_buffer.is_empty() || stream.fin_received || stream.reset == Reset::Arrived;
        assert!(is_reported || edge || !readable, "{slot} waits for an edge that was reported: {state:?}");
        let blocked = state.write_state == WriteState::WouldBlock && !stream.blocked && stream.reset == Reset::No;
        assert!(edge || !blocked, "{slot} waits for room that was reported: {state:?}");
    }
}

fn listeners_will_be_served(events: &EventLoop<'_>, world: &World) {
    let context = &events.context;
    for (slot, entry) in &context.listeners {
        let (slot, state) = (to_slot(slot), entry.source.state);
        let Some(Listener::Simulated(SimHandle { socket: end, .. })) = entry.socket else { continue };
        let SimSocketKind::Listener { backlog } = &world.sockets[end].kind else {
            panic!("the socket of a listener is a listener")
        };
        let is_known = world.sockets[end].has_edge || will_be_served(context, SlotKey::Listener(slot), state);
        let is_refilled =
            state != SourceState::WouldBlock || context.deadlines.deadline(SlotKey::Listener(slot)) != Timestamp::NEVER;
        assert!(is_refilled || !entry.reserve.is_short(), "the reserve of {slot} is short for ever");
        let is_held_up = matches!(state, SourceState::HandlerFull | SourceState::BackingOff);
        assert!(!is_held_up || context.held_up_listeners.contains(&slot), "{slot} is held up and is on no list");
        if backlog.is_empty() || is_known {
            continue;
        }
        assert_eq!(state, SourceState::HandlerFull, "clients of {slot} wait and it is on no queue");
        assert!(context.is_full(slot), "{slot} is held up and its handler has room");
    }
    for usage in world.call_counts.values() {
        assert!(usage.accepts <= limits::ACCEPTS_PER_TURN_MAX, "{} accepts in a turn", usage.accepts);
        let failures = usage.most_failures_in_a_row;
        // A failure that a reserved descriptor makes up for does not count for a pause.
        assert!(
            failures <= limits::ERRORS_IN_A_ROW_MAX + super::RESERVE_MAX,
            "{failures} failed tries in a row in one turn"
        );
        let read = usage.bytes_read;
        assert!(read <= limits::BYTES_PER_TURN_MAX as usize, "{read} bytes read from one client in a turn");
    }
}

fn udp_sockets_will_be_served(events: &EventLoop<'_>, world: &World) {
    let context = &events.context;
    for (slot, entry) in &context.udp_sockets {
        let Some(UdpSocket::Simulated(SimHandle { socket: end, .. })) = entry.socket else {
            panic!("this loop is simulated")
        };
        let SimSocketKind::Udp(RecvQueue { queue, .. }) = &world.sockets[end].kind else {
            panic!("the socket of a UDP socket is one")
        };
        let key = SlotKey::UdpSocket(to_slot(slot));
        assert!(entry.is_open, "a UDP socket outlives the turn of its removal");
        let known = world.sockets[end].has_edge || will_be_served(context, key, entry.source.state);
        assert!(queue.is_empty() || known, "datagrams of {slot} wait and it is on no queue");
    }
    for usage in world.call_counts.values() {
        let received = usage.datagrams;
        assert!(received <= limits::DATAGRAMS_PER_TURN_MAX, "{received} datagrams received in a turn");
    }
}

/// What the journal has noted so far.
#[derive(Default)]
pub(super) struct JournalChecks {
    /// The entries since the last check, as an observer gets them.
    observed: Rc<RefCell<Vec<Entry>>>,
    /// The socket of each object of the loop, by generation.
    sockets: BTreeMap<u64, usize>,
    /// The connections with a slot, and whether they are closed.
    connections: BTreeMap<u64, bool>,
    freed: BTreeSet<u64>,
    accepted: u64,
    /// Clients that were closed at once.
    refused: u64,
    /// The socket of the last client, which may be refused next.
    last_accepted: usize,
    bytes: [u64; 2],
    datagrams: [u64; 2],
    /// A turn had more entries than a journal keeps. What comes after it does not add up.
    is_incomplete: bool,
}

impl JournalChecks {
    /// Observes a loop.
    pub(super) fn new(events: &mut EventLoop<'_>) -> Self {
        let checks = Self::default();
        let observed = Rc::clone(&checks.observed);
        events.journal_level(Level::All);
        events.set_observer(move |turn| observed.borrow_mut().extend_from_slice(turn.entries));
        checks
    }

    /// Checks the entries of a turn, and that they contain every call of the loop.
    pub(super) fn journal_has_every_call(&mut self, events: &EventLoop<'_>, calls: Vec<Call>) {
        let entries = self.observed.take();
        if self.is_incomplete {
            return;
        }
        self.is_incomplete = entries.iter().any(|entry| entry.kind == EntryKind::Lost);
        let mut callbacks = Vec::new();
        let mut noted = Vec::new();
        for entry in &entries {
            let of_callback = (entry.object, entry.slot, entry.numbers[0]);
            match entry.kind {
                EntryKind::CallbackBegin => callbacks.push(of_callback),
                EntryKind::CallbackEnd => {
                    assert_eq!(callbacks.pop(), Some(of_callback), "a callback ends after it began");
                }
                _ => {}
            }
            if entry.object == Object::Connection && entry.kind != EntryKind::StaleEvent {
                self.check_connection(entry);
            }
            self.count(entry);
            noted.extend(self.call(entry));
        }
        let mut calls = made_for_entries(calls, &noted);
        if self.is_incomplete {
            calls.truncate(noted.len());
        }
        if noted != calls {
            let first = noted.iter().zip(&calls).take_while(|(noted, made)| noted == made).count();
            panic!("the loop noted {:?}, and made the call {:?}", noted.get(first), calls.get(first));
        }
        if self.is_incomplete {
            return;
        }
        assert!(callbacks.is_empty(), "callbacks that began have not ended: {callbacks:?}");
        let stats = &events.context.stats;
        assert_eq!(self.accepted, stats.accepted + self.refused, "accepts are noted");
        // The rest was accepted, and then refused when its handler set the address.
        assert!(self.refused <= stats.refused_full + stats.refused_source, "refusals are counted");
        assert_eq!(self.bytes, [stats.bytes_received, stats.bytes_sent], "bytes are noted");
        assert_eq!(self.datagrams, [stats.datagrams_received, stats.datagrams_sent], "datagrams are noted");
    }

    /// Checks that every connection was closed and its slot freed. The loop has stopped.
    pub(super) fn check_end(&self) {
        let is_empty = self.connections.is_empty() || self.is_incomplete;
        assert!(is_empty, "connections were opened and not freed: {:?}", self.connections);
    }

    /// A connection is opened, closed and freed once, in this order, and has no other entries.
    fn check_connection(&mut self, entry: &Entry) {
        let is_open = self.connections.get(&entry.generation).map(|is_closed| !is_closed);
        match entry.kind {
            EntryKind::Opened => {
                assert!(is_open.is_none() && !self.freed.contains(&entry.generation), "opened twice: {entry:?}");
                self.connections.insert(entry.generation, false);
            }
            EntryKind::Closed => {
                assert_eq!(is_open, Some(true), "closed before it was opened, or twice: {entry:?}");
                self.connections.insert(entry.generation, true);
            }
            EntryKind::Freed => {
                assert_eq!(is_open, Some(false), "freed before it was closed, or twice: {entry:?}");
                self.connections.remove(&entry.generation);
                self.freed.insert(entry.generation);
            }
            _ => assert!(is_open.is_some(), "a connection has an entry, and no slot: {entry:?}"),
        }
    }

    fn count(&mut self, entry: &Entry) {
        let count = match entry.kind {
            EntryKind::Accept => return self.accepted += u64::from(entry.errno.is_none()),
            EntryKind::Refused => return self.refused += 1,
            EntryKind::DatagramIn => return self.datagrams[0] += 1,
            EntryKind::DatagramOut => return self.datagrams[1] += u64::from(entry.errno.is_none()),
            EntryKind::Read => &mut self.bytes[0],
            EntryKind::Write => &mut self.bytes[1],
            _ => return,
        };
        *count += entry.numbers[0];
    }

    /// The call that an entry is about, as the simulation lists it; `None` if it is about none.
    fn call(&mut self, entry: &Entry) -> Option<Call> {
        let number = i64::try_from(entry.numbers[0]).unwrap_or(i64::MAX);
        let socket_of = |descriptor: u64| usize::try_from(descriptor - 3).expect("a socket");
        let is_opened = matches!(
            entry.kind,
            EntryKind::Opened | EntryKind::Connect | EntryKind::Listening | EntryKind::Bound | EntryKind::Watching
        );
        if is_opened && entry.errno.is_none() && number > 0 {
            self.sockets.insert(entry.generation, socket_of(entry.numbers[0]));
        }
        let own = || self.sockets.get(&entry.generation).copied();
        let (call, socket, result) = match entry.kind {
            EntryKind::PollEnd => ("poll", 0, number),
            EntryKind::Accept if entry.errno.is_none() => {
                self.last_accepted = socket_of(entry.numbers[0]);
                ("accept", own()?, number - 3)
            }
            EntryKind::Accept => ("accept", own()?, 0),
            EntryKind::Refused => ("close", self.last_accepted, 0),
            // The call was not made.
            EntryKind::Connect if entry.errno() == Some(i32::from(u16::MAX)) => return None,
            EntryKind::Connect => ("connect", own().unwrap_or(0), 0),
            EntryKind::Connected => ("connected", own()?, 0),
            EntryKind::Registered if entry.object == Object::Connection => ("register", own()?, 0),
            EntryKind::Registered if entry.object == Object::Watch => ("watch", own().unwrap_or(0), 0),
            EntryKind::Read => ("recv", own()?, number),
            EntryKind::Write => ("send", own()?, number),
            EntryKind::ShutdownWrite => ("shutdown", own()?, 0),
            EntryKind::OptionSet => ("option", own()?, 0),
            EntryKind::InputStopped => ("stop-input", own()?, 0),
            EntryKind::ReceiveBatch => ("receive", own()?, number),
            EntryKind::SendBatch => ("transmit", own()?, number),
            EntryKind::Closed if entry.numbers[1] == 1 => ("reset", own()?, 0),
            EntryKind::Closed => ("close", own()?, 0),
            _ => return None,
        };
        Some((call, socket, entry.errno().map_or(result, |errno| -i64::from(errno))))
    }
}

/// The calls that have entries: without those of connected streams that no connection has taken. Such a stream is closed
/// without an entry.
fn made_for_entries(calls: Vec<Call>, noted: &[Call]) -> Vec<Call> {
    let is_dropped = |(call, socket, _): &&Call| *call == "adopt" && !noted.contains(&("connect", *socket, 0));
    let dropped: Vec<usize> = calls.iter().filter(is_dropped).map(|(_, socket, _)| *socket).collect();
    let calls = calls.into_iter().filter(|(_, socket, _)| !dropped.contains(socket));
    calls.map(|(call, socket, outcome)| (if call == "adopt" { "connect" } else { call }, socket, outcome)).collect()
}
