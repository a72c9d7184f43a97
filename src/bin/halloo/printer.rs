//! The printing thread and the bounded queue before it: everything halloo prints while it serves goes through here.
//!
//! Between the loop's thread, which only ever tries to queue, and the standard outputs, which may be slow, full or
//! gone. It promises that queueing never blocks, that lines keep their order, that what does not fit or cannot be
//! written is counted and said in the stream itself once there is room, and that the thread sleeps while there is
//! nothing to print. It never panics over a stream that fails, and never holds up the end of the process for longer
//! than it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::outputs::{Line, Outputs};

/// The name of the printing thread.
pub(crate) const THREAD: &str = "printer";

/// Lines that may wait: room for a burst, about a hundred kilobytes.
const QUEUE_LINES_MAX: usize = 1024;

/// How long the end waits before it looks again whether the queue has room.
const END_STEP: Duration = Duration::from_millis(5);

enum Message {
    Line(Line),
    /// Events are being counted instead of printed: say how many at that moment.
    SumUpAt(Instant),
    /// Everything before this is written: answer.
    End(SyncSender<()>),
}

/// What the two sides count together.
#[derive(Debug, Default)]
struct Tally {
    /// Events summed up instead of printed.
    summed: AtomicU64,
    /// Lines for standard output that found the queue full.
    output_lost: AtomicU64,
    /// Lines for standard error that found the queue full.
    error_lost: AtomicU64,
}

/// The end of the queue that others hold.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    queue: SyncSender<Message>,
    tally: Arc<Tally>,
}

impl Printer {
    /// Starts the thread.
    pub(crate) fn start(outputs: Outputs) -> std::io::Result<Self> {
        let (printer, press) = Self::pair(outputs);
        thread::Builder::new().name(THREAD.to_owned()).spawn(move || press.run())?;
        Ok(printer)
    }

    /// One that prints nothing, for tests of what stands before it.
    #[cfg(test)]
    pub(crate) fn to_nowhere() -> Self {
        Self::pair(Outputs::standard(crate::options::EventStyle::Off)).0
    }

    fn pair(outputs: Outputs) -> (Self, Press) {
        let (queue, messages) = mpsc::sync_channel(QUEUE_LINES_MAX);
        let tally = Arc::new(Tally::default());
        let press = Press { messages, tally: Arc::clone(&tally), outputs, sum_up_at: None };
        (Self { queue, tally }, press)
    }

    /// Queues a line, or counts it as lost. Never blocks.
    pub(crate) fn print(&self, line: Line) {
        let lost = match line {
            Line::Output(_) | Line::Event(_) => &self.tally.output_lost,
            Line::Sentence(_) | Line::Log(..) => &self.tally.error_lost,
        };
        // A queue that is full stays busy for a long while yet: the thread will see the count.
        if self.queue.try_send(Message::Line(line)).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an event that is not printed by itself.
    pub(crate) fn sum_up(&self) {
        self.tally.summed.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks that the events counted be told at that moment; false if the queue is full.
    pub(crate) fn sum_up_at(&self, moment: Instant) -> bool {
        self.queue.try_send(Message::SumUpAt(moment)).is_ok()
    }

    /// Waits until everything queued is written, at most for `patience`.
    pub(crate) fn finish(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let (answer, answered) = mpsc::sync_channel(1);
        while self.queue.try_send(Message::End(answer.clone())).is_err() {
            if Instant::now() >= end {
                return;
            }
            thread::sleep(END_STEP);
        }
        let _ = answered.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// The thread's side.
struct Press {
    messages: Receiver<Message>,
    tally: Arc<Tally>,
    outputs: Outputs,
    sum_up_at: Option<Instant>,
}

impl Press {
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
    fn wait(&mut self) -> Result<Option<Message>, ()> {
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
    fn take(&mut self, message: Message) {
        self.sum_up_if_due();
        match message {
            Message::Line(line) => self.outputs.write(&line),
            Message::SumUpAt(moment) => self.sum_up_at = Some(moment),
            Message::End(answer) => {
                self.sum_up();
                self.flush();
                let _ = answer.try_send(());
            }
        }
        if self.outputs.is_full() {
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
            self.outputs.write(&Line::Output(format!("... and {summed} more in the last second")));
        }
    }

    /// Writes what has been gathered, and what was lost before it.
    fn flush(&mut self) {
        let output = self.tally.output_lost.swap(0, Ordering::Relaxed);
        let error = self.tally.error_lost.swap(0, Ordering::Relaxed);
        self.outputs.flush(output, error);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{Press, Printer, QUEUE_LINES_MAX};
    use crate::options::EventStyle;
    use crate::outputs::{Line, Outputs};

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

    fn pair(room: usize) -> (Printer, Press, Receiver<String>) {
        let (pipe, read) = mpsc::sync_channel(room);
        let (printer, press) = Printer::pair(Outputs::new(Box::new(Pipe(pipe)), Box::new(Silent), EventStyle::Text));
        (printer, press, read)
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
        Line::Output(text.into())
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
