//! Signals: a good end, a quick end, and those that end nothing.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::clients::{
    GREETING, UDP_GREETING, UDP_QUESTION, ask, ask_udp, begin_asking, connect, hear, many_asking, many_silent, rest,
    say, udp_client, whatever_comes,
};
use crate::support::{BINARY, PATIENCE, Server, assert_stays, halloo, has_tool, run, wait_until};

/// Starts a program on a terminal of its own and closes that: whoever leads its session is hung up on.
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
    Server::start(&[&["--listen", "127.0.0.1:0"], arguments].concat())
}

/// Clients that say nothing, once the server has them.
fn held(count: usize, server: &Server) -> Vec<TcpStream> {
    let before = server.descriptors();
    let clients = many_silent(count, server.tcp());
    wait_until("the connections", || server.descriptors() == before + count);
    clients
}

#[test]
fn clients_that_have_asked_before_the_end_are_all_answered() {
    // The greater lots are more than one turn of the loop takes: the rest of them meets a server that is ending.
    let lots = [("TERM", 40, 10), ("INT", 40, 10), ("TERM", 400, 0), ("INT", 400, 200), ("TERM", 0, 200)];
    for (signal, streams, datagrams) in lots {
        let mut server = start(&[]);
        server.freeze();
        let clients = many_asking(streams, server.tcp());
        let sender = udp_client(server.udp());
        for _ in 0..datagrams {
            sender.send(UDP_QUESTION).expect("loopback takes it");
        }
        server.signal(signal);
        server.thaw();
        for client in &clients {
            assert_eq!(rest(client), GREETING, "{signal}");
        }
        for _ in 0..datagrams {
            assert_eq!(hear(&sender), UDP_GREETING.as_bytes(), "{signal}");
        }
        assert_eq!(server.wait(), 0);
        server.errors.wait_for_line(" stopped");
    }
}

#[test]
fn a_client_that_asks_while_the_server_ends_is_still_answered_and_new_ones_are_refused() {
    let mut server = start(&["--drain-timeout", "60s"]);
    let (address, slow) = (server.tcp(), held(1, &server));
    server.signal("TERM");
    wait_until("the listener to close", || TcpStream::connect(address).is_err());
    assert!(server.is_running());
    say(&slow[0], b"at last");
    assert_eq!(rest(&slow[0]), GREETING);
    assert_eq!(server.wait(), 0);
}

#[test]
fn silent_clients_delay_the_end_by_the_drain_timeout_and_no_more() {
    let mut server = start(&["--drain-timeout", "400ms"]);
    let silent = held(3, &server);
    let asked = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(400), "it ended after {took:?}");
    assert!(took < Duration::from_secs(4), "it ended after {took:?}");
    for client in &silent {
        assert_eq!(whatever_comes(client), b"");
    }
    server.errors.wait_for_line("reset: 3");
}

#[test]
fn with_no_drain_timeout_silent_clients_are_cut_at_once() {
    let mut server = start(&["--drain-timeout", "0s"]);
    let silent = held(1, &server);
    server.signal("TERM");
    assert_eq!(whatever_comes(&silent[0]), b"");
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_second_signal_ends_at_once_and_says_how_many_were_cut() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let mut server = start(&["--drain-timeout", "300s"]);
        let silent = held(3, &server);
        server.signal(first);
        server.errors.wait_for_line("5m to finish");
        assert_stays(Duration::from_millis(100), "it waits for its clients", || server.is_running());
        server.signal(second);
        assert_eq!(server.wait(), 0);
        server.errors.wait_for_line("reset: 3");
        for client in &silent {
            assert_eq!(whatever_comes(client), b"");
        }
    }
}

#[test]
fn connections_that_are_not_asked_anything_close_at_once_in_the_other_modes() {
    for mode in ["line", "echo", "discard"] {
        let mut server = start(&["--drain-timeout", "300s", "--mode", mode]);
        let silent = held(3, &server);
        server.signal("TERM");
        for client in &silent {
            assert_eq!(rest(client), "", "{mode}");
        }
        drop(silent);
        assert_eq!(server.wait(), 0, "{mode}");
    }
}

#[test]
fn a_closed_terminal_of_others_and_a_broken_pipe_end_nothing() {
    let mut server = start(&[]);
    for signal in ["HUP", "PIPE", "HUP"] {
        server.signal(signal);
        assert_eq!(ask(server.tcp()), GREETING);
    }
    assert_stays(Duration::from_millis(100), "it serves on", || ask(server.tcp()) == GREETING);
    server.assert_stops();
}

#[test]
fn a_closed_terminal_ends_what_was_started_on_it() {
    if !has_tool("python3") {
        return;
    }
    let mut command = Command::new("python3");
    // Without the hang-up it would end by itself in time, and the test would not: it fails.
    command.args(["-c", TERMINAL, BINARY, "--listen", "127.0.0.1:0", "--exit-when-idle", "60s"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = run(command);
    assert_eq!((ended.output.as_str(), ended.status), ("READY 0\n", 0), "{ended:?}");
}

#[test]
fn the_counters_are_logged_when_asked_for_even_if_quiet() {
    let server = start(&["-qq"]);
    assert_eq!(ask(server.tcp()), GREETING);
    assert_eq!(ask_udp(server.udp(), b""), UDP_GREETING);
    server.signal("USR1");
    let line = server.errors.wait_for_line(" turns=");
    for part in [" accepted=1 ", " bytes_received=18 ", " bytes_sent=18 ", " datagrams_received=1 "] {
        assert!(line.contains(part), "`{part}` is missing in {line}");
    }
    assert_eq!(ask(server.tcp()), GREETING);
}

#[test]
fn a_server_that_was_stopped_goes_on_where_it_was() {
    let server = start(&[]);
    for _ in 0..5 {
        let open = connect(server.tcp());
        server.freeze();
        let waiting = begin_asking(server.tcp());
        say(&open, b"hello");
        server.thaw();
        assert_eq!(rest(&waiting), GREETING);
        assert_eq!(rest(&open), GREETING);
    }
}

#[test]
fn a_server_can_start_again_at_once_on_the_port_it_had() {
    // Another program may take the port in between; a server that waits for old connections fails every time.
    let started = (0..5).any(|_| {
        let mut first = start(&[]);
        for _ in 0..10 {
            assert_eq!(ask(first.tcp()), GREETING);
        }
        let address = first.tcp();
        first.assert_stops();
        let mut command = halloo(&["--listen", &address.to_string(), "--exit-when-idle", "100ms"]);
        command.stdin(Stdio::null());
        run(command).status == 0
    });
    assert!(started, "the port stays taken");
}

#[test]
fn a_server_that_ends_during_traffic_leaves_nobody_without_end() {
    let mut server = start(&["--drain-timeout", "2s"]);
    let address = server.tcp();
    let clients = std::thread::spawn(move || {
        let end = Instant::now() + PATIENCE;
        let mut greeted = 0;
        while Instant::now() < end {
            let Ok(client) = TcpStream::connect(address) else {
                return greeted;
            };
            client.set_read_timeout(Some(PATIENCE)).expect("an option of every stream");
            let _ = std::io::Write::write_all(&mut &client, b"hello");
            greeted += usize::from(whatever_comes(&client) == GREETING.as_bytes());
        }
        panic!("the server never went");
    });
    wait_until("some traffic", || server.events().len() >= 5);
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    assert!(clients.join().expect("every client met its end") >= 5);
}
