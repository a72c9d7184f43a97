//! The library through its public API alone, over real sockets on loopback.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of `Connection<'_>` named by its path is of one lifetime, and a callback has to be of all"
)]

mod addresses;
mod backpressure;
mod closing;
mod company;
mod consumption;
mod datagrams;
mod drain;
mod embedding;
mod fairness;
mod frames;
mod framing;
mod greeting;
mod halves;
mod handles;
mod limits;
#[cfg(target_os = "linux")]
mod memory;
mod nesting;
mod notices;
mod opening;
mod options;
mod outbound;
mod panics;
mod probe;
mod proxy;
mod replies;
mod resets;
mod support;
mod timeouts;
mod timers;
#[cfg(unix)]
mod unix;
