//! `/faults`: the faults, changed while the server runs, and their metrics.

use serde_json::{Value, json};

use support::network::http_client::{HttpClient, HttpResponse, get};
use support::network::streams::{read_until_closed, send};
use support::network::tcp::{connect, half_close, request};
use support::network::udp::{request_udp, udp_client};
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;

fn start(arguments: &[&str]) -> Server {
    HALLOO.start(&[&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], arguments].concat())
}

fn put(server: &Server, headers: &str, body: &str) -> HttpResponse {
    let mut client = HttpClient::connect(server.admin());
    let length = body.len();
    let head = format!("PUT /faults HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n");
    client.send(format!("{head}{body}").as_bytes());
    client.read_response_to("PUT")
}

fn shown(server: &Server) -> Value {
    serde_json::from_str(&get(server.admin(), "/faults").body).unwrap()
}

/// The reply up to its end, whether by a FIN or an RST.
fn reply_of(server: &Server) -> String {
    let client = connect(server.tcp());
    send(&client, b"hi");
    half_close(&client);
    String::from_utf8(read_until_closed(&client)).unwrap()
}

#[test]
fn a_change_applies_to_all_workers_at_once_and_is_logged() {
    let server = start(&["--fault", "none", "--fault-seed", "5", "--workers", "4"]);
    assert_eq!(shown(&server), json!({"enabled": true, "seed": 5, "exchanges": 0, "faults": []}));
    assert_eq!(request(server.tcp()), "Hello, TCP Client!");
    let changed = put(&server, "", "half\r\ntruncate=5,share=100%\n");
    assert_eq!((changed.status, changed.body.as_str()), (200, "half; truncate=5,share=100%\n"));
    server.stderr.wait_for_line("WARN  [halloo::admin::pages] faults: half; truncate=5,share=100%, were none");
    for _ in 0..20 {
        assert_eq!(reply_of(&server), "Hello, TC");
        assert_eq!(request_udp(server.udp(), b"hi"), "Hello");
    }
    let faults = json!([{"fault": "half", "injected": 20}, {"fault": "truncate=5,share=100%", "injected": 20}]);
    assert_eq!(shown(&server), json!({"enabled": true, "seed": 5, "exchanges": 40, "faults": faults}));
    assert_eq!(put(&server, "", "").body, "none\n");
    for _ in 0..20 {
        assert_eq!(reply_of(&server), "Hello, TCP Client!");
    }
}

#[test]
fn a_wrong_line_changes_nothing() {
    let server = start(&["--fault", "half,share=100%"]);
    for (body, part) in [
        ("explode", "not a fault: explode"),
        ("reset=0\nhalf=2", "half takes no value"),
        ("half,listener=9", "no listener has that name"),
        ("half\nreset=0", "more than 100%"),
        ("half,share=10%\nnone", "none stands alone"),
        ("\u{1b}[31m", "not a fault"),
    ] {
        let refusal = put(&server, "", body);
        assert_eq!(refusal.status, 400, "{body}");
        assert!(refusal.body.contains(part) && !refusal.body.contains('\u{1b}'), "{}", refusal.body);
        assert_eq!(reply_of(&server), "Hello, TC");
    }
    let refusal = get(server.admin(), "/faults?fault=half");
    assert_eq!((refusal.status, refusal.body.contains("a query sets nothing")), (400, true), "{refusal:?}");
}

#[test]
fn a_server_that_was_started_without_faults_refuses_them() {
    let server = start(&[]);
    assert_eq!(shown(&server), json!({"enabled": false, "seed": null, "exchanges": 0, "faults": []}));
    let refusal = put(&server, "", "half");
    assert_eq!(refusal.status, 409);
    assert!(refusal.body.contains("start the server with --fault none"), "{}", refusal.body);
    assert_eq!(request(server.tcp()), "Hello, TCP Client!");
}

#[test]
fn a_page_of_another_origin_changes_no_faults() {
    let server = start(&["--fault", "none"]);
    for headers in ["Origin: http://example.org\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(put(&server, headers, "half").status, 403, "{headers}");
    }
    assert_eq!(shown(&server)["faults"], json!([]));
}

#[test]
fn the_faults_are_counted_by_kind_and_their_exchanges_too() {
    let server = start(&["--fault", "half,share=100%", "--fault", "drop"]);
    let metrics = || get(server.admin(), "/metrics").body;
    let first = metrics();
    for line in ["halloo_faults_total{fault=\"half\"} 0", "halloo_faults_total{fault=\"delay\"} 0"] {
        assert!(first.lines().any(|shown| shown == line), "{line}");
    }
    for _ in 0..3 {
        reply_of(&server);
    }
    udp_client(server.udp()).send(b"hi").unwrap();
    wait_until("the datagram", || metrics().contains("halloo_faults_total{fault=\"drop\"} 1"));
    let last = metrics();
    for line in ["halloo_faults_total{fault=\"half\"} 3", "halloo_fault_exchanges_total 4", "halloo_events_total 8"] {
        assert!(last.lines().any(|shown| shown == line), "{line}: {last}");
    }
}

#[test]
fn the_log_warns_of_the_faults_with_the_seed_that_repeats_them() {
    let server = start(&["--fault", "half,share=1%", "--fault", "drop,share=2%"]);
    let line = server.stderr.wait_for_line("faults on purpose: half,share=1%; drop,share=2%");
    let (_, seed) = line.split_once("--fault-seed ").unwrap();
    assert_eq!(shown(&server)["seed"], json!(seed.parse::<u32>().unwrap()));
    assert!(line.contains("WARN"), "{line}");
}
