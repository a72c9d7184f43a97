//! Servers of the tour as processes: limits, ends, files.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::network::tcp::{connect, half_close, reset};
use support::process::child::{Process, children_of};
use support::process::server::{Server, assert_fails};
use support::wait::{TIMEOUT, wait_for, wait_until};

use crate::HALLOO;
use crate::tour::tour_servers::{SERVERS, exchange, serve_words, start, udp_address};
use crate::tour::{command_in, files_in};

#[test]
fn each_server_sends_back_streams_and_datagrams_and_ends_with_its_standard_input() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in SERVERS {
        let mut server = start("7", name, folder.path());
        let mut client = connect(server.tcp());
        exchange(&mut client, "hello\n");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        datagrams.set_read_timeout(Some(TIMEOUT)).expect("a time");
        datagrams.send_to(b"hello", udp_address(&server)).expect("it is sent");
        let source = udp_address(&server);
        assert_eq!(datagrams.recv_from(&mut [0; 16]).expect("a reply"), (5, source), "{name}");
        let started = Instant::now();
        exchange(&mut client, "work 300\n");
        assert!(started.elapsed() >= Duration::from_millis(300), "{name}: {:?}", started.elapsed());
        server.close_stdin();
        assert_eq!(server.wait(), 0, "{name}: {}", server.stderr.text());
    }
    assert_eq!(files_in(folder.path()), ["tour-07-halloo.json", "tour-07-mio.json", "tour-07-twin.json"]);
}

#[test]
fn the_right_servers_send_the_reply_of_a_slow_request_to_a_client_that_has_sent_its_fin() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["mio", "halloo"] {
        let server = start("7", name, folder.path());
        let mut client = connect(server.tcp());
        client.write_all(b"work 300\n").expect("the server reads");
        half_close(&client);
        let mut reply = String::new();
        client.read_to_string(&mut reply).expect("the reply, then EOF");
        assert_eq!(reply, "work 300\n", "{name}");
    }
}

/// Sends the parts, each after the replies to those before, but for an unfinished line. Returns all replies until EOF.
fn replies_to(server: &Server, parts: &[(&str, &str)]) -> String {
    let mut client = connect(server.tcp());
    let mut replies = String::new();
    for (part, reply) in parts {
        client.write_all(part.as_bytes()).expect("the server reads");
        let mut bytes = vec![0; reply.len()];
        client.read_exact(&mut bytes).expect("a reply");
        replies.push_str(&String::from_utf8_lossy(&bytes));
    }
    half_close(&client);
    client.read_to_string(&mut replies).expect("the rest, then EOF");
    replies
}

#[test]
fn the_right_servers_find_a_slow_request_wherever_reads_are_cut() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["mio", "halloo"] {
        let server = start("7", name, folder.path());
        // The parts, each with the reply to wait for, and how many slow requests they have.
        let conversations: [(&[(&str, &str)], u32); 9] = [
            (&[("hello\nwork 300\n", "hello\n")], 1),
            (&[("work 300\nhello\n", "work 300\nhello\n"), ("again\n", "again\n")], 1),
            (&[("hello\nwork ", "hello\n"), ("300\n", "work 300\n")], 1),
            (&[("work 300\nwork 300\nlast", "work 300\nwork 300\nlast")], 2),
            (&[("work 300\n", ""), ("work 300\n", "work 300\nwork 300\n")], 2),
            (&[("my ", "my "), ("work 300\n", "work 300\n")], 0),
            (&[("work 300", ""), ("0\n", "work 3000\n")], 0),
            (&[("no line", "no line")], 0),
            // The client ends within a line that could become a request.
            (&[("hello\nwork 3", "hello\n")], 0),
        ];
        for (parts, slow_requests) in conversations {
            let started = Instant::now();
            let sent: String = parts.iter().map(|(part, _)| *part).collect();
            assert_eq!(replies_to(&server, parts), sent, "{name}: {parts:?}");
            let took = started.elapsed();
            assert!(took >= slow_requests * Duration::from_millis(300), "{name}: {took:?} for {parts:?}");
        }
    }
}

#[test]
fn the_right_servers_reply_at_once_to_what_comes_before_a_slow_request_and_to_what_only_begins_like_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["mio", "halloo"] {
        let server = start("7", name, folder.path());
        let mut client = connect(server.tcp());
        client.write_all(b"my work 300\nwork 301\nwork 300\n").expect("the server reads");
        let mut first = [0; 21];
        client.read_exact(&mut first).expect("a reply");
        assert_eq!(first, *b"my work 300\nwork 301\n", "{name}");
        client.set_nonblocking(true).expect("a socket");
        assert!(client.peek(&mut [0]).is_err(), "{name}: the work takes 300 ms");
    }
}

#[test]
fn a_turn_of_the_server_on_mio_makes_at_most_16_reads_of_a_connection() {
    const BYTES: usize = 60_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = start("10", "mio", folder.path());
    let mut client = connect(server.tcp());
    client.write_all(&vec![b'x'; BYTES]).expect("room in the kernel");
    client.read_exact(&mut vec![0; BYTES]).expect("the replies");
    server.close_stdin();
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    let text = fs::read_to_string(folder.path().join("tour-10-mio.json")).expect("a recording");
    let turns = text.split("\"name\":\"poll\"").map(|turn| turn.matches("\"name\":\"read\"").count());
    let most = turns.max().expect("a turn");
    assert!((1..=16).contains(&most), "{most} of 117 reads of 512 bytes in a turn");
}

#[cfg(target_os = "linux")]
#[test]
fn only_the_servers_of_the_case_of_the_source_address_have_udp_beyond_127_0_0_1() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (case, address) in [("7", "127.0.0.1"), ("12", "0.0.0.0")] {
        for name in SERVERS {
            assert_eq!(start(case, name, folder.path()).udp().ip().to_string(), address, "{case}, {name}");
        }
    }
}

#[test]
fn a_page_is_written_if_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let words = [&serve_words("half-close", "halloo", folder.path())[..], &["--html"]].concat();
    let mut command = HALLOO.command(&words);
    command.stdin(Stdio::piped());
    let mut server = Server::start(command);
    server.close_stdin();
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
    assert_eq!(files_in(folder.path()), ["tour-07-halloo.html"]);
    let page = fs::read_to_string(folder.path().join("tour-07-halloo.html")).expect("a page");
    assert!(page.starts_with("<!doctype html>"), "{}", &page[..page.len().min(80)]);
}

#[test]
fn a_server_that_an_error_has_ended_leaves_its_recording() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = start("6", "twin", folder.path());
    let mut client = connect(server.tcp());
    exchange(&mut client, "hello\n");
    reset(client);
    assert_eq!(server.wait(), 1);
    server.wait_for_eof();
    assert!(server.stderr.text().starts_with("halloo: the server has ended: connection reset by peer; "));
    let text = fs::read_to_string(folder.path().join("tour-06-twin.json")).expect("a recording");
    assert!(text.contains("\"error\":\"ECONNRESET\"") && text.ends_with("]}\n"), "{text}");
}

#[test]
fn a_server_in_a_long_callback_is_ended_two_seconds_after_its_standard_input() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut server = start("11", "twin", folder.path());
    let mut clients: Vec<_> = (0..40).map(|_| connect(server.tcp())).collect();
    for client in &mut clients {
        exchange(client, "hello\n");
    }
    // One poll reports all of them. Each takes 300 ms.
    server.pause();
    for client in &mut clients {
        client.write_all(b"work 300\n").expect("room in the kernel");
        client.set_nonblocking(true).expect("a socket");
    }
    server.resume();
    let has_reply = |client: &TcpStream| client.peek(&mut [0]).is_ok_and(|bytes| bytes > 0);
    // A read that was underway may have taken one request: then the others come in the next turn.
    wait_until("two replies", || clients.iter().filter(|client| has_reply(client)).count() >= 2);
    server.close_stdin();
    let closed = Instant::now();
    assert_eq!(server.wait(), 4, "{}", server.stderr.text());
    assert!(closed.elapsed() >= Duration::from_secs(2), "{:?}", closed.elapsed());
    assert_eq!(files_in(folder.path()), [""; 0]);
    drop(clients);
}

/// Whether a process runs. A zombie does not: it waits for process 1.
fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_server_does_not_outlive_a_tour_that_was_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A client of this twin waits for 2 s.
    let tour = Process::spawn(command_in(folder.path(), &["tour", "1"]));
    let server = wait_for("the process of the server", || children_of(tour.pid()).first().copied());
    assert!(is_running(server));
    tour.signal("KILL");
    wait_until("the end of the server", || !is_running(server));
}

#[cfg(target_os = "linux")]
#[test]
fn each_server_has_limits_on_processor_time_memory_and_descriptors() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in SERVERS {
        let server = start("8", name, folder.path());
        let text = fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("the process runs");
        for (limit, value) in [
            ("Max cpu time", "60"),
            ("Max data size", "1073741824"),
            ("Max core file size", "0"),
            ("Max open files", "64"),
        ] {
            let line = text.lines().find(|line| line.starts_with(limit)).expect("each limit has a line");
            let values: Vec<&str> = line[limit.len()..].split_whitespace().take(2).collect();
            assert_eq!(values, [value; 2], "{name}: {line}");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_an_error_before_the_server_starts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a new file");
    let missing = folder.path().join("missing");
    for (path, cause) in [
        (&missing, "missing: no such file or directory; create this folder, or choose another with --save FOLDER"),
        (&file, "file: not a directory; create this folder, or choose another with --save FOLDER"),
    ] {
        let output = HALLOO.run(&serve_words("1", "halloo", path));
        assert_fails(&output, 3, &["cannot write recordings to ", cause]);
    }
    let output = HALLOO.run(&serve_words("1", "halloo", Path::new("/proc")));
    assert_fails(&output, 3, &["cannot write the recording to /proc/tour-01-halloo.json: "]);
    // A variable names the folder, too.
    let mut command = HALLOO.command(&["tour", "1", "--serve", "mio"]);
    command.env("HALLOO_TOUR_SAVE", &missing);
    assert_fails(&support::process::child::run(command), 3, &["choose another with HALLOO_TOUR_SAVE=FOLDER"]);
}
