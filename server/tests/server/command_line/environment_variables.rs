//! Settings from environment variables.
//!
//! Every flag has a variable, and the flag takes precedence.

use std::io::Write;

use support::network::streams::{read_exactly, read_to_end, read_until_closed, send};
use support::network::tcp::{connect, request};
use support::network::udp::{recv, request_udp, try_recv, udp_client};
use support::process::child::run;
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;

/// Starts a server with these variables.
fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Server {
    let mut command = HALLOO.command(arguments);
    command.envs(variables.iter().copied());
    Server::start(command)
}

#[test]
fn a_flag_wins_over_its_variable_and_the_variable_over_the_default() {
    let set = [("HALLOO_LISTEN", "127.0.0.1:0"), ("HALLOO_GREETING", "from the environment")];
    let server = start(&[], &set);
    assert_eq!(request(server.tcp()), "from the environment");
    assert_eq!(request_udp(server.udp(), b""), "from the environment");
    let server = start(&["--listen", "127.0.0.2:0", "--greeting", "from the flag"], &set);
    assert!(server.ready_line().starts_with("READY tcp=127.0.0.2:"), "{}", server.ready_line());
    assert!(!server.ready_line().contains("127.0.0.1"), "{}", server.ready_line());
    assert_eq!(request(server.tcp()), "from the flag");
}

#[test]
fn a_flag_replaces_its_own_variable_without_a_warning_and_the_variable_of_another_flag_adds() {
    let set = [("HALLOO_WORKERS", "2"), ("HALLOO_LISTEN", "127.0.0.2:0"), ("HALLOO_TCP", "127.0.0.3:0")];
    let mut server = start(&["--workers", "1", "--listen", "127.0.0.1:0"], &set);
    let ready = server.ready_line();
    assert!(ready.contains("tcp=127.0.0.1:") && ready.contains("tcp=127.0.0.3:"), "{ready}");
    assert!(!ready.contains("127.0.0.2"), "{ready}");
    server.assert_exits_on_sigterm();
    assert!(!server.stderr.text().contains(" WARN "), "{}", server.stderr.text());
}

#[test]
fn the_variables_of_the_server_do_what_their_flags_do() {
    let server = start(
        &[],
        &[
            ("HALLOO_TCP", "127.0.0.1:0,127.0.0.2:0"),
            ("HALLOO_UDP", "127.0.0.3:0"),
            ("HALLOO_MODE", "line"),
            ("HALLOO_TCP_GREETING", "stream"),
            ("HALLOO_UDP_GREETING", "datagram"),
            ("HALLOO_IDLE_TIMEOUT", "1s"),
            // A value that was read from a file may end with a newline.
            ("HALLOO_UDP_RATE", "1\n"),
            ("HALLOO_MAX_CONNECTIONS_PER_SOURCE", "1"),
            ("HALLOO_EVENTS", "json"),
            ("HALLOO_VERBOSE", "1"),
        ],
    );
    let ready = server.ready_line();
    let listening = [("tcp", "127.0.0.1:"), ("tcp", "127.0.0.2:"), ("udp", "127.0.0.3:")];
    for (protocol, start) in listening {
        assert!(ready.contains(&format!(r#"{{"protocol":"{protocol}","address":"{start}"#)), "{ready}");
    }
    assert_eq!(ready.matches("protocol").count(), listening.len());
    let client = connect(server.tcp());
    send(&client, b"one\n");
    assert_eq!(read_exactly(&client, 7), b"stream\n");
    let second = connect(server.tcp());
    // The server may have closed the connection already.
    let _ = (&second).write_all(b"two\n");
    assert_eq!(read_until_closed(&second), b"", "one connection for each source");
    assert_eq!(read_to_end(&client), "", "the idle timeout ends it");
    assert!(server.stdout.wait_for_line("\"tcp\"").starts_with('{'));
    let client = udp_client(server.udp());
    for _ in 0..10 {
        client.send(b"hello").expect("loopback takes it");
    }
    assert_eq!(recv(&client), b"datagram");
    let extra = std::iter::from_fn(|| try_recv(&client)).count();
    assert!(extra <= 2, "{extra} more answers arrived at once");
}

#[test]
fn the_variables_of_the_lifetime_do_what_their_flags_do() {
    let mut server = start(&[], &[("HALLOO_LISTEN", "127.0.0.1:0"), ("HALLOO_MAX_GREETINGS", "1")]);
    request(server.tcp());
    assert_eq!(server.wait(), 0);
    let mut server = start(&[], &[("HALLOO_LISTEN", "127.0.0.1:0"), ("HALLOO_EXIT_WHEN_IDLE", "100ms")]);
    assert_eq!(server.wait(), 0);
    let mut server = start(&[], &[("HALLOO_LISTEN", "127.0.0.1:0"), ("HALLOO_DRAIN_TIMEOUT", "100ms")]);
    let silent = connect(server.tcp());
    server.signal("TERM");
    assert_eq!(read_until_closed(&silent), b"");
    assert_eq!(server.wait(), 0);
    server.stderr.wait_for_line("100ms to finish");
    let mut server = start(&[], &[("HALLOO_LISTEN", "127.0.0.1:0"), ("HALLOO_QUIET", "1")]);
    server.assert_exits_on_sigterm();
    wait_until("standard error to end", || server.stderr.is_closed());
    assert_eq!(server.stderr.text(), "");
}

#[test]
fn the_variables_of_a_probe_do_what_their_flags_do() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--greeting", "you said it", "--events", "json"]);
    let mut command = HALLOO.command(&["probe", &server.tcp().to_string()]);
    let set = [("TCP", "1"), ("SEND", "a question"), ("EXPECT", "you said"), ("COUNT", "2"), ("TIMEOUT", "20s")];
    command.envs(set.map(|(name, value)| (format!("HALLOO_PROBE_{name}"), value)));
    let output = run(command);
    let words: Vec<&str> = output.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!((output.status, words), (0, vec!["tcp", "tcp", "summary"]), "{output:?}");
    server.stdout.wait_for_line("a question");
}

#[test]
fn an_invalid_variable_is_named_and_does_not_stop_a_command_without_it() {
    let mut command = HALLOO.command(&[]);
    command.env("HALLOO_MAX_CONNECTIONS", "0");
    let output = run(command);
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.lines().count()), (2, "", 1), "{output:?}");
    assert!(output.stderr.contains("HALLOO_MAX_CONNECTIONS"), "{output:?}");
    // A probe does not use the variable, so its value is not checked.
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let mut command = HALLOO.command(&["probe", &server.tcp().to_string()]);
    command.env("HALLOO_MAX_CONNECTIONS", "0");
    assert_eq!(run(command).status, 0);
}

#[test]
fn a_flag_without_a_value_takes_yes_and_no_and_a_number_from_its_variable() {
    for (variable, value, is_logged) in [
        ("HALLOO_VERBOSE", "true", true),
        ("HALLOO_VERBOSE", "2", true),
        ("HALLOO_VERBOSE", "off", true),
        ("HALLOO_QUIET", "Yes", false),
        ("HALLOO_QUIET", "no", true),
    ] {
        let mut server = start(&["--listen", "127.0.0.1:0"], &[(variable, value)]);
        server.assert_exits_on_sigterm();
        wait_until("standard error to end", || server.stderr.is_closed());
        assert_eq!(server.stderr.text().contains(" INFO "), is_logged, "{variable}={value}: {}", server.stderr.text());
    }
    let mut command = HALLOO.command(&[]);
    command.env("HALLOO_VERBOSE", "loud");
    let output = run(command);
    assert_eq!((output.status, output.stderr.lines().count()), (2, 1), "{output:?}");
    for part in ["HALLOO_VERBOSE", "loud", "true or false"] {
        assert!(output.stderr.contains(part), "{output:?}");
    }
}
