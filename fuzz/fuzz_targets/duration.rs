//! Durations: what parses is bounded, prints and parses back.
//!
//! A formatted elapsed time is at most a hundredth less than the time.

#![no_main]

use std::time::{Duration, Instant};

use halloo_fuzz::assert_printable_line;
use libfuzzer_sys::fuzz_target;

use crate::text::duration::{format_duration, format_elapsed, parse_duration, parse_positive_duration};

#[expect(dead_code, reason = "only what is tried here is called")]
#[path = "../../server/src/text/mod.rs"]
mod text;

/// The longest valid duration: 366 days.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// `1year 11months 30days 23h 59m 59s 999ms 999us 999ns`, and a little.
const PRINTED_BYTES_MAX: usize = 64;

fuzz_target!(|input: (Duration, &str)| {
    let (time, text) = input;
    match parse_duration(text) {
        Ok(parsed) => {
            assert!(parsed <= DURATION_MAX && Instant::now().checked_add(parsed).is_some());
            assert_eq!(parse_positive_duration(text).ok(), (!parsed.is_zero()).then_some(parsed));
            assert_round_trip(parsed);
        }
        Err(_) => assert!(parse_positive_duration(text).is_err()),
    }
    assert_round_trip(Duration::new(time.as_secs() % DURATION_MAX.as_secs(), time.subsec_nanos()));
    assert_close(time);
});

fn assert_round_trip(duration: Duration) {
    let printed = format_duration(duration);
    assert_printable_line(&printed, PRINTED_BYTES_MAX);
    assert_eq!(parse_duration(&printed), Ok(duration), "{printed}");
}

/// Checks that the printed number is at most the time, and at most a hundredth less.
fn assert_close(time: Duration) {
    let printed = format_elapsed(time);
    assert_printable_line(&printed, PRINTED_BYTES_MAX);
    let unit = printed.find(|c: char| c.is_ascii_alphabetic()).expect("a unit");
    let (number, unit) = printed.split_at(unit);
    let decimals = number.find('.').map_or(0, |point| number.len() - point - 1);
    let digits: u128 = number.replace('.', "").parse().expect("a number");
    let micros = match unit {
        "us" => digits,
        "ms" => digits * 1_000 / 10_u128.pow(u32::try_from(decimals).expect("a few")),
        "s" => digits * 1_000_000 / 10_u128.pow(u32::try_from(decimals).expect("a few")),
        _ => panic!("an unknown unit: {printed}"),
    };
    let lost = time.as_micros().checked_sub(micros).expect("more than the time");
    assert!(lost * 100 <= time.as_micros(), "{time:?} is printed as {printed}");
}
