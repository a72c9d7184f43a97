//! Inherited sockets (`LISTEN_FDS`): order, limits, unix sockets.
//!
//! Other addresses are served only if a flag or variable names them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::time::Duration;

use support::network::streams::{GREETING, read_to_end};
use support::network::tcp::{connect, request, send_request};
use support::network::udp::{UDP_GREETING, UDP_REQUEST, request_udp_on, retry_interrupted, udp_client};
use support::process::server::Server;
use support::wait::TIMEOUT;

use crate::activated_server::Activation;
use crate::borrowed_fds;

fn listener(host: &str) -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind((host, 0)).expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

fn udp_socket(host: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((host, 0)).expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

/// The number of TCP listeners and unconnected UDP sockets of a process.
fn bound_socket_count(server: &Server) -> usize {
    let fd_targets = server.fd_targets();
    let is_own = |inode: &str| fd_targets.iter().any(|link| link.to_str() == Some(&format!("socket:[{inode}]")));
    let tables = ["tcp", "tcp6", "udp", "udp6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")));
    let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    let waiting = lines.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The states of listeners and of unconnected UDP sockets. A table that changes may show a socket twice.
        (["0A", "07"].contains(&words[3]) && is_own(words[9])).then(|| words[9].to_owned())
    });
    waiting.collect::<BTreeSet<String>>().len()
}

#[test]
fn an_inherited_listener_and_udp_socket_are_served_and_no_default_address() {
    let ((tcp, tcp_at), (udp, udp_at)) = (listener("127.0.0.1"), udp_socket("127.0.0.1"));
    let mut server = Activation { sockets: &borrowed_fds![tcp, udp], ..Activation::default() }.start();
    assert_eq!(server.ready_addresses(), [format!("tcp={tcp_at}"), format!("udp={udp_at}")]);
    assert_eq!(bound_socket_count(&server), 2);
    for _ in 0..3 {
        assert_eq!(request(tcp_at), GREETING);
        assert_eq!(request_udp_on(&udp_client(udp_at), UDP_REQUEST), UDP_GREETING);
    }
    server.assert_exits_on_sigterm();
}

#[test]
fn inherited_sockets_are_served_in_their_order() {
    assert_served_in_order("127.0.0.4");
}

#[test]
#[ignore = "needs IPv6"]
fn inherited_sockets_of_both_families_are_served_in_their_order() {
    assert_served_in_order("::1");
}

#[track_caller]
fn assert_served_in_order(host: &str) {
    let (udp, udp_at) = udp_socket("127.0.0.1");
    let (other, other_at) = listener(host);
    let (four, four_at) = listener("127.0.0.2");
    let (udp_other, udp_other_at) = udp_socket(host);
    let (every, every_at) = listener("0.0.0.0");
    let (udp_every, udp_every_at) = udp_socket("0.0.0.0");
    let sockets = borrowed_fds![udp, other, four, udp_other, every, udp_every];
    let server = Activation { sockets: &sockets, ..Activation::default() }.start();
    let order = [
        format!("udp={udp_at}"),
        format!("tcp={other_at}"),
        format!("tcp={four_at}"),
        format!("udp={udp_other_at}"),
        format!("tcp={every_at}"),
        format!("udp={udp_every_at}"),
    ];
    assert_eq!(server.ready_addresses(), order);
    assert_eq!(bound_socket_count(&server), order.len());
    for address in [other_at, four_at, SocketAddr::from(([127, 0, 0, 3], every_at.port()))] {
        assert_eq!(request(address), GREETING, "{address}");
    }
    // A connected client receives only from the address it asked, also on a wildcard socket.
    for address in [udp_at, udp_other_at, SocketAddr::from(([127, 0, 0, 3], udp_every_at.port()))] {
        assert_eq!(request_udp_on(&udp_client(address), UDP_REQUEST), UDP_GREETING, "{address}");
    }
}

#[test]
fn inherited_unix_listeners_are_served_and_keep_their_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("listener");
    let unix = UnixListener::bind(&path).expect("a short path");
    let name = UnixAddr::from_abstract_name(path.as_os_str().as_encoded_bytes()).expect("a short name");
    let abstract_listener = UnixListener::bind_addr(&name).expect("a name of this test alone");
    let (tcp, tcp_at) = listener("127.0.0.1");
    for workers in ["1", "3"] {
        let arguments = &["--workers", workers, "--greeting", "{peer} {local}"];
        let sockets = &borrowed_fds![unix, tcp, abstract_listener];
        let mut server = Activation { arguments, sockets, ..Activation::default() }.start();
        let display = path.to_str().expect("a plain path");
        assert_eq!(
            server.ready_addresses(),
            [format!("unix={display}"), format!("tcp={tcp_at}"), format!("unix=@{display}")]
        );
        for _ in 0..5 {
            assert_eq!(request_unix(UnixStream::connect(&path)), format!("unix {display}"));
            assert_eq!(request_unix(UnixStream::connect_addr(&name)), format!("unix @{display}"));
        }
        server.assert_exits_on_sigterm();
        assert!(path.exists(), "the supervisor's file was removed");
    }
    // A client that connects between two servers waits for the next.
    let waiting = UnixStream::connect(&path);
    let _next = Activation { sockets: &borrowed_fds![unix], ..Activation::default() }.start();
    assert_eq!(request_unix(waiting), GREETING);
}

fn request_unix(connected: std::io::Result<UnixStream>) -> String {
    let mut stream = connected.expect("a server listens");
    stream.set_read_timeout(Some(TIMEOUT)).expect("an option of every stream");
    stream.write_all(b"hello").expect("the server is there");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text, and then the end of the stream");
    text
}

#[test]
fn flags_and_variables_add_sockets_after_the_inherited_ones() {
    let (tcp, tcp_at) = listener("127.0.0.1");
    let sockets = &borrowed_fds![tcp];
    let flags = Activation { arguments: &["--listen", "127.0.0.2:0"], sockets, ..Activation::default() }.start();
    let served = flags.ready_addresses();
    let (first, rest) = served.split_first().expect("three");
    assert_eq!(*first, format!("tcp={tcp_at}"));
    assert!(rest[0].starts_with("tcp=127.0.0.2:") && rest[1].starts_with("udp=127.0.0.2:"), "{served:?}");
    assert_eq!((rest.len(), bound_socket_count(&flags)), (2, 3));
    assert_eq!(request(tcp_at), GREETING);
    drop(flags);
    let variables = &[("HALLOO_UDP", "127.0.0.3:0")];
    let served = Activation { env: variables, sockets, ..Activation::default() }.start().ready_addresses();
    assert_eq!(served[0], format!("tcp={tcp_at}"));
    assert!(served.len() == 2 && served[1].starts_with("udp=127.0.0.3:"), "{served:?}");
}

#[test]
fn an_address_both_inherited_and_in_a_flag_is_served_once() {
    let (tcp, tcp_at) = listener("127.0.0.1");
    let address = tcp_at.to_string();
    let activation =
        Activation { arguments: &["--tcp", &address], sockets: &borrowed_fds![tcp], ..Activation::default() };
    assert_eq!(activation.start().ready_addresses(), [format!("tcp={address}")]);
}

#[test]
#[ignore = "needs IPv6"]
fn an_inherited_ipv4_wildcard_leaves_the_ipv6_wildcard_free_for_a_flag() {
    let (udp, udp_at) = udp_socket("0.0.0.0");
    let address = format!("[::]:{}", udp_at.port());
    let server =
        Activation { arguments: &["--udp", &address], sockets: &borrowed_fds![udp], ..Activation::default() }.start();
    assert_eq!(server.ready_addresses(), [format!("udp={udp_at}"), format!("udp={address}")]);
    for host in ["127.0.0.1", "::1"] {
        let client = udp_client(SocketAddr::new(host.parse().expect("an address"), udp_at.port()));
        assert_eq!(request_udp_on(&client, UDP_REQUEST), UDP_GREETING, "{host}");
    }
}

#[test]
fn limit_flags_apply_to_inherited_sockets() {
    let ((tcp, tcp_at), (udp, udp_at)) = (listener("127.0.0.1"), udp_socket("127.0.0.1"));
    let arguments = &["--max-connections", "1", "--idle-timeout", "300ms", "--udp-rate", "2"];
    let _server = Activation { arguments, sockets: &borrowed_fds![tcp, udp], ..Activation::default() }.start();
    let silent = connect(tcp_at);
    // With one connection at most, the second client waits for the idle timeout of the first.
    assert_eq!(request(tcp_at), GREETING);
    silent.set_nonblocking(true).expect("an option of every stream");
    assert_eq!((&silent).read(&mut [0; 16]).expect("EOF"), 0);

    let client = udp_client(udp_at);
    for _ in 0..20 {
        client.send(b"hello").expect("loopback takes it");
    }
    for _ in 0..2 {
        retry_interrupted(|| client.recv(&mut [0; 64])).expect("an answer arrives");
    }
    client.set_read_timeout(Some(Duration::from_millis(300))).expect("an option of every socket");
    let extra = std::iter::from_fn(|| retry_interrupted(|| client.recv(&mut [0; 64])).ok()).count();
    assert!(extra <= 4, "{extra} more answers to 20 questions at once");
}

#[test]
fn sockets_for_another_process_are_ignored() {
    let (tcp, tcp_at) = listener("127.0.0.1");
    let sockets = &borrowed_fds![tcp];
    let arguments = &["--udp", "127.0.0.1:0"];
    for other in ["1", "other", "-1", "99999999999999999999"] {
        for count in ["1", "nonsense"] {
            let variables = &[("LISTEN_PID", other), ("LISTEN_FDS", count)];
            let served = Activation { arguments, env: variables, sockets }.start().ready_addresses();
            assert!(served.len() == 1 && served[0].starts_with("udp="), "{other}: {served:?}");
        }
    }
    // With an empty `LISTEN_PID` the sockets are for any process.
    let server = Activation { env: &[("LISTEN_PID", "")], sockets, ..Activation::default() }.start();
    assert_eq!(server.ready_addresses(), [format!("tcp={tcp_at}")]);
}

#[test]
fn clients_that_connected_before_the_start_are_served() {
    let ((tcp, tcp_at), (udp, udp_at)) = (listener("127.0.0.1"), udp_socket("127.0.0.1"));
    let early: Vec<_> = (0..50).map(|_| send_request(tcp_at)).collect();
    let early_udp = udp_client(udp_at);
    early_udp.send(b"hello").expect("loopback takes it");
    let _server = Activation { sockets: &borrowed_fds![tcp, udp], ..Activation::default() }.start();
    for client in &early {
        assert_eq!(read_to_end(client), GREETING);
    }
    let mut answer = [0; 64];
    let count = retry_interrupted(|| early_udp.recv(&mut answer)).expect("an answer arrives");
    assert_eq!(&answer[..count], UDP_GREETING.as_bytes());
}
