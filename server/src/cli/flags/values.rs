//! Parsers of values that several flags share.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::text::address::is_decimal;
use crate::text::escape::excerpt;

/// Returns a parser of whole numbers within a range.
pub(crate) fn whole_number<N: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<N, String> + Clone {
    move |text| {
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| match (range.start(), range.end()) {
            (_, end @ &u64::MAX) if is_decimal(text.trim()) && text.trim() != "0" => {
                format!("too large; write at most {end}")
            }
            (start, &u64::MAX) => format!("write a whole number from {start} up"),
            (start, end) => format!("write a whole number from {start} to {end}"),
        })
    }
}

/// Parses the variable of a flag without a value.
pub(crate) fn parse_yes_or_no(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("neither yes nor no; write true or false".to_owned()),
    }
}

/// Parses the variable of a repeatable flag: a number, or a word for yes or no.
pub(crate) fn parse_occurrences(text: &str) -> Result<u8, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(1),
        "false" | "no" | "off" => Ok(0),
        number => {
            number.parse().map_err(|_| "not a number up to 255; write a number such as 2, or true or false".to_owned())
        }
    }
}

/// Whether the name of a file is that of an HTML page.
pub(crate) fn is_page(path: &Path) -> bool {
    let is = |extension: &OsStr| ["html", "htm"].iter().any(|name| extension.eq_ignore_ascii_case(name));
    path.extension().is_some_and(is)
}

/// The path of a file; `-` is none. Standard output has the events.
pub(crate) fn parse_record_path(path: PathBuf) -> Result<PathBuf, String> {
    if path.as_os_str().as_encoded_bytes().starts_with(b"-") {
        let shown = excerpt(&path.to_string_lossy());
        return Err(format!("the path begins like a flag; write ./{shown} for a file of that name"));
    }
    Ok(path)
}

/// The path of a page, or `-` for standard output.
pub(crate) fn parse_page_path(path: PathBuf) -> Result<PathBuf, String> {
    if path.as_os_str() == "-" { Ok(path) } else { parse_record_path(path) }
}
