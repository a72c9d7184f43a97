//! A server that prints its slowest turn while it runs.
//!
//! `cargo run --example slowest_turn`, then `nc localhost 8888` from two terminals. A number is answered with the count
//! of primes up to it. Type `50000` in one, and `300000` in the other. An argument sets another listen address.
//!
//! Each turn that is slower than all before it is printed with its callbacks, the slowest first. In such a turn every
//! other client waits.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use halloo::observe::{Callback, Detail, EntryKind, Level, Object, TurnEntries};
use halloo::{EventLoop, framing};

/// Faster turns are not printed.
const SLOW: Duration = Duration::from_millis(1);

/// A line of more digits closes its connection, so no request takes much longer than a second.
const DIGITS_MAX: usize = 6;

struct SlowestTurn {
    took: Duration,
    /// Addresses of the open connections, by generation.
    peers: HashMap<u64, SocketAddr>,
}

impl SlowestTurn {
    /// Gets all entries of a turn, after it.
    fn observe(&mut self, turn: &TurnEntries<'_>) {
        for (index, detail) in turn.details {
            let entry = &turn.entries[*index as usize];
            if let (Object::Connection, Detail::Address(peer)) = (entry.object, detail) {
                self.peers.insert(entry.generation, *peer);
            }
        }
        // Before the last end of a poll the loop waited for the kernel.
        let begin = turn.entries.iter().rfind(|entry| entry.kind == EntryKind::PollEnd);
        if let (Some(begin), Some(end)) = (begin, turn.entries.last()) {
            let took = end.time().saturating_sub(begin.time());
            if took > self.took {
                self.took = took;
                self.print(turn);
            }
        }
        for entry in turn.entries.iter().filter(|entry| entry.kind == EntryKind::Freed) {
            self.peers.remove(&entry.generation);
        }
    }

    fn print(&self, turn: &TurnEntries<'_>) {
        let (mut begun, mut callbacks, mut events) = (Vec::new(), Vec::new(), 0);
        for entry in turn.entries {
            match entry.kind {
                EntryKind::PollEnd => events += entry.numbers[0],
                EntryKind::CallbackBegin => begun.push(entry.time()),
                // A callback inside another ends first.
                EntryKind::CallbackEnd => {
                    callbacks.extend(begun.pop().map(|begin| (entry.time().saturating_sub(begin), entry)));
                }
                _ => {}
            }
        }
        callbacks.sort_by_key(|(took, _)| Reverse(*took));
        println!("slowest turn: {:.1?} (events: {events}, callbacks: {})", self.took, callbacks.len());
        for (took, entry) in callbacks.into_iter().take(5) {
            let name = Callback::from_index(entry.numbers[0]).map_or("a callback", Callback::as_str);
            match self.peers.get(&entry.generation) {
                Some(peer) => println!("  {took:.1?} {name} of {peer}"),
                None => println!("  {took:.1?} {name} of a {}", entry.object),
            }
        }
    }
}

/// Counts the primes up to a number, slowly.
fn primes(max: u32) -> usize {
    (2..=max).filter(|n| (2..=n.isqrt()).all(|d| n % d != 0)).count()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    let mut slowest = SlowestTurn { took: SLOW, peers: HashMap::new() };
    let mut events = EventLoop::new()?;
    events.journal_level(Level::All);
    events.set_observer(|turn| slowest.observe(turn));
    let counter = framing::lines(DIGITS_MAX, |connection, line| {
        let reply = match str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok()) {
            Some(max) => format!("{} primes\n", primes(max)),
            None => "not a number\n".to_owned(),
        };
        let _ = connection.send(reply.as_bytes());
    });
    let listener = events.listen(address, counter)?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}
