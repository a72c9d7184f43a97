//! Errors that last: pauses with backoff, and service afterwards.
//!
//! The log has one line for the beginning and one for the end.

use std::net::{TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use support::network::streams::{GREETING, REQUEST};
use support::network::tcp::connect;
use support::network::udp::{UDP_GREETING, send_udp_request, try_recv};
use support::process::server::Server;
use support::process::strace::{FaultInjection, injected};
use support::wait::{repeat_for, wait_until};

use crate::streams::accept_errors::{EXHAUSTION, TRANSIENT_ERRORS};
use crate::streams::fallible_clients::{read_until_closed, recv, request, request_udp, send_request, try_send};
use crate::udp::udp_errors::RECEIVE_ERRORS;
use crate::{HALLOO, RESPONSE_TIME_MAX};

/// Long enough for several pauses, the last of them more than half a second long.
const FAULT_TIME: Duration = Duration::from_millis(1_400);

/// A busy loop makes many more calls.
const TRIES_PER_SECOND_MAX: usize = 500;

/// A pause lasts 1 s at most; the rest is a margin for a busy machine.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(3);

const CPU_TIME_MAX: Duration = Duration::from_millis(400);

const WAITING_CLIENTS: usize = 5;

/// Runs all errnos at the same time, each on its own server.
fn run_concurrently(errnos: &[&'static str], run: fn(&str)) {
    thread::scope(|scope| {
        for errno in errnos {
            let name = thread::current().name().unwrap_or_default().to_owned();
            let thread = thread::Builder::new().name(format!("{name} {errno}"));
            thread.spawn_scoped(scope, || run(errno)).expect("a thread");
        }
    });
}

/// Fails unless there were few tries, little load, and a log line at the start and at the end.
#[track_caller]
fn assert_low_load_and_short_log(
    server: &Server,
    errno: &str,
    calls: &[String],
    elapsed: Duration,
    first_line: &str,
    last_line: &str,
) {
    let tries = injected(calls).count();
    assert!(tries >= 2, "{errno}: the call was tried {tries} times");
    let max = TRIES_PER_SECOND_MAX * usize::try_from(elapsed.as_millis()).expect("a short time") / 1000;
    assert!(tries < max, "{errno}: {tries} tries in {elapsed:?}");
    assert!(server.cpu_time() < CPU_TIME_MAX, "{errno}: the server used {:?} of processor time", server.cpu_time());
    let log = server.log_lines();
    assert_eq!(log.len(), 2, "{errno}: {log:#?}");
    assert!(log[0].contains(first_line) && log[1].contains(last_line), "{errno}: {log:#?}");
    let logged_count = log[1].split("after ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned);
    assert_eq!(logged_count, Some(tries.to_string()), "{errno}: the count in the log: {log:#?}");
}

fn assert_a_lasting_error_of_accept_only_delays(errno: &str) {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let descriptors = server.fd_count();
    let earlier = connect(server.tcp());
    assert_eq!(request(server.tcp()), GREETING);
    let fault = FaultInjection::start(&server, "accept4", errno, "1+");
    let fault_start = Instant::now();
    let clients: Vec<TcpStream> = (0..WAITING_CLIENTS).map(|_| send_request(server.tcp())).collect();
    repeat_for(FAULT_TIME / 2, || assert_eq!(request_udp(server.udp()), UDP_GREETING, "{errno}"));
    // An open connection is served meanwhile.
    try_send(&earlier, REQUEST);
    let start = Instant::now();
    assert_eq!(read_until_closed(&earlier), GREETING, "{errno}");
    assert!(start.elapsed() < RESPONSE_TIME_MAX, "{errno}: an open connection waited {:?}", start.elapsed());
    repeat_for(FAULT_TIME / 2, || assert_eq!(request_udp(server.udp()), UDP_GREETING, "{errno}"));
    let elapsed = fault_start.elapsed();
    let calls = fault.end();
    let recovery_start = Instant::now();
    // No new client connects: the end of the pause is enough.
    for client in &clients {
        assert_eq!(read_until_closed(client), GREETING, "{errno}");
    }
    assert!(
        recovery_start.elapsed() < RECOVERY_TIMEOUT,
        "{errno}: the clients waited {:?} more",
        recovery_start.elapsed()
    );
    wait_until("the second line", || server.log_lines().len() >= 2);
    assert_low_load_and_short_log(
        &server,
        errno,
        &calls,
        elapsed,
        "cannot accept, clients wait in the backlog",
        "accepts again, after",
    );
    assert_eq!(request(server.tcp()), GREETING, "{errno}");
    wait_until("the descriptors to be closed", || server.fd_count() == descriptors);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn while_a_resource_is_exhausted_the_listener_pauses_and_then_serves_all_waiting_clients() {
    run_concurrently(&EXHAUSTION, assert_a_lasting_error_of_accept_only_delays);
}

#[test]
#[ignore = "needs strace"]
fn a_lasting_accept_error_pauses_the_listener_instead_of_spinning() {
    run_concurrently(&TRANSIENT_ERRORS, assert_a_lasting_error_of_accept_only_delays);
}

fn assert_a_lasting_error_of_a_receive_only_delays(errno: &str) {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let fault = FaultInjection::start(&server, "recvmmsg", errno, "1+");
    let fault_start = Instant::now();
    let clients: Vec<UdpSocket> = (0..WAITING_CLIENTS).map(|_| send_udp_request(server.udp())).collect();
    repeat_for(FAULT_TIME, || {
        let start = Instant::now();
        assert_eq!(request(server.tcp()), GREETING, "{errno}");
        assert!(start.elapsed() < 4 * RESPONSE_TIME_MAX, "{errno}: a TCP client waited {:?}", start.elapsed());
    });
    assert!(clients.iter().all(|client| try_recv(client).is_none()), "{errno}: a reply before the errors ended");
    let elapsed = fault_start.elapsed();
    let calls = fault.end();
    let recovery_start = Instant::now();
    for client in &clients {
        assert_eq!(recv(client), UDP_GREETING, "{errno}");
    }
    assert!(
        recovery_start.elapsed() < RECOVERY_TIMEOUT,
        "{errno}: the clients waited {:?} more",
        recovery_start.elapsed()
    );
    wait_until("the second line", || server.log_lines().len() >= 2);
    assert_low_load_and_short_log(
        &server,
        errno,
        &calls,
        elapsed,
        "cannot receive, datagrams wait",
        "receives again, after",
    );
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn a_lasting_receive_error_pauses_the_socket_and_loses_no_datagram() {
    run_concurrently(&RECEIVE_ERRORS, assert_a_lasting_error_of_a_receive_only_delays);
}

/// For example 50 clients at the limit `max_user_watches` (`epoll_ctl(2)`).
#[test]
#[ignore = "needs strace"]
fn while_epoll_rejects_clients_the_log_stays_short_and_clients_with_requests_are_served() {
    let mut server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let descriptors = server.fd_count();
    let fault = FaultInjection::start(&server, "epoll_ctl", "ENOSPC", "1+");
    let start = Instant::now();
    for _ in 0..50 {
        assert_eq!(read_until_closed(&connect(server.tcp())), "");
    }
    server.pause();
    let clients: Vec<TcpStream> = (0..WAITING_CLIENTS).map(|_| send_request(server.tcp())).collect();
    server.resume();
    for client in &clients {
        assert_eq!(read_until_closed(client), GREETING);
    }
    assert_eq!(request_udp(server.udp()), UDP_GREETING);
    assert_eq!(injected(&fault.end()).count(), 50);
    // The thread that prints starts with the first line.
    wait_until("a line", || !server.log_lines().is_empty());
    let seconds = usize::try_from(start.elapsed().as_secs()).expect("a short time") + 1;
    let log = server.log_lines();
    assert!(log.len() <= seconds, "{} lines in {seconds} s, such as {:?}", log.len(), log.last());
    wait_until("the descriptors to be closed", || server.fd_count() == descriptors);
    assert_eq!(request(server.tcp()), GREETING);
    server.assert_exits_on_sigterm();
}
