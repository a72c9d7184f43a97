//! Sending to streams, ending and closing them: what fails there is that client's loss, or nobody's.

use crate::clients::{GREETING, ask};
use crate::injection::{Injection, injected, is_possible};
use crate::rows::{Manner, ONCE_THRICE_AND_EVERY_THIRD, Outcome, Row, assert_rows};
use crate::support::Server;

pub(crate) const SEND_ERRORS: [&str; 8] =
    ["EPIPE", "ECONNRESET", "ENOBUFS", "ENOMEM", "EHOSTUNREACH", "ETIMEDOUT", "ENETDOWN", "EPERM"];

const FAILED_SENDS: [Row; 1] = [Row { call: "sendto", errnos: &SEND_ERRORS, outcome: Outcome::Ended }];

const INTERRUPTED_SENDS: [Row; 1] = [Row { call: "sendto", errnos: &["EINTR"], outcome: Outcome::Served }];

/// A stream that takes nothing now takes it a moment later: its being watched tells when.
const BLOCKED_SENDS: [Row; 1] = [Row { call: "sendto", errnos: &["EAGAIN"], outcome: Outcome::Served }];

const ENDINGS: [Row; 1] = [Row { call: "shutdown", errnos: &["ENOTCONN"], outcome: Outcome::Served }];

const CLOSES: [Row; 1] = [Row { call: "close", errnos: &["EINTR", "EIO"], outcome: Outcome::Served }];

#[test]
fn a_client_that_cannot_be_sent_to_ends_alone() {
    if is_possible() {
        let mut server = Server::start(&["--tcp", "127.0.0.1:0"]);
        assert_rows(&mut server, &FAILED_SENDS, Manner::AskAtOnce, &ONCE_THRICE_AND_EVERY_THIRD);
        server.assert_stops();
    }
}

#[test]
fn a_send_that_is_interrupted_or_has_no_room_is_made_again() {
    if is_possible() {
        let mut server = Server::start(&["--tcp", "127.0.0.1:0"]);
        assert_rows(&mut server, &INTERRUPTED_SENDS, Manner::AskAtOnce, &["1", "1..3", "1+3", "1..40"]);
        // Whoever is watched by now would wait for an edge that only a kernel tells which means it.
        assert_rows(&mut server, &BLOCKED_SENDS, Manner::AskBefore, &["1", "1..3"]);
        server.assert_stops();
    }
}

#[test]
fn a_stream_whose_end_cannot_be_told_still_brings_its_reply_and_ends() {
    if is_possible() {
        let mut server = Server::start(&["--tcp", "127.0.0.1:0"]);
        assert_rows(&mut server, &ENDINGS, Manner::AskAtOnce, &ONCE_THRICE_AND_EVERY_THIRD);
        server.assert_stops();
    }
}

#[test]
fn a_close_that_reports_an_error_costs_no_reply() {
    if is_possible() {
        let mut server = Server::start(&["--tcp", "127.0.0.1:0"]);
        assert_rows(&mut server, &CLOSES, Manner::AskAtOnce, &ONCE_THRICE_AND_EVERY_THIRD);
        server.assert_stops();
    }
}

/// On Linux the descriptor is free whatever close says: closing it again could hit somebody else's.
#[test]
fn a_descriptor_whose_close_fails_is_not_closed_again() {
    if !is_possible() {
        return;
    }
    for errno in ["EINTR", "EIO"] {
        let server = Server::start(&["--tcp", "127.0.0.1:0"]);
        let fault = Injection::into(&server, "close", errno, "1+");
        for _ in 0..5 {
            assert_eq!(ask(server.tcp()), GREETING, "{errno}");
        }
        fault.wait_met(5);
        let calls = fault.end();
        let mut descriptors: Vec<&str> = injected(&calls).filter_map(|call| call.split(')').next()).collect();
        assert_eq!(descriptors.len(), 5, "{errno}: {calls:?}");
        // The tool keeps the call from being made, so none of them comes free for another client.
        descriptors.sort_unstable();
        descriptors.dedup();
        assert_eq!(descriptors.len(), 5, "{errno}: one was closed twice: {calls:?}");
    }
}
