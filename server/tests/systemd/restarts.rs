//! Restarts with inherited sockets.
//!
//! No connection and no datagram is lost.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use support::network::streams::{GREETING, read_to_end};
use support::network::tcp::{request, send_request};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, request_udp_on, udp_client};
use support::process::server::Server;
use support::wait::wait_until;

use crate::activated_server::{Activation, connect_accepted, idle_context_switches};
use crate::borrowed_fds;

const RESTARTS: usize = 4;
const CLIENTS: usize = 6;

/// Greetings of each server before it is stopped, over each protocol.
const GREETED_BY_EACH_MIN: usize = 50;

fn sockets() -> (TcpListener, SocketAddr, UdpSocket, SocketAddr) {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let (tcp_at, udp_at) = (tcp.local_addr().expect("it is bound"), udp.local_addr().expect("it is bound"));
    (tcp, tcp_at, udp, udp_at)
}

/// Ends the loops of the clients, also when the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn four_restarts_under_load_lose_no_connection_and_no_datagram() {
    let (tcp, tcp_at, udp, udp_at) = sockets();
    let sockets = &borrowed_fds![tcp, udp];
    let activation = Activation { sockets, ..Activation::default() };
    let (is_done, greeted, greeted_udp) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let stop_guard = SetOnDrop(&is_done);
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    assert_eq!(request(tcp_at), GREETING);
                    greeted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            let client = udp_client(udp_at);
            while !is_done.load(Ordering::Relaxed) {
                assert_eq!(request_udp_on(&client, UDP_REQUEST), UDP_GREETING);
                greeted_udp.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..=RESTARTS {
            let before = [&greeted, &greeted_udp].map(|count| count.load(Ordering::Relaxed));
            let mut server = activation.start();
            let is_busy = |count: &AtomicUsize, before| count.load(Ordering::Relaxed) >= before + GREETED_BY_EACH_MIN;
            wait_until("some traffic", || is_busy(&greeted, before[0]) && is_busy(&greeted_udp, before[1]));
            server.assert_exits_on_sigterm();
        }
        // One more server serves the clients that are waiting, and stays until they are done.
        let server = activation.start();
        drop(stop_guard);
        server
    });
    assert!(greeted.into_inner() >= RESTARTS * GREETED_BY_EACH_MIN);
}

/// Connects a silent client, stops the server, and waits until it has closed the listener.
fn begin_drain(server: &Server, tcp: &TcpListener, tcp_at: SocketAddr) -> std::net::TcpStream {
    let link = |listener: &TcpListener| {
        let own = std::os::fd::AsRawFd::as_raw_fd(listener);
        std::fs::read_link(format!("/proc/self/fd/{own}")).expect("it is open")
    };
    let (listener, before) = (link(tcp), server.fd_targets().len());
    let silent = connect_accepted(server, tcp_at, before);
    server.signal("TERM");
    wait_until("the listener to be closed", || !server.fd_targets().contains(&listener));
    silent
}

#[test]
fn clients_that_connect_while_a_server_ends_wait_for_the_next_one() {
    let (tcp, tcp_at, udp, udp_at) = sockets();
    let sockets = &borrowed_fds![tcp, udp];
    let activation = Activation { arguments: &["--drain-timeout", "300s"], sockets, ..Activation::default() };
    let mut first = activation.start();
    let silent = begin_drain(&first, &tcp, tcp_at);
    let rest_before = idle_context_switches(&first);
    let waiting: Vec<_> = (0..50).map(|_| send_request(tcp_at)).collect();
    assert!(first.is_running());
    // The second server serves beside the first, which still has a client.
    let mut second = activation.start();
    for client in &waiting {
        assert_eq!(read_to_end(client), GREETING);
    }
    assert_eq!(idle_context_switches(&first), rest_before, "a client of the second server woke the first");
    assert_eq!(request_udp_on(&udp_client(udp_at), UDP_REQUEST), UDP_GREETING);
    std::io::Write::write_all(&mut &silent, b"at last").expect("the server is there");
    assert_eq!(read_to_end(&silent), GREETING);
    assert_eq!(first.wait(), 0);
    assert_eq!(request(tcp_at), GREETING);
    second.assert_exits_on_sigterm();
}
