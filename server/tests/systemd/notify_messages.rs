//! Messages to `NOTIFY_SOCKET`: READY=1 and STOPPING=1.
//!
//! A supervisor that is gone or does not read delays nothing.

use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::time::Duration;

use support::measurement::fastest_of;
use support::network::streams::{GREETING, read_to_end};
use support::network::tcp::{connect, request};
use support::network::udp::retry_interrupted;
use support::process::server::Server;
use support::wait::{TIMEOUT, assert_holds_for, wait_until};

use crate::activated_server::{Activation, connect_accepted};
use crate::borrowed_fds;
use crate::notify_socket::NotifySocket;

/// Longer than the delivery of a message takes.
const MESSAGE_DELAY: Duration = Duration::from_millis(300);

fn listener() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

/// Starts a server on a free port, and waits for READY=1 at the supervisor.
#[track_caller]
fn start(supervisor: &NotifySocket, arguments: &[&str]) -> (Server, SocketAddr) {
    let arguments = [&["--tcp", "127.0.0.1:0"], arguments].concat();
    let server =
        Activation { arguments: &arguments, env: &[("NOTIFY_SOCKET", &supervisor.path)], sockets: &[] }.start();
    assert_eq!(supervisor.recv(), "READY=1");
    let address = server.tcp();
    (server, address)
}

#[test]
fn the_supervisor_receives_ready_and_at_the_start_of_a_drain_stopping() {
    let supervisor = NotifySocket::new();
    let (mut server, address) = start(&supervisor, &["--drain-timeout", "300s"]);
    let silent = connect_accepted(&server, address, server.fd_targets().len());
    assert_eq!(supervisor.recv_within(MESSAGE_DELAY), None, "a message after READY=1");
    server.signal("TERM");
    assert_eq!(supervisor.recv(), "STOPPING=1");
    assert!(server.is_running(), "a client is still connected");
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    drop(silent);
    assert_eq!(supervisor.recv_within(Duration::from_millis(1)), None, "a second STOPPING=1");
}

#[test]
fn stopping_is_sent_at_the_start_of_the_drain_delay_and_the_watchdog_is_notified_during_it() {
    let supervisor = NotifySocket::new();
    let arguments = ["--tcp", "127.0.0.1:0", "--drain-delay", "300s", "--workers", "2"];
    let env = [("NOTIFY_SOCKET", supervisor.path.as_str()), ("WATCHDOG_USEC", "200000")];
    let mut server = Activation { arguments: &arguments, env: &env, sockets: &[] }.start();
    assert_eq!(supervisor.recv(), "READY=1");
    server.signal("TERM");
    supervisor.wait_for_stopping();
    for _ in 0..3 {
        assert_eq!(request(server.tcp()), GREETING);
        assert_eq!(supervisor.recv(), "WATCHDOG=1");
    }
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
fn ready_is_sent_only_when_every_socket_is_open() {
    let (supervisor, (taken, address)) = (NotifySocket::new(), listener());
    let arguments = &["--tcp", "127.0.0.1:0", "--tcp", &address.to_string()];
    let output = Activation { arguments, env: &[("NOTIFY_SOCKET", &supervisor.path)], sockets: &[] }.run();
    assert_eq!((output.status, output.stdout.as_str()), (3, ""), "{output:?}");
    assert_eq!(supervisor.recv_within(Duration::from_millis(1)), None);
    // READY=1 arrives before the first reply.
    let variables = &[("NOTIFY_SOCKET", supervisor.path.as_str())];
    let _server = Activation { env: variables, sockets: &borrowed_fds![taken], ..Activation::default() }.spawn();
    assert_eq!(request(address), GREETING);
    assert_eq!(supervisor.recv_within(Duration::from_millis(1)).as_deref(), Some("READY=1"));
}

#[test]
fn stopping_is_also_sent_at_an_exit_by_a_limit_or_by_idleness() {
    let supervisor = NotifySocket::new();
    let (mut server, address) = start(&supervisor, &["--max-greetings", "1", "--drain-timeout", "300s"]);
    assert_eq!(request(address), GREETING);
    assert_eq!(supervisor.recv(), "STOPPING=1");
    assert_eq!(server.wait(), 0);
    let (mut server, _) = start(&supervisor, &["--exit-when-idle", "50ms"]);
    assert_eq!(supervisor.recv(), "STOPPING=1");
    assert_eq!(server.wait(), 0);
    assert_eq!(supervisor.recv_within(Duration::from_millis(1)), None);
}

#[test]
fn ready_is_also_sent_to_an_abstract_name() {
    let name = format!("halloo-test-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).expect("a short name");
    let socket = UnixDatagram::bind_addr(&address).expect("a name of our own");
    socket.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
    let variables = &[("NOTIFY_SOCKET", &*format!("@{name}"))];
    let _server = Activation { arguments: &["--tcp", "127.0.0.1:0"], env: variables, sockets: &[] }.spawn();
    let mut buffer = [0; 64];
    let count = retry_interrupted(|| socket.recv(&mut buffer)).expect("a message arrives");
    assert_eq!(&buffer[..count], b"READY=1");
}

#[test]
fn a_missing_supervisor_socket_does_not_affect_the_server() {
    let (tcp, address) = listener();
    let sockets = &borrowed_fds![tcp];
    let too_long = format!("/{}", "x".repeat(200));
    for name in ["/nowhere/at/all", "nonsense", "@", "@no-listener-here", "vsock:2:1", &too_long, "/dev/null"] {
        let variables = &[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "20000")];
        let mut server = Activation { env: variables, sockets, ..Activation::default() }.start();
        assert_eq!(request(address), GREETING, "{name}");
        server.assert_exits_on_sigterm();
        server.wait_for_eof();
        let mut log = server.stderr.lines();
        log.retain(|line| !line.contains(" stop"));
        assert_eq!(log.len(), 1, "{name}: {log:?}");
        let parts = [" WARN ", "cannot notify the supervisor: NOTIFY_SOCKET=", &name[..1], "; unset it if"];
        assert!(parts.iter().all(|part| log[0].contains(part)), "{name}: {log:?}");
    }
    let variables = &[("NOTIFY_SOCKET", "vsock:2:1")];
    let mut server = Activation { env: variables, sockets, ..Activation::default() }.start();
    server.stderr.wait_for_line("NOTIFY_SOCKET=vsock:2:1: neither a path nor @ and a name; ");
    server.assert_exits_on_sigterm();
    let supervisor = NotifySocket::new();
    let variables = &[("NOTIFY_SOCKET", supervisor.path.as_str()), ("WATCHDOG_USEC", "20000")];
    let mut server = Activation { arguments: &["-v"], env: variables, sockets }.start();
    assert_eq!(supervisor.recv(), "READY=1");
    drop(supervisor);
    wait_until("the line at log level debug", || server.stderr.text().contains("cannot send WATCHDOG=1"));
    assert_eq!(request(address), GREETING);
    server.assert_exits_on_sigterm();
}

/// A supervisor that reads nothing and has a full queue, and the number of messages in it.
fn stuck_supervisor() -> (NotifySocket, usize) {
    let (supervisor, mut before) = (NotifySocket::new(), 0);
    // Each sender has a limit besides that of the queue. The queue is full when a new sender finds no room.
    loop {
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("an option of every socket");
        let sent = std::iter::from_fn(|| sender.send_to(b"noise", &supervisor.path).ok()).count();
        before += sent;
        if sent == 0 {
            return (supervisor, before);
        }
    }
}

#[test]
fn a_stuck_supervisor_delays_no_start_and_receives_ready_when_it_reads() {
    let ((supervisor, before), (tcp, address)) = (stuck_supervisor(), listener());
    let variables = &[("NOTIFY_SOCKET", supervisor.path.as_str())];
    let start = || Activation { env: variables, sockets: &borrowed_fds![tcp], ..Activation::default() }.spawn();
    let elapsed = fastest_of(3, || {
        let mut server = start();
        assert_eq!(request(address), GREETING);
        server.assert_exits_on_sigterm();
    });
    assert!(elapsed < Duration::from_millis(900), "a client was served after {elapsed:?}");
    let mut server = start();
    assert_eq!(request(address), GREETING);
    for _ in 0..before {
        assert_eq!(supervisor.recv(), "noise");
    }
    assert_eq!(supervisor.recv(), "READY=1");
    server.signal("TERM");
    assert_eq!(supervisor.recv(), "STOPPING=1");
    assert_eq!(server.wait(), 0);
    assert_eq!(supervisor.recv_within(Duration::from_millis(1)), None);
}

#[test]
fn a_stuck_supervisor_delays_no_client_and_receives_later_messages() {
    let ((supervisor, before), (tcp, address)) = (stuck_supervisor(), listener());
    let variables = &[("NOTIFY_SOCKET", supervisor.path.as_str()), ("WATCHDOG_USEC", "20000")];
    let mut server = Activation { env: variables, sockets: &borrowed_fds![tcp], ..Activation::default() }.start();
    // Longer than several messages that wait for room.
    assert_holds_for(MESSAGE_DELAY, "it serves", || request(address) == GREETING);
    for _ in 0..before {
        assert_eq!(supervisor.recv(), "noise");
    }
    let mut messages = std::iter::repeat_with(|| supervisor.recv()).take(500);
    assert_eq!(messages.find(|message| message != "WATCHDOG=1").as_deref(), Some("READY=1"));
    assert_eq!(messages.next().as_deref(), Some("WATCHDOG=1"));
    server.assert_exits_on_sigterm();
}

#[test]
fn a_restarted_supervisor_receives_messages_at_the_same_path() {
    let supervisor = NotifySocket::new();
    let (mut server, address) = start(&supervisor, &[]);
    std::fs::remove_file(&supervisor.path).expect("it is ours");
    let rebound = UnixDatagram::bind(&supervisor.path).expect("the place is free");
    rebound.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
    let client = connect(address);
    server.signal("TERM");
    let mut buffer = [0; 64];
    let count = retry_interrupted(|| rebound.recv(&mut buffer)).expect("a message arrives");
    assert_eq!(&buffer[..count], b"STOPPING=1");
    client.shutdown(std::net::Shutdown::Write).expect("it is connected");
    assert_eq!(read_to_end(&client), GREETING);
    assert_eq!(server.wait(), 0);
}
