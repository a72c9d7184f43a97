//! A server started by a supervisor, with sockets from descriptor 3 up.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{BorrowedFd, RawFd};
use std::process::Command;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use support::network::tcp::connect;
use support::process::child::{Process, ProcessOutput, run};
use support::process::server::Server;
use support::wait::{wait_for_stable, wait_until};

use crate::HALLOO;

/// The first descriptor that is passed (`sd_listen_fds(3)`).
const LISTEN_FDS_START: RawFd = 3;

/// Sets the variables that contain the process id, which stays the same when the shell becomes the program.
const LAUNCHER: &str = r#"
export LISTEN_PID="${LISTEN_PID-$$}" LISTEN_FDS="${LISTEN_FDS-$FD_COUNT}" WATCHDOG_PID="${WATCHDOG_PID-$$}"
unset FD_COUNT
exec "$0" "$@"
"#;

/// What the server is started with.
#[derive(Default)]
pub(crate) struct Activation<'a> {
    pub(crate) arguments: &'a [&'a str],
    pub(crate) env: &'a [(&'a str, &'a str)],
    /// In the order of their descriptors.
    pub(crate) sockets: &'a [BorrowedFd<'a>],
}

impl Activation<'_> {
    /// Starts a server, and waits for its READY line.
    #[track_caller]
    pub(crate) fn start(&self) -> Server {
        Server::start(self.command())
    }

    /// Starts a server under another program, which becomes the server, and waits for its READY line.
    #[track_caller]
    pub(crate) fn start_under(&self, wrapper: &[&str]) -> Server {
        Server::start(self.command_under(wrapper))
    }

    /// Starts a server without waiting.
    #[track_caller]
    pub(crate) fn spawn(&self) -> Server {
        Server::spawn(self.command())
    }

    /// Runs the binary to its end.
    #[track_caller]
    pub(crate) fn run(&self) -> ProcessOutput {
        run(self.command())
    }

    fn command(&self) -> Command {
        self.command_under(&[])
    }

    fn command_under(&self, wrapper: &[&str]) -> Command {
        let wrapper = [&["sh", "-c", LAUNCHER], wrapper].concat();
        let mut command = HALLOO.command_under(&wrapper, self.arguments);
        command.envs(self.env.iter().copied()).env("FD_COUNT", self.sockets.len().to_string());
        let duplicate = |socket: &BorrowedFd<'_>| socket.try_clone_to_owned().expect("there are descriptors left");
        let mappings = self.sockets.iter().zip(LISTEN_FDS_START..);
        let mappings = mappings.map(|(socket, child_fd)| FdMapping { parent_fd: duplicate(socket), child_fd });
        command.fd_mappings(mappings.collect()).expect("each descriptor is used once");
        command
    }
}

/// The descriptors of sockets of several types.
#[macro_export]
macro_rules! borrowed_fds {
    ($($socket:expr),* $(,)?) => { [$(std::os::fd::AsFd::as_fd(&$socket)),*] };
}

/// Connects a silent client, once the server has no other connection, and waits until it is accepted.
#[track_caller]
pub(crate) fn connect_accepted(server: &Server, to: SocketAddr, fds_before: usize) -> TcpStream {
    wait_until("other connections to be closed", || server.fd_count() == fds_before);
    let silent = connect(to);
    wait_until("the connection", || server.fd_count() > fds_before);
    silent
}

/// The voluntary context switches of a process, once it has not woken up for 200 ms.
#[track_caller]
pub(crate) fn idle_context_switches(process: &Process) -> u64 {
    wait_for_stable("no wake-up", Duration::from_millis(200), || process.voluntary_context_switches())
}
