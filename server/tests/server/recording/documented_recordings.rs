//! The recordings in `docs/recordings/` have the findings that their page names.
//!
//! `UPDATE=1 cargo test -p halloo-server documented_recordings` makes them anew. Ports and entry numbers may change: the
//! failed test then prints the findings for the table of the page.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::network::streams::{GREETING, read_exactly, read_until_closed, send};
use support::network::tcp::{connect, half_close, request};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, request_udp};
use support::process::server::Server;
use support::wait::{assert_holds_for, repeat_every};

use crate::HALLOO;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recordings");
const PAGE: &str = include_str!("../../../../docs/recordings.md");

/// Longer than the second from which a wait is a finding.
const WAIT: Duration = Duration::from_millis(1_300);

/// Starts a server that is recorded, if the recordings are to be made anew. Its clients end it.
fn record(file: &str, arguments: &[&str], clients: impl FnOnce(&mut Server)) {
    if std::env::var_os("UPDATE").is_none() {
        return;
    }
    let path = format!("{FOLDER}/{file}");
    let mut server = HALLOO.start(&[&["--events", "off", "--record", &path], arguments].concat());
    clients(&mut server);
}

/// Asserts that a recording has exactly one finding, or none, and that the row of its file names the entry.
#[track_caller]
fn assert_documented(file: &str, finding: Option<(&str, &str)>) {
    let output = HALLOO.run(&["view", "--findings", &format!("{FOLDER}/{file}")]);
    let row = PAGE.lines().find(|line| line.starts_with(&format!("| `{file}` |"))).expect("a row of the file");
    let lines: Vec<&str> = output.stdout.lines().collect();
    let Some((kind, sentence)) = finding else {
        assert!(output.status == 0 && lines.len() == 1 && lines[0].starts_with("findings=0 "), "{output:?}");
        assert!(row.ends_with("| none |"), "{row}");
        return;
    };
    assert!(output.status == 5 && lines.len() == 2, "not one finding: {output:?}");
    assert!(lines[0].contains(&format!(" {kind}: ")) && lines[0].contains(sentence), "{output:?}");
    let entry = lines[0].split_once(" entry ").expect("a number").1.split(' ').next().expect("a word");
    assert!(row.ends_with(&format!("| entry {entry}: `{kind}` |")), "{row}\n{output:?}");
}

#[test]
fn the_greeting_is_healthy() {
    record("greeting.json", &["--listen", "127.0.0.1:0", "--max-greetings", "2"], |server| {
        assert_eq!(request(server.tcp()), GREETING);
        assert_eq!(request_udp(server.udp(), UDP_REQUEST), UDP_GREETING);
        assert_eq!(server.wait(), 0);
    });
    assert_documented("greeting.json", None);
}

#[test]
fn the_slow_reader_is_found() {
    const GREETING_BYTES: usize = 4_000;
    let greeting = "Hello! ".repeat(GREETING_BYTES / 7);
    record("slow-reader.json", &["--tcp", "127.0.0.1:0", "--mode", "line", "--greeting", &greeting], |server| {
        // With a small receive buffer the kernel of the client soon stops the server.
        let slow = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        slow.set_recv_buffer_size(4_096).expect("an option of every socket");
        slow.connect(&server.tcp().into()).expect("the server listens");
        send(&slow, &b"again\n".repeat(1_000));
        // The server replies to another client meanwhile.
        let started = Instant::now();
        repeat_every(WAIT / 3, || {
            let other = connect(server.tcp());
            send(&other, b"hello\n");
            assert_eq!(read_exactly(&other, greeting.len() + 1), format!("{greeting}\n").as_bytes());
            started.elapsed() < WAIT
        });
        drop(slow);
        server.assert_exits_on_sigterm();
    });
    assert_documented("slow-reader.json", Some(("slow-reader", " bytes waited; it does not read")));
}

#[test]
fn the_starved_client_is_found() {
    let arguments = ["--tcp", "127.0.0.1:0", "--mode", "line", "--max-connections", "1"];
    record("starved-client.json", &arguments, |server| {
        let reply = format!("{GREETING}\n");
        let first = connect(server.tcp());
        send(&first, b"hello\n");
        assert_eq!(read_exactly(&first, reply.len()), reply.as_bytes());
        let starved = connect(server.tcp());
        send(&starved, b"hello\n");
        starved.set_nonblocking(true).expect("an option of every stream");
        assert_holds_for(WAIT, "the client waits", || {
            starved.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        starved.set_nonblocking(false).expect("an option of every stream");
        drop(first);
        assert_eq!(read_exactly(&starved, reply.len()), reply.as_bytes());
        half_close(&starved);
        assert_eq!(read_until_closed(&starved), b"");
        server.assert_exits_on_sigterm();
    });
    assert_documented("starved-client.json", Some(("starvation", " has 1 connection and may not have more")));
}
