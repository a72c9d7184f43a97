//! The end of the process under faults: it is a good one, and in time.

use std::time::{Duration, Instant};

use crate::clients::{connect, whatever_comes};
use crate::injection::{Injection, injected, is_possible};
use crate::support::{Server, signal, wait_until};

/// The drain timeout, and the last lines.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// A client cut at the end of a drain is reset, for which an option is set: where that fails it is closed all the same.
#[test]
fn a_socket_that_refuses_an_option_at_the_end_is_closed_all_the_same() {
    if !is_possible() {
        return;
    }
    for errno in ["EINVAL", "ENOPROTOOPT", "ENOMEM"] {
        let mut server = Server::start(&["--tcp", "127.0.0.1:0", "--drain-timeout", "100ms"]);
        let before = server.descriptors();
        let clients = [connect(server.tcp()), connect(server.tcp())];
        wait_until("the connections", || server.descriptors() == before + clients.len());
        let fault = Injection::into(&server, "setsockopt", errno, "1+");
        signal(server.pid(), "TERM");
        for client in &clients {
            assert_eq!(whatever_comes(client), "", "{errno}");
        }
        assert_eq!(server.wait(), 0, "{errno}: {}", server.errors.text());
        assert_eq!(injected(&fault.end()).count(), clients.len(), "{errno}");
    }
}

#[test]
fn a_drain_ends_in_time_while_every_call_that_it_makes_fails() {
    if !is_possible() {
        return;
    }
    for (call, errno) in
        [("accept4", "EMFILE"), ("recvmmsg", "ENOMEM"), ("epoll_wait", "EINTR"), ("shutdown", "ENOTCONN")]
    {
        let mut server = Server::start(&["--listen", "127.0.0.1:0", "--mode", "line", "--drain-timeout", "300ms"]);
        let silent = connect(server.tcp());
        let fault = Injection::into(&server, call, errno, "1+");
        let asked = Instant::now();
        signal(server.pid(), "TERM");
        assert_eq!(server.wait(), 0, "{call} {errno}: {}", server.errors.text());
        assert!(asked.elapsed() < ENDS_WITHIN, "{call} {errno}: it took {:?}", asked.elapsed());
        assert_eq!(whatever_comes(&silent), "", "{call} {errno}");
        assert!(injected(&fault.end()).count() > 0, "{call} {errno}: it was never met");
    }
}
