//! Serves listeners, UDP sockets and watches: budgets, errors, drain.
//!
//! Only a source that returned `WouldBlock` waits for the next event.

use std::io;

use crate::address::Address;
use crate::context::entries::source::{Source, SourceDrain, SourceState};
use crate::event_loop::EventLoop;
use crate::ids::{SlotKey, Token};
use crate::net::backoff::{BackoffAction, Recovery};
use crate::net::io_error_class::IoErrorClass;
use crate::observe::entry::EntryKind;

impl EventLoop<'_> {
    /// Makes a source ready that waits for an event. A source that waits for room or for its backoff is served then.
    pub(super) fn on_source_event(&mut self, key: SlotKey, token: Token) {
        let is_waiting =
            |source: &&mut Source| token.matches(source.generation) && source.state == SourceState::WouldBlock;
        if let Some(source) = self.context.source(key).filter(is_waiting) {
            // A waiting source has no deadline to disarm.
            source.state = SourceState::Ready;
            self.context.ready_sources.push_back(key);
        }
    }

    /// Serves each ready source with its budget; returns true if there was one.
    pub(super) fn serve_sources(&mut self) -> bool {
        let (any, mut served_again) = (!self.context.ready_sources.is_empty(), 0);
        // Sources with a spent budget are at the end of the queue, and wait for the next turn.
        while self.context.ready_sources.len() > served_again
            && let Some(key) = self.context.ready_sources.pop_front()
        {
            let state = match key {
                SlotKey::Listener(slot) => self.accept_clients(slot),
                SlotKey::UdpSocket(slot) => self.receive_datagrams(slot),
                #[cfg(unix)]
                SlotKey::Watch(slot) => self.call_watch(slot),
                SlotKey::Connection(_) | SlotKey::Timer(_) => continue,
            };
            served_again += usize::from(state == SourceState::Ready);
            self.finish_serving(key, state);
        }
        any
    }

    /// Records what a source waits for. Its callbacks may have closed it.
    fn finish_serving(&mut self, key: SlotKey, state: SourceState) {
        let now = self.context.now;
        let Some(source) = self.context.source(key) else {
            return;
        };
        source.state = state;
        let mut recovery = None;
        // The kernel has no more: the errors are over, and a drain does not wait for this source.
        if state == SourceState::WouldBlock {
            source.drain.take(u32::MAX);
            recovery = source.backoff.on_would_block(now);
        }
        let is_draining = matches!(source.drain, SourceDrain::Left(_));
        match state {
            SourceState::WouldBlock => {}
            SourceState::Ready => {
                self.context.ready_sources.push_back(key);
                self.context.note(EntryKind::Deferred, key, [0; 2]);
            }
            SourceState::HandlerFull | SourceState::BackingOff => self.context.hold_up(key),
        }
        if let Some(Recovery { failures, lasted }) = recovery {
            let nanoseconds = u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX);
            self.context.note(EntryKind::Recovered, key, [failures, nanoseconds]);
            let (address, verb) = self.address_and_verb(key);
            log::info!("{address}: {verb}s again, after {failures} failed tries in {lasted:.1?}");
        }
        if is_draining {
            self.finish_source_drain(key);
        }
    }

    /// When a drain waits for nothing more of a source, a listener closes, and a UDP socket calls `on_drain`.
    fn finish_source_drain(&mut self, key: SlotKey) {
        let Some(source) = self.context.source(key) else {
            return;
        };
        match key {
            SlotKey::Listener(slot) if source.state == SourceState::WouldBlock => {
                self.context.close_listener(slot);
            }
            SlotKey::UdpSocket(slot) if source.drain == SourceDrain::Left(0) => {
                source.drain = SourceDrain::Done;
                if let Some(key) = self.context.udp_socket_key(slot) {
                    self.call_udp_drain(key);
                }
            }
            _ => {}
        }
    }

    /// Handles a failed accept or receive. Returns the new state of the source, or `None` to retry at once.
    pub(super) fn on_source_error(&mut self, key: SlotKey, error: &io::Error) -> Option<SourceState> {
        let (class, now) = (IoErrorClass::of(error), self.context.now);
        // planted: first-accept-error-ends-accepting
        if class == IoErrorClass::WouldBlock {
            return Some(SourceState::WouldBlock);
        }
        let stats = &mut self.context.stats;
        let (count, class, waiting) = match key {
            SlotKey::Listener(_) => (&mut stats.accept_errors, class, "clients wait in the backlog"),
            // Also an exhausted resource: its datagram is lost, and the next may be received.
            _ => (&mut stats.receive_errors, IoErrorClass::Transient, "datagrams wait"),
        };
        *count += 1;
        let BackoffAction::Wait { after, should_log } = self.context.source(key)?.backoff.on_error(class, now) else {
            return None;
        };
        if should_log {
            let (address, verb) = self.address_and_verb(key);
            log::warn!("{address}: cannot {verb}, {waiting}: {error}");
        }
        self.context.stats.pauses += 1;
        let pause = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.context.note_error(EntryKind::Backoff, key, [pause, 0], error);
        let at = self.context.deadline_after(after);
        self.context.deadlines.arm(key, at);
        Some(SourceState::BackingOff)
    }

    fn address_and_verb(&self, key: SlotKey) -> (Address, &'static str) {
        match key {
            SlotKey::UdpSocket(slot) => (self.context.udp_sockets[slot as usize].local.into(), "receive"),
            SlotKey::Listener(slot) => (self.context.listeners[slot as usize].address.clone(), "accept"),
            _ => unreachable!("{key:?} has no address and no errors"),
        }
    }

    /// Whether a drain waits for no source.
    pub(super) fn are_sources_drained(&self) -> bool {
        let context = &self.context;
        context.listeners.iter().all(|(_, entry)| entry.socket.is_none() || entry.source.drain == SourceDrain::Done)
            // A socket that its handler keeps delays the drain, as a connection does.
            && context.udp_sockets.iter().all(|(_, entry)| !entry.is_open)
    }

    pub(super) fn close_listeners(&mut self) {
        for key in self.context.source_keys() {
            if let SlotKey::Listener(slot) = key {
                self.context.close_listener(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::handler_impls::stream;
    use crate::limits;
    use crate::net::Network;
    use crate::net::simulated::{Simulated, world::World};
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A loop with one ready listener.
    fn loop_with_listener() -> (EventLoop<'static>, SlotKey) {
        let network = Simulated::new(&Rc::new(RefCell::new(World::new(1))));
        let mut events = EventLoop::with_network(Network::Simulated(network), Box::new(|| 100), [1, 2]);
        let address = std::net::SocketAddr::from(([10, 0, 0, 1], 7));
        events.listen(address, stream(|_, input| input.len())).expect("the address is free");
        let key = SlotKey::Listener(0);
        events.context.make_ready(key);
        (events, key)
    }

    /// Serves the first source of the ready queue, with this result.
    fn serve(events: &mut EventLoop<'_>, state: SourceState) {
        let key = events.context.ready_sources.pop_front().expect("one is ready");
        events.finish_serving(key, state);
    }

    /// Serves it with an error that causes a backoff.
    fn serve_with_error(events: &mut EventLoop<'_>) {
        let exhausted = io::Error::from(nix::errno::Errno::EMFILE);
        let state = events.on_source_error(SlotKey::Listener(0), &exhausted).expect("it backs off");
        serve(events, state);
    }

    fn event(events: &mut EventLoop<'_>, key: SlotKey) {
        let generation = events.context.source(key).expect("it is open").generation;
        events.on_source_event(key, Token::new(key, generation));
    }

    #[test]
    fn only_a_source_that_returned_eagain_waits_for_the_next_event() {
        let (mut events, key) = loop_with_listener();
        event(&mut events, key);
        assert_eq!(events.context.ready_sources, [key], "many events make one entry in the queue");
        serve(&mut events, SourceState::Ready);
        assert_eq!(events.context.ready_sources, [key]);
        serve(&mut events, SourceState::WouldBlock);
        assert!(events.context.ready_sources.is_empty());
        event(&mut events, key);
        assert_eq!(events.context.ready_sources, [key]);
    }

    #[test]
    fn a_source_in_backoff_is_served_at_its_deadline_or_when_a_descriptor_is_free() {
        let pause = limits::BACKOFF_MIN;
        let (mut events, key) = loop_with_listener();
        serve_with_error(&mut events);
        event(&mut events, key);
        assert!(events.context.ready_sources.is_empty());
        assert_eq!(events.context.deadlines.deadline(key), events.context.now.after(pause));
        events.context.retry_held_up_listeners();
        assert_eq!((events.context.deadlines.earliest(), events.context.ready_sources.len()), (None, 1));
        serve_with_error(&mut events);
        events.context.now = events.context.deadlines.deadline(key);
        assert!(events.expire_deadlines());
        assert_eq!(events.context.ready_sources, [key]);
    }

    #[test]
    fn a_source_of_a_full_handler_is_served_when_there_is_room_and_a_closed_one_never() {
        let (mut events, key) = loop_with_listener();
        serve(&mut events, SourceState::HandlerFull);
        event(&mut events, key);
        assert!(events.context.ready_sources.is_empty());
        events.context.retry_held_up_listeners();
        assert_eq!(events.context.ready_sources, [key]);
        assert!(events.context.close_listener(0));
        assert!(events.context.ready_sources.is_empty());
        events.finish_serving(key, SourceState::Ready);
        assert!(events.context.ready_sources.is_empty(), "its own callback closed it");
    }
}
