//! One turn of the loop: the poll, then its stages in order.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::foreign_code::{CallbackSite, call_back, drop_foreign};
use crate::context::loop_state::{Drain, DrainReport, LoopState};
use crate::context::mailbox::{Job, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::{EventLoop, Turn};
use crate::ids::SlotKey;
use crate::limits;
use crate::observe::entry::Callback;
use crate::state::memory::release_freed_memory;
use crate::state::timestamp::Timestamp;

impl EventLoop<'_> {
    pub(super) fn run_turn(&mut self, timeout: Option<Duration>) -> Result<Turn> {
        match self.context.loop_state {
            LoopState::Stopped(report) => {
                self.drop_removed();
                return Ok(Turn::Stopped(report));
            }
            LoopState::Panicked => {
                self.end_by_panic();
                let message = "a handler panicked, which ended the loop; with catch_panics(true) the loop goes on";
                return Err(Error::with_message(ErrorKind::Setup, None, message));
            }
            LoopState::Running | LoopState::DrainRequested(_) | LoopState::Draining(_) => {}
        }
        let (now, wait) = self.clock_and_wait();
        self.end_turn(now);
        let wait = wait.map_or(timeout, |wait| Some(timeout.map_or(wait, |timeout| timeout.min(wait))));
        if let Err(error) = self.poll(wait, now) {
            self.end_journal(false);
            return Err(Error::from_io(ErrorKind::Poll, None, error));
        }
        self.context.turn = self.context.turn.wrapping_add(1);
        self.context.stats.turns += 1;
        // No later turn sees the state that a handler's panic has left.
        let progress = catch_unwind(AssertUnwindSafe(|| self.run_stages())).unwrap_or_else(|panic| {
            self.context.stats.panics += 1;
            self.end_by_panic();
            if self.context.journal.is_active() {
                self.end_journal(true);
            }
            resume_unwind(panic)
        });
        if self.context.journal.is_active() {
            self.end_journal(progress);
        }
        Ok(match self.context.loop_state {
            LoopState::Stopped(report) => Turn::Stopped(report),
            _ if progress => Turn::Progress,
            _ => Turn::Idle,
        })
    }

    /// Ends the loop after a panic that was not caught.
    fn end_by_panic(&mut self) {
        self.context.loop_state = LoopState::Panicked;
        self.close_listeners();
        // If a job panics when it is dropped, the first panic is still the one that ends the loop.
        self.context.catches_panics = true;
        self.context.update_calls();
        self.close_mailbox();
    }

    /// After a long turn, idle timeouts, write timeouts and lingers run from its end, which is `now` or earlier.
    pub(super) fn end_turn(&mut self, now: Timestamp) {
        let ended = self.turn_ended.take().unwrap_or(now);
        if ended.since(self.context.now) > limits::TURN_TIME_UNCOUNTED {
            self.context.count_progress_from(ended);
        }
    }

    /// Runs the stages after the poll; returns true if there was work.
    fn run_stages(&mut self) -> bool {
        let mut progress = self.dispatch_events();
        progress |= self.drive_queue(|context| &mut context.deferred);
        progress |= self.serve_sources();
        progress |= self.handle_messages();
        progress |= self.expire_deadlines();
        progress |= self.start_connects();
        progress |= self.relieve_memory();
        progress |= self.drive_queue(|context| &mut context.dirty);
        self.send_datagrams();
        self.context.repeated_logs.log(self.context.now);
        progress |= self.drop_removed();
        self.advance_drain();
        if self.context.free_closed() {
            self.context.retry_held_up_listeners();
        }
        // Handlers whose last connection was freed just now.
        progress |= self.drop_removed();
        if self.context.may_shrink || self.context.buffer_pool.is_large() {
            self.give_back_memory();
        }
        progress
    }

    /// Releases memory of a burst after its end.
    fn give_back_memory(&mut self) {
        let is_trimmed = self.context.buffer_pool.trim();
        self.callbacks.shrink();
        let is_over = self.context.shrink_tables() && self.mailbox.shrink();
        self.context.may_shrink = !is_over;
        if is_trimmed || is_over {
            release_freed_memory();
        }
    }

    pub(crate) fn has_work_left(&self) -> bool {
        let context = &self.context;
        self.poll_has_more
            || self.mailbox.has_messages()
            || !(context.deferred.is_empty() && context.dirty.is_empty() && context.ready_sources.is_empty())
            || !(context.notes.is_empty() && context.pending_connects.is_empty())
            || !(context.removed_sources.is_empty() && context.unused_handlers.is_empty())
            || self.is_drained()
            || !context.send_queue.transmits.is_empty()
            || context.buffer_pool.is_strained != self.strain.is_some()
            || matches!(context.loop_state, LoopState::DrainRequested(_) | LoopState::Stopped(_) | LoopState::Panicked)
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let earlier = |first: Timestamp, at: Option<Timestamp>| at.map_or(first, |at| at.min(first));
        let mut first = earlier(Timestamp::NEVER, self.context.deadlines.earliest());
        first = earlier(first, self.context.connect_retries.front().map(|(at, ..)| *at));
        first = earlier(first, self.context.drain_until());
        first = earlier(first, self.strain.map(|strain| strain.next_look));
        first = earlier(first, self.context.repeated_logs.due());
        (first != Timestamp::NEVER).then_some(first)
    }

    /// Returns the time, and how long a poll may wait. Without a deadline it is the time of the last turn: the clock is
    /// not read.
    pub(super) fn clock_and_wait(&self) -> (Timestamp, Option<Duration>) {
        let deadline = self.next_deadline();
        let now = if deadline.is_some() { self.context.clock() } else { self.context.now };
        let wait =
            if self.has_work_left() { Some(Duration::ZERO) } else { deadline.map(|deadline| deadline.since(now)) };
        (now, wait)
    }

    /// Collects events: polls once with a wait, then without a wait while more may follow.
    fn poll(&mut self, mut wait: Option<Duration>, began: Timestamp) -> io::Result<()> {
        let mut begins = began;
        for _ in 0..limits::POLLS_PER_TURN_MAX {
            let is_noted = self.context.journal.is_active();
            let polled =
                if is_noted { self.poll_and_note(wait) } else { self.context.network.poll(&mut self.events, wait) };
            self.poll_has_more = match polled {
                Ok(has_more) => has_more,
                // A signal or a debugger interrupted the poll: a poll without a wait reports the waiting events.
                // planted: deadlines-judged-after-an-interrupted-poll
                Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
                Err(error) => return Err(error),
            };
            self.context.update_now();
            if !self.poll_has_more {
                self.context.polled_until = begins;
                break;
            }
            (wait, begins) = (Some(Duration::ZERO), self.context.now);
        }
        self.incomplete_turns = if self.poll_has_more { self.incomplete_turns.saturating_add(1) } else { 0 };
        if self.incomplete_turns > limits::LATE_TURNS_MAX {
            // Otherwise polls that are always interrupted or full would postpone every deadline for ever.
            self.context.polled_until = began;
        }
        Ok(())
    }

    fn dispatch_events(&mut self) -> bool {
        let mut events = std::mem::take(&mut self.events);
        self.context.stats.events += events.len() as u64;
        for event in &events {
            if self.context.journal.has_all() {
                self.context.note_event(event);
            }
            match event.token.key() {
                SlotKey::Connection(slot) => self.on_connection_event(slot, event),
                key @ (SlotKey::Listener(_) | SlotKey::UdpSocket(_)) => self.on_source_event(key, event.token),
                #[cfg(unix)]
                SlotKey::Watch(slot) => self.on_watch_event(slot, event),
                // The waker has done its work.
                SlotKey::Timer(_) => {}
            }
        }
        let any = !events.is_empty();
        events.clear();
        self.events = events;
        any
    }

    /// Delivers the notes and messages that existed at the start.
    fn handle_messages(&mut self) -> bool {
        let (notes, messages) = (self.context.notes.len(), self.mailbox.take());
        for _ in 0..notes.min(limits::MESSAGES_PER_TURN_MAX) {
            if let Some((id, value)) = self.context.notes.pop_front() {
                self.notify(id, value);
            }
        }
        for _ in 0..messages {
            match self.mailbox.taken.pop_front() {
                Some(Message::Notify(id, value)) => self.notify(id, value),
                Some(Message::Job(job)) => self.run_job(job),
                None => break,
            }
        }
        self.context.may_shrink |= messages >= limits::MESSAGES_PER_TURN_MAX;
        notes + messages > 0
    }

    fn run_job(&mut self, job: Job) {
        self.context.stats.jobs += 1;
        self.context.note_message(0, 0);
        if call_back(&mut self.context, CallbackSite::of_loop(Callback::Job), job).is_none() {
            log::error!("a job panicked");
        }
    }

    /// Handles expired deadlines, the earliest first.
    pub(super) fn expire_deadlines(&mut self) -> bool {
        let mut any = false;
        for _ in 0..limits::DEADLINES_PER_TURN_MAX {
            let Some((key, at)) = self.context.deadlines.pop_expired(self.context.now) else {
                break;
            };
            any = true;
            match key {
                SlotKey::Connection(slot) => self.expire_connection(slot),
                SlotKey::Timer(slot) => self.expire_timer(slot, at),
                _ => self.context.make_ready(key),
            }
        }
        any
    }

    /// Drives the connections that are in a queue now. Connections added by their callbacks wait for the next run.
    fn drive_queue(&mut self, queue: fn(&mut Context) -> &mut VecDeque<u32>) -> bool {
        let count = queue(&mut self.context).len();
        for _ in 0..count {
            if let Some(slot) = queue(&mut self.context).pop_front()
                && self.context.dequeue(slot)
            {
                self.drive(slot);
            }
        }
        count > 0
    }

    /// Whether a drain waits for nothing more.
    fn is_drained(&self) -> bool {
        let is_draining = matches!(self.context.loop_state, LoopState::Draining(_));
        is_draining && self.context.stats.connections == 0 && self.are_sources_drained()
    }

    /// Refuses further messages, and drops the messages that were not handled.
    fn close_mailbox(&mut self) {
        self.mailbox.close();
        while let Some(message) = self.mailbox.pop() {
            drop_foreign(&mut self.context, message);
        }
    }

    /// Advances a drain; when it has ended, makes its report.
    fn advance_drain(&mut self) {
        if let LoopState::DrainRequested(drain) = self.context.loop_state {
            self.context.loop_state = LoopState::Draining(drain);
            self.context.begin_source_drain();
            self.context.notify_drain();
        }
        let LoopState::Draining(drain) = self.context.loop_state else {
            return;
        };
        if !self.is_drained() && !self.is_drain_over(drain) {
            return;
        }
        self.close_listeners();
        self.close_connections();
        self.send_datagrams();
        for key in self.context.source_keys() {
            if let SlotKey::UdpSocket(slot) = key
                && let Some(key) = self.context.udp_socket_key(slot)
            {
                self.context.remove_udp_socket(key);
            }
        }
        self.close_mailbox();
        // No later turn logs what was counted since the last lines.
        self.context.repeated_logs.log(Timestamp::NEVER);
        let forced = self.context.stats.closed(CloseReason::Drained);
        let finished = self.context.stats.closed_total() - drain.closed_before - forced;
        let report = DrainReport { finished, forced, elapsed: self.context.clock().since(drain.since) };
        self.context.loop_state = LoopState::Stopped(report);
    }

    /// Whether a drain's time is over, and the input of that time has been served, within bounds.
    fn is_drain_over(&mut self, drain: Drain) -> bool {
        if drain.until > self.context.polled_until {
            return false;
        }
        let Context { deferred, ready_sources, loop_state, .. } = &mut self.context;
        #[cfg(unix)]
        let is_awaited = |key: &SlotKey| !matches!(key, SlotKey::Watch(_));
        #[cfg(not(unix))]
        let is_awaited = |_: &SlotKey| true;
        let may_end = loop_state.is_stopping() || deferred.is_empty() && !ready_sources.iter().any(is_awaited);
        if !may_end && drain.late_turns < limits::LATE_TURNS_MAX {
            *loop_state = LoopState::Draining(Drain { late_turns: drain.late_turns + 1, ..drain });
            return false;
        }
        true
    }
}
