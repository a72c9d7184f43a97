//! Escaping: any bytes become one bounded printable line.
//!
//! The line stands for exactly these bytes, or for their beginning.

#![no_main]

use halloo_fuzz::assert_printable_line;
use libfuzzer_sys::fuzz_target;

use crate::text::escape::{TEXT_BYTES_MAX, message, text};

#[expect(dead_code, reason = "only what is tried here is called")]
#[path = "../../server/src/text/mod.rs"]
mod text;

/// The end of a text that was cut.
const TRUNCATION_MARK: &str = "...";

fuzz_target!(init: check_every_character(), |input: (u8, &[u8])| {
    let (extra_bytes, bytes) = input;
    let line = text(bytes);
    assert_printable_line(&line, TEXT_BYTES_MAX);
    let is_prefix = |line: &str| bytes.starts_with(&unescape(line));
    assert!(unescape(&line) == bytes || line.strip_suffix(TRUNCATION_MARK).is_some_and(is_prefix), "{line:?}");
    let is_plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'\\');
    assert!(!is_plain || bytes.len() > TEXT_BYTES_MAX || line.as_bytes() == bytes, "{line:?}");

    let bytes_max = TRUNCATION_MARK.len() + usize::from(extra_bytes);
    let shortened = message(&String::from_utf8_lossy(bytes), bytes_max);
    assert_printable_line(&shortened, bytes_max);
    assert_eq!(message(&shortened, bytes_max), shortened, "printable text was changed");
});

/// Random input would miss most characters, so all are checked before a run. This takes some seconds.
fn check_every_character() {
    for character in '\0'..=char::MAX {
        let pair = format!("a{character}");
        let line = text(pair.as_bytes());
        assert_printable_line(&line, TEXT_BYTES_MAX);
        assert_eq!(unescape(&line), pair.as_bytes());
    }
}

/// The bytes that a line stands for.
fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (kind, remaining) = escape.split_at(1);
        rest = remaining;
        match kind {
            "\\" => bytes.push(b'\\'),
            "n" => bytes.push(b'\n'),
            "r" => bytes.push(b'\r'),
            "t" => bytes.push(b'\t'),
            "0" => bytes.push(b'\0'),
            "x" => {
                let (digits, remaining) = remaining.split_at(2);
                bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
                rest = remaining;
            }
            "u" => {
                let braced = remaining.strip_prefix('{').and_then(|remaining| remaining.split_once('}'));
                let (digits, remaining) = braced.expect("digits between braces");
                let code = u32::from_str_radix(digits, 16).expect("digits");
                let character = char::from_u32(code).expect("a character");
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = remaining;
            }
            _ => panic!("an unknown escape: {line:?}"),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
