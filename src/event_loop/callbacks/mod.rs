//! Handlers, timer callbacks and removal: all that the embedder owns.

pub(crate) mod removal;
pub(crate) mod stream_handlers;
pub(crate) mod timer_callbacks;
