//! A start with 4 to 16 file descriptors.
//!
//! The server serves, or reports the cause in one line.

use support::network::streams::GREETING;
use support::network::udp::UDP_GREETING;
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;
use crate::streams::fallible_clients::{read_until_closed, request_udp, send_request};

/// The exit status of a process with too few descriptors to load its libraries.
const NOT_LOADED: i32 = 127;

#[test]
fn with_4_to_16_descriptors_it_serves_or_prints_the_reason_in_one_line() {
    let (mut started, mut refused) = (0, 0);
    for arguments in [["--tcp", "127.0.0.1:0"], ["--udp", "127.0.0.1:0"], ["--listen", "127.0.0.1:0"]] {
        for limit in 4..=16 {
            let mut server = Server::spawn(HALLOO.command_with_fd_limits(limit, limit, &arguments));
            wait_until("the READY line or the exit", || server.is_ready() || !server.is_running());
            if server.is_ready() {
                started += 1;
                assert_replies(&server, arguments[0], limit);
                server.assert_exits_on_sigterm();
            } else {
                let status = server.wait();
                refused += usize::from(status != NOT_LOADED);
                assert_reports_error(&server, status, &format!("{arguments:?} with {limit}"));
            }
        }
    }
    assert!(started > 0 && refused > 0, "{started} served, {refused} refused");
}

#[track_caller]
fn assert_replies(server: &Server, flag: &str, limit: u64) {
    if flag != "--udp" {
        let clients: Vec<_> = (0..20).map(|_| send_request(server.tcp())).collect();
        for client in &clients {
            assert_eq!(read_until_closed(client), GREETING, "{flag} with {limit}");
        }
    }
    if flag != "--tcp" {
        assert_eq!(request_udp(server.udp()), UDP_GREETING, "{flag} with {limit}");
    }
    assert!(server.log_lines().len() <= 2, "{flag} with {limit}: {:#?}", server.log_lines());
}

#[track_caller]
fn assert_reports_error(server: &Server, status: i32, case: &str) {
    wait_until("the end of the pipes", || server.stderr.is_closed());
    let lines = server.stderr.lines();
    if status != NOT_LOADED {
        assert!(matches!(status, 1 | 3), "{case}: exit status {status}");
        assert_eq!(lines.len(), 1, "{case}: {lines:#?}");
        assert!(lines[0].starts_with("halloo: ") && lines[0].contains("too many open files"), "{case}: {}", lines[0]);
    }
}
