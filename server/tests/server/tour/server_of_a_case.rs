//! A server of a case, started by hand, for tests of `--against`.

use std::net::SocketAddr;
use std::process::Stdio;

use support::process::server::Server;
use tempfile::TempDir;

use crate::HALLOO;

/// A server of a case, in a folder of its own.
pub(crate) struct ServerOfCase {
    pub(crate) process: Server,
    _folder: TempDir,
}

impl ServerOfCase {
    /// Starts `halloo tour CASE --serve SERVER`.
    #[track_caller]
    pub(crate) fn start(case: &str, server: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = HALLOO.command(&["tour", case, "--serve", server]);
        command.current_dir(folder.path()).stdin(Stdio::piped());
        Self { process: Server::start(command), _folder: folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process.tcp()
    }
}
