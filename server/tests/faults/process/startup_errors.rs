//! Failing system calls at the start.
//!
//! A failed start is one line and an exit status.

use support::network::ports::unused_port;
use support::network::streams::GREETING;
use support::network::tcp::request;
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;

/// The calls that open the sockets and the loop, and an error of each.
const STARTUP_FAULTS: [(&str, &str); 12] = [
    ("epoll_create1", "EMFILE"),
    ("eventfd2", "ENFILE"),
    ("socket", "EMFILE"),
    ("socket", "EACCES"),
    ("bind", "EACCES"),
    ("bind", "EADDRINUSE"),
    ("bind", "EADDRNOTAVAIL"),
    ("listen", "EADDRINUSE"),
    ("setsockopt", "ENOPROTOOPT"),
    ("getsockname", "ENOBUFS"),
    ("epoll_ctl", "ENOSPC"),
    ("socketpair", "EMFILE"),
];

#[test]
#[ignore = "needs strace"]
fn a_failed_start_prints_one_line_and_sets_the_exit_status() {
    let cases = [["--workers", "1"], ["--workers", "3"], ["--admin", "127.0.0.1:0"]];
    for ((call, errno), arguments) in STARTUP_FAULTS.into_iter().flat_map(|fault| cases.map(|case| (fault, case))) {
        let fault = format!("inject={call}:error={errno}:when=1+");
        let wrapper = ["strace", "-f", "-o", "/dev/null", "-e", &fault];
        let arguments = [&["--listen", "0.0.0.0:0"], &arguments[..]].concat();
        let mut server = Server::spawn(HALLOO.command_under(&wrapper, &arguments));
        let status = server.wait();
        wait_until("the end of the pipes", || server.stderr.is_closed() && server.stdout.is_closed());
        assert!(matches!(status, 1 | 3), "{call} {errno}: exit status {status}: {}", server.stderr.text());
        assert!(!server.is_ready(), "{call} {errno}: {}", server.stdout.text());
        let lines = server.stderr.lines();
        assert_eq!(lines.len(), 1, "{call} {errno}: {lines:#?}");
        assert!(lines[0].starts_with("halloo: cannot "), "{call} {errno}: {}", lines[0]);
    }
}

/// After a second thread, each system call that can be cancelled costs the C library more.
#[test]
#[ignore = "needs strace"]
fn a_server_that_prints_no_line_after_ready_never_starts_a_thread() {
    let calls = tempfile::NamedTempFile::new().expect("a temporary file");
    let calls = calls.path().to_str().expect("a plain path");
    let wrapper = ["strace", "-D", "-f", "-o", calls, "-e", "trace=clone,clone3,listen"];
    let mut server = Server::start(HALLOO.command_under(&wrapper, &["--listen", "127.0.0.1:0", "--events", "off"]));
    assert_eq!(request(server.tcp()), GREETING);
    let calls = std::fs::read_to_string(calls).expect("strace has written it");
    assert!(calls.contains("listen(") && !calls.contains("clone"), "{calls}");
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn without_a_thread_for_the_output_clients_are_served_and_a_failed_start_names_its_cause() {
    let wrapper = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=clone,clone3:error=EAGAIN"];
    let mut server = Server::start(HALLOO.command_under(&wrapper, &["--listen", "127.0.0.1:0"]));
    for _ in 0..30 {
        assert_eq!(request(server.tcp()), GREETING);
    }
    let address = server.tcp().to_string();
    let mut second = Server::spawn(HALLOO.command_under(&wrapper, &["--tcp", &address]));
    assert_eq!(second.wait(), 3);
    wait_until("the end of the pipe", || second.stderr.is_closed());
    let lines = second.stderr.lines();
    assert!(lines.len() == 1 && lines[0].contains("address already in use"), "{lines:#?}");
    assert_eq!(server.event_lines(), [""; 0]);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs strace"]
fn a_thread_for_the_output_that_does_not_start_is_started_by_the_next_line() {
    let wrapper = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=clone,clone3:error=EAGAIN:when=1"];
    let mut server = Server::start(HALLOO.command_under(&wrapper, &["--listen", "127.0.0.1:0"]));
    for _ in 0..2 {
        assert_eq!(request(server.tcp()), GREETING);
    }
    wait_until("both lines", || server.event_lines().len() == 2);
    server.assert_exits_on_sigterm();
}

/// strace delays each bind by 100 ms, so that the other servers bind in between. With `-D` the server itself is the
/// child of the test, and ends with it.
#[test]
#[ignore = "needs strace"]
fn of_servers_whose_binds_interleave_exactly_one_serves() {
    let wrapper = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=bind:delay_enter=100000"];
    for flag in ["--tcp", "--udp"] {
        for workers in [["2", "2"], ["2", "1"]] {
            let address = format!("127.0.0.1:{}", unused_port());
            let start =
                |workers: &&str| Server::spawn(HALLOO.command_under(&wrapper, &[flag, &address, "--workers", workers]));
            let mut servers: Vec<Server> = workers.iter().cycle().take(6).map(start).collect();
            wait_until("the READY line or the end of each", || {
                servers.iter_mut().all(|server| server.is_ready() || !server.is_running())
            });
            let (serving, refused): (Vec<_>, Vec<_>) = servers.iter_mut().partition(|server| server.is_ready());
            assert_eq!(serving.len(), 1, "{flag} {workers:?}");
            for server in refused {
                assert_eq!(server.wait(), 3, "{flag} {workers:?}");
                server.stderr.wait_for_line("address already in use");
            }
        }
    }
}

/// Two servers that call `listen` on one port at the same time refuse each other.
#[test]
#[ignore = "needs strace"]
fn a_listener_that_meets_another_starting_server_retries() {
    for workers in ["1", "2"] {
        let wrapper = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=listen:error=EADDRINUSE:when=1..3"];
        let address = format!("127.0.0.1:{}", unused_port());
        let server = Server::start(HALLOO.command_under(&wrapper, &["--tcp", &address, "--workers", workers]));
        assert_eq!(request(server.tcp()), GREETING, "{workers} workers");
    }
}
