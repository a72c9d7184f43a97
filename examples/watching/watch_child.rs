//! The output of a child process, sent to every client.
//!
//! `cargo run --example watch_child 127.0.0.1:8888 ping localhost`, then `nc localhost 8888` a few times. The first
//! argument is the listen address, and the others are the command.
//!
//! The output is sent line by line, and the server ends with the child. A client that reads too slowly misses lines,
//! and delays no other.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use halloo::{Connection, EventLoop, HandlerId, Interest, Listen, StreamHandler, Watch, WatchEvent};

/// A longer line is sent in parts.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// How long clients may take to read the last lines.
const GRACE: Duration = Duration::from_secs(5);

/// Greets its clients with the command, and ignores their input.
struct Clients {
    command: String,
}

impl StreamHandler for Clients {
    type Session = ();

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
        connection.send(format!("* {}\n", self.command).as_bytes()).ok()
    }

    fn on_data(&mut self, _: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        input.len()
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        connection.close();
    }
}

/// The output of the child after its last whole line.
#[derive(Default)]
struct Output {
    line: Vec<u8>,
}

impl Output {
    /// Reads once, and sends the whole lines to every client.
    fn forward(
        &mut self,
        context: &mut halloo::Context,
        output: &mut UnixStream,
        event: WatchEvent,
        to: HandlerId,
    ) -> Watch {
        let mut bytes = [0; 4096];
        let count = match output.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Watch::Drained,
            Ok(count) => count,
            // An error is handled as EOF.
            Err(_) => 0,
        };
        self.line.extend_from_slice(&bytes[..count]);
        let is_end = count == 0 || self.line.len() > LINE_BYTES_MAX;
        let end =
            if is_end { Some(self.line.len()) } else { self.line.iter().rposition(|b| *b == b'\n').map(|at| at + 1) };
        if let Some(end) = end {
            let lines: Vec<u8> = self.line.drain(..end).collect();
            context.for_each_connection(to, |client| {
                let _ = client.send(&lines);
            });
        }
        if count == 0 {
            context.remove(event.id());
            context.drain(GRACE);
        }
        Watch::Again
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(program)) = (arguments.next(), arguments.next()) else {
        return Err("cannot start: an argument is missing; give an address and a command".into());
    };
    let (address, arguments): (SocketAddr, Vec<String>) = (address.parse()?, arguments.collect());
    let mut events = EventLoop::new()?;
    let clients = events.attach(Clients { command: format!("{program} {}", arguments.join(" ")).trim().to_owned() });
    let listener = events.listen_for(Listen::from(address).idle_timeout(None), clients)?;

    // A socket pair in place of a pipe: std cannot make a pipe non-blocking.
    let (output, child_end) = UnixStream::pair()?;
    output.set_nonblocking(true)?;
    // The command owns the child's end and is dropped here. Otherwise no EOF would follow the end of the child.
    let mut child = Command::new(program).args(arguments).stdout(OwnedFd::from(child_end)).spawn()?;
    let mut lines = Output::default();
    events
        .watch(output, Interest::Read, move |context, output, event| lines.forward(context, output, event, clients))?;

    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    println!("The command has ended: {}", child.wait()?);
    Ok(())
}
