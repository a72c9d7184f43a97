//! HAProxy with the files of `examples/deploy/haproxy`, and the states of its servers.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use support::wait::{TIMEOUT, wait_until};
use tempfile::TempDir;

use crate::engine::{Engine, deployed};

/// An address of a file in `examples/deploy/haproxy` that stands for the one of a test.
pub(crate) type Substitute<'a> = (&'a str, String);

/// A running HAProxy.
pub(crate) struct Haproxy {
    pub(crate) engine: Engine,
    runtime_socket: PathBuf,
    _folder: TempDir,
}

impl Haproxy {
    /// Starts HAProxy with a file of `examples/deploy/haproxy` and the addresses of a test.
    #[track_caller]
    pub(crate) fn start(file: &str, address: SocketAddr, substitutes: &[Substitute<'_>]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime_socket = folder.path().join("runtime.sock");
        let mut all = vec![
            ("bind :8888", format!("bind {address}")),
            ("/run/haproxy/admin.sock", runtime_socket.display().to_string()),
        ];
        all.extend_from_slice(substitutes);
        let engine = Engine::haproxy(&deployed(&format!("haproxy/{file}"), &all), address);
        Self { engine, runtime_socket, _folder: folder }
    }

    /// Where its clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.engine.address
    }

    /// The state of a server, by its name: `UP`, `DOWN`, or one such as `UP 1/2`.
    #[track_caller]
    pub(crate) fn state_of(&self, server: &str) -> String {
        let mut stream = UnixStream::connect(&self.runtime_socket).expect("HAProxy listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("an option of every stream");
        stream.write_all(b"show stat\n").expect("HAProxy reads");
        let mut table = String::new();
        stream.read_to_string(&mut table).expect("text, and then EOF");
        let mut rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let header = rows.next().expect("a header");
        let column = header.iter().position(|name| *name == "status").expect("a column of states");
        let row = rows.find(|row| row.get(1) == Some(&server)).unwrap_or_else(|| panic!("no {server} in {table}"));
        row[column].to_owned()
    }

    /// Waits until a server has this state.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, server: &str, state: &str) {
        wait_until(&format!("{server} {state}"), || self.state_of(server) == state);
    }
}
