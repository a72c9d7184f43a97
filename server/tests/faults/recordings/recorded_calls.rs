//! What a recording names, and what strace saw in the same run.

use halloo::observe::{Entry, EntryKind};
use nix::errno::Errno;
use support::network::tcp::connect;

use crate::recordings::clients_under_load::{put_load_on, send_datagrams};
use crate::recordings::comparison::{Outcomes, assert_seen};
use crate::recordings::traced_server::TracedServer;

const MODES: [&str; 5] = ["greet", "banner", "line", "echo", "discard"];

/// Serves every kind of client, and returns the calls of the loops, which their recordings name.
#[track_caller]
fn calls_under_load(arguments: &[&str], faults: &[&str]) -> Outcomes {
    let recorded = TracedServer::start(arguments, faults);
    let (server, streams) = (&recorded.server, recorded.stream_addresses());
    let silent = put_load_on(server, &streams);
    send_datagrams(server, server.udp());
    let outcomes = recorded.end(&format!("{arguments:?} {faults:?}"));
    drop(silent);
    outcomes
}

#[test]
#[ignore = "needs strace"]
fn a_recording_names_the_calls_of_the_loop_in_every_mode() {
    for mode in MODES {
        let outcomes = calls_under_load(&["--listen", "127.0.0.1:0", "--mode", mode], &[]);
        let of_every_mode =
            ["epoll_wait ok", "epoll_ctl 0", "accept4 ok", "accept4 EAGAIN", "recvfrom ok", "recvfrom 0"];
        assert_seen(&outcomes, &of_every_mode);
        assert_seen(&outcomes, &["recvmmsg ok", "recvmmsg EAGAIN", "shutdown 0", "close 0"]);
        if mode != "discard" {
            assert_seen(&outcomes, &["sendto ok", "sendto EPIPE", "sendmmsg ok"]);
        }
        if mode == "line" || mode == "echo" {
            assert_seen(&outcomes, &["sendto EAGAIN"]);
        }
    }
}

/// Modes and addresses, each with the errors to inject. A socket on all addresses sends each reply from the address of
/// its request, by other calls.
const FAULTS: [(&str, &str, &[&str]); 5] = [
    (
        "greet",
        "127.0.0.1:0",
        &[
            "accept4:error=EMFILE:when=3+5",
            "recvfrom:error=ECONNRESET:when=7+9",
            "sendto:error=EPIPE:when=5+6",
            "shutdown:error=ENOTCONN:when=2+3",
            "epoll_wait:error=EINTR:when=4+5",
            "recvmmsg:error=ECONNREFUSED:when=2+3",
            "sendmmsg:error=ENOBUFS:when=1+2",
            "setsockopt:error=ENOMEM:when=12+2",
            "close:error=EIO:when=40+7",
        ],
    ),
    (
        "banner",
        "0.0.0.0:0",
        &[
            "accept4:error=ECONNABORTED:when=1+4",
            "recvfrom:error=EINTR:when=2+3",
            "sendto:error=EINTR:when=1+3",
            "epoll_ctl:error=ENOMEM:when=12+6",
            "epoll_wait:error=EINTR:when=1..3",
            "recvmmsg:error=ENOSYS:when=1+",
            "recvmsg:error=ENOBUFS:when=2+5",
            "sendmsg:error=EPERM:when=2+5",
        ],
    ),
    (
        "line",
        "0.0.0.0:0",
        &[
            "accept4:error=EPROTO:when=2+3",
            "recvfrom:error=ETIMEDOUT:when=9+11",
            "sendto:error=ENOBUFS:when=6+7",
            "shutdown:error=EIO:when=1+4",
            "sendmmsg:error=ENOSYS:when=1+",
        ],
    ),
    (
        "echo",
        "127.0.0.1:0",
        &[
            "accept4:error=ENFILE:when=2..6",
            "recvfrom:error=EIO:when=8+20",
            "sendto:error=ECONNRESET:when=9+20",
            "epoll_ctl:error=ENOSPC:when=14+4",
            "sendmmsg:error=EIO:when=1",
            "recvmmsg:error=EINTR:when=1+2",
        ],
    ),
    (
        "discard",
        "0.0.0.0:0",
        &[
            "accept4:error=EINTR:when=1+2",
            "recvfrom:error=ENOMEM:when=30+17",
            "epoll_ctl:error=EIO:when=20+3",
            "epoll_wait:error=EINTR:when=2+3",
            "recvmmsg:error=EHOSTUNREACH:when=1..40",
        ],
    ),
];

#[test]
#[ignore = "needs strace"]
fn a_recording_names_injected_errors_in_every_mode() {
    for (mode, address, faults) in FAULTS {
        let outcomes = calls_under_load(&["--listen", address, "--mode", mode], faults);
        for fault in faults {
            let (call, rest) = fault.split_once(":error=").expect("a fault names its error");
            let errno = rest.split(':').next().unwrap_or_default();
            assert_seen(&outcomes, &[&format!("{call} {errno}")]);
        }
    }
}

#[test]
#[ignore = "needs strace"]
fn the_recording_of_each_worker_names_the_calls_of_its_thread() {
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "2", "--max-connections-per-source", "4"];
    let outcomes = calls_under_load(&arguments, &["accept4:error=ECONNABORTED:when=2+3"]);
    assert_seen(&outcomes, &["accept4 ok", "recvfrom ok", "sendto ok", "accept4 ECONNABORTED", "refused: close 0"]);
}

#[test]
#[ignore = "needs strace"]
fn the_recording_of_a_failed_worker_ends_with_its_failed_poll() {
    let mut traced = TracedServer::start(&["--listen", "127.0.0.1:0"], &["epoll_wait:error=EBADF:when=2+"]);
    drop(connect(traced.server.tcp()));
    assert_eq!(traced.server.wait(), 1, "{}", traced.server.stderr.text());
    let entries = &traced.read_recording()["worker 1"];
    let polls: Vec<_> = entries.iter().filter(|entry| entry.kind == EntryKind::PollEnd).map(Entry::errno).collect();
    assert_eq!(polls, [None, Some(Errno::EBADF as i32)]);
}
