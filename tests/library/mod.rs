//! The library through its public API alone, over real sockets.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of `Connection<'_>` named by its path is of one lifetime, and a callback has to be of all"
)]

mod connections;
mod event_loop;
mod handlers;
mod helpers;
mod input;
mod listening;
#[cfg(target_os = "linux")]
mod memory;
mod observe;
mod outbound;
mod udp;
