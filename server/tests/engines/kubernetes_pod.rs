//! The pod of `examples/deploy/kubernetes`, without a cluster.
//!
//! The server is started with the arguments of the container, and with the variables that Kubernetes sets.

use std::time::{Duration, Instant};

use support::network::http_client::HttpClient;
use support::network::streams::GREETING;
use support::network::tcp::request;
use support::network::udp::{UDP_GREETING, UDP_REQUEST, request_udp};
use support::process::server::Server;
use support::wait::wait_until;

use crate::HALLOO;
use crate::engine::deployed;

const MANIFEST: &str = "kubernetes/halloo.yaml";

/// Of the manifest; the test waits less long.
const DRAIN_DELAY: u64 = 15;

/// The default of `--drain-timeout`, and what clients that keep their side open may add.
const DRAIN: u64 = 5 + 2;

/// Instead of the delay of the manifest.
const SHORT_DELAY: Duration = Duration::from_secs(2);

/// The values of a key in a line of its own.
fn values<'a>(manifest: &'a str, key: &str) -> Vec<&'a str> {
    manifest.lines().filter_map(|line| line.trim().strip_prefix(key)).map(str::trim).collect()
}

/// Starts the container, with free ports on localhost.
fn start_container() -> Server {
    let substitutes = [
        ("--listen=0.0.0.0:8888", "--listen=127.0.0.1:0".to_owned()),
        ("--admin=0.0.0.0:9090", "--admin=127.0.0.1:0".to_owned()),
        (&*format!("--drain-delay={DRAIN_DELAY}s"), format!("--drain-delay={}s", SHORT_DELAY.as_secs())),
    ];
    let manifest = deployed(MANIFEST, &substitutes);
    let arguments = values(&manifest, "- --").into_iter().map(|argument| format!("--{argument}"));
    let arguments: Vec<String> = arguments.collect();
    let mut command = HALLOO.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    // Those of a Service that is called halloo, where enableServiceLinks is left out.
    command.env("HALLOO_SERVICE_HOST", "10.96.0.7").env("HALLOO_SERVICE_PORT", "8888");
    command.env("HALLOO_SERVICE_PORT_TCP", "8888").env("HALLOO_SERVICE_PORT_UDP", "8888");
    command.env("HALLOO_PORT", "tcp://10.96.0.7:8888");
    for (protocol, name) in [("tcp", "TCP"), ("udp", "UDP")] {
        command.env(format!("HALLOO_PORT_8888_{name}"), format!("{protocol}://10.96.0.7:8888"));
        command.env(format!("HALLOO_PORT_8888_{name}_PROTO"), protocol);
        command.env(format!("HALLOO_PORT_8888_{name}_PORT"), "8888");
        command.env(format!("HALLOO_PORT_8888_{name}_ADDR"), "10.96.0.7");
    }
    Server::start(command)
}

/// The status of a path that the manifest has as a probe.
fn probe(server: &Server, path: &str) -> u16 {
    assert!(deployed(MANIFEST, &[]).contains(&format!("httpGet: {{ path: {path}, port: admin }}")), "{path}");
    HttpClient::connect(server.admin()).request(&format!("GET {path}"), "").status
}

#[test]
fn a_pod_is_alive_and_ready_and_serves_during_its_termination() {
    let mut server = start_container();
    assert_eq!((probe(&server, "/live"), probe(&server, "/ready")), (200, 200));
    let both_served = || request(server.tcp()) == GREETING && request_udp(server.udp(), UDP_REQUEST) == UDP_GREETING;
    assert!(both_served());
    let start = Instant::now();
    server.signal("TERM");
    wait_until("not ready", || probe(&server, "/ready") == 503);
    assert!(both_served() && probe(&server, "/live") == 200, "clients that arrive during the delay");
    assert_eq!(server.wait(), 0);
    assert!(start.elapsed() >= SHORT_DELAY);
    assert_eq!(server.stderr.count_lines_with("WARN"), 0, "{}", server.stderr.text());
}

#[test]
fn kubernetes_waits_longer_than_a_pod_takes_to_stop() {
    let manifest = deployed(MANIFEST, &[]);
    let period: u64 = values(&manifest, "terminationGracePeriodSeconds:")[0].parse().expect("seconds");
    assert_eq!(values(&manifest, "- --drain-delay="), [format!("{DRAIN_DELAY}s")]);
    assert!(values(&manifest, "- --drain-timeout=").is_empty(), "it is the default");
    assert!(period > DRAIN_DELAY + DRAIN, "{period} s");
}

#[test]
fn the_services_select_the_pods_and_name_their_ports() {
    let manifest = deployed(MANIFEST, &[]);
    let label = "{ app.kubernetes.io/name: halloo }";
    assert_eq!(values(&manifest, "labels:"), [label; 4]);
    assert_eq!(values(&manifest, "matchLabels:"), [label]);
    assert_eq!(values(&manifest, "selector:"), ["", label, label]);
    for (name, port, protocol) in [("tcp", 8888, "TCP"), ("udp", 8888, "UDP"), ("admin", 9090, "TCP")] {
        let container = format!("- {{ name: {name}, containerPort: {port}, protocol: {protocol} }}");
        let service = format!("- {{ name: {name}, port: {port}, targetPort: {name}, protocol: {protocol} }}");
        assert!(manifest.contains(&container) && manifest.contains(&service), "{name}");
    }
}
