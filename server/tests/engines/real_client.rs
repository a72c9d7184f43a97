//! The client of HAProxy and curl in events, greetings and limits.

use std::net::{SocketAddr, TcpListener, TcpStream};

use support::network::streams::{REQUEST, read_exactly, read_to_end, read_until_closed, send};
use support::network::tcp::{connect, connect_from};
use support::process::server::Server;
use support::process::shell::shell;
use support::wait::wait_until;

use crate::HALLOO;
use crate::engine::unused_address;
use crate::haproxy::{Haproxy, Substitute};

/// The clients of the tests; the engines connect from 127.0.0.1.
const CLIENT: [u8; 4] = [127, 0, 0, 7];
const OTHER_CLIENT: [u8; 4] = [127, 0, 0, 8];

/// A server behind HAProxy, which trusts it.
struct Backend {
    server: Server,
    tcp: SocketAddr,
    admin: SocketAddr,
}

impl Backend {
    #[track_caller]
    fn start(arguments: &[&str]) -> Self {
        let (tcp, admin) = (unused_address(), unused_address());
        let (tcp_text, admin_text) = (tcp.to_string(), admin.to_string());
        let common = ["--tcp", &tcp_text, "--admin", &admin_text, "--proxy-protocol", "127.0.0.1", "--events", "json"];
        Self { server: HALLOO.start(&[&common, arguments].concat()), tcp, admin }
    }

    /// HAProxy in front of this server alone.
    #[track_caller]
    fn haproxy(&self, file: &str) -> Haproxy {
        let mut substitutes =
            vec![("127.0.0.1:9001", self.tcp.to_string()), ("port 9091", format!("port {}", self.admin.port()))];
        if file == "haproxy.cfg" {
            // Without the second and third server.
            substitutes.extend([("server halloo2", "# server".to_owned()), ("server halloo3", "# server".to_owned())]);
        }
        wait_for_up(Haproxy::start(file, unused_address(), &substitutes))
    }
}

#[track_caller]
fn wait_for_up(haproxy: Haproxy) -> Haproxy {
    haproxy.wait_for_state("halloo1", "UP");
    haproxy
}

/// Fails unless the greeting and the event of a client behind an engine have its own address.
#[track_caller]
pub(crate) fn assert_client_is_shown(server: &Server, engine: SocketAddr) {
    let client = connect_from(CLIENT, engine);
    let own_address = own_address(&client);
    send(&client, REQUEST);
    assert_eq!(read_to_end(&client), own_address, "the greeting has the address of the client");
    let event = server.stdout.wait_for_line(&format!("\"peer\":\"{own_address}\""));
    assert!(event.contains("\"bytes\":18,\"text\":\"Hello, TCP Server!\""), "{event}");
}

fn own_address(client: &TcpStream) -> String {
    client.local_addr().expect("it is connected").to_string()
}

#[test]
#[ignore = "needs haproxy"]
fn the_client_behind_haproxy_is_shown_with_a_header_of_version_1() {
    let backend = Backend::start(&["--greeting", "{peer}"]);
    let haproxy = backend.haproxy("haproxy-v1.cfg");
    assert_client_is_shown(&backend.server, haproxy.address());
}

#[test]
#[ignore = "needs haproxy"]
fn the_client_behind_haproxy_is_shown_with_a_header_of_version_2_and_tlvs() {
    let backend = Backend::start(&["--greeting", "{peer}"]);
    let haproxy = backend.haproxy("haproxy.cfg");
    assert_client_is_shown(&backend.server, haproxy.address());
}

#[test]
#[ignore = "needs haproxy"]
fn the_header_of_haproxy_has_a_checksum_and_a_unique_id_as_tlvs() {
    // HAProxy checks the health of a server, and connects to this listener.
    let (backend, listener) = (Backend::start(&[]), TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let tcp = listener.local_addr().expect("it is bound");
    let haproxy = Backend { tcp, ..backend }.haproxy("haproxy.cfg");
    let client = connect_from(CLIENT, haproxy.address());
    let (accepted, _) = listener.accept().expect("HAProxy connects");
    let start = read_exactly(&accepted, 16);
    assert_eq!(&start[..14], b"\r\n\r\n\0\r\nQUIT\n\x21\x11", "version 2, PROXY, TCP over IPv4");
    let rest = read_exactly(&accepted, u16::from_be_bytes([start[14], start[15]]).into());
    assert_eq!(rest[..4], CLIENT);
    let (mut tlvs, mut types) = (&rest[12..], Vec::new());
    while let [kind, high, low, values @ ..] = tlvs {
        types.push(*kind);
        tlvs = &values[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    // PP2_TYPE_CRC32C and PP2_TYPE_UNIQUE_ID.
    assert!(types.contains(&0x03) && types.contains(&0x05), "{types:x?}");
    drop(client);
}

#[test]
#[ignore = "needs haproxy"]
fn the_client_behind_haproxy_is_shown_by_a_server_at_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, admin) = (folder.path().join("halloo.sock").display().to_string(), unused_address());
    let admin_text = admin.to_string();
    let arguments = ["--unix", &path, "--admin", &admin_text, "--proxy-protocol", "unix", "--greeting", "{peer}"];
    let server = HALLOO.start(&[arguments.as_slice(), &["--events", "json"]].concat());
    let substitutes: [Substitute<'_>; 2] =
        [("/run/halloo/halloo.sock", path), ("port 9091", format!("port {}", admin.port()))];
    let haproxy = wait_for_up(Haproxy::start("haproxy-unix.cfg", unused_address(), &substitutes));
    assert_client_is_shown(&server, haproxy.address());
}

#[test]
#[ignore = "needs haproxy"]
fn two_clients_behind_one_haproxy_do_not_limit_each_other() {
    let backend = Backend::start(&["--mode", "line", "--greeting", "hi", "--max-connections-per-source", "1"]);
    let haproxy = backend.haproxy("haproxy.cfg");
    let ask = |client: &TcpStream| {
        send(client, b"a line\n");
        assert_eq!(read_exactly(client, 3), b"hi\n");
    };
    let (first, second) = (connect_from(CLIENT, haproxy.address()), connect_from(OTHER_CLIENT, haproxy.address()));
    ask(&first);
    ask(&second);
    let third = connect_from(CLIENT, haproxy.address());
    assert_eq!(read_until_closed(&third), b"", "the first client has its only connection");
    ask(&first);
    drop(first);
    wait_until("room for another connection of the first client", || {
        let again = connect_from(CLIENT, haproxy.address());
        send(&again, b"a line\n");
        support::network::tcp::half_close(&again);
        read_until_closed(&again) == b"hi\n"
    });
}

#[test]
#[ignore = "needs haproxy"]
fn haproxy_marks_a_stopping_server_down_while_it_still_listens() {
    let mut backend = Backend::start(&["--greeting", "{peer}", "--drain-delay", "300s"]);
    let haproxy = backend.haproxy("haproxy-v1.cfg");
    backend.server.signal("TERM");
    haproxy.wait_for_state("halloo1", "DOWN");
    let client = connect(backend.tcp);
    send(&client, b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\nhi");
    assert_eq!(read_to_end(&client), "192.0.2.1:1234");
    backend.server.signal("TERM");
    assert_eq!(backend.server.wait(), 0);
}

#[test]
#[ignore = "needs curl"]
fn curl_with_a_proxy_header_gets_its_own_address() {
    let greeting = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{peer}";
    let backend = Backend::start(&["--greeting", greeting]);
    let printed = shell(&format!(
        "curl -sS --max-time 40 --interface 127.0.0.1 --haproxy-protocol -w ' %{{local_ip}}:%{{local_port}}' http://{}/",
        backend.tcp
    ));
    let (greeted, own_address) = printed.split_once(' ').unwrap_or_else(|| panic!("{printed}"));
    assert_eq!(greeted, own_address);
    let event = backend.server.stdout.wait_for_line(&format!("\"peer\":\"{own_address}\""));
    assert!(event.contains("\"text\":\"GET / HTTP/1.1\\r\\n"), "no header in the request: {event}");
}
