//! `http_hello` with curl, netcat and wrk.

use std::net::SocketAddr;

use support::process::child::Process;
use support::process::shell::shell;

use crate::programs::start_example;

fn serve() -> (Process, SocketAddr) {
    start_example(env!("CARGO_BIN_EXE_http_hello"), &["127.0.0.1:0"])
}

/// Sends the bytes unchanged, and returns all output until EOF.
fn netcat(address: SocketAddr, bytes: &str) -> String {
    shell(&format!("printf '{bytes}' | nc -N {} {}", address.ip(), address.port()))
}

#[test]
#[ignore = "needs curl"]
fn curl_gets_200_head_and_404_over_one_connection() {
    let (_server, at) = serve();
    let results = |arguments: &str| shell(&format!("curl -sS -w '%{{http_code}} %{{num_connects}}\\n' {arguments}"));
    assert_eq!(results(&format!("{at} {at}/?a=b")), "Hello, HTTP Client!\n200 1\nHello, HTTP Client!\n200 0\n");
    assert_eq!(results(&format!("{at}/no {at}")), "404 Not Found\n404 1\nHello, HTTP Client!\n200 0\n");
    assert_eq!(results(&format!("-0 {at} {at}")), "Hello, HTTP Client!\n200 1\nHello, HTTP Client!\n200 1\n");
    let head = results(&format!("-I {at} {at}"));
    assert!(head.contains("Content-Length: 20\r\n") && head.contains("\r\nDate: "), "{head}");
    assert!(head.ends_with("200 0\n"), "{head}");
}

#[test]
#[ignore = "needs curl"]
fn a_request_body_is_skipped_or_refused() {
    let (_server, at) = serve();
    let post = |arguments: &str| {
        let written = "-o /dev/null -w '%{http_code} %{num_connects}\\n'";
        shell(&format!("head -c 50000 /dev/zero | curl -sS {written} {arguments}"))
    };
    let sent = "--data-binary @-";
    assert_eq!(post(&format!("{sent} {at} --next -sS -o /dev/null -w '%{{http_code}}' {at}")), "405 1\n200");
    assert_eq!(post(&format!("{sent} -H 'Transfer-Encoding: chunked' {at}")), "411 1\n");
    assert_eq!(post(&format!("{sent} -H 'Expect: 100-continue' {at}")), "405 1\n");
    let large = "head -c 10000000 /dev/zero | curl -sS -o /dev/null -w '%{http_code}' --data-binary @-";
    assert_eq!(shell(&format!("{large} {at}")), "413");
}

#[test]
#[ignore = "needs nc"]
fn pipelined_requests_are_answered_in_order_up_to_an_invalid_one() {
    let (_server, at) = serve();
    let get = |path: &str| format!("GET {path} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n");
    let statuses = |answers: &str| -> Vec<String> {
        let lines = answers.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 "));
        lines.map(|line| line[..3].to_owned()).collect()
    };
    let output = netcat(at, &format!("{}{}{}", get("/"), get("/no"), get("/")));
    assert_eq!(statuses(&output), ["200", "404", "200"]);
    let output = netcat(at, &format!("{}nonsense\\r\\n\\r\\n{}", get("/"), get("/")));
    assert_eq!(statuses(&output), ["200", "400"]);
    for invalid in ["Content-Length: 1\\r\\nContent-Length: 2", "Content-Length: +1", "Host: b", "Content-Length: "] {
        let output = netcat(at, &format!("GET / HTTP/1.1\\r\\nHost: a\\r\\n{invalid}\\r\\n\\r\\n{}", get("/")));
        assert_eq!(statuses(&output), ["400"], "{invalid}");
    }
    assert_eq!(statuses(&netcat(at, "GET / HTTP/1.1\\r\\n\\r\\n")), ["400"], "a host is required");
    let unlimited_head = shell(&format!(
        "(printf 'GET / HTTP/1.1\\r\\n'; head -c 20000 /dev/zero | tr '\\0' x) | nc -N {} {}",
        at.ip(),
        at.port()
    ));
    assert_eq!(statuses(&unlimited_head), ["431"]);
}

#[test]
#[ignore = "needs nc"]
fn ten_thousand_pipelined_requests_to_a_slow_reader_are_all_answered() {
    let (_server, at) = serve();
    let ask = "for i in $(seq 10000); do printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'; done";
    let count = shell(&format!("({ask}) | nc -N {} {} | (sleep 1; grep -c '^Hello')", at.ip(), at.port()));
    assert_eq!(count.trim(), "10000");
}

#[test]
#[ignore = "needs wrk"]
fn wrk_reports_no_error() {
    let (_server, at) = serve();
    let report = shell(&format!("wrk -t1 -c64 -d2s http://{at}/"));
    assert!(report.contains("Requests/sec") && !report.contains("rrors") && !report.contains("Non-2xx"), "{report}");
}
