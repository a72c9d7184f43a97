//! A network of the test's own: what is forged there can reach nobody.
//!
//! The test starts itself again under `unshare`, in a network namespace with nothing but a loopback device. The
//! namespace has no name and lives as long as that process: there is nothing to remove, however the test ends.

use std::any::type_name_of_val;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::{PATIENCE, Server, has_tool, not_run, wait_until};

/// Says that the process is inside.
const INSIDE: &str = "GREETING_NAMESPACE";

/// Longer than anything inside waits: so what failed there is told, and its processes end with it.
const OUTER_PATIENCE: Duration = Duration::from_secs(4 * PATIENCE.as_secs());

/// Addresses of the namespace: two to serve on, one for an echo service, and whole blocks to pretend to come from.
const SETUP: [&str; 8] = [
    "link set lo up",
    "address add 10.9.0.1/32 dev lo",
    "address add 10.9.0.2/32 dev lo",
    "address add 10.9.0.3/32 dev lo",
    "-6 address add fd09::1/128 dev lo nodad",
    "-6 address add fd09::2/128 dev lo nodad",
    "route add local 10.64.0.0/10 dev lo",
    "route add broadcast 10.9.255.255 dev lo table local",
];

/// How to be let into a namespace of one's own: as root, or as root of a user namespace of one's own.
const WAYS: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];

/// The first way that works here.
fn way() -> Option<&'static [&'static str]> {
    static WAY: OnceLock<Option<&'static [&'static str]>> = OnceLock::new();
    *WAY.get_or_init(|| {
        let works = |way: &&&[&str]| {
            let tried = Command::new("unshare").args(**way).args(["ip", "link", "set", "lo", "up"]).output();
            tried.is_ok_and(|tried| tried.status.success())
        };
        WAYS.iter().find(works).copied()
    })
}

/// Runs the body of a test inside; the closure must stand in the test itself, whose name it carries.
#[track_caller]
pub(crate) fn inside<F: FnOnce()>(body: F) {
    if std::env::var_os(INSIDE).is_some() {
        set_up();
        return body();
    }
    if !has_tool("unshare") || !has_tool("ip") {
        return;
    }
    let Some(way) = way() else {
        return not_run("the right to make a network namespace");
    };
    let full_name = type_name_of_val(&body);
    let (_, name) = full_name.split_once("::").expect("the crate's name comes first");
    let name = name.trim_end_matches("::{{closure}}");
    let mut command = Command::new("unshare");
    command.args(way).arg(std::env::current_exe().expect("a test has a path"));
    command.args([name, "--exact", "--nocapture"]).env(INSIDE, "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0);
    let mut again = Server::spawn(command);
    let _party = Party(again.pid());
    let status = again.wait_within(OUTER_PATIENCE);
    wait_until("the end of the pipes", || again.output.is_ended() && again.errors.is_ended());
    let (output, errors) = (again.output.text(), again.errors.text());
    assert!(status == 0 && output.contains("1 passed"), "{name} inside:\n{output}\n{errors}");
    // What was measured there is for whoever started the tests.
    for line in errors.lines().filter(|line| line.starts_with("FIGURE ")) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// The process group of a test that runs inside, ended as a whole: its servers too, should it have been cut short.
struct Party(u32);

impl Drop for Party {
    fn drop(&mut self) {
        // Most often nobody is left, which is no error here.
        let kill = format!("kill -KILL -- -{} 2>/dev/null", self.0);
        let _ = Command::new("sh").args(["-c", &kill]).status();
    }
}

fn set_up() {
    for arguments in SETUP {
        let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip is there");
        assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }
    // The kernel puts a new IPv6 address to use a moment after it says that it is there.
    wait_until("IPv6 between its addresses", || {
        carries("[fd09::1]:0", "[fd09::2]:0").is_ok() && carries("[fd09::2]:0", "[fd09::1]:0").is_ok()
    });
}

/// Whether a datagram comes from one address to another.
fn carries(from: &str, to: &str) -> std::io::Result<()> {
    let (sender, receiver) = (UdpSocket::bind(from)?, UdpSocket::bind(to)?);
    receiver.set_read_timeout(Some(Duration::from_millis(100)))?;
    sender.send_to(b"there?", receiver.local_addr()?)?;
    receiver.recv(&mut [0; 16]).map(drop)
}
