//! Errors of `recvfrom` on streams.
//!
//! A read error ends its own connection; `EINTR` and `EAGAIN` end none.

use crate::HALLOO;
use crate::run_fault_cases::{FAULT_PATTERNS, FaultCase, Outcome, RequestTiming, assert_fault_cases};

pub(crate) const READ_ERRORS: [&str; 8] =
    ["ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENOBUFS", "ENOMEM", "ENOTCONN", "EIO"];

const FAILED_READS: [FaultCase; 1] = [FaultCase { call: "recvfrom", errnos: &READ_ERRORS, outcome: Outcome::Ended }];

const INTERRUPTED_READS: [FaultCase; 1] =
    [FaultCase { call: "recvfrom", errnos: &["EINTR"], outcome: Outcome::Served }];

/// A read after spurious readiness.
const EMPTY_READS: [FaultCase; 1] = [FaultCase { call: "recvfrom", errnos: &["EAGAIN"], outcome: Outcome::Served }];

const LATE_READS: [FaultCase; 1] = [FaultCase { call: "recvfrom", errnos: &READ_ERRORS, outcome: Outcome::Served }];

#[test]
#[ignore = "needs strace"]
fn a_failed_first_read_ends_only_its_client() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    assert_fault_cases(&mut server, &FAILED_READS, RequestTiming::OnConnect, &FAULT_PATTERNS);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn of_connected_clients_only_those_with_a_failed_read_end() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    assert_fault_cases(&mut server, &FAILED_READS, RequestTiming::AfterFault, &FAULT_PATTERNS);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn an_interrupted_read_is_repeated_and_eagain_waits_for_input() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    for timing in [RequestTiming::OnConnect, RequestTiming::AfterFault] {
        assert_fault_cases(&mut server, &INTERRUPTED_READS, timing, &["1", "1..3", "1+3", "1..40"]);
    }
    assert_fault_cases(&mut server, &EMPTY_READS, RequestTiming::WhilePaused, &["1", "1..3"]);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn a_failed_read_after_the_greeting_does_not_lose_the_greeting() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    // The first six reads return a request of each client. Later reads are of late input.
    assert_fault_cases(&mut server, &LATE_READS, RequestTiming::LargeWhilePaused, &["7", "7..9", "7+"]);
    server.assert_exits_on_sigterm();
}
