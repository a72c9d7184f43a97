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
mod handles;
mod limits;
mod options;
mod panics;
mod probe;
mod replies;
mod resets;
mod support;
mod timeouts;
