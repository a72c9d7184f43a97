//! Framing: whole messages instead of bytes.
//!
//! A [`Decoder`] finds frames. [`FrameDecoder`] is the decoder of the formats in [`Format`]. A handler keeps a decoder
//! in its session, and takes the frames from its input with [`Frames`]. A handler without a session of its own can be a
//! closure: [`lines`] and [`frames`].
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
//! [`Frames::next`] respects the limits of the connection. It returns no frame while more than half of the outbox is
//! used, so that a reply of up to half an outbox always fits. A frame above the maximum closes the connection with
//! [`CloseReason::InputOverflow`](crate::CloseReason::InputOverflow), as early as this is certain. [`Frames::batch`]
//! returns several frames, whose replies are one message.
//!
//! # Which format
//! | your peers send | format |
//! |---|---|
//! | text lines, also typed in netcat | [`Format::Lines`] |
//! | text that may contain line ends | [`Format::Delimiter`] with a byte that it never contains, such as 0 |
//! | any bytes, up to 65,535 at a time | [`Format::LengthU16`] |
//! | any bytes, with a length of four bytes | [`Format::LengthU32`] |
//! | another format | a [`Decoder`] of your own |
//!
//! A length needs no search, and a frame that is too long is refused before its first byte arrives. The protocol
//! defines the [`ByteOrder`]; a new protocol should use [`BigEndian`](ByteOrder::BigEndian), like the protocols of the
//! Internet.
//!
//! [`Format::send`] writes a frame for a peer of the same format.
//!
//! # Long frames
//! A frame is delivered whole if `input_bytes_max` of the listener has room for it ([`Format::input_bytes_min`]). The
//! default is 128 KiB, and the maximum is 4 GiB. The inbox grows as the frame arrives. Each byte is copied a bounded
//! number of times and searched once, and all inboxes together stay within
//! [`buffer_bytes_max`](crate::EventLoop::buffer_bytes_max). The idle timeout runs until the whole frame has
//! arrived, or the decoder consumes a part of it.
//!
//! If a message need not be whole, a decoder returns its body in parts as they arrive. They are not copied, and a body
//! may be longer than `input_bytes_max`. Here a line with a length precedes each body:
//!
//! ```
//! use halloo::framing::{Decoded, Decoder, Format, FrameDecoder, Frames, TooLong};
//! use halloo::{CloseReason, Connection, EventLoop, StreamHandler};
//! use std::io::{Read, Write};
//!
//! enum Part<'i> {
//!     Length(&'i [u8]),
//!     /// The next bytes of the body.
//!     Body(&'i [u8]),
//! }
//!
//! /// The session, which is the decoder.
//! struct Upload {
//!     lines: FrameDecoder,
//!     /// Bytes of the body that have not arrived.
//!     missing: usize,
//!     sum: u64,
//! }
//!
//! impl Decoder for Upload {
//!     type Frame<'i> = Part<'i>;
//!     type Error = TooLong;
//!
//!     fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<Part<'i>>, TooLong> {
//!         if self.missing == 0 {
//!             return Ok(self.lines.decode(input)?.map(Part::Length));
//!         }
//!         let part = &input[..input.len().min(self.missing)];
//!         self.missing -= part.len();
//!         Ok(Decoded::Frame(Part::Body(part), part.len()))
//!     }
//!
//!     fn close_reason(_: &TooLong) -> CloseReason {
//!         CloseReason::InputOverflow
//!     }
//! }
//!
//! /// Adds up the bytes of each body.
//! struct Sum;
//!
//! impl StreamHandler for Sum {
//!     type Session = Upload;
//!
//!     fn on_open(&mut self, _: &mut Connection<'_>) -> Option<Upload> {
//!         Some(Upload { lines: FrameDecoder::new(Format::Lines, 20), missing: 0, sum: 0 })
//!     }
//!
//!     fn on_data(&mut self, connection: &mut Connection<'_>, upload: &mut Upload, input: &[u8]) -> usize {
//!         let mut frames = Frames::new(input);
//!         while let Some(part) = frames.next(connection, upload) {
//!             match part {
//!                 Part::Length(line) => {
//!                     upload.missing = str::from_utf8(line).ok().and_then(|line| line.parse().ok()).unwrap_or(0);
//!                     upload.sum = 0;
//!                 }
//!                 Part::Body(part) => upload.sum += part.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
//!             }
//!             if upload.missing == 0 {
//!                 let _ = connection.send(format!("{}\n", upload.sum).as_bytes());
//!             }
//!         }
//!         frames.finish(connection)
//!     }
//! }
//!
//! let mut events = EventLoop::new()?;
//! let listener = events.listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)), Sum)?;
//! let (address, handle) = (events.local_addr(listener)?, events.handle());
//! let client = std::thread::spawn(move || -> std::io::Result<[u8; 9]> {
//!     let mut stream = std::net::TcpStream::connect(address)?;
//!     stream.write_all(&[&b"300000\n"[..], &[1; 300_000], b"1\n\x07"].concat())?;
//!     let mut replies = [0; 9];
//!     stream.read_exact(&mut replies)?;
//!     let _ = handle.stop();
//!     Ok(replies)
//! });
//! events.run()?;
//! assert_eq!(&client.join().unwrap()?, b"300000\n7\n");
//! # Ok::<(), std::io::Error>(())
//! ```

mod decode;
mod format;
mod frame_fn;
mod frames;

pub use crate::framing::decode::{FrameDecoder, TooLong};
pub use crate::framing::format::{ByteOrder, Format, FrameSendError};
pub use crate::framing::frame_fn::{FrameFn, frames, lines};
pub use crate::framing::frames::{Decoded, Decoder, FrameBatch, Frames};
