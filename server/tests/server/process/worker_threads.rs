//! `--workers`: one address, limit, drain and log for all.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::network::streams::{GREETING, read_to_end, read_until_closed, send};
use support::network::tcp::{connect, connect_many, request, send_request, send_requests};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, recv, request_udp, try_recv, udp_client};
use support::process::child::run;
use support::process::server::Server;
use support::wait::{assert_holds_for, holds_for, wait_for_stable, wait_until};

use crate::HALLOO;

const WORKERS: usize = 4;

/// So many clients that each worker gets some: one of four gets none with a probability of 1 in 10 million.
const CLIENT_COUNT: usize = 60;

fn start(arguments: &[&str]) -> Server {
    HALLOO.start(&[&["--workers", "4", "--listen", "127.0.0.1:0"], arguments].concat())
}

/// The current value of a counter: the sum, and that of each worker.
#[track_caller]
fn counters(server: &Server, name: &str) -> (u64, Vec<u64>) {
    let lines = || server.stderr.lines().into_iter().filter(|line| line.contains(" turns=")).collect::<Vec<_>>();
    let before = lines().len();
    server.signal("USR1");
    wait_until("the counters of all workers", || lines().len() == before + 1 + WORKERS);
    let log_lines = lines().split_off(before);
    let value = |line: &String| {
        let words = line.split_whitespace().filter_map(|word| word.split_once('='));
        let found = words.into_iter().find(|(word, _)| *word == name).and_then(|(_, value)| value.parse().ok());
        found.unwrap_or_else(|| panic!("there is no {name} in {line}"))
    };
    for (number, line) in log_lines[1..].iter().enumerate() {
        assert!(line.contains(&format!(" worker {}: turns=", number + 1)), "{line}");
    }
    (value(&log_lines[0]), log_lines[1..].iter().map(value).collect())
}

/// Connections that send nothing, once workers have accepted all of them.
#[track_caller]
fn connect_accepted(count: usize, server: &Server) -> Vec<TcpStream> {
    let before = server.fd_count();
    let clients = connect_many(count, server.tcp());
    wait_until("the connections", || server.fd_count() == before + count);
    clients
}

fn thread_names(server: &Server) -> BTreeSet<String> {
    server.thread_names().into_iter().map(|(_, name)| name).collect()
}

/// The number of listeners, or of unconnected UDP sockets, on an IPv4 port.
pub(crate) fn sockets(protocol: &str, at: SocketAddr) -> usize {
    let table = fs::read_to_string(format!("/proc/net/{protocol}")).expect("the kernel lists them");
    let (port, state) = (format!(":{:04X}", at.port()), if protocol == "tcp" { "0A" } else { "07" });
    let is_one = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1].ends_with(&port) && words[3] == state
    };
    table.lines().skip(1).filter(is_one).count()
}

#[test]
fn tcp_and_udp_clients_are_spread_over_the_workers_and_all_are_answered() {
    let mut server = start(&["--events", "off"]);
    let expected = ["halloo", "worker-2", "worker-3", "worker-4"].map(str::to_owned);
    let expected = BTreeSet::from(expected);
    // Each thread sets its name after its start.
    wait_until("the names of the threads", || thread_names(&server) == expected);
    let streams = send_requests(CLIENT_COUNT, server.tcp());
    let sockets: Vec<UdpSocket> = (0..CLIENT_COUNT).map(|_| udp_client(server.udp())).collect();
    for socket in &sockets {
        socket.send(UDP_REQUEST).expect("loopback takes it");
    }
    assert!(streams.iter().all(|stream| read_to_end(stream) == GREETING));
    assert!(sockets.iter().all(|socket| recv(socket) == UDP_GREETING.as_bytes()));
    for name in ["accepted", "datagrams_received"] {
        let (all, per_worker) = counters(&server, name);
        assert_eq!(
            (all, per_worker.iter().sum()),
            (CLIENT_COUNT as u64, CLIENT_COUNT as u64),
            "{name}: {per_worker:?}"
        );
        assert!(
            per_worker.iter().filter(|count| **count > 0).count() >= 2,
            "one worker had all of {name}: {per_worker:?}"
        );
    }
    server.assert_exits_on_sigterm();
}

#[test]
fn the_ready_line_names_each_address_once_and_comes_when_all_workers_listen() {
    let server = start(&[]);
    let port = server.tcp().port();
    assert_ne!(port, 0);
    let expected = format!("READY tcp=127.0.0.1:{port} udp=127.0.0.1:{port} pid={}", server.pid());
    assert_eq!(server.ready_line(), expected);
    assert_eq!((sockets("tcp", server.tcp()), sockets("udp", server.udp())), (WORKERS, WORKERS));
}

#[test]
#[ignore = "needs IPv6"]
fn the_ready_line_names_the_ipv6_addresses_of_localhost_and_all_workers_serve_them() {
    let server = HALLOO.start(&["--workers", "4", "--listen", "localhost:0"]);
    let port = server.tcp().port();
    let (v4, v6) = (format!("127.0.0.1:{port}"), format!("[::1]:{port}"));
    assert_eq!(server.ready_line(), format!("READY tcp={v4} udp={v4} tcp={v6} udp={v6} pid={}", server.pid()));
    let v6: SocketAddr = v6.parse().expect("an address");
    assert!((0..CLIENT_COUNT).all(|_| request(v6) == GREETING && request_udp(v6, UDP_REQUEST) == UDP_GREETING));
}

#[test]
fn workers_do_not_bind_a_port_in_use_by_another_program() {
    let assert_taken = |flag: &str, address: SocketAddr| {
        let address = address.to_string();
        let output = HALLOO.run(&["--workers", "4", flag, &address]);
        assert_eq!((output.status, output.stdout.as_str()), (3, ""), "{output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
        for part in [&address, "address already in use", flag] {
            assert!(output.stderr.contains(part), "{output:?}");
        }
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    assert_taken("--tcp", taken.local_addr().expect("it is bound"));
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    assert_taken("--udp", taken.local_addr().expect("it is bound"));
    // Also if the other socket has SO_REUSEPORT, such as that of another server.
    let other = start(&[]);
    assert_taken("--listen", other.tcp());
    for kind in [Type::STREAM, Type::DGRAM] {
        let socket = Socket::new(Domain::IPV4, kind, None).expect("a socket");
        socket.set_reuse_port(true).expect("an option of every socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let address = socket.local_addr().expect("it is bound").as_socket().expect("of the internet");
        if kind == Type::STREAM {
            socket.listen(1).expect("it is bound");
            assert_taken("--tcp", address);
        } else {
            assert_taken("--udp", address);
        }
    }
    assert!((0..CLIENT_COUNT).all(|_| request(other.tcp()) == GREETING));
}

#[test]
fn all_workers_together_greet_exactly_max_greetings_with_distinct_numbers() {
    let mut server = start(&["--max-greetings", "120", "--greeting", "{number}", "--events", "off"]);
    server.pause();
    let streams = send_requests(100, server.tcp());
    let sockets: Vec<UdpSocket> = (0..100).map(|_| udp_client(server.udp())).collect();
    for socket in &sockets {
        socket.send(UDP_REQUEST).expect("loopback takes it");
    }
    server.resume();
    let number = |text: Vec<u8>| String::from_utf8(text).expect("digits").parse::<u64>().ok();
    let mut numbers: Vec<u64> = streams.iter().filter_map(|stream| number(read_until_closed(stream))).collect();
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    numbers.extend(sockets.iter().filter_map(try_recv).filter_map(number));
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(1..=120), "{numbers:?}");
    server.stderr.wait_for_line("stopping: all greetings are sent: greetings=120");
}

#[test]
fn a_refused_greeting_uses_no_number_and_the_last_number_is_used() {
    // Most answers are refused by the rate of their source. The numbers reserved for them must be freed.
    let arguments = ["--max-greetings", "60", "--greeting", "{number}", "--udp-rate", "1", "--events", "off"];
    let mut server = start(&arguments);
    let flooders: Vec<UdpSocket> = (0..16).map(|_| udp_client(server.udp())).collect();
    let mut answers: Vec<Vec<u8>> = Vec::new();
    let read_all = |answers: &mut Vec<Vec<u8>>| {
        for flooder in &flooders {
            answers.extend(std::iter::from_fn(|| try_recv(flooder)));
        }
    };
    let address = server.tcp();
    wait_until("the last greeting", || {
        for flooder in flooders.iter().cycle().take(320) {
            // During the exit of the server a send may fail.
            let _ = flooder.send(UDP_REQUEST);
        }
        if let Ok(stream) = TcpStream::connect(address) {
            let _ = (&stream).write_all(b"hello");
            answers.push(read_until_closed(&stream));
        }
        read_all(&mut answers);
        !server.is_running()
    });
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    read_all(&mut answers);
    let texts = answers.into_iter().map(|answer| String::from_utf8(answer).expect("digits"));
    let mut numbers: Vec<u64> = texts.filter_map(|text| text.parse().ok()).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(1..=60), "{numbers:?}");
}

#[test]
fn a_signal_drains_all_workers_and_the_final_line_counts_all() {
    let mut server = start(&["--drain-timeout", "60s"]);
    let clients = connect_accepted(CLIENT_COUNT, &server);
    server.signal("TERM");
    wait_until("every listener to close", || sockets("tcp", server.tcp()) == 0);
    assert!(server.is_running());
    for client in &clients {
        send(client, b"at last");
        assert_eq!(read_to_end(client), GREETING);
    }
    assert_eq!(server.wait(), 0);
    server.stderr.wait_for_line(&format!("connections finished: {CLIENT_COUNT}"));
}

#[test]
fn all_workers_share_one_drain_timeout() {
    let mut server = start(&["--drain-timeout", "400ms"]);
    let silent = connect_accepted(CLIENT_COUNT, &server);
    let start = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(400), "it ended after {elapsed:?}");
    assert!(elapsed < Duration::from_secs(4), "it ended after {elapsed:?}");
    assert!(silent.iter().all(|client| read_until_closed(client).is_empty()));
    server.stderr.wait_for_line(&format!("reset: {CLIENT_COUNT}"));
}

#[test]
fn a_second_signal_resets_the_connections_of_every_worker() {
    let mut server = start(&["--drain-timeout", "300s"]);
    let silent = connect_accepted(CLIENT_COUNT, &server);
    server.signal("TERM");
    server.stderr.wait_for_line("5m to finish");
    assert_holds_for(Duration::from_millis(100), "it waits for its clients", || server.is_running());
    server.signal("INT");
    assert_eq!(server.wait(), 0);
    server.stderr.wait_for_line(&format!("reset: {CLIENT_COUNT}"));
    assert!(silent.iter().all(|client| read_until_closed(client).is_empty()));
}

/// A server that drains and has one connection left, on a worker other than the first.
fn start_with_first_worker_ended() -> (Server, TcpStream) {
    let server = start(&["--drain-timeout", "300s"]);
    let mut silent = connect_accepted(1, &server);
    wait_until("a client of another worker", || {
        let (_, per_worker) = counters(&server, "connections");
        if per_worker[0] > 0 {
            silent.clear();
            wait_until("the end of the connection", || counters(&server, "connections").0 == 0);
            silent = connect_accepted(1, &server);
        }
        per_worker[0] == 0
    });
    server.signal("TERM");
    let running_loops =
        || server.fd_targets().iter().filter(|target| target.ends_with("anon_inode:[eventpoll]")).count();
    wait_until("the end of all loops but one", || running_loops() == 1);
    assert_eq!(counters(&server, "connections").0, 1);
    (server, silent.remove(0))
}

/// Signals go to the main thread, whose loop has ended.
#[test]
fn a_second_signal_resets_connections_also_after_the_first_worker_has_ended() {
    let (mut server, silent) = start_with_first_worker_ended();
    server.signal("INT");
    assert_eq!(server.wait(), 0);
    server.stderr.wait_for_line("reset: 1");
    assert_eq!(read_until_closed(&silent), b"");
}

#[test]
fn the_server_ends_with_its_last_worker_when_the_first_has_ended() {
    let (mut server, silent) = start_with_first_worker_ended();
    send(&silent, b"at last");
    assert_eq!(read_to_end(&silent), GREETING);
    assert_eq!(server.wait(), 0);
    server.stderr.wait_for_line("connections finished: 1");
}

#[test]
fn clients_that_sent_a_request_before_the_signal_are_answered_by_any_worker() {
    for (signal, streams, datagrams) in [("TERM", 400, 0), ("INT", 100, 200)] {
        let mut server = start(&["--events", "off"]);
        server.pause();
        let clients = send_requests(streams, server.tcp());
        let senders: Vec<UdpSocket> = (0..datagrams).map(|_| udp_client(server.udp())).collect();
        for sender in &senders {
            sender.send(UDP_REQUEST).expect("loopback takes it");
        }
        server.signal(signal);
        server.resume();
        assert!(clients.iter().all(|client| read_to_end(client) == GREETING), "{signal}");
        assert!(senders.iter().all(|sender| recv(sender) == UDP_GREETING.as_bytes()), "{signal}");
        assert_eq!(server.wait(), 0);
    }
}

#[test]
fn the_counters_include_workers_that_have_ended() {
    let server = start(&["--drain-timeout", "300s"]);
    let _silent = connect_accepted(1, &server);
    for _ in 0..CLIENT_COUNT {
        assert_eq!(request(server.tcp()), GREETING);
    }
    server.signal("TERM");
    // At most the worker of the silent client is left. The first one waits for the others on the main thread.
    wait_until("the end of the others", || {
        server.thread_names().iter().filter(|(_, name)| name.starts_with("worker-")).count() <= 1
    });
    // A report during the end of a worker is dropped.
    wait_until("the counters of all workers", || {
        server.signal("USR1");
        server.stderr.count_lines_with(" worker 4: turns=") > 0
    });
    let total = server.stderr.wait_for_line(" turns=");
    assert!(total.contains(&format!(" accepted={} ", CLIENT_COUNT + 1)), "{total}");
}

#[test]
fn the_server_is_idle_when_all_workers_are_idle() {
    let started = Instant::now();
    let mut server = start(&["--exit-when-idle", "300ms"]);
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    assert!(started.elapsed() >= Duration::from_millis(300), "it ended after {:?}", started.elapsed());
    server.stderr.wait_for_line("stopping: idle for 300ms");

    let mut server = start(&["--exit-when-idle", "1s"]);
    let silent = connect(server.tcp());
    assert_holds_for(Duration::from_millis(1500), "one worker has a connection", || server.is_running());
    send(&silent, b"hello");
    assert_eq!(read_to_end(&silent), GREETING);
    // Each question comes from another port, and so may go to another worker.
    assert_holds_for(Duration::from_millis(1500), "some worker is asked", || {
        request_udp(server.udp(), UDP_REQUEST) == UDP_GREETING && server.is_running()
    });
    let last = Instant::now();
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    assert!(last.elapsed() >= Duration::from_millis(900), "it ended {:?} after the last greeting", last.elapsed());
    assert_eq!(server.stderr.lines().iter().filter(|line| line.contains("stopping: idle for")).count(), 1);
}

#[test]
fn with_nothing_to_do_all_workers_sleep() {
    // Also with `--exit-when-idle`, once every worker but one is idle.
    let server = start(&["--exit-when-idle", "1s"]);
    let silent = connect(server.tcp());
    for _ in 0..CLIENT_COUNT {
        assert_eq!(request(server.tcp()), GREETING);
    }
    // A busy loop never sleeps, so it causes no wake-up: only its processor time shows it.
    let measure = || (server.voluntary_context_switches(), server.cpu_time());
    let baseline = wait_for_stable("no wake-up and no processor time", Duration::from_millis(1200), measure);
    assert_holds_for(Duration::from_secs(2), "no worker wakes or runs", || measure() == baseline);
    send(&silent, b"hello");
    assert_eq!(read_to_end(&silent), GREETING);
}

#[test]
fn max_connections_is_divided_among_the_workers_and_further_clients_wait() {
    let server = start(&["--max-connections", "4"]);
    let mut silent: Vec<TcpStream> = Vec::new();
    // Until each worker has one.
    wait_until("four connections", || {
        silent.push(connect(server.tcp()));
        holds_for(Duration::from_millis(20), || counters(&server, "connections").0 == 4)
    });
    let (all, per_worker) = counters(&server, "connections");
    assert_eq!((all, per_worker), (4, vec![1; 4]));
    let waiting = send_request(server.tcp());
    assert_holds_for(Duration::from_millis(200), "no fifth", || counters(&server, "accepted").0 == 4);
    drop(silent);
    assert_eq!(read_to_end(&waiting), GREETING);
}

#[test]
fn workers_together_stay_within_the_descriptor_limit() {
    // Without a division of the default, four workers would take 4 * 136 connections.
    let server = Server::start(HALLOO.command_with_fd_limits(
        200,
        200,
        &["--workers", "4", "--tcp", "127.0.0.1:0", "--events", "off"],
    ));
    let _silent = connect_many(300, server.tcp());
    wait_until("all the connections it takes", || counters(&server, "connections").0 >= 100);
    let (all, per_worker) = counters(&server, "connections");
    assert!(all <= 136 && per_worker.iter().all(|count| *count <= 34), "{all} connections: {per_worker:?}");
    assert_eq!(counters(&server, "accept_errors").0, 0, "{}", server.stderr.text());
}

#[test]
fn text_events_come_at_most_20_a_second_from_all_workers_together() {
    let server = start(&[]);
    let sockets: Vec<UdpSocket> = (0..500).map(|_| udp_client(server.udp())).collect();
    for socket in &sockets {
        socket.send(UDP_REQUEST).expect("loopback takes it");
    }
    assert!(sockets.iter().all(|socket| recv(socket) == UDP_GREETING.as_bytes()));
    let sum = |lines: &[String]| -> usize {
        let sums =
            lines.iter().filter_map(|line| line.strip_prefix("... and ")?.split(' ').next()?.parse::<usize>().ok());
        lines.iter().filter(|line| line.starts_with("udp ")).count() + sums.sum::<usize>()
    };
    wait_until("every event to be printed or counted", || sum(&server.event_lines()) == 500);
    let single = server.event_lines().iter().filter(|line| line.starts_with("udp ")).count();
    assert!((20..=100).contains(&single), "{single} of 500 lines were printed");
}

#[test]
fn an_invalid_number_of_workers_is_an_error_of_one_line() {
    for (arguments, parts) in [
        (&["--workers", "0"][..], &["--workers", "whole number from 1 to 1024"][..]),
        (&["--workers", "1025"], &["--workers", "whole number from 1 to 1024"]),
        (&["--workers", "-1"], &["--workers", "whole number from 1 to 1024"]),
        (&["--workers", "all"], &["--workers", "whole number"]),
        (&["--workers", "4", "--max-connections", "3"], &["--max-connections 3", "--workers 4", "each worker"]),
    ] {
        let output = HALLOO.run(arguments);
        assert_eq!((output.status, output.stdout.as_str(), output.stderr.lines().count()), (2, "", 1), "{output:?}");
        assert!(parts.iter().all(|part| output.stderr.contains(part)), "{output:?}");
    }
    let mut command = HALLOO.command(&[]);
    command.env("HALLOO_WORKERS", "0");
    assert!(run(command).stderr.contains("HALLOO_WORKERS"));
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0"]);
    command.env("HALLOO_WORKERS", "2");
    let server = Server::start(command);
    wait_until("the second worker", || thread_names(&server).contains("worker-2"));
}
