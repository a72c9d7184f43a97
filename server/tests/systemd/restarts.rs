//! Restarts with inherited sockets, also during exchanges at a fixed rate.
//!
//! No exchange is refused, reset or unanswered, and each datagram is sent once.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::network::streams::{GREETING, REQUEST, read_to_end, send};
use support::network::tcp::{connect_from, request, send_request};
use support::network::udp::{
    UDP_GREETING, UDP_REQUEST, request_udp_on, retry_interrupted, udp_client, udp_client_from,
};
use support::process::server::Server;
use support::wait::{repeat_at_rate, wait_until};

use crate::activated_server::{Activation, connect_accepted, idle_context_switches};
use crate::deployed_units::unit_sockets;

const RESTARTS: usize = 20;

/// 500 exchanges a second over each protocol, however fast the server is.
const INTERVAL: Duration = Duration::from_millis(2);

/// Exchanges over each protocol between two restarts.
const EXCHANGES_BETWEEN_RESTARTS: usize = 100;

/// How a server is replaced.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// As `systemctl restart`: clients wait in the sockets meanwhile.
    StopThenStart,
    /// Two servers serve the same sockets for a moment.
    StartThenStop,
}

/// The sockets of the units: on a busy machine a restart takes long, and the clients of that time wait in them.
fn sockets() -> (TcpListener, UdpSocket) {
    unit_sockets(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// An address of 127.0.0.0/8, another one for each number.
fn source(number: usize) -> [u8; 4] {
    let [.., high, middle, low] = (number * 40_503).to_be_bytes();
    [127, high, middle, 1 + low % 254]
}

/// Begins exchanges at a fixed rate until `is_over`, each from another address. Judges and counts the answers.
fn run_exchanges<T: Send>(
    is_over: &AtomicBool,
    answered: &AtomicUsize,
    expected: &str,
    begin: impl Fn([u8; 4]) -> T + Send,
    read: impl Fn(&T) -> io::Result<String>,
) {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut numbers = 0..;
            repeat_at_rate(INTERVAL, || {
                let number = numbers.next().expect("it has no end");
                // Without the receiver, an exchange has failed.
                !is_over.load(Ordering::Relaxed) && sender.send(begin(source(number))).is_ok()
            });
        });
        for (number, exchange) in receiver.iter().enumerate() {
            let reply = read(&exchange);
            assert!(matches!(&reply, Ok(reply) if reply == expected), "exchange {number}: {reply:?}");
            answered.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Ends the exchanges, also when the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Restarts the server during exchanges over TCP and UDP.
#[track_caller]
fn assert_no_exchange_is_lost(workers: &str, order: Order) {
    let (tcp, udp) = sockets();
    let [tcp_at, udp_at] = [tcp.local_addr(), udp.local_addr()].map(|address| address.expect("it is bound"));
    let sockets = &[tcp.as_fd(), udp.as_fd()];
    let activation = Activation { arguments: &["--events", "off", "--workers", workers], sockets, env: &[] };
    let (is_over, answered) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    thread::scope(|scope| {
        let stop_guard = SetOnDrop(&is_over);
        scope.spawn(|| {
            let begin = |source| {
                let client = connect_from(source, tcp_at);
                send(&client, REQUEST);
                client
            };
            run_exchanges(&is_over, &answered[0], GREETING, begin, |mut client| {
                let mut reply = String::new();
                client.read_to_string(&mut reply).map(|_| reply)
            });
        });
        scope.spawn(|| {
            let begin = |source| {
                let client = udp_client_from(source, udp_at);
                client.send(UDP_REQUEST).expect("loopback takes it");
                client
            };
            run_exchanges(&is_over, &answered[1], UDP_GREETING, begin, |client| {
                let mut reply = [0; 64];
                let count = retry_interrupted(|| client.recv(&mut reply))?;
                Ok(String::from_utf8_lossy(&reply[..count]).into_owned())
            });
        });
        let mut server = activation.start();
        for _ in 0..RESTARTS {
            let before = answered.each_ref().map(|count| count.load(Ordering::Relaxed));
            wait_until("exchanges between two restarts", || {
                (0..2)
                    .all(|index| answered[index].load(Ordering::Relaxed) >= before[index] + EXCHANGES_BETWEEN_RESTARTS)
            });
            match order {
                Order::StopThenStart => {
                    server.assert_exits_on_sigterm();
                    server = activation.start();
                }
                Order::StartThenStop => {
                    let next = activation.start();
                    server.assert_exits_on_sigterm();
                    server = next;
                }
            }
        }
        drop(stop_guard);
        // It serves until all exchanges are judged.
        server
    });
}

#[test]
fn twenty_restarts_lose_no_exchange() {
    assert_no_exchange_is_lost("1", Order::StopThenStart);
}

#[test]
fn twenty_restarts_with_four_workers_lose_no_exchange() {
    assert_no_exchange_is_lost("4", Order::StopThenStart);
}

#[test]
fn twenty_restarts_with_two_servers_for_a_moment_lose_no_exchange() {
    for workers in ["1", "4"] {
        assert_no_exchange_is_lost(workers, Order::StartThenStop);
    }
}

/// Connects a silent client, stops the server, and waits until it has closed the listener.
fn begin_drain(server: &Server, tcp: &TcpListener, tcp_at: SocketAddr) -> TcpStream {
    let link = |listener: &TcpListener| {
        let own = listener.as_raw_fd();
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
    let (tcp, udp) = sockets();
    let [tcp_at, udp_at] = [tcp.local_addr(), udp.local_addr()].map(|address| address.expect("it is bound"));
    let sockets = &[tcp.as_fd(), udp.as_fd()];
    let activation = Activation { arguments: &["--drain-timeout", "300s"], sockets, env: &[] };
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
    send(&silent, b"at last");
    assert_eq!(read_to_end(&silent), GREETING);
    assert_eq!(first.wait(), 0);
    assert_eq!(request(tcp_at), GREETING);
    second.assert_exits_on_sigterm();
}
