//! An echo server with one loop on one thread per CPU.
//!
//! The loops share the port (`SO_REUSEPORT`), and the kernel distributes the clients.
//!
//! `cargo run --example workers`, then `nc localhost 8888` from several terminals. Enter stops it. Arguments set
//! another listen address and the number of workers.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use halloo::{EventLoop, Handle, Listen, Stats, stream};

/// Makes a loop, sends its address and handle to `started`, and runs it until it is stopped. A loop stays on the thread
/// that made it. Only its handle goes to other threads.
fn work(at: Listen, started: &Sender<(SocketAddr, Handle)>) -> halloo::Result<Stats> {
    let mut events = EventLoop::new()?;
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method alone is bound to one lifetime")]
    let listener = events.listen(at, stream(|connection, input| connection.try_write(input)))?;
    let _ = started.send((events.local_addr(listener)?, events.handle()));
    events.run()?;
    Ok(events.stats().clone())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    // The first worker binds the port alone, so that a second server is refused. After that it shares the port with the
    // others.
    let mut at = Listen::from(address).reuse_port_after_bind(true);
    let count = match arguments.next() {
        Some(number) => number.parse()?,
        None => thread::available_parallelism()?.get(),
    };
    let (sender, started) = mpsc::channel();
    let (mut threads, mut handles) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let sender = sender.clone();
        threads.push(thread::spawn(move || work(at, &sender).inspect_err(|error| eprintln!("{error}"))));
        let (listening, handle) = started.recv_timeout(Duration::from_secs(5))?;
        // The port of the first worker, which the kernel chose if the address had port 0.
        address = listening;
        at = Listen::from(address).reuse_port(true);
        handles.push(handle);
    }
    println!("Listening on {address}\n{count} workers; press Enter to stop");

    std::io::stdin().read_line(&mut String::new())?;
    // Each loop gives its connections 1 s to finish. A handle of a loop that has failed returns an error.
    for handle in &handles {
        let _ = handle.drain(Duration::from_secs(1));
    }
    let mut all = Stats::default();
    for (number, thread) in threads.into_iter().enumerate() {
        let stats = thread.join().expect("a worker does not panic")?;
        println!("worker {}: {} clients", number + 1, stats.accepted);
        all += &stats;
    }
    println!("together: {} clients, {} bytes sent back", all.accepted, all.bytes_sent);
    Ok(())
}
