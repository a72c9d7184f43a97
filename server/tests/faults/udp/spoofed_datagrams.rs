//! Datagrams with forged source addresses.
//!
//! Two servers that answer each other fall silent within the rate limit.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::measurement::print_measurement;
use support::network::raw_udp::RawUdpSocket;
use support::network::udp::{UDP_GREETING, UDP_REQUEST};
use support::process::server::Server;
use support::wait::{repeat_for, wait_until};

use crate::HALLOO;
use crate::streams::fallible_clients::{recv, request_udp};
use crate::udp::spoofing_network::in_test_network;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Sends a forged datagram and then a real one. Fails unless only the real one is answered.
#[track_caller]
fn assert_unanswered(server: &Server, to: SocketAddr, from: SocketAddr, payload: &[u8]) {
    let before = server.counters();
    RawUdpSocket::new().send(from, to, payload);
    assert_eq!(request_udp(to), UDP_GREETING, "after a forged datagram from {from}");
    let after = server.counters();
    let growth = |name: &str| after[name] - before[name];
    assert_eq!(growth("datagrams_received"), 2, "the forged datagram from {from} to {to} was lost or duplicated");
    assert_eq!(
        growth("datagrams_sent") + growth("datagrams_dropped"),
        1,
        "a datagram from {from} to {to} was answered"
    );
}

#[test]
#[ignore = "needs a network namespace"]
fn a_source_that_is_no_single_host_gets_no_reply() {
    in_test_network(|| {
        for listening in ["10.9.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let server = HALLOO.start(&["--udp", listening]);
            let to = SocketAddr::new(address("10.9.0.1:0").ip(), server.udp().port());
            for from in ["10.9.0.2:0", "127.0.0.1:0", "255.255.255.255:9", "224.0.0.1:9", "239.255.255.250:1900"] {
                assert_unanswered(&server, to, address(from), UDP_REQUEST);
            }
        }
        for listening in ["[fd09::1]:0", "[::]:0"] {
            let server = HALLOO.start(&["--udp", listening]);
            let to = SocketAddr::new(address("[fd09::1]:0").ip(), server.udp().port());
            for from in ["[fd09::2]:0", "[::1]:0"] {
                assert_unanswered(&server, to, address(from), UDP_REQUEST);
            }
        }
    });
}

/// Only the kernel knows the broadcast addresses of its networks. Without `SO_BROADCAST` it refuses to send there.
#[test]
#[ignore = "needs a network namespace"]
fn a_reply_to_the_broadcast_address_of_a_network_is_never_sent() {
    in_test_network(|| {
        for listening in ["10.9.0.1:0", "0.0.0.0:0"] {
            let server = HALLOO.start(&["--udp", listening]);
            let to = SocketAddr::new(address("10.9.0.1:0").ip(), server.udp().port());
            RawUdpSocket::new().send(address("10.9.255.255:9"), to, UDP_REQUEST);
            assert_eq!(request_udp(to), UDP_GREETING);
            let counters = server.counters();
            let counts = ["datagrams_received", "datagrams_sent", "datagrams_dropped"].map(|name| counters[name]);
            assert_eq!(counts, [2, 1, 1], "{listening}");
        }
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn a_server_never_answers_itself() {
    in_test_network(|| {
        for (listening, owns) in [
            ("10.9.0.1:0", &["10.9.0.1"][..]),
            ("0.0.0.0:0", &["10.9.0.1", "10.9.0.2", "127.0.0.1", "127.9.9.9"]),
            ("[::]:0", &["10.9.0.1", "10.9.0.2", "127.0.0.1"]),
        ] {
            let server = HALLOO.start(&["--udp", listening]);
            let to = SocketAddr::new(address("10.9.0.1:0").ip(), server.udp().port());
            for own in owns {
                assert_unanswered(&server, to, SocketAddr::new(own.parse().expect("an address"), to.port()), b"hello");
            }
        }
        for (listening, owns) in [("[fd09::1]:0", &["fd09::1"][..]), ("[::]:0", &["fd09::1", "fd09::2", "::1"])] {
            let server = HALLOO.start(&["--udp", listening]);
            let to = SocketAddr::new(address("[fd09::1]:0").ip(), server.udp().port());
            for own in owns {
                assert_unanswered(&server, to, SocketAddr::new(own.parse().expect("an address"), to.port()), b"hello");
            }
        }
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn a_greeting_from_another_server_is_not_answered() {
    in_test_network(|| {
        let server = HALLOO.start(&["--udp", "10.9.0.1:0"]);
        assert_unanswered(&server, server.udp(), address("10.9.0.2:8888"), UDP_GREETING.as_bytes());
    });
}

/// An echo service (RFC 862).
struct Echo {
    at: SocketAddr,
    is_done: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
}

impl Echo {
    #[track_caller]
    fn start(at: &str) -> Self {
        let socket = UdpSocket::bind(at).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("an option of every socket");
        let (is_done, echoed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let echo =
            Self { at: socket.local_addr().expect("it is bound"), is_done: is_done.clone(), echoed: echoed.clone() };
        thread::spawn(move || {
            let mut datagram = [0; 2048];
            while !is_done.load(Ordering::Relaxed) {
                if let Ok((count, from)) = socket.recv_from(&mut datagram) {
                    echoed.fetch_add(1, Ordering::Relaxed);
                    let _ = socket.send_to(&datagram[..count], from);
                }
            }
        });
        echo
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::Relaxed);
    }
}

/// Waits until the server has sent nothing for 400 ms. Returns how many datagrams it has sent, and the time.
#[track_caller]
fn sent_until_idle(server: &Server) -> (u64, Duration) {
    let start = Instant::now();
    let (mut sent, mut last_change) = (server.counters()["datagrams_sent"], Instant::now());
    wait_until("the server to fall silent", || {
        repeat_for(Duration::from_millis(40), || ());
        let now = server.counters()["datagrams_sent"];
        if now != sent {
            (sent, last_change) = (now, Instant::now());
        }
        last_change.elapsed() > Duration::from_millis(400)
    });
    (sent, start.elapsed())
}

/// Fails if one source got more than its rate and a burst of one second.
#[track_caller]
fn assert_within_rate(description: &str, rate: u64, sent: u64, elapsed: Duration) {
    print_measurement(&format!("{description}: {sent} answers, silent after {elapsed:?}"));
    let max = rate + rate * u64::try_from(elapsed.as_millis()).expect("a short time") / 1000;
    assert!(sent >= 1 && sent <= max, "{description}: {sent} answers in {elapsed:?}");
}

#[test]
#[ignore = "needs a network namespace"]
fn a_forged_loop_between_a_server_and_an_echo_service_ends_within_the_rate() {
    in_test_network(|| {
        for (mode, max) in [("greet", 1), ("line", 1), ("echo", 100)] {
            let echo = Echo::start("10.9.0.3:0");
            let server = HALLOO.start(&["--udp", "10.9.0.1:0", "--mode", mode]);
            RawUdpSocket::new().send(echo.at, server.udp(), b"hello");
            let (sent, elapsed) = sent_until_idle(&server);
            assert_within_rate(&format!("--mode {mode} and an echo service"), max, sent, elapsed);
            let echoed = echo.echoed.load(Ordering::Relaxed);
            assert!(echoed <= sent, "{echoed} echoed of {sent} sent");
        }
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn a_forged_loop_between_two_servers_ends_within_the_rate() {
    in_test_network(|| {
        let with = |at: &str, arguments: &[&str]| HALLOO.start(&[&["--udp", at], arguments].concat());
        // A server does not answer its own greeting. Other greetings and echoes are bounded by the rate alone.
        let pairs: [(&[&str], &[&str], u64); 4] = [
            (&[], &[], 1),
            (&["--greeting", "one"], &["--greeting", "two"], 100),
            (&["--mode", "echo"], &["--mode", "echo"], 100),
            (&["--mode", "echo"], &[], 2),
        ];
        for (one, other, rate) in pairs {
            let (first, second) = (with("10.9.0.1:0", one), with("10.9.0.2:0", other));
            RawUdpSocket::new().send(second.udp(), first.udp(), b"hello");
            let (sent, elapsed) = sent_until_idle(&first);
            assert_within_rate(&format!("{one:?} and {other:?}"), rate, sent, elapsed);
        }
        let greeting = |text| ["--greeting", text];
        let (first, second) = (with("[fd09::1]:0", &greeting("one")), with("[fd09::2]:0", &greeting("two")));
        RawUdpSocket::new().send(second.udp(), first.udp(), b"hello");
        let (sent, elapsed) = sent_until_idle(&first);
        assert_within_rate("two greetings over IPv6", 100, sent, elapsed);
        // On loopback only a rate set by `--udp-rate` applies.
        let echo = ["--mode", "echo", "--udp-rate", "50"];
        let (first, second) = (with("127.0.0.1:0", &echo), with("127.0.0.2:0", &echo));
        RawUdpSocket::new().send(second.udp(), first.udp(), b"hello");
        let (sent, elapsed) = sent_until_idle(&first);
        assert_within_rate("two echoes on loopback at 50 a second", 50, sent, elapsed);
    });
}

/// On loopback there is no rate: only a greeting that is recognized ends the loop.
#[test]
#[ignore = "needs a network namespace"]
fn a_forged_loop_of_recognized_greetings_ends_at_once() {
    in_test_network(|| {
        let cut = |bytes| ["--fault", bytes];
        let pairs: [(&[&str], &[&str]); 7] = [
            (&["--greeting", "{received}"], &[]),
            (&["--greeting", "{json}"], &[]),
            (&cut("truncate=5"), &cut("truncate=5")),
            (&cut("truncate=0"), &cut("truncate=0")),
            (&cut("truncate=5,share=50%"), &[]),
            (&["--greeting", "{json}", "--fault", "truncate=90"], &["--greeting", "{json}", "--fault", "truncate=90"]),
            (&["--greeting", "{received}", "--fault", "truncate=5"], &["--fault", "truncate=5"]),
        ];
        for (one, other) in pairs {
            let start = |at, arguments: &[&str]| HALLOO.start(&[&["--udp", at, "--events", "off"], arguments].concat());
            let (first, second) = (start("127.0.0.1:0", one), start("127.0.0.2:0", other));
            RawUdpSocket::new().send(second.udp(), first.udp(), &[b'x'; 300]);
            let sent = sent_until_idle(&first).0 + sent_until_idle(&second).0;
            print_measurement(&format!("{one:?} and {other:?}: {sent} answers"));
            assert!((1..=2).contains(&sent), "{one:?} and {other:?}: {sent} answers");
        }
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn on_a_wildcard_the_reply_leaves_from_the_destination_address() {
    in_test_network(|| {
        for (listening, dst_ips) in [
            ("0.0.0.0:0", &["10.9.0.1", "10.9.0.2", "127.0.0.2", "10.64.1.2"][..]),
            ("[::]:0", &["fd09::1", "fd09::2", "::1", "10.9.0.2", "10.64.1.2"]),
        ] {
            let server = HALLOO.start(&["--udp", listening, "--greeting", "{local}"]);
            for dst_ip in dst_ips {
                let to = SocketAddr::new(dst_ip.parse().expect("an address"), server.udp().port());
                // A connected client on another address receives only from the address it asks.
                let own = if to.is_ipv4() { "10.9.0.3:0" } else { "[fd09::2]:0" };
                let client = UdpSocket::bind(own).expect("it is this machine's");
                client.connect(to).expect("there is a route");
                client.set_read_timeout(Some(Duration::from_secs(5))).expect("an option of every socket");
                client.send(UDP_REQUEST).expect("there is a route");
                assert_eq!(recv(&client), to.to_string(), "{listening}: {}", server.stderr.text());
            }
        }
    });
}

#[test]
#[ignore = "needs a network namespace"]
fn a_forged_loop_of_greetings_with_received_ends_without_a_rate() {
    in_test_network(|| {
        // On loopback there is no rate: each answer is shorter than the one before.
        let question = [b'x'; 300];
        for (one, other) in [("{received}", "{received}"), ("a{received}", "b{received}"), ("{json}", "{json}")] {
            let start = |at, greeting| HALLOO.start(&["--udp", at, "--greeting", greeting, "--events", "off"]);
            let (first, second) = (start("127.0.0.1:0", one), start("127.0.0.2:0", other));
            RawUdpSocket::new().send(second.udp(), first.udp(), &question);
            let sent = sent_until_idle(&first).0 + sent_until_idle(&second).0;
            print_measurement(&format!("{one} and {other}: {sent} answers to {} bytes", question.len()));
            let max = if one == "{json}" { 1 } else { question.len() as u64 };
            assert!((1..=max).contains(&sent), "{one} and {other}: {sent} answers");
        }
        let (server, echo) =
            (HALLOO.start(&["--udp", "127.0.0.1:0", "--greeting", "{received}"]), Echo::start("127.0.0.3:0"));
        RawUdpSocket::new().send(echo.at, server.udp(), &question);
        let (sent, _) = sent_until_idle(&server);
        assert!((1..=question.len() as u64).contains(&sent), "with an echo service: {sent} answers");
    });
}
