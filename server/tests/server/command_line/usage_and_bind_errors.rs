//! Wrong command lines and addresses that cannot be bound.
//!
//! An error is one line with a hint, and has its exit status.

use std::net::{TcpListener, UdpSocket};

use support::network::network_namespace::in_network_namespace;
use support::network::ports::unused_port;
use support::network::streams::GREETING;
use support::network::tcp::request;
use support::process::child::run;
use support::process::server::{Server, assert_fails};
use support::wait::{wait_for, wait_until};

use crate::HALLOO;

#[track_caller]
fn assert_command_fails(status: i32, arguments: &[&str], parts: &[&str]) {
    assert_fails(&HALLOO.run(arguments), status, parts);
}

#[test]
fn port_0_is_one_free_port_for_both_protocols() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let port = server.tcp().port();
    let expected = format!("READY tcp=127.0.0.1:{port} udp=127.0.0.1:{port} pid={}", server.pid());
    assert_eq!(server.ready_line(), expected);
}

#[test]
fn a_port_in_use_is_an_error_with_protocol_and_hint() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    assert_command_fails(
        3,
        &["--tcp", &address],
        &["tcp", &address, "address already in use", "another port with --tcp 127.0.0.1:PORT"],
    );
    assert_command_fails(
        3,
        &["--listen", &address],
        &["tcp", &address, "address already in use", "another port with --listen"],
    );
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    assert_command_fails(
        3,
        &["--udp", &address],
        &["udp", &address, "address already in use", "another port with --udp 127.0.0.1:PORT"],
    );
    // TCP is bound first, and a connection may have that port already: then another port is tried.
    let (output, address) = wait_for("a port that is free for TCP and taken for UDP", || {
        let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("it is bound").to_string();
        let output = HALLOO.run(&["--listen", &address]);
        (!output.stderr.contains(" tcp ")).then_some((output, address))
    });
    assert_fails(&output, 3, &["udp", &address, "address already in use", "another port with --listen"]);
}

#[test]
fn a_second_server_on_the_same_port_fails_and_the_first_continues() {
    let first = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let address = first.tcp().to_string();
    assert_command_fails(3, &["--listen", &address], &[&address, "address already in use"]);
    assert_eq!(request(first.tcp()), GREETING);
}

#[test]
fn of_many_servers_started_at_once_on_one_port_exactly_one_serves() {
    for _ in 0..4 {
        let address = format!("127.0.0.1:{}", unused_port());
        let start = |number: u32| {
            let workers = if number.is_multiple_of(2) { "1" } else { "4" };
            Server::spawn(HALLOO.command(&["--listen", &address, "--workers", workers]))
        };
        let mut servers: Vec<Server> = (0..8).map(start).collect();
        wait_until("the READY line or the end of each", || {
            servers.iter_mut().all(|server| server.is_ready() || !server.is_running())
        });
        let (serving, refused): (Vec<_>, Vec<_>) = servers.iter_mut().partition(|server| server.is_ready());
        assert_eq!(serving.len(), 1);
        assert_eq!(request(serving[0].tcp()), GREETING);
        for server in refused {
            assert_eq!(server.wait(), 3);
            server.stderr.wait_for_line("address already in use");
        }
    }
}

#[test]
fn an_address_of_another_machine_is_an_error_that_suggests_a_local_one() {
    for flag in ["--listen", "--tcp", "--udp"] {
        assert_command_fails(
            3,
            &[flag, "192.0.2.1:8888"],
            &["192.0.2.1:8888", "cannot assign requested address", "does not have that address", flag, "0.0.0.0:8888"],
        );
    }
    assert_command_fails(3, &["--listen", "name.invalid."], &["name.invalid", "unknown", "IP address"]);
}

#[test]
#[ignore = "needs IPv6"]
fn an_unusable_ipv6_address_is_an_error_that_suggests_a_usable_one() {
    for (address, parts) in [
        ("[2001:db8::1]:9000", ["cannot assign requested address", "--tcp [::]:9000"]),
        ("[fe80::1]:9000", ["invalid argument: a link-local address needs its interface", "--tcp [fe80::1%eth0]:9000"]),
        ("[ff02::1]:9000", ["invalid argument: it is a multicast address", "all of them with --tcp [::]:9000"]),
        ("[ff02::1%lo]:9000", ["invalid argument: it is a multicast address", "give an address of this machine"]),
        ("[fe80::1%nope]:9000", ["no such device: this machine has no interface nope", "ip link"]),
        ("[fe80::1%1234]:9000", ["no such device: this machine has no interface 1234;", "ip link"]),
    ] {
        assert_command_fails(3, &["--tcp", address], &parts);
    }
}

#[test]
fn an_address_that_no_client_can_reach_is_a_warning() {
    for (flag, address) in [("--tcp", "224.0.0.251:0"), ("--udp", "255.255.255.255:0")] {
        let server = HALLOO.start(&[flag, address, "--tcp", "127.0.0.1:0"]);
        let line = server.stderr.wait_for_line("reaches no client");
        assert!(line.contains(" WARN ") && line.contains(address), "{line}");
        assert_eq!(server.log_lines().len(), 1);
    }
}

#[test]
#[ignore = "needs a network namespace and setpriv"]
fn a_privileged_port_is_an_error_that_suggests_an_allowed_one() {
    // In a new namespace the ports below 1024 are privileged, whatever this machine allows.
    in_network_namespace(|| {
        let wrapper = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"];
        let assert_refused = |address: &str, choice: &str| {
            let output = run(HALLOO.command_under(&wrapper, &["--tcp", address]));
            let parts = ["permission denied", "may not open", choice, "--tcp 127.0.0.1:PORT"];
            assert_fails(&output, 3, &[&["tcp", address], &parts[..]].concat());
        };
        assert_refused("127.0.0.1:1", "one from 1024 up");
        std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "30000").expect("it is of the namespace");
        assert_refused("127.0.0.1:20001", "one from 30000 up");
    });
}

#[test]
fn hostile_arguments_stay_on_one_printable_line() {
    for argument in ["--\u{1b}]0;title\u{7}", "--greeting={\n\u{1b}[31m}", "--listen=a\r\nb\u{202e}:1"] {
        let output = HALLOO.run(&[argument]);
        assert_fails(&output, 2, &[]);
        let line = output.stderr.trim_end_matches('\n');
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
    }
}

#[test]
fn help_and_version_go_to_standard_output_with_status_0() {
    for (arguments, part) in [
        (&["--help"][..], "Exit status:"),
        (&["-h"], "--listen <ADDRESS>"),
        (&["serve", "--help"], "--max-greetings"),
        (&["probe", "--help"], "unreachable"),
        (&["--version"], concat!("halloo ", env!("CARGO_PKG_VERSION"))),
        (&["serve", "--version"], concat!("halloo ", env!("CARGO_PKG_VERSION"))),
        (&["probe", "-V"], concat!("halloo ", env!("CARGO_PKG_VERSION"))),
    ] {
        let output = HALLOO.run(arguments);
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(output.stdout.contains(part), "{}", output.stdout);
    }
    let help = HALLOO.run(&["--help"]).stdout;
    assert!(help.len() > HALLOO.run(&["-h"]).stdout.len() + 1000, "-h is a summary: {help}");
    for section in
        ["Signals:", "Exit status:", "Listening:", "Replies:", "Limits:", "Lifetime:", "Output:", "Examples:"]
    {
        assert!(help.contains(section), "{section} is missing");
    }
}

#[test]
fn help_that_cannot_be_written_is_an_error() {
    for arguments in [&["--help"][..], &["probe", "-h"], &["--version"]] {
        let mut command = HALLOO.command(arguments);
        let full = std::fs::File::options().write(true).open("/dev/full").expect("every Linux has it");
        let output = command.stdout(full).output().expect("it starts");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{error}");
        assert!(error.contains("cannot write to standard output: no space left on device; "), "{error}");
    }
}

#[test]
fn help_fits_the_terminal_and_has_the_rule_for_variables_and_no_value_of_a_variable() {
    const FLAGS: [&str; 2] = ["--idle-timeout <TIME>", "HALLOO_UDP_RATE"];
    const FLAGS_OF_PROBE: [&str; 2] = ["--connect-only", "HALLOO_PROBE_TIMEOUT"];
    for columns in [80, 100] {
        for (arguments, parts) in [
            (&["--help"][..], FLAGS),
            (&["-h"], FLAGS),
            (&["serve", "--help"], FLAGS),
            (&["probe", "--help"], FLAGS_OF_PROBE),
            (&["help", "probe"], FLAGS_OF_PROBE),
        ] {
            let mut command = HALLOO.command(arguments);
            let set = [("HALLOO_GREETING", "a secret"), ("HALLOO_PROBE_SEND", "a secret")];
            command.env("COLUMNS", columns.to_string()).envs(set);
            let help = run(command).stdout;
            assert!(parts.iter().all(|part| help.contains(part)), "{arguments:?}: {help}");
            assert!(!help.contains("secret"), "{arguments:?}: {help}");
            for line in help.lines() {
                assert!(line.chars().count() <= columns, "{arguments:?} at {columns}: {line}");
            }
        }
    }
}
