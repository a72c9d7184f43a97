//! Where the admin endpoint listens, and the errors where it cannot.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use support::network::ports::unused_port;
use support::process::server::assert_fails;

use crate::HALLOO;
use crate::unix::temporary_socket_path::{SocketPath, connect_unix};
use support::network::http_client::HttpClient;

#[test]
fn the_ready_line_has_the_address_of_the_endpoint_after_the_served_ones() {
    let server = HALLOO.start(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let (tcp, udp, admin) = (server.tcp(), server.udp(), server.admin());
    assert_eq!(server.ready_addresses(), [format!("tcp={tcp}"), format!("udp={udp}"), format!("admin={admin}")]);
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--events", "json"]);
    let ready: serde_json::Value = serde_json::from_str(&server.ready_line()).unwrap();
    assert_eq!(ready["listening"].as_array().unwrap().len(), 1);
    assert_eq!(ready["admin"][0]["protocol"], "tcp");
    assert!(ready["admin"][0]["address"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[test]
fn a_port_without_a_host_is_on_loopback_alone() {
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--admin", "0"]);
    let ready = server.ready_addresses();
    let admin: Vec<&String> = ready.iter().filter(|address| address.starts_with("admin=")).collect();
    assert_eq!(admin[0], &format!("admin={}", server.admin()));
    assert!(server.admin().ip().is_loopback());
    // Without IPv6 there is one address.
    let port = server.admin().port();
    assert!(admin.len() == 1 || *admin[1] == format!("admin=[::1]:{port}"), "{ready:?}");
}

#[test]
fn a_unix_socket_is_for_this_user_alone_and_removed_at_the_end() {
    let socket = SocketPath::new();
    let address = format!("unix:{}", socket.as_str());
    let mut server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--admin", &address, "--unix-mode", "666"]);
    assert!(server.ready_line().contains(&format!(" admin={address} ")), "{}", server.ready_line());
    assert_eq!(socket.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = HttpClient::new(connect_unix(&socket.path));
    assert_eq!(client.request("GET /ready", "").body, "ready\n");
    assert_eq!(client.request("GET /connections", "").status, 200);
    client.send(b"PUT /log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nwarn");
    assert_eq!(client.read_response_to("PUT").body, "warn\n", "its clients may change the server");
    server.assert_exits_on_sigterm();
    assert!(client.is_closed() && !socket.path.exists());
}

#[test]
#[cfg(target_os = "linux")]
fn an_abstract_name_has_no_file() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    let name = format!("halloo-admin-{}", std::process::id());
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--admin", &format!("unix:@{name}")]);
    assert!(server.ready_line().contains(&format!(" admin=unix:@{name} ")), "{}", server.ready_line());
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    assert_eq!(HttpClient::new(stream).request("GET /live", "").body, "live\n");
}

#[test]
fn an_address_that_is_also_served_is_one_sentence_with_both_flags() {
    let port = unused_port();
    let (address, wildcard) = (format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"));
    let socket = SocketPath::new();
    let (path, unix) = (socket.as_str(), format!("unix:{}", socket.as_str()));
    for (arguments, parts) in [
        (&["--tcp", &address, "--admin", &address][..], [format!("--admin {address}"), format!("--tcp {address}")]),
        (&["--listen", &wildcard, "--admin", &address], [format!("--admin {address}"), format!("--listen {wildcard}")]),
        (&["--tcp", &address, "--admin", &wildcard], [format!("--admin {wildcard}"), format!("--tcp {address}")]),
        (&["--admin", "127.0.0.1:8888"], ["--admin 127.0.0.1:8888".to_owned(), "--listen localhost:8888".to_owned()]),
        (&["--unix", path, "--admin", &unix], [format!("--admin {unix}"), format!("--unix {path}")]),
        (&["--unix", "@a", "--admin", "unix:@a"], ["--admin unix:@a".to_owned(), "--unix @a".to_owned()]),
    ] {
        let output = HALLOO.run(arguments);
        assert_fails(&output, 2, &[&parts[0], &parts[1], "are the same", "give one of the two another"]);
    }
    assert!(!socket.path.exists());
    // UDP has ports of its own.
    let mut server = HALLOO.start(&["--udp", &address, "--admin", &address]);
    server.assert_exits_on_sigterm();
}

#[test]
fn an_address_without_a_port_or_in_the_form_of_another_program_is_refused_with_the_right_form() {
    for (value, part) in [
        ("127.0.0.1", "the port is missing; write 127.0.0.1:9090"),
        ("localhost", "the port is missing; write localhost:9090"),
        ("::1", "the port is missing; write [::1]:9090"),
        ("9090x", "9090x is not a port number"),
        ("unix:///run/a.sock", "leave out the // of a URL; write unix:/run/a.sock"),
        ("UNIX:", "the path is missing"),
        ("127.0.0.1:", "name:9000 or unix:/run/halloo-admin.sock"),
    ] {
        assert_fails(&HALLOO.run(&["--tcp", "127.0.0.1:0", "--admin", value]), 2, &[part]);
    }
    let socket = SocketPath::new();
    let server = HALLOO.start(&["--tcp", "127.0.0.1:0", "--admin", &format!("UNIX:{}", socket.as_str())]);
    assert!(server.ready_line().contains(&format!(" admin=unix:{} ", socket.as_str())), "{}", server.ready_line());
}

#[test]
fn an_address_that_cannot_be_bound_ends_the_start_with_one_line_and_leaves_no_file() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let socket = SocketPath::new();
    let output = HALLOO.run(&["--unix", socket.as_str(), "--admin", &address]);
    assert_fails(&output, 3, &[&address, "address already in use", "--admin 127.0.0.1:PORT"]);
    assert!(!socket.path.exists());
    let output = HALLOO.run(&["--tcp", &address, "--admin", &format!("unix:{}", socket.as_str())]);
    assert_fails(&output, 3, &[&address, "address already in use", "--tcp 127.0.0.1:PORT"]);
    assert!(!socket.path.exists());
    let output = HALLOO.run(&["--tcp", "127.0.0.1:0", "--admin", "unix:/nowhere/admin.sock"]);
    assert_fails(&output, 3, &["/nowhere/admin.sock", "no such file or directory", "--admin unix:PATH"]);
    let output = HALLOO.run(&["--tcp", "127.0.0.1:0", "--admin", "192.0.2.1:9090"]);
    assert_fails(&output, 3, &["192.0.2.1:9090", "does not have that address", "--admin 0.0.0.0:9090"]);
}
