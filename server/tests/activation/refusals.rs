//! What cannot be served, though it was handed over: one sentence that names the descriptor and says what it is.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::BorrowedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::descriptors;
use crate::support::{Ended, Launch, can_hand_over};

/// Nothing on standard output, and one line on standard error with all of these in it.
#[track_caller]
fn assert_refused(ended: &Ended, status: i32, parts: &[&str]) {
    assert_eq!((ended.status, ended.output.as_str()), (status, ""), "{ended:?}");
    let line = ended.errors.strip_suffix('\n').expect("a whole line");
    assert!(line.starts_with("halloo: ") && !line.contains('\n') && !line.ends_with('.'), "{line:?}");
    for part in parts {
        assert!(line.contains(part), "`{part}` is missing in: {line}");
    }
}

#[track_caller]
fn refuse(wrong: BorrowedFd<'_>, what: &str) {
    let ended = Launch { handed: &[wrong], ..Launch::default() }.run();
    assert_refused(&ended, 3, &["descriptor 3", "LISTEN_FDS", what, "hand over listeners"]);
}

#[test]
fn what_is_no_listener_and_no_udp_socket_is_refused_in_one_sentence() {
    if !can_hand_over() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let datagrams = UnixDatagram::bind(folder.path().join("datagrams")).expect("a short path");
    let (pair, _other) = UnixStream::pair().expect("a pair");
    refuse(descriptors![datagrams][0], "a unix socket for datagrams");
    let deaf = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    deaf.bind(&SockAddr::unix(folder.path().join("stream")).expect("a short path")).expect("a free path");
    for socket in descriptors![pair, deaf] {
        refuse(socket, "a unix socket that does not listen");
    }
    let file = File::create(folder.path().join("file")).expect("a new file");
    let null = File::open("/dev/null").expect("it is always there");
    for file in descriptors![file, null] {
        refuse(file, "closed, or no socket");
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (server, _) = listener.accept().expect("somebody has come");
    for stream in descriptors![client, server] {
        refuse(stream, "a TCP connection");
    }
    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    deaf.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let nowhere = Socket::new(Domain::IPV6, Type::STREAM, None);
    for socket in std::iter::once(deaf).chain(nowhere) {
        refuse(descriptors![socket][0], "a TCP socket that does not listen");
    }
    let nowhere = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    refuse(descriptors![nowhere][0], "a UDP socket without a port");
}

#[test]
fn the_one_that_is_wrong_is_named_wherever_it_stands() {
    if !can_hand_over() {
        return;
    }
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let (pair, _other) = UnixStream::pair().expect("a pair");
    let ended = Launch { handed: &descriptors![tcp, udp, pair, udp], ..Launch::default() }.run();
    assert_refused(&ended, 3, &["descriptor 5", "a unix socket"]);
    // One more is announced than there are.
    let variables = &[("LISTEN_FDS", "3")];
    let ended = Launch { variables, handed: &descriptors![tcp, udp], ..Launch::default() }.run();
    assert_refused(&ended, 3, &["descriptor 5", "closed"]);
}

#[test]
fn a_count_that_is_none_is_refused_in_one_sentence() {
    if !can_hand_over() {
        return;
    }
    for count in ["two", "-1", "1.5", "2000000000", "99999999999999999999", "\u{1b}[31m"] {
        let ended = Launch { variables: &[("LISTEN_FDS", count)], ..Launch::default() }.run();
        assert_refused(&ended, 2, &["LISTEN_FDS is no number of sockets", "unset it"]);
        assert!(!ended.errors.contains('\u{1b}'), "{ended:?}");
    }
}
