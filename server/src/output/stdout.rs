//! Writes lines to standard output, on its printing thread.
//!
//! Lines that cannot be written are counted.

use std::io::{self, Write};
use std::time::SystemTime;

use crate::cli::flags::serve_options::EventStyle;
use crate::exit::describe_io_error;
use crate::output::line_writer::LineWriter;
use crate::output::printer_thread::LineSink;
use crate::output::standard_stream;
use crate::text::bound_address::BoundSocket;
use crate::text::fault_event::FaultEvent;
use crate::text::greeting_event::{GreetingEvent, write_json_head, write_text_head};
use crate::text::protocol::Protocol;

/// A line on standard output.
#[derive(Debug)]
pub(crate) enum StdoutLine {
    /// The [`ready_line`], printed when all workers listen.
    Ready(Vec<u8>),
    /// What was received.
    Event(GreetingEvent),
    /// What was done wrong on purpose.
    Fault(FaultEvent),
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
            let cause = describe_io_error(error);
            on_error(format!("cannot write to standard output: {cause}; its lines are dropped, the server goes on"));
        };
        Self { lines: LineWriter::new(writer, on_error), style }
    }
}

// Writing into a vector cannot fail, here and below.

fn write_loss_notice(buffer: &mut Vec<u8>, style: EventStyle, lost: u64, cause: &str) {
    write_count(buffer, style, "lost", lost, &format!("... lines lost: {lost}, {cause}"));
}

/// Appends a count of lines: as an event in JSON, or as this text.
fn write_count(buffer: &mut Vec<u8>, style: EventStyle, event: &str, count: u64, text: &str) {
    let now = SystemTime::now();
    match style {
        EventStyle::Json => {
            write_json_head(buffer, event, now);
            let _ = writeln!(buffer, ",\"count\":{count}}}");
        }
        EventStyle::Text | EventStyle::Off => {
            write_text_head(buffer, now);
            let _ = writeln!(buffer, "{text}");
        }
    }
}

/// The first line, with every address served, and those of the admin endpoint.
pub(crate) fn ready_line(style: EventStyle, served: &[BoundSocket], admin: &[BoundSocket]) -> Vec<u8> {
    let mut line = Vec::new();
    match style {
        EventStyle::Json => write_ready_json(&mut line, served, admin),
        EventStyle::Text | EventStyle::Off => write_ready_text(&mut line, served, admin),
    }
    line
}

/// `READY tcp=127.0.0.1:8888 udp=127.0.0.1:8888 admin=127.0.0.1:9090 pid=4242`
fn write_ready_text(buffer: &mut Vec<u8>, served: &[BoundSocket], admin: &[BoundSocket]) {
    buffer.extend_from_slice(b"READY");
    for (protocol, address) in served {
        let _ = write!(buffer, " {protocol}={}", address.percent_encoded());
    }
    for (protocol, address) in admin {
        // The form of the flag.
        let prefix = if *protocol == Protocol::Unix { "unix:" } else { "" };
        let _ = write!(buffer, " admin={prefix}{}", address.percent_encoded());
    }
    let _ = writeln!(buffer, " pid={}", std::process::id());
}

fn write_ready_json(buffer: &mut Vec<u8>, served: &[BoundSocket], admin: &[BoundSocket]) {
    write_json_head(buffer, "ready", SystemTime::now());
    write_json_addresses(buffer, "listening", served);
    if !admin.is_empty() {
        write_json_addresses(buffer, "admin", admin);
    }
    let _ = writeln!(buffer, ",\"pid\":{}}}", std::process::id());
}

fn write_json_addresses(buffer: &mut Vec<u8>, name: &str, addresses: &[BoundSocket]) {
    let object =
        |(protocol, address): &BoundSocket| format!("{{\"protocol\":\"{protocol}\",\"address\":{}}}", address.json());
    let objects: Vec<String> = addresses.iter().map(object).collect();
    let _ = write!(buffer, ",\"{name}\":[{}]", objects.join(","));
}

impl LineSink for StdoutWriter {
    type Line = StdoutLine;

    fn write_line(&mut self, line: &StdoutLine) {
        let buffer = &mut self.lines.buffer;
        match (line, self.style) {
            (StdoutLine::Ready(line), _) => buffer.extend_from_slice(line),
            (StdoutLine::Event(event), EventStyle::Json) => event.write_json(buffer),
            (StdoutLine::Event(event), EventStyle::Text | EventStyle::Off) => event.write_text(buffer),
            (StdoutLine::Fault(event), EventStyle::Json) => event.write_json(buffer),
            (StdoutLine::Fault(event), EventStyle::Text | EventStyle::Off) => event.write_text(buffer),
        }
    }

    fn write_suppressed(&mut self, count: u64) {
        let text = format!("... and {count} more in the last second");
        write_count(&mut self.lines.buffer, self.style, "suppressed", count, &text);
    }

    fn is_buffer_full(&self) -> bool {
        self.lines.is_buffer_full()
    }

    fn flush(&mut self, lost: u64) -> u64 {
        let style = self.style;
        if lost > 0 {
            write_loss_notice(&mut self.lines.buffer, style, lost, "the output was too slow");
        }
        self.lines.flush(|buffer, count| write_loss_notice(buffer, style, count, "the output could not be written"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::net::SocketAddr;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::{LineSink, StdoutLine, StdoutWriter, ready_line};
    use crate::cli::flags::serve_options::EventStyle;
    use crate::text::bound_address::{Addresses, BoundAddress, BoundSocket};
    use crate::text::greeting_event::GreetingEvent;
    use crate::text::protocol::Protocol;

    /// A stream that records what is written, or has no room.
    #[derive(Clone, Default)]
    struct TestWriter(Arc<Mutex<(bool, String)>>);

    impl TestWriter {
        fn text(&self) -> String {
            self.0.lock().unwrap().1.clone()
        }

        /// The lines without their times.
        fn lines_without_time(&self) -> Vec<String> {
            self.text().lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
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

    fn line(text: &str) -> StdoutLine {
        let addresses = Addresses { protocol: Protocol::Udp, peer: None, local: None };
        StdoutLine::Event(GreetingEvent::new(addresses, text.len() as u64, text.as_bytes()))
    }

    fn write(stdout: &mut StdoutWriter, text: &str) {
        stdout.write_line(&line(text));
        stdout.flush(0);
    }

    #[test]
    fn a_full_disk_is_reported_once_and_lost_lines_are_reported_when_there_is_room() {
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
        let expected = ["udp - bytes=5 three", "... lines lost: 2, the output could not be written"];
        assert_eq!(writer.lines_without_time(), expected);
    }

    #[test]
    fn lines_lost_in_the_queue_are_written() {
        let writer = TestWriter::default();
        let mut stdout = StdoutWriter::with_writer(Box::new(writer.clone()), EventStyle::Text, |_| {});
        stdout.write_line(&line("one"));
        stdout.flush(1);
        let expected = ["udp - bytes=3 one", "... lines lost: 1, the output was too slow"];
        assert_eq!(writer.lines_without_time(), expected);
    }

    #[test]
    fn every_json_line_is_an_object_with_an_event_and_a_time() {
        let writer = TestWriter::default();
        let mut stdout = StdoutWriter::with_writer(Box::new(writer.clone()), EventStyle::Json, |_| {});
        let ready = ready_line(EventStyle::Json, &bound_addresses(), &admin_addresses());
        stdout.write_line(&StdoutLine::Ready(ready));
        stdout.write_suppressed(3);
        write(&mut stdout, "one");
        writer.set_full(true);
        write(&mut stdout, "two");
        writer.set_full(false);
        stdout.flush(7);
        let objects: Vec<Value> = writer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let events: Vec<&str> = objects.iter().map(|object| object["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["ready", "suppressed", "received", "lost", "lost"]);
        assert!(objects.iter().all(|object| object["time"].as_str().unwrap().ends_with('Z')));
        let counts: Vec<Option<u64>> = objects.iter().map(|object| object["count"].as_u64()).collect();
        assert_eq!(counts, [None, Some(3), None, Some(7), Some(1)]);
        let listening = json!([
            { "protocol": "tcp", "address": "127.0.0.1:8888" },
            { "protocol": "udp", "address": "127.0.0.1:8888" },
            { "protocol": "tcp", "address": "[::1]:8888" },
            { "protocol": "unix", "address": "/run/my \"halloo\".sock" },
        ]);
        let admin = json!([
            { "protocol": "tcp", "address": "127.0.0.1:9090" },
            { "protocol": "unix", "address": "/run/admin.sock" },
        ]);
        assert_eq!(objects[0]["admin"], admin);
        assert_eq!((&objects[0]["listening"], &objects[0]["pid"]), (&listening, &std::process::id().into()));
    }

    #[test]
    fn the_ready_line_names_every_socket_in_order() {
        let writer = TestWriter::default();
        let mut stdout = StdoutWriter::with_writer(Box::new(writer.clone()), EventStyle::Text, |_| {});
        let ready = ready_line(EventStyle::Text, &bound_addresses(), &admin_addresses());
        stdout.write_line(&StdoutLine::Ready(ready));
        stdout.flush(0);
        let addresses = "tcp=127.0.0.1:8888 udp=127.0.0.1:8888 tcp=[::1]:8888 unix=/run/my%20%22halloo%22.sock";
        let addresses = format!("{addresses} admin=127.0.0.1:9090 admin=unix:/run/admin.sock");
        assert_eq!(writer.text(), format!("READY {addresses} pid={}\n", std::process::id()));
    }

    fn admin_addresses() -> Vec<BoundSocket> {
        let address = BoundAddress::from("127.0.0.1:9090".parse::<SocketAddr>().unwrap());
        vec![(Protocol::Tcp, address), (Protocol::Unix, BoundAddress::from_path(Path::new("/run/admin.sock")))]
    }

    fn bound_addresses() -> Vec<BoundSocket> {
        let address = |text: &str| BoundAddress::from(text.parse::<SocketAddr>().unwrap());
        vec![
            (Protocol::Tcp, address("127.0.0.1:8888")),
            (Protocol::Udp, address("127.0.0.1:8888")),
            (Protocol::Tcp, address("[::1]:8888")),
            (Protocol::Unix, BoundAddress::from_path(Path::new("/run/my \"halloo\".sock"))),
        ]
    }
}
