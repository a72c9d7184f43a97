//! The server and the probe as process 1 of a container.
//!
//! The kernel discards a signal that process 1 does not catch, and makes it the parent of orphans.

use std::cell::Cell;
use std::net::UdpSocket;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::network::network_namespace::in_network_namespace;
use support::network::streams::GREETING;
use support::network::udp::retry_interrupted;
use support::process::child::{Process, children_of};
use support::process::server::address_in;
use support::wait::{TIMEOUT, wait_for, wait_until};
use tempfile::TempDir;

use crate::HALLOO;
use crate::streams::fallible_clients::request;

/// Runs a shell script as process 1 of a new PID namespace. The namespace ends with `unshare`.
const AS_FIRST_PROCESS: &[&str] = &["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c"];

/// The same in the PID namespace of the test.
const IN_OWN_FOLDERS: &[&str] = &["unshare", "--mount", "sh", "-c"];

/// Replaces the machine's name server and lookup order, then the shell becomes halloo.
const WITH_NAME_SERVER: &str = r#"
for file in resolv.conf nsswitch.conf; do
    if [ -e /etc/$file ]; then mount --bind "$FOLDER/$file" /etc/$file || exit 9; fi
done
exec "$0" "$@"
"#;

/// The one child of `unshare`.
fn first_process(unshare: &Process) -> u32 {
    wait_for("process 1", || children_of(unshare.pid()).first().copied())
}

fn send_signal(signal: Signal, pid: u32) {
    kill(Pid::from_raw(pid.try_into().expect("a process id")), signal).expect("it runs");
}

#[test]
#[ignore = "needs unshare"]
fn orphans_leave_no_zombies() {
    in_network_namespace(|| {
        // The orphans end at EOF on standard input.
        let script = "exec 3<&0; (cat <&3 & cat <&3 &)\nexec \"$0\" \"$@\" 3<&-";
        let mut command = HALLOO.command_under(&[AS_FIRST_PROCESS, &[script]].concat(), &["--tcp", "127.0.0.1:0"]);
        command.stdin(Stdio::piped());
        let mut server = Process::spawn(command);
        let ready = server.stdout.wait_for_line("READY ");
        let address = address_in(&ready, "tcp").expect("it serves TCP");
        let pid = first_process(&server);
        wait_until("the orphans", || children_of(pid).len() == 2);
        server.close_stdin();
        wait_until("no zombies", || children_of(pid).is_empty());
        assert_eq!(request(address), GREETING);
        send_signal(Signal::SIGTERM, pid);
        assert_eq!(server.wait(), 0);
    });
}

/// A name server that never answers.
struct SilentNameServer {
    socket: UdpSocket,
    starts: Cell<u32>,
    folder: TempDir,
}

impl SilentNameServer {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("this network has no other name server");
        socket.set_read_timeout(Some(TIMEOUT)).expect("an option of every socket");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |file: &str, text| std::fs::write(folder.path().join(file), text).expect("a new file");
        write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n");
        write("nsswitch.conf", "hosts: files dns\n");
        Self { socket, starts: Cell::new(0), folder }
    }

    /// Starts halloo with a host name in the last argument, and returns after its DNS query for that name.
    fn start(&self, wrapper: &[&str], arguments: &[&str]) -> Process {
        self.starts.update(|starts| starts + 1);
        let name = format!("start{}", self.starts.get());
        let address = format!("{name}.example:8888");
        let arguments = [arguments, &[&address]].concat();
        let mut command = HALLOO.command_under(&[wrapper, &[WITH_NAME_SERVER]].concat(), &arguments);
        command.env("FOLDER", self.folder.path());
        let process = Process::spawn(command);
        let mut question = [0; 512];
        // The second query of an earlier start, for IPv6, may still be queued.
        while !question.windows(name.len()).any(|window| window == name.as_bytes()) {
            retry_interrupted(|| self.socket.recv(&mut question)).expect("a query arrives");
        }
        process
    }
}

#[test]
#[ignore = "needs unshare"]
fn a_stop_signal_ends_a_start_that_waits_for_a_name_server() {
    in_network_namespace(|| {
        let name_server = SilentNameServer::new();
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut server = name_server.start(IN_OWN_FOLDERS, &["--listen"]);
            for without_effect in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
                send_signal(without_effect, server.pid());
            }
            send_signal(signal, server.pid());
            assert_eq!(server.wait(), 0, "{signal}");
            let mut server = name_server.start(AS_FIRST_PROCESS, &["--listen"]);
            send_signal(signal, first_process(&server));
            assert_eq!(server.wait(), 0, "{signal} to process 1");
        }
    });
}

#[test]
#[ignore = "needs unshare"]
fn a_signal_ends_a_probe_that_is_process_1() {
    in_network_namespace(|| {
        let name_server = SilentNameServer::new();
        for (signal, status) in [(Signal::SIGTERM, 128 + 15), (Signal::SIGINT, 128 + 2)] {
            let mut probe = name_server.start(AS_FIRST_PROCESS, &["probe", "--timeout", "300s"]);
            send_signal(signal, first_process(&probe));
            assert_eq!(probe.wait(), status, "{signal}");
        }
    });
}
