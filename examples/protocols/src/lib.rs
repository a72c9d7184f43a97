//! The commands of Redis clients (RESP2), which two of the examples speak.

use std::ops::Deref;
use std::str::FromStr;

use halloo::framing::{Decoded, Decoder};

/// The most words of a command, with its name.
const WORDS_MAX: usize = 16;

/// The longest word, in bytes.
pub const WORD_BYTES_MAX: usize = 32 * 1024;

/// The words of one command. They borrow from the input.
///
/// ```
/// use halloo::framing::{Decoded, Decoder};
/// use protocols::Commands;
///
/// let input = b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n";
/// let Ok(Decoded::Frame(words, 25)) = Commands.decode(input) else { panic!("a command of 25 bytes") };
/// assert_eq!(words[..], [&b"ECHO"[..], b"hello"]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Words<'i> {
    words: [&'i [u8]; WORDS_MAX],
    count: usize,
}

impl<'i> Words<'i> {
    fn push(&mut self, word: &'i [u8]) -> Result<(), &'static str> {
        *self.words.get_mut(self.count).ok_or("too many words")? = word;
        self.count += 1;
        Ok(())
    }
}

impl<'i> Deref for Words<'i> {
    type Target = [&'i [u8]];

    fn deref(&self) -> &[&'i [u8]] {
        &self.words[..self.count]
    }
}

/// The decoder of commands: an array of bulk strings, or a line of words ("inline").
#[derive(Debug)]
pub struct Commands;

impl Decoder for Commands {
    type Frame<'i> = Words<'i>;
    type Error = &'static str;

    fn decode<'i>(&mut self, input: &'i [u8]) -> Result<Decoded<Words<'i>>, &'static str> {
        let mut words = Words::default();
        let Some((line, mut rest)) = cut_line(input) else { return Ok(Decoded::Incomplete(0)) };
        if let Some(count) = line.strip_prefix(b"*") {
            let count = number(count).filter(|count| *count <= WORDS_MAX).ok_or("invalid multibulk length")?;
            for _ in 0..count {
                let Some((line, after)) = cut_line(rest) else { return Ok(Decoded::Incomplete(0)) };
                let length = line.strip_prefix(b"$").ok_or("expected '$'")?;
                let length = number(length).filter(|length| *length <= WORD_BYTES_MAX).ok_or("invalid bulk length")?;
                let Some(after_word) = after.get(length + 2..) else { return Ok(Decoded::Incomplete(0)) };
                words.push(&after[..length])?;
                rest = after_word;
            }
        } else {
            line.split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .try_for_each(|word| words.push(word))?;
        }
        Ok(Decoded::Frame(words, input.len() - rest.len()))
    }
}

/// The first line without its end, and what follows it.
fn cut_line(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    Some((input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]), &input[end + 1..]))
}

/// The number that decimal digits are.
#[must_use]
pub fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// A bulk string.
#[must_use]
pub fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
