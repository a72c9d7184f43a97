//! Recordings of a server, at its end and at SIGUSR2.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use support::network::streams::{GREETING, read_exactly, send};
use support::network::tcp::{connect, request, request_with, send_requests};
use support::network::udp::{UDP_GREETING, request_udp};
use support::process::server::Server;
use support::wait::{TIMEOUT, wait_until};

use crate::HALLOO;
use crate::recording::recording_reader::{Events, RecordingPath};

fn start(path: &RecordingPath, arguments: &[&str]) -> Server {
    let recorded = ["--listen", "127.0.0.1:0", "--record", &path.text()];
    HALLOO.start(&[&recorded[..], arguments].concat())
}

/// Sends SIGUSR2, and waits for the line that answers it.
#[track_caller]
fn start_or_stop(server: &Server, line: &str) {
    let before = server.stderr.count_lines_with(line);
    server.signal("USR2");
    wait_until(line, || server.stderr.count_lines_with(line) > before);
}

const WRITTEN: &str = "recording written to ";
const STARTED: &str = "recording again";

#[test]
fn the_recording_is_written_at_the_end_with_every_step_of_a_client() {
    let path = RecordingPath::new();
    let mut server = start(&path, &[]);
    assert_eq!(request(server.tcp()), GREETING);
    assert_eq!(request_udp(server.udp(), b"hello"), UDP_GREETING);
    assert_eq!(path.files(), [""; 0], "nothing is written while the server runs");
    server.assert_exits_on_sigterm();
    server.stderr.wait_for_line(WRITTEN);
    assert_eq!(path.files(), ["run.json"]);
    let events = Events::read(&path.path());
    assert_eq!(events.loops().len(), 1);
    let opened = events.of_kind("opened");
    assert_eq!(opened.len(), 1);
    let kinds = events.kinds_of_connection(&opened[0]["generation"]);
    let mut rest = kinds.iter();
    for kind in ["opened", "callback-begin", "read", "callback-end", "write", "shutdown-write", "closed", "freed"] {
        assert!(rest.any(|found| *found == kind), "{kind} is missing in {kinds:?}");
    }
    assert!(events.of_kind("read").iter().any(|entry| entry["bytes"] == GREETING.len()));
    assert!(events.of_kind("write").iter().any(|entry| entry["bytes"] == GREETING.len()));
    for kind in ["accept", "datagram-in", "datagram-out", "drain"] {
        assert!(!events.of_kind(kind).is_empty(), "{kind}");
    }
}

#[test]
fn sigusr2_writes_the_recording_and_the_next_one_starts_another() {
    let path = RecordingPath::new();
    let mut server = start(&path, &[]);
    let open = connect(server.tcp());
    for _ in 0..2 {
        assert_eq!(request(server.tcp()), GREETING);
    }
    start_or_stop(&server, WRITTEN);
    let events = Events::read(&path.path());
    assert_eq!(events.of_kind("opened").len(), 3);
    // The signal ends a poll of a quiet server: how long it has waited is in the recording.
    assert!(!events.of_kind("message").is_empty(), "the turn that took the signal is missing");
    // Not recorded.
    assert_eq!(request(server.tcp()), GREETING);
    start_or_stop(&server, STARTED);
    assert_eq!(request(server.tcp()), GREETING);
    start_or_stop(&server, WRITTEN);
    let events = Events::read(&path.path());
    assert_eq!(events.of_kind("opened").len(), 1);
    let existing: BTreeSet<&str> =
        events.of_kind("existing").iter().filter_map(|entry| entry["object"].as_str()).collect();
    assert_eq!(existing, BTreeSet::from(["connection", "listener", "udp-socket", "watch"]), "what was open before");
    drop(open);
    // The last recording was ended: the exit writes no other.
    fs::remove_file(path.path()).expect("it was written");
    server.assert_exits_on_sigterm();
    assert_eq!(path.files(), [""; 0]);
}

#[test]
fn each_worker_has_a_part_of_the_recording() {
    let path = RecordingPath::new();
    let mut server = start(&path, &["--workers", "2"]);
    // So many that each worker gets some.
    let clients = send_requests(40, server.tcp());
    assert!(clients.iter().all(|client| support::network::streams::read_to_end(client) == GREETING));
    start_or_stop(&server, WRITTEN);
    let parts = |events: &Events| {
        let loops = events.loops();
        assert_eq!(loops.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["worker 1", "worker 2"]);
        loops.iter().map(|(_, process)| count_of_kind(&events.of_loop(*process), "opened")).collect::<Vec<_>>()
    };
    let opened = parts(&Events::read(&path.path()));
    assert!(opened.iter().sum::<usize>() == 40 && opened.iter().all(|count| *count > 0), "{opened:?}");
    // A worker without work is woken to begin the next recording.
    start_or_stop(&server, STARTED);
    let clients = send_requests(40, server.tcp());
    assert!(clients.iter().all(|client| support::network::streams::read_to_end(client) == GREETING));
    server.assert_exits_on_sigterm();
    let opened = parts(&Events::read(&path.path()));
    assert_eq!(opened.iter().sum::<usize>(), 40);
}

fn count_of_kind(entries: &[&serde_json::Value], kind: &str) -> usize {
    entries.iter().filter(|entry| entry["kind"] == kind).count()
}

#[test]
fn payload_is_recorded_only_on_request() {
    for (payload, expected) in [(None, None), (Some("5"), Some("Hello"))] {
        let path = RecordingPath::new();
        let arguments: Vec<&str> = payload.into_iter().flat_map(|bytes| ["--record-payload", bytes]).collect();
        let mut server = start(&path, &arguments);
        assert_eq!(request(server.tcp()), GREETING);
        server.assert_exits_on_sigterm();
        let events = Events::read(&path.path());
        assert_eq!(first_payload(&events), expected, "{payload:?}");
    }
}

/// The payload of the first read that has one: a read that would block has none.
fn first_payload(events: &Events) -> Option<&str> {
    events.of_kind("read").into_iter().find_map(|entry| entry["payload"].as_str())
}

#[test]
fn a_full_recording_loses_its_oldest_entries_and_has_their_number() {
    const MEMORY: usize = 1 << 20;
    let path = RecordingPath::new();
    let mut server = start(&path, &["--record-memory", "1MiB", "--mode", "echo", "--events", "off"]);
    let client = connect(server.tcp());
    for _ in 0..4000 {
        send(&client, b"hello");
        assert_eq!(read_exactly(&client, 5), b"hello");
    }
    server.assert_exits_on_sigterm();
    let line = server.stderr.wait_for_line(WRITTEN);
    let events = Events::read(&path.path());
    let entries = events.entries();
    assert!(entries.len() * 40 <= MEMORY, "{} entries", entries.len());
    assert!(entries.len() * 40 > MEMORY / 2, "{} entries", entries.len());
    assert_eq!(entries[0]["kind"], "lost");
    let lost = entries[0]["entries"].as_u64().expect("a number");
    assert!(lost > 1000 && line.contains(&format!("lost={lost}")), "{line}: {:?}", entries[0]);
    // The connection was opened in a lost entry.
    assert!(events.of_kind("existing").iter().any(|entry| entry["object"] == "connection"));
}

/// A server with so much in its recording that its writing takes a while.
fn start_with_large_recording(path: &RecordingPath) -> Server {
    let server = start(path, &["--record-payload", "65536", "--mode", "echo", "--events", "off"]);
    fill(&server);
    server
}

/// Makes the recording large.
fn fill(server: &Server) {
    let sent = "\u{1}".repeat(8 << 20);
    let client = connect(server.tcp());
    std::thread::scope(|scope| {
        scope.spawn(|| send(&client, sent.as_bytes()));
        assert!(read_exactly(&client, sent.len()) == sent.as_bytes());
    });
}

/// Whether a file that is not complete yet is in the folder.
fn is_being_written(path: &RecordingPath) -> bool {
    path.files().iter().any(|name| name != "run.json")
}

#[test]
fn clients_are_served_while_a_large_recording_is_written() {
    let path = RecordingPath::new();
    let mut server = start_with_large_recording(&path);
    let deadline = Instant::now() + TIMEOUT;
    loop {
        server.signal("USR2");
        wait_until("the file", || is_being_written(&path));
        let echoed = request_with(server.tcp(), b"hello");
        let is_served_meanwhile = is_being_written(&path);
        assert_eq!(echoed, "hello");
        if is_served_meanwhile {
            break;
        }
        // Another program may have had the processor while the file was written.
        assert!(Instant::now() < deadline, "no client was served while a recording was written");
        start_or_stop(&server, STARTED);
        fill(&server);
    }
    server.stderr.wait_for_line(WRITTEN);
    server.assert_exits_on_sigterm();
}

#[test]
fn a_server_that_is_killed_while_it_writes_leaves_the_file_as_it_was() {
    let path = RecordingPath::new();
    let server = start_with_large_recording(&path);
    fs::write(path.path(), "the recording before").expect("a new file");
    server.signal("USR2");
    wait_until("the file", || is_being_written(&path) || is_written(&path.path()));
    server.signal("KILL");
    wait_until("the end", || server.stderr.is_closed());
    let text = fs::read_to_string(path.path()).expect("a file");
    assert!(text == "the recording before" || serde_json::from_str::<serde_json::Value>(&text).is_ok(), "a part");
}

fn is_written(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 100)
}

#[test]
fn the_variables_of_a_recording_do_what_their_flags_do() {
    let path = RecordingPath::new();
    let mut command = HALLOO.command(&["--tcp", "127.0.0.1:0"]);
    let set = [("RECORD", path.text()), ("RECORD_MEMORY", "1MiB".to_owned()), ("RECORD_PAYLOAD", "3".to_owned())];
    command.envs(set.map(|(name, value)| (format!("HALLOO_{name}"), value)));
    let mut server = Server::start(command);
    assert_eq!(request(server.tcp()), GREETING);
    server.assert_exits_on_sigterm();
    assert_eq!(first_payload(&Events::read(&path.path())), Some("Hel"));
}
