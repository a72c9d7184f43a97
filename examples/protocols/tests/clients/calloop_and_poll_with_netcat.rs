//! The loop in other loops, with netcat.

use support::process::child::Process;

use crate::programs::{start_example, start_netcat};

#[test]
#[ignore = "needs nc"]
fn in_calloop_clients_are_served_between_the_ticks_of_a_calloop_timer() {
    let (_server, at) = start_example(env!("CARGO_BIN_EXE_in_calloop"), &["127.0.0.1:0"]);
    let mut clients: Vec<Process> = (0..3).map(|_| start_netcat(at)).collect();
    for client in &mut clients {
        client.write_stdin("hello\n");
        client.stdout.wait_for_text("hello\n");
    }
    for client in &mut clients {
        client.stdout.wait_for_text("tick ");
        client.write_stdin("still there\n");
        client.stdout.wait_for_text("still there\n");
    }
    // 1 MB takes many turns, and all of it is echoed.
    let text = "0123456789".repeat(100_000);
    clients[0].write_stdin(&text);
    clients[0].write_stdin("the end\n");
    clients[0].stdout.wait_for_text("the end\n");
}

#[test]
#[ignore = "needs nc"]
fn in_a_poll_standard_input_goes_to_every_client_and_its_end_ends_the_program() {
    let (mut server, at) = start_example(env!("CARGO_BIN_EXE_in_your_own_poll"), &["127.0.0.1:0"]);
    let (mut ann, mut bob) = (start_netcat(at), start_netcat(at));
    for client in [&mut ann, &mut bob] {
        client.write_stdin("hello\n");
        client.stdout.wait_for_text("hello\n");
    }
    server.write_stdin("one for all\n");
    for client in [&mut ann, &mut bob] {
        client.stdout.wait_for_text("hello\none for all\n");
        client.write_stdin("again\n");
        client.stdout.wait_for_text("again\n");
    }
    server.write_stdin("the last");
    server.close_stdin();
    assert_eq!(server.wait(), 0);
    ann.stdout.wait_for_text("again\nthe last");
    assert_eq!(ann.stdout.text(), "hello\none for all\nagain\nthe last");
    for client in [&mut ann, &mut bob] {
        client.close_stdin();
        assert_eq!(client.wait(), 0, "the client's stream has ended");
    }
}
