//! Unix sockets: served like TCP, at a path that is there exactly as long as somebody listens.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::clients::{GREETING, QUESTION, ask, ask_udp};
use crate::support::{PATIENCE, Server, assert_stays, halloo, has_tool, run, wait_for, wait_until};

/// A path in a folder that goes with the test.
pub(crate) struct Spot {
    pub(crate) path: PathBuf,
    _folder: TempDir,
}

impl Spot {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { path: folder.path().join("halloo.sock"), _folder: folder }
    }

    pub(crate) fn text(&self) -> &str {
        self.path.to_str().expect("a plain path")
    }

    /// Starts a server there alone.
    #[track_caller]
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        Server::start(&[&["--unix", self.text()], arguments].concat())
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> UnixStream {
        connect(&self.path)
    }

    #[track_caller]
    pub(crate) fn ask(&self) -> String {
        let client = self.connect();
        say(&client, QUESTION);
        rest(&client)
    }

    /// A client that says nothing, once the server has it.
    #[track_caller]
    fn held(&self, server: &Server) -> UnixStream {
        let before = server.descriptors();
        let client = self.connect();
        wait_until("the connection", || server.descriptors() == before + 1);
        client
    }
}

#[track_caller]
pub(crate) fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option of every stream");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option of every stream");
    stream
}

#[track_caller]
pub(crate) fn say(mut to: &UnixStream, bytes: &[u8]) {
    to.write_all(bytes).expect("the server is there");
}

/// What comes until the end of the stream, which must not be a reset.
#[track_caller]
pub(crate) fn rest(mut of: &UnixStream) -> String {
    let mut text = String::new();
    of.read_to_string(&mut text).expect("text, and then the end of the stream");
    text
}

// ---- what is served -------------------------------------------------------------------------------------------------

#[test]
fn a_path_replaces_the_default_and_its_file_goes_with_the_server() {
    let spot = Spot::new();
    let mut server = spot.serve(&[]);
    assert_eq!(server.ready(), format!("READY unix={} pid={}", spot.text(), server.pid()));
    for _ in 0..3 {
        assert_eq!(spot.ask(), GREETING);
    }
    server.output.wait_for_line(&format!("unix {} 18 bytes: Hello, TCP Server!", spot.text()));
    server.assert_stops();
    assert!(!spot.path.exists());
    assert_eq!(server.events().len(), 3);
}

#[test]
fn a_client_of_netcat_is_greeted() {
    if !has_tool("nc") {
        return;
    }
    let spot = Spot::new();
    let _server = spot.serve(&[]);
    let command = format!("printf 'Hello, TCP Server!' | nc -N -U '{}'", spot.text());
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = run(shell);
    assert_eq!((ended.status, ended.output.as_str()), (0, GREETING), "{ended:?}");
}

#[test]
fn all_five_modes_are_served_as_over_tcp() {
    for (mode, question, answer) in [
        ("greet", "", GREETING),
        ("greet", "hello", GREETING),
        ("banner", "", GREETING),
        ("line", "one\ntwo\n", "Hello, TCP Client!\nHello, TCP Client!\n"),
        ("echo", "any\0bytes", "any\0bytes"),
        ("discard", "any bytes", ""),
    ] {
        let spot = Spot::new();
        let _server = spot.serve(&["--mode", mode]);
        let client = spot.connect();
        if !question.is_empty() {
            say(&client, question.as_bytes());
        }
        if mode != "banner" {
            client.shutdown(Shutdown::Write).expect("it is connected");
        }
        assert_eq!(rest(&client), answer, "{mode}");
    }
}

#[test]
fn paths_are_served_behind_the_addresses_in_the_order_given_each_once() {
    let (first, second) = (Spot::new(), Spot::new());
    let arguments = ["--unix", second.text(), "--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--unix", first.text()];
    let list = format!("{},{}", first.text(), second.text());
    for (arguments, variable) in [(&arguments[..], None), (&arguments[2..6], Some(format!("{},{list}", second.text())))]
    {
        let mut command = halloo(arguments);
        command.envs(variable.map(|list| ("HALLOO_UNIX", list)));
        let mut server = Server::start_as(command);
        let (tcp, udp) = (server.tcp(), server.udp());
        let paths = format!("unix={} unix={}", second.text(), first.text());
        assert_eq!(server.ready(), format!("READY tcp={tcp} udp={udp} {paths} pid={}", server.pid()));
        for spot in [&first, &second] {
            assert_eq!(spot.ask(), GREETING);
            server.output.wait_for_line(&format!("unix {} ", spot.text()));
        }
        assert_eq!((ask(tcp).as_str(), ask_udp(udp, b"hello").as_str()), (GREETING, "Hello, UDP Client!"));
        server.output.wait_for_line("tcp 127.0.0.1:");
        server.assert_stops();
    }
}

#[test]
fn a_relative_path_is_told_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = halloo(&["--unix", "here.sock"]);
    let mut server = Server::start_as({
        command.current_dir(&folder);
        command
    });
    let path = folder.path().join("here.sock");
    assert!(server.ready().starts_with(&format!("READY unix={} ", path.display())), "{}", server.ready());
    say(&connect(&path), QUESTION);
    server.output.wait_for_line(&format!("unix {} 18 bytes", path.display()));
    server.assert_stops();
    assert!(!path.exists());
}

#[test]
fn placeholders_and_json_name_the_path_and_nobody_s_address() {
    let spot = Spot::new();
    let greeting = "{protocol} {peer} {local} {number}";
    let server = spot.serve(&["--tcp", "127.0.0.1:0", "--tcp-greeting", greeting, "--events", "json"]);
    assert_eq!(spot.ask(), format!("unix unix {} 1", spot.text()));
    assert!(ask(server.tcp()).starts_with("tcp 127.0.0.1:"));
    assert_eq!(spot.ask(), format!("unix unix {} 3", spot.text()));
    let line = server.output.wait_for_line("\"protocol\":\"unix\"");
    let event: Value = serde_json::from_str(&line).expect("a JSON value");
    let expected = (Value::Null, Value::from(spot.text()), Value::from(18), Value::from("Hello, TCP Server!"));
    let [peer, local, bytes, text] = ["peer", "local", "bytes", "text"].map(|name| event[name].clone());
    assert_eq!((peer, local, bytes, text), expected);
}

#[test]
fn a_hostile_path_stays_on_one_printable_line_and_is_read_again_by_programs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(OsStr::from_bytes(b"a b%\x1b[31m\n\xff"));
    for events in ["text", "json"] {
        let mut command = halloo(&["--events", events, "--unix"]);
        command.arg(&path);
        let server = Server::start_as(command);
        let ready = server.ready();
        assert!(ready.contains("/a%20b%25%1B%5B31m%0A%FF pid="), "{ready}");
        say(&connect(&path), QUESTION);
        let line = server.output.wait_for_line("Hello, TCP Server!");
        let shown = if events == "text" { r"/a b%\x1b[31m\n\xff 18 bytes" } else { r#"/a b%\\x1b[31m\\n\\xff","# };
        assert!(line.contains(shown), "{line}");
    }
    // The servers were killed: what they have left behind is replaced, and said to be, on one line as well.
    let mut command = halloo(&["--unix"]);
    command.arg(&path);
    let server = Server::start_as(command);
    let line = server.errors.wait_for_line("replacing it");
    assert!(!line.contains('\u{1b}'), "{line}");
    assert_eq!(server.ready().split(' ').count(), 3);
}

// ---- limits and ends ------------------------------------------------------------------------------------------------

#[test]
fn max_connections_counts_clients_of_tcp_and_of_unix_sockets_together() {
    let spot = Spot::new();
    let server = spot.serve(&["--tcp", "127.0.0.1:0", "--max-connections", "1"]);
    let first = spot.held(&server);
    let waiting = spot.connect();
    say(&waiting, QUESTION);
    let tcp = crate::clients::begin_asking(server.tcp());
    server.errors.wait_for_line("the most allowed");
    waiting.set_nonblocking(true).expect("an option of every stream");
    assert_stays(Duration::from_millis(200), "nobody else is served", || (&waiting).read(&mut [0; 16]).is_err());
    waiting.set_nonblocking(false).expect("an option of every stream");
    drop(first);
    assert_eq!((rest(&waiting).as_str(), crate::clients::rest(&tcp).as_str()), (GREETING, GREETING));
}

#[test]
fn a_limit_per_source_does_not_concern_clients_without_an_address() {
    let spot = Spot::new();
    let server = spot.serve(&["--max-connections-per-source", "1"]);
    let held: Vec<UnixStream> = (0..5).map(|_| spot.held(&server)).collect();
    assert_eq!(spot.ask(), GREETING);
    for client in held {
        say(&client, QUESTION);
        assert_eq!(rest(&client), GREETING);
    }
}

#[test]
fn the_idle_timeout_and_the_counters_hold_for_them_too() {
    let spot = Spot::new();
    let server = spot.serve(&["--idle-timeout", "100ms"]);
    assert_eq!(rest(&spot.connect()), "");
    assert_eq!(spot.ask(), GREETING);
    server.signal("USR1");
    let line = server.errors.wait_for_line(" turns=");
    assert!(line.contains(" accepted=2 "), "{line}");
}

#[test]
fn exactly_as_many_are_greeted_as_asked_for_and_the_file_is_gone_then() {
    for workers in ["1", "3"] {
        let spot = Spot::new();
        let mut server = spot.serve(&["--workers", workers, "--max-greetings", "3", "--greeting", "{number}"]);
        let clients: Vec<UnixStream> = (0..8).map(|_| spot.connect()).collect();
        for mut client in &clients {
            // One that comes too late finds nobody.
            let _ = client.write_all(b"hello");
        }
        assert_eq!(server.wait(), 0, "{}", server.errors.text());
        assert!(!spot.path.exists());
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
fn idleness_ends_with_a_client_and_ends_the_server_and_its_file() {
    let spot = Spot::new();
    let mut server = spot.serve(&["--exit-when-idle", "200ms"]);
    let client = spot.held(&server);
    assert_stays(Duration::from_millis(500), "somebody is connected", || server.is_running());
    say(&client, QUESTION);
    assert_eq!(rest(&client), GREETING);
    drop(client);
    assert_eq!(server.wait(), 0);
    assert!(!spot.path.exists());
}

#[test]
fn a_drain_serves_who_waits_and_who_is_connected_and_the_file_goes_as_it_begins() {
    for workers in ["1", "4"] {
        let spot = Spot::new();
        let mut server = spot.serve(&["--workers", workers, "--drain-timeout", "20s"]);
        let connected = spot.held(&server);
        server.freeze();
        let waiting: Vec<UnixStream> = (0..20).map(|_| spot.connect()).collect();
        for client in &waiting {
            say(client, QUESTION);
        }
        server.signal("TERM");
        server.thaw();
        for client in &waiting {
            assert_eq!(rest(client), GREETING, "{workers} workers");
        }
        wait_until("the file to be gone", || !spot.path.exists());
        assert!(server.is_running(), "one client is still connected");
        say(&connected, QUESTION);
        assert_eq!(rest(&connected), GREETING);
        assert_eq!(server.wait(), 0, "{}", server.errors.text());
    }
}

#[test]
fn all_workers_accept_at_one_path_which_the_first_line_names_once() {
    let spot = Spot::new();
    let mut server = spot.serve(&["--workers", "3", "--events", "off"]);
    assert_eq!(server.ready(), format!("READY unix={} pid={}", spot.text(), server.pid()));
    let each = wait_for("clients of every worker", || {
        let clients: Vec<UnixStream> = (0..30).map(|_| spot.connect()).collect();
        for client in &clients {
            say(client, QUESTION);
        }
        assert!(clients.iter().all(|client| rest(client) == GREETING));
        let before = server.errors.lines().len();
        server.signal("USR1");
        wait_until("the counters", || server.errors.lines().len() >= before + 4);
        let lines = server.errors.lines().split_off(before + 1);
        let has_some = |line: &&String| !line.contains(" accepted=0 ");
        (lines.iter().filter(has_some).count() == 3).then_some(lines)
    });
    assert!(each.iter().all(|line| line.contains(" worker ")), "{each:?}");
    server.assert_stops();
    assert!(!spot.path.exists());
}
