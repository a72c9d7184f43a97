//! An echo server whose handler is one line, with backpressure.
//!
//! Input that does not fit the outbox is not consumed. While the outbox is full, nothing more is read.
//!
//! `cargo run --example echo`, then `nc localhost 8888`. An argument sets another listen address.

use std::net::SocketAddr;

use halloo::{EventLoop, stream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8888").parse()?;
    let mut events = EventLoop::new()?;
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method alone is bound to one lifetime")]
    let listener = events.listen(address, stream(|connection, input| connection.try_write(input)))?;
    println!("Listening on {}", events.local_addr(listener)?);
    events.run()?;
    Ok(())
}
