//! `--wait` until servers reply, and `--wait-gone` until they do not.
//!
//! Only the last result of each target is printed.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::network::ports::unused_port;
use support::process::child::{Process, ProcessOutput};
use support::wait::{TIMEOUT, wait_until};

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

/// Starts a probe that asks often.
#[track_caller]
fn start(arguments: &[&str]) -> Process {
    Process::spawn(HALLOO.command(&[&["probe", "--interval", "10ms"], arguments].concat()))
}

/// The output of a probe that ends.
#[track_caller]
fn finish(mut probe: Process) -> ProcessOutput {
    let status = probe.wait();
    probe.wait_for_eof();
    ProcessOutput { status, stdout: probe.stdout.text(), stderr: probe.stderr.text() }
}

#[track_caller]
fn assert_lines(output: &ProcessOutput, status: i32, starts: &[&str]) {
    assert_eq!((output.status, output.stderr.as_str()), (status, ""), "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{output:?}");
    assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{starts:?}: {output:?}");
}

/// Bound and not listening: it refuses, and no other program takes the port meanwhile.
fn refusing() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("an address").to_string();
    (socket, address)
}

#[test]
fn a_probe_waits_until_every_server_is_up_and_prints_one_line_for_each() {
    let path = SocketPath::new();
    let port = unused_port();
    let (address, unix) = (format!("127.0.0.1:{port}"), format!("unix:{}", path.as_str()));
    let mut probe = start(&["--wait", "300s", "--expect", "Hello", &address, &unix]);
    let _first = HALLOO.start(&["--listen", &address]);
    assert!(probe.is_running(), "the second server is missing: {}", probe.stdout.text());
    let _second = path.start_server(&[]);
    let unix_start = format!("unix {} ok ", path.as_str());
    let starts = [&format!("tcp {address} ok "), &format!("udp {address} ok "), unix_start.as_str()].map(String::from);
    assert_lines(&finish(probe), 0, &starts.each_ref().map(String::as_str));
}

#[test]
fn a_server_that_replies_wrongly_is_not_up() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
    let address = socket.local_addr().expect("it is bound").to_string();
    let probe = start(&["--udp", "--wait", "300s", "--expect", "ready", &address]);
    for answer in ["starting", "starting", "ready now"] {
        let (_, peer) = socket.recv_from(&mut [0; 100]).expect("a question");
        socket.send_to(answer.as_bytes(), peer).expect("loopback takes it");
    }
    let output = finish(probe);
    assert_lines(&output, 0, &[&format!("udp {address} ok ")]);
    assert!(output.stdout.ends_with(" ready now\n"), "{output:?}");
}

#[test]
fn a_connection_is_enough_with_connect_only() {
    let (socket, address) = refusing();
    let probe = start(&["--connect-only", "--wait", "300s", &address]);
    socket.listen(1).expect("it is bound");
    assert_lines(&finish(probe), 0, &[&format!("tcp {address} ok ")]);
}

#[test]
fn at_the_end_of_the_wait_the_last_failure_is_the_line_and_the_exit_status() {
    let (_socket, refusing) = refusing();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("it is bound").to_string();
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let wrong = server.tcp().to_string();
    for (arguments, status, start) in [
        (&["--tcp", &refusing][..], 3, format!("tcp {refusing} refused ")),
        (&["--udp", &silent, "--timeout", "50ms"], 4, format!("udp {silent} timeout ")),
        (&["--udp", &silent], 4, format!("udp {silent} timeout ")),
        (&["--tcp", &wrong, "--expect", "Bye"], 5, format!("tcp {wrong} mismatch ")),
    ] {
        let begin = Instant::now();
        let output = HALLOO.run(&[&["probe", "--wait", "400ms"], arguments].concat());
        assert_lines(&output, status, &[&start]);
        let elapsed = begin.elapsed();
        assert!(elapsed >= Duration::from_millis(300) && elapsed < TIMEOUT / 2, "{elapsed:?}");
    }
}

#[test]
fn a_last_request_that_is_cut_short_does_not_hide_the_result_before() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
    let address = socket.local_addr().expect("it is bound").to_string();
    let probe = start(&["--udp", "--wait", "1s", "--timeout", "300s", "--expect", "ready", &address]);
    let (_, peer) = socket.recv_from(&mut [0; 100]).expect("a question");
    socket.send_to(b"starting", peer).expect("loopback takes it");
    assert_lines(&finish(probe), 5, &[&format!("udp {address} mismatch ")]);
}

#[test]
fn a_name_that_is_unknown_is_not_up_and_is_gone() {
    let name = "no-such-name.invalid:9";
    let output = HALLOO.run(&["probe", "--tcp", "--wait", "300ms", name]);
    assert_eq!((output.status, output.stdout.lines().count()), (3, 1), "{output:?}");
    // Without a name server the resolver fails, which shows nothing about the server.
    let is_unknown = output.stdout.contains(" dns ");
    let output = HALLOO.run(&["probe", "--tcp", "--wait-gone", "300ms", name]);
    assert_eq!(output.status, if is_unknown { 0 } else { 3 }, "{output:?}");
}

#[test]
fn a_probe_waits_until_every_server_is_gone() {
    let path = SocketPath::new();
    let mut server = path.start_server(&["--listen", "127.0.0.1:0"]);
    let (address, unix) = (server.tcp().to_string(), format!("unix:{}", path.as_str()));
    let mut probe = start(&["--wait-gone", "300s", &address, &unix]);
    wait_until("some requests", || server.event_lines().len() > 9);
    assert!(probe.is_running() && probe.stdout.text().is_empty());
    server.assert_exits_on_sigterm();
    let starts =
        [format!("tcp {address} refused "), format!("udp {address} refused "), format!("unix {} ", path.as_str())];
    assert_lines(&finish(probe), 0, &starts.each_ref().map(String::as_str));
}

#[test]
fn a_silent_udp_port_is_gone_and_a_silent_connection_is_not() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound").to_string();
    let arguments = ["probe", "--timeout", "50ms", "--wait-gone", "400ms"];
    let output = HALLOO.run(&[&arguments[..], &["--udp", &address]].concat());
    assert_lines(&output, 0, &[&format!("udp {address} timeout ")]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let output = HALLOO.run(&[&arguments[..], &["--tcp", &address]].concat());
    assert_lines(&output, 5, &[&format!("tcp {address} timeout ")]);
}

#[test]
fn a_server_that_stays_is_exit_status_5_whatever_it_replies() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0"]);
    let address = server.tcp().to_string();
    let output = HALLOO.run(&["probe", "--wait-gone", "300ms", &address]);
    assert_lines(&output, 5, &[&format!("tcp {address} ok "), &format!("udp {address} ok ")]);
}

#[test]
fn a_signal_ends_a_wait_as_it_ends_any_command() {
    let (_socket, address) = refusing();
    let mut probe = start(&["--tcp", "--wait", "300s", &address]);
    wait_until("the threads", || probe.thread_count() > 1);
    probe.signal("INT");
    assert_eq!(probe.wait_for_signal(), Some(nix::sys::signal::Signal::SIGINT));
    assert_eq!(probe.stdout.text(), "");
}

#[test]
fn a_wait_ends_when_the_reader_of_standard_output_is_gone() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0"]);
    let (_socket, missing) = refusing();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    // The line of the first target meets the closed pipe; the wait for the second one would go on.
    let arguments = ["probe", "--tcp", "--interval", "10ms", "--wait", "300s", &server.tcp().to_string(), &missing];
    let mut command = HALLOO.command(&arguments);
    command.stdout(writer);
    assert_eq!(Process::spawn(command).wait(), 3, "the last result of the second target counts");
}
