//! More clients than file descriptors.
//!
//! Every client is served in the end, and the processor stays idle meanwhile.

use std::time::Duration;

use support::network::streams::{GREETING, read_to_end, read_until_closed};
use support::network::tcp::{connect_many, request, send_requests};
use support::network::udp::{UDP_GREETING, request_udp};
use support::process::child::run;
use support::process::server::{Server, assert_fails};
use support::wait::{assert_holds_for, wait_for};

use crate::HALLOO;

/// A busy loop would use far more.
const CPU_TIME_MAX: Duration = Duration::from_millis(500);

const LOG_LINES_MAX: usize = 8;

/// By default the limit on connections is below that on descriptors. With this, `accept` fails with `EMFILE`.
const EXCESSIVE_MAX_CONNECTIONS: [&str; 2] = ["--max-connections", "1000"];

/// The limit on connections, and the limit on descriptors.
const ARGUMENT_SETS: [&[&str]; 2] = [&[], &EXCESSIVE_MAX_CONNECTIONS];

fn start_with_20_descriptors(arguments: &[&str]) -> Server {
    let listening = ["--listen", "127.0.0.1:0"];
    Server::start(HALLOO.command_with_fd_limits(20, 20, &[&listening, arguments].concat()))
}

#[track_caller]
fn assert_low_load_and_short_log(server: &Server) {
    let used = server.cpu_time();
    assert!(used < CPU_TIME_MAX, "the server used {used:?} of processor time");
    let log = server.stderr.lines();
    assert!(log.len() <= LOG_LINES_MAX, "the log has {} lines:\n{}", log.len(), log.join("\n"));
}

#[test]
fn with_20_descriptors_40_clients_that_have_sent_a_request_are_all_served() {
    for arguments in ARGUMENT_SETS {
        let mut server = start_with_20_descriptors(arguments);
        for _ in 0..5 {
            server.pause();
            let clients = send_requests(40, server.tcp());
            server.resume();
            for client in &clients {
                assert_eq!(read_to_end(client), GREETING, "{arguments:?}");
            }
        }
        assert_low_load_and_short_log(&server);
        assert_eq!(request_udp(server.udp(), b""), UDP_GREETING);
        server.assert_exits_on_sigterm();
    }
}

#[test]
fn with_20_descriptors_silent_clients_only_delay_the_others_until_they_time_out() {
    for arguments in ARGUMENT_SETS {
        let mut server = start_with_20_descriptors(&[&["--idle-timeout", "200ms"], arguments].concat());
        server.pause();
        let mut silent = Vec::new();
        let mut requesting = Vec::new();
        for _ in 0..20 {
            silent.append(&mut connect_many(1, server.tcp()));
            requesting.append(&mut send_requests(1, server.tcp()));
        }
        server.resume();
        for client in &requesting {
            assert_eq!(read_to_end(client), GREETING, "{arguments:?}");
        }
        for client in &silent {
            assert_eq!(read_until_closed(client), b"", "{arguments:?}");
        }
        assert_low_load_and_short_log(&server);
        // Afterwards a new client is served as usual.
        assert_eq!(request(server.tcp()), GREETING);
        server.assert_exits_on_sigterm();
    }
}

#[test]
fn with_all_20_descriptors_in_use_the_server_sleeps_and_then_continues() {
    for arguments in ARGUMENT_SETS {
        let mut server = start_with_20_descriptors(arguments);
        let silent = connect_many(40, server.tcp());
        let requesting = send_requests(10, server.tcp());
        let before = server.cpu_time();
        assert_holds_for(Duration::from_millis(1200), "UDP is served", || {
            request_udp(server.udp(), b"still there?") == UDP_GREETING
        });
        let used = server.cpu_time_since(before);
        assert!(
            used < CPU_TIME_MAX / 2,
            "{arguments:?}: the server used {used:?} of processor time without a descriptor"
        );
        drop(silent);
        for client in &requesting {
            assert_eq!(read_to_end(client), GREETING, "{arguments:?}");
        }
        assert_low_load_and_short_log(&server);
        server.assert_exits_on_sigterm();
    }
}

#[test]
fn a_full_descriptor_table_is_logged_once_when_it_begins_and_once_when_it_ends() {
    let server = start_with_20_descriptors(&EXCESSIVE_MAX_CONNECTIONS);
    let silent = connect_many(40, server.tcp());
    server.stderr.wait_for_line("cannot accept, clients wait in the backlog");
    let lines =
        || server.stderr.count_lines_with(" clients wait in the backlog") + server.stderr.count_lines_with("again");
    assert_holds_for(Duration::from_millis(300), "no further log line", || lines() == 1);
    drop(silent);
    server.stderr.wait_for_line("accepts again, after ");
    assert_eq!(lines(), 2, "{}", server.stderr.text());
}

#[test]
fn a_soft_limit_is_raised_to_the_hard_one() {
    let server = Server::start(HALLOO.command_with_fd_limits(30, 300, &["--listen", "127.0.0.1:0"]));
    let silent = connect_many(150, server.tcp());
    assert_eq!(request(server.tcp()), GREETING);
    assert_eq!(server.stderr.text(), "");
    drop(silent);
}

#[test]
fn with_very_few_descriptors_it_serves_or_prints_the_reason() {
    let (mut started, mut refused) = (0, 0);
    let cases = (3..20).map(|limit| (limit, "1")).chain((10..30).map(|limit| (limit, "3")));
    for (limit, workers) in cases {
        let arguments = ["--listen", "127.0.0.1:0", "--workers", workers];
        let mut server = Server::spawn(HALLOO.command_with_fd_limits(limit, limit, &arguments));
        let begins = wait_for("the READY line or the exit", || {
            let begins = !server.stdout.lines().is_empty();
            (begins || !server.is_running()).then_some(begins)
        });
        if begins {
            started += 1;
            for client in send_requests(10, server.tcp()) {
                assert_eq!(read_to_end(&client), GREETING, "{limit}");
            }
            server.assert_exits_on_sigterm();
        } else if server.wait() != 127 {
            // Status 127: too few descriptors to load the program.
            refused += 1;
            let line = server.stderr.wait_for_line("too many open files");
            assert!(line.starts_with("halloo: ") && line.ends_with("raise the limit with ulimit -n"), "{line}");
            assert_eq!(server.stderr.lines().len(), 1, "{limit}: {}", server.stderr.text());
            assert!(matches!(server.wait(), 1 | 3), "{limit}");
        }
    }
    assert!(started > 0 && refused > 0, "{started} served, {refused} refused");
}

#[test]
fn max_connections_beyond_the_descriptor_limit_is_a_warning_with_both_numbers() {
    let start = |connections: &str| {
        let arguments = ["--tcp", "127.0.0.1:0", "--max-connections", connections];
        Server::start(HALLOO.command_with_fd_limits(100, 100, &arguments))
    };
    let server = start("100");
    let line = server.stderr.wait_for_line("--max-connections 100 cannot be reached");
    assert!(line.contains(" WARN ") && line.contains("the limit on descriptors is 100"), "{line}");
    assert_eq!(request(server.tcp()), GREETING);
    assert_eq!(server.log_lines().len(), 1);
    let server = start("99");
    assert_eq!(request(server.tcp()), GREETING);
    assert_eq!(server.stderr.text(), "");
}

#[test]
fn a_worker_without_descriptors_is_reported_with_the_limit() {
    let output = run(HALLOO.command_with_fd_limits(64, 64, &["--tcp", "127.0.0.1:0", "--workers", "300"]));
    assert!(matches!(output.status, 1 | 3), "{output:?}");
    assert_fails(&output, output.status, &["worker ", "too many open files, the limit is 64", "ulimit -n"]);
    // The cause is in the line once, without its number.
    assert_eq!(output.stderr.to_lowercase().matches("too many open files").count(), 1, "{output:?}");
    assert!(!output.stderr.contains("os error"), "{output:?}");
}
