//! Measured figures.

use std::io::Write;
use std::time::{Duration, Instant};

/// Begins a line of measured figures.
pub const MEASUREMENT: &str = "FIGURE ";

/// Prints a measured figure past the capture of test output.
pub fn print_measurement(text: &str) {
    let _ = writeln!(std::io::stderr(), "{MEASUREMENT}{text}");
}

/// The shortest time of a few calls: what the server costs, without what else the machine does.
#[track_caller]
pub fn fastest_of(tries: usize, mut call: impl FnMut()) -> Duration {
    let times = (0..tries).map(|_| {
        let start = Instant::now();
        call();
        start.elapsed()
    });
    times.min().expect("at least one try")
}
