//! A simulated network for tests of handlers, decided by a seed.
//!
//! [`Simulation::event_loop`] returns an ordinary [`EventLoop`], so the code that sets up your server runs unchanged.
//! Clients connect, send, read and leave. The network delivers their bytes late and interleaved, long ones in pieces, and
//! [`Simulation::inject`] makes calls fail as kernels do. Nothing waits: a second of timeouts takes microseconds. The
//! same seed gives the same run, to the byte.
//!
//! # Test a server under a thousand bad networks
//! ```
//! use halloo::stream;
//! use halloo::testing::{self, Fault};
//! use std::net::SocketAddr;
//!
//! let address = SocketAddr::from(([10, 0, 0, 1], 7));
//! testing::check(0..1_000, |simulation| {
//!     let mut events = simulation.event_loop();
//!     events.listen(address, stream(|connection, input| connection.try_write(input))).unwrap();
//!     for fault in Fault::SOFT {
//!         simulation.inject(fault, 5);
//!     }
//!     let client = simulation.connect(address).unwrap();
//!     client.send(b"hello");
//!     client.shutdown_write();
//!     simulation.run_until_idle(&mut events).unwrap();
//!     assert!(client.received() == b"hello" && client.saw_eof());
//! });
//! ```
//! [`check`] runs the seeds on all cores. For a seed that fails it prints what happened and how to run that seed alone.
//!
//! | you want | it is |
//! |---|---|
//! | calls that fail or are interrupted, in a way that no client notices | [`Fault::SOFT`] |
//! | connections that break, datagrams that are lost, a clock that jumps | [`Fault::HARD`], [`Client::was_hit_by_fault`] |
//! | one certain error, at one certain moment | [`Simulation::fail_next`] |
//! | clients that are slow | [`Client::set_window`] |
//! | a server that the loop connects to | [`Simulation::listen`], [`Simulation::accept`] |
//! | UDP | [`Simulation::send_datagram`], [`Simulation::receive_datagram`] |
//! | timeouts | [`Simulation::advance`], and [what time does](Simulation#time) |
//! | to see what happened | [`Simulation::trace`] |
//!
//! The module compiles on Linux only.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::event_loop::{EventLoop, Turn};
use crate::ids::{SlotKey, Token, WatchId};
use crate::net::Network;
use crate::net::simulated::Simulated;
use crate::net::simulated::sim_socket::{ConnectAnswer, FdState, Reset, SimSocketKind};
use crate::net::simulated::world::World;
use crate::observe::Recording;
use crate::options::Interest;
use crate::options::connect::{Connect, InheritedStream};

pub use crate::net::simulated::client::Client;
pub use crate::net::simulated::faults::Fault;

/// Turns after which [`Simulation::run_until_idle`] returns an error.
const RUN_TURNS_MAX: u32 = 100_000;

/// The maximum wait of a turn in [`Simulation::run_until_idle`].
const RUN_WAIT: Duration = Duration::from_millis(100);

/// The time without activity after which a world is idle: longer than the pause of a listener.
const QUIET_TIME: Duration = Duration::from_millis(1_200);

/// A simulated world: one network, its clock and its clients.
///
/// ```
/// use halloo::testing::Simulation;
/// use halloo::{datagrams, stream};
/// use std::net::SocketAddr;
///
/// let address = SocketAddr::from(([10, 0, 0, 1], 7));
/// let simulation = Simulation::new(1);
/// let mut events = simulation.event_loop();
/// events.listen(address, stream(|connection, input| connection.try_write(input)))?;
///
/// let client = simulation.connect(address).expect("the server listens");
/// client.send(b"hello");
/// simulation.run_until_idle(&mut events)?;
/// assert_eq!(client.received(), b"hello");
/// # Ok::<(), halloo::Error>(())
/// ```
///
/// # Time
/// The clock of a simulation moves in four cases:
/// - a turn of the loop waits;
/// - [`advance`](Self::advance) is called;
/// - calls take a few milliseconds;
/// - [`Fault::Clock`] or [`Fault::Pause`] makes it jump.
///
/// It does not move between two calls of a test.
///
/// [`run_until_idle`](Self::run_until_idle) ends with 1.2 s in which nothing happens, so each call takes at least 1.2 s
/// of simulated time. Timeouts and timers that end within it fire. Fifty calls take a minute. A client that was silent
/// meanwhile is closed by the [`idle_timeout`](crate::Listen::idle_timeout) of 60 s, although the test has run for
/// milliseconds. If clients are silent for long, turn that timeout off:
///
/// ```
/// use halloo::testing::Simulation;
/// use halloo::{Listen, stream};
/// use std::net::SocketAddr;
///
/// let (strict, patient) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 1], 2)));
/// let simulation = Simulation::new(1);
/// let mut events = simulation.event_loop();
/// let echo = events.attach(stream(|connection, input| connection.try_write(input)));
/// events.listen_for(strict, echo)?;
/// events.listen_for(Listen::from(patient).idle_timeout(None), echo)?;
///
/// let silent = [strict, patient].map(|address| simulation.connect(address).expect("the server listens"));
/// let client = simulation.connect(strict).expect("the server listens");
/// for _ in 0..50 {
///     client.send(b"x");
///     simulation.run_until_idle(&mut events)?;
/// }
/// assert!(simulation.elapsed().as_secs() >= 60);
/// assert!(!client.saw_eof(), "its last byte was 1.2 s ago");
/// assert!(silent[0].saw_eof(), "its idle timeout has run out");
/// assert!(!silent[1].saw_eof());
/// # Ok::<(), halloo::Error>(())
/// ```
///
/// Or call [`EventLoop::turn`] with a timeout of zero as often as the exchange needs: such a turn takes a few
/// milliseconds.
#[derive(Clone)]
pub struct Simulation {
    seed: u64,
    pub(crate) world: Rc<RefCell<World>>,
}

impl Simulation {
    /// Creates a world without faults, until [`inject`](Self::inject) is called. Bytes are delivered at random times
    /// and in random pieces: a short message arrives whole, and a long one in segments. Two calls of
    /// [`send`](Client::send) cut a short one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, world: Rc::new(RefCell::new(World::new(seed))) }
    }

    /// Returns the seed, which decides the run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Creates the loop of this world. A world has only one: the poll of a second loop would take its events.
    ///
    /// The loop [listens](EventLoop::listen) and [binds](EventLoop::bind) at any address, and port 0 selects a free
    /// one. A handler under test reads [`Context::now`](crate::Context::now), not `Instant::now`, which does not follow
    /// the simulated clock. Ids are the same in each run of a seed, so an id of another simulation may refer to something.
    #[must_use]
    pub fn event_loop<'h>(&self) -> EventLoop<'h> {
        let world = Rc::clone(&self.world);
        let connections_max = Box::new(move || world.borrow().descriptors_max);
        let hash_key = [(); 2].map(|()| self.world.borrow_mut().random.next());
        EventLoop::with_network(Network::Simulated(Simulated::new(&self.world)), connections_max, hash_key)
    }

    /// Makes a fault hit one in `one_in` calls or moments. Zero ends it; one is every call.
    ///
    /// One in six errors is the first of a series: up to 24 more calls of the kind fail with the same error. So a listener
    /// may pause for 15 s and more.
    pub fn inject(&self, fault: Fault, one_in: u64) {
        self.world.borrow_mut().faults.set(fault, one_in);
    }

    /// Makes the next `calls` calls of a kind fail with this error number. A fault without a kind of call, such as
    /// [`Fault::Interrupt`] or [`Fault::LostDatagram`], has no next call.
    ///
    /// ```
    /// # use halloo::testing::{Fault, Simulation};
    /// let simulation = Simulation::new(1);
    /// const EMFILE: i32 = 24;
    /// simulation.fail_next(Fault::Accept, EMFILE, 3);
    /// ```
    pub fn fail_next(&self, fault: Fault, errno: i32, calls: u64) {
        self.world.borrow_mut().faults.begin_series(fault, errno, calls);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.world.borrow_mut().faults.clear();
    }

    /// Sets the descriptor limit of the process. Default: 20,000.
    pub fn set_descriptors_max(&self, descriptors: usize) {
        self.world.borrow_mut().descriptors_max = descriptors;
    }

    /// Advances the clock without a turn of the loop, while the network delivers bytes in flight.
    pub fn advance(&self, time: Duration) {
        self.world.borrow_mut().let_pass(time);
    }

    /// Returns the simulated time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.world.borrow().clock
    }

    /// Returns a random number below `bound`, from the seed.
    #[must_use]
    pub fn random_below(&self, bound: u64) -> u64 {
        self.world.borrow_mut().random.below(bound)
    }

    /// Connects a client, from an address of its own. Returns `None` if no listener is there.
    #[must_use]
    pub fn connect(&self, to: SocketAddr) -> Option<Client> {
        let from = self.next_client_address();
        self.connect_from(from, to)
    }

    /// Connects a client from a given address. Returns `None` if no listener is there.
    #[must_use]
    pub fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> Option<Client> {
        let socket = self.world.borrow_mut().connect(from, to)?;
        Some(Client::new(&self.world, socket))
    }

    /// Adds a server at an address, for outbound connections of the loop. Without a server they are refused.
    ///
    /// ```
    /// use halloo::testing::Simulation;
    /// use halloo::{Connection, EventLoop, StreamHandler, stream};
    /// use std::net::SocketAddr;
    ///
    /// let server = SocketAddr::from(([10, 0, 0, 9], 7));
    /// let simulation = Simulation::new(1);
    /// let mut events = simulation.event_loop();
    /// let handler = events.attach(stream(|connection, input| connection.try_write(input)));
    /// events.context().connect(server, handler);
    /// simulation.listen(server);
    /// simulation.run_until_idle(&mut events)?;
    ///
    /// let peer = simulation.accept(server).expect("the loop has connected");
    /// peer.send(b"hello");
    /// simulation.run_until_idle(&mut events)?;
    /// assert_eq!(peer.received(), b"hello");
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn listen(&self, at: SocketAddr) {
        let mut world = self.world.borrow_mut();
        world.blackholes.remove(&at);
        world.remote_listeners.entry(at).or_default();
    }

    /// Makes an address unresponsive: a connect to it gets no reply.
    pub fn blackhole(&self, at: SocketAddr) {
        self.world.borrow_mut().blackholes.insert(at);
    }

    /// Returns the peer of the next connection from the loop to an address where a server [listens](Self::listen).
    #[must_use]
    pub fn accept(&self, at: SocketAddr) -> Option<Client> {
        let socket = self.world.borrow_mut().remote_listeners.get_mut(&at)?.pop_front()?;
        Some(Client::new(&self.world, socket))
    }

    /// Creates a connected stream and the client at its other end, as socketpair(2) does. In a test the stream replaces
    /// a descriptor that is [connected already](Connect#streams-that-are-connected-already). The client sees EOF when
    /// the last clone of the `Connect` is dropped and no loop has taken it.
    ///
    /// ```
    /// use halloo::{stream, testing::Simulation};
    ///
    /// let simulation = Simulation::new(1);
    /// let mut events = simulation.event_loop();
    /// let echo = events.attach(stream(|connection, input| connection.try_write(input)));
    /// let (adopted, client) = simulation.stream_pair();
    /// client.send(b"hello");
    /// events.context().connect(adopted.outbox_bytes_max(1_000), echo);
    /// simulation.run_until_idle(&mut events)?;
    /// assert_eq!(client.received(), b"hello");
    /// # Ok::<(), halloo::Error>(())
    /// ```
    pub fn stream_pair(&self) -> (Connect, Client) {
        let peer = self.next_client_address();
        let mut world = self.world.borrow_mut();
        world.next_port = world.next_port.wrapping_add(1).max(1024);
        let local = SocketAddr::from(([10, 0, 0, 1], world.next_port));
        let socket = Arc::new(world.add_stream(local, peer, FdState::HandedOver, ConnectAnswer::Connected));
        world.stream(*socket).owner = Arc::downgrade(&socket);
        let client = Client::new(&self.world, *socket);
        (Connect::inherited(InheritedStream::Simulated(socket), Some(peer)), client)
    }

    fn next_client_address(&self) -> SocketAddr {
        let mut world = self.world.borrow_mut();
        world.next_port = world.next_port.wrapping_add(1).max(1024);
        let host = u8::try_from(world.random.below(250)).unwrap_or(0);
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1 + host)), world.next_port)
    }

    /// Sends a datagram to the loop, from any address. It arrives at the socket that is bound to its destination, or at
    /// all that have joined the group. Returns whether it arrived: false if there is no such socket, or if it was
    /// [lost](Fault::LostDatagram).
    ///
    /// ```
    /// use halloo::{datagrams, testing::Simulation};
    /// use std::net::SocketAddr;
    ///
    /// let (server, peer) = (SocketAddr::from(([10, 0, 0, 1], 7)), SocketAddr::from(([10, 0, 0, 9], 4000)));
    /// let simulation = Simulation::new(1);
    /// let mut events = simulation.event_loop();
    /// events.bind(server, datagrams(|datagram, payload| { datagram.reply(payload); }))?;
    /// simulation.send_datagram(peer, server, b"hello");
    /// simulation.run_until_idle(&mut events)?;
    /// assert_eq!(simulation.receive_datagram(peer), Some((server, b"hello".to_vec())));
    /// # Ok::<(), halloo::Error>(())
    /// ```
    ///
    /// A datagram from the loop to a group is received at the group's address:
    ///
    /// ```
    /// use halloo::testing::{Fault, Simulation};
    /// use halloo::{Bind, datagrams};
    /// use std::net::{IpAddr, SocketAddr};
    ///
    /// let (group, peer) = (IpAddr::from([224, 0, 0, 251]), SocketAddr::from(([10, 0, 0, 9], 4000)));
    /// let simulation = Simulation::new(1);
    /// let mut events = simulation.event_loop();
    /// let at = Bind::from(SocketAddr::from(([0, 0, 0, 0], 5353))).join_multicast(group, 0);
    /// let socket = events.bind(at, datagrams(|datagram, payload| { datagram.reply(payload); }))?;
    /// simulation.send_datagram(peer, SocketAddr::new(group, 5353), b"who?");
    /// events.context().send_to(socket, b"here", SocketAddr::new(group, 5353));
    /// simulation.run_until_idle(&mut events)?;
    /// assert_eq!(simulation.receive_datagram(peer).expect("a reply").1, b"who?");
    /// assert_eq!(simulation.receive_datagram(SocketAddr::new(group, 5353)).expect("an announcement").1, b"here");
    ///
    /// // From here on every datagram is lost, in both directions.
    /// simulation.inject(Fault::LostDatagram, 1);
    /// assert!(!simulation.send_datagram(peer, SocketAddr::new(group, 5353), b"who?"));
    /// simulation.inject(Fault::LostDatagram, 0);
    /// # Ok::<(), halloo::Error>(())
    /// ```
    #[expect(clippy::must_use_candidate, reason = "UDP promises nothing, and few ask")]
    pub fn send_datagram(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> bool {
        self.world.borrow_mut().deliver_datagram(from, to, payload) > 0
    }

    /// Returns the next datagram that has reached an address, and its source address. A wildcard socket sends from
    /// `10.0.0.1` or `2001:db8::1`, the machine's own addresses; `10.255.255.255` is its broadcast address.
    #[must_use]
    pub fn receive_datagram(&self, at: SocketAddr) -> Option<(SocketAddr, Vec<u8>)> {
        self.world.borrow_mut().received_datagrams.get_mut(&at)?.pop_front()
    }

    /// Makes a descriptor ready that the loop [watches](EventLoop::watch). Returns false if the loop does not watch it.
    ///
    /// The simulation does not read descriptors. The test provides what the callback reads.
    ///
    /// ```
    /// use halloo::{Interest, Watch, testing::Simulation};
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let (source, mut peer) = UnixStream::pair()?;
    /// let mut received = [0; 5];
    /// let simulation = Simulation::new(1);
    /// let mut events = simulation.event_loop();
    /// let watch = events.watch(source, Interest::Read, |_, source, _| {
    ///     source.read_exact(&mut received).expect("it has been written");
    ///     Watch::Drained
    /// })?;
    /// peer.write_all(b"hello")?;
    /// assert!(simulation.set_ready(watch, Interest::Read));
    /// simulation.run_until_idle(&mut events)?;
    /// drop(events);
    /// assert_eq!(received, *b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[expect(clippy::must_use_candidate, reason = "a test that goes on with a watch knows that it is there")]
    pub fn set_ready(&self, watch: WatchId, interest: Interest) -> bool {
        let token = Token::new(SlotKey::Watch(watch.0.slot), watch.0.generation);
        let mut world = self.world.borrow_mut();
        let Some(socket) = world.sockets.iter_mut().find(|socket| socket.token == Some(token)) else {
            return false;
        };
        socket.set_ready(interest);
        world.record_activity();
        true
    }

    /// Runs turns until nothing has happened for 1.2 s of simulated time, or the loop has stopped. Later timeouts do
    /// not fire: [`advance`](Self::advance) past them first. After a [`drain`](crate::Context::drain) it may return
    /// before the loop has stopped, because a closed connection is still read for up to 2 s.
    ///
    /// Activity is what clients do, what the network delivers, and each call of the loop on a socket with work. A
    /// failed call counts if the loop repeats it for the same work. A call without work, after [spurious
    /// readiness](Fault::SpuriousReadiness), does not count. A timer counts only if its callback sends, connects or
    /// closes something. So the loop becomes idle under any faults, unless a fault hits every call that some work
    /// needs.
    ///
    /// ```
    /// use halloo::testing::{Fault, Simulation};
    /// use halloo::{ErrorKind, stream};
    /// use std::net::SocketAddr;
    ///
    /// let address = SocketAddr::from(([10, 0, 0, 1], 7));
    /// let simulation = Simulation::new(1);
    /// let mut events = simulation.event_loop();
    /// events.listen(address, stream(|connection, input| connection.try_write(input)))?;
    /// simulation.inject(Fault::Accept, 1);
    /// let client = simulation.connect(address).expect("the server listens");
    /// let error = simulation.run_until_idle(&mut events).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Simulation);
    /// assert!(error.to_string().contains("accept listener 10.0.0.1:7"));
    /// # Ok::<(), halloo::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`EventLoop::turn`], and [`ErrorKind::Simulation`] after 100,000 turns, with what is still under way.
    pub fn run_until_idle(&self, events: &mut EventLoop<'_>) -> Result<()> {
        self.world.borrow_mut().record_activity();
        for _ in 0..RUN_TURNS_MAX {
            let turn = events.turn(Some(RUN_WAIT))?;
            if matches!(turn, Turn::Stopped(_)) {
                // Its output must still arrive.
                self.world.borrow_mut().advance_network();
            }
            let is_quiet = matches!(turn, Turn::Stopped(_)) || self.world.borrow().idle_for() >= QUIET_TIME;
            if is_quiet && self.first_active().is_none() {
                return Ok(());
            }
        }
        Err(Error::from_io(ErrorKind::Simulation, None, io::Error::new(io::ErrorKind::TimedOut, self.still_busy())))
    }

    /// The reason why the loop is not idle.
    fn still_busy(&self) -> String {
        let world = self.world.borrow();
        let busy = match (self.first_active(), world.last_call()) {
            (Some(socket), _) => format!("{} has events or bytes under way", world.name(socket)),
            (None, Some(call)) => format!("the last call was `{call}`"),
            (None, None) => String::from("every poll fails"),
        };
        format!("timed out after {RUN_TURNS_MAX} turns: {busy}; clear the faults, or call EventLoop::turn instead")
    }

    /// A socket with events or bytes in flight.
    fn first_active(&self) -> Option<usize> {
        let world = self.world.borrow();
        world.sockets.iter().position(|socket| match &socket.kind {
            // Bytes to a closed socket are never delivered.
            SimSocketKind::Stream(stream) if socket.fd == FdState::Closed && stream.client.saw_eof_or_reset() => false,
            SimSocketKind::Stream(stream) => {
                let has_room = stream.client.received.len() - stream.client.read < stream.client.window;
                let is_over = stream.client.saw_eof || stream.client.saw_reset || stream.reset != Reset::No;
                let ends = socket.fd == FdState::Closed && !is_over;
                let is_awaited = socket.fd == FdState::Open && world.is_answer_pending(stream);
                is_awaited
                    || !stream.in_flight.is_empty()
                    || socket.has_event()
                    || has_room && (ends || !stream.send_buffer.is_empty())
            }
            _ => socket.has_event(),
        })
    }

    /// Returns a hash of the loop's calls so far: the same for the same run.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.world.borrow().fingerprint
    }

    /// Starts a new [trace](Self::trace) and keeps all of it, not only the last 200 lines.
    pub fn record_trace(&self) {
        self.world.borrow().recording.borrow_mut().restart();
    }

    /// Returns the steps of the run, one per line: the last 200 lines, or all since
    /// [`record_trace`](Self::record_trace).
    ///
    /// A line contains the time, then the actor: the `loop` did a step of its [journal](crate::observe::EntryKind), or a
    /// `peer` sent, received or saw something. A stream is named by the addresses of both ends, the [client's](Client::address) first. So a search for that
    /// address finds all lines about the client.
    ///
    /// ```
    /// use halloo::testing::Simulation;
    /// use halloo::stream;
    /// use std::net::SocketAddr;
    ///
    /// let address = SocketAddr::from(([10, 0, 0, 1], 7));
    /// let simulation = Simulation::new(1);
    /// let mut events = simulation.event_loop();
    /// events.listen(address, stream(|connection, input| connection.try_write(input)))?;
    /// let client = simulation.connect_from(SocketAddr::from(([10, 0, 0, 9], 4000)), address).expect("the server listens");
    /// client.send(b"hello");
    /// simulation.run_until_idle(&mut events)?;
    ///
    /// let trace = simulation.trace();
    /// assert!(trace.contains("peer 10.0.0.9:4000 at 10.0.0.1:7 sends 5 bytes"));
    /// assert!(trace.contains("loop read 10.0.0.9:4000 at 10.0.0.1:7 -> 5"));
    /// # Ok::<(), halloo::Error>(())
    /// ```
    #[must_use]
    pub fn trace(&self) -> String {
        self.world.borrow().trace()
    }

    /// Returns what the loop and its peers have noted: everything since [`record_trace`](Self::record_trace), or at least
    /// the last 4,000 entries. The same seed gives the same recording.
    ///
    /// A simulated loop notes everything, whatever its [level](EventLoop::journal_level). The slot of a peer is the
    /// descriptor at the loop's end of its stream. An entry of a peer has the simulated time, and no later entry has an
    /// earlier time.
    ///
    /// ```
    /// use halloo::observe::EntryKind;
    /// use halloo::{stream, testing::Simulation};
    ///
    /// let address = std::net::SocketAddr::from(([10, 0, 0, 1], 7));
    /// let simulation = Simulation::new(1);
    /// let mut events = simulation.event_loop();
    /// events.listen(address, stream(|connection, input| connection.try_write(input)))?;
    /// let client = simulation.connect(address).expect("the server listens");
    /// client.send(b"hello");
    /// simulation.run_until_idle(&mut events)?;
    ///
    /// let entries = &simulation.recording().loops[0].entries;
    /// let is_five_bytes = |kind| move |entry: &halloo::observe::Entry| entry.kind == kind && entry.numbers[0] == 5;
    /// let sent = entries.iter().position(is_five_bytes(EntryKind::PeerSend)).expect("the client sends");
    /// let read = entries.iter().position(is_five_bytes(EntryKind::Read)).expect("the loop reads");
    /// assert!(sent < read);
    /// # Ok::<(), halloo::Error>(())
    /// ```
    #[must_use]
    pub fn recording(&self) -> Recording {
        let name = format!("seed {}", self.seed);
        Recording { loops: vec![self.world.borrow().recording.borrow().to_recording(name)] }
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Runs a test once for each seed, on as many threads as there are cores.
///
/// The panic for a failed seed contains the end of its [trace](Simulation::trace), the message of the test, and the
/// command that runs only this seed. If several seeds fail, the lowest is reported, so the outcome is the same in each
/// run.
///
/// The environment variable `HALLOO_SEEDS` has precedence over `seeds`: `HALLOO_SEEDS=7` runs one seed,
/// `HALLOO_SEEDS=0..1000000` a million.
///
/// The environment variable `HALLOO_RECORD` is a file for the [recording](Simulation::recording) of the lowest seed that
/// fails. With one seed it is recorded in any case: `HALLOO_SEEDS=7 HALLOO_RECORD=seed-7.json cargo test NAME`.
/// <https://ui.perfetto.dev> opens the file. A relative path begins in the folder of the package.
///
/// ```should_panic
/// halloo::testing::check(0..1_000, |simulation| assert!(simulation.random_below(100) > 0));
/// ```
///
/// # Panics
/// If the test panics, if `HALLOO_SEEDS` is neither a seed nor a range, or if the recording cannot be written.
pub fn check(seeds: Range<u64>, test: impl Fn(&Simulation) + Sync) {
    let seeds = std::env::var("HALLOO_SEEDS").map_or(seeds, |variable| {
        let message = "is neither a seed nor a range; set it to 7 or to 0..1000";
        parse_seeds(&variable).unwrap_or_else(|| panic!("cannot use HALLOO_SEEDS: \"{variable}\" {message}"))
    });
    let file = std::env::var_os("HALLOO_RECORD").map(PathBuf::from);
    let test_name = thread::current().name().unwrap_or_default().to_owned();
    let Some(run) = first_failure(seeds, &test_name, file.is_some(), test) else { return };
    let saved = run.recording.zip(file).map(|(recording, file)| recording.save(&file).map(|()| file));
    let seed = run.seed;
    // The test harness runs a test on a thread with its name, or on the main thread.
    let filter = if test_name == "main" { "" } else { &test_name };
    let about_recording = match saved {
        Some(Ok(file)) => format!("its recording is in {}", file.display()),
        Some(Err(error)) => error.to_string(),
        None => format!("record it: HALLOO_SEEDS={seed} HALLOO_RECORD=seed-{seed}.json cargo test {filter}"),
    };
    match run.report {
        Some(report) => panic!("{report}\nrun it alone: HALLOO_SEEDS={seed} cargo test {filter}\n{about_recording}"),
        None => assert!(!about_recording.starts_with("cannot "), "{about_recording}"),
    }
}

/// A run of a seed that failed, or was chosen to be recorded.
struct Run {
    seed: u64,
    /// What has happened, if it failed.
    report: Option<String>,
    recording: Option<Recording>,
}

/// Runs a test with all seeds; returns the run of the lowest that fails. A single seed that is recorded is returned in any
/// case.
fn first_failure(seeds: Range<u64>, name: &str, is_recorded: bool, test: impl Fn(&Simulation) + Sync) -> Option<Run> {
    let (next, first) = (AtomicU64::new(seeds.start), Mutex::new(None::<Run>));
    let is_chosen = is_recorded && seeds.end - seeds.start == 1;
    let lock = || first.lock().unwrap_or_else(PoisonError::into_inner);
    let run_seeds = || {
        loop {
            // Seeds are taken in order: when one fails, all lower ones have run or are running.
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || lock().as_ref().is_some_and(|run| run.seed < seed) {
                return;
            }
            let run = run_seed(seed, is_recorded, &test);
            let mut first = lock();
            if (run.report.is_some() || is_chosen) && first.as_ref().is_none_or(|first| seed < first.seed) {
                *first = Some(run);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(1, usize::from) {
            // The harness prints a panic with the name of its thread. If a thread does not start, the others run its
            // seeds.
            let _ = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, run_seeds);
        }
        run_seeds();
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A seed, or a range of them that is not empty.
fn parse_seeds(text: &str) -> Option<Range<u64>> {
    let (first, end) = match text.split_once("..") {
        Some((first, end)) => (first.parse().ok()?, end.parse().ok()?),
        None => (text.parse().ok()?, text.parse::<u64>().ok()?.checked_add(1)?),
    };
    (first < end).then_some(first..end)
}

fn run_seed(seed: u64, is_recorded: bool, test: impl Fn(&Simulation)) -> Run {
    let simulation = Simulation::new(seed);
    if is_recorded {
        simulation.world.borrow().recording.borrow_mut().keep_all();
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| test(&simulation)));
    let report = outcome.err().map(|panic| {
        let message = panic.downcast_ref::<&str>().map(|message| (*message).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        format!("seed {seed} failed; the end of its trace:\n{}\nseed {seed} failed: {message}", simulation.trace())
    });
    Run { seed, report, recording: is_recorded.then(|| simulation.recording()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::close_reason::CloseReason;
    use crate::context::handler_impls::{datagrams, stream};
    use crate::observe::entry::{Entry, EntryKind, Level, Object};

    const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 7);
    const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 4000);

    fn echo(connection: &mut crate::context::connection::Connection<'_>, input: &[u8]) -> usize {
        connection.try_write(input)
    }

    fn reply(datagram: &mut crate::context::datagram::Datagram<'_>, payload: &[u8]) {
        datagram.reply(payload);
    }

    #[test]
    fn a_simulation_becomes_idle_under_any_mix_of_faults() {
        check(0..300, |simulation| {
            let mut events = simulation.event_loop();
            events.listen(SERVER, stream(echo)).expect("the address is free");
            events.bind(SERVER, datagrams(reply)).expect("it is free");
            for fault in Fault::ALL {
                if simulation.random_below(2) == 0 {
                    simulation.inject(fault, 2 + simulation.random_below(6));
                }
            }
            let client = simulation.connect(SERVER).expect("the server listens");
            // A client that does not read: its connection is spuriously writable for ever.
            client.set_window(1);
            client.send(&[7; 10_000]);
            simulation.send_datagram(PEER, SERVER, b"hello");
            simulation.run_until_idle(&mut events).expect("the loop becomes idle");
        });
    }

    #[test]
    fn work_that_a_fault_holds_up_for_ever_is_named_in_the_error() {
        for (fault, cause) in [
            (Fault::LateReadiness, "listener 10.0.0.1:7 has events or bytes under way"),
            (Fault::Poll, "listener 10.0.0.1:7 has events or bytes under way"),
            (Fault::Accept, "the last call was `loop accept listener 10.0.0.1:7 -> E"),
        ] {
            let simulation = Simulation::new(1);
            let mut events = simulation.event_loop();
            events.listen(SERVER, stream(echo)).expect("the address is free");
            simulation.inject(fault, 1);
            let client = simulation.connect(SERVER).expect("the server listens");
            let error = simulation.run_until_idle(&mut events).expect_err("the client is not accepted");
            assert_eq!(error.kind(), ErrorKind::Simulation);
            assert!(error.to_string().contains(cause), "{error}");
            simulation.clear_faults();
            client.shutdown_write();
            simulation.run_until_idle(&mut events).expect("the loop becomes idle");
            assert!(client.saw_eof());
        }
    }

    #[test]
    fn no_client_notices_soft_faults() {
        check(0..200, |simulation| {
            let mut events = simulation.event_loop();
            events.listen(SERVER, stream(echo)).expect("the address is free");
            events.bind(SERVER, datagrams(reply)).expect("it is free");
            for fault in Fault::SOFT {
                simulation.inject(fault, 2 + simulation.random_below(6));
            }
            let clients = [(); 5].map(|()| simulation.connect(SERVER).expect("the server listens"));
            let mut sent = [const { Vec::new() }; 5];
            for _ in 0..3 {
                for (client, sent) in clients.iter().zip(&mut sent) {
                    let length = simulation.random_below(5_000);
                    let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).expect("less than 251")).collect();
                    client.send(&bytes);
                    sent.extend(bytes);
                    let _ = events.turn(Some(Duration::ZERO)).expect("no error is the loop's");
                }
                simulation.send_datagram(PEER, SERVER, b"hello");
                simulation.run_until_idle(&mut events).expect("the loop becomes idle");
                assert_eq!(simulation.receive_datagram(PEER), Some((SERVER, b"hello".to_vec())));
                assert_eq!(simulation.receive_datagram(PEER), None);
            }
            for client in &clients {
                client.shutdown_write();
            }
            simulation.run_until_idle(&mut events).expect("the loop becomes idle");
            for (client, sent) in clients.iter().zip(&sent) {
                let is_whole = client.received() == *sent && client.saw_eof() && !client.saw_reset();
                assert!(is_whole && !client.was_hit_by_fault(), "{client:?}: {} bytes", client.received().len());
            }
        });
    }

    #[test]
    fn a_client_that_always_reads_is_not_write_stalled_by_late_readiness_and_a_jumping_clock() {
        check(0..300, |simulation| {
            let mut events = simulation.event_loop();
            events.listen(SERVER, stream(echo)).expect("the address is free");
            for fault in Fault::SOFT.into_iter().chain([Fault::Clock, Fault::Pause]) {
                simulation.inject(fault, 4);
            }
            let client = simulation.connect(SERVER).expect("the server listens");
            client.send(&[7; 2_000]);
            simulation.run_until_idle(&mut events).expect("the loop becomes idle");
            assert_eq!(events.stats().closed(CloseReason::WriteStalled), 0, "{client:?}");
        });
    }

    #[test]
    fn what_is_under_way_arrives_while_time_passes() {
        check(0..50, |simulation| {
            let mut events = simulation.event_loop();
            events.listen(SERVER, stream(echo)).expect("the address is free");
            let client = simulation.connect(SERVER).expect("the server listens");
            simulation.run_until_idle(&mut events).expect("the loop becomes idle");
            client.send(b"hello");
            simulation.advance(Duration::from_secs(3_600));
            simulation.run_until_idle(&mut events).expect("the loop becomes idle");
            assert_eq!(client.received(), b"hello", "what arrives before the idle timeout is read");
        });
    }

    #[test]
    fn the_lowest_seed_that_fails_is_reported_once_with_the_end_of_its_trace() {
        let test = |simulation: &Simulation| {
            exchange(simulation);
            assert!(simulation.seed() < 17, "this is too much");
        };
        let Some(Run { seed, report: Some(report), .. }) = first_failure(3..100, "seeds", false, test) else {
            panic!("17 fails")
        };
        assert_eq!(seed, 17);
        assert_eq!(report.matches("seed 17 failed: this is too much").count(), 1, "{report}");
        assert_eq!(report.matches("earlier lines are left out").count(), 1, "{report}");
        assert!(report.lines().count() < 210, "{report}");
        assert!(first_failure(3..17, "seeds", false, test).is_none());
    }

    #[test]
    fn only_seed_3_fails() {
        check(0..3, |simulation| {
            exchange(simulation);
            assert_ne!(simulation.seed(), 3, "only with HALLOO_SEEDS");
        });
    }

    /// Runs a test of this program in a process with these variables; returns whether it passed, and its output.
    fn run_test(name: &str, variables: &[(&str, &str)]) -> (bool, String) {
        let this = std::env::current_exe().expect("a test has a program");
        let mut command = std::process::Command::new(this);
        command.args(["--exact", name]).env_remove("HALLOO_SEEDS").env_remove("HALLOO_RECORD");
        let output = command.envs(variables.iter().copied()).output().expect("it starts");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn a_variable_chooses_the_seeds_and_a_failure_names_the_commands_for_its_seed() {
        let name = "testing::tests::only_seed_3_fails";
        let run = |seeds: &str| run_test(name, &[("HALLOO_SEEDS", seeds)]);
        for seeds in ["3", "0..5"] {
            let (is_ok, output) = run(seeds);
            let commands = format!(
                "run it alone: HALLOO_SEEDS=3 cargo test {name}\n\
                 record it: HALLOO_SEEDS=3 HALLOO_RECORD=seed-3.json cargo test {name}"
            );
            assert!(!is_ok && output.contains(&commands), "{output}");
        }
        assert!(run("4").0 && run("0..3").0);
        for invalid in ["", "x", "5..5", "..", "3.."] {
            let (is_ok, output) = run(invalid);
            assert!(!is_ok && output.contains("cannot use HALLOO_SEEDS: \""), "{output}");
        }
    }

    #[test]
    fn a_variable_writes_the_recording_of_the_chosen_or_the_lowest_failing_seed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (name, path) = ("testing::tests::only_seed_3_fails", folder.path().join("seed.json"));
        let path = path.to_str().expect("a path in UTF-8");
        let run = |seeds: &str, file: &str| run_test(name, &[("HALLOO_SEEDS", seeds), ("HALLOO_RECORD", file)]);
        assert!(run("0..3", path).0 && !std::path::Path::new(path).exists(), "no seed is chosen, and none fails");
        for (seeds, fails, seed) in [("2", false, 2), ("3", true, 3), ("1..9", true, 3)] {
            let (is_ok, output) = run(seeds, path);
            assert_eq!(is_ok, !fails, "{output}");
            assert_eq!(output.contains(&format!("its recording is in {path}\n")), fails, "{output}");
            // The same in this process.
            let simulation = Simulation::new(seed);
            exchange(&simulation);
            let mut expected = Vec::new();
            simulation.recording().write_to(&mut expected).expect("memory");
            assert!(std::fs::read(path).expect("a file") == expected, "seed {seed} has another recording");
        }
        for seeds in ["2", "3"] {
            let (is_ok, output) = run(seeds, "/nowhere/seed.json");
            assert!(!is_ok && output.contains("cannot write /nowhere/seed.json: "), "{output}");
        }
    }

    #[test]
    fn the_same_seed_is_the_same_recording_in_every_process_whatever_the_network_does() {
        let folder = tempfile::tempdir().expect("a folder");
        for seed in ["1", "2", "3"] {
            let recordings = ["first", "second"].map(|file| {
                let path = folder.path().join(file);
                let path = path.to_str().expect("a path in UTF-8");
                let name = "tests::every_client_is_served_whatever_the_network_does";
                let (is_ok, output) = run_test(name, &[("HALLOO_SEEDS", seed), ("HALLOO_RECORD", path)]);
                assert!(is_ok, "{output}");
                std::fs::read(path).expect("a file")
            });
            assert!(recordings[0].len() > 50_000, "{} bytes", recordings[0].len());
            assert!(recordings[0] == recordings[1], "seed {seed} has two recordings");
        }
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let fingerprint = |seed| {
            let simulation = Simulation::new(seed);
            exchange(&simulation);
            simulation.fingerprint()
        };
        assert_eq!(fingerprint(1), fingerprint(1));
        assert_ne!(fingerprint(1), fingerprint(2));
    }

    #[test]
    fn the_same_seed_is_the_same_recording() {
        let recording = |seed| {
            let simulation = Simulation::new(seed);
            exchange(&simulation);
            simulation.recording()
        };
        assert_eq!(recording(1), recording(1));
        assert_ne!(recording(1), recording(2));
    }

    #[test]
    fn the_trace_has_what_the_loop_did_before_a_panic_in_a_callback() {
        let (simulation, in_callback) = (Simulation::new(1), RefCell::new(String::new()));
        let mut events = simulation.event_loop();
        let panicking = |_: &mut crate::context::connection::Connection<'_>, _: &[u8]| {
            *in_callback.borrow_mut() = simulation.trace();
            panic!("on purpose");
        };
        events.listen(SERVER, stream(panicking)).expect("the address is free");
        simulation.connect_from(PEER, SERVER).expect("the server listens").send(b"hello");
        let run = catch_unwind(AssertUnwindSafe(|| simulation.run_until_idle(&mut events)));
        assert!(run.is_err());
        let begins = "loop callback-begin 10.0.0.9:4000 at 10.0.0.1:7: on_data 5";
        assert!(in_callback.borrow().ends_with(begins), "{}", in_callback.borrow());
        assert!(simulation.trace().contains(begins), "{}", simulation.trace());
    }

    #[test]
    fn the_trace_has_what_happened_since_the_last_turn_in_its_order() {
        let simulation = Simulation::new(1);
        let mut events = simulation.event_loop();
        events.listen(SERVER, stream(echo)).expect("the address is free");
        let client = simulation.connect_from(PEER, SERVER).expect("the server listens");
        let listener = events.listen(SocketAddr::new(SERVER.ip(), 8), stream(echo)).expect("the address is free");
        client.send(b"hello");
        assert!(events.remove(listener).is_some());
        let expected = [
            "loop listening listener 10.0.0.1:7",
            "loop registered listener 10.0.0.1:7 -> 0",
            "loop callback-begin handler 0: on_start 0",
            "loop callback-end handler 0: on_start 0",
            "peer 10.0.0.9:4000 at 10.0.0.1:7 connects",
            "loop listening listener 10.0.0.1:8",
            "loop registered listener 10.0.0.1:8 -> 0",
            "loop callback-begin handler 0: on_start 0",
            "loop callback-end handler 0: on_start 0",
            "peer 10.0.0.9:4000 at 10.0.0.1:7 sends 5 bytes",
            "loop deregistered listener 10.0.0.1:8",
            "loop closed listener 10.0.0.1:8",
        ];
        let trace = simulation.trace();
        let lines: Vec<&str> = trace.lines().map(|line| line.trim_start().split_once(' ').expect("a time").1).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn an_observer_of_a_simulated_loop_gets_the_entries_of_its_level() {
        for (level, kinds) in [
            (Level::Off, vec![]),
            (Level::Turns, vec![EntryKind::PollBegin, EntryKind::PollEnd, EntryKind::TurnEnd]),
            (Level::All, vec![EntryKind::Listening, EntryKind::Read, EntryKind::TurnEnd]),
        ] {
            let seen = RefCell::new(Vec::new());
            let simulation = Simulation::new(1);
            let mut events = simulation.event_loop();
            events.journal_level(level);
            events.set_observer(|turn| seen.borrow_mut().extend(turn.entries.iter().copied()));
            events.listen(SERVER, stream(echo)).expect("the address is free");
            simulation.connect(SERVER).expect("the server listens").send(b"hello");
            simulation.run_until_idle(&mut events).expect("the loop becomes idle");
            let seen = seen.borrow();
            assert!(seen.iter().all(|entry| entry.kind.level() <= level), "{level}: {seen:?}");
            for kind in kinds {
                assert!(seen.iter().any(|entry| entry.kind == kind), "{level}: no {kind}");
            }
            // What the observer gets is in the recording.
            let recording = simulation.recording();
            let recorded = recording.loops[0].entries.iter().filter(|entry| entry.object != Object::Peer);
            let recorded: Vec<Entry> = recorded.copied().collect();
            assert!(recorded.iter().any(|entry| entry.kind == EntryKind::Read));
            assert!(level < Level::All || *seen == recorded);
        }
    }

    fn exchange(simulation: &Simulation) {
        let mut events = simulation.event_loop();
        events.listen(SERVER, stream(echo)).expect("the address is free");
        simulation.inject(Fault::LateReadiness, 3);
        let client = simulation.connect(SERVER).expect("the server listens");
        client.send(&vec![7; 100_000]);
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert_eq!(client.received().len(), 100_000);
    }
}
