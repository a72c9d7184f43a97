//! Faults on the command line, wrong ones too, and in text events.

use support::network::tcp::request_with;
use support::process::server::{Server, assert_fails};

use crate::HALLOO;

#[test]
fn nonsense_is_a_usage_error_with_a_hint() {
    for (arguments, parts) in [
        (&["--fault", "explode"][..], &["'explode' for --fault: not a fault", "delay=TIME"][..]),
        (&["--fault", "half,share=10"], &["share=10: ", "share=10%"]),
        (&["--fault", "delay"], &["'delay' for --fault", "delay=100ms"]),
        (&["--fault", "none", "--fault", "drop"], &["--fault: none stands alone", "leave none or"]),
        (&["--fault", "half;none"], &["--fault: none stands alone"]),
        (&["--fault-seed", "x", "--fault", "half"], &["'x' for --fault-seed", "whole number"]),
    ] {
        assert_fails(&HALLOO.run(arguments), 2, parts);
    }
}

#[test]
fn a_fault_that_no_client_can_meet_is_a_usage_error() {
    for (arguments, parts) in [
        (&["--tcp", "127.0.0.1:0", "--fault", "drop"][..], &["drop has no effect", "UDP is not served"][..]),
        (&["--udp", "127.0.0.1:0", "--fault", "half"], &["half has no effect", "neither TCP nor a unix socket"]),
        (
            &["--tcp", "127.0.0.1:0", "--fault", "half,listener=1"],
            &["no listener has that name", "write tcp:127.0.0.1:"],
        ),
        (&["--tcp", "127.0.0.1:0", "--mode", "discard", "--fault", "half"], &["discard sends no reply"]),
        (&["--tcp", "127.0.0.1:0", "--fault", "half", "--fault", "reset=0"], &["more than 100%", "share="]),
    ] {
        assert_fails(&HALLOO.run(arguments), 2, parts);
    }
}

#[test]
fn a_seed_without_faults_has_no_effect() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--fault-seed", "1"]);
    server.stderr.wait_for_line("--fault-seed has no effect: no fault is set; add --fault");
}

#[test]
fn the_variable_has_several_faults_separated_by_semicolons() {
    let mut command = HALLOO.command(&["--tcp", "127.0.0.1:0", "--fault-seed", "1"]);
    command.env("HALLOO_FAULT", "half,share=50%;delay=5ms,share=50%");
    let server = Server::start(command);
    let replies: Vec<String> = (0..20).map(|_| request_with(server.tcp(), b"hi")).collect();
    assert!(replies.iter().any(|reply| reply == "Hello, TC") && replies.iter().any(|reply| reply.ends_with("Client!")));
    let delayed = server.stdout.wait_for_line(" fault=delay delay=5.00ms");
    assert!(delayed.contains("tcp 127.0.0.1:"), "{delayed}");
    server.stdout.wait_for_line(" fault=half");
}
