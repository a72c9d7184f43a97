//! Datagrams whose receiving or sending fails: the next one is served, and what is lost is counted.

use std::time::Instant;

use crate::clients::{UDP_GREETING, ask_udp, begin_asking_udp, heard, wait_to_hear};
use crate::injection::{Injection, injected, is_possible};
use crate::rows::{Before, ONCE_THRICE_AND_EVERY_THIRD};
use crate::support::{Server, wait_until};

/// An errno here is often about another datagram, sent earlier: what waits is still there.
pub(crate) const RECEIVE_ERRORS: [&str; 13] = [
    "EINTR",
    "ECONNREFUSED",
    "ECONNRESET",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ENETDOWN",
    "ENOPROTOOPT",
    "EPROTO",
    "EMSGSIZE",
    "EPERM",
    "ENOMEM",
    "ENOBUFS",
    "EIO",
];

const SEND_ERRORS: [&str; 12] = [
    "EAGAIN",
    "ENOBUFS",
    "ENOMEM",
    "EPERM",
    "EACCES",
    "EINVAL",
    "EMSGSIZE",
    "ECONNREFUSED",
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ENETDOWN",
    "EADDRNOTAVAIL",
];

/// A socket bound to one address sends with one call, a socket bound to all with another.
const SOCKETS: [(&str, &str); 2] = [("127.0.0.1:0", "sendto"), ("0.0.0.0:0", "sendmsg")];

const CLIENTS: usize = 6;

#[track_caller]
fn assert_received_all_the_same(server: &mut Server, errno: &str, when: &str) {
    let before = Before::of(server);
    let errors = server.counters()["receive_errors"];
    let fault = Injection::into(server, "recvmsg", errno, when);
    let name = fault.name().to_owned();
    for _ in 0..CLIENTS {
        assert_eq!(ask_udp(server.udp()), UDP_GREETING, "{name}");
    }
    let met = injected(&fault.end()).count();
    assert!(met > 0, "{name}: it was never met");
    assert_eq!(server.counters()["receive_errors"] - errors, met as u64, "{name}");
    before.assert_unharmed(server, &name, 0);
}

#[test]
fn a_receive_that_fails_costs_no_datagram() {
    if !is_possible() {
        return;
    }
    for (address, _) in SOCKETS {
        let mut server = Server::start(&["--udp", address]);
        for errno in RECEIVE_ERRORS {
            // Once, several times, and often enough in a row to pause.
            for when in ["1", "1..3", "1+3", "1..40"] {
                assert_received_all_the_same(&mut server, errno, when);
            }
        }
        server.assert_stops();
    }
}

/// Asks one after the other, and says who was not answered though its answer was tried.
fn unanswered(server: &Server, fault: &Injection) -> usize {
    let client_unanswered = |number| {
        let client = begin_asking_udp(server.udp());
        wait_until(&format!("{}: try {number}", fault.name()), || fault.calls().len() >= number);
        let call = fault.calls().swap_remove(number - 1);
        if call.contains("(INJECTED)") {
            return true;
        }
        assert_eq!(wait_to_hear(&format!("{}: an answer", fault.name()), &client), UDP_GREETING);
        assert_eq!(heard(&client), None, "{}: a second answer", fault.name());
        false
    };
    (1..=CLIENTS).filter(|&number| client_unanswered(number)).count()
}

#[track_caller]
fn assert_lost_alone(server: &mut Server, call: &str, errno: &str, when: &str) -> usize {
    let before = Before::of(server);
    let counters = server.counters();
    let fault = Injection::into(server, call, errno, when);
    let name = fault.name().to_owned();
    let lost = unanswered(server, &fault);
    let met = injected(&fault.end()).count();
    assert!(met > 0, "{name}: it was never met");
    assert_eq!(lost, met, "{name}");
    let now = server.counters();
    assert_eq!(now["datagrams_dropped"] - counters["datagrams_dropped"], met as u64, "{name}");
    assert_eq!(now["datagrams_sent"] - counters["datagrams_sent"], (CLIENTS - met) as u64, "{name}");
    before.assert_unharmed(server, &name, 0);
    met
}

#[test]
fn an_answer_that_cannot_be_sent_is_lost_alone_counted_and_logged_at_most_once_a_second() {
    if !is_possible() {
        return;
    }
    for (address, call) in SOCKETS {
        let mut server = Server::start(&["--udp", address]);
        let (began, mut lost) = (Instant::now(), 0);
        for errno in SEND_ERRORS {
            for when in ONCE_THRICE_AND_EVERY_THIRD {
                lost += assert_lost_alone(&mut server, call, errno, when);
            }
        }
        let lines = server.errors.count("lost a datagram to 127.0.0.1:");
        let seconds = usize::try_from(began.elapsed().as_secs()).expect("a short time") + 1;
        assert!(lines > 0 && lines <= seconds && lines < lost, "{lines} lines in {seconds} s for {lost} lost");
        assert_eq!(server.log().len(), lines, "{:#?}", server.log());
        server.assert_stops();
    }
}

#[test]
fn an_answer_whose_sending_is_interrupted_is_sent_again() {
    if !is_possible() {
        return;
    }
    for (address, call) in SOCKETS {
        let mut server = Server::start(&["--udp", address]);
        for when in ["1", "1..3", "1+3", "1..40"] {
            let before = Before::of(&server);
            let fault = Injection::into(&server, call, "EINTR", when);
            for _ in 0..CLIENTS {
                assert_eq!(ask_udp(server.udp()), UDP_GREETING, "{call} EINTR {when}");
            }
            assert!(injected(&fault.end()).count() > 0, "{call} EINTR {when}");
            before.assert_unharmed(&mut server, &format!("{call} EINTR {when}"), 0);
        }
        assert_eq!(server.counters()["datagrams_dropped"], 0, "{call}");
        server.assert_stops();
    }
}
