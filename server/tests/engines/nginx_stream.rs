//! nginx with its stream module, over TCP and UDP.

use support::network::udp::{UDP_REQUEST, udp_client};
use support::process::server::Server;

use crate::HALLOO;
use crate::engine::{Engine, deployed, unused_address};
use crate::real_client::assert_client_is_shown;

const DOCUMENTED_SERVERS: [&str; 3] = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"];

fn start_server(verbosity: &str) -> Server {
    let arguments = ["--listen", "127.0.0.1:0", "--greeting", "{peer}", "--events", "json", verbosity];
    HALLOO.start(&[arguments.as_slice(), &["--proxy-protocol", "127.0.0.1"]].concat())
}

#[test]
#[ignore = "needs nginx"]
fn the_client_behind_nginx_is_shown() {
    let (server, address) = (start_server("-v"), unused_address());
    let mut substitutes = vec![("listen 8888", format!("listen {address}"))];
    substitutes.extend(DOCUMENTED_SERVERS.map(|documented| (documented, server.tcp().to_string())));
    let nginx = Engine::nginx(&deployed("nginx/stream.conf", &substitutes), address);
    assert_client_is_shown(&server, nginx.address);
}

#[test]
#[ignore = "needs nginx"]
fn the_header_that_nginx_writes_before_a_datagram_is_refused_by_name() {
    let (server, address) = (start_server("-v"), unused_address());
    // The same port over TCP, so that the start of nginx can be awaited.
    let stream = format!(
        "stream {{\n    proxy_protocol on;\n    server {{ listen {address}; proxy_pass {}; }}\n    \
         server {{ listen {address} udp; proxy_pass {}; }}\n}}\n",
        server.tcp(),
        server.udp()
    );
    let nginx = Engine::nginx(&stream, address);
    udp_client(nginx.address).send(UDP_REQUEST).expect("loopback takes it");
    let line = server.stderr.wait_for_line("nginx");
    assert!(line.contains("version 1"), "{line}");
    assert_eq!(server.stdout.count_lines_with("\"protocol\":\"udp\",\"peer\""), 0, "it is no request");
}
