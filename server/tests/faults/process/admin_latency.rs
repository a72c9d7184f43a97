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
use support::network::http_client::get;
use support::network::tcp::connect;
use support::process::child::run;
use support::process::server::Server;
use support::process::strace::FaultInjection;
use support::wait::{wait_for, wait_until};

use crate::HALLOO;

const REQUESTS: usize = 2000;

/// A busy machine may take this long; a health check would not notice it.
const SLOWEST_MAX: Duration = Duration::from_secs(1);

const ARGUMENTS: [&str; 7] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "4", "--events=json"];

#[track_caller]
fn measure(case: &str, server: &Server) {
    let mut times: Vec<Duration> = (0..REQUESTS)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(get(server.admin(), "/ready").status, 200, "{case}");
            start.elapsed()
        })
        .collect();
    times.sort();
    let [half, most, slowest] = [REQUESTS / 2, REQUESTS * 99 / 100, REQUESTS - 1].map(|index| times[index]);
    print_measurement(&format!("/ready, {case}: p50 {half:?}, p99 {most:?}, max {slowest:?}"));
    assert!(slowest < SLOWEST_MAX, "{case}: {slowest:?}");
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

#[test]
#[ignore = "needs strace and prlimit"]
fn the_endpoint_answers_within_a_second_under_floods_and_beyond_every_limit() {
    let server = HALLOO.start(&ARGUMENTS);
    measure("idle", &server);
    under_flood(&server, || measure("TCP and UDP flood", &server));
    {
        let id_of = |(id, name): (u32, String)| (name == "worker-4").then_some(id);
        let worker = wait_for("the thread", || server.thread_names().into_iter().find_map(id_of));
        let _stuck = FaultInjection::delay_on_thread(worker, "epoll_wait", Duration::from_secs(2));
        measure("one of four workers stuck", &server);
    }
    drop(server);
    let server = HALLOO.start(&[&ARGUMENTS[..], &["--max-connections", "40"]].concat());
    let _clients: Vec<TcpStream> = (0..400).map(|_| connect(server.tcp())).collect();
    measure("connection limit reached", &server);
    under_flood(&server, || measure("connection limit reached, and flood", &server));
    drop(server);
    let server = HALLOO.start(&ARGUMENTS);
    let fd_count = server.fd_count();
    let _clients: Vec<TcpStream> = (0..100).map(|_| connect(server.tcp())).collect();
    wait_until("the connections", || server.fd_count() == fd_count + 100);
    let mut prlimit = Command::new("prlimit");
    // No descriptor is left, and the workers try to accept more clients.
    prlimit.args([&format!("--pid={}", server.pid()), &format!("--nofile={}", server.fd_count())]);
    assert_eq!(run(prlimit).status, 0);
    let _waiting: Vec<TcpStream> = (0..20).map(|_| connect(server.tcp())).collect();
    measure("no descriptor left", &server);
}
