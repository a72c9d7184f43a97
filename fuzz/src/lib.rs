//! The check that printed text is one line of printable characters.
//!
//! Its Unicode data are those of ICU, and not of the standard library, which halloo uses.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GraphemeExtend};
use icu_properties::{CodePointMapData, CodePointSetData};

/// How many combining marks may follow each other, as `escape.rs` promises.
const COMBINING_MARKS_MAX: usize = 4;

/// Holds a text to be one printable line of at most so many bytes, no character of it invisible or piled up with marks.
///
/// # Panics
/// If it is not.
pub fn assert_printable_line(line: &str, bytes_max: usize) {
    assert!(line.len() <= bytes_max, "{} bytes, not {bytes_max} at most: {line:?}", line.len());
    // At the start of a line a mark has nothing to stand on.
    let mut marks = COMBINING_MARKS_MAX;
    for character in line.chars() {
        assert!(is_printable(character), "{character:?} in {line:?}");
        let is_mark = CodePointSetData::new::<GraphemeExtend>().contains(character);
        marks = if is_mark { marks + 1 } else { 0 };
        assert!(marks <= COMBINING_MARKS_MAX, "too many marks, or on nothing: {line:?}");
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
