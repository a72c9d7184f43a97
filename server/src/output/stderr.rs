//! Writes lines to standard error, on its printing thread.
//!
//! Lines that cannot be written are counted.

use std::io::Write;
use std::time::SystemTime;

use log::Level;

use crate::cli::flags::serve_options::LogFormat;
use crate::exit::ExitError;
use crate::output::printer_thread::LineSink;
use crate::output::standard_stream;
use crate::text::escape;
use crate::text::greeting_event::format_timestamp;

/// A line on standard error.
#[derive(Debug)]
pub(crate) enum StderrLine {
    /// Why the process ends.
    Exit(ExitError),
    /// A log line: its level, its target and its text.
    Log(Level, &'static str, String),
}

/// A log line, without a newline.
fn log_line(format: LogFormat, level: Level, target: &str, text: &str) -> String {
    let time = format_timestamp(SystemTime::now());
    match format {
        LogFormat::Text => format!("{time} {level:<5} [{target}] {text}"),
        LogFormat::Json => {
            let (target, text) = (escape::json(target.as_bytes()), escape::json(text.as_bytes()));
            let level = level.as_str().to_ascii_lowercase();
            format!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"target\":{target},\"message\":{text}}}")
        }
    }
}

/// The line for an error that ends the process, without a newline.
pub(crate) fn exit_line(error: &ExitError, format: LogFormat) -> String {
    match format {
        LogFormat::Text => error.to_string(),
        LogFormat::Json => log_line(format, Level::Error, "halloo", &error.message),
    }
}

/// Writes lines to standard error.
pub(crate) struct StderrWriter {
    writer: Box<dyn Write + Send>,
    format: LogFormat,
    /// Lines that could not be written, not yet reported.
    unwritten_lines: u64,
    /// Lines that could not be written since the last flush.
    unwritten_since_flush: u64,
}

impl StderrWriter {
    /// Writes to the standard error of the process.
    pub(crate) fn new(format: LogFormat) -> Self {
        Self::with_writer(Box::new(standard_stream::stderr()), format)
    }

    /// Writes to any stream.
    pub(crate) fn with_writer(writer: Box<dyn Write + Send>, format: LogFormat) -> Self {
        Self { writer, format, unwritten_lines: 0, unwritten_since_flush: 0 }
    }

    /// Writes a line, and then the number of lines before it that could not be written.
    fn write(&mut self, line: &str) {
        if !self.try_write(line) {
            self.unwritten_lines += 1;
            self.unwritten_since_flush += 1;
        } else if self.unwritten_lines > 0 {
            let notice = format!("log lines lost: {}, standard error could not be written", self.unwritten_lines);
            if self.try_write(&log_line(self.format, Level::Warn, "halloo", &notice)) {
                self.unwritten_lines = 0;
            }
        }
    }

    /// Writes a line and a newline in one call, and returns whether they were written.
    fn try_write(&mut self, line: &str) -> bool {
        self.writer.write_all(format!("{line}\n").as_bytes()).is_ok()
    }
}

impl LineSink for StderrWriter {
    type Line = StderrLine;

    fn write_line(&mut self, line: &StderrLine) {
        match line {
            StderrLine::Exit(error) => self.write(&exit_line(error, self.format)),
            StderrLine::Log(level, target, text) => self.write(&log_line(self.format, *level, target, text)),
        }
    }

    fn flush(&mut self, lost: u64) -> u64 {
        if lost > 0 {
            let notice = format!("log lines lost: {lost}, standard error was too slow");
            self.write(&log_line(self.format, Level::Warn, "halloo", &notice));
        }
        std::mem::take(&mut self.unwritten_since_flush)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use log::Level;

    use super::{LineSink, LogFormat, StderrLine, StderrWriter};

    /// A stream that records what is written, or has no room.
    #[derive(Clone, Default)]
    struct TestStream(Arc<Mutex<(bool, Vec<String>)>>);

    impl TestStream {
        /// The lines without their times.
        fn lines(&self) -> Vec<String> {
            let lines = &self.0.lock().unwrap().1;
            lines.iter().map(|line| line.trim_end().split_once(' ').unwrap().1.to_owned()).collect()
        }

        fn set_full(&self, is_full: bool) {
            self.0.lock().unwrap().0 = is_full;
        }
    }

    impl Write for TestStream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut stream = self.0.lock().unwrap();
            if stream.0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            stream.1.push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writer_to(stream: &TestStream) -> StderrWriter {
        StderrWriter::with_writer(Box::new(stream.clone()), LogFormat::Text)
    }

    #[test]
    fn unwritten_lines_are_counted_until_there_is_room() {
        let stream = TestStream::default();
        let mut stderr = writer_to(&stream);
        stream.set_full(true);
        for text in ["lost", "lost, too"] {
            stderr.write_line(&StderrLine::Log(Level::Info, "halloo", text.to_owned()));
        }
        stream.set_full(false);
        for text in ["back", "and on"] {
            stderr.write_line(&StderrLine::Log(Level::Info, "halloo::net", text.to_owned()));
        }
        let notice = "WARN  [halloo] log lines lost: 2, standard error could not be written";
        assert_eq!(stream.lines(), ["INFO  [halloo::net] back", notice, "INFO  [halloo::net] and on"]);
        assert_eq!(stderr.flush(0), 2);
    }

    #[test]
    fn lines_lost_in_the_queue_are_logged() {
        let stream = TestStream::default();
        writer_to(&stream).flush(1);
        assert_eq!(stream.lines(), ["WARN  [halloo] log lines lost: 1, standard error was too slow"]);
    }
}
