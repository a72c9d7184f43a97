//! A UDP server: prints each datagram and replies.
//!
//! `cargo run --example udp_server`, then `cargo run --example udp_client` or `nc -u localhost 8888`. An argument sets
//! another listen address.

use std::net::SocketAddr;

use halloo::{EventLoop, datagrams};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    let mut events = EventLoop::new()?;
    let greeter = datagrams(|datagram, payload| {
        println!("Received from {}: {}", datagram.peer_addr(), payload.escape_ascii());
        // `reply` returns false if the source is forged, over its rate limit, or the send queue is full.
        let _ = datagram.reply(b"Hello, UDP Client!");
    });
    let socket = events.bind(address, greeter)?;
    println!("Listening on {}", events.local_addr(socket)?);
    events.run()?;
    Ok(())
}
