//! Which listeners or UDP sockets are ready, and what others wait for.
//!
//! Only a source that returned `WouldBlock` waits for the next event.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::to_slot;
use crate::state::deadlines::Deadlines;
use crate::state::timestamp::Timestamp;

/// Listeners or UDP sockets, by slot.
#[derive(Default)]
pub(crate) struct ReadyQueue {
    states: Vec<SourceState>,
    ready: VecDeque<u32>,
    backoffs: Deadlines,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SourceState {
    Absent,
    /// For the poll.
    WouldBlock,
    /// For its turn: it stands on the ready list.
    Ready,
    /// For room with its handler.
    HandlerFull,
    /// For the end of a pause, or for a descriptor to come free.
    BackingOff,
}

/// How one result of serving a source ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ServeResult {
    /// The kernel has nothing more.
    WouldBlock,
    /// The budget is spent.
    BudgetSpent,
    /// Its handler has no room.
    HandlerFull,
    /// An error calls for a pause.
    BackOff(Duration),
}

impl ReadyQueue {
    pub(crate) fn add(&mut self, slot: u32) {
        if self.states.len() <= slot as usize {
            self.states.resize(slot as usize + 1, SourceState::Absent);
        }
        self.states[slot as usize] = SourceState::WouldBlock;
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        self.states[slot as usize] = SourceState::Absent;
        self.backoffs.disarm(slot);
    }

    /// The poll told an edge. What is held or paused tries anyway, in its time.
    pub(crate) fn on_event(&mut self, slot: u32) {
        if self.states[slot as usize] == SourceState::WouldBlock {
            self.make_ready(slot);
        }
    }

    /// Has a source served, whatever it waits for.
    pub(crate) fn make_ready(&mut self, slot: u32) {
        let state = &mut self.states[slot as usize];
        if !matches!(state, SourceState::Absent | SourceState::Ready) {
            *state = SourceState::Ready;
            self.backoffs.disarm(slot);
            self.ready.push_back(slot);
        }
    }

    /// A descriptor has come free, and perhaps room with a handler.
    pub(crate) fn retry_held_up(&mut self) {
        for slot in 0..self.states.len() {
            if matches!(self.states[slot], SourceState::HandlerFull | SourceState::BackingOff) {
                self.make_ready(to_slot(slot));
            }
        }
    }

    /// Ends the pauses whose time has come; true if there were any.
    pub(crate) fn expire(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        while let Some(slot) = self.backoffs.pop_expired(now) {
            self.make_ready(slot);
            any = true;
        }
        any
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.backoffs.earliest()
    }

    /// Whether a source comes up without an edge, soon or after its pause.
    #[cfg(test)]
    pub(crate) fn will_be_served(&self, slot: u32) -> bool {
        match self.states[slot as usize] {
            SourceState::Ready => self.ready.contains(&slot),
            SourceState::BackingOff => self.backoffs.deadline(slot) != Timestamp::NEVER,
            SourceState::Absent | SourceState::WouldBlock | SourceState::HandlerFull => false,
        }
    }

    #[cfg(test)]
    pub(crate) fn is_handler_full(&self, slot: u32) -> bool {
        self.states[slot as usize] == SourceState::HandlerFull
    }

    /// How many are to be served.
    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// The next to be served. It stays on the list until [`finish_front`](Self::finish_front), so that a handler that
    /// unwinds does not cost the source its place.
    pub(crate) fn front(&self) -> Option<u32> {
        self.ready.front().copied()
    }

    /// Takes the source off the front; the result decides where it goes.
    pub(crate) fn finish_front(&mut self, result: ServeResult, now: Timestamp) {
        let Some(slot) = self.ready.pop_front() else {
            return;
        };
        let state = &mut self.states[slot as usize];
        if *state != SourceState::Ready {
            return;
        }
        *state = match result {
            ServeResult::WouldBlock => SourceState::WouldBlock,
            ServeResult::HandlerFull => SourceState::HandlerFull,
            ServeResult::BudgetSpent => {
                self.ready.push_back(slot);
                SourceState::Ready
            }
            ServeResult::BackOff(after) => {
                self.backoffs.arm(slot, now.after(after));
                SourceState::BackingOff
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::START;

    fn ready_queue() -> ReadyQueue {
        let mut ready_queue = ReadyQueue::default();
        ready_queue.add(0);
        ready_queue.on_event(0);
        ready_queue
    }

    #[test]
    fn only_an_empty_source_waits_for_the_next_edge() {
        let mut ready_queue = ready_queue();
        ready_queue.on_event(0);
        assert_eq!(ready_queue.ready_len(), 1, "one entry in the queue, however many edges");
        ready_queue.finish_front(ServeResult::BudgetSpent, NOW);
        assert_eq!(ready_queue.front(), Some(0));
        ready_queue.finish_front(ServeResult::WouldBlock, NOW);
        assert_eq!(ready_queue.front(), None);
        ready_queue.on_event(0);
        assert_eq!(ready_queue.front(), Some(0));
    }

    #[test]
    fn a_paused_source_comes_back_at_its_time_or_when_a_descriptor_is_free() {
        let pause = Duration::from_millis(10);
        let mut ready_queue = ready_queue();
        ready_queue.finish_front(ServeResult::BackOff(pause), NOW);
        ready_queue.on_event(0);
        assert_eq!((ready_queue.ready_len(), ready_queue.next_deadline()), (0, Some(NOW.after(pause))));
        assert!(!ready_queue.expire(NOW));
        assert!(ready_queue.expire(NOW.after(pause)));
        assert_eq!(ready_queue.front(), Some(0));
        ready_queue.finish_front(ServeResult::BackOff(pause), NOW);
        ready_queue.retry_held_up();
        assert_eq!((ready_queue.front(), ready_queue.next_deadline()), (Some(0), None));
    }

    #[test]
    fn a_held_source_comes_back_when_there_is_room_and_a_removed_one_never() {
        let mut ready_queue = ready_queue();
        ready_queue.finish_front(ServeResult::HandlerFull, NOW);
        ready_queue.retry_held_up();
        assert_eq!(ready_queue.front(), Some(0));
        ready_queue.remove(0);
        ready_queue.finish_front(ServeResult::BudgetSpent, NOW);
        ready_queue.on_event(0);
        ready_queue.retry_held_up();
        assert_eq!(ready_queue.ready_len(), 0);
    }
}
