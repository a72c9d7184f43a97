//! Socket activation and the watchdog with several workers.

use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use support::network::streams::{GREETING, read_to_end};
use support::network::tcp::{connect, request, send_request};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, request_udp_on, udp_client};
use support::process::server::Server;
use support::wait::{TIMEOUT, wait_until};

use crate::activated_server::Activation;
use crate::borrowed_fds;
use crate::notify_socket::NotifySocket;

const WORKERS: [&str; 2] = ["--workers", "3"];

/// The number of descriptors of a server that refer to a socket of this process.
fn duplicates(server: &Server, socket: impl AsFd) -> usize {
    let fd_path = format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd());
    let name = std::fs::read_link(fd_path).expect("it is open");
    server.fd_targets().iter().filter(|link| **link == name).count()
}

#[test]
fn inherited_sockets_are_served_by_every_worker() {
    let (tcp, udp) =
        (TcpListener::bind("127.0.0.1:0").expect("a port"), UdpSocket::bind("127.0.0.1:0").expect("a port"));
    let (tcp_at, udp_at) = (tcp.local_addr().expect("it is bound"), udp.local_addr().expect("it is bound"));
    let mut server =
        Activation { arguments: &WORKERS, sockets: &borrowed_fds![tcp, udp], ..Activation::default() }.start();
    assert_eq!(server.ready_addresses(), [format!("tcp={tcp_at}"), format!("udp={udp_at}")]);
    assert_eq!((duplicates(&server, &tcp), duplicates(&server, &udp)), (3, 3));
    for _ in 0..50 {
        let clients: Vec<TcpStream> = (0..5).map(|_| send_request(tcp_at)).collect();
        assert_eq!(request_udp_on(&udp_client(udp_at), UDP_REQUEST), UDP_GREETING);
        assert!(clients.iter().all(|client| read_to_end(client) == GREETING));
    }
    server.signal("USR1");
    wait_until("the counters", || server.stderr.text().contains("worker 3: "));
    let sum = server.stderr.lines().into_iter().find(|line| line.contains(" turns=")).expect("it was asked for");
    assert!(sum.contains(" accepted=250 ") && sum.contains(" datagrams_received=50 "), "{sum}");
    // A client that connects after the exit waits for the next server, as with one worker.
    server.assert_exits_on_sigterm();
    let waiting = send_request(tcp_at);
    let mut next =
        Activation { arguments: &WORKERS, sockets: &borrowed_fds![tcp, udp], ..Activation::default() }.start();
    assert_eq!(read_to_end(&waiting), GREETING);
    next.assert_exits_on_sigterm();
}

#[test]
fn workers_share_inherited_sockets_and_those_of_flags() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let inherited_address = tcp.local_addr().expect("it is bound");
    let arguments = [&WORKERS[..], &["--tcp", "127.0.0.1:0"]].concat();
    let server = Activation { arguments: &arguments, sockets: &borrowed_fds![tcp], ..Activation::default() }.start();
    let list = server.ready_addresses();
    assert_eq!((list.len(), list[0].as_str()), (2, format!("tcp={inherited_address}").as_str()));
    let own_address = list[1].strip_prefix("tcp=").expect("it serves TCP").parse().expect("an address");
    assert!((0..30).all(|_| request(inherited_address) == GREETING && request(own_address) == GREETING));
}

/// How many connections the first worker has accepted.
fn accepted_by_first_worker(server: &Server) -> u64 {
    const PART: &str = " worker 1: turns=";
    let before = server.stderr.count_lines_with(PART);
    server.signal("USR1");
    wait_until("the counters", || server.stderr.count_lines_with(PART) > before);
    let line = server.stderr.lines().into_iter().rfind(|line| line.contains(PART)).expect("it is one of them");
    let (_, rest) = line.split_once(" accepted=").expect("a counter of every worker");
    rest.split(' ').next().expect("a number").parse().expect("a number")
}

/// Silent clients of the first worker, and of the other workers: at least one each.
fn connect_by_worker(server: &Server) -> [Vec<TcpStream>; 2] {
    let mut clients = [Vec::new(), Vec::new()];
    wait_until("a client of the first worker and one of another", || {
        let (descriptors, accepted) = (server.fd_count(), accepted_by_first_worker(server));
        let client = connect(server.tcp());
        wait_until("the connection", || server.fd_count() > descriptors);
        clients[usize::from(accepted_by_first_worker(server) == accepted)].push(client);
        !clients[0].is_empty() && !clients[1].is_empty()
    });
    clients
}

#[test]
fn watchdog_messages_are_sent_until_the_last_worker_has_drained() {
    for first_worker_ends_first in [true, false] {
        let supervisor = NotifySocket::new();
        let variables = [("NOTIFY_SOCKET", supervisor.path.as_str()), ("WATCHDOG_USEC", "200000")];
        let arguments = [&WORKERS[..], &["--tcp", "127.0.0.1:0", "--drain-timeout", "300s"]].concat();
        let mut server = Activation { arguments: &arguments, env: &variables, sockets: &[] }.start();
        assert_eq!(supervisor.recv(), "READY=1");
        let mut clients = connect_by_worker(&server);
        if !first_worker_ends_first {
            clients.reverse();
        }
        // This makes room for STOPPING=1.
        while supervisor.recv_within(Duration::from_millis(1)).is_some() {}
        server.signal("TERM");
        supervisor.wait_for_stopping();
        for clients in clients {
            // Drops the messages that have arrived. One of the next may have been sent before, too.
            while supervisor.recv_within(Duration::from_millis(1)).is_some() {}
            for _ in 0..3 {
                assert_eq!(supervisor.recv(), "WATCHDOG=1");
            }
            for client in clients {
                client.shutdown(Shutdown::Write).expect("it is connected");
                assert_eq!(read_to_end(&client), GREETING);
            }
        }
        assert_eq!(server.wait(), 0);
    }
}

#[test]
fn the_watchdog_does_not_delay_the_idle_exit_of_workers() {
    let supervisor = NotifySocket::new();
    let variables = [("NOTIFY_SOCKET", supervisor.path.as_str()), ("WATCHDOG_USEC", "200000")];
    let arguments = [&WORKERS[..], &["--tcp", "127.0.0.1:0", "--exit-when-idle", "700ms"]].concat();
    let start = std::time::Instant::now();
    let mut server = Activation { arguments: &arguments, env: &variables, sockets: &[] }.start();
    supervisor.wait_for_stopping();
    assert_eq!(server.wait(), 0);
    assert!((Duration::from_millis(700)..TIMEOUT).contains(&start.elapsed()));
}
