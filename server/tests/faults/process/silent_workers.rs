//! The admin endpoint beside stuck workers, while starting, and without a poll.
//!
//! strace delays the poll of a worker: it answers nothing meanwhile.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use support::network::http_client::{HttpClient, get};
use support::network::streams::GREETING;
use support::network::tcp::request;
use support::process::server::Server;
use support::process::strace::FaultInjection;
use support::wait::{wait_for, wait_until};

use crate::HALLOO;

/// The thread id of a thread.
#[track_caller]
fn thread_named(name: &str, server: &Server) -> u32 {
    let id_of = |(id, other): (u32, String)| (other == name).then_some(id);
    wait_for("the thread", || server.thread_names().into_iter().find_map(id_of))
}

#[test]
#[ignore = "needs strace"]
fn a_stuck_worker_is_named_and_delays_no_request_of_the_admin_endpoint_for_more_than_100_ms() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "4"]);
    let admin = server.admin();
    let is_up = |up: u8| get(admin, "/metrics").body.contains(&format!("halloo_worker_up{{worker=\"4\"}} {up}\n"));
    assert!(is_up(1));
    let fault =
        FaultInjection::delay_on_thread(thread_named("worker-4", &server), "epoll_wait", Duration::from_secs(3600));
    wait_until("the worker to be silent", || is_up(0));
    let mut client = HttpClient::connect(admin);
    let mut slowest = Duration::ZERO;
    for _ in 0..500 {
        for path in ["/ready", "/connections", "/metrics"] {
            let start = Instant::now();
            let response = client.request(&format!("GET {path}"), "");
            assert_eq!(response.status, 200);
            slowest = slowest.max(start.elapsed());
            if path == "/connections" {
                assert!(response.body.contains("\"silent_workers\":[4]"), "{}", response.body);
            }
        }
    }
    // Only the first request after it got stuck has waited for it; a busy machine may be slower.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    drop(fault);
    wait_until("the worker to answer again", || is_up(1));
    // Of a thousand questions, its mailbox had few.
    let jobs = server.counters_of_worker(4)["jobs"];
    assert!(jobs < 30, "{jobs} jobs");
    assert!(get(admin, "/connections").body.contains("\"silent_workers\":[]"));
}

#[test]
#[ignore = "needs strace"]
fn a_server_that_starts_is_live_and_not_ready() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("admin.sock");
    let address = format!("unix:{}", path.display());
    // Each listen takes 2 s, that of the endpoint first. With -D the server itself is the child of the test, and ends
    // with it.
    let fault = "inject=listen:delay_enter=2000000";
    let wrapper = ["strace", "-D", "-f", "-o", "/dev/null", "-e", fault];
    let server = Server::spawn(HALLOO.command_under(&wrapper, &["--tcp", "127.0.0.1:0", "--admin", &address]));
    let connect = || UnixStream::connect(&path).ok();
    let mut client = HttpClient::new(wait_for("the endpoint to listen", connect));
    let starting = client.request("GET /ready", "");
    assert!(!server.is_ready(), "the start is over: the delay is too short");
    assert_eq!((starting.status, starting.body.as_str()), (503, "starting\n"));
    assert_eq!(client.request("GET /live", "").status, 200);
    let metrics = client.request("GET /metrics", "");
    assert!(metrics.body.contains("halloo_worker_up{worker=\"1\"} 0\n"), "{}", metrics.body);
    wait_until("the READY line", || server.is_ready());
    assert_eq!(client.request("GET /ready", "").status, 200);
}

#[test]
#[ignore = "needs strace"]
fn an_error_of_the_endpoint_ends_the_endpoint_alone() {
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let fault = FaultInjection::start_on_thread(thread_named("admin", &server), "epoll_wait", "EBADF", "1+");
    server.stderr.wait_for_line("the admin endpoint has ended, the server goes on");
    drop(fault);
    wait_until("the end of its listener", || TcpStream::connect(server.admin()).is_err());
    assert_eq!(request(server.tcp()), GREETING);
    server.assert_exits_on_sigterm();
}
