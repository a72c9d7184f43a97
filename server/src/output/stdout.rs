//! Writes lines to standard output, on its printing thread.
//!
//! A stream that fails loses lines, which are counted. After a partly written line the next one starts on a new line.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::SystemTime;

use crate::cli::flags::EventStyle;
use crate::output::printer_thread::LineSink;
use crate::text::greeting_event::{GreetingEvent, format_timestamp};

/// Lines are buffered up to this size and then written at once, in bytes.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// A line on standard output.
#[derive(Debug)]
pub(crate) enum StdoutLine {
    /// Written as it is.
    Plain(String),
    /// Written in the event style.
    Event(GreetingEvent),
}

/// Writes lines to standard output.
pub(crate) struct StdoutWriter {
    writer: Box<dyn Write + Send>,
    style: EventStyle,
    /// Called with a message when the stream begins to fail.
    on_error: Box<dyn Fn(String) + Send>,
    buffer: Vec<u8>,
    last_write: LastWrite,
    /// Lines that could not be written, not yet reported.
    unwritten_lines: u64,
}

/// How the last write to standard output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastWrite {
    Complete,
    /// It failed between two lines.
    FailedBetweenLines,
    /// It failed within a line, whose first part is out.
    FailedWithinLine,
}

impl StdoutWriter {
    /// Writes to the standard output of the process.
    pub(crate) fn new(style: EventStyle, on_error: impl Fn(String) + Send + 'static) -> Self {
        Self::with_writer(unbuffered_stdout(), style, on_error)
    }

    /// Writes to any stream.
    pub(crate) fn with_writer(
        writer: Box<dyn Write + Send>,
        style: EventStyle,
        on_error: impl Fn(String) + Send + 'static,
    ) -> Self {
        Self {
            writer,
            style,
            on_error: Box::new(on_error),
            buffer: Vec::new(),
            last_write: LastWrite::Complete,
            unwritten_lines: 0,
        }
    }

    fn buffer_loss_notice(&mut self, lost: u64, cause: &str) {
        // Writing into a vector cannot fail.
        let _ = match self.style {
            EventStyle::Json => {
                let time = format_timestamp(SystemTime::now());
                writeln!(self.buffer, "{{\"time\":\"{time}\",\"lost\":{lost}}}")
            }
            EventStyle::Text | EventStyle::Off => writeln!(self.buffer, "... {lost} lines lost, {cause}"),
        };
    }

    fn write_buffer(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let mut lines = std::mem::take(&mut self.buffer);
        // Lines that could not be written stay counted until a line that reports them is written.
        self.unwritten_lines += self.write_lines(&lines);
        lines.clear();
        self.buffer = lines;
        if self.unwritten_lines > 0 && self.last_write == LastWrite::Complete {
            self.buffer_loss_notice(self.unwritten_lines, "the output could not be written");
            let loss_notice = std::mem::take(&mut self.buffer);
            if self.write_lines(&loss_notice) == 0 {
                self.unwritten_lines = 0;
            }
        }
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
            let error = match self.writer.write(&bytes[written..]) {
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
            (self.on_error)(format!(
                "cannot write to standard output: {error}; its lines are dropped, serving goes on"
            ));
        }
    }
}

impl LineSink for StdoutWriter {
    type Line = StdoutLine;

    fn write_line(&mut self, line: &StdoutLine) {
        match line {
            StdoutLine::Plain(text) => {
                self.buffer.extend_from_slice(text.as_bytes());
                self.buffer.push(b'\n');
            }
            StdoutLine::Event(event) if self.style == EventStyle::Json => event.write_json(&mut self.buffer),
            StdoutLine::Event(event) => event.write_text(&mut self.buffer),
        }
    }

    fn write_suppressed(&mut self, count: u64) {
        self.write_line(&StdoutLine::Plain(format!("... and {count} more in the last second")));
    }

    fn is_buffer_full(&self) -> bool {
        self.buffer.len() >= BUFFER_BYTES_MAX
    }

    fn flush(&mut self, lost: u64) {
        if lost > 0 {
            self.buffer_loss_notice(lost, "the output was too slow");
        }
        self.write_buffer();
    }
}

/// Standard output without the buffer that the standard library keeps before it: what failed must not be sent again.
fn unbuffered_stdout() -> Box<dyn Write + Send> {
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(File::from(fd)),
        Err(_) => Box::new(io::stdout()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::{LineSink, StdoutLine, StdoutWriter};
    use crate::cli::flags::EventStyle;

    /// A stream with a capacity in bytes, and no more.
    #[derive(Clone, Default)]
    struct LimitedWriter(Arc<Mutex<(usize, String)>>);

    impl LimitedWriter {
        fn with_capacity(capacity: usize) -> Self {
            Self(Arc::new(Mutex::new((capacity, String::new()))))
        }

        fn text(&self) -> String {
            self.0.lock().unwrap().1.clone()
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
                return Err(io::ErrorKind::StorageFull.into());
            }
            writer.0 -= count;
            writer.1.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(text: &str) -> StdoutLine {
        StdoutLine::Plain(text.to_owned())
    }

    #[test]
    fn a_full_disk_costs_lines_and_the_loss_is_said_when_there_is_room() {
        let (writer, errors) = (LimitedWriter::with_capacity(9), Arc::new(Mutex::new(Vec::new())));
        let recorded = Arc::clone(&errors);
        let on_error = move |text| recorded.lock().unwrap().push(text);
        let mut stdout = StdoutWriter::with_writer(Box::new(writer.clone()), EventStyle::Text, on_error);
        for text in ["one", "two", "three", "four"] {
            stdout.write_line(&line(text));
            stdout.flush(0);
        }
        assert_eq!(writer.text(), "one\ntwo\nt");
        let errors = errors.lock().unwrap();
        assert!(errors.len() == 1 && errors[0].starts_with("cannot write to standard output"), "{errors:?}");
        writer.set_capacity(1000);
        stdout.write_line(&line("five"));
        stdout.flush(0);
        let all = "one\ntwo\nt\nfive\n... 2 lines lost, the output could not be written\n";
        assert_eq!(writer.text(), all);
        stdout.write_line(&line("six"));
        stdout.flush(0);
        assert_eq!(writer.text(), format!("{all}six\n"));
    }

    #[test]
    fn what_the_queue_lost_is_said() {
        let writer = LimitedWriter::with_capacity(1000);
        let mut stdout = StdoutWriter::with_writer(Box::new(writer.clone()), EventStyle::Text, |_| {});
        stdout.write_line(&line("one"));
        stdout.flush(7);
        assert_eq!(writer.text(), "one\n... 7 lines lost, the output was too slow\n");
    }
}
