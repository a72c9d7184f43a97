//! Connected streams that become connections of a loop.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use halloo::{CloseReason, Connect, EventLoop, stream};
use socket2::{Domain, SockRef, Socket, Type};
use support::process::child::test_name_of;
use support::wait::{TIMEOUT, wait_for, wait_until};

use crate::helpers::loopback::{any_port, loopback};
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::echo;
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};

/// The two ends of a TCP connection.
fn tcp_pair_at(address: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).expect("a free port");
    let stream = TcpStream::connect(listener.local_addr().expect("the socket is bound")).expect("it listens");
    (stream, listener.accept().expect("a client in the backlog").0)
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    tcp_pair_at(loopback())
}

/// The descriptors of a TCP pair and of a unix pair.
fn descriptors() -> [(OwnedFd, OwnedFd); 2] {
    let (tcp, unix) = (tcp_pair(), UnixStream::pair().expect("a pair"));
    [(tcp.0.into(), tcp.1.into()), (unix.0.into(), unix.1.into())]
}

/// The same pairs, with a client at the other end of each.
pub(crate) fn pairs() -> [(OwnedFd, Client); 2] {
    descriptors().map(|(ours, theirs)| (ours, Client::new(theirs.into())))
}

/// Closes with RST.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option of every stream");
    drop(stream);
}

/// Adopts a TCP stream, and checks its addresses and its exchange with the peer.
fn assert_talks(ours: TcpStream, theirs: TcpStream) {
    let (log, seen) = (CallLog::default(), Cell::new(None));
    let (local, peer) =
        (ours.local_addr().expect("the socket is connected"), theirs.local_addr().expect("the socket is connected"));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(
        RecordingHandler::new(&log)
            .on_open(|connection| {
                seen.set(Some((connection.local_addr(), connection.peer_addr(), connection.listener())));
                true
            })
            .on_data(|connection, input| {
                let taken = connection.try_write(input);
                connection.close();
                taken
            }),
    );
    let id = events.context().connect(ours, handler);
    assert_eq!(log.all(), [], "a callback came before connect returned");
    assert_eq!(events.context().connection(id).expect("the connection is opening").peer_addr(), Some(peer));
    let mut client = Client::new(theirs.into());
    client.send(b"hello");
    assert_eq!(client.read_to_end(&mut events), (&b"hello"[..], StreamEnd::Eof));
    turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
    assert_eq!(log.of(id), [Call::Open, Call::Data(b"hello".to_vec()), Call::Closed(CloseReason::Local)]);
    assert_eq!(seen.get(), Some((Some(local), Some(peer), None)));
    assert_eq!((events.stats().connects, events.stats().connect_errors, events.stats().accepted), (1, 0, 0));
}

#[test]
fn an_adopted_tcp_stream_is_served_like_any_other_connection() {
    let (ours, theirs) = tcp_pair();
    assert_talks(ours, theirs);
}

#[test]
#[ignore = "needs IPv6"]
fn an_adopted_tcp_stream_over_ipv6_is_served() {
    let (ours, theirs) = tcp_pair_at(any_port("::1"));
    assert_talks(ours, theirs);
}

#[test]
fn input_and_eof_that_arrived_before_the_adoption_are_delivered() {
    for (ours, mut client) in pairs() {
        let log = CallLog::default();
        client.send(b"sent before");
        client.half_close();
        let mut events = EventLoop::new().expect("a loop");
        let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| {
            assert_eq!(connection.outbox_len(), 5, "the outbox keeps what was sent before");
            connection.send(b" and answered").is_ok()
        }));
        let id = events.context().connect(ours, handler);
        events.context().connection(id).expect("the connection is opening").send(b"greet").expect("there is room");
        assert_eq!(client.read_to_end(&mut events), (&b"greet and answered"[..], StreamEnd::Eof));
        turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
        let expected = [Call::Open, Call::Data(b"sent before".to_vec()), Call::Eof, Call::Closed(CloseReason::Eof)];
        assert_eq!(log.of(id), expected);
    }
}

#[test]
fn a_unix_stream_has_no_addresses() {
    let (log, (ours, _theirs)) = (CallLog::default(), UnixStream::pair().expect("a pair"));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| {
        assert_eq!((connection.local_addr(), connection.peer_addr()), (None, None));
        true
    }));
    events.context().connect(ours, handler);
    turn_until(&mut events, "the connection is open", |_| log.ids().len() == 1);
}

/// The socket is neither readable nor writable, so no event reports that it is connected.
#[test]
fn a_stream_without_room_to_send_opens_at_once() {
    for (ours, mut client) in pairs() {
        let log = CallLog::default();
        let ours = Socket::from(ours);
        ours.set_nonblocking(true).expect("an option of every socket");
        let mut sent = 0;
        while let Ok(count) = (&ours).write(&[b'x'; 4096]) {
            sent += count;
        }
        let mut events = EventLoop::new().expect("a loop");
        let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| {
            connection.send(b"after that").expect("the outbox is empty");
            connection.close();
            true
        }));
        let stream = Connect::from(OwnedFd::from(ours)).timeout(Duration::from_nanos(1));
        events.context().connect(stream, handler);
        turn_until(&mut events, "the connection is open", |_| log.ids().len() == 1);
        let (received, end) = client.read_to_end(&mut events);
        assert_eq!((received.len(), end), (sent + 10, StreamEnd::Eof));
        assert!(received.ends_with(b"xafter that"));
    }
}

#[test]
fn the_limits_of_the_connect_hold() {
    for (ours, client) in pairs() {
        let log = CallLog::default();
        let mut events = EventLoop::new().expect("a loop");
        let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| {
            assert_eq!((connection.try_write(b"1234567"), connection.outbox_bytes_max()), (5, 5));
            true
        }));
        let stream = Connect::from(ours).outbox_bytes_max(5).idle_timeout(Duration::from_millis(30));
        let id = events.context().connect(stream, handler);
        turn_until(&mut events, "the idle timeout closes it", |_| log.close_reasons().len() == 1);
        assert_eq!(log.of(id), [Call::Open, Call::Flushed, Call::Closed(CloseReason::TimedOut)]);
        drop(client);
    }
}

#[test]
fn an_adopted_stream_that_was_already_reset_fails_or_closes() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let (tcp, peer) = tcp_pair();
    reset(peer);
    wait_until("the reset", || tcp.peer_addr().is_err());
    let id = events.context().connect(tcp, handler);
    turn_until(&mut events, "the failure", |events| events.stats().connect_errors == 1);
    assert_eq!(log.of(id), [Call::Failed(ErrorKind::ConnectionReset)]);
    // A unix stream is reset when its peer closes with unread input.
    let (mut unix, mut peer) = UnixStream::pair().expect("a pair");
    unix.write_all(b"not read").expect("there is room");
    peer.write_all(b"a last word").expect("there is room");
    drop(peer);
    let id = events.context().connect(unix, handler);
    turn_until(&mut events, "the connection is closed", |events| events.stats().closed_total() == 1);
    assert_eq!(log.of(id), [Call::Open, Call::Data(b"a last word".to_vec()), Call::Closed(CloseReason::Reset)]);
}

#[test]
fn a_descriptor_that_is_no_connected_stream_fails_with_a_hint() {
    let folder = tempfile::tempdir().expect("a folder");
    let unix = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let packets = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).expect("a pair").0;
    let wrong: [(OwnedFd, &str); 9] = [
        (tempfile::tempfile().expect("a file").into(), "the descriptor is not a socket"),
        (io::pipe().expect("a pipe").0.into(), "the descriptor is not a socket"),
        (UdpSocket::bind(loopback()).expect("a free port").into(), "the socket is not a stream"),
        (UnixDatagram::pair().expect("a pair").0.into(), "the socket is not a stream"),
        (packets.into(), "the socket is not a stream"),
        (TcpListener::bind(loopback()).expect("a free port").into(), "the socket listens"),
        (UnixListener::bind(folder.path().join("socket")).expect("a path").into(), "the socket listens"),
        (Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket").into(), "the socket is not connected"),
        (unix.into(), "the socket is not connected"),
    ];
    let (log, errors) = (CallLog::default(), RefCell::new(Vec::new()));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(
        RecordingHandler::new(&log).on_connect_failed(|_, _, error| errors.borrow_mut().push(error.to_string())),
    );
    let wrong = wrong.map(|(descriptor, cause)| {
        events.context().connect(descriptor, handler);
        cause
    });
    turn_until(&mut events, "the failures", |_| log.connect_errors().len() == wrong.len());
    assert_eq!(log.connect_errors(), [ErrorKind::InvalidInput; 9]);
    for (error, cause) in errors.borrow().iter().zip(wrong) {
        assert!(error.starts_with(&format!("invalid argument: {cause}")), "{error}");
        assert!(error.ends_with("; hand over a connected TCP or unix stream"), "{error}");
    }
    let invalid = Connect::from(tcp_pair().0).outbox_bytes_max(0);
    events.context().connect(invalid, handler);
    turn_until(&mut events, "one more failure", |_| log.connect_errors().len() == 10);
    assert!(errors.borrow()[9].contains("outbox_bytes_max must be between"), "{errors:?}");
}

#[test]
fn of_clones_the_first_connect_takes_the_stream_and_no_descriptor_is_left() {
    // A unix socket has no RST.
    for ((ours, mut client), end) in pairs().into_iter().zip([StreamEnd::Reset, StreamEnd::Eof]) {
        let (log, stream) = (CallLog::default(), Connect::from(ours));
        let mut events = EventLoop::new().expect("a loop");
        let handler = events.attach(RecordingHandler::new(&log).on_connect_failed(|_, _, error| {
            assert!(error.to_string().contains("the stream was taken by another connect; clones"), "{error}");
        }));
        let first = events.context().connect(stream.clone(), handler);
        let second = events.context().connect(stream.clone(), handler);
        turn_until(&mut events, "the failure", |_| log.connect_errors().len() == 1);
        events.context().connection(first).expect("the connection is open").abort();
        assert_eq!(client.read_to_end(&mut events), (&b""[..], end));
        assert_eq!(log.of(first), [Call::Open, Call::Closed(CloseReason::Aborted)]);
        assert_eq!(log.of(second), [Call::Failed(ErrorKind::InvalidInput)]);
        drop(stream);
    }
}

#[test]
fn a_duplicate_descriptor_becomes_non_blocking_and_keeps_neither_the_stream_nor_the_poll_open() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let (log, mut client) = (CallLog::default(), Client::new(OwnedFd::from(theirs).into()));
    let mut duplicate = ours.try_clone().expect("a descriptor");
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    events.context().connect(Connect::from(ours).idle_timeout(Duration::from_millis(30)), handler);
    turn_until(&mut events, "the connection is open", |_| log.ids().len() == 1);
    assert_eq!(duplicate.read(&mut [0]).expect_err("no input has come").kind(), ErrorKind::WouldBlock);
    assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Eof);
    assert_eq!(log.close_reasons(), [CloseReason::TimedOut]);
    turn_until_idle(&mut events);
    // The same open file again, at the same descriptor number.
    events.context().connect(duplicate.try_clone().expect("a descriptor"), handler);
    turn_until(&mut events, "both connections are closed", |events| events.stats().connections == 0);
    assert_eq!(
        log.close_reasons(),
        [CloseReason::TimedOut, CloseReason::Eof],
        "the stream is shut down, and registered again"
    );
    turn_until_idle(&mut events);
    let before = events.stats().events;
    drop(client);
    turn_until_idle(&mut events);
    assert_eq!(events.stats().events, before, "the duplicate is not registered any more");
}

#[test]
fn an_abort_before_it_is_open_resets_the_stream() {
    let (log, (ours, theirs)) = (CallLog::default(), tcp_pair());
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let id = events.context().connect(ours, handler);
    events.context().connection(id).expect("the connection is opening").abort();
    assert_eq!(Client::new(theirs.into()).read_to_end(&mut events).1, StreamEnd::Reset);
    turn_until(&mut events, "the failure", |_| log.connect_errors().len() == 1);
    assert_eq!(log.of(id), [Call::Failed(ErrorKind::ConnectionAborted)]);
}

#[test]
fn at_the_end_of_a_loop_no_stream_is_left_open() {
    let log = CallLog::default();
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    // More connects than one turn starts.
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..200 {
        let (ours, theirs) = tcp_pair();
        events.context().connect(ours, handler);
        clients.push(Client::new(theirs.into()));
    }
    events.context().stop();
    turn_until_stopped(&mut events);
    let (opened, failed) = (log.count(&Call::Closed(CloseReason::Drained)), log.connect_errors().len());
    assert!(opened > 0 && failed > 0 && opened + failed == 200, "{opened} + {failed}");
    for client in &mut clients {
        assert_eq!(client.read_to_end(&mut events).1, StreamEnd::Reset);
    }
    let (ours, theirs) = tcp_pair();
    let id = events.context().connect(ours, handler);
    assert!(events.context().connection(id).is_none(), "a stopped loop opens nothing");
    assert_eq!(Client::new(theirs.into()).read_to_end(&mut events).1, StreamEnd::Eof);
}

#[test]
fn an_adopted_socket_connected_to_itself_is_served_like_any_other() {
    let (log, socket) = (CallLog::default(), Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket"));
    socket.bind(&loopback().into()).expect("a free port");
    socket.connect(&socket.local_addr().expect("the socket is bound")).expect("simultaneous open");
    let mut events = EventLoop::new().expect("a loop");
    let handler =
        events.attach(RecordingHandler::new(&log).on_open(|connection| connection.send(b"to myself").is_ok()).on_data(
            |connection, input| {
                connection.close();
                input.len()
            },
        ));
    events.context().connect(TcpStream::from(socket), handler);
    turn_until(&mut events, "the connection is closed", |events| events.stats().closed_total() == 1);
    assert_eq!(log.inputs(), [b"to myself"]);
}

#[test]
fn an_accepting_thread_passes_its_clients_to_the_loop_with_a_value() {
    let (log, values) = (CallLog::default(), RefCell::new(Vec::new()));
    let listener = TcpListener::bind(loopback()).expect("a free port");
    let address = listener.local_addr().expect("the socket is bound");
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_data(echo).on_open(|connection| {
        values.borrow_mut().extend(connection.take_value::<u32>());
        true
    }));
    let handle = events.handle();
    let acceptor = std::thread::spawn(move || {
        for number in 0..3_u32 {
            let (stream, _) = listener.accept().expect("a client");
            let job = move |context: &mut halloo::Context| {
                context.connect_with(stream, handler, number);
            };
            handle.post(job).expect("the loop runs");
        }
    });
    for _ in 0..3 {
        let mut client = Client::connect(address);
        assert_eq!(client.request(&mut events, b"hello", 5), b"hello");
    }
    acceptor.join().expect("no panic");
    assert_eq!(values.take(), [0, 1, 2]);
}

/// Serves standard input, as a service of inetd(8) does.
fn serve_standard_input() {
    let client = io::stdin().as_fd().try_clone_to_owned().expect("a descriptor");
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(stream(echo));
    events.context().connect(client, handler);
    turn_until(&mut events, "the client has ended", |events| events.stats().closed_total() == 1);
    assert_eq!(events.stats().closed(CloseReason::Eof), 1);
}

#[test]
fn a_process_serves_a_client_on_its_standard_input() {
    const IS_SERVICE: &str = "HALLOO_TEST_SERVICE";
    if std::env::var_os(IS_SERVICE).is_some() {
        return serve_standard_input();
    }
    let name = test_name_of(&|| ());
    for (service, client) in descriptors() {
        let mut command = Command::new(std::env::current_exe().expect("a running test has a path"));
        command.args([name, "--exact"]).env(IS_SERVICE, "1").stdin(Stdio::from(service)).stdout(Stdio::null());
        let mut process = command.spawn().expect("the service starts");
        // The command keeps a copy of the descriptor.
        drop(command);
        let mut client = Socket::from(client);
        client.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
        client.write_all(b"hello").expect("there is room");
        let mut answer = [0; 5];
        client.read_exact(&mut answer).expect("an answer");
        client.shutdown(std::net::Shutdown::Write).expect("the socket is connected");
        assert_eq!(client.read(&mut answer).expect("the end"), 0);
        assert_eq!(&answer, b"hello");
        let status = wait_for("the end of the service", || process.try_wait().expect("a child process"));
        assert!(status.success(), "{status}");
    }
}
