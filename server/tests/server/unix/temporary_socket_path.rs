//! The path of a unix socket, in a temporary folder.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use support::network::streams::{REQUEST, read_to_end, send};
use support::process::server::Server;
use support::wait::{TIMEOUT, wait_until};
use tempfile::TempDir;

use crate::HALLOO;

/// A path for one socket.
pub(crate) struct SocketPath {
    pub(crate) path: PathBuf,
    _folder: TempDir,
}

impl SocketPath {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { path: folder.path().join("halloo.sock"), _folder: folder }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.path.to_str().expect("a plain path")
    }

    /// Starts a server on this path.
    #[track_caller]
    pub(crate) fn start_server(&self, arguments: &[&str]) -> Server {
        HALLOO.start(&[&["--unix", self.as_str()], arguments].concat())
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> UnixStream {
        connect_unix(&self.path)
    }

    #[track_caller]
    pub(crate) fn request(&self) -> String {
        let client = self.connect();
        send(&client, REQUEST);
        read_to_end(&client)
    }

    /// A client that sends nothing, once the server has accepted it.
    #[track_caller]
    pub(crate) fn connect_accepted(&self, server: &Server) -> UnixStream {
        let before = server.fd_count();
        let client = self.connect();
        wait_until("the connection", || server.fd_count() == before + 1);
        client
    }
}

#[track_caller]
pub(crate) fn connect_unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the server listens");
    stream.set_read_timeout(Some(TIMEOUT)).expect("an option of every stream");
    stream.set_write_timeout(Some(TIMEOUT)).expect("an option of every stream");
    stream
}
