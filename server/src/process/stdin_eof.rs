//! `--exit-on-eof`: the end of standard input stops the server.
//!
//! A thread reads the input, since a read of a terminal or a shared pipe may block.

use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;
use std::{fs, thread};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{getpgrp, tcgetpgrp};

use crate::exit::{ExitError, ExitStatus};
use crate::process::inherited_signals::block_signals;

/// The time between two reads of a terminal by a background process. The kernel does not report when `fg` ends this.
const BACKGROUND_INTERVAL: Duration = Duration::from_secs(1);

/// Checks that standard input can stay open: a file or `/dev/null` ends at once.
pub(crate) fn check(assignment: &str) -> Result<(), ExitError> {
    let stdin = io::stdin();
    let metadata = stdin.as_fd().try_clone_to_owned().map(fs::File::from).and_then(|file| file.metadata());
    let is_pipe = metadata.is_ok_and(|metadata| {
        let file_type = metadata.file_type();
        file_type.is_fifo() || file_type.is_socket()
    });
    if is_pipe || stdin.is_terminal() {
        return Ok(());
    }
    let message = format!(
        "cannot wait for the end of standard input: it is closed, a file or /dev/null, which ends at once; start \
         halloo with a pipe as standard input, or leave {assignment} out"
    );
    Err(ExitError::new(ExitStatus::UsageError, message))
}

/// Starts a thread that calls `on_eof` when standard input has ended. Its bytes are ignored.
pub(crate) fn watch(on_eof: impl FnOnce() + Send + 'static) -> Result<(), ExitError> {
    let read = move || {
        // By default a read of the terminal by a background process stops all threads (termios(3)); it then fails.
        block_signals(&[Signal::SIGTTIN as i32]);
        read_to_end();
        on_eof();
    };
    let started = thread::Builder::new().name("stdin".to_owned()).spawn(read);
    started.map(drop).map_err(|error| ExitError::from_io("cannot start the thread that reads standard input", &error))
}

fn read_to_end() {
    let mut stdin = io::stdin().lock();
    let mut ignored = [0; 4096];
    loop {
        match stdin.read(&mut ignored) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // The parent has made the pipe non-blocking. A failed wait is repeated by the next read.
                let _ = poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            }
            Err(_) if is_in_background(stdin.as_fd()) => thread::sleep(BACKGROUND_INTERVAL),
            // A terminal that is gone fails with EIO.
            Ok(0) | Err(_) => return,
        }
    }
}

/// Whether another process group reads this terminal, after `&` or `bg` in a shell.
fn is_in_background(terminal: BorrowedFd<'_>) -> bool {
    // An error: it is no terminal, not that of this process, or gone.
    tcgetpgrp(terminal).is_ok_and(|foreground| foreground != getpgrp())
}
