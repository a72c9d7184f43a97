//! `/log-level`: the level of the log, changed while the server runs.

use support::network::streams::{REQUEST, read_to_end, send};
use support::process::server::Server;
use support::wait::wait_until;

use crate::admin::start_with_admin;
use support::network::http_client::{HttpClient, HttpResponse, get};

fn set(server: &Server, method: &str, word: &str) -> HttpResponse {
    let mut client = HttpClient::connect(server.admin());
    let length = word.len();
    client.send(
        format!("{method} /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{word}").as_bytes(),
    );
    client.read_response_to(method)
}

fn ask(server: &Server) {
    let client = std::net::TcpStream::connect(server.tcp()).unwrap();
    send(&client, REQUEST);
    read_to_end(&client);
}

#[test]
fn a_level_set_by_a_request_applies_at_once_and_is_logged() {
    let server = start_with_admin(&[]);
    assert_eq!(get(server.admin(), "/log-level").body, "info\n");
    ask(&server);
    assert_eq!(server.stderr.count_lines_with("DEBUG"), 0);
    assert_eq!(set(&server, "PUT", "debug\n").body, "debug\n");
    server.stderr.wait_for_line("WARN  [halloo::admin::pages] log level: debug, was info");
    ask(&server);
    wait_until("a line about the client", || server.stderr.count_lines_with("DEBUG") > 0);
    assert_eq!(set(&server, "POST", "error").body, "error\n");
    server.stderr.wait_for_line("log level: error, was debug");
    assert_eq!(set(&server, "PUT", "trace").body, "trace\n");
    server.stderr.wait_for_line("log level: trace, was error");
    assert_eq!(get(server.admin(), "/log-level").body, "trace\n");
}

#[test]
fn another_word_is_refused_with_the_levels_and_has_no_effect() {
    let server = start_with_admin(&[]);
    for word in ["", "verbose", "INFO", "off", "debug trace", "\u{1b}[31m"] {
        let refusal = set(&server, "PUT", word);
        assert_eq!(refusal.status, 400, "{word:?}");
        assert!(refusal.body.contains("error, warn, info, debug, trace"), "{}", refusal.body);
        assert!(!refusal.body.contains('\u{1b}'));
    }
    assert_eq!(get(server.admin(), "/log-level").body, "info\n");
}
