//! `-vv`: a log line for each step of a client.

use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;
use support::network::http_client::HttpClient;
use support::network::streams::{GREETING, REQUEST, read_to_end, send};
use support::network::tcp::{connect, request_with};
use support::network::udp::{UDP_GREETING, recv, udp_client};
use support::process::server::Server;
use support::wait::{holds_for, wait_until};

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

/// How long no line follows a request that is not logged.
const NO_LINE_TIME: Duration = Duration::from_millis(100);

/// The texts of the lines about a client so far, without its name.
fn steps(server: &Server, client: &str) -> Vec<String> {
    let name = format!("] {client}: ");
    let lines = server.stderr.lines();
    lines.iter().filter_map(|line| Some(line.split_once(&name)?.1.to_owned())).collect()
}

/// Waits for the line about the end of a client, and returns the steps before, and the end without its time.
#[track_caller]
fn story(server: &Server, client: &str) -> (Vec<String>, String) {
    wait_until("the end of the client", || steps(server, client).iter().any(|step| step.contains(" bytes in, ")));
    let mut steps = steps(server, client);
    let end = steps.pop().expect("a line");
    let (words, rest) = end.split_once(" after ").expect("a time");
    let (time, bytes) = rest.split_once(", ").expect("bytes");
    assert!(time.strip_suffix("ms").is_some_and(|number| number.parse::<f64>().is_ok()), "{end}");
    (steps, format!("{words}, {bytes}"))
}

fn local(client: &TcpStream) -> String {
    format!("tcp {}", client.local_addr().expect("it is connected"))
}

#[test]
fn vv_logs_each_step_of_a_connection_and_how_it_ended() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "-vv"]);
    let accepted = format!("accepted on {}", server.tcp());
    let client = connect(server.tcp());
    send(&client, REQUEST);
    assert_eq!(read_to_end(&client), GREETING);
    let (steps, end) = story(&server, &local(&client));
    assert_eq!(steps[..4], [&accepted, "read 18 bytes", "sent 18 bytes", "sent EOF"]);
    assert_eq!(end, "closed by us, 18 bytes in, 18 out");

    let client = connect(server.tcp());
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("an option of every stream");
    let name = local(&client);
    server.stderr.wait_for_line(&format!("{name}: accepted on "));
    drop(client);
    let (steps, end) = story(&server, &name);
    assert_eq!(steps, [&accepted, "cannot read: connection reset by peer"]);
    assert_eq!(end, "reset by the client, 0 bytes in, 0 out");
    assert!(!server.stderr.text().contains("mio"), "{}", server.stderr.text());
    assert_eq!(server.stderr.count_lines_with(": closed: "), 0, "the end is told once");
}

#[test]
fn vv_logs_an_idle_timeout_and_a_client_of_a_unix_socket() {
    let socket_path = SocketPath::new();
    let server = socket_path.start_server(&["--tcp", "127.0.0.1:0", "--idle-timeout", "50ms", "-vv", "--workers", "2"]);
    let silent = connect(server.tcp());
    assert_eq!(story(&server, &local(&silent)).1, "closed by us: idle timeout, 0 bytes in, 0 out");
    socket_path.request();
    let line = server.stderr.wait_for_line(&format!(": accepted on {}", socket_path.as_str()));
    let (_, name) = line.split_once("] ").expect("a target");
    let (name, _) = name.split_once(": ").expect("a name");
    assert!(name.starts_with("unix client "), "{line}");
    assert_eq!(story(&server, name).1, "closed by us, 18 bytes in, 18 out");
}

#[test]
fn vv_logs_what_was_received_and_sent_over_udp_and_why_there_is_no_reply() {
    let server = HALLOO.start(&["--udp", "127.0.0.1:0", "--udp-rate", "1", "-vv"]);
    let client = udp_client(server.udp());
    let name = format!("udp {}", client.local_addr().expect("it is connected"));
    client.send(b"hello").expect("loopback takes it");
    recv(&client);
    client.send(b"again").expect("loopback takes it");
    wait_until("four lines", || steps(&server, &name).len() == 4);
    let received = format!("received 5 bytes on {}", server.udp());
    let no_reply = "no reply: over the rate limit of its source";
    assert_eq!(steps(&server, &name), [&received, "sent 18 bytes", &received, no_reply]);
    client.send(UDP_GREETING.as_bytes()).expect("loopback takes it");
    server.stderr.wait_for_line("the datagram is itself a greeting; it has no reply");
}

#[test]
fn vv_logs_a_fault_of_a_datagram_and_a_delayed_connection_is_closed_by_us() {
    let server =
        HALLOO.start(&["--listen", "127.0.0.1:0", "-vv", "--fault", "delay=20ms,listener=tcp:127.0.0.1:0;drop"]);
    let client = connect(server.tcp());
    send(&client, REQUEST);
    assert_eq!(read_to_end(&client), GREETING);
    assert_eq!(story(&server, &local(&client)).1, "closed by us, 18 bytes in, 18 out");
    let client = udp_client(server.udp());
    client.send(b"hello").expect("loopback takes it");
    let name = format!("udp {}", client.local_addr().expect("it is connected"));
    wait_until("two lines", || steps(&server, &name).len() == 2);
    assert_eq!(steps(&server, &name)[1], "fault: drop");
}

#[test]
fn the_level_trace_set_by_a_request_logs_the_clients_also_beside_a_recording() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recording = folder.path().join("run.json");
    for record in [&[][..], &["--record", recording.to_str().expect("a plain path")]] {
        let arguments = ["--tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let server = HALLOO.start(&[&arguments[..], record].concat());
        for (level, is_told) in [("trace", true), ("info", false), ("trace", true)] {
            let mut admin = HttpClient::connect(server.admin());
            let length = level.len();
            admin.send(
                format!("PUT /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{level}")
                    .as_bytes(),
            );
            assert_eq!(admin.read_response_to("PUT").status, 200);
            // The level applies from the next turn on, in which the next client need not be.
            wait_until("a client at the new level", || {
                let told = || server.stderr.count_lines_with(" bytes in, ");
                let before = told();
                request_with(server.tcp(), b"x");
                if is_told { told() > before } else { holds_for(NO_LINE_TIME, || told() == before) }
            });
        }
        let admin_port = server.admin().to_string();
        assert_eq!(server.stderr.count_lines_with(&format!("accepted on {admin_port}")), 0, "only clients are told");
    }
}
