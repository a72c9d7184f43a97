//! Standard output and standard error, as the printing thread writes them.
//!
//! Behind the printer's queue; the only room that touches the two streams while halloo serves. It promises that a
//! stream that fails costs lines, which are counted, and nothing else, and that a line cut off by a failure stands
//! alone. It may block in a write: that is why it has a thread of its own. It never panics over a stream.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use log::{Level, Log, Record};

use crate::event::{Event, stamp};
use crate::options::EventStyle;

/// Gathered before it is written in one go, in bytes.
const GATHERED_BYTES_MAX: usize = 32 * 1024;

/// What can be printed.
#[derive(Debug)]
pub(crate) enum Line {
    /// On standard output, as it is.
    Output(String),
    /// On standard output, as the event style says.
    Event(Event),
    /// On standard error, as it is.
    Sentence(String),
    /// On standard error, with time and level.
    Log(Level, &'static str, String),
}

/// Both streams.
pub(crate) struct Outputs {
    output: Box<dyn Write + Send>,
    logger: Box<dyn Log>,
    style: EventStyle,
    gathered: Vec<u8>,
    state: State,
    /// Lines for standard output that could not be written, not yet told.
    unwritten: u64,
    /// Lines for standard error that could not be written, not yet told.
    unlogged: u64,
}

/// How the last write to standard output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    /// It failed between two lines.
    Failed,
    /// It failed within a line, whose first part is out.
    Torn,
}

impl Outputs {
    /// The process's own.
    pub(crate) fn standard(style: EventStyle) -> Self {
        let logger = simple_logger::SimpleLogger::new().with_utc_timestamps();
        Self::new(standard_output(), Box::new(logger), style)
    }

    /// Any others.
    pub(crate) fn new(output: Box<dyn Write + Send>, logger: Box<dyn Log>, style: EventStyle) -> Self {
        Self { output, logger, style, gathered: Vec::new(), state: State::Whole, unwritten: 0, unlogged: 0 }
    }

    /// Takes a line. Standard output is gathered until [`flush`](Self::flush), or until the other stream has its turn.
    pub(crate) fn write(&mut self, line: &Line) {
        match line {
            Line::Output(text) => {
                self.gathered.extend_from_slice(text.as_bytes());
                self.gathered.push(b'\n');
            }
            Line::Event(event) if self.style == EventStyle::Json => event.write_json(&mut self.gathered),
            Line::Event(event) => event.write_text(&mut self.gathered),
            Line::Sentence(text) => {
                self.write_gathered();
                if writeln!(io::stderr(), "{text}").is_err() {
                    self.unlogged += 1;
                }
            }
            Line::Log(level, target, text) => {
                self.write_gathered();
                self.log(*level, target, text);
            }
        }
    }

    /// Whether enough has been gathered to be written.
    pub(crate) fn is_full(&self) -> bool {
        self.gathered.len() >= GATHERED_BYTES_MAX
    }

    /// Writes what has been gathered, and says how many lines the queue had no room for.
    pub(crate) fn flush(&mut self, output_lost: u64, error_lost: u64) {
        if output_lost > 0 {
            self.gather_loss(output_lost, "the output was too slow");
        }
        self.write_gathered();
        if error_lost > 0 {
            self.log(Level::Warn, "halloo", &format!("{error_lost} log lines lost, standard error was too slow"));
        }
    }

    fn gather_loss(&mut self, lost: u64, cause: &str) {
        // Writing into a vector cannot fail.
        let _ = match self.style {
            EventStyle::Json => {
                let time = stamp(SystemTime::now());
                writeln!(self.gathered, "{{\"time\":\"{time}\",\"lost\":{lost}}}")
            }
            EventStyle::Text | EventStyle::Off => writeln!(self.gathered, "... {lost} lines lost, {cause}"),
        };
    }

    fn write_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let mut lines = std::mem::take(&mut self.gathered);
        // What could not be written stays counted until a line tells it that could.
        self.unwritten += self.put_lines(&lines);
        lines.clear();
        self.gathered = lines;
        if self.unwritten > 0 && self.state == State::Whole {
            self.gather_loss(self.unwritten, "the output could not be written");
            let notice = std::mem::take(&mut self.gathered);
            if self.put_lines(&notice) == 0 {
                self.unwritten = 0;
            }
        }
    }

    /// Writes whole lines, and gives back how many of them did not get out whole.
    fn put_lines(&mut self, lines: &[u8]) -> u64 {
        let mut written = 0;
        if self.state != State::Torn || self.put(b"\n") == 1 {
            written = self.put(lines);
        }
        lines[written..].split_inclusive(|&byte| byte == b'\n').count() as u64
    }

    /// Like `write_all`, but gives back how far it came, and notes how it ended.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            let error = match self.output.write(&bytes[written..]) {
                Ok(count @ 1..) => {
                    written += count;
                    continue;
                }
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.output_failed(bytes[..written].last(), &error);
            return written;
        }
        self.state = State::Whole;
        written
    }

    fn output_failed(&mut self, last: Option<&u8>, error: &io::Error) {
        let before = self.state;
        self.state = match (last, before) {
            (Some(b'\n'), _) | (None, State::Whole | State::Failed) => State::Failed,
            (Some(_), _) | (None, State::Torn) => State::Torn,
        };
        if before == State::Whole {
            let text = format!("cannot write to standard output: {error}; its lines are dropped, serving goes on");
            self.log(Level::Warn, "halloo", &text);
        }
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

/// Standard output without the buffer that the standard library keeps before it: what failed must not be sent again.
#[cfg(unix)]
fn standard_output() -> Box<dyn Write + Send> {
    use std::os::fd::AsFd;
    match io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(std::fs::File::from(descriptor)),
        Err(_) => Box::new(io::stdout()),
    }
}

#[cfg(not(unix))]
fn standard_output() -> Box<dyn Write + Send> {
    Box::new(io::stdout())
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use log::{Level, Log, Metadata, Record};

    use super::{Line, Outputs};
    use crate::options::EventStyle;

    /// A stream with room for so many bytes, and no more.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, String)>>);

    impl Disk {
        fn with_room(room: usize) -> Self {
            Self(Arc::new(Mutex::new((room, String::new()))))
        }

        fn text(&self) -> String {
            self.0.lock().unwrap().1.clone()
        }

        fn make_room(&self, room: usize) {
            self.0.lock().unwrap().0 = room;
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let count = bytes.len().min(disk.0);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0 -= count;
            disk.1.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A logger that panics when its stream is full, as the real one does.
    struct Paper(Disk);

    impl Log for Paper {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &Record<'_>) {
            writeln!(self.0.clone(), "{} {}", record.level(), record.args()).expect("failed printing to stderr");
        }
        fn flush(&self) {}
    }

    fn outputs(output: &Disk, error: &Disk) -> Outputs {
        Outputs::new(Box::new(output.clone()), Box::new(Paper(error.clone())), EventStyle::Text)
    }

    fn line(text: &str) -> Line {
        Line::Output(text.to_owned())
    }

    #[test]
    fn a_full_disk_costs_lines_and_the_loss_is_said_when_there_is_room() {
        let (output, error) = (Disk::with_room(9), Disk::with_room(1000));
        let mut outputs = outputs(&output, &error);
        for text in ["one", "two", "three", "four"] {
            outputs.write(&line(text));
            outputs.flush(0, 0);
        }
        assert_eq!(output.text(), "one\ntwo\nt");
        assert_eq!(error.text().lines().count(), 1);
        assert!(error.text().contains("WARN cannot write to standard output"), "{}", error.text());
        output.make_room(1000);
        outputs.write(&line("five"));
        outputs.flush(0, 0);
        let all = "one\ntwo\nt\nfive\n... 2 lines lost, the output could not be written\n";
        assert_eq!(output.text(), all);
        outputs.write(&line("six"));
        outputs.flush(0, 0);
        assert_eq!(output.text(), format!("{all}six\n"));
    }

    #[test]
    fn a_logger_that_panics_is_caught_and_counted() {
        let (output, error) = (Disk::with_room(1000), Disk::with_room(0));
        let mut outputs = outputs(&output, &error);
        for _ in 0..3 {
            outputs.write(&Line::Log(Level::Info, "halloo", "lost".to_owned()));
        }
        error.make_room(1000);
        outputs.write(&Line::Log(Level::Info, "halloo", "back".to_owned()));
        assert_eq!(error.text(), "INFO back (3 log lines before it could not be written)\n");
    }

    #[test]
    fn what_the_queue_lost_is_said_in_each_stream() {
        let (output, error) = (Disk::with_room(1000), Disk::with_room(1000));
        let mut outputs = outputs(&output, &error);
        outputs.write(&line("one"));
        outputs.flush(7, 5);
        assert_eq!(output.text(), "one\n... 7 lines lost, the output was too slow\n");
        assert_eq!(error.text(), "WARN 5 log lines lost, standard error was too slow\n");
    }
}
