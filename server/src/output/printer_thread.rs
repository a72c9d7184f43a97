//! The printing threads of both standard streams, and their bounded queues.
//!
//! Queueing never blocks: a line that does not fit is counted, and the stream reports the number later. A blocked
//! stream does not delay the other one. A thread starts with its first line: after a second thread, each system call
//! of a process that can be cancelled costs the C library 45 instructions more.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;

use crate::cli::flags::serve_options::{EventStyle, LogFormat};
use crate::exit::ExitError;
use crate::output::standard_stream;
use crate::output::stderr::{StderrLine, StderrWriter, exit_line};
use crate::output::stdout::{StdoutLine, StdoutWriter};

/// The name of the thread that writes standard error.
pub(crate) const STDERR_THREAD_NAME: &str = "stderr";

/// The most lines in a queue: room for a burst, a few hundred kilobytes.
pub(crate) const QUEUE_LINES_MAX: usize = 1024;

/// How long a flush waits before it tries the full queue again.
const FLUSH_RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// A stream that lines are written to, by a thread that may block in a write.
pub(crate) trait LineSink {
    type Line;

    /// Writes a line, or buffers it until [`flush`](Self::flush).
    fn write_line(&mut self, line: &Self::Line);

    /// Writes how many events were not printed.
    fn write_suppressed(&mut self, _count: u64) {}

    /// Whether the buffer should be flushed.
    fn is_buffer_full(&self) -> bool {
        false
    }

    /// Writes the buffered lines, and the number of lines that found the queue full. Returns how many lines could not be
    /// written since the last flush.
    fn flush(&mut self, lost: u64) -> u64;
}

enum Message<L> {
    Line(L),
    /// Write the number of suppressed events at that moment.
    WriteSuppressedAt(Instant),
    /// Write everything before this message, then answer.
    Flush(SyncSender<()>),
}

/// Counters that both ends of a queue share. All but `pending` only rise.
#[derive(Debug, Default)]
struct QueueCounters {
    /// Events that are counted and not printed.
    suppressed: AtomicU64,
    /// Lines that found the queue full.
    lost: AtomicU64,
    /// Those of them whose number is written.
    lost_reported: AtomicU64,
    /// Lines that left the queue, and could not be written.
    unwritten: AtomicU64,
    /// Lines in the queue, or buffered, and not yet written.
    pending: AtomicU64,
}

/// What has been printed since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutputCounts {
    /// Events of greetings and faults: printed, suppressed or lost.
    pub(crate) events: u64,
    /// Events that were only counted, because there were too many.
    pub(crate) events_suppressed: u64,
    /// Lines that standard output did not take, or not in time.
    pub(crate) stdout_lines_lost: u64,
    /// The same of standard error.
    pub(crate) stderr_lines_lost: u64,
    /// Log lines, by level: errors first.
    pub(crate) log_lines: [u64; Level::Trace as usize],
}

/// Lines passed to the queues, also if they are lost later.
#[derive(Debug, Default)]
struct PrintedLines {
    events: AtomicU64,
    log_lines: [AtomicU64; Level::Trace as usize],
}

impl PrintedLines {
    fn count_log_line(&self, level: Level) {
        self.log_lines[level as usize - 1].fetch_add(1, Ordering::Relaxed);
    }
}

/// The sending end of a stream's queue, and its thread, which the first line starts.
struct LineQueue<L> {
    sender: SyncSender<Message<L>>,
    counters: Arc<QueueCounters>,
    thread_name: &'static str,
    is_started: AtomicBool,
    /// The receiving end, until the thread has taken it.
    idle: Mutex<Option<PrinterThread<L>>>,
}

impl<L> fmt::Debug for LineQueue<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineQueue").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl<L: Send + 'static> LineQueue<L> {
    /// A queue without a thread.
    fn new(thread_name: &'static str, sink: impl LineSink<Line = L> + Send + 'static) -> Arc<Self> {
        let (sender, receiver) = mpsc::sync_channel(QUEUE_LINES_MAX);
        let counters = Arc::new(QueueCounters::default());
        let thread = PrinterThread {
            receiver,
            counters: Arc::clone(&counters),
            sink: Box::new(sink),
            buffered_lines: 0,
            suppressed_written: 0,
            suppressed_due: None,
        };
        let idle = Mutex::new(Some(thread));
        Arc::new(Self { sender, counters, thread_name, is_started: AtomicBool::new(false), idle })
    }

    /// Starts the thread, unless it was started. Returns false if there is none: the process may have reached its limit.
    /// Lines then stay in the queue, and the next one tries again.
    fn start_thread(self: &Arc<Self>) -> bool {
        if self.is_started.load(Ordering::Acquire) {
            return true;
        }
        // Of two threads that print their first lines at once, one starts it. It waits for the lock.
        let _one_start = self.lock_idle();
        let queue = Arc::clone(self);
        let run = move || {
            let thread = queue.lock_idle().take();
            drop(queue);
            thread.into_iter().for_each(PrinterThread::run);
        };
        let is_started = self.is_started.load(Ordering::Acquire)
            || thread::Builder::new().name(self.thread_name.to_owned()).spawn(run).is_ok();
        self.is_started.store(is_started, Ordering::Release);
        is_started
    }

    /// Locks, also after a panic of another thread: the thread is taken as a whole.
    fn lock_idle(&self) -> MutexGuard<'_, Option<PrinterThread<L>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the thread, so that no line starts it.
    #[cfg(test)]
    fn take_thread(&self) -> Option<PrinterThread<L>> {
        self.is_started.store(true, Ordering::Release);
        self.lock_idle().take()
    }

    /// Queues a line for the thread, or counts it as lost.
    fn push(self: &Arc<Self>, line: L) {
        // Counted before the thread can write it.
        self.counters.pending.fetch_add(1, Ordering::Relaxed);
        // While the queue is full, the thread is busy and will see the count.
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.counters.pending.fetch_sub(1, Ordering::Relaxed);
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.start_thread();
    }

    /// How many lines are lost if nothing more is written.
    fn unwritten_lines(&self) -> u64 {
        let QueueCounters { lost, lost_reported, pending, .. } = &*self.counters;
        // Read first: it never passes `lost`.
        let lost_reported = lost_reported.load(Ordering::Acquire);
        pending.load(Ordering::Relaxed) + lost.load(Ordering::Relaxed) - lost_reported
    }

    /// Lines that did not reach the stream.
    fn lost_lines(&self) -> u64 {
        self.counters.lost.load(Ordering::Relaxed) + self.counters.unwritten.load(Ordering::Relaxed)
    }

    /// Waits until everything queued is written, or until the deadline.
    fn flush_until(self: &Arc<Self>, deadline: Instant) {
        let is_needed = self.is_started.load(Ordering::Acquire) || self.unwritten_lines() > 0;
        if !is_needed || !self.start_thread() {
            return;
        }
        let (done_sender, done) = mpsc::sync_channel(1);
        while self.sender.try_send(Message::Flush(done_sender.clone())).is_err() {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(FLUSH_RETRY_INTERVAL);
        }
        let _ = done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Queues lines for both standard streams.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    stdout: Arc<LineQueue<StdoutLine>>,
    stderr: Arc<LineQueue<StderrLine>>,
    printed: Arc<PrintedLines>,
}

impl Printer {
    /// A printer to the process's own streams. It starts no thread yet.
    pub(crate) fn new(style: EventStyle, log_format: LogFormat) -> Self {
        let stderr = LineQueue::new(STDERR_THREAD_NAME, StderrWriter::new(log_format));
        let printed = Arc::new(PrintedLines::default());
        let (error_queue, counted) = (stderr.clone(), Arc::clone(&printed));
        let on_error = move |text| {
            if log::max_level() >= Level::Warn {
                counted.count_log_line(Level::Warn);
                error_queue.push(StderrLine::Log(Level::Warn, "halloo", text));
            }
        };
        Self { stdout: LineQueue::new("stdout", StdoutWriter::new(style, on_error)), stderr, printed }
    }

    /// A printer that prints nothing, for tests.
    #[cfg(test)]
    pub(crate) fn null() -> Self {
        let stderr = LineQueue::new(STDERR_THREAD_NAME, StderrWriter::new(LogFormat::Text));
        let stdout = LineQueue::new("stdout", StdoutWriter::new(EventStyle::Off, |_| {}));
        drop((stdout.take_thread(), stderr.take_thread()));
        Self { stdout, stderr, printed: Arc::default() }
    }

    /// Prints the first line of standard output, which is written here if that cannot block.
    pub(crate) fn print_ready(&self, line: Vec<u8>) {
        let mut stdout = standard_stream::stdout();
        // After an error the thread tries again, and counts the line.
        if !stdout.takes_at_once(line.len()) || stdout.write_all(&line).is_err() {
            self.stdout.push(StdoutLine::Ready(line));
        }
    }

    /// Prints why the process ends, here if no thread can be started.
    pub(crate) fn print_exit(&self, error: ExitError, format: LogFormat) {
        if self.stderr.start_thread() {
            self.stderr.push(StderrLine::Exit(error));
        } else {
            // If standard error is closed, the exit status remains.
            let _ = standard_stream::stderr().write_line(exit_line(&error, format));
        }
    }

    /// Queues a line for standard output. Never blocks.
    pub(crate) fn print(&self, line: StdoutLine) {
        if matches!(line, StdoutLine::Event(_) | StdoutLine::Fault(_)) {
            self.printed.events.fetch_add(1, Ordering::Relaxed);
        }
        self.stdout.push(line);
    }

    /// Queues a line for standard error. Never blocks.
    pub(crate) fn eprint(&self, line: StderrLine) {
        if let StderrLine::Log(level, ..) = &line {
            self.printed.count_log_line(*level);
        }
        self.stderr.push(line);
    }

    /// What has been printed until now.
    pub(crate) fn counts(&self) -> OutputCounts {
        let events_suppressed = self.stdout.counters.suppressed.load(Ordering::Relaxed);
        OutputCounts {
            events: self.printed.events.load(Ordering::Relaxed) + events_suppressed,
            events_suppressed,
            stdout_lines_lost: self.stdout.lost_lines(),
            stderr_lines_lost: self.stderr.lost_lines(),
            log_lines: self.printed.log_lines.each_ref().map(|count| count.load(Ordering::Relaxed)),
        }
    }

    /// Counts an event that is not printed.
    pub(crate) fn count_suppressed(&self) {
        self.stdout.counters.suppressed.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that the number of suppressed events is written at that moment; false if the queue is full.
    pub(crate) fn write_suppressed_at(&self, due: Instant) -> bool {
        let is_queued = self.stdout.sender.try_send(Message::WriteSuppressedAt(due)).is_ok();
        self.stdout.start_thread();
        is_queued
    }

    /// Waits until everything queued is written, at most `timeout` for each stream. Standard output is first: then
    /// standard error also gets its errors and the number of its lost lines.
    pub(crate) fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        self.stdout.flush_until(deadline);
        let lost = self.stdout.unwritten_lines();
        if lost > 0 {
            let text = format!("lines lost: {lost}, standard output is blocked");
            self.eprint(StderrLine::Log(Level::Warn, "halloo", text));
            return self.stderr.flush_until(Instant::now() + timeout);
        }
        // If standard output is blocked, the other thread has had all that time to write; it only has to confirm.
        self.stderr.flush_until(deadline.max(Instant::now() + FLUSH_RETRY_INTERVAL));
    }
}

/// The receiving end of a stream's queue, and the thread that writes the stream.
struct PrinterThread<L> {
    receiver: Receiver<Message<L>>,
    counters: Arc<QueueCounters>,
    sink: Box<dyn LineSink<Line = L> + Send>,
    /// Lines that the sink got since the last flush.
    buffered_lines: u64,
    /// Suppressed events whose number is written.
    suppressed_written: u64,
    suppressed_due: Option<Instant>,
}

impl<L> PrinterThread<L> {
    fn run(mut self) {
        loop {
            let message = self.receiver.try_recv().or_else(|_| {
                self.flush();
                self.receive()
            });
            match message {
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => self.write_suppressed(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.write_suppressed();
                    return self.flush();
                }
            }
        }
    }

    /// Sleeps until there is a message, or until the number of suppressed events is due.
    fn receive(&self) -> Result<Message<L>, RecvTimeoutError> {
        match self.suppressed_due {
            Some(due) => self.receiver.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => self.receiver.recv().map_err(RecvTimeoutError::from),
        }
    }

    /// Handles one message; its output is buffered first.
    fn handle(&mut self, message: Message<L>) {
        if self.suppressed_due.is_some_and(|due| due <= Instant::now()) {
            self.write_suppressed();
        }
        match message {
            Message::Line(line) => {
                self.sink.write_line(&line);
                self.buffered_lines += 1;
            }
            Message::WriteSuppressedAt(due) => self.suppressed_due = Some(due),
            Message::Flush(done_sender) => {
                self.write_suppressed();
                self.flush();
                let _ = done_sender.try_send(());
            }
        }
        if self.sink.is_buffer_full() {
            self.flush();
        }
    }

    fn write_suppressed(&mut self) {
        self.suppressed_due = None;
        let suppressed = self.counters.suppressed.load(Ordering::Relaxed);
        let count = suppressed - std::mem::replace(&mut self.suppressed_written, suppressed);
        if count > 0 {
            self.sink.write_suppressed(count);
        }
    }

    /// Writes the buffered lines, and the number of lost lines.
    fn flush(&mut self) {
        let lost = self.counters.lost.load(Ordering::Relaxed);
        let unwritten = self.sink.flush(lost - self.counters.lost_reported.load(Ordering::Relaxed));
        self.counters.unwritten.fetch_add(unwritten, Ordering::Relaxed);
        // After the write: if it never returns, the lines stay counted as lost. Only this thread stores it.
        self.counters.lost_reported.store(lost, Ordering::Release);
        self.counters.pending.fetch_sub(std::mem::take(&mut self.buffered_lines), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{self, Receiver};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{LineQueue, Printer, QUEUE_LINES_MAX, STDERR_THREAD_NAME};
    use crate::cli::flags::serve_options::EventStyle;
    use crate::output::stderr::StderrWriter;
    use crate::output::stdout::{StdoutLine, StdoutWriter};
    use crate::text::bound_address::Addresses;
    use crate::text::greeting_event::GreetingEvent;
    use crate::text::protocol::Protocol;

    /// Far beyond what any step of a test takes.
    const TEST_TIMEOUT: Duration = Duration::from_secs(20);

    /// A standard output that sends every write to the test.
    struct ChannelWriter(mpsc::SyncSender<String>);

    impl std::io::Write for ChannelWriter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.0.send(text).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn new_printer(capacity: usize) -> (Printer, Receiver<String>) {
        let (sender, written) = mpsc::sync_channel(capacity);
        let stdout = StdoutWriter::with_writer(Box::new(ChannelWriter(sender)), EventStyle::Text, |_| {});
        let stderr = StderrWriter::with_logger(Box::new(NullLogger));
        let (stdout, stderr) = (LineQueue::new("stdout", stdout), LineQueue::new(STDERR_THREAD_NAME, stderr));
        (Printer { stdout, stderr, printed: Arc::default() }, written)
    }

    /// A line with a number: `udp - bytes=7`.
    fn line(number: usize) -> StdoutLine {
        let addresses = Addresses { protocol: Protocol::Udp, peer: None, local: None };
        StdoutLine::Event(GreetingEvent::new(addresses, number as u64, b""))
    }

    struct NullLogger;

    impl log::Log for NullLogger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, _: &log::Record<'_>) {}
        fn flush(&self) {}
    }

    #[test]
    fn lines_are_printed_in_order() {
        let (printer, written) = new_printer(100);
        for number in 0..50 {
            printer.print(line(number));
        }
        printer.flush(TEST_TIMEOUT);
        let output: String = written.try_iter().collect();
        let number = |line: &str| line.split_once("udp - bytes=").unwrap().1.parse().unwrap();
        let numbers: Vec<usize> = output.lines().map(number).collect();
        assert!(numbers.iter().copied().eq(0..50));
    }

    #[test]
    fn an_unread_output_never_blocks_and_its_lost_lines_are_counted() {
        // A thread that blocks in a write receives no message, like one that has not started.
        let (printer, written) = new_printer(10_000);
        let printer_thread = printer.stdout.take_thread().unwrap();
        for number in 0..3 * QUEUE_LINES_MAX {
            printer.print(line(number));
        }
        let start = Instant::now();
        printer.flush(Duration::from_millis(50));
        assert!(start.elapsed() < TEST_TIMEOUT);
        thread::spawn(move || printer_thread.run());
        printer.flush(TEST_TIMEOUT);
        let output: String = written.try_iter().collect();
        let (notices, lines): (Vec<&str>, Vec<&str>) = output.lines().partition(|line| line.contains(" ... "));
        assert_eq!(lines.len(), QUEUE_LINES_MAX);
        // It is written when the buffer is full, or at the end.
        let expected = format!("Z ... lines lost: {}, the output was too slow", 2 * QUEUE_LINES_MAX);
        assert!(notices.len() == 1 && notices[0].ends_with(&expected), "{notices:?}");
    }

    #[test]
    fn the_count_of_suppressed_events_is_printed_when_it_is_due() {
        let (printer, written) = new_printer(10);
        for _ in 0..480 {
            printer.count_suppressed();
        }
        assert!(printer.write_suppressed_at(Instant::now() + Duration::from_millis(20)));
        assert!(written.recv_timeout(TEST_TIMEOUT).unwrap().ends_with("Z ... and 480 more in the last second\n"));
    }

    #[test]
    fn a_flush_prints_the_count_before_it_is_due() {
        let (printer, written) = new_printer(10);
        printer.count_suppressed();
        assert!(printer.write_suppressed_at(Instant::now() + TEST_TIMEOUT * 10));
        printer.flush(TEST_TIMEOUT);
        assert!(written.try_iter().collect::<String>().ends_with("Z ... and 1 more in the last second\n"));
    }
}
