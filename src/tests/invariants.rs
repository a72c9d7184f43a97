//! What must hold after every turn of the workload.

use crate::context::loop_state::LoopState;
use crate::event_loop::core::Core;
use crate::ids::to_slot;
use crate::limits;
use crate::net::simulated::Simulated;
use crate::net::simulated::sim_socket::{ConnectAnswer, FdState, RecvQueue, Reset, SimSocketKind};
use crate::net::simulated::world::World;
use crate::state::phase::{Action, Phase, Queued, ReadState, WriteState};
use crate::state::timestamp::Timestamp;

/// Checks everything; the caller is between two turns.
pub(super) fn check(core: &Core<'_, Simulated>, world: &World) {
    if matches!(core.context.loop_state, LoopState::Stopped(_)) {
        assert_eq!(world.descriptors, 0, "a stopped loop holds no descriptor");
        assert_eq!(core.context.stats.connections, 0, "a stopped loop has no connection");
        return;
    }
    counters_agree(core, world);
    poll_never_waits_past_a_deadline(core);
    for (key, _) in &core.context.connections {
        connection_will_be_served(core, world, u32::try_from(key).expect("a slot"));
    }
    listeners_will_be_served(core, world);
    udp_sockets_will_be_served(core, world);
    assert!(core.context.send_queue.transmits.is_empty(), "datagrams are never queued beyond the turn");
    assert!(core.context.running_callback.is_none(), "no callback runs between turns");
}

/// The poll never waits past a deadline that is armed, nor past the end of a drain.
fn poll_never_waits_past_a_deadline(core: &Core<'_, Simulated>) {
    let context = &core.context;
    let deadlines = context.connections.iter().map(|(slot, _)| context.deadline(to_slot(slot)));
    let pauses = [
        core.listeners.ready_queue.next_deadline(),
        core.udp_sockets.ready_queue.next_deadline(),
        context.drain_until(),
        context.timers.next_deadline(),
    ];
    let first = deadlines.chain(pauses.into_iter().flatten()).min().unwrap_or(Timestamp::NEVER);
    let wait = core.next_timeout();
    let lists = [context.deferred.len(), context.dirty.len(), context.notes.len(), context.pending_connects.len()];
    let is_left =
        lists.iter().sum::<usize>() + core.listeners.ready_queue.ready_len() + core.udp_sockets.ready_queue.ready_len()
            > 0;
    assert!(!is_left || wait == Some(std::time::Duration::ZERO), "work is left, and the poll would wait {wait:?}");
    assert!(
        context.timers.next_deadline().is_none_or(|next| next > context.now),
        "a timer that was due has not come up"
    );
    let is_in_time = first == Timestamp::NEVER || wait.is_some_and(|wait| wait <= first.since(context.now));
    assert!(is_in_time, "the poll would wait {wait:?}, and something is due in {:?}", first.since(context.now));
}

fn counters_agree(core: &Core<'_, Simulated>, world: &World) {
    let context = &core.context;
    let connections = context.connections.len() as u64;
    assert_eq!(context.stats.connections, connections, "every slot is a connection's");
    let stats = &context.stats;
    let closed = stats.closed_total() + stats.connect_errors;
    assert_eq!(stats.accepted + stats.connects, connections + closed, "accepted and connected is open and ended");
    let failures = [context.stats.accept_errors, context.stats.receive_errors];
    assert_eq!(failures, world.failures, "failed accepts and receives are counted");
    let clients =
        context.connections.iter().filter(|(_, state)| !context.listeners[state.listener as usize].is_outbound).count();
    assert_eq!(context.clients_by_handler.iter().sum::<usize>(), clients, "handlers count their clients");
    let by_listener: u32 = context.listeners.iter().map(|(_, listener)| listener.connections).sum();
    assert_eq!(u64::from(by_listener), connections, "listeners count their connections");
    let open_fds = |is_kind: fn(&SimSocketKind) -> bool| {
        world.sockets.iter().filter(|end| end.fd == FdState::Open && is_kind(&end.kind)).count()
    };
    let started =
        context.connections.iter().filter(|(slot, _)| core.connections.stream(to_slot(*slot)).is_some()).count();
    assert_eq!(open_fds(|kind| matches!(kind, SimSocketKind::Stream(_))), started, "a descriptor for each connection");
    let is_needed =
        |listener: &crate::context::listener_entry::ListenerEntry| listener.is_listening || listener.connections > 0;
    let needed =
        context.listeners.iter().all(|(_, listener)| is_needed(listener)) || !context.removed_sources.is_empty();
    assert!(needed, "an entry goes with the last that needs it");
    let listening = context.listeners.iter().filter(|(_, listener)| listener.is_listening).count();
    assert_eq!(
        open_fds(|kind| matches!(kind, SimSocketKind::Listener { .. })),
        listening,
        "a descriptor for each listener"
    );
    assert_eq!(
        open_fds(|kind| matches!(kind, SimSocketKind::Udp(_))),
        context.udp_sockets.len(),
        "and for each UDP socket"
    );
}

fn connection_will_be_served(core: &Core<'_, Simulated>, world: &World, slot: u32) {
    let context = &core.context;
    let (state, limits) = (&context.connections[slot as usize], context.connection_limits(slot));
    assert_ne!(state.phase, Phase::Closed, "what is gone is freed at the end of its turn");
    assert!(state.inbox_len() <= limits.input_bytes_max, "the inbox keeps to its bound");
    assert!(state.outbox_len() <= limits.outbox_bytes_max, "the outbox keeps to its bound");
    if state.queued == Queued::No {
        assert!(state.buffers.as_ref().is_none_or(|buffers| !buffers.is_empty()), "an idle connection owns no buffer");
        assert_eq!(state.next_action(&limits), Action::Wait, "a connection that could go on is queued: {state:?}");
    }
    let list = match state.queued {
        Queued::No => None,
        Queued::Dirty => Some(&context.dirty),
        Queued::Deferred => Some(&context.deferred),
    };
    assert!(list.is_none_or(|list| list.contains(&slot)), "{slot} says it is on a list and is not");
    let Some(&end) = core.connections.stream(slot) else {
        let id = context.id(slot);
        let is_timed = core.connections.deadlines().deadline(slot) <= state.last_progress.after(limits.connect_timeout);
        let is_connect_retry = core.connections.is_connect_retry(id) && is_timed;
        let is_waiting = is_connect_retry || context.pending_connects.iter().any(|(other, _)| *other == id);
        // Or it was given up before its turn came, which is for the next.
        let is_scheduled = is_waiting && matches!(state.phase, Phase::Connecting(_)) || state.queued != Queued::No;
        assert!(is_scheduled, "{slot} has no socket and will have none: {state:?}");
        return;
    };
    let deadline = context.deadline(slot);
    if deadline != Timestamp::NEVER && state.queued == Queued::No {
        let armed = core.connections.deadlines().deadline(slot);
        assert!(armed <= deadline, "the deadline of {slot} is armed");
    }
    let edge = world.sockets[end].has_edge && world.sockets[end].token.is_some();
    let SimSocketKind::Stream(stream) = &world.sockets[end].kind else {
        panic!("the socket of a connection is a stream")
    };
    if state.queued == Queued::No {
        assert!(world.sockets[end].token.is_some(), "a waiting connection is registered");
        let connect_deadline = state.last_progress.after(limits.connect_timeout);
        let is_timed = !matches!(state.phase, Phase::Connecting(_))
            || core.connections.deadlines().deadline(slot) <= connect_deadline;
        assert!(is_timed, "{slot} waits for an answer without end");
        let is_awaited =
            !matches!(state.phase, Phase::Connecting(_)) || stream.connect_answer == ConnectAnswer::Pending;
        assert!(edge || is_awaited, "{slot} waits for an answer that has been told: {state:?}");
        let is_reported = matches!(state.phase, Phase::Flushing(_)) || state.read_state != ReadState::WouldBlock;
        let readable = !stream.recv_buffer.is_empty() || stream.fin_received || stream.reset == Reset::Arrived;
        assert!(is_reported || edge || !readable, "{slot} waits for an edge that has been told: {state:?}");
        let blocked = state.write_state == WriteState::WouldBlock && !stream.blocked && stream.reset == Reset::No;
        assert!(edge || !blocked, "{slot} waits for room that has been told: {state:?}");
    }
}

fn listeners_will_be_served(core: &Core<'_, Simulated>, world: &World) {
    for (slot, &end) in core.listeners.iter() {
        let SimSocketKind::Listener { backlog } = &world.sockets[end].kind else { panic!("a listener listens") };
        if backlog.is_empty() || world.sockets[end].has_edge || core.listeners.ready_queue.will_be_served(slot) {
            continue;
        }
        assert!(core.listeners.ready_queue.is_handler_full(slot), "clients of {slot} wait and no queue knows");
        assert!(core.context.is_full(slot), "{slot} is held and its handler has room");
    }
    for usage in world.call_counts.values() {
        assert!(usage.accepts <= limits::ACCEPTS_PER_TURN_MAX, "{} accepts in a turn", usage.accepts);
        let failures = usage.most_failures_in_a_row;
        assert!(failures <= limits::ERRORS_IN_A_ROW_MAX, "{failures} failed tries in a row in one turn");
        let read = usage.bytes_read;
        assert!(read <= limits::BYTES_PER_TURN_MAX as usize, "{read} bytes read from one client in a turn");
    }
}

fn udp_sockets_will_be_served(core: &Core<'_, Simulated>, world: &World) {
    for (slot, &(end, _)) in core.udp_sockets.iter() {
        let SimSocketKind::Udp(RecvQueue { queue, .. }) = &world.sockets[end].kind else {
            panic!("a UDP socket is one")
        };
        let known = world.sockets[end].has_edge || core.udp_sockets.ready_queue.will_be_served(slot);
        assert!(queue.is_empty() || known, "datagrams of {slot} wait and no queue knows");
    }
    for usage in world.call_counts.values() {
        let received = usage.datagrams;
        assert!(received <= limits::DATAGRAMS_PER_TURN_MAX, "{received} datagrams received in a turn");
    }
}
