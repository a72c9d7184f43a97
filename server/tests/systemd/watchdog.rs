//! WATCHDOG=1 twice in each period of `WATCHDOG_USEC`.
//!
//! Without `WATCHDOG_USEC` the server never wakes.

use std::time::{Duration, Instant};

use support::network::streams::{GREETING, read_to_end};
use support::network::tcp::request;
use support::process::server::Server;
use support::wait::{TIMEOUT, assert_holds_for};

use crate::activated_server::{Activation, connect_accepted, idle_context_switches};
use crate::notify_socket::NotifySocket;

const HALF: Duration = Duration::from_millis(150);
const PERIOD: &str = "300000";

/// Longer than the period of any timer here.
const IDLE: Duration = Duration::from_millis(1500);

#[track_caller]
fn start(supervisor: Option<&NotifySocket>, arguments: &[&str], variables: &[(&str, &str)]) -> Server {
    let mut variables = variables.to_vec();
    if let Some(supervisor) = supervisor {
        variables.push(("NOTIFY_SOCKET", &supervisor.path));
    }
    let server = Activation { arguments, env: &variables, sockets: &[] }.start();
    if let Some(supervisor) = supervisor {
        assert_eq!(supervisor.recv(), "READY=1");
    }
    server
}

/// Receives six messages, and checks the interval between them.
#[track_caller]
fn assert_ping_interval(supervisor: &NotifySocket) {
    let words = 6;
    assert_eq!(supervisor.recv(), "WATCHDOG=1");
    let start = Instant::now();
    for _ in 0..words {
        assert_eq!(supervisor.recv(), "WATCHDOG=1");
    }
    let elapsed = start.elapsed();
    // If the first message was late, the next seems early. A busy machine makes all of them late.
    assert!(elapsed > HALF * (words - 2) && elapsed < HALF * words * 4, "{words} messages took {elapsed:?}");
}

#[test]
fn the_watchdog_is_notified_twice_in_each_period_idle_busy_or_draining() {
    let supervisor = NotifySocket::new();
    let arguments = ["--tcp", "127.0.0.1:0", "--drain-timeout", "300s"];
    let mut server = start(Some(&supervisor), &arguments, &[("WATCHDOG_USEC", PERIOD)]);
    let (address, descriptors) = (server.tcp(), server.fd_targets().len());
    assert_ping_interval(&supervisor);

    let (mut words, start) = (0, Instant::now());
    while words < 4 && start.elapsed() < TIMEOUT {
        assert_eq!(request(address), GREETING);
        words += usize::from(supervisor.recv_within(Duration::from_millis(1)).is_some());
    }
    assert_eq!(words, 4, "no message under load");

    let silent = connect_accepted(&server, address, descriptors);
    server.signal("TERM");
    supervisor.wait_for_stopping();
    assert_ping_interval(&supervisor);
    silent.shutdown(std::net::Shutdown::Write).expect("it is connected");
    assert_eq!(read_to_end(&silent), GREETING);
    assert_eq!(server.wait(), 0);
}

#[test]
fn the_watchdog_does_not_delay_the_idle_exit() {
    let supervisor = NotifySocket::new();
    let arguments = ["--tcp", "127.0.0.1:0", "--exit-when-idle", "700ms"];
    let started = Instant::now();
    let mut server = start(Some(&supervisor), &arguments, &[("WATCHDOG_USEC", PERIOD)]);
    assert_eq!(supervisor.recv(), "WATCHDOG=1");
    supervisor.wait_for_stopping();
    assert_eq!(server.wait(), 0);
    assert!(started.elapsed() >= Duration::from_millis(700));
}

#[test]
fn without_a_watchdog_no_message_is_sent_and_the_server_never_wakes_up() {
    let supervisor = NotifySocket::new();
    let not_asked: [&[(&str, &str)]; 5] = [
        &[],
        &[("WATCHDOG_USEC", "0")],
        &[("WATCHDOG_USEC", "often")],
        &[("WATCHDOG_USEC", "")],
        &[("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "1")],
    ];
    let arguments = ["--listen", "127.0.0.1:0"];
    let mut servers =
        not_asked.map(|variables| start(Some(&supervisor), &arguments, variables)).into_iter().collect::<Vec<_>>();
    servers[2].stderr.wait_for_line("cannot ping the watchdog: WATCHDOG_USEC=often: ");
    for (index, server) in servers.iter().enumerate() {
        assert_eq!(server.stderr.count_lines_with("WATCHDOG"), usize::from(index == 2), "{:?}", not_asked[index]);
    }
    // A period without a supervisor.
    servers.push(start(None, &arguments, &[("WATCHDOG_USEC", "20000")]));
    servers.push(start(None, &arguments, &[("WATCHDOG_USEC", "20000"), ("NOTIFY_SOCKET", "")]));
    let baseline: Vec<u64> = servers.iter().map(|server| idle_context_switches(server)).collect();
    assert_holds_for(IDLE, "no worker wakes", || {
        servers.iter().map(|server| server.voluntary_context_switches()).eq(baseline.iter().copied())
    });
    assert_eq!(supervisor.recv_within(Duration::from_millis(1)), None);
}
