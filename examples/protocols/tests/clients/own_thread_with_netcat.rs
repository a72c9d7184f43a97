//! `own_thread` with netcat.

use crate::programs::{start_example, start_netcat};

#[test]
#[ignore = "needs nc"]
fn a_slow_answer_delays_no_other_client_and_each_gets_its_own_in_order() {
    let (mut server, at) = start_example(env!("CARGO_BIN_EXE_own_thread"), &["127.0.0.1:0"]);
    let (mut slow, mut quick) = (start_netcat(at), start_netcat(at));
    slow.write_stdin("10000000\n10\n");
    quick.write_stdin("100\n1000\nnonsense\n300000\n2\n");
    quick.stdout.wait_for_text("25\n168\nsend a number up to 10000000\n25997\n1\n");
    assert_eq!(slow.stdout.text(), "", "the slow answer takes longer than all others together");

    // The answer for a client that has left reaches no other client.
    let mut exited = start_netcat(at);
    exited.write_stdin("10\n300000\n");
    exited.stdout.wait_for_text("4\n");
    drop(exited);
    quick.write_stdin("2\n");
    quick.stdout.wait_for_text("1\n1\n");
    server.write_stdin("\n");
    server.stdout.wait_for_text("accepted=3");
}
