//! Standard error, as its printing thread writes it.
//!
//! Behind a queue of its own; the only room that touches the stream while halloo serves, so that neither stream waits for
//! the other. It promises that a stream that fails costs lines, which are counted, and nothing else. It may block in a
//! write. It never lets a logger's panic through.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::{Level, Log, Record};

use crate::output::stdout::Stream;

/// What can be said here.
#[derive(Debug)]
pub(crate) enum Remark {
    /// As it is.
    Sentence(String),
    /// With time and level.
    Log(Level, &'static str, String),
}

/// Standard error.
pub(crate) struct Remarks {
    logger: Box<dyn Log>,
    /// Remarks that could not be written, not yet told.
    unlogged: u64,
}

impl Remarks {
    /// The process's own.
    pub(crate) fn standard() -> Self {
        Self::new(Box::new(simple_logger::SimpleLogger::new().with_utc_timestamps()))
    }

    /// Any other.
    pub(crate) fn new(logger: Box<dyn Log>) -> Self {
        Self { logger, unlogged: 0 }
    }

    /// Prints a log line. The logger panics where standard error fails.
    fn log(&mut self, level: Level, target: &str, text: &str) {
        let told = self.unlogged;
        let print = |text: std::fmt::Arguments<'_>| {
            self.logger.log(&Record::builder().level(level).target(target).args(text).build());
        };
        let printed = catch_unwind(AssertUnwindSafe(|| match told {
            0 => print(format_args!("{text}")),
            _ => print(format_args!("{text} ({told} log lines before it could not be written)")),
        }));
        self.unlogged = if printed.is_ok() { 0 } else { told + 1 };
    }
}

impl Stream for Remarks {
    type Line = Remark;

    fn write(&mut self, remark: &Remark) {
        match remark {
            Remark::Sentence(text) => {
                if writeln!(io::stderr(), "{text}").is_err() {
                    self.unlogged += 1;
                }
            }
            Remark::Log(level, target, text) => self.log(*level, target, text),
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

    use super::{Remark, Remarks, Stream};

    /// A logger that panics when its stream is full, as the real one does.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<(bool, String)>>);

    impl Paper {
        fn text(&self) -> String {
            self.0.lock().unwrap().1.clone()
        }
    }

    impl Log for Paper {
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
        let paper = Paper::default();
        let mut remarks = Remarks::new(Box::new(paper.clone()));
        paper.0.lock().unwrap().0 = true;
        for _ in 0..3 {
            remarks.write(&Remark::Log(Level::Info, "halloo", "lost".to_owned()));
        }
        paper.0.lock().unwrap().0 = false;
        remarks.write(&Remark::Log(Level::Info, "halloo", "back".to_owned()));
        assert_eq!(paper.text(), "INFO back (3 log lines before it could not be written)\n");
    }

    #[test]
    fn what_the_queue_lost_is_said() {
        let paper = Paper::default();
        Remarks::new(Box::new(paper.clone())).flush(5);
        assert_eq!(paper.text(), "WARN 5 log lines lost, standard error was too slow\n");
    }
}
