//! Timer callbacks, and calling those that are due.
//!
//! A timer never fires early, and once for each time it was set.

use std::time::Duration;

use crate::context::Context;
use crate::event_loop::callbacks::{Callbacks, catch_panic};
use crate::ids::Key;
use crate::limits;
use crate::state::timers::TimerTask;

/// A closure that says how long until it is called again, or `None` for never.
pub(crate) type TimerCallback<'h> = Box<dyn FnMut(&mut Context) -> Option<Duration> + 'h>;

/// The closures of timers, by the slot of their entry in the context, each with its generation.
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

    /// Drops a closure, if it is still the one that stands there.
    pub(crate) fn remove(&mut self, key: Key) {
        if let Some(entry) = self.callbacks.get_mut(key.slot as usize) {
            entry.take_if(|(generation, _)| *generation == key.generation);
        }
    }

    /// Calls what has come due; true if there was anything.
    pub(crate) fn expire(&mut self, context: &mut Context, callbacks: &mut Callbacks<'h>) -> bool {
        let mut any = false;
        for _ in 0..limits::TIMERS_PER_TURN_MAX {
            let Some((key, task)) = context.timers.pop_expired(context.now) else {
                break;
            };
            any = true;
            context.stats.timers += 1;
            match task {
                TimerTask::Handler { handler, value } => callbacks.on_timer(context, handler, value),
                TimerTask::Callback => self.call(context, key),
            }
        }
        any
    }

    /// Calls a closure. It is out of its slot meanwhile, so that it may remove itself; one that panics is over.
    fn call(&mut self, context: &mut Context, key: Key) {
        let Some((_, mut callback)) = self.callbacks.get_mut(key.slot as usize).and_then(Option::take) else {
            return;
        };
        context.running_timer = Some(key);
        let outcome = catch_panic(context, |context| callback(context));
        context.running_timer = None;
        if outcome.is_none() {
            log::error!("a timer has panicked, and is over");
        }
        let again = outcome.flatten().is_some_and(|after| {
            // planted: timer-repeats-at-once
            let at = context.deadline_after(after);
            context.timers.rearm(key, at)
        });
        if again {
            self.add(key, callback);
        } else {
            context.timers.remove(key);
        }
    }
}
