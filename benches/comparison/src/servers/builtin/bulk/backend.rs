//! The server behind a proxy: checks bytes and confirms each MiB.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::byte_pattern::{SLICE_BYTES, is_pattern};
use crate::servers::builtin::{ADDRESS, print_ready_line};
use crate::workload::MIB;

/// Serves until killed.
pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(ADDRESS)?;
    print_ready_line(listener.local_addr()?)?;
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || discard(stream));
    }
    Ok(())
}

/// Reads to EOF. Wrong bytes end the connection, which fails the run.
fn discard(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; SLICE_BYTES];
    let mut received_bytes: u64 = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 || !is_pattern(received_bytes, &buffer[..count]) {
            return Ok(());
        }
        let before = received_bytes / MIB;
        received_bytes += count as u64;
        for _ in before..received_bytes / MIB {
            stream.write_all(b"!")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byte_pattern::pattern_at;

    fn replies_to(input: &[u8]) -> Vec<u8> {
        let listener = TcpListener::bind(ADDRESS).expect("a listener");
        let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a client");
        let (server, _) = listener.accept().expect("the client");
        let server = thread::spawn(move || discard(server));
        let mut replies = Vec::new();
        // A client whose bytes are wrong may see a reset instead of an EOF.
        let _ = client.write_all(input).and_then(|()| client.shutdown(std::net::Shutdown::Write));
        let _ = client.read_to_end(&mut replies);
        let _ = server.join().expect("the server thread");
        replies
    }

    #[test]
    fn the_backend_confirms_each_mebibyte_of_the_pattern_and_nothing_else() {
        let positions = (0..MIB).step_by(SLICE_BYTES);
        let mut input: Vec<u8> = positions.flat_map(pattern_at).copied().collect();
        assert_eq!(replies_to(&input), b"!");
        assert_eq!(replies_to(&input[1..]), b"");
        input[SLICE_BYTES] ^= 1;
        assert_eq!(replies_to(&input), b"");
    }
}
