//! Carries out the faults of datagrams, on the replies of a mode.
//!
//! Replies that wait are bounded in number and in bytes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use halloo::{Context, Datagram, DatagramHandler, HandlerId, ReplyAddr, TimerId, UdpSocketId};

use crate::cli::fault_rule::Fault;
use crate::faults::fault_source::{DrawnFault, FaultSource};
use crate::greeting::datagram_handler::DatagramOutput;
use crate::text::bound_address::Addresses;
use crate::text::protocol::Protocol;

/// How long a reply waits for the next one, which overtakes it.
pub(crate) const REORDER_TIMEOUT: Duration = Duration::from_millis(50);

/// The most replies of a socket that wait. At 100 ms of delay this is enough for 160,000 replies a second.
const WAITING_REPLIES_MAX: usize = 16 * 1024;

/// The most bytes of them.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// The most second copies that one client gets in a second: otherwise two servers that answer each other would double
/// their datagrams in each round.
const COPIES_PER_CLIENT_MAX: u32 = 1_000;

/// The most clients that get second copies in a second.
const CLIENTS_WITH_COPIES_MAX: usize = 4_096;

/// The handler of a UDP socket, whose clients meet faults.
pub(crate) struct FaultyDatagrams<H> {
    inner: H,
    replies: FaultyReplies,
}

/// The replies of a UDP socket, as its mode sends them.
#[derive(Clone)]
pub(crate) struct FaultyReplies(Rc<RefCell<Replies>>);

struct Replies {
    source: FaultSource,
    handler: Option<HandlerId>,
    /// By the value of the timer of each.
    waiting: HashMap<u64, WaitingReply>,
    waiting_bytes: usize,
    last_value: u64,
    /// Those that wait for the next reply, in their order.
    overtaken: Vec<u64>,
    copies: Copies,
    /// The socket, from the drain on: it is removed after the last reply.
    draining: Option<UdpSocketId>,
}

/// The second copies of this second, by client.
struct Copies {
    since: Instant,
    sent: HashMap<SocketAddr, u32>,
}

impl Copies {
    /// Counts a copy; false if the client has got enough of them.
    fn take(&mut self, now: Instant, client: SocketAddr) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.sent.clear();
        }
        if self.sent.len() >= CLIENTS_WITH_COPIES_MAX && !self.sent.contains_key(&client) {
            return false;
        }
        let sent = self.sent.entry(client).or_default();
        *sent += 1;
        *sent <= COPIES_PER_CLIENT_MAX
    }
}

struct WaitingReply {
    to: ReplyAddr,
    payload: Box<[u8]>,
    timer: TimerId,
}

impl<H> FaultyDatagrams<H> {
    pub(crate) const fn new(inner: H, replies: FaultyReplies) -> Self {
        Self { inner, replies }
    }
}

impl FaultyReplies {
    pub(crate) fn new(source: FaultSource) -> Self {
        Self(Rc::new(RefCell::new(Replies {
            source,
            handler: None,
            waiting: HashMap::new(),
            waiting_bytes: 0,
            last_value: 0,
            overtaken: Vec::new(),
            copies: Copies { since: Instant::now(), sent: HashMap::new() },
            draining: None,
        })))
    }
}

impl DatagramOutput for FaultyReplies {
    const IS_DIRECT: bool = false;

    fn reply(&self, datagram: &mut Datagram<'_>, payload: &[u8]) -> bool {
        self.0.borrow_mut().reply(datagram, payload)
    }

    fn cuts_to(&self, bytes: usize) -> bool {
        self.0.borrow_mut().source.has_rule_of(Fault::Truncate { bytes })
    }
}

impl Replies {
    fn reply(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) -> bool {
        let drawn = if self.draining.is_some() { None } else { self.source.draw() };
        let Some(drawn) = drawn else { return self.send(datagram, payload) };
        match drawn.fault {
            Fault::Drop => {
                self.note(datagram, &drawn, None);
                true
            }
            Fault::Delay { min, max } => {
                let delay = self.source.draw_time(min, max);
                self.hold(datagram, payload, delay).is_some_and(|_| self.note(datagram, &drawn, Some(delay)))
            }
            Fault::Reorder => match self.hold(datagram, payload, REORDER_TIMEOUT) {
                Some(value) => {
                    self.overtaken.push(value);
                    self.note(datagram, &drawn, None)
                }
                None => false,
            },
            Fault::Truncate { bytes } if payload.len() > bytes => {
                self.send(datagram, &payload[..bytes]) && self.note(datagram, &drawn, None)
            }
            Fault::Duplicate => {
                let is_sent = self.send(datagram, payload);
                let (now, client) = (datagram.context().now(), datagram.peer_addr());
                // The second one may be over a rate.
                if is_sent && self.copies.take(now, client) && datagram.reply(payload) {
                    self.note(datagram, &drawn, None);
                }
                is_sent
            }
            _ => self.send(datagram, payload),
        }
    }

    /// Sends a reply, and after it those that it overtakes.
    fn send(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) -> bool {
        let is_sent = datagram.reply(payload);
        if is_sent && !self.overtaken.is_empty() {
            self.send_overtaken(datagram.context());
        }
        is_sent
    }

    /// Always true, for the reply that is noted.
    fn note(&self, datagram: &mut Datagram<'_>, drawn: &DrawnFault, delay: Option<Duration>) -> bool {
        let (peer, local) = (Some(datagram.peer_addr()), Some(datagram.local_addr().into()));
        log::trace!("udp {}: fault: {}", datagram.peer_addr(), drawn.fault.kind().as_str());
        let now = datagram.context().now();
        self.source.note(now, drawn, delay, || Addresses { protocol: Protocol::Udp, peer, local });
        true
    }

    /// Keeps a reply for this time. Returns the value of its timer; `None` if too many wait.
    fn hold(&mut self, datagram: &mut Datagram<'_>, payload: &[u8], time: Duration) -> Option<u64> {
        let waiting_bytes = self.waiting_bytes + payload.len();
        if self.waiting.len() >= WAITING_REPLIES_MAX || waiting_bytes > WAITING_BYTES_MAX {
            log::debug!("{}: no reply is sent: too many replies wait", datagram.peer_addr());
            return None;
        }
        let value = self.last_value + 1;
        let (to, timer) = (datagram.reply_addr(), datagram.context().schedule(self.handler?, time, value));
        self.source.worker.counters.held_replies.add_one();
        self.waiting.insert(value, WaitingReply { to, payload: payload.into(), timer });
        (self.waiting_bytes, self.last_value) = (waiting_bytes, value);
        Some(value)
    }

    /// Sends one reply that waits.
    fn send_waiting(&mut self, context: &mut Context, value: u64) {
        let Some(WaitingReply { to, payload, timer }) = self.waiting.remove(&value) else { return };
        self.waiting_bytes -= payload.len();
        self.source.worker.counters.released_replies.add_one();
        context.remove(timer);
        context.reply(to, &payload);
    }

    /// Sends those that wait for the next reply, the last one first.
    fn send_overtaken(&mut self, context: &mut Context) {
        for value in std::mem::take(&mut self.overtaken).into_iter().rev() {
            self.send_waiting(context, value);
        }
    }

    fn on_timer(&mut self, context: &mut Context, value: u64) {
        if self.overtaken.contains(&value) {
            self.send_overtaken(context);
        } else {
            self.send_waiting(context, value);
        }
        self.end_drain(context);
    }

    /// Removes the socket after the last reply of a drain.
    fn end_drain(&mut self, context: &mut Context) {
        if let Some(socket) = self.draining.filter(|_| self.waiting.is_empty()) {
            context.remove(socket);
        }
    }
}

impl<H: DatagramHandler> DatagramHandler for FaultyDatagrams<H> {
    fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        self.replies.0.borrow_mut().handler = Some(id);
        self.inner.on_start(context, id);
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_>, payload: &[u8]) {
        self.inner.on_datagram(datagram, payload);
    }

    fn on_timer(&mut self, context: &mut Context, _: TimerId, value: u64) {
        self.replies.0.borrow_mut().on_timer(context, value);
    }

    /// The socket stays until the replies that wait are sent.
    fn on_drain(&mut self, context: &mut Context, socket: UdpSocketId) {
        let mut replies = self.replies.0.borrow_mut();
        replies.draining = Some(socket);
        replies.send_overtaken(context);
        replies.end_drain(context);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use super::{CLIENTS_WITH_COPIES_MAX, COPIES_PER_CLIENT_MAX, Copies};

    fn client(port: usize) -> SocketAddr {
        ([127, 0, 0, 1], u16::try_from(port).unwrap()).into()
    }

    #[test]
    fn a_client_gets_a_bounded_number_of_copies_each_second() {
        let start = Instant::now();
        let mut copies = Copies { since: start, sent: HashMap::new() };
        for second in 0..3 {
            let now = start + Duration::from_secs(second);
            let taken = (0..10 * COPIES_PER_CLIENT_MAX).filter(|_| copies.take(now, client(1))).count();
            assert_eq!(taken, COPIES_PER_CLIENT_MAX as usize);
            assert!(copies.take(now, client(2)));
        }
    }

    #[test]
    fn the_clients_with_copies_are_bounded() {
        let now = Instant::now();
        let mut copies = Copies { since: now, sent: HashMap::new() };
        let taken = (0..2 * CLIENTS_WITH_COPIES_MAX).filter(|port| copies.take(now, client(*port))).count();
        assert_eq!((taken, copies.sent.len()), (CLIENTS_WITH_COPIES_MAX, CLIENTS_WITH_COPIES_MAX));
    }
}
