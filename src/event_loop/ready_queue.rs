//! Which of a station's sources have work to do, which wait, and for what.
//!
//! Pure. Listeners and UDP sockets are served from here: an edge puts a source on the ready list, and only an empty
//! source leaves it to wait for the next edge. Held and paused ones come back by themselves.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::slot_of;
use crate::state::deadlines::Deadlines;
use crate::state::timestamp::Moment;

/// The sources of one station, by slot.
#[derive(Default)]
pub(crate) struct Roster {
    standings: Vec<Standing>,
    ready: VecDeque<u32>,
    pauses: Deadlines,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Absent,
    /// For the poll.
    Waiting,
    /// For its turn: it stands on the ready list.
    Ready,
    /// For room with its handler.
    Held,
    /// For the end of a pause, or for a descriptor to come free.
    Paused,
}

/// How one round of serving a source ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Round {
    /// The kernel has nothing more.
    Emptied,
    /// The budget is spent.
    Spent,
    /// Its handler has no room.
    Held,
    /// An error calls for a pause.
    Paused(Duration),
}

impl Roster {
    pub(crate) fn add(&mut self, slot: u32) {
        if self.standings.len() <= slot as usize {
            self.standings.resize(slot as usize + 1, Standing::Absent);
        }
        self.standings[slot as usize] = Standing::Waiting;
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        self.standings[slot as usize] = Standing::Absent;
        self.pauses.disarm(slot);
    }

    /// The poll told an edge. What is held or paused tries anyway, in its time.
    pub(crate) fn edge(&mut self, slot: u32) {
        if self.standings[slot as usize] == Standing::Waiting {
            self.make_ready(slot);
        }
    }

    /// Has a source served, whatever it waits for.
    pub(crate) fn make_ready(&mut self, slot: u32) {
        let standing = &mut self.standings[slot as usize];
        if !matches!(standing, Standing::Absent | Standing::Ready) {
            *standing = Standing::Ready;
            self.pauses.disarm(slot);
            self.ready.push_back(slot);
        }
    }

    /// A descriptor has come free, and perhaps room with a handler.
    pub(crate) fn room_has_come(&mut self) {
        for slot in 0..self.standings.len() {
            if matches!(self.standings[slot], Standing::Held | Standing::Paused) {
                self.make_ready(slot_of(slot));
            }
        }
    }

    /// Ends the pauses whose time has come; true if there were any.
    pub(crate) fn expire(&mut self, now: Moment) -> bool {
        let mut any = false;
        while let Some(slot) = self.pauses.pop_due(now) {
            self.make_ready(slot);
            any = true;
        }
        any
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.pauses.next()
    }

    /// Whether a source comes up without an edge, soon or after its pause.
    #[cfg(test)]
    pub(crate) fn will_be_served(&self, slot: u32) -> bool {
        match self.standings[slot as usize] {
            Standing::Ready => self.ready.contains(&slot),
            Standing::Paused => self.pauses.armed(slot) != Moment::NEVER,
            Standing::Absent | Standing::Waiting | Standing::Held => false,
        }
    }

    #[cfg(test)]
    pub(crate) fn is_held(&self, slot: u32) -> bool {
        self.standings[slot as usize] == Standing::Held
    }

    /// How many are to be served.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The next to be served. It stays on the list until [`conclude`](Self::conclude), so that a handler that unwinds
    /// does not cost the source its place.
    pub(crate) fn front(&self) -> Option<u32> {
        self.ready.front().copied()
    }

    /// Files the source at the front by how its round ended.
    pub(crate) fn conclude(&mut self, round: Round, now: Moment) {
        let Some(slot) = self.ready.pop_front() else {
            return;
        };
        let standing = &mut self.standings[slot as usize];
        if *standing != Standing::Ready {
            return;
        }
        *standing = match round {
            Round::Emptied => Standing::Waiting,
            Round::Held => Standing::Held,
            Round::Spent => {
                self.ready.push_back(slot);
                Standing::Ready
            }
            Round::Paused(after) => {
                self.pauses.arm(slot, now.after(after));
                Standing::Paused
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::START;

    fn roster() -> Roster {
        let mut roster = Roster::default();
        roster.add(0);
        roster.edge(0);
        roster
    }

    #[test]
    fn only_an_empty_source_waits_for_the_next_edge() {
        let mut roster = roster();
        roster.edge(0);
        assert_eq!(roster.ready(), 1, "one place on the list, however many edges");
        roster.conclude(Round::Spent, NOW);
        assert_eq!(roster.front(), Some(0));
        roster.conclude(Round::Emptied, NOW);
        assert_eq!(roster.front(), None);
        roster.edge(0);
        assert_eq!(roster.front(), Some(0));
    }

    #[test]
    fn a_paused_source_comes_back_at_its_time_or_when_a_descriptor_is_free() {
        let pause = Duration::from_millis(10);
        let mut roster = roster();
        roster.conclude(Round::Paused(pause), NOW);
        roster.edge(0);
        assert_eq!((roster.ready(), roster.next_deadline()), (0, Some(NOW.after(pause))));
        assert!(!roster.expire(NOW));
        assert!(roster.expire(NOW.after(pause)));
        assert_eq!(roster.front(), Some(0));
        roster.conclude(Round::Paused(pause), NOW);
        roster.room_has_come();
        assert_eq!((roster.front(), roster.next_deadline()), (Some(0), None));
    }

    #[test]
    fn a_held_source_comes_back_when_there_is_room_and_a_removed_one_never() {
        let mut roster = roster();
        roster.conclude(Round::Held, NOW);
        roster.room_has_come();
        assert_eq!(roster.front(), Some(0));
        roster.remove(0);
        roster.conclude(Round::Spent, NOW);
        roster.edge(0);
        roster.room_has_come();
        assert_eq!(roster.ready(), 0);
    }
}
