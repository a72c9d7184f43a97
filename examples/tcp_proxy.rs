//! A TCP proxy: each client gets a connection to the target.
//!
//! The two are joined in both directions.
//!
//! `cargo run --example tcp_proxy 127.0.0.1:7000 127.0.0.1:8888`, then `nc localhost 7000`. The first address is where
//! it listens, the second where it connects to.
//!
//! One handler serves both sides, and a side knows the other by its id. What one side does not take is left with the
//! other, which is paused meanwhile: memory is bounded, and both ends feel each other's pace. The end of one stream
//! becomes the end of the other, in that direction alone; a reset becomes a reset.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use halloo::{CloseReason, Connect, Connection, ConnectionId, Context, EventLoop, Listen, StreamHandler};

/// Neither side has sent or taken anything for this long.
const IDLE: Duration = Duration::from_secs(600);

/// Each of them takes two descriptors, of the 1,024 that a process usually may have.
const CLIENTS_MAX: usize = 450;

struct Proxy {
    target: SocketAddr,
}

/// One side of a pair.
struct Side {
    other: ConnectionId,
    /// Which of its two directions have ended: it has sent its last, the other has.
    has_sent_all: bool,
    has_been_sent_all: bool,
}

impl Side {
    /// Closes a side once both directions have ended.
    fn close_if_over(&self, connection: &mut Connection<'_>) {
        if self.has_sent_all && self.has_been_sent_all {
            connection.close();
        }
    }
}

impl StreamHandler for Proxy {
    type Session = Side;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Side> {
        let (id, handler) = (connection.id(), connection.handler());
        let other = if connection.listener().is_some() {
            // A client. What it says before the target is there waits in that connection's outbox.
            connection.context().connect_with(Connect::from(self.target).idle_timeout(IDLE), handler, id)
        } else {
            // The target's side, with the client it was opened for.
            connection.take_value()?
        };
        Some(Side { other, has_sent_all: false, has_been_sent_all: false })
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, side: &mut Side, input: &[u8]) -> usize {
        // Without another side this one is about to end, too.
        let Some(mut other) = connection.context().connection(side.other) else { return input.len() };
        let written = other.try_write(input);
        if written < input.len() {
            connection.pause();
        }
        written
    }

    /// What was written to this side has gone: the other may go on.
    fn on_flushed(&mut self, connection: &mut Connection<'_>, side: &mut Side) {
        if let Some(mut other) = connection.context().connection(side.other) {
            other.resume();
        }
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, side: &mut Side, _: &[u8]) {
        side.has_sent_all = true;
        if let Some(mut other) = connection.context().connection(side.other) {
            other.shutdown_write();
        }
        connection.context().notify(side.other, 0);
        side.close_if_over(connection);
    }

    /// The other side has ended its stream.
    fn on_notify(&mut self, connection: &mut Connection<'_>, side: &mut Side, _: u64) {
        side.has_been_sent_all = true;
        side.close_if_over(connection);
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, side: Side, reason: CloseReason) {
        if let Some(mut other) = connection.context().connection(side.other) {
            match reason {
                CloseReason::Eof | CloseReason::Local => {}
                _ => other.abort(),
            }
        }
    }

    fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
        eprintln!("cannot connect to {}: {error}", self.target);
        if let Some(client) = context.take_value(id)
            && let Some(mut client) = context.connection(client)
        {
            client.abort();
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:7000").parse()?;
    let target = arguments.next().as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    let mut events = EventLoop::new()?;
    let at = Listen::from(address).connections_max(CLIENTS_MAX).idle_timeout(IDLE);
    let listener = events.listen(at, Proxy { target })?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}
