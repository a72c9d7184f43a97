//! Calls expired timers.
//!
//! A timer never fires early, and fires once for each time it was set.

use crate::context::foreign_code::{CallbackSite, call_back, drop_foreign};
use crate::context::open::Added;
use crate::event_loop::EventLoop;
use crate::ids::{Key, SlotKey, TimerId};
use crate::observe::entry::{Callback, EntryKind};
use crate::state::timers::TimerTask;
use crate::state::timestamp::Timestamp;

impl EventLoop<'_> {
    /// Runs the task of an expired timer.
    pub(in crate::event_loop) fn expire_timer(&mut self, slot: u32, at: Timestamp) {
        let (key, task) = self.context.timers.get(slot);
        self.context.note(EntryKind::DeadlineFired, SlotKey::Timer(slot), [at.as_nanos(), 0]);
        self.context.stats.timers += 1;
        match task {
            TimerTask::Handler { handler, value } => {
                self.context.timers.remove(key);
                self.callbacks.on_timer(&mut self.context, handler, TimerId(key), value);
                // planted: timer-keeps-its-handler
                self.context.release_handler(handler);
            }
            TimerTask::Callback => self.call_timer(key),
            TimerTask::Removed => {}
        }
    }

    /// Calls a closure. Meanwhile it is out of its slot, so that it may remove its timer. A panic ends the timer.
    fn call_timer(&mut self, key: Key) {
        let Some(mut callback) = self.callbacks.take_timer(&mut self.context, key.slot) else {
            return;
        };
        let site = CallbackSite::of(SlotKey::Timer(key.slot), Callback::Timer);
        let outcome = call_back(&mut self.context, site, |context| callback(context));
        if outcome.is_none() {
            log::error!("the callback of a timer panicked; the timer is removed");
        }
        match outcome.flatten() {
            Some(after) if self.context.timers.contains(key) => {
                // planted: timer-repeats-at-once
                let at = self.context.deadline_after(after);
                self.context.deadlines.arm(SlotKey::Timer(key.slot), at);
                self.context.note(EntryKind::DeadlineSet, SlotKey::Timer(key.slot), [at.as_nanos(), 0]);
                self.callbacks.insert(Added::Timer(key.slot, callback));
            }
            _ => {
                // If it was removed, its slot is freed with other removed objects.
                if self.context.timers.contains(key) {
                    self.context.timers.free(key);
                }
                drop_foreign(&mut self.context, callback);
            }
        }
    }
}
