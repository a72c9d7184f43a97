//! What a supervisor hears: that the server is ready, that it stops, and nothing else; and that nobody depends on it.

use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::time::Duration;

use crate::descriptors;
use crate::support::{
    Ear, GREETING, Launch, Server, ask, assert_stays, can_hand_over, connect, rest, uninterrupted, wait_until,
};

/// Longer than a word takes that is on its way.
const A_WHILE: Duration = Duration::from_millis(300);

fn listener() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

/// Starts a server on a free port, heard by this ear.
#[track_caller]
fn start(ear: &Ear, arguments: &[&str]) -> (Server, SocketAddr) {
    let arguments = [&["--tcp", "127.0.0.1:0"], arguments].concat();
    let server = Launch { arguments: &arguments, variables: &[("NOTIFY_SOCKET", &ear.path)], handed: &[] }.serve();
    assert_eq!(ear.hear(), "READY=1");
    let address = server.tcp();
    (server, address)
}

#[test]
fn it_hears_that_the_server_is_ready_and_that_it_stops_when_a_drain_begins() {
    if !can_hand_over() {
        return;
    }
    let ear = Ear::new();
    let (mut server, address) = start(&ear, &["--drain-timeout", "300s"]);
    let silent = server.held(address, server.descriptors().len());
    assert_eq!(ear.hear_within(A_WHILE), None, "it is ready, and that is all");
    server.signal("TERM");
    assert_eq!(ear.hear(), "STOPPING=1");
    assert!(server.is_running(), "it has a client still");
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    drop(silent);
    assert_eq!(ear.hear_within(Duration::from_millis(1)), None, "asked twice, it says so once");
}

#[test]
fn ready_is_said_only_when_every_socket_is_open() {
    if !can_hand_over() {
        return;
    }
    let (ear, (taken, address)) = (Ear::new(), listener());
    let arguments = &["--tcp", "127.0.0.1:0", "--tcp", &address.to_string()];
    let ended = Launch { arguments, variables: &[("NOTIFY_SOCKET", &ear.path)], handed: &[] }.run();
    assert_eq!((ended.status, ended.output.as_str()), (3, ""), "{ended:?}");
    assert_eq!(ear.hear_within(Duration::from_millis(1)), None);
    // The word is there before anybody is served.
    let variables = &[("NOTIFY_SOCKET", ear.path.as_str())];
    let _server = Launch { variables, handed: &descriptors![taken], ..Launch::default() }.begin();
    assert_eq!(ask(address), GREETING);
    assert_eq!(ear.hear_within(Duration::from_millis(1)).as_deref(), Some("READY=1"));
}

#[test]
fn it_hears_of_an_end_by_a_limit_and_by_idleness_too() {
    if !can_hand_over() {
        return;
    }
    let ear = Ear::new();
    let (mut server, address) = start(&ear, &["--max-greetings", "1", "--drain-timeout", "300s"]);
    assert_eq!(ask(address), GREETING);
    assert_eq!(ear.hear(), "STOPPING=1");
    assert_eq!(server.wait(), 0);
    let (mut server, _) = start(&ear, &["--exit-when-idle", "50ms"]);
    assert_eq!(ear.hear(), "STOPPING=1");
    assert_eq!(server.wait(), 0);
    assert_eq!(ear.hear_within(Duration::from_millis(1)), None);
}

#[test]
fn a_name_outside_the_file_system_is_heard_too() {
    if !can_hand_over() {
        return;
    }
    let name = format!("halloo-test-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).expect("a short name");
    let socket = UnixDatagram::bind_addr(&address).expect("a name of our own");
    socket.set_read_timeout(Some(crate::support::PATIENCE)).expect("an option of every socket");
    let variables = &[("NOTIFY_SOCKET", &*format!("@{name}"))];
    let _server = Launch { arguments: &["--tcp", "127.0.0.1:0"], variables, handed: &[] }.begin();
    let mut word = [0; 64];
    let count = uninterrupted(|| socket.recv(&mut word)).expect("a word comes");
    assert_eq!(&word[..count], b"READY=1");
}

#[test]
fn a_supervisor_that_is_gone_or_never_was_hurts_nobody() {
    if !can_hand_over() {
        return;
    }
    let (tcp, address) = listener();
    let handed = &descriptors![tcp];
    let too_long = format!("/{}", "x".repeat(200));
    for name in ["/nowhere/at/all", "nonsense", "@", "@nobody-listens-here", "vsock:2:1", &too_long, "/dev/null"] {
        let variables = &[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "20000")];
        let mut server = Launch { variables, handed, ..Launch::default() }.serve();
        assert_eq!(ask(address), GREETING, "{name}");
        server.assert_stops();
        let log = server.errors.lines();
        assert!(log.iter().all(|line| line.contains(" stop")), "{name}: {log:?}");
    }
    let ear = Ear::new();
    let variables = &[("NOTIFY_SOCKET", ear.path.as_str()), ("WATCHDOG_USEC", "20000")];
    let mut server = Launch { arguments: &["-v"], variables, handed }.serve();
    assert_eq!(ear.hear(), "READY=1");
    drop(ear);
    wait_until("a log line for who asks", || server.errors.text().contains("does not hear WATCHDOG=1"));
    assert_eq!(ask(address), GREETING);
    server.assert_stops();
}

#[test]
fn a_supervisor_that_is_stuck_holds_up_nobody_and_is_heard_again_later() {
    if !can_hand_over() {
        return;
    }
    let (ear, (tcp, address)) = (Ear::new(), listener());
    let mut before = 0;
    // Each sender has a bound of its own besides the queue's: it is full when a new one finds no room.
    loop {
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("an option of every socket");
        let sent = std::iter::from_fn(|| sender.send_to(b"noise", &ear.path).ok()).count();
        before += sent;
        if sent == 0 {
            break;
        }
    }
    let variables = &[("NOTIFY_SOCKET", ear.path.as_str()), ("WATCHDOG_USEC", "20000")];
    let mut server = Launch { variables, handed: &descriptors![tcp], ..Launch::default() }.serve();
    // Longer than several words would wait that did wait.
    assert_stays(A_WHILE, "it serves", || ask(address) == GREETING);
    for _ in 0..before {
        assert_eq!(ear.hear(), "noise");
    }
    assert_eq!(ear.hear(), "WATCHDOG=1");
    server.assert_stops();
}

#[test]
fn a_supervisor_that_starts_anew_at_the_same_place_is_heard() {
    if !can_hand_over() {
        return;
    }
    let ear = Ear::new();
    let (mut server, address) = start(&ear, &[]);
    std::fs::remove_file(&ear.path).expect("it is ours");
    let anew = UnixDatagram::bind(&ear.path).expect("the place is free");
    anew.set_read_timeout(Some(crate::support::PATIENCE)).expect("an option of every socket");
    let client = connect(address);
    server.signal("TERM");
    let mut word = [0; 64];
    let count = uninterrupted(|| anew.recv(&mut word)).expect("a word comes");
    assert_eq!(&word[..count], b"STOPPING=1");
    client.shutdown(std::net::Shutdown::Write).expect("it is connected");
    assert_eq!(rest(&client), GREETING);
    assert_eq!(server.wait(), 0);
}
