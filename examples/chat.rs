//! A chat server: every line goes to every other client.
//!
//! A client that reads too slowly misses lines, and delays no other.
//!
//! `cargo run --example chat`, then `nc localhost 8888` a few times. An argument sets another listen address.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use halloo::framing::{Format, FrameDecoder, Frames};
use halloo::{CloseReason, Connection, ConnectionId, Context, EventLoop, Listen, StreamHandler};

/// A longer line closes its connection.
const LINES: FrameDecoder = FrameDecoder::new(Format::Lines, 1024);
const NAME_BYTES_MAX: usize = 32;

#[derive(Default)]
struct Chat {
    /// Clients by connection, with their names. A client without a name gets no lines.
    members: BTreeMap<ConnectionId, String>,
    /// Clients that have missed a line and got no notice of it yet.
    blocked: HashSet<ConnectionId>,
}

impl Chat {
    fn broadcast(&mut self, context: &mut Context, sender: ConnectionId, line: &str) {
        for id in self.members.keys().filter(|id| **id != sender) {
            if let Some(mut member) = context.connection(*id)
                && member.send(line.as_bytes()).is_err()
            {
                self.blocked.insert(*id);
            }
        }
    }

    fn join(&mut self, connection: &mut Connection<'_>, name: String) {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || self.members.values().any(|other| *other == name) {
            let _ = connection.send(b"* empty, too long or in use; your name?\n");
            return;
        }
        let names: Vec<_> = self.members.values().map(String::as_str).collect();
        let _ = connection.send(format!("* here: {}\n", names.join(", ")).as_bytes());
        let id = connection.id();
        self.broadcast(connection.context(), id, &format!("* {name} joined\n"));
        self.members.insert(id, name);
    }

    fn on_line(&mut self, connection: &mut Connection<'_>, line: &[u8]) {
        // Control characters would act on the terminals of other clients.
        let text: String = String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).collect();
        let id = connection.id();
        match self.members.get(&id) {
            Some(name) => self.broadcast(connection.context(), id, &format!("{name}: {text}\n")),
            None => self.join(connection, text.trim().to_owned()),
        }
    }
}

impl StreamHandler for Chat {
    type Session = FrameDecoder;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<FrameDecoder> {
        connection.send(b"* your name?\n").ok().map(|()| LINES)
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, lines: &mut FrameDecoder, input: &[u8]) -> usize {
        let mut frames = Frames::new(input);
        while let Some(line) = frames.next(connection, lines) {
            self.on_line(connection, line);
        }
        frames.finish(connection)
    }

    /// The outbox is empty again, so the notice fits.
    fn on_flushed(&mut self, connection: &mut Connection<'_>, _: &mut FrameDecoder) {
        if self.blocked.remove(&connection.id()) {
            let _ = connection.send(b"* you read too slowly and missed some lines\n");
        }
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, _: FrameDecoder, _: CloseReason) {
        let id = connection.id();
        self.blocked.remove(&id);
        if let Some(name) = self.members.remove(&id) {
            self.broadcast(connection.context(), id, &format!("* {name} left\n"));
        }
    }

    fn input_bytes_min(&self) -> usize {
        LINES.input_bytes_min()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    let mut events = EventLoop::new()?;
    // A line costs one send per client, so their number is limited. A client may listen for long without sending.
    let at = Listen::from(address).connections_max(1000).idle_timeout(Duration::from_secs(3600));
    let listener = events.listen(at, Chat::default())?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}
