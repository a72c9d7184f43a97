//! A blocking UDP client with std alone.
//!
//! Run a server first (`cargo run --release`), then `cargo run --example udp_client`. An argument sets another address.

use std::io;
use std::net::UdpSocket;
use std::time::Duration;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8888".to_owned());
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // A connected socket receives only this server's datagrams.
    socket.connect(address)?;
    // Either datagram may be lost. Without a timeout `recv` would then wait forever.
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.send(b"Hello, UDP Server!")?;

    let mut reply = [0; 1024];
    let length = socket.recv(&mut reply)?;
    println!("Received: {}", String::from_utf8_lossy(&reply[..length]));
    Ok(())
}
