//! Standard output and standard error, unbuffered.
//!
//! A write to a full non-blocking pipe waits for room, like a write to a blocking pipe.

use std::fmt::Display;
use std::io::{self, Stderr, Stdout, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

/// Standard output.
pub(crate) fn stdout() -> UnbufferedWriter<Stdout> {
    UnbufferedWriter(io::stdout())
}

/// Standard error.
pub(crate) fn stderr() -> UnbufferedWriter<Stderr> {
    UnbufferedWriter(io::stderr())
}

/// Writes to a descriptor without a buffer: bytes of a failed write must not be written later.
pub(crate) struct UnbufferedWriter<F>(F);

impl<F: AsFd> UnbufferedWriter<F> {
    /// Waits until a write would not block.
    pub(crate) fn wait_for_room(&self) -> io::Result<()> {
        let mut stream = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        while let Err(error) = poll(&mut stream, PollTimeout::NONE) {
            if error != Errno::EINTR {
                return Err(error.into());
            }
        }
        Ok(())
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
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::UnbufferedWriter;

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
