//! With nothing to do the process sleeps.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clients::{GREETING, UDP_GREETING, UDP_QUESTION, ask, ask_udp, many_silent, reset, whatever_comes};
use crate::support::{Server, assert_stays, has_tool, not_run, stays, wait_for, wait_until};

/// Longer than any repeated wake-up that would be worth having.
const IDLE: Duration = Duration::from_secs(5);

#[test]
fn an_idle_server_makes_no_system_call_and_never_wakes() {
    if !has_tool("strace") {
        return;
    }
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    // Traffic of every kind, and clients that stay: their deadlines must not wake anybody either.
    for _ in 0..5 {
        assert_eq!(ask(server.tcp()), GREETING);
        assert_eq!(ask_udp(server.udp(), UDP_QUESTION), UDP_GREETING);
    }
    many_silent(3, server.tcp()).into_iter().for_each(reset);
    let clients = many_silent(20, server.tcp());
    wait_until("a line for each", || server.events().len() == 10);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let calls = folder.path().join("calls");
    let calls_made = || fs::read_to_string(&calls).map_or(0, |text| text.lines().count());
    let mut command = Command::new("strace");
    command.args(["-f", "-p", &server.pid().to_string(), "-o"]).arg(&calls).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut tracer = Server::spawn(command);
    let attached = || tracer_attached(&tracer) == server.thread_count();
    wait_until("strace to attach, or to be forbidden", || attached() || tracer_is_forbidden(&tracer));
    let is_traced = attached();
    if is_traced {
        // Being attached interrupts the call each thread is in; then they are back to sleep.
        wait_until("the threads to be seen", || calls_made() >= server.thread_count());
    } else {
        not_run("under strace, which may not attach here; wake-ups alone are counted");
    }
    let seen = || (calls_made(), server.sleeps());
    let settled = wait_for("half a second of rest", || {
        let before = seen();
        stays(Duration::from_millis(500), || seen() == before).then_some(before)
    });
    assert_stays(IDLE, "no system call, and no thread that wakes", || seen() == settled);
    assert!(!is_traced || tracer.is_running(), "strace watched to the end: {}", tracer.errors.text());
    drop(tracer);

    // It was asleep, not deaf.
    assert_eq!(ask(server.tcp()), GREETING);
    for client in &clients {
        crate::clients::half_close(client);
        assert_eq!(whatever_comes(client), GREETING.as_bytes());
    }
}

fn tracer_attached(tracer: &Server) -> usize {
    let lines = tracer.errors.lines();
    // `Process 12 attached with 3 threads`, or one `Process 12 attached` for each.
    let with = lines.iter().find_map(|line| line.split_once(" attached with ")?.1.split(' ').next()?.parse().ok());
    with.unwrap_or_else(|| lines.iter().filter(|line| line.ends_with(" attached")).count())
}

fn tracer_is_forbidden(tracer: &Server) -> bool {
    tracer.errors.text().contains("Operation not permitted")
}
