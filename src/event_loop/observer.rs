//! Passes the entries of each turn to the observer, and keeps the turn statistics.
//!
//! The observer runs between two turns, never inside a callback.

use std::io;
use std::time::Duration;

use crate::context::foreign_code::catch_panic_between_turns;
use crate::event_loop::EventLoop;
#[cfg(any(test, feature = "testing"))]
use crate::net::Network;
use crate::observe::entry::{Entry, EntryKind, Level};
use crate::observe::journal::TurnEntries;

/// The observer of a loop.
pub(super) type Observer<'h> = Box<dyn FnMut(&TurnEntries<'_>) + 'h>;

/// The current turn, as far as its statistics need it.
#[derive(Default)]
pub(super) struct TurnTimes {
    poll_began: u64,
    poll_ended: u64,
    in_poll: u64,
    events: u64,
}

impl<'h> EventLoop<'h> {
    /// Sets how much the loop notes in its journal, from the next turn on. Default: [`Level::Off`].
    ///
    /// At [`Level::Turns`] the loop reads the clock twice more in a turn, and keeps the turn statistics in
    /// [`Stats`](crate::Stats). At [`Level::All`] it notes every step, and reads the clock twice more for each callback.
    /// No level allocates memory per exchange.
    ///
    /// ```
    /// use halloo::observe::Level;
    ///
    /// let mut events = halloo::EventLoop::new()?;
    /// events.journal_level(Level::Turns);
    /// let _ = events.turn(Some(std::time::Duration::ZERO))?;
    /// assert_eq!(events.stats().turn_time.count(), 1);
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn journal_level(&mut self, level: Level) {
        self.context.journal_level(level);
    }

    /// Keeps up to this many bytes of each read, write and datagram in the journal at [`Level::All`]. Default: 0.
    pub fn journal_payload_bytes_max(&mut self, bytes: usize) {
        self.context.journal.set_payload_bytes_max(bytes);
    }

    /// Sets the observer. It is called after each turn with the entries of the turn, and not while the level is
    /// [`Level::Off`]. It replaces the observer before it.
    ///
    /// ```
    /// use halloo::observe::{EntryKind, Level};
    ///
    /// let mut slowest = std::time::Duration::ZERO;
    /// let mut events = halloo::EventLoop::new()?;
    /// events.journal_level(Level::Turns);
    /// events.set_observer(|turn| {
    ///     let last_poll = turn.entries.iter().rfind(|entry| entry.kind == EntryKind::PollEnd);
    ///     if let (Some(poll), Some(end)) = (last_poll, turn.entries.last()) {
    ///         slowest = slowest.max(end.time() - poll.time());
    ///     }
    /// });
    /// let _ = events.turn(Some(std::time::Duration::ZERO))?;
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn set_observer(&mut self, observer: impl FnMut(&TurnEntries<'_>) + 'h) {
        self.observer = Some(Box::new(observer));
    }

    /// Takes over the level for this turn.
    pub(super) fn begin_journal(&mut self) {
        if self.context.journal.begin_turn() {
            self.context.update_journal_time();
            self.context.note_existing();
        }
        self.turn_times = TurnTimes::default();
    }

    pub(super) fn note_poll_begin(&mut self, wait: Option<Duration>) {
        if self.context.journal.has_turns() {
            let now = self.context.clock().as_nanos();
            let wait = wait.map_or(u64::MAX, |wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
            self.context.journal.note_turn(EntryKind::PollBegin, now, [wait, 0], None);
            self.turn_times.poll_began = now;
        }
    }

    /// Notes the end of a poll. The clock was read just now.
    pub(super) fn note_poll_end(&mut self, outcome: &io::Result<bool>, events_before: usize) {
        if self.context.journal.has_turns() {
            let now = self.context.now.as_nanos();
            let events = (self.events.len() - events_before) as u64;
            let has_more = matches!(outcome, Ok(true));
            self.context.journal.note_turn(EntryKind::PollEnd, now, [events, has_more.into()], outcome.as_ref().err());
            self.turn_times.poll_ended = now;
            self.turn_times.in_poll += now - self.turn_times.poll_began;
            self.turn_times.events += events;
        }
    }

    /// Ends the turn in the journal and in the statistics, and calls the observer.
    pub(super) fn end_journal(&mut self, progress: bool) {
        if !self.context.journal.has_turns() {
            return;
        }
        let now = self.context.clock().as_nanos();
        self.context.journal.note_turn(EntryKind::TurnEnd, now, [progress.into(), 0], None);
        let stats = &mut self.context.stats;
        stats.turn_time.record(now - self.turn_times.poll_ended);
        stats.poll_time.record(self.turn_times.in_poll);
        stats.events_per_turn.record(self.turn_times.events);
        self.call_observer();
    }

    /// Passes the entries on, and clears the journal.
    fn call_observer(&mut self) {
        let (level, started) = (self.context.journal.requested_level(), self.context.started);
        let buffers = self.context.journal.take_turn();
        let turn = buffers.as_entries(started);
        #[cfg(any(test, feature = "testing"))]
        if let Network::Simulated(network) = &self.context.network {
            network.recording().borrow_mut().trim();
        }
        if let Some(observer) = self.observer.as_mut().filter(|_| level != Level::Off) {
            // A simulation notes everything, whatever the observer asked for.
            let is_wanted = |entry: &&Entry| entry.kind.level() <= level;
            let called = if turn.entries.iter().all(|entry| is_wanted(&entry)) {
                catch_panic_between_turns(&mut self.context, |_| observer(&turn))
            } else {
                let entries: Vec<Entry> = turn.entries.iter().filter(is_wanted).copied().collect();
                catch_panic_between_turns(&mut self.context, |_| {
                    observer(&TurnEntries { entries: &entries, details: &[], ..turn });
                })
            };
            if called.is_none() {
                log::error!("the observer panicked");
            }
        }
        self.context.journal.return_turn(buffers);
    }
}
