//! Failing system calls at the start.
//!
//! A failed start is one line and an exit status.

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
fn a_start_that_fails_is_one_line_and_an_exit_status() {
    for ((call, errno), workers) in STARTUP_FAULTS.into_iter().flat_map(|fault| [(fault, "1"), (fault, "3")]) {
        let fault = format!("inject={call}:error={errno}:when=1+");
        let wrapper = ["strace", "-f", "-o", "/dev/null", "-e", &fault];
        let mut server =
            Server::spawn(HALLOO.command_under(&wrapper, &["--listen", "0.0.0.0:0", "--workers", workers]));
        let status = server.wait();
        wait_until("the end of the pipes", || server.stderr.is_closed() && server.stdout.is_closed());
        assert!(matches!(status, 1 | 3), "{call} {errno}: exit status {status}: {}", server.stderr.text());
        assert!(!server.is_ready(), "{call} {errno}: {}", server.stdout.text());
        let lines = server.stderr.lines();
        assert_eq!(lines.len(), 1, "{call} {errno}: {lines:#?}");
        assert!(lines[0].starts_with("halloo: cannot "), "{call} {errno}: {}", lines[0]);
    }
}
