//! Writes whole lines to a stream, and counts unwritten ones.
//!
//! After a partly written line the next one starts on a new line.

use std::io::{self, Write};

/// The most that one call writes, in bytes. A pipe takes a write of this size whole or not at all (`PIPE_BUF`,
/// pipe(7)), so that output of another process cannot split a line.
const WRITE_BYTES_MAX: usize = 4096;

/// Lines are buffered up to this size, in bytes.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// Writes lines to a stream.
pub(crate) struct LineWriter {
    writer: Box<dyn Write + Send>,
    /// Called when the stream begins to fail.
    on_error: Box<dyn Fn(&io::Error) + Send>,
    /// Whole lines, not yet written.
    pub(crate) buffer: Vec<u8>,
    last_write: LastWrite,
    /// Lines that could not be written, not yet reported.
    unwritten_lines: u64,
}

/// How the last write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastWrite {
    Complete,
    /// It failed between two lines.
    FailedBetweenLines,
    /// It failed within a line, whose first part is written.
    FailedWithinLine,
}

impl LineWriter {
    /// Writes to any stream.
    pub(crate) fn new(writer: Box<dyn Write + Send>, on_error: impl Fn(&io::Error) + Send + 'static) -> Self {
        Self {
            writer,
            on_error: Box::new(on_error),
            buffer: Vec::new(),
            last_write: LastWrite::Complete,
            unwritten_lines: 0,
        }
    }

    /// Whether the buffer should be flushed.
    pub(crate) fn is_buffer_full(&self) -> bool {
        self.buffer.len() >= BUFFER_BYTES_MAX
    }

    /// Writes the buffered lines, and returns how many of them were not written whole. These stay counted until a notice
    /// with their number is written.
    pub(crate) fn flush(&mut self, buffer_loss_notice: impl FnOnce(&mut Vec<u8>, u64)) -> u64 {
        if self.buffer.is_empty() {
            return 0;
        }
        let mut lines = std::mem::take(&mut self.buffer);
        let unwritten_lines = self.write_lines(&lines);
        self.unwritten_lines += unwritten_lines;
        lines.clear();
        if self.unwritten_lines > 0 && self.last_write == LastWrite::Complete {
            buffer_loss_notice(&mut lines, self.unwritten_lines);
            if self.write_lines(&lines) == 0 {
                self.unwritten_lines = 0;
            }
            lines.clear();
        }
        self.buffer = lines;
        unwritten_lines
    }

    /// Writes whole lines, and returns how many of them were not written whole.
    fn write_lines(&mut self, lines: &[u8]) -> u64 {
        let mut written = 0;
        if self.last_write != LastWrite::FailedWithinLine || self.write_prefix(b"\n") == 1 {
            written = self.write_prefix(lines);
        }
        lines[written..].split_inclusive(|&byte| byte == b'\n').count() as u64
    }

    /// Like `write_all`, but returns how many bytes were written, and records how the write ended.
    fn write_prefix(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            let error = match self.writer.write(next_piece(&bytes[written..])) {
                Ok(count @ 1..) => {
                    written += count;
                    continue;
                }
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.record_error(bytes[..written].last(), &error);
            return written;
        }
        self.last_write = LastWrite::Complete;
        written
    }

    fn record_error(&mut self, last: Option<&u8>, error: &io::Error) {
        let previous = self.last_write;
        self.last_write = match (last, previous) {
            (Some(b'\n'), _) | (None, LastWrite::Complete | LastWrite::FailedBetweenLines) => {
                LastWrite::FailedBetweenLines
            }
            (Some(_), _) | (None, LastWrite::FailedWithinLine) => LastWrite::FailedWithinLine,
        };
        if previous == LastWrite::Complete {
            (self.on_error)(error);
        }
    }
}

/// The whole lines that fit in one write, or the beginning of a longer line.
fn next_piece(lines: &[u8]) -> &[u8] {
    let piece = &lines[..lines.len().min(WRITE_BYTES_MAX)];
    let whole_lines_end = piece.iter().rposition(|&byte| byte == b'\n').map(|index| index + 1);
    &piece[..whole_lines_end.unwrap_or(piece.len())]
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::{LineWriter, WRITE_BYTES_MAX};

    /// A stream that takes a limited number of bytes.
    #[derive(Clone, Default)]
    struct LimitedWriter(Arc<Mutex<(usize, Vec<String>)>>);

    impl LimitedWriter {
        fn with_capacity(capacity: usize) -> Self {
            Self(Arc::new(Mutex::new((capacity, Vec::new()))))
        }

        fn writes(&self) -> Vec<String> {
            self.0.lock().unwrap().1.clone()
        }

        fn text(&self) -> String {
            self.writes().concat()
        }

        fn set_capacity(&self, capacity: usize) {
            self.0.lock().unwrap().0 = capacity;
        }
    }

    impl Write for LimitedWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut writer = self.0.lock().unwrap();
            let count = bytes.len().min(writer.0);
            if count == 0 {
                // A file at its size limit; a full disk has the same effect.
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            writer.0 -= count;
            writer.1.push(String::from_utf8(bytes[..count].to_vec()).unwrap());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn write_line(lines: &mut LineWriter, line: &str) {
        lines.buffer.extend_from_slice(format!("{line}\n").as_bytes());
        lines.flush(|buffer, count| buffer.extend_from_slice(format!("lost={count}\n").as_bytes()));
    }

    #[test]
    fn lines_lost_to_a_full_file_are_counted_and_the_count_is_written_later() {
        let (writer, errors) = (LimitedWriter::with_capacity(9), Arc::new(Mutex::new(Vec::new())));
        let recorded = Arc::clone(&errors);
        let on_error = move |error: &io::Error| recorded.lock().unwrap().push(error.kind());
        let mut lines = LineWriter::new(Box::new(writer.clone()), on_error);
        for text in ["one", "two", "three", "four"] {
            write_line(&mut lines, text);
        }
        assert_eq!(writer.text(), "one\ntwo\nt");
        assert_eq!(*errors.lock().unwrap(), [io::ErrorKind::FileTooLarge]);
        writer.set_capacity(1000);
        write_line(&mut lines, "five");
        assert_eq!(writer.text(), "one\ntwo\nt\nfive\nlost=2\n");
        write_line(&mut lines, "six");
        assert_eq!(writer.text(), "one\ntwo\nt\nfive\nlost=2\nsix\n");
    }

    #[test]
    fn a_loss_count_that_does_not_fit_is_written_later() {
        for (capacity, written) in [(4, "two\nthree\nlost=1\n"), (6, "two\nlo\nthree\nlost=1\n")] {
            let writer = LimitedWriter::with_capacity(0);
            let mut lines = LineWriter::new(Box::new(writer.clone()), |_| {});
            write_line(&mut lines, "one");
            writer.set_capacity(capacity);
            write_line(&mut lines, "two");
            writer.set_capacity(1000);
            write_line(&mut lines, "three");
            assert_eq!(writer.text(), written);
        }
    }

    #[test]
    fn a_write_has_whole_lines_and_at_most_pipe_buf_bytes() {
        let stream = LimitedWriter::with_capacity(1_000_000);
        let mut lines = LineWriter::new(Box::new(stream.clone()), |_| {});
        let text: String = (0..300).flat_map(|number| ["x".repeat(number), "\n".to_owned()]).collect();
        lines.buffer.extend_from_slice(text.as_bytes());
        write_line(&mut lines, &"y".repeat(10_000));
        let writes = stream.writes();
        assert_eq!(writes.concat(), format!("{text}{}\n", "y".repeat(10_000)));
        assert!(writes.iter().all(|write| write.len() <= WRITE_BYTES_MAX));
        let (long_line, whole_lines): (Vec<&String>, Vec<&String>) =
            writes.iter().partition(|write| write.contains('y'));
        assert!(whole_lines.iter().all(|write| write.ends_with('\n')));
        assert_eq!((whole_lines.len(), long_line.len()), (text.len().div_ceil(WRITE_BYTES_MAX), 3));
    }
}
