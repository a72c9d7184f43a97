//! Stop signals during the start of the server.
//!
//! The exit status is 0, and no socket file remains.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use support::process::child::Process;
use support::wait::{wait_for_within, wait_until};

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

#[test]
fn a_stop_signal_during_the_start_leaves_no_socket_file() {
    // With many workers the start takes longer after the file is made.
    for (signal, workers) in [("TERM", "1"), ("INT", "64"), ("TERM", "64"), ("TERM", "300")] {
        for _ in 0..10 {
            let path = SocketPath::new();
            let mut server = Process::spawn(HALLOO.command(&["--unix", path.as_str(), "--workers", workers]));
            while !path.path.exists() {
                assert!(server.is_running(), "{}", server.stderr.text());
                thread::yield_now();
            }
            server.signal(signal);
            assert_eq!(server.wait(), 0, "{signal} with {workers} workers");
            assert!(!path.path.exists(), "{signal} with {workers} workers");
        }
    }
}

/// One signal is enough: the exit does not wait for the system call.
#[test]
#[ignore = "needs strace"]
fn a_stop_signal_ends_a_start_that_hangs_in_a_system_call() {
    let path = SocketPath::new();
    let strace = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=bind:delay_exit=15000000"];
    let mut server = Process::spawn(HALLOO.command_under(&strace, &["--unix", path.as_str()]));
    wait_until("the system call", || path.path.exists());
    // In a call on a dead file system only SIGKILL wakes a thread, so other threads must take the signals.
    let status = fs::read_to_string(format!("/proc/{0}/task/{0}/status", server.pid())).expect("the main thread");
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).expect("its signal mask");
    let blocked = u64::from_str_radix(blocked, 16).expect("a mask");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        assert_ne!(blocked & 1 << (signal as u64 - 1), 0, "{signal} would wait for the main thread: {status}");
    }
    server.signal("TERM");
    // The thread that strace delays ends after the delay, all others at the exit.
    wait_for_within("the exit", Duration::from_secs(8), || (server.thread_count() == 1).then_some(()));
    assert_eq!(server.wait(), 0);
}
