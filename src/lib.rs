//! A single-threaded event loop for TCP, UDP and unix sockets.
//!
//! A handler gets bytes and replies with bytes. The loop does the rest, without threads, without an async runtime and
//! without unsafe code.
//!
//! # Your first server
//! [`EventLoop`] owns the sockets. A closure in [`stream`] serves clients: it gets input, and returns how many bytes it
//! has consumed. The rest is kept. It is delivered again with later input, and when there is room to send again. A
//! closure in [`datagrams`] serves UDP.
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
//! That is a complete echo server. [`try_write`](Connection::try_write) queues what fits the outbox, so the loop stops
//! reading from a client that sends and never reads.
//!
//! # A protocol of your own
//! A type that implements [`StreamHandler`] has a session for each connection, and callbacks from its start to its end.
//! With [`framing`] it gets whole messages. Here is a counter that all clients share, with the commands `add 5` and
//! `get`, one per line.
//!
//! ```
//! use halloo::framing::{Format, FrameDecoder, Frames};
//! use halloo::{CloseReason, Connection, EventLoop, StreamHandler};
//! use std::io::{BufRead, BufReader, Write};
//!
//! const LINES: FrameDecoder = FrameDecoder::new(Format::Lines, 1024);
//!
//! /// The protocol, and the state that all its connections share.
//! struct Counter {
//!     total: i64,
//! }
//!
//! /// The data of one connection.
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
//!             // A frame is returned only while half of the outbox is free: a short reply always fits.
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
//!     // `listen` refuses a listener whose inbox is smaller than the longest line.
//!     fn input_bytes_min(&self) -> usize {
//!         LINES.input_bytes_min()
//!     }
//! }
//!
//! let mut events = EventLoop::new()?;
//! let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
//! let listener = events.listen(address, Counter { total: 0 })?;
//!
//! // A client on another thread, which stops the server after three replies.
//! let (address, handle) = (events.local_addr(listener)?, events.handle());
//! let client = std::thread::spawn(move || -> std::io::Result<Vec<String>> {
//!     let mut stream = std::net::TcpStream::connect(address)?;
//!     stream.write_all(b"add 5\nadd 7\nget\n")?;
//!     let replies = BufReader::new(stream).lines().take(3).collect();
//!     let _ = handle.stop();
//!     replies
//! });
//! events.run()?;
//! assert_eq!(client.join().unwrap()?, ["5", "12", "12"]);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Limits are set with the address: `Listen::from(address).connections_max(100).idle_timeout(Duration::from_secs(30))`.
//!
//! # Where to go from there
//! | you want | see |
//! |---|---|
//! | messages instead of bytes: lines, delimiters, length prefixes, a format of your own | [`framing`] |
//! | limits and timeouts | [`Listen`], [`Bind`], [`Connect`]; the [reasons for the defaults](defaults) |
//! | to reply later, or to send to another client | [`ConnectionId`] and [`Context::connection`], [`Context::for_each_connection`] |
//! | outbound connections | [`Context::connect`]; [`Context::connect_with`] keeps a value for each |
//! | to reply to a datagram later | [`ReplyAddr`] and [`Context::reply`] |
//! | multicast groups, broadcast, TTL | [`Bind::join_multicast`], [`Context::join_multicast`] and the options next to it |
//! | to serve a connected stream: a socketpair, a client of inetd, a passed descriptor | [`Connect`], from a `TcpStream`, a `UnixStream` or an `OwnedFd` |
//! | unix sockets | `Listen::unix`, `Connect::unix` |
//! | timers | [`Connection::set_timeout`], [`Context::schedule`], [`EventLoop::every`] |
//! | UDP with timers, or with a socket per peer | [`DatagramHandler::on_timer`], [`EventLoop::attach_datagrams`], and `examples/tftp.rs` |
//! | to open listeners and sockets, or set timers, in a callback or a job | [`Context::listen_for`], [`Context::bind_for`], [`Context::attach`], [`Context::every`] |
//! | the id of a handler, in the handler | [`StreamHandler::on_start`], [`DatagramHandler::on_start`], [`Connection::handler`] |
//! | pipes, terminals, child processes, descriptors of other libraries | [`EventLoop::watch`] |
//! | work on other threads, results to clients | [`Handle::post`], [`Handle::notify`] |
//! | one handler for several listeners, and for outbound connections | [`EventLoop::attach`] |
//! | a handler that you can use after the loop, or one chosen at run time | `&mut H` and `Box<H>`, as [`StreamHandler`] shows |
//! | to nest the loop in another event loop | [`EventLoop::turn`], [`EventLoop::next_timeout`], `AsFd` |
//! | a loop on every core | [`Listen::reuse_port_after_bind`] for the first, [`Listen::reuse_port`] for the others, and `examples/workers.rs` |
//! | graceful shutdown, of the loop or of one connection | [`Context::drain`], [`StreamHandler::on_drain`], [`Connection::drain`] |
//! | the real client behind a proxy | [`Connection::set_peer_addr`], [`Datagram::set_peer_addr`], [`Listen::peer_addr_from_handler`] |
//! | an endpoint for operators that answers without a free descriptor | [`Listen::descriptor_reserve`] |
//! | to stop on SIGTERM, TLS, a connection pool, a restart without losing a client | programs to copy: [recipes](guide::recipes) |
//! | when each callback is called, and when its effects take place | [the order of a turn](guide::order_of_a_turn) |
//! | the terms of tokio, mio, libuv, gnet and calloop | [coming from another event loop](guide::coming_from) |
//! | the reason why a connection ended | [`CloseReason`], [`Stats`] |
//! | to see each step of the loop, and why a client waited | [recordings](guide::recordings), [`observe`] |
//! | to act on slow turns while the loop runs | [`EventLoop::set_observer`], and `examples/watching/slowest_turn.rs` |
//! | the time of turns, as histograms | [`EventLoop::journal_level`], [`Stats::turn_time`] |
//! | to test your protocol on a thousand bad networks in a second | `testing` (feature `testing`; `cargo doc --all-features` shows its page) |
//! | every hard case, with the test for it | [`guarantees`] |
//!
//! # Test it without a network
//! The feature `testing` has a simulated network. Its faults depend on a seed, so a failure can be repeated. Add it under
//! `[dev-dependencies]`: `halloo = { path = "../halloo", features = ["testing"] }`.
//!
#![cfg_attr(feature = "testing", doc = "```")]
#![cfg_attr(not(feature = "testing"), doc = "```ignore")]
//! use halloo::{stream, testing};
//!
//! let address = std::net::SocketAddr::from(([10, 0, 0, 1], 7));
//! testing::check(0..100, |simulation| {
//!     let mut events = simulation.event_loop();
//!     events.listen(address, stream(|connection, input| connection.try_write(input))).unwrap();
//!     simulation.inject(testing::Fault::LateReadiness, 3);
//!
//!     let client = simulation.connect(address).expect("the server listens");
//!     client.send(b"hello");
//!     simulation.run_until_idle(&mut events).unwrap();
//!     assert_eq!(client.received(), b"hello");
//! });
//! ```
//!
//! # Guarantees
//! - A callback delays other connections only while it runs. The work of a turn is bounded for every source, and
//!   deadlines are checked in every turn.
//! - Memory per connection is bounded by `input_bytes_max` and `outbox_bytes_max`, and an idle connection owns no
//!   buffer.
//! - After [`Connection::close`] the peer can read all output from before it.
//! - No action of a client ends the loop, and no error of one client affects another.
//! - Every connection is closed once, with its reason, if the loop runs until it has stopped. Every connect ends in one
//!   of two callbacks.
//! - Ids are never reused: the id of a closed object refers to nothing.
//! - An exchange allocates nothing in the steady state. Without work the process sleeps.
//!
//! # Not guaranteed
//! - Callbacks run on the loop's thread: a callback that computes for a second delays every client by a second.
//! - UDP is not queued: a reply that the kernel does not accept at once is lost and counted.
//! - [`Connection::try_write`] only queues. The kernel has accepted the bytes when [`Connection::outbox_len`] is 0, and
//!   only a reply shows that the peer has them.
//! - Timers never fire early. Their delay depends on the callbacks before them.
//!
//! # What works where
//! Everything is tested on Linux, on 64-bit machines. Other systems have their own code paths, which compile but have
//! not been run:
//! - Unix sockets, watched descriptors, `AsFd` and `reuse_port` exist on every `unix`.
//! - Batches of datagrams, packet information, `MSG_MORE` and the descriptor limit exist only on Linux; other systems
//!   use simpler calls. Packet information is the destination address of a datagram on a wildcard socket.
//! - Systems without a 64-bit `usize` do not compile, because a token needs 64 bits.
//! - The feature `testing` compiles only on Linux.
//!
//! # How it is built
//! | folder | what is in it |
//! |---|---|
//! | `options` | options for listening, binding and connecting, with limits and defaults |
//! | `observe` | the journal of what the loop does, recordings of it, and findings in them |
//! | `state` | pure data: the state of a connection and its next action, buffers, deadlines, timers, the send queue |
//! | `net` | the calls of the loop, to the kernel (`system`) or in memory (`simulated`) |
//! | `context` | the state that callbacks can reach: [`Context`] with its entries, among them streams in a slab, [`Connection`], [`Datagram`]; the handler traits; [`Handle`] |
//! | `event_loop` | [`EventLoop`] and one turn of it: listeners, connections, UDP sockets, timers, watches, all calls of handlers |
//! | `framing` | formats, and the decoders that find frames in a stream |
//! | `tests` | the simulated workload, and the invariants checked after every turn |
//!
//! A folder names only folders before it:
//!
//! `leaf files -> options -> observe -> state -> net -> context -> event_loop -> framing -> testing`

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
/// Pages for embedders: the order of callbacks, programs for common problems, recordings, and the terms of other event
/// loops.
pub mod guide {
    // In Markdown the first definition of a link counts. These lead to pages of rustdoc, those at the end of a page to files.
    #[doc = "[recipes]: recipes"]
    #[doc = "[recordings]: recordings"]
    #[doc = ""]
    #[doc = include_str!("../docs/order-of-a-turn.md")]
    pub mod order_of_a_turn {}
    #[doc = include_str!("../docs/recipes.md")]
    pub mod recipes {}
    #[doc = include_str!("../docs/recordings.md")]
    pub mod recordings {}
    #[doc = "[order]: order_of_a_turn#what-is-delivered-again-and-when"]
    #[doc = "[recordings]: recordings"]
    #[doc = "[signals]: recipes#stop-on-signals"]
    #[doc = "[waits]: recipes#a-request-that-waits-for-another-connection"]
    #[doc = ""]
    #[doc = include_str!("../docs/coming-from.md")]
    pub mod coming_from {}
}
mod ids;
mod limits;
mod net;
pub mod observe;
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
pub use stats::{Histogram, Stats};

/// The README's Rust blocks, as tests; one of them needs the feature.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;
