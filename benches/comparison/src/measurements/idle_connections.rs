//! Idle connections that are kept open.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::workload::{LINE_REQUEST, LINE_RESPONSE};

/// Descriptors of a server or of this program besides the idle connections.
const RESERVED_FDS: u64 = 200;
/// Connections from one client address, which has about 28,000 ports.
const CONNECTIONS_PER_ADDRESS: usize = 20_000;
/// The most connections at any limit: kernel memory must suffice on a small machine.
const CONNECTIONS_MAX: u64 = 100_000;

/// Idle connections to one server, each of which has exchanged one line.
pub(crate) struct IdleConnections {
    address: SocketAddr,
    streams: Vec<TcpStream>,
}

impl IdleConnections {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, streams: Vec::new() }
    }

    /// Opens connections until there are `connections`.
    pub(crate) fn grow_to(&mut self, connections: usize) -> io::Result<()> {
        while self.streams.len() < connections {
            let mut stream = self.open()?;
            stream.write_all(LINE_REQUEST)?;
            let mut response = [0; LINE_RESPONSE.len()];
            stream.read_exact(&mut response)?;
            if response != LINE_RESPONSE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a wrong answer"));
            }
            self.streams.push(stream);
        }
        Ok(())
    }

    fn open(&self) -> io::Result<TcpStream> {
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if let block @ 1.. = self.streams.len() / CONNECTIONS_PER_ADDRESS {
            let last_octet = u8::try_from(block + 1).map_err(io::Error::other)?;
            rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::new(127, 0, 0, last_octet), 0)))?;
        }
        rustix::net::connect(&socket, &self.address)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }
}

/// The most idle connections with this limit on descriptors.
pub(crate) fn connections_max(fd_limit: u64) -> usize {
    usize::try_from(fd_limit.saturating_sub(RESERVED_FDS).min(CONNECTIONS_MAX)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_by_the_limit_on_descriptors_and_by_100_000() {
        assert_eq!(connections_max(20_000), 19_800);
        assert_eq!(connections_max(100), 0);
        assert_eq!(connections_max(1 << 30), 100_000);
    }
}
