//! Stop signals that come while the server starts.
//!
//! The exit status is 0, and no socket file remains.

use std::fs;
use std::thread;
use std::time::Duration;

use support::process::child::Process;
use support::wait::{wait_for_within, wait_until};

use crate::HALLOO;
use crate::unix::temporary_socket_path::SocketPath;

#[test]
fn a_stop_signal_during_the_start_ends_it_and_leaves_no_socket_file() {
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

/// A second one is not needed: the system call that hangs is not waited for.
#[test]
#[ignore = "needs strace"]
fn a_start_that_hangs_in_a_system_call_ends_all_the_same() {
    let path = SocketPath::new();
    let strace = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=bind:delay_exit=15000000"];
    let mut server = Process::spawn(HALLOO.command_under(&strace, &["--unix", path.as_str()]));
    wait_until("the system call", || path.path.exists());
    server.signal("TERM");
    // The thread that strace holds back ends with the delay, all others when the process exits.
    wait_for_within("the exit", Duration::from_secs(8), || (server.thread_count() == 1).then_some(()));
    assert_eq!(server.wait(), 0);
}

/// A file system without a server, such as that of a network which is gone: each call on it waits.
const WITH_HUNG_FOLDER: &str = r#"
exec 3<>/dev/fuse
mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 hung "$FOLDER" || exit 9
exec "$0" "$@"
"#;

/// The kernel wakes a thread that waits so for no signal but SIGKILL.
#[test]
#[ignore = "needs unshare and /dev/fuse"]
fn a_start_that_hangs_on_a_file_system_that_is_gone_ends_by_one_signal() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("socket").display().to_string();
        let wrapper = ["unshare", "--mount", "sh", "-c", WITH_HUNG_FOLDER];
        let mut command = HALLOO.command_under(&wrapper, &["--unix", &path]);
        command.env("FOLDER", folder.path());
        let mut server = Process::spawn(command);
        let status = format!("/proc/{}/stat", server.pid());
        wait_until("the system call", || fs::read_to_string(&status).is_ok_and(|stat| stat.contains("(halloo) D ")));
        server.signal(signal);
        assert_eq!(server.wait(), 0, "{signal}: {}", server.stderr.text());
    }
}
