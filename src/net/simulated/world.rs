//! The simulated world: sockets, clients, clock, bytes in flight.
//!
//! It behaves like a kernel. Bytes arrive in order. A read is short only at the end of the queue or at an urgent mark.
//! An edge is reported once. Unread input at a close causes an RST, and an RST discards bytes in flight.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;

use crate::ids::{Token, to_slot};
use crate::net::Event;
use crate::net::simulated::datagrams::machine_ip;
use crate::net::simulated::faults::{Fault, Faults, Random};
use crate::net::simulated::sim_socket::{
    CallCounts, ClientSide, ConnectAnswer, FdState, RecvQueue, Reset, Segment, SimSocket, SimSocketKind, SimStream,
    descriptor,
};
use crate::observe::entry::{Entry, EntryKind, Object};
use crate::observe::journal::Detail;
use crate::observe::sim_recording::SimRecording;

/// A call of the loop, the number of its socket, and its outcome: a negative error number, as in the kernel.
pub(crate) type Call = (&'static str, usize, i64);

/// The world outside the loop.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) clock: Duration,
    /// The time of the last activity: anything but a poll, or a failed call without work.
    last_activity: Duration,
    /// The descriptor limit of the process.
    pub(crate) descriptors_max: usize,
    pub(crate) descriptors: usize,
    pub(crate) sockets: Vec<SimSocket>,
    /// Sockets to which something can still happen.
    pub(crate) active: Vec<usize>,
    /// Tokens of closed sockets that are still registered, because another process has a duplicate of the descriptor.
    pub(crate) stale_tokens: Vec<Token>,
    /// The number of datagrams that reached simulated peers beyond those that the loop sent, because of duplication.
    pub(crate) surplus_transmits: i64,
    /// Datagrams received by simulated UDP peers, by their address.
    pub(crate) received_datagrams: BTreeMap<SocketAddr, VecDeque<(SocketAddr, Vec<u8>)>>,
    /// Servers for outbound connections of the loop, with the connections that they have not accepted.
    pub(crate) remote_listeners: BTreeMap<SocketAddr, VecDeque<usize>>,
    /// Addresses that never answer.
    pub(crate) blackholes: BTreeSet<SocketAddr>,
    pub(crate) next_port: u16,
    /// A hash of the loop's calls so far, the same for the same run.
    pub(crate) fingerprint: u64,
    /// Loops so far.
    pub(crate) loops: u32,
    /// When the loop was created: time zero of its entries.
    pub(crate) loop_started: Duration,
    /// What the loop and the peers have noted.
    pub(crate) recording: Rc<RefCell<SimRecording>>,
    /// Failed accepts of a client, failed receives, and failed accepts without a client since the start.
    pub(crate) failures: [u64; 3],
    /// Streams whose FIN could not be sent.
    pub(crate) failed_shutdowns: BTreeSet<usize>,
    /// The calls of the loop, in tests of the library.
    pub(crate) calls: Vec<Call>,
    /// The calls of the loop on each socket since the last clear.
    pub(crate) call_counts: BTreeMap<usize, CallCounts>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), descriptors_max: 20_000, next_port: 40_000, ..Self::default() }
    }

    /// Begins a call after a short time, in which bytes may arrive. An injected fault is its error.
    pub(crate) fn begin_call(&mut self, call: &'static str, fault: Fault, socket: usize) -> io::Result<()> {
        self.advance_a_little();
        self.maybe_pause();
        let Some(error) = self.faults.next_error(fault, &mut self.random) else {
            return Ok(());
        };
        self.record_call(call, socket, errno_outcome(&error));
        // The loop repeats the call, so it is activity. Calls without work, after spurious readiness, are not, because
        // they could continue for ever.
        if self.has_cause(fault, socket) {
            self.record_activity();
        }
        if matches!(fault, Fault::Accept | Fault::ReceiveDatagram) {
            self.count(socket, Err(()));
        }
        Err(error)
    }

    /// Whether a call of this kind has work.
    fn has_cause(&self, fault: Fault, socket: usize) -> bool {
        match fault {
            Fault::Poll => false,
            Fault::Accept | Fault::Receive | Fault::ReceiveDatagram => {
                let is_ready = |event: Event| event.readable || event.error;
                self.sockets[socket].token.is_none_or(|token| is_ready(self.readiness(socket, token)))
            }
            _ => true,
        }
    }

    /// Stops the process for a while if the fault occurs: clients and network continue.
    pub(crate) fn maybe_pause(&mut self) {
        if self.faults.occurs(Fault::Pause, &mut self.random) {
            let time = Duration::from_millis(self.random.length(20_000) as u64);
            self.let_pass(time);
        }
    }

    /// Advances the clock and the network.
    pub(crate) fn let_pass(&mut self, time: Duration) {
        // Nothing is in flight after this many steps.
        let step = (time / 32).max(Duration::from_secs(1));
        let (began, until) = (self.clock, self.clock + time);
        while self.clock < until {
            self.clock = (self.clock + step).min(until);
            self.advance_network();
        }
        for socket in self.sockets.iter_mut().filter(|socket| socket.has_edge) {
            socket.late_since.get_or_insert(began);
        }
    }

    pub(crate) fn advance_a_little(&mut self) {
        if self.random.one_in(4) {
            self.advance_network();
        }
    }

    /// Lists a call and its outcome, and counts it in the fingerprint.
    pub(crate) fn record_call(&mut self, call: &'static str, socket: usize, outcome: i64) {
        self.list_call(call, socket, outcome);
        self.count_call(call, socket, outcome);
    }

    /// Lists a call for the checks of the workload.
    pub(crate) fn list_call(&mut self, call: &'static str, socket: usize, outcome: i64) {
        if cfg!(test) {
            self.calls.push((call, socket, outcome));
        }
    }

    /// Counts a call in the fingerprint.
    pub(crate) fn count_call(&mut self, call: &'static str, socket: usize, outcome: i64) {
        for word in [call.len() as u64, socket as u64, outcome.cast_unsigned()] {
            self.fingerprint = (self.fingerprint ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
        }
        if call != "poll" && outcome >= 0 {
            self.record_activity();
        }
    }

    /// Records a call that fails without a fault, and returns its error.
    pub(crate) fn fail_call<T>(&mut self, call: &'static str, socket: usize, errno: Errno) -> io::Result<T> {
        self.record_call(call, socket, -i64::from(errno as i32));
        Err(errno.into())
    }

    /// Notes what a peer did or saw. Its slot is the descriptor at the loop's end of a stream.
    pub(crate) fn note_peer(&self, kind: EntryKind, slot: usize, bytes: usize, address: Option<SocketAddr>) {
        let entry = Entry::new(kind, Object::Peer, to_slot(slot), 0).numbers([bytes as u64, 0]);
        let mut recording = self.recording.borrow_mut();
        recording.push(entry.at(self.clock.saturating_sub(self.loop_started)));
        if let Some(address) = address {
            recording.add_detail(Detail::Address(address));
        }
    }

    /// Counts a successful or failed call.
    pub(crate) fn count(&mut self, socket: usize, outcome: Result<usize, ()>) {
        let counts = self.call_counts.entry(socket).or_default();
        match (outcome, &self.sockets[socket].kind) {
            (Ok(_), SimSocketKind::Listener { .. }) => counts.accepts += 1,
            (Ok(_), SimSocketKind::Udp(_)) => counts.datagrams += 1,
            (Ok(count), SimSocketKind::Stream(_)) => counts.bytes_read += count,
            (Ok(_), SimSocketKind::Watched { .. }) => {}
            (Err(()), kind) => {
                self.failures[kind.failure_index()] += 1;
                counts.failures_in_a_row += 1;
                counts.most_failures_in_a_row = counts.most_failures_in_a_row.max(counts.failures_in_a_row);
                return;
            }
        }
        counts.failures_in_a_row = 0;
    }

    /// Records activity.
    pub(crate) fn record_activity(&mut self) {
        self.last_activity = self.clock;
    }

    /// The time since the last activity.
    pub(crate) fn idle_for(&self) -> Duration {
        self.clock.saturating_sub(self.last_activity)
    }

    pub(crate) fn add_socket(&mut self, local: SocketAddr, fd: FdState, kind: SimSocketKind) -> usize {
        let socket = SimSocket { token: None, has_edge: false, late_since: None, fd, local, kind };
        self.descriptors += usize::from(fd == FdState::Open && socket.is_loops());
        self.active.push(self.sockets.len());
        self.sockets.push(socket);
        self.sockets.len() - 1
    }

    pub(crate) fn stream(&mut self, socket: usize) -> &mut SimStream {
        match &mut self.sockets[socket].kind {
            SimSocketKind::Stream(stream) => stream,
            _ => panic!("socket {socket} is no stream"),
        }
    }

    pub(crate) fn recv_queue(&mut self, socket: usize) -> &mut RecvQueue {
        match &mut self.sockets[socket].kind {
            SimSocketKind::Udp(recv_queue) => recv_queue,
            _ => panic!("socket {socket} is no UDP socket"),
        }
    }

    /// Adds a client's connection; `None` if no listener is there.
    pub(crate) fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> Option<usize> {
        let listener = self.sockets.iter().position(|socket| {
            socket.fd == FdState::Open
                && matches!(socket.kind, SimSocketKind::Listener { .. })
                && is_bound_at(socket.local, to)
        })?;
        let socket = self.add_stream(to, from, FdState::InBacklog, ConnectAnswer::Connected);
        if let SimSocketKind::Listener { backlog } = &mut self.sockets[listener].kind {
            backlog.push_back(socket);
        }
        self.sockets[listener].has_edge = true;
        self.note_peer(EntryKind::PeerConnect, descriptor(socket), 0, Some(from));
        Some(socket)
    }

    /// Sends a client's segment, perhaps after the connection has ended.
    pub(crate) fn send(&mut self, socket: usize, segment: Segment) {
        let (kind, bytes) = match &segment {
            Segment::Bytes(bytes) => (EntryKind::PeerSend, bytes.len()),
            Segment::Urgent => (EntryKind::PeerUrgent, 0),
            Segment::Fin => (EntryKind::PeerFin, 0),
            Segment::Reset => (EntryKind::PeerReset, 0),
        };
        self.note_peer(kind, descriptor(socket), bytes, None);
        self.stream(socket).in_flight.push_back(segment);
        if !self.active.contains(&socket) {
            self.active.push(socket);
        }
    }

    /// Adds a stream between a socket of the loop and its peer.
    pub(crate) fn add_stream(
        &mut self,
        local: SocketAddr,
        peer: SocketAddr,
        fd: FdState,
        connect_answer: ConnectAnswer,
    ) -> usize {
        // Sometimes less than a greeting, but enough that a long echo completes.
        let send_buffer_bytes = 10 + self.random.length(200_000);
        let stream = SimStream {
            peer,
            owner: std::sync::Weak::new(),
            connect_answer,
            in_flight: VecDeque::new(),
            recv_buffer: VecDeque::new(),
            arrivals: VecDeque::new(),
            urgent_after: None,
            fin_received: false,
            input_stopped: false,
            bytes_arrived: 0,
            bytes_before_fin: None,
            fin_requested: false,
            writable_when_sent: false,
            reset: Reset::No,
            send_buffer: VecDeque::new(),
            send_buffer_bytes_max: send_buffer_bytes,
            blocked: false,
            write_shut_down: false,
            resets_on_close: false,
            client: ClientSide { window: usize::MAX, ..ClientSide::default() },
        };
        self.record_activity();
        self.add_socket(local, fd, SimSocketKind::Stream(Box::new(stream)))
    }

    /// Whether the result of an outbound connect is still pending.
    pub(crate) fn is_answer_pending(&self, stream: &SimStream) -> bool {
        stream.connect_answer == ConnectAnswer::Pending && !self.blackholes.contains(&stream.peer)
    }

    /// Delivers the result of an outbound connect.
    fn answer_connect(&mut self, socket: usize) {
        let (peer, local) = (self.stream(socket).peer, self.sockets[socket].local);
        let World { faults, random, .. } = &mut *self;
        let refusal = faults.next_error(Fault::Connect, random).and_then(|error| error.raw_os_error());
        let answer = match (refusal, self.remote_listeners.get_mut(&peer)) {
            (Some(errno), _) => ConnectAnswer::Failed(errno),
            // A self-connect: its own SYN came back (RFC 9293, 3.5).
            (None, None) if peer == local => ConnectAnswer::Connected,
            (None, Some(backlog)) => {
                backlog.push_back(socket);
                ConnectAnswer::Connected
            }
            (None, None) => ConnectAnswer::Failed(Errno::ECONNREFUSED as i32),
        };
        self.stream(socket).connect_answer = answer;
        self.sockets[socket].has_edge = true;
        self.record_activity();
    }

    /// Whether an address belongs to the loop's machine: one of its sockets is bound to it.
    pub(crate) fn is_local_ip(&self, ip: IpAddr) -> bool {
        ip.is_loopback()
            || ip == machine_ip(ip)
            || self.sockets.iter().any(|socket| socket.fd == FdState::Open && socket.local.ip() == ip)
    }

    /// Advances the clock during the loop's work: a little, not at all, or far too much.
    pub(crate) fn advance_clock(&mut self) {
        if self.faults.occurs(Fault::Clock, &mut self.random) {
            let jump = Duration::from_millis(self.random.below(20_000));
            self.let_pass(jump);
        } else if !self.random.one_in(3) {
            self.clock += Duration::from_micros(self.random.below(3_000));
        }
    }

    /// Advances the network: some bytes in flight move on.
    pub(crate) fn advance_network(&mut self) {
        let mut active = std::mem::take(&mut self.active);
        active.retain(|&socket| !self.sockets[socket].is_finished());
        for &socket in &active {
            let SimSocketKind::Stream(stream) = &self.sockets[socket].kind else { continue };
            if self.is_answer_pending(stream) && self.sockets[socket].fd == FdState::Open && self.random.one_in(2) {
                self.answer_connect(socket);
            }
            self.close_if_dropped(socket);
            while self.stream(socket).has_segment_to_deliver() && !self.random.one_in(3) {
                self.deliver_segment(socket);
            }
            self.carry_to_client(socket);
        }
        self.active = active;
    }

    /// Delivers one segment from the client.
    fn deliver_segment(&mut self, socket: usize) {
        let purges = self.random.one_in(2);
        self.record_activity();
        let (is_closed, now) = (self.sockets[socket].fd == FdState::Closed, self.clock);
        let stream = self.stream(socket);
        let Some(segment) = stream.in_flight.pop_front() else { return };
        if is_closed {
            // The socket is closed: the kernel answers with an RST.
            if matches!(segment, Segment::Bytes(_) | Segment::Urgent) {
                self.reset_client(socket);
            }
            return;
        }
        match segment {
            Segment::Bytes(bytes) => stream.push_received(bytes, now),
            Segment::Urgent => stream.urgent_after = Some(stream.recv_buffer.len()),
            Segment::Fin => stream.fin_received = true,
            Segment::Reset => {
                stream.reset = Reset::Arrived;
                stream.send_buffer.clear();
                if purges {
                    stream.recv_buffer.clear();
                    stream.arrivals.clear();
                    stream.urgent_after = None;
                }
            }
        }
        self.sockets[socket].has_edge = true;
    }

    /// Delivers some of the loop's output to the client.
    fn carry_to_client(&mut self, socket: usize) {
        let is_closed = self.sockets[socket].fd == FdState::Closed;
        let stalls = self.random.one_in(3);
        let max = self.random.length(100_000);
        let stream = self.stream(socket);
        if stalls || stream.client.saw_reset {
            return;
        }
        let unread = stream.client.received.len() - stream.client.read;
        let count = max.min(stream.send_buffer.len()).min(stream.client.window.saturating_sub(unread));
        stream.carry_to_client(count);
        let is_over = stream.send_buffer.is_empty() && (stream.write_shut_down || is_closed);
        let sees_eof = is_over && stream.reset == Reset::No && !std::mem::replace(&mut stream.client.saw_eof, true);
        if stream.blocked && stream.is_writable() {
            stream.blocked = false;
            self.sockets[socket].has_edge = true;
        }
        if count > 0 {
            self.note_peer(EntryKind::PeerReceive, descriptor(socket), count, None);
            self.record_activity();
        }
        if sees_eof {
            self.note_peer(EntryKind::PeerEof, descriptor(socket), 0, None);
        }
    }

    /// Resets the connection at its peer; bytes in flight are lost.
    fn reset_client(&mut self, socket: usize) {
        let stream = self.stream(socket);
        stream.send_buffer.clear();
        if !std::mem::replace(&mut stream.client.saw_reset, true) {
            self.note_peer(EntryKind::PeerWasReset, descriptor(socket), 0, None);
        }
    }

    /// The arrival time of the first byte that the loop has not read from a client.
    #[cfg(test)]
    pub(crate) fn unread_since(&self, client: SocketAddr) -> Option<Duration> {
        self.sockets.iter().find_map(|socket| match &socket.kind {
            SimSocketKind::Stream(stream) if stream.peer == client => stream.arrivals.front().map(|(at, _)| *at),
            _ => None,
        })
    }

    /// Closes a descriptor of the loop.
    pub(crate) fn close(&mut self, socket: usize) {
        if let SimSocketKind::Stream(stream) = &self.sockets[socket].kind {
            let is_reset = stream.resets_on_close;
            self.advance_a_little();
            self.count_call(if is_reset { "reset" } else { "close" }, socket, 0);
            if is_reset {
                self.reset_client(socket);
            }
        }
        self.sockets[socket].fd = FdState::Closed;
        self.stale_tokens.extend(self.sockets[socket].token.take());
        self.descriptors -= usize::from(self.sockets[socket].is_loops());
        match &mut self.sockets[socket].kind {
            SimSocketKind::Stream(stream) if !stream.recv_buffer.is_empty() || stream.urgent_after.is_some() => {
                self.reset_client(socket);
            }
            SimSocketKind::Stream(stream) => stream.write_shut_down = true,
            SimSocketKind::Listener { backlog } => {
                for client in std::mem::take(backlog) {
                    self.sockets[client].fd = FdState::Closed;
                    self.reset_client(client);
                }
            }
            _ => {}
        }
    }
}

/// The outcome of a failed call: a negative error number, as in the kernel.
pub(crate) fn errno_outcome(error: &io::Error) -> i64 {
    -i64::from(error.raw_os_error().unwrap_or(0))
}

/// Whether a socket bound to one address receives what is sent to another.
pub(crate) fn is_bound_at(bound: SocketAddr, dst_ip: SocketAddr) -> bool {
    bound.port() == dst_ip.port() && (bound.ip() == dst_ip.ip() || bound.ip().is_unspecified())
}
