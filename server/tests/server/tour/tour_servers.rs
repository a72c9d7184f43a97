//! Starts servers of a case, and talks to them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;

use support::process::server::Server;
use tempfile::TempDir;

use crate::HALLOO;

/// The servers of a case, by their names on the command line.
pub(crate) const SERVERS: [&str; 3] = ["twin", "mio", "halloo"];

/// The words that start a server of a case, with its recording in a folder.
pub(crate) fn serve_words<'a>(case: &'a str, server: &'a str, folder: &'a Path) -> [&'a str; 6] {
    ["tour", case, "--serve", server, "--save", folder.to_str().expect("a plain path")]
}

/// Starts a server of a case, with its recording in a folder.
#[track_caller]
pub(crate) fn start(case: &str, server: &str, folder: &Path) -> Server {
    let mut command = HALLOO.command(&serve_words(case, server, folder));
    command.stdin(Stdio::piped());
    Server::start(command)
}

/// A server of a case, with a folder of its own for its recording.
pub(crate) struct ServerAndFolder {
    pub(crate) process: Server,
    _folder: TempDir,
}

impl ServerAndFolder {
    #[track_caller]
    pub(crate) fn start(case: &str, server: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { process: start(case, server, folder.path()), _folder: folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process.tcp()
    }
}

/// Sends a line, and receives it.
#[track_caller]
pub(crate) fn exchange(client: &mut TcpStream, line: &str) {
    client.write_all(line.as_bytes()).expect("the server reads");
    let mut reply = vec![0; line.len()];
    client.read_exact(&mut reply).expect("the server replies");
    assert_eq!(reply, line.as_bytes());
}

/// The UDP address of a server, which may be bound to all addresses.
pub(crate) fn udp_address(server: &Server) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, server.udp().port()).into()
}
