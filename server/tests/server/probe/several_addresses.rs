//! Names with several addresses, in a network namespace with a name server.
//!
//! Addresses are tried in the order of the resolver, and a silent one does not use up the time.

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Instant;

use support::network::network_namespace::{in_network_namespace_after, ip};
use support::process::child::{ProcessOutput, run};
use support::process::server::{Server, assert_fails};
use support::process::shell::shell;
use support::wait::{TIMEOUT, wait_until};
use tempfile::NamedTempFile;

use crate::HALLOO;

/// Packets to these addresses are lost.
const SILENT: [&str; 2] = ["10.66.0.0/16", "fd66::/16"];

/// Addresses of this machine, and routes to the silent ones.
fn add_addresses() {
    ip("address add 10.9.0.1/32 dev lo");
    ip("-6 address add fd09::1/128 dev lo nodad");
    ip("-6 address add fe80::1/64 dev lo nodad");
    ip(&format!("route add {} dev lo", SILENT[0]));
    ip(&format!("-6 route add {} dev lo", SILENT[1]));
    wait_until("IPv6", || UdpSocket::bind("[fd09::1]:0").is_ok());
}

/// What the name server answers.
enum Answer {
    Addresses(Vec<IpAddr>),
    /// A response code, such as 3 for an unknown name (RFC 1035, section 4.1.1).
    Code(u8),
    Silence,
}

fn answer_for(name: &str) -> Answer {
    let parse = |text: &str| text.parse().expect("an address");
    let silent = |count: u8| (1..=count).map(|last| IpAddr::from([10, 66, 0, last]));
    match name {
        "both.test" => Answer::Addresses(["127.0.0.1", "::1"].map(parse).to_vec()),
        "half-silent.test" => Answer::Addresses(["fd66::1", "10.9.0.1"].map(parse).to_vec()),
        "half-refusing.test" => Answer::Addresses(["fd09::1", "10.9.0.1"].map(parse).to_vec()),
        "fifty.test" => Answer::Addresses(silent(49).chain([parse("127.0.0.1")]).collect()),
        "fifty-silent.test" => Answer::Addresses(silent(50).collect()),
        "failing.test" => Answer::Code(2),
        "stuck.test" => Answer::Silence,
        _ => Answer::Code(3),
    }
}

/// Answers queries for names over UDP.
fn start_name_server() {
    let socket = UdpSocket::bind("127.0.0.1:53").expect("the port of name servers");
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((count, peer)) = socket.recv_from(&mut query) {
            if let Some(response) = respond(&query[..count]) {
                socket.send_to(&response, peer).expect("loopback takes it");
            }
        }
    });
}

/// The response to a query with one question (RFC 1035, section 4.1).
fn respond(query: &[u8]) -> Option<Vec<u8>> {
    let (mut labels, mut end) = (Vec::new(), 12);
    while query[end] > 0 {
        let next = end + 1 + usize::from(query[end]);
        labels.push(String::from_utf8_lossy(&query[end + 1..next]).into_owned());
        end = next;
    }
    let question = &query[12..end + 5];
    let wants_ipv6 = question[question.len() - 3] == 28;
    let (code, addresses) = match answer_for(&labels.join(".").to_lowercase()) {
        Answer::Addresses(addresses) => (0, addresses),
        Answer::Code(code) => (code, Vec::new()),
        Answer::Silence => return None,
    };
    let wanted: Vec<IpAddr> = addresses.into_iter().filter(|address| address.is_ipv6() == wants_ipv6).collect();
    let count = u8::try_from(wanted.len()).expect("a few");
    let mut response = [&query[..2], &[0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0], question].concat();
    for address in wanted {
        let data = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let data_length = u8::try_from(data.len()).expect("4 or 16");
        // The name is a pointer to that of the question (RFC 1035, section 4.1.4).
        response.extend([0xc0, 12, 0, question[question.len() - 3], 0, 1, 0, 0, 0, 60, 0, data_length]);
        response.extend(data);
    }
    Some(response)
}

/// A command line of the binary that uses the name server above, by a `resolv.conf` in the file.
fn command(arguments: &[&str]) -> (NamedTempFile, Command) {
    let script = "echo 'nameserver 127.0.0.1' > \"$0\" && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let file = NamedTempFile::new().expect("a temporary file");
    let path = file.path().to_str().expect("a plain path");
    let command = HALLOO.command_under(&["unshare", "--mount", "sh", "-c", script, path], arguments);
    (file, command)
}

#[track_caller]
fn probe(arguments: &[&str]) -> ProcessOutput {
    let (_file, command) = command(&[&["probe"], arguments].concat());
    run(command)
}

#[track_caller]
fn assert_line(output: &ProcessOutput, status: i32, start: &str, end: &str) {
    assert_eq!((output.status, output.stdout.lines().count()), (status, 1), "{output:?}");
    let line = output.stdout.trim_end();
    assert!(line.starts_with(start) && line.ends_with(end), "not {start}...{end}: {output:?}");
}

#[track_caller]
fn in_test_network<F: FnOnce()>(body: F) {
    in_network_namespace_after(
        || {
            add_addresses();
            start_name_server();
        },
        body,
    );
}

/// Starts a server at each of these hosts, all on one port.
fn serve(hosts: &[&str], port: u16) -> Vec<Server> {
    hosts.iter().map(|host| HALLOO.start(&["--listen", &format!("{host}:{port}")])).collect()
}

#[test]
fn an_ip_version_that_the_target_cannot_have_is_a_usage_error_and_its_variable_is_ignored() {
    for (arguments, parts) in [
        (&["-4", "-6", "localhost:1"][..], &["--ipv4", "--ipv6", "leave one"][..]),
        (&["-4", "unix:/run/a"], &["--ipv4", "unix:/run/a", "neither a name nor IPv4; leave --ipv4 out"]),
        (&["-6", "127.0.0.1:1"], &["--ipv6", "127.0.0.1:1", "neither a name nor IPv6; leave --ipv6 out"]),
        (&["-4", "[::1]:1"], &["--ipv4", "[::1]:1", "neither a name nor IPv4"]),
        (&["-4", "fe80::1%lo"], &["--ipv4", "fe80::1%lo", "neither a name nor IPv4"]),
    ] {
        assert_fails(&HALLOO.run(&[&["probe"], arguments].concat()), 2, parts);
    }
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let port = server.tcp().port().to_string();
    for arguments in [&["--tcp", &format!("127.0.0.1:{port}")], &["-4", &port]] {
        let mut command = HALLOO.command(&[&["probe", "--timeout", "20s"], &arguments[..]].concat());
        command.env("HALLOO_PROBE_IPV6", "true");
        let output = run(command);
        assert_eq!(output.status, 0, "{output:?}");
        assert!(output.stdout.starts_with(&format!("tcp 127.0.0.1:{port} ok ")), "{output:?}");
    }
}

#[test]
#[ignore = "needs a network namespace"]
fn addresses_are_tried_in_resolver_order_optionally_of_one_ip_version() {
    in_test_network(|| {
        let _servers = serve(&["127.0.0.1", "[::1]"], 9000);
        for protocol in ["tcp", "udp"] {
            let flag = format!("--{protocol}");
            // The resolver puts IPv6 first here (RFC 6724, section 2.1).
            let output = probe(&[&flag, "both.test:9000"]);
            assert_line(&output, 0, &format!("{protocol} [::1]:9000 ok "), " Client!");
            assert_eq!(output.stderr, "");
            assert_line(&probe(&[&flag, "-6", "both.test:9000"]), 0, &format!("{protocol} [::1]:9000 ok "), " Client!");
            let output = probe(&[&flag, "-4", "both.test:9000"]);
            assert_line(&output, 0, &format!("{protocol} 127.0.0.1:9000 ok "), " Client!");
        }
        let output = probe(&["--tcp", "-6", "fifty.test:9000"]);
        assert_line(
            &output,
            3,
            "tcp fifty.test:9000 dns ",
            " the name has no IPv6 address, and --ipv6 excludes all others",
        );
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn a_name_is_served_at_its_ipv4_addresses_first() {
    in_test_network(|| {
        let (_file, command) = command(&["--tcp", "both.test:9000"]);
        assert_eq!(Server::start(command).ready_addresses(), ["tcp=127.0.0.1:9000", "tcp=[::1]:9000"]);
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn a_silent_or_refusing_address_is_skipped_and_reported() {
    in_test_network(|| {
        let _servers = serve(&["10.9.0.1"], 9000);
        for protocol in ["tcp", "udp"] {
            let (flag, start) = (format!("--{protocol}"), format!("{protocol} 10.9.0.1:9000 ok "));
            let begin = Instant::now();
            let output = probe(&[&flag, "half-silent.test:9000", "--timeout", "40s"]);
            assert_line(&output, 0, &start, " Client!");
            assert!(begin.elapsed() < TIMEOUT / 3, "{:?}", begin.elapsed());
            let note = format!("halloo: {protocol} 10.9.0.1:9000: [fd66::1]:9000 is silent so far\n");
            assert_eq!(output.stderr, note);
            let output = probe(&[&flag, "half-refusing.test:9000"]);
            assert_line(&output, 0, &start, " Client!");
            let note = format!("halloo: {protocol} 10.9.0.1:9000: [fd09::1]:9000 connection refused\n");
            assert_eq!(output.stderr, note);
        }
        let output = probe(&["--tcp", "half-refusing.test:9001"]);
        let causes = " [fd09::1]:9001 connection refused; 10.9.0.1:9001 connection refused";
        assert_line(&output, 3, "tcp half-refusing.test:9001 refused ", causes);
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn fifty_addresses_are_all_tried_within_the_timeout() {
    in_test_network(|| {
        let _servers = serve(&["127.0.0.1"], 9000);
        for flag in ["--tcp", "--udp"] {
            let output = probe(&[flag, "fifty.test:9000", "--timeout", "5s"]);
            assert_line(&output, 0, &format!("{} 127.0.0.1:9000 ok ", &flag[2..]), " Client!");
            let begin = Instant::now();
            let output = probe(&[flag, "fifty-silent.test:9000", "--timeout", "1s"]);
            assert!(begin.elapsed() < TIMEOUT / 3, "{:?}", begin.elapsed());
            assert_line(&output, 4, &format!("{} fifty-silent.test:9000 timeout ", &flag[2..]), " within 1s");
            assert_eq!(output.stdout.matches(" within 1s").count(), 50, "{output:?}");
        }
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn a_failing_resolver_a_silent_one_and_an_unknown_name_are_distinguished() {
    in_test_network(|| {
        let output = probe(&["--tcp", "unknown.test:9000", "--timeout", "20s"]);
        assert_line(&output, 3, "tcp unknown.test:9000 dns ", " the name is unknown: name or service not known");
        let output = probe(&["--tcp", "failing.test:9000", "--timeout", "20s"]);
        assert_line(&output, 3, "tcp failing.test:9000 resolver ", "; check the name servers of this machine");
        assert!(output.stdout.contains(" temporary failure in name resolution"), "{output:?}");
        let output = probe(&["--tcp", "stuck.test:9000", "--timeout", "300ms"]);
        assert_line(&output, 4, "tcp stuck.test:9000 timeout ", " no address for the name within 300ms");
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn a_zone_is_the_interface_of_a_link_local_address() {
    in_test_network(|| {
        let server = HALLOO.start(&["--tcp", "[fe80::1%lo]:9000"]);
        let address = server.tcp().to_string();
        let output = probe(&["--tcp", "[fe80::1%lo]:9000"]);
        assert_line(&output, 0, &format!("tcp {address} ok "), " Client!");
        let causes = [
            (
                "[fe80::1]:9000",
                " invalid argument: a link-local address needs its interface; name it, as in \
                 [fe80::1%eth0]:9000; ip link lists the interfaces",
            ),
            (
                "[fe80::1%1234]:9000",
                " no such device: this machine has no interface 1234; ip link lists its interfaces",
            ),
            (
                "[fe80::1%nowhere]:9000",
                " no such device: this machine has no interface nowhere; ip link lists its interfaces",
            ),
        ];
        for (target, cause) in causes {
            assert_line(&probe(&["--tcp", target]), 3, &format!("tcp {target} unreachable "), cause);
        }
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn a_probe_whose_source_port_is_the_target_port_is_refused() {
    in_test_network(|| {
        shell("echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range");
        for host in ["127.0.0.1", "0.0.0.0", "[::1]"] {
            for port in [40_000, 40_001] {
                let target = format!("{host}:{port}");
                let output = HALLOO.run(&["probe", &target, "--count", "10", "--timeout", "1s"]);
                assert_eq!(output.status, 3, "{output:?}");
                let refused = output.stdout.lines().filter(|line| line.ends_with(" connection refused")).count();
                assert_eq!(refused, 20, "{output:?}");
            }
        }
    });
}
