//! Inherited descriptors that cannot be served.
//!
//! The error is one line that names the descriptor.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::BorrowedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use socket2::{Domain, SockAddr, Socket, Type};
use support::process::server::assert_fails;

use crate::activated_server::Activation;
use crate::borrowed_fds;

#[track_caller]
fn assert_socket_refused(socket: BorrowedFd<'_>, expected: &str) {
    let output = Activation { sockets: &[socket], ..Activation::default() }.run();
    assert_fails(&output, 3, &["descriptor 3", "LISTEN_FDS", expected, "pass only listeners", "unset LISTEN_FDS"]);
}

#[test]
fn a_descriptor_that_is_neither_a_listener_nor_a_udp_socket_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let datagrams = UnixDatagram::bind(folder.path().join("datagrams")).expect("a short path");
    let (pair, _other) = UnixStream::pair().expect("a pair");
    assert_socket_refused(borrowed_fds![datagrams][0], "a unix socket for datagrams");
    let non_listening = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    non_listening.bind(&SockAddr::unix(folder.path().join("stream")).expect("a short path")).expect("a free path");
    for socket in borrowed_fds![pair, non_listening] {
        assert_socket_refused(socket, "a unix socket that does not listen");
    }
    let file = File::create(folder.path().join("file")).expect("a new file");
    let null = File::open("/dev/null").expect("it is always there");
    for file in borrowed_fds![file, null] {
        assert_socket_refused(file, "socket operation on non-socket");
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (server, _) = listener.accept().expect("a client has connected");
    for stream in borrowed_fds![client, server] {
        assert_socket_refused(stream, "a TCP connection");
    }
    let unbound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    unbound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let unbound_v6 = Socket::new(Domain::IPV6, Type::STREAM, None);
    for socket in std::iter::once(unbound).chain(unbound_v6) {
        assert_socket_refused(borrowed_fds![socket][0], "a TCP socket that does not listen");
    }
    let unbound_udp = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    assert_socket_refused(borrowed_fds![unbound_udp][0], "a UDP socket without a port");
}

#[test]
fn the_invalid_descriptor_is_named_at_any_position() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let (pair, _other) = UnixStream::pair().expect("a pair");
    let output = Activation { sockets: &borrowed_fds![tcp, udp, pair, udp], ..Activation::default() }.run();
    assert_fails(&output, 3, &["descriptor 5", "a unix socket"]);
    // `LISTEN_FDS` is one more than there are sockets.
    let variables = &[("LISTEN_FDS", "3")];
    let output = Activation { env: variables, sockets: &borrowed_fds![tcp, udp], ..Activation::default() }.run();
    assert_fails(&output, 3, &["descriptor 5", "bad file descriptor"]);
}

#[test]
fn an_invalid_listen_pid_is_logged_as_a_warning() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let arguments = &["--tcp", "127.0.0.1:0", "--exit-when-idle", "50ms"];
    for (pid, warnings) in [("abc", 1), ("1", 0)] {
        let variables = &[("LISTEN_PID", pid)];
        let output = Activation { arguments, env: variables, sockets: &borrowed_fds![tcp] }.run();
        let line = |line: &&str| line.contains(" WARN ") && line.contains("LISTEN_PID=abc: not a process number");
        assert_eq!(output.stderr.lines().filter(line).count(), warnings, "{output:?}");
    }
}

#[test]
fn an_invalid_listen_fds_is_refused_in_one_line() {
    for count in ["two", "-1", "1.5", "2000000000", "99999999999999999999", "\u{1b}[31m"] {
        let output = Activation { env: &[("LISTEN_FDS", count)], ..Activation::default() }.run();
        assert_fails(&output, 2, &["cannot serve the inherited sockets: LISTEN_FDS=", "not a number", "unset it"]);
        assert!(!output.stderr.contains('\u{1b}'), "{output:?}");
    }
}
