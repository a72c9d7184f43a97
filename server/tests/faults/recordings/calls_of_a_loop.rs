//! Calls that the server does not make: connects, inherited streams, watches.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use halloo::observe::{Level, Recorder, Recording};
use halloo::{
    CloseReason, Connect, Connection, ConnectionId, Context, EventLoop, Interest, SharedBytes, StreamHandler, Turn,
    Watch, datagrams,
};
use support::process::child::{run, test_name_of};
use support::wait::TIMEOUT;

use crate::recordings::comparison::{assert_seen, compare};
use crate::recordings::entries_in_file::read_recording;
use crate::recordings::strace_calls::{STRACE, TRACED, parse_calls};
use crate::recordings::traced_server::whole_trace;

/// What has happened.
#[derive(Default)]
struct Seen {
    opened: usize,
    closed: usize,
    failed: Vec<io::ErrorKind>,
    datagrams: usize,
    watched: bool,
}

/// Sends shared bytes, echoes, and closes after EOF.
struct Peer<'a> {
    seen: &'a RefCell<Seen>,
}

impl StreamHandler for Peer<'_> {
    type Session = ();

    fn on_open(&mut self, connection: &mut Connection<'_>) -> Option<()> {
        self.seen.borrow_mut().opened += 1;
        connection.send_shared(&SharedBytes::from(vec![b'x'; 5_000])).ok()?;
        connection.send(b"own").ok()
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, (): &mut (), input: &[u8]) -> usize {
        connection.shutdown_write();
        input.len()
    }

    fn on_close(&mut self, _: &mut Connection<'_>, (): (), _: CloseReason) {
        self.seen.borrow_mut().closed += 1;
    }

    fn on_connect_failed(&mut self, _: &mut Context, _: ConnectionId, error: io::Error) {
        self.seen.borrow_mut().failed.push(error.kind());
    }
}

/// A stream whose peer has sent a byte and a FIN.
fn unix_stream() -> (UnixStream, UnixStream) {
    let (stream, mut peer) = UnixStream::pair().expect("a pair");
    peer.write_all(b"x").expect("there is room");
    peer.shutdown(Shutdown::Write).expect("it is connected");
    (stream, peer)
}

fn tcp_stream() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut peer = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    peer.write_all(b"x").expect("there is room");
    peer.shutdown(Shutdown::Write).expect("it is connected");
    (listener.accept().expect("a client").0, peer)
}

/// Runs turns until a condition holds.
fn run_until(events: &mut EventLoop<'_>, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {:?}", events.stats());
        let turn = events.turn(Some(Duration::from_millis(20))).expect("the poll works");
        assert!(!matches!(turn, Turn::Stopped(_)), "the loop has ended");
    }
}

/// Makes the calls, and records them.
fn record() -> Recorder {
    let (seen, recorder) = (RefCell::new(Seen::default()), RefCell::new(Recorder::new("loop", 1 << 20)));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut events = EventLoop::new().expect("a loop");
    events.journal_level(Level::All);
    events.set_observer(|turn| recorder.borrow_mut().record(turn));
    let peer = events.attach(Peer { seen: &seen });
    let _ = events.turn(Some(Duration::ZERO)).expect("the poll works");

    let listener = events.listen_for(loopback, peer).expect("a free port");
    let socket = events.bind(loopback, datagrams(|_, _| seen.borrow_mut().datagrams += 1)).expect("a free port");
    let addresses = [events.local_addr(listener), events.local_addr(socket)].map(|local| local.expect("it is bound"));
    let refused = TcpListener::bind(loopback).and_then(|unused| unused.local_addr()).expect("a free port");
    let ((unix, _unix_peer), (tcp, _tcp_peer), (watched, _watched_peer)) = (unix_stream(), tcp_stream(), unix_stream());
    for to in [addresses[0].into(), refused.into(), Connect::unix("/nowhere/at/all"), unix.into(), tcp.into()] {
        events.context().connect(to, peer);
    }
    watched.set_nonblocking(true).expect("an option of every stream");
    let on_readable = |context: &mut Context, stream: &mut UnixStream, event: halloo::WatchEvent| {
        seen.borrow_mut().watched = stream.read(&mut [0; 4]).is_ok();
        context.remove(event.id());
        Watch::Drained
    };
    events.watch(watched, Interest::Read, on_readable).expect("it is a stream");
    std::net::UdpSocket::bind(loopback).and_then(|client| client.send_to(b"x", addresses[1])).expect("it is sent");
    run_until(&mut events, || {
        let Seen { closed, failed, datagrams, watched, .. } = &*seen.borrow();
        (*closed, failed.len(), *datagrams, *watched) == (4, 2, 1, true)
    });
    assert!(events.remove(socket).is_some());
    let (left_open, _peer) = UnixStream::pair().expect("a pair");
    events.context().connect(left_open, peer);
    run_until(&mut events, || seen.borrow().opened == 5);
    events.context().stop();
    events.run().expect("the poll works");
    drop(events);
    recorder.into_inner()
}

/// The file of the recording, in the process that strace has started.
const RECORDING: &str = "HALLOO_TEST_RECORDING";

#[test]
#[ignore = "needs strace"]
fn a_recording_names_the_calls_of_connects_inherited_streams_and_watches() {
    if let Some(path) = std::env::var_os(RECORDING) {
        return Recording::new([record()]).save(path).expect("the folder is there");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let own = std::env::current_exe().expect("a running test has a path");
    let name = test_name_of(&|| a_recording_names_the_calls_of_connects_inherited_streams_and_watches());
    let recording = folder.path().join("recording.json");
    let mut command = Command::new(STRACE[0]);
    command.args(&STRACE[1..]).arg("-o").arg(folder.path().join("calls")).arg(format!("--trace={TRACED}"));
    command.arg(own).args([name, "--exact", "--ignored", "--nocapture"]).env(RECORDING, &recording);
    let output = run(command);
    assert_eq!(output.status, 0, "{output:?}");
    let entries = &read_recording(&recording)["loop"];
    let calls = fs::read_dir(folder.path()).expect("the folder is there").map(|file| file.expect("a file").path());
    let polls = calls.filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("epoll_wait(")));
    let [calls] = polls.collect::<Vec<_>>().try_into().expect("one thread polls");
    let outcomes = compare(entries, &parse_calls(&whole_trace(&calls))).unwrap_or_else(|error| panic!("{error}"));
    assert_seen(&outcomes, &["connect: connect EINPROGRESS", "connect: connect ENOENT", "registered: epoll_ctl 0"]);
    assert_seen(&outcomes, &["deregistered: epoll_ctl 0", "shutdown-write: shutdown 0", "option-set: setsockopt 0"]);
    assert_seen(&outcomes, &["write: sendmsg ok", "receive-batch: recvmmsg ok", "closed: close 0"]);
}
