//! Parses and formats durations: `500ms`, `10s`, `2m`.
//!
//! A parsed duration can be added to any `Instant`, and formats to text that parses to the same duration.

use std::time::Duration;

use humantime::DurationError;

use crate::text::{LEAVE_FLAG_OUT, escape};

/// The longest duration accepted: far beyond any use, and an `Instant` can still add it.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The units accepted, in milliseconds. A month is left out: its unit is `M`, which a user would mean as minute.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses a duration, which may be zero.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_with_hint(text, "write 500ms, 10s, 2m or 0")
}

/// Parses a duration that must be more than zero.
pub(crate) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_with_hint(text, "write 500ms, 10s or 2m")? {
        Duration::ZERO => Err(format!("must be more than zero; write 500ms, 10s or 2m, or {LEAVE_FLAG_OUT}")),
        duration => Ok(duration),
    }
}

fn parse_with_hint(text: &str, hint: &str) -> Result<Duration, String> {
    let unknown_unit =
        |unit: &str| format!("{} is not a unit of time; {hint}; units are ms, s, m, h and d", escape::excerpt(unit));
    match (humantime::parse_duration(text.trim()), other_unit(text)) {
        (Ok(_), Some(unit)) => Err(unknown_unit(unit)),
        (Ok(duration), None) if duration <= DURATION_MAX => Ok(duration),
        (Ok(_) | Err(DurationError::NumberOverflow), _) => Err(format!("out of range, at most 366d; {hint}")),
        (Err(DurationError::UnknownUnit { unit, value, .. }), _) if unit.is_empty() => Err(match text.trim() {
            given if given == value.to_string() => format!("the unit is missing; write {value}s or {value}ms"),
            given => format!("the unit is missing; write {}s", escape::excerpt(given)),
        }),
        (Err(DurationError::UnknownUnit { unit, .. }), _) => Err(unknown_unit(&unit)),
        (Err(_), _) => Err(format!("not a time; {hint}")),
    }
}

/// The first unit that is not one of [`UNITS`].
fn other_unit(text: &str) -> Option<&str> {
    let mut words = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    words.find(|word| UNITS.iter().all(|(unit, _)| unit != word))
}

/// Formats a duration of whole milliseconds as [`parse_duration`] parses it: `1m 30s`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, millis) in UNITS {
        if rest >= millis {
            parts.push(format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Formats a measured time in milliseconds, to the microsecond and about three digits: `0.214ms`, `12.3ms`, `2000ms`.
pub(crate) fn format_elapsed(elapsed: Duration) -> String {
    let micros = elapsed.as_micros();
    let (millis, rest) = (micros / 1_000, micros % 1_000);
    match millis {
        0 => format!("0.{rest:03}ms"),
        1..10 => format!("{millis}.{:02}ms", rest / 10),
        10..100 => format!("{millis}.{}ms", rest / 100),
        _ => format!("{millis}ms"),
    }
}

/// A measured time in milliseconds as a JSON number, to the microsecond: `0.214`.
pub(crate) fn format_json_millis(elapsed: Duration) -> String {
    let micros = elapsed.as_micros();
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{format_duration, format_elapsed, format_json_millis, parse_duration, parse_positive_duration};

    #[test]
    fn the_usual_forms_of_durations_are_parsed() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1d2h3m4s5ms"), Ok(Duration::from_millis(93_784_005)));
        assert_eq!(parse_duration(" 2 h "), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_missing_unit_is_reported() {
        let error = parse_duration("5").unwrap_err();
        assert!(error.contains("unit") && error.contains("write 5s or 5ms"), "{error}");
    }

    #[test]
    fn a_malformed_duration_is_reported_with_an_example() {
        for text in ["", "soon", "-1s", "-5", "1 parsec", "99999999999999999999s"] {
            assert!(parse_duration(text).unwrap_err().contains("500ms"), "{text}");
        }
        for text in ["367d", "366d 1ms", "99999999999999999999d"] {
            assert!(parse_duration(text).unwrap_err().contains("at most 366d"), "{text}");
        }
    }

    #[test]
    fn zero_is_refused_where_a_positive_duration_is_required() {
        assert!(parse_positive_duration("0s").unwrap_err().contains("more than zero"));
        assert_eq!(parse_positive_duration("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn measured_times_are_in_milliseconds_with_at_least_three_digits() {
        for (micros, expected) in [
            (0, "0.000ms"),
            (7, "0.007ms"),
            (412, "0.412ms"),
            (1_234, "1.23ms"),
            (12_345, "12.3ms"),
            (123_456, "123ms"),
            (2_001_999, "2001ms"),
        ] {
            assert_eq!(format_elapsed(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn a_measured_time_in_json_is_a_number_of_milliseconds() {
        for (micros, expected) in [(0, "0.000"), (214, "0.214"), (2_001_999, "2001.999")] {
            assert_eq!(format_json_millis(Duration::from_micros(micros)), expected);
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_is_parsed_back_unchanged(millis in 0_u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
