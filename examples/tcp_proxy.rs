//! A TCP proxy: each client gets a connection to the target.
//!
//! The two are joined in both directions.
//!
//! `cargo run --example tcp_proxy 127.0.0.1:7000 127.0.0.1:8888`, then `nc localhost 7000`. The first address is the
//! listen address, and the second is the target.
//!
//! One handler serves both sides, and each side keeps the id of the other. Input that does not fit the other side's
//! outbox is not consumed, and its connection is paused. So memory is bounded, and backpressure reaches the sender. EOF
//! on one side becomes a half-close on the other, and a reset becomes a reset.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use halloo::{CloseReason, Connect, Connection, ConnectionId, Context, EventLoop, Listen, StreamHandler};

/// A pair without a byte in either direction for this long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// Each client takes two descriptors. A process usually has 1,024.
const CLIENTS_MAX: usize = 450;

pub(crate) struct Proxy {
    pub(crate) target: SocketAddr,
}

/// One side of a pair.
pub(crate) struct Side {
    other: ConnectionId,
    /// Which directions have ended: EOF was read on this side, or on the other.
    has_sent_all: bool,
    has_been_sent_all: bool,
}

impl Side {
    /// Closes this side once both directions have ended.
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
            // A client. Its input waits in the outbox of the outbound connection until that is open.
            connection.context().connect_with(Connect::from(self.target).idle_timeout(IDLE), handler, id)
        } else {
            // The target's side, with the id of its client.
            connection.take_value()?
        };
        Some(Side { other, has_sent_all: false, has_been_sent_all: false })
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, side: &mut Side, input: &[u8]) -> usize {
        // Without the other side this connection is about to be aborted or closed.
        let Some(mut other) = connection.context().connection(side.other) else { return input.len() };
        let written = other.try_write(input);
        if written < input.len() {
            connection.pause();
        }
        written
    }

    /// This side's outbox is empty: reading from the other side resumes.
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

    /// EOF was read on the other side.
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
