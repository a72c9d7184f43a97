//! The system calls of a greeting, compared with `docs/life-of-a-byte.md`.

use support::network::streams::{GREETING, read_until_closed};
use support::network::tcp::send_request;
use support::process::strace::FaultInjection;
use support::wait::wait_until;

use crate::HALLOO;

const PAGE: &str = include_str!("../../../../docs/life-of-a-byte.md");

/// The name of a call, and its flags, which are in capitals.
fn name_and_flags(call: &str) -> (String, Vec<String>) {
    let (name, arguments) = call.split_once('(').expect("a call has arguments");
    let arguments = arguments.rsplit_once(" = ").map_or(arguments, |(arguments, _)| arguments);
    let is_flag =
        |word: &&str| word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || "_0123456789".contains(c));
    let words = arguments.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    (name.to_owned(), words.filter(is_flag).map(ToOwned::to_owned).collect())
}

#[test]
#[ignore = "needs strace"]
fn a_greeting_makes_the_system_calls_that_the_life_of_a_byte_shows() {
    let block = PAGE.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of calls");
    let shown: Vec<_> = block.lines().map(name_and_flags).collect();
    assert!(shown.len() > 5, "{block}");

    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--events", "off"]);
    let trace = FaultInjection::trace(&server, "epoll_wait,epoll_ctl,accept4,recvfrom,sendto,shutdown,close");
    server.pause();
    let client = send_request(server.tcp());
    server.resume();
    assert_eq!(read_until_closed(&client), GREETING.as_bytes());
    wait_until("the end of the backlog", || trace.calls().iter().any(|call| call.contains("EAGAIN")));
    let calls = trace.end();
    let made: Vec<_> = calls.iter().map(|call| name_and_flags(call)).collect();
    assert!(made.windows(shown.len()).any(|window| window == shown), "{calls:#?}");
    server.assert_exits_on_sigterm();
}
