//! A TCP server: prints what each client sends, replies, closes.
//!
//! `cargo run --example tcp_server`, then `cargo run --example tcp_client` or `nc localhost 8888`. An argument sets
//! another listen address.

use std::net::SocketAddr;

use halloo::{EventLoop, stream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    let mut events = EventLoop::new()?;
    let greeter = stream(|connection, input| {
        if let Some(peer) = connection.peer_addr() {
            println!("Received from {peer}: {}", input.escape_ascii());
        }
        let _ = connection.send(b"Hello, TCP Client!");
        connection.close();
        input.len()
    });
    let listener = events.listen(address, greeter)?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}
