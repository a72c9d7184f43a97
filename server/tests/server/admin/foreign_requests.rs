//! Requests of web pages and of other machines.

use std::net::{SocketAddr, UdpSocket};

use crate::HALLOO;
use crate::admin::start_with_admin;
use support::network::http_client::{HttpClient, HttpResponse, get};

/// Sends a request with these headers, and asserts its status.
#[track_caller]
fn assert_status(admin: SocketAddr, status: u16, method_and_path: &str, headers: &str) -> HttpResponse {
    let mut client = HttpClient::connect(admin);
    let (body, length) = if method_and_path.starts_with('P') { ("debug", "Content-Length: 5\r\n") } else { ("", "") };
    client.send(format!("{method_and_path} HTTP/1.1\r\n{headers}{length}\r\n{body}").as_bytes());
    let response = client.read_response_to(method_and_path);
    assert_eq!(response.status, status, "{method_and_path} {headers}: {}", response.body);
    response
}

#[test]
fn a_name_of_another_machine_as_host_reads_only_health_and_metrics() {
    let server = start_with_admin(&[]);
    let admin = server.admin();
    for host in ["halloo.example", "localhost.example:80", "127.0.0.1.example", "[::1].example", "", "::1", "a b"] {
        let header = format!("Host: {host}\r\n");
        for path in ["/live", "/ready", "/metrics"] {
            assert_status(admin, 200, &format!("GET {path}"), &header);
            assert_status(admin, 403, &format!("PUT {path}"), &header);
        }
        for request in ["GET /", "GET /connections", "GET /log-level", "PUT /log-level", "POST /log-level", "GET /x"] {
            let refusal = assert_status(admin, 403, request, &header);
            assert!(refusal.body.contains("it must be localhost or an IP address"), "{}", refusal.body);
        }
    }
    for host in ["localhost", "LOCALHOST:9090", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:9090", "192.0.2.7:80"] {
        assert_status(admin, 200, "GET /connections", &format!("Host: {host}\r\n"));
        assert_status(admin, 200, "PUT /log-level", &format!("Host: {host}\r\n"));
    }
}

#[test]
fn neither_the_host_of_an_absolute_url_nor_the_one_beside_it_may_be_foreign() {
    let server = start_with_admin(&[]);
    for (url_host, host, status) in [
        ("halloo.example", "localhost", 403),
        ("localhost:80", "halloo.example", 403),
        ("localhost:80", "localhost", 200),
    ] {
        for (method, path) in [("GET", "connections"), ("PUT", "log-level")] {
            let request = format!("{method} http://{url_host}/{path}");
            assert_status(server.admin(), status, &request, &format!("Host: {host}\r\n"));
        }
    }
}

#[test]
fn a_page_of_another_origin_neither_changes_nor_reads() {
    let server = start_with_admin(&[]);
    let admin = server.admin();
    for origin in
        ["http://halloo.example", "null", "http://localhost:3000", "https://localhost:9090", "http://localhost"]
    {
        for request in ["GET /connections", "PUT /log-level", "POST /log-level"] {
            let headers = format!("Host: localhost:9090\r\nOrigin: {origin}\r\n");
            let refusal = assert_status(admin, 403, request, &headers);
            assert!(refusal.body.contains(origin) && refusal.body.contains("value of Host"), "{}", refusal.body);
        }
    }
    assert_eq!(get(admin, "/log-level").body, "info\n");
    assert_status(admin, 200, "PUT /log-level", "Host: localhost:9090\r\nOrigin: http://localhost:9090\r\n");
    for (site, read, change) in
        [("cross-site", 403, 403), ("same-site", 200, 403), ("same-origin", 200, 200), ("none", 200, 200)]
    {
        let headers = format!("Host: localhost\r\nSec-Fetch-Site: {site}\r\n");
        assert_status(admin, read, "GET /connections", &headers);
        assert_status(admin, change, "PUT /log-level", &headers);
    }
}

/// The address of this machine that it would use to reach another one. Nothing is sent.
fn own_address() -> Option<SocketAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().filter(|address| !address.ip().is_loopback())
}

#[test]
fn a_client_that_is_not_on_loopback_reads_and_changes_nothing() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--admin", "0.0.0.0:0"]);
    let port = server.admin().port();
    let loopback = SocketAddr::from(([127, 0, 0, 1], port));
    assert_status(loopback, 200, "PUT /log-level", "Host: 127.0.0.1\r\n");
    // Without another address, the unit tests of the rule remain.
    let Some(own) = own_address() else { return };
    let admin = SocketAddr::new(own.ip(), port);
    assert_eq!(get(admin, "/connections").status, 200);
    for method in ["PUT", "POST"] {
        let refusal = assert_status(admin, 403, &format!("{method} /log-level"), "Host: 127.0.0.1\r\n");
        assert!(refusal.body.contains("over loopback or a unix socket"), "{}", refusal.body);
    }
}
