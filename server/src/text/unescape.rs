//! Parses text with backslash escapes into bytes.
//!
//! Every byte can be written, and text without a backslash is unchanged. Text that `escape::whole` returns is parsed
//! back into the original bytes.

use std::str::FromStr;

use crate::text::{LEAVE_FLAG_OUT, escape};

const ESCAPES_HINT: &str = "escapes are \\n, \\r, \\t, \\0, \\\\, \\xNN and \\u{N}";

/// The bytes of a text, its escapes replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unescaped(pub(crate) Vec<u8>);

impl FromStr for Unescaped {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, escape)) = rest.split_once('\\') {
            bytes.extend_from_slice(before.as_bytes());
            rest = push_escape(escape, &mut bytes)?;
        }
        bytes.extend_from_slice(rest.as_bytes());
        Ok(Self(bytes))
    }
}

/// Parses a text with escapes that must not be empty.
pub(crate) fn parse_nonempty(text: &str) -> Result<Unescaped, String> {
    if text.is_empty() {
        return Err(format!("every reply contains an empty text; {LEAVE_FLAG_OUT} to accept any reply"));
    }
    text.parse()
}

/// Appends the bytes of an escape, given without its backslash, and returns the text after it.
pub(crate) fn push_escape<'a>(escape: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str, String> {
    let Some(letter) = escape.chars().next() else {
        return Err(format!("single backslash at the end; write it double; {ESCAPES_HINT}"));
    };
    let remaining = &escape[letter.len_utf8()..];
    let byte = match letter {
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        '0' => b'\0',
        '\\' => b'\\',
        'x' => {
            let (byte, remaining) = parse_byte(remaining)?;
            bytes.push(byte);
            return Ok(remaining);
        }
        'u' => {
            let (character, remaining) = parse_character(remaining)?;
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(remaining);
        }
        other => {
            return Err(format!("\\{other} is not an escape; write a backslash itself double; {ESCAPES_HINT}"));
        }
    };
    bytes.push(byte);
    Ok(remaining)
}

/// Parses the two digits of `\xNN`.
fn parse_byte(text: &str) -> Result<(u8, &str), String> {
    let digits = text.get(..2).and_then(parse_hexadecimal).and_then(|number| u8::try_from(number).ok());
    digits.map(|byte| (byte, &text[2..])).ok_or_else(|| format!("\\x needs two hexadecimal digits; {ESCAPES_HINT}"))
}

/// Parses the braces of `\u{N}`.
fn parse_character(text: &str) -> Result<(char, &str), String> {
    let Some((digits, remaining)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) else {
        return Err(format!("\\u needs hexadecimal digits in braces, such as \\u{{e9}}; {ESCAPES_HINT}"));
    };
    let character = parse_hexadecimal(digits).and_then(char::from_u32);
    character
        .map(|character| (character, remaining))
        .ok_or_else(|| format!("\\u{{{}}} is not a character; {ESCAPES_HINT}", escape::excerpt(digits)))
}

fn parse_hexadecimal(digits: &str) -> Option<u32> {
    let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Unescaped, parse_nonempty};
    use crate::text::{LEAVE_FLAG_OUT, escape};

    fn unescape(text: &str) -> Result<Vec<u8>, String> {
        text.parse().map(|Unescaped(bytes)| bytes)
    }

    #[test]
    fn escapes_are_replaced_and_text_is_unchanged() {
        for (text, bytes) in [
            ("Hello, TCP Server!", &b"Hello, TCP Server!"[..]),
            ("", b""),
            (r"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"),
            (r"\t\\n\x00\xfF\x41B", b"\t\\n\x00\xffAB"),
            (r"ä\nß", "ä\nß".as_bytes()),
            (r"\001\0", b"\x0001\0"),
            (r"\u{0}\u{e9}\u{202E}\u{10ffff}}", "\0é\u{202e}\u{10ffff}}".as_bytes()),
        ] {
            assert_eq!(unescape(text).as_deref(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_malformed_escape_is_reported() {
        for (text, expected) in [
            ("a\\", "write it double"),
            (r"\q", r"\q is not an escape"),
            (r"\ä", r"\ä is not an escape"),
            (r"\x", "two hexadecimal digits"),
            (r"\x4", "two hexadecimal digits"),
            (r"\x+1", "two hexadecimal digits"),
            (r"\x4ä", "two hexadecimal digits"),
            (r"\u", "in braces"),
            (r"\u00e9", "in braces"),
            (r"\u{e9", "in braces"),
            (r"\u{}", r"\u{} is not a character"),
            (r"\u{+1}", r"\u{+1} is not a character"),
            (r"\u{d800}", r"\u{d800} is not a character"),
            (r"\u{110000}", r"\u{110000} is not a character"),
            (r"\u{100000041}", r"\u{100000041} is not a character"),
        ] {
            assert!(unescape(text).unwrap_err().contains(expected), "{text}: {:?}", unescape(text));
        }
    }

    #[test]
    fn an_empty_text_is_refused_where_it_would_match_anything() {
        assert!(parse_nonempty("").unwrap_err().contains(LEAVE_FLAG_OUT));
        assert_eq!(parse_nonempty(r"\0"), Ok(Unescaped(vec![0])));
    }

    proptest! {
        #[test]
        fn every_byte_can_be_escaped(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<Vec<_>>().concat();
            prop_assert_eq!(unescape(&text), Ok(bytes));
        }

        #[test]
        fn printed_bytes_are_parsed_back_unchanged(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(unescape(&escape::whole(&bytes)), Ok(bytes));
        }

        #[test]
        fn printed_text_is_parsed_back_unchanged(text in "(\\\\|[nrt0xu{}]|\\PC|.|\\n){0,60}") {
            prop_assert_eq!(unescape(&escape::whole(text.as_bytes())), Ok(text.into_bytes()));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\\\|x|u|[{}]|[0-9]|.){0,20}") {
            let _ = unescape(&text);
        }
    }
}
