//! A network in memory: hosts, streams and datagrams between a loop and its simulated peers.
//!
//! It keeps to what a kernel does: bytes of a stream arrive in order and in segments; a read is short only when the
//! queue is empty or at an urgent mark; an edge is told once, merged with others, and lost if nobody acts on it; unread
//! input at close makes a reset, and a reset destroys what is still under way. All else is the seed's to decide.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::ids::Token;
use crate::net::Event;
use crate::net::simulated::faults::{Fault, Faults, Random};
use crate::net::simulated::sim_socket::{Answer, ClientSide, End, Hold, Inbound, Kind, Reset, Segment, Stream, Usage};

/// Everything outside the loop.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) clock: Duration,
    /// When something last happened, other than a poll or a failed call.
    last_news: Duration,
    /// Descriptors the process may have.
    pub(crate) descriptors_max: usize,
    pub(crate) descriptors: usize,
    pub(crate) ends: Vec<End>,
    /// Those to which something can happen still.
    pub(crate) alive: Vec<usize>,
    /// Tokens of closed sockets that the poll still knows: another process holds a copy of the descriptor.
    pub(crate) ghosts: Vec<Token>,
    /// What simulated UDP peers have received, by their address.
    pub(crate) mail: BTreeMap<SocketAddr, VecDeque<(SocketAddr, Vec<u8>)>>,
    /// Where somebody listens for the loop's own connections, and those that have come and were not looked at yet.
    pub(crate) servers: BTreeMap<SocketAddr, VecDeque<usize>>,
    /// Where nobody answers at all.
    pub(crate) silent: BTreeSet<SocketAddr>,
    pub(crate) next_port: u16,
    /// The calls of the loop so far, mixed into a number: the same for the same run.
    pub(crate) fingerprint: u64,
    pub(crate) trace: Option<Vec<String>>,
    /// Failed accepts and failed receives, from the beginning.
    pub(crate) failures: [u64; 2],
    /// Streams whose end could not be told.
    pub(crate) unended: BTreeSet<usize>,
    /// What the loop has asked of each socket since somebody cleared this.
    pub(crate) usage: BTreeMap<usize, Usage>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            faults: Faults::default(),
            clock: Duration::ZERO,
            last_news: Duration::ZERO,
            descriptors_max: 20_000,
            descriptors: 0,
            ends: Vec::new(),
            alive: Vec::new(),
            ghosts: Vec::new(),
            mail: BTreeMap::new(),
            servers: BTreeMap::new(),
            silent: BTreeSet::new(),
            next_port: 40_000,
            fingerprint: 0,
            trace: None,
            failures: [0; 2],
            unended: BTreeSet::new(),
            usage: BTreeMap::new(),
        }
    }

    /// Notes a call and its outcome.
    pub(crate) fn note(&mut self, call: &'static str, end: usize, outcome: i64) {
        for word in [call.len() as u64, end as u64, outcome.cast_unsigned()] {
            self.fingerprint = (self.fingerprint ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(17);
        }
        if call != "poll" && outcome >= 0 {
            self.touch();
        }
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3?} {call} {end} -> {outcome}", self.clock));
        }
    }

    /// Counts a call that brought something, or failed.
    pub(crate) fn count(&mut self, end: usize, outcome: Result<usize, ()>) {
        let usage = self.usage.entry(end).or_default();
        match (outcome, &self.ends[end].kind) {
            (Ok(_), Kind::Listener { .. }) => usage.accepts += 1,
            (Ok(_), Kind::Socket(_)) => usage.datagrams += 1,
            (Ok(count), Kind::Stream(_)) => usage.bytes_read += count,
            (Err(()), _) => {
                self.failures[usize::from(matches!(self.ends[end].kind, Kind::Socket(_)))] += 1;
                usage.failures_in_a_row += 1;
                usage.most_failures_in_a_row = usage.most_failures_in_a_row.max(usage.failures_in_a_row);
                return;
            }
        }
        usage.failures_in_a_row = 0;
    }

    /// Notes that something happens now.
    pub(crate) fn touch(&mut self) {
        self.last_news = self.clock;
    }

    /// For how long nothing has.
    pub(crate) fn quiet_for(&self) -> Duration {
        self.clock.saturating_sub(self.last_news)
    }

    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    pub(crate) fn add(&mut self, local: SocketAddr, hold: Hold, kind: Kind) -> usize {
        self.descriptors += usize::from(hold == Hold::Held);
        self.alive.push(self.ends.len());
        self.ends.push(End { token: None, edge: false, hold, local, kind });
        self.ends.len() - 1
    }

    pub(crate) fn stream(&mut self, end: usize) -> &mut Stream {
        match &mut self.ends[end].kind {
            Kind::Stream(stream) => stream,
            _ => panic!("end {end} is no stream"),
        }
    }

    pub(crate) fn inbound(&mut self, end: usize) -> &mut Inbound {
        match &mut self.ends[end].kind {
            Kind::Socket(inbound) => inbound,
            _ => panic!("end {end} is no UDP socket"),
        }
    }

    /// A client's connection comes in; `None` if nobody listens there.
    pub(crate) fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> Option<usize> {
        let listener = self.ends.iter().position(|end| {
            end.hold == Hold::Held && matches!(end.kind, Kind::Listener { .. }) && is_served(end.local, to)
        })?;
        let end = self.add_stream(to, from, Hold::Waiting, Answer::Yes);
        if let Kind::Listener { backlog } = &mut self.ends[listener].kind {
            backlog.push_back(end);
        }
        self.ends[listener].edge = true;
        Some(end)
    }

    /// A client sends, perhaps after everything was over.
    pub(crate) fn send(&mut self, end: usize, segment: Segment) {
        self.stream(end).under_way.push_back(segment);
        if !self.alive.contains(&end) {
            self.alive.push(end);
        }
    }

    /// A stream between a socket of ours and its peer.
    pub(crate) fn add_stream(&mut self, local: SocketAddr, peer: SocketAddr, hold: Hold, answer: Answer) -> usize {
        // Less than a greeting at the least, and enough to bring a long echo home.
        let room = 10 + self.random.length(200_000);
        let stream = Stream {
            peer,
            answer,
            under_way: VecDeque::new(),
            queue: VecDeque::new(),
            urgent_after: None,
            ended: false,
            reset: Reset::No,
            unsent: VecDeque::new(),
            room,
            blocked: false,
            shut: false,
            client: ClientSide { window: usize::MAX, ..ClientSide::default() },
        };
        self.touch();
        self.add(local, hold, Kind::Stream(Box::new(stream)))
    }

    /// Whether the answer to a connection of the loop's is still under way.
    pub(crate) fn is_awaited(&self, stream: &Stream) -> bool {
        stream.answer == Answer::Awaited && !self.silent.contains(&stream.peer)
    }

    /// The peer of a connection of the loop's answers.
    fn answer(&mut self, end: usize) {
        let peer = self.stream(end).peer;
        let World { faults, random, .. } = &mut *self;
        let refusal = faults.meet(Fault::Connect, random).and_then(|error| error.raw_os_error());
        let answer = match (refusal, self.servers.get_mut(&peer)) {
            (Some(errno), _) => Answer::No(errno),
            (None, Some(arrived)) => {
                arrived.push_back(end);
                Answer::Yes
            }
            (None, None) => Answer::No(nix::errno::Errno::ECONNREFUSED as i32),
        };
        self.stream(end).answer = answer;
        self.ends[end].edge = true;
        self.touch();
    }

    /// Whether an address is the loop's machine's: a socket of its own is bound there.
    pub(crate) fn has_address(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.ends.iter().any(|end| end.hold == Hold::Held && end.local.ip() == ip)
    }

    /// A datagram comes in, if somebody is bound there.
    pub(crate) fn deliver(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) -> bool {
        self.touch();
        for end in self.ends.iter_mut().filter(|end| end.hold == Hold::Held && is_served(end.local, to)) {
            if let Kind::Socket(inbound) = &mut end.kind {
                inbound.queue.push_back((from, to.ip(), payload));
                end.edge = true;
                return true;
            }
        }
        false
    }

    /// Time passes while the loop works, too: a little, none, or far too much.
    pub(crate) fn tick(&mut self) {
        if self.faults.strikes(Fault::Clock, &mut self.random) {
            self.clock += Duration::from_millis(self.random.below(20_000));
        } else if !self.random.one_in(3) {
            self.clock += Duration::from_micros(self.random.below(3_000));
        }
    }

    /// Time for the network: some of what is under way gets a little further.
    pub(crate) fn flow(&mut self) {
        let mut alive = std::mem::take(&mut self.alive);
        alive.retain(|&end| !self.ends[end].is_over());
        for &end in &alive {
            if !matches!(self.ends[end].kind, Kind::Stream(_)) {
                continue;
            }
            let awaited = matches!(&self.ends[end].kind, Kind::Stream(stream) if self.is_awaited(stream));
            if awaited && self.ends[end].hold == Hold::Held && self.random.one_in(2) {
                self.answer(end);
            }
            while !self.stream(end).under_way.is_empty() && !self.random.one_in(3) {
                self.arrive(end);
            }
            self.carry(end);
        }
        self.alive = alive;
    }

    /// One segment from the client arrives.
    fn arrive(&mut self, end: usize) {
        let purges = self.random.one_in(2);
        self.touch();
        let is_closed = self.ends[end].hold == Hold::Closed;
        let stream = self.stream(end);
        let Some(segment) = stream.under_way.pop_front() else { return };
        if is_closed {
            // Nobody is there any more: the kernel answers with a reset.
            if matches!(segment, Segment::Bytes(_) | Segment::Urgent) {
                stream.cut();
            }
            return;
        }
        match segment {
            Segment::Bytes(bytes) => stream.queue.extend(bytes),
            Segment::Urgent => stream.urgent_after = Some(stream.queue.len()),
            Segment::Fin => stream.ended = true,
            Segment::Reset => {
                stream.reset = Reset::Arrived;
                stream.unsent.clear();
                if purges {
                    stream.queue.clear();
                    stream.urgent_after = None;
                }
            }
        }
        self.ends[end].edge = true;
    }

    /// Some of what the loop has sent reaches the client.
    fn carry(&mut self, end: usize) {
        let is_closed = self.ends[end].hold == Hold::Closed;
        let stalls = self.random.one_in(3);
        let most = self.random.length(100_000);
        let stream = self.stream(end);
        if stalls || stream.client.saw_reset {
            return;
        }
        let unread = stream.client.received.len() - stream.client.taken;
        let count = most.min(stream.unsent.len()).min(stream.client.window.saturating_sub(unread));
        stream.client.received.extend(stream.unsent.drain(..count));
        let is_news = count > 0;
        if stream.unsent.is_empty() && (stream.shut || is_closed) && stream.reset == Reset::No {
            stream.client.saw_end = true;
        }
        if stream.blocked && stream.unsent.len() <= stream.room * 2 / 3 {
            stream.blocked = false;
            self.ends[end].edge = true;
        }
        if is_news {
            self.touch();
        }
    }

    /// The loop closes a descriptor.
    pub(crate) fn close(&mut self, end: usize) {
        self.ends[end].hold = Hold::Closed;
        self.ghosts.extend(self.ends[end].token.take());
        self.descriptors -= 1;
        match &mut self.ends[end].kind {
            Kind::Stream(stream) if !stream.queue.is_empty() || stream.urgent_after.is_some() => stream.cut(),
            Kind::Stream(stream) => stream.shut = true,
            Kind::Listener { backlog } => {
                for client in std::mem::take(backlog) {
                    self.ends[client].hold = Hold::Closed;
                    self.stream(client).cut();
                }
            }
            Kind::Socket(_) => {}
        }
    }

    /// What the poll would tell about a source now.
    pub(crate) fn readiness(&self, end: usize, token: Token) -> Event {
        let quiet = Event { token, readable: false, writable: false, deep: false, broken: false, over: false };
        match &self.ends[end].kind {
            Kind::Listener { backlog } => Event { readable: !backlog.is_empty(), ..quiet },
            Kind::Socket(Inbound { queue, pending }) => {
                Event { readable: !queue.is_empty(), broken: pending.is_some(), ..quiet }
            }
            Kind::Stream(stream) if stream.answer == Answer::Awaited => quiet,
            Kind::Stream(stream) => {
                let is_refused = matches!(stream.answer, Answer::No(_));
                let is_reset = stream.reset != Reset::No || is_refused;
                Event {
                    token,
                    readable: !stream.queue.is_empty() || stream.ended || is_reset,
                    writable: is_reset || stream.unsent.len() <= stream.room * 2 / 3,
                    deep: stream.ended || is_reset || stream.urgent_after.is_some(),
                    broken: is_reset,
                    over: is_reset || (stream.ended && stream.shut),
                }
            }
        }
    }

    /// Tells the edges there are, at most as many as fit; some late, some for nothing, in any order.
    pub(crate) fn tell(&mut self, events: &mut Vec<Event>, most: usize) -> bool {
        let count = self.alive.len();
        let first = usize::try_from(self.random.below(count as u64)).unwrap_or(0);
        let before = events.len();
        for index in (first..count).chain(0..first) {
            let end = self.alive[index];
            let Some(token) = self.ends[end].token else { continue };
            let World { faults, random, ends, .. } = self;
            let spurious = faults.strikes(Fault::SpuriousReadiness, random);
            if !(ends[end].edge || spurious) || faults.strikes(Fault::LateReadiness, random) {
                continue;
            }
            if events.len() - before == most {
                return true;
            }
            let mut event = self.readiness(end, token);
            if spurious {
                event.readable |= self.random.one_in(2);
                event.writable |= self.random.one_in(2);
            }
            self.ends[end].edge = false;
            if event.readable || event.writable || event.deep || event.broken || event.over {
                self.say(|| format!("          edge {end} {event:?}"));
                events.push(event);
            }
        }
        false
    }

    /// Tells of a socket that is closed: as broken, and as ready for everything.
    pub(crate) fn tell_ghost(&mut self, events: &mut Vec<Event>) {
        let World { faults, random, ghosts, .. } = self;
        if !ghosts.is_empty() && faults.strikes(Fault::SpuriousReadiness, random) {
            let token = ghosts[usize::try_from(random.below(ghosts.len() as u64)).unwrap_or(0)];
            events.push(Event { token, readable: true, writable: true, deep: true, broken: true, over: true });
        }
    }
}

/// Whether a socket bound to one address is reached at another.
fn is_served(bound: SocketAddr, asked: SocketAddr) -> bool {
    bound.port() == asked.port() && (bound.ip() == asked.ip() || bound.ip().is_unspecified())
}
