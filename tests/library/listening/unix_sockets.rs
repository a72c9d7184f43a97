//! Unix sockets, and the file of a listener.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use halloo::{CloseReason, Connect, ErrorKind, EventLoop, Listen, ListenerId, stream};
use support::byte_pattern::byte_pattern;
use tempfile::TempDir;

use crate::helpers::loopback::loopback;
use crate::helpers::nonblocking_client::{Client, StreamEnd};
use crate::helpers::nonblocking_listener::Listener;
use crate::helpers::recording_handler::{Call, CallLog, RecordingHandler};
use crate::helpers::simple_handlers::{GREETING, echo, greet};
use crate::helpers::turn_until::{turn_until, turn_until_idle, turn_until_stopped};
use crate::outbound::proxy_handler::Proxy;

/// Returns a path in a new folder, which is removed after the test.
fn path() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("listener.sock");
    (folder, path)
}

/// Listens at a path without an idle timeout.
fn listen<'a>(events: &mut EventLoop<'a>, path: &PathBuf, handler: impl halloo::StreamHandler + 'a) -> ListenerId {
    events.listen(Listen::unix(path).idle_timeout(None), handler).expect("a free path")
}

#[test]
fn a_client_of_a_unix_socket_is_greeted_and_has_no_address() {
    let ((_folder, path), log) = (path(), CallLog::default());
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        assert_eq!((connection.peer_addr(), connection.local_addr()), (None, None));
        greet(connection, input)
    });
    let listener = listen(&mut events, &path, handler);
    assert_eq!(
        events.local_addr(listener).expect_err("a unix socket has no such address").kind(),
        ErrorKind::UnknownId
    );
    let mut client = Client::connect_unix(&path);
    client.send(b"Hello, TCP Server!");
    assert_eq!(client.read_to_end(&mut events), (GREETING, StreamEnd::Eof));
    drop(client);
    turn_until(&mut events, "the connection is closed", |_| log.close_reasons().len() == 1);
    let expected = [Call::Open, Call::Data(b"Hello, TCP Server!".to_vec()), Call::Closed(CloseReason::Local)];
    assert_eq!(log.all(), expected);
}

#[test]
fn a_long_echo_over_a_unix_socket_comes_back_whole() {
    let ((_folder, path), text) = (path(), byte_pattern(3_000_000));
    let mut events = EventLoop::new().expect("a loop");
    listen(&mut events, &path, stream(echo));
    let mut client = Client::connect_unix(&path);
    client.send(&text);
    let mut has_ended = false;
    turn_until(&mut events, "the echo", |_| {
        client.flush();
        if client.has_sent_all() && !has_ended {
            client.half_close();
            has_ended = true;
        }
        client.read_up_to(50_000);
        client.end.is_some()
    });
    assert!(client.received == text && client.end == Some(StreamEnd::Eof), "{} bytes", client.received.len());
    turn_until(&mut events, "the connection is closed", |events| events.stats().connections == 0);
    turn_until_idle(&mut events);
}

#[test]
fn input_of_a_closed_unix_peer_is_delivered_when_a_paused_handler_resumes() {
    for has_finished in [false, true] {
        let ((_folder, path), log, text) = (path(), CallLog::default(), byte_pattern(100_000));
        let mut events = EventLoop::new().expect("a loop");
        let handler = RecordingHandler::new(&log).on_open(|connection| {
            connection.pause();
            if has_finished {
                connection.shutdown_write();
            }
            true
        });
        listen(&mut events, &path, handler);
        let mut client = Client::connect_unix(&path);
        client.send(&text);
        turn_until(&mut events, "the output is sent", |_| {
            client.flush();
            client.has_sent_all()
        });
        turn_until(&mut events, "the connection is open", |_| !log.ids().is_empty());
        drop(client);
        turn_until_idle(&mut events);
        assert_eq!(log.all(), [Call::Open]);
        let id = log.ids()[0];
        events.context().connection(id).expect("the connection is open").resume();
        turn_until(&mut events, "the connection is closed", |_| !log.close_reasons().is_empty());
        assert!(log.inputs().concat() == text, "{} bytes", log.inputs().concat().len());
        assert_eq!((log.count(&Call::Eof), log.close_reasons()), (1, vec![CloseReason::Eof]));
    }
}

#[test]
fn a_peer_that_closes_without_reading_ends_only_its_own_connection() {
    let ((_folder, path), log) = (path(), CallLog::default());
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_open(|connection| connection.send(&vec![b'x'; 60_000]).is_ok());
    listen(&mut events, &path, handler);
    let mut open = Client::connect_unix(&path);
    let goes = Client::connect_unix(&path);
    turn_until(&mut events, "both are open", |_| log.ids().len() == 2);
    drop(goes);
    turn_until(&mut events, "one connection is closed", |events| events.stats().connections == 1);
    turn_until(&mut events, "the other is served", |_| open.has_received(60_000));
    turn_until_idle(&mut events);
}

#[test]
fn an_abort_ends_a_unix_connection_at_once() {
    let ((_folder, path), log) = (path(), CallLog::default());
    let mut events = EventLoop::new().expect("a loop");
    let handler = RecordingHandler::new(&log).on_data(|connection, input| {
        connection.abort();
        input.len()
    });
    listen(&mut events, &path, handler);
    let mut client = Client::connect_unix(&path);
    client.send(b"?");
    assert_eq!(client.read_to_end(&mut events).0, b"");
    assert_eq!(log.close_reasons(), [CloseReason::Aborted]);
}

#[test]
fn a_drain_serves_waiting_clients_of_a_unix_socket_and_removes_its_file() {
    let (_folder, path) = path();
    let mut events = EventLoop::new().expect("a loop");
    listen(&mut events, &path, stream(greet));
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect_unix(&path)).collect();
    for client in &mut clients {
        client.send(b"?");
    }
    events.context().drain(Duration::from_secs(20));
    for client in &mut clients {
        turn_until(&mut events, "the greeting", |_| client.has_reached_end());
        assert_eq!((&client.received[..], client.end), (GREETING, Some(StreamEnd::Eof)));
    }
    drop(clients);
    assert_eq!(turn_until_stopped(&mut events).forced, 0);
    assert!(!path.exists(), "the file is removed when the listener closes");
}

#[test]
fn limits_per_source_do_not_apply_to_clients_without_an_address() {
    let ((_folder, path), log) = (path(), CallLog::default());
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::unix(&path).connections_per_source_max(1).connections_max(3);
    events.listen(at, RecordingHandler::new(&log)).expect("a free path");
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect_unix(&path)).collect();
    turn_until(&mut events, "three are served", |_| log.ids().len() == 3);
    turn_until_idle(&mut events);
    assert_eq!((log.ids().len(), events.stats().refused_source), (3, 0), "connections_max holds");
    clients.remove(0);
    turn_until(&mut events, "the fourth is accepted", |_| log.ids().len() == 4);
}

#[test]
fn options_of_tcp_are_ignored_by_unix_sockets() {
    let ((_folder, path), log, second) = (path(), CallLog::default(), Duration::from_secs(1));
    let mut events = EventLoop::new().expect("a loop");
    let at = Listen::unix(&path).recv_buffer_bytes(1).send_buffer_bytes(1).tcp_keepalive(second, second, 1);
    events.listen(at.tcp_user_timeout(second), stream(greet)).expect("a free path");
    let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| connection.send(b"?").is_ok()));
    let to = Connect::unix(&path).recv_buffer_bytes(1).send_buffer_bytes(1).tcp_keepalive(second, second, 1);
    events.context().connect(to.tcp_user_timeout(second), handler);
    turn_until(&mut events, "the greeting", |_| log.inputs().concat() == GREETING);
}

#[test]
fn a_stale_path_of_a_dead_server_is_reused() {
    let (_folder, path) = path();
    drop(UnixListener::bind(&path).expect("a path"));
    assert!(path.exists(), "std leaves the file");
    let mut events = EventLoop::new().expect("a loop");
    listen(&mut events, &path, stream(greet));
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
}

#[test]
fn a_path_in_use_is_an_error_with_its_name_and_is_not_touched() {
    let (_folder, path) = path();
    let mut events = EventLoop::new().expect("a loop");
    listen(&mut events, &path, stream(greet));
    let mut other = EventLoop::new().expect("a loop");
    let error = other.listen(Listen::unix(&path), stream(greet)).expect_err("the path is taken");
    assert_eq!((error.kind(), error.address()), (ErrorKind::Listen, None));
    assert!(
        error.to_string().starts_with(&format!("cannot listen at {}: Address already in use", path.display())),
        "{error}"
    );
    let cause = std::io::Error::from(error);
    assert_eq!(cause.kind(), std::io::ErrorKind::AddrInUse);
    drop(other);
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
}

#[test]
fn a_file_that_is_not_a_socket_is_never_replaced() {
    let (_folder, path) = path();
    fs::write(&path, "precious").expect("a file");
    let mut events = EventLoop::new().expect("a loop");
    events.listen(Listen::unix(&path), stream(greet)).expect_err("the path is taken");
    let missing = path.join("below").join("a").join("file");
    events.listen(Listen::unix(missing), stream(greet)).expect_err("there is no such folder");
    drop(events);
    assert_eq!(fs::read(&path).expect("the file"), b"precious");
}

#[test]
fn the_file_is_removed_with_its_listener_however_it_ends() {
    for cause in ["removed", "stopped", "dropped"] {
        let (_folder, path) = path();
        let mut events = EventLoop::new().expect("a loop");
        let listener = listen(&mut events, &path, stream(echo));
        let mut client = Client::connect_unix(&path);
        assert_eq!(client.request(&mut events, b"hello", 5), b"hello");
        match cause {
            "removed" => {
                assert!(events.context().remove(listener) && !events.context().remove(listener));
                let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");
                assert!(!path.exists(), "removed");
                assert_eq!(client.request(&mut events, b"still", 5), b"still", "its connections stay open");
            }
            "stopped" => {
                events.context().stop();
                turn_until_stopped(&mut events);
                assert!(!path.exists(), "stopped");
            }
            _ => drop(events),
        }
        assert!(!path.exists(), "{cause}");
    }
}

#[test]
fn a_file_that_replaced_the_socket_is_not_removed() {
    let (_folder, path) = path();
    let mut events = EventLoop::new().expect("a loop");
    listen(&mut events, &path, stream(greet));
    fs::remove_file(&path).expect("the file");
    let successor = UnixListener::bind(&path).expect("the path is free");
    drop(events);
    assert!(path.exists(), "the file of another server stays");
    drop(successor);
}

#[test]
fn an_inherited_socket_keeps_its_file() {
    let (_folder, path) = path();
    let given = UnixListener::bind(&path).expect("a path");
    let mut events = EventLoop::new().expect("a loop");
    events.listen(given, stream(greet)).expect("it listens");
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.request(&mut events, b"?", GREETING.len()), GREETING);
    drop(events);
    assert!(path.exists(), "the loop does not remove a file that it did not make");
}

#[test]
fn an_outbound_connection_over_a_unix_socket_opens_or_fails_with_the_reason() {
    let ((folder, path), log) = (path(), CallLog::default());
    let server = Listener::unix(&path);
    let unused_path = folder.path().join("unused.sock");
    drop(UnixListener::bind(&unused_path).expect("a path"));
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log).on_open(|connection| {
        assert_eq!((connection.peer_addr(), connection.local_addr(), connection.listener()), (None, None, None));
        true
    }));
    let id = events.context().connect(Connect::unix(&path), handler);
    events.context().connection(id).expect("the connection is opening").send(b"hello").expect("there is room");
    let mut peer = server.accept(&mut events);
    turn_until(&mut events, "the message", |_| peer.has_received(5));
    let failures = [
        (folder.path().join("missing.sock"), std::io::ErrorKind::NotFound),
        (unused_path, std::io::ErrorKind::ConnectionRefused),
        (PathBuf::from("x".repeat(1_000)), std::io::ErrorKind::InvalidInput),
    ];
    for (path, kind) in failures {
        let id = events.context().connect(Connect::unix(path), handler);
        assert_eq!(log.of(id), [], "a callback came before connect returned");
        turn_until(&mut events, "a failure", |_| !log.of(id).is_empty());
        assert_eq!(log.of(id), [Call::Failed(kind)]);
    }
}

#[test]
fn a_connect_to_a_full_unix_backlog_fails_once() {
    let ((_folder, path), log) = (path(), CallLog::default());
    let server = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    server.bind(&socket2::SockAddr::unix(&path).expect("a path")).expect("the path is free");
    server.listen(1).expect("the socket is bound");
    let mut events = EventLoop::new().expect("a loop");
    let handler = events.attach(RecordingHandler::new(&log));
    let ids: Vec<_> = (0..10).map(|_| events.context().connect(Connect::unix(&path), handler)).collect();
    turn_until(&mut events, "all are settled", |_| log.ids().len() + log.connect_errors().len() == 10);
    assert!(!log.ids().is_empty() && !log.connect_errors().is_empty(), "{:?}", log.all());
    assert!(ids.iter().all(|id| log.of(*id).len() == 1));
}

#[test]
fn a_proxy_connects_tcp_to_a_unix_socket() {
    let ((_folder, path), text) = (path(), byte_pattern(1_000_000));
    let server = Listener::unix(&path);
    let mut events = EventLoop::new().expect("a loop");
    let proxy = Proxy { to: Connect::unix(&path).idle_timeout(None) };
    let listener = events.listen(loopback(), proxy).expect("a listener");
    let mut client = Client::connect(events.local_addr(listener).expect("the listener is open"));
    client.send(&text);
    let mut peer = server.accept(&mut events);
    turn_until(&mut events, "the text", |_| {
        client.flush();
        peer.has_received(text.len())
    });
    client.half_close();
    assert!(peer.read_to_end(&mut events) == (&text[..], StreamEnd::Eof));
    peer.send(b"well said");
    drop(peer);
    assert_eq!(client.read_to_end(&mut events), (&b"well said"[..], StreamEnd::Eof));
    turn_until(&mut events, "both connections are closed", |events| events.stats().connections == 0);
}
