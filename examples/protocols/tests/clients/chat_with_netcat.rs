//! `chat` with netcat.

use support::process::child::Process;

use crate::programs::{start_example, start_netcat};

/// Lines sent at once. They fit an outbox, so a client that reads gets all of them.
const LINES_AT_ONCE: usize = 50;

/// More rounds than fit the kernel's buffers for a client that does not read.
const ROUNDS: usize = 300;

fn enter(at: std::net::SocketAddr, name: &str) -> Process {
    let mut client = start_netcat(at);
    client.write_stdin(&format!("{name}\n"));
    client.stdout.wait_for_text("* here:");
    client
}

#[test]
#[ignore = "needs nc"]
fn each_client_gets_the_lines_of_the_others_with_their_names() {
    let (_server, at) = start_example(env!("CARGO_BIN_EXE_chat"), &["127.0.0.1:0"]);
    let mut ann = enter(at, "ann");
    let mut bob = enter(at, "bob");
    ann.stdout.wait_for_text("* bob joined\n");
    assert!(bob.stdout.text().ends_with("* here: ann\n"), "{}", bob.stdout.text());
    ann.write_stdin("hello, bob\n");
    bob.write_stdin("hello, \x1b[31mann\r\n");
    bob.stdout.wait_for_text("ann: hello, bob\n");
    ann.stdout.wait_for_text("bob: hello, [31mann\n");

    let mut other = start_netcat(at);
    other.write_stdin("ann\n");
    other.stdout.wait_for_text("* empty, too long or in use; your name?\n");
    drop(bob);
    ann.stdout.wait_for_text("* bob left\n");
    assert!(!ann.stdout.text().contains("ann:"), "a client gets no line of its own: {}", ann.stdout.text());
}

#[test]
#[ignore = "needs nc"]
fn a_client_that_reads_slowly_misses_lines_and_delays_no_other() {
    let (_server, at) = start_example(env!("CARGO_BIN_EXE_chat"), &["127.0.0.1:0"]);
    let (mut sender, listener, slow) = (enter(at, "talker"), enter(at, "listener"), enter(at, "slow"));
    slow.signal("STOP");
    for round in 0..ROUNDS {
        let line = format!("{round}{}\n", "x".repeat(1000));
        sender.write_stdin(&line.repeat(LINES_AT_ONCE));
        sender.write_stdin(&format!("end of round {round}\n"));
        listener.stdout.wait_for_end(&format!("end of round {round}\n"));
    }
    let output = listener.stdout.text();
    assert_eq!(output.matches("xx\n").count(), ROUNDS * LINES_AT_ONCE);
    assert!(!output.contains("too slowly"), "the client that reads misses no line");
    slow.signal("CONT");
    slow.stdout.wait_for_text("* you read too slowly and missed some lines\n");
    sender.write_stdin("are you back?\n");
    slow.stdout.wait_for_text("talker: are you back?\n");
}
