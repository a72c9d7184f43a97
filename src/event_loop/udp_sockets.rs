//! Receives datagrams, calls handlers, and sends queued datagrams.
//!
//! An error concerns only its own datagram, and no datagram stays queued after the turn.

use crate::context::Context;
use crate::context::datagram::Datagram;
use crate::context::entries::source::{SourceDrain, SourceState};
use crate::context::entries::udp_socket_entry::UdpSocketEntry;
use crate::context::foreign_code::{CallbackSite, call_back, catch_panic};
use crate::event_loop::EventLoop;
use crate::ids::{Key, SlotKey, UdpSocketId};
use crate::limits;
use crate::net::send_notes::SendNotes;
use crate::observe::entry::{Callback, EntryKind};

impl EventLoop<'_> {
    /// Receives datagrams of a socket, at most a turn's budget, and delivers them.
    pub(super) fn receive_datagrams(&mut self, slot: u32) -> SourceState {
        let mut budget = limits::DATAGRAMS_PER_TURN_MAX;
        // A callback may have stopped the loop, or removed the socket. Its slot is not reused before the turn ends.
        while budget > 0
            && !self.context.loop_state.is_stopping()
            && let Some(entry) = self.context.udp_sockets.get_mut(slot as usize)
            && entry.is_open
            && let Some(socket) = &mut entry.socket
        {
            let received = if entry.undelivered.is_empty() {
                socket.recv_datagrams(&mut self.recv_batch, budget as usize)
            } else {
                self.recv_batch = std::mem::take(&mut entry.undelivered);
                Ok(true)
            };
            match received {
                Ok(may_have_more) => {
                    entry.source.backoff.on_success();
                    // A drain ends when the queue is empty: it does not wait for an event.
                    // planted: full-batch-is-the-last
                    let is_empty = !may_have_more && !matches!(entry.source.drain, SourceDrain::Left(_));
                    budget -= self.deliver_datagrams(slot, budget);
                    let has_rest = !self.recv_batch.is_empty();
                    if has_rest {
                        self.recv_batch.asked = 0;
                        self.context.udp_sockets[slot as usize].undelivered = std::mem::take(&mut self.recv_batch);
                    }
                    if self.context.send_queue.is_over_soft_max() {
                        self.send_datagrams();
                    }
                    if is_empty && !has_rest {
                        return SourceState::WouldBlock;
                    }
                }
                Err(error) => {
                    let asked = self.recv_batch.asked as u64;
                    self.context.note_error(EntryKind::ReceiveBatch, SlotKey::UdpSocket(slot), [0, asked], &error);
                    if std::mem::take(&mut self.recv_batch.is_refused) {
                        continue;
                    }
                    if let Some(result) = self.on_source_error(SlotKey::UdpSocket(slot), &error) {
                        return result;
                    }
                }
            }
        }
        SourceState::Ready
    }

    /// Delivers the received datagrams, at most this many; returns their number.
    fn deliver_datagrams(&mut self, slot: u32, max: u32) -> u32 {
        let UdpSocketEntry { handler, local: bound, ref source, .. } = self.context.udp_sockets[slot as usize];
        let (socket, mut count) = (Key { generation: source.generation, slot }, 0);
        let (handler, key) = (self.callbacks.datagram_handler(&mut self.context, handler), SlotKey::UdpSocket(slot));
        let begin = self.context.journal.has_all().then(|| {
            // One pair of entries for all datagrams of a batch.
            let (received, asked) = (self.recv_batch.len() as u64, self.recv_batch.asked as u64);
            if asked > 0 {
                self.context.note(EntryKind::ReceiveBatch, key, [received, asked]);
            }
            self.context.note_callback_begin(Callback::Datagram, Some(key), received)
        });
        while count < max
            && let Some((meta, payload)) = self.recv_batch.next()
        {
            let context = &mut self.context;
            let is_open = context.udp_sockets.get(slot as usize).is_some_and(|entry| entry.is_open);
            if !is_open || context.loop_state.is_stopping() {
                self.recv_batch.clear();
                break;
            }
            count += 1;
            context.stats.datagrams_received += 1;
            context.stats.datagrams_truncated += u64::from(meta.truncated);
            if context.journal.has_all() {
                context.note_datagram_in(key, payload, meta);
            }
            let called = catch_panic(context, |context| {
                handler.on_datagram(&mut Datagram { context, socket, bound, meta: *meta, peer: meta.peer }, payload);
            });
            if called.is_none() {
                log::error!("{bound}: the handler panicked in on_datagram, for a datagram from {}", meta.peer);
            }
        }
        if let Some(begin) = begin {
            self.context.note_callback_end(begin, Callback::Datagram, count.into());
        }
        if let Some(entry) = self.context.udp_sockets.get_mut(slot as usize) {
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
        let key = SlotKey::UdpSocket(id.0.slot);
        let site = CallbackSite::of(key, Callback::Drain);
        let called = call_back(&mut self.context, site, |context| handler.on_drain(context, id));
        if called.is_none() {
            log::error!("{local}: the handler panicked in on_drain; the socket is removed");
            self.context.remove(id);
        }
    }

    /// Sends the queued datagrams, grouped by socket.
    pub(super) fn send_datagrams(&mut self) {
        if self.context.send_queue.transmits.is_empty() {
            return;
        }
        self.send_queued();
    }

    #[inline(never)]
    fn send_queued(&mut self) {
        let Context { send_queue, udp_sockets, stats, repeated_logs, journal, .. } = &mut self.context;
        send_queue.group();
        for transmits in send_queue.transmits.chunk_by(|one, next| one.socket == next.socket) {
            let entry = udp_sockets.get_mut(transmits[0].socket as usize);
            let Some(UdpSocketEntry { socket: Some(socket), local, source, .. }) = entry else {
                stats.datagrams_dropped += transmits.iter().map(|transmit| u64::from(transmit.count)).sum::<u64>();
                continue;
            };
            let notes = &mut SendNotes::new(journal, transmits[0].socket, source.generation);
            socket.send_datagrams(transmits, send_queue, notes, |transmit, sent| match sent {
                Ok(()) => stats.datagrams_sent += u64::from(transmit.count),
                Err(error) => {
                    stats.datagrams_dropped += u64::from(transmit.count);
                    repeated_logs.occurrences_mut().datagrams_lost.add((*local, transmit.to, error));
                }
            });
        }
        send_queue.clear();
    }
}
