//! Unix sockets: modes, limits, drain, workers.
//!
//! The socket file exists exactly as long as the server listens.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::network::streams::{GREETING, REQUEST, read_to_end, send};
use support::network::tcp::{request, send_request};
use support::network::udp::request_udp;
use support::process::child::run;
use support::process::server::Server;
use support::wait::{assert_holds_for, wait_for, wait_until};

use crate::HALLOO;
use crate::unix::temporary_socket_path::{SocketPath, connect_unix};

// ---- what is served -------------------------------------------------------------------------------------------------

#[test]
fn a_path_replaces_the_default_address_and_its_file_is_removed_at_the_end() {
    let socket_path = SocketPath::new();
    let mut server = socket_path.start_server(&[]);
    assert_eq!(server.ready_line(), format!("READY unix={} pid={}", socket_path.as_str(), server.pid()));
    for _ in 0..3 {
        assert_eq!(socket_path.request(), GREETING);
    }
    server.stdout.wait_for_line(&format!("unix {} bytes=18 Hello, TCP Server!", socket_path.as_str()));
    server.assert_exits_on_sigterm();
    assert!(!socket_path.path.exists());
    assert_eq!(server.event_lines().len(), 3);
}

#[test]
#[ignore = "needs nc"]
fn netcat_is_greeted() {
    let socket_path = SocketPath::new();
    let _server = socket_path.start_server(&[]);
    let command = format!("printf 'Hello, TCP Server!' | nc -N -U '{}'", socket_path.as_str());
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(shell);
    assert_eq!((output.status, output.stdout.as_str()), (0, GREETING), "{output:?}");
}

#[test]
fn all_five_modes_work_as_over_tcp() {
    for (mode, question, answer) in [
        ("greet", "", GREETING),
        ("greet", "hello", GREETING),
        ("banner", "", GREETING),
        ("line", "one\ntwo\n", "Hello, TCP Client!\nHello, TCP Client!\n"),
        ("echo", "any\0bytes", "any\0bytes"),
        ("discard", "any bytes", ""),
    ] {
        let socket_path = SocketPath::new();
        let _server = socket_path.start_server(&["--mode", mode]);
        let client = socket_path.connect();
        if !question.is_empty() {
            send(&client, question.as_bytes());
        }
        if mode != "banner" {
            client.shutdown(Shutdown::Write).expect("it is connected");
        }
        assert_eq!(read_to_end(&client), answer, "{mode}");
    }
}

#[test]
fn paths_are_served_once_each_and_follow_the_addresses_in_the_order_given() {
    let (first, second) = (SocketPath::new(), SocketPath::new());
    let arguments =
        ["--unix", second.as_str(), "--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--unix", first.as_str()];
    let list = format!("{},{}", first.as_str(), second.as_str());
    for (arguments, variable) in
        [(&arguments[..], None), (&arguments[2..6], Some(format!("{},{list}", second.as_str())))]
    {
        let mut command = HALLOO.command(arguments);
        command.envs(variable.map(|list| ("HALLOO_UNIX", list)));
        let mut server = Server::start(command);
        let (tcp, udp) = (server.tcp(), server.udp());
        let paths = format!("unix={} unix={}", second.as_str(), first.as_str());
        assert_eq!(server.ready_line(), format!("READY tcp={tcp} udp={udp} {paths} pid={}", server.pid()));
        for socket_path in [&first, &second] {
            assert_eq!(socket_path.request(), GREETING);
            server.stdout.wait_for_line(&format!("unix {} ", socket_path.as_str()));
        }
        assert_eq!((request(tcp).as_str(), request_udp(udp, b"hello").as_str()), (GREETING, "Hello, UDP Client!"));
        server.stdout.wait_for_line("tcp 127.0.0.1:");
        server.assert_exits_on_sigterm();
    }
}

#[test]
fn a_relative_path_is_printed_as_an_absolute_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = HALLOO.command(&["--unix", "here.sock"]);
    let mut server = Server::start({
        command.current_dir(&folder);
        command
    });
    let path = folder.path().join("here.sock");
    assert!(server.ready_line().starts_with(&format!("READY unix={} ", path.display())), "{}", server.ready_line());
    send(&connect_unix(&path), REQUEST);
    server.stdout.wait_for_line(&format!("unix {} bytes=18 ", path.display()));
    server.assert_exits_on_sigterm();
    assert!(!path.exists());
}

#[test]
fn a_relative_path_is_served_in_a_folder_whose_own_path_is_too_long() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let deep = folder.path().join("d".repeat(120));
    std::fs::create_dir(&deep).expect("room for a folder");
    // A shorter path for the client.
    let short = folder.path().join("short");
    std::os::unix::fs::symlink(&deep, &short).expect("room for a link");
    let mut command = HALLOO.command(&["--unix", "here.sock"]);
    let mut server = Server::start({
        command.current_dir(&deep);
        command
    });
    let client = connect_unix(&short.join("here.sock"));
    send(&client, REQUEST);
    assert_eq!(read_to_end(&client), GREETING);
    server.assert_exits_on_sigterm();
    assert!(!deep.join("here.sock").exists());
}

#[test]
fn placeholders_and_json_name_the_path_and_no_peer_address() {
    let socket_path = SocketPath::new();
    let greeting = "{protocol} {peer} {local} {number}";
    let server = socket_path.start_server(&["--tcp", "127.0.0.1:0", "--tcp-greeting", greeting, "--events", "json"]);
    assert_eq!(socket_path.request(), format!("unix unix {} 1", socket_path.as_str()));
    assert!(request(server.tcp()).starts_with("tcp 127.0.0.1:"));
    assert_eq!(socket_path.request(), format!("unix unix {} 3", socket_path.as_str()));
    let line = server.stdout.wait_for_line("\"protocol\":\"unix\",\"peer\"");
    let event: Value = serde_json::from_str(&line).expect("a JSON value");
    let expected = (Value::Null, Value::from(socket_path.as_str()), Value::from(18), Value::from("Hello, TCP Server!"));
    let [peer, local, bytes, text] = ["peer", "local", "bytes", "text"].map(|name| event[name].clone());
    assert_eq!((peer, local, bytes, text), expected);
}

#[test]
fn a_hostile_path_is_printed_on_one_line_and_can_be_parsed_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(OsStr::from_bytes(b"a b%\x1b[31m\n\xff"));
    for events in ["text", "json"] {
        let mut command = HALLOO.command(&["--events", events, "--unix"]);
        command.arg(&path);
        let server = Server::start(command);
        let (ready, is_text) = (server.ready_line(), events == "text");
        // JSON cannot contain a byte that is not UTF-8.
        let ready_path = if is_text { "/a%20b%25%1B%5B31m%0A%FF pid=" } else { "/a b%\\u001b[31m\\n\u{fffd}\"}]" };
        assert!(ready.contains(ready_path), "{ready}");
        send(&connect_unix(&path), REQUEST);
        let line = server.stdout.wait_for_line("Hello, TCP Server!");
        let expected_path = if is_text { r"/a b%\x1b[31m\n\xff bytes=18" } else { "/a b%\\u001b[31m\\n\u{fffd}\"," };
        assert!(line.contains(expected_path), "{line}");
    }
    // The servers were killed. Their file is replaced, and the log line about it is printable too.
    let mut command = HALLOO.command(&["--unix"]);
    command.arg(&path);
    let server = Server::start(command);
    let line = server.stderr.wait_for_line("replacing the stale socket file");
    assert!(!line.contains('\u{1b}'), "{line}");
    assert_eq!(server.ready_line().split(' ').count(), 3);
}

// ---- limits and ends ------------------------------------------------------------------------------------------------

#[test]
fn max_connections_counts_clients_of_tcp_and_of_unix_sockets_together() {
    let socket_path = SocketPath::new();
    let server = socket_path.start_server(&["--tcp", "127.0.0.1:0", "--max-connections", "1"]);
    let first = socket_path.connect_accepted(&server);
    let waiting = socket_path.connect();
    send(&waiting, REQUEST);
    let tcp = send_request(server.tcp());
    server.stderr.wait_for_line("new clients wait in the backlog");
    waiting.set_nonblocking(true).expect("an option of every stream");
    assert_holds_for(Duration::from_millis(200), "no other client is served", || {
        (&waiting).read(&mut [0; 16]).is_err()
    });
    waiting.set_nonblocking(false).expect("an option of every stream");
    drop(first);
    assert_eq!((read_to_end(&waiting).as_str(), read_to_end(&tcp).as_str()), (GREETING, GREETING));
}

#[test]
fn the_limit_per_source_does_not_apply_to_unix_sockets() {
    let socket_path = SocketPath::new();
    let server = socket_path.start_server(&["--max-connections-per-source", "1"]);
    let idle_clients: Vec<UnixStream> = (0..5).map(|_| socket_path.connect_accepted(&server)).collect();
    assert_eq!(socket_path.request(), GREETING);
    for client in idle_clients {
        send(&client, REQUEST);
        assert_eq!(read_to_end(&client), GREETING);
    }
}

#[test]
fn the_idle_timeout_and_the_counters_apply_to_unix_sockets() {
    let socket_path = SocketPath::new();
    let server = socket_path.start_server(&["--idle-timeout", "100ms"]);
    assert_eq!(read_to_end(&socket_path.connect()), "");
    assert_eq!(socket_path.request(), GREETING);
    server.signal("USR1");
    let line = server.stderr.wait_for_line(" turns=");
    assert!(line.contains(" accepted=2 "), "{line}");
}

#[test]
fn exactly_max_greetings_are_greeted_and_then_the_file_is_removed() {
    for workers in ["1", "3"] {
        let socket_path = SocketPath::new();
        let mut server =
            socket_path.start_server(&["--workers", workers, "--max-greetings", "3", "--greeting", "{number}"]);
        let clients: Vec<UnixStream> = (0..8).map(|_| socket_path.connect()).collect();
        for mut client in &clients {
            // After the last greeting a send may fail.
            let _ = client.write_all(b"hello");
        }
        assert_eq!(server.wait(), 0, "{}", server.stderr.text());
        assert!(!socket_path.path.exists());
        let answer = |mut client: UnixStream| {
            let mut text = String::new();
            client.read_to_string(&mut text).ok().filter(|_| !text.is_empty()).map(|_| text)
        };
        let mut numbers: Vec<String> = clients.into_iter().filter_map(answer).collect();
        numbers.sort();
        assert_eq!(numbers, ["1", "2", "3"], "{workers} workers");
    }
}

#[test]
fn the_idle_exit_waits_for_the_last_client_and_removes_the_file() {
    let socket_path = SocketPath::new();
    let mut server = socket_path.start_server(&["--exit-when-idle", "200ms"]);
    let client = socket_path.connect_accepted(&server);
    assert_holds_for(Duration::from_millis(500), "a client is connected", || server.is_running());
    send(&client, REQUEST);
    assert_eq!(read_to_end(&client), GREETING);
    drop(client);
    assert_eq!(server.wait(), 0);
    assert!(!socket_path.path.exists());
}

#[test]
fn a_drain_removes_the_file_and_serves_waiting_and_connected_clients() {
    for workers in ["1", "4"] {
        let socket_path = SocketPath::new();
        let mut server = socket_path.start_server(&["--workers", workers, "--drain-timeout", "20s"]);
        let connected = socket_path.connect_accepted(&server);
        server.pause();
        let waiting: Vec<UnixStream> = (0..20).map(|_| socket_path.connect()).collect();
        for client in &waiting {
            send(client, REQUEST);
        }
        server.signal("TERM");
        server.resume();
        for client in &waiting {
            assert_eq!(read_to_end(client), GREETING, "{workers} workers");
        }
        wait_until("the file to be gone", || !socket_path.path.exists());
        assert!(server.is_running(), "one client is still connected");
        send(&connected, REQUEST);
        assert_eq!(read_to_end(&connected), GREETING);
        assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    }
}

#[test]
fn all_workers_accept_on_one_path_which_ready_names_once() {
    let socket_path = SocketPath::new();
    let mut server = socket_path.start_server(&["--workers", "3", "--events", "off"]);
    assert_eq!(server.ready_line(), format!("READY unix={} pid={}", socket_path.as_str(), server.pid()));
    let per_worker = wait_for("clients of every worker", || {
        let clients: Vec<UnixStream> = (0..30).map(|_| socket_path.connect()).collect();
        for client in &clients {
            send(client, REQUEST);
        }
        assert!(clients.iter().all(|client| read_to_end(client) == GREETING));
        let before = server.stderr.lines().len();
        server.signal("USR1");
        wait_until("the counters", || server.stderr.lines().len() >= before + 4);
        let lines = server.stderr.lines().split_off(before + 1);
        let has_accepted = |line: &&String| !line.contains(" accepted=0 ");
        (lines.iter().filter(has_accepted).count() == 3).then_some(lines)
    });
    assert!(per_worker.iter().all(|line| line.contains(" worker ")), "{per_worker:?}");
    server.assert_exits_on_sigterm();
    assert!(!socket_path.path.exists());
}
