//! Several servers, each over both protocols, at once.
//!
//! No target delays another one.

use std::net::{TcpListener, UdpSocket};
use std::time::Instant;

use support::process::child::Process;
use support::process::server::assert_fails;
use support::wait::TIMEOUT;

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

/// The protocol, address and result of each line.
fn words(stdout: &str) -> Vec<String> {
    stdout.lines().map(|line| line.split(' ').take(3).collect::<Vec<&str>>().join(" ")).collect()
}

#[test]
fn the_lines_are_in_the_order_of_the_targets_though_the_first_one_is_the_slowest() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("it is bound").to_string();
    let path = SocketPath::new();
    let server = path.start_server(&["--tcp", "127.0.0.1:0"]);
    let (tcp, unix) = (server.tcp().to_string(), format!("unix:{}", path.as_str()));
    let output = HALLOO.run(&["probe", "--tcp", "--timeout", "400ms", &silent, &unix, &tcp, &unix]);
    let unix_line = format!("unix {} ok", path.as_str());
    let expected = [format!("tcp {silent} timeout"), unix_line.clone(), format!("tcp {tcp} ok"), unix_line];
    assert_eq!((output.status, words(&output.stdout)), (4, expected.to_vec()), "{output:?}");
}

#[test]
fn a_target_is_queried_while_another_one_is_silent() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("it is bound").to_string();
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    // The first target alone would take the whole timeout, and 30 requests one after the other would, too.
    let arguments = ["probe", "--udp", "--timeout", "300s", "--count", "30", &silent, &address];
    let mut probe = Process::spawn(HALLOO.command(&arguments));
    let start = format!("udp {address} ok ");
    for _ in 0..30 {
        probe.stdout.wait_for_line(&start);
    }
    support::wait::wait_until("all replies of the second target", || probe.stdout.count_lines_with(&start) == 30);
    assert!(probe.is_running(), "{}", probe.stdout.text());
}

#[test]
fn the_timeouts_of_silent_targets_run_at_the_same_time() {
    let sockets: Vec<UdpSocket> = (0..40).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
    let addresses: Vec<String> =
        sockets.iter().map(|socket| socket.local_addr().expect("it is bound").to_string()).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let start = Instant::now();
    let output = HALLOO.run(&[&["probe", "--udp", "--timeout", "1s"], addresses.as_slice()].concat());
    assert_eq!((output.status, output.stdout.lines().count()), (4, 40), "{output:?}");
    assert!(start.elapsed() < TIMEOUT / 2, "{:?} for 40 timeouts of 1 s", start.elapsed());
}

#[test]
fn the_worst_result_of_all_targets_is_the_exit_status() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    for (arguments, status) in [
        (&[address.as_str(), "unix:/nope/a.sock"][..], 3),
        (&["unix:/nope/a.sock", &address], 3),
        (&[&address, "unix:/nope/a.sock", "--expect", "Bye"], 5),
        (&[&address, &address], 0),
    ] {
        let output = HALLOO.run(&[&["probe", "--tcp"], arguments].concat());
        assert_eq!(output.status, status, "{output:?}");
    }
}

#[test]
fn one_bad_target_is_a_usage_error_before_any_request() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    assert_fails(
        &HALLOO.run(&["probe", &server.tcp().to_string(), "http://localhost"]),
        2,
        &["invalid value 'http://localhost' for <ADDRESS>", "leave out http://"],
    );
    assert_eq!(server.counters()["accepted"], 0);
}
