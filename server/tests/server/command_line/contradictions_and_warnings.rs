//! Settings that contradict each other, and settings without effect.

use std::net::TcpListener;

use support::network::streams::GREETING;
use support::network::tcp::request;
use support::network::udp::request_udp;
use support::process::child::{ProcessOutput, run};
use support::process::server::{Server, assert_fails};
use support::wait::wait_until;

use crate::HALLOO;

type Variables<'a> = &'a [(&'a str, &'a str)];

fn run_with(variables: Variables<'_>, arguments: &[&str]) -> ProcessOutput {
    let mut command = HALLOO.command(arguments);
    command.envs(variables.iter().copied());
    run(command)
}

#[test]
fn flags_that_contradict_each_other_are_a_usage_error() {
    for (arguments, parts) in [
        (&["--mode", "echo", "--greeting", "x"][..], &["--greeting x", "--mode echo", "leave one"][..]),
        (&["--mode", "echo", "--tcp-greeting", "x"], &["--tcp-greeting x", "--mode echo", "leave one"]),
        (&["--mode", "discard", "--udp-greeting", "x"], &["--udp-greeting x", "--mode discard", "leave one"]),
        (&["--mode", "echo", "--greeting-file", "x"], &["--greeting-file x", "--mode echo", "leave one"]),
        (&["--mode", "echo", "--greeting-for", "1=x"], &["--greeting-for 1=x", "--mode echo", "leave one"]),
        (&["--greeting", "x", "--greeting-file", "y"], &["--greeting x contradicts --greeting-file y", "leave one"]),
        (
            &["--workers", "4", "--memory-max", "3MiB"],
            &["--memory-max 3MiB", "--workers 4", "each worker needs at least 1MiB"],
        ),
        (&["--workers", "4", "--max-connections", "3"], &["--max-connections 3", "--workers 4", "leave one"]),
        (&["-v", "-q"], &["--verbose contradicts --quiet", "leave one"]),
        (&["-vvq"], &["--verbose contradicts --quiet", "leave one"]),
        (&["probe", "1", "--connect-only", "--udp"], &["--udp contradicts --connect-only", "leave one"]),
        (&["probe", "1", "--connect-only", "--send", "x"], &["--send x contradicts --connect-only", "leave one"]),
        (&["probe", "1", "--connect-only", "--expect", "x"], &["--expect x contradicts --connect-only", "leave one"]),
        (&["probe", "1", "--connect-only", "--proxy"], &["--proxy=own contradicts --connect-only", "nothing is sent"]),
        (&["probe", "1", "--wait", "1s", "--wait-gone", "2s"], &["--wait 1s contradicts --wait-gone 2s", "leave one"]),
        (
            &["probe", "1", "--wait", "1s", "--count", "3"],
            &["--count 3 contradicts --wait 1s", "until a reply is right"],
        ),
        (&["probe", "1", "--wait-gone", "1s", "--count", "0"], &["--count 0 contradicts --wait-gone 1s", "until the"]),
        (&["probe", "1", "--wait-gone", "1s", "--expect", "x"], &["--expect x contradicts --wait-gone 1s", "not gone"]),
        (&["probe", "unix:/a", "--tcp"], &["--tcp contradicts unix:/a", "unix socket", "leave --tcp out"]),
        (&["probe", "unix:/a", "--udp"], &["--udp contradicts unix:/a", "unix socket", "leave --udp out"]),
    ] {
        assert_fails(&HALLOO.run(arguments), 2, parts);
    }
}

#[test]
fn a_limit_that_is_just_enough_for_the_workers_is_no_contradiction() {
    for limit in ["--memory-max=4MiB", "--max-connections=4"] {
        let output = HALLOO.run(&["--workers=4", limit, TCP, "--exit-when-idle=50ms"]);
        assert_eq!(output.status, 0, "{limit}: {output:?}");
    }
}

#[test]
fn a_typed_flag_wins_over_a_variable_that_contradicts_it() {
    const ADDRESS: [&str; 2] = ["--tcp=127.0.0.1:0", "--exit-when-idle=50ms"];
    for (variables, arguments, ignored) in [
        (&[("HALLOO_GREETING", "x")][..], &["--mode=echo"][..], &["HALLOO_GREETING=x"][..]),
        (
            &[("HALLOO_TCP_GREETING", "x"), ("HALLOO_GREETING", "x")],
            &["--mode=discard"],
            &["HALLOO_GREETING=x", "HALLOO_TCP_GREETING=x"],
        ),
        (&[("HALLOO_MODE", "echo")], &["--greeting=Hello, TCP Client!"], &["HALLOO_MODE=echo"]),
        // The flag overrides the mode. Without that mode the other variable does not contradict.
        (
            &[("HALLOO_MODE", "echo"), ("HALLOO_GREETING", "x")],
            &["--tcp-greeting=y", "--udp=127.0.0.1:0"],
            &["HALLOO_MODE=echo"],
        ),
        (&[("HALLOO_MAX_CONNECTIONS", "3")], &["--workers=4"], &["HALLOO_MAX_CONNECTIONS=3"]),
        (&[("HALLOO_WORKERS", "4")], &["--max-connections=3"], &["HALLOO_WORKERS=4"]),
        (&[("HALLOO_MEMORY_MAX", "1MiB")], &["--workers=2"], &["HALLOO_MEMORY_MAX=1MiB"]),
        (&[("HALLOO_QUIET", "1")], &["-v"], &["HALLOO_QUIET=1"]),
        (&[("HALLOO_VERBOSE", "true")], &["-q"], &["HALLOO_VERBOSE=true"]),
    ] {
        for command in [&[][..], &["serve"]] {
            let output = run_with(variables, &[command, &ADDRESS[..], arguments].concat());
            assert_eq!(output.status, 0, "{variables:?} {arguments:?}: {output:?}");
            let warnings: Vec<&str> = output.stderr.lines().filter(|line| line.contains(" WARN ")).collect();
            assert_eq!(warnings.len(), ignored.len(), "{variables:?} {arguments:?}: {output:?}");
            for (warning, ignored) in warnings.iter().zip(ignored) {
                assert!(warning.contains(&format!("{ignored} has no effect beside --")), "{ignored}: {warning}");
            }
        }
    }
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    for (variables, arguments, protocol) in [
        (&[("HALLOO_PROBE_UDP", "1")][..], &[address.as_str(), "--connect-only"][..], "tcp "),
        (&[("HALLOO_PROBE_SEND", "x"), ("HALLOO_PROBE_EXPECT", "y")], &[&address, "--connect-only"], "tcp "),
        (&[("HALLOO_PROBE_CONNECT_ONLY", "true")], &[&address, "--udp"], "udp "),
        (&[("HALLOO_PROBE_PROXY", "true")], &[&address, "--connect-only"], "tcp "),
        (&[("HALLOO_PROBE_COUNT", "3")], &[&address, "--tcp", "--wait", "20s"], "tcp "),
        (&[("HALLOO_PROBE_WAIT_GONE", "1s")], &[&address, "--tcp", "--wait", "20s"], "tcp "),
        (&[("HALLOO_PROBE_WAIT_GONE", "1s")], &[&address, "--tcp", "--expect", "Hello"], "tcp "),
        (&[("HALLOO_PROBE_TCP", "1")], &[&address, "--udp"], "udp "),
        (&[("HALLOO_PROBE_UDP", "1")], &[&address, "--tcp"], "tcp "),
        (&[("HALLOO_PROBE_CONNECT_ONLY", "true")], &[&address, "--tcp", "--expect", "Hello"], "tcp "),
    ] {
        let output = run_with(variables, &[&["probe"], arguments].concat());
        assert_eq!(output.status, 0, "{variables:?} {arguments:?}: {output:?}");
        assert!(
            output.stdout.lines().all(|line| line.starts_with(protocol)),
            "{variables:?} {arguments:?}: {output:?}"
        );
        assert_eq!(output.stderr.lines().count(), variables.len(), "{output:?}");
        for (variable, value) in variables {
            let warning = format!("halloo: {variable}={value} has no effect beside --");
            assert!(output.stderr.lines().any(|line| line.starts_with(&warning)), "{warning}: {output:?}");
        }
    }
    let both = [("HALLOO_PROBE_TCP", "1"), ("HALLOO_PROBE_UDP", "1")];
    for (variables, arguments) in [(&[][..], &["--tcp", "--udp"][..]), (&both, &[])] {
        let output = run_with(variables, &[&["probe", address.as_str()], arguments].concat());
        assert_eq!((output.status, output.stdout.lines().count()), (0, 2), "{output:?}");
    }
    // A typed path wins too, although it is no flag.
    let output = run_with(&[("HALLOO_PROBE_TCP", "1")], &["probe", "unix:/nope/a.sock"]);
    assert_eq!(output.status, 3, "{output:?}");
    assert!(output.stdout.starts_with("unix /nope/a.sock "), "{output:?}");
    assert!(
        output.stderr.starts_with("halloo: HALLOO_PROBE_TCP=1 has no effect beside unix:/nope/a.sock: "),
        "{output:?}"
    );
}

#[test]
fn a_typed_greeting_for_all_protocols_wins_over_the_variables_for_one() {
    let both = [("HALLOO_TCP_GREETING", "aa"), ("HALLOO_UDP_GREETING", "uu")];
    for (variables, arguments, answers, warnings) in [
        (&both[..], &["--greeting", "bb"][..], ("bb", "bb"), 2),
        (&both[..1], &["--greeting", "bb"], ("bb", "bb"), 1),
        (&both, &["--greeting", "bb", "--udp-greeting", "cc"], ("bb", "cc"), 1),
        // These do not contradict: for its protocol the narrower setting takes precedence.
        (&both, &[], ("aa", "uu"), 0),
        (&[("HALLOO_GREETING", "bb"), ("HALLOO_TCP_GREETING", "aa")], &[], ("aa", "bb"), 0),
        (&[("HALLOO_GREETING", "bb")], &["--tcp-greeting", "aa"], ("aa", "bb"), 0),
    ] {
        let mut command = HALLOO.command(&[&["--listen", "127.0.0.1:0"], arguments].concat());
        command.envs(variables.iter().copied());
        let mut server = Server::start(command);
        let udp = request_udp(server.udp(), b"hello");
        assert_eq!((request(server.tcp()).as_str(), udp.as_str()), answers, "{variables:?} {arguments:?}");
        server.assert_exits_on_sigterm();
        wait_until("standard error to end", || server.stderr.is_closed());
        let text = server.stderr.text();
        assert_eq!(server.stderr.count_lines_with(" has no effect"), warnings, "{text}");
        assert_eq!(server.stderr.count_lines_with(" has no effect beside --greeting bb: "), warnings, "{text}");
    }
}

#[test]
fn a_variable_that_is_false_or_empty_counts_as_unset() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    for value in ["false", "no", "off", "0", ""] {
        let output = run_with(&[("HALLOO_PROBE_UDP", value)], &["probe", &address, "--connect-only"]);
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{value}: {output:?}");
        let variables = [("HALLOO_PROBE_UDP", value), ("HALLOO_PROBE_CONNECT_ONLY", "yes")];
        assert_eq!(run_with(&variables, &["probe", &address]).status, 0, "{value}");
    }
}

#[test]
fn variables_that_contradict_each_other_are_named() {
    for (variables, arguments, parts) in [
        (&[("HALLOO_MODE", "echo"), ("HALLOO_GREETING", "x")][..], &[][..], ["HALLOO_GREETING=x", "HALLOO_MODE=echo"]),
        (&[("HALLOO_VERBOSE", "1"), ("HALLOO_QUIET", "1")], &["serve"], ["HALLOO_VERBOSE=1", "HALLOO_QUIET=1"]),
        (
            &[("HALLOO_WORKERS", "4"), ("HALLOO_MAX_CONNECTIONS", "3")],
            &[],
            ["HALLOO_MAX_CONNECTIONS=3", "HALLOO_WORKERS=4"],
        ),
        (
            &[("HALLOO_PROBE_UDP", "1"), ("HALLOO_PROBE_CONNECT_ONLY", "1")],
            &["probe", "1"],
            ["HALLOO_PROBE_UDP=1", "HALLOO_PROBE_CONNECT_ONLY=1"],
        ),
    ] {
        let output = run_with(variables, arguments);
        assert_fails(&output, 2, &["contradicts", "unset one of the two"]);
        assert_fails(&output, 2, &parts);
    }
}

/// Starts a server, stops it, and returns its warnings.
#[track_caller]
fn warnings(variables: Variables<'_>, arguments: &[&str]) -> Vec<String> {
    let mut command = HALLOO.command(arguments);
    command.envs(variables.iter().copied());
    let mut server = Server::start(command);
    server.assert_exits_on_sigterm();
    wait_until("standard error to end", || server.stderr.is_closed());
    server.stderr.lines().into_iter().filter(|line| line.contains(" WARN ")).collect()
}

#[track_caller]
fn assert_warns(variables: Variables<'_>, arguments: &[&str], expected: &[&str]) {
    let warnings = warnings(variables, arguments);
    assert_eq!(warnings.len(), expected.len(), "{variables:?} {arguments:?}: {warnings:#?}");
    for (warning, part) in warnings.iter().zip(expected) {
        assert!(warning.contains(part), "`{part}` is missing in: {warning}");
    }
}

const TCP: &str = "--tcp=127.0.0.1:0";
const UDP: &str = "--udp=127.0.0.1:0";

#[test]
fn a_setting_without_effect_is_one_warning() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unix = format!("--unix={}", folder.path().join("a.sock").display());
    for (arguments, expected) in [
        (&[TCP, "--udp-greeting=x"][..], &["--udp-greeting has no effect: UDP is not served"][..]),
        (&[TCP, "--udp-rate=3"], &["--udp-rate has no effect: UDP is not served"]),
        (&[UDP, "--mode=discard", "--udp-rate=3"], &["--udp-rate has no effect: discard sends no reply"]),
        (&[UDP, "--tcp-greeting=x"], &["--tcp-greeting has no effect: neither TCP nor a unix socket is served"]),
        (&[UDP, "--memory-max=9MiB"], &["--memory-max has no effect: neither TCP nor a unix socket"]),
        (&[UDP, "--max-connections=9"], &["--max-connections has no effect: neither TCP nor a unix socket"]),
        (&[UDP, "--idle-timeout=9s"], &["--idle-timeout has no effect: neither TCP nor a unix socket"]),
        (&[UDP, "--mode=line"], &["--mode has no effect: only UDP is served, where banner and line work like greet"]),
        (&[&unix, "--max-connections-per-source=3"], &["--max-connections-per-source has no effect: TCP is not"]),
        (&[TCP, "--greeting=x", "--tcp-greeting=y"], &["--greeting has no effect: every protocol"]),
        (&[TCP, "--record-memory=9MiB"], &["--record-memory has no effect: nothing is recorded; add --record FILE"]),
        (&[TCP, "--record-payload=9"], &["--record-payload has no effect: nothing is recorded; add --record FILE"]),
        (&[TCP, UDP, "--greeting=x", "--tcp-greeting=y"], &[]),
        (&[&unix, "--tcp-greeting=x", "--idle-timeout=9s", "--mode=line"], &[]),
        (&[TCP, UDP, "--udp-greeting=x", "--udp-rate=3", "--tcp-greeting=y", "--mode=banner"], &[]),
        (&[UDP, "--mode=echo", "--udp-rate=3"], &[]),
        (&[TCP], &[]),
    ] {
        assert_warns(&[], arguments, expected);
    }
}

#[test]
fn a_variable_without_effect_is_a_warning_that_names_it() {
    let expected =
        ["HALLOO_LISTNE has no effect: unknown variable; did you mean HALLOO_LISTEN?", "HALLOO_UDP_RATE has no effect"];
    assert_warns(&[("HALLOO_LISTNE", "9000"), ("HALLOO_UDP_RATE", "3")], &[TCP], &expected);
    assert_warns(&[("HALLOO_PROBE_SEND", "x"), ("HALLOO_PORT", "tcp://10.0.0.1:1")], &["serve", TCP], &[]);
    let mut command = HALLOO.command(&[TCP]);
    command.env("HALLOO_LISTNE", "9000");
    assert_eq!(request(Server::start(command).tcp()), GREETING);
}

#[test]
fn the_error_of_an_address_names_the_variable_it_came_from() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    for (variable, value, part) in [
        ("HALLOO_TCP", taken.as_str(), "choose another port with HALLOO_TCP=127.0.0.1:PORT"),
        ("HALLOO_LISTEN", &taken, "choose another port with HALLOO_LISTEN=127.0.0.1:PORT"),
        ("HALLOO_UDP", "192.0.2.1:9000", "all of them with HALLOO_UDP=0.0.0.0:9000"),
        ("HALLOO_LISTEN", "name.invalid", "give an IP address with HALLOO_LISTEN=ADDRESS"),
        ("HALLOO_UNIX", "/nope/a.sock", "choose another path with HALLOO_UNIX=PATH"),
    ] {
        assert_fails(&run_with(&[(variable, value)], &[]), 3, &[value, part]);
    }
    assert_warns(&[("HALLOO_MAX_CONNECTIONS", "9999999999")], &[TCP], &["HALLOO_MAX_CONNECTIONS=9999999999 cannot"]);
    assert_warns(&[], &[TCP, "--max-connections=9999999999"], &["--max-connections 9999999999 cannot"]);
}

#[test]
fn a_probe_warns_of_an_unknown_variable_and_runs() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let set = [("HALLOO_PROBE_EXPCT", "x"), ("HALLOO_MODE", "echo")];
    let output = run_with(&set, &["probe", &server.tcp().to_string()]);
    assert_eq!((output.status, output.stdout.lines().count()), (0, 2), "{output:?}");
    let expected = "halloo: HALLOO_PROBE_EXPCT has no effect: unknown variable; did you mean HALLOO_PROBE_EXPECT?\n";
    assert_eq!(output.stderr, expected);
}
