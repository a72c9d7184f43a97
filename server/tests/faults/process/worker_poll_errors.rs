//! A worker whose poll fails.
//!
//! The other workers drain, and the error names the worker.

use std::net::TcpStream;

use support::network::streams::GREETING;
use support::network::tcp::connect;
use support::process::server::Server;
use support::process::strace::FaultInjection;
use support::wait::{wait_for, wait_until};

use crate::HALLOO;
use crate::streams::fallible_clients::{read_until_closed, request, try_send};

/// The thread id of a worker.
#[track_caller]
fn thread_of(number: u32, server: &Server) -> u32 {
    if number == 1 {
        return server.pid();
    }
    let name = format!("worker-{number}");
    let id_of = |(id, other): (u32, String)| (other == name).then_some(id);
    wait_for("the thread", || server.thread_names().into_iter().find_map(id_of))
}

#[test]
#[ignore = "needs strace"]
fn a_worker_whose_poll_fails_is_named_and_drains_the_others() {
    for number in [1, 3] {
        let arguments = ["--workers", "4", "--tcp", "127.0.0.1:0", "--drain-timeout", "60s"];
        let mut server = HALLOO.start(&arguments);
        let before = server.fd_count();
        let clients: Vec<TcpStream> = (0..60).map(|_| connect(server.tcp())).collect();
        wait_until("the connections", || server.fd_count() == before + clients.len());
        let fault = FaultInjection::start_on_thread(thread_of(number, &server), "epoll_wait", "EBADF", "1+");
        fault.wait_injected(1);
        wait_until("the end to begin", || server.stderr.count_lines_with("stopping all workers") > 0);
        // Clients of the other workers are still answered.
        for client in &clients {
            try_send(client, b"hello");
        }
        let greeted = clients.iter().filter(|client| read_until_closed(client) == GREETING).count();
        assert!((1..60).contains(&greeted), "{greeted} of 60 clients were greeted");
        assert_eq!(server.wait(), 1, "{}", server.stderr.text());
        let expected = format!("halloo: worker {number} of 4 has failed: ");
        assert_eq!(server.stderr.lines().iter().filter(|line| line.starts_with(&expected)).count(), 1);
        assert!(TcpStream::connect(server.tcp()).is_err());
    }
}

#[test]
#[ignore = "needs strace"]
fn a_failed_poll_of_the_only_worker_ends_the_server() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recording = folder.path().join("run.json");
    let recorded = ["--record", recording.to_str().expect("a plain path"), "-q"];
    let mut server = HALLOO.start(&[&["--tcp", "127.0.0.1:0"], &recorded[..]].concat());
    assert_eq!(request(server.tcp()), GREETING);
    let _fault = FaultInjection::start(&server, "epoll_wait", "EBADF", "1+");
    assert_eq!(server.wait(), 1, "{}", server.stderr.text());
    let lines = server.stderr.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("halloo: ") && !lines[0].contains("worker"), "{lines:?}");
    // What led to the error is recorded.
    let recorded = std::fs::read_to_string(&recording).expect("it is written");
    assert!(recorded.contains("\"kind\":\"accept\"") && recorded.ends_with("]}\n"), "{recorded}");
}
