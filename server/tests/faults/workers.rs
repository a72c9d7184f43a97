//! A worker that fails: never half a server, but an end in order that names it.

use std::fs;
use std::net::TcpStream;

use crate::clients::{ask, connect, try_to_say, whatever_comes};
use crate::injection::{Injection, is_possible};
use crate::support::{Server, wait_for, wait_until};

const GREETING: &str = "Hello, TCP Client!";

/// The thread of a worker.
#[track_caller]
fn thread_of(number: u32, server: &Server) -> u32 {
    if number == 1 {
        return server.pid();
    }
    let name = format!("worker-{number}\n");
    wait_for("the thread", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
        tasks.map(|task| task.expect("an entry").path()).find_map(|path| {
            let is_it = fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm == name);
            path.file_name()?.to_str()?.parse().ok().filter(|_| is_it)
        })
    })
}

#[test]
fn a_worker_whose_poll_fails_ends_the_others_in_order_and_is_named() {
    if !is_possible() {
        return;
    }
    for number in [1, 3] {
        let arguments = ["--workers", "4", "--tcp", "127.0.0.1:0", "--drain-timeout", "60s"];
        let mut server = Server::start(&arguments);
        let before = server.descriptors();
        let clients: Vec<TcpStream> = (0..60).map(|_| connect(server.tcp())).collect();
        wait_until("the connections", || server.descriptors() == before + clients.len());
        let fault = Injection::into_thread(thread_of(number, &server), "epoll_wait", "EBADF", "1+");
        fault.wait_met(1);
        wait_until("the end to begin", || server.errors.count("stopping the others") > 0);
        // The clients of the others still have their answer.
        for client in &clients {
            try_to_say(client, b"hello");
        }
        let greeted = clients.iter().filter(|client| whatever_comes(client) == GREETING).count();
        assert!((1..60).contains(&greeted), "{greeted} of 60 clients were greeted");
        assert_eq!(server.wait(), 1, "{}", server.errors.text());
        let named = format!("halloo: worker {number} of 4 has failed: ");
        assert_eq!(server.errors.lines().iter().filter(|line| line.starts_with(&named)).count(), 1);
        assert!(TcpStream::connect(server.tcp()).is_err());
    }
}

#[test]
fn one_worker_whose_poll_fails_is_the_server() {
    if !is_possible() {
        return;
    }
    let mut server = Server::start(&["--tcp", "127.0.0.1:0"]);
    assert_eq!(ask(server.tcp()), GREETING);
    let _fault = Injection::into(&server, "epoll_wait", "EBADF", "1+");
    assert_eq!(server.wait(), 1, "{}", server.errors.text());
    let lines = server.errors.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("halloo: ") && !lines[0].contains("worker"), "{lines:?}");
}
