//! RESP2, as far as commands and simple replies need it. Pure: bytes in, words out, where they lie.

use std::str::FromStr;
use std::time::Duration;

/// The words of a command, its name among them, and the longest of them.
pub(crate) const WORDS_MAX: usize = 16;
const WORD_BYTES_MAX: usize = 32 * 1024;

/// Finds the words of the first command, and returns what follows it; `None` while it is not whole.
pub(crate) fn parse<'a>(input: &'a [u8], words: &mut Vec<&'a [u8]>) -> Result<Option<&'a [u8]>, &'static str> {
    words.clear();
    let Some((line, mut rest)) = cut_line(input) else { return Ok(None) };
    let Some(count) = line.strip_prefix(b"*") else {
        words.extend(line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()));
        return Ok(Some(rest));
    };
    let count = number(count).filter(|count| *count <= WORDS_MAX).ok_or("invalid multibulk length")?;
    for _ in 0..count {
        let Some((line, after)) = cut_line(rest) else { return Ok(None) };
        let length = line.strip_prefix(b"$").ok_or("expected '$'")?;
        let length = number(length).filter(|length| *length <= WORD_BYTES_MAX).ok_or("invalid bulk length")?;
        let Some(after_word) = after.get(length + 2..) else { return Ok(None) };
        words.push(&after[..length]);
        rest = after_word;
    }
    Ok(Some(rest))
}

/// The first line without its end, and what follows it.
fn cut_line(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    Some((input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]), &input[end + 1..]))
}

pub(crate) fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The time that the options of a SET give a key, none being for ever; or the reply to ones that make no sense.
pub(crate) fn lifetime(options: &[&[u8]]) -> Result<Option<Duration>, &'static [u8]> {
    const INVALID: &[u8] = b"-ERR syntax error, or invalid expire time\r\n";
    let [unit, span] = options else {
        return if options.is_empty() { Ok(None) } else { Err(INVALID) };
    };
    let span = number(span).ok_or(INVALID)?;
    match unit.to_ascii_uppercase().as_slice() {
        b"EX" => Ok(Some(Duration::from_secs(span))),
        b"PX" => Ok(Some(Duration::from_millis(span))),
        _ => Err(INVALID),
    }
}

pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
