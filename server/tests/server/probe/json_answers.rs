//! Every kind of `probe --json` line against `probe.schema.json`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use support::network::tcp::reset;

use crate::HALLOO;
use crate::output::line_schema::LineSchema;
use crate::unix::temporary_socket_path::SocketPath;

const PROBE_SCHEMA: &str = include_str!("../../../schemas/probe.schema.json");

/// The objects of a probe, each checked, and its exit status.
#[track_caller]
fn probe(schema: &LineSchema, arguments: &[&str]) -> (i32, Vec<Value>) {
    let output = HALLOO.run(&[&["probe", "--json"], arguments].concat());
    assert_eq!(output.stderr, "", "the notes are in the objects");
    for line in output.stdout.lines() {
        schema.check(line);
        schema.assert_closed(line);
    }
    let objects: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let is_summary: Vec<bool> = objects.iter().map(|object| object["event"] == "summary").collect();
    assert!(is_summary.ends_with(&[true]) && is_summary.iter().filter(|is_summary| **is_summary).count() == 1);
    (output.status, objects)
}

/// Bound and not listening.
fn refusing() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("an address").to_string();
    (socket, address)
}

/// Resets each connection.
fn resetting() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    thread::spawn(move || listener.incoming().flatten().for_each(reset));
    address
}

#[test]
fn every_result_and_the_summary_are_in_the_schema_which_refuses_other_fields() {
    let schema = LineSchema::new(PROBE_SCHEMA);
    let path = SocketPath::new();
    let server = path.start_server(&["--listen", "127.0.0.1:0"]);
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("it is bound").to_string();
    let (tcp, unix, (_socket, refusing)) = (server.tcp().to_string(), format!("unix:{}", path.as_str()), refusing());
    let resetting = resetting();
    let mut results = BTreeSet::new();
    for (arguments, status, result, protocol) in [
        (&[&tcp, "--tcp"][..], 0, "ok", "tcp"),
        (&[&tcp, "--udp"], 0, "ok", "udp"),
        (&[&unix], 0, "ok", "unix"),
        (&[&tcp, "--connect-only"], 0, "ok", "tcp"),
        (&[&tcp, "--tcp", "--expect", "Bye"], 5, "mismatch", "tcp"),
        (&[&silent, "--udp", "--timeout", "100ms", "--retries", "1"], 4, "timeout", "udp"),
        (&[&refusing, "--tcp"], 3, "refused", "tcp"),
        (&[&resetting, "--tcp"], 5, "reset", "tcp"),
        (&["unix:/nope/a.sock"], 3, "unreachable", "unix"),
        (&["-6", "127.0.0.1:9", "[::1]:9", "--tcp", "--timeout", "5s"], 3, "dns", "tcp"),
        (&[&tcp, "--tcp", "--wait", "20s"], 0, "ok", "tcp"),
        (&[&refusing, "--tcp", "--wait-gone", "20s"], 0, "refused", "tcp"),
    ] {
        let (found, objects) = probe(&schema, arguments);
        let answer = &objects[0];
        assert_eq!((found, &answer["result"], &answer["protocol"]), (status, &result.into(), &protocol.into()));
        assert_eq!(answer["error"].is_string(), answer["text"].is_null() && result != "ok", "{answer}");
        results.insert(result);
    }
    let name = probe(&schema, &["no-such-name.invalid:9", "--tcp", "--timeout", "20s"]);
    assert_eq!(name.0, 3);
    assert_eq!(results.len(), 7, "all words but resolver, which needs a name server: {results:?}");
}

#[test]
fn an_object_has_the_reply_its_size_and_its_time_in_milliseconds() {
    let schema = LineSchema::new(PROBE_SCHEMA);
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--greeting", "say \"hi\"\n"]);
    let target = server.tcp().to_string();
    let (status, objects) = probe(&schema, &[&target, "--tcp"]);
    let (answer, tally) = (&objects[0], &objects[1]["targets"][0]);
    assert_eq!((status, &answer["text"], &answer["bytes"]), (0, &"say \"hi\"\n".into(), &9.into()));
    assert_eq!((&answer["target"], &answer["address"]), (&target.as_str().into(), &target.as_str().into()));
    assert_eq!((&answer["error"], &answer["tries"], &answer["truncated"]), (&Value::Null, &1.into(), &false.into()));
    assert_eq!((&tally["sent"], &tally["ok"], &tally["failed"]), (&1.into(), &1.into(), &0.into()));
    assert_eq!(tally["min_ms"], answer["elapsed_ms"]);
    assert!(answer.get("hex").is_none() && answer["elapsed_ms"].as_f64().is_some_and(|time| time < 20_000.0));
}

#[test]
fn other_bytes_are_shown_as_hex_and_a_long_reply_is_truncated() {
    let schema = LineSchema::new(PROBE_SCHEMA);
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--mode", "echo"]);
    let target = server.tcp().to_string();
    let (_, objects) = probe(&schema, &[&target, "--tcp", "--send", r"a\xff", "--expect", r"\xff"]);
    assert_eq!((&objects[0]["text"], &objects[0]["hex"]), (&"a\u{fffd}".into(), &"61ff".into()));
    let long = "x".repeat(100_000);
    let (_, objects) = probe(&schema, &[&target, "--tcp", "--send", &long]);
    assert_eq!(objects[0]["truncated"], true, "{} bytes", objects[0]["bytes"]);
}

#[test]
fn a_note_is_in_the_object_and_not_on_standard_error() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = listener.local_addr().expect("it is bound").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.read_exact(&mut [0; 19]).expect("a question");
            stream.write_all(b"an answer").expect("the client reads");
            reset(stream);
        }
    });
    let (status, objects) = probe(&LineSchema::new(PROBE_SCHEMA), &[&target, "--tcp"]);
    assert_eq!((status, &objects[0]["notes"][0]), (0, &"connection reset by peer after the reply".into()));
}
