//! Thousands of clients at once: all are served, and an idle one costs next to nothing.

use std::io::{BufRead, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::clients::{GREETING, QUESTION, ask, connect, many_silent, rest, say};
use crate::support::{Printed, Server, not_run, raise_descriptor_limit, wait_until};

/// Names the server to the helper processes that are the crowd.
const CROWD: &str = "GREETING_CROWD";

const HELPER: &str = "crowds::a_helper_process_is_the_crowd_it_is_told_to_be";

/// Clients in one helper process.
const CLIENTS_PER_HELPER: usize = 2_500;

/// What a process needs besides its clients.
const DESCRIPTORS_BESIDES: u64 = 100;

/// Clients in processes of their own, each with a descriptor limit of its own.
struct Crowd(Vec<Helper>);

struct Helper {
    child: Child,
    input: ChildStdin,
    errors: Printed,
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Helper {
    fn start(server: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a test has a path"))
            .args([HELPER, "--exact", "--nocapture"])
            .env(CROWD, server.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a test can be started again");
        let input = child.stdin.take().expect("it is piped");
        let errors = Printed::of(child.stderr.take());
        Self { child, input, errors }
    }
}

impl Crowd {
    fn new(server: SocketAddr, helpers: usize) -> Self {
        Self((0..helpers).map(|_| Helper::start(server)).collect())
    }

    /// Has every helper do something, and waits until all say that they have.
    #[track_caller]
    fn have(&mut self, order: &str, done: &str) {
        for helper in &mut self.0 {
            writeln!(helper.input, "{order}").expect("the helper reads");
        }
        for helper in &self.0 {
            helper.errors.wait_for_line(done);
        }
    }
}

/// No promise of its own: the process that [`Crowd`] starts, and nothing where nobody told it whom to visit.
#[test]
fn a_helper_process_is_the_crowd_it_is_told_to_be() {
    let Ok(server) = std::env::var(CROWD) else {
        return;
    };
    let server: SocketAddr = server.parse().expect("an address");
    raise_descriptor_limit();
    let mut clients: Vec<TcpStream> = Vec::new();
    for order in std::io::stdin().lock().lines() {
        let order = order.expect("a line");
        if order == "ask" {
            for client in &clients {
                say(client, QUESTION);
            }
            let greeted = clients.iter().filter(|client| rest(client) == GREETING).count();
            let _ = writeln!(std::io::stderr(), "greeted {greeted}");
        } else {
            let wanted: usize = order.parse().expect("ask, or how many clients to be");
            clients.resize_with(wanted, || connect(server));
            let _ = writeln!(std::io::stderr(), "connected {wanted}");
        }
    }
}

/// Whether a server may have so many clients here.
fn has_descriptors_for(clients: u64) -> bool {
    let limit = raise_descriptor_limit();
    let enough = limit >= clients + DESCRIPTORS_BESIDES;
    if !enough {
        assert!(std::env::var_os("CI").is_none(), "{limit} descriptors are too few: raise the hard limit");
        not_run(&format!("with {limit} descriptors, too few for {clients} clients"));
    }
    enough
}

#[test]
fn ten_thousand_clients_at_once_cost_200_bytes_each_and_all_are_greeted() {
    if !has_descriptors_for(10_000) {
        return;
    }
    let server = Server::start(&["--tcp", "127.0.0.1:0", "--events", "off"]);
    let before = server.descriptors();
    let mut crowd = Crowd::new(server.tcp(), 10_000 / CLIENTS_PER_HELPER);

    crowd.have("250", "connected 250");
    wait_until("1,000 connections", || server.descriptors() == before + 1_000);
    let few = server.resident_bytes();
    crowd.have("2500", "connected 2500");
    wait_until("10,000 connections", || server.descriptors() == before + 10_000);
    let many = server.resident_bytes();
    let each = many.saturating_sub(few) / 9_000;
    assert!(each <= 200, "an idle connection costs {each} bytes ({few} at 1,000, {many} at 10,000)");

    crowd.have("ask", "greeted 2500");
    wait_until("the descriptors to come back", || server.descriptors() == before);
}

#[test]
fn beside_500_silent_clients_another_is_answered_within_a_tenth_of_a_second() {
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let silent = many_silent(500, server.tcp());
    wait_until("the connections", || server.descriptors() > silent.len());
    let best = (0..20).map(|_| {
        let asked = Instant::now();
        assert_eq!(ask(server.tcp()), GREETING);
        asked.elapsed()
    });
    let best = best.min().expect("it was asked");
    assert!(best < Duration::from_millis(100), "the fastest of 20 answers took {best:?}");
    // They still have their turn.
    for client in silent {
        say(&client, b"at last");
        assert_eq!(rest(&client), GREETING);
    }
}
