//! The socket that `NOTIFY_SOCKET` names (`sd_notify(3)`).

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use support::network::udp::retry_interrupted;
use support::wait::TIMEOUT;
use tempfile::TempDir;

/// The supervisor's end of the socket.
pub(crate) struct NotifySocket {
    pub(crate) socket: UnixDatagram,
    pub(crate) path: String,
    _folder: TempDir,
}

impl NotifySocket {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("notify").to_str().expect("a plain path").to_owned();
        let socket = UnixDatagram::bind(&path).expect("a short path");
        Self { socket, path, _folder: folder }
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn recv(&self) -> String {
        self.recv_within(TIMEOUT).expect("a message arrives")
    }

    /// Waits for STOPPING=1; messages of the watchdog may precede it.
    #[track_caller]
    pub(crate) fn wait_for_stopping(&self) {
        let deadline = Instant::now() + TIMEOUT;
        while self.recv() != "STOPPING=1" {
            assert!(Instant::now() < deadline, "STOPPING=1 does not arrive");
        }
    }

    /// The next message, if one arrives within `timeout`.
    #[track_caller]
    pub(crate) fn recv_within(&self, timeout: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(timeout)).expect("an option of every socket");
        let mut message = [0; 1024];
        match retry_interrupted(|| self.socket.recv(&mut message)) {
            Ok(count) => Some(String::from_utf8(message[..count].to_vec()).expect("messages are text")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("cannot receive: {error}"),
        }
    }
}
