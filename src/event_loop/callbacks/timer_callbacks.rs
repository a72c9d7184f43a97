//! Timer callbacks, and calling those that are due.
//!
//! A timer never fires early, and once for each time it was set.

use std::time::Duration;

use crate::context::Context;
use crate::event_loop::EventLoop;
use crate::event_loop::callbacks::stream_handlers::{catch_panic, drop_foreign};
use crate::ids::{Key, SlotKey};
use crate::limits;
use crate::state::memory::shrink_table;
use crate::state::timers::TimerTask;

/// A closure that returns how long until it is called again, or `None` for never.
pub(crate) type TimerCallback<'h> = Box<dyn FnMut(&mut Context) -> Option<Duration> + 'h>;

/// The closures of timers, by the slot of the timer, each with its generation.
#[derive(Default)]
pub(crate) struct TimerCallbacks<'h> {
    callbacks: Vec<Option<(u64, TimerCallback<'h>)>>,
}

impl<'h> TimerCallbacks<'h> {
    pub(crate) fn add(&mut self, key: Key, callback: TimerCallback<'h>) {
        let slot = key.slot as usize;
        if self.callbacks.len() <= slot {
            self.callbacks.resize_with(slot + 1, || None);
        }
        self.callbacks[slot] = Some((key.generation, callback));
    }

    /// Gives back the memory of a burst of timers.
    pub(crate) fn shrink(&mut self) {
        while self.callbacks.pop_if(|callback| callback.is_none()).is_some() {}
        let used = self.callbacks.len();
        shrink_table(&mut self.callbacks, used, limits::BURST_MIN);
    }

    /// Takes a closure out, if it is still the timer's.
    pub(crate) fn take(&mut self, key: Key) -> Option<TimerCallback<'h>> {
        let entry = self.callbacks.get_mut(key.slot as usize)?;
        let (_, callback) = entry.take_if(|(generation, _)| *generation == key.generation)?;
        Some(callback)
    }
}

impl EventLoop<'_> {
    /// Does what a timer that has come up is for.
    pub(in crate::event_loop) fn expire_timer(&mut self, slot: u32) {
        let (key, task) = self.context.timers.get(slot);
        self.context.stats.timers += 1;
        match task {
            TimerTask::Handler { handler, value } => {
                self.context.timers.remove(key);
                self.handlers.on_timer(&mut self.context, handler, value);
                // planted: timer-keeps-its-handler
                self.context.release_handler(handler);
            }
            TimerTask::Callback => self.call_timer(key),
        }
    }

    /// Calls a closure. It is out of its slot meanwhile, so that it may remove its timer; a panic ends the timer.
    fn call_timer(&mut self, key: Key) {
        let Some(mut callback) = self.timer_callbacks.take(key) else {
            return;
        };
        let outcome = catch_panic(&mut self.context, |context| callback(context));
        if outcome.is_none() {
            log::error!("a timer has panicked, and is over");
        }
        match outcome.flatten() {
            Some(after) if self.context.timers.contains(key) => {
                // planted: timer-repeats-at-once
                let at = self.context.deadline_after(after);
                self.context.deadlines.arm(SlotKey::Timer(key.slot), at);
                self.timer_callbacks.add(key, callback);
            }
            _ => {
                self.context.timers.remove(key);
                drop_foreign(&mut self.context, callback);
            }
        }
    }
}
