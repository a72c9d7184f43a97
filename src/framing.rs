//! Frames out of streams: handlers that see whole messages instead of bytes as they come.
//!
//! [`Framed`] is a [`StreamHandler`] around a [`FrameHandler`]. It finds the frames, hands each over where it lies,
//! and keeps to the bounds of its connection: a frame that is too long closes it with
//! [`CloseReason::InputOverflow`], and no frame is handed over while more than half
//! of the outbox is taken, so that an answer of up to half an outbox always fits.
//!
//! ```
//! use halloo::{EventLoop, framing};
//!
//! let mut events = EventLoop::new()?;
//! let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
//! events.listen(address, framing::lines(1024, |connection, line| {
//!     let _ = connection.send(line);
//!     let _ = connection.send(b"\n");
//! }))?;
//! # Ok::<(), halloo::Error>(())
//! ```

use std::io;

use crate::handler::StreamHandler;
use crate::lent::Connection;
use crate::reason::CloseReason;
use crate::tables::Context;
use crate::token::ConnectionId;

/// A protocol over frames: the callbacks of [`StreamHandler`], with [`on_frame`](Self::on_frame) in place of `on_data`.
///
/// ```
/// use halloo::framing::{FrameHandler, Framed, Lines};
/// use halloo::{Connection, EventLoop};
///
/// /// Numbers the lines of each client.
/// struct Number;
///
/// impl FrameHandler for Number {
///     type Session = u32;
///
///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<u32> {
///         Some(0)
///     }
///
///     fn on_frame(&mut self, connection: &mut Connection<'_>, count: &mut u32, _line: &[u8]) {
///         *count += 1;
///         let _ = connection.send(format!("{count}\n").as_bytes());
///     }
/// }
///
/// let mut events = EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// events.listen(address, Framed::new(Lines, 1024, Number))?;
/// # Ok::<(), halloo::Error>(())
/// ```
pub trait FrameHandler {
    /// What the handler keeps about one connection.
    type Session;

    /// As [`StreamHandler::on_open`].
    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Self::Session>;

    /// One whole frame has come, without what delimits it.
    fn on_frame(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, frame: &[u8]);

    /// As [`StreamHandler::on_eof`]; an unfinished frame is dropped.
    fn on_eof(&mut self, connection: &mut Connection<'_>, _session: &mut Self::Session) {
        connection.close();
    }

    /// As [`StreamHandler::on_flushed`].
    fn on_flushed(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session) {}

    /// As [`StreamHandler::on_timeout`].
    fn on_timeout(&mut self, connection: &mut Connection<'_>, _session: &mut Self::Session) {
        connection.close();
    }

    /// As [`StreamHandler::on_timer`].
    fn on_timer(&mut self, _context: &mut Context, _value: u64) {}

    /// As [`StreamHandler::on_notify`].
    fn on_notify(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session, _value: u64) {}

    /// As [`StreamHandler::on_drain`].
    fn on_drain(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session) {}

    /// As [`StreamHandler::on_connect_failed`].
    fn on_connect_failed(&mut self, _context: &mut Context, _id: ConnectionId, _error: io::Error) {}

    /// As [`StreamHandler::on_close`].
    fn on_close(&mut self, _connection: &mut Connection<'_>, _session: Self::Session, _reason: CloseReason) {}
}

/// As for [`stream`](crate::stream): no session, and a drain closes.
impl<F> FrameHandler for F
where
    F: FnMut(&mut Connection<'_>, &[u8]),
{
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> {
        Some(())
    }

    fn on_frame(&mut self, connection: &mut Connection<'_>, (): &mut (), frame: &[u8]) {
        self(connection, frame);
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, (): &mut ()) {
        connection.close();
    }
}

/// Lines that end in LF; a CR before it is dropped.
///
/// ```
/// # use halloo::framing::{Framed, Lines};
/// let lines = Framed::new(Lines, 80, |_: &mut halloo::Connection<'_>, line: &[u8]| println!("{} bytes", line.len()));
/// # let _ = lines;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lines;

impl Lines {
    /// CR and LF.
    const DELIMITER_BYTES_MAX: usize = 2;
}

/// A [`StreamHandler`] that cuts the stream into frames for a [`FrameHandler`].
///
/// ```
/// # use halloo::framing::{Framed, Lines};
/// let mut count = 0;
/// let lines = Framed::new(Lines, 1024, |_: &mut halloo::Connection<'_>, _: &[u8]| count += 1);
/// # let _ = lines;
/// ```
#[derive(Debug)]
pub struct Framed<H> {
    frame_bytes_max: usize,
    handler: H,
}

/// [`Framed::new`] for lines and a closure.
///
/// ```
/// let shout = halloo::framing::lines(1024, |connection, line| {
///     let _ = connection.send(&line.to_ascii_uppercase());
///     let _ = connection.send(b"\n");
/// });
/// # let _ = shout;
/// ```
pub fn lines<F>(frame_bytes_max: usize, handler: F) -> Framed<F>
where
    F: FnMut(&mut Connection<'_>, &[u8]),
{
    Framed::new(Lines, frame_bytes_max, handler)
}

impl<H: FrameHandler> Framed<H> {
    /// Cuts by a format into frames of at most so many bytes, delimiters not counted. The listener's
    /// `input_bytes_max` must have room for one with its delimiter, else `listen` refuses.
    pub fn new(format: Lines, frame_bytes_max: usize, handler: H) -> Self {
        let Lines = format;
        Self { frame_bytes_max, handler }
    }

    /// Hands over every whole line; returns how many bytes they took.
    fn cut(&mut self, connection: &mut Connection<'_>, session: &mut FramedSession<H::Session>, input: &[u8]) -> usize {
        let mut consumed = 0;
        while connection.is_listening() {
            let rest = &input[consumed..];
            let Some(end) = memchr::memchr(b'\n', &rest[session.searched..]).map(|at| at + session.searched) else {
                session.searched = rest.len();
                if rest.len() >= self.frame_bytes_max + Lines::DELIMITER_BYTES_MAX {
                    connection.close_because(CloseReason::InputOverflow);
                }
                break;
            };
            if connection.pending() > connection.outbox_bytes_max() / 2 {
                connection.call_when_flushed();
                session.searched = end;
                break;
            }
            session.searched = 0;
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            if line.len() > self.frame_bytes_max {
                connection.close_because(CloseReason::InputOverflow);
                break;
            }
            self.handler.on_frame(connection, &mut session.inner, line);
            consumed += end + 1;
        }
        consumed
    }
}

/// What [`Framed`] keeps about one connection besides the session of its handler.
#[derive(Debug)]
pub struct FramedSession<S> {
    inner: S,
    /// How much of the rest is known to hold no line end, so that a slow line is not searched again with every byte.
    searched: usize,
}

impl<H: FrameHandler> StreamHandler for Framed<H> {
    type Session = FramedSession<H::Session>;

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Self::Session> {
        self.handler.on_open(connection).map(|inner| FramedSession { inner, searched: 0 })
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, input: &[u8]) -> usize {
        self.cut(connection, session, input)
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        self.handler.on_eof(connection, &mut session.inner);
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        self.handler.on_flushed(connection, &mut session.inner);
    }

    fn on_timeout(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        self.handler.on_timeout(connection, &mut session.inner);
    }

    fn on_timer(&mut self, context: &mut Context, value: u64) {
        self.handler.on_timer(context, value);
    }

    fn on_notify(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, value: u64) {
        self.handler.on_notify(connection, &mut session.inner, value);
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        self.handler.on_drain(connection, &mut session.inner);
    }

    fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
        self.handler.on_connect_failed(context, id, error);
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, session: Self::Session, reason: CloseReason) {
        self.handler.on_close(connection, session.inner, reason);
    }

    fn input_bytes_min(&self) -> usize {
        self.frame_bytes_max.saturating_add(Lines::DELIMITER_BYTES_MAX)
    }
}
