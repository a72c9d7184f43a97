//! `chat` with netcat.

use crate::support::{Process, has_tools};

/// Lines said at once: as many as fit an outbox, so that whoever reads hears all of them.
const LINES_AT_ONCE: usize = 50;

/// More than the kernel keeps for a connection that nobody reads.
const ROUNDS: usize = 300;

fn enter(at: std::net::SocketAddr, name: &str) -> Process {
    let mut client = Process::netcat(at);
    client.say(&format!("{name}\n"));
    client.wait_to_print("* here are:");
    client
}

#[test]
fn everybody_hears_everybody_by_name() {
    if has_tools(&["nc"]) {
        let (_server, at) = Process::serve(env!("CARGO_BIN_EXE_chat"), &["127.0.0.1:0"]);
        let mut ann = enter(at, "ann");
        let mut bob = enter(at, "bob");
        ann.wait_to_print("* bob has come\n");
        assert!(bob.text().ends_with("* here are: ann\n"), "{}", bob.text());
        ann.say("hello, bob\n");
        bob.say("hello, \x1b[31mann\r\n");
        bob.wait_to_print("ann: hello, bob\n");
        ann.wait_to_print("bob: hello, [31mann\n");

        let mut other = Process::netcat(at);
        other.say("ann\n");
        other.wait_to_print("* not that one; your name?\n");
        drop(bob);
        ann.wait_to_print("* bob has gone\n");
        assert!(!ann.text().contains("ann:"), "nobody hears themselves: {}", ann.text());
    }
}

#[test]
fn who_reads_slowly_misses_lines_and_holds_up_nobody() {
    if has_tools(&["nc"]) {
        let (_server, at) = Process::serve(env!("CARGO_BIN_EXE_chat"), &["127.0.0.1:0"]);
        let (mut talker, listener, slow) = (enter(at, "talker"), enter(at, "listener"), enter(at, "slow"));
        slow.signal("STOP");
        for round in 0..ROUNDS {
            let line = format!("{round}{}\n", "x".repeat(1000));
            talker.say(&line.repeat(LINES_AT_ONCE));
            talker.say(&format!("end of round {round}\n"));
            listener.wait_to_end_with(&format!("end of round {round}\n"));
        }
        let heard = listener.text();
        assert_eq!(heard.matches("xx\n").count(), ROUNDS * LINES_AT_ONCE);
        assert!(!heard.contains("too slow"), "who reads misses nothing");
        slow.signal("CONT");
        slow.wait_to_print("* you were too slow and have missed some lines\n");
        talker.say("are you back?\n");
        slow.wait_to_print("talker: are you back?\n");
    }
}
