//! A single-threaded event loop for TCP and UDP servers: handlers get bytes and answer with bytes, and the loop does
//! the rest, without threads, without an async runtime and without unsafe code.
//!
//! # From the top
//! [`EventLoop`] owns the sockets. A [`StreamHandler`] or a closure in [`stream`] serves TCP clients, a
//! [`DatagramHandler`] or a closure in [`datagrams`] answers UDP. A callback is lent a [`Connection`] or a
//! [`Datagram`], and through it the [`Context`] of the whole loop.
//!
//! ```
//! use halloo::{EventLoop, datagrams, stream};
//! use std::net::SocketAddr;
//!
//! let address = SocketAddr::from(([127, 0, 0, 1], 0));
//! let mut events = EventLoop::new()?;
//! events.listen(address, stream(|connection, input| connection.write(input)))?;
//! events.bind(address, datagrams(|datagram, payload| { datagram.reply(payload); }))?;
//! # events.context().stop();
//! events.run()?;
//! # Ok::<(), halloo::Error>(())
//! ```
//!
//! # Where to go from there
//! - Messages instead of bytes: [`framing`].
//! - Limits and timeouts, each with a default: [`Listen`], [`Bind`].
//! - Another loop around this one: [`EventLoop::turn`] and [`EventLoop::next_timeout`].
//! - Other threads: [`Handle`].
//! - The end: [`Context::drain`], [`DrainReport`]; of one connection: [`CloseReason`].
//! - Every hard case that it survives, and the test that holds it: [`promises`].
//!
//! # What it promises
//! - A callback never blocks another connection for longer than it runs itself: work is bounded per turn for every
//!   source, and deadlines are looked at in every turn.
//! - Memory per connection is bounded by `input_bytes_max` and `outbox_bytes_max`, and an idle one owns no buffer.
//! - [`Connection::close`] lets the peer read all that was written before it.
//! - Nothing that a client does ends the loop, and no error of one client reaches another.
//! - With nothing to do the process sleeps.
//!
//! # What it does not promise
//! - Callbacks run on the loop's thread: one that computes for a second holds everybody up for a second.
//! - UDP is not queued: a reply that the kernel does not take at once is lost and counted.
//! - It is tested on Linux, on 64-bit machines. Other unixes and Windows have their code paths, untested.
//!
//! # How it is built
//! One file is one station of the flow, in this order; a module names only modules to its left.
//!
//! `error limits moment token reason stats sources buffers deadlines options phase state staged entries tables lent
//! handle handler network packets batches system faults world client simulation backoff roster callbacks exchange connection
//! listener datagrams dispatch setup event_loop framing testing workload`
//!
//! Up to `lent` stand the tables: plain data and what callbacks may mark in it. `network` is the seam to the outside and
//! `system` the kernel behind it. From `backoff` on stands the loop, generic over that seam.

mod backoff;
#[cfg(target_os = "linux")]
mod batches;
mod buffers;
mod callbacks;
#[cfg(any(test, feature = "testing"))]
mod client;
mod connection;
mod datagrams;
mod deadlines;
mod dispatch;
mod entries;
mod error;
mod event_loop;
mod exchange;
#[cfg(any(test, feature = "testing"))]
mod faults;
pub mod framing;
mod handle;
mod handler;
mod lent;
mod limits;
mod listener;
mod moment;
mod network;
mod options;
mod packets;
mod phase;
#[doc = include_str!("promises.md")]
pub mod promises {}
mod reason;
mod roster;
mod setup;
#[cfg(any(test, feature = "testing"))]
mod simulation;
mod sources;
mod staged;
mod state;
mod stats;
mod system;
mod tables;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token;
#[cfg(test)]
mod workload;
#[cfg(any(test, feature = "testing"))]
mod world;

pub use entries::DrainReport;
pub use error::{Error, ErrorKind, Full, Result, Stopped};
pub use event_loop::{EventLoop, Turn};
pub use handle::Handle;
pub use handler::{DatagramHandler, StreamHandler, datagrams, stream};
pub use lent::{Connection, Datagram};
pub use options::{Bind, Listen, WhenFull};
pub use reason::CloseReason;
pub use stats::Stats;
pub use tables::Context;
pub use token::{ConnectionId, HandlerId, ListenerId, SocketId, SourceId};

/// The README's Rust blocks, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
