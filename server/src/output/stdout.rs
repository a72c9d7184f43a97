//! Writes lines to standard output, on its printing thread.
//!
//! A stream that fails loses lines, which are counted.

use std::io::{self, Write};
use std::time::SystemTime;

use crate::cli::flags::EventStyle;
use crate::output::line_writer::LineWriter;
use crate::output::printer_thread::LineSink;
use crate::output::standard_stream;
use crate::text::greeting_event::{GreetingEvent, format_timestamp};

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
    lines: LineWriter,
    style: EventStyle,
}

impl StdoutWriter {
    /// Writes to the standard output of the process.
    pub(crate) fn new(style: EventStyle, on_error: impl Fn(String) + Send + 'static) -> Self {
        Self::with_writer(Box::new(standard_stream::stdout()), style, on_error)
    }

    /// Writes to any stream. `on_error` is called with a message when the stream begins to fail.
    pub(crate) fn with_writer(
        writer: Box<dyn Write + Send>,
        style: EventStyle,
        on_error: impl Fn(String) + Send + 'static,
    ) -> Self {
        let on_error = move |error: &io::Error| {
            on_error(format!("cannot write to standard output: {error}; its lines are dropped, serving goes on"));
        };
        Self { lines: LineWriter::new(writer, on_error), style }
    }
}

fn buffer_loss_notice(buffer: &mut Vec<u8>, style: EventStyle, lost: u64, cause: &str) {
    // Writing into a vector cannot fail.
    let _ = match style {
        EventStyle::Json => {
            let time = format_timestamp(SystemTime::now());
            writeln!(buffer, "{{\"time\":\"{time}\",\"lost\":{lost}}}")
        }
        EventStyle::Text | EventStyle::Off => writeln!(buffer, "... lines lost: {lost}, {cause}"),
    };
}

impl LineSink for StdoutWriter {
    type Line = StdoutLine;

    fn write_line(&mut self, line: &StdoutLine) {
        match line {
            StdoutLine::Plain(text) => {
                self.lines.buffer.extend_from_slice(text.as_bytes());
                self.lines.buffer.push(b'\n');
            }
            StdoutLine::Event(event) if self.style == EventStyle::Json => event.write_json(&mut self.lines.buffer),
            StdoutLine::Event(event) => event.write_text(&mut self.lines.buffer),
        }
    }

    fn write_suppressed(&mut self, count: u64) {
        self.write_line(&StdoutLine::Plain(format!("... and {count} more in the last second")));
    }

    fn is_buffer_full(&self) -> bool {
        self.lines.is_buffer_full()
    }

    fn flush(&mut self, lost: u64) {
        let style = self.style;
        if lost > 0 {
            buffer_loss_notice(&mut self.lines.buffer, style, lost, "the output was too slow");
        }
        self.lines.flush(|buffer, count| buffer_loss_notice(buffer, style, count, "the output could not be written"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::{LineSink, StdoutLine, StdoutWriter};
    use crate::cli::flags::EventStyle;

    /// A stream that keeps what is written, or has no room.
    #[derive(Clone, Default)]
    struct TestWriter(Arc<Mutex<(bool, String)>>);

    impl TestWriter {
        fn text(&self) -> String {
            self.0.lock().unwrap().1.clone()
        }

        fn set_full(&self, is_full: bool) {
            self.0.lock().unwrap().0 = is_full;
        }
    }

    impl Write for TestWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut writer = self.0.lock().unwrap();
            if writer.0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            writer.1.push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn write(stdout: &mut StdoutWriter, text: &str) {
        stdout.write_line(&StdoutLine::Plain(text.to_owned()));
        stdout.flush(0);
    }

    #[test]
    fn a_full_disk_is_reported_once_and_the_loss_when_there_is_room() {
        let (writer, errors) = (TestWriter::default(), Arc::new(Mutex::new(Vec::new())));
        let recorded = Arc::clone(&errors);
        let on_error = move |text| recorded.lock().unwrap().push(text);
        let mut stdout = StdoutWriter::with_writer(Box::new(writer.clone()), EventStyle::Text, on_error);
        writer.set_full(true);
        write(&mut stdout, "one");
        write(&mut stdout, "two");
        let errors = errors.lock().unwrap();
        assert!(errors.len() == 1 && errors[0].starts_with("cannot write to standard output"), "{errors:?}");
        writer.set_full(false);
        write(&mut stdout, "three");
        assert_eq!(writer.text(), "three\n... lines lost: 2, the output could not be written\n");
    }

    #[test]
    fn the_loss_of_the_queue_is_written() {
        let writer = TestWriter::default();
        let mut stdout = StdoutWriter::with_writer(Box::new(writer.clone()), EventStyle::Text, |_| {});
        stdout.write_line(&StdoutLine::Plain("one".to_owned()));
        stdout.flush(1);
        assert_eq!(writer.text(), "one\n... lines lost: 1, the output was too slow\n");
    }
}
