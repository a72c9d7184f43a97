//! Measured figures: printing, and the fastest of several calls.

use std::io::Write;
use std::time::{Duration, Instant};

/// The start of a line of measured figures.
pub const MEASUREMENT: &str = "FIGURE ";

/// Prints a measured figure past the capture of test output.
pub fn print_measurement(text: &str) {
    let _ = writeln!(std::io::stderr(), "{MEASUREMENT}{text}");
}

/// Returns the shortest time of `tries` calls, which other load on the machine affects least.
#[track_caller]
pub fn fastest_of(tries: usize, mut call: impl FnMut()) -> Duration {
    let times = (0..tries).map(|_| {
        let start = Instant::now();
        call();
        start.elapsed()
    });
    times.min().expect("at least one try")
}
