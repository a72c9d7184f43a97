//! Restarts that nobody notices: the sockets stay with the supervisor, and clients wait there.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::descriptors;
use crate::support::{
    GREETING, Launch, Server, UDP_GREETING, ask, ask_udp, begin_asking, can_hand_over, rest, udp_client, wait_until,
};

const RESTARTS: usize = 4;
const CLIENTS: usize = 6;

/// What each server has to greet before it is stopped, and what comes while none is there.
const GREETED_BY_EACH_MIN: usize = 50;

fn sockets() -> (TcpListener, SocketAddr, UdpSocket, SocketAddr) {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let (tcp_at, udp_at) = (tcp.local_addr().expect("it is bound"), udp.local_addr().expect("it is bound"));
    (tcp, tcp_at, udp, udp_at)
}

/// Ends the clients' loops, also when a test fails between.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn four_restarts_under_load_lose_no_connection_and_no_datagram() {
    if !can_hand_over() {
        return;
    }
    let (tcp, tcp_at, udp, udp_at) = sockets();
    let handed = &descriptors![tcp, udp];
    let launch = Launch { handed, ..Launch::default() };
    let (enough, greeted, greeted_udp) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let ending = Ending(&enough);
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    assert_eq!(ask(tcp_at), GREETING);
                    greeted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            let client = udp_client(udp_at);
            while !enough.load(Ordering::Relaxed) {
                assert_eq!(ask_udp(&client), UDP_GREETING);
                greeted_udp.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..=RESTARTS {
            let before = [&greeted, &greeted_udp].map(|count| count.load(Ordering::Relaxed));
            let mut server = launch.serve();
            let is_busy = |count: &AtomicUsize, before| count.load(Ordering::Relaxed) >= before + GREETED_BY_EACH_MIN;
            wait_until("some traffic", || is_busy(&greeted, before[0]) && is_busy(&greeted_udp, before[1]));
            server.assert_stops();
        }
        // Whoever has come meanwhile is served by one more, which stays until they are done.
        let server = launch.serve();
        drop(ending);
        server
    });
    assert!(greeted.into_inner() >= RESTARTS * GREETED_BY_EACH_MIN);
}

/// Stops a server, once it has this silent client, and waits until it accepts nobody.
fn begin_drain(server: &Server, tcp: &TcpListener, tcp_at: SocketAddr) -> std::net::TcpStream {
    let link = |listener: &TcpListener| {
        let own = std::os::fd::AsRawFd::as_raw_fd(listener);
        std::fs::read_link(format!("/proc/self/fd/{own}")).expect("it is open")
    };
    let (listener, before) = (link(tcp), server.descriptors().len());
    let silent = server.held(tcp_at, before);
    server.signal("TERM");
    wait_until("the listener to be given back", || !server.descriptors().contains(&listener));
    silent
}

#[test]
fn clients_that_come_while_a_server_ends_wait_for_the_next() {
    if !can_hand_over() {
        return;
    }
    let (tcp, tcp_at, udp, udp_at) = sockets();
    let handed = &descriptors![tcp, udp];
    let launch = Launch { arguments: &["--drain-timeout", "300s"], handed, ..Launch::default() };
    let mut first = launch.serve();
    let silent = begin_drain(&first, &tcp, tcp_at);
    let rest_before = first.at_rest();
    let waiting: Vec<_> = (0..50).map(|_| begin_asking(tcp_at)).collect();
    assert!(first.is_running());
    // The next one serves beside the first, which has its last client still.
    let mut second = launch.serve();
    for client in &waiting {
        assert_eq!(rest(client), GREETING);
    }
    assert_eq!(first.at_rest(), rest_before, "clients of the next one do not wake it");
    assert_eq!(ask_udp(&udp_client(udp_at)), UDP_GREETING);
    std::io::Write::write_all(&mut &silent, b"at last").expect("the server is there");
    assert_eq!(rest(&silent), GREETING);
    assert_eq!(first.wait(), 0);
    assert_eq!(ask(tcp_at), GREETING);
    second.assert_stops();
}
