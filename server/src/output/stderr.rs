//! Writes lines to standard error, on its printing thread.
//!
//! Lines that cannot be written are counted. A failed write never ends the thread.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use log::{Level, Log, Metadata, Record};

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

/// A log line as JSON, without a newline.
fn json_line(level: Level, target: &str, message: impl Display) -> String {
    let (time, level) = (format_timestamp(SystemTime::now()), level.as_str().to_ascii_lowercase());
    let (target, message) = (escape::json(target.as_bytes()), escape::json(message.to_string().as_bytes()));
    format!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"target\":{target},\"message\":{message}}}")
}

/// The line for an error that ends the process, without a newline.
pub(crate) fn exit_line(error: &ExitError, format: LogFormat) -> String {
    match format {
        LogFormat::Text => error.to_string(),
        LogFormat::Json => json_line(Level::Error, "halloo", &error.message),
    }
}

/// Writes each record as a JSON object. It panics if standard error fails, like the logger for text.
struct JsonLogger;

impl Log for JsonLogger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = json_line(record.level(), record.target(), record.args());
        standard_stream::stderr().write_line(line).expect("standard error takes the line");
    }

    fn flush(&self) {}
}

/// Writes lines to standard error.
pub(crate) struct StderrWriter {
    logger: Box<dyn Log>,
    format: LogFormat,
    /// Lines that could not be written, not yet reported.
    unwritten_lines: u64,
    /// Lines that could not be written since the last flush.
    unwritten_since_flush: u64,
}

impl StderrWriter {
    /// Writes to the standard error of the process.
    pub(crate) fn new(format: LogFormat) -> Self {
        let logger: Box<dyn Log> = match format {
            LogFormat::Text => Box::new(simple_logger::SimpleLogger::new().with_utc_timestamps()),
            LogFormat::Json => Box::new(JsonLogger),
        };
        Self { format, ..Self::with_logger(logger) }
    }

    /// Writes log lines with any logger.
    pub(crate) fn with_logger(logger: Box<dyn Log>) -> Self {
        Self { logger, format: LogFormat::Text, unwritten_lines: 0, unwritten_since_flush: 0 }
    }

    /// Writes a log line, and then the number of lines before it that could not be written.
    fn log(&mut self, level: Level, target: &str, text: &str) {
        if !self.try_log(level, target, text) {
            self.count_unwritten();
        } else if self.unwritten_lines > 0 {
            let notice = format!("log lines lost: {}, standard error could not be written", self.unwritten_lines);
            if self.try_log(Level::Warn, "halloo", &notice) {
                self.unwritten_lines = 0;
            }
        }
    }

    fn count_unwritten(&mut self) {
        self.unwritten_lines += 1;
        self.unwritten_since_flush += 1;
    }

    /// Logs a line, and returns whether it was written: the logger panics if standard error fails.
    fn try_log(&self, level: Level, target: &str, text: &str) -> bool {
        // The logger does not wait for a non-blocking pipe. A pipe that is writable has room for a whole line
        // (poll(2)).
        standard_stream::stderr().wait_for_room().is_ok()
            && catch_unwind(AssertUnwindSafe(|| {
                self.logger.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
            }))
            .is_ok()
    }
}

impl LineSink for StderrWriter {
    type Line = StderrLine;

    fn write_line(&mut self, line: &StderrLine) {
        match line {
            StderrLine::Exit(error) => {
                if standard_stream::stderr().write_line(exit_line(error, self.format)).is_err() {
                    self.count_unwritten();
                }
            }
            StderrLine::Log(level, target, text) => self.log(*level, target, text),
        }
    }

    fn flush(&mut self, lost: u64) -> u64 {
        if lost > 0 {
            self.log(Level::Warn, "halloo", &format!("log lines lost: {lost}, standard error was too slow"));
        }
        std::mem::take(&mut self.unwritten_since_flush)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use log::{Level, Log, Metadata, Record};

    use super::{LineSink, StderrLine, StderrWriter};

    /// A logger that panics when its stream is full, as the real one does.
    #[derive(Clone, Default)]
    struct TestLogger(Arc<Mutex<(bool, Vec<String>)>>);

    impl TestLogger {
        fn lines(&self) -> Vec<String> {
            self.0.lock().unwrap().1.clone()
        }

        fn set_full(&self, is_full: bool) {
            self.0.lock().unwrap().0 = is_full;
        }
    }

    impl Log for TestLogger {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            let is_full = self.0.lock().unwrap().0;
            assert!(!is_full, "failed printing to stderr");
            self.0.lock().unwrap().1.push(format!("{} [{}] {}", record.level(), record.target(), record.args()));
        }

        fn flush(&self) {}
    }

    #[test]
    fn unwritten_lines_are_counted_until_there_is_room() {
        let logger = TestLogger::default();
        let mut stderr = StderrWriter::with_logger(Box::new(logger.clone()));
        logger.set_full(true);
        for text in ["lost", "lost, too"] {
            stderr.write_line(&StderrLine::Log(Level::Info, "halloo", text.to_owned()));
        }
        logger.set_full(false);
        for text in ["back", "and on"] {
            stderr.write_line(&StderrLine::Log(Level::Info, "halloo::net", text.to_owned()));
        }
        let notice = "WARN [halloo] log lines lost: 2, standard error could not be written";
        assert_eq!(logger.lines(), ["INFO [halloo::net] back", notice, "INFO [halloo::net] and on"]);
    }

    #[test]
    fn lines_lost_in_the_queue_are_logged() {
        let logger = TestLogger::default();
        StderrWriter::with_logger(Box::new(logger.clone())).flush(1);
        assert_eq!(logger.lines(), ["WARN [halloo] log lines lost: 1, standard error was too slow"]);
    }
}
