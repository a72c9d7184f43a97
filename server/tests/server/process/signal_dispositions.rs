//! Signals that the parent has blocked or ignored, SIGUSR2, SIGXFSZ, SIGCHLD.
//!
//! A signal that the parent ignores stays ignored, except SIGTERM.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::signal::{SigSet, Signal};
use support::network::streams::GREETING;
use support::network::tcp::request;
use support::network::udp::{UDP_GREETING, recv, udp_client};
use support::process::child::{Process, children_of, run};
use support::process::server::Server;
use support::wait::{assert_holds_for, wait_until};
use tempfile::TempDir;

use crate::HALLOO;

const SERVE: &[&str] = &["--listen", "127.0.0.1:0"];

/// Calls `start` on a thread that blocks all signals. A child inherits the mask.
fn with_signals_blocked<T: Send + 'static>(start: impl FnOnce() -> T + Send + 'static) -> T {
    let blocked = thread::spawn(|| {
        SigSet::all().thread_block().expect("a thread may block signals");
        start()
    });
    blocked.join().expect("it starts")
}

/// Runs a shell command first, in the process that becomes halloo.
fn command_after(shell_command: &str, arguments: &[&str]) -> Command {
    HALLOO.command_under(&["sh", "-c", &format!("{shell_command}\nexec \"$0\" \"$@\"")], arguments)
}

#[test]
fn signals_that_the_parent_blocked_reach_the_server() {
    for signal in ["TERM", "INT"] {
        let mut server = with_signals_blocked(|| HALLOO.start(SERVE));
        // The kernel prefers the main thread unless that blocks the signal. A thread that prints may hang in a write.
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
        assert!(status.contains("SigBlk:\t0000000000000000\n"), "{status}");
        server.signal("USR1");
        server.stderr.wait_for_line(" turns=");
        server.signal(signal);
        assert_eq!(server.wait(), 0, "{signal}");
    }
}

#[test]
fn signals_that_the_parent_blocked_end_a_probe() {
    // The server does not answer, so that only the signal ends the probe in time.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it is bound").to_string();
    for (name, signal) in [("INT", Signal::SIGINT), ("TERM", Signal::SIGTERM)] {
        let address = address.clone();
        let mut probe = with_signals_blocked(move || {
            let command = HALLOO.command(&["probe", "--tcp", "--timeout", "300s", &address]);
            Process::spawn(command)
        });
        let (_connection, _) = silent.accept().expect("the probe connects");
        probe.signal(name);
        assert_eq!(probe.wait_for_signal(), Some(signal));
    }
}

/// A server whose standard input is a terminal.
fn start_on_terminal(mut command: Command) -> (Server, OwnedFd) {
    let terminal = openpty(None, None).expect("a terminal");
    command.stdin(Stdio::from(terminal.slave));
    (Server::start(command), terminal.master)
}

#[test]
fn signals_that_the_parent_ignores_stay_ignored_except_sigterm() {
    for signal in ["HUP", "INT"] {
        // Without the trap the signal ends the server.
        let (mut server, _terminal) = start_on_terminal(HALLOO.command(SERVE));
        server.signal(signal);
        assert_eq!(server.wait(), 0, "{signal}");

        let (mut server, _terminal) = start_on_terminal(command_after("trap '' HUP INT TERM", SERVE));
        server.signal(signal);
        assert_holds_for(Duration::from_millis(100), "service", || request(server.tcp()) == GREETING);
        server.assert_exits_on_sigterm();
    }
}

#[test]
fn sighup_ends_a_server_with_the_terminal_as_any_standard_stream() {
    for set_stream in [Command::stdin::<Stdio>, Command::stdout, Command::stderr] {
        let terminal = openpty(None, None).expect("a terminal");
        let mut command = HALLOO.command(SERVE);
        set_stream(&mut command, Stdio::from(terminal.slave));
        let mut server = Server::spawn(command);
        assert_eq!(request(server.listening_address()), GREETING);
        server.signal("HUP");
        assert_eq!(server.wait(), 0);
    }
}

#[test]
fn sigusr2_has_no_effect_without_record() {
    let mut server = HALLOO.start(SERVE);
    server.signal("USR2");
    assert_holds_for(Duration::from_millis(100), "service", || request(server.tcp()) == GREETING);
    server.assert_exits_on_sigterm();
}

/// A file that a child appends to, in a folder of its own.
fn output_file() -> (TempDir, File) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = OpenOptions::new().create(true).append(true).read(true).open(folder.path().join("output"));
    (folder, file.expect("a new file"))
}

fn duplicate(file: &File) -> File {
    file.try_clone().expect("a descriptor is free")
}

#[test]
fn lines_lost_to_a_file_at_its_size_limit_are_reported_when_there_is_room() {
    /// Eight blocks of 512 bytes.
    const LIMIT: usize = 4096;
    let (folder, output) = output_file();
    let path = folder.path().join("output");
    let mut command = command_after("ulimit -f 8", &["--listen", "127.0.0.1:0", "--events", "json"]);
    command.stdout(duplicate(&output));
    let mut server = Server::spawn(command);
    let address = server.listening_address();
    // UDP is served as well once TCP answers.
    assert_eq!(request(address), GREETING);
    let client = udp_client(address);
    for _ in 0..100 {
        client.send(&[b'x'; 256]).expect("loopback takes it");
        assert_eq!(recv(&client), UDP_GREETING.as_bytes());
    }
    server.stderr.wait_for_line("cannot write to standard output");
    assert_eq!(request(address), GREETING);
    wait_until("the number of lost lines", || {
        let text = fs::read_to_string(&path).expect("text");
        // The queued lines fill the file again.
        if text.len() == LIMIT {
            output.set_len(0).expect("it may be emptied");
            assert_eq!(request(address), GREETING);
        }
        text.contains("\"event\":\"lost\"")
    });
    server.assert_exits_on_sigterm();
}

#[test]
fn a_log_file_at_its_size_limit_does_not_stop_the_server() {
    let (_folder, log) = output_file();
    let mut command = command_after("ulimit -f 1", &["--listen", "127.0.0.1:0", "-vv"]);
    command.stderr(duplicate(&log));
    let mut server = Server::start(command);
    for _ in 0..100 {
        assert_eq!(request(server.tcp()), GREETING);
    }
    wait_until("the limit", || log.metadata().expect("an open file").len() >= 512);
    server.signal("USR1");
    assert_eq!(request(server.tcp()), GREETING);
    server.assert_exits_on_sigterm();
}

#[test]
fn with_a_full_standard_output_a_probe_keeps_its_exit_status_and_help_fails() {
    let server = HALLOO.start(SERVE);
    let address = server.tcp().to_string();
    for (arguments, status) in [
        (&["probe", &address][..], 0),
        (&["probe", "--expect", "Bye", &address], 5),
        (&["--help"], 1),
        (&["--nonsense"], 2),
    ] {
        let (_folder, output) = output_file();
        let mut command = command_after("ulimit -f 0", arguments);
        command.stdout(duplicate(&output)).stderr(duplicate(&output));
        assert_eq!(run(command).status, status, "{arguments:?}");
        assert_eq!(output.metadata().expect("an open file").len(), 0, "{arguments:?}");
    }
}

/// A process that runs `exec` keeps its children.
#[test]
fn inherited_children_leave_no_zombies() {
    // One ends before the server starts, the others at EOF on standard input.
    let mut command = command_after("exec 3<&0; cat <&3 & cat <&3 & exec 3<&-; true &", SERVE);
    command.stdin(Stdio::piped());
    let mut server = Server::start(command);
    wait_until("the end of the first", || children_of(server.pid()).len() == 2);
    // Both end while the server is stopped, so it gets one SIGCHLD for both.
    server.pause();
    server.close_stdin();
    let is_zombie = |child| fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    wait_until("the end of the others", || children_of(server.pid()).into_iter().all(is_zombie));
    server.resume();
    wait_until("no zombies", || children_of(server.pid()).is_empty());
    assert_eq!(request(server.tcp()), GREETING);
    server.assert_exits_on_sigterm();
}
