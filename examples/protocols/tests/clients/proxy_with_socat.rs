//! `tcp_proxy` with netcat, socat, iperf3 and curl.

use std::net::SocketAddr;
use std::time::Duration;

use support::measurement::print_measurement;
use support::network::ports::{unused_port, wait_for_listener};
use support::process::child::Process;
use support::process::shell::{shell, try_shell};
use support::wait::{holds_for, wait_until};

use crate::programs::{start_example, start_program};

const FILE_BYTES: usize = 100 * 1024 * 1024;

/// Two outboxes and two inboxes of 128 KiB, and the allocator's overhead. A proxy without backpressure would grow by
/// megabytes.
const GROWTH_KIB_MAX: u64 = 1024;

fn proxy_to(port: u16) -> (Process, SocketAddr) {
    start_example(env!("CARGO_BIN_EXE_tcp_proxy"), &["127.0.0.1:0", &format!("127.0.0.1:{port}")])
}

#[test]
#[ignore = "needs socat, nc and openssl"]
fn a_large_file_and_its_eof_pass_in_little_memory() {
    let port = unused_port();
    // socat answers after EOF, so EOF must reach the target, and its answer must come back.
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1");
    let _target = start_program("socat", &["-t", "60", &listen, "EXEC:sha256sum"]);
    wait_for_listener(port);
    let (proxy, at) = proxy_to(port);
    let before = proxy.resident_kib();
    let bytes =
        format!("head -c {FILE_BYTES} /dev/zero | openssl enc -aes-128-ctr -pass pass:x -nosalt -md md5 2>/dev/null");
    let expected = shell(&format!("{bytes} | sha256sum"));
    let mut client = start_program("sh", &["-c", &format!("{bytes} | nc -N {} {}", at.ip(), at.port())]);
    let mut max = before;
    wait_until("the sum", || {
        max = max.max(proxy.resident_kib());
        client.stdout.text() == expected
    });
    assert_eq!(client.wait(), 0, "EOF came back");
    print_measurement(&format!("tcp_proxy: 100 MiB through, VmRSS {before} KiB before and {max} KiB at most"));
    assert!(max < before + GROWTH_KIB_MAX, "{before} KiB became {max}");
}

#[test]
#[ignore = "needs nc and ss"]
fn a_target_that_reads_nothing_stops_its_client_and_costs_no_memory() {
    let port = unused_port();
    let target = start_program("nc", &["-l", "127.0.0.1", &port.to_string()]);
    wait_for_listener(port);
    let (proxy, at) = proxy_to(port);
    let before = proxy.resident_kib();
    target.signal("STOP");
    let mut client =
        start_program("sh", &["-c", &format!("head -c {FILE_BYTES} /dev/zero | nc -N {} {}", at.ip(), at.port())]);
    // When the kernel's queues on the way are full, no more bytes arrive.
    let received = || shell(&format!("ss -tnH state established '( sport = :{port} )' | awk '{{print $1}}'"));
    wait_until("the queues are full", || {
        let queued = received();
        let is_some = queued.trim().parse::<usize>().is_ok_and(|bytes| bytes > 0);
        is_some && holds_for(Duration::from_millis(300), || received() == queued)
    });
    let full = proxy.resident_kib();
    print_measurement(&format!("tcp_proxy: target stopped, VmRSS {before} KiB before and {full} KiB with full queues"));
    assert!(full < before + GROWTH_KIB_MAX, "{before} KiB became {full}");
    target.signal("CONT");
    assert_eq!(client.wait(), 0, "the client has sent everything");
    wait_until("all bytes", || target.stdout.byte_count() == FILE_BYTES);
}

#[test]
#[ignore = "needs iperf3"]
fn iperf_runs_through_the_proxy_in_both_directions() {
    for direction in ["", "-R", "--bidir", "-P 8"] {
        // A new server for each run: it is busy for a moment after a test.
        let port = unused_port();
        let _target = start_program("iperf3", &["-s", "-1", "-B", "127.0.0.1", "-p", &port.to_string()]);
        wait_for_listener(port);
        let (_proxy, at) = proxy_to(port);
        let report = shell(&format!("iperf3 -c {} -p {} -t 1 -f m {direction}", at.ip(), at.port()));
        assert!(report.contains("iperf Done."), "{direction}: {report}");
        let rate = report.lines().rfind(|line| line.contains("receiver")).unwrap_or_default();
        print_measurement(&format!("tcp_proxy: iperf3 {direction} {}", rate.trim()));
    }
}

#[test]
#[ignore = "needs curl and nc"]
fn a_client_is_closed_without_a_target_and_served_once_one_listens() {
    let port = unused_port();
    let (_proxy, at) = proxy_to(port);
    let (is_success, output) = try_shell(&format!("curl -sS --max-time 20 http://{at}"));
    assert!(!is_success && !output.contains("timed out"), "{output}");
    let mut target = start_program("nc", &["-l", "-N", "127.0.0.1", &port.to_string()]);
    target.write_stdin("welcome\n");
    target.close_stdin();
    wait_for_listener(port);
    assert_eq!(shell(&format!("echo hello | nc -N {} {}", at.ip(), at.port())), "welcome\n");
    target.stdout.wait_for_text("hello\n");
}
