//! `--log-format json`: every line on standard error against `log.schema.json`.

use std::collections::BTreeSet;

use support::network::streams::GREETING;
use support::network::tcp::{request, request_with};
use support::network::udp::{UDP_GREETING, recv, udp_client};
use support::process::captured_output::CapturedOutput;
use support::process::child::run;
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;
use crate::output::line_schema::LineSchema;

const LOG_SCHEMA: &str = include_str!("../../../schemas/log.schema.json");

/// Checks every line, and returns the levels and the messages.
#[track_caller]
fn check_lines(lines: &[String]) -> Vec<(String, String)> {
    let schema = LineSchema::new(LOG_SCHEMA);
    schema.assert_closed(lines.first().expect("a line"));
    let check = |line: &String| {
        let value = schema.check(line);
        let text = |field: &str| value[field].as_str().expect("a text").to_owned();
        (text("level"), text("message"))
    };
    lines.iter().map(check).collect()
}

#[test]
fn with_log_format_json_every_log_line_is_an_object() {
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--log-format", "json", "-vv"]);
    command.env("HALLOO_LISTNE", "9000");
    let mut server = Server::start(command);
    request_with(server.tcp(), b"\x1b[31m\"red\"");
    udp_client(server.udp()).send(UDP_GREETING.as_bytes()).expect("loopback takes it");
    server.signal("USR1");
    server.stderr.wait_for_line("\"turns=");
    server.stderr.wait_for_line("is itself a greeting");
    server.assert_exits_on_sigterm();
    wait_until("standard error to end", || server.stderr.is_closed());
    let lines = check_lines(&server.stderr.lines());
    let levels: BTreeSet<&str> = lines.iter().map(|(level, _)| level.as_str()).collect();
    assert!(levels.is_superset(&["warn", "info", "debug"].into()), "{levels:?}");
    assert!(
        lines.iter().any(|(_, message)| message.contains("HALLOO_LISTNE has no effect: unknown variable")),
        "{lines:?}"
    );
}

#[test]
fn with_log_format_json_an_error_at_the_start_is_an_object() {
    let taken = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let address = taken.tcp().to_string();
    for arguments in [&["--tcp", &address][..], &["--user", "no-such-user"], &["--ready-file", "/no-such-folder/file"]]
    {
        let output = HALLOO.run(&[arguments, &["--log-format", "json"]].concat());
        assert_eq!(output.status, 3);
        let lines: Vec<String> = output.stderr.lines().map(str::to_owned).collect();
        let lines = check_lines(&lines);
        assert!(lines.len() == 1 && lines[0].0 == "error", "{lines:?}");
        assert!(lines[0].1.starts_with("cannot ") && lines[0].1.contains("; "), "{lines:?}");
    }
    // The format is not known before the command line is.
    let output = HALLOO.run(&["--log-format", "json", "--no-such-flag"]);
    assert!(output.status == 2 && output.stderr.starts_with("halloo: "), "{output:?}");
}

#[test]
fn with_log_format_json_lost_lines_are_counted_in_an_object() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--log-format", "json", "-vv", "--events", "off"]);
    command.stderr(writer);
    let mut server = Server::start(command);
    let client = udp_client(server.udp());
    for number in 0..6000 {
        client.send(UDP_GREETING.as_bytes()).expect("loopback takes it");
        if number % 50 == 0 {
            // The socket's buffer has room again.
            client.send(b"hello").expect("loopback takes it");
            recv(&client);
        }
    }
    assert_eq!(request(server.tcp()), GREETING, "a full pipe delays no client");
    let printed = CapturedOutput::read_from(Some(reader));
    printed.wait_for_line("log lines lost: ");
    server.assert_exits_on_sigterm();
    wait_until("the pipe to end", || printed.is_closed());
    check_lines(&printed.lines());
}

#[test]
fn the_log_format_can_be_a_variable_and_a_wrong_one_is_an_error() {
    let mut command = HALLOO.command(&["--tcp", "127.0.0.1:0", "--user", "no-such-user"]);
    command.env("HALLOO_LOG_FORMAT", "json");
    assert!(run(command).stderr.starts_with('{'));
    let output = HALLOO.run(&["--log-format", "xml"]);
    assert!(output.status == 2 && output.stderr.contains("json"), "{output:?}");
}
