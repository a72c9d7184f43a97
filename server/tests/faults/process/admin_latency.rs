//! The time that the admin endpoint takes to answer under load.
//!
//! Each request has a connection of its own, as the checks of a load balancer have.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::measurement::print_measurement;
use support::network::http_client::{HttpClient, get};
use support::network::tcp::connect;
use support::process::child::run;
use support::process::server::Server;
use support::process::strace::FaultInjection;
use support::wait::{wait_for, wait_until};

use crate::HALLOO;

const REQUESTS: usize = 2000;

/// The best of a few tries shows the server; the slower ones show a busy machine.
const TRIES: usize = 3;

/// 99 of 100 requests of a try are faster.
const P99_MAX: Duration = Duration::from_millis(20);

const ARGUMENTS: [&str; 7] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "4", "--events=json"];

const TCP_GREETINGS: &str = "halloo_greetings_total{protocol=\"tcp\"}";
const UDP_GREETINGS: &str = "halloo_greetings_total{protocol=\"udp\"}";
const STUCK_WORKER_UP: &str = "halloo_worker_up{worker=\"4\"}";

/// Four of eight silent clients are closed after 1 s, and one more for their end.
const LOCKED_OUT_MAX: Duration = Duration::from_secs(4);

/// Measures until one try is fast. `check` judges the server during each try.
#[track_caller]
fn measure(case: &str, server: &Server, mut check: impl FnMut()) {
    let is_fast = |_| {
        let times = ready_times(case, server);
        check();
        let [half, most, slowest] = [REQUESTS / 2, REQUESTS * 99 / 100, REQUESTS - 1].map(|index| times[index]);
        print_measurement(&format!("/ready, {case}: p50 {half:?}, p99 {most:?}, max {slowest:?}"));
        most < P99_MAX
    };
    assert!((0..TRIES).any(is_fast), "{case}: no try has a p99 below {P99_MAX:?}");
}

/// The sorted times of the requests.
#[track_caller]
fn ready_times(case: &str, server: &Server) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..REQUESTS)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(get(server.admin(), "/ready").status, 200, "{case}");
            start.elapsed()
        })
        .collect();
    times.sort();
    times
}

/// The value of a series now.
#[track_caller]
fn metric(server: &Server, series: &str) -> u64 {
    let metrics = get(server.admin(), "/metrics").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {series} in {metrics}"))
}

/// Checks that a counter rises in each try.
fn rises(server: &Server, series: &'static str) -> impl FnMut() {
    let mut last = metric(server, series);
    move || {
        let now = metric(server, series);
        assert!(now > last, "{series} stays at {now}");
        last = now;
    }
}

/// Floods a server from this process while `body` runs.
fn under_flood(server: &Server, body: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    let (tcp, udp) = (server.tcp(), server.udp());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| flood_tcp(tcp, &is_over));
            scope.spawn(|| flood_udp(udp, &is_over));
        }
        body();
        is_over.store(true, Ordering::Relaxed);
    });
}

fn flood_tcp(to: SocketAddr, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        // Ports may run out for a moment.
        let Ok(mut client) = TcpStream::connect(to) else { continue };
        // At the connection limit there is no reply.
        let _ = client.set_read_timeout(Some(Duration::from_millis(100)));
        let _ = client.write_all(b"hello");
        let _ = client.read_to_end(&mut Vec::new());
    }
}

fn flood_udp(to: SocketAddr, is_over: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(to).expect("an address");
    while !is_over.load(Ordering::Relaxed) {
        let _ = socket.send(b"hello");
    }
}

/// Leaves no descriptor to a server.
fn take_all_descriptors(server: &Server) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args([&format!("--pid={}", server.pid()), &format!("--nofile={}", server.fd_count())]);
    assert_eq!(run(prlimit).status, 0);
}

#[test]
#[ignore = "needs strace and prlimit"]
fn the_endpoint_answers_within_20_ms_under_floods_and_beyond_every_limit() {
    let server = HALLOO.start(&ARGUMENTS);
    measure("idle", &server, || {});
    let floods = |server| {
        let [mut tcp, mut udp] = [TCP_GREETINGS, UDP_GREETINGS].map(|series| rises(server, series));
        move || [&mut tcp, &mut udp].into_iter().for_each(|check| check())
    };
    under_flood(&server, || measure("TCP and UDP flood", &server, floods(&server)));
    {
        let id_of = |(id, name): (u32, String)| (name == "worker-4").then_some(id);
        let worker = wait_for("the thread", || server.thread_names().into_iter().find_map(id_of));
        let _stuck = FaultInjection::delay_on_thread(worker, "epoll_wait", Duration::from_secs(600));
        // A question ends the wait that had begun before.
        wait_until("the worker to be stuck", || metric(&server, STUCK_WORKER_UP) == 0);
        measure("one of four workers stuck", &server, || assert_eq!(metric(&server, STUCK_WORKER_UP), 0));
    }
    drop(server);
    let server = HALLOO.start(&[&ARGUMENTS[..], &["--max-connections", "40"]].concat());
    let _clients: Vec<TcpStream> = (0..400).map(|_| connect(server.tcp())).collect();
    wait_until("the limit to be reached", || metric(&server, "halloo_connections") == 40);
    measure("connection limit reached", &server, || {});
    under_flood(&server, || measure("connection limit reached, and flood", &server, rises(&server, UDP_GREETINGS)));
    drop(server);
    let server = HALLOO.start(&ARGUMENTS);
    let fd_count = server.fd_count();
    let _clients: Vec<TcpStream> = (0..100).map(|_| connect(server.tcp())).collect();
    wait_until("the connections", || server.fd_count() == fd_count + 100);
    take_all_descriptors(&server);
    let check = rises(&server, "halloo_accept_errors_total");
    // The workers try to accept them.
    let _waiting: Vec<TcpStream> = (0..20).map(|_| connect(server.tcp())).collect();
    measure("no descriptor left", &server, check);
}

#[test]
#[ignore = "needs prlimit"]
fn without_a_descriptor_clients_that_stay_connected_or_silent_lock_out_no_other() {
    let answered = "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (request, clients) in [(answered, 20), ("GET /live HTTP/1.1\r\n", 8), ("", 8)] {
        let server = HALLOO.start(&ARGUMENTS);
        take_all_descriptors(&server);
        let mut staying: Vec<HttpClient> = Vec::new();
        for _ in 0..clients {
            let mut client = HttpClient::connect(server.admin());
            client.send(request.as_bytes());
            staying.push(client);
            if request == answered {
                assert_eq!(staying.last_mut().expect("it was added").read_response_to("GET").status, 200);
            }
        }
        let start = Instant::now();
        assert_eq!(get(server.admin(), "/ready").status, 200);
        assert!(start.elapsed() < LOCKED_OUT_MAX, "{:?}", start.elapsed());
    }
}
