//! Fault cases as data, and the assertions that run them.
//!
//! Every case checks descriptors, processor time and log lines afterwards.

use std::time::Duration;

use support::measurement::fastest_of;
use support::network::streams::{GREETING, REQUEST};
use support::network::tcp::connect;
use support::network::udp::UDP_GREETING;
use support::process::server::Server;
use support::process::strace::{FaultInjection, injected};
use support::wait::wait_until;

use crate::RESPONSE_TIME_MAX;
use crate::streams::fallible_clients::{read_until_closed, request, request_udp, send_request, try_send};

/// What happens to a client when a call for it fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The client gets its reply.
    Served,
    /// Its connection ends without a reply.
    Ended,
}

/// A system call, the errors to inject into it, and the outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultCase {
    pub(crate) call: &'static str,
    pub(crate) errnos: &'static [&'static str],
    pub(crate) outcome: Outcome,
}

/// When the clients of a case send their request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RequestTiming {
    /// Directly after the connect.
    OnConnect,
    /// After the first injected error.
    AfterFault,
    /// While the server is stopped, so that the first read finds the request.
    WhilePaused,
    /// The same with 20,000 bytes, so that the server still reads after its greeting.
    LargeWhilePaused,
}

/// `when` of strace: once, three times in a row, and every third time.
pub(crate) const FAULT_PATTERNS: [&str; 3] = ["1", "1..3", "1+3"];

/// Each pattern above leaves some of these clients without a fault.
const CLIENTS: usize = 6;

/// More than a case needs, and far less than a busy loop uses.
const CPU_TIME_MAX: Duration = Duration::from_millis(400);

/// One line when the errors begin and one when they end.
const LOG_LINES_MAX: usize = 2;

/// The descriptors, processor time and log lines of a server before a fault.
pub(crate) struct Baseline {
    descriptors: usize,
    cpu_time: Duration,
    log_lines: usize,
}

impl Baseline {
    pub(crate) fn of(server: &Server) -> Self {
        Self { descriptors: server.fd_count(), cpu_time: server.cpu_time(), log_lines: server.log_lines().len() }
    }

    /// Fails unless other clients are served at once and nothing is lost.
    ///
    /// `unclosed` is the number of descriptors that the injected error left open.
    #[track_caller]
    pub(crate) fn assert_unharmed(&self, server: &mut Server, fault: &str, unclosed: usize) {
        assert!(server.is_running(), "{fault}: the server exited: {}", server.stderr.text());
        assert_serves(server, fault);
        self.assert_nothing_lost(server, fault, unclosed);
    }

    /// Fails unless the descriptors are closed, the load is low and the log short.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self, server: &mut Server, fault: &str, unclosed: usize) {
        assert!(server.is_running(), "{fault}: the server exited: {}", server.stderr.text());
        let expected = self.descriptors + unclosed;
        wait_until(&format!("{fault}: the descriptors to be closed"), || server.fd_count() == expected);
        let cpu_time = server.cpu_time().saturating_sub(self.cpu_time);
        assert!(cpu_time < CPU_TIME_MAX, "{fault}: the server used {cpu_time:?} of processor time");
        let log = &server.log_lines()[self.log_lines..];
        assert!(log.len() <= LOG_LINES_MAX, "{fault}: {} lines of log:\n{}", log.len(), log.join("\n"));
    }
}

/// Fails unless a new client is served in time, over each protocol in the READY line.
#[track_caller]
pub(crate) fn assert_serves(server: &Server, fault: &str) {
    let ready = server.stdout.lines().swap_remove(0);
    if ready.contains("tcp=") {
        let stderr = || server.stderr.text();
        let elapsed =
            fastest_of(3, || assert_eq!(request(server.tcp()), GREETING, "{fault}: another client; {}", stderr()));
        assert!(elapsed < RESPONSE_TIME_MAX, "{fault}: another client was served after {elapsed:?}");
    }
    if ready.contains("udp=") {
        let elapsed =
            fastest_of(3, || assert_eq!(request_udp(server.udp()), UDP_GREETING, "{fault}: another datagram"));
        assert!(elapsed < RESPONSE_TIME_MAX, "{fault}: another datagram was answered after {elapsed:?}");
    }
}

/// Injects every error of `cases` in every pattern, with clients of that timing.
#[track_caller]
pub(crate) fn assert_fault_cases(server: &mut Server, cases: &[FaultCase], timing: RequestTiming, patterns: &[&str]) {
    let mut count = 0;
    for case in cases {
        for errno in case.errnos {
            for when in patterns {
                assert_fault_case(server, case, errno, timing, when);
                count += 1;
            }
        }
    }
    assert!(count > 0, "no case was run");
}

#[track_caller]
fn assert_fault_case(server: &mut Server, case: &FaultCase, errno: &str, timing: RequestTiming, when: &str) {
    let before = Baseline::of(server);
    let fault = FaultInjection::start(server, case.call, errno, when);
    let name = format!("{} {timing:?}", fault.name());
    let received = run_clients(server, &fault, timing);
    let calls = fault.end();
    let injected_count = injected(&calls).count();
    assert!(injected_count > 0, "{name}: the error was never injected:\n{}", calls.join("\n"));
    let (greeted, closed) = (count(&received, GREETING), count(&received, ""));
    assert_eq!(greeted + closed, CLIENTS, "{name}: {received:?}");
    match case.outcome {
        Outcome::Served => assert_eq!(closed, 0, "{name}: {received:?}"),
        // Each error ends one connection: the one of the failed call.
        Outcome::Ended => assert_eq!(closed, injected_count, "{name}: {received:?}\n{}", calls.join("\n")),
    }
    let unclosed = if case.call == "close" { injected_count } else { 0 };
    before.assert_unharmed(server, &name, unclosed);
}

fn count(received: &[String], text: &str) -> usize {
    received.iter().filter(|one| *one == text).count()
}

/// What each client of a case receives.
#[track_caller]
fn run_clients(server: &Server, fault: &FaultInjection, timing: RequestTiming) -> Vec<String> {
    match timing {
        RequestTiming::OnConnect => (0..CLIENTS).map(|_| read_until_closed(&send_request(server.tcp()))).collect(),
        RequestTiming::AfterFault => {
            let clients: Vec<_> = (0..CLIENTS).map(|_| connect(server.tcp())).collect();
            fault.wait_injected(1);
            let exchange = |client| {
                try_send(client, REQUEST);
                read_until_closed(client)
            };
            clients.iter().map(exchange).collect()
        }
        RequestTiming::WhilePaused | RequestTiming::LargeWhilePaused => {
            let large_request = vec![b'x'; 20_000];
            let question = if timing == RequestTiming::LargeWhilePaused { &large_request } else { REQUEST };
            server.pause();
            let clients: Vec<_> = (0..CLIENTS).map(|_| connect(server.tcp())).collect();
            for client in &clients {
                try_send(client, question);
            }
            server.resume();
            let received = clients.iter().map(read_until_closed).collect();
            // Only their EOFs are left to read.
            drop(clients);
            fault.wait_injected(1);
            received
        }
    }
}
