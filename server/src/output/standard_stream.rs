//! Standard output and standard error, unbuffered.
//!
//! A write to a full non-blocking pipe waits for room, like a write to a blocking pipe.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Stderr, Stdout, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

use crate::exit::{ExitError, ExitStatus};

/// Standard output.
pub(crate) fn stdout() -> UnbufferedWriter<Stdout> {
    UnbufferedWriter(io::stdout())
}

/// Standard error.
pub(crate) fn stderr() -> UnbufferedWriter<Stderr> {
    UnbufferedWriter(io::stderr())
}

/// Prints the output of a command. A reader that has closed the pipe, such as head, has read enough.
pub(crate) fn print(bytes: &[u8]) -> Result<ExitStatus, ExitError> {
    match stdout().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(ExitError::from_io("cannot write to standard output", &error))
        }
        _ => Ok(ExitStatus::Success),
    }
}

/// The longest write that a pipe with room takes whole, on every system: the least `PIPE_BUF` of POSIX, in bytes.
const AT_ONCE_BYTES_MAX: usize = 512;

/// Writes to a descriptor without a buffer: bytes of a failed write must not be written later.
pub(crate) struct UnbufferedWriter<F>(F);

impl<F: AsFd> UnbufferedWriter<F> {
    /// Waits until a write would not block.
    pub(crate) fn wait_for_room(&self) -> io::Result<()> {
        self.poll_for_room(PollTimeout::NONE).map(drop)
    }

    /// Whether a write of this many bytes cannot block: to a pipe, a socket, or a device such as `/dev/null`, that is
    /// writable. A file may be on a slow disk, and a writable terminal may have less room.
    pub(crate) fn takes_at_once(&self, bytes: usize) -> bool {
        let is_fast = || {
            let kind = File::from(self.0.as_fd().try_clone_to_owned()?).metadata()?.file_type();
            let is_device = kind.is_char_device() && !self.0.as_fd().is_terminal();
            io::Result::Ok(kind.is_fifo() || kind.is_socket() || is_device)
        };
        bytes <= AT_ONCE_BYTES_MAX
            && is_fast().unwrap_or(false)
            && self.poll_for_room(PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn poll_for_room(&self, timeout: PollTimeout) -> io::Result<i32> {
        loop {
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)], timeout) {
                Err(Errno::EINTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Writes a text and a newline, in one call if the stream takes both.
    pub(crate) fn write_line(&mut self, text: impl Display) -> io::Result<()> {
        self.write_all(format!("{text}\n").as_bytes())
    }
}

impl<F: AsFd> Write for UnbufferedWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match unistd::write(&self.0, bytes) {
                // The parent process, or another one that shares the pipe, may have set O_NONBLOCK.
                Err(Errno::EAGAIN) => self.wait_for_room()?,
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use nix::pty::openpty;

    use super::{AT_ONCE_BYTES_MAX, UnbufferedWriter};

    #[test]
    fn only_a_short_write_to_a_pipe_a_socket_or_a_device_with_room_is_at_once() {
        let takes = |file: &dyn AsFd, bytes| UnbufferedWriter(file.as_fd()).takes_at_once(bytes);
        let (reader, mut writer) = std::io::pipe().unwrap();
        assert!(takes(&writer, AT_ONCE_BYTES_MAX) && !takes(&writer, AT_ONCE_BYTES_MAX + 1));
        writer.write_all(&vec![0; 65_536]).unwrap();
        assert!(!takes(&writer, 1), "it is full");
        drop(reader);
        assert!(takes(&writer, 1), "an error comes at once");
        let (socket, _peer) = UnixStream::pair().unwrap();
        assert!(takes(&socket, 1));
        socket.set_nonblocking(true).unwrap();
        while (&socket).write(&[0; 4096]).is_ok() {}
        assert!(!takes(&socket, 1), "it is full");
        let device = |path| File::options().write(true).open(path).unwrap();
        assert!(takes(&device("/dev/null"), 1) && takes(&device("/dev/full"), 1));
        assert!(!takes(&tempfile::tempfile().unwrap(), 1));
        assert!(!takes(&openpty(None, None).unwrap().slave, 1));
    }

    #[test]
    fn a_write_to_a_full_nonblocking_stream_waits_for_room_or_fails_when_the_reader_closes() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut writer = UnbufferedWriter(writer);
        let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let received = thread::scope(|scope| {
            let read = scope.spawn(|| {
                let mut received = vec![0; sent.len()];
                reader.read_exact(&mut received).unwrap();
                received
            });
            writer.write_all(&sent).unwrap();
            read.join().unwrap()
        });
        assert!(received == sent);
        drop(reader);
        assert_eq!(writer.write_line("no reader").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }
}
