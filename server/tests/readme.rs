//! The README's console blocks, run as they stand: what they show is what comes.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

const README: &str = include_str!("../../README.md");

/// The port of the README, and what stands for the built binary in it.
const PORT: &str = "8888";
const BINARY: &str = "target/release/halloo";
const SERVER: &str = "cargo run --release";

/// Where the README serves a unix socket.
const SOCKET: &str = "/tmp/halloo.sock";

/// A command of a console block, with the output that the block shows.
struct Shown {
    command: String,
    output: Vec<String>,
}

fn shown() -> Vec<Shown> {
    let blocks = README.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let mut all: Vec<Shown> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        if let Some(command) = line.strip_prefix("$ ") {
            all.push(Shown { command: command.to_owned(), output: Vec::new() });
        } else if let (Some(more), Some(last)) = (line.strip_prefix("> "), all.last_mut()) {
            last.command.push('\n');
            last.command.push_str(more);
        } else if let Some(last) = all.last_mut() {
            last.output.push(line.to_owned());
        }
    }
    all
}

/// A port that is free for TCP and UDP, on every localhost.
fn free_port() -> u16 {
    let tries = (0..100).filter_map(|_| {
        let listener = TcpListener::bind("127.0.0.1:0").ok()?;
        let port = listener.local_addr().ok()?.port();
        let is_free = UdpSocket::bind(("127.0.0.1", port)).is_ok()
            && (!has_v6() || TcpListener::bind(("::1", port)).is_ok() && UdpSocket::bind(("::1", port)).is_ok());
        is_free.then_some(port)
    });
    tries.into_iter().next().expect("a port is free")
}

fn has_v6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_server(port: &str) -> (Server, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_halloo"))
        .env("HALLOO_LISTEN", format!("localhost:{port}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut first = String::new();
    let output = child.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut first).expect("the READY line comes");
    (Server(child), first.trim_end().to_owned())
}

/// Leaves out what differs from run to run: process ids, times, ports other than the README's.
fn normal(line: &str) -> String {
    let words = line.split(' ').filter(|word| has_v6() || !word.contains("[::1]"));
    let words = words.map(|word| {
        let is_time = word.starts_with(|c: char| c.is_ascii_digit()) && (word.ends_with("us") || word.ends_with("ms"));
        if is_time { "TIME".to_owned() } else { without_long_numbers(word) }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn without_long_numbers(word: &str) -> String {
    let mut normal = String::new();
    let mut digits = String::new();
    for c in word.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let is_long = digits.len() >= 4 && digits != PORT || word.starts_with("pid=");
        normal.push_str(if is_long && !digits.is_empty() { "N" } else { &digits });
        digits.clear();
        normal.push(c);
    }
    normal.trim_end_matches('\0').to_owned()
}

/// Whether the program that a command begins with, or pipes into, is there. Where tests have to be whole, it must be.
fn has_tools(command: &str) -> bool {
    let missing = ["nc", "python3"].into_iter().find(|tool| {
        let used = command.split(['|', ' ', '\n']).any(|word| word == *tool);
        used && !Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .is_ok_and(|o| o.status.success())
    });
    if let Some(tool) = missing {
        assert!(std::env::var_os("CI").is_none(), "{tool} is missing: install it, the README is tested with it");
        // Past the capture of test output: a step that was not taken must be seen.
        let _ = writeln!(std::io::stderr(), "\nNOT RUN for want of {tool}: {command}\n");
    }
    missing.is_none()
}

/// Runs a command in a shell, with the port, the path and the binary of this test; log lines left out.
fn run(command: &str, port: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("halloo.sock");
    let socket = socket.to_str().expect("a plain path");
    let command = command.replace(PORT, port).replace(SOCKET, socket).replace(BINARY, env!("CARGO_BIN_EXE_halloo"));
    let output = Command::new("bash").args(["-c", &format!("exec 2>&1\n{command}")]).output().expect("bash is there");
    let text = String::from_utf8_lossy(&output.stdout).replace(port, PORT).replace(socket, SOCKET);
    let lines = text.lines().filter(|line| !line.contains(" INFO "));
    lines.map(str::to_owned).collect()
}

#[test]
fn every_console_block_of_the_readme_does_what_it_shows() {
    let port = free_port().to_string();
    let shown = shown();
    assert!(shown.len() >= 8, "only {} commands were found: the search is broken", shown.len());
    let mut server = None;
    for Shown { command, output } in shown {
        let came = if command == SERVER {
            let (running, ready) = start_server(&port);
            server = Some(running);
            vec![ready.replace(&port, PORT)]
        } else if has_tools(&command) {
            run(&command, &port)
        } else {
            continue;
        };
        let (came, output): (Vec<String>, Vec<String>) =
            (came.iter().map(|line| normal(line)).collect(), output.iter().map(|line| normal(line)).collect());
        assert_eq!(came, output, "this came of `{command}`");
    }
    assert!(server.is_some(), "the README starts a server with `{SERVER}`");
}
