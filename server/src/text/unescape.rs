//! Parses text with backslash escapes into bytes.
//!
//! Every byte can be written, and text without a backslash stands for itself.

use std::str::FromStr;

const ESCAPES_HINT: &str = "known are \\n, \\r, \\t, \\\\ and \\xNN";

/// The bytes that a text with escapes stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unescaped(pub(crate) Vec<u8>);

impl FromStr for Unescaped {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, escape)) = rest.split_once('\\') {
            bytes.extend_from_slice(before.as_bytes());
            let (byte, remaining) = parse_escape(escape)?;
            bytes.push(byte);
            rest = remaining;
        }
        bytes.extend_from_slice(rest.as_bytes());
        Ok(Self(bytes))
    }
}

/// The byte that an escape stands for, its backslash left out, and what follows it.
fn parse_escape(escape: &str) -> Result<(u8, &str), String> {
    let Some(letter) = escape.chars().next() else {
        return Err(format!("a backslash at the end is written double; {ESCAPES_HINT}"));
    };
    let remaining = &escape[letter.len_utf8()..];
    match letter {
        'n' => Ok((b'\n', remaining)),
        'r' => Ok((b'\r', remaining)),
        't' => Ok((b'\t', remaining)),
        '\\' => Ok((b'\\', remaining)),
        'x' => {
            let digits = remaining.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            byte.map(|byte| (byte, &remaining[2..]))
                .ok_or_else(|| format!("\\x needs two hexadecimal digits; {ESCAPES_HINT}"))
        }
        other => Err(format!("\\{other} stands for nothing, and a backslash itself is written double; {ESCAPES_HINT}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Unescaped;

    fn unescape(text: &str) -> Result<Vec<u8>, String> {
        text.parse().map(|Unescaped(bytes)| bytes)
    }

    #[test]
    fn escapes_stand_for_their_bytes_and_text_for_itself() {
        for (text, bytes) in [
            ("Hello, TCP Server!", &b"Hello, TCP Server!"[..]),
            ("", b""),
            (r"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"),
            (r"\t\\n\x00\xfF\x41B", b"\t\\n\x00\xffAB"),
            (r"ä\nß", "ä\nß".as_bytes()),
        ] {
            assert_eq!(unescape(text).as_deref(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_slip_is_named() {
        for (text, expected) in [
            ("a\\", "written double"),
            (r"\q", r"\q stands for nothing"),
            (r"\ä", r"\ä stands for nothing"),
            (r"\x", "two hexadecimal digits"),
            (r"\x4", "two hexadecimal digits"),
            (r"\x+1", "two hexadecimal digits"),
            (r"\x4ä", "two hexadecimal digits"),
        ] {
            assert!(unescape(text).unwrap_err().contains(expected), "{text}: {:?}", unescape(text));
        }
    }

    proptest! {
        #[test]
        fn every_byte_can_be_escaped(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<Vec<_>>().concat();
            prop_assert_eq!(unescape(&text), Ok(bytes));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\\\|x|[0-9]|.){0,20}") {
            let _ = unescape(&text);
        }
    }
}
