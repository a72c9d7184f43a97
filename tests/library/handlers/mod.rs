//! Handlers: how they start, what they open, how long they stay.

mod borrowed_and_boxed_handlers;
mod compiler_messages;
mod destructor_panics;
mod handler_lifetimes;
mod handler_start;
mod open_from_callbacks;
