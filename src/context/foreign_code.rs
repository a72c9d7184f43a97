//! Calls and drops code and values of embedders.
//!
//! With `catch_panics`, no panic in them passes these functions.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::context::Context;
#[cfg(unix)]
use crate::context::entries::watch_entry::Watch;
use crate::context::loop_state::LoopState;
use crate::ids::SlotKey;
use crate::observe::entry::Callback;

/// A callback, as the journal names it.
#[derive(Clone, Copy)]
pub(crate) struct CallbackSite {
    callback: Callback,
    /// `None` for a callback that belongs to no object.
    key: Option<SlotKey>,
    input: u64,
}

impl CallbackSite {
    pub(crate) fn of(key: SlotKey, callback: Callback) -> Self {
        Self { callback, key: Some(key), input: 0 }
    }

    pub(crate) fn of_loop(callback: Callback) -> Self {
        Self { callback, key: None, input: 0 }
    }

    /// Bytes, or the value of a timer.
    pub(crate) fn with_input(self, input: u64) -> Self {
        Self { input, ..self }
    }
}

/// The result of a callback, as a number for the journal.
pub(crate) trait CallbackResult {
    fn number(&self) -> u64 {
        0
    }
}

impl CallbackResult for () {}
impl CallbackResult for u32 {}
impl CallbackResult for Option<Duration> {}

/// Bytes consumed.
impl CallbackResult for usize {
    fn number(&self) -> u64 {
        *self as u64
    }
}

#[cfg(unix)]
impl CallbackResult for Watch {
    fn number(&self) -> u64 {
        u64::from(*self == Self::Again)
    }
}

/// Calls a callback, and notes it in the journal. Catches a panic as [`catch_panic`] does. One comparison finds out that
/// neither is wanted.
#[inline]
pub(crate) fn call_back<T: CallbackResult>(
    context: &mut Context,
    site: CallbackSite,
    call: impl FnOnce(&mut Context) -> T,
) -> Option<T> {
    if context.calls_directly {
        return Some(call(context));
    }
    let CallbackSite { callback, key, input } = site;
    call_and_note(context, callback, key, input, call)
}

/// Apart from the check, which is inlined: so the callers keep their registers.
#[inline(never)]
fn call_and_note<T: CallbackResult>(
    context: &mut Context,
    callback: Callback,
    key: Option<SlotKey>,
    input: u64,
    call: impl FnOnce(&mut Context) -> T,
) -> Option<T> {
    if !context.journal.has_all() {
        return catch_panic(context, call);
    }
    let entry = context.note_callback_begin(callback, key, input);
    let outcome = catch_panic(context, call);
    context.note_callback_end(entry, callback, outcome.as_ref().map_or(u64::MAX, T::number));
    outcome
}

/// Calls foreign code. With `catch_panics`, it catches and counts a panic and returns `None`; else the panic unwinds.
pub(crate) fn catch_panic<T>(context: &mut Context, call: impl FnOnce(&mut Context) -> T) -> Option<T> {
    if !context.catches_panics {
        return Some(call(context));
    }
    let panic = match catch_unwind(AssertUnwindSafe(|| call(context))) {
        Ok(value) => return Some(value),
        Err(panic) => panic,
    };
    context.stats.panics += 1;
    // The value of the panic is foreign, too, and may panic when it is dropped.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(panic);
    }
    None
}

/// Makes a call between two turns: a panic that unwinds from there also ends the loop.
pub(crate) fn call_between_turns<T>(context: &mut Context, call: impl FnOnce(&mut Context) -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| call(context))).unwrap_or_else(|panic| {
        context.loop_state = LoopState::Panicked;
        resume_unwind(panic)
    })
}

/// Drops a value of an embedder: a handler, session, closure or other value.
pub(crate) fn drop_foreign<T>(context: &mut Context, value: T) {
    if catch_panic(context, |_| drop(value)).is_none() {
        log::error!("a handler, session, closure or value panicked when it was dropped");
    }
}
