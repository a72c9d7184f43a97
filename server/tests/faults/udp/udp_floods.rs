//! Floods of UDP datagrams.
//!
//! Replies, memory and log lines are bounded, and TCP is served.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use support::measurement::print_measurement;
use support::network::raw_udp::RawUdpSocket;
use support::network::streams::GREETING;
use support::network::udp::UDP_REQUEST;
use support::process::server::Server;

use crate::run_fault_cases::assert_serves;
use crate::streams::fallible_clients::request;
use crate::udp::spoofing_network::in_test_network;
use crate::{HALLOO, RESPONSE_TIME_MAX};

const FLOOD_TIME: Duration = Duration::from_secs(2);

/// The default of `--udp-rate`: answers a second to one source.
const RATE: u64 = 100;

/// 20 event lines a second, and one with the number of the others.
const EVENT_LINES_PER_SECOND_MAX: u64 = 21;

/// More than the allocator and the stacks vary by themselves.
const KIB_MAX: u64 = 1024;

/// The measurements of a flood.
struct FloodResult {
    datagrams: u64,
    elapsed: Duration,
    /// Response times of TCP clients, in ascending order.
    latencies: Vec<Duration>,
    received: u64,
    sent: u64,
    kib: u64,
    lines: u64,
    log_lines: u64,
}

impl FloodResult {
    /// Floods a server from the sources that `source` returns, and sends TCP requests meanwhile.
    #[track_caller]
    fn at(server: &Server, source: impl Fn(u32) -> SocketAddr + Sync) -> Self {
        assert_serves(server, "before");
        let (counters, kib, lines) = (server.counters(), server.resident_kib(), server.stdout.lines().len());
        let (log_lines, start) = (server.log_lines().len(), Instant::now());
        let mut latencies = Vec::new();
        let datagrams = thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let spoofing_socket = RawUdpSocket::new();
                let mut count = 0;
                while start.elapsed() < FLOOD_TIME {
                    spoofing_socket.send(source(count), server.udp(), UDP_REQUEST);
                    count += 1;
                }
                u64::from(count)
            });
            while !flood.is_finished() {
                let request_start = Instant::now();
                assert_eq!(request(server.tcp()), GREETING);
                latencies.push(request_start.elapsed());
            }
            flood.join().expect("it only sends")
        });
        latencies.sort_unstable();
        let (elapsed, after) = (start.elapsed(), server.counters());
        Self {
            datagrams,
            elapsed,
            latencies,
            received: after["datagrams_received"] - counters["datagrams_received"],
            sent: after["datagrams_sent"] + after["datagrams_dropped"]
                - counters["datagrams_sent"]
                - counters["datagrams_dropped"],
            kib: server.resident_kib().saturating_sub(kib),
            lines: (server.stdout.lines().len() - lines) as u64,
            log_lines: (server.log_lines().len() - log_lines) as u64,
        }
    }

    #[track_caller]
    fn assert_bounded(&self, description: &str) {
        let &Self { datagrams, elapsed, received, sent, kib, lines, log_lines, .. } = self;
        // The flood fills the queue of the loopback device, which then drops TCP segments too. No server can avoid
        // their retransmission, so the slowest tenth is printed and not checked.
        let (percentile_90, slowest) =
            (self.latencies[self.latencies.len() * 9 / 10], self.latencies[self.latencies.len() - 1]);
        print_measurement(&format!(
            "{description}: {datagrams} datagrams in {elapsed:.1?}, {received} received, {sent} answers, {kib} KiB more memory, \
             {lines} event lines, {log_lines} log lines, {} TCP clients within {percentile_90:.1?}, the slowest {slowest:.0?}",
            self.latencies.len()
        ));
        assert!(received > 5_000, "{description}: only {received} were received: this is no flood");
        assert!(kib < KIB_MAX, "{description}: memory grew by {kib} KiB");
        let seconds = elapsed.as_secs() + 2;
        assert!(lines <= EVENT_LINES_PER_SECOND_MAX * seconds, "{description}: {lines} event lines in {elapsed:?}");
        assert!(log_lines <= seconds, "{description}: {log_lines} log lines in {elapsed:?}");
        assert!(percentile_90 < RESPONSE_TIME_MAX, "{description}: TCP clients waited {percentile_90:?}");
    }
}

#[test]
#[ignore = "needs a network namespace"]
fn a_flood_from_one_source_is_answered_at_the_rate_of_one_source() {
    in_test_network(|| {
        let server = HALLOO.start(&["--listen", "10.9.0.1:0"]);
        let source = SocketAddr::from(([10, 64, 0, 1], 9));
        let flood = FloodResult::at(&server, |_| source);
        flood.assert_bounded("flood from one source");
        let seconds = flood.elapsed.as_secs() + 1;
        assert!(flood.sent >= RATE, "{} answers", flood.sent);
        assert!(flood.sent <= RATE * (seconds + 1), "{} answers in {:?}", flood.sent, flood.elapsed);
        assert_serves(&server, "after the flood");
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn a_flood_from_many_forged_sources_uses_no_more_memory() {
    in_test_network(|| {
        let server = HALLOO.start(&["--listen", "10.9.0.1:0"]);
        let block = u32::from(Ipv4Addr::new(10, 64, 0, 0));
        // Each datagram has another source, from a block of 4 million.
        let source = |count: u32| (Ipv4Addr::from(block + count.wrapping_mul(2_654_435_761) % (1 << 22)), 9).into();
        let flood = FloodResult::at(&server, source);
        flood.assert_bounded("flood from many sources");
        assert!(flood.sent <= flood.received, "{} answers to {}", flood.sent, flood.received);
        // The table of sources has a fixed size: the total is bounded by the rates of all its buckets.
        let buckets = 16 * 1024;
        assert!(flood.sent <= buckets * RATE * (flood.elapsed.as_secs() + 2));
        assert_serves(&server, "after the flood");
    });
}
