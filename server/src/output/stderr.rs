//! Writes lines to standard error, on its printing thread.
//!
//! A stream that fails loses lines, which are counted; it never ends the thread.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::{Level, Log, Record};

use crate::output::printer_thread::LineSink;

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
    logger: Box<dyn Log>,
    /// Lines that could not be written, not yet reported.
    unwritten: u64,
}

impl StderrWriter {
    /// Writes to the standard error of the process.
    pub(crate) fn new() -> Self {
        Self::with_logger(Box::new(simple_logger::SimpleLogger::new().with_utc_timestamps()))
    }

    /// Writes log lines with any logger.
    pub(crate) fn with_logger(logger: Box<dyn Log>) -> Self {
        Self { logger, unwritten: 0 }
    }

    /// Writes a log line. The logger panics if standard error fails.
    fn log(&mut self, level: Level, target: &str, text: &str) {
        let unwritten = self.unwritten;
        let log = |text: std::fmt::Arguments<'_>| {
            self.logger.log(&Record::builder().level(level).target(target).args(text).build());
        };
        let result = catch_unwind(AssertUnwindSafe(|| match unwritten {
            0 => log(format_args!("{text}")),
            _ => log(format_args!("{text} ({unwritten} log lines before it could not be written)")),
        }));
        self.unwritten = if result.is_ok() { 0 } else { unwritten + 1 };
    }
}

impl LineSink for StderrWriter {
    type Line = StderrLine;

    fn write_line(&mut self, line: &StderrLine) {
        match line {
            StderrLine::Plain(text) => {
                if writeln!(io::stderr(), "{text}").is_err() {
                    self.unwritten += 1;
                }
            }
            StderrLine::Log(level, target, text) => self.log(*level, target, text),
        }
    }

    fn flush(&mut self, lost: u64) {
        if lost > 0 {
            self.log(Level::Warn, "halloo", &format!("{lost} log lines lost, standard error was too slow"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use log::{Level, Log, Metadata, Record};

    use super::{LineSink, StderrLine, StderrWriter};

    /// A logger that panics when its stream is full, as the real one does.
    #[derive(Clone, Default)]
    struct TestLogger(Arc<Mutex<(bool, String)>>);

    impl TestLogger {
        fn text(&self) -> String {
            self.0.lock().unwrap().1.clone()
        }
    }

    impl Log for TestLogger {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            let is_full = self.0.lock().unwrap().0;
            assert!(!is_full, "failed printing to stderr");
            let text = format!("{} {}\n", record.level(), record.args());
            self.0.lock().unwrap().1.push_str(&text);
        }

        fn flush(&self) {}
    }

    #[test]
    fn a_logger_that_panics_is_caught_and_counted() {
        let logger = TestLogger::default();
        let mut stderr = StderrWriter::with_logger(Box::new(logger.clone()));
        logger.0.lock().unwrap().0 = true;
        for _ in 0..3 {
            stderr.write_line(&StderrLine::Log(Level::Info, "halloo", "lost".to_owned()));
        }
        logger.0.lock().unwrap().0 = false;
        stderr.write_line(&StderrLine::Log(Level::Info, "halloo", "back".to_owned()));
        assert_eq!(logger.text(), "INFO back (3 log lines before it could not be written)\n");
    }

    #[test]
    fn what_the_queue_lost_is_said() {
        let logger = TestLogger::default();
        StderrWriter::with_logger(Box::new(logger.clone())).flush(5);
        assert_eq!(logger.text(), "WARN 5 log lines lost, standard error was too slow\n");
    }
}
