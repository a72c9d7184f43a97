//! The loop in other loops, with netcat.

use crate::support::{Process, has_tools};

#[test]
fn in_calloop_clients_are_served_between_the_ticks_of_its_own_clock() {
    if has_tools(&["nc"]) {
        let (_server, at) = Process::serve(env!("CARGO_BIN_EXE_in_calloop"), &["127.0.0.1:0"]);
        let mut clients: Vec<Process> = (0..3).map(|_| Process::netcat(at)).collect();
        for client in &mut clients {
            client.say("hello\n");
            client.wait_to_print("hello\n");
        }
        for client in &mut clients {
            client.wait_to_print("tick ");
            client.say("still there\n");
            client.wait_to_print("still there\n");
        }
        // Much work at once is taken in turns, and all of it is done.
        let text = "0123456789".repeat(100_000);
        clients[0].say(&text);
        clients[0].say("the end\n");
        clients[0].wait_to_print("the end\n");
    }
}

#[test]
fn in_a_poll_standard_input_goes_to_everybody_between_echoes_and_its_end_is_the_end() {
    if has_tools(&["nc"]) {
        let (mut server, at) = Process::serve(env!("CARGO_BIN_EXE_in_your_own_poll"), &["127.0.0.1:0"]);
        let (mut ann, mut bob) = (Process::netcat(at), Process::netcat(at));
        for client in [&mut ann, &mut bob] {
            client.say("hello\n");
            client.wait_to_print("hello\n");
        }
        server.say("one for all\n");
        for client in [&mut ann, &mut bob] {
            client.wait_to_print("hello\none for all\n");
            client.say("again\n");
            client.wait_to_print("again\n");
        }
        server.say("the last");
        server.hush();
        assert!(server.wait());
        ann.wait_to_print("again\nthe last");
        assert_eq!(ann.text(), "hello\none for all\nagain\nthe last");
        for client in [&mut ann, &mut bob] {
            client.hush();
            assert!(client.wait(), "its stream has ended, too");
        }
    }
}
