//! `own_thread` with netcat.

use crate::support::{Process, has_tools};

#[test]
fn a_slow_answer_holds_up_nobody_and_each_client_gets_its_own_in_order() {
    if has_tools(&["nc"]) {
        let (mut server, at) = Process::serve(env!("CARGO_BIN_EXE_own_thread"), &["127.0.0.1:0"]);
        let (mut slow, mut quick) = (Process::netcat(at), Process::netcat(at));
        slow.say("10000000\n10\n");
        quick.say("100\n1000\nnonsense\n300000\n2\n");
        quick.wait_to_print("25\n168\na number up to 10000000, please\n25997\n1\n");
        assert_eq!(slow.text(), "", "there is far more to do for that one than for all of these");

        // Who has gone is not waited for, and the answer reaches nobody else.
        let mut gone = Process::netcat(at);
        gone.say("10\n300000\n");
        gone.wait_to_print("4\n");
        drop(gone);
        quick.say("2\n");
        quick.wait_to_print("1\n1\n");
        server.say("\n");
        server.wait_to_print("accepted=3");
    }
}
