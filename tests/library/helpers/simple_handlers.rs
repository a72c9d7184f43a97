//! The handlers of a greeting server and of an echo server.

use halloo::Connection;

pub(crate) const GREETING: &[u8] = b"Hello, TCP Client!";

/// The handler of the greeting server.
pub(crate) fn greet(connection: &mut Connection<'_>, input: &[u8]) -> usize {
    connection.send(GREETING).expect("the outbox is empty");
    connection.close();
    input.len()
}

/// The handler of an echo server.
pub(crate) fn echo(connection: &mut Connection<'_>, input: &[u8]) -> usize {
    connection.try_write(input)
}
