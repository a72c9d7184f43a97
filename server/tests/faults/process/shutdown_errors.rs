//! Failing system calls while the server drains.
//!
//! The process exits with status 0, in time.

use std::time::{Duration, Instant};

use support::network::tcp::connect;
use support::process::strace::{FaultInjection, injected};
use support::wait::wait_until;

use crate::HALLOO;
use crate::streams::fallible_clients::read_until_closed;

/// The drain timeout, and a margin for the last lines of output.
const EXIT_TIME_MAX: Duration = Duration::from_secs(2);

/// At the end of a drain a client is reset, by `SO_LINGER`. If setting it fails, the socket is closed without it.
#[test]
#[ignore = "needs strace"]
fn a_socket_that_refuses_the_linger_option_is_still_closed() {
    for errno in ["EINVAL", "ENOPROTOOPT", "ENOMEM"] {
        let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--drain-timeout", "100ms"]);
        let before = server.fd_count();
        let clients = [connect(server.tcp()), connect(server.tcp())];
        wait_until("the connections", || server.fd_count() == before + clients.len());
        let fault = FaultInjection::start(&server, "setsockopt", errno, "1+");
        server.signal("TERM");
        for client in &clients {
            assert_eq!(read_until_closed(client), "", "{errno}");
        }
        assert_eq!(server.wait(), 0, "{errno}: {}", server.stderr.text());
        assert_eq!(injected(&fault.end()).count(), clients.len(), "{errno}");
    }
}

#[test]
#[ignore = "needs strace"]
fn a_drain_ends_in_time_although_every_system_call_fails() {
    for (call, errno) in
        [("accept4", "EMFILE"), ("recvmmsg", "ENOMEM"), ("epoll_wait", "EINTR"), ("shutdown", "ENOTCONN")]
    {
        let mut server = HALLOO.start(&["--listen", "127.0.0.1:0", "--mode", "line", "--drain-timeout", "300ms"]);
        let silent = connect(server.tcp());
        let fault = FaultInjection::start(&server, call, errno, "1+");
        let start = Instant::now();
        server.signal("TERM");
        assert_eq!(server.wait(), 0, "{call} {errno}: {}", server.stderr.text());
        assert!(start.elapsed() < EXIT_TIME_MAX, "{call} {errno}: the exit took {:?}", start.elapsed());
        assert_eq!(read_until_closed(&silent), "", "{call} {errno}");
        assert!(injected(&fault.end()).count() > 0, "{call} {errno}: the error was never injected");
    }
}
