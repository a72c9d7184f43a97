//! Calls and drops code and values of embedders.
//!
//! With `catch_panics`, no panic in them passes these functions.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::context::Context;
use crate::context::loop_state::LoopState;

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

/// Does the same for calls between two turns: a panic that unwinds from there also ends the loop.
pub(crate) fn catch_panic_between_turns<T>(context: &mut Context, call: impl FnOnce(&mut Context) -> T) -> Option<T> {
    let called = catch_unwind(AssertUnwindSafe(|| catch_panic(context, call)));
    called.unwrap_or_else(|panic| {
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
