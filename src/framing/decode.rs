//! The decoder: where the next frame of a stream ends.
//!
//! Each byte is searched once, however the stream is split: [`DecodeState`] keeps what is known.

use crate::framing::format::Format;

/// What is known about a frame that has begun. It is small, because each idle connection has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum DecodeState {
    #[default]
    Start,
    /// So many bytes of it are known to hold no delimiter.
    Searched(u32),
    /// Its length has come and is used up: so many bytes follow, one at least.
    LengthRead(u32),
}

/// What the rest of a stream begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decoded<'a> {
    /// A frame: its content, and how much of the rest it takes.
    Frame(&'a [u8], usize),
    /// Less than a frame, of which so many bytes need not be shown again.
    Incomplete(usize),
    /// A frame that is, or will be, over the maximum.
    TooLong,
}

impl Format {
    /// The room in which a frame of the maximum can be seen whole. A length has been taken by then.
    pub(crate) fn input_bytes_min(self, frame_bytes_max: usize) -> usize {
        match self {
            Self::Lines => frame_bytes_max.saturating_add(b"\r\n".len()),
            Self::Delimiter(_) => frame_bytes_max.saturating_add(1),
            Self::LengthU16(_) => frame_bytes_max.max(size_of::<u16>()),
            Self::LengthU32(_) => frame_bytes_max.max(size_of::<u32>()),
        }
    }

    /// Looks at the rest of a stream, from where the last frame ended, or the length of this one.
    pub(crate) fn decode<'a>(self, rest: &'a [u8], state: &mut DecodeState, frame_bytes_max: usize) -> Decoded<'a> {
        match self {
            Self::Lines => self.decode_delimited(rest, b'\n', state, frame_bytes_max),
            Self::Delimiter(byte) => self.decode_delimited(rest, byte, state, frame_bytes_max),
            Self::LengthU16(order) => {
                let length = rest.first_chunk().map(|bytes| u16::from_be_bytes(order.in_order(*bytes)).into());
                decode_length_prefixed(rest, length, size_of::<u16>(), state, frame_bytes_max)
            }
            Self::LengthU32(order) => {
                let length = rest.first_chunk().map(|bytes| u32::from_be_bytes(order.in_order(*bytes)));
                decode_length_prefixed(rest, length, size_of::<u32>(), state, frame_bytes_max)
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "an inbox holds far less than 4 GiB")]
    fn decode_delimited<'a>(
        self,
        rest: &'a [u8],
        delimiter: u8,
        state: &mut DecodeState,
        frame_bytes_max: usize,
    ) -> Decoded<'a> {
        let searched = if let DecodeState::Searched(searched) = *state { searched as usize } else { 0 };
        let found = memchr::memchr(delimiter, &rest[searched..]).map(|at| searched + at);
        let end = found.unwrap_or(rest.len());
        *state = DecodeState::Searched(end as u32);
        let content = self.without_line_end(&rest[..end]);
        if content.len() > frame_bytes_max {
            Decoded::TooLong
        } else if found.is_some() {
            Decoded::Frame(content, end + 1)
        } else {
            Decoded::Incomplete(0)
        }
    }

    /// A line without the CR at its end.
    fn without_line_end(self, delimited: &[u8]) -> &[u8] {
        if self == Self::Lines { delimited.strip_suffix(b"\r").unwrap_or(delimited) } else { delimited }
    }

    /// What has come of the content of a frame that never will be whole; `None` if none has begun.
    pub(crate) fn decode_eof(self, rest: &[u8], state: DecodeState) -> Option<&[u8]> {
        match (self, state) {
            (_, DecodeState::LengthRead(_)) => Some(rest),
            _ if rest.is_empty() => None,
            (Self::LengthU16(_) | Self::LengthU32(_), _) => Some(&[]),
            (Self::Lines | Self::Delimiter(_), _) => Some(self.without_line_end(rest)),
        }
    }
}

/// A length is used up before what it announces has come, so that a frame may take a whole inbox. Before nothing it
/// stays, because nobody would be shown a frame of which no byte is left.
fn decode_length_prefixed<'a>(
    rest: &'a [u8],
    length: Option<u32>,
    length_bytes: usize,
    state: &mut DecodeState,
    frame_bytes_max: usize,
) -> Decoded<'a> {
    let (length, start) = match (*state, length) {
        (DecodeState::LengthRead(length), _) => (length, 0),
        (_, Some(length)) => (length, length_bytes),
        (_, None) => return Decoded::Incomplete(0),
    };
    if length as usize > frame_bytes_max {
        return Decoded::TooLong;
    }
    if let Some(content) = rest[start..].get(..length as usize) {
        return Decoded::Frame(content, start + content.len());
    }
    *state = DecodeState::LengthRead(length);
    Decoded::Incomplete(start)
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

    /// A frame as a peer writes it who knows nothing of this file, with what no delimiter may hold left out.
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

    /// What comes out of a stream: the frames, then what has come of one more, or `Err` if that is too long.
    type DecodedStream = (Vec<Vec<u8>>, Result<Option<Vec<u8>>, ()>);

    /// Reads a stream in pieces into the least room that works, as a connection does.
    fn decode_in_pieces(format: Format, frame_bytes_max: usize, stream: &[u8], pieces: &[usize]) -> DecodedStream {
        let (mut stream, mut pieces) = (stream, pieces.iter().cycle());
        let (mut inbox, mut state, mut frames) = (Vec::new(), DecodeState::Start, Vec::new());
        while !stream.is_empty() {
            let room = format.input_bytes_min(frame_bytes_max) - inbox.len();
            assert!(room > 0, "an inbox that is full of less than a frame would be an overflow");
            let (piece, rest) = stream.split_at(room.min(stream.len()).min(*pieces.next().expect("no end")));
            stream = rest;
            inbox.extend_from_slice(piece);
            loop {
                match format.decode(&inbox, &mut state, frame_bytes_max) {
                    Decoded::Frame(frame, bytes) => {
                        state = DecodeState::Start;
                        frames.push(frame.to_vec());
                        inbox.drain(..bytes);
                    }
                    Decoded::Incomplete(bytes) => {
                        inbox.drain(..bytes);
                        break;
                    }
                    Decoded::TooLong => return (frames, Err(())),
                }
            }
        }
        (frames, Ok(format.decode_eof(&inbox, state).map(<[u8]>::to_vec)))
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
    fn framing_adds_8_bytes_to_a_session() {
        use crate::framing::FramedSession;
        assert_eq!(size_of::<Option<FramedSession<()>>>(), 8);
        assert_eq!(size_of::<FramedSession<[u32; 8]>>(), size_of::<[u32; 8]>() + 8);
    }

    #[test]
    fn bytes_without_a_delimiter_are_not_searched_again() {
        // Delimiters that have come to stand where there were none would be found.
        let mut state = DecodeState::Searched(3);
        assert_eq!(Format::Lines.decode(b"\n\n\na", &mut state, 9), Decoded::Incomplete(0));
        assert_eq!(state, DecodeState::Searched(4));
        assert_eq!(Format::Lines.decode(b"\n\n\n\nbc\n", &mut state, 9), Decoded::Frame(b"\n\n\n\nbc", 7));
        assert_eq!(state, DecodeState::Searched(6), "nor is it once it was found, and has to wait");
    }

    #[test]
    fn a_length_is_read_once_and_takes_no_room_beside_its_frame() {
        let mut state = DecodeState::Start;
        assert_eq!(Format::LengthU16(BIG).decode(b"\0\x03ab", &mut state, 3), Decoded::Incomplete(2));
        assert_eq!(Format::LengthU16(BIG).decode(b"abc", &mut state, 3), Decoded::Frame(b"abc", 3));
        assert_eq!(Format::LengthU16(BIG).input_bytes_min(65_535), 65_535);
        assert_eq!(Format::LengthU32(BIG).input_bytes_min(0), 4);
    }

    #[test]
    fn a_frame_over_the_maximum_is_detected_as_early_as_possible() {
        let is_too_long =
            |format: Format, rest: &[u8]| format.decode(rest, &mut DecodeState::Start, 3) == Decoded::TooLong;
        assert!(is_too_long(Format::LengthU16(BIG), &[0, 4]) && !is_too_long(Format::LengthU16(BIG), &[0, 3]));
        assert!(is_too_long(Format::LengthU16(LITTLE), &[0, 1]) && !is_too_long(Format::LengthU16(LITTLE), &[3, 0]));
        assert!(is_too_long(Format::LengthU32(BIG), &[255; 4]) && !is_too_long(Format::LengthU32(BIG), &[255; 3]));
        assert!(is_too_long(Format::LengthU32(LITTLE), &[0, 0, 0, 1]));
        assert!(is_too_long(Format::Delimiter(0), b"abcd") && !is_too_long(Format::Delimiter(0), b"abc"));
        assert!(is_too_long(Format::Lines, b"abcd") && is_too_long(Format::Lines, b"abc\r\r"));
        assert!(!is_too_long(Format::Lines, b"abc\r"), "an LF may follow");
    }
}
