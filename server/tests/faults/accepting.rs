//! accept and what belongs to it: the errors of one moment cost nobody anything but the client they were about.

use crate::injection::is_possible;
use crate::rows::{Manner, ONCE_THRICE_AND_EVERY_THIRD, Outcome, Row, assert_rows};
use crate::support::Server;

/// Whoever waits in the backlog is still there when accept is called again.
pub(crate) const PASSING: [&str; 10] = [
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

const ACCEPTING: [Row; 2] = [
    Row { call: "accept4", errnos: &PASSING, outcome: Outcome::Served },
    Row { call: "accept4", errnos: &EXHAUSTION, outcome: Outcome::Served },
];

/// A client that has to be waited for needs the poll.
const WATCHING: [Row; 1] = [Row { call: "epoll_ctl", errnos: &["ENOMEM", "ENOSPC"], outcome: Outcome::Ended }];

const WAITING: [Row; 1] = [Row { call: "epoll_wait", errnos: &["EINTR"], outcome: Outcome::Served }];

/// Asked only on a socket bound to every address.
const LOCAL_ADDRESS: [Row; 1] =
    [Row { call: "getsockname", errnos: &["ENOBUFS", "ENOTCONN", "EINVAL"], outcome: Outcome::Served }];

#[test]
fn a_client_is_served_at_once_whatever_accept_says_first() {
    if is_possible() {
        let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
        assert_rows(&mut server, &ACCEPTING, Manner::AskAtOnce, &ONCE_THRICE_AND_EVERY_THIRD);
        // Often enough in a row to pause, twice.
        assert_rows(&mut server, &ACCEPTING[..1], Manner::AskAtOnce, &["1..40"]);
        server.assert_stops();
    }
}

#[test]
fn a_client_that_cannot_be_watched_is_dropped_alone_and_leaves_no_descriptor() {
    if is_possible() {
        let mut server = Server::start(&["--tcp", "127.0.0.1:0"]);
        assert_rows(&mut server, &WATCHING, Manner::SilentFirst, &ONCE_THRICE_AND_EVERY_THIRD);
        server.assert_stops();
    }
}

#[test]
fn an_interrupted_poll_polls_again() {
    if is_possible() {
        let mut server = Server::start(&["--listen", "127.0.0.1:0"]);
        // All of them are met before the trace ends: a poll in the middle of which it ended would fail for good.
        assert_rows(&mut server, &WAITING, Manner::AskAtOnce, &["1", "1..3", "1..50"]);
        assert_rows(&mut server, &WAITING, Manner::SilentFirst, &["1", "1..3", "1..50"]);
        server.assert_stops();
    }
}

#[test]
fn a_client_whose_local_address_cannot_be_told_is_greeted_all_the_same() {
    if is_possible() {
        let mut server = Server::start(&["--tcp", "0.0.0.0:0"]);
        assert_rows(&mut server, &LOCAL_ADDRESS, Manner::AskAtOnce, &ONCE_THRICE_AND_EVERY_THIRD);
        server.assert_stops();
    }
}
