//! Shell scripts.

use std::process::{Command, Stdio};

/// Runs a script, which has to succeed, and returns what it printed.
#[track_caller]
pub fn shell(script: &str) -> String {
    let (has_succeeded, printed) = try_shell(script);
    assert!(has_succeeded, "{script}: {printed}");
    printed
}

/// Runs a script, and returns whether it succeeded and what it printed.
#[track_caller]
pub fn try_shell(script: &str) -> (bool, String) {
    let script = format!("exec 2>&1; PATH=$PATH:/usr/sbin\n{script}");
    let mut command = Command::new("timeout");
    let output = command.args(["120", "sh", "-c", &script]).stdin(Stdio::null()).output().expect("sh is installed");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}
