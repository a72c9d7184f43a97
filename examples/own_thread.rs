//! The loop on one thread, and slow work on others.
//!
//! A client with slow work delays no other client.
//!
//! `cargo run --release --example own_thread`, then `nc localhost 8888` and a number: the reply is the count of primes
//! up to it. An argument sets another listen address. A line on standard input prints the loop's counters.
//!
//! A loop stays on the thread that made it; its handle may be used on every thread. A request goes to the workers with
//! the id of its connection. The result comes back as a note to that id. If the connection has closed, the note is
//! dropped.

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use halloo::framing::{Format, FrameDecoder, Frames};
use halloo::{Connection, ConnectionId, EventLoop, Handle, Listen, StreamHandler};

const WORKERS: usize = 2;

/// Requests that wait for a worker. Further ones are refused with a message.
const REQUESTS_MAX: usize = 64;

/// The highest number in a request, and the longest line.
const NUMBER_MAX: u64 = 10_000_000;
const LINES: FrameDecoder = FrameDecoder::new(Format::Lines, 64);

type Request = (ConnectionId, u64);

struct PrimeHandler {
    requests: SyncSender<Request>,
}

impl PrimeHandler {
    fn ask(&self, connection: &mut Connection<'_>, line: &[u8]) {
        let number = str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok());
        let Some(number) = number.filter(|number| *number <= NUMBER_MAX) else {
            let _ = connection.send(format!("send a number up to {NUMBER_MAX}\n").as_bytes());
            return;
        };
        if self.requests.try_send((connection.id(), number)).is_ok() {
            // One request at a time from each client: the next line is delivered after this reply.
            connection.pause();
        } else {
            let _ = connection.send(b"busy, try again\n");
        }
    }
}

impl StreamHandler for PrimeHandler {
    type Session = FrameDecoder;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<FrameDecoder> {
        Some(LINES)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, lines: &mut FrameDecoder, input: &[u8]) -> usize {
        let mut frames = Frames::new(input);
        while let Some(line) = frames.next(connection, lines) {
            self.ask(connection, line);
        }
        frames.finish(connection)
    }

    fn on_notify(&mut self, connection: &mut Connection<'_>, _: &mut FrameDecoder, primes: u64) {
        let _ = connection.send(format!("{primes}\n").as_bytes());
        connection.resume();
    }

    fn input_bytes_min(&self) -> usize {
        LINES.input_bytes_min()
    }
}

/// Serves until it is stopped, on the thread of the caller.
fn serve(at: SocketAddr, handler: PrimeHandler, ready: &Sender<(SocketAddr, Handle)>) -> halloo::Result<()> {
    let mut events = EventLoop::new()?;
    let listener = events.listen(Listen::from(at), handler)?;
    // If `main` has ended, no receiver is left.
    if ready.send((events.local_addr(listener)?, events.handle())).is_ok() {
        events.run()?;
    }
    Ok(())
}

/// Works on requests until the loop has stopped or the sender is dropped.
fn work(requests: &Mutex<Receiver<Request>>, handle: &Handle) {
    loop {
        // The lock is held during the wait, and not during the computation.
        let request = requests.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((client, number)) = request else { return };
        let primes = (2..=number).filter(|n| is_prime(*n)).count() as u64;
        if handle.notify(client, primes).is_err() {
            return;
        }
    }
}

/// A slow algorithm on purpose.
fn is_prime(number: u64) -> bool {
    (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let at: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    let ((requests, queue), (ready, is_ready)) = (sync_channel(REQUESTS_MAX), channel());
    let server = thread::spawn(move || serve(at, PrimeHandler { requests }, &ready));
    if let Ok((address, handle)) = is_ready.recv() {
        println!("Listening on {address}");
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..WORKERS {
            let (queue, handle) = (Arc::clone(&queue), handle.clone());
            thread::spawn(move || work(&queue, &handle));
        }
        for line in io::stdin().lock().lines() {
            line?;
            handle.post(|context| println!("{}", context.stats()))?;
        }
    }
    // Standard input has ended, or the server did not start. The thread's result is the exit status.
    server.join().map_err(|_| "the server's thread has panicked")??;
    Ok(())
}
