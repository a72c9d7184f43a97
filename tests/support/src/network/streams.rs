//! Requests and replies over blocking streams, TCP or unix.

use std::io::{ErrorKind, Read, Write};

/// The request that the tests send over streams.
pub const REQUEST: &[u8] = b"Hello, TCP Server!";

/// The default reply over streams.
pub const GREETING: &str = "Hello, TCP Client!";

/// Sends all bytes.
#[track_caller]
pub fn send(mut to: impl Write, bytes: &[u8]) {
    to.write_all(bytes).expect("the server reads");
}

/// Reads text until EOF. A reset fails the test.
#[track_caller]
pub fn read_to_end(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).expect("text, and then EOF");
    text
}

/// Reads until EOF or a reset.
#[track_caller]
pub fn read_until_closed(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = from.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "neither EOF nor a reset");
    }
    bytes
}

/// Reads exactly `count` bytes.
#[track_caller]
pub fn read_exactly(mut from: impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).expect("the server answers");
    bytes
}
