//! UDP sockets: receiving, calling handlers, sending what is queued.
//!
//! An error of one datagram costs no other, and no datagram stays queued after the turn.

use crate::context::Context;
use crate::context::datagram::Datagram;
use crate::context::source::SourceState;
use crate::context::udp_socket_entry::UdpSocketEntry;
use crate::event_loop::EventLoop;
use crate::event_loop::stream_handlers::catch_panic;
use crate::ids::{Key, SlotKey};
use crate::limits;

impl EventLoop<'_> {
    /// Receives datagrams of a socket, at most a turn's budget of them, and delivers them.
    pub(super) fn receive_datagrams(&mut self, slot: u32) -> SourceState {
        let mut budget = limits::DATAGRAMS_PER_TURN_MAX;
        while budget > 0 {
            let entry = &mut self.context.udp_sockets[slot as usize];
            if !entry.is_open {
                return SourceState::WouldBlock;
            }
            match entry.socket.recv_datagrams(&mut self.recv_batch, budget as usize) {
                Ok(may_have_more) => {
                    entry.source.backoff.on_success();
                    budget -= self.deliver_datagrams(slot);
                    if self.context.send_queue.is_over_soft_max() {
                        self.send_datagrams();
                    }
                    // A drain is over when there is nothing more: it waits for no event.
                    // planted: full-batch-is-the-last
                    if !may_have_more && self.context.udp_sockets[slot as usize].source.drain_left.is_none() {
                        return SourceState::WouldBlock;
                    }
                }
                Err(error) => {
                    if let Some(result) = self.on_source_error(SlotKey::UdpSocket(slot), &error) {
                        return result;
                    }
                }
            }
        }
        SourceState::Ready
    }

    /// Delivers what has been received; returns the number of datagrams.
    fn deliver_datagrams(&mut self, slot: u32) -> u32 {
        let Some(handler) = &mut self.datagram_handlers[slot as usize] else {
            return 0;
        };
        let UdpSocketEntry { local, source, .. } = &self.context.udp_sockets[slot as usize];
        let (socket, local) = (Key { generation: source.generation, slot }, *local);
        let mut count = 0;
        while let Some((meta, payload)) = self.recv_batch.next() {
            let context = &mut self.context;
            if !context.udp_sockets[slot as usize].is_open {
                self.recv_batch.clear();
                break;
            }
            count += 1;
            context.stats.datagrams_received += 1;
            context.stats.datagrams_truncated += u64::from(meta.truncated);
            let called = catch_panic(context, |context| {
                handler.on_datagram(&mut Datagram { context, socket, meta: *meta }, payload);
            });
            if called.is_none() {
                log::error!("{local}: a handler has panicked over a datagram from {}", meta.peer);
            }
        }
        let drain_left = &mut self.context.udp_sockets[slot as usize].source.drain_left;
        *drain_left = drain_left.map(|left| left.saturating_sub(count));
        count
    }

    /// Sends what callbacks have queued, each socket's transmits together.
    pub(super) fn send_datagrams(&mut self) {
        let Context { send_queue, udp_sockets, stats, now, .. } = &mut self.context;
        send_queue.group();
        for transmits in send_queue.transmits.chunk_by(|one, next| one.socket == next.socket) {
            let Some(entry) = udp_sockets.get_mut(transmits[0].socket as usize) else {
                stats.datagrams_dropped += transmits.len() as u64;
                continue;
            };
            let UdpSocketEntry { socket, local, dropped_log, .. } = entry;
            socket.send_datagrams(transmits, send_queue, |transmit, sent| match sent {
                Ok(()) => stats.datagrams_sent += 1,
                Err(error) => {
                    stats.datagrams_dropped += 1;
                    if dropped_log.allow(*now) {
                        log::warn!("{local}: lost a datagram to {}: {error}", transmit.to);
                    }
                }
            });
        }
        send_queue.clear();
    }
}
