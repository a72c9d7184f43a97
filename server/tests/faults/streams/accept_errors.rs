//! Errors of `accept4`, `epoll_ctl`, `epoll_wait` and `getsockname`.
//!
//! An error costs at most the one client that it is about.

use crate::HALLOO;
use crate::run_fault_cases::{FAULT_PATTERNS, FaultCase, Outcome, RequestTiming, assert_fault_cases};

/// After these errors the client is still in the backlog when `accept` is called again.
pub(crate) const TRANSIENT_ERRORS: [&str; 10] = [
    "EINTR",
    "ECONNABORTED",
    "EPROTO",
    "EPERM",
    "ENETDOWN",
    "EHOSTUNREACH",
    "EOPNOTSUPP",
    "ENOPROTOOPT",
    "ENONET",
    "ETIMEDOUT",
];

pub(crate) const EXHAUSTION: [&str; 4] = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"];

const ACCEPTING: [FaultCase; 2] = [
    FaultCase { call: "accept4", errnos: &TRANSIENT_ERRORS, outcome: Outcome::Served },
    FaultCase { call: "accept4", errnos: &EXHAUSTION, outcome: Outcome::Served },
];

/// Only a client whose request has not arrived yet is registered with epoll.
const EPOLL_CTL_CASES: [FaultCase; 1] =
    [FaultCase { call: "epoll_ctl", errnos: &["ENOMEM", "ENOSPC"], outcome: Outcome::Ended }];

const EPOLL_WAIT_CASES: [FaultCase; 1] =
    [FaultCase { call: "epoll_wait", errnos: &["EINTR"], outcome: Outcome::Served }];

/// Called only for a listener on a wildcard address.
const LOCAL_ADDRESS: [FaultCase; 1] =
    [FaultCase { call: "getsockname", errnos: &["ENOBUFS", "ENOTCONN", "EINVAL"], outcome: Outcome::Served }];

#[test]
#[ignore = "needs strace"]
fn a_client_is_served_at_once_after_any_accept_error() {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    assert_fault_cases(&mut server, &ACCEPTING, RequestTiming::OnConnect, &FAULT_PATTERNS);
    // So many in a row that the listener pauses twice.
    assert_fault_cases(&mut server, &ACCEPTING[..1], RequestTiming::OnConnect, &["1..40"]);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn a_client_that_epoll_rejects_is_closed_alone_and_leaves_no_descriptor() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    assert_fault_cases(&mut server, &EPOLL_CTL_CASES, RequestTiming::AfterFault, &FAULT_PATTERNS);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn an_interrupted_poll_is_repeated() {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    // All errors occur before strace detaches: a poll in which it detaches would fail for good.
    assert_fault_cases(&mut server, &EPOLL_WAIT_CASES, RequestTiming::OnConnect, &["1", "1..3", "1..50"]);
    assert_fault_cases(&mut server, &EPOLL_WAIT_CASES, RequestTiming::AfterFault, &["1", "1..3", "1..50"]);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn a_client_is_greeted_although_getsockname_fails() {
    let mut server = HALLOO.start(&["--tcp", "0.0.0.0:0"]);
    assert_fault_cases(&mut server, &LOCAL_ADDRESS, RequestTiming::OnConnect, &FAULT_PATTERNS);
    server.assert_exits_on_sigterm();
}
