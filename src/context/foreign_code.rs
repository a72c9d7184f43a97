//! Calling and dropping what embedders have given to a loop.
//!
//! With `catch_panics` no panic of it gets past here.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::context::Context;
use crate::context::loop_state::LoopState;

/// Calls foreign code. With `catch_panics`, a panic is caught here, counted, and becomes `None`; else it unwinds.
pub(crate) fn catch_panic<T>(context: &mut Context, call: impl FnOnce(&mut Context) -> T) -> Option<T> {
    if !context.catches_panics {
        return Some(call(context));
    }
    let panic = match catch_unwind(AssertUnwindSafe(|| call(context))) {
        Ok(value) => return Some(value),
        Err(panic) => panic,
    };
    context.stats.panics += 1;
    // The value that the panic carries is foreign, too, and may panic when it is dropped.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(panic);
    }
    None
}

/// The same for what may be called between two turns: a panic that unwinds from there ends the loop, too.
pub(crate) fn catch_panic_between_turns<T>(context: &mut Context, call: impl FnOnce(&mut Context) -> T) -> Option<T> {
    let called = catch_unwind(AssertUnwindSafe(|| catch_panic(context, call)));
    called.unwrap_or_else(|panic| {
        context.loop_state = LoopState::Panicked;
        resume_unwind(panic)
    })
}

/// Drops what an embedder has given to the loop: a handler, a session, a closure, a value.
pub(crate) fn drop_foreign<T>(context: &mut Context, value: T) {
    if catch_panic(context, |_| drop(value)).is_none() {
        log::error!("a handler, session, closure or value panicked when it was dropped");
    }
}
