//! Listeners: accepting clients, within limits, whatever accept(2) returns.
//!
//! A listener that stopped accepting before `WouldBlock` is retried without another event.

use std::net::SocketAddr;

use crate::address::{Address, PackedAddress};
use crate::context::Context;
use crate::event_loop::backoff::{Backoff, BackoffAction, LogThrottle};
use crate::event_loop::connections::Connections;
use crate::event_loop::ready_queue::{ReadyQueue, ServeResult};
use crate::ids::{Key, TokenKey, to_slot};
use crate::limits;
use crate::net::Network;
use crate::net::io_error_class::IoErrorClass;
use crate::options::listen::WhenFull;

/// All listeners, by the slot of their entry in the context.
pub(crate) struct Listeners<N: Network> {
    listeners: Vec<Option<OpenListener<N::Listener>>>,
    pub(crate) ready_queue: ReadyQueue,
}

struct OpenListener<L> {
    socket: L,
    generation: u64,
    address: Address,
    backoff: Backoff,
    /// Clients that may still be accepted once a drain has begun; `None` before.
    drain_left: Option<u32>,
    /// About clients that wait, and about those that are refused.
    full_log: LogThrottle,
    refused_log: LogThrottle,
}

impl<L> OpenListener<L> {
    /// Counts a client that was refused, for want of room in all or for its source, and says so now and then.
    fn count_refused(&mut self, context: &mut Context, peer: Option<SocketAddr>, is_full: bool) {
        let stats = &mut context.stats;
        let (count, whose) =
            if is_full { (&mut stats.refused_full, "in all") } else { (&mut stats.refused_source, "of its source") };
        *count += 1;
        if self.refused_log.allow(context.now) {
            log::info!(
                "{}: refused, the most connections {whose} are open; so far {count} were refused so",
                PackedAddress::from(peer)
            );
        }
    }
}

impl<N: Network> Listeners<N> {
    pub(crate) fn new() -> Self {
        Self { listeners: Vec::new(), ready_queue: ReadyQueue::default() }
    }

    pub(crate) fn add(&mut self, key: Key, listener: N::Listener, address: Address) {
        let slot = key.slot as usize;
        if self.listeners.len() <= slot {
            self.listeners.resize_with(slot + 1, || None);
        }
        let listener = OpenListener {
            socket: listener,
            generation: key.generation,
            address,
            backoff: Backoff::new(),
            drain_left: None,
            full_log: LogThrottle::default(),
            refused_log: LogThrottle::default(),
        };
        self.listeners[slot] = Some(listener);
        self.ready_queue.add(key.slot);
    }

    /// Closes a listener; the kernel resets who is left in its backlog.
    pub(crate) fn remove(&mut self, network: &mut N, context: &mut Context, slot: u32) {
        if let Some(listener) = self.listeners[slot as usize].take() {
            network.close_listener(listener.socket);
            self.ready_queue.remove(slot);
            context.listeners[slot as usize].is_listening = false;
            context.remove_listener_if_unused(slot);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.listeners.iter().all(Option::is_none)
    }

    /// Takes note of an event, unless the listener it was for is gone.
    pub(crate) fn on_event(&mut self, key: TokenKey) {
        if let Some(Some(listener)) = self.listeners.get(key.slot as usize)
            && key.matches(listener.generation)
        {
            self.ready_queue.on_event(key.slot);
        }
    }

    /// Gives every ready listener its budget of accepts.
    pub(crate) fn accept_ready(
        &mut self,
        network: &mut N,
        context: &mut Context,
        connections: &mut Connections<'_, N>,
    ) {
        for _ in 0..self.ready_queue.ready_len() {
            let Some(slot) = self.ready_queue.front() else {
                return;
            };
            let result = self.accept(network, context, connections, slot);
            self.ready_queue.finish_front(result, context.now);
            if result == ServeResult::WouldBlock {
                self.on_backlog_empty(network, context, slot);
            }
        }
    }

    fn accept(
        &mut self,
        network: &mut N,
        context: &mut Context,
        connections: &mut Connections<'_, N>,
        slot: u32,
    ) -> ServeResult {
        let Some(listener) = &mut self.listeners[slot as usize] else {
            return ServeResult::WouldBlock;
        };
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            let is_full = context.is_full(slot);
            if is_full && context.listeners[slot as usize].when_full == WhenFull::Pause {
                if listener.full_log.allow(context.now) {
                    let connections_max = context.listeners[slot as usize].connections_max;
                    log::info!(
                        "{}: {connections_max} connections are open, the most allowed: further clients wait",
                        listener.address
                    );
                }
                return ServeResult::HandlerFull;
            }
            if listener.drain_left == Some(0) {
                return ServeResult::WouldBlock;
            }
            match network.accept(&listener.socket) {
                Ok((stream, peer)) => {
                    listener.backoff.on_success();
                    listener.drain_left = listener.drain_left.map(|left| left - 1);
                    if !is_full && context.try_count_source(slot, peer.map(|peer| peer.ip())) {
                        connections.add_accepted(network, context, stream, peer, slot);
                        continue;
                    }
                    network.close(stream);
                    listener.count_refused(context, peer, is_full);
                }
                Err(error) => {
                    let class = IoErrorClass::of(&error);
                    // planted: first-accept-error-ends-accepting
                    if class == IoErrorClass::WouldBlock {
                        return ServeResult::WouldBlock;
                    }
                    context.stats.accept_errors += 1;
                    if let BackoffAction::Wait { after, should_log } = listener.backoff.on_error(class, context.now) {
                        if should_log {
                            log::warn!("{}: cannot accept, clients wait in the backlog: {error}", listener.address);
                        }
                        context.stats.pauses += 1;
                        return ServeResult::BackOff(after);
                    }
                }
            }
        }
        ServeResult::BudgetSpent
    }

    /// The backlog is empty: the errors are over, and a draining listener closes.
    fn on_backlog_empty(&mut self, network: &mut N, context: &mut Context, slot: u32) {
        let Some(listener) = &mut self.listeners[slot as usize] else {
            return;
        };
        if let Some(recovery) = listener.backoff.on_would_block(context.now) {
            let (at, failures, lasted) = (&listener.address, recovery.failures, recovery.lasted);
            log::info!("{at}: accepts again, after {failures} failed tries in {lasted:.1?}");
        }
        if listener.drain_left.is_some() {
            self.remove(network, context, slot);
        }
    }

    /// Has every listener accept what is in its backlog, and then close.
    pub(crate) fn begin_drain(&mut self) {
        for (slot, listener) in self.listeners.iter_mut().enumerate() {
            if let Some(listener) = listener {
                listener.drain_left = Some(limits::DRAIN_BACKLOG_MAX);
                self.ready_queue.make_ready(to_slot(slot));
            }
        }
    }

    /// Closes every listener at once.
    pub(crate) fn close_all(&mut self, network: &mut N, context: &mut Context) {
        for slot in 0..self.listeners.len() {
            self.remove(network, context, to_slot(slot));
        }
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &N::Listener)> {
        let each = self.listeners.iter().enumerate();
        each.filter_map(|(slot, listener)| Some((to_slot(slot), &listener.as_ref()?.socket)))
    }
}
