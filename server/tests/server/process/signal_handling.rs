//! SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1, SIGSTOP and SIGCONT.
//!
//! Clients that sent a request before the signal are answered.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::network::streams::{GREETING, read_exactly, read_to_end, read_until_closed, send};
use support::network::tcp::{connect, connect_many, request, send_request, send_requests};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, recv, request_udp, udp_client};
use support::process::child::run;
use support::process::server::Server;
use support::wait::{TIMEOUT, assert_holds_for, wait_until};

use crate::HALLOO;
use crate::process::worker_threads::sockets;
use crate::unix::temporary_socket_path::SocketPath;

/// Starts a program on a new terminal and closes it: the kernel sends SIGHUP to the session leader.
const TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
first = b""
while b"\n" not in first:
    first += os.read(terminal, 1024)
os.close(terminal)
_, status = os.waitpid(pid, 0)
print(first.split()[0].decode(), os.waitstatus_to_exitcode(status))
"#;

fn start(arguments: &[&str]) -> Server {
    HALLOO.start(&[&["--listen", "127.0.0.1:0"], arguments].concat())
}

/// Clients that send nothing, once the server has accepted them.
fn connect_accepted(count: usize, server: &Server) -> Vec<TcpStream> {
    let before = server.fd_count();
    let clients = connect_many(count, server.tcp());
    wait_until("the connections", || server.fd_count() == before + count);
    clients
}

#[test]
fn clients_that_sent_a_request_before_the_signal_are_all_answered() {
    // The large numbers are more than one turn of the loop handles: the others are handled during the drain.
    let cases = [("TERM", 40, 10), ("INT", 40, 10), ("TERM", 400, 0), ("INT", 400, 200), ("TERM", 0, 200)];
    for (signal, streams, datagrams) in cases {
        let mut server = start(&[]);
        server.pause();
        let clients = send_requests(streams, server.tcp());
        let sender = udp_client(server.udp());
        for _ in 0..datagrams {
            sender.send(UDP_REQUEST).expect("loopback takes it");
        }
        server.signal(signal);
        server.resume();
        for client in &clients {
            assert_eq!(read_to_end(client), GREETING, "{signal}");
        }
        for _ in 0..datagrams {
            assert_eq!(recv(&sender), UDP_GREETING.as_bytes(), "{signal}");
        }
        assert_eq!(server.wait(), 0);
        server.stderr.wait_for_line(" stopped");
    }
}

#[test]
fn lines_sent_before_the_signal_are_all_answered_although_the_client_reads_late() {
    const LINES: usize = 20_000;
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "line", "--drain-timeout", "60s"]);
    let client = connect(server.tcp());
    send(&client, b"x\n");
    assert_eq!(read_exactly(&client, GREETING.len() + 1), format!("{GREETING}\n").as_bytes());
    server.pause();
    send(&client, &b"x\n".repeat(LINES));
    server.signal("TERM");
    server.resume();
    wait_until("the listener to close", || TcpStream::connect(server.tcp()).is_err());
    assert_eq!(read_to_end(&client), format!("{GREETING}\n").repeat(LINES));
    assert_eq!(server.wait(), 0);
}

#[test]
fn in_a_drain_a_connected_client_is_answered_and_new_ones_are_refused() {
    let mut server = start(&["--drain-timeout", "60s"]);
    let (address, slow) = (server.tcp(), connect_accepted(1, &server));
    server.signal("TERM");
    wait_until("the listener to close", || TcpStream::connect(address).is_err());
    assert!(server.is_running());
    send(&slow[0], b"at last");
    assert_eq!(read_to_end(&slow[0]), GREETING);
    assert_eq!(server.wait(), 0);
}

#[test]
fn silent_clients_delay_the_exit_by_at_most_the_drain_timeout() {
    let mut server = start(&["--drain-timeout", "400ms"]);
    let silent = connect_accepted(3, &server);
    let start = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(400), "it ended after {elapsed:?}");
    assert!(elapsed < Duration::from_secs(4), "it ended after {elapsed:?}");
    for client in &silent {
        assert_eq!(read_until_closed(client), b"");
    }
    server.stderr.wait_for_line("reset: 3");
}

#[test]
fn with_a_drain_timeout_of_0_silent_clients_are_reset_at_once() {
    let mut server = start(&["--drain-timeout", "0s"]);
    let silent = connect_accepted(1, &server);
    server.signal("TERM");
    assert_eq!(read_until_closed(&silent[0]), b"");
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_second_signal_stops_at_once_and_logs_the_number_of_closed_connections() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let mut server = start(&["--drain-timeout", "300s"]);
        let silent = connect_accepted(3, &server);
        server.signal(first);
        server.stderr.wait_for_line("5m to finish");
        assert_holds_for(Duration::from_millis(100), "it waits for its clients", || server.is_running());
        server.signal(second);
        assert_eq!(server.wait(), 0);
        server.stderr.wait_for_line("reset: 3");
        for client in &silent {
            assert_eq!(read_until_closed(client), b"");
        }
    }
}

#[test]
fn in_the_other_modes_silent_clients_are_closed_at_once() {
    for mode in ["line", "echo", "discard"] {
        let mut server = start(&["--drain-timeout", "300s", "--mode", mode]);
        let silent = connect_accepted(3, &server);
        server.signal("TERM");
        for client in &silent {
            assert_eq!(read_to_end(client), "", "{mode}");
        }
        drop(silent);
        assert_eq!(server.wait(), 0, "{mode}");
    }
}

#[test]
fn sighup_without_a_terminal_and_sigpipe_do_not_stop_the_server() {
    let mut server = start(&[]);
    for signal in ["HUP", "PIPE", "HUP"] {
        server.signal(signal);
        assert_eq!(request(server.tcp()), GREETING);
    }
    assert_holds_for(Duration::from_millis(100), "it still serves", || request(server.tcp()) == GREETING);
    server.assert_exits_on_sigterm();
}

#[test]
#[ignore = "needs python3"]
fn sighup_ends_a_server_that_was_started_on_the_terminal() {
    let mut command = Command::new("python3");
    // Without SIGHUP the server exits after 60 s, which is past the timeout of `run`.
    command.args(["-c", TERMINAL, HALLOO.path(), "--listen", "127.0.0.1:0", "--exit-when-idle", "60s"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(command);
    assert_eq!((output.stdout.as_str(), output.status), ("READY 0\n", 0), "{output:?}");
}

#[test]
fn sigusr1_logs_the_counters_even_with_qq() {
    let server = start(&["-qq"]);
    assert_eq!(request(server.tcp()), GREETING);
    assert_eq!(request_udp(server.udp(), b""), UDP_GREETING);
    server.signal("USR1");
    let line = server.stderr.wait_for_line(" turns=");
    for part in [" accepted=1 ", " bytes_received=18 ", " bytes_sent=18 ", " datagrams_received=1 "] {
        assert!(line.contains(part), "`{part}` is missing in {line}");
    }
    assert_eq!(request(server.tcp()), GREETING);
}

#[test]
fn after_sigstop_and_sigcont_all_clients_are_answered() {
    let server = start(&[]);
    for _ in 0..5 {
        let open = connect(server.tcp());
        server.pause();
        let waiting = send_request(server.tcp());
        send(&open, b"hello");
        server.resume();
        assert_eq!(read_to_end(&waiting), GREETING);
        assert_eq!(read_to_end(&open), GREETING);
    }
}

#[test]
fn a_server_can_restart_at_once_on_the_same_port() {
    // Another program may take the port in between. A bind that old connections (TIME_WAIT) prevent fails every time.
    let started = (0..5).any(|_| {
        let mut first = start(&[]);
        for _ in 0..10 {
            assert_eq!(request(first.tcp()), GREETING);
        }
        let address = first.tcp();
        first.assert_exits_on_sigterm();
        let mut command = HALLOO.command(&["--listen", &address.to_string(), "--exit-when-idle", "100ms"]);
        command.stdin(Stdio::null());
        run(command).status == 0
    });
    assert!(started, "the port was in use each time");
}

#[test]
fn a_server_can_start_while_the_previous_one_drains() {
    // With four connections at most, the first server has no room when it drains.
    for (workers, connections_max) in [("1", "100"), ("1", "4"), ("2", "100")] {
        let socket_path = SocketPath::new();
        let start = |address: &str, greeting: &str| {
            let greeting = ["--greeting", greeting, "--drain-timeout", "60s", "--max-connections", connections_max];
            let listening = ["--listen", address, "--unix", socket_path.as_str(), "--workers", workers];
            HALLOO.start(&[&listening[..], &greeting].concat())
        };
        let mut first = start("127.0.0.1:0", "the first");
        let address = first.tcp();
        let idle_clients = connect_accepted(3, &first);
        let idle_unix_client = socket_path.connect_accepted(&first);
        first.signal("TERM");
        wait_until("the TCP port to be free", || sockets("tcp", address) == 0);
        let second = start(&address.to_string(), "the second");
        assert!(first.is_running(), "{workers} workers");
        assert_eq!(request(address), "the second");
        assert_eq!(request_udp(address, UDP_REQUEST), "the second");
        assert_eq!(socket_path.request(), "the second");
        for client in &idle_clients {
            send(client, b"at last");
            assert_eq!(read_to_end(client), "the first");
        }
        send(&idle_unix_client, b"at last");
        assert_eq!(read_to_end(&idle_unix_client), "the first");
        assert_eq!(first.wait(), 0);
        assert_eq!(socket_path.request(), "the second", "the file is the second server's");
        drop(second);
    }
}

#[test]
fn every_connection_ends_when_the_server_exits_under_load() {
    let mut server = start(&["--drain-timeout", "2s"]);
    let address = server.tcp();
    let clients = std::thread::spawn(move || {
        let end = Instant::now() + TIMEOUT;
        let mut greeted = 0;
        while Instant::now() < end {
            let Ok(client) = TcpStream::connect(address) else {
                return greeted;
            };
            client.set_read_timeout(Some(TIMEOUT)).expect("an option of every stream");
            let _ = std::io::Write::write_all(&mut &client, b"hello");
            greeted += usize::from(read_until_closed(&client) == GREETING.as_bytes());
        }
        panic!("the server never exited");
    });
    wait_until("some traffic", || server.event_lines().len() >= 5);
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    assert!(clients.join().expect("every connection ends") >= 5);
}
