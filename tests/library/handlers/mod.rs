//! Handlers: how long they stay, and panics of their destructors.

mod destructor_panics;
mod handler_lifetimes;
