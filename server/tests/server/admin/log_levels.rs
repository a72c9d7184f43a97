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
    for word in ["verbose", "off", "debug trace", "\u{1b}[31m"] {
        let refusal = set(&server, "PUT", word);
        assert_eq!(refusal.status, 400, "{word:?}");
        assert!(refusal.body.contains("error, warn, info, debug, trace"), "{}", refusal.body);
        assert!(!refusal.body.contains('\u{1b}'));
    }
    assert_eq!(get(server.admin(), "/log-level").body, "info\n");
}

#[test]
fn a_request_without_a_word_is_refused_with_the_way_to_send_one() {
    let server = start_with_admin(&[]);
    let refusal = set(&server, "PUT", "");
    assert_eq!(refusal.status, 400);
    assert!(refusal.body.starts_with("the body is empty; send one of error, warn, info, debug, trace"), "{refusal:?}");
    let refusal = get(server.admin(), "/log-level?level=debug");
    assert_eq!(refusal.status, 400);
    assert!(refusal.body.contains("a query sets nothing; send the level as the body of PUT"), "{refusal:?}");
    assert_eq!(get(server.admin(), "/log-level").body, "info\n");
}

#[test]
fn a_level_in_any_case_is_set_and_one_that_applies_already_is_not_logged() {
    let server = start_with_admin(&[]);
    assert_eq!(set(&server, "PUT", "INFO").body, "info\n");
    assert_eq!(set(&server, "PUT", "Debug").body, "debug\n");
    server.stderr.wait_for_line("log level: debug, was info");
    assert_eq!(server.stderr.count_lines_with("log level: "), 1);
}

#[test]
fn a_line_about_a_client_of_the_endpoint_is_marked() {
    let server = start_with_admin(&["-v"]);
    assert_eq!(get(server.admin(), "/live").body, "live\n");
    server.stderr.wait_for_line("DEBUG [halloo::event_loop::connections] admin: 127.0.0.1:");
    ask(&server);
    server.stderr.wait_for_line("DEBUG [halloo::event_loop::connections] 127.0.0.1:");
}
