//! Errors of `recvmmsg`, `sendmmsg` and `sendto` on UDP sockets.
//!
//! A failed send loses its own datagram alone, and is counted.

use std::time::Instant;

use support::network::udp::{UDP_GREETING, UDP_REQUEST, send_udp_request, try_recv, udp_client};
use support::process::server::Server;
use support::process::strace::{FaultInjection, injected};
use support::wait::wait_until;

use crate::HALLOO;
use crate::run_fault_cases::{Baseline, FAULT_PATTERNS};
use crate::streams::fallible_clients::{recv, request_udp, wait_for_datagram};

/// These errors are often about a datagram sent earlier. The queued datagrams stay in the queue.
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

/// A socket on one address, and one on all addresses, which sets the source address of each reply. Beside each is the
/// call that sends a single reply.
const SOCKETS: [(&str, &str); 2] = [("127.0.0.1:0", "sendto"), ("0.0.0.0:0", "sendmmsg")];

const CLIENTS: usize = 6;

#[track_caller]
fn assert_received_all_the_same(server: &mut Server, errno: &str, when: &str) {
    let before = Baseline::of(server);
    let errors = server.counters()["receive_errors"];
    let fault = FaultInjection::start(server, "recvmmsg", errno, when);
    let name = fault.name().to_owned();
    for _ in 0..CLIENTS {
        assert_eq!(request_udp(server.udp()), UDP_GREETING, "{name}");
    }
    let injected_count = injected(&fault.end()).count();
    assert!(injected_count > 0, "{name}: the error was never injected");
    assert_eq!(server.counters()["receive_errors"] - errors, injected_count as u64, "{name}");
    before.assert_unharmed(server, &name, 0);
}

#[test]
#[ignore = "needs strace"]
fn a_failed_receive_loses_no_datagram() {
    for (address, _) in SOCKETS {
        let mut server = HALLOO.start(&["--udp", address]);
        for errno in RECEIVE_ERRORS {
            // Once, several times, and so often in a row that the socket pauses.
            for when in ["1", "1..3", "1+3", "1..40"] {
                assert_received_all_the_same(&mut server, errno, when);
            }
        }
        server.assert_exits_on_sigterm();
    }
}

/// Sends requests one by one, and counts those whose reply met the injected error.
fn unanswered(server: &Server, fault: &FaultInjection) -> usize {
    let client_unanswered = |number| {
        let client = send_udp_request(server.udp());
        wait_until(&format!("{}: try {number}", fault.name()), || fault.calls().len() >= number);
        let call = fault.calls().swap_remove(number - 1);
        if call.contains("(INJECTED)") {
            return true;
        }
        assert_eq!(wait_for_datagram(&format!("{}: an answer", fault.name()), &client), UDP_GREETING);
        assert_eq!(try_recv(&client), None, "{}: a second answer", fault.name());
        false
    };
    (1..=CLIENTS).filter(|&number| client_unanswered(number)).count()
}

#[track_caller]
fn assert_lost_alone(server: &mut Server, call: &str, errno: &str, when: &str) -> usize {
    let before = Baseline::of(server);
    let counters = server.counters();
    let fault = FaultInjection::start(server, call, errno, when);
    let name = fault.name().to_owned();
    let lost = unanswered(server, &fault);
    let injected_count = injected(&fault.end()).count();
    assert!(injected_count > 0, "{name}: the error was never injected");
    assert_eq!(lost, injected_count, "{name}");
    let now = server.counters();
    assert_eq!(now["datagrams_dropped"] - counters["datagrams_dropped"], injected_count as u64, "{name}");
    assert_eq!(now["datagrams_sent"] - counters["datagrams_sent"], (CLIENTS - injected_count) as u64, "{name}");
    before.assert_unharmed(server, &name, 0);
    injected_count
}

#[test]
#[ignore = "needs strace"]
fn a_reply_that_cannot_be_sent_is_counted_and_logged_at_most_once_a_second() {
    for (address, call) in SOCKETS {
        let mut server = HALLOO.start(&["--udp", address]);
        let (start, mut lost) = (Instant::now(), 0);
        for errno in SEND_ERRORS {
            for when in FAULT_PATTERNS {
                lost += assert_lost_alone(&mut server, call, errno, when);
            }
        }
        let lines = server.stderr.count_lines_with("cannot send datagrams: lost=");
        let seconds = usize::try_from(start.elapsed().as_secs()).expect("a short time") + 1;
        assert!(lines > 0 && lines <= seconds && lines < lost, "{lines} lines in {seconds} s for {lost} lost");
        assert_eq!(server.log_lines().len(), lines, "{:#?}", server.log_lines());
        server.assert_exits_on_sigterm();
    }
}

#[test]
#[ignore = "needs strace"]
fn an_interrupted_reply_is_sent_again() {
    for (address, call) in SOCKETS {
        let mut server = HALLOO.start(&["--udp", address]);
        for when in ["1", "1..3", "1+3", "1..40"] {
            let before = Baseline::of(&server);
            let fault = FaultInjection::start(&server, call, "EINTR", when);
            for _ in 0..CLIENTS {
                assert_eq!(request_udp(server.udp()), UDP_GREETING, "{address} EINTR {when}");
            }
            assert!(injected(&fault.end()).count() > 0, "{address} EINTR {when}");
            before.assert_unharmed(&mut server, &format!("{address} EINTR {when}"), 0);
        }
        assert_eq!(server.counters()["datagrams_dropped"], 0, "{address}");
        server.assert_exits_on_sigterm();
    }
}

/// Requests that the server receives in one batch, so that their replies can be merged (`UDP_SEGMENT`).
const BURST: usize = 8;

fn assert_answers_a_burst(server: &Server, fault: &str) {
    let client = udp_client(server.udp());
    server.pause();
    for _ in 0..BURST {
        client.send(UDP_REQUEST).expect("loopback takes it");
    }
    server.resume();
    for number in 1..=BURST {
        assert_eq!(recv(&client), UDP_GREETING, "{fault}: answer {number}");
    }
    assert_eq!(try_recv(&client), None, "{fault}: an extra answer");
}

/// Waits for `calls` calls, and returns how many messages each successful call sent. A client can receive an answer
/// before the call that sends it returns.
#[track_caller]
fn messages_of(calls: usize, fault: FaultInjection) -> Vec<usize> {
    wait_until(&format!("{}: {calls} calls", fault.name()), || fault.calls().len() >= calls);
    fault.end().iter().filter_map(|call| call.rsplit(" = ").next()?.trim().parse().ok()).collect()
}

#[test]
#[ignore = "needs strace"]
fn replies_that_the_kernel_cannot_segment_are_sent_one_by_one() {
    // A device without segmentation: all later answers are sent one by one too. An MTU too small: only these are.
    let refusals =
        [("EIO", [BURST, BURST]), ("EOPNOTSUPP", [BURST, BURST]), ("EINVAL", [BURST, 1]), ("EMSGSIZE", [BURST, 1])];
    for (address, _) in SOCKETS {
        for (errno, expected) in refusals {
            let mut server = HALLOO.start(&["--udp", address]);
            let fault = FaultInjection::start(&server, "sendmmsg", errno, "1");
            let name = format!("{address} {}", fault.name());
            assert_answers_a_burst(&server, &name);
            assert_answers_a_burst(&server, &name);
            assert_eq!(messages_of(3, fault), expected, "{name}");
            let counters = server.counters();
            assert_eq!((counters["datagrams_sent"], counters["datagrams_dropped"]), (2 * BURST as u64, 0), "{name}");
            assert_eq!(server.log_lines(), Vec::<String>::new(), "{name}");
            server.assert_exits_on_sigterm();
        }
    }
}

#[test]
#[ignore = "needs strace"]
fn an_error_of_a_merged_message_loses_one_reply() {
    for (address, _) in SOCKETS {
        let mut server = HALLOO.start(&["--udp", address]);
        let client = udp_client(server.udp());
        let fault = FaultInjection::start(&server, "sendmmsg", "ENOBUFS", "1");
        server.pause();
        for _ in 0..BURST {
            client.send(UDP_REQUEST).expect("loopback takes it");
        }
        server.resume();
        for number in 2..=BURST {
            assert_eq!(recv(&client), UDP_GREETING, "{address}: answer {number}");
        }
        assert_eq!(messages_of(2, fault), [1], "{address}: the others are still merged");
        let counters = server.counters();
        assert_eq!((counters["datagrams_sent"], counters["datagrams_dropped"]), (BURST as u64 - 1, 1), "{address}");
        server.assert_exits_on_sigterm();
    }
}

#[test]
#[ignore = "needs strace"]
fn without_batches_in_the_kernel_each_datagram_takes_one_call() {
    for (address, _) in SOCKETS {
        for call in ["recvmmsg", "sendmmsg"] {
            let mut server = HALLOO.start(&["--udp", address]);
            let fault = FaultInjection::start(&server, call, "ENOSYS", "1+");
            let name = format!("{address} {}", fault.name());
            assert_answers_a_burst(&server, &name);
            assert_eq!(request_udp(server.udp()), UDP_GREETING, "{name}");
            assert_eq!(fault.end().len(), 1, "{name}: the call is made only once");
            let counters = server.counters();
            let failed = (counters["receive_errors"], counters["datagrams_dropped"]);
            assert_eq!((counters["datagrams_sent"], failed), (BURST as u64 + 1, (0, 0)), "{name}");
            server.assert_exits_on_sigterm();
        }
    }
}
