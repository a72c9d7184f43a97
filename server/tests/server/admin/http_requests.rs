//! Requests of the admin endpoint: which are answered, and how.

use std::io::Write;
use std::net::Shutdown;

use crate::admin::start_with_admin;
use support::network::http_client::{HttpClient, get, request};

#[test]
fn every_response_has_a_length_and_is_neither_cached_nor_guessed() {
    let server = start_with_admin(&[]);
    for (path, status) in [("/", 200), ("/live", 200), ("/metrics", 200), ("/connections", 200), ("/nothing", 404)] {
        let response = get(server.admin(), path);
        assert_eq!(response.status, status, "{path}");
        assert_eq!(response.header("Cache-Control"), Some("no-store"), "{path}");
        assert_eq!(response.header("X-Content-Type-Options"), Some("nosniff"), "{path}");
        assert!(response.header("Content-Type").is_some(), "{path}");
        assert!(response.body.ends_with('\n'), "{path}");
    }
}

#[test]
fn the_root_and_an_unknown_path_list_all_paths() {
    let server = start_with_admin(&[]);
    for path in ["/", "/nothing", "/live/", "*"] {
        let response = get(server.admin(), path);
        for known in ["/live", "/ready", "/metrics", "/connections", "/log-level"] {
            assert!(response.body.contains(known), "{path}: {}", response.body);
        }
    }
    assert_eq!(get(server.admin(), "/live?verbose=1").status, 200, "a query is ignored");
}

#[test]
fn a_wrong_method_is_refused_with_the_right_ones() {
    let server = start_with_admin(&[]);
    for (method, path, allow) in [
        ("PUT", "/live", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("DELETE", "/log-level", "GET, HEAD, PUT, POST"),
        ("get", "/live", "GET, HEAD"),
    ] {
        let response = request(server.admin(), &format!("{method} {path}"), "");
        assert_eq!((response.status, response.header("Allow")), (405, Some(allow)), "{method} {path}");
    }
}

#[test]
fn head_has_the_length_of_the_body_and_no_body() {
    let server = start_with_admin(&[]);
    let mut client = HttpClient::connect(server.admin());
    for path in ["/live", "/ready", "/metrics", "/connections", "/log-level"] {
        let length = client.request(&format!("GET {path}"), "").header("Content-Length").map(str::to_owned);
        let head = client.request(&format!("HEAD {path}"), "");
        assert_eq!(head.status, 200, "{path}");
        // The figures change from request to request.
        if path != "/metrics" {
            assert_eq!(head.header("Content-Length"), length.as_deref(), "{path}");
        }
    }
    assert_eq!(client.request("GET /live", "").body, "live\n", "no body came before it");
}

#[test]
fn a_connection_stays_open_as_the_version_and_the_request_say() {
    let server = start_with_admin(&[]);
    for (version, header, stays_open) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
    ] {
        let mut client = HttpClient::connect(server.admin());
        let text = format!("GET /live HTTP/{version}\r\nHost: localhost\r\n{header}\r\n");
        client.send(text.as_bytes());
        let response = client.read_response_to("GET");
        let expected = match (stays_open, version) {
            (true, "1.0") => Some("keep-alive"),
            (true, _) => None,
            (false, _) => Some("close"),
        };
        assert_eq!(response.header("Connection"), expected, "{text}");
        if stays_open {
            client.send(text.as_bytes());
            assert_eq!(client.read_response_to("GET").body, "live\n", "{text}");
        } else {
            assert!(client.is_closed(), "{text}");
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_also_after_a_half_close() {
    let server = start_with_admin(&["--workers", "2"]);
    let mut client = HttpClient::connect(server.admin());
    let requests: String = ["/live", "/metrics", "/ready", "/connections", "/nothing", "/metrics", "/live"]
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .concat();
    client.send(requests.as_bytes());
    client.stream.shutdown(Shutdown::Write).unwrap();
    let responses: Vec<_> = (0..7).map(|_| client.read_response_to("GET")).collect();
    for (response, beginning) in
        responses.iter().zip(["live\n", "# HELP", "ready\n", "{\"connections\":[", "/nothing", "# HELP", "live\n"])
    {
        assert!(response.body.starts_with(beginning), "{beginning}: {response:?}");
    }
    assert!(client.is_closed());
}

#[test]
fn a_request_in_single_bytes_is_answered() {
    let server = start_with_admin(&[]);
    let mut client = HttpClient::connect(server.admin());
    client.stream.set_nodelay(true).unwrap();
    for byte in b"PUT /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nwarn" {
        client.stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(client.read_response_to("PUT").body, "warn\n");
}

#[test]
fn a_request_that_cannot_be_answered_closes_the_connection_with_its_status() {
    let server = start_with_admin(&[]);
    let long_header = format!("GET /live HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n", "x".repeat(9000));
    let many_headers = format!("GET /live HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(70));
    let endless_head = "GET /live HTTP/1.1\r\n".to_owned() + &"A: b\r\n".repeat(2000);
    let with = |headers: &str| format!("PUT /log-level HTTP/1.1\r\n{headers}\r\n");
    for (bytes, status) in [
        ("hello\r\n\r\n".to_owned(), 400),
        ("GET /live\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}\u{2}\0".to_owned(), 400),
        ("GET /live HTTP/1.1\r\n\r\n".to_owned(), 400),
        (with("Host: a\r\nHost: b\r\n"), 400),
        (with("Host: a\r\nContent-Length: -1\r\n"), 400),
        (with("Host: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n"), 400),
        (with("Host: a\r\n Host: b\r\n"), 400),
        (with("Host: a\r\nContent-Length: 4097\r\n"), 413),
        (with("Host: a\r\nContent-Length: 99999999999999999999999\r\n"), 413),
        (with("Host: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n"), 417),
        (long_header, 431),
        (many_headers, 431),
        (endless_head, 431),
        (with("Host: a\r\nTransfer-Encoding: chunked\r\n"), 501),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
    ] {
        let mut client = HttpClient::connect(server.admin());
        client.send(bytes.as_bytes());
        let response = client.read_response_to("GET");
        assert_eq!((response.status, response.header("Connection")), (status, Some("close")), "{bytes:.60}");
        assert!(response.body.ends_with('\n') && response.body.lines().count() == 1, "{response:?}");
        assert!(client.is_closed(), "{bytes:.60}");
    }
}
