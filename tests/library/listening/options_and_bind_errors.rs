//! Invalid options, and addresses that cannot be bound.
//!
//! The error comes at once, and names the step and the address.

use std::error::Error as _;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Barrier;
use std::time::Duration;

use halloo::{Bind, Error, ErrorKind, EventLoop, Listen, SourceId, datagrams, framing, stream};
use support::network::ports::unused_port;

#[cfg(target_os = "linux")]
use socket2::{Domain, SockAddr, Socket, Type};
#[cfg(target_os = "linux")]
use std::os::unix::net::UnixListener;

use crate::helpers::loopback::{any_port, loopback};
use crate::helpers::nonblocking_client::Client;
use crate::helpers::simple_handlers::{GREETING, greet};

const SECOND: Duration = Duration::from_secs(1);

/// Checks that the error is one line about an option, with the address in it.
fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    let error = outcome.expect_err("the option is invalid");
    assert_eq!((error.kind(), error.address()), (ErrorKind::InvalidOption, Some(loopback())), "{error}");
    assert!(error.source().is_none(), "no system call failed");
    let sentence = error.to_string();
    assert!(sentence.contains("127.0.0.1:0") && !sentence.contains('\n'), "{sentence}");
    assert!(sentence.split_whitespace().count() > 5 && !sentence.ends_with('.'), "{sentence}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn invalid_options_of_a_listener_are_refused() {
    let mut events = EventLoop::new().expect("a loop");
    let options: [fn(Listen) -> Listen; 20] = [
        |at| at.connections_max(0),
        |at| at.connections_per_source_max(0),
        |at| at.backlog(0),
        |at| at.idle_timeout(Duration::ZERO),
        |at| at.write_timeout(Duration::ZERO),
        |at| at.input_bytes_max(0),
        |at| at.input_bytes_max(1 << 32),
        |at| at.outbox_bytes_max(0),
        |at| at.outbox_bytes_max(usize::MAX),
        |at| at.recv_buffer_bytes(1 << 31),
        |at| at.recv_buffer_bytes(1 << 32),
        |at| at.send_buffer_bytes(1 << 31),
        |at| at.send_buffer_bytes(1 << 32),
        |at| at.tcp_notsent_lowat(0),
        |at| at.tcp_keepalive(Duration::from_millis(999), SECOND, 1),
        |at| at.tcp_keepalive(SECOND, 32_768 * SECOND, 1),
        |at| at.tcp_keepalive(SECOND, SECOND, 0),
        |at| at.tcp_keepalive(SECOND, SECOND, 128),
        |at| at.tcp_user_timeout(Duration::from_micros(999)),
        |at| at.tcp_user_timeout(Duration::from_millis(1 << 31)),
    ];
    for option in options {
        assert_refused(events.listen(option(Listen::from(loopback())), stream(greet)));
        let handler = events.attach(stream(greet));
        assert_refused(events.listen_for(option(Listen::from(loopback())), handler));
    }
}

#[test]
fn options_at_the_ends_of_their_ranges_work() {
    let options: &[fn(Listen) -> Listen] = &[
        |at| at.connections_max(1).connections_per_source_max(1),
        |at| at.connections_max(usize::MAX).connections_per_source_max(u32::MAX),
        |at| at.backlog(1),
        |at| at.backlog(u32::MAX),
        |at| at.idle_timeout(Duration::MAX).write_timeout(Duration::MAX),
        |at| at.idle_timeout(None).write_timeout(None),
        |at| at.input_bytes_max(1).outbox_bytes_max(18),
        |at| at.input_bytes_max(u32::MAX as usize).outbox_bytes_max(1 << 30),
        |at| at.recv_buffer_bytes((1 << 31) - 1).send_buffer_bytes((1 << 31) - 1),
        #[cfg(target_os = "linux")]
        |at| at.tcp_keepalive(SECOND, 32_767 * SECOND, 127),
        #[cfg(target_os = "linux")]
        |at| at.tcp_notsent_lowat(1),
        #[cfg(target_os = "linux")]
        |at| at.tcp_notsent_lowat(u32::MAX),
        #[cfg(target_os = "linux")]
        |at| at.recv_buffer_bytes(0).send_buffer_bytes(0).tcp_user_timeout(Duration::from_millis((1 << 31) - 1)),
    ];
    for (index, option) in options.iter().enumerate() {
        let mut events = EventLoop::new().expect("a loop");
        let listener = events.listen(option(Listen::from(loopback())), stream(greet)).expect("the option is valid");
        let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
        assert_eq!(client.request(&mut events, b"?", 18), GREETING, "option {index}");
    }
}

#[test]
fn datagram_bytes_max_must_be_between_1_and_65535() {
    let mut events = EventLoop::new().expect("a loop");
    for bytes in [0, 65_536] {
        assert_refused(events.bind(Bind::from(loopback()).datagram_bytes_max(bytes), datagrams(|_, _| {})));
    }
    for bytes in [1, 65_535] {
        events
            .bind(Bind::from(loopback()).datagram_bytes_max(bytes), datagrams(|_, _| {}))
            .expect("the option is valid");
    }
}

#[test]
fn a_receive_buffer_that_does_not_fit_the_kernels_int_is_refused() {
    let mut events = EventLoop::new().expect("a loop");
    for bytes in [1 << 31, 1 << 32, usize::MAX] {
        assert_refused(events.bind(Bind::from(loopback()).recv_buffer_bytes(bytes), datagrams(|_, _| {})));
    }
    let at = Bind::from(loopback()).recv_buffer_bytes((1 << 31) - 1);
    events.bind(at, datagrams(|_, _| {})).expect("the kernel reduces it to its own limit");
}

#[test]
fn a_frame_longer_than_the_inbox_is_refused() {
    let mut events = EventLoop::new().expect("a loop");
    let at = || Listen::from(loopback()).input_bytes_max(100);
    assert_refused(events.listen(at(), framing::lines(99, |_, _| {})));
    assert_refused(events.listen(at(), framing::lines(usize::MAX, |_, _| {})));
    let handler = events.attach(framing::lines(99, |_, _| {}));
    assert_refused(events.listen_for(at(), handler));
    events.listen(at(), framing::lines(98, |_, _| {})).expect("a line of 98 and its CRLF fit");
}

#[test]
fn a_taken_tcp_port_is_an_error_that_names_step_address_and_cause() {
    let taken = TcpListener::bind(loopback()).expect("a free port");
    let address = taken.local_addr().expect("the socket is bound");
    let mut events = EventLoop::new().expect("a loop");
    let error = events.listen(address, stream(greet)).expect_err("the port is in use");
    assert_eq!((error.kind(), error.address()), (ErrorKind::Listen, Some(address)));
    let cause = error.source().expect("the system's own").downcast_ref::<io::Error>().expect("an io::Error");
    assert_eq!(error.to_string(), format!("cannot listen at {address}: {cause}"));
    assert_eq!(cause.kind(), io::ErrorKind::AddrInUse);
    let converted = io::Error::from(error);
    assert_eq!(converted.kind(), io::ErrorKind::AddrInUse);
    assert!(converted.to_string().contains(&address.to_string()));
    drop(taken);
    events.listen(address, stream(greet)).expect("the port is free");
}

#[test]
fn a_taken_udp_port_is_an_error_that_names_step_and_address() {
    let taken = UdpSocket::bind(loopback()).expect("a free port");
    let address = taken.local_addr().expect("the socket is bound");
    let mut events = EventLoop::new().expect("a loop");
    let error = events.bind(address, datagrams(|_, _| {})).expect_err("the port is in use");
    assert_eq!((error.kind(), error.address()), (ErrorKind::Bind, Some(address)));
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn an_address_of_another_machine_is_an_error() {
    // 192.0.2.0/24 is reserved for documentation (RFC 5737).
    let mut events = EventLoop::new().expect("a loop");
    let error = events.listen(any_port("192.0.2.1"), stream(greet)).expect_err("no interface has it");
    assert_eq!((error.kind(), error.address()), (ErrorKind::Listen, Some(any_port("192.0.2.1"))));
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrNotAvailable);
    let error = events.bind(any_port("192.0.2.1"), datagrams(|_, _| {})).expect_err("no interface has it");
    assert_eq!(error.kind(), ErrorKind::Bind);
}

/// Only on Linux: other systems do not report whether a socket listens.
#[cfg(target_os = "linux")]
#[test]
fn an_inherited_socket_that_does_not_listen_is_an_error_of_listen() {
    let mut events = EventLoop::new().expect("a loop");
    let tcp = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    tcp.bind(&loopback().into()).expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let unix = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    unix.bind(&SockAddr::unix(folder.path().join("socket")).expect("a short path")).expect("a free path");
    for at in [Listen::from(TcpListener::from(tcp)), Listen::from(UnixListener::from(unix))] {
        let error = events.listen(at, stream(greet)).expect_err("the socket does not listen");
        assert_eq!(error.kind(), ErrorKind::Listen);
        let cause = error.source().expect("a cause").to_string();
        assert!(cause.contains("does not listen"), "{cause}");
    }
    assert_eq!((events.next_timeout(), events.stats().accept_errors), (None, 0));
}

#[test]
fn an_inherited_stream_socket_is_an_error_of_bind() {
    let mut events = EventLoop::new().expect("a loop");
    let listener = Socket::from(TcpListener::bind(loopback()).expect("a free port"));
    let error =
        events.bind(UdpSocket::from(listener), datagrams(|_, _| {})).expect_err("a stream socket has no datagrams");
    assert_eq!(error.kind(), ErrorKind::Bind);
    let cause = error.source().expect("a cause").to_string();
    assert!(cause.contains("not a datagram socket"), "{cause}");
}

#[test]
fn with_reuse_port_two_loops_share_a_port_and_without_it_they_do_not() {
    let (mut one, mut other) = (EventLoop::new().expect("a loop"), EventLoop::new().expect("a loop"));
    let listener = one.listen(Listen::from(loopback()).reuse_port(true), stream(greet)).expect("a listener");
    let address = one.local_addr(listener).expect("the listener is open");
    assert!(other.listen(address, stream(greet)).is_err(), "this listener has no reuse_port");
    other.listen(Listen::from(address).reuse_port(true), stream(greet)).expect("both have reuse_port");
    let socket = one.bind(Bind::from(loopback()).reuse_port(true), datagrams(|_, _| {})).expect("a socket");
    let address = one.local_addr(socket).expect("the socket is open");
    assert!(other.bind(address, datagrams(|_, _| {})).is_err(), "this socket has no reuse_port");
    other.bind(Bind::from(address).reuse_port(true), datagrams(|_, _| {})).expect("both have reuse_port");
}

#[test]
fn with_reuse_port_after_bind_the_first_loop_binds_the_port_alone_and_then_shares_it() {
    let (mut one, mut other) = (EventLoop::new().expect("a loop"), EventLoop::new().expect("a loop"));
    let in_use = |outcome: halloo::Result<SourceId>| {
        let cause = outcome.expect_err("the port is taken").source().expect("a cause").to_string();
        assert!(cause.starts_with("Address already in use"), "{cause}");
    };
    let listen = |events: &mut EventLoop<'_>, at| events.listen(at, stream(greet)).map(SourceId::from);
    let first = listen(&mut one, Listen::from(loopback()).reuse_port_after_bind(true)).expect("a free port");
    let address = one.local_addr(first).expect("the listener is open");
    in_use(listen(&mut other, Listen::from(address).reuse_port_after_bind(true)));
    in_use(listen(&mut other, Listen::from(address)));
    listen(&mut other, Listen::from(address).reuse_port(true)).expect("it has reuse_port");
    let bind = |events: &mut EventLoop<'_>, at| events.bind(at, datagrams(|_, _| {})).map(SourceId::from);
    let first = bind(&mut one, Bind::from(loopback()).reuse_port_after_bind(true)).expect("a free port");
    let address = one.local_addr(first).expect("the listener is open");
    in_use(bind(&mut other, Bind::from(address).reuse_port_after_bind(true)));
    in_use(bind(&mut other, Bind::from(address)));
    bind(&mut other, Bind::from(address).reuse_port(true)).expect("it has reuse_port");
}

/// `SO_REUSEADDR` lets several TCP sockets bind one port as long as none listens.
#[test]
fn of_several_loops_that_bind_one_port_at_once_exactly_one_succeeds() {
    const LOOPS: usize = 4;
    for round in 0..200 {
        let address = SocketAddr::from(([127, 0, 0, 1], unused_port()));
        let (start, end) = (Barrier::new(LOOPS), Barrier::new(LOOPS));
        let open = |is_shared: bool| {
            let mut events = EventLoop::new().expect("a loop");
            start.wait();
            let listener = events.listen(Listen::from(address).reuse_port_after_bind(is_shared), stream(greet));
            let socket = events.bind(Bind::from(address).reuse_port_after_bind(is_shared), datagrams(|_, _| {}));
            end.wait();
            (listener.is_ok(), socket.is_ok())
        };
        let opened: Vec<(bool, bool)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..LOOPS).map(|number| scope.spawn(move || open(number % 2 == 0))).collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
        });
        let listeners = opened.iter().filter(|(listens, _)| *listens).count();
        let sockets = opened.iter().filter(|(_, is_bound)| *is_bound).count();
        assert_eq!((listeners, sockets), (1, 1), "round {round}");
    }
}

#[test]
fn a_handler_of_another_loop_is_refused_by_listen_for() {
    let (mut one, mut other) = (EventLoop::new().expect("a loop"), EventLoop::new().expect("a loop"));
    let handler = one.attach(stream(|_, input| input.len()));
    let error = other.listen_for(loopback(), handler).expect_err("the handler is of another loop");
    assert_eq!(error.kind(), ErrorKind::UnknownId);
    other.attach(stream(greet));
    let error = other.listen_for(loopback(), handler).expect_err("a handler of this loop does not change that");
    assert_eq!(error.kind(), ErrorKind::UnknownId);
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
}
