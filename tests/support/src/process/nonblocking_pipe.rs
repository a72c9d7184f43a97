//! A small pipe that a child process writes to without blocking.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Opens a pipe whose writing end has `O_NONBLOCK`, as a parent process could set it that writes to the pipe too. On
/// Linux it has room for 4096 bytes.
///
/// # Panics
///
/// If the system refuses the pipe.
#[must_use]
pub fn nonblocking_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_WRONLY)).expect("O_NONBLOCK");
    #[cfg(target_os = "linux")]
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("a smaller pipe");
    (reader, writer)
}

/// Whether a pipe has no room.
///
/// # Panics
///
/// If the poll fails.
pub fn is_full(writer: impl AsFd) -> bool {
    let mut watched = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
    poll(&mut watched, PollTimeout::ZERO).expect("poll") == 0
}
