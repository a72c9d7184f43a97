//! The [`Network`] of a simulated [`World`]: the calls of the loop, carried out in memory.
//!
//! Nothing waits. A poll that would wait moves the clock instead, to the next thing that happens or to its timeout.

pub(crate) mod client;
pub(crate) mod faults;
pub(crate) mod sim_socket;
pub(crate) mod world;

use std::cell::{RefCell, RefMut};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::ids::Token;
use crate::net::recv_batch::{Arrival, Batch, Envelope};
use crate::net::simulated::faults::Fault;
use crate::net::simulated::sim_socket::{Answer, Hold, Inbound, Kind, Reset};
use crate::net::simulated::world::World;
use crate::net::{Event, Network};
use crate::options::bind::Bind;
use crate::options::connect::Connect;
use crate::options::listen::Listen;
use crate::state::send_queue::{Letter, Staged};

/// A loop's view of a world.
pub(crate) struct Simulated {
    world: Rc<RefCell<World>>,
    began: Instant,
}

/// Rounds of network time after which a poll that waits for nothing in particular comes back.
const QUIET_ROUNDS: u32 = 8;

impl Simulated {
    pub(crate) fn new(world: &Rc<RefCell<World>>) -> Self {
        Self { world: Rc::clone(world), began: Instant::now() }
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    /// The world, a little later: what is under way may arrive between any two calls.
    fn later(&self) -> RefMut<'_, World> {
        let mut world = self.world();
        if world.random.one_in(4) {
            world.flow();
        }
        world
    }

    /// A world in which a call is made, unless it meets a fault.
    fn call(&self, call: &'static str, fault: Fault, end: usize) -> io::Result<RefMut<'_, World>> {
        let mut world = self.later();
        let World { faults, random, .. } = &mut *world;
        match faults.meet(fault, random) {
            Some(error) => {
                world.note(call, end, -i64::from(error.raw_os_error().unwrap_or(0)));
                if fault != Fault::Poll {
                    world.touch();
                }
                if matches!(fault, Fault::Accept | Fault::ReceiveDatagram) {
                    world.count(end, Err(()));
                }
                Err(error)
            }
            None => Ok(world),
        }
    }

    fn open(&mut self, at: SocketAddr, token: Token, kind: Kind) -> io::Result<(usize, SocketAddr)> {
        let mut world = self.world();
        if world.descriptors >= world.descriptors_max {
            return Err(nix::errno::Errno::EMFILE.into());
        }
        let mut local = at;
        if local.port() == 0 {
            local.set_port(world.next_port);
            world.next_port += 1;
        }
        let same = |end: &crate::net::simulated::sim_socket::End| {
            end.hold == Hold::Held
                && end.local == local
                && std::mem::discriminant(&end.kind) == std::mem::discriminant(&kind)
        };
        if world.ends.iter().any(same) {
            return Err(nix::errno::Errno::EADDRINUSE.into());
        }
        let end = world.add(local, Hold::Held, kind);
        world.ends[end].token = Some(token);
        Ok((end, local))
    }
}

impl Network for Simulated {
    type Listener = usize;
    type Stream = usize;
    type Datagrams = (usize, usize);

    fn now(&self) -> Instant {
        self.began + self.world.borrow().clock
    }

    fn entropy(&self) -> u64 {
        self.world().random.next()
    }

    fn connections_max(&self) -> usize {
        self.world().descriptors_max
    }

    fn waker(&self) -> Box<dyn Fn() + Send + Sync> {
        // A job that is posted is seen at the next poll in any case, since none waits.
        Box::new(|| {})
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<bool> {
        self.world().tick();
        let mut world = self.call("poll", Fault::Poll, 0)?;
        let most = world.random.length(16);
        let end = timeout.map(|timeout| world.clock + timeout);
        for _ in 0..QUIET_ROUNDS {
            world.flow();
            let before = events.len();
            world.tell_ghost(events);
            let has_more = world.tell(events, most);
            let told = events.len() - before;
            if told > 0 || end.is_some_and(|end| world.clock >= end) {
                world.note("poll", 0, i64::try_from(told).unwrap_or(0));
                return Ok(has_more);
            }
            let step = Duration::from_micros(1 + world.random.below(10_000));
            world.clock = (world.clock + step).min(end.unwrap_or(Duration::MAX));
        }
        if let Some(end) = end {
            world.clock = world.clock.max(end);
        }
        world.note("poll", 0, 0);
        Ok(false)
    }

    fn listen(&mut self, options: &Listen, token: Token) -> io::Result<(usize, Option<SocketAddr>)> {
        // There is no file system in here.
        let address = options.at.address().ok_or(io::ErrorKind::Unsupported)?;
        let kind = Kind::Listener { backlog: std::collections::VecDeque::new() };
        self.open(address, token, kind).map(|(end, local)| (end, Some(local)))
    }

    fn accept(&mut self, listener: &usize) -> io::Result<(usize, Option<SocketAddr>)> {
        let mut world = self.call("accept", Fault::Accept, *listener)?;
        let is_full = world.descriptors >= world.descriptors_max;
        let Kind::Listener { backlog } = &mut world.ends[*listener].kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if backlog.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if is_full {
            world.note("accept", *listener, -1);
            world.count(*listener, Err(()));
            return Err(nix::errno::Errno::EMFILE.into());
        }
        let Some(stream) = backlog.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        world.ends[stream].hold = Hold::Held;
        world.descriptors += 1;
        world.note("accept", *listener, i64::try_from(stream).unwrap_or(0));
        world.count(*listener, Ok(1));
        let peer = world.stream(stream).peer;
        Ok((stream, Some(peer)))
    }

    fn connect(&mut self, to: &Connect) -> io::Result<usize> {
        let peer = to.to.address().ok_or(io::ErrorKind::Unsupported)?;
        let mut world = self.call("connect", Fault::Connect, 0)?;
        if world.descriptors >= world.descriptors_max {
            return Err(nix::errno::Errno::EMFILE.into());
        }
        world.next_port = world.next_port.wrapping_add(1).max(1024);
        let local = SocketAddr::from(([10, 0, 0, 1], world.next_port));
        let end = world.add_stream(local, peer, Hold::Held, Answer::Awaited);
        world.note("connect", end, 0);
        Ok(end)
    }

    fn connected(&self, stream: &usize) -> io::Result<bool> {
        let mut world = self.world();
        let end = world.stream(*stream);
        match end.answer {
            Answer::Awaited => Ok(false),
            // Whoever asks is told of a reset that has come, and nobody else then is.
            Answer::Yes if end.reset == Reset::Arrived => {
                end.reset = Reset::Told;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Answer::Yes => Ok(true),
            Answer::No(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn local_addr(&self, stream: &usize) -> io::Result<Option<SocketAddr>> {
        Ok(Some(self.world().ends[*stream].local))
    }

    fn register(&mut self, stream: &mut usize, token: Token) -> io::Result<()> {
        let mut world = self.call("register", Fault::Register, *stream).inspect_err(|_| {
            self.world.borrow_mut().stream(*stream).client.struck = true;
        })?;
        world.ends[*stream].token = Some(token);
        world.ends[*stream].edge = true;
        world.note("register", *stream, 0);
        Ok(())
    }

    fn recv(&mut self, stream: &usize, room: &mut [u8]) -> io::Result<usize> {
        let mut world = self.call("recv", Fault::Receive, *stream).inspect_err(|error| self.strike(*stream, error))?;
        let end = world.stream(*stream);
        let before_mark = match end.urgent_after {
            // The urgent byte itself is not part of the stream; reading goes on behind it.
            Some(0) => {
                end.urgent_after = None;
                end.queue.len()
            }
            Some(after) => after,
            None => end.queue.len(),
        };
        let count = before_mark.min(room.len());
        if count > 0 {
            end.queue.read_exact(&mut room[..count])?;
            end.urgent_after = end.urgent_after.map(|after| after - count);
            world.note("recv", *stream, i64::try_from(count).unwrap_or(0));
            world.count(*stream, Ok(count));
            return Ok(count);
        }
        let outcome = match end.reset {
            Reset::Arrived => {
                end.reset = Reset::Told;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Reset::No if !end.ended => Err(io::ErrorKind::WouldBlock.into()),
            Reset::Told | Reset::No => Ok(0),
        };
        world.note("recv", *stream, if outcome.is_ok() { 0 } else { -1 });
        outcome
    }

    fn send(&mut self, stream: &usize, bytes: &[u8], _more: bool) -> io::Result<usize> {
        let mut world = self.call("send", Fault::Send, *stream).inspect_err(|error| self.strike(*stream, error))?;
        let end = world.stream(*stream);
        if end.reset != Reset::No || end.client.saw_reset {
            end.reset = Reset::Told;
            world.note("send", *stream, -2);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if end.shut {
            world.note("send", *stream, -3);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(end.room.saturating_sub(end.unsent.len()));
        end.blocked = count < bytes.len();
        end.unsent.extend(&bytes[..count]);
        world.note("send", *stream, i64::try_from(count).unwrap_or(0));
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn shutdown(&mut self, stream: &usize) -> io::Result<()> {
        let mut world = self.call("shutdown", Fault::Shutdown, *stream).inspect_err(|_| {
            self.world.borrow_mut().unended.insert(*stream);
        })?;
        world.note("shutdown", *stream, 0);
        let stream_end = world.stream(*stream);
        stream_end.shut = true;
        // Over in both directions now: the poll tells.
        let is_over = stream_end.ended;
        world.ends[*stream].edge |= is_over;
        Ok(())
    }

    fn close(&mut self, stream: usize) {
        let mut world = self.later();
        world.note("close", stream, 0);
        world.close(stream);
    }

    fn reset(&mut self, stream: usize) {
        let mut world = self.later();
        world.note("reset", stream, 0);
        world.stream(stream).cut();
        world.close(stream);
    }

    fn close_listener(&mut self, listener: usize) {
        self.world().close(listener);
    }

    fn bind(&mut self, options: &Bind, token: Token) -> io::Result<((usize, usize), SocketAddr)> {
        let kind = Kind::Socket(Inbound::default());
        let (end, local) = self.open(options.address, token, kind)?;
        Ok(((end, options.datagram_bytes_max), local))
    }

    /// As recvmmsg(2) on Linux, with no more room than the seed gives: full; or short, because there is no more; or
    /// short, because of an error that is told to the next call. Its edge comes, since it is news.
    fn receive(&mut self, socket: &mut (usize, usize), batch: &mut Batch, most: usize) -> io::Result<bool> {
        let (end, room) = *socket;
        let mut world = self.call("receive", Fault::ReceiveDatagram, end)?;
        if let Some(error) = world.inbound(end).pending.take() {
            world.note("receive", end, -i64::from(error.raw_os_error().unwrap_or(0)));
            world.touch();
            world.count(end, Err(()));
            return Err(error);
        }
        let is_everywhere = world.ends[end].local.ip().is_unspecified();
        let most = world.random.length(8).min(most);
        let (rooms, arrived) = batch.open(room);
        for place in rooms.take(most) {
            let Some((peer, asked, payload)) = world.inbound(end).queue.pop_front() else { break };
            let length = payload.len().min(room);
            place[..length].copy_from_slice(&payload[..length]);
            let envelope = Envelope { peer, asked: is_everywhere.then_some(asked), truncated: payload.len() > room };
            arrived.push(Arrival { length, envelope });
            world.note("receive", end, i64::try_from(length).unwrap_or(0));
            world.count(end, Ok(length));
            let World { faults, random, ends, .. } = &mut *world;
            if arrived.len() < most
                && let Some(error) = faults.meet(Fault::ReceiveDatagram, random)
                && let Kind::Socket(inbound) = &mut ends[end].kind
            {
                inbound.pending = Some(error);
                ends[end].edge = true;
                break;
            }
        }
        if arrived.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(arrived.len() == most) }
    }

    fn transmit(
        &mut self,
        socket: &mut (usize, usize),
        letters: &[Letter],
        staged: &Staged,
        mut outcome: impl FnMut(&Letter, io::Result<()>),
    ) {
        for letter in letters {
            let sent = loop {
                match self.call("transmit", Fault::SendDatagram, socket.0) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            let sent = sent.map(|mut world| {
                let bound = world.ends[socket.0].local;
                let from = SocketAddr::new(letter.from.unwrap_or(bound.ip()), bound.port());
                let payload = staged.payload(letter).to_vec();
                world.note("transmit", socket.0, i64::try_from(payload.len()).unwrap_or(0));
                let is_ours = world.has_address(letter.to.ip());
                if !(is_ours && world.deliver(from, letter.to, payload.clone())) {
                    world.mail.entry(letter.to).or_default().push_back((from, payload));
                }
            });
            outcome(letter, sent);
        }
    }

    fn close_socket(&mut self, socket: (usize, usize)) {
        self.world().close(socket.0);
    }

    fn is_local(&mut self, ip: IpAddr) -> bool {
        self.world().has_address(ip)
    }
}

impl Simulated {
    /// An injected error ends the client it met, unless it is only an interruption.
    fn strike(&self, stream: usize, error: &io::Error) {
        if error.kind() != io::ErrorKind::Interrupted {
            self.world().stream(stream).client.struck = true;
        }
    }
}
