//! Stream handlers from closures that are called with frames.

use std::fmt;

use crate::context::connection::Connection;
use crate::context::handler::StreamHandler;
use crate::framing::decode::FrameDecoder;
use crate::framing::format::Format;
use crate::framing::frames::Frames;

/// A closure over frames as a stream handler, made by [`frames`] and [`lines`].
///
/// ```
/// use halloo::Connection;
/// use halloo::framing::{self, FrameFn};
///
/// /// The type of the handler has a name, so that a server can contain it.
/// struct Server {
///     echo: FrameFn<fn(&mut Connection<'_>, &[u8])>,
/// }
///
/// let server = Server { echo: framing::lines(1024, |connection, line| { let _ = connection.send(line); }) };
/// # let _ = server.echo;
/// ```
#[derive(Clone)]
pub struct FrameFn<F> {
    decoder: FrameDecoder,
    closure: F,
}

/// Makes a stream handler from a closure that is called with each frame. Its session is the decoder. Like a closure of
/// [`stream`](crate::stream) it closes its connections when the loop drains. An incomplete frame at EOF is dropped.
///
/// `input_bytes_max` of the listener must have room for a frame of `frame_bytes_max`. Otherwise `listen` refuses, and
/// an outbound connection fails with [`InvalidInput`](std::io::ErrorKind::InvalidInput).
///
/// ```
/// use halloo::framing::{self, ByteOrder, Format};
///
/// const FORMAT: Format = Format::LengthU16(ByteOrder::BigEndian);
/// let shout = framing::frames(FORMAT, 1024, |connection, frame| {
///     let _ = FORMAT.send(connection, &frame.to_ascii_uppercase());
/// });
/// # let _ = shout;
/// ```
pub fn frames<F>(format: Format, frame_bytes_max: usize, closure: F) -> FrameFn<F>
where
    F: FnMut(&mut Connection<'_>, &[u8]),
{
    FrameFn { decoder: FrameDecoder::new(format, frame_bytes_max), closure }
}

/// Makes a stream handler from a closure that is called with each line: [`frames`] with [`Format::Lines`].
///
/// ```
/// use halloo::framing::{self, Format};
///
/// let shout = framing::lines(1024, |connection, line| {
///     let _ = Format::Lines.send(connection, &line.to_ascii_uppercase());
/// });
/// # let _ = shout;
/// ```
pub fn lines<F>(frame_bytes_max: usize, closure: F) -> FrameFn<F>
where
    F: FnMut(&mut Connection<'_>, &[u8]),
{
    frames(Format::Lines, frame_bytes_max, closure)
}

impl<F> StreamHandler for FrameFn<F>
where
    F: FnMut(&mut Connection<'_>, &[u8]),
{
    type Session = FrameDecoder;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<FrameDecoder> {
        Some(self.decoder.clone())
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, decoder: &mut FrameDecoder, input: &[u8]) -> usize {
        let mut frames = Frames::new(input);
        while let Some(frame) = frames.next(connection, decoder) {
            (self.closure)(connection, frame);
        }
        frames.finish(connection)
    }

    fn on_drain(&mut self, connection: &mut Connection<'_>, _: &mut FrameDecoder) {
        connection.close();
    }

    fn input_bytes_min(&self) -> usize {
        self.decoder.input_bytes_min()
    }
}

impl<F> fmt::Debug for FrameFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameFn").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}
