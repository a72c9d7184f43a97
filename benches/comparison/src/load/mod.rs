//! The load generator: one thread that checks every answer byte by byte.
//!
//! A request follows each answer, so that the number in flight is constant until the end.

mod bulk;
mod datagrams;
mod fan_out;
mod lines;
mod once;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

use crate::byte_pattern::SLICE_BYTES;
use crate::workload::{LoadOptions, Mode};

/// A server without a response for this time has failed.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval between checks for lost datagrams.
const RETRANSMIT_CHECK_INTERVAL: Duration = Duration::from_millis(50);
const EVENTS_MAX: usize = 256;
/// More than one read of responses returns.
const READ_BYTES: usize = 4096;

/// When to stop sending requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StopCondition {
    /// After this time.
    Elapsed(Duration),
    /// After so many requests.
    Exchanges(u64),
}

/// The result of a load.
#[derive(Clone, Default, Debug)]
pub(crate) struct Outcome {
    pub(crate) exchanges: u64,
    pub(crate) elapsed: Duration,
    /// Datagrams sent again, because no response arrived.
    pub(crate) resent: u64,
    /// Connections that ended with a reset after the whole response.
    pub(crate) resets: u64,
    /// Nanoseconds of each exchange, in no order.
    pub(crate) latencies: Vec<u32>,
}

/// The state that the clients of a load share.
struct LoadState {
    poll: OwnedFd,
    requests: u64,
    stop_condition: StopCondition,
    /// True once the time is over.
    is_expired: bool,
    now: Instant,
    /// What a client of a bulk workload reads into.
    input: Vec<u8>,
    outcome: Outcome,
}

impl LoadState {
    /// Returns how many of these requests may still be sent, and counts them as sent.
    fn reserve_requests(&mut self, wanted: usize) -> usize {
        let granted = match self.stop_condition {
            _ if self.is_expired => 0,
            StopCondition::Elapsed(_) => wanted,
            StopCondition::Exchanges(total) => {
                usize::try_from(total - self.requests).map_or(wanted, |remaining| remaining.min(wanted))
            }
        };
        self.requests += granted as u64;
        granted
    }

    fn record_response(&mut self, sent_at: Instant) {
        self.outcome.exchanges += 1;
        let nanos = self.now.saturating_duration_since(sent_at).as_nanos();
        self.outcome.latencies.push(u32::try_from(nanos).unwrap_or(u32::MAX));
    }

    fn register(&self, socket: impl AsFd, client: usize) -> io::Result<()> {
        self.register_for(socket, client, EventFlags::IN | EventFlags::RDHUP | EventFlags::ET)
    }

    fn register_for(&self, socket: impl AsFd, client: usize, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.poll, socket, EventData::new_u64(client as u64), interest)?)
    }
}

/// One client of a load.
trait Client {
    /// Sends the first requests.
    fn start(&mut self, state: &mut LoadState) -> io::Result<()>;
    /// Reads the responses, and sends the next requests.
    fn on_ready(&mut self, state: &mut LoadState) -> io::Result<()>;
    /// Requests in flight.
    fn in_flight(&self) -> usize;
    /// Sends requests again whose response seems lost.
    fn retransmit_lost(&mut self, _state: &mut LoadState) -> io::Result<()> {
        Ok(())
    }
}

/// Clients with their connections open.
pub(crate) struct Load {
    clients: Vec<Box<dyn Client>>,
    state: LoadState,
}

impl Load {
    /// Opens the clients' sockets.
    pub(crate) fn open(address: SocketAddr, options: LoadOptions) -> io::Result<Self> {
        Self::open_each(|_| address, options)
    }

    /// The same, with the address for each client.
    pub(crate) fn open_each(address_of: impl Fn(usize) -> SocketAddr, options: LoadOptions) -> io::Result<Self> {
        let state = LoadState {
            poll: epoll::create(CreateFlags::CLOEXEC)?,
            requests: 0,
            stop_condition: StopCondition::Exchanges(0),
            is_expired: false,
            now: Instant::now(),
            input: vec![0; SLICE_BYTES],
            outcome: Outcome::default(),
        };
        let mut clients: Vec<Box<dyn Client>> = Vec::with_capacity(options.clients);
        let round = fan_out::Round::new(options.clients);
        for client in 0..options.clients {
            let address = address_of(client);
            clients.push(match options.mode {
                Mode::Once => Box::new(once::Once::new(address, client)),
                Mode::Lines => Box::new(lines::Lines::open(address, client, options.depth, &state)?),
                Mode::Udp | Mode::UdpGso => Box::new(datagrams::Datagrams::open(address, client, options, &state)?),
                Mode::Echo => Box::new(bulk::Echo::open(address, client, options.depth, &state)?),
                Mode::Proxy => Box::new(bulk::Upload::open(address, client, options.depth, &state)?),
                Mode::FanOut => Box::new(fan_out::FanOut::open(address, client, &round, &state)?),
            });
        }
        Ok(Self { clients, state })
    }

    /// Runs the load until the stop condition holds, and waits for the last response.
    pub(crate) fn run(&mut self, stop_condition: StopCondition) -> io::Result<Outcome> {
        let start = Instant::now();
        let Self { clients, state } = self;
        (state.requests, state.stop_condition, state.is_expired, state.now) = (0, stop_condition, false, start);
        state.outcome.latencies.reserve(1 << 20);
        for client in &mut *clients {
            client.start(state)?;
        }
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_MAX];
        let (mut last_response, mut last_retransmit_check) = (start, start);
        let timeout = Timespec { tv_sec: 0, tv_nsec: RETRANSMIT_CHECK_INTERVAL.subsec_nanos().into() };
        while clients.iter().any(|client| client.in_flight() > 0) {
            // The check of all clients is expensive, so it is made once in 64 waits.
            for _ in 0..64 {
                let count = epoll::wait(&state.poll, &mut events, Some(&timeout))?;
                state.now = Instant::now();
                if let StopCondition::Elapsed(time) = stop_condition {
                    state.is_expired |= state.now - start >= time;
                }
                for event in &events[..count] {
                    let client = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
                    clients[client].on_ready(state)?;
                }
                if count > 0 {
                    last_response = state.now;
                }
                if state.outcome.exchanges >= state.requests {
                    break;
                }
                if state.now - last_response > RESPONSE_TIMEOUT {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the server has stopped answering"));
                }
                if state.now - last_retransmit_check >= RETRANSMIT_CHECK_INTERVAL {
                    last_retransmit_check = state.now;
                    clients.iter_mut().try_for_each(|client| client.retransmit_lost(state))?;
                }
            }
        }
        state.outcome.elapsed = start.elapsed();
        Ok(std::mem::take(&mut state.outcome))
    }
}

/// The error for a wrong response.
fn unexpected_response(response: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a wrong answer: \"{}\"", response.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, UdpSocket};
    use std::thread;

    use super::*;

    /// Runs a load against a server of one connection.
    fn one_client(mode: Mode, serve: impl FnOnce(TcpListener) + Send + 'static) -> io::Result<Outcome> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = thread::spawn(move || serve(listener));
        let outcome = Load::open(address, LoadOptions { mode, clients: 1, depth: 2 })
            .and_then(|mut load| load.run(StopCondition::Exchanges(if mode == Mode::Once { 1 } else { 2 })));
        server.join().expect("the server thread");
        outcome
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        let outcome = one_client(Mode::Once, |listener| {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.read_exact(&mut [0; 18]).expect("a request");
            stream.write_all(b"Hello, TCP Cloant!").expect("the client is connected");
        });
        assert_eq!(outcome.unwrap_err().to_string(), "a wrong answer: \"Hello, TCP Cloant!\"");
    }

    #[test]
    fn a_response_in_pieces_counts_once() {
        let outcome = one_client(Mode::Lines, |listener| {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.set_nodelay(true).expect("a socket");
            stream.read_exact(&mut [0; 38]).expect("two lines");
            for piece in [&b"Hello, TCP"[..], b" Client!\nHello, ", b"TCP Client!\n"] {
                stream.write_all(piece).expect("the client is connected");
            }
            let _ = stream.read(&mut [0]);
        });
        assert_eq!(outcome.unwrap().exchanges, 2);
    }

    #[test]
    fn an_echo_with_a_wrong_byte_is_an_error() {
        let outcome = one_client(Mode::Echo, |listener| {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut bytes = [0; 1000];
            stream.read_exact(&mut bytes).expect("the first bytes");
            bytes[999] ^= 1;
            stream.write_all(&bytes).expect("the client is connected");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let error = outcome.unwrap_err().to_string();
        assert!(error.starts_with("a wrong answer"), "{error}");
    }

    #[test]
    fn a_delivery_of_a_byte_too_many_is_an_error() {
        let outcome = one_client(Mode::FanOut, |listener| {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.read_exact(&mut [0]).expect("a request");
            let delivery = &crate::byte_pattern::pattern_at(0)[..=crate::workload::DELIVERY_BYTES];
            stream.write_all(delivery).expect("the client is connected");
            let _ = stream.read(&mut [0]);
        });
        let error = outcome.unwrap_err().to_string();
        assert!(error.starts_with("a wrong answer"), "{error}");
    }

    #[test]
    fn a_lost_datagram_is_sent_again_and_counted() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = server.local_addr().expect("an address");
        let server_thread = thread::spawn(move || {
            let mut buffer = [0; 64];
            server.recv_from(&mut buffer).expect("the first, which is lost");
            let (_, peer) = server.recv_from(&mut buffer).expect("the same again");
            server.send_to(crate::workload::UDP_RESPONSE, peer).expect("a response is sent");
        });
        let mut load = Load::open(address, LoadOptions { mode: Mode::Udp, clients: 1, depth: 1 }).expect("a client");
        let outcome = load.run(StopCondition::Exchanges(1)).expect("an answer");
        assert_eq!((outcome.exchanges, outcome.resent), (1, 1));
        server_thread.join().expect("the server thread");
    }

    /// Runs a load of three requests, all of which a server answers with one call.
    fn joined_responses(segment_bytes: i32) -> io::Result<Outcome> {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        let address = server.local_addr()?;
        let server_thread = thread::spawn(move || {
            let mut buffer = [0; 64];
            let mut peer = address;
            for _ in 0..3 {
                let count;
                (count, peer) = server.recv_from(&mut buffer).expect("a request");
                assert_eq!(&buffer[..count], crate::workload::UDP_REQUEST);
            }
            let segment = nix::sys::socket::sockopt::UdpGsoSegment;
            nix::sys::socket::setsockopt(&server, segment, &segment_bytes).expect("an option of the kernel");
            server.send_to(&crate::workload::UDP_RESPONSE.repeat(3), peer).expect("responses are sent");
        });
        let outcome = Load::open(address, LoadOptions { mode: Mode::UdpGso, clients: 1, depth: 3 })
            .and_then(|mut load| load.run(StopCondition::Exchanges(3)));
        server_thread.join().expect("the server thread");
        outcome
    }

    #[test]
    fn each_of_several_joined_responses_counts() {
        let outcome = joined_responses(18).expect("three answers");
        assert_eq!((outcome.exchanges, outcome.resent), (3, 0));
    }

    #[test]
    fn responses_in_one_long_datagram_are_an_error() {
        assert!(joined_responses(0).unwrap_err().to_string().starts_with("a wrong answer"));
    }
}
