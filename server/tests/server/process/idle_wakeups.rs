//! An idle server: no wake-up, no system call, no further thread.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::network::streams::{GREETING, read_until_closed};
use support::network::tcp::{connect_many, half_close, request, reset};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, request_udp};
use support::process::child::Process;
use support::process::server::Server;
use support::wait::{assert_holds_for, wait_for_stable, wait_until};

use crate::HALLOO;

/// Longer than the period of any useful timer.
const IDLE: Duration = Duration::from_secs(5);

const STABLE_TIME: Duration = Duration::from_millis(500);

/// A server after traffic of every kind, with open connections, whose deadlines must not wake it.
fn start_with_clients() -> (Server, Vec<TcpStream>) {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    for _ in 0..5 {
        assert_eq!(request(server.tcp()), GREETING);
        assert_eq!(request_udp(server.udp(), UDP_REQUEST), UDP_GREETING);
    }
    connect_many(3, server.tcp()).into_iter().for_each(reset);
    let clients = connect_many(20, server.tcp());
    wait_until("a line for each", || server.event_lines().len() == 10);
    (server, clients)
}

#[track_caller]
fn assert_still_serves(server: &Server, clients: &[TcpStream]) {
    assert_eq!(request(server.tcp()), GREETING);
    for client in clients {
        half_close(client);
        assert_eq!(read_until_closed(client), GREETING.as_bytes());
    }
}

#[test]
fn an_idle_server_never_wakes() {
    let (server, clients) = start_with_clients();
    let baseline = wait_for_stable("no wake-up", STABLE_TIME, || server.voluntary_context_switches());
    assert_holds_for(IDLE, "no thread wakes", || server.voluntary_context_switches() == baseline);
    assert_still_serves(&server, &clients);
}

#[test]
#[ignore = "needs strace"]
fn an_idle_server_makes_no_system_call_and_never_wakes() {
    let (server, clients) = start_with_clients();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trace = folder.path().join("trace");
    let call_count = || fs::read_to_string(&trace).map_or(0, |text| text.lines().count());
    let mut command = Command::new("strace");
    command.args(["-f", "-p", &server.pid().to_string(), "-o"]).arg(&trace).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut strace = Process::spawn(command);
    let is_attached = || attached_threads(&strace) == server.thread_count();
    wait_until("strace to attach", || is_attached() || strace.stderr.is_closed());
    assert!(is_attached(), "may this user trace? {}", strace.stderr.text());
    // The attachment interrupts the call of each thread; then they sleep again.
    wait_until("a call of each thread", || call_count() >= server.thread_count());
    let measure = || (call_count(), server.voluntary_context_switches());
    let baseline = wait_for_stable("no call and no wake-up", STABLE_TIME, measure);
    assert_holds_for(IDLE, "no system call, and no thread wakes", || measure() == baseline);
    assert!(strace.is_running(), "strace ended early: {}", strace.stderr.text());
    drop(strace);
    assert_still_serves(&server, &clients);
}

/// `Process 12 attached with 3 threads`, or one `Process 12 attached` for each.
fn attached_threads(strace: &Process) -> usize {
    let lines = strace.stderr.lines();
    let with = lines.iter().find_map(|line| line.split_once(" attached with ")?.1.split(' ').next()?.parse().ok());
    with.unwrap_or_else(|| lines.iter().filter(|line| line.ends_with(" attached")).count())
}

#[test]
fn one_worker_and_its_signals_use_no_further_thread_until_a_line_is_printed() {
    let assert_threads = |server: &Server, expected: &[&str]| {
        let expected: BTreeSet<String> = expected.iter().copied().map(str::to_owned).collect();
        wait_until("the names of the threads", || {
            server.thread_names().into_iter().map(|(_, name)| name).collect::<BTreeSet<String>>() == expected
        });
        assert_eq!(server.thread_count(), expected.len());
    };
    for quiet in [&["--events", "off"][..], &["--events", "off", "-q"], &[]] {
        let mut server = HALLOO.start(&[&["--listen", "127.0.0.1:0", "--workers", "1"], quiet].concat());
        assert_threads(&server, &["halloo"]);
        for _ in 0..30 {
            assert_eq!(request(server.tcp()), GREETING);
        }
        let printing: &[&str] = if quiet.is_empty() { &["halloo", "stdout"] } else { &["halloo"] };
        assert_threads(&server, printing);
        // The report has no level.
        server.signal("USR1");
        server.stderr.wait_for_line(" turns=");
        assert_threads(&server, &[printing, &["stderr"]].concat());
        server.assert_exits_on_sigterm();
    }
}
