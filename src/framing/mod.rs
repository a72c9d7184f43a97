//! Framing: handlers that receive whole messages instead of bytes.
//!
//! [`Framed`] is a [`StreamHandler`] around a [`FrameHandler`], or around a closure in [`frames`] or [`lines`]. It
//! finds the frames, hands each over where it lies, and keeps to the bounds of its connection: no frame is handed over
//! while more than half of the outbox is taken, so that an answer of up to half an outbox always fits, and one over the
//! maximum closes the connection with [`CloseReason::InputOverflow`], as soon as that is certain.
//!
//! ```
//! use halloo::framing::{self, Format};
//!
//! let mut events = halloo::EventLoop::new()?;
//! let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
//! events.listen(address, framing::lines(1024, |connection, line| {
//!     let _ = Format::Lines.send(connection, line);
//! }))?;
//! # Ok::<(), halloo::Error>(())
//! ```
//!
//! # Which format
//! | your peers send | format |
//! |---|---|
//! | text, a line each; a person with netcat, too | [`Format::Lines`] |
//! | text that may hold line ends | [`Format::Delimiter`] with a byte that it never holds, such as 0 |
//! | any bytes, up to 65,535 at a time | [`Format::LengthU16`] |
//! | any bytes, where the protocol has four bytes of length | [`Format::LengthU32`] |
//!
//! A length is found without a search, and a frame that is too long is refused before its first byte has come. Which
//! [`ByteOrder`] is for the protocol to say; a new one takes [`BigEndian`](ByteOrder::BigEndian), as the Internet's do.
//! The longest frame to be received is one that fits `input_bytes_max`, at most 64 KiB: longer messages are for
//! [`StreamHandler::on_data`], which takes them as they come.
//!
//! [`Format::send`] writes a frame for a peer of the same format.

pub(crate) mod decode;
pub(crate) mod format;
mod frame_fn;

use std::io;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;
use crate::context::handler::StreamHandler;
use crate::framing::decode::{DecodeState, Decoded};
use crate::ids::{ConnectionId, HandlerId, TimerId};

pub use crate::framing::format::{ByteOrder, Format, FrameSendError};
pub use crate::framing::frame_fn::{FrameFn, frames, lines};

/// A protocol over frames: the callbacks of [`StreamHandler`], with [`on_frame`](Self::on_frame) in place of `on_data`.
///
/// ```
/// use halloo::framing::{Format, FrameHandler, Framed};
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
/// events.listen(address, Framed::new(Format::Lines, 1024, Number))?;
/// # Ok::<(), halloo::Error>(())
/// ```
///
/// `&mut H` and `Box<H>` are frame handlers where `H` is one, as for [`StreamHandler`]:
///
/// ```
/// # use halloo::framing::{Format, FrameHandler, Framed};
/// # fn lend(number: &mut dyn FrameHandler<Session = u32>) -> halloo::Result<()> {
/// let mut events = halloo::EventLoop::new()?;
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// events.listen(address, Framed::new(Format::Lines, 1024, number))?;
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a frame handler",
    label = "not a frame handler",
    note = "for a closure call `halloo::framing::frames(format, frame_bytes_max, |connection, frame| ...)`, or `lines`"
)]
pub trait FrameHandler {
    /// What the handler keeps about one connection.
    type Session;

    /// As [`StreamHandler::on_start`].
    fn on_start(&mut self, _context: &mut Context, _id: HandlerId) {}

    /// As [`StreamHandler::on_open`].
    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Self::Session>;

    /// One whole frame has come, without what delimits it; an empty one is one too. After a
    /// [`pause`](Connection::pause), a [`close`](Connection::close) or an [`abort`](Connection::abort) no further one
    /// follows.
    fn on_frame(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, frame: &[u8]);

    /// The stream has ended within a frame, of whose content this has come, whether any of it or none. `on_eof` comes
    /// next. Default: nothing; a frame cut short is dropped, because half a command may well be another command.
    ///
    /// A protocol that takes a last line without its end, as editors and `printf` write it, says so:
    ///
    /// ```
    /// # use halloo::{Connection, framing::FrameHandler};
    /// # struct Print;
    /// # impl FrameHandler for Print {
    /// #     type Session = ();
    /// #     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<()> { Some(()) }
    /// #     fn on_frame(&mut self, _: &mut Connection<'_>, (): &mut (), _: &[u8]) {}
    /// fn on_unfinished(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, rest: &[u8]) {
    ///     self.on_frame(connection, session, rest);
    /// }
    /// # }
    /// ```
    fn on_unfinished(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session, _rest: &[u8]) {}

    /// As [`StreamHandler::on_eof`].
    fn on_eof(&mut self, connection: &mut Connection<'_>, _session: &mut Self::Session, _rest: &[u8]) {
        connection.close();
    }

    /// As [`StreamHandler::on_flushed`].
    fn on_flushed(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session) {}

    /// As [`StreamHandler::on_timeout`].
    fn on_timeout(&mut self, connection: &mut Connection<'_>, _session: &mut Self::Session) {
        connection.close();
    }

    /// As [`StreamHandler::on_timer`].
    fn on_timer(&mut self, _context: &mut Context, _timer: TimerId, _value: u64) {}

    /// As [`StreamHandler::on_notify`].
    fn on_notify(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session, _value: u64) {}

    /// As [`StreamHandler::on_drain`].
    fn on_drain(&mut self, _connection: &mut Connection<'_>, _session: &mut Self::Session) {}

    /// As [`StreamHandler::on_connect_failed`].
    fn on_connect_failed(&mut self, _context: &mut Context, _id: ConnectionId, _error: io::Error) {}

    /// As [`StreamHandler::on_close`].
    fn on_close(&mut self, _connection: &mut Connection<'_>, _session: Self::Session, _reason: CloseReason) {}
}

/// A [`StreamHandler`] that cuts the stream into frames for a [`FrameHandler`].
///
/// ```
/// use halloo::framing::{Format, FrameHandler, Framed};
///
/// fn names_served_by<H: FrameHandler>(handler: H) -> Framed<H> {
///     Framed::new(Format::Delimiter(0), 255, handler)
/// }
/// ```
#[derive(Debug)]
pub struct Framed<H> {
    format: Format,
    frame_bytes_max: usize,
    handler: H,
}

impl<H: FrameHandler> Framed<H> {
    /// Cuts by a format into frames of at most so many bytes, what delimits them not counted.
    ///
    /// `input_bytes_max` of the listener or of the outbound connection must have room for one: with its delimiter (CR
    /// and LF for a line), or without its length. Else `listen` refuses, and an outbound connection
    /// [fails](FrameHandler::on_connect_failed) with [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn new(format: Format, frame_bytes_max: usize, handler: H) -> Self {
        Self { format, frame_bytes_max, handler }
    }

    /// Hands over every whole frame; returns how many bytes they took.
    fn deliver_frames(
        &mut self,
        connection: &mut Connection<'_>,
        session: &mut FramedSession<H::Session>,
        input: &[u8],
    ) -> usize {
        let mut consumed = 0;
        while connection.is_reading() {
            match self.format.decode(&input[consumed..], &mut session.decode_state, self.frame_bytes_max) {
                Decoded::Frame(..) if connection.outbox_len() > connection.outbox_bytes_max() / 2 => {
                    connection.request_flushed();
                    break;
                }
                Decoded::Frame(frame, bytes) => {
                    session.decode_state = DecodeState::Start;
                    self.handler.on_frame(connection, &mut session.session, frame);
                    consumed += bytes;
                }
                Decoded::Incomplete(bytes) => {
                    consumed += bytes;
                    break;
                }
                Decoded::TooLong => {
                    connection.close_with(CloseReason::InputOverflow);
                    break;
                }
            }
        }
        consumed
    }
}

/// What [`Framed`] keeps about one connection: the session of its handler, and what is known about a frame that has
/// begun.
///
/// ```
/// use halloo::StreamHandler;
/// use halloo::framing::{Framed, FramedSession, FrameHandler};
///
/// fn takes_framed<H: FrameHandler>(handler: Framed<H>) -> impl StreamHandler<Session = FramedSession<H::Session>> {
///     handler
/// }
/// # let _ = takes_framed(halloo::framing::lines(10, |_, _| {}));
/// ```
#[derive(Debug)]
pub struct FramedSession<S> {
    session: S,
    decode_state: DecodeState,
}

#[warn(clippy::missing_trait_methods)]
impl<H: FrameHandler> StreamHandler for Framed<H> {
    type Session = FramedSession<H::Session>;

    fn on_start(&mut self, context: &mut Context, id: HandlerId) {
        self.handler.on_start(context, id);
    }

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<Self::Session> {
        self.handler.on_open(connection).map(|session| FramedSession { session, decode_state: DecodeState::Start })
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, input: &[u8]) -> usize {
        self.deliver_frames(connection, session, input)
    }

    fn on_eof(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, rest: &[u8]) {
        if let Some(content) = self.format.decode_eof(rest, std::mem::take(&mut session.decode_state)) {
            self.handler.on_unfinished(connection, &mut session.session, content);
        }
        let id = connection.id();
        if connection.context().connection(id).is_some() {
            self.handler.on_eof(connection, &mut session.session, rest);
        }
    }

    fn on_flushed(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        self.handler.on_flushed(connection, &mut session.session);
    }

    fn on_timeout(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        self.handler.on_timeout(connection, &mut session.session);
    }

    fn on_timer(&mut self, context: &mut Context, timer: TimerId, value: u64) {
        self.handler.on_timer(context, timer, value);
    }

    fn on_notify(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session, value: u64) {
        self.handler.on_notify(connection, &mut session.session, value);
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, session: &mut Self::Session) {
        self.handler.on_drain(connection, &mut session.session);
    }

    fn on_connect_failed(&mut self, context: &mut Context, id: ConnectionId, error: io::Error) {
        self.handler.on_connect_failed(context, id, error);
    }

    fn on_close(&mut self, connection: &mut Connection<'_>, session: Self::Session, reason: CloseReason) {
        self.handler.on_close(connection, session.session, reason);
    }

    fn input_bytes_min(&self) -> usize {
        self.format.input_bytes_min(self.frame_bytes_max)
    }
}
