//! Standard streams that are closed, full or never read.
//!
//! The server still serves, and exits on SIGTERM.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::termios::{FlowArg, tcflow};
use support::network::streams::GREETING;
use support::network::tcp::request;
use support::network::udp::{UDP_GREETING, recv, request_udp, udp_client};
use support::process::captured_output::CapturedOutput;
use support::process::nonblocking_pipe::{is_full, nonblocking_pipe};
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;

#[track_caller]
fn assert_serves(to: SocketAddr) {
    for _ in 0..30 {
        assert_eq!(request(to), GREETING);
        assert_eq!(request_udp(to, b"hello"), UDP_GREETING);
    }
}

fn address_in(ready: &str) -> SocketAddr {
    let word = ready.split(' ').find_map(|word| word.strip_prefix("tcp=")).expect("tcp is served");
    word.parse().expect("an address")
}

#[test]
fn a_reader_that_closes_after_the_first_line_does_not_stop_the_server() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0"]);
    command.stdout(writer);
    let mut server = Server::spawn(command);
    let mut ready = String::new();
    BufReader::new(reader).read_line(&mut ready).expect("the first line");
    assert_serves(address_in(&ready));
    server.stderr.wait_for_line("cannot write to standard output");
    assert_serves(address_in(&ready));
    server.assert_exits_on_sigterm();
    let warnings = server.stderr.lines().into_iter().filter(|line| line.contains(" WARN ")).count();
    assert_eq!(warnings, 1, "{}", server.stderr.text());
}

#[test]
fn with_qq_a_closed_standard_output_is_not_logged() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "-qq"]);
    command.stdout(writer);
    let mut server = Server::spawn(command);
    let mut ready = String::new();
    BufReader::new(reader).read_line(&mut ready).expect("the first line");
    assert_serves(address_in(&ready));
    // At the exit the queue for standard output is written.
    server.assert_exits_on_sigterm();
    wait_until("standard error to end", || server.stderr.is_closed());
    assert_eq!(server.stderr.text(), "");
}

#[test]
fn full_disks_under_both_streams_do_not_stop_the_server() {
    let full = || OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    for both in [false, true] {
        let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "-vv"]);
        command.stdout(full());
        if both {
            command.stderr(full());
        }
        let mut server = Server::spawn(command);
        let address = server.listening_address();
        assert_serves(address);
        server.signal("USR1");
        assert_serves(address);
        server.assert_exits_on_sigterm();
        if !both {
            server.stderr.wait_for_line("cannot write to standard output: no space left on device; its lines are");
        }
    }
}

#[test]
fn closed_standard_streams_do_not_stop_the_server() {
    let shell = ["sh", "-c", "exec \"$0\" \"$@\" >&- 2>&- <&-"];
    let command = HALLOO.command_under(&shell, &["--listen", "127.0.0.1:0", "-vv"]);
    let mut server = Server::spawn(command);
    let address = server.listening_address();
    assert_serves(address);
    server.signal("USR1");
    assert_serves(address);
    server.assert_exits_on_sigterm();
}

/// Sends datagrams until pipe and queue are full: about 400 bytes for each, 1000 lines a second at most. Returns the
/// number of datagrams.
pub(crate) fn fill_pipes(server: SocketAddr) -> u64 {
    // UDP is served as well once TCP answers.
    assert_eq!(request(server), GREETING);
    let (client, start, mut count) = (udp_client(server), Instant::now(), 0);
    while count < 5_000 || start.elapsed() < Duration::from_millis(1500) {
        client.send(&[b'x'; 256]).expect("loopback takes it");
        assert_eq!(recv(&client), UDP_GREETING.as_bytes());
        count += 1;
    }
    count
}

#[test]
fn an_unread_pipe_loses_lines_and_nothing_else() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--events", "json"]);
    command.stdout(writer);
    let mut server = Server::spawn(command);
    let address = server.listening_address();
    let datagrams = fill_pipes(address);
    assert_serves(address);
    // Lost lines are counted, and the count is printed once the pipe is read.
    let printed = CapturedOutput::read_from(Some(reader));
    printed.wait_for_line("\"event\":\"lost\"");
    server.assert_exits_on_sigterm();
    wait_until("the pipe to end", || printed.is_closed());
    let (mut received, mut lost, mut suppressed) = (0, 0, 0);
    for line in &printed.lines()[1..] {
        let line: serde_json::Value = serde_json::from_str(line).expect("whole lines");
        match (line["event"].as_str().expect("a word"), line["count"].as_u64()) {
            ("lost", Some(count)) => lost += count,
            ("suppressed", Some(count)) => suppressed += count,
            _ => received += 1,
        }
    }
    assert!(received > 1_000 && lost > 100, "received={received} lost={lost} suppressed={suppressed}");
    assert_eq!(received + lost + suppressed, 1 + datagrams + 60);
}

#[test]
fn unread_pipes_do_not_delay_the_exit() {
    let (mut output, output_writer) = std::io::pipe().expect("a pipe");
    let (_errors, errors_writer) = std::io::pipe().expect("a pipe");
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--events", "json", "-vv"]);
    command.stdout(output_writer).stderr(errors_writer);
    let mut server = Server::spawn(command);
    let address = server.listening_address();
    fill_pipes(address);
    assert_serves(address);
    server.assert_exits_on_sigterm();
    let mut first = [0; 6];
    output.read_exact(&mut first).expect("what the pipe holds");
    assert_eq!(&first, b"{\"even");
}

#[test]
fn an_unread_standard_error_delays_no_event_line() {
    let (_errors, errors_writer) = std::io::pipe().expect("a pipe");
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0"]);
    command.stderr(errors_writer);
    let mut server = Server::start(command);
    assert_eq!(request(server.tcp()), GREETING);
    wait_until("the line", || server.event_lines().len() == 1);
    server.assert_exits_on_sigterm();
}

#[test]
fn an_unread_standard_output_does_not_stop_standard_error_which_reports_lost_lines() {
    let (_output, output_writer) = std::io::pipe().expect("a pipe");
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--events", "json"]);
    command.stdout(output_writer);
    let mut server = Server::spawn(command);
    let address = server.listening_address();
    let datagrams = fill_pipes(address);
    server.signal("USR1");
    let line = server.stderr.wait_for_line(" turns=");
    assert!(line.contains(&format!(" datagrams_received={datagrams} ")), "{line}");
    server.assert_exits_on_sigterm();
    server.stderr.wait_for_line(" stopped");
    let line = server.stderr.wait_for_line(" lines lost: ");
    let count = line.split(" lines lost: ").last().and_then(|rest| rest.split(',').next());
    assert!(count.and_then(|count| count.parse::<u64>().ok()).is_some_and(|count| count > 100), "{line}");
    assert!(line.contains(" WARN ") && line.ends_with(", standard output is blocked"), "{line}");
    assert!(!server.stderr.text().contains("log lines lost"), "{}", server.stderr.text());
}

/// Starts a server, whose clients are served although its output has no room. `make_room` returns what it prints then.
fn assert_ready_comes_later(output: impl Into<Stdio>, make_room: impl FnOnce() -> CapturedOutput) {
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--events", "off"]);
    command.stdout(output);
    let mut server = Server::spawn(command);
    assert_serves(server.listening_address());
    wait_until("a thread that prints", || server.thread_names().iter().any(|(_, name)| name == "stdout"));
    make_room().wait_for_line("READY ");
    server.assert_exits_on_sigterm();
}

#[test]
fn a_pipe_that_is_full_from_the_start_delays_no_client_and_gets_ready_later() {
    let (reader, mut writer) = nonblocking_pipe();
    while !is_full(&writer) {
        writer.write_all(b"\n").expect("there is room");
    }
    assert_ready_comes_later(writer, || CapturedOutput::read_from(Some(reader)));
}

#[test]
fn a_terminal_that_is_stopped_from_the_start_delays_no_client_and_gets_ready_later() {
    let terminal = openpty(None, None).expect("a terminal");
    // What Ctrl-S does.
    tcflow(&terminal.slave, FlowArg::TCOOFF).expect("it stops");
    let slave = terminal.slave.try_clone().expect("a second end");
    assert_ready_comes_later(slave, || {
        tcflow(&terminal.slave, FlowArg::TCOON).expect("it goes on");
        CapturedOutput::read_from(Some(File::from(terminal.master)))
    });
}
