//! `watch_child` with `cat` as the child and clients of std.

use super::Client;
use crate::programs::start_example;

#[test]
fn every_client_gets_the_lines_of_the_child_and_the_server_ends_with_it() {
    let (mut server, at) = start_example(env!("CARGO_BIN_EXE_watch_child"), &["127.0.0.1:0", "cat", "-u"]);
    let mut clients = [Client::connect(at), Client::connect(at)];
    for client in &mut clients {
        client.send("what a client sends is ignored\n");
        assert_eq!(client.read_line(), "* cat -u\n");
    }
    let long = "x".repeat(40_000);
    for text in ["one\ntwo", " words\n", &long, "\nthe last has no end"] {
        server.write_stdin(text);
    }
    server.close_stdin();
    for client in &mut clients {
        assert_eq!(client.read_line(), "one\n");
        assert_eq!(client.read_line(), "two words\n");
        assert_eq!(client.read_line().trim_end(), long);
        assert_eq!(client.read_line(), "the last has no end");
        assert_eq!(client.read_line(), "");
    }
    assert_eq!(server.wait(), 0);
    server.stdout.wait_for_end("The command has ended: exit status: 0\n");
}
