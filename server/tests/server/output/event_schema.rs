//! Every kind of JSON event against `event.schema.json`.

use std::collections::BTreeSet;

use support::network::tcp::request_with;
use support::network::udp::request_udp;
use support::process::captured_output::CapturedOutput;
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;
use crate::output::line_schema::LineSchema;
use crate::process::broken_standard_streams::fill_pipes;
use crate::unix::temporary_socket_path::SocketPath;

const EVENT_SCHEMA: &str = include_str!("../../../schemas/event.schema.json");

/// READY and events with every field.
fn lines_of_each_protocol() -> Vec<String> {
    let socket_path = SocketPath::new();
    let server = socket_path.start_server(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--events", "json"]);
    socket_path.request();
    request_udp(server.udp(), &[b'x'; 300]);
    request_with(server.tcp(), b"\xff");
    wait_until("three events", || server.event_lines().len() == 3);
    server.stdout.lines()
}

/// The lines of a server whose output is read late: events are suppressed, and lines are lost.
fn lines_of_an_unread_output() -> Vec<String> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = HALLOO.command(&["--listen", "127.0.0.1:0", "--events", "json"]);
    command.stdout(writer);
    let mut server = Server::spawn(command);
    fill_pipes(server.listening_address());
    let printed = CapturedOutput::read_from(Some(reader));
    printed.wait_for_line("\"event\":\"lost\"");
    server.assert_exits_on_sigterm();
    wait_until("the pipe to end", || printed.is_closed());
    printed.lines()
}

/// The faults of a datagram and of a connection, one of them with a time.
fn lines_of_faults() -> Vec<String> {
    let faults = "half,listener=tcp:127.0.0.1:0;delay=2ms,listener=udp:127.0.0.1:0";
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--events", "json", "--fault", faults]);
    request_udp(server.udp(), b"hi");
    request_with(server.tcp(), b"hi");
    wait_until("both faults", || server.stdout.count_lines_with("\"event\":\"fault\"") == 2);
    server.stdout.lines()
}

#[test]
fn every_kind_of_event_line_is_in_the_schema_which_refuses_other_fields() {
    let schema = LineSchema::new(EVENT_SCHEMA);
    let lines = [lines_of_each_protocol(), lines_of_an_unread_output(), lines_of_faults()].concat();
    let mut kinds = BTreeSet::new();
    for line in lines {
        let kind = schema.check(&line)["event"].as_str().expect("a text").to_owned();
        if kinds.insert(kind) {
            schema.assert_closed(&line);
        }
    }
    assert!(kinds.iter().eq(&schema.kinds().into_iter().map(str::to_owned).collect::<BTreeSet<_>>()), "{kinds:?}");
}
