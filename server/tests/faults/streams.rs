//! Reading from streams: an error is the end of the one client whose read it was, and an interruption of nobody.

use crate::injection::is_possible;
use crate::rows::{Manner, ONCE_THRICE_AND_EVERY_THIRD, Outcome, Row, assert_rows};
use crate::support::Server;

pub(crate) const READ_ERRORS: [&str; 8] =
    ["ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENOBUFS", "ENOMEM", "ENOTCONN", "EIO"];

const FAILED_READS: [Row; 1] = [Row { call: "recvfrom", errnos: &READ_ERRORS, outcome: Outcome::Ended }];

const INTERRUPTED_READS: [Row; 1] = [Row { call: "recvfrom", errnos: &["EINTR"], outcome: Outcome::Served }];

/// What a read says that the poll told of too soon.
const EMPTY_READS: [Row; 1] = [Row { call: "recvfrom", errnos: &["EAGAIN"], outcome: Outcome::Served }];

const LATE_READS: [Row; 1] = [Row { call: "recvfrom", errnos: &READ_ERRORS, outcome: Outcome::Served }];

#[test]
fn a_client_whose_first_read_fails_ends_alone() {
    if is_possible() {
        let mut server = Server::start(&["--tcp", "127.0.0.1:0"]);
        assert_rows(&mut server, &FAILED_READS, Manner::AskAtOnce, &ONCE_THRICE_AND_EVERY_THIRD);
        server.assert_stops();
    }
}

#[test]
fn of_clients_that_are_all_connected_only_those_end_whose_read_fails() {
    if is_possible() {
        let mut server = Server::start(&["--tcp", "127.0.0.1:0"]);
        assert_rows(&mut server, &FAILED_READS, Manner::SilentFirst, &ONCE_THRICE_AND_EVERY_THIRD);
        server.assert_stops();
    }
}

#[test]
fn an_interrupted_read_is_read_again_and_an_empty_one_waited_for() {
    if is_possible() {
        let mut server = Server::start(&["--tcp", "127.0.0.1:0"]);
        for manner in [Manner::AskAtOnce, Manner::SilentFirst] {
            assert_rows(&mut server, &INTERRUPTED_READS, manner, &["1", "1..3", "1+3", "1..40"]);
        }
        assert_rows(&mut server, &EMPTY_READS, Manner::AskBefore, &["1", "1..3"]);
        server.assert_stops();
    }
}

#[test]
fn a_read_that_fails_after_the_greeting_takes_nothing_from_the_client() {
    if is_possible() {
        let mut server = Server::start(&["--tcp", "127.0.0.1:0"]);
        // One read for each of the six that brings the question; those behind it are of late input.
        assert_rows(&mut server, &LATE_READS, Manner::TalkMuch, &["7", "7..9", "7+"]);
        server.assert_stops();
    }
}
