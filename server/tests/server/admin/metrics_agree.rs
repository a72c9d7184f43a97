//! The metrics of a run, compared with its events, log and clients.
//!
//! They agree exactly.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::Value;
use support::network::http_client::HttpClient;
use support::network::tcp::connect;
use support::network::udp::{recv, try_recv, udp_client};
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;
use crate::admin::scraped_metrics::{Scrape, scrape};
use crate::unix::temporary_socket_path::{SocketPath, connect_unix};

const CLIENTS: u64 = 40;

const REQUEST: &[u8] = b"Hello, Server!\n";

/// Whether the datagrams of a mode get a reply.
fn replies_to_datagrams(mode: &str) -> bool {
    mode != "discard"
}

/// What the clients of one run have sent and received over streams.
#[derive(Debug, Default, PartialEq, Eq)]
struct Bytes {
    sent: u64,
    received: u64,
}

/// A request over a stream of each protocol and a datagram, from so many clients.
#[track_caller]
fn run_clients(server: &Server, socket_path: &SocketPath, mode: &str) -> Bytes {
    let mut bytes = Bytes::default();
    let mut exchange = |mut stream: Box<dyn Stream>| {
        let mut reply = Vec::new();
        // A client of a banner sends nothing: the server would not read it.
        if mode != "banner" {
            stream.write_all(REQUEST).expect("the server reads");
            bytes.sent += REQUEST.len() as u64;
        }
        stream.finish_writing();
        stream.read_to_end(&mut reply).expect("the server closes");
        bytes.received += reply.len() as u64;
    };
    let datagrams = udp_client(server.udp());
    for _ in 0..CLIENTS {
        exchange(Box::new(connect(server.tcp())));
        exchange(Box::new(connect_unix(&socket_path.path)));
        datagrams.send(REQUEST).expect("loopback takes it");
        if replies_to_datagrams(mode) {
            recv(&datagrams);
        }
    }
    bytes
}

trait Stream: Read + Write {
    fn finish_writing(&self);
}

impl Stream for std::net::TcpStream {
    fn finish_writing(&self) {
        self.shutdown(Shutdown::Write).expect("it is connected");
    }
}

impl Stream for std::os::unix::net::UnixStream {
    fn finish_writing(&self) {
        self.shutdown(Shutdown::Write).expect("it is connected");
    }
}

/// The JSON lines of a server that has ended.
#[track_caller]
fn events_to_the_end(server: &mut Server) -> Vec<Value> {
    server.assert_exits_on_sigterm();
    server.wait_for_eof();
    let lines = server.event_lines();
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The sum of a field of the events of one kind.
fn sum(events: &[Value], kind: &str, field: &str) -> u64 {
    events.iter().filter(|event| event["event"] == kind).filter_map(|event| event[field].as_u64()).sum()
}

/// The metrics once every client has been served and every connection has ended.
#[track_caller]
fn scrape_when_idle(server: &Server, greetings: u64) -> Scrape {
    let protocols = ["tcp", "udp", "unix"].map(|protocol| format!("halloo_greetings_total{{protocol=\"{protocol}\"}}"));
    let is_idle = |scrape: &Scrape| {
        let counted: u64 = protocols.iter().map(|series| scrape.count(series)).sum();
        counted == greetings && scrape.count("halloo_connections") == 0
    };
    wait_until("the greetings", || is_idle(&scrape(server)));
    scrape(server)
}

#[test]
fn in_each_mode_the_metrics_agree_with_the_events_the_log_and_the_clients() {
    for mode in ["greet", "banner", "line", "echo", "discard"] {
        let socket_path = SocketPath::new();
        let arguments = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "2", "--mode", mode];
        let mut server = socket_path.start_server(&[&arguments[..], &["--events", "json", "--udp-rate", "0"]].concat());
        let bytes = run_clients(&server, &socket_path, mode);
        let scraped = scrape_when_idle(&server, 3 * CLIENTS);
        assert_eq!(scraped.count("halloo_received_bytes_total"), bytes.sent, "{mode}");
        assert_eq!(scraped.count("halloo_sent_bytes_total"), bytes.received, "{mode}");
        assert_eq!(scraped.count("halloo_connections_accepted_total"), 2 * CLIENTS, "{mode}");
        assert_eq!(scraped.count("halloo_datagrams_received_total"), CLIENTS, "{mode}");
        let replies = if replies_to_datagrams(mode) { CLIENTS } else { 0 };
        assert_eq!(scraped.count("halloo_datagrams_sent_total"), replies, "{mode}");
        assert_agrees_with_the_log(&server, &scraped);
        let events = events_to_the_end(&mut server);
        for protocol in ["tcp", "udp", "unix"] {
            let count = events.iter().filter(|event| event["protocol"] == protocol).count();
            let series = format!("halloo_greetings_total{{protocol=\"{protocol}\"}}");
            assert_eq!(scraped.count(&series), count as u64, "{mode}: {protocol}");
        }
        let of_streams: Vec<Value> = events.iter().filter(|event| event["protocol"] != "udp").cloned().collect();
        // An event of a line has its bytes without the newline.
        let newlines = if mode == "line" { 2 * CLIENTS } else { 0 };
        assert_eq!(sum(&of_streams, "received", "bytes") + newlines, bytes.sent, "{mode}");
        assert_eq!(scraped.count("halloo_events_total"), events.len() as u64, "{mode}");
    }
}

/// The counters that SIGUSR1 logs are those of the metrics.
#[track_caller]
fn assert_agrees_with_the_log(server: &Server, scraped: &Scrape) {
    let logged = server.counters();
    for (name, series) in [
        ("accepted", "halloo_connections_accepted_total"),
        ("connections", "halloo_connections"),
        ("bytes_received", "halloo_received_bytes_total"),
        ("bytes_sent", "halloo_sent_bytes_total"),
        ("datagrams_received", "halloo_datagrams_received_total"),
        ("datagrams_sent", "halloo_datagrams_sent_total"),
        ("datagrams_dropped", "halloo_datagrams_dropped_total{reason=\"send_error\"}"),
        ("refused_source", "halloo_connections_refused_total{cause=\"source_limit\"}"),
        ("accept_errors", "halloo_accept_errors_total"),
        ("panics", "halloo_panics_total"),
    ] {
        assert_eq!(scraped.count(series), logged[name], "{name}");
    }
    for series in scraped.series().filter_map(|series| series.strip_prefix("halloo_connections_closed_total{reason=\""))
    {
        let reason = series.trim_end_matches("\"}");
        let count = scraped.count(&format!("halloo_connections_closed_total{{reason=\"{series}"));
        assert_eq!(count, logged.get(&format!("closed.{reason}")).copied().unwrap_or(0), "{reason}");
    }
}

#[test]
fn suppressed_and_lost_lines_are_those_that_the_events_sum_up() {
    let arguments = ["--udp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--events", "json"];
    let mut server = HALLOO.start(&[&arguments[..], &["--mode", "discard", "--workers", "2"]].concat());
    let client = udp_client(server.udp());
    let mut sent = 0;
    // Far more than a thousand a second, on any machine.
    wait_until("suppressed events", || {
        for _ in 0..200 {
            client.send(REQUEST).expect("loopback takes it");
            sent += 1;
        }
        let series = "halloo_datagrams_received_total";
        wait_until("the datagrams", || scrape(&server).count(series) == sent);
        scrape(&server).count("halloo_events_suppressed_total") > 100
    });
    let scraped = scrape(&server);
    let events = events_to_the_end(&mut server);
    let received = events.iter().filter(|event| event["event"] == "received").count() as u64;
    let (suppressed, lost) = (sum(&events, "suppressed", "count"), sum(&events, "lost", "count"));
    assert_eq!(scraped.count("halloo_events_total"), sent);
    assert_eq!(scraped.count("halloo_events_suppressed_total"), suppressed);
    assert_eq!(scraped.count("halloo_lines_lost_total{stream=\"stdout\"}"), lost);
    assert_eq!(received + suppressed + lost, sent);
    assert_eq!(try_recv(&client), None);
}

#[test]
fn lines_that_a_full_disk_does_not_take_are_counted_for_each_stream() {
    let (admin_path, served_path) = (SocketPath::new(), SocketPath::new());
    let admin_address = format!("unix:{}", admin_path.as_str());
    let mut command = HALLOO.command(&["--unix", served_path.as_str(), "--admin", &admin_address, "-v"]);
    let full = || OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    command.stdout(full()).stderr(full());
    let mut server = Server::spawn(command);
    // The file is there before the socket listens.
    let listens = |socket: &SocketPath| UnixStream::connect(&socket.path).is_ok();
    wait_until("both sockets", || listens(&admin_path) && listens(&served_path));
    for _ in 0..5 {
        served_path.request();
    }
    let scrape = || Scrape::parse(&HttpClient::new(connect_unix(&admin_path.path)).request("GET /metrics", "").body);
    // READY and five events.
    wait_until("the lines", || scrape().count("halloo_lines_lost_total{stream=\"stdout\"}") == 6);
    let is_lost = |scrape: &Scrape| {
        let logged: u64 = ["error", "warn", "info", "debug", "trace"]
            .map(|level| scrape.count(&format!("halloo_log_lines_total{{level=\"{level}\"}}")))
            .iter()
            .sum();
        logged > 0 && scrape.count("halloo_lines_lost_total{stream=\"stderr\"}") == logged
    };
    wait_until("the log lines", || is_lost(&scrape()));
    assert_eq!(scrape().count("halloo_events_total"), 5);
    server.assert_exits_on_sigterm();
}
