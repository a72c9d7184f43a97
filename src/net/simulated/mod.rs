//! The simulated network: the loop's calls, carried out in memory.
//!
//! Nothing waits: a poll that would wait advances the clock.

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
use crate::net::recv_batch::{ReceivedDatagram, RecvBatch, RecvMeta};
use crate::net::simulated::faults::Fault;
use crate::net::simulated::sim_socket::{ConnectAnswer, FdState, RecvQueue, Reset, SimSocket, SimSocketKind};
use crate::net::simulated::world::World;
use crate::net::{Event, Network};
use crate::options::bind::Bind;
use crate::options::connect::Connect;
use crate::options::listen::Listen;
use crate::state::udp_send_queue::{Transmit, UdpSendQueue};

/// A loop's view of a world.
pub(crate) struct Simulated {
    world: Rc<RefCell<World>>,
    started: Instant,
}

/// Rounds of network time after which a poll that waits for nothing in particular comes back.
const QUIET_ROUNDS: u32 = 8;

impl Simulated {
    pub(crate) fn new(world: &Rc<RefCell<World>>) -> Self {
        Self { world: Rc::clone(world), started: Instant::now() }
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    /// The world, a little later: what is under way may arrive between any two calls.
    fn advanced_world(&self) -> RefMut<'_, World> {
        let mut world = self.world();
        if world.random.one_in(4) {
            world.advance_network();
        }
        world
    }

    /// A world in which a call is made, unless it meets a fault.
    fn begin_call(&self, call: &'static str, fault: Fault, socket: usize) -> io::Result<RefMut<'_, World>> {
        let mut world = self.advanced_world();
        let World { faults, random, .. } = &mut *world;
        match faults.next_error(fault, random) {
            Some(error) => {
                world.record_call(call, socket, -i64::from(error.raw_os_error().unwrap_or(0)));
                if fault != Fault::Poll {
                    world.record_activity();
                }
                if matches!(fault, Fault::Accept | Fault::ReceiveDatagram) {
                    world.count(socket, Err(()));
                }
                Err(error)
            }
            None => Ok(world),
        }
    }

    fn open(&mut self, at: SocketAddr, token: Token, kind: SimSocketKind) -> io::Result<(usize, SocketAddr)> {
        let mut world = self.world();
        if world.descriptors >= world.descriptors_max {
            return Err(nix::errno::Errno::EMFILE.into());
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
            return Err(nix::errno::Errno::EADDRINUSE.into());
        }
        let socket = world.add_socket(local, FdState::Open, kind);
        world.sockets[socket].token = Some(token);
        Ok((socket, local))
    }
}

impl Network for Simulated {
    type Listener = usize;
    type Stream = usize;
    type UdpSocket = (usize, usize);

    fn now(&self) -> Instant {
        self.started + self.world.borrow().clock
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
        self.world().advance_clock();
        let mut world = self.begin_call("poll", Fault::Poll, 0)?;
        let max = world.random.length(16);
        let until = timeout.map(|timeout| world.clock + timeout);
        for _ in 0..QUIET_ROUNDS {
            world.advance_network();
            let before = events.len();
            world.report_stale_event(events);
            let has_more = world.report_events(events, max);
            let count = events.len() - before;
            if count > 0 || until.is_some_and(|until| world.clock >= until) {
                world.record_call("poll", 0, i64::try_from(count).unwrap_or(0));
                return Ok(has_more);
            }
            let step = Duration::from_micros(1 + world.random.below(10_000));
            world.clock = (world.clock + step).min(until.unwrap_or(Duration::MAX));
        }
        if let Some(until) = until {
            world.clock = world.clock.max(until);
        }
        world.record_call("poll", 0, 0);
        Ok(false)
    }

    fn listen(&mut self, options: &Listen, token: Token) -> io::Result<(usize, Option<SocketAddr>)> {
        // There is no file system in here.
        let address = options.address.socket_addr().ok_or(io::ErrorKind::Unsupported)?;
        let kind = SimSocketKind::Listener { backlog: std::collections::VecDeque::new() };
        self.open(address, token, kind).map(|(socket, local)| (socket, Some(local)))
    }

    fn accept(&mut self, listener: &usize) -> io::Result<(usize, Option<SocketAddr>)> {
        let mut world = self.begin_call("accept", Fault::Accept, *listener)?;
        let is_full = world.descriptors >= world.descriptors_max;
        let SimSocketKind::Listener { backlog } = &mut world.sockets[*listener].kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if backlog.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if is_full {
            world.record_call("accept", *listener, -1);
            world.count(*listener, Err(()));
            return Err(nix::errno::Errno::EMFILE.into());
        }
        let Some(stream) = backlog.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        world.sockets[stream].fd = FdState::Open;
        world.descriptors += 1;
        world.record_call("accept", *listener, i64::try_from(stream).unwrap_or(0));
        world.count(*listener, Ok(1));
        let peer = world.stream(stream).peer;
        Ok((stream, Some(peer)))
    }

    fn connect(&mut self, to: &Connect) -> io::Result<usize> {
        let peer = to.address.socket_addr().ok_or(io::ErrorKind::Unsupported)?;
        let mut world = self.begin_call("connect", Fault::Connect, 0)?;
        if world.descriptors >= world.descriptors_max {
            return Err(nix::errno::Errno::EMFILE.into());
        }
        world.next_port = world.next_port.wrapping_add(1).max(1024);
        let local = SocketAddr::from(([10, 0, 0, 1], world.next_port));
        let socket = world.add_stream(local, peer, FdState::Open, ConnectAnswer::Pending);
        world.record_call("connect", socket, 0);
        Ok(socket)
    }

    fn is_connected(&self, stream: &usize) -> io::Result<bool> {
        let mut world = self.world();
        let state = world.stream(*stream);
        match state.connect_answer {
            ConnectAnswer::Pending => Ok(false),
            // Whoever asks is told of a reset that has come, and nobody else then is.
            ConnectAnswer::Connected if state.reset == Reset::Arrived => {
                state.reset = Reset::Reported;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            ConnectAnswer::Connected => Ok(true),
            ConnectAnswer::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn local_addr(&self, stream: &usize) -> io::Result<Option<SocketAddr>> {
        Ok(Some(self.world().sockets[*stream].local))
    }

    fn register(&mut self, stream: &mut usize, token: Token) -> io::Result<()> {
        let mut world = self.begin_call("register", Fault::Register, *stream).inspect_err(|_| {
            self.world.borrow_mut().stream(*stream).client.hit_by_fault = true;
        })?;
        world.sockets[*stream].token = Some(token);
        world.sockets[*stream].has_edge = true;
        world.record_call("register", *stream, 0);
        Ok(())
    }

    fn recv(&mut self, stream: &usize, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self
            .begin_call("recv", Fault::Receive, *stream)
            .inspect_err(|error| self.mark_hit_by_fault(*stream, error))?;
        let state = world.stream(*stream);
        let before_mark = match state.urgent_after {
            // The urgent byte itself is not part of the stream; reading goes on behind it.
            Some(0) => {
                state.urgent_after = None;
                state.recv_buffer.len()
            }
            Some(after) => after,
            None => state.recv_buffer.len(),
        };
        let count = before_mark.min(buffer.len());
        if count > 0 {
            state.recv_buffer.read_exact(&mut buffer[..count])?;
            state.urgent_after = state.urgent_after.map(|after| after - count);
            world.record_call("recv", *stream, i64::try_from(count).unwrap_or(0));
            world.count(*stream, Ok(count));
            return Ok(count);
        }
        let outcome = match state.reset {
            Reset::Arrived => {
                state.reset = Reset::Reported;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Reset::No if !state.fin_received => Err(io::ErrorKind::WouldBlock.into()),
            Reset::Reported | Reset::No => Ok(0),
        };
        world.record_call("recv", *stream, if outcome.is_ok() { 0 } else { -1 });
        outcome
    }

    fn send(&mut self, stream: &usize, bytes: &[u8], _more: bool) -> io::Result<usize> {
        let mut world = self
            .begin_call("send", Fault::Send, *stream)
            .inspect_err(|error| self.mark_hit_by_fault(*stream, error))?;
        let state = world.stream(*stream);
        if state.reset != Reset::No || state.client.saw_reset {
            state.reset = Reset::Reported;
            world.record_call("send", *stream, -2);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.write_shut_down {
            world.record_call("send", *stream, -3);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(state.send_buffer_bytes_max.saturating_sub(state.send_buffer.len()));
        state.blocked = count < bytes.len();
        state.send_buffer.extend(&bytes[..count]);
        world.record_call("send", *stream, i64::try_from(count).unwrap_or(0));
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn shutdown_write(&mut self, stream: &usize) -> io::Result<()> {
        let mut world = self.begin_call("shutdown", Fault::Shutdown, *stream).inspect_err(|_| {
            self.world.borrow_mut().failed_shutdowns.insert(*stream);
        })?;
        world.record_call("shutdown", *stream, 0);
        let state = world.stream(*stream);
        state.write_shut_down = true;
        // Over in both directions now: the poll tells.
        let is_over = state.fin_received;
        world.sockets[*stream].has_edge |= is_over;
        Ok(())
    }

    fn close(&mut self, stream: usize) {
        let mut world = self.advanced_world();
        world.record_call("close", stream, 0);
        world.close(stream);
    }

    fn reset(&mut self, stream: usize) {
        let mut world = self.advanced_world();
        world.record_call("reset", stream, 0);
        world.stream(stream).reset_client();
        world.close(stream);
    }

    fn close_listener(&mut self, listener: usize) {
        self.world().close(listener);
    }

    fn bind(&mut self, options: &Bind, token: Token) -> io::Result<((usize, usize), SocketAddr)> {
        let kind = SimSocketKind::Udp(RecvQueue::default());
        let (socket, local) = self.open(options.address, token, kind)?;
        Ok(((socket, options.datagram_bytes_max), local))
    }

    /// As recvmmsg(2) on Linux, with no more room than the seed gives: full; or short, because there is no more; or
    /// short, because of an error that is told to the next call. Its edge comes, since the error is new.
    fn recv_datagrams(&mut self, socket: &mut (usize, usize), batch: &mut RecvBatch, max: usize) -> io::Result<bool> {
        let (socket, datagram_bytes_max) = *socket;
        let mut world = self.begin_call("receive", Fault::ReceiveDatagram, socket)?;
        if let Some(error) = world.recv_queue(socket).pending_error.take() {
            world.record_call("receive", socket, -i64::from(error.raw_os_error().unwrap_or(0)));
            world.record_activity();
            world.count(socket, Err(()));
            return Err(error);
        }
        let is_wildcard = world.sockets[socket].local.ip().is_unspecified();
        let max = world.random.length(8).min(max);
        let (buffers, received) = batch.prepare(datagram_bytes_max);
        for buffer in buffers.take(max) {
            let Some((peer, dst_ip, payload)) = world.recv_queue(socket).queue.pop_front() else { break };
            let length = payload.len().min(datagram_bytes_max);
            buffer[..length].copy_from_slice(&payload[..length]);
            let meta =
                RecvMeta { peer, dst_ip: is_wildcard.then_some(dst_ip), truncated: payload.len() > datagram_bytes_max };
            received.push(ReceivedDatagram { len: length, meta });
            world.record_call("receive", socket, i64::try_from(length).unwrap_or(0));
            world.count(socket, Ok(length));
            let World { faults, random, sockets, .. } = &mut *world;
            if received.len() < max
                && let Some(error) = faults.next_error(Fault::ReceiveDatagram, random)
                && let SimSocketKind::Udp(recv_queue) = &mut sockets[socket].kind
            {
                recv_queue.pending_error = Some(error);
                sockets[socket].has_edge = true;
                break;
            }
        }
        if received.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(received.len() == max) }
    }

    fn send_datagrams(
        &mut self,
        socket: &mut (usize, usize),
        transmits: &[Transmit],
        send_queue: &UdpSendQueue,
        mut outcome: impl FnMut(&Transmit, io::Result<()>),
    ) {
        for transmit in transmits {
            let sent = loop {
                match self.begin_call("transmit", Fault::SendDatagram, socket.0) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            let sent = sent.map(|mut world| {
                let bound = world.sockets[socket.0].local;
                let from = SocketAddr::new(transmit.from.unwrap_or(bound.ip()), bound.port());
                let payload = send_queue.payload(transmit).to_vec();
                world.record_call("transmit", socket.0, i64::try_from(payload.len()).unwrap_or(0));
                let is_ours = world.is_local_ip(transmit.to.ip());
                if !(is_ours && world.deliver_datagram(from, transmit.to, payload.clone())) {
                    world.received_datagrams.entry(transmit.to).or_default().push_back((from, payload));
                }
            });
            outcome(transmit, sent);
        }
    }

    fn close_udp_socket(&mut self, socket: (usize, usize)) {
        self.world().close(socket.0);
    }

    fn is_local_ip(&mut self, ip: IpAddr) -> bool {
        self.world().is_local_ip(ip)
    }
}

impl Simulated {
    /// An injected error ends the client it met, unless it is only an interruption.
    fn mark_hit_by_fault(&self, stream: usize, error: &io::Error) {
        if error.kind() != io::ErrorKind::Interrupted {
            self.world().stream(stream).client.hit_by_fault = true;
        }
    }
}
