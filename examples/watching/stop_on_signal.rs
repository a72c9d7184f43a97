//! An echo server that drains and exits on SIGTERM and SIGINT.
//!
//! `cargo run --example stop_on_signal`, then `nc localhost 8888` and Ctrl-C. An argument sets another listen address.
//!
//! The first signal closes the listener, sends clients a message, and gives them 10 s. The second resets the remaining
//! clients. There is no thread for signals: the signal handler writes a byte to a socket pair, and the loop watches the
//! other end.

use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use halloo::{Connection, EventLoop, Interest, StreamHandler, Watch};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// How long clients may continue after the first signal.
const GRACE: Duration = Duration::from_secs(10);

struct Echo;

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        connection.try_write(input)
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        // A client with a full outbox does not get the message.
        let _ = connection.send(format!("* this server ends in {GRACE:?}\n").as_bytes());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    let mut events = EventLoop::new()?;
    let listener = events.listen(address, Echo)?;

    let (signals, handler_end) = UnixStream::pair()?;
    signals.set_nonblocking(true)?;
    for signal in [SIGTERM, SIGINT] {
        pipe::register(signal, handler_end.try_clone()?)?;
    }
    let mut is_draining = false;
    events.watch(signals, Interest::Read, move |context, signals, _| match signals.read(&mut [0; 64]) {
        Ok(1..) if is_draining => {
            context.stop();
            Watch::Again
        }
        Ok(1..) => {
            is_draining = true;
            context.drain(GRACE);
            Watch::Again
        }
        // `WouldBlock`: no further signal. The other end is never closed.
        _ => Watch::Drained,
    })?;

    println!("Listening on {}", events.local_addr(listener)?);
    let report = events.run()?;
    println!("Ended: {} clients have left, {} were reset", report.finished, report.forced);
    Ok(())
}
