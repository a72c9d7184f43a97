//! The questions of a probe, and its output without a reply.

use std::net::{TcpListener, UdpSocket};

use support::network::udp::recv;
use support::process::child::Process;

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

#[test]
fn the_default_question_is_a_whole_line_over_streams() {
    let path = SocketPath::new();
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--unix", path.as_str(), "--mode", "line"]);
    for arguments in [vec!["--tcp", &server.tcp().to_string()], vec![&format!("unix:{}", path.as_str())]] {
        let output = HALLOO.run(&[&["probe", "--timeout", "20s"], arguments.as_slice()].concat());
        assert_eq!((output.status, output.stdout.lines().count()), (0, 1), "{output:?}");
        assert!(output.stdout.ends_with(" Hello, TCP Client!\\n\n"), "{output:?}");
    }
}

#[test]
fn over_udp_the_question_has_no_line_end_and_an_empty_one_is_an_empty_datagram() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound").to_string();
    for (arguments, question) in [(&[][..], &b"Hello, UDP Server!"[..]), (&["--send", ""], b"")] {
        let _probe = Process::spawn(HALLOO.command(&[&["probe", "--udp", &address], arguments].concat()));
        assert_eq!(recv(&socket), question);
    }
}

#[test]
fn a_timeout_over_a_stream_names_what_may_be_missing_from_the_question() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    for (arguments, hint) in [
        (&[][..], ""),
        (&["--send", r"hello\n"], ""),
        (&["--send", "hello"], r"; a server that reads lines waits for \n at the end of --send"),
        (&["--send", ""], "; --send is empty, and a server that waits for input does not reply"),
    ] {
        let output = HALLOO.run(&[&["probe", "--tcp", "--timeout", "200ms", &address], arguments].concat());
        assert_eq!(output.status, 4, "{output:?}");
        let expected = format!(" connected, but no reply within 200ms{hint}\n");
        assert!(output.stdout.ends_with(&expected), "{output:?} without {hint:?}");
    }
}
