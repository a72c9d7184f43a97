//! `--proxy-protocol`: nonsense, settings without effect, networks that are too wide.

use support::process::child::run;
use support::process::server::assert_fails;

use crate::HALLOO;

#[test]
fn what_is_no_network_is_one_sentence_with_a_way_out() {
    for (value, parts) in [
        ("all", &["not a network: all; names are not looked up, write a network such as 10.0.0.0/8"][..]),
        ("10.0.0.0/33", &["the prefix of 10.0.0.0/33 is too long; write at most 32"]),
        ("fd00::/129", &["the prefix of fd00::/129 is too long; write at most 128"]),
        ("[fd00::]/8", &["leave out the brackets; write fd00::/8"]),
        ("[::1]", &["leave out the brackets; write ::1"]),
        ("[::1]:80", &["a network has no port; write ::1"]),
        ("10.0.0.1,,10.0.0.2", &["a network is missing; remove the comma"]),
        ("10.1.2.3/8", &["10.1.2.3/8 has bits after its prefix; write 10.0.0.0/8"]),
        ("10.0.0.0/8,", &["a network is missing; remove the comma"]),
        ("10.0.0.1:80", &["a network has no port; write 10.0.0.1"]),
        ("haproxy.example", &["not a network: haproxy.example; names are not looked up"]),
    ] {
        assert_fails(&HALLOO.run(&["--tcp", "127.0.0.1:0", "--proxy-protocol", value]), 2, parts);
    }
}

#[test]
fn a_source_that_no_client_can_have_or_that_every_client_has_is_one_warning() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unix = format!("--unix={}", folder.path().join("a.sock").display());
    let (tcp, udp) = ("--tcp=127.0.0.1:0", "--udp=127.0.0.1:0");
    let no_unix_socket = "--proxy-protocol has no effect: no unix socket is served; write the network of the proxy";
    for (arguments, expected) in [
        (&[tcp, "--proxy-protocol=unix"][..], &[no_unix_socket][..]),
        (&[udp, "--proxy-protocol=unix"], &[no_unix_socket]),
        (&[&unix, "--proxy-protocol=10.0.0.0/8"], &["--proxy-protocol has no effect: only unix sockets are served"]),
        (&[tcp, "--proxy-protocol=0.0.0.0/0"], &["--proxy-protocol 0.0.0.0/0 trusts every client"]),
        (&[udp, "--proxy-protocol=::/0"], &["--proxy-protocol ::/0 trusts every client"]),
        (&[tcp, &unix, "--proxy-protocol=unix"], &[]),
        (&[tcp, "--proxy-protocol=10.0.0.0/8"], &[]),
        (&[&unix, "--proxy-protocol=unix", "--max-connections-per-source=3"], &[]),
        (&[&unix, "--proxy-protocol=10.0.0.0/8,unix", "--max-connections-per-source=3"], &[]),
    ] {
        let output = HALLOO.run(&[arguments, &["--exit-when-idle=50ms"]].concat());
        let warnings: Vec<&str> = output.stderr.lines().filter(|line| line.contains(" WARN ")).collect();
        assert_eq!((output.status, warnings.len()), (0, expected.len()), "{arguments:?}: {output:?}");
        for (warning, part) in warnings.iter().zip(expected) {
            assert!(warning.contains(part), "`{part}` is missing in: {warning}");
        }
    }
}

#[test]
fn the_flag_replaces_the_networks_of_the_variable() {
    for (flag, is_replaced) in [(&[][..], false), (&["--proxy-protocol=10.0.0.0/8"], true)] {
        let mut command = HALLOO.command(&[&["--tcp=127.0.0.1:0", "--exit-when-idle=50ms"], flag].concat());
        command.env("HALLOO_PROXY_PROTOCOL", "0.0.0.0/0");
        let output = run(command);
        assert_eq!(output.stderr.contains("0.0.0.0/0 trusts every client"), !is_replaced, "{output:?}");
    }
}
