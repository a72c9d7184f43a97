//! Durations: one that is read is bounded, prints as a line and is read back the same; a measured time loses little.

#![no_main]

use std::time::{Duration, Instant};

use halloo_fuzz::assert_line;
use libfuzzer_sys::fuzz_target;

use crate::text::duration::{measured, parse, parse_positive, show};

#[expect(dead_code, reason = "only what is tried here is called")]
#[path = "../../server/src/text/mod.rs"]
mod text;

/// The longest duration taken: 366 days.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// `1year 11months 30days 23h 59m 59s 999ms 999us 999ns`, and a little.
const SHOWN_BYTES_MAX: usize = 64;

fuzz_target!(|input: (Duration, &str)| {
    let (time, text) = input;
    match parse(text) {
        Ok(read) => {
            assert!(read <= LONGEST && Instant::now().checked_add(read).is_some());
            assert_eq!(parse_positive(text).ok(), (!read.is_zero()).then_some(read));
            assert_prints_as_read(read);
        }
        Err(_) => assert!(parse_positive(text).is_err()),
    }
    assert_prints_as_read(Duration::new(time.as_secs() % LONGEST.as_secs(), time.subsec_nanos()));
    assert_measured(time);
});

fn assert_prints_as_read(duration: Duration) {
    let shown = show(duration);
    assert_line(&shown, SHOWN_BYTES_MAX);
    assert_eq!(parse(&shown), Ok(duration), "{shown}");
}

/// The number shown is not more than the time, and less by a hundredth of it at most.
fn assert_measured(time: Duration) {
    let shown = measured(time);
    assert_line(&shown, SHOWN_BYTES_MAX);
    let unit = shown.find(|c: char| c.is_ascii_alphabetic()).expect("a unit");
    let (number, unit) = shown.split_at(unit);
    let decimals = number.find('.').map_or(0, |point| number.len() - point - 1);
    let digits: u128 = number.replace('.', "").parse().expect("a number");
    let micros = match unit {
        "us" => digits,
        "ms" => digits * 1_000 / 10_u128.pow(u32::try_from(decimals).expect("a few")),
        "s" => digits * 1_000_000 / 10_u128.pow(u32::try_from(decimals).expect("a few")),
        _ => panic!("an unknown unit: {shown}"),
    };
    let lost = time.as_micros().checked_sub(micros).expect("no more than there was");
    assert!(lost * 100 <= time.as_micros(), "{time:?} is shown as {shown}");
}
