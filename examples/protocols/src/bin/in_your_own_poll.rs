//! The loop inside a `poll(2)` of the program's own.
//!
//! Standard input goes to every client, between the echoes.
//!
//! `cargo run --release -p protocols --bin in_your_own_poll`, then `nc localhost 8888`. An argument sets another listen
//! address. At the end of standard input the program drains the loop and exits.

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use halloo::{EventLoop, HandlerId, Turn, stream};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long clients may take to read the last output.
const GRACE: Duration = Duration::from_secs(5);

/// Waits until halloo has work or standard input is readable. Returns true for standard input.
fn wait(events: &EventLoop<'_>, stdin: Option<&io::Stdin>) -> io::Result<bool> {
    // Rounded up, because a turn before the deadline would do nothing.
    let timeout = events.next_timeout().map_or(PollTimeout::NONE, |after| {
        PollTimeout::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
    });
    let mut watched = vec![PollFd::new(events.as_fd(), PollFlags::POLLIN)];
    watched.extend(stdin.map(|stdin| PollFd::new(stdin.as_fd(), PollFlags::POLLIN)));
    match poll(&mut watched, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    // EOF and errors also make it readable.
    Ok(watched.get(1).and_then(PollFd::any).unwrap_or(false))
}

/// Sends the input to every client. Returns false at EOF.
fn broadcast_input(stdin: &io::Stdin, events: &mut EventLoop<'_>, handler: HandlerId) -> io::Result<bool> {
    let mut stdin = stdin.lock();
    // One read does not block, because poll reported input. All of it is consumed: poll does not see bytes left in the
    // buffer.
    let input = stdin.fill_buf()?;
    // A client that does not read misses some input, without an effect on the other clients.
    events.context().for_each_connection(handler, |client| {
        let _ = client.send(input);
    });
    let length = input.len();
    stdin.consume(length);
    Ok(length > 0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    let mut events = EventLoop::new()?;
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method alone is bound to one lifetime")]
    let handler = events.attach(stream(|connection, input| connection.try_write(input)));
    let listener = events.listen_for(address, handler)?;
    println!("Listening on {}", events.local_addr(listener)?);

    let stdin = io::stdin();
    let mut is_stdin_open = true;
    loop {
        if wait(&events, is_stdin_open.then_some(&stdin))? && !broadcast_input(&stdin, &mut events, handler)? {
            is_stdin_open = false;
            events.context().drain(GRACE);
        }
        // Without a wait, because poll has waited. Output written above is sent in this turn.
        if let Turn::Stopped(_) = events.turn(Some(Duration::ZERO))? {
            return Ok(());
        }
    }
}
