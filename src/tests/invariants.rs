//! What must hold after every turn, whatever the network did: checked against a simulated world.

use crate::context::lifecycle::Lifecycle;
use crate::event_loop::core::Core;
use crate::ids::slot_of;
use crate::limits;
use crate::net::simulated::Simulated;
use crate::net::simulated::sim_socket::{Answer, Hold, Inbound, Kind, Reset};
use crate::net::simulated::world::World;
use crate::state::phase::{Input, Output, Phase, Queued, Step};
use crate::state::timestamp::Moment;

/// Checks everything; the caller is between two turns.
pub(super) fn hold(core: &Core<'_, Simulated>, world: &World) {
    if matches!(core.tables.lifecycle, Lifecycle::Stopped(_)) {
        assert_eq!(world.descriptors, 0, "a stopped loop holds no descriptor");
        assert_eq!(core.tables.stats.connections, 0, "a stopped loop has no connection");
        return;
    }
    counters_agree(core, world);
    nothing_due_is_slept_over(core);
    for (key, _) in &core.tables.states {
        connection_is_cared_for(core, world, u32::try_from(key).expect("a slot"));
    }
    listeners_are_cared_for(core, world);
    sockets_are_cared_for(core, world);
    assert!(core.tables.staged.letters.is_empty(), "datagrams are never queued beyond the turn");
    assert!(core.tables.calling.is_none(), "no callback runs between turns");
}

/// The poll never waits past a deadline that is armed, nor past the end of a drain.
fn nothing_due_is_slept_over(core: &Core<'_, Simulated>) {
    let tables = &core.tables;
    let deadlines = tables.states.iter().map(|(slot, _)| tables.deadline(slot_of(slot)));
    let pauses = [
        core.listeners.roster.next_deadline(),
        core.datagrams.roster.next_deadline(),
        tables.drain_until(),
        tables.timers.next(),
    ];
    let first = deadlines.chain(pauses.into_iter().flatten()).min().unwrap_or(Moment::NEVER);
    let wait = core.next_timeout();
    let lists = [tables.deferred.len(), tables.marked.len(), tables.notes.len(), tables.connects.len()];
    let is_left = lists.iter().sum::<usize>() + core.listeners.roster.ready() + core.datagrams.roster.ready() > 0;
    assert!(!is_left || wait == Some(std::time::Duration::ZERO), "work is left, and the poll would wait {wait:?}");
    assert!(tables.timers.next().is_none_or(|next| next > tables.now), "a timer that was due has not come up");
    let is_in_time = first == Moment::NEVER || wait.is_some_and(|wait| wait <= first.since(tables.now));
    assert!(is_in_time, "the poll would wait {wait:?}, and something is due in {:?}", first.since(tables.now));
}

fn counters_agree(core: &Core<'_, Simulated>, world: &World) {
    let tables = &core.tables;
    let there = tables.states.len() as u64;
    assert_eq!(tables.stats.connections, there, "every slot is a connection's");
    let stats = &tables.stats;
    let ended = stats.closed_in_all() + stats.connect_errors;
    assert_eq!(stats.accepted + stats.connects, there + ended, "accepted and connected is open and ended");
    let failures = [tables.stats.accept_errors, tables.stats.receive_errors];
    assert_eq!(failures, world.failures, "failed accepts and receives are counted");
    let clients = tables.states.iter().filter(|(_, state)| !tables.origins[state.origin as usize].is_outbound).count();
    assert_eq!(tables.served.iter().sum::<usize>(), clients, "handlers count their clients");
    let by_origin: u32 = tables.origins.iter().map(|(_, origin)| origin.connections).sum();
    assert_eq!(u64::from(by_origin), there, "listeners count their connections");
    let held =
        |wanted: fn(&Kind) -> bool| world.ends.iter().filter(|end| end.hold == Hold::Held && wanted(&end.kind)).count();
    let begun = tables.states.iter().filter(|(slot, _)| core.connections.stream(slot_of(*slot)).is_some()).count();
    assert_eq!(held(|kind| matches!(kind, Kind::Stream(_))), begun, "a descriptor for each connection");
    let is_needed = |origin: &crate::context::source_entries::Origin| origin.listening || origin.connections > 0;
    let needed = tables.origins.iter().all(|(_, origin)| is_needed(origin)) || !tables.removed.is_empty();
    assert!(needed, "an entry goes with the last that needs it");
    let listening = tables.origins.iter().filter(|(_, origin)| origin.listening).count();
    assert_eq!(held(|kind| matches!(kind, Kind::Listener { .. })), listening, "a descriptor for each listener");
    assert_eq!(held(|kind| matches!(kind, Kind::Socket(_))), tables.sockets.len(), "and for each UDP socket");
}

fn connection_is_cared_for(core: &Core<'_, Simulated>, world: &World, slot: u32) {
    let tables = &core.tables;
    let (state, bounds) = (&tables.states[slot as usize], tables.bounds(slot));
    assert_ne!(state.phase, Phase::Gone, "what is gone is freed at the end of its turn");
    assert!(state.kept() <= bounds.input_bytes_max, "the inbox keeps to its bound");
    assert!(state.pending() <= bounds.outbox_bytes_max, "the outbox keeps to its bound");
    if state.queued == Queued::No {
        assert!(state.buffers.as_ref().is_none_or(|buffers| !buffers.is_empty()), "an idle connection owns no buffer");
        assert_eq!(state.next(&bounds), Step::Wait, "whoever could go on is on a list: {state:?}");
    }
    let list = match state.queued {
        Queued::No => None,
        Queued::Marked => Some(&tables.marked),
        Queued::Deferred => Some(&tables.deferred),
    };
    assert!(list.is_none_or(|list| list.contains(&slot)), "{slot} says it is on a list and is not");
    let Some(&end) = core.connections.stream(slot) else {
        let id = tables.id(slot);
        let is_timed = core.connections.deadlines().armed(slot) <= state.progress.after(bounds.connect_timeout);
        let is_crowded = core.connections.is_crowded(id) && is_timed;
        let is_waiting = is_crowded || tables.connects.iter().any(|(other, _)| *other == id);
        // Or it was given up before its turn came, which is for the next.
        let is_cared_for = is_waiting && matches!(state.phase, Phase::Opening(_)) || state.queued != Queued::No;
        assert!(is_cared_for, "{slot} has no socket and will have none: {state:?}");
        return;
    };
    let deadline = tables.deadline(slot);
    if deadline != Moment::NEVER && state.queued == Queued::No {
        let armed = core.connections.deadlines().armed(slot);
        assert!(armed <= deadline, "the deadline of {slot} is armed");
    }
    let edge = world.ends[end].edge && world.ends[end].token.is_some();
    let Kind::Stream(stream) = &world.ends[end].kind else { panic!("the socket of a connection is a stream") };
    if state.queued == Queued::No {
        assert!(world.ends[end].token.is_some(), "whoever waits is watched");
        let gives_up = state.progress.after(bounds.connect_timeout);
        let is_timed =
            !matches!(state.phase, Phase::Opening(_)) || core.connections.deadlines().armed(slot) <= gives_up;
        assert!(is_timed, "{slot} waits for an answer without end");
        let is_awaited = !matches!(state.phase, Phase::Opening(_)) || stream.answer == Answer::Awaited;
        assert!(edge || is_awaited, "{slot} waits for an answer that has been told: {state:?}");
        let told = matches!(state.phase, Phase::Closing(_)) || state.input != Input::Waiting;
        let readable = !stream.queue.is_empty() || stream.ended || stream.reset == Reset::Arrived;
        assert!(told || edge || !readable, "{slot} waits for an edge that has been told: {state:?}");
        let blocked = state.output == Output::Blocked && !stream.blocked && stream.reset == Reset::No;
        assert!(edge || !blocked, "{slot} waits for room that has been told: {state:?}");
    }
}

fn listeners_are_cared_for(core: &Core<'_, Simulated>, world: &World) {
    for (slot, &end) in core.listeners.each() {
        let Kind::Listener { backlog } = &world.ends[end].kind else { panic!("a listener listens") };
        if backlog.is_empty() || world.ends[end].edge || core.listeners.roster.will_be_served(slot) {
            continue;
        }
        assert!(core.listeners.roster.is_held(slot), "clients of {slot} wait and nobody knows");
        assert!(core.tables.is_full(slot), "{slot} is held and its handler has room");
    }
    for usage in world.usage.values() {
        assert!(usage.accepts <= limits::ACCEPTS_PER_TURN_MAX, "{} accepts in a turn", usage.accepts);
        let failures = usage.most_failures_in_a_row;
        assert!(failures <= limits::ERRORS_IN_A_ROW_MAX, "{failures} failed tries in a row in one turn");
        let read = usage.bytes_read;
        assert!(read <= limits::BYTES_PER_TURN_MAX as usize, "{read} bytes read from one client in a turn");
    }
}

fn sockets_are_cared_for(core: &Core<'_, Simulated>, world: &World) {
    for (slot, &(end, _)) in core.datagrams.each() {
        let Kind::Socket(Inbound { queue, .. }) = &world.ends[end].kind else { panic!("a UDP socket is one") };
        let known = world.ends[end].edge || core.datagrams.roster.will_be_served(slot);
        assert!(queue.is_empty() || known, "datagrams of {slot} wait and nobody knows");
    }
    for usage in world.usage.values() {
        let received = usage.datagrams;
        assert!(received <= limits::DATAGRAMS_PER_TURN_MAX, "{received} datagrams received in a turn");
    }
}
