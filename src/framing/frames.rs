//! Decoders, and the frames in the input of a handler.
//!
//! A frame borrows from the input: nothing is copied.

use std::fmt;

use crate::close_reason::CloseReason;
use crate::context::connection::Connection;

/// Finds the frames in a stream of bytes.
///
/// [`FrameDecoder`](crate::framing::FrameDecoder) is the decoder of the usual formats; a protocol with another format
/// implements this trait. Each connection has a decoder of its own, in its session: the decoder keeps what is known
/// about a frame of which a part has come. [`Frames`] calls it.
///
/// ```
/// use halloo::framing::{Decoded, Decoder};
///
/// /// Messages of a type, a length, and as many bytes.
/// struct Messages;
///
/// impl Decoder for Messages {
///     type Frame<'i> = (u8, &'i [u8]);
///     type Error = &'static str;
///
///     fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<Self::Frame<'i>>, Self::Error> {
///         let [kind, length, rest @ ..] = input else { return Ok(Decoded::Incomplete(0)) };
///         if *kind > 2 {
///             return Err("unknown type");
///         }
///         Ok(match rest.get(..usize::from(*length)) {
///             Some(body) => Decoded::Frame((*kind, body), 2 + body.len()),
///             None => Decoded::Incomplete(0),
///         })
///     }
/// }
///
/// assert_eq!(Messages.decode(b"\x01\x03abc\x02"), Ok(Decoded::Frame((1, &b"abc"[..]), 5)));
/// assert_eq!(Messages.decode(b"\x02"), Ok(Decoded::Incomplete(0)));
/// assert_eq!(Messages.decode(b"\x07\x00"), Err("unknown type"));
/// ```
pub trait Decoder {
    /// A frame, or a part of one. It may borrow from the input.
    type Frame<'i>;

    /// Why the input is not a frame.
    type Error;

    /// Returns what `input` begins with. `input` has at least one byte. It begins at the end of the last frame, or after
    /// the bytes of the last [`Decoded::Incomplete`], and is never shorter than in the call before.
    ///
    /// # Errors
    /// The input is not a frame. The decoder is not called again, and the connection is closed.
    fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<Self::Frame<'i>>, Self::Error>;

    /// The reason with which the connection is closed after an error. Default: [`CloseReason::InvalidInput`].
    fn close_reason(_error: &Self::Error) -> CloseReason {
        CloseReason::InvalidInput
    }
}

/// What the input of a [`Decoder`] begins with.
///
/// ```
/// use halloo::framing::{Decoded, Decoder, Format, FrameDecoder};
///
/// let mut lines = FrameDecoder::new(Format::Lines, 1024);
/// assert_eq!(lines.decode(b"one\r\ntwo\r\n"), Ok(Decoded::Frame(&b"one"[..], 5)));
/// assert_eq!(lines.decode(b"two"), Ok(Decoded::Incomplete(0)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded<F> {
    /// A frame, and how many bytes of the input it takes: at least 1.
    Frame(F, usize),
    /// Less than a frame, of which so many bytes need not be shown again.
    Incomplete(usize),
}

impl<F> Decoded<F> {
    /// Makes another frame of the frame, for a decoder that has another one inside.
    ///
    /// ```
    /// use halloo::framing::Decoded;
    ///
    /// assert_eq!(Decoded::Frame(&b"abc"[..], 4).map(<[u8]>::len), Decoded::Frame(3, 4));
    /// assert_eq!(Decoded::<&[u8]>::Incomplete(2).map(<[u8]>::len), Decoded::Incomplete(2));
    /// ```
    pub fn map<G>(self, frame: impl FnOnce(F) -> G) -> Decoded<G> {
        match self {
            Self::Frame(from, bytes) => Decoded::Frame(frame(from), bytes),
            Self::Incomplete(bytes) => Decoded::Incomplete(bytes),
        }
    }
}

/// The frames in the input of [`on_data`](crate::StreamHandler::on_data).
///
/// ```
/// use halloo::framing::{Format, FrameDecoder, Frames};
/// use halloo::{Connection, EventLoop, StreamHandler};
///
/// /// Numbers the lines of each client.
/// struct Number;
///
/// struct Session {
///     lines: FrameDecoder,
///     count: u32,
/// }
///
/// impl StreamHandler for Number {
///     type Session = Session;
///
///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<Session> {
///         Some(Session { lines: FrameDecoder::new(Format::Lines, 1024), count: 0 })
///     }
///
///     fn on_data(&mut self, connection: &mut Connection<'_>, session: &mut Session, input: &[u8]) -> usize {
///         let mut frames = Frames::new(input);
///         while let Some(_line) = frames.next(connection, &mut session.lines) {
///             session.count += 1;
///             let _ = connection.send(format!("{}\n", session.count).as_bytes());
///         }
///         frames.finish(connection)
///     }
///
///     fn input_bytes_min(&self) -> usize {
///         Format::Lines.input_bytes_min(1024)
///     }
/// }
///
/// let mut events = EventLoop::new()?;
/// events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), Number)?;
/// # Ok::<(), halloo::Error>(())
/// ```
pub struct Frames<'i, D: Decoder> {
    rest: &'i [u8],
    input_bytes: usize,
    error: Option<D::Error>,
}

impl<'i, D: Decoder> Frames<'i, D> {
    /// The frames in this input.
    #[must_use]
    pub fn new(input: &'i [u8]) -> Self {
        Self { rest: input, input_bytes: input.len(), error: None }
    }

    /// The next frame. `None` when
    /// - the input has no further whole frame,
    /// - the connection is paused, closing or aborted,
    /// - more than half of the outbox is taken, so that a reply of up to half an outbox always fits. Then
    ///   [`on_flushed`](crate::StreamHandler::on_flushed) comes once the outbox is empty, and after it the rest of the
    ///   input is shown again,
    /// - the decoder has returned an [error](Self::error).
    ///
    /// # Panics
    /// If the decoder returns a frame of no bytes, or of more than there are.
    #[inline]
    pub fn next(&mut self, connection: &mut Connection<'_>, decoder: &mut D) -> Option<D::Frame<'i>> {
        if self.rest.is_empty() || self.error.is_some() || !connection.is_ready_for_frame() {
            return None;
        }
        match decoder.decode(self.rest) {
            Ok(Decoded::Frame(frame, bytes)) => {
                assert!(bytes > 0, "a decoder has returned a frame of no bytes");
                self.rest = &self.rest[bytes..];
                Some(frame)
            }
            Ok(Decoded::Incomplete(bytes)) => {
                self.rest = &self.rest[bytes..];
                None
            }
            Err(error) => {
                self.error = Some(error);
                None
            }
        }
    }

    /// The decoder's error, after which there is no further frame. A handler may send a reply about it before
    /// [`finish`](Self::finish) closes the connection:
    ///
    /// ```
    /// # use halloo::framing::{Format, FrameDecoder, Frames};
    /// # use halloo::Connection;
    /// # fn on_data(connection: &mut Connection<'_>, lines: &mut FrameDecoder, input: &[u8]) -> usize {
    /// let mut frames = Frames::new(input);
    /// while let Some(line) = frames.next(connection, lines) {
    ///     let _ = Format::Lines.send(connection, line);
    /// }
    /// if let Some(error) = frames.error() {
    ///     let _ = connection.send(format!("error: {error}\n").as_bytes());
    /// }
    /// frames.finish(connection)
    /// # }
    /// # let _ = on_data;
    /// ```
    #[must_use]
    pub fn error(&self) -> Option<&D::Error> {
        self.error.as_ref()
    }

    /// Returns how many bytes of the input have been used, for [`on_data`](crate::StreamHandler::on_data) to return. After
    /// an error of the decoder it closes the connection, with [`Decoder::close_reason`], unless the handler has.
    #[must_use = "on_data returns it"]
    #[inline]
    pub fn finish(self, connection: &mut Connection<'_>) -> usize {
        if let Some(error) = &self.error {
            connection.close_with(D::close_reason(error));
        }
        self.input_bytes - self.rest.len()
    }
}

impl<D: Decoder<Error: fmt::Debug>> fmt::Debug for Frames<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("error", &self.error).finish_non_exhaustive()
    }
}
