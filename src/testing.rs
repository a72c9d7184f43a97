//! A simulated network for tests of handlers, decided by a seed.
//!
//! [`Simulation::event_loop`] gives an ordinary [`EventLoop`], so the code that sets up your server runs unchanged.
//! Clients connect, send, read and leave; the network brings their bytes in pieces, late and out of step; and
//! [`Simulation::inject`] makes calls fail as kernels do. Nothing waits: a second of timeouts takes microseconds. The
//! same seed gives the same run, to the byte.
//!
//! # Test your protocol under a thousand bad networks
//! ```
//! use halloo::framing;
//! use halloo::testing::{self, Fault};
//! use std::net::SocketAddr;
//!
//! let address = SocketAddr::from(([10, 0, 0, 1], 7));
//! testing::check(0..1_000, |simulation| {
//!     let mut events = simulation.event_loop();
//!     events
//!         .listen(address, framing::lines(100, |connection, line| {
//!             let _ = connection.send(line);
//!             let _ = connection.send(b"\n");
//!         }))
//!         .unwrap();
//!     simulation.inject(Fault::Accept, 3);
//!     simulation.inject(Fault::LateReadiness, 2);
//!
//!     let client = simulation.connect(address).expect("somebody listens");
//!     client.send(b"one\ntwo\n");
//!     client.shutdown_write();
//!     simulation.run_until_idle(&mut events).unwrap();
//!     assert_eq!(client.received(), b"one\ntwo\n");
//!     assert!(client.saw_eof());
//! });
//! ```
//! When a seed fails, [`check`] says which, and what happened turn by turn; `check(SEED..SEED + 1, ...)` runs it alone.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::event_loop::{EventLoop, Turn};
use crate::ids::{SlotKey, Token, WatchId};
use crate::net::Network;
use crate::net::simulated::Simulated;
use crate::net::simulated::sim_socket::{ConnectAnswer, FdState, Reset, SimSocketKind};
use crate::net::simulated::world::World;
use crate::options::Interest;
use crate::options::connect::{Connect, InheritedStream};

pub use crate::net::simulated::client::Client;
pub use crate::net::simulated::faults::Fault;

/// Turns after which [`Simulation::run_until_idle`] gives up: something goes on for ever.
const RUN_TURNS_MAX: u32 = 100_000;

/// How long [`Simulation::run_until_idle`] lets a turn wait.
const RUN_WAIT: Duration = Duration::from_millis(100);

/// How long nothing must have happened for a world to be idle: longer than a listener pauses.
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
/// let client = simulation.connect(address).expect("somebody listens");
/// client.send(b"hello");
/// simulation.run_until_idle(&mut events)?;
/// assert_eq!(client.received(), b"hello");
/// # Ok::<(), halloo::Error>(())
/// ```
#[derive(Clone)]
pub struct Simulation {
    seed: u64,
    pub(crate) world: Rc<RefCell<World>>,
}

impl Simulation {
    /// A quiet world: no fault is injected until [`inject`](Self::inject) says so, but bytes travel as they like.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, world: Rc::new(RefCell::new(World::new(seed))) }
    }

    /// The seed that decides what happens.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A loop in this world, which has one: the poll of a second loop would take its events.
    ///
    /// The loop [listens](EventLoop::listen) and [binds](EventLoop::bind) at any address, and port 0 is a free one. A
    /// handler that is to be tested here reads [`Context::now`](crate::Context::now), not `Instant::now`, which stands
    /// still in comparison.
    #[must_use]
    pub fn event_loop<'h>(&self) -> EventLoop<'h> {
        let world = Rc::clone(&self.world);
        let connections_max = Box::new(move || world.borrow().descriptors_max);
        let hash_key = [(); 2].map(|()| self.world.borrow_mut().random.next());
        EventLoop::with_network(Network::Simulated(Simulated::new(&self.world)), connections_max, hash_key)
    }

    /// Makes one in so many calls fail, or moments go wrong; zero stops it.
    ///
    /// One in six errors is the first of a series: up to 99 more calls of the kind fail with the same error. So a listener
    /// may pause for a minute and more.
    pub fn inject(&self, fault: Fault, one_in: u64) {
        self.world.borrow_mut().faults.set(fault, one_in);
    }

    /// Makes the next so many calls of a kind fail with this error number.
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

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.world.borrow_mut().faults.clear();
    }

    /// Sets how many descriptors the process may have. Default: 20,000.
    pub fn set_descriptors_max(&self, descriptors: usize) {
        self.world.borrow_mut().descriptors_max = descriptors;
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.world.borrow_mut().clock += time;
    }

    /// How much time has passed.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.world.borrow().clock
    }

    /// A random number below `bound`, from the seed.
    #[must_use]
    pub fn random_below(&self, bound: u64) -> u64 {
        self.world.borrow_mut().random.below(bound)
    }

    /// A client connects, from an address of its own; `None` if nobody listens there.
    #[must_use]
    pub fn connect(&self, to: SocketAddr) -> Option<Client> {
        let from = self.next_client_address();
        self.connect_from(from, to)
    }

    /// A client connects from a given address.
    #[must_use]
    pub fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> Option<Client> {
        let socket = self.world.borrow_mut().connect(from, to)?;
        Some(Client::new(&self.world, socket))
    }

    /// Somebody listens at an address, for the loop's own connections. Where nobody does, they are refused.
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

    /// Nobody answers at an address, neither yes nor no.
    pub fn blackhole(&self, at: SocketAddr) {
        self.world.borrow_mut().blackholes.insert(at);
    }

    /// The next connection that has come from the loop to an address where a server [listens](Self::listen): its other
    /// side.
    #[must_use]
    pub fn accept(&self, at: SocketAddr) -> Option<Client> {
        let socket = self.world.borrow_mut().remote_listeners.get_mut(&at)?.pop_front()?;
        Some(Client::new(&self.world, socket))
    }

    /// A stream that is connected already, and the client at its other end, as socketpair(2) makes them. In a test the
    /// stream stands for a descriptor that the loop would [adopt](Connect#streams-that-are-connected-already). The client
    /// sees the end when the last clone of the `Connect` is dropped and no loop has taken it.
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

    /// A datagram is sent to the loop, from any address: it comes to the socket that is bound there, or to those that have
    /// joined the group. Returns whether it has arrived: false if there is no such socket, or if it was
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
    /// What the loop sends to a group is received at the group's address:
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
    /// assert_eq!(simulation.receive_datagram(peer).expect("an answer").1, b"who?");
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

    /// The next datagram that has reached an address, and the address that it came from: the machine's own are
    /// `10.0.0.1` and `2001:db8::1`, where a socket of every address has to choose one, and `10.255.255.255` is its
    /// broadcast address.
    #[must_use]
    pub fn receive_datagram(&self, at: SocketAddr) -> Option<(SocketAddr, Vec<u8>)> {
        self.world.borrow_mut().received_datagrams.get_mut(&at)?.pop_front()
    }

    /// A descriptor that the loop [watches](EventLoop::watch) becomes ready; false if the loop does not watch it.
    ///
    /// The simulation does not look at descriptors. What the callback reads of its source is the test's to provide.
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

    /// Turns the loop until nothing has happened for 1.2 s of simulated time, or it has stopped. Timeouts further away
    /// do not fire: [`advance`](Self::advance) past them first. After a [`drain`](crate::Context::drain) it may return
    /// before the loop has stopped, because a closed connection is still read for up to 2 s.
    ///
    /// What happens is what the clients do, what the network delivers, and each call of the loop on a socket, failed ones
    /// included. A timer that fires counts only if its callback sends, connects or closes something. While calls fail,
    /// the loop tries again, and with several faults at once that may take minutes. A test of a slow exchange with faults
    /// raises the [`idle_timeout`](crate::Listen::idle_timeout) of 60 s.
    ///
    /// # Errors
    /// Those of [`EventLoop::turn`].
    ///
    /// # Panics
    /// If it goes on for ever.
    pub fn run_until_idle(&self, events: &mut EventLoop<'_>) -> Result<()> {
        self.world.borrow_mut().record_activity();
        for _ in 0..RUN_TURNS_MAX {
            if let Turn::Stopped(_) = events.turn(Some(RUN_WAIT))? {
                // What it has sent is still to arrive.
                self.world.borrow_mut().advance_network();
                if !self.is_active() {
                    return Ok(());
                }
                continue;
            }
            if self.world.borrow().idle_for() >= QUIET_TIME && !self.is_active() {
                return Ok(());
            }
        }
        panic!("after {RUN_TURNS_MAX} turns there is still something to do");
    }

    /// Whether anything is under way.
    fn is_active(&self) -> bool {
        let world = self.world.borrow();
        world.sockets.iter().any(|socket| match &socket.kind {
            // What a client sends to nobody goes nowhere.
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

    /// A number that the loop's calls so far make up: the same for the same run.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.world.borrow().fingerprint
    }

    /// Keeps a trace of the loop's calls from now on.
    pub fn record_trace(&self) {
        self.world.borrow_mut().trace.get_or_insert_default();
    }

    /// The trace kept: time, call, socket and outcome, a line each.
    #[must_use]
    pub fn trace(&self) -> String {
        self.world.borrow().trace.as_ref().map(|lines| lines.join("\n")).unwrap_or_default()
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Runs a test once for each seed. For one that fails, the test is run again with a trace, and the panic tells the
/// seed, what happened, and what the test said.
///
/// # Panics
/// As the test does, for the first seed with which it does.
pub fn check(seeds: impl IntoIterator<Item = u64>, test: impl Fn(&Simulation)) {
    for seed in seeds {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&Simulation::new(seed)))) else {
            continue;
        };
        let message = panic.downcast_ref::<&str>().map(|message| (*message).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        let again = Simulation::new(seed);
        again.record_trace();
        let _ = catch_unwind(AssertUnwindSafe(|| test(&again)));
        panic!("seed {seed} failed. What happened:\n{}\nseed {seed} failed: {message}", again.trace());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::handler_impls::stream;

    const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 7);

    fn echo(connection: &mut crate::context::connection::Connection<'_>, input: &[u8]) -> usize {
        connection.try_write(input)
    }

    #[test]
    fn a_world_settles_whatever_is_told_for_nothing_and_not_before_a_client_has_its_end() {
        check(0..300, |simulation| {
            let mut events = simulation.event_loop();
            events.listen(SERVER, stream(echo)).expect("the address is free");
            for fault in [Fault::SpuriousReadiness, Fault::LateReadiness, Fault::Poll] {
                simulation.inject(fault, 10);
            }
            let client = simulation.connect(SERVER).expect("somebody listens");
            client.send(b"hello");
            client.shutdown_write();
            simulation.run_until_idle(&mut events).expect("no error is the loop's");
            assert!(client.saw_eof() && client.received() == b"hello", "{client:?}");
        });
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

    fn exchange(simulation: &Simulation) {
        let mut events = simulation.event_loop();
        events.listen(SERVER, stream(echo)).expect("the address is free");
        simulation.inject(Fault::LateReadiness, 3);
        let client = simulation.connect(SERVER).expect("somebody listens");
        client.send(&vec![7; 100_000]);
        simulation.run_until_idle(&mut events).expect("no error is the loop's");
        assert_eq!(client.received().len(), 100_000);
    }
}
