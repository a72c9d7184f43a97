//! The output of a mode, which a fault delays, cuts or drops.
//!
//! A connection without a fault writes directly.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use halloo::{Connection, SendError};

use crate::cli::fault_rule::Fault;
use crate::faults::fault_source::DrawnFault;
use crate::greeting::stream_handlers::StreamOutput;

/// From the last byte to the RST: the kernel drops output that it has not sent when the RST leaves.
const RESET_AFTER: Duration = Duration::from_millis(1);

/// The same while the kernel has not accepted all output.
const RESET_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The output of the connection whose callback runs.
#[derive(Clone, Default)]
pub(crate) struct ShapedOutput(Rc<RefCell<Option<Box<Shaper>>>>);

impl ShapedOutput {
    /// Runs a callback of the mode, whose output the shaper takes.
    pub(crate) fn shape<R>(&self, shaper: &mut Option<Box<Shaper>>, callback: impl FnOnce() -> R) -> R {
        // A callback that panicked has left one behind.
        self.0.replace(shaper.take());
        let result = callback();
        *shaper = self.0.take();
        result
    }
}

impl StreamOutput for ShapedOutput {
    const IS_DIRECT: bool = false;

    fn send(&self, connection: &mut Connection<'_>, message: &[u8]) -> Result<(), SendError> {
        match self.0.borrow_mut().as_mut() {
            Some(shaper) => shaper.send(connection, message),
            None => connection.send(message),
        }
    }

    fn try_write(&self, connection: &mut Connection<'_>, bytes: &[u8]) -> usize {
        match self.0.borrow_mut().as_mut() {
            Some(shaper) => shaper.try_write(connection, bytes),
            None => connection.try_write(bytes),
        }
    }

    fn close(&self, connection: &mut Connection<'_>) {
        match self.0.borrow_mut().as_mut() {
            Some(shaper) => shaper.close(),
            None => connection.close(),
        }
    }
}

/// How a connection ends, once its output is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fin,
    Reset,
    /// It stays open, and its input is discarded.
    Never,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For input.
    Reading,
    /// For its timer.
    Timer,
    /// For room in the outbox.
    Outbox,
    /// For the kernel to send the output before the RST.
    Reset,
    /// For nothing: it is closed.
    Closed,
}

/// Whether the client meets its fault: a client that sends nothing may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    None,
    Begun,
    Noted,
}

/// The output of one connection, and what its fault does with it.
pub(crate) struct Shaper {
    pub(crate) drawn: DrawnFault,
    held: HeldBytes,
    /// Bytes of replies until now, which `reset` counts.
    reply_bytes: usize,
    end: Option<End>,
    stage: Stage,
    effect: Effect,
    is_paused: bool,
    owed: Owed,
}

/// The callbacks that wait until the output is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owed {
    #[default]
    Nothing,
    Eof,
    Drain,
    EofAndDrain,
}

impl Shaper {
    pub(crate) fn new(drawn: DrawnFault, held_bytes_left: Rc<Cell<usize>>) -> Self {
        Self {
            drawn,
            held: HeldBytes { bytes: VecDeque::new(), left: held_bytes_left },
            reply_bytes: 0,
            end: None,
            stage: Stage::Reading,
            effect: Effect::None,
            is_paused: false,
            owed: Owed::Nothing,
        }
    }

    fn send(&mut self, connection: &mut Connection<'_>, message: &[u8]) -> Result<(), SendError> {
        if self.end.is_some() {
            return Err(SendError::Closed);
        }
        if message.len() > self.room(connection) {
            return Err(SendError::Full);
        }
        self.take(connection, message)
    }

    fn try_write(&mut self, connection: &mut Connection<'_>, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room(connection));
        if self.end.is_some() || self.take(connection, &bytes[..count]).is_err() {
            return 0;
        }
        count
    }

    /// Room for output that is held back: as much as the outbox would have.
    fn room(&self, connection: &Connection<'_>) -> usize {
        connection.outbox_bytes_max().saturating_sub(self.held.len())
    }

    fn take(&mut self, connection: &mut Connection<'_>, bytes: &[u8]) -> Result<(), SendError> {
        let kept = match self.drawn.fault {
            Fault::Silence => 0,
            Fault::Half => {
                self.end = Some(End::Fin);
                bytes.len() / 2
            }
            Fault::Reset { bytes: limit } => {
                let kept = bytes.len().min(limit - self.reply_bytes);
                self.reply_bytes += kept;
                if self.reply_bytes == limit {
                    self.end = Some(End::Reset);
                }
                kept
            }
            _ => bytes.len(),
        };
        if !matches!(self.drawn.fault, Fault::Reset { .. }) || self.end.is_some() {
            self.begin_effect();
        }
        if !self.held.push(&bytes[..kept]) {
            log::debug!("a connection is reset: all connections together hold back too much output");
            connection.abort();
            self.end = Some(End::Fin);
            return Err(SendError::Closed);
        }
        // No further frame is passed to the mode.
        if self.end.is_some() || self.held.len() > connection.outbox_bytes_max() / 2 {
            self.pause(connection);
        }
        Ok(())
    }

    /// Ends the connection after its output.
    pub(crate) fn close(&mut self) {
        if self.end.is_none() {
            let end = match self.drawn.fault {
                Fault::Silence => End::Never,
                Fault::Reset { .. } => End::Reset,
                _ => End::Fin,
            };
            if end != End::Fin {
                self.begin_effect();
            }
            self.end = Some(end);
        }
    }

    fn begin_effect(&mut self) {
        if self.effect == Effect::None {
            self.effect = Effect::Begun;
        }
    }

    /// Whether the fault has begun since the last call.
    pub(crate) fn take_effect(&mut self) -> bool {
        let has_begun = self.effect == Effect::Begun;
        if has_begun {
            self.effect = Effect::Noted;
        }
        has_begun
    }

    /// Whether the mode may get input; if not, whether the input is discarded.
    pub(crate) fn input(&self) -> InputUse {
        match (self.end, self.stage) {
            (Some(_), _) => InputUse::Discard,
            (None, Stage::Reading) => InputUse::Deliver,
            (None, _) => InputUse::Keep,
        }
    }

    /// The limits of the time for a reply that is to be delayed now.
    pub(crate) fn delay_due(&self) -> Option<(Duration, Duration)> {
        match self.drawn.fault {
            Fault::Delay { min, max } if self.stage == Stage::Reading && self.held.len() > 0 => Some((min, max)),
            _ => None,
        }
    }

    /// Notes a callback that the mode gets later.
    pub(crate) fn owe(&mut self, callback: Owed) {
        self.owed =
            if matches!(self.owed, Owed::Nothing) || self.owed == callback { callback } else { Owed::EofAndDrain };
    }

    pub(crate) fn take_owed(&mut self) -> Owed {
        std::mem::take(&mut self.owed)
    }

    /// Goes on after a callback of the mode, with the time of a delay that [is due](Self::delay_due).
    pub(crate) fn after_callback(&mut self, connection: &mut Connection<'_>, delay: Option<Duration>) {
        if self.stage != Stage::Reading {
            return;
        }
        if let Some(delay) = delay {
            return self.wait(connection, Stage::Timer, delay);
        }
        self.pass_on(connection, true);
    }

    /// Goes on after the timer. Returns whether the mode may get callbacks again.
    pub(crate) fn after_timer(&mut self, connection: &mut Connection<'_>) -> bool {
        match self.stage {
            Stage::Timer => self.pass_on(connection, false),
            Stage::Reset if connection.outbox_len() > 0 => {
                self.wait(connection, Stage::Reset, RESET_CHECK_INTERVAL);
            }
            Stage::Reset => self.reset(connection),
            Stage::Reading | Stage::Outbox | Stage::Closed => {}
        }
        self.stage == Stage::Reading
    }

    /// Goes on when the outbox is empty. Returns whether the mode may get callbacks again.
    pub(crate) fn after_flush(&mut self, connection: &mut Connection<'_>) -> bool {
        if self.stage == Stage::Outbox {
            self.pass_on(connection, false);
        }
        self.stage == Stage::Reading
    }

    /// Passes output on to the connection, and ends it after the last.
    fn pass_on(&mut self, connection: &mut Connection<'_>, is_in_callback: bool) {
        if self.held.len() > 0 {
            let chunk_bytes = match self.drawn.fault {
                Fault::Dribble { bytes, .. } => bytes,
                _ => usize::MAX,
            };
            let count = self.held.len().min(chunk_bytes);
            let taken = connection.try_write(&self.held.rest()[..count]);
            self.held.consume(taken);
            match self.drawn.fault {
                _ if self.held.len() == 0 => {}
                Fault::Dribble { interval, .. } if taken == count => {
                    return self.wait(connection, Stage::Timer, interval);
                }
                _ => {
                    self.pause(connection);
                    self.stage = Stage::Outbox;
                    return;
                }
            }
        }
        match self.end {
            // Input that a callback leaves is delivered again only after the callback.
            None | Some(End::Never) if self.is_paused && is_in_callback => {
                self.wait(connection, Stage::Timer, Duration::ZERO);
            }
            None | Some(End::Never) => {
                self.stage = Stage::Reading;
                if std::mem::take(&mut self.is_paused) {
                    connection.resume();
                }
            }
            Some(End::Fin) => {
                self.stage = Stage::Closed;
                connection.close();
            }
            Some(End::Reset) if self.reply_bytes == 0 => self.reset(connection),
            Some(End::Reset) => self.wait(connection, Stage::Reset, RESET_AFTER),
        }
    }

    fn wait(&mut self, connection: &mut Connection<'_>, stage: Stage, time: Duration) {
        self.stage = stage;
        self.pause(connection);
        connection.set_timeout(Some(time));
    }

    fn pause(&mut self, connection: &mut Connection<'_>) {
        self.is_paused = true;
        connection.pause();
    }

    fn reset(&mut self, connection: &mut Connection<'_>) {
        self.stage = Stage::Closed;
        connection.abort();
    }
}

/// What becomes of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputUse {
    Deliver,
    Keep,
    Discard,
}

/// Output that is held back. It counts in the limit for all connections of the worker.
struct HeldBytes {
    bytes: VecDeque<u8>,
    left: Rc<Cell<usize>>,
}

impl HeldBytes {
    /// Appends bytes; false if the limit is reached.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(left) = self.left.get().checked_sub(bytes.len()) else { return false };
        self.left.set(left);
        self.bytes.extend(bytes);
        true
    }

    /// The bytes that are not sent.
    fn rest(&mut self) -> &[u8] {
        self.bytes.make_contiguous()
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn consume(&mut self, count: usize) {
        self.bytes.drain(..count);
        if self.bytes.is_empty() {
            // The memory of a long reply is not kept.
            self.bytes = VecDeque::new();
        }
        self.left.set(self.left.get() + count);
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.left.set(self.left.get() + self.len());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use super::HeldBytes;

    #[test]
    fn single_bytes_are_consumed_in_linear_time() {
        const BYTES: usize = 512 * 1024;
        let left = Rc::new(Cell::new(BYTES));
        let mut held = HeldBytes { bytes: VecDeque::new(), left: Rc::clone(&left) };
        let bytes: Vec<u8> = (0..BYTES).map(|index| index.to_le_bytes()[0]).collect();
        assert!(held.push(&bytes) && !held.push(b"x"));
        let start = Instant::now();
        for (index, byte) in bytes.iter().enumerate() {
            assert_eq!((held.rest()[0], held.len(), left.get()), (*byte, BYTES - index, index));
            held.consume(1);
        }
        // It takes milliseconds. It would take seconds if each byte moved the rest.
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert!(held.push(b"x"));
        drop(held);
        assert_eq!(left.get(), BYTES);
    }
}
