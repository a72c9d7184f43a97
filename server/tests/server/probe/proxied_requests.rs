//! `--proxy`: the PROXY header before a request.

use std::net::UdpSocket;

use support::network::udp::recv;
use support::process::child::Process;
use support::process::server::Server;

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

/// A server whose greeting is the client's address, and that needs a header.
fn start_server(path: &SocketPath) -> Server {
    path.start_server(&["--listen", "127.0.0.1:0", "--greeting", "{peer}", "--proxy-protocol", "127.0.0.1,unix"])
}

/// The texts of the lines.
#[track_caller]
fn texts(arguments: &[&str]) -> Vec<String> {
    let output = HALLOO.run(&[&["probe", "--timeout", "20s"], arguments].concat());
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    output.stdout.lines().filter_map(|line| line.splitn(5, ' ').nth(4)).map(str::to_owned).collect()
}

#[test]
fn the_source_of_the_header_is_the_client_over_every_protocol() {
    let path = SocketPath::new();
    let server = start_server(&path);
    let (address, unix) = (server.tcp().to_string(), format!("unix:{}", path.as_str()));
    for source in ["192.0.2.7:4711", "[2001:db8::7]:4711"] {
        assert_eq!(texts(&[&format!("--proxy={source}"), &address, &unix]), [source; 3]);
    }
    // An IP address has the port of the probe's own socket.
    for text in texts(&["--proxy=192.0.2.7", &address]) {
        assert!(text.starts_with("192.0.2.7:") && !text.ends_with(":0"), "{text}");
    }
}

#[test]
fn the_default_source_is_the_probe_itself() {
    let path = SocketPath::new();
    let server = start_server(&path);
    let (address, unix) = (server.tcp().to_string(), format!("unix:{}", path.as_str()));
    let texts = texts(&["--proxy", &address, &unix]);
    assert!(texts[0].starts_with("127.0.0.1:") && texts[1].starts_with("127.0.0.1:"), "{texts:?}");
    assert_eq!(texts[2], "unix");
}

#[test]
fn each_datagram_has_the_header_also_one_that_is_sent_again() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound").to_string();
    let arguments = ["probe", "--udp", "--proxy=192.0.2.7:4711", "--retries", "50", "--timeout", "20s", &address];
    let _probe = Process::spawn(HALLOO.command(&arguments));
    let port = socket.local_addr().expect("it is bound").port().to_be_bytes();
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\x12\x67";
    let expected = [&head[..], &port, b"Hello, UDP Server!"].concat();
    assert_eq!((recv(&socket), recv(&socket)), (expected.clone(), expected));
}

#[test]
fn a_variable_switches_the_header_on_and_off() {
    let path = SocketPath::new();
    let server = start_server(&path);
    let address = server.tcp().to_string();
    for (value, is_ok) in [("true", true), ("192.0.2.7", true), ("false", false)] {
        let mut command = HALLOO.command(&["probe", "--tcp", &address]);
        command.env("HALLOO_PROBE_PROXY", value);
        assert_eq!(support::process::child::run(command).status == 0, is_ok, "{value}");
    }
}
