//! Standard output of a probe: line by line, full, closed.
//!
//! The exit status is that of the replies, even if the lines cannot be written.

use std::fs::OpenOptions;
use std::net::UdpSocket;
use std::process::Command;

use support::network::tcp::request;
use support::process::child::{Process, run};
use support::process::server::Server;
use support::wait::TIMEOUT;

use crate::HALLOO;

/// A probe that gets a right answer or a wrong one.
fn probe_command(server: &Server, wrapper: &[&str], is_right: bool) -> Command {
    let expected = if is_right { "Hello" } else { "Good evening" };
    let address = server.tcp().to_string();
    HALLOO.command_under(wrapper, &["probe", &address, "--timeout", "20s", "--expect", expected])
}

#[test]
fn an_unwritable_output_is_one_error_line_and_keeps_the_exit_status() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let limited_file = folder.path().join("limited");
    // No byte may be written to a file (`RLIMIT_FSIZE`).
    let limited = ["sh", "-c", "ulimit -f 0; exec \"$0\" \"$@\""];
    for (is_right, status) in [(true, 0), (false, 5)] {
        for (wrapper, path, cause) in [
            (&[][..], "/dev/full", "no space left on device"),
            (&limited[..], limited_file.to_str().expect("a plain path"), "file too large"),
        ] {
            let mut command = probe_command(&server, wrapper, is_right);
            command.stdout(OpenOptions::new().write(true).create(true).truncate(false).open(path).expect("a file"));
            let output = run(command);
            let sentence =
                format!("halloo: cannot write to standard output: {cause}; the exit status is that of the replies\n");
            assert_eq!((output.status, output.stderr), (status, sentence));
        }
    }
}

#[test]
fn a_closed_output_ends_a_repeated_probe_with_the_status_of_its_replies() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--greeting", "Hello {number}"]);
    for (is_right, status) in [(true, 0), (false, 5)] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = probe_command(&server, &[], is_right);
        command.args(["--count", "20"]).stdout(writer);
        let output = run(command);
        assert_eq!((output.status, output.stderr.as_str()), (status, ""));
    }
    assert_eq!(request(server.tcp()), "Hello 5", "each probe asked once over TCP and once over UDP");
}

#[test]
fn each_line_is_printed_before_the_next_request() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
    let address = socket.local_addr().expect("it is bound").to_string();
    let arguments = ["probe", "--udp", &address, "--count", "2", "--timeout", "40s"];
    let mut probe = Process::spawn(HALLOO.command(&arguments));
    for answer in ["first", "second"] {
        let (_, peer) = socket.recv_from(&mut [0; 100]).expect("a question");
        if answer == "second" {
            probe.stdout.wait_for_line(" first");
        }
        socket.send_to(answer.as_bytes(), peer).expect("loopback takes it");
    }
    assert_eq!(probe.wait(), 0);
    probe.stdout.wait_for_line(" second");
}
