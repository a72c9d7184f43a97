//! Several workers under a supervisor: they share what is handed over, and speak with one voice.

use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::descriptors;
use crate::support::{
    Ear, GREETING, Launch, PATIENCE, Server, UDP_GREETING, ask, ask_udp, begin_asking, can_hand_over, connect, rest,
    udp_client, wait_until,
};

const WORKERS: [&str; 2] = ["--workers", "3"];

/// How many descriptors of a server stand for a socket of this process.
fn copies(server: &Server, socket: impl AsFd) -> usize {
    let own = format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd());
    let name = std::fs::read_link(own).expect("it is open");
    server.descriptors().iter().filter(|link| **link == name).count()
}

#[test]
fn sockets_handed_over_are_served_by_every_worker() {
    if !can_hand_over() {
        return;
    }
    let (tcp, udp) =
        (TcpListener::bind("127.0.0.1:0").expect("a port"), UdpSocket::bind("127.0.0.1:0").expect("a port"));
    let (tcp_at, udp_at) = (tcp.local_addr().expect("it is bound"), udp.local_addr().expect("it is bound"));
    let mut server = Launch { arguments: &WORKERS, handed: &descriptors![tcp, udp], ..Launch::default() }.serve();
    assert_eq!(server.served(), [format!("tcp={tcp_at}"), format!("udp={udp_at}")]);
    assert_eq!((copies(&server, &tcp), copies(&server, &udp)), (3, 3));
    for _ in 0..50 {
        let clients: Vec<TcpStream> = (0..5).map(|_| begin_asking(tcp_at)).collect();
        assert_eq!(ask_udp(&udp_client(udp_at)), UDP_GREETING);
        assert!(clients.iter().all(|client| rest(client) == GREETING));
    }
    server.signal("USR1");
    wait_until("the counters", || server.errors.text().contains("worker 3: "));
    let sum = server.errors.lines().into_iter().find(|line| line.contains(" turns=")).expect("it was asked for");
    assert!(sum.contains(" accepted=250 ") && sum.contains(" datagrams_received=50 "), "{sum}");
    // Whoever comes after its end waits for the next server, as with one worker.
    server.assert_stops();
    let waiting = begin_asking(tcp_at);
    let mut next = Launch { arguments: &WORKERS, handed: &descriptors![tcp, udp], ..Launch::default() }.serve();
    assert_eq!(rest(&waiting), GREETING);
    next.assert_stops();
}

#[test]
fn beside_sockets_handed_over_others_are_shared_that_were_asked_for() {
    if !can_hand_over() {
        return;
    }
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let handed_at = tcp.local_addr().expect("it is bound");
    let arguments = [&WORKERS[..], &["--tcp", "127.0.0.1:0"]].concat();
    let server = Launch { arguments: &arguments, handed: &descriptors![tcp], ..Launch::default() }.serve();
    let list = server.served();
    assert_eq!((list.len(), list[0].as_str()), (2, format!("tcp={handed_at}").as_str()));
    let own = list[1].strip_prefix("tcp=").expect("it serves TCP").parse().expect("an address");
    assert!((0..30).all(|_| ask(handed_at) == GREETING && ask(own) == GREETING));
}

#[test]
fn the_watchdog_is_fed_until_the_last_worker_has_drained() {
    if !can_hand_over() {
        return;
    }
    let ear = Ear::new();
    let variables = [("NOTIFY_SOCKET", ear.path.as_str()), ("WATCHDOG_USEC", "200000")];
    let arguments = [&WORKERS[..], &["--tcp", "127.0.0.1:0", "--drain-timeout", "300s"]].concat();
    let mut server = Launch { arguments: &arguments, variables: &variables, handed: &[] }.serve();
    assert_eq!(ear.hear(), "READY=1");
    for _ in 0..3 {
        assert_eq!(ear.hear(), "WATCHDOG=1");
    }
    let (before, address) = (server.descriptors().len(), server.tcp());
    let clients: Vec<TcpStream> = (0..8).map(|_| connect(address)).collect();
    wait_until("the connections", || server.descriptors().len() == before + clients.len());
    server.signal("TERM");
    while ear.hear() != "STOPPING=1" {}
    // One worker after the other has nobody left, the first not always being the last.
    for client in clients {
        assert_eq!(ear.hear(), "WATCHDOG=1");
        client.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(rest(&client), GREETING);
        while ear.hear_within(Duration::from_millis(1)).is_some() {}
    }
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_watchdog_does_not_keep_idle_workers_alive() {
    if !can_hand_over() {
        return;
    }
    let ear = Ear::new();
    let variables = [("NOTIFY_SOCKET", ear.path.as_str()), ("WATCHDOG_USEC", "200000")];
    let arguments = [&WORKERS[..], &["--tcp", "127.0.0.1:0", "--exit-when-idle", "700ms"]].concat();
    let begun = std::time::Instant::now();
    let mut server = Launch { arguments: &arguments, variables: &variables, handed: &[] }.serve();
    while ear.hear() != "STOPPING=1" {}
    assert_eq!(server.wait(), 0);
    assert!((Duration::from_millis(700)..PATIENCE).contains(&begun.elapsed()));
}
