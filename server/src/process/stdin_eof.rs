//! `--exit-on-eof`: the end of standard input stops the server.
//!
//! A thread reads the input, since a read of a terminal or a shared pipe may block.

use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::{fs, thread};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit::{ExitError, ExitStatus};

/// Checks that standard input can stay open: a file or `/dev/null` ends at once.
pub(crate) fn check(assignment: &str) -> Result<(), ExitError> {
    let stdin = io::stdin();
    let is_endless = stdin.as_fd().try_clone_to_owned().map(fs::File::from).and_then(|file| file.metadata());
    let is_endless = is_endless.is_ok_and(|metadata| {
        let file_type = metadata.file_type();
        file_type.is_fifo() || file_type.is_socket()
    });
    if is_endless || stdin.is_terminal() {
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
            // A terminal that is gone fails with EIO.
            Ok(0) | Err(_) => return,
        }
    }
}
