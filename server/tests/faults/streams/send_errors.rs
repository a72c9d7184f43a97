//! Errors of `sendto`, `shutdown` and `close` on streams.
//!
//! An error costs at most the one client that it is about.

use support::network::streams::GREETING;
use support::process::strace::{FaultInjection, injected};

use crate::HALLOO;
use crate::run_fault_cases::{FAULT_PATTERNS, FaultCase, Outcome, RequestTiming, assert_fault_cases};
use crate::streams::fallible_clients::request;

pub(crate) const SEND_ERRORS: [&str; 8] =
    ["EPIPE", "ECONNRESET", "ENOBUFS", "ENOMEM", "EHOSTUNREACH", "ETIMEDOUT", "ENETDOWN", "EPERM"];

const FAILED_SENDS: [FaultCase; 1] = [FaultCase { call: "sendto", errnos: &SEND_ERRORS, outcome: Outcome::Ended }];

const INTERRUPTED_SENDS: [FaultCase; 1] = [FaultCase { call: "sendto", errnos: &["EINTR"], outcome: Outcome::Served }];

/// A stream without room: epoll reports when there is room again.
const BLOCKED_SENDS: [FaultCase; 1] = [FaultCase { call: "sendto", errnos: &["EAGAIN"], outcome: Outcome::Served }];

const SHUTDOWN_CASES: [FaultCase; 1] =
    [FaultCase { call: "shutdown", errnos: &["ENOTCONN"], outcome: Outcome::Served }];

const CLOSES: [FaultCase; 1] = [FaultCase { call: "close", errnos: &["EINTR", "EIO"], outcome: Outcome::Served }];

#[test]
#[ignore = "needs strace"]
fn a_failed_send_ends_only_its_client() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    assert_fault_cases(&mut server, &FAILED_SENDS, RequestTiming::OnConnect, &FAULT_PATTERNS);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn an_interrupted_send_or_one_without_room_is_repeated() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    assert_fault_cases(&mut server, &INTERRUPTED_SENDS, RequestTiming::OnConnect, &["1", "1..3", "1+3", "1..40"]);
    // A connection already registered with epoll would wait for an edge, which only a full send buffer causes.
    assert_fault_cases(&mut server, &BLOCKED_SENDS, RequestTiming::WhilePaused, &["1", "1..3"]);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn a_failed_shutdown_still_delivers_the_reply_and_eof() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    assert_fault_cases(&mut server, &SHUTDOWN_CASES, RequestTiming::OnConnect, &FAULT_PATTERNS);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn a_close_that_reports_an_error_loses_no_reply() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    assert_fault_cases(&mut server, &CLOSES, RequestTiming::OnConnect, &FAULT_PATTERNS);
    server.assert_exits_on_sigterm();
}

/// On Linux the descriptor is free even if `close` fails (close(2)). A second `close` could hit a new connection.
#[test]
#[ignore = "needs strace"]
fn a_descriptor_whose_close_fails_is_not_closed_twice() {
    for errno in ["EINTR", "EIO"] {
        let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
        let fault = FaultInjection::start(&server, "close", errno, "1+");
        for _ in 0..5 {
            assert_eq!(request(server.tcp()), GREETING, "{errno}");
        }
        fault.wait_injected(5);
        let calls = fault.end();
        let mut descriptors: Vec<&str> = injected(&calls).filter_map(|call| call.split(')').next()).collect();
        assert_eq!(descriptors.len(), 5, "{errno}: {calls:?}");
        // strace suppresses the call, so no descriptor becomes free for another client.
        descriptors.sort_unstable();
        descriptors.dedup();
        assert_eq!(descriptors.len(), 5, "{errno}: one was closed twice: {calls:?}");
    }
}
