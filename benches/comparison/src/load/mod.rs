//! The load generator: one thread that checks every answer byte by byte.
//!
//! A request follows each answer, so that the number in flight is constant until the end.

mod datagrams;
mod lines;
mod once;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

use crate::workload::{Mode, Shape};

/// A server that answers nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often lost datagrams are looked for.
const LOOK: Duration = Duration::from_millis(50);
const EVENTS: usize = 256;
/// More than one read of answers can bring.
const READ_BYTES: usize = 4096;

/// When to ask no more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After this time.
    Time(Duration),
    /// After so many questions.
    Exchanges(u64),
}

/// What came of a load.
#[derive(Clone, Default, Debug)]
pub(crate) struct Outcome {
    pub(crate) exchanges: u64,
    pub(crate) took: Duration,
    /// Datagrams asked again since no answer came.
    pub(crate) resent: u64,
    /// Connections that ended with a reset after the whole answer.
    pub(crate) resets: u64,
    /// Nanoseconds of each exchange, in no order.
    pub(crate) latencies: Vec<u32>,
}

/// What the clients of one load share.
struct Tally {
    poll: OwnedFd,
    asked: u64,
    until: Until,
    /// Set once the time is over.
    is_over: bool,
    now: Instant,
    outcome: Outcome,
}

impl Tally {
    /// How many of these questions may still be asked; they count as asked.
    fn take(&mut self, wanted: usize) -> usize {
        let may = match self.until {
            _ if self.is_over => 0,
            Until::Time(_) => wanted,
            Until::Exchanges(all) => usize::try_from(all - self.asked).map_or(wanted, |left| left.min(wanted)),
        };
        self.asked += may as u64;
        may
    }

    fn answered(&mut self, asked_at: Instant) {
        self.outcome.exchanges += 1;
        let nanos = self.now.saturating_duration_since(asked_at).as_nanos();
        self.outcome.latencies.push(u32::try_from(nanos).unwrap_or(u32::MAX));
    }

    fn watch(&self, socket: impl AsFd, client: usize) -> io::Result<()> {
        let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.poll, socket, EventData::new_u64(client as u64), interest)?)
    }
}

/// One client of a load.
trait Client {
    /// Asks the first questions.
    fn start(&mut self, tally: &mut Tally) -> io::Result<()>;
    /// Reads what has come, and asks again.
    fn on_ready(&mut self, tally: &mut Tally) -> io::Result<()>;
    /// Questions under way.
    fn waiting(&self) -> usize;
    /// Asks again what seems to be lost.
    fn look(&mut self, _tally: &mut Tally) -> io::Result<()> {
        Ok(())
    }
}

/// Clients with their connections open.
pub(crate) struct Load {
    clients: Vec<Box<dyn Client>>,
    tally: Tally,
}

impl Load {
    /// Opens the clients' sockets.
    pub(crate) fn open(address: SocketAddr, shape: Shape) -> io::Result<Self> {
        let tally = Tally {
            poll: epoll::create(CreateFlags::CLOEXEC)?,
            asked: 0,
            until: Until::Exchanges(0),
            is_over: false,
            now: Instant::now(),
            outcome: Outcome::default(),
        };
        let mut clients: Vec<Box<dyn Client>> = Vec::with_capacity(shape.clients);
        for client in 0..shape.clients {
            clients.push(match shape.mode {
                Mode::Once => Box::new(once::Once::new(address, client)),
                Mode::Lines => Box::new(lines::Lines::open(address, client, shape.depth, &tally)?),
                Mode::Udp => Box::new(datagrams::Datagrams::open(address, client, shape.depth, &tally)?),
            });
        }
        Ok(Self { clients, tally })
    }

    /// Keeps the load on until told, and waits for the last answer.
    pub(crate) fn run(&mut self, until: Until) -> io::Result<Outcome> {
        let begin = Instant::now();
        let Self { clients, tally } = self;
        (tally.asked, tally.until, tally.is_over, tally.now) = (0, until, false, begin);
        tally.outcome.latencies.reserve(1 << 20);
        for client in &mut *clients {
            client.start(tally)?;
        }
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        let (mut last_answer, mut last_look) = (begin, begin);
        let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        while clients.iter().any(|client| client.waiting() > 0) {
            // The clients are walked through only now and then: not after every few events.
            for _ in 0..64 {
                let count = epoll::wait(&tally.poll, &mut events, Some(&timeout))?;
                tally.now = Instant::now();
                if let Until::Time(time) = until {
                    tally.is_over |= tally.now - begin >= time;
                }
                for event in &events[..count] {
                    let client = usize::try_from(event.data.u64()).map_err(io::Error::other)?;
                    clients[client].on_ready(tally)?;
                }
                if count > 0 {
                    last_answer = tally.now;
                }
                if tally.outcome.exchanges >= tally.asked {
                    break;
                }
                if tally.now - last_answer > SILENCE_MAX {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the server answers no more"));
                }
                if tally.now - last_look >= LOOK {
                    last_look = tally.now;
                    clients.iter_mut().try_for_each(|client| client.look(tally))?;
                }
            }
        }
        tally.outcome.took = begin.elapsed();
        Ok(std::mem::take(&mut tally.outcome))
    }
}

/// The error of a server that does not say what it should.
fn wrong(answer: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a wrong answer: \"{}\"", answer.escape_ascii()))
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
        let outcome = Load::open(address, Shape { mode, clients: 1, depth: 2 })
            .and_then(|mut load| load.run(Until::Exchanges(if mode == Mode::Once { 1 } else { 2 })));
        server.join().expect("the server lives");
        outcome
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        let outcome = one_client(Mode::Once, |listener| {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.read_exact(&mut [0; 18]).expect("its question");
            stream.write_all(b"Hello, TCP Cloant!").expect("it listens");
        });
        assert_eq!(outcome.unwrap_err().to_string(), "a wrong answer: \"Hello, TCP Cloant!\"");
    }

    #[test]
    fn an_answer_in_pieces_is_one_answer() {
        let outcome = one_client(Mode::Lines, |listener| {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.set_nodelay(true).expect("a socket");
            stream.read_exact(&mut [0; 38]).expect("two lines");
            for piece in [&b"Hello, TCP"[..], b" Client!\nHello, ", b"TCP Client!\n"] {
                stream.write_all(piece).expect("it listens");
            }
            let _ = stream.read(&mut [0]);
        });
        assert_eq!(outcome.unwrap().exchanges, 2);
    }

    #[test]
    fn a_lost_datagram_is_asked_again_and_counted() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = server.local_addr().expect("an address");
        let serving = thread::spawn(move || {
            let mut buffer = [0; 64];
            server.recv_from(&mut buffer).expect("the first, which is lost");
            let (_, peer) = server.recv_from(&mut buffer).expect("the same again");
            server.send_to(crate::workload::UDP_ANSWER, peer).expect("it is sent");
        });
        let mut load = Load::open(address, Shape { mode: Mode::Udp, clients: 1, depth: 1 }).expect("a client");
        let outcome = load.run(Until::Exchanges(1)).expect("an answer");
        assert_eq!((outcome.exchanges, outcome.resent), (1, 1));
        serving.join().expect("the server lives");
    }
}
