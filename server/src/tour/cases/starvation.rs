//! Case 10: starvation.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::flags::tour_options::TourMode;
use crate::tour::case::{Case, Outcome, Verdict};
use crate::tour::client::{Client, Regular, SECOND_CLIENT, Target};
use crate::tour::mio_server::connections::Key;
use crate::tour::mio_server::rules::{Flow, Rules};
use crate::tour::mio_server::server::Server;

pub(super) const CASE: Case = Case {
    number: 10,
    name: "starvation",
    title: "starvation",
    mistake: "The server reads one client until nothing is left, although that client may never stop.",
    explanation: [
        "After an edge-triggered event the server reads until EAGAIN, and a fast client makes that moment never come.",
        "The twin makes no poll before that, so the events of all other clients wait in the kernel.",
        "The hostile clients sent without a pause, and a line of another client got no reply meanwhile.",
        "The right server makes at most 16 reads for one client, and continues in the next turn.",
        "In production one fast upload makes the health checks time out, and the server is restarted.",
    ],
    reading: &[
        "epoll(7), section \"Possible pitfalls and ways to avoid them\", on starvation",
        "epoll(7), section \"Questions and answers\", on EAGAIN and EPOLLET",
    ],
    descriptors_max: None,
    attack,
    twin: &Twin,
};

/// Clients that send without a pause. What fills the buffers of one is served after those of another.
const FLOODS: usize = 4;

/// How long they send.
const FLOOD_TIME: Duration = Duration::from_millis(1500);

/// The longest that another client may wait for its reply, and its pause between two lines.
const WAIT_MAX: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);

/// The same on average, and the most that the clients of the flood get meanwhile. Both count together: a busy machine
/// delays the flood, too, and a fast server may give much to it within a short wait. Right servers gave it 3 MB.
const MEAN_WAIT_MAX: Duration = Duration::from_millis(30);
const MEAN_BYTES_MAX: u64 = 6_000_000;

/// The same for a single wait. Right servers gave the flood 12 MB in one.
const LONG_WAIT: Duration = Duration::from_millis(100);
const BYTES_MAX: u64 = 40_000_000;

/// A wait is a failure if it is seen in each round: a busy machine may delay any server once.
const ROUNDS: usize = 2;

/// The most bytes of one write and one read: many times those of the server, to be faster than it.
const CHUNK_BYTES: usize = 256 * 1024;

/// The pause before a connection that the server has closed is replaced.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// At the end a client receives the rest of its replies for at most this long.
const REST_TIME: Duration = Duration::from_secs(2);

fn attack(target: &Target) -> io::Result<Verdict> {
    if let Some(came) = target.missing_reply_of_second_client()? {
        return Ok(Verdict::fail(SECOND_CLIENT, came));
    }
    let mut verdict = try_round(target)?;
    for _ in 1..ROUNDS {
        if verdict.outcome == Outcome::Fail {
            verdict = try_round(target)?;
        }
    }
    Ok(verdict)
}

fn try_round(target: &Target) -> io::Result<Verdict> {
    let mut other = Regular::new(target)?;
    other.exchange("hello")?;
    let clients = (0..FLOODS).map(|_| connect_flood(target)).collect::<io::Result<Vec<_>>>()?;
    let until = Instant::now() + FLOOD_TIME;
    let received = AtomicU64::new(0);
    let (bytes, waits) = thread::scope(|scope| {
        let flood = scope.spawn(|| flood(target, clients, until, &received));
        let waits = Waits::measure(&mut other, until, &received);
        (flood.join().unwrap_or_default(), waits)
    });
    let sent = format!(
        "{FLOODS} clients sent {} MB within {} ms, and meanwhile another client a line every {} ms",
        bytes / 1_000_000,
        FLOOD_TIME.as_millis(),
        PAUSE.as_millis()
    );
    Ok(match waits {
        Ok(waits) if waits.are_starvation() => Verdict::fail(
            sent,
            format!(
                "the other client waited {} ms for a reply, on average {} ms; meanwhile the {FLOODS} got {} MB, on average {} \
                 MB",
                waits.longest.as_millis(),
                waits.mean().as_millis(),
                waits.most_bytes / 1_000_000,
                waits.mean_bytes() / 1_000_000
            ),
        ),
        Ok(waits) => {
            Verdict::pass(sent, format!("the other client waited at most {} ms for a reply", waits.longest.as_millis()))
        }
        Err(error) => Verdict::fail(sent, format!("for the other client, {error}")),
    })
}

/// How long a client waits for its replies, and what the clients of the flood receive meanwhile.
#[derive(Default)]
struct Waits {
    count: u32,
    longest: Duration,
    total: Duration,
    bytes: u64,
    /// In one long wait.
    most_bytes: u64,
}

impl Waits {
    /// Makes one exchange after the other, until then.
    fn measure(client: &mut Regular, until: Instant, received: &AtomicU64) -> io::Result<Self> {
        let mut waits = Self::default();
        while Instant::now() < until {
            let before = received.load(Ordering::Relaxed);
            let wait = client.exchange("hello")?;
            let bytes = received.load(Ordering::Relaxed) - before;
            waits.bytes += bytes;
            if wait > LONG_WAIT {
                waits.most_bytes = waits.most_bytes.max(bytes);
            }
            waits.count += 1;
            waits.longest = waits.longest.max(wait);
            waits.total += wait;
            thread::sleep(PAUSE);
        }
        Ok(waits)
    }

    fn mean(&self) -> Duration {
        self.total / self.count.max(1)
    }

    fn mean_bytes(&self) -> u64 {
        self.bytes / u64::from(self.count.max(1))
    }

    fn are_starvation(&self) -> bool {
        let is_mean_high = self.mean() > MEAN_WAIT_MAX && self.mean_bytes() > MEAN_BYTES_MAX;
        self.longest > WAIT_MAX || is_mean_high || self.most_bytes > BYTES_MAX
    }
}

/// Connects a client that has been served once, if that leaves it connected.
fn connect_flood(target: &Target) -> io::Result<Client> {
    let mut client = target.connect()?;
    if target.mode != TourMode::Greet {
        client.exchange("hello")?;
    }
    client.stream.set_nonblocking(true)?;
    Ok(client)
}

/// Sends and receives as much as the kernel accepts and has, until then; the bytes sent. Counts those received.
fn flood(target: &Target, mut clients: Vec<Client>, until: Instant, received: &AtomicU64) -> u64 {
    let (line, mut buffer) = ([&[b'.'; 511][..], b"\n"].concat(), vec![0; CHUNK_BYTES]);
    let chunk = line.repeat(CHUNK_BYTES / line.len());
    let mut sent = 0;
    while Instant::now() < until {
        wait_for_any(&clients);
        for client in &mut clients {
            if let Ok(bytes) = send_and_receive(&client.stream, &chunk, &mut buffer, received) {
                sent += bytes as u64;
                continue;
            }
            thread::sleep(RECONNECT_PAUSE);
            if let Ok(next) = target.connect() {
                // The server accepts it while the other connections go on.
                let _ = next.stream.set_nonblocking(true);
                *client = next;
            }
        }
    }
    for client in &mut clients {
        // An error is the end of the connection, as EOF is.
        let _ = receive_rest(client, until + REST_TIME);
    }
    sent
}

/// Waits until a connection can be written or read.
fn wait_for_any(clients: &[Client]) {
    let events = PollFlags::POLLIN | PollFlags::POLLOUT;
    let mut polled: Vec<PollFd> = clients.iter().map(|client| PollFd::new(client.stream.as_fd(), events)).collect();
    // After an error or a timeout, the calls report what there is.
    let _ = poll(&mut polled, PollTimeout::from(100_u8));
}

/// Makes one write and one read; the bytes sent. The server's EOF is an error.
fn send_and_receive(
    mut stream: &TcpStream,
    chunk: &[u8],
    buffer: &mut [u8],
    received: &AtomicU64,
) -> io::Result<usize> {
    let is_not_ready = |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
    match stream.read(buffer) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(bytes) => drop(received.fetch_add(bytes as u64, Ordering::Relaxed)),
        Err(error) if !is_not_ready(&error) => return Err(error),
        Err(_) => {}
    }
    match stream.write(chunk) {
        Err(error) if is_not_ready(&error) => Ok(0),
        result => result,
    }
}

/// Sends a FIN, and receives the rest of the replies.
fn receive_rest(client: &mut Client, until: Instant) -> io::Result<()> {
    client.stream.set_nonblocking(false)?;
    client.finish_sending()?;
    client.receive_for(WAIT_MAX, &mut |_| Instant::now() >= until).map(drop)
}

/// The server with this mistake.
struct Twin;

impl Rules for Twin {
    fn read_input(&self, server: &mut Server, key: Key) -> io::Result<()> {
        // Until nothing is left, however long that takes.
        while self.read_once(server, key)? == Flow::More {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::tour::client::tests::start_server;

    #[test]
    fn a_client_that_waits_for_the_others_is_a_failure() {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let target = start_server(TourMode::Echo, |mut stream| {
            let mut buffer = [0; 512];
            while let Ok(1..) = stream.peek(&mut buffer) {
                let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = stream.set_nonblocking(true);
                while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.set_nonblocking(false);
                    let _ = stream.write_all(&buffer[..bytes]);
                    let _ = stream.set_nonblocking(true);
                }
                let _ = stream.set_nonblocking(false);
            }
        });
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Fail, "{verdict:?}");
        assert!(verdict.came.starts_with("the other client waited "), "{verdict:?}");
    }

    #[test]
    fn starvation_is_one_long_wait_or_long_ones_in_which_the_others_get_much() {
        let waits = |longest, total, bytes| Waits {
            count: 10,
            longest: Duration::from_millis(longest),
            total: Duration::from_millis(total),
            bytes,
            most_bytes: 0,
        };
        // A client that is behind the flood each time, though never for long, or once.
        assert!(waits(330, 1300, 500_000_000).are_starvation());
        assert!(Waits { most_bytes: 60_000_000, ..waits(360, 500, 60_000_000) }.are_starvation());
        assert!(waits(501, 501, 0).are_starvation());
        // A busy machine, and a fast server.
        assert!(!waits(400, 1300, 30_000_000).are_starvation());
        assert!(!waits(40, 200, 500_000_000).are_starvation());
    }

    #[test]
    fn a_greeter_that_closes_is_flooded_with_new_connections() {
        static FLOODS_SEEN: AtomicUsize = AtomicUsize::new(0);
        let target = start_server(TourMode::Greet, |mut stream| {
            let _ = stream.write_all(b"hello\n");
            // The other client sends a line.
            let is_flood = stream.read(&mut [0; 512]).is_ok_and(|bytes| bytes > 100);
            FLOODS_SEEN.fetch_add(usize::from(is_flood), Ordering::Relaxed);
        });
        let verdict = attack(&target).expect("a verdict");
        assert_eq!(verdict.outcome, Outcome::Pass, "{verdict:?}");
        let floods = FLOODS_SEEN.load(Ordering::Relaxed);
        assert!(floods > 2 * FLOODS, "{floods} connections");
    }
}
