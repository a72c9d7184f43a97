//! The decoder of the formats.
//!
//! Each byte is searched once, however the stream is split.

use std::fmt;

use crate::close_reason::CloseReason;
use crate::framing::format::Format;
use crate::framing::frames::{Decoded, Decoder};

/// The decoder of a [`Format`]. A frame is its content, without delimiter or length.
///
/// It takes 12 bytes, because each connection has one. A constant provides a new decoder for each session:
///
/// ```
/// use halloo::framing::{Decoded, Decoder, Format, FrameDecoder, TooLong};
///
/// const LINES: FrameDecoder = FrameDecoder::new(Format::Lines, 10);
///
/// let mut lines = LINES;
/// assert_eq!(lines.decode(b"a line\r\nand more"), Ok(Decoded::Frame(&b"a line"[..], 8)));
/// assert_eq!(lines.decode(b"and more"), Ok(Decoded::Incomplete(0)));
/// assert_eq!(lines.decode(b"and more than that"), Err(TooLong));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameDecoder {
    format: Format,
    frame_bytes_max: u32,
    /// What is known about an incomplete frame. With a delimiter: the number of bytes searched. With a length: the
    /// length after it was consumed. Before a frame of no bytes it is not consumed.
    known: u32,
}

/// A frame is, or will be, longer than the maximum of its [`FrameDecoder`]. The connection is closed with
/// [`CloseReason::InputOverflow`].
///
/// ```
/// assert_eq!(halloo::framing::TooLong.to_string(), "frame too long");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("frame too long")
    }
}

impl std::error::Error for TooLong {}

impl Format {
    /// Returns the smallest `input_bytes_max` with which a frame of this many bytes is delivered whole: with its
    /// delimiter (CR and LF for a line), or without its length, which is consumed first. It is for
    /// [`StreamHandler::input_bytes_min`](crate::StreamHandler::input_bytes_min).
    ///
    /// ```
    /// use halloo::framing::{ByteOrder, Format};
    ///
    /// assert_eq!(Format::Lines.input_bytes_min(100), 102);
    /// assert_eq!(Format::LengthU16(ByteOrder::BigEndian).input_bytes_min(100), 100);
    /// ```
    #[must_use]
    pub const fn input_bytes_min(self, frame_bytes_max: usize) -> usize {
        let (bytes_beside, bytes_min) = match self {
            Self::Lines => (b"\r\n".len(), 0),
            Self::Delimiter(_) => (1, 0),
            Self::LengthU16(_) => (0, size_of::<u16>()),
            Self::LengthU32(_) => (0, size_of::<u32>()),
        };
        let bytes = frame_bytes_max.saturating_add(bytes_beside);
        if bytes > bytes_min { bytes } else { bytes_min }
    }
}

impl FrameDecoder {
    /// Creates a decoder of frames of at most `frame_bytes_max` bytes, without delimiter or length. A longer frame is
    /// an error as early as this is certain: after its length, or after this many bytes.
    ///
    /// Return [`input_bytes_min`](Self::input_bytes_min) of the decoder from
    /// [`StreamHandler::input_bytes_min`](crate::StreamHandler::input_bytes_min). Then `listen` refuses an
    /// `input_bytes_max` that is too small. Without it, a frame longer than `input_bytes_max` closes its connection, also
    /// with [`CloseReason::InputOverflow`].
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the minimum fits; a constant function has no try_from")]
    pub const fn new(format: Format, frame_bytes_max: usize) -> Self {
        let is_longer = frame_bytes_max > u32::MAX as usize;
        Self { format, frame_bytes_max: if is_longer { u32::MAX } else { frame_bytes_max as u32 }, known: 0 }
    }

    /// Returns [`Format::input_bytes_min`] for its longest frame.
    #[must_use]
    pub const fn input_bytes_min(&self) -> usize {
        self.format.input_bytes_min(self.frame_bytes_max as usize)
    }

    /// Returns the content of an incomplete last frame, from the `rest` of [`on_eof`](crate::StreamHandler::on_eof);
    /// `None` if no further frame has begun.
    ///
    /// Half a command may be another command, so most protocols drop it. A protocol that accepts a last line without a
    /// line end, as editors and `printf` may write it, uses it:
    ///
    /// ```
    /// # use halloo::Connection;
    /// # use halloo::framing::FrameDecoder;
    /// # struct Print;
    /// # impl Print {
    /// # fn print(&mut self, _: &mut Connection<'_>, _: &[u8]) {}
    /// fn on_eof(&mut self, connection: &mut Connection<'_>, lines: &mut FrameDecoder, rest: &[u8]) {
    ///     if let Some(line) = lines.unfinished(rest) {
    ///         self.print(connection, line);
    ///     }
    ///     connection.close();
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn unfinished<'r>(&self, rest: &'r [u8]) -> Option<&'r [u8]> {
        match self.format {
            Format::LengthU16(_) | Format::LengthU32(_) if self.known > 0 => Some(rest),
            _ if rest.is_empty() => None,
            Format::LengthU16(_) | Format::LengthU32(_) => Some(&[]),
            Format::Lines | Format::Delimiter(_) => Some(self.without_line_end(rest)),
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: 40 of 400 instructions a line")]
    fn decode_delimited<'i>(&mut self, input: &'i [u8], delimiter: u8) -> Result<Decoded<&'i [u8]>, TooLong> {
        let searched = input.len().min(self.known as usize);
        let found = memchr::memchr(delimiter, &input[searched..]).map(|at| searched + at);
        let end = found.unwrap_or(input.len());
        let content = self.without_line_end(&input[..end]);
        if content.len() > self.frame_bytes_max as usize {
            Err(TooLong)
        } else if found.is_some() {
            self.known = 0;
            Ok(Decoded::Frame(content, end + 1))
        } else {
            self.known = u32::try_from(end).unwrap_or(u32::MAX);
            Ok(Decoded::Incomplete(0))
        }
    }

    /// Removes the CR at the end of a line.
    #[inline]
    fn without_line_end<'i>(&self, delimited: &'i [u8]) -> &'i [u8] {
        if self.format == Format::Lines { delimited.strip_suffix(b"\r").unwrap_or(delimited) } else { delimited }
    }

    /// A length is consumed before its whole frame has arrived, so that a frame may fill the inbox. Before a frame of
    /// no bytes it is not consumed: without a following byte, no input would be delivered.
    #[inline]
    fn decode_length_prefixed<'i>(
        &mut self,
        input: &'i [u8],
        length: Option<u32>,
        length_bytes: usize,
    ) -> Result<Decoded<&'i [u8]>, TooLong> {
        let (length, start) = match (self.known, length) {
            (0, None) => return Ok(Decoded::Incomplete(0)),
            (0, Some(length)) => (length, length_bytes),
            (known, _) => (known, 0),
        };
        if length > self.frame_bytes_max {
            return Err(TooLong);
        }
        let Some(content) = input[start..].get(..length as usize) else {
            self.known = length;
            return Ok(Decoded::Incomplete(start));
        };
        self.known = 0;
        Ok(Decoded::Frame(content, start + content.len()))
    }
}

impl Decoder for FrameDecoder {
    type Frame<'i> = &'i [u8];
    type Error = TooLong;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "measured: 40 of 400 instructions a line")]
    fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<&'i [u8]>, TooLong> {
        match self.format {
            Format::Lines => self.decode_delimited(input, b'\n'),
            Format::Delimiter(byte) => self.decode_delimited(input, byte),
            Format::LengthU16(order) => {
                let length = input.first_chunk().map(|bytes| u16::from_be_bytes(order.in_order(*bytes)).into());
                self.decode_length_prefixed(input, length, size_of::<u16>())
            }
            Format::LengthU32(order) => {
                let length = input.first_chunk().map(|bytes| u32::from_be_bytes(order.in_order(*bytes)));
                self.decode_length_prefixed(input, length, size_of::<u32>())
            }
        }
    }

    fn close_reason(_: &TooLong) -> CloseReason {
        CloseReason::InputOverflow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::format::ByteOrder;
    use proptest::prelude::*;

    const BIG: ByteOrder = ByteOrder::BigEndian;
    const LITTLE: ByteOrder = ByteOrder::LittleEndian;

    fn any_format() -> impl Strategy<Value = Format> {
        let lengths = [BIG, LITTLE].map(|order| [Format::LengthU16(order), Format::LengthU32(order)]);
        prop_oneof![
            Just(Format::Lines),
            any::<u8>().prop_map(Format::Delimiter),
            prop::sample::select(lengths.concat())
        ]
    }

    /// A frame as an independent peer encodes it; bytes that the format cannot carry are removed.
    fn encoded(format: Format, mut frame: Vec<u8>, crlf: bool) -> (Vec<u8>, Vec<u8>) {
        let length = u8::try_from(frame.len()).expect("a short frame");
        let (head, tail) = match format {
            Format::Lines => {
                frame.retain(|byte| *byte != b'\n');
                let crlf = crlf || frame.last() == Some(&b'\r');
                (vec![], if crlf { vec![b'\r', b'\n'] } else { vec![b'\n'] })
            }
            Format::Delimiter(delimiter) => {
                frame.retain(|byte| *byte != delimiter);
                (vec![], vec![delimiter])
            }
            Format::LengthU16(ByteOrder::BigEndian) => (vec![0, length], vec![]),
            Format::LengthU16(ByteOrder::LittleEndian) => (vec![length, 0], vec![]),
            Format::LengthU32(ByteOrder::BigEndian) => (vec![0, 0, 0, length], vec![]),
            Format::LengthU32(ByteOrder::LittleEndian) => (vec![length, 0, 0, 0], vec![]),
        };
        let bytes = [head, frame.clone(), tail].concat();
        (frame, bytes)
    }

    /// The result of a stream: its frames, then the incomplete rest, or `Err` if a frame is too long.
    type DecodedStream = (Vec<Vec<u8>>, Result<Option<Vec<u8>>, ()>);

    /// Decodes a stream in pieces with the smallest room that works, like a connection.
    fn decode_in_pieces(format: Format, frame_bytes_max: usize, stream: &[u8], pieces: &[usize]) -> DecodedStream {
        let (mut stream, mut pieces) = (stream, pieces.iter().cycle());
        let mut decoder = FrameDecoder::new(format, frame_bytes_max);
        let (mut inbox, mut frames) = (Vec::new(), Vec::new());
        while !stream.is_empty() {
            let room = format.input_bytes_min(frame_bytes_max) - inbox.len();
            assert!(room > 0, "a full inbox without a whole frame would be an overflow");
            let (piece, rest) = stream.split_at(room.min(stream.len()).min(*pieces.next().expect("no end")));
            stream = rest;
            inbox.extend_from_slice(piece);
            while !inbox.is_empty() {
                match decoder.decode(&inbox) {
                    Ok(Decoded::Frame(frame, bytes)) => {
                        frames.push(frame.to_vec());
                        inbox.drain(..bytes);
                    }
                    Ok(Decoded::Incomplete(bytes)) => {
                        inbox.drain(..bytes);
                        break;
                    }
                    Err(TooLong) => return (frames, Err(())),
                }
            }
        }
        (frames, Ok(decoder.unfinished(&inbox).map(<[u8]>::to_vec)))
    }

    fn any_pieces() -> impl Strategy<Value = Vec<usize>> {
        prop_oneof![Just(vec![1]), prop::collection::vec(1usize..20, 1..10), Just(vec![usize::MAX])]
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_wherever_the_stream_is_cut(
            format in any_format(),
            frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<bool>()), 0..20),
            pieces in any_pieces(),
            spare in 0usize..10,
        ) {
            let (frames, bytes): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
                frames.into_iter().map(|(frame, crlf)| encoded(format, frame, crlf)).unzip();
            let longest = frames.iter().map(Vec::len).max().unwrap_or_default();
            prop_assert_eq!(decode_in_pieces(format, longest + spare, &bytes.concat(), &pieces), (frames, Ok(None)));
        }

        #[test]
        fn for_any_input_no_frame_exceeds_the_maximum_and_the_cuts_do_not_matter(
            format in any_format(),
            stream in prop::collection::vec(prop_oneof![0u8..12, any::<u8>()], 0..200),
            pieces in any_pieces(),
            frame_bytes_max in prop_oneof![0usize..20, Just(100_000)],
        ) {
            let (frames, rest) = decode_in_pieces(format, frame_bytes_max, &stream, &pieces);
            prop_assert!(frames.iter().all(|frame| frame.len() <= frame_bytes_max));
            if let Ok(Some(rest)) = &rest {
                prop_assert!(rest.len() <= frame_bytes_max);
            }
            prop_assert_eq!((frames, rest), decode_in_pieces(format, frame_bytes_max, &stream, &[usize::MAX]));
        }
    }

    #[test]
    fn a_decoder_takes_12_bytes_of_a_session() {
        assert_eq!(size_of::<Option<FrameDecoder>>(), 12);
    }

    #[test]
    fn bytes_without_a_delimiter_are_not_searched_again() {
        // A second search would find the delimiters that replace the searched bytes.
        let mut lines = FrameDecoder { known: 3, ..FrameDecoder::new(Format::Lines, 9) };
        assert_eq!(lines.decode(b"\n\n\na"), Ok(Decoded::Incomplete(0)));
        assert_eq!(lines.known, 4);
        assert_eq!(lines.decode(b"\n\n\n\nbc\n"), Ok(Decoded::Frame(&b"\n\n\n\nbc"[..], 7)));
        assert_eq!(lines, FrameDecoder::new(Format::Lines, 9), "the next frame is searched from its start");
    }

    #[test]
    fn a_length_is_read_once_and_takes_no_room_beside_its_frame() {
        let mut decoder = FrameDecoder::new(Format::LengthU16(BIG), 3);
        assert_eq!(decoder.decode(b"\0\x03ab"), Ok(Decoded::Incomplete(2)));
        assert_eq!(decoder.decode(b"abc"), Ok(Decoded::Frame(&b"abc"[..], 3)));
        assert_eq!(Format::LengthU16(BIG).input_bytes_min(65_535), 65_535);
        assert_eq!(Format::LengthU32(BIG).input_bytes_min(0), 4);
    }

    #[test]
    fn a_frame_over_the_maximum_is_detected_as_early_as_possible() {
        let is_too_long = |format, input: &[u8]| FrameDecoder::new(format, 3).decode(input) == Err(TooLong);
        assert!(is_too_long(Format::LengthU16(BIG), &[0, 4]) && !is_too_long(Format::LengthU16(BIG), &[0, 3]));
        assert!(is_too_long(Format::LengthU16(LITTLE), &[0, 1]) && !is_too_long(Format::LengthU16(LITTLE), &[3, 0]));
        assert!(is_too_long(Format::LengthU32(BIG), &[255; 4]) && !is_too_long(Format::LengthU32(BIG), &[255; 3]));
        assert!(is_too_long(Format::LengthU32(LITTLE), &[0, 0, 0, 1]));
        assert!(is_too_long(Format::Delimiter(0), b"abcd") && !is_too_long(Format::Delimiter(0), b"abc"));
        assert!(is_too_long(Format::Lines, b"abcd") && is_too_long(Format::Lines, b"abc\r\r"));
        assert!(!is_too_long(Format::Lines, b"abc\r"), "an LF may follow");
    }
}
