//! Standard output, as its printing thread writes it.
//!
//! Behind a queue; the only room that touches the stream while halloo serves. It promises that a stream that fails costs
//! lines, which are counted, and nothing else, and that a line cut off by a failure stands alone. It may block in a
//! write: that is why it has a thread of its own. It never panics over a stream.

use std::io::{self, Write};
use std::time::SystemTime;

use crate::cli::flags::EventStyle;
use crate::text::event::{Event, stamp};

/// Gathered before it is written in one go, in bytes.
const GATHERED_BYTES_MAX: usize = 32 * 1024;

/// A stream that lines are written to, by a thread that may wait for it.
pub(crate) trait Stream {
    type Line;

    /// Takes a line, which may be gathered until [`flush`](Self::flush).
    fn write(&mut self, line: &Self::Line);

    /// Says how many events were only counted.
    fn write_sum(&mut self, _summed: u64) {}

    /// Whether enough has been gathered to be written.
    fn is_full(&self) -> bool {
        false
    }

    /// Writes what has been gathered, and says how many lines the queue had no room for.
    fn flush(&mut self, lost: u64);
}

/// What can be printed here.
#[derive(Debug)]
pub(crate) enum Line {
    /// As it is.
    Plain(String),
    /// As the event style says.
    Event(Event),
}

/// Standard output.
pub(crate) struct Output {
    writer: Box<dyn Write + Send>,
    style: EventStyle,
    /// Told in words when the stream begins to fail.
    complain: Box<dyn Fn(String) + Send>,
    gathered: Vec<u8>,
    state: State,
    /// Lines that could not be written, not yet told.
    unwritten: u64,
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

impl Output {
    /// The process's own.
    pub(crate) fn standard(style: EventStyle, complain: impl Fn(String) + Send + 'static) -> Self {
        Self::new(standard_output(), style, complain)
    }

    /// Any other.
    pub(crate) fn new(
        writer: Box<dyn Write + Send>,
        style: EventStyle,
        complain: impl Fn(String) + Send + 'static,
    ) -> Self {
        Self { writer, style, complain: Box::new(complain), gathered: Vec::new(), state: State::Whole, unwritten: 0 }
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
            let error = match self.writer.write(&bytes[written..]) {
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
            (self.complain)(format!(
                "cannot write to standard output: {error}; its lines are dropped, serving goes on"
            ));
        }
    }
}

impl Stream for Output {
    type Line = Line;

    fn write(&mut self, line: &Line) {
        match line {
            Line::Plain(text) => {
                self.gathered.extend_from_slice(text.as_bytes());
                self.gathered.push(b'\n');
            }
            Line::Event(event) if self.style == EventStyle::Json => event.write_json(&mut self.gathered),
            Line::Event(event) => event.write_text(&mut self.gathered),
        }
    }

    fn write_sum(&mut self, summed: u64) {
        self.write(&Line::Plain(format!("... and {summed} more in the last second")));
    }

    fn is_full(&self) -> bool {
        self.gathered.len() >= GATHERED_BYTES_MAX
    }

    fn flush(&mut self, lost: u64) {
        if lost > 0 {
            self.gather_loss(lost, "the output was too slow");
        }
        self.write_gathered();
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

    use super::{Line, Output, Stream};
    use crate::cli::flags::EventStyle;

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

    fn line(text: &str) -> Line {
        Line::Plain(text.to_owned())
    }

    #[test]
    fn a_full_disk_costs_lines_and_the_loss_is_said_when_there_is_room() {
        let (disk, complaints) = (Disk::with_room(9), Arc::new(Mutex::new(Vec::new())));
        let told = Arc::clone(&complaints);
        let complain = move |text| told.lock().unwrap().push(text);
        let mut output = Output::new(Box::new(disk.clone()), EventStyle::Text, complain);
        for text in ["one", "two", "three", "four"] {
            output.write(&line(text));
            output.flush(0);
        }
        assert_eq!(disk.text(), "one\ntwo\nt");
        let complaints = complaints.lock().unwrap();
        assert!(
            complaints.len() == 1 && complaints[0].starts_with("cannot write to standard output"),
            "{complaints:?}"
        );
        disk.make_room(1000);
        output.write(&line("five"));
        output.flush(0);
        let all = "one\ntwo\nt\nfive\n... 2 lines lost, the output could not be written\n";
        assert_eq!(disk.text(), all);
        output.write(&line("six"));
        output.flush(0);
        assert_eq!(disk.text(), format!("{all}six\n"));
    }

    #[test]
    fn what_the_queue_lost_is_said() {
        let disk = Disk::with_room(1000);
        let mut output = Output::new(Box::new(disk.clone()), EventStyle::Text, |_| {});
        output.write(&line("one"));
        output.flush(7);
        assert_eq!(disk.text(), "one\n... 7 lines lost, the output was too slow\n");
    }
}
