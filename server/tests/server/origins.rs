//! The four programs it began with: their clients meet this server, its examples, and the defaults of both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::clients::{GREETING, UDP_GREETING, ask, ask_udp};
use crate::support::{BINARY, Server, halloo, has_tool, has_v6, run, wait_for};

const TCP_CLIENT: &str = r#"
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.connect(("localhost", int(sys.argv[1])))
client.sendall(b"Hello, TCP Server!")
data = client.recv(1024)
print(f"Received: {data.decode()}")
client.close()
"#;

const UDP_CLIENT: &str = r#"
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.sendto(b"Hello, UDP Server!", ("localhost", int(sys.argv[1])))
data, address = client.recvfrom(1024)
print(f"Received: {data.decode()}")
client.close()
"#;

fn python(program: &str, port: u16) -> String {
    let mut command = Command::new("python3");
    command.args(["-c", program, &port.to_string()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = run(command);
    assert_eq!((ended.status, ended.errors.as_str()), (0, ""));
    ended.output
}

/// A built example. `cargo test` builds them all; when only this target was asked for, they are built now.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let folder = Path::new(BINARY).parent().expect("the binary lies in a folder").join("examples");
        if !folder.join("tcp_client").exists() {
            build_examples(&folder);
        }
        folder
    });
    folder.join(name)
}

fn build_examples(folder: &Path) {
    let profile = folder.parent().expect("examples lie in a profile's folder");
    let target = profile.parent().expect("a profile's folder lies in the target folder");
    let profile = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--offline",
            "--package",
            "halloo",
            "--examples",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the examples build");
}

/// Starts an example server on a free port.
fn example_server(name: &str) -> (Server, SocketAddr) {
    let mut command = Command::new(example(name));
    command.arg("127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let server = Server::spawn(command);
    let first = server.output.wait_for_line("Listening on ");
    let address = first.strip_prefix("Listening on ").expect("it begins so").parse().expect("an address");
    (server, address)
}

fn example_client(name: &str, server: SocketAddr) -> String {
    let mut command = Command::new(example(name));
    command.arg(server.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = run(command);
    assert_eq!((ended.status, ended.errors.as_str()), (0, ""));
    ended.output
}

#[test]
fn localhost_is_served_over_tcp_and_udp_ipv4_before_ipv6_on_one_port() {
    let mut command = halloo(&[]);
    command.env("HALLOO_LISTEN", "localhost:0");
    let server = Server::start_as(command);
    let port = server.tcp().port();
    let (v6, pid) = (format!(" tcp=[::1]:{port} udp=[::1]:{port}"), format!(" pid={}", server.pid()));
    let mut expected = format!("READY tcp=127.0.0.1:{port} udp=127.0.0.1:{port}");
    if has_v6() {
        expected.push_str(&v6);
    }
    expected.push_str(&pid);
    assert_ne!(port, 0);
    assert_eq!(server.ready(), expected);
    for word in expected.split(' ') {
        match word.split_once('=') {
            Some(("tcp", address)) => assert_eq!(ask(address.parse().expect("an address")), GREETING),
            Some(("udp", address)) => assert_eq!(ask_udp(address.parse().expect("an address"), b"hi"), UDP_GREETING),
            _ => {}
        }
    }
}

#[test]
fn the_original_clients_are_answered_and_the_server_prints_what_it_received() {
    if !has_tool("python3") {
        return;
    }
    let server = Server::start(&["--listen", "localhost:0"]);
    let port = server.tcp().port();
    assert_eq!(python(TCP_CLIENT, port), "Received: Hello, TCP Client!\n");
    assert_eq!(python(UDP_CLIENT, port), "Received: Hello, UDP Client!\n");
    let lines = wait_for("a line for each", || Some(server.events()).filter(|lines| lines.len() == 2));
    assert!(lines[0].starts_with("tcp 127.0.0.1:"), "{lines:?}");
    assert!(lines[0].ends_with(" 18 bytes: Hello, TCP Server!"), "{lines:?}");
    assert!(lines[1].starts_with("udp 127.0.0.1:"), "{lines:?}");
    assert!(lines[1].ends_with(" 18 bytes: Hello, UDP Server!"), "{lines:?}");
}

#[test]
fn the_example_clients_are_answered_by_the_server() {
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    assert_eq!(example_client("tcp_client", server.tcp()), "Received: Hello, TCP Client!\n");
    assert_eq!(example_client("udp_client", server.udp()), "Received: Hello, UDP Client!\n");
}

#[test]
fn the_example_servers_answer_the_example_clients_and_the_original_ones() {
    let has_python = has_tool("python3");
    for (protocol, original) in [("tcp", TCP_CLIENT), ("udp", UDP_CLIENT)] {
        let (server, address) = example_server(&format!("{protocol}_server"));
        let name = protocol.to_uppercase();
        let (answer, question) = (format!("Received: Hello, {name} Client!\n"), format!(": Hello, {name} Server!"));
        assert_eq!(example_client(&format!("{protocol}_client"), address), answer);
        let received = server.output.wait_for_line("Received from 127.0.0.1:");
        assert!(received.ends_with(&question), "{received}");
        if has_python {
            assert_eq!(python(original, address.port()), answer);
        }
    }
}

#[test]
fn the_echo_example_sends_back_what_comes() {
    let (_server, address) = example_server("echo");
    assert_eq!(crate::clients::ask_with(address, b"one\ntwo"), "one\ntwo");
}

#[test]
fn the_workers_example_spreads_its_clients_and_counts_them_all_at_the_end() {
    let mut command = Command::new(example("workers"));
    command.args(["127.0.0.1:0", "4"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Server::spawn(command);
    let first = server.output.wait_for_line("Listening on ");
    let address = first.strip_prefix("Listening on ").expect("it begins so").parse().expect("an address");
    for _ in 0..60 {
        assert_eq!(crate::clients::ask_with(address, b"one\ntwo"), "one\ntwo");
    }
    server.press_enter();
    assert_eq!(server.wait(), 0, "{}", server.errors.text());
    server.output.wait_for_line("together: 60 clients, 420 bytes sent back");
    let lines = server.output.lines();
    let counts = lines.iter().filter_map(|line| line.strip_prefix("worker ")?.split(' ').nth(1)?.parse::<u64>().ok());
    let counts: Vec<u64> = counts.collect();
    assert_eq!((counts.len(), counts.iter().sum()), (4, 60), "{lines:?}");
    assert!(counts.iter().filter(|count| **count > 0).count() >= 2, "one worker served them all: {lines:?}");
}
