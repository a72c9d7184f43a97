//! Clients that repeat an exchange at a fixed rate.
//!
//! Every exchange is judged: a refused, reset, cut or wrong one is a failure, with its reason.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::network::streams::REQUEST;
use support::wait::{TIMEOUT, wait_until};

/// Together 200 exchanges a second.
const CLIENTS: u32 = 20;
const PERIOD: Duration = Duration::from_millis(100);

/// Between a connect and the request: some clients are always connected and silent.
const SILENCE: Duration = Duration::from_millis(20);

/// What an exchange came to.
pub(crate) enum Exchange {
    Answered,
    /// The connection ended after the line was sent and before its answer; the line was sent again and answered.
    AnsweredAgain,
}

/// What all exchanges came to.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) answered: usize,
    pub(crate) answered_again: usize,
    pub(crate) failures: Vec<String>,
    pub(crate) longest: Duration,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.answered_again += other.answered_again;
        self.failures.extend(other.failures);
        self.longest = self.longest.max(other.longest);
    }
}

/// Running clients.
pub(crate) struct Load {
    clients: Vec<(Sender<()>, JoinHandle<Outcome>)>,
    exchanges: Arc<AtomicUsize>,
}

impl Load {
    /// Starts the clients; `client` returns the exchange of one.
    pub(crate) fn start<E>(client: impl Fn() -> E) -> Self
    where
        E: FnMut() -> Result<Exchange, String> + Send + 'static,
    {
        let (start, exchanges) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let spawn = |number| {
            let (stop, stopped) = mpsc::channel();
            let (first, mut exchange, count) = (start + PERIOD * number / CLIENTS, client(), Arc::clone(&exchanges));
            let counted = move || {
                let outcome = exchange();
                count.fetch_add(1, Ordering::Relaxed);
                outcome
            };
            (stop, thread::spawn(move || repeat(counted, first, &stopped)))
        };
        let clients = (0..CLIENTS).map(spawn).collect();
        Self { clients, exchanges }
    }

    /// Waits for further exchanges, failed ones included.
    #[track_caller]
    pub(crate) fn wait_for_exchanges(&self, count: usize) {
        let before = self.exchanges.load(Ordering::Relaxed);
        wait_until("further exchanges", || self.exchanges.load(Ordering::Relaxed) >= before + count);
    }

    /// Stops the clients after their present exchanges.
    pub(crate) fn stop(self) -> Outcome {
        let mut all = Outcome::default();
        let (stops, clients): (Vec<_>, Vec<_>) = self.clients.into_iter().unzip();
        drop(stops);
        for client in clients {
            all.add(client.join().expect("a client does not panic"));
        }
        all
    }
}

fn repeat(mut exchange: impl FnMut() -> Result<Exchange, String>, first: Instant, stopped: &Receiver<()>) -> Outcome {
    let (mut outcome, mut due) = (Outcome::default(), first);
    while stopped.recv_timeout(due.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout) {
        let start = Instant::now();
        match exchange() {
            Ok(Exchange::Answered) => outcome.answered += 1,
            Ok(Exchange::AnsweredAgain) => outcome.answered_again += 1,
            Err(failure) => outcome.failures.push(failure),
        }
        outcome.longest = outcome.longest.max(start.elapsed());
        due += PERIOD;
    }
    outcome
}

/// A connection with a pause before its request; the greeting is the address of the client.
pub(crate) fn greeting_client(to: SocketAddr) -> impl FnMut() -> Result<Exchange, String> + Send + 'static {
    move || {
        let (mut stream, own_address) = connect(to)?;
        stream.set_read_timeout(Some(SILENCE)).map_err(|error| format!("an option: {error}"))?;
        match stream.read(&mut [0; 64]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("before the request: {error}")),
            Ok(count) => return Err(format!("EOF before the request, after {count} bytes")),
        }
        stream.set_read_timeout(Some(TIMEOUT)).map_err(|error| format!("an option: {error}"))?;
        stream.write_all(REQUEST).map_err(|error| format!("request: {error}"))?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).map_err(|error| format!("reply, after {reply:?}: {error}"))?;
        if reply == own_address { Ok(Exchange::Answered) } else { Err(format!("{own_address} got {reply:?}")) }
    }
}

/// A kept connection with a line in each exchange, replaced when it has ended between two lines.
pub(crate) fn line_client(to: SocketAddr) -> impl FnMut() -> Result<Exchange, String> + Send + 'static {
    let mut kept: Option<(TcpStream, String)> = None;
    move || {
        let is_open = kept.as_ref().is_some_and(|(stream, _)| !has_ended(stream));
        if is_open && let Some((stream, own_address)) = kept.take() {
            if ask(&stream, &own_address)? {
                kept = Some((stream, own_address));
                return Ok(Exchange::Answered);
            }
            kept = Some(ask_first(to)?);
            return Ok(Exchange::AnsweredAgain);
        }
        kept = Some(ask_first(to)?);
        Ok(Exchange::Answered)
    }
}

/// Sends a line over a new connection, where EOF instead of an answer is a failure.
fn ask_first(to: SocketAddr) -> Result<(TcpStream, String), String> {
    let (stream, own_address) = connect(to)?;
    if ask(&stream, &own_address)? { Ok((stream, own_address)) } else { Err("EOF instead of an answer".to_owned()) }
}

/// Sends a line. False: the connection ended without a byte of the answer.
fn ask(mut stream: &TcpStream, own_address: &str) -> Result<bool, String> {
    // EPIPE and ECONNRESET: the other side had closed.
    if stream.write_all(b"a line\n").is_err() {
        return Ok(false);
    }
    let expected = format!("{own_address}\n");
    let mut answer = vec![0; expected.len()];
    match stream.read(&mut answer) {
        Ok(0) => return Ok(false),
        Ok(count) => stream.read_exact(&mut answer[count..]).map_err(|error| format!("part of an answer: {error}"))?,
        Err(error) => return Err(format!("answer: {error}")),
    }
    let is_right = answer == expected.as_bytes();
    is_right.then_some(true).ok_or_else(|| format!("{own_address} got {:?}", String::from_utf8_lossy(&answer)))
}

fn has_ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("an option of every stream");
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("an option of every stream");
    !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Connects, and returns the own address as text.
fn connect(to: SocketAddr) -> Result<(TcpStream, String), String> {
    let stream = TcpStream::connect_timeout(&to, TIMEOUT).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(|error| format!("an option: {error}"))?;
    let own_address = stream.local_addr().map_err(|error| format!("own address: {error}"))?;
    Ok((stream, own_address.to_string()))
}
