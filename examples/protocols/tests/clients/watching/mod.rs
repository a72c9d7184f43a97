//! The examples that watch descriptors or the loop, with clients of std.

mod signals_and_clients;
mod slowest_turns;
mod watched_child;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use support::wait::TIMEOUT;

/// A blocking client with a read timeout.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("the example listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().expect("the socket is connected")
    }

    #[track_caller]
    pub(crate) fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("the example reads");
    }

    /// Returns the next line, or an empty string at EOF.
    #[track_caller]
    pub(crate) fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line comes in time");
        line
    }

    /// Sends FIN.
    pub(crate) fn finish(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("the socket is connected");
    }

    /// Whether the connection is reset next.
    #[track_caller]
    pub(crate) fn is_reset(&mut self) -> bool {
        self.stream.read_line(&mut String::new()).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }
}
