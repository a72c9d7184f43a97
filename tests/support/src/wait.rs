//! Waiting for conditions, always with a deadline.
//!
//! A wait that passes its deadline fails the test and names the condition.

use std::thread;
use std::time::{Duration, Instant};

/// Far longer than any step of a test takes.
pub const TIMEOUT: Duration = Duration::from_secs(45);

/// Between two checks of a condition.
pub(crate) const INTERVAL: Duration = Duration::from_millis(2);

/// Between two checks of a condition that is to hold for a while.
const LONG_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `check` returns a value, for [`TIMEOUT`] at most.
#[track_caller]
pub fn wait_for<T>(description: &str, check: impl FnMut() -> Option<T>) -> T {
    wait_for_within(description, TIMEOUT, check)
}

/// Waits until `check` returns a value, for `timeout` at most.
#[track_caller]
pub fn wait_for_within<T>(description: &str, timeout: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {timeout:?}: {description}");
        thread::sleep(INTERVAL);
    }
}

/// Waits until a condition holds, for [`TIMEOUT`] at most.
#[track_caller]
pub fn wait_until(description: &str, mut condition: impl FnMut() -> bool) {
    wait_for(description, || condition().then_some(()));
}

/// Waits until a value has not changed for `duration`, and returns it.
#[track_caller]
pub fn wait_for_stable<T: PartialEq>(description: &str, duration: Duration, mut measure: impl FnMut() -> T) -> T {
    wait_for(description, || {
        let value = measure();
        holds_for(duration, || measure() == value).then_some(value)
    })
}

/// Whether a condition holds at every check for `duration`.
pub fn holds_for(duration: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        if !condition() {
            return false;
        }
        thread::sleep(LONG_INTERVAL);
    }
    condition()
}

/// Fails unless a condition holds at every check for `duration`.
#[track_caller]
pub fn assert_holds_for(duration: Duration, description: &str, condition: impl FnMut() -> bool) {
    assert!(holds_for(duration, condition), "not for {duration:?}: {description}");
}

/// Calls `step` every 20 ms for `duration`.
pub fn repeat_for(duration: Duration, mut step: impl FnMut()) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        step();
        thread::sleep(LONG_INTERVAL);
    }
}

/// Calls `step` every `interval` until it returns false, for [`TIMEOUT`] at most.
pub fn repeat_every(interval: Duration, mut step: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while step() && Instant::now() < deadline {
        thread::sleep(interval);
    }
}

/// Calls `step` until it returns false, at a fixed rate: a slow call does not delay the later ones.
pub fn repeat_at_rate(interval: Duration, mut step: impl FnMut() -> bool) {
    let mut due = Instant::now();
    while step() {
        due += interval;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
