//! A blocking TCP client with std alone.
//!
//! Run a server first (`cargo run --release`), then `cargo run --example tcp_client`. An argument sets another address.

use std::io::{self, Read, Write};
use std::net::TcpStream;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:8888".to_owned());
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"Hello, TCP Server!")?;

    // One read is enough for a short greeting. A longer reply may arrive in several parts.
    let mut reply = [0; 1024];
    let length = stream.read(&mut reply)?;
    println!("Received: {}", String::from_utf8_lossy(&reply[..length]));
    Ok(())
}
