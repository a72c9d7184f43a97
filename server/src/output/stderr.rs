//! Writes lines to standard error, on its printing thread.
//!
//! A stream that fails loses lines, which are counted.

use std::io::Write;
use std::time::SystemTime;

use log::Level;

use crate::output::line_writer::LineWriter;
use crate::output::printer_thread::LineSink;
use crate::output::standard_stream;
use crate::text::greeting_event::format_timestamp;

/// A line on standard error.
#[derive(Debug)]
pub(crate) enum StderrLine {
    /// Written as it is.
    Plain(String),
    /// A log line: its level, its target and its text.
    Log(Level, &'static str, String),
}

/// Writes lines to standard error.
pub(crate) struct StderrWriter {
    lines: LineWriter,
}

impl StderrWriter {
    /// Writes to the standard error of the process.
    pub(crate) fn new() -> Self {
        Self::with_writer(Box::new(standard_stream::stderr()))
    }

    /// Writes to any stream.
    pub(crate) fn with_writer(writer: Box<dyn Write + Send>) -> Self {
        // The number of lines that are lost is logged later; until then there is no stream for an error message.
        Self { lines: LineWriter::new(writer, |_| {}) }
    }
}

/// `2026-01-01T00:00:00.000Z WARN  [halloo] text`
fn write_log_line(buffer: &mut Vec<u8>, level: Level, target: &str, text: &str) {
    // Writing into a vector cannot fail, here and below.
    let _ = writeln!(buffer, "{} {level:<5} [{target}] {text}", format_timestamp(SystemTime::now()));
}

fn write_loss_notice(buffer: &mut Vec<u8>, lost: u64, cause: &str) {
    write_log_line(buffer, Level::Warn, "halloo", &format!("log lines lost: {lost}, {cause}"));
}

impl LineSink for StderrWriter {
    type Line = StderrLine;

    fn write_line(&mut self, line: &StderrLine) {
        match line {
            StderrLine::Plain(text) => {
                let _ = writeln!(self.lines.buffer, "{text}");
            }
            StderrLine::Log(level, target, text) => write_log_line(&mut self.lines.buffer, *level, target, text),
        }
    }

    fn is_buffer_full(&self) -> bool {
        self.lines.is_buffer_full()
    }

    fn flush(&mut self, lost: u64) {
        if lost > 0 {
            write_loss_notice(&mut self.lines.buffer, lost, "standard error was too slow");
        }
        self.lines.flush(|buffer, count| write_loss_notice(buffer, count, "standard error could not be written"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use log::Level;

    use super::{LineSink, StderrLine, StderrWriter};

    /// A stream that keeps what is written, or has no room.
    #[derive(Clone, Default)]
    struct TestWriter(Arc<Mutex<(bool, String)>>);

    impl TestWriter {
        /// The lines without their time.
        fn lines(&self) -> Vec<String> {
            let text = self.0.lock().unwrap().1.clone();
            text.lines().map(|line| line.split_once("Z ").map_or(line, |(_, rest)| rest).to_owned()).collect()
        }

        fn set_full(&self, is_full: bool) {
            self.0.lock().unwrap().0 = is_full;
        }
    }

    impl Write for TestWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut writer = self.0.lock().unwrap();
            if writer.0 {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            writer.1.push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_could_not_be_written_are_counted_until_there_is_room() {
        let writer = TestWriter::default();
        let mut stderr = StderrWriter::with_writer(Box::new(writer.clone()));
        writer.set_full(true);
        for line in
            [StderrLine::Log(Level::Info, "halloo", "lost".to_owned()), StderrLine::Plain("halloo: lost".to_owned())]
        {
            stderr.write_line(&line);
            stderr.flush(0);
        }
        writer.set_full(false);
        stderr.write_line(&StderrLine::Log(Level::Info, "halloo::net", "back".to_owned()));
        stderr.flush(0);
        let expected =
            ["INFO  [halloo::net] back", "WARN  [halloo] log lines lost: 2, standard error could not be written"];
        assert_eq!(writer.lines(), expected);
    }

    #[test]
    fn the_loss_of_the_queue_is_logged() {
        let writer = TestWriter::default();
        StderrWriter::with_writer(Box::new(writer.clone())).flush(1);
        assert_eq!(writer.lines(), ["WARN  [halloo] log lines lost: 1, standard error was too slow"]);
    }
}
