//! Standard streams that are non-blocking pipes, whose readers pause.
//!
//! Every line arrives, as through a blocking pipe.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use nix::pty::openpty;
use support::network::streams::GREETING;
use support::network::tcp::request;
use support::network::udp::{UDP_GREETING, recv, request_udp, udp_client};
use support::process::captured_output::CapturedOutput;
use support::process::child::Process;
use support::process::nonblocking_pipe::{is_full, nonblocking_pipe};
use support::process::server::Server;
use support::wait::{holds_for, wait_until};

use crate::HALLOO;

/// Lines of 300 bytes and more: many times the size of the pipe, and fewer than the queue before it holds.
const LINES: usize = 800;

#[test]
fn a_nonblocking_standard_output_whose_reader_pauses_loses_no_line() {
    let (reader, writer) = nonblocking_pipe();
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--events", "json"]);
    command.stdout(writer.try_clone().expect("a second end"));
    let mut server = Server::spawn(command);
    let address = server.listening_address();
    // UDP is served as well once TCP answers.
    assert_eq!(request(address), GREETING);
    let client = udp_client(address);
    for _ in 0..LINES {
        client.send(&[b'x'; 256]).expect("loopback takes it");
        assert_eq!(recv(&client), UDP_GREETING.as_bytes());
    }
    wait_until("a full pipe", || is_full(&writer));
    drop(writer);
    let printed = CapturedOutput::read_from(Some(reader));
    wait_until("every line", || printed.lines().len() > 1 + LINES);
    server.assert_exits_on_sigterm();
    wait_until("the pipe to end", || printed.is_closed());
    assert_eq!(printed.count_lines_with("\"protocol\":\"udp\",\"peer\""), LINES);
    assert_eq!(printed.lines().len(), 2 + LINES);
    assert!(!server.stderr.text().contains("WARN"), "{}", server.stderr.text());
}

#[test]
fn a_nonblocking_standard_error_whose_reader_pauses_loses_no_line() {
    let (reader, writer) = nonblocking_pipe();
    let mut command = HALLOO.command(&["--udp", "127.0.0.1:0", "--events", "off", "-v"]);
    command.stderr(writer.try_clone().expect("a second end"));
    let mut server = Server::start(command);
    let client = udp_client(server.udp());
    for _ in 0..LINES {
        // A datagram that is a greeting is logged and not answered.
        client.send(UDP_GREETING.as_bytes()).expect("loopback takes it");
        assert_eq!(request_udp(server.udp(), b"hello"), UDP_GREETING);
    }
    wait_until("a full pipe", || is_full(&writer));
    drop(writer);
    let logged = CapturedOutput::read_from(Some(reader));
    wait_until("every line", || logged.count_lines_with("is itself a greeting") == LINES);
    server.assert_exits_on_sigterm();
    wait_until("the pipe to end", || logged.is_closed());
    assert!(!logged.text().contains("lost") && !logged.text().contains("could not be written"), "{}", logged.text());
    assert!(logged.lines().last().is_some_and(|line| line.ends_with(" stopped")), "{:?}", logged.lines().last());
}

/// Runs a command with a full pipe that is read later. Returns the exit status and the output.
fn print_into_full_pipe(arguments: &[&str], is_stderr: bool) -> (i32, String) {
    let (reader, mut writer) = nonblocking_pipe();
    let mut filled = 0;
    while let Ok(count) = writer.write(b"........") {
        filled += count;
    }
    let mut command = HALLOO.command(arguments);
    if is_stderr {
        command.stderr(writer)
    } else {
        command.stdout(writer)
    };
    let mut process = Process::spawn(command);
    // A process that does not wait for room exits meanwhile, and a busy loop does not sleep.
    wait_until("the wait for room", || holds_for(Duration::from_millis(300), || process.is_asleep()));
    let printed = CapturedOutput::read_from(Some(reader));
    let status = process.wait();
    wait_until("the pipe to end", || printed.is_closed());
    (status, printed.text().split_off(filled))
}

#[test]
fn help_waits_for_room_in_a_nonblocking_pipe() {
    let (status, help) = print_into_full_pipe(&["--help"], false);
    assert_eq!((status, help == HALLOO.run(&["--help"]).stdout), (0, true), "{help}");
}

#[test]
fn help_on_a_terminal_has_styles_except_on_a_dumb_one_or_with_no_color() {
    for (terminal_type, no_color, has_styles) in
        [("xterm", "", true), ("xterm", "1", false), ("dumb", "", false), ("", "", false)]
    {
        let terminal = openpty(None, None).expect("a terminal");
        let mut command = HALLOO.command(&["--help"]);
        command.env("TERM", terminal_type).env("NO_COLOR", no_color).stdout(Stdio::from(terminal.slave));
        if terminal_type.is_empty() {
            command.env_remove("TERM");
        }
        let mut process = Process::spawn(command);
        let printed = CapturedOutput::read_from(Some(File::from(terminal.master)));
        assert_eq!(process.wait(), 0);
        wait_until("the terminal to end", || printed.is_closed());
        let text = printed.text();
        assert!(text.contains("Exit status:") && text.contains('\u{1b}') == has_styles, "{terminal_type}: {text:?}");
    }
}

#[test]
fn the_lines_of_a_probe_wait_for_room_in_a_nonblocking_pipe() {
    let arguments = ["probe", "--tcp", "--count", "3", "--timeout", "1ms", "127.0.0.1:1"];
    let (_, lines) = print_into_full_pipe(&arguments, false);
    assert_eq!(lines.lines().filter(|line| line.starts_with("tcp 127.0.0.1:1 ")).count(), 3, "{lines}");
}

#[test]
fn an_error_waits_for_room_in_a_nonblocking_pipe() {
    let (status, error) = print_into_full_pipe(&["--lisen", "9000"], true);
    let expected = HALLOO.run(&["--lisen", "9000"]);
    assert_eq!((status, error), (expected.status, expected.stderr));
}
