//! A single-threaded event loop for TCP, UDP and unix sockets.
//!
//! Handlers get bytes and answer with bytes; the loop does the rest, without threads, without an async runtime and
//! without unsafe code.
//!
//! # Your first server
//! [`EventLoop`] owns the sockets. A closure in [`stream`] serves clients: it gets what has come and returns how much
//! of it it has used; the rest is kept and shown again with what comes after. A closure in [`datagrams`] answers UDP.
//!
//! ```
//! use halloo::{EventLoop, datagrams, stream};
//! use std::net::SocketAddr;
//!
//! let address = SocketAddr::from(([127, 0, 0, 1], 0));
//! let mut events = EventLoop::new()?;
//! events.listen(address, stream(|connection, input| connection.try_write(input)))?;
//! events.bind(address, datagrams(|datagram, payload| { datagram.reply(payload); }))?;
//! # events.context().stop();
//! events.run()?;
//! # Ok::<(), halloo::Error>(())
//! ```
//!
//! That is an echo server, whole: [`try_write`](Connection::try_write) takes what there is room for, so a client that sends and
//! never reads stops being read.
//!
//! # A protocol of your own
//! A type that implements [`StreamHandler`] keeps a session for each connection, and hears of its beginning, its end
//! and everything between. With [`framing`] it sees whole messages. Here is a counter that all clients share: `add 5`
//! and `get`, a line each.
//!
//! ```
//! use halloo::framing::{Format, FrameDecoder, Frames};
//! use halloo::{CloseReason, Connection, EventLoop, StreamHandler};
//! use std::io::{BufRead, BufReader, Write};
//!
//! const LINES: FrameDecoder = FrameDecoder::new(Format::Lines, 1024);
//!
//! /// The protocol, and what all its connections share.
//! struct Counter {
//!     total: i64,
//! }
//!
//! /// What is kept about one connection.
//! struct Session {
//!     lines: FrameDecoder,
//!     mistakes: u32,
//! }
//!
//! impl StreamHandler for Counter {
//!     type Session = Session;
//!
//!     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<Session> {
//!         Some(Session { lines: LINES, mistakes: 0 })
//!     }
//!
//!     fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Session, input: &[u8]) -> usize {
//!         let mut frames = Frames::new(input);
//!         while let Some(line) = frames.next(connection, &mut session.lines) {
//!             let line = String::from_utf8_lossy(line);
//!             match line.split_once(' ').map(|(word, number)| (word, number.parse::<i64>())) {
//!                 Some(("add", Ok(number))) => self.total += number,
//!                 None if line == "get" => {}
//!                 _ => session.mistakes += 1,
//!             }
//!             // There is a next frame only while half of the outbox is free: a short answer always fits.
//!             let _ = connection.send(format!("{}\n", self.total).as_bytes());
//!             if session.mistakes == 3 {
//!                 connection.close();
//!             }
//!         }
//!         frames.finish(connection)
//!     }
//!
//!     fn on_close(&mut self, _: &mut Connection<'_>, session: Session, reason: CloseReason) {
//!         println!("a client has gone ({reason}) after {} mistakes", session.mistakes);
//!     }
//!
//!     fn input_bytes_min(&self) -> usize {
//!         LINES.input_bytes_min()
//!     }
//! }
//!
//! let mut events = EventLoop::new()?;
//! let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
//! let listener = events.listen(address, Counter { total: 0 })?;
//!
//! // A client, on a thread of its own, which stops the server when it has seen enough.
//! let (address, handle) = (events.local_addr(listener)?, events.handle());
//! let client = std::thread::spawn(move || -> std::io::Result<Vec<String>> {
//!     let mut stream = std::net::TcpStream::connect(address)?;
//!     stream.write_all(b"add 5\nadd 7\nget\n")?;
//!     let answers = BufReader::new(stream).lines().take(3).collect();
//!     let _ = handle.stop();
//!     answers
//! });
//! events.run()?;
//! assert_eq!(client.join().unwrap()?, ["5", "12", "12"]);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Limits go with the address: `Listen::from(address).connections_max(100).idle_timeout(Duration::from_secs(30))`.
//!
//! # Where to go from there
//! | you want | it is |
//! |---|---|
//! | messages instead of bytes: lines, delimiters, length prefixes, a format of your own | [`framing`] |
//! | limits and timeouts | [`Listen`], [`Bind`], [`Connect`]; the [reasons for the defaults](defaults) |
//! | to answer later, or another client | [`ConnectionId`] and [`Context::connection`], [`Context::for_each_connection`] |
//! | to connect to others | [`Context::connect`]; [`Context::connect_with`] remembers what a connection is for |
//! | to answer a datagram later | [`ReplyAddr`] and [`Context::reply`] |
//! | multicast groups, broadcast, TTL | [`Bind::join_multicast`], [`Context::join_multicast`] and the options beside it |
//! | to serve a stream that is connected already: a socketpair, a client of inetd, a passed descriptor | [`Connect`], from a `TcpStream`, a `UnixStream` or an `OwnedFd` |
//! | unix sockets | `Listen::unix`, `Connect::unix` |
//! | timers | [`Connection::set_timeout`], [`Context::schedule`], [`EventLoop::every`] |
//! | UDP with timers, or with a socket per peer | [`DatagramHandler::on_timer`], [`EventLoop::attach_datagrams`], and `examples/tftp.rs` |
//! | to open more from a callback, a timer or a job | [`Context::listen_for`], [`Context::bind_for`], [`Context::attach`], [`Context::every`] |
//! | the id of a handler, in the handler | [`StreamHandler::on_start`], [`DatagramHandler::on_start`], [`Connection::handler`] |
//! | pipes, terminals, child processes, descriptors of other libraries | [`EventLoop::watch`] |
//! | work on other threads, results to clients | [`Handle::post`], [`Handle::notify`] |
//! | one handler for several listeners, and for connections out | [`EventLoop::attach`] |
//! | a handler that you have back when the loop is gone, or one chosen at run time | `&mut H` and `Box<H>`, as [`StreamHandler`] shows |
//! | to nest it in a loop you have | [`EventLoop::turn`], [`EventLoop::next_timeout`], `AsFd` |
//! | a loop on every core | [`Listen::reuse_port_after_bind`] for the first, [`Listen::reuse_port`] for the others, and `examples/workers.rs` |
//! | to end in order | [`Context::drain`], [`StreamHandler::on_drain`] |
//! | to end on SIGTERM | [`EventLoop::watch`], with a recipe |
//! | to know why a client has gone | [`CloseReason`], [`Stats`] |
//! | to test your protocol on a thousand bad networks in a second | `testing` (feature `testing`) |
//! | every hard case it survives, and the test that holds it | [`guarantees`] |
//!
//! # What it promises
//! - A callback never blocks another connection for longer than it runs itself: work is bounded per turn for every
//!   source, and deadlines are looked at in every turn.
//! - Memory per connection is bounded by `input_bytes_max` and `outbox_bytes_max`, and an idle one owns no buffer.
//! - [`Connection::close`] lets the peer read all that was written before it.
//! - Nothing that a client does ends the loop, and no error of one client reaches another.
//! - Every connection that was opened is closed once, with its reason, if the loop runs until it has stopped; every
//!   connect ends in one of two callbacks.
//! - Ids are never reused: one that outlived its thing finds nothing.
//! - An exchange allocates nothing in the steady state; with nothing to do the process sleeps.
//!
//! # What it does not promise
//! - Callbacks run on the loop's thread: one that computes for a second holds up every client for a second.
//! - UDP is not queued: a reply that the kernel does not take at once is lost and counted.
//! - [`Connection::try_write`] returning is not delivery: bytes are with the kernel when [`Connection::outbox_len`] says
//!   so, and with the peer when the peer says so.
//! - Timers never fire early; how late depends on what the callbacks before them take.
//!
//! # What works where
//! Everything is tested on Linux, on 64-bit machines. Other systems have their code paths, by `cfg`, which nobody has
//! run: unix sockets, watched descriptors and `AsFd` wherever there is `unix`; batches of datagrams, packet information
//! (the address that a datagram was sent to, on a socket bound to every address), `MSG_MORE` and the descriptor limit on
//! Linux alone, with plainer ways elsewhere; `reuse_port` on `unix`. Where there is no 64-bit word for a token it does not compile.
//!
//! # How it is built
//! | folder | what is in it |
//! |---|---|
//! | `options` | what to listen on, bind and connect to, with limits and defaults |
//! | `state` | pure data: the state of a connection and what is next for it, buffers, deadlines, timers, the send queue |
//! | `net` | the seam to the outside: the calls the loop makes, to the kernel (`system`) or in memory (`simulated`) |
//! | `context` | what a callback can reach: [`Context`] with its entries, streams in a slab among them, [`Connection`], [`Datagram`]; the handler traits; [`Handle`] |
//! | `event_loop` | [`EventLoop`] and one turn of it: listeners, connections, UDP sockets, timers, watches, every call of a handler |
//! | `framing` | formats, and the decoders that find frames in a stream |
//! | `tests` | the simulated workload and what must hold after every turn of it |
//!
//! A folder names only folders before it:
//!
//! `leaf files -> options -> state -> net -> context -> event_loop -> framing -> testing`

mod address;
mod close_reason;
mod context;
#[doc = include_str!("../docs/defaults.md")]
pub mod defaults {}
mod error;
mod event_loop;
pub mod framing;
#[doc = include_str!("../docs/guarantees.md")]
pub mod guarantees {}
mod ids;
mod limits;
mod net;
mod options;
mod shared_bytes;
#[cfg(unix)]
mod socket_file;
mod state;
mod stats;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use close_reason::CloseReason;
pub use context::Context;
pub use context::connection::Connection;
pub use context::datagram::{Datagram, ReplyAddr};
#[cfg(unix)]
pub use context::entries::watch_entry::{Watch, WatchEvent};
pub use context::handle::Handle;
pub use context::handler::{DatagramHandler, StreamHandler};
pub use context::handler_impls::{DatagramFn, StreamFn, datagrams, stream};
pub use context::loop_state::DrainReport;
pub use error::{Error, ErrorKind, LoopStopped, Result, SendError};
pub use event_loop::callbacks::removal::Removed;
pub use event_loop::{EventLoop, Turn};
#[cfg(unix)]
pub use ids::WatchId;
pub use ids::{ConnectionId, HandlerId, ListenerId, SourceId, TimerId, UdpSocketId};
pub use limits::connections_max_per_loop;
#[cfg(unix)]
pub use options::Interest;
pub use options::bind::Bind;
pub use options::connect::Connect;
pub use options::listen::{Listen, WhenFull};
pub use shared_bytes::SharedBytes;
pub use stats::Stats;

/// The README's Rust blocks, as tests; one of them needs the feature.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;
