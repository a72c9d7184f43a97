//! Text whose bytes show their positions, and the replies to it.
//!
//! It consists of lines, so that servers of every kind can reply to it.

use std::io::{self, Write};
use std::time::Duration;

use crate::cli::flags::tour_options::TourMode;
use crate::tour::client::{Client, End, FULL_AFTER, Received};

/// The length of a line, in bytes. Each has 16 numbers: their own positions in the text.
pub(crate) const LINE_BYTES: usize = 256;
const NUMBER_BYTES: usize = 16;
const DIGITS: usize = NUMBER_BYTES - 1;

/// Adds to a text, until it consists of whole lines and has at least this many bytes. It may end within a number.
pub(crate) fn extend_text(text: &mut Vec<u8>, bytes: usize) {
    text.truncate(text.len() / NUMBER_BYTES * NUMBER_BYTES);
    while text.len() < bytes || !text.len().is_multiple_of(LINE_BYTES) {
        let position = text.len();
        let separator = if (position + NUMBER_BYTES).is_multiple_of(LINE_BYTES) { '\n' } else { ' ' };
        // A vector takes everything.
        let _ = write!(text, "{position:0DIGITS$}{separator}");
    }
}

/// The replies to a text.
#[derive(Debug)]
pub(crate) struct Replies {
    /// Whether all came, in order.
    pub(crate) are_complete: bool,
    /// Whether those that came were right, and the server then closed the connection.
    pub(crate) was_closed: bool,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// What came, in words.
    pub(crate) description: String,
}

/// Receives the replies to a text that was sent: the text itself, or a line for each line.
pub(crate) fn receive_replies(client: &mut Client, text: &[u8]) -> io::Result<Replies> {
    let mut progress = Progress::new(client.mode);
    let received = client.receive(|bytes| progress.advance(text, bytes))?;
    Ok(progress.replies(text, &received, client.patience))
}

/// Does the same, but after a short silence it sends a line more. Its reply shows what is missing before it.
pub(crate) fn receive_replies_with_one_more(client: &mut Client, mut text: Vec<u8>) -> io::Result<Replies> {
    let mut progress = Progress::new(client.mode);
    let mut received = client.receive_for(FULL_AFTER, &mut |bytes| progress.advance(&text, bytes))?;
    if received.end == End::Silence {
        let (sent, patience) = (text.len(), client.patience);
        extend_text(&mut text, sent + LINE_BYTES);
        let mut is_complete = |bytes: &[u8]| progress.advance(&text, bytes);
        received = client
            .send_while(&text[sent..], |client| client.receive_more(received.bytes, patience, &mut is_complete))?;
    }
    Ok(progress.replies(&text, &received, client.patience))
}

/// How much of the expected replies has come.
struct Progress {
    mode: TourMode,
    expected: Expected,
    /// The received bytes that were looked at.
    seen: usize,
    lines: usize,
    /// The received bytes before the first wrong one.
    right: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Text,
    /// The first line shows whether the server sends back lines or has replies of its own.
    LinesOrText,
    Lines,
}

impl Progress {
    fn new(mode: TourMode) -> Self {
        let expected = if mode == TourMode::Echo { Expected::Text } else { Expected::LinesOrText };
        Self { mode, expected, seen: 0, lines: 0, right: None }
    }

    /// Looks at what has come since the last time. True once everything came, or something wrong and what follows it.
    fn advance(&mut self, text: &[u8], received: &[u8]) -> bool {
        if self.expected == Expected::LinesOrText && received.contains(&b'\n') {
            let is_text = received.starts_with(&text[..LINE_BYTES]);
            self.expected = if is_text { Expected::Text } else { Expected::Lines };
        }
        let new = &received[self.seen..];
        match self.expected {
            Expected::LinesOrText => return false,
            Expected::Lines => self.lines += new.split(|byte| *byte == b'\n').count() - 1,
            Expected::Text if self.right.is_none() => {
                let right = new.iter().zip(&text[self.seen..]).take_while(|(came, sent)| came == sent).count();
                self.right = (right < new.len()).then_some(self.seen + right);
            }
            Expected::Text => {}
        }
        self.seen = received.len();
        match self.right {
            // Two numbers are enough to find out what came instead.
            Some(right) => self.seen >= right + 2 * NUMBER_BYTES,
            None if self.expected == Expected::Lines => self.lines >= text.len() / LINE_BYTES,
            None => self.seen >= self.bytes_of(text),
        }
    }

    /// The bytes of a text that are replied to. A line may be incomplete.
    fn bytes_of(&self, text: &[u8]) -> usize {
        if self.mode == TourMode::Echo { text.len() } else { text.len() / LINE_BYTES * LINE_BYTES }
    }

    fn replies(&self, text: &[u8], received: &Received, patience: Duration) -> Replies {
        let (came, bytes) = (received.bytes.len(), self.bytes_of(text));
        let lines = bytes / LINE_BYTES;
        let end = match received.end {
            End::Complete => String::new(),
            End::Eof => ", then EOF".to_owned(),
            End::Reset => ", then a reset".to_owned(),
            End::Silence => format!(", then nothing for {patience:?}"),
        };
        let are_complete = self.right.is_none() && received.end == End::Complete;
        let was_closed = self.right.is_none() && matches!(received.end, End::Eof | End::Reset);
        let description = match (self.right, self.expected) {
            (Some(right), _) => describe_gap(right, bytes, position_of(&received.bytes, right)),
            (None, Expected::Text) if are_complete => format!("all {bytes} bytes, in order"),
            (None, Expected::Text) => format!("the first {came} of {bytes} bytes{end}"),
            (None, Expected::Lines) if are_complete => format!("a reply to each of {lines} lines"),
            (None, _) => format!("replies to {} of {lines} lines{end}", self.lines),
        };
        Replies { are_complete, was_closed, bytes: came, description }
    }
}

/// The position in the text of a received byte, from the first whole number after it.
fn position_of(received: &[u8], index: usize) -> Option<usize> {
    let after = received.get(index..)?;
    // A digit may be wrong itself, so a number begins after a separator.
    let start = 1 + after.iter().position(u8::is_ascii_whitespace)?;
    let digits = std::str::from_utf8(after.get(start..start + DIGITS)?).ok()?;
    digits.parse::<usize>().ok()?.checked_sub(start)
}

fn describe_gap(right: usize, bytes: usize, position: Option<usize>) -> String {
    match position {
        _ if right == bytes => format!("all {bytes} bytes, then more bytes"),
        Some(position) if position > right => {
            format!("after byte {right} came byte {}, bytes lost: {}", position + 1, position - right)
        }
        Some(position) if position < right => format!("after byte {right} came byte {} again", position + 1),
        _ => format!("after byte {right} came another byte than the one that was sent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Vec<u8> {
        let mut text = Vec::new();
        extend_text(&mut text, bytes);
        text
    }

    /// What is said about replies that come in these pieces.
    fn described(mode: TourMode, pieces: &[&[u8]]) -> (bool, String) {
        let text = text(1024);
        let mut progress = Progress::new(mode);
        let (mut bytes, mut end) = (Vec::new(), End::Eof);
        for piece in pieces {
            bytes.extend_from_slice(piece);
            if progress.advance(&text, &bytes) {
                end = End::Complete;
                break;
            }
        }
        let replies = progress.replies(&text, &Received { bytes, end }, Duration::from_secs(2));
        (replies.are_complete, replies.description)
    }

    #[test]
    fn each_number_of_the_text_is_its_own_position() {
        let text = text(1000);
        assert_eq!(text.len(), 1024);
        for (index, number) in text.chunks(NUMBER_BYTES).enumerate() {
            assert_eq!(std::str::from_utf8(number).expect("digits").trim(), format!("{:015}", index * NUMBER_BYTES));
        }
        assert_eq!(text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len).collect::<Vec<_>>(), [LINE_BYTES; 4]);
    }

    #[test]
    fn a_text_that_was_cut_anywhere_is_extended_to_whole_lines() {
        let whole = text(1024);
        for cut in [0, 1, 15, 16, 17, 255, 256, 511] {
            let mut text = whole[..cut].to_vec();
            extend_text(&mut text, cut + LINE_BYTES);
            assert!(text.len() >= cut + LINE_BYTES && text == whole[..text.len()], "cut at {cut}");
        }
    }

    #[test]
    fn a_gap_is_located_to_the_byte() {
        let text = text(1024);
        let (is_right, came) = described(TourMode::Echo, &[&text[..300], &text[301..310], &text[310..]]);
        assert!(!is_right);
        // Bytes that are equal by chance belong to what came before the gap.
        assert_eq!(came, "after byte 300 came byte 302, bytes lost: 1");
    }

    #[test]
    fn repeated_and_additional_bytes_are_reported() {
        let text = text(1024);
        let (is_right, came) = described(TourMode::Echo, &[&text[..512], &text[256..]]);
        assert_eq!((is_right, came.as_str()), (false, "after byte 524 came byte 269 again"));
        let (is_right, came) = described(TourMode::Echo, &[&text[..], b"x"]);
        assert_eq!((is_right, came.as_str()), (true, "all 1024 bytes, in order"));
        let (is_right, came) = described(TourMode::Echo, &[&[&text[..], b"more"].concat()]);
        assert_eq!((is_right, came.as_str()), (false, "all 1024 bytes, then more bytes"));
    }

    #[test]
    fn missing_bytes_at_the_end_are_counted() {
        let text = text(1024);
        let (is_right, came) = described(TourMode::Echo, &[&text[..1000]]);
        assert_eq!((is_right, came.as_str()), (false, "the first 1000 of 1024 bytes, then EOF"));
    }

    #[test]
    fn replies_to_lines_are_counted_and_lines_that_come_back_are_compared() {
        let text = text(1024);
        let counted = described(TourMode::Line, &[b"ok\r", b"\nok\r\n", b"ok\r\nok\r\n"]);
        assert_eq!(counted, (true, "a reply to each of 4 lines".to_owned()));
        let missing = described(TourMode::Line, &[b"ok\n", b"ok\n"]);
        assert_eq!(missing, (false, "replies to 2 of 4 lines, then EOF".to_owned()));
        let compared = described(TourMode::Line, &[&text[..100], &text[100..512], &text[768..]]);
        assert_eq!(compared, (false, "after byte 524 came byte 781, bytes lost: 256".to_owned()));
    }
}
