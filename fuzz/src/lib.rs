//! The check that printed text is one line of printable characters.
//!
//! Its Unicode data is from ICU, while halloo uses the standard library's.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GraphemeExtend};
use icu_properties::{CodePointMapData, CodePointSetData};

/// The most combining marks in a row, as in `escape.rs`.
const COMBINING_MARKS_MAX: usize = 4;

/// Checks that a text is one line of at most `bytes_max` bytes, without invisible characters or piles of marks.
///
/// # Panics
/// If the check fails.
pub fn assert_printable_line(line: &str, bytes_max: usize) {
    assert!(line.len() <= bytes_max, "{} bytes, not {bytes_max} at most: {line:?}", line.len());
    // A mark at the start of a line has no base character.
    let mut marks = COMBINING_MARKS_MAX;
    for character in line.chars() {
        assert!(is_printable(character), "{character:?} in {line:?}");
        let is_mark = CodePointSetData::new::<GraphemeExtend>().contains(character);
        marks = if is_mark { marks + 1 } else { 0 };
        assert!(marks <= COMBINING_MARKS_MAX, "too many marks, or one without a base: {line:?}");
    }
}

fn is_printable(character: char) -> bool {
    match CodePointMapData::<GeneralCategory>::new().get(character) {
        GeneralCategory::SpaceSeparator => character == ' ',
        GeneralCategory::Control
        | GeneralCategory::Format
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator
        | GeneralCategory::PrivateUse
        | GeneralCategory::Surrogate
        | GeneralCategory::Unassigned => false,
        _ => !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character),
    }
}
