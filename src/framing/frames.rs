//! Decoders, and the frames in the input of a handler.
//!
//! A frame borrows from the input: nothing is copied.

use std::fmt;
use std::marker::PhantomData;

use crate::close_reason::CloseReason;
use crate::context::Context;
use crate::context::connection::Connection;

/// Finds the frames in a stream of bytes.
///
/// [`FrameDecoder`](crate::framing::FrameDecoder) is the decoder of the usual formats. A protocol with another format
/// implements this trait. Each connection has its own decoder in its session. The decoder keeps what it knows about an
/// incomplete frame. [`Frames`] calls it.
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

    /// The reason why the input is not a frame.
    type Error;

    /// Decodes the start of `input`, which has at least one byte. It begins after the bytes of the last
    /// [`Decoded::Frame`] or [`Decoded::Incomplete`]. After `Incomplete(0)` it has the same bytes, and usually more.
    ///
    /// # Errors
    /// The input is not a frame. The decoder is not called again, and the connection is closed.
    fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<Self::Frame<'i>>, Self::Error>;

    /// Returns the reason for the close after an error. Default: [`CloseReason::InvalidInput`].
    fn close_reason(_error: &Self::Error) -> CloseReason {
        CloseReason::InvalidInput
    }
}

/// The start of a [`Decoder`]'s input.
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
    /// A frame, and the number of input bytes that it uses: at least 1.
    Frame(F, usize),
    /// An incomplete frame, and the number of bytes at the start of the input that are consumed, usually 0. The decoder
    /// has kept what it needs of them, such as a length or a part of the body. Consumed bytes count as progress for the
    /// idle timeout.
    Incomplete(usize),
}

impl<F> Decoded<F> {
    /// Converts the frame, for a decoder that contains another one.
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
    /// Creates the frames of this input.
    #[must_use]
    pub fn new(input: &'i [u8]) -> Self {
        Self { rest: input, input_bytes: input.len(), error: None }
    }

    /// Returns the next frame. Returns `None` if
    /// - the input has no further whole frame,
    /// - the connection is paused, closing or aborted,
    /// - more than half of the outbox is used, so that a reply of up to half an outbox always fits. Then
    ///   [`on_flushed`](crate::StreamHandler::on_flushed) is called when the outbox is empty, and the rest of the input
    ///   is delivered again,
    /// - the decoder has returned an [error](Self::error).
    ///
    /// # Panics
    /// If the decoder returns a frame of no bytes, or of more than the input has.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: 40 of 400 instructions a line")]
    pub fn next(&mut self, connection: &mut Connection<'_>, decoder: &mut D) -> Option<D::Frame<'i>> {
        if self.is_done() || connection.room_for_frames().is_none() {
            return None;
        }
        self.decode(decoder)
    }

    /// Returns the frames that may be replied to together, with at most `reply_bytes_max` bytes each. They are as many as
    /// [`next`](Self::next) would return if each reply were sent at once. The replies of all can be one
    /// [`send`](Connection::send), and the connection is looked at once. For short frames this costs less than half.
    ///
    /// The batch is empty where `next` returns `None`. After a batch the next one begins with the rest of the input.
    ///
    /// ```
    /// use halloo::framing::{Format, FrameDecoder, Frames};
    /// use halloo::{Connection, StreamHandler};
    ///
    /// /// Replies to each line with its length.
    /// struct Lengths;
    ///
    /// impl StreamHandler for Lengths {
    ///     type Session = FrameDecoder;
    ///
    ///     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<FrameDecoder> {
    ///         Some(FrameDecoder::new(Format::Lines, 1024))
    ///     }
    ///
    ///     fn on_data(&mut self, connection: &mut Connection<'_>, lines: &mut FrameDecoder, input: &[u8]) -> usize {
    ///         let mut frames = Frames::new(input);
    ///         loop {
    ///             let replies: String = frames.batch(connection, lines, 5).map(|line| format!("{}\n", line.len())).collect();
    ///             if replies.is_empty() || connection.send(replies.as_bytes()).is_err() {
    ///                 return frames.finish(connection);
    ///             }
    ///         }
    ///     }
    /// }
    /// # let mut events = halloo::EventLoop::new()?;
    /// # let listener = events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), Lengths)?;
    /// # let address = events.local_addr(listener)?;
    /// # let client = std::thread::spawn(move || -> std::io::Result<[u8; 6]> {
    /// #     use std::io::{Read, Write};
    /// #     let (mut stream, mut replies) = (std::net::TcpStream::connect(address)?, [0; 6]);
    /// #     stream.write_all(b"one\nthree\n\n")?;
    /// #     stream.read_exact(&mut replies)?;
    /// #     Ok(replies)
    /// # });
    /// # while !client.is_finished() {
    /// #     let _ = events.turn(Some(std::time::Duration::from_millis(10)))?;
    /// # }
    /// # assert_eq!(&client.join().unwrap()?, b"3\n5\n0\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    /// As [`next`](Self::next), when the frame is taken from the batch.
    #[inline]
    pub fn batch<'b>(
        &'b mut self,
        connection: &'b mut Connection<'_>,
        decoder: &'b mut D,
        reply_bytes_max: usize,
    ) -> FrameBatch<'b, 'i, D> {
        let room = if self.is_done() { None } else { connection.room_for_frames() };
        // The last reply begins in the first half of the outbox.
        let frames_left = room.map_or(0, |room| room.checked_div(reply_bytes_max).map_or(usize::MAX, |fit| fit + 1));
        FrameBatch { frames: self, decoder, frames_left, _connection: PhantomData }
    }

    /// Whether no frame follows, whatever the state of the connection.
    fn is_done(&self) -> bool {
        self.rest.is_empty() || self.error.is_some()
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: 40 of 400 instructions a line")]
    fn decode(&mut self, decoder: &mut D) -> Option<D::Frame<'i>> {
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

    /// Returns the decoder's error, after which no frame follows. A handler may send a reply about it, which fits if half
    /// an outbox is enough. Then [`finish`](Self::finish) closes the connection as [`close`](Connection::close) does, so
    /// the peer can read the reply:
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

    /// Returns how many bytes of the input were used; [`on_data`](crate::StreamHandler::on_data) returns this. After an
    /// error of the decoder it closes the connection with [`Decoder::close_reason`], unless the handler has closed it.
    #[must_use = "on_data returns it"]
    #[inline]
    pub fn finish(self, connection: &mut Connection<'_>) -> usize {
        if let Some(error) = &self.error {
            connection.close_with(D::close_reason(error));
        }
        self.input_bytes - self.rest.len()
    }
}

/// Frames that may be replied to together, made by [`Frames::batch`]. Meanwhile the connection cannot be changed.
pub struct FrameBatch<'b, 'i, D: Decoder> {
    frames: &'b mut Frames<'i, D>,
    decoder: &'b mut D,
    frames_left: usize,
    _connection: PhantomData<&'b mut Context>,
}

impl<'i, D: Decoder> Iterator for FrameBatch<'_, 'i, D> {
    type Item = D::Frame<'i>;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: 40 of 400 instructions a line")]
    fn next(&mut self) -> Option<D::Frame<'i>> {
        self.frames_left = self.frames_left.checked_sub(1)?;
        let frame = if self.frames.is_done() { None } else { self.frames.decode(self.decoder) };
        if frame.is_none() {
            self.frames_left = 0;
        }
        frame
    }
}

impl<D: Decoder> fmt::Debug for FrameBatch<'_, '_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameBatch").field("frames_left", &self.frames_left).finish_non_exhaustive()
    }
}

impl<D: Decoder<Error: fmt::Debug>> fmt::Debug for Frames<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("error", &self.error).finish_non_exhaustive()
    }
}
