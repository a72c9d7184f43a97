//! The units of `examples/deploy/systemd`: their checks, restrictions and sockets.
//!
//! The program and the ports are those of the test; every other line is tested as it is.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use socket2::{Domain, SockRef, Socket, Type};
use support::network::http_client::HttpClient;
use support::network::streams::{GREETING, read_to_end};
use support::network::tcp::{request, send_request};
use support::network::udp::{
    UDP_GREETING, UDP_REQUEST, recv, request_udp, request_udp_on, send_udp_request, udp_client,
};
use support::process::child::{Process, run};
use tempfile::TempDir;

use crate::HALLOO;
use crate::activated_server::Activation;
use crate::notify_socket::NotifySocket;

/// Where the units expect the program.
const INSTALLED: &str = "/usr/local/bin/halloo";

const SERVICES: [&str; 2] = ["service/halloo.service", "sockets/halloo.service"];
const TCP_SOCKET: &str = "sockets/halloo-tcp.socket";
const UDP_SOCKET: &str = "sockets/halloo-udp.socket";

/// The highest exposure that `systemd-analyze security` may find, of 10.
const EXPOSURE_MAX: f64 = 1.5;

fn unit_path(unit: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/deploy/systemd").join(unit)
}

#[track_caller]
fn unit_text(unit: &str) -> String {
    fs::read_to_string(unit_path(unit)).unwrap_or_else(|error| panic!("{unit}: {error}"))
}

/// The one value of a key.
#[track_caller]
fn value(unit: &str, key: &str) -> String {
    let (text, start) = (unit_text(unit), format!("{key}="));
    let values: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(&start)).collect();
    assert_eq!(values.len(), 1, "{unit}: {key}");
    values[0].to_owned()
}

/// A folder with all units of a folder, which start the program of the test.
#[track_caller]
fn installed_units(folder: &str) -> (TempDir, Vec<PathBuf>) {
    let installed = tempfile::tempdir().expect("a temporary folder");
    let mut paths = Vec::new();
    for entry in fs::read_dir(unit_path(folder)).expect("the folder exists") {
        let name = entry.expect("an entry").file_name();
        let text = unit_text(&format!("{folder}/{}", name.display()));
        paths.push(installed.path().join(name));
        fs::write(&paths[paths.len() - 1], text.replace(INSTALLED, HALLOO.path())).expect("the folder is writable");
    }
    (installed, paths)
}

fn systemd_analyze(arguments: &[&str], units: &[PathBuf]) -> Command {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).args(units).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
#[ignore = "needs systemd-analyze"]
fn systemd_verifies_the_units_without_a_message() {
    for (folder, count) in [("service", 1), ("sockets", 3)] {
        let (_installed, units) = installed_units(folder);
        assert_eq!(units.len(), count, "{folder}");
        let verified = run(systemd_analyze(&["verify", "--man=no"], &units));
        assert_eq!((verified.status, verified.stdout + &verified.stderr), (0, String::new()), "{folder}");
    }
}

#[test]
#[ignore = "needs systemd-analyze"]
fn the_exposure_of_each_service_is_at_most_1_5() {
    for folder in ["service", "sockets"] {
        let (installed, _) = installed_units(folder);
        let service = installed.path().join("halloo.service");
        let analyzed = run(systemd_analyze(&["security", "--offline=true", "--no-pager"], &[service]));
        let (_, exposure) = analyzed.stdout.split_once("Overall exposure level for halloo.service: ").expect("a sum");
        let exposure = exposure.split(' ').next().expect("a number");
        println!("{folder}/halloo.service: exposure {exposure}");
        let is_low = exposure.parse::<f64>().is_ok_and(|exposure| exposure <= EXPOSURE_MAX);
        assert!(is_low, "{folder}: {exposure}\n{}{}", analyzed.stdout, analyzed.stderr);
    }
}

#[test]
fn the_services_differ_only_in_their_sockets() {
    let settings = |service: &str| -> Vec<String> {
        let text = unit_text(service);
        let is_shared = |line: &&str| {
            let differs = ["#", "ExecStart=", "Sockets=", "Also="];
            !line.is_empty() && !differs.iter().any(|start| line.starts_with(start))
        };
        text.lines().filter(is_shared).map(str::to_owned).collect()
    };
    assert_eq!(settings(SERVICES[0]), settings(SERVICES[1]));
    let sockets = [TCP_SOCKET, UDP_SOCKET].map(|unit| unit.strip_prefix("sockets/").expect("its folder"));
    for key in ["Sockets", "Also"] {
        assert_eq!(value(SERVICES[1], key), sockets.join(" "), "{key}");
    }
    for socket in [TCP_SOCKET, UDP_SOCKET] {
        assert_eq!(value(socket, "Service"), "halloo.service");
    }
    // An address of the service is served in addition to the sockets, and may be in use.
    let plain = value(SERVICES[0], "ExecStart");
    assert_eq!(value(SERVICES[1], "ExecStart"), plain.replace(" --listen 0.0.0.0:8888", ""));
}

// ---- the restrictions -------------------------------------------------------------------------------------------

/// The program that applies the restrictions of a unit and becomes another one.
fn restricted_by(unit: &str) -> Vec<String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/run_restricted.py");
    ["python3".to_owned(), program.display().to_string(), unit_path(unit).display().to_string()].into()
}

/// The arguments in `ExecStart=`, with free ports on localhost.
#[track_caller]
fn arguments(unit: &str) -> Vec<String> {
    let start = value(unit, "ExecStart");
    let arguments = start.strip_prefix(INSTALLED).unwrap_or_else(|| panic!("{unit}: {start}")).split_whitespace();
    let with_free_port = |word: &str| match word.rsplit_once(':') {
        Some(_) => "127.0.0.1:0".to_owned(),
        None => word.to_owned(),
    };
    arguments.map(with_free_port).collect()
}

/// Starts a server as its unit does, uses all that it serves, and stops it.
#[track_caller]
fn assert_serves_restricted(unit: &str, sockets: &[std::os::fd::BorrowedFd<'_>]) {
    let supervisor = NotifySocket::new();
    let (wrapper, arguments) = (restricted_by(unit), arguments(unit));
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // A short period, so that the watchdog is notified during the test.
    let env = [("NOTIFY_SOCKET", supervisor.path.as_str()), ("WATCHDOG_USEC", "200000")];
    let mut server = Activation { arguments: &arguments, env: &env, sockets }.start_under(&wrapper);
    assert_eq!(supervisor.recv(), "READY=1");
    let port = |address: SocketAddr| SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    for _ in 0..20 {
        assert_eq!(request(port(server.tcp())), GREETING);
        assert_eq!(request_udp(port(server.udp()), UDP_REQUEST), UDP_GREETING);
    }
    assert_eq!(supervisor.recv(), "WATCHDOG=1");
    let mut admin = HttpClient::connect(server.admin());
    for path in ["/ready", "/metrics", "/connections"] {
        assert_eq!(admin.request(&format!("GET {path}"), "").status, 200, "{path}");
    }
    assert!(server.counters()["accepted"] >= 20);
    server.signal("TERM");
    supervisor.wait_for_stopping();
    assert_eq!(server.wait(), 0, "{}", server.stderr.text());
}

#[test]
#[ignore = "needs systemd-analyze"]
fn the_server_works_under_the_restrictions_of_its_units() {
    assert_serves_restricted(SERVICES[0], &[]);
    let (tcp, udp) = unit_sockets(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    assert_serves_restricted(SERVICES[1], &[tcp.as_fd(), udp.as_fd()]);
}

#[test]
#[ignore = "needs systemd-analyze"]
fn the_restrictions_of_the_units_end_a_program_that_needs_more() {
    for unit in SERVICES {
        let restricted = |script: &str| {
            let words = restricted_by(unit);
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).args(["python3", "-c", script]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        };
        let mut privileged = Process::spawn(restricted("import os; os.setgroups([])"));
        assert_eq!(privileged.wait_for_signal(), Some(Signal::SIGSYS), "{unit}");
        let packets = run(restricted("import socket; socket.socket(socket.AF_PACKET)"));
        assert!(packets.status == 1 && packets.stderr.contains("Address family not supported"), "{packets:?}");
        let capabilities = run(restricted("print(open('/proc/self/status').read())"));
        assert!(capabilities.stdout.contains("CapEff:\t0000000000000000"), "{capabilities:?}");
    }
}

// ---- the sockets ------------------------------------------------------------------------------------------------

/// The sockets of the units, at another address.
#[track_caller]
pub(crate) fn unit_sockets(address: SocketAddr) -> (TcpListener, UdpSocket) {
    assert_eq!(value(TCP_SOCKET, "ListenStream"), value(UDP_SOCKET, "ListenDatagram"), "one port for both protocols");
    let socket = |unit, socket_type| {
        let socket = Socket::new(Domain::for_address(address), socket_type, None).expect("a socket");
        assert_eq!(value(unit, "BindIPv6Only"), "both");
        if address.is_ipv6() {
            socket.set_only_v6(false).expect("an option of every IPv6 socket");
        }
        socket.bind(&address.into()).expect("a free port");
        socket
    };
    let tcp = socket(TCP_SOCKET, Type::STREAM);
    tcp.listen(value(TCP_SOCKET, "Backlog").parse().expect("a number")).expect("a bound socket");
    let udp = socket(UDP_SOCKET, Type::DGRAM);
    let mebibytes = value(UDP_SOCKET, "ReceiveBuffer");
    let mebibytes: usize = mebibytes.strip_suffix('M').and_then(|count| count.parse().ok()).expect("mebibytes");
    SockRef::from(&udp).set_recv_buffer_size(mebibytes << 20).expect("an option of every socket");
    (tcp.into(), udp.into())
}

#[test]
#[ignore = "needs IPv6"]
fn clients_of_both_families_wait_in_the_sockets_of_the_units_during_a_restart() {
    let (tcp, udp) = unit_sockets(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    let [tcp_port, udp_port] = [tcp.local_addr(), udp.local_addr()].map(|address| address.expect("bound").port());
    let sockets = [tcp.as_fd(), udp.as_fd()];
    let hosts = ["127.0.0.1", "127.0.0.2", "::1"].map(|host| host.parse().expect("an address"));
    for _ in 0..3 {
        let streams = hosts.map(|host| send_request(SocketAddr::new(host, tcp_port)));
        // A connected socket receives only from the address that it has asked.
        let datagrams = hosts.map(|host| send_udp_request(SocketAddr::new(host, udp_port)));
        let mut server = Activation { sockets: &sockets, ..Activation::default() }.start();
        assert!(streams.iter().all(|stream| read_to_end(stream) == GREETING));
        assert!(datagrams.iter().all(|socket| recv(socket) == UDP_GREETING.as_bytes()));
        for host in hosts {
            let client = udp_client(SocketAddr::new(host, udp_port));
            assert_eq!(request_udp_on(&client, UDP_REQUEST), UDP_GREETING, "{host}");
        }
        server.assert_exits_on_sigterm();
    }
}
