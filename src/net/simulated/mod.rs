//! The simulated network: the loop's calls, made in memory.
//!
//! Nothing waits: a poll that would wait advances the clock.

pub(crate) mod client;
pub(crate) mod datagrams;
pub(crate) mod faults;
pub(crate) mod readiness;
pub(crate) mod sim_handle;
pub(crate) mod sim_socket;
pub(crate) mod trace;
pub(crate) mod world;

use std::cell::{RefCell, RefMut};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::ids::Token;
use crate::net::simulated::faults::Fault;
use crate::net::simulated::sim_handle::SimHandle;
use crate::net::simulated::sim_socket::{ConnectAnswer, FdState, RecvQueue, SimSocket, SimSocketKind};
use crate::net::simulated::world::World;
use crate::net::{Event, Listener, Stream, UdpSocket};
use crate::observe::sim_recording::SimRecording;
use crate::options::bind::Bind;
use crate::options::connect::{Connect, InheritedStream};
use crate::options::listen::Listen;
use crate::options::udp::MembershipChange;

/// A loop's view of a world.
pub(crate) struct Simulated {
    world: Rc<RefCell<World>>,
    started: Instant,
}

/// Rounds of network time after which a poll without a timeout returns, and a poll with a timeout takes longer steps.
const QUIET_ROUNDS: u32 = 8;

impl Simulated {
    pub(crate) fn new(world: &Rc<RefCell<World>>) -> Self {
        let mut the_world = world.borrow_mut();
        the_world.loop_started = the_world.clock;
        the_world.loops += 1;
        drop(the_world);
        Self { world: Rc::clone(world), started: Instant::now() }
    }

    /// Whether the world had no loop before.
    pub(crate) fn is_first_loop(&self) -> bool {
        self.world().loops == 1
    }

    /// The recording of the world, for the journal of the loop.
    pub(crate) fn recording(&self) -> Rc<RefCell<SimRecording>> {
        Rc::clone(&self.world().recording)
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    pub(crate) fn now(&self) -> Instant {
        self.started + self.world.borrow().clock
    }

    pub(crate) fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<bool> {
        let mut world = self.world();
        world.advance_clock();
        world.begin_call("poll", Fault::Poll, 0)?;
        let max = world.random.length(16);
        let until = timeout.map(|timeout| world.clock + timeout);
        for round in 0.. {
            world.advance_network();
            let before = events.len();
            world.report_stale_event(events);
            let has_more = world.report_events(events, max);
            let count = events.len() - before;
            if count > 0 || until.is_some_and(|until| world.clock >= until) {
                world.record_call("poll", 0, i64::try_from(count).unwrap_or(0));
                world.maybe_pause();
                return Ok(has_more);
            }
            if until.is_none() && round == QUIET_ROUNDS {
                break;
            }
            let drawn = Duration::from_micros(1 + world.random.below(10_000));
            let step = drawn.saturating_mul(1 << (round.saturating_sub(QUIET_ROUNDS)).min(31));
            world.clock = world.clock.saturating_add(step).min(until.unwrap_or(Duration::MAX));
        }
        world.record_call("poll", 0, 0);
        Ok(false)
    }

    pub(crate) fn listen(&mut self, options: &Listen, token: Token) -> io::Result<(Listener, Option<SocketAddr>)> {
        // The simulation has no file system.
        let address = options.address.socket_addr().ok_or(io::ErrorKind::Unsupported)?;
        let kind = SimSocketKind::Listener { backlog: std::collections::VecDeque::new() };
        let (socket, local) = self.open(address, token, kind)?;
        Ok((Listener::Simulated(socket), Some(local)))
    }

    pub(crate) fn connect(&self, to: &Connect) -> io::Result<Stream> {
        if let Some(inherited) = &to.inherited {
            return self.take_inherited(inherited);
        }
        let mut peer = to.address.socket_addr().ok_or(io::ErrorKind::Unsupported)?;
        let mut world = self.world();
        world.begin_call("connect", Fault::Connect, 0)?;
        if world.descriptors >= world.descriptors_max {
            world.list_call("connect", 0, -i64::from(Errno::EMFILE as i32));
            return Err(Errno::EMFILE.into());
        }
        world.next_port = world.next_port.wrapping_add(1).max(1024);
        let local = SocketAddr::from(([10, 0, 0, 1], world.next_port));
        // An unspecified address means this machine, as in the kernel.
        if peer.ip().is_unspecified() {
            peer.set_ip(local.ip());
        }
        let socket = world.add_stream(local, peer, FdState::Open, ConnectAnswer::Pending);
        world.record_call("connect", socket, 0);
        Ok(Stream::Simulated(SimHandle::new(&self.world, socket)))
    }

    fn take_inherited(&self, inherited: &InheritedStream) -> io::Result<Stream> {
        let InheritedStream::Simulated(number) = inherited else {
            let message = "invalid argument: a simulated loop has no descriptors; connect a Simulation::stream_pair";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        let (socket, owner) = (**number, Arc::downgrade(number));
        let mut world = self.world();
        let is_its_owner =
            |socket: &SimSocket| matches!(&socket.kind, SimSocketKind::Stream(stream) if stream.owner.ptr_eq(&owner));
        let is_there = |socket: &SimSocket| socket.fd == FdState::HandedOver && is_its_owner(socket);
        if !world.sockets.get(socket).is_some_and(is_there) {
            return Err(InheritedStream::taken_error());
        }
        world.open(socket);
        world.record_call("adopt", socket, 0);
        Ok(Stream::Simulated(SimHandle::new(&self.world, socket)))
    }

    pub(crate) fn bind(&mut self, options: &Bind, token: Token) -> io::Result<(UdpSocket, SocketAddr)> {
        let kind = SimSocketKind::Udp(RecvQueue {
            datagram_bytes_max: options.datagram_bytes_max,
            multicast_loop: options.udp.multicast_loop.unwrap_or(true),
            may_broadcast: options.udp.broadcast.unwrap_or(false),
            ..RecvQueue::default()
        });
        let (socket, local) = self.open(options.address, token, kind)?;
        for membership in &options.udp.memberships {
            socket.change_membership(*membership, MembershipChange::Join)?;
        }
        Ok((UdpSocket::Simulated(socket), local))
    }

    pub(crate) fn watch(&self, token: Token) -> io::Result<SimHandle> {
        let mut world = self.world();
        world.begin_call("watch", Fault::Register, 0)?;
        let kind = SimSocketKind::Watched { readable: false, writable: false };
        let socket = world.add_socket(SocketAddr::from(([0, 0, 0, 0], 0)), FdState::Open, kind);
        world.sockets[socket].token = Some(token);
        world.record_call("watch", socket, 0);
        Ok(SimHandle::new(&self.world, socket))
    }

    pub(crate) fn is_local_ip(&self, ip: IpAddr) -> bool {
        self.world().is_local_ip(ip)
    }

    fn open(&mut self, at: SocketAddr, token: Token, kind: SimSocketKind) -> io::Result<(SimHandle, SocketAddr)> {
        let mut world = self.world();
        if world.descriptors >= world.descriptors_max {
            return Err(Errno::EMFILE.into());
        }
        let mut local = at;
        if local.port() == 0 {
            local.set_port(world.next_port);
            world.next_port += 1;
        }
        let is_same = |socket: &SimSocket| {
            socket.fd == FdState::Open
                && socket.local == local
                && std::mem::discriminant(&socket.kind) == std::mem::discriminant(&kind)
        };
        if world.sockets.iter().any(is_same) {
            return Err(Errno::EADDRINUSE.into());
        }
        let socket = world.add_socket(local, FdState::Open, kind);
        world.sockets[socket].token = Some(token);
        Ok((SimHandle::new(&self.world, socket), local))
    }
}
