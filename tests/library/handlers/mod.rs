//! Handlers: borrowed and boxed, their lifetimes, panics of destructors.

mod borrowed_and_boxed_handlers;
mod destructor_panics;
mod handler_lifetimes;
