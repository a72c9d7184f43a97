//! Untrusted bytes as one line of printable text.
//!
//! The line contains no control, format or invisible character. Its length is bounded, except by [`whole`], [`hex`] and
//! [`json`]. Printable text without a backslash is unchanged, if it fits.

use std::fmt::Write;

/// The most that is printed of one client's text, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 256;

/// The most that is printed of a path, in bytes: a unix path has at most 107, and each needs at most four.
pub(crate) const PATH_BYTES_MAX: usize = 107 * 4;

/// The end of a truncated text.
const TRUNCATION_MARK: &str = "...";

/// The most combining marks on one character; more would overlap the lines above.
const COMBINING_MARKS_MAX: u8 = 4;

/// The bytes as a JSON string, with its quotes. Invisible characters become `\uXXXX`, to protect terminals. Each piece
/// that is not UTF-8 becomes U+FFFD.
pub(crate) fn json(bytes: &[u8]) -> String {
    format!("\"{}\"", escape(bytes, usize::MAX, Style::Json))
}

/// The bytes as printable text of at most [`TEXT_BYTES_MAX`] bytes.
pub(crate) fn text(bytes: &[u8]) -> String {
    escape(bytes, TEXT_BYTES_MAX, Style::Text)
}

/// The bytes as hexadecimal digits, two for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut digits, byte| {
        // Writing into a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// All of the bytes as printable text, which `unescape` converts back.
pub(crate) fn whole(bytes: &[u8]) -> String {
    escape(bytes, usize::MAX, Style::Text)
}

/// A path, as [`text`], but of at most [`PATH_BYTES_MAX`] bytes.
pub(crate) fn path(bytes: &[u8]) -> String {
    escape(bytes, PATH_BYTES_MAX, Style::Text)
}

/// A message of halloo on one line. Unlike in [`text`], a backslash stays single: parts may be escaped already.
/// `bytes_max` is at least three bytes, the length of the truncation mark.
pub(crate) fn message(text: &str, bytes_max: usize) -> String {
    debug_assert!(bytes_max >= TRUNCATION_MARK.len(), "no room for the mark of a cut");
    escape(text.as_bytes(), bytes_max, Style::Message)
}

/// The most of an argument that a message shows, in bytes.
const EXCERPT_BYTES_MAX: usize = 80;

/// An argument in a message of halloo: as [`message`], and short, so that the rest of the message stays visible.
pub(crate) fn excerpt(text: &str) -> String {
    message(text, EXCERPT_BYTES_MAX)
}

/// The beginning of the bytes, at most this many. The end splits no character of UTF-8.
pub(crate) fn whole_characters(bytes: &[u8], bytes_max: usize) -> &[u8] {
    if bytes.len() <= bytes_max {
        return bytes;
    }
    let is_first = |byte: u8| byte & 0b1100_0000 != 0b1000_0000;
    // A character has at most four bytes. Other text is cut anywhere.
    let first = (bytes_max.saturating_sub(3)..=bytes_max).rev().find(|index| is_first(bytes[*index]));
    &bytes[..first.unwrap_or(bytes_max)]
}

/// Which characters are escaped, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Text,
    /// A backslash stays single.
    Message,
    Json,
}

fn escape(bytes: &[u8], bytes_max: usize, style: Style) -> String {
    let mut line = EscapedLine::new(bytes_max);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            line.push(character, style);
        }
        match chunk.invalid() {
            [_, ..] if style == Style::Json => line.push(char::REPLACEMENT_CHARACTER, style),
            invalid => invalid.iter().for_each(|byte| line.append_escape(format_args!("\\x{byte:02x}"))),
        }
        if line.is_full() {
            break;
        }
    }
    line.finish()
}

/// The line as it grows.
struct EscapedLine {
    text: String,
    /// How much of `text` stays if it is truncated; the mark fits after that.
    truncate_at: usize,
    bytes_max: usize,
    combining_marks: u8,
}

impl EscapedLine {
    fn new(bytes_max: usize) -> Self {
        Self {
            text: String::new(),
            truncate_at: 0,
            bytes_max,
            // At the start of a line there is no character to combine with.
            combining_marks: COMBINING_MARKS_MAX,
        }
    }

    fn push(&mut self, character: char, style: Style) {
        match character {
            '"' if style == Style::Json => self.append_escape(format_args!("\\\"")),
            '\\' if style != Style::Message => self.append_escape(format_args!("\\\\")),
            ' '..='~' => self.append(format_args!("{character}")),
            '\n' => self.append_escape(format_args!("\\n")),
            '\r' => self.append_escape(format_args!("\\r")),
            '\t' => self.append_escape(format_args!("\\t")),
            '\0'..='\x7f' if style == Style::Json => {
                self.append_escape(format_args!("\\u{:04x}", u32::from(character)));
            }
            '\0' => self.append_escape(format_args!("\\0")),
            '\x01'..='\x7f' => self.append_escape(format_args!("\\x{:02x}", u32::from(character))),
            _ => self.push_non_ascii(character, style),
        }
    }

    fn push_non_ascii(&mut self, character: char, style: Style) {
        let is_combining = is_combining_mark(character);
        if !is_visible(character) || (is_combining && self.combining_marks == COMBINING_MARKS_MAX) {
            match style {
                Style::Text | Style::Message => {
                    self.append_escape(format_args!("\\u{{{:x}}}", u32::from(character)));
                }
                Style::Json => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        self.append_escape(format_args!("\\u{unit:04x}"));
                    }
                }
            }
        } else {
            let marks = if is_combining { self.combining_marks + 1 } else { 0 };
            self.append(format_args!("{character}"));
            self.combining_marks = marks;
        }
    }

    fn append_escape(&mut self, piece: std::fmt::Arguments<'_>) {
        self.append(piece);
        // A mark would combine with the last character of the escape, not with the escaped one.
        self.combining_marks = COMBINING_MARKS_MAX;
    }

    fn append(&mut self, piece: std::fmt::Arguments<'_>) {
        if self.is_full() {
            return;
        }
        // Writing into a string cannot fail.
        let _ = self.text.write_fmt(piece);
        self.combining_marks = 0;
        if self.text.len() + TRUNCATION_MARK.len() <= self.bytes_max {
            self.truncate_at = self.text.len();
        }
    }

    fn is_full(&self) -> bool {
        self.text.len() > self.bytes_max
    }

    fn finish(mut self) -> String {
        if self.is_full() {
            self.text.truncate(self.truncate_at);
            self.text.push_str(TRUNCATION_MARK);
        }
        self.text
    }
}

/// Whether a non-ASCII character is visible.
fn is_visible(character: char) -> bool {
    // `escape_debug` escapes unassigned, control, format and private-use characters, and odd spaces. After another
    // character it accepts combining marks. It also accepts the letters and marks below, which are drawn blank.
    let mut pair = [b'a', 0, 0, 0, 0];
    let length = character.encode_utf8(&mut pair[1..]).len();
    let is_printable = std::str::from_utf8(&pair[..=length]).is_ok_and(|pair| pair.escape_debug().count() == 2);
    is_printable
        && !matches!(character,
            '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2065}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1d159}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a visible character combines with the one before it.
fn is_combining_mark(character: char) -> bool {
    character.escape_debug().count() > 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{TEXT_BYTES_MAX, hex, is_visible, json, message, text, whole_characters};

    #[test]
    fn printable_text_is_unchanged() {
        assert_eq!(text(b"Hello, TCP Server!"), "Hello, TCP Server!");
        assert_eq!(text(b""), "");
        assert_eq!(text("grüß Gott, 你好, नमस्ते, שלום 🙂".as_bytes()), "grüß Gott, 你好, नमस्ते, שלום 🙂");
        assert_eq!(text(b"it's \"so\""), "it's \"so\"");
    }

    #[test]
    fn control_characters_become_escapes() {
        assert_eq!(text(b"a\r\nb\tc\0"), r"a\r\nb\tc\0");
        assert_eq!(text(b"\x1b[31mred\x07\x08\x7f"), r"\x1b[31mred\x07\x08\x7f");
        assert_eq!(text(b"\x1b]0;title\x07"), r"\x1b]0;title\x07");
        assert_eq!(text("\u{9b}31m\u{85}".as_bytes()), r"\u{9b}31m\u{85}");
    }

    #[test]
    fn a_json_string_has_only_the_escapes_of_json() {
        for (bytes, expected) in [
            (&b"say \"hi\"\n"[..], r#""say \"hi\"\n""#),
            (br"\n", r#""\\n""#),
            (b"\0\x1b\x7f\r\t", r#""\u0000\u001b\u007f\r\t""#),
            (
                "gr\u{fc}n \u{9b}\u{202e}\u{e0041}\u{301}".as_bytes(),
                "\"gr\u{fc}n \\u009b\\u202e\\udb40\\udc41\\u0301\"",
            ),
            (b"a\xff\xfeb\xe2\x82", "\"a\u{fffd}\u{fffd}b\u{fffd}\""),
        ] {
            assert_eq!(json(bytes), expected);
        }
    }

    #[test]
    fn hexadecimal_digits_are_two_for_each_byte() {
        assert_eq!(hex(b"\0\x0fa\xff"), "000f61ff");
        assert_eq!(hex(b""), "");
    }

    #[test]
    fn a_backslash_in_the_text_is_escaped() {
        assert_eq!(text(br"\n"), r"\\n");
        assert_eq!(message(r"\n and", 100), r"\n and");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_escaped_one_by_one() {
        assert_eq!(text(b"a\xff\xfe\xc3"), r"a\xff\xfe\xc3");
        assert_eq!(text(b"\xc0\x9b\xed\xa0\x80"), r"\xc0\x9b\xed\xa0\x80");
    }

    #[test]
    fn characters_that_reorder_or_hide_text_are_escaped() {
        for character in [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2028}',
            '\u{2029}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{e000}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{a0}',
            '\u{fff9}',
        ] {
            let escaped = text(format!("a{character}b").as_bytes());
            assert_eq!(escaped, format!("a\\u{{{:x}}}b", u32::from(character)));
        }
    }

    #[test]
    fn combining_marks_need_a_character_and_are_limited() {
        assert_eq!(text("e\u{301}".as_bytes()), "e\u{301}");
        assert_eq!(text("\u{301}e".as_bytes()), "\\u{301}e");
        let with_marks = format!("e{}", "\u{301}".repeat(6));
        assert_eq!(text(with_marks.as_bytes()), "e\u{301}\u{301}\u{301}\u{301}\\u{301}\\u{301}");
    }

    #[test]
    fn no_mark_combines_with_an_escape() {
        for bytes in [&b"\xff"[..], b"\n", b"\r", b"\t", b"\0", b"\x1b", b"\\", "\u{9b}".as_bytes()] {
            let with_mark = [bytes, "\u{301}e\u{301}".as_bytes()].concat();
            assert_eq!(text(&with_mark), format!("{}\\u{{301}}e\u{301}", text(bytes)));
        }
    }

    #[test]
    fn a_message_fits_a_bound_as_short_as_the_truncation_mark() {
        for text in ["", "abc", "abcd", "\n\n", "ü", "\u{9b}", "🙂"] {
            assert!(message(text, 3).len() <= 3, "{text:?}");
        }
        assert_eq!(message("abc", 3), "abc");
        assert_eq!(message("abcd", 3), "...");
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic = "no room for the mark of a cut"]
    fn a_bound_shorter_than_the_truncation_mark_panics() {
        message("abcd", 2);
    }

    #[test]
    fn a_long_text_is_truncated_with_a_mark() {
        assert_eq!(text(&[b'a'; TEXT_BYTES_MAX]), "a".repeat(TEXT_BYTES_MAX));
        let truncated = text(&[b'a'; TEXT_BYTES_MAX + 1]);
        assert_eq!(truncated, format!("{}...", "a".repeat(TEXT_BYTES_MAX - 3)));
        assert_eq!(text("\n".repeat(60_000).as_bytes()), format!("{}...", r"\n".repeat(126)));
    }

    proptest! {
        #[test]
        fn a_cut_text_is_the_longest_beginning_of_whole_characters(text in "[a\u{fc}\u{4f60}\u{1f642}]{0,12}", bytes_max in 0..50_usize) {
            let cut = std::str::from_utf8(whole_characters(text.as_bytes(), bytes_max)).unwrap();
            let mut expected = text.char_indices().map(|(index, one)| index + one.len_utf8()).filter(|end| *end <= bytes_max);
            prop_assert_eq!(cut, &text[..expected.next_back().unwrap_or(0)]);
        }

        #[test]
        fn other_bytes_are_cut_within_three_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40), bytes_max in 0..50_usize) {
            let cut = whole_characters(&bytes, bytes_max).len();
            prop_assert!(cut <= bytes_max && cut + 3 >= bytes_max.min(bytes.len()));
        }

        #[test]
        fn any_bytes_become_one_bounded_printable_line(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let line = text(&bytes);
            prop_assert!(line.len() <= TEXT_BYTES_MAX);
            prop_assert!(line.chars().all(|one| matches!(one, ' '..='~') || is_visible(one)));
        }

        #[test]
        fn any_bytes_become_a_printable_json_string_of_the_same_text(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let string = json(&bytes);
            prop_assert!(string.chars().all(|one| matches!(one, ' '..='~') || is_visible(one)));
            let parsed: String = serde_json::from_str(&string).unwrap();
            prop_assert_eq!(parsed, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_characters_become_a_printable_json_string_of_the_same_text(words in "\\PC{0,80}|.{0,80}|[\"\\\\\\x00-\\x1f]{0,80}") {
            let string = json(words.as_bytes());
            prop_assert!(string.chars().all(|one| matches!(one, ' '..='~') || is_visible(one)));
            prop_assert_eq!(serde_json::from_str::<String>(&string).unwrap(), words);
        }

        #[test]
        fn any_text_becomes_one_bounded_printable_line(words in "\\PC{0,80}|.{0,80}") {
            let line = text(words.as_bytes());
            prop_assert!(line.len() <= TEXT_BYTES_MAX);
            prop_assert!(line.chars().all(|one| matches!(one, ' '..='~') || is_visible(one)));
        }

        #[test]
        fn printable_ascii_without_backslash_is_unchanged(words in "[ -\\[\\]-~]{0,256}") {
            prop_assert_eq!(text(words.as_bytes()), words);
        }
    }
}
