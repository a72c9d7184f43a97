//! Full pipes at standard output and standard error, under load.
//!
//! Clients are served, and memory does not grow.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use support::measurement::{fastest_of, print_measurement};
use support::network::streams::GREETING;
use support::network::udp::{UDP_GREETING, send_udp_request, udp_client};
use support::process::server::{Server, address_in};

use crate::streams::fallible_clients::{recv, request};
use crate::{HALLOO, RESPONSE_TIME_MAX};

/// More lines than both pipes, the queue before them and a batch hold.
const QUESTIONS: usize = 4_000;

/// Long enough to fill them, although JSON lines are limited to 1000 a second.
const FILL_TIME: Duration = Duration::from_millis(1500);

/// At the exit the server waits up to 2 s for output that is stuck.
const EXIT_TIME_MAX: Duration = Duration::from_secs(5);

#[test]
fn full_pipes_under_load_delay_no_client_and_use_no_memory() {
    let (output, output_writer) = std::io::pipe().expect("a pipe");
    let (_errors, errors_writer) = std::io::pipe().expect("a pipe");
    let mut command = HALLOO.command_under(&[], &["--listen", "127.0.0.1:0", "--events", "json", "-vv"]);
    command.stdin(Stdio::null()).stdout(output_writer).stderr(errors_writer);
    let mut server = Server::spawn(command);
    // Only the first line is read.
    let (mut output, mut ready) = (BufReader::new(output), String::new());
    output.read_line(&mut ready).expect("the first line");
    let address = address_in(&ready, "tcp").expect("it serves TCP");
    fill(address);
    let before = server.resident_kib();
    let used = server.cpu_time();
    thread::scope(|scope| {
        let loads: Vec<_> = (0..2).map(|_| scope.spawn(|| fill(address))).collect();
        while !loads.iter().all(thread::ScopedJoinHandle::is_finished) {
            let elapsed = fastest_of(3, || assert_eq!(request(address), GREETING));
            assert!(elapsed < RESPONSE_TIME_MAX, "a client waited {elapsed:?}");
        }
    });
    let growth = server.resident_kib().saturating_sub(before);
    let used = server.cpu_time().saturating_sub(used);
    print_measurement(&format!(
        "full pipes: at least {} questions, {growth} KiB more memory, {used:?} of processor time",
        2 * QUESTIONS
    ));
    assert!(growth < 2048, "memory grew by {growth} KiB");
    let start = Instant::now();
    server.assert_exits_on_sigterm();
    assert!(start.elapsed() < EXIT_TIME_MAX, "the exit took {:?}", start.elapsed());
}

fn fill(address: SocketAddr) {
    assert_eq!(recv(&send_udp_request(address)), UDP_GREETING);
    let (client, start, mut count) = (udp_client(address), Instant::now(), 0);
    while count < QUESTIONS || start.elapsed() < FILL_TIME {
        client.send(&[b'x'; 256]).expect("loopback takes it");
        assert_eq!(recv(&client), UDP_GREETING);
        count += 1;
    }
}
