//! The README's console blocks: each command prints what its block shows.

use std::process::Command;

use support::network::ports::unused_port;
use support::process::server::{Server, ServerBinary};

const HALLOO: ServerBinary = ServerBinary::new(env!("CARGO_BIN_EXE_halloo"));

const README: &str = include_str!("../../README.md");

/// The port of the README, and what stands for the built binary in it.
const PORT: &str = "8888";
const BINARY: &str = "target/release/halloo";
const SERVER: &str = "cargo run --release";

/// Where the README serves a unix socket.
const SOCKET: &str = "/tmp/halloo.sock";

/// A command of a console block, with the output that the block shows.
struct Example {
    command: String,
    output: Vec<String>,
}

fn examples() -> Vec<Example> {
    let blocks = README.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let mut all: Vec<Example> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        if let Some(command) = line.strip_prefix("$ ") {
            all.push(Example { command: command.to_owned(), output: Vec::new() });
        } else if let (Some(more), Some(last)) = (line.strip_prefix("> "), all.last_mut()) {
            last.command.push('\n');
            last.command.push_str(more);
        } else if let Some(last) = all.last_mut() {
            last.output.push(line.to_owned());
        }
    }
    all
}

/// Programs of other projects in the commands.
const TOOLS: [&str; 2] = ["nc", "python3"];

impl Example {
    fn needs_a_tool(&self) -> bool {
        self.command.split(['|', ' ', '\n']).any(|word| TOOLS.contains(&word))
    }
}

fn start_server(port: &str) -> Server {
    let mut command = HALLOO.command(&[]);
    command.env("HALLOO_LISTEN", format!("localhost:{port}"));
    Server::start(command)
}

/// Replaces what differs from run to run: process ids, times, ports other than the README's.
fn normalize(line: &str) -> String {
    let words = line.split(' ').map(|word| {
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

/// Runs a command in a shell, with the port, the path and the binary of this test; log lines left out.
fn run(command: &str, port: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("halloo.sock");
    let socket = socket.to_str().expect("a plain path");
    let command = command.replace(PORT, port).replace(SOCKET, socket).replace(BINARY, HALLOO.path());
    let output = Command::new("sh").args(["-c", &format!("exec 2>&1\n{command}")]).output().expect("a shell is there");
    let text = String::from_utf8_lossy(&output.stdout).replace(port, PORT).replace(socket, SOCKET);
    let lines = text.lines().filter(|line| !line.contains(" INFO "));
    lines.map(str::to_owned).collect()
}

#[track_caller]
fn assert_prints(command: &str, printed: &[String], expected: &[String]) {
    let normalized = |lines: &[String]| lines.iter().map(|line| normalize(line)).collect::<Vec<_>>();
    assert_eq!(normalized(printed), normalized(expected), "the output of `{command}`");
}

/// Runs some of the commands, beside the server that the README starts.
#[track_caller]
fn assert_examples(is_chosen: impl Fn(&Example) -> bool, count_min: usize) {
    let port = unused_port().to_string();
    let _server = start_server(&port);
    let examples = examples();
    let chosen: Vec<&Example> = examples.iter().filter(|one| one.command != SERVER && is_chosen(one)).collect();
    assert!(chosen.len() >= count_min, "only {} commands were found: the search is broken", chosen.len());
    for Example { command, output } in chosen {
        assert_prints(command, &run(command, &port), output);
    }
}

/// The READY line of the README, and of a server that is started as it says.
fn ready_lines() -> (String, String) {
    let documented = examples().into_iter().find(|example| example.command == SERVER);
    let documented = documented.expect("the README starts a server").output.swap_remove(0);
    let port = unused_port().to_string();
    (start_server(&port).ready_line().replace(&port, PORT), documented)
}

#[test]
fn every_console_block_of_the_readme_does_what_it_shows() {
    assert_examples(|example| !example.needs_a_tool(), 6);
}

#[test]
#[ignore = "needs nc and python3"]
fn every_console_block_with_netcat_or_python_does_what_it_shows() {
    assert_examples(Example::needs_a_tool, 3);
}

#[test]
fn the_server_of_the_readme_listens_on_the_ipv4_addresses_that_it_shows() {
    let of_ipv4 = |line: &str| line.split(' ').filter(|word| !word.contains("[::1]")).collect::<Vec<_>>().join(" ");
    let (printed, documented) = ready_lines();
    assert_prints(SERVER, &[of_ipv4(&printed)], &[of_ipv4(&documented)]);
}

#[test]
#[ignore = "needs IPv6"]
fn the_server_of_the_readme_listens_on_all_addresses_that_it_shows() {
    let (printed, documented) = ready_lines();
    assert_prints(SERVER, &[printed], &[documented]);
}
