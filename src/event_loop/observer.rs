//! The observer of a loop, and the statistics of turns.
//!
//! The observer runs between two turns, never inside a callback.

use std::io;
use std::time::Duration;

use crate::context::foreign_code::{call_between_turns, catch_panic};
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
    poll_ended: u64,
    in_poll: u64,
    events: u64,
}

impl<'h> EventLoop<'h> {
    /// Sets how much the loop notes in its journal, from the next turn on. Default: [`Level::Off`].
    ///
    /// At [`Level::Turns`] the loop reads the clock twice more in a turn, and keeps the turn statistics in
    /// [`Stats`](crate::Stats). At [`Level::All`] it notes every step, and reads the clock once more for each callback.
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

    /// Takes over the requested level of the journal, polls, and notes the begin and the end.
    #[cold]
    pub(super) fn poll_and_note(&mut self, wait: Option<Duration>) -> io::Result<bool> {
        if self.context.journal.change_level() {
            self.context.update_journal_time();
            self.context.note_existing();
        }
        self.context.update_calls();
        if !self.context.journal.has_turns() {
            return self.context.network.poll(&mut self.events, wait);
        }
        let (began, events_before) = (self.context.clock().as_nanos(), self.events.len());
        let nanoseconds = wait.map_or(u64::MAX, |wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        self.context.journal.note_turn(EntryKind::PollBegin, began, [nanoseconds, 0], None);
        let polled = self.context.network.poll(&mut self.events, wait);
        let (ended, events) = (self.context.clock().as_nanos(), (self.events.len() - events_before) as u64);
        let numbers = [events, matches!(polled, Ok(true)).into()];
        self.context.journal.note_turn(EntryKind::PollEnd, ended, numbers, polled.as_ref().err());
        let times = &mut self.turn_times;
        times.poll_ended = ended;
        times.in_poll += ended - began;
        times.events += events;
        polled
    }

    /// Ends the turn in the journal and in the statistics, and calls the observer.
    #[cold]
    pub(super) fn end_journal(&mut self, progress: bool) {
        // A callback may have requested a level for the next turn.
        if !self.context.journal.has_turns() {
            return;
        }
        let now = self.context.clock().as_nanos();
        self.context.journal.note_turn(EntryKind::TurnEnd, now, [progress.into(), 0], None);
        let (stats, times) = (&mut self.context.stats, std::mem::take(&mut self.turn_times));
        stats.turn_time.record(now - times.poll_ended);
        stats.poll_time.record(times.in_poll);
        stats.events_per_turn.record(times.events);
        self.call_observer();
    }

    /// Passes the entries on, and clears the journal.
    fn call_observer(&mut self) {
        let (level, started) = (self.context.journal.observed_level(), self.context.started);
        let buffers = self.context.journal.take_turn();
        let turn = buffers.as_entries(started);
        #[cfg(any(test, feature = "testing"))]
        if let Network::Simulated(network) = &self.context.network {
            network.recording().borrow_mut().trim();
        }
        if let Some(observer) = self.observer.as_mut().filter(|_| level != Level::Off) {
            // A simulation notes everything, whatever the observer asked for.
            let is_wanted = |entry: &&Entry| entry.kind.level() <= level;
            let is_all = level == Level::All || turn.entries.iter().all(|entry| is_wanted(&entry));
            let wanted: Vec<Entry> =
                if is_all { Vec::new() } else { turn.entries.iter().filter(is_wanted).copied().collect() };
            let turn = if is_all { turn } else { TurnEntries { entries: &wanted, details: &[], ..turn } };
            let called = call_between_turns(&mut self.context, |context| catch_panic(context, |_| observer(&turn)));
            if called.is_none() {
                log::error!("the observer panicked");
            }
        }
        self.context.journal.return_turn(buffers);
    }
}
