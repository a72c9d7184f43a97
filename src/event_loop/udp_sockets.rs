//! UDP sockets: receiving, calling handlers, sending what is queued.
//!
//! An error of one datagram costs no other, and no datagram stays queued after the turn.

use std::io;
use std::net::SocketAddr;

use crate::context::Context;
use crate::context::datagram::Datagram;
use crate::context::handler::DatagramHandler;
use crate::event_loop::backoff::{Backoff, BackoffAction, LogThrottle};
use crate::event_loop::callbacks::catch_panic;
use crate::event_loop::ready_queue::{ReadyQueue, ServeResult};
use crate::ids::{Key, TokenKey, to_slot};
use crate::limits;
use crate::net::Network;
use crate::net::io_error_class::IoErrorClass;
use crate::net::recv_batch::RecvBatch;

/// All UDP sockets, by the slot of their entry in the context.
pub(crate) struct UdpSockets<'h, N: Network> {
    sockets: Vec<Option<OpenUdpSocket<'h, N::UdpSocket>>>,
    pub(crate) ready_queue: ReadyQueue,
    /// What has come in by the socket at the front of the ready queue. Between turns it holds something only if a
    /// handler has unwound.
    batch: RecvBatch,
}

struct OpenUdpSocket<'h, S> {
    socket: S,
    key: Key,
    address: SocketAddr,
    handler: Box<dyn DatagramHandler + 'h>,
    backoff: Backoff,
    dropped_log: LogThrottle,
    /// Datagrams that a drain still waits for; `None` before it has begun.
    drain_left: Option<u32>,
}

impl<'h, N: Network> UdpSockets<'h, N> {
    pub(crate) fn new() -> Self {
        Self { sockets: Vec::new(), ready_queue: ReadyQueue::default(), batch: RecvBatch::default() }
    }

    pub(crate) fn add(
        &mut self,
        key: Key,
        socket: N::UdpSocket,
        address: SocketAddr,
        handler: Box<dyn DatagramHandler + 'h>,
    ) {
        let slot = key.slot as usize;
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        self.sockets[slot] = Some(OpenUdpSocket {
            socket,
            key,
            address,
            handler,
            backoff: Backoff::new(),
            dropped_log: LogThrottle::default(),
            drain_left: None,
        });
        self.ready_queue.add(key.slot);
    }

    pub(crate) fn remove(&mut self, network: &mut N, context: &mut Context, slot: u32) {
        if let Some(entry) = self.sockets[slot as usize].take() {
            if self.ready_queue.front() == Some(slot) {
                self.batch.clear();
            }
            network.close_udp_socket(entry.socket);
            self.ready_queue.remove(slot);
            context.udp_sockets.remove(slot as usize);
        }
    }

    /// Whether a drain has nothing to wait for here.
    pub(crate) fn is_drained(&self) -> bool {
        self.sockets.iter().flatten().all(|entry| entry.drain_left == Some(0))
    }

    /// Takes note of an event, unless the socket it was for is gone.
    pub(crate) fn on_event(&mut self, key: TokenKey) {
        if let Some(Some(entry)) = self.sockets.get(key.slot as usize)
            && key.matches(entry.key.generation)
        {
            self.ready_queue.on_event(key.slot);
        }
    }

    /// Gives every ready socket its budget of datagrams.
    pub(crate) fn receive_ready(&mut self, network: &mut N, context: &mut Context) {
        for _ in 0..self.ready_queue.ready_len() {
            let Some(slot) = self.ready_queue.front() else {
                return;
            };
            let result = self.receive(network, context, slot);
            self.ready_queue.finish_front(result, context.now);
            if result == ServeResult::WouldBlock {
                self.on_queue_empty(context, slot);
            }
        }
    }

    fn receive(&mut self, network: &mut N, context: &mut Context, slot: u32) -> ServeResult {
        let mut budget = limits::DATAGRAMS_PER_TURN_MAX;
        // planted: undelivered-datagrams-lost-on-panic
        let mut may_have_more = true;
        loop {
            let Some(entry) = &mut self.sockets[slot as usize] else {
                return ServeResult::WouldBlock;
            };
            budget = budget.saturating_sub(entry.deliver(&mut self.batch, network, context));
            if context.send_queue.is_over_soft_max() {
                self.send_queued(network, context);
            }
            let Some(entry) = &mut self.sockets[slot as usize] else {
                return ServeResult::WouldBlock;
            };
            // A drain is over when there is nothing more: it waits for no edge.
            if !may_have_more && entry.drain_left.is_none() {
                return ServeResult::WouldBlock;
            }
            if budget == 0 {
                return ServeResult::BudgetSpent;
            }
            match network.recv_datagrams(&mut entry.socket, &mut self.batch, budget as usize) {
                Ok(more) => {
                    // planted: full-batch-is-the-last
                    may_have_more = more;
                    entry.backoff.on_success();
                }
                Err(error) => {
                    if let Some(result) = entry.on_receive_error(context, &error) {
                        return result;
                    }
                }
            }
        }
    }

    /// The kernel has no more: the errors are over, and a drain need not wait.
    fn on_queue_empty(&mut self, context: &mut Context, slot: u32) {
        let Some(entry) = &mut self.sockets[slot as usize] else {
            return;
        };
        if let Some(recovery) = entry.backoff.on_would_block(context.now) {
            let (address, failures, lasted) = (entry.address, recovery.failures, recovery.lasted);
            log::info!("{address}: receives again, after {failures} failed tries in {lasted:.1?}");
        }
        entry.drain_left = entry.drain_left.map(|_| 0);
    }

    /// Sends what callbacks have queued, each socket's transmits together.
    pub(crate) fn send_queued(&mut self, network: &mut N, context: &mut Context) {
        let Context { send_queue, stats, now, .. } = context;
        send_queue.group();
        for transmits in send_queue.transmits.chunk_by(|one, next| one.socket == next.socket) {
            let Some(Some(entry)) = self.sockets.get_mut(transmits[0].socket as usize) else {
                stats.datagrams_dropped += transmits.len() as u64;
                continue;
            };
            let OpenUdpSocket { socket, address, dropped_log, .. } = entry;
            network.send_datagrams(socket, transmits, send_queue, |transmit, sent| match sent {
                Ok(()) => stats.datagrams_sent += 1,
                Err(error) => {
                    stats.datagrams_dropped += 1;
                    if dropped_log.allow(*now) {
                        log::warn!("{address}: lost a datagram to {}: {error}", transmit.to);
                    }
                }
            });
        }
        send_queue.clear();
    }

    /// Has every socket read what the kernel holds. They go on being served until the loop ends.
    pub(crate) fn begin_drain(&mut self) {
        for (slot, entry) in self.sockets.iter_mut().enumerate() {
            if let Some(entry) = entry {
                entry.drain_left = Some(limits::DRAIN_BACKLOG_MAX);
                self.ready_queue.make_ready(to_slot(slot));
            }
        }
    }

    /// Closes every socket.
    pub(crate) fn close_all(&mut self, network: &mut N, context: &mut Context) {
        for slot in 0..self.sockets.len() {
            self.remove(network, context, to_slot(slot));
        }
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &N::UdpSocket)> {
        let each = self.sockets.iter().enumerate();
        each.filter_map(|(slot, entry)| Some((to_slot(slot), &entry.as_ref()?.socket)))
    }
}

impl<S> OpenUdpSocket<'_, S> {
    /// Hands on what has been received, and says how many datagrams that were.
    fn deliver<N: Network>(&mut self, batch: &mut RecvBatch, network: &mut N, context: &mut Context) -> u32 {
        let mut count = 0;
        while let Some((meta, payload)) = batch.next() {
            count += 1;
            self.drain_left = self.drain_left.map(|left| left.saturating_sub(1));
            context.stats.datagrams_received += 1;
            context.stats.datagrams_truncated += u64::from(meta.truncated);
            let is_from_own_socket =
                is_own_address(network, context, meta.peer, meta.dst_ip.unwrap_or(self.address.ip()));
            let (socket, handler) = (self.key, &mut self.handler);
            let called = catch_panic(context, |context| {
                handler.on_datagram(&mut Datagram { context, socket, meta, is_from_own_socket }, payload);
            });
            if called.is_none() {
                log::error!("{}: a handler has panicked over a datagram from {}", self.address, meta.peer);
            }
        }
        count
    }

    /// The result of the receive, or `None` to go on with the next datagram.
    fn on_receive_error(&mut self, context: &mut Context, error: &io::Error) -> Option<ServeResult> {
        if IoErrorClass::of(error) == IoErrorClass::WouldBlock {
            return Some(ServeResult::WouldBlock);
        }
        context.stats.receive_errors += 1;
        // Even of exhaustion: the datagram it concerned is gone, and the next may do.
        match self.backoff.on_error(IoErrorClass::Transient, context.now) {
            BackoffAction::Retry => None,
            BackoffAction::Wait { after, should_log } => {
                if should_log {
                    log::warn!("{}: cannot receive, datagrams wait: {error}", self.address);
                }
                context.stats.pauses += 1;
                Some(ServeResult::BackOff(after))
            }
        }
    }
}

/// Whether a datagram comes from a socket of this loop, or says so: answering it would make us talk to ourselves.
fn is_own_address<N: Network>(network: &mut N, context: &Context, peer: SocketAddr, dst_ip: std::net::IpAddr) -> bool {
    context.udp_sockets.iter().filter(|(_, socket)| socket.local.port() == peer.port()).any(|(_, socket)| {
        let bound = socket.local.ip();
        bound == peer.ip() || (bound.is_unspecified() && (peer.ip() == dst_ip || network.is_local_ip(peer.ip())))
    })
}
