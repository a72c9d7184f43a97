//! Tests in a network namespace of their own.
//!
//! The namespace lives as long as the process that the test starts under `unshare`.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::measurement::MEASUREMENT;
use crate::process::child::{Process, test_name_of};
use crate::wait::TIMEOUT;

/// Set in the process in the namespace.
const NAMESPACE_VARIABLE: &str = "HALLOO_TEST_NETWORK_NAMESPACE";

/// Longer than any wait in the namespace, so that a failure there is reported.
const OUTER_TIMEOUT: Duration = Duration::from_secs(4 * TIMEOUT.as_secs());

/// Ways to make a network namespace: as root, or as root of a new user namespace.
const UNSHARE_OPTIONS: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];

/// Runs the body of a test as root of a new network namespace with a loopback device.
///
/// `body` has to be a closure in the test function: its type name contains that of the test.
#[track_caller]
pub fn in_network_namespace<F: FnOnce()>(body: F) {
    in_network_namespace_after(|| (), body);
}

/// The same, after `setup` in the namespace.
#[track_caller]
pub fn in_network_namespace_after<F: FnOnce()>(setup: impl FnOnce(), body: F) {
    if std::env::var_os(NAMESPACE_VARIABLE).is_some() {
        ip("link set lo up");
        setup();
        return body();
    }
    let name = test_name_of(&body);
    let mut command = Command::new("unshare");
    command.args(unshare_options()).arg(std::env::current_exe().expect("a test has a path"));
    command.args([name, "--exact", "--nocapture", "--include-ignored"]).env(NAMESPACE_VARIABLE, "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0);
    let mut inner = Process::spawn(command);
    let _group = ProcessGroup(inner.pid());
    let status = inner.wait_within(OUTER_TIMEOUT);
    inner.wait_for_eof();
    let (output, errors) = (inner.stdout.text(), inner.stderr.text());
    assert!(status == 0 && output.contains("1 passed"), "{name} in the namespace:\n{output}\n{errors}");
    for line in errors.lines().filter(|line| line.starts_with(MEASUREMENT)) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Runs `ip` with these arguments.
#[track_caller]
pub fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip is installed");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The first options that this machine permits.
fn unshare_options() -> &'static [&'static str] {
    static OPTIONS: OnceLock<&'static [&'static str]> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        let is_permitted = |options: &&&[&str]| {
            let output = Command::new("unshare").args(**options).args(["ip", "link", "set", "lo", "up"]).output();
            output.is_ok_and(|output| output.status.success())
        };
        UNSHARE_OPTIONS.iter().find(is_permitted).expect("unshare may make a network namespace, and ip configure it")
    })
}

/// The process group of the test in the namespace, killed as a whole with its servers.
struct ProcessGroup(u32);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // Most often the group is empty by now, and the error does not matter.
        let _ = killpg(Pid::from_raw(self.0.try_into().expect("a process id")), Signal::SIGKILL);
    }
}
