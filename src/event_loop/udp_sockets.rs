//! UDP sockets: receiving, calling handlers, sending what is queued.
//!
//! An error of one datagram costs no other, and no datagram stays queued after the turn.

use crate::context::Context;
use crate::context::datagram::Datagram;
use crate::context::entries::source::{SourceDrain, SourceState};
use crate::context::entries::udp_socket_entry::UdpSocketEntry;
use crate::context::foreign_code::catch_panic;
use crate::event_loop::EventLoop;
use crate::ids::{Key, SlotKey, UdpSocketId};
use crate::limits;

impl EventLoop<'_> {
    /// Receives datagrams of a socket, at most a turn's budget of them, and delivers them.
    pub(super) fn receive_datagrams(&mut self, key: Key) -> SourceState {
        let mut budget = limits::DATAGRAMS_PER_TURN_MAX;
        // A callback may have stopped the loop, or removed the socket, and opened another in its slot.
        while budget > 0
            && !self.context.loop_state.is_stopping()
            && let Some(entry) = self.context.udp_socket_mut(key)
        {
            match entry.socket.recv_datagrams(&mut self.recv_batch, budget as usize) {
                Ok(may_have_more) => {
                    entry.source.backoff.on_success();
                    // A drain is over when there is nothing more: it waits for no event.
                    // planted: full-batch-is-the-last
                    let is_empty = !may_have_more && !matches!(entry.source.drain, SourceDrain::Left(_));
                    budget -= self.deliver_datagrams(key);
                    if self.context.send_queue.is_over_soft_max() {
                        self.send_datagrams();
                    }
                    if is_empty {
                        return SourceState::WouldBlock;
                    }
                }
                Err(error) => {
                    if let Some(result) = self.on_source_error(SlotKey::UdpSocket(key.slot), &error) {
                        return result;
                    }
                }
            }
        }
        SourceState::Ready
    }

    /// Delivers what has been received; returns the number of datagrams.
    fn deliver_datagrams(&mut self, socket: Key) -> u32 {
        let Some(&UdpSocketEntry { handler, local: bound, .. }) = self.context.udp_socket(socket) else {
            return 0;
        };
        let handler = self.callbacks.datagram_handler(&mut self.context, handler);
        let (context, mut count) = (&mut self.context, 0);
        while let Some((meta, payload)) = self.recv_batch.next() {
            if context.udp_socket(socket).is_none() || context.loop_state.is_stopping() {
                self.recv_batch.clear();
                break;
            }
            count += 1;
            context.stats.datagrams_received += 1;
            context.stats.datagrams_truncated += u64::from(meta.truncated);
            let called = catch_panic(context, |context| {
                handler.on_datagram(&mut Datagram { context, socket, bound, meta: *meta }, payload);
            });
            if called.is_none() {
                log::error!("{bound}: a handler has panicked over a datagram from {}", meta.peer);
            }
        }
        if let Some(entry) = self.context.udp_socket_mut(socket) {
            entry.source.drain.take(count);
        }
        count
    }

    /// Calls `on_drain` of a socket.
    pub(super) fn call_udp_drain(&mut self, key: Key) {
        let Some(&UdpSocketEntry { handler, local, .. }) = self.context.udp_socket(key) else {
            return;
        };
        let (id, handler) = (UdpSocketId(key), self.callbacks.datagram_handler(&mut self.context, handler));
        if catch_panic(&mut self.context, |context| handler.on_drain(context, id)).is_none() {
            log::error!("{local}: a handler has panicked over a drain");
            self.context.remove(id);
        }
    }

    /// Sends what callbacks have queued, each socket's transmits together.
    pub(super) fn send_datagrams(&mut self) {
        let Context { send_queue, udp_sockets, stats, repeated_logs, .. } = &mut self.context;
        send_queue.group();
        for transmits in send_queue.transmits.chunk_by(|one, next| one.socket == next.socket) {
            let Some(entry) = udp_sockets.get_mut(transmits[0].socket as usize) else {
                stats.datagrams_dropped += transmits.len() as u64;
                continue;
            };
            let UdpSocketEntry { socket, local, .. } = entry;
            socket.send_datagrams(transmits, send_queue, |transmit, sent| match sent {
                Ok(()) => stats.datagrams_sent += 1,
                Err(error) => {
                    stats.datagrams_dropped += 1;
                    repeated_logs.occurrences_mut().datagrams_lost.add((*local, transmit.to, error));
                }
            });
        }
        send_queue.clear();
    }
}
