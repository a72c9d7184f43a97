//! The printing threads and the bounded queues before them: everything halloo prints while it serves goes through here.
//!
//! Between the loops' threads, which only ever try to queue, and the standard outputs, which may be slow, full or gone.
//! Each of the two has a queue and a thread of its own, so that a stuck one silences itself alone. It promises that
//! queueing never blocks, that lines of a stream keep their order, that what does not fit or cannot be written is counted
//! and said in the stream itself once there is room, and that the threads sleep while there is nothing to print. It never
//! panics over a stream that fails, and never holds up the end of the process for longer than it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::{Duration, Instant};
use std::{io, thread};

use log::Level;

use crate::cli::flags::EventStyle;
use crate::output::stderr::{Remark, Remarks};
use crate::output::stdout::{Line, Output, Stream};

/// The names of the printing threads.
const OUTPUT_THREAD: &str = "stdout";
pub(crate) const ERROR_THREAD: &str = "stderr";

/// Lines that may wait: room for a burst, about a hundred kilobytes.
const QUEUE_LINES_MAX: usize = 1024;

/// How long the end waits before it looks again whether the queue has room.
const END_STEP: Duration = Duration::from_millis(5);

enum Message<L> {
    Line(L),
    /// Events are being counted instead of printed: say how many at that moment.
    SumUpAt(Instant),
    /// Everything before this is written: answer.
    End(SyncSender<()>),
}

/// What the two sides of a queue count together.
#[derive(Debug, Default)]
struct Tally {
    /// Events summed up instead of printed.
    summed: AtomicU64,
    /// Lines that found the queue full.
    lost: AtomicU64,
}

/// The end of a stream's queue that others hold.
#[derive(Debug)]
struct Queue<L> {
    messages: SyncSender<Message<L>>,
    tally: Arc<Tally>,
}

impl<L> Clone for Queue<L> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone(), tally: Arc::clone(&self.tally) }
    }
}

impl<L> Queue<L> {
    fn before<S: Stream<Line = L>>(stream: S) -> (Self, Press<S>) {
        let (sender, messages) = mpsc::sync_channel(QUEUE_LINES_MAX);
        let tally = Arc::new(Tally::default());
        let press = Press { messages, tally: Arc::clone(&tally), stream, sum_up_at: None };
        (Self { messages: sender, tally }, press)
    }

    /// Queues a line, or counts it as lost.
    fn put(&self, line: L) {
        // A queue that is full stays busy for a long while yet: the thread will see the count.
        if self.messages.try_send(Message::Line(line)).is_err() {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything queued is written, or until then.
    fn finish(&self, end: Instant) {
        let (answer, answered) = mpsc::sync_channel(1);
        while self.messages.try_send(Message::End(answer.clone())).is_err() {
            if Instant::now() >= end {
                return;
            }
            thread::sleep(END_STEP);
        }
        let _ = answered.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// The way to both streams.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    output: Queue<Line>,
    errors: Queue<Remark>,
}

impl Printer {
    /// Starts the threads of the process's own streams.
    pub(crate) fn start(style: EventStyle) -> io::Result<Self> {
        let (errors, remarks) = Queue::before(Remarks::standard());
        let complaints = errors.clone();
        let complain = move |text| complaints.put(Remark::Log(Level::Warn, "halloo", text));
        let (output, lines) = Queue::before(Output::standard(style, complain));
        thread::Builder::new().name(ERROR_THREAD.to_owned()).spawn(move || remarks.run())?;
        thread::Builder::new().name(OUTPUT_THREAD.to_owned()).spawn(move || lines.run())?;
        Ok(Self { output, errors })
    }

    /// One that prints nothing, for tests of what stands before it.
    #[cfg(test)]
    pub(crate) fn to_nowhere() -> Self {
        let (errors, _) = Queue::before(Remarks::standard());
        Self { output: Queue::before(Output::standard(EventStyle::Off, |_| {})).0, errors }
    }

    /// Queues a line for standard output. Never blocks.
    pub(crate) fn print(&self, line: Line) {
        self.output.put(line);
    }

    /// Queues a line for standard error. Never blocks.
    pub(crate) fn remark(&self, remark: Remark) {
        self.errors.put(remark);
    }

    /// Counts an event that is not printed by itself.
    pub(crate) fn sum_up(&self) {
        self.output.tally.summed.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks that the events counted be told at that moment; false if the queue is full.
    pub(crate) fn sum_up_at(&self, moment: Instant) -> bool {
        self.output.messages.try_send(Message::SumUpAt(moment)).is_ok()
    }

    /// Waits until everything queued is written, at most for `patience`. A complaint about standard output comes before
    /// its end, and is written too.
    pub(crate) fn finish(&self, patience: Duration) {
        let end = Instant::now() + patience;
        self.output.finish(end);
        // Where output is stuck, the other thread has had all that time to write; it only has to say so.
        self.errors.finish(end.max(Instant::now() + END_STEP));
    }
}

/// The thread's side.
struct Press<S: Stream> {
    messages: Receiver<Message<S::Line>>,
    tally: Arc<Tally>,
    stream: S,
    sum_up_at: Option<Instant>,
}

impl<S: Stream> Press<S> {
    fn run(mut self) {
        loop {
            let message = match self.messages.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Disconnected) => return self.flush(),
                Err(TryRecvError::Empty) => {
                    self.flush();
                    match self.wait() {
                        Ok(Some(message)) => message,
                        Ok(None) => continue,
                        Err(()) => return,
                    }
                }
            };
            self.take(message);
        }
    }

    /// Sleeps until there is a message, or, where a sum is pending, until it is due.
    fn wait(&mut self) -> Result<Option<Message<S::Line>>, ()> {
        let Some(moment) = self.sum_up_at else {
            return self.messages.recv().map(Some).map_err(|_| ());
        };
        match self.messages.recv_timeout(moment.saturating_duration_since(Instant::now())) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => {
                self.sum_up();
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.sum_up();
                self.flush();
                Err(())
            }
        }
    }

    /// Takes one message in; what it prints is gathered first.
    fn take(&mut self, message: Message<S::Line>) {
        self.sum_up_if_due();
        match message {
            Message::Line(line) => self.stream.write(&line),
            Message::SumUpAt(moment) => self.sum_up_at = Some(moment),
            Message::End(answer) => {
                self.sum_up();
                self.flush();
                let _ = answer.try_send(());
            }
        }
        if self.stream.is_full() {
            self.flush();
        }
    }

    fn sum_up_if_due(&mut self) {
        if self.sum_up_at.is_some_and(|moment| moment <= Instant::now()) {
            self.sum_up();
        }
    }

    fn sum_up(&mut self) {
        self.sum_up_at = None;
        let summed = self.tally.summed.swap(0, Ordering::Relaxed);
        if summed > 0 {
            self.stream.write_sum(summed);
        }
    }

    /// Writes what has been gathered, and what was lost before it.
    fn flush(&mut self) {
        self.stream.flush(self.tally.lost.swap(0, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{Press, Printer, QUEUE_LINES_MAX, Queue};
    use crate::cli::flags::EventStyle;
    use crate::output::stderr::Remarks;
    use crate::output::stdout::{Line, Output};

    /// Far beyond what any step of a test takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A standard output that hands every write to the test.
    struct Pipe(mpsc::SyncSender<String>);

    impl std::io::Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.0.send(text).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn pair(room: usize) -> (Printer, Press<Output>, Receiver<String>) {
        let (pipe, read) = mpsc::sync_channel(room);
        let (output, press) = Queue::before(Output::new(Box::new(Pipe(pipe)), EventStyle::Text, |_| {}));
        let (errors, remarks) = Queue::before(Remarks::new(Box::new(Silent)));
        thread::spawn(move || remarks.run());
        (Printer { output, errors }, press, read)
    }

    fn started(room: usize) -> (Printer, Receiver<String>) {
        let (printer, press, read) = pair(room);
        thread::spawn(move || press.run());
        (printer, read)
    }

    struct Silent;

    impl log::Log for Silent {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, _: &log::Record<'_>) {}
        fn flush(&self) {}
    }

    fn line(text: impl Into<String>) -> Line {
        Line::Plain(text.into())
    }

    #[test]
    fn lines_come_out_in_order() {
        let (printer, read) = started(100);
        for number in 0..50 {
            printer.print(line(number.to_string()));
        }
        printer.finish(PATIENCE);
        let all: String = read.try_iter().collect();
        let numbers: Vec<usize> = all.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(0..50));
    }

    #[test]
    fn an_output_nobody_reads_blocks_no_one_and_the_loss_is_said() {
        // A thread that hangs in a write takes no message, as one that has not begun.
        let (printer, press, read) = pair(10_000);
        for number in 0..3 * QUEUE_LINES_MAX {
            printer.print(line(number.to_string()));
        }
        let before = Instant::now();
        printer.finish(Duration::from_millis(50));
        assert!(before.elapsed() < PATIENCE);
        thread::spawn(move || press.run());
        printer.finish(PATIENCE);
        let all: String = read.try_iter().collect();
        let (last, lines) =
            all.lines().collect::<Vec<_>>().split_last().map(|(last, rest)| (*last, rest.len())).unwrap();
        assert_eq!(lines, QUEUE_LINES_MAX);
        assert_eq!(last, format!("... {} lines lost, the output was too slow", 2 * QUEUE_LINES_MAX));
    }

    #[test]
    fn what_was_counted_is_said_when_it_is_due_and_nothing_else_happens() {
        let (printer, read) = started(10);
        for _ in 0..480 {
            printer.sum_up();
        }
        assert!(printer.sum_up_at(Instant::now() + Duration::from_millis(20)));
        assert_eq!(read.recv_timeout(PATIENCE).unwrap(), "... and 480 more in the last second\n");
    }

    #[test]
    fn the_end_waits_for_no_sum() {
        let (printer, read) = started(10);
        printer.sum_up();
        assert!(printer.sum_up_at(Instant::now() + PATIENCE * 10));
        printer.finish(PATIENCE);
        assert_eq!(read.try_iter().collect::<String>(), "... and 1 more in the last second\n");
    }
}
