//! The loop's handle to a simulated socket, and its calls.

use std::cell::{RefCell, RefMut};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

use nix::errno::Errno;

use crate::ids::Token;
use crate::net::Stream;
use crate::net::recv_batch::{ReceivedMessage, RecvBatch, RecvMeta};
use crate::net::send_notes::SendNotes;
use crate::net::simulated::datagrams::{destination, is_broadcast_ip, machine_ip};
use crate::net::simulated::faults::Fault;
use crate::net::simulated::sim_socket::{ConnectAnswer, FdState, Reset, SimSocketKind, descriptor};
use crate::net::simulated::world::{World, errno_outcome};
use crate::options::udp::{Membership, MembershipChange};
use crate::state::phase::InputStop;
use crate::state::udp_send_queue::{Transmit, UdpSendQueue};

/// A descriptor of a simulated socket; dropping it closes the socket.
pub(crate) struct SimHandle {
    world: Rc<RefCell<World>>,
    /// Its number in the world.
    pub(crate) socket: usize,
}

/// A duplicate of a simulated descriptor; dropping it frees a descriptor.
pub(crate) struct SimReserved {
    world: Rc<RefCell<World>>,
}

impl Drop for SimReserved {
    fn drop(&mut self) {
        self.world.borrow_mut().descriptors -= 1;
    }
}

impl SimHandle {
    pub(super) fn new(world: &Rc<RefCell<World>>, socket: usize) -> Self {
        Self { world: Rc::clone(world), socket }
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    fn begin_call(&self, call: &'static str, fault: Fault) -> io::Result<RefMut<'_, World>> {
        let mut world = self.world();
        world.begin_call(call, fault, self.socket)?;
        Ok(world)
    }

    pub(crate) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        let mut world = self.begin_call("accept", Fault::Accept)?;
        let is_full = world.descriptors >= world.descriptors_max;
        let SimSocketKind::Listener { backlog } = &mut world.sockets[self.socket].kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if backlog.is_empty() {
            world.list_call("accept", self.socket, -i64::from(Errno::EAGAIN as i32));
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if is_full {
            world.count(self.socket, Err(()));
            return world.fail_call("accept", self.socket, Errno::EMFILE);
        }
        let Some(stream) = backlog.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        world.open(stream);
        world.record_call("accept", self.socket, i64::try_from(stream).unwrap_or(0));
        world.count(self.socket, Ok(1));
        let peer = world.stream(stream).peer;
        Ok((Stream::Simulated(Self::new(&self.world, stream)), Some(peer)))
    }

    pub(crate) fn reserve(&self) -> io::Result<SimReserved> {
        let mut world = self.world();
        if world.descriptors >= world.descriptors_max {
            return Err(Errno::EMFILE.into());
        }
        world.descriptors += 1;
        Ok(SimReserved { world: Rc::clone(&self.world) })
    }

    pub(crate) fn has_client(&self) -> bool {
        let world = self.world();
        matches!(&world.sockets[self.socket].kind, SimSocketKind::Listener { backlog } if !backlog.is_empty())
    }

    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        let mut world = self.world();
        let state = world.stream(self.socket);
        let connected = match state.connect_answer {
            ConnectAnswer::Pending => return Ok(false),
            // This call reports an arrived reset, and later calls do not.
            ConnectAnswer::Connected if state.reset == Reset::Arrived => {
                state.reset = Reset::Reported;
                Err(Errno::ECONNRESET.into())
            }
            ConnectAnswer::Connected => Ok(true),
            ConnectAnswer::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
        };
        world.list_call("connected", self.socket, connected.as_ref().map_or_else(errno_outcome, |_| 0));
        connected
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.world().sockets[self.socket].local
    }

    pub(crate) fn has_family_of(&self, address: SocketAddr) -> bool {
        self.local_addr().is_ipv6() || address.is_ipv4()
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.world().stream(self.socket).peer
    }

    pub(crate) fn register(&self, token: Token) -> io::Result<()> {
        let mut world = self.begin_call("register", Fault::Register).inspect_err(|_| {
            self.world().stream(self.socket).client.hit_by_fault = true;
        })?;
        world.sockets[self.socket].token = Some(token);
        world.sockets[self.socket].has_edge = true;
        world.record_call("register", self.socket, 0);
        Ok(())
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.begin_call("recv", Fault::Receive).inspect_err(|error| self.mark_hit_by_fault(error))?;
        let state = world.stream(self.socket);
        let before_mark = match state.urgent_after {
            // The urgent byte is not part of the stream; the read continues after it.
            Some(0) => {
                state.urgent_after = None;
                state.recv_buffer.len()
            }
            Some(after) => after,
            None => state.recv_buffer.len(),
        };
        let count = before_mark.min(buffer.len());
        if count > 0 {
            state.take_received(&mut buffer[..count])?;
            state.urgent_after = state.urgent_after.map(|after| after - count);
            world.record_call("recv", self.socket, i64::try_from(count).unwrap_or(0));
            world.count(self.socket, Ok(count));
            return Ok(count);
        }
        match state.reset {
            Reset::Arrived => {
                state.reset = Reset::Reported;
                world.fail_call("recv", self.socket, Errno::ECONNRESET)
            }
            Reset::No if !state.fin_received => world.fail_call("recv", self.socket, Errno::EAGAIN),
            Reset::Reported | Reset::No => {
                world.record_call("recv", self.socket, 0);
                Ok(0)
            }
        }
    }

    pub(crate) fn send(&self, bytes: &[u8], fin_follows: bool) -> io::Result<usize> {
        self.send_vectored(&[IoSlice::new(bytes)], fin_follows)
    }

    pub(crate) fn send_vectored(&self, slices: &[IoSlice<'_>], _fin_follows: bool) -> io::Result<usize> {
        let mut world = self.begin_call("send", Fault::Send).inspect_err(|error| self.mark_hit_by_fault(error))?;
        let state = world.stream(self.socket);
        if state.reset != Reset::No || state.client.saw_reset {
            state.reset = Reset::Reported;
            return world.fail_call("send", self.socket, Errno::EPIPE);
        }
        if state.write_shut_down {
            return world.fail_call("send", self.socket, Errno::EPIPE);
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let count = wanted.min(state.send_buffer_bytes_max.saturating_sub(state.send_buffer.len()));
        state.blocked = count < wanted;
        state.send_buffer.extend(slices.iter().flat_map(|slice| slice.iter()).take(count));
        if count == 0 {
            return world.fail_call("send", self.socket, Errno::EAGAIN);
        }
        world.record_call("send", self.socket, i64::try_from(count).unwrap_or(0));
        Ok(count)
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        let mut world = self.begin_call("shutdown", Fault::Shutdown).inspect_err(|_| {
            self.world().failed_shutdowns.insert(self.socket);
        })?;
        world.record_call("shutdown", self.socket, 0);
        let state = world.stream(self.socket);
        (state.write_shut_down, state.fin_requested) = (true, true);
        state.note_fin();
        // Closed in both directions now: an event reports it.
        let is_over = state.fin_received;
        world.sockets[self.socket].has_edge |= is_over;
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the kernel cannot always")]
    pub(crate) fn stop_input(&self) -> Option<(InputStop, io::Result<()>)> {
        let mut world = self.world();
        world.advance_a_little();
        world.record_call("stop-input", self.socket, 0);
        world.stream(self.socket).input_stopped = true;
        Some((InputStop::Filter, Ok(())))
    }

    pub(crate) fn has_sent_all(&self) -> (bool, io::Result<()>) {
        let mut world = self.world();
        world.list_call("option", self.socket, 0);
        let state = world.stream(self.socket);
        state.writable_when_sent = true;
        state.blocked = !state.send_buffer.is_empty() && state.reset == Reset::No;
        (!state.blocked, Ok(()))
    }

    #[expect(clippy::unnecessary_wraps, reason = "the call of the kernel can fail")]
    pub(crate) fn resume_input(&self) -> io::Result<()> {
        let mut world = self.world();
        world.list_call("option", self.socket, 0);
        world.stream(self.socket).input_stopped = false;
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "the call of the kernel can fail")]
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        let mut world = self.world();
        world.list_call("option", self.socket, 0);
        world.stream(self.socket).resets_on_close = true;
        Ok(())
    }

    pub(crate) fn descriptor(&self) -> usize {
        descriptor(self.socket)
    }

    pub(crate) fn may_broadcast(&self) -> bool {
        self.world().recv_queue(self.socket).may_broadcast
    }

    pub(crate) fn change_membership(&self, membership: Membership, change: MembershipChange) -> io::Result<()> {
        let mut world = self.world();
        let memberships = &mut world.recv_queue(self.socket).memberships;
        match change {
            MembershipChange::Join if !memberships.insert(membership) => Err(Errno::EADDRINUSE.into()),
            MembershipChange::Leave if !memberships.remove(&membership) => Err(Errno::EADDRNOTAVAIL.into()),
            MembershipChange::Join | MembershipChange::Leave => Ok(()),
        }
    }

    /// Like recvmmsg(2) on Linux, with room for as many as the seed decides. A batch is full; or short, because the
    /// queue is empty; or short, because of an error that the next call returns. That error is new, so an event
    /// follows.
    pub(crate) fn recv_datagrams(&self, batch: &mut RecvBatch, max: usize) -> io::Result<bool> {
        let socket = self.socket;
        batch.asked = max;
        let mut world = self.begin_call("receive", Fault::ReceiveDatagram)?;
        if let Some(error) = world.recv_queue(socket).pending_error.take() {
            world.record_call("receive", socket, errno_outcome(&error));
            world.record_activity();
            world.count(socket, Err(()));
            return Err(error);
        }
        let datagram_bytes_max = world.recv_queue(socket).datagram_bytes_max;
        let is_wildcard = world.sockets[socket].local.ip().is_unspecified();
        let max = world.random.length(8).min(max);
        let (buffers, received) = batch.prepare(datagram_bytes_max, datagram_bytes_max, max);
        for buffer in buffers {
            let Some((peer, dst_ip, payload)) = world.recv_queue(socket).queue.pop_front() else { break };
            let length = payload.len().min(datagram_bytes_max);
            buffer[..length].copy_from_slice(&payload[..length]);
            let meta = RecvMeta {
                peer,
                dst: is_wildcard.then(|| destination(dst_ip)),
                truncated: payload.len() > datagram_bytes_max,
            };
            received.push(ReceivedMessage { len: length, segment: length, meta });
            world.count_call("receive", socket, i64::try_from(length).unwrap_or(0));
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
        let (count, has_more) = (received.len(), received.len() == max);
        if count == 0 {
            world.list_call("receive", socket, -i64::from(Errno::EAGAIN as i32));
            return Err(io::ErrorKind::WouldBlock.into());
        }
        world.list_call("receive", socket, i64::try_from(count).unwrap_or(0));
        Ok(has_more)
    }

    pub(crate) fn send_datagrams(
        &self,
        transmits: &[Transmit],
        send_queue: &UdpSendQueue,
        notes: &mut SendNotes<'_>,
        mut outcome: impl FnMut(&Transmit, io::Result<()>),
    ) {
        for transmit in transmits.iter().copied().flat_map(Transmit::datagrams) {
            let sent = loop {
                match self.begin_call("transmit", Fault::SendDatagram) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => notes.note_failed_call(1, &error),
                    other => break other,
                }
            };
            let sent = sent.and_then(|mut world| {
                if is_broadcast_ip(transmit.to.ip()) && !world.recv_queue(self.socket).may_broadcast {
                    world.list_call("transmit", self.socket, -i64::from(Errno::EACCES as i32));
                    return Err(Errno::EACCES.into());
                }
                let bound = world.sockets[self.socket].local;
                let from = transmit.from.map_or(bound.ip(), |from| from.ip);
                // The kernel chooses an address of the machine.
                let is_open = from.is_unspecified() || from.is_multicast();
                let from = SocketAddr::new(if is_open { machine_ip(transmit.to.ip()) } else { from }, bound.port());
                let payload = send_queue.payload(&transmit);
                world.list_call("transmit", self.socket, 1);
                world.count_call("transmit", self.socket, i64::try_from(payload.len()).unwrap_or(0));
                world.transmit_datagram(self.socket, from, transmit.to, payload);
                Ok(())
            });
            notes.note_single(&sent);
            notes.note_datagram(&transmit, sent.as_ref().err(), send_queue);
            outcome(&transmit, sent);
        }
    }

    /// An injected error ends its client, unless it is only an interruption.
    fn mark_hit_by_fault(&self, error: &io::Error) {
        if error.kind() != io::ErrorKind::Interrupted {
            self.world().stream(self.socket).client.hit_by_fault = true;
        }
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        let mut world = self.world();
        let is_reset =
            matches!(&world.sockets[self.socket].kind, SimSocketKind::Stream(stream) if stream.resets_on_close);
        world.list_call(if is_reset { "reset" } else { "close" }, self.socket, 0);
        world.close(self.socket);
    }
}

impl World {
    /// Opens a descriptor of a socket for the loop.
    pub(crate) fn open(&mut self, socket: usize) {
        self.sockets[socket].fd = FdState::Open;
        self.descriptors += 1;
    }

    /// Closes a stream after its last `Connect` was dropped, if no loop has taken it.
    pub(crate) fn close_if_dropped(&mut self, socket: usize) {
        if self.sockets[socket].fd == FdState::HandedOver && self.stream(socket).owner.strong_count() == 0 {
            self.open(socket);
            self.close(socket);
        }
    }
}
